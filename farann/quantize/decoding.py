"""Rows and scores from codes, where vectors were dropped."""

from __future__ import annotations

import numpy as np

from farann import _core
from farann._types import Float32Array, Float64Array, Int64Array, RowArray
from farann.contract.index_spec import INT4, MetricTraits
from farann.quantize.records import CodeArrays, Layout
from farann.quantize.scalar import blocks_of, centred
from farann.runtime.process import ieee_arithmetic


def places(codes: CodeArrays, slots: Int64Array) -> Int64Array:
    """Positions of some slots; -1 for those that have none."""
    if codes.slots is None:
        return slots
    positions = np.flatnonzero(codes.slots >= 0)
    found = np.full(int(codes.slots.max(initial=-1)) + 1, -1, np.int64)
    found[codes.slots[positions]] = positions
    return np.where(slots < len(found), found[np.minimum(slots, len(found) - 1)], np.int64(-1))


def _centred_rows(layout: Layout, outlier_rows: RowArray, slots: Int64Array,
                  centre: Float64Array, normalized: bool) -> tuple[Float64Array, Float64Array]:
    """Rows less the center, and their squared lengths as codes have them (l2)."""
    codes, partitions = layout
    positions = places(codes, slots)
    there = positions >= 0
    positions = positions[there]
    values = codes.bytes_at(positions).astype(np.float64)[:, : len(centre)]
    values -= 128.0
    if codes.low_nibbles is None:
        values += INT4.middle
    inv_scale = codes.inv_scale.astype(np.float64)[positions // 16]
    values /= inv_scale[:, None]
    if partitions is not None and partitions.relative:
        values += partitions.means(partitions.at(positions), len(centre))
    vectors = np.empty((len(slots), len(centre)))
    vectors[there] = codes.transform.rows_from(values)
    vectors[~there] = centred(outlier_rows[np.searchsorted(codes.outliers, slots[~there])], centre,
                              normalized)
    squares = np.einsum("ij,ij->i", vectors, vectors)
    if codes.squares is not None:
        squares[there] = codes.squares[positions] / inv_scale
    return vectors, squares


@ieee_arithmetic()
def decoded(layout: Layout, outlier_rows: RowArray, slots: Int64Array, centre: Float64Array,
            normalized: bool) -> Float32Array:
    """Rows as codes have them, of length 1 with `normalized`; those of outliers as they were."""
    rows = np.empty((len(slots), len(centre)), np.float32)
    for block in blocks_of(len(slots)):
        vectors, _ = _centred_rows(layout, outlier_rows, slots[block], centre, normalized)
        vectors += centre
        if normalized:
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)
        rows[block] = vectors
    outliers = layout.codes.outliers
    kept = np.flatnonzero(np.isin(slots, outliers))
    rows[kept] = _core.widened(outlier_rows[np.searchsorted(outliers, slots[kept])])
    return rows


@ieee_arithmetic()
def scores(layout: Layout, outlier_rows: RowArray, queries: Float32Array, slots: Int64Array,
           centre: Float64Array, metric: MetricTraits) -> Float32Array:
    """Rough scores (n_queries, n_slots)."""
    result = np.empty((len(queries), len(slots)), np.float32)
    exact_queries = queries.astype(np.float64)
    if metric.normalized:
        exact_queries /= np.linalg.norm(exact_queries, axis=1, keepdims=True)
    for block in blocks_of(len(slots)):
        vectors, squares = _centred_rows(layout, outlier_rows, slots[block], centre,
                                         metric.normalized)
        with np.errstate(over="ignore"):  # infinite where float32 can't hold a score
            if metric.adds_squared_norm:
                from_centre = exact_queries - centre
                keys = -2.0 * (from_centre @ vectors.T) + squares
                keys += np.einsum("ij,ij->i", from_centre, from_centre)[:, None]
                result[:, block] = np.sqrt(np.maximum(keys, 0.0))
            else:
                result[:, block] = exact_queries @ vectors.T + (exact_queries @ centre)[:, None]
    return result


# ---- codes that come and go ----


