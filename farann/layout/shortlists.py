"""Query-cluster shortlists: rows that answer queries like one another, which are scored first."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from farann import _core
from farann._types import Float32Array, Float64Array, Int64Array
from farann.contract.metric_traits import MetricTraits
from farann.layout.partitions import code_means
from farann.quantize.kmeans import k_means
from farann.quantize.query_sample import directions_of
from farann.quantize.records import CodeArrays, Shortlists

# Rows of a list, whole groups of what the core looks at; lists at least and at most; and of the
# rows one in so many at most is in a list.
_LENGTH, _LEAST_LISTS, _MOST_LISTS, _SHARE = 256, 8, 128, 16
# One sample query in so many isn't learned from. Of the answers to these a share must answer
# others, too, and one be in their lists: less isn't worth the look.
_HELD_OUT, _LEAST_KNOWN, _LEAST_FOUND = 4, 0.6, 0.5
# Queries beyond are cut: k-means squares them as float32.
_LARGEST = 1e16

Furthest = Callable[[Float32Array, int], Int64Array]


def number_of_shortlists(n_positions: int) -> int:
    """How many lists a layout of so many positions gets; 0 where scanning all is quick."""
    n_lists = min(_MOST_LISTS, n_positions // (_LENGTH * _SHARE))
    return n_lists if n_lists >= _LEAST_LISTS else 0


def make_shortlists(arrays: CodeArrays, places: Int64Array, query_vectors: Float64Array,
                    answers: Int64Array, centre: Float64Array, metric: MetricTraits,
                    furthest: Furthest, seed: int, isa: str) -> Shortlists | None:
    """Group sample queries by k-means, and list for each group the rows that answer them.

    Parameters
    ----------
    arrays : CodeArrays
        The codes, as they are laid out.
    places : (n,)
        The position of each row, -1 for none.
    query_vectors : (q, dim)
        Of sample queries, see `MetricTraits.query_vectors`.
    answers : (q, k)
        Rows that answer them, the best first.
    centre : (dim,)
    metric : MetricTraits
    furthest : function
        Rows that answer other queries, (n_queries, k).
    seed : int
        For k-means.
    isa : str
    """
    n_lists = number_of_shortlists(len(arrays.panels))
    held_out = np.arange(len(query_vectors)) % _HELD_OUT == _HELD_OUT - 1
    # Lists can hardly have answers that no other query had.
    if n_lists == 0 or len(query_vectors) < _HELD_OUT * n_lists or (
            np.isin(answers[held_out], answers[~held_out]).mean() < _LEAST_KNOWN):
        return None
    squared = metric.adds_squared_norm
    if not squared:
        # An answer doesn't depend on how long a query is.
        query_vectors = directions_of(query_vectors)
    query_vectors = np.clip(query_vectors, -_LARGEST, _LARGEST)
    means = k_means(query_vectors[~held_out].astype(np.float32), n_lists, seed).astype(np.float64)
    # As rows of which the nearest mean has the largest key: <a, b> less |b|^2 / 2, over 2.
    rows, squares = 0.5 * means, -0.25 * (means**2).sum(axis=1)
    if not squared:
        rows = means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-30)
        squares[:] = 0.0
    group = np.argmax(query_vectors @ rows.T + squares, axis=1)
    queries = centre - 0.5 * means if squared else -rows
    tops = furthest(queries.astype(np.float32), _LENGTH + len(arrays.outliers))
    lists = np.array([_listed(answers[(group == i) & ~held_out], tops[i], places)
                      for i in range(len(means))])
    found = (lists[group[held_out], :, None] == places[answers[held_out]][:, None, :]).any(axis=1)
    if found.mean() < _LEAST_FOUND:
        return None
    codes, of_panels, _ = code_means(rows, arrays.transform, isa)
    panels = np.zeros((len(of_panels) * _core.code_rows(1), codes.shape[1]), np.uint8)
    _core.pack_codes(codes, np.arange(len(codes)), False, panels)
    biases = None
    if squared:
        biases = np.zeros(len(panels), np.float32)
        biases[: len(rows)] = squares * np.repeat(of_panels, _core.code_rows(1))[: len(rows)]
    return Shortlists(panels=panels, inv_scale=of_panels, squares=biases,
                      positions=lists.astype(np.int32))


def _listed(answers: Int64Array, tops: Int64Array, places: Int64Array) -> Int64Array:
    """Positions of a list's rows, in the order of slots: half may be answers, those that come up
    first and often before others; the rest are those furthest from the mean query."""
    slots, index = np.unique(answers[answers >= 0], return_inverse=True)
    worth = np.bincount(index, 1.0 / (1.0 + np.nonzero(answers >= 0)[1]), minlength=len(slots))
    slots = slots[np.argsort(-worth, kind="stable")]
    slots = slots[places[slots] >= 0][: _LENGTH // 2]
    tops = tops[places[tops] >= 0]
    rest = tops[~np.isin(tops, slots)][: _LENGTH - len(slots)]
    listed: Int64Array = places[np.sort(np.concatenate([slots, rest]))]
    return listed
