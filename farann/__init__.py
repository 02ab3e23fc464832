"""Furthest-neighbor search: the rows least like a query, exactly and fast.

>>> import farann
>>> import numpy as np
>>> items = np.random.default_rng(0).standard_normal((1000, 64), dtype=np.float32)
>>> index = farann.Index(dim=64, metric="cosine")
>>> ids = index.add(items)
>>> hits = index.search_furthest(items[:5], k=10)
>>> hits.ids.shape, hits.scores.shape
((5, 10), (5, 10))
"""

TYPE_CHECKING = False  # as in typing, which takes long to import

if TYPE_CHECKING:
    from farann import metrics as metrics
    from farann import vectors as vectors
    from farann._core import isa_levels
    from farann._version import __version__
    from farann.contract import FormatError, RecallWarning
    from farann.index import Index
    from farann.one_off import (
        pairs_within,
        search_furthest,
        search_mmr,
        search_nearest,
        select_diverse,
        select_spaced,
    )
    from farann.oracle import Verification, verify
    from farann.results import (
        Diameter,
        Hits,
        Pairs,
        RangeHits,
        SearchStats,
        Selection,
        Spaced,
        merge,
    )
    from farann.search.filters import Filter
    from farann.tuning.table import Tuning

__all__ = [
    "Diameter", "Filter", "FormatError", "Hits", "Index", "Pairs", "RangeHits", "RecallWarning",
    "SearchStats", "Selection", "Spaced", "Tuning", "Verification", "__version__", "isa_levels",
    "merge", "pairs_within", "search_furthest", "search_mmr", "search_nearest", "select_diverse",
    "select_spaced", "verify"]

# What is imported when it is first asked for (SPEC 1), names by their modules, and modules.
_LAZY_NAMES = {
    "Diameter": "results", "Filter": "search.filters", "FormatError": "contract",
    "Hits": "results", "Index": "index", "Pairs": "results", "RangeHits": "results",
    "RecallWarning": "contract", "SearchStats": "results", "Selection": "results",
    "Spaced": "results", "Tuning": "tuning.table", "Verification": "oracle",
    "__version__": "_version", "isa_levels": "native.kernels", "merge": "results",
    "pairs_within": "one_off", "search_furthest": "one_off", "search_mmr": "one_off",
    "search_nearest": "one_off", "select_diverse": "one_off", "select_spaced": "one_off",
    "verify": "oracle"}
_LAZY_MODULES = ("metrics", "sklearn", "vectors")

if not TYPE_CHECKING:  # which would take any name for one that there is
    def __getattr__(name: str) -> object:
        if name not in _LAZY_NAMES and name not in _LAZY_MODULES:
            hint = "" if name.startswith("_") else _hint(name)
            raise AttributeError(f"module 'farann' has no attribute {name!r}"
                                 + f": {hint}" * bool(hint), name=name)
        from importlib import import_module

        module = import_module(f"farann.{_LAZY_NAMES.get(name, name)}")
        if name in _LAZY_MODULES:
            return module
        globals()[name] = value = getattr(module, name)
        return value

    def _hint(name: str) -> str:
        from farann.contract.names import like
        from farann.index import Index

        if hasattr(Index, name):
            return f"use Index.{name}"
        return like(name, [*_LAZY_NAMES, *_LAZY_MODULES, "Index.load", "sklearn.FurthestNeighbors"])

    def __dir__() -> list[str]:
        return sorted([*__all__, *_LAZY_MODULES])
