"""Partitions: rows grouped by k-means, and what is kept of each group."""

from __future__ import annotations

import numpy as np

from farann import _core
from farann._types import Float32Array, Float64Array, Int32Array, Int64Array, RowArray, UInt8Array
from farann.contract.index_spec import MetricTraits
from farann.quantize.records import PartitionArrays
from farann.quantize.scalar import blocks_of, centered, largest_of_panels, parts_of
from farann.quantize.transform import Moment, Transform
from farann.runtime.process import each

_FEW_ROWS = 20_000  # with cells="auto", fewer rows get no partitions: a scan takes less
_CELLS_PER_ROOT = 4  # n rows get 4 sqrt(n) partitions
# At these levels a scan costs little beside its probe, so that partitions are fewer and larger.
_FEWER_PER_ROOT = {"amx": 2}
# Groups of blocks that sums over partitions are split into: at most 8 threads have work, and each
# group takes memory.
_GROUPS = 8


def number_of_partitions(wanted: int | str | None, n: int, isa: str) -> int:
    """The number of partitions for n rows; 0 for none. `isa` is the level that will search them."""
    if wanted is None or n == 0:
        return 0
    if wanted == "auto":
        return 0 if n < _FEW_ROWS else int(_FEWER_PER_ROOT.get(isa, _CELLS_PER_ROOT) * n**0.5)
    return min(int(wanted), n)


def _sums_of(rows: RowArray, center: Float64Array, normalized: bool, labels: Int32Array,
             n_partitions: int, factor: Float64Array, threads: int) -> Float64Array:
    """Sums over the rows of each partition (n_partitions, dim + 2): of centered rows, of their
    squared norms, and of the squared norms of their products with the factor."""
    blocks, dim = blocks_of(len(rows)), rows.shape[1]
    groups = [np.zeros((n_partitions, dim + 2)) for _ in range(min(_GROUPS, len(blocks)))]

    def add(group: int) -> None:
        for some in (part for block in blocks[group::_GROUPS] for part in parts_of(block)):
            terms = np.empty((some.stop - some.start, dim + 2))
            terms[:, :dim] = vectors = centered(rows[some], center, normalized)
            for column, part in ((dim, vectors), (dim + 1, vectors @ factor)):
                terms[:, column] = np.einsum("ij,ij->i", part, part)
            _core.add_to_groups(terms, labels[some], groups[group])  # but those of no partition

    each(add, range(len(groups)), threads)
    for other in groups[1:]:
        groups[0] += other
    return groups[0]


def describe(rows: RowArray, center: Float64Array, metric: MetricTraits, labels: Int32Array,
             starts: Int64Array, moment: Moment, transform: Transform, isa: str, threads: int = 1,
             ) -> PartitionArrays:
    """Code the parts of a partition's optimistic score: mean, deviation, and mean of squares.

    `labels` number the partitions without gaps; -1 is a row of none. Deviations are weighed by the
    `moment` of queries.
    """
    n_partitions, factor = len(starts) - 1, moment.root()
    sums = _sums_of(rows, center, metric.normalized, labels, n_partitions, factor, threads)
    sums /= np.maximum(np.bincount(labels[labels >= 0], minlength=n_partitions), 1)[:, None]
    means, squares = np.ascontiguousarray(sums[:, :-2]), sums[:, -2]
    variances = sums[:, -1] - ((means @ factor) ** 2).sum(axis=1)
    variances += moment.rest * np.maximum(squares - (means**2).sum(axis=1), 0.0)
    deviations = np.sqrt(np.maximum(variances, 0.0))
    return _coded(means, deviations, squares if metric.adds_squared_norm else None, starts,
                  transform, isa)


def code_means(means: Float64Array, transform: Transform, isa: str) -> tuple[UInt8Array,
                                                                             Float32Array,
                                                                             Float64Array]:
    """Code means like centered rows; return codes, inverse scales of panels, and those of means."""
    n, dim = means.shape
    largest = float(np.finfo(np.float32).max)
    means32 = np.clip(means, -largest, largest).astype(np.float32)
    nowhere, extents = np.zeros(dim), np.empty(n)
    _core.code_extents(means32, nowhere, False, *transform, isa, extents)
    order = np.full(_core.code_rows(n), -1)
    order[:n] = np.arange(n)
    limit = max(float(extents.max()), 1e-28)
    room = np.maximum(largest_of_panels(extents, order), limit / _core.CODE_SPAN)
    inv_scale = (127.0 / room).astype(np.float32)
    of_mean = np.repeat(inv_scale, _core.code_rows(1))[:n]
    codes = np.empty((n, transform.width), np.uint8)
    _core.encode_rows(means32, nowhere, False, *transform, of_mean, isa, codes, np.empty(n),
                      np.empty(n, np.float32))
    return codes, inv_scale, of_mean.astype(np.float64)


def _coded(means: Float64Array, deviations: Float64Array, squares: Float64Array | None,
           starts: Int64Array, transform: Transform, isa: str) -> PartitionArrays:
    n = len(means)
    codes, inv_scale, of_mean = code_means(means, transform, isa)
    scaled = deviations * of_mean
    step = max(float(scaled.max()) / 127.0, 1e-30)
    spread = (128.0 + np.rint(scaled / step)).astype(np.uint8)
    codes = np.hstack([codes, np.repeat(spread[:, None], 4, axis=1)])
    panels = np.zeros((_core.code_rows(n), codes.shape[1]), np.uint8)
    _core.pack_codes(codes, np.arange(n), False, panels)
    whole = None
    if squares is not None:
        whole = np.zeros(len(panels), np.float32)
        whole[:n] = squares * of_mean
    return PartitionArrays(starts=starts, panels=panels, inv_scale=inv_scale, squares=whole,
                           step=step, relative=False)
