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

from farann._core import isa_levels
from farann._version import __version__
from farann.contract.errors import FormatError, RecallWarning
from farann.diverse.selection import Selection
from farann.index import Index, search_furthest
from farann.one_off import select_diverse
from farann.results import BeyondHits, Hits, SearchStats
from farann.search.filters import Filter
from farann.tuning.table import Tuning

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
    "search_furthest",
    "select_diverse",
]
