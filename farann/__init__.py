"""Furthest-neighbor search: the rows least like a query, exactly and fast.

>>> import farann
>>> import numpy as np
>>> items = np.random.default_rng(0).standard_normal((1000, 64), dtype=np.float32)
>>> index = farann.Index(dim=64, metric="cosine")
>>> ids = index.add(items)
>>> hits = index.search_furthest(items[:5], k=10)
>>> hits.scores.shape, hits.ids.shape
((5, 10), (5, 10))
"""

from typing import TYPE_CHECKING, Any

from farann._core import isa_levels
from farann._version import __version__
from farann.contract.errors import FormatError, RecallWarning
from farann.diverse.selection import Selection
from farann.index import Index
from farann.merging import merge, merge_beyond
from farann.one_off import search_furthest, select_diverse
from farann.results import BeyondHits, Hits, SearchStats
from farann.search.filters import Filter
from farann.tuning.table import Tuning

if TYPE_CHECKING:
    from farann import metrics as metrics
    from farann import vectors as vectors

__all__ = [
    "BeyondHits",
    "Filter",
    "FormatError",
    "Hits",
    "Index",
    "RecallWarning",
    "SearchStats",
    "Selection",
    "Tuning",
    "__version__",
    "isa_levels",
    "merge",
    "merge_beyond",
    "search_furthest",
    "select_diverse",
]

# Modules that are imported when they are first asked for.
_LATER = ("metrics", "sklearn", "vectors")

if not TYPE_CHECKING:  # which would take any name for one that there is
    def __getattr__(name: str) -> Any:
        if name in _LATER:
            from importlib import import_module

            return import_module(f"farann.{name}")
        raise AttributeError(f"module 'farann' has no attribute {name!r}", name=name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *_LATER})
