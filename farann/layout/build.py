"""Lay codes out for searching: in which order, along which directions first."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from farann import _core
from farann._types import Float32Array, Float64Array, Int32Array, Int64Array, Progress, RowArray
from farann.contract.index_spec import IndexSpec
from farann.layout import coding, sampling
from farann.layout.coding import Builder, Coding, RowLengths, answering, key_bounds, whole_panels
from farann.layout.partitions import Sums, describe, number_of_partitions
from farann.layout.sampling import MeanQueryDirection
from farann.quantize.kmeans import Space, labels_of, means_of
from farann.quantize.records import Layout, Origins, PartitionArrays
from farann.quantize.scalar import LARGEST_DIM, LEAST_SAMPLE, measure_rows, shape_of
from farann.quantize.transform import Projection, moment_of
from farann.results import SearchStats, share_found
from farann.runtime import batches, paging
from farann.runtime.cost import bytes_waited_for
from farann.runtime.process import each, ieee_arithmetic, one_thread
from farann.runtime.progress import renamed, told
from farann.tuning.measure import Answered, answered, costs_by_recall

# Sample queries up to which answers come from float32 rows: coding the rows would take longer.
_MANY_QUERIES = 512
_SAMPLE_K = 10  # k of the sample queries' answers
# Recalls at which layouts with and without partitions are compared.
_JUDGED_RECALLS = (0.9, 0.95, 0.99)
_SLOWER = 1.05  # most cost with partitions at any of these recalls, as a multiple of that without
# Most rows of a partitioned index that come before the partitions and are always searched.
_MOST_FIRST = 2048
# Levels that single exact queries may begin with.
_FLOAT32, _WHOLE_CODES = range(2)  # level 2 are high nibbles, where codes have them
_SINGLES_SAMPLED = 8  # queries by which a level is chosen, at most: that takes 3 % of a build
# Float32 replaces codes, and whole codes replace high nibbles, below this share of their cost.
_CHEAPER = 0.9
_HUBS_A_PART = 128  # rows that answer many queries are sorted by scale within groups of 128
WEIGHT_STEPS = 32  # without vectors: steps per octave that scales are rounded to
# Without vectors, with 4-bit codes: the 1/256 of the rows that answer most queries keep vectors.
_ROWS_A_VECTOR = 256
# Without vectors: below this dimension 8-bit codes keep the rows' order, to save 4 bytes a row.
_FEW_DIMENSIONS = 128


class Made(NamedTuple):
    """The layouts of a build; none where codes could not help."""

    layout: Layout | None = None
    exact: Layout | None = None  # for exact searches, where partitions make these slower
    recall: float | None = None  # of codes alone, on sample queries; None: not measured


class _Plan(NamedTuple):
    """A layout that isn't coded yet."""

    coding: Coding
    partitions: PartitionArrays | None = None
    others: Mapping[str, Any] = MappingProxyType({})  # arrays that coding doesn't make


class _Task(NamedTuple):
    """The inputs of a layout: rows, sample queries and settings."""

    builder: Builder
    spec: IndexSpec
    query_sample: Float32Array
    query_vectors: Float64Array  # of the sample
    long_answers: Int64Array  # slots of the `coding.ORDER_K` best rows of each sample query
    pca_filter: Projection | None = None
    shape: Float64Array | None = None
    nearest: bool = False
    lengths: RowLengths | None = None
    # Whether key bounds pay, along which direction, and whether those of squares pay.
    bounds_pay: bool = False
    mean_query: MeanQueryDirection | None = None
    squares_pay: bool = False

    @property
    def answers(self) -> Int64Array:
        return np.ascontiguousarray(self.long_answers[:, :_SAMPLE_K])

    @property
    def ordered(self) -> _Task:
        """The same once layouts are planned: without the measures of all rows."""
        return self._replace(builder=self.builder.ordered, lengths=None)

    @property
    def first(self) -> Int64Array:
        """Rows that answer many queries."""
        several = answering(self.long_answers, len(self.builder.rows))
        return np.setdiff1d(several, self.builder.extents.outliers, assume_unique=True)


