"""The one seam through which tests look at privates of the package, and of its objects.

`core` has the names of the native core. `native`, `quantize`, `layout` and so on are what tests
reach of these folders of the package, `settings` the constants and functions that tests replace.
`project/test_seam.py` sees to it that no other test file reaches into the package, and that this
exports at most 15 names. What users can ask is tested by the public interface.
"""

from __future__ import annotations

import farann._core as core
from inside import (
    adapters,
    contract,
    demo,
    files,
    layout,
    native,
    quantize,
    runtime,
    search,
    store,
    tuning,
)
from inside.native import levels
from inside.settings import settings

__all__ = ["adapters", "contract", "core", "demo", "files", "layout", "levels", "native",
           "quantize", "runtime", "search", "settings", "store", "tuning"]
