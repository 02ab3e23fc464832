"""Measuring which effort reaches which recall, on sample queries."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from typing import NamedTuple

import numpy as np

from farann import _core
from farann._types import Float32Array, Float64Array, Int64Array, Progress
from farann.contract.stop_rule import ALL_CODES, EXACT, StopRule
from farann.results import Hits, SearchStats, share_found
from farann.runtime import batches
from farann.runtime.cost import FEW_QUERIES, cost_of, guard_cost
from farann.runtime.pieces import Allowance, Pieces, completed
from farann.runtime.progress import told
from farann.tuning import guard
from farann.tuning.table import Tuning, late_beyond

# Multiply-adds that exact answers to sample queries may take, between the next two numbers.
_TRUTH_WORK = 5e10
LEAST_QUERIES = 512  # sample queries, whose standard error of a recall of .95 is .003 for k = 10
_MOST_QUERIES = 2048  # sample queries; more hardly change a table
_MOST_ANSWERS = 2**18  # answers beyond which fewer queries are sampled, for large k
_FEWEST_QUERIES = 32  # least sample queries even then
_MOST_SINGLES = 32  # queries also measured as single ones: costs vary less than recall
_MOST_COST = 2.0  # times exact search; above it no larger effort is tried once costs rise
# Efforts that are tried with partitions, in standard deviations of keys around a mean key.
_DEVIATIONS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 8.0)
RANKED_BY = 1.5  # effort of searches with a budget, by which they rank partitions
_FEWEST_ROWS = 128  # least effort that is tried without partitions, in rows
_USUAL = 3.0  # effort, in deviations, that says whether predicted thresholds pay
_MOST_SHARES = (0.625, 0.75, 0.875)  # efforts above half of the rows, as shares of these
_MOST_SHARE_LENT = 0.7  # of the rows, the largest effort that is tried as part of searches
_ENOUGH = 0.9995  # recall from which no larger effort is tried
# Predict the median minus twice its distance to the 5th percentile: a search whose predicted
# threshold is too high begins again.
_BELOW = 2.0
# Recalls at which costs with and without extended searches are compared.
_JUDGED_AT = (0.8, 0.9, 0.95, 0.99)
# Cost of scoring the partitions for a query, beside that of an exact search.
_PREDICTING = 1 / 16
_MOST_DEARER = 1.05  # most mean cost of extended searches, as a multiple of that of plain ones


def rule_of(effort: float, *, deviations: bool) -> StopRule:
    """The rule of a measured effort."""
    return StopRule(deviations=effort) if deviations else StopRule(rows=int(effort))


def sample_size(n_rows: int, dim: int, k: int = 1) -> int:
    """The number of queries to measure with: more give a surer recall, and take longer."""
    most = int(np.clip(_TRUTH_WORK / max(n_rows * dim, 1), LEAST_QUERIES, _MOST_QUERIES))
    return min(most, max(_MOST_ANSWERS // k, _FEWEST_QUERIES))


def measure(snapshot: _core.Snapshot, queries: Float32Array, k: int, *,
            with_partitions: bool, with_vectors: bool = True, target: float = 0.95,
            exact: _core.Snapshot | None = None, singles: bool = True, nearest: bool = False,
            own_ids: Int64Array | None = None, known: Answered | None = None,
            float32_first: bool = False, progress: Progress = False) -> tuple[Tuning, Int64Array]:
    """Try efforts from little to much, until nearly all is found; exact search comes last.

    Without vectors a scan of all codes comes last, and recall is measured by its answers. The
    table depends on rows, queries and the instruction-set level, and on nothing else. Exact
    searches may have a snapshot of their own (`exact`). `singles`: measure costs of single queries,
    too. `nearest`: search for the nearest rows. `own_ids`: ids of the rows that serve as queries,
    each of which is left out of its own answer. `known`: the exact answers, if known.
    `float32_first`: single exact queries don't begin with codes. Returns the table and the ids of
    the queries' answers.
    """
    return completed(in_pieces(
        snapshot, queries, k, Allowance(), with_partitions=with_partitions,
        with_vectors=with_vectors, target=target, exact=exact, singles=singles, nearest=nearest,
        own_ids=own_ids, known=known, float32_first=float32_first, progress=progress))


def in_pieces(snapshot: _core.Snapshot, queries: Float32Array, k: int, allowed: Allowance, *,
              with_partitions: bool, with_vectors: bool = True, target: float = 0.95,
              exact: _core.Snapshot | None = None, singles: bool = True, nearest: bool = False,
              own_ids: Int64Array | None = None, known: Answered | None = None,
              float32_first: bool = False,
              progress: Progress = False) -> Pieces[tuple[Tuning, Int64Array]]:
    """`measure` in steps of a few queries; with fewer a step, batches seem dearer."""
    own = Searches(snapshot, _without(snapshot, own_ids), k, nearest, own_ids=own_ids)
    exactly = own._replace(snapshot=exact or snapshot)
    alone_exactly = exactly._replace(float32_first=float32_first)
    everything = EXACT if with_vectors else ALL_CODES
    some = range(0, len(queries), -(-len(queries) // _MOST_SINGLES)) if singles else range(0)
    alone = [(queries[i : i + 1],
              _without(snapshot, None if own_ids is None else own_ids[i : i + 1])) for i in some]
    of_exact_single = yield from alone_exactly.cost_of_singles(alone, everything, allowed)
    work, truth = known or (yield from exactly.in_pieces(queries, everything, allowed))
    of_exact = cost_of(work, snapshot.dim, snapshot.isa)
    predicts = with_partitions and (yield from own.predicting_pays(queries, truth, allowed))
    # Layouts are judged without singles, and by what searches themselves cost.
    tells_late = with_vectors and singles
    width = guard.width_of(snapshot.dim)
    guard_batch, guard_alone = (
        guard_cost(width, guard.POINTS, snapshot.isa, single=single) if singles else 0.0
        for single in (False, True))

    def tried(effort: float, rule: StopRule,
              late: Float32Array | None = None) -> Pieces[tuple[float, ...]]:
        work, found = yield from own.in_pieces(queries, rule, allowed, late)
        cost = cost_of(work, snapshot.dim, snapshot.isa) + guard_batch * len(queries)
        single_cost = guard_alone + (yield from own.cost_of_singles(alone, rule, allowed))
        return (effort, share_found(found.ids, truth.ids), cost / of_exact,
                rule.predicted_threshold, single_cost / of_exact_single)

    efforts = _efforts(own.chosen.n_rows, with_partitions, with_vectors)
    if allowed.is_lent and not with_partitions:
        efforts = [one for one in efforts if one <= _MOST_SHARE_LENT * own.chosen.n_rows]
    plain: list[tuple[float, ...]] = []
    extended: list[tuple[float, ...]] = []
    with told("measuring recall", len(efforts) + 1, progress) as advance:
        for effort in efforts:
            rule = rule_of(effort, deviations=with_partitions)
            if predicts:
                rule = rule._replace(
                    predicted_threshold=(yield from own.predicted_threshold(
                        queries, rule, truth, allowed)))
            late = np.zeros(len(queries), np.float32) if tells_late else None
            row = yield from tried(effort, rule, late)
            lateness = (0.0, 0.0) if late is None else (float(late.mean(dtype=np.float64)),
                                                        float(late.std(dtype=np.float64)))
            plain.append((*row, *lateness))
            if tells_late and not with_partitions and not _is_enough(extended):
                rule = rule._replace(extends_beyond=late_beyond(*lateness))
                extended.append((*(yield from tried(effort, rule)), *lateness))
            advance(1)
            if _is_enough(plain):
                break
        # The exact search, and efforts that weren't tried.
        advance(len(efforts) + 1 - len(plain))

    def table(rows: list[tuple[float, ...]]) -> Tuning:
        columns = list(zip(*rows, (float("inf"), 1.0, 1.0, nan, 1.0, 0.0, 0.0), strict=True))
        return Tuning(
            k, rows=() if with_partitions else columns[0], recalls=columns[1], costs=columns[2],
            target=target, predicted_thresholds=columns[3] if predicts else (),
            single_costs=columns[4] if singles else (), late=columns[5] if tells_late else (),
            late_spread=columns[6] if tells_late else (), sampled=len(queries),
            extends=rows is extended, deviations=columns[0] if with_partitions else ())

    tuned = table(plain)
    return _cheaper(tuned, table(extended)) if extended else tuned, truth.ids


def _is_enough(rows: list[tuple[float, ...]]) -> bool:
    """Whether no larger effort needs to be tried."""
    # With little effort too few rows may be found; then all rows are searched after all.
    dearer = len(rows) > 1 and rows[-1][2] >= rows[-2][2]
    return bool(rows) and (rows[-1][1] >= _ENOUGH or (rows[-1][2] > _MOST_COST and dearer))


def _cheaper(plain: Tuning, extended: Tuning) -> Tuning:
    """Choose a table: `extended`, unless queries like the sample cost clearly more by it."""
    dearer = [extended.cost_of(extended.effort_for(recall)) / plain.cost_of(
        plain.effort_for(recall)) for recall in _JUDGED_AT]
    return extended if sum(dearer) <= _MOST_DEARER * len(dearer) else plain


def _efforts(n_rows: int, with_partitions: bool, with_vectors: bool) -> list[float]:
    """Efforts to try before the exact search, from little to much."""
    if with_partitions:
        return list(_DEVIATIONS)
    if not with_vectors:
        return []  # no row comes first because it answers many queries
    doublings = max(1, int(np.log2(max(n_rows / _FEWEST_ROWS, 2.0))))
    efforts = [float(_FEWEST_ROWS * 2**i) for i in range(doublings)]
    return efforts + [share * n_rows for share in _MOST_SHARES if share * n_rows > efforts[-1]]


class Answered(NamedTuple):
    """The work of an exact search, and its answers."""

    work: SearchStats
    hits: Hits

    def cost(self, snapshot: _core.Snapshot) -> float:
        """Nanoseconds, estimated."""
        return cost_of(self.work, snapshot.dim, snapshot.isa)


def answered(snapshot: _core.Snapshot, queries: Float32Array, k: int, nearest: bool) -> Answered:
    """Answer queries exactly."""
    return Answered(*Searches(snapshot, _core.Filter(snapshot), k, nearest).top(queries, EXACT))


def costs_by_recall(snapshot: _core.Snapshot, queries: Float32Array, k: int,
                    recalls: Sequence[float], exact: Answered, *, with_partitions: bool,
                    nearest: bool) -> list[float]:
    """Costs of searches at recalls below 1, in nanoseconds, given the `exact` answers."""
    of_exact = exact.cost(snapshot)
    tuned, _ = measure(snapshot, queries, k, with_partitions=with_partitions, singles=False,
                       nearest=nearest, known=exact)
    return [of_exact * tuned.cost_of(tuned.effort_for(recall)) for recall in recalls]


def _without(snapshot: _core.Snapshot, ids: Int64Array | None) -> _core.Filter:
    """The filter: all rows, or for each query all but one."""
    every = _core.Filter(snapshot)
    return every if ids is None else every.excluding(ids, np.arange(len(ids) + 1))


class Searches(NamedTuple):
    """A snapshot, and the kind of searches in it."""

    snapshot: _core.Snapshot
    chosen: _core.Filter
    k: int
    nearest: bool
    float32_first: bool = False
    own_ids: Int64Array | None = None  # of the rows that serve as queries, see `measure`

    def top(self, queries: Float32Array, rule: StopRule,
            late: Float32Array | None = None) -> tuple[SearchStats, Hits]:
        """Search for the k best rows; return the work and the answers."""
        return completed(self.in_pieces(queries, rule, Allowance(), late))

    def in_pieces(self, queries: Float32Array, rule: StopRule, allowed: Allowance,
                  late: Float32Array | None = None) -> Pieces[tuple[SearchStats, Hits]]:
        """Search in steps of as many queries as are allowed."""
        n, did, found = len(queries), list[SearchStats](), list[Hits]()
        at, each = 0, allowed.query or allowed.single
        while at < n or not did:
            some = slice(at, at + allowed.number(n - at, each))
            # One thread, as the number of threads changes how queries are grouped.
            hits, work = batches.top(
                self.snapshot, self._chosen_of(some, n), queries[some], self.k, self.nearest, 1,
                rule, None if late is None else late[some], float32_first=self.float32_first)
            did.append(work)
            found.append(hits)
            at, few = some.stop, some.stop - some.start < FEW_QUERIES
            cost = cost_of(work, self.snapshot.dim, self.snapshot.isa, single=few)
            allowed.left, each = allowed.left - cost, cost / max(work.queries, 1)
            if rule in (EXACT, ALL_CODES):
                allowed.query = each
            yield
        total = SearchStats(*map(sum, zip(*did, strict=True)))
        return total, Hits(np.concatenate([hits.ids for hits in found]),
                           np.concatenate([hits.scores for hits in found]))

    def _chosen_of(self, some: slice, n: int) -> _core.Filter:
        """The rows that some of n queries may find."""
        if self.own_ids is None or some == slice(0, n):
            return self.chosen
        return _without(self.snapshot, self.own_ids[some])

    def cost_of_singles(self, alone: Sequence[tuple[Float32Array, _core.Filter]], rule: StopRule,
                        allowed: Allowance) -> Pieces[float]:
        """Mean nanoseconds of a single query; NaN if there are none."""
        costs = []
        for query, chosen in alone:
            work = self._replace(chosen=chosen, own_ids=None).top(query, rule)[0]
            costs.append(cost_of(work, self.snapshot.dim, self.snapshot.isa, single=True))
            allowed.left -= costs[-1]
            allowed.single = allowed.single or costs[-1]
            yield
        return sum(costs) / len(costs) if costs else nan

    def predicting_pays(self, queries: Float32Array, truth: Hits,
                        allowed: Allowance) -> Pieces[bool]:
        """Whether predicting thresholds makes searches scan fewer rows.

        It doesn't where the rows that answer most queries are a better guide than partitions."""
        plain = rule_of(_USUAL, deviations=True)
        threshold = yield from self.predicted_threshold(queries, plain, truth, allowed)
        scanned = []
        for rule in (plain._replace(predicted_threshold=threshold), plain):
            scanned.append((yield from self.in_pieces(queries, rule, allowed))[0].rows_scanned)
        return scanned[0] < scanned[1]

    def predicted_threshold(self, queries: Float32Array, rule: StopRule, truth: Hits,
                            allowed: Allowance) -> Pieces[float]:
        """The threshold that nearly all k-th keys exceed, see `Tuning.predicted_thresholds`."""
        last = np.ascontiguousarray(truth.scores[:, -1])
        parts, at, n, each = list[Float64Array](), 0, len(queries), _PREDICTING * allowed.query
        while at < n:
            some = slice(at, at + allowed.number(n - at, each))
            # No row is searched for, so memory for one each is enough.
            parts.append(_core.surprises(self.snapshot, self._chosen_of(some, n), queries[some],
                                         last[some], 1, rule, nearest=self.nearest))
            at = some.stop
            allowed.left -= each * len(parts[-1])
            yield
        found = np.concatenate(parts)
        found = found[np.isfinite(found)]
        if len(found) == 0:
            return nan
        usual, low = np.quantile(found, (0.5, 0.05))
        return float(usual - _BELOW * (usual - low))
