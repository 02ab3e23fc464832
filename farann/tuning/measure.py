"""Measuring which effort reaches which recall, on sample queries."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from typing import Any, NamedTuple

import numpy as np

from farann import _core
from farann._types import Float32Array, Float64Array, Int64Array, Progress
from farann.contract.stop_rule import ALL_CODES, EXACT, StopRule, Witness
from farann.results import Hits, SearchStats, share_found
from farann.runtime import batches
from farann.runtime.cost import FEW_QUERIES, cost_of, guard_cost
from farann.runtime.pieces import Allowance, Pieces
from farann.runtime.progress import told
from farann.tuning import guard
from farann.tuning.table import Tuning, late_beyond, usual_of

# Multiply-adds of exact answers to the sample: they set its size, between the next two numbers.
_TRUTH_WORK = 5e10
LEAST_QUERIES = 512  # sample queries, whose standard error of a recall of .95 is .003 for k = 10
_MOST_QUERIES = 2048  # sample queries; more hardly change a table
_MOST_ANSWERS = 2**18  # answers (queries x k) at most: for a large k fewer queries are sampled
_FEWEST_QUERIES = 32  # sample queries at least, however large k is
_MOST_SINGLES = 32  # queries also measured as single ones: costs vary less than recall
_MOST_COST = 2.0  # times exact search; above it no larger effort is tried once costs rise
# Efforts that are tried with partitions, in standard deviations of keys around a mean key.
_DEVIATIONS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 8.0)
RANKED_BY = 1.5  # effort of searches with a budget, by which they rank partitions
_FEWEST_ROWS = 128  # least effort that is tried without partitions, in rows
_USUAL = 3.0  # effort, in deviations, at which `predicting_pays` compares searches
_MOST_SHARES = (0.625, 0.75, 0.875)  # efforts above half of the rows, as shares of these
_MOST_SHARE_LENT = 0.7  # of the rows, the largest effort that is tried as part of searches
_ENOUGH = 0.9995  # recall from which no larger effort is tried
# Predict the median minus twice its distance to the 5th percentile: a search whose predicted
# threshold is too high begins again.
_BELOW = 2.0
# Recalls at which costs with and without extended searches are compared.
_JUDGED_AT = (0.8, 0.9, 0.95, 0.99)
_PREDICTING = 1 / 16  # cost of scoring the partitions for a query, beside that of an exact search
_MOST_DEARER = 1.05  # most mean cost of extended searches, as a multiple of that of plain ones


def rule_of(effort: float, *, deviations: bool) -> StopRule:
    """The rule of a measured effort."""
    return StopRule(deviations=effort) if deviations else StopRule(rows=int(effort))


def sample_size(n_rows: int, dim: int, k: int = 1) -> int:
    """The number of queries to measure with: more give a surer recall, and take longer."""
    most = int(np.clip(_TRUTH_WORK / max(n_rows * dim, 1), LEAST_QUERIES, _MOST_QUERIES))
    return min(most, max(_MOST_ANSWERS // k, _FEWEST_QUERIES))


def in_pieces(snapshot: _core.Snapshot, queries: Float32Array, k: int, allowed: Allowance, *,
              with_partitions: bool, with_vectors: bool = True, target: float = 0.95,
              exact: _core.Snapshot | None = None, singles: bool = True, nearest: bool = False,
              own_ids: Int64Array | None = None, known: Answered | None = None,
              float32_first: bool = False, model: _core.KeyModel | None = None,
              progress: Progress = False) -> Pieces[tuple[Tuning, Int64Array]]:
    """Try efforts from little to much, until nearly all is found; exact search comes last.

    Without vectors a scan of all codes comes last, and recall is measured by its answers. The
    table depends on rows, queries and the instruction-set level, and on nothing else; but the fewer
    queries come at a time, the dearer batches seem to be. Exact searches may have a snapshot of
    their own (`exact`). `singles`: measure costs of single queries, too. `nearest`: search for the
    nearest rows. `own_ids`: ids of the rows that serve as queries, each of which is left out of its
    own answer. `known`: the exact answers, if known. `float32_first`: single exact queries don't
    begin with codes. `model`: of the keys of all rows. Returns the table and the ids of the
    queries' answers.
    """
    own = Searches(snapshot, _core.Filter(snapshot), queries, k, nearest, allowed, own_ids, singles,
                   model=model)
    exactly = own._replace(snapshot=exact or snapshot)
    n, n_rows, everything = len(queries), own.every_row.n_rows, EXACT if with_vectors else ALL_CODES
    of_exact_single = yield from exactly._replace(
        float32_first=float32_first).cost_of_singles(everything)
    work, truth = known or (yield from exactly.top(everything))
    of_exact = cost_of(work, snapshot.dim, snapshot.isa)
    predicts = with_partitions and (yield from own.predicting_pays(truth))
    # Layouts are compared without single queries, lateness and the cost of a guard.
    tells_late = with_vectors and singles
    guard_batch, guard_alone = (singles * guard_cost(
        guard.width_of(snapshot.dim), guard.POINTS, snapshot.isa, single=single)
        for single in (False, True))

    def tried(effort: float, rule: StopRule, witness: Float32Array) -> Pieces[tuple[Any, ...]]:
        work, answers = yield from own.top(rule, witness if tells_late else None)
        cost = cost_of(work, snapshot.dim, snapshot.isa) + guard_batch * n
        single_cost = guard_alone + (yield from own.cost_of_singles(rule))
        return (effort, share_found(answers.ids, truth.ids), cost / of_exact,
                rule.predicted_threshold, single_cost / of_exact_single, usual_of(witness))

    efforts = _efforts(n_rows, with_partitions, with_vectors)
    if allowed.is_lent and not with_partitions:
        efforts = [one for one in efforts if one <= _MOST_SHARE_LENT * n_rows]
    plain: list[tuple[Any, ...]] = []
    extended: list[tuple[Any, ...]] = []
    with told("measuring recall", len(efforts) + 1, progress) as advance:
        for effort in efforts:
            witness = np.zeros((n, 2), np.float32)
            rule = rule_of(effort, deviations=with_partitions)
            if predicts:
                rule = rule._replace(
                    predicted_threshold=(yield from own.predicted_threshold(rule, truth)))
            row = yield from tried(effort, rule, witness)
            late = witness[:, 0]
            lateness = float(late.mean(dtype=np.float64)), float(late.std(dtype=np.float64))
            plain.append((*row, *lateness))
            if tells_late and not with_partitions and not _is_enough(extended):
                rule = rule._replace(extends_beyond=late_beyond(*lateness))
                extended.append((*(yield from tried(effort, rule, witness)), *lateness))
            advance(1)
            if _is_enough(plain):
                break
        # The exact search, and efforts that weren't tried.
        advance(len(efforts) + 1 - len(plain))

    def table(rows: list[tuple[Any, ...]]) -> Tuning:
        columns = list(zip(*rows, (float("inf"), 1.0, 1.0, nan, 1.0, (0.0,) * 12, 0.0, 0.0),
                           strict=True))
        return Tuning(
            k, rows=() if with_partitions else columns[0], recalls=columns[1], costs=columns[2],
            target=target, predicted_thresholds=columns[3] if predicts else (),
            single_costs=columns[4] if singles else (), late=columns[6] if tells_late else (),
            late_spread=columns[7] if tells_late else (), sampled=n,
            extends=rows is extended, deviations=columns[0] if with_partitions else (),
            usual=columns[5] if tells_late else ())

    tuned = table(plain)
    return _cheaper(tuned, table(extended)) if extended else tuned, truth.ids


def _is_enough(rows: list[tuple[Any, ...]]) -> bool:
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
        return []  # rows without vectors aren't in the order of how many queries they answer
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
    allowed = Allowance()
    searches = Searches(snapshot, _core.Filter(snapshot), queries, k, nearest, allowed)
    return Answered(*allowed.completed(searches.top(EXACT)))


def costs_by_recall(snapshot: _core.Snapshot, queries: Float32Array, k: int,
                    recalls: Sequence[float], exact: Answered, *, with_partitions: bool,
                    nearest: bool) -> list[float]:
    """Costs of searches at recalls below 1, in nanoseconds, given the `exact` answers."""
    of_exact, allowed = exact.cost(snapshot), Allowance()
    tuned, _ = allowed.completed(in_pieces(
        snapshot, queries, k, allowed, with_partitions=with_partitions, singles=False,
        nearest=nearest, known=exact))
    return [of_exact * tuned.cost_of(tuned.effort_for(recall)) for recall in recalls]


class Searches(NamedTuple):
    """Searches of a snapshot for sample queries, as many at a time as are allowed."""

    snapshot: _core.Snapshot
    every_row: _core.Filter
    queries: Float32Array
    k: int
    nearest: bool
    allowed: Allowance
    own_ids: Int64Array | None = None  # of the rows that serve as queries, see `in_pieces`
    singles: bool = False  # whether costs of single queries are measured
    float32_first: bool = False
    model: _core.KeyModel | None = None

    def top(self, rule: StopRule,
            witness: Float32Array | None = None) -> Pieces[tuple[SearchStats, Hits]]:
        """Search for the k best rows of all queries; return the work and the answers."""
        n, did, parts = len(self.queries), list[SearchStats](), list[Hits]()
        at, each = 0, self.allowed.query or self.allowed.single
        while at < n or not did:
            some = slice(at, at + self.allowed.number(n - at, each))
            hits, work = self._top_of(some, rule, witness)
            did.append(work)
            parts.append(hits)
            at = some.stop
            each = self._spent_on(work, single=some.stop - some.start < FEW_QUERIES) / max(
                work.queries, 1)
            if rule in (EXACT, ALL_CODES):
                self.allowed.query = each
            yield
        total = SearchStats(*map(sum, zip(*did, strict=True)))
        return total, Hits(np.concatenate([hits.ids for hits in parts]),
                           np.concatenate([hits.scores for hits in parts]))

    def cost_of_singles(self, rule: StopRule) -> Pieces[float]:
        """Mean nanoseconds of single queries, by some of the sample; NaN if not measured."""
        costs, n = list[float](), len(self.queries) * self.singles
        for i in range(0, n, max(-(-n // _MOST_SINGLES), 1)):
            work = self._top_of(slice(i, i + 1), rule)[1]
            costs.append(self._spent_on(work, single=True))
            self.allowed.single = self.allowed.single or costs[-1]
            yield
        return sum(costs) / len(costs) if costs else nan

    def _top_of(self, some: slice, rule: StopRule,
                witness: Float32Array | None = None) -> tuple[Hits, SearchStats]:
        # One thread, as the number of threads changes how queries are grouped; and whatever codes
        # did before.
        return batches.top(
            self.snapshot, self._rows_for(some), self.queries[some], self.k, self.nearest, 1, rule,
            None if witness is None else Witness(witness[some], self.model),
            float32_first=self.float32_first, trials=_core.CodeTrials())

    def _rows_for(self, some: slice) -> _core.Filter:
        """The rows that some of the queries may find: all, or for each all but its own."""
        if self.own_ids is None:
            return self.every_row
        ids = self.own_ids[some]
        return self.every_row.excluding(ids, np.arange(len(ids) + 1))

    def _spent_on(self, work: SearchStats, *, single: bool) -> float:
        cost = cost_of(work, self.snapshot.dim, self.snapshot.isa, single=single)
        self.allowed.left -= cost
        return cost

    def predicting_pays(self, truth: Hits) -> Pieces[bool]:
        """Whether predicting thresholds makes searches scan fewer rows.

        It doesn't where the rows that answer most queries are a better guide than partitions."""
        plain, scanned = rule_of(_USUAL, deviations=True), []
        threshold = yield from self.predicted_threshold(plain, truth)
        for rule in (plain._replace(predicted_threshold=threshold), plain):
            scanned.append((yield from self.top(rule))[0].rows_scanned)
        return scanned[0] < scanned[1]

    def predicted_threshold(self, rule: StopRule, truth: Hits) -> Pieces[float]:
        """The threshold that nearly all k-th keys exceed, see `Tuning.predicted_thresholds`."""
        last, each = np.ascontiguousarray(truth.scores[:, -1]), _PREDICTING * self.allowed.query
        parts, at, n = list[Float64Array](), 0, len(self.queries)
        while at < n:
            some = slice(at, at + self.allowed.number(n - at, each))
            # k = 1 saves memory: no rows are collected.
            parts.append(_core.surprises(self.snapshot, self._rows_for(some), self.queries[some],
                                         last[some], 1, rule, nearest=self.nearest))
            at = some.stop
            self.allowed.left -= each * len(parts[-1])
            yield
        keys = np.concatenate(parts)
        keys = keys[np.isfinite(keys)]
        if len(keys) == 0:
            return nan
        usual, low = np.quantile(keys, (0.5, 0.05))
        return float(usual - _BELOW * (usual - low))
