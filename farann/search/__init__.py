"""Questions to a store: which rows may be found, where a search ends, which queries are guarded.

A batch goes from `index` to `ask`, `plan`, `runtime.batches` and the core, as one `Question`.
`changes` is here, too, as builds measure searches. The folder imports `store` and those below.
"""

import sys
from types import ModuleType
from typing import NoReturn


class _Questions(ModuleType):
    """This folder, which hides the hint that `farann.search` has before it is imported."""

    def __call__(self, *args: object, **options: object) -> NoReturn:
        raise TypeError("farann.search is no function: use search_furthest, or search_nearest")


sys.modules[__name__].__class__ = _Questions
