"""Merge what several indexes found, as if one index had all their rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from farann import _core
from farann._types import Float64Array, Int64Array
from farann.contract import checks
from farann.results import BeyondHits, Hits, beyond_with_keys, with_keys

_HOW = "search with return_keys=True"


def merge(parts: Sequence[Hits], k: int | None = None) -> Hits:
    """The k best rows of what several indexes found for the same queries.

    The answer has the bits of a search of one index that holds the rows of all parts, as long as
    the parts are answers of one kind (furthest, nearest, or furthest from sets), exact, and with
    the same filters.

    Parameters
    ----------
    parts : sequence of Hits
        For the same queries in the same order, from searches with ``return_keys=True``; each row is
        in one part only. A merged answer can be a part again.
    k : int, optional
        How many rows to keep for each query; by default as many as the narrowest part has. Each
        part must have its k best rows, or for each query all it has, padded.

    Returns
    -------
    Hits
        `scores`, `ids` and `keys`, (n_queries, k), or (k,) where parts are of a single query.

    Raises
    ------
    ValueError, TypeError
        For no parts, or parts without keys, of different queries, with fewer rows than are asked
        for, with integers as ids beside strings, or that have a row in common.

    Notes
    -----
    Rows are ordered by key, largest first, and of equal keys the smaller id comes first. Where ids
    are strings, an index orders such rows as they were added: here rows of earlier parts come
    first, as in an index to which the parts were added in this order. Scores won't do for merging:
    rows that tie in float32 may differ in float64.

    Examples
    --------
    >>> rows = np.random.default_rng(0).standard_normal((100, 8), dtype=np.float32)
    >>> whole, parts = farann.Index(), [farann.Index(), farann.Index()]
    >>> ids = whole.add(rows), parts[0].add(rows[:60]), parts[1].add(rows[60:], ids=range(60, 100))
    >>> hits = farann.merge([part.search_furthest(rows[:5], k=3, return_keys=True)
    ...                      for part in parts])
    >>> np.array_equal(hits.ids, whole.search_furthest(rows[:5], k=3).ids)
    True
    """
    parts = _checked(parts, Hits)
    single = parts[0].ids.ndim == 1
    shapes = [np.atleast_2d(part.ids).shape for part in parts]
    n, k = shapes[0][0], _to_k(parts, shapes, k)
    for number, (part, shape) in enumerate(zip(parts, shapes, strict=True)):
        if part.ids.ndim != parts[0].ids.ndim or shape[0] != n:
            raise ValueError(f"parts[{number}]: expected answers to the {n} queries of parts[0], "
                             f"got shape {part.ids.shape}")
    widths = np.array([shape[1] for shape in shapes], np.int64)
    firsts = np.concatenate([[0], np.cumsum(widths * n)[:-1]]).astype(np.int64)
    starts = firsts + np.arange(n, dtype=np.int64)[:, None] * widths
    counts = np.stack([np.atleast_2d(part.found).sum(axis=1) for part in parts], axis=1)
    all_ids, all_keys = _joined([part.ids for part in parts]), _keys(parts)
    places = _places(all_ids, all_keys, starts, starts + counts,
                     np.arange(n + 1, dtype=np.int64) * k)
    there = places >= 0
    taken = places[there]
    _check_disjoint(all_ids[taken], all_keys[taken], np.flatnonzero(there) // k)
    ids = np.full(n * k, None if all_ids.dtype == object else -1, all_ids.dtype)
    scores, keys = np.full(n * k, np.nan, np.float32), np.full(n * k, -np.inf)
    ids[there], keys[there] = all_ids[taken], all_keys[taken]
    scores[there] = _joined([part.scores for part in parts])[taken]
    shape = (k,) if single else (n, k)
    return with_keys(Hits(scores.reshape(shape), ids.reshape(shape)), keys.reshape(shape))


def merge_beyond(parts: Sequence[BeyondHits]) -> BeyondHits:
    """All rows that several indexes found beyond a radius, as one index would have found them.

    Parameters
    ----------
    parts : sequence of BeyondHits
        As for `merge`: for the same queries, with keys, each row in one part only.

    Returns
    -------
    BeyondHits
        With keys.

    Raises
    ------
    ValueError, TypeError
        As from `merge`.

    Examples
    --------
    >>> parts = [farann.Index(), farann.Index()]
    >>> ids = parts[0].add([[1.0], [5.0]]), parts[1].add([[3.0]], ids=[7])
    >>> farann.merge_beyond([part.search_beyond([[0.0]], radius=2.0, return_keys=True)
    ...                      for part in parts]).ids
    array([1, 7])
    """
    parts = _checked(parts, BeyondHits)
    n = len(parts[0].offsets)
    for number, part in enumerate(parts):
        if len(part.offsets) != n:
            raise ValueError(f"parts[{number}]: expected answers to the {n - 1} queries of "
                             f"parts[0], got {len(part.offsets) - 1}")
    firsts = np.cumsum([0] + [len(part.ids) for part in parts[:-1]])
    bounds = np.stack([part.offsets for part in parts], axis=1) + firsts
    offsets = np.stack([part.offsets for part in parts]).sum(axis=0)
    ids, keys = _joined([part.ids for part in parts]), _keys(parts)
    places = _places(ids, keys, np.ascontiguousarray(bounds[:-1]), np.ascontiguousarray(bounds[1:]),
                     offsets)
    ids, keys = ids[places], keys[places]
    _check_disjoint(ids, keys, np.repeat(np.arange(n - 1), np.diff(offsets)))
    scores = _joined([part.scores for part in parts])[places]
    return beyond_with_keys(BeyondHits(offsets, scores, ids), keys)


def _checked(given: Sequence[Any], kind: type[Any]) -> list[Any]:
    parts = list(given)
    if not parts:
        raise ValueError("parts: expected at least one, got none")
    for number, part in enumerate(parts):
        if not isinstance(part, kind):
            raise TypeError(f"parts[{number}]: expected {kind.__name__}, got {checks.shown(part)}")
        if part.keys is None:
            raise ValueError(f"parts[{number}]: expected an answer with keys, got one without; "
                             f"{_HOW}")
    return parts


def _to_k(parts: list[Hits], shapes: list[tuple[int, ...]], k: int | None) -> int:
    """The number of rows to keep; refused where a part may hold more of them than it returned."""
    k = min(shape[1] for shape in shapes) if k is None else checks.to_int("k", k, 1)
    for number, (part, shape) in enumerate(zip(parts, shapes, strict=True)):
        if shape[1] < k and np.atleast_2d(part.found).all(axis=1).any():
            raise ValueError(f"k: expected at most {shape[1]}, as parts[{number}] has no more than "
                             f"its {shape[1]} best rows, got {k}")
    return k


def _places(ids: npt.NDArray[Any], keys: Float64Array, starts: Int64Array, stops: Int64Array,
            offsets: Int64Array) -> Int64Array:
    """Positions of the best rows in the concatenated parts; -1 where there are fewer."""
    if ids.dtype == object:
        ids = np.arange(len(ids), dtype=np.int64)  # earlier parts first
    places = np.empty(int(offsets[-1]), np.int64)
    _core.merge_sorted(keys, ids, starts, stops, offsets, places)
    return places


def _joined(arrays: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Arrays of all parts, flat, one behind the other."""
    kinds = {array.dtype == object for array in arrays}
    if len(kinds) > 1:  # an index without rows doesn't know yet what its ids are
        if any(array.dtype != object and (array >= 0).any() for array in arrays):
            raise ValueError("parts: expected ids of one kind, got integers and strings")
        arrays = [array if array.dtype == object else np.full(array.shape, None)
                  for array in arrays]
    return np.concatenate([array.ravel() for array in arrays])


def _keys(parts: list[Any]) -> Float64Array:
    return np.concatenate([part.keys.ravel() for part in parts])


def _check_disjoint(ids: npt.NDArray[Any], keys: Float64Array, queries: Int64Array) -> None:
    """Refuse a row that two parts have: its key is the same, so that it lies among its equals."""
    tied = (keys[1:] == keys[:-1]) & (queries[1:] == queries[:-1])
    repeated = bool((tied & (ids[1:] == ids[:-1])).any())
    if ids.dtype == object:  # equal keys are in the order of parts, not of ids
        run = np.cumsum(np.append(True, ~tied))
        some = np.flatnonzero(np.append(tied, False) | np.append(False, tied))
        named = list(zip(run[some].tolist(), ids[some].tolist(), strict=True))
        repeated = len(set(named)) < len(named)
    if repeated:
        raise ValueError("parts: expected each row in one part, got an id twice for a query; "
                         "leave copies of a part out")
