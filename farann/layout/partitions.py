"""Partitions: rows grouped by k-means, and the mean and spread of each group."""

from __future__ import annotations

import numpy as np

from farann import _core
from farann._types import Float64Array, Int32Array, Int64Array
from farann.layout.coding import Builder, whole_panels
from farann.quantize.records import PartitionArrays
from farann.quantize.scalar import GROUPS, Extents, blocks_of, largest_of_panels, parts_of
from farann.quantize.transform import Moment

_FEWEST_PARTITIONED = 20_000  # with cells="auto", fewer rows get no partitions: a scan takes less
_CELLS_PER_ROOT = 4  # n rows get 4 sqrt(n) partitions
# At these levels a scan costs little beside its probe, so that partitions are fewer and larger.
_FEWER_PER_ROOT = {"amx": 2}


def number_of_partitions(wanted: int | str | None, n: int, isa: str) -> int:
    """The number of partitions for n rows; 0 for none. `isa` is the level that will search them."""
    if wanted is None or n == 0:
        return 0
    if wanted == "auto":
        per_root = _FEWER_PER_ROOT.get(isa, _CELLS_PER_ROOT)
        return 0 if n < _FEWEST_PARTITIONED else int(per_root * n**0.5)
    return min(int(wanted), n)


class Sums:
    """Sums over the rows of each partition: of centered rows, and of the squared norms of these and
    of their products with the root of a moment of queries."""

    def __init__(self, builder: Builder, n_partitions: int, moment: Moment,
                 left_out: Int64Array) -> None:
        self._builder, self._factor = builder, moment.root()
        n, dim = builder.rows.shape
        self._counted = np.ones(n, np.bool_)
        self._counted[left_out] = False
        self._groups = [np.zeros((n_partitions, dim + 2))
                        for _ in range(min(GROUPS, len(blocks_of(n))))]

    def add(self, group: int, block: slice, labels: Int32Array) -> None:
        """Add the rows of a block, whose partitions are `labels`, but those that are left out."""
        dim = self._builder.rows.shape[1]
        labels = np.where(self._counted[block], labels, np.int32(-1))
        for some in parts_of(block):
            terms = np.empty((some.stop - some.start, dim + 2))
            terms[:, :dim] = vectors = self._builder.vectors(some)
            for column, part in ((dim, vectors), (dim + 1, vectors @ self._factor)):
                terms[:, column] = np.einsum("ij,ij->i", part, part)
            own = labels[some.start - block.start : some.stop - block.start]
            _core.add_to_groups(terms, own, self._groups[group])

    def total(self) -> Float64Array:
        """All sums, (n_partitions, dim + 2)."""
        total = self._groups[0]
        for other in self._groups[1:]:
            total += other
        self._groups = [total]
        return total


def describe(builder: Builder, labels: Int32Array, starts: Int64Array, sums: Float64Array,
             moment: Moment) -> PartitionArrays:
    """Code the parts of a partition's optimistic score: mean, deviation weighed by the `moment` of
    queries, and mean of squares, from the `sums` of its rows. `labels` have no gaps; -1 is a row of
    no partition."""
    n, factor = len(sums), moment.root()
    sums = sums / np.maximum(np.bincount(labels[labels >= 0], minlength=n), 1)[:, None]
    means, squares = np.ascontiguousarray(sums[:, :-2]), sums[:, -2]
    variances = sums[:, -1] - ((means @ factor) ** 2).sum(axis=1)
    variances += moment.rest * np.maximum(squares - (means**2).sum(axis=1), 0.0)
    # Means are coded like centered rows.
    largest = float(np.finfo(np.float32).max)
    means32 = np.clip(means, -largest, largest).astype(np.float32)
    transform, isa = builder.extents.transform, builder.isa
    nowhere, extents = np.zeros(means.shape[1]), np.empty(n)
    _core.code_extents(means32, nowhere, False, *transform, isa, extents)
    limit = max(float(extents.max()), 1e-28)
    inv_scale = Extents(transform, extents, limit, np.empty(0, np.int64)).inv_scale(
        largest_of_panels(extents, whole_panels(np.arange(n))))
    of_mean = np.repeat(inv_scale, _core.code_rows(1))[:n]
    codes = np.empty((n, transform.width + 4), np.uint8)
    coded = np.empty((n, transform.width), np.uint8)
    _core.encode_rows(means32, nowhere, False, *transform, of_mean, isa, coded, np.empty(n),
                      np.empty(n, np.float32))
    scaled = np.sqrt(np.maximum(variances, 0.0)) * of_mean.astype(np.float64)
    step = max(float(scaled.max()) / 127.0, 1e-30)
    codes[:, :-4], codes[:, -4:] = coded, (128.0 + np.rint(scaled / step))[:, None]
    panels = np.zeros((_core.code_rows(n), codes.shape[1]), np.uint8)
    _core.pack_codes(codes, np.arange(n), False, panels)
    whole = None
    if builder.metric.adds_squared_norm:
        whole = np.zeros(len(panels), np.float32)
        whole[:n] = squares * of_mean.astype(np.float64)
    return PartitionArrays(starts=starts, panels=panels, inv_scale=inv_scale, squares=whole,
                           step=step, relative=False)