@ieee_arithmetic()
def make_codes(rows: RowArray, center: Float64Array, spec: IndexSpec, isa: str,
               queries: Float32Array | None, progress: Progress, threads: int = 1,
               held_out: Float32Array | None = None, nearest: bool = False) -> Made:
    """Code rows (n, dim) and lay the codes out, the same with any number of threads.

    `queries` (q, dim) are what is going to be asked; by default rows serve as a sample. `held_out`
    are queries that are none of these, nor of the sample, to choose layouts and levels with.
    `nearest`: it is the nearest rows that will be searched for.
    """
    n, dim = rows.shape
    if n == 0 or dim > LARGEST_DIM:
        return Made()
    n_partitions = number_of_partitions(spec.cells, n, isa)
    few = n < LEAST_SAMPLE and n_partitions == 0 and not spec.width.is_coarse and spec.vectors
    # With few rows no layout is chosen, and no product needs one thread.
    with nullcontext() if few else one_thread():
        task = _measured(rows, center, spec, isa, queries, progress, threads, nearest, few)
        if isinstance(task, Made):
            return task
        compared = spec.vectors and held_out is not None and len(held_out) > 0 and (
            spec.cells == "auto" or (task.bounds_pay and not paging.exceed_memory(rows)))
        plans = [_in_partitions(task, n_partitions)] if n_partitions else []
        if compared or not plans:
            plans.append(_in_order(task))
        task = task.ordered
        made, *plain = _made(task, plans)
        del plans
        if plain:
            assert held_out is not None
            with told("comparing layouts", 1, progress) as advance:
                made = _better(task, made, plain[0], held_out)
                advance(1)
        return choose_for_singles(task, made, held_out)


def _measured(rows: RowArray, center: Float64Array, spec: IndexSpec, isa: str,
              queries: Float32Array | None, progress: Progress, threads: int, nearest: bool,
              few: bool) -> _Task | Made:
    """Measure rows for a layout; or code them at once, where nothing is to be chosen."""
    n = len(rows)
    query_sample = sampling.sample_queries(rows, spec.seed, queries)
    query_vectors = spec.metric.query_vectors(query_sample, center, nearest)
    # No PCA axes for coarse codes, which are rounded for likely queries instead, nor without
    # vectors: the part of rows outside the axes would be lost.
    sample = None
    if spec.vectors and not spec.width.is_coarse and not few:
        sample, query_sample, query_vectors = sampling.typical(
            rows, center, spec.metric.normalized, query_sample, query_vectors)
    with told("choosing a transform", 0 if few else 1, progress) as advance:
        transform = sampling.transform_for(rows, spec.seed, sample, query_vectors)
        advance(1)
    lengths = mean_query = None
    if sample is not None:
        mean_query = sampling.mean_query_of(query_vectors, spec.metric)
        lengths = RowLengths(n, center, spec.metric.normalized,
                             mean_query and mean_query.direction,
                             spec.metric.adds_squared_norm and not nearest)
    extents = measure_rows(rows, center, spec.metric.normalized, transform, isa, progress,
                           0 if spec.vectors else WEIGHT_STEPS, threads,
                           None if lengths is None else lengths.measure)
    if extents is None:
        return Made()
    builder = Builder(rows, center, spec.metric, isa, extents, progress, threads=threads)
    if n > coding.MOST_ORDERED:
        # Without slots every row has a position, outlying ones, too.
        extents = extents._replace(limit=float(extents.largest.max()),
                                   outliers=np.empty(0, np.int64))
        builder = builder._replace(extents=extents)
        return Made(Layout(builder.lay_out(whole_panels(np.arange(n)), width=spec.width)))
    if few:
        return Made(Layout(builder.lay_out(whole_panels(builder.by_size(builder.coded)))))
    answers = _long_answers(builder, query_sample, nearest)
    with told("choosing what to look at first", 1, progress) as advance:
        task = _looking_first(_Task(builder, spec, query_sample, query_vectors, answers,
                                    nearest=nearest, lengths=lengths), sample, mean_query)
        advance(1)
    return task


def _long_answers(builder: Builder, queries: Float32Array, nearest: bool) -> Int64Array:
    """Slots of the rows that answer sample queries, by codes if that pays."""
    layout = None
    # Of rows in a file those alone are read that codes leave.
    if len(queries) > _MANY_QUERIES or paging.is_mapped(builder.rows):
        rough = builder._replace(progress=renamed(builder.progress,
                                                  "coding rows for a sample of queries"))
        layout = Layout(rough.lay_out(whole_panels(builder.by_size(builder.coded))))
    with told("answering a sample of queries", 1, builder.progress) as advance:
        answers = builder.answers(queries, nearest=nearest, layout=layout)
        advance(1)
    return answers  # codes are laid out anew, and the old ones must not take memory meanwhile


