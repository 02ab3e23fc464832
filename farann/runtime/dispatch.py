"""The instruction-set level that new indexes use."""

from __future__ import annotations

import os
from functools import cache

from farann import _core

_forced = os.environ.get("FARANN_ISA")


@cache
def _levels() -> tuple[str, ...]:
    # Asking the CPU for its features takes as long as adding a few rows.
    return _core.isa_levels()


def default_isa() -> str:
    """The level that FARANN_ISA named when farann was imported, or the fastest there is."""
    levels = _levels()
    if not _forced:
        return levels[-1]
    if _forced not in levels:
        raise ValueError(f"FARANN_ISA: this CPU has {', '.join(levels)}; got {_forced!r}")
    return _forced
