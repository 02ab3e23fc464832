"""Measuring which effort reaches which recall, on sample queries."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan

import numpy as np

from farann import _core
from farann._types import Float32Array, Int64Array
from farann.results import Hits, SearchStats, share_found
from farann.runtime import batches
from farann.runtime.cost import cost_of, guard_cost
from farann.tuning import guard
from farann.tuning.table import Tuning

# Sample queries: so many as cost about so many multiply-adds.
_LEAST_QUERIES, _MOST_QUERIES, _WORK = 512, 2048, 5e10
# Fewer where k is large: so many answers say as much, as long as there are some queries.
_MOST_ANSWERS, _FEWEST_QUERIES = 2**18, 32
# Of these so many are asked one by one as well: costs differ less from query to query than recall.
_MOST_SINGLES = 32
# More effort isn't tried once a search costs so many times what the exact one does.
_MOST_COST = 2.0
# Standard deviations that partitions are given credit for.
_DEVIATIONS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 8.0)
# What searches with a budget take, which stops them earlier.
MOST_DEVIATIONS = 5.0
_FEWEST_ROWS = 128
# And a usual effort.
_USUAL = 3.0
# Shares of the rows that are scored if half of them don't do.
_MOST_SHARES = (0.625, 0.75, 0.875)
_ENOUGH = 0.9995
# What is predicted of k-th keys is below what is usual, so many times as far as one in twenty is,
# as a search that expects too much begins again.
_BELOW = 2.0


def sample_size(n_rows: int, dim: int, k: int = 1) -> int:
    """How many queries to measure with: more give a surer recall, and take longer."""
    most = int(np.clip(_WORK / max(n_rows * dim, 1), _LEAST_QUERIES, _MOST_QUERIES))
    return min(most, max(_MOST_ANSWERS // k, _FEWEST_QUERIES))


def measure(snapshot: _core.Snapshot, queries: Float32Array, k: int, *,
            with_partitions: bool, with_vectors: bool = True, target: float = 0.95,
            exact: _core.Snapshot | None = None,
            singles: bool = True) -> tuple[Tuning, Int64Array]:
    """Try efforts from little to much, until nearly all is found; exact search comes last.

    Without vectors it is a scan of all codes that comes last, and that recall is measured by. The
    table depends on rows, queries and the instruction-set level, and on nothing else. Exact
    searches may have a snapshot of their own. `singles`: what queries cost that are asked one by
    one is measured as well. With the table come the ids of the queries' answers.
    """
    chosen = _core.Filter(snapshot)
    everything = None if with_vectors else float("inf")
    work, truth = _searched(exact or snapshot, chosen, queries, k, everything)
    of_exact = cost_of(work, snapshot.dim, snapshot.isa)
    alone = queries[:: -(-len(queries) // _MOST_SINGLES)] if singles else queries[:0]
    of_exact_single = _single_cost(exact or snapshot, chosen, alone, k, everything)
    predicts = with_partitions and _predicting_pays(snapshot, chosen, queries, k, truth)
    # Layouts are judged without singles, and by what searches themselves cost.
    tells_late = with_vectors and singles
    told, told_alone = ((guard_cost(guard.width_of(snapshot.dim), guard.POINTS, snapshot.isa,
                                    single=single) if singles else 0.0)
                        for single in (False, True))
    if with_partitions:
        efforts = list(_DEVIATIONS)
    elif not with_vectors:
        efforts = []  # no row comes first because it answers many queries
    else:
        doublings = max(1, int(np.log2(max(chosen.n_rows / _FEWEST_ROWS, 2.0))))
        efforts = [float(_FEWEST_ROWS * 2**i) for i in range(doublings)]
        if snapshot.seeds_for(k):
            efforts.insert(0, 0.0)  # the rows of a list, and no others
        efforts += [share * chosen.n_rows for share in _MOST_SHARES
                    if share * chosen.n_rows > efforts[-1]]
    tried: list[tuple[float, ...]] = []
    for effort in efforts:
        predicted = nan
        if predicts:
            predicted = _predicted_threshold(snapshot, chosen, queries, k, effort, truth)
        late = np.zeros(len(queries), np.float32) if tells_late else None
        work, found = _searched(snapshot, chosen, queries, k, effort, predicted, late)
        recall = share_found(found.ids, truth.ids)
        cost = (cost_of(work, snapshot.dim, snapshot.isa) + told * len(queries)) / of_exact
        single_cost = told_alone + _single_cost(snapshot, chosen, alone, k, effort, predicted)
        lateness = (0.0, 0.0) if late is None else (float(late.mean(dtype=np.float64)),
                                                    float(late.std(dtype=np.float64)))
        tried.append((effort, recall, cost, predicted, single_cost / of_exact_single, *lateness))
        # With little effort too few rows may be found, and all have to be searched after all.
        dearer = len(tried) > 1 and cost >= tried[-2][2]
        if recall >= _ENOUGH or (cost > _MOST_COST and dearer):
            break
    tried.append((float("inf"), 1.0, 1.0, nan, 1.0, 0.0, 0.0))
    columns = list(zip(*tried, strict=True))
    tuned = Tuning(
        k, rows=() if with_partitions else columns[0], recalls=columns[1], costs=columns[2],
        target=target, predicted_thresholds=columns[3] if predicts else (),
        single_costs=columns[4] if singles else (),
        deviations=columns[0] if with_partitions else ())
    if tells_late:
        tuned = tuned._replace(late=columns[5], late_spread=columns[6], sampled=len(queries))
    return tuned, truth.ids


def exact_cost(snapshot: _core.Snapshot, queries: Float32Array, k: int) -> float:
    """Nanoseconds, estimated, that an exact search takes."""
    work, _ = _searched(snapshot, _core.Filter(snapshot), queries, k, None)
    return cost_of(work, snapshot.dim, snapshot.isa)


def costs_by_recall(snapshot: _core.Snapshot, queries: Float32Array, k: int,
                    recalls: Sequence[float], of_exact: float, *, with_partitions: bool,
                    exact: _core.Snapshot | None = None) -> list[float]:
    """The same of searches of some recalls below 1, where an exact one takes `of_exact`."""
    tuned, _ = measure(snapshot, queries, k, with_partitions=with_partitions, exact=exact,
                       singles=False)
    efforts = [tuned.effort_for(recall) for recall in recalls]
    return [of_exact * (1.0 if effort == float("inf") else
                        float(np.interp(effort, tuned.efforts[:-1], tuned.costs[:-1])))
            for effort in efforts]


def _searched(snapshot: _core.Snapshot, chosen: _core.Filter, queries: Float32Array, k: int,
              effort: float | None, predicted: float = nan,
              late: Float32Array | None = None) -> tuple[SearchStats, Hits]:
    # One thread, as the number of threads changes how queries are grouped.
    hits, work = batches.top(snapshot, chosen, queries, k, False, 1, effort=effort,
                             predicted_threshold=predicted, late=late)
    return work, hits


def _single_cost(snapshot: _core.Snapshot, chosen: _core.Filter, queries: Float32Array, k: int,
                 effort: float | None, predicted: float = nan) -> float:
    """Nanoseconds that queries take which are asked one by one, on average; NaN of none."""
    costs = [cost_of(_searched(snapshot, chosen, queries[i : i + 1], k, effort, predicted)[0],
                     snapshot.dim, snapshot.isa, single=True) for i in range(len(queries))]
    return sum(costs) / len(costs) if costs else nan


def _predicting_pays(snapshot: _core.Snapshot, chosen: _core.Filter, queries: Float32Array, k: int,
                     truth: Hits) -> bool:
    """Whether fewer rows are scanned; not where rows that answer most tell more than partitions."""
    scanned = [
        _searched(snapshot, chosen, queries, k, _USUAL, predicted)[0].rows_scanned
        for predicted in (_predicted_threshold(snapshot, chosen, queries, k, _USUAL,
                                               truth), nan)]
    return scanned[0] < scanned[1]


def _predicted_threshold(snapshot: _core.Snapshot, chosen: _core.Filter, queries: Float32Array,
                         k: int, effort: float, truth: Hits) -> float:
    """What nearly all k-th keys are above, see `Tuning.predicted_thresholds`."""
    last = np.ascontiguousarray(truth.scores[:, -1])
    # No row is searched for, so memory for one each is enough.
    found = _core.surprises(snapshot, chosen, queries, last, 1, effort)
    found = found[np.isfinite(found)]
    if len(found) == 0:
        return nan
    usual, low = np.quantile(found, (0.5, 0.05))
    return float(usual - _BELOW * (usual - low))