def _better(task: _Task, partitioned: Made, plain: Made, queries: Float32Array) -> Made:
    """Choose a layout: partitions must make approximate searches faster and none of them slower,
    if it isn't for the user to say.

    The layout without is kept as well if exact searches are slower with partitions."""
    snapshots = [task.builder.snapshot(made.layout) for made in (partitioned, plain)]
    exact, costs = dict[int, Answered](), dict[int, list[float]]()

    def answer(i: int) -> None:
        exact[i] = answered(snapshots[i], queries, _SAMPLE_K, task.nearest)

    def judge(i: int) -> None:
        costs[i] = costs_by_recall(snapshots[i], queries, _SAMPLE_K, _JUDGED_RECALLS, exact[i],
                                   with_partitions=i == 0, nearest=task.nearest)

    each(answer, range(2), task.builder.threads)
    both = exact[0].cost(snapshots[0]) > _SLOWER * exact[1].cost(snapshots[1])
    if both:
        exact[0] = exact[1]
    if task.spec.cells == "auto":
        each(judge, range(2), task.builder.threads)
        if _SLOWER * sum(costs[0]) > sum(costs[1]) or any(
                one > _SLOWER * other for one, other in zip(costs[0], costs[1], strict=True)):
            return plain
    return partitioned._replace(exact=plain.layout) if both else partitioned


def choose_for_singles(task: _Task, made: Made, queries: Float32Array | None) -> Made:
    """Choose the level that single exact queries begin with, by counted work of some queries.

    A batch needs no choice: it gives codes up after a few blocks."""
    layout, builder = made.exact or made.layout, task.builder
    if layout is None or not task.spec.vectors or queries is None or len(queries) == 0:
        return made
    queries = queries[:: -(-len(queries) // _SINGLES_SAMPLED)]
    snapshot = builder.snapshot(layout)
    assert snapshot.codes is not None
    everything = _core.Filter(snapshot)
    waited = np.zeros(2 + snapshot.codes.high_nibbles_first)
    mapped = paging.is_mapped(builder.rows)
    if mapped:  # each query would read the whole file
        waited[_FLOAT32] = len(queries) * bytes_waited_for(SearchStats(
            1, bytes_read=builder.rows.nbytes, rows_rescored=_SAMPLE_K))
    for level in range(1 if mapped else 0, len(waited)):
        snapshot.codes.whole_codes_first = level == _WHOLE_CODES
        for i in range(len(queries)):
            _, work = batches.top(snapshot, everything, queries[i : i + 1], _SAMPLE_K, task.nearest,
                                  1, float32_first=level == _FLOAT32)
            waited[level] += bytes_waited_for(work)
            if mapped and work.float_products:
                # Codes were given up, and all of the file was read. Others would do so again.
                waited[level] *= len(queries) / (i + 1)
                break
    means = waited / len(queries)
    by_codes = float(means[_WHOLE_CODES:].min())
    # A query that waits in float32 for many more bytes than the sample's tries codes.
    below = np.sqrt(means[_FLOAT32] * by_codes) if means[_FLOAT32] < _CHEAPER * by_codes else 0.0
    whole_first = bool(means[_WHOLE_CODES] < _CHEAPER * means[-1])

    def chosen(layout: Layout | None) -> Layout | None:
        return layout and layout._replace(codes=replace(
            layout.codes, whole_codes_first=whole_first, float32_below=float(below)))

    return made._replace(layout=chosen(made.layout), exact=chosen(made.exact))


def _looking_first(task: _Task, sample: Float64Array | None,
                   mean_query: MeanQueryDirection | None) -> _Task:
    """Add a PCA filter and key bounds to a task, or the rounding of coarse codes."""
    builder, spec, lengths = task.builder, task.spec, task.lengths
    n, extents = len(builder.rows), builder.extents
    if spec.width.is_coarse:
        task = task._replace(shape=shape_of(extents.transform.rows(task.query_vectors)))
    elif sample is not None:
        assert lengths is not None
        cost_model = sampling.cost_model_of(
            builder.rows, builder.center, spec.metric, task.query_vectors, task.answers[:, -1],
            sample, task.nearest)
        pca_filter = sampling.pca_filter_for(cost_model, n, extents.transform.width, spec.seed)
        bounds_pay, mean_query = cost_model.key_bounds_pay(mean_query)
        task = task._replace(
            pca_filter=pca_filter, bounds_pay=bounds_pay, mean_query=mean_query,
            squares_pay=lengths.nonnegative and cost_model.squares_pay(builder.center))
    if spec.vectors or not spec.width.is_coarse:
        return task
    # recall@10 on GloVe: 0.76 by plain rounding, 0.79 by `shape`, 0.84 with these exact rows.
    room = max(n // _ROWS_A_VECTOR - len(extents.outliers), 0)
    first = answering(task.answers, n, 1)[:room]
    extents = extents._replace(outliers=np.union1d(extents.outliers, first))
    return task._replace(builder=builder._replace(extents=extents))


def _in_order(task: _Task) -> _Plan:
    """Lay out without partitions: first rows that answer many queries, then by key bounds."""
    builder, spec, first, lengths = task.builder, task.spec, task.first, task.lengths
    n, dim = builder.rows.shape
    if not spec.vectors:
        as_rows_lie = not spec.width.is_coarse and dim < _FEW_DIMENSIONS and not len(
            builder.extents.outliers)
        order = whole_panels(builder.coded if as_rows_lie else builder.by_size(builder.coded))
        return _Plan(Coding(builder, order, width=spec.width, shape=task.shape),
                     others={"slots": None} if as_rows_lie else {})
    outside = np.delete(np.arange(n), np.concatenate([first, builder.extents.outliers]))
    mean_query, by_square = task.mean_query, task.squares_pay
    sizes, key_bound, others = None, None, dict[str, Any]()
    # Long rows are likelier answers than short ones; unit vectors all have one length.
    if lengths is not None and (task.bounds_pay or not spec.metric.normalized):
        sizes = lengths.sizes(builder.extents.largest, mean_query is not None, by_square)
        key_bound = sizes.key_bound(mean_query)
    order = whole_panels(np.concatenate([builder.by_size_in_parts(first, _HUBS_A_PART),
                                         builder.by_key_bound(outside, key_bound)]))
    if sizes is not None and (task.bounds_pay or by_square):
        others = key_bounds(order, sizes, mean_query and mean_query.direction, by_square)
    return _Plan(Coding(builder, order, task.pca_filter, spec.width, task.shape), others=others)


def _in_partitions(task: _Task, n_partitions: int) -> _Plan:
    """Lay out with partitions, after rows that answer many queries."""
    builder, spec = task.builder, task.spec
    n, extents, threads = len(builder.rows), builder.extents, builder.threads
    relative = spec.width.is_coarse and not spec.vectors
    # Rows before all partitions have no mean to be relative to; the best keep their vectors.
    first = builder.by_size_in_parts(
        task.first[: 0 if relative else min(_MOST_FIRST, n // 16)], _HUBS_A_PART)
    moment = moment_of(task.query_vectors)
    # Where codes are relative to means, residuals of rows should be short in any direction.
    # recall@10 of 4-bit codes on GloVe: 0.836 as rows, 0.882 relative to means (cosine).
    space = Space(builder.center, spec.metric.normalized, None if relative else moment)
    means = means_of(builder.rows, space, n_partitions, spec.seed, threads, builder.progress)
    in_none = np.concatenate([first, extents.outliers])
    sums = Sums(builder, len(means.partitions), moment, in_none)
    labels = labels_of(builder.rows, space, means, threads, builder.progress, sums.add)
    labels[in_none] = -1
    of_filled = sums.total()[np.unique(labels[labels >= 0])]
    del means, sums
    order, starts, labels = _by_partition(labels, first, builder.by_size(builder.coded))
    with told("describing partitions", 1, builder.progress) as advance:
        partitions = describe(builder, labels, starts, of_filled, moment)
        advance(1)
    if relative:
        partitions = replace(partitions, relative=True)
        builder = builder.relative_to(Origins(partitions, labels))
        order, _, _ = _by_partition(labels, first, builder.by_size(builder.coded))
    return _Plan(Coding(builder, order, task.pca_filter, spec.width, task.shape), partitions)


def _made(task: _Task, plans: list[_Plan]) -> list[Made]:
    """Code layouts, with the recall of their codes where no vectors are kept."""
    layouts = [Layout(replace(arrays, **plan.others), plan.partitions) for plan, arrays in zip(
        plans, task.builder.lay_out_each([plan.coding for plan in plans]), strict=True)]
    if task.spec.vectors:
        return [Made(layout) for layout in layouts]
    answers = [task.builder.answers(task.query_sample, _SAMPLE_K, task.nearest, layout,
                                    vectors=False) for layout in layouts]
    return [Made(layout, recall=share_found(answer, task.answers))
            for layout, answer in zip(layouts, answers, strict=True)]


def _by_partition(labels: Int32Array, first: Int64Array,
                  by_size: Int64Array) -> tuple[Int64Array, Int64Array, Int32Array]:
    """Order rows by partition: return the order, the partitions' starts, and the rows' labels.

    The rows of `first` are in no partition and come before all others. Each partition is ordered
    `by_size`. Labels are numbered without gaps."""
    counts = np.bincount(labels[labels >= 0])
    filled = np.flatnonzero(counts)
    numbers = np.full(len(counts) + 1, -1, np.int32)  # the last is that of no partition
    numbers[filled] = np.arange(len(filled))
    labels = numbers[labels]
    sizes = _core.code_rows(1) * -(-counts[filled] // _core.code_rows(1))
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64) + _core.code_rows(len(first))
    order = np.full(int(starts[-1]), -1, np.int64)
    order[: len(first)] = first
    rows = by_size[labels[by_size] >= 0]
    rows = rows[np.argsort(labels[rows], kind="stable")]
    before = np.cumsum(counts[filled]) - counts[filled]
    order[starts[labels[rows]] + np.arange(len(rows)) - before[labels[rows]]] = rows
    return order, starts, labels
