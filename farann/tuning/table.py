"""Tables of `Index.tune`: recall and cost by effort; and all tables of one layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from farann._types import Float32Array, Float64Array, Int64Array, UInt8Array
from farann.contract import checks
from farann.results import html_table
from farann.runtime import pool
from farann.runtime.pieces import Allowance, Pieces
from farann.runtime.progress import log

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from farann.tuning.guard import Guard

# An effort that costs over 1.25 times the next larger one: many queries had all rows scanned.
_DEARER = 1.25
_STEEP = 0.4  # rise of recall from one effort to the next; above it the larger effort is taken
# Error of an interpolated lateness midway between two efforts, as a share of their difference.
_UNSURE = 0.12
_LEAST_MISSING = 1e-4  # floor of 1 - recall before its logarithm is taken
_FEW_SAMPLED = 100  # sample queries; with fewer a recall one standard error higher is aimed at
# Standard deviations above the mean lateness beyond which a search is extended. At 0.5, recall of
# unlike queries rises by a few hundredths, and batches like the sample cost 15 % more.
_LATE = 1.0
# Without partitions searches scan more rows than the recall takes, for queries unlike the sample:
# up to this share more in cost.
_MARGIN = 0.08
_MARGIN_STEPS = 1000  # efforts whose cost is compared with that margin
# Share of the allowed misses that is held back, as future queries differ from the sample.
_CAUTION = 0.1
# Floors of the deviation of what tells of answers, as shares of 1 + the mean: lateness, extremeness
# of k-th keys.
_LEAST_SPREADS = np.array([0.05, 0.01])
MOST_SURPRISING = 8.0  # deviations that count, as in the core
_LEAST_OF_SQUARES = 0.3  # floor of the deviation of squares; of a normal distribution it is 1.12
_NOT_MEASURED = 0.0, np.inf, 0.6, 1.5, 0.6, 1.5  # wider than of a normal distribution
_LOST = 100  # a tuning no longer holds once over 1/100 of the answers to its sample were removed


class Tuning(NamedTuple):
    """Recall and cost by effort: the number of rows scanned, or standard deviations of partitions.

    `print` shows a table and the fastest effort that reaches the target. The table leaves out an
    effort if another one finds as much at the same cost or less.

    Costs are estimated from the work that searches did, not from the time they took, so that they
    don't depend on what else a machine has to do.

    Attributes
    ----------
    k : int
        Rows that were asked for.
    rows : tuple of float
        Without partitions: how many rows are scanned, those first that answer many queries.
        Infinite for exact search, which comes last, or without vectors for a scan of all codes.
        Empty with partitions.
    recalls : tuple of float
        The share of the true k furthest rows that was found; without vectors, of those that all
        codes find.
    costs : tuple of float
        Estimated work of a search beside that of the exact one, or without vectors of the scan of
        all codes, whose cost is 1; in a batch.
    target : float
        A recall; the printed table ends with the fastest search that reaches it.
    predicted_thresholds : tuple of float
        With partitions: by how many deviations the k-th key is above the optimistic scores of good
        partitions at that effort, in nearly all cases; NaN, or an empty tuple, where it can't be
        predicted.
    single_costs : tuple of float
        The same for single queries; empty where it isn't known.
    late : tuple of float
        How late the answers of the sample came: the root of their places in the order of rows,
        in panels of 16, on average. Later ones are a sign of other queries. Empty without vectors.
    late_spread : tuple of float
        The standard deviation of `late` from query to query.
    sampled : int
        The number of sample queries.
    extends : bool
        Without partitions: whether twice as many rows are scanned for queries whose answers come
        later than `late` plus `late_spread`, and again. Recall and costs are with that.
    deviations : tuple of float
        With partitions: a partition is probed if its mean key plus this many standard deviations
        reaches the threshold. Infinite for exact search, which comes last. Empty without
        partitions.
    usual : tuple of tuple of float
        What tells of the sample's answers: `late`, and how far their k-th keys are below the mean
        key, in deviations. For each of the two the mean, the deviation, and mean and deviation of
        the squares of deviations above the mean and below. Empty where it isn't known.
    """

    k: int
    rows: tuple[float, ...]
    recalls: tuple[float, ...]
    costs: tuple[float, ...]
    target: float = 0.95
    predicted_thresholds: tuple[float, ...] = ()
    single_costs: tuple[float, ...] = ()
    late: tuple[float, ...] = ()
    late_spread: tuple[float, ...] = ()
    sampled: int = 0
    extends: bool = False
    deviations: tuple[float, ...] = ()
    usual: tuple[tuple[float, ...], ...] = ()

    @property
    def efforts(self) -> tuple[float, ...]:
        """The `deviations` if there are partitions, else the `rows`."""
        return self.deviations or self.rows

    def effort_for(self, recall: float, *, single: bool = False) -> float:
        """The rows or deviations that should reach a recall; infinite where only exact search does.

        It is infinite, too, where exact search costs no more.

        Parameters
        ----------
        recall : float
            Between 0 and 1.
        single : bool
            Whether it is for single queries, whose costs differ from those of a batch.

        Returns
        -------
        float
            Interpolated between the measured efforts: midway between the lines through recalls
            and through logarithms of what they lack.

        Raises
        ------
        ValueError
            For a recall below 0 or above 1.
        """
        recall = checks.to_finite("recall", recall, 0.0, 1.0)
        missing = missing_at(recall)
        if 0 < self.sampled < _FEW_SAMPLED:
            missing = _surely_missing(missing, self.sampled)
        wanted = 1.0 - missing
        # A small effort may find too few rows and end in a scan of all rows, with a high recall: an
        # effort counts as reaching the lowest recall of itself and all larger efforts.
        best = np.minimum.accumulate(self.recalls[::-1])[::-1]
        i = int(np.searchsorted(best, wanted))
        costs = self.single_costs if single and self.single_costs else self.costs
        if i >= len(best) - 1 or costs[i] >= costs[-1]:
            return float("inf")
        # Where less effort costs far more, many queries found too little and had all rows scanned:
        # their recall says nothing of efforts between.
        scanned_all = self.costs[i - 1] > _DEARER * self.costs[i]
        steep = i > 0 and best[i] - best[i - 1] > _STEEP
        if i == 0 or best[i] == best[i - 1] or scanned_all or steep:
            return self.efforts[i]
        # Recall flattens: linear interpolation gives too much effort, logarithmic too little.
        share = (wanted - best[i - 1]) / (best[i] - best[i - 1])
        before, after, then = np.log(np.maximum(1.0 - np.array([best[i - 1], best[i], wanted]),
                                                _LEAST_MISSING))
        if after < before:
            share = 0.5 * (share + (then - before) / (after - before))
        return float(self.efforts[i - 1] + share * (self.efforts[i] - self.efforts[i - 1]))

    def predicted_threshold_at(self, effort: float) -> float:
        """Interpolate the threshold that searches with a measured effort predict; NaN: none."""
        effort = checks.to_float("effort", effort)
        if not self.predicted_thresholds or effort == float("inf"):
            return float("nan")
        return float(np.interp(effort, self.efforts[:-1], self.predicted_thresholds[:-1]))

    def late_at(self, effort: float) -> tuple[float, float, int] | None:
        """Interpolate how late answers come in the order of rows: `late` and `late_spread`, and
        how many sampled queries that is worth; None where lateness isn't known."""
        effort = checks.to_float("effort", effort)
        unknown = not self.late or bool(np.isnan([self.late, self.late_spread]).any())
        if unknown or effort == float("inf"):
            return None
        # Doubling the rows makes them later by a share that changes slowly.
        efforts = np.log1p(self.efforts[:-1])
        mean, spread = (
            float(np.expm1(np.interp(np.log1p(effort), efforts, np.log1p(column[:-1]))))
            for column in (self.late, self.late_spread))
        # Lateness jumps where the order of rows changes: an interpolated value is worth fewer
        # queries than a measured one.
        unsure = np.interp(effort, self.efforts[:-1], np.arange(len(efforts))) % 1.0
        unsure *= 4.0 * (1.0 - unsure) * _UNSURE
        i = int(np.clip(np.searchsorted(self.efforts[:-1], effort), 1, len(efforts) - 1))
        off = unsure * abs(self.late[i] - self.late[i - 1]) if len(efforts) > 1 else 0.0
        worth = 1.0 / (1.0 / self.sampled + (off / max(spread, 1e-3))**2)
        return mean, spread, max(1, round(worth))

    def usual_at(self, effort: float) -> Float64Array:
        """Interpolate what tells of the sample's answers, (2, 6); what files of older versions
        don't have is infinitely uncertain."""
        known = np.array(self.usual[:-1]) if self.usual else np.tile(
            _NOT_MEASURED, (len(self.efforts) - 1, 2))
        efforts = np.log1p(self.efforts[:-1])
        usual = np.array([np.interp(np.log1p(effort), efforts, column) for column in known.T])
        if (late := self.late_at(effort)) is not None:
            usual[:2] = late[0], max(late[1], _LEAST_SPREADS[0] * (1.0 + late[0]))
        return usual.reshape(2, 6)

    def worthwhile(self) -> list[tuple[float, float, float]]:
        """List the measured efforts that no other effort beats in both recall and cost.

        Returns
        -------
        list of (effort, recall, cost)
            Exact search is always among them.
        """
        lines = list(zip(self.efforts, self.recalls, self.costs, strict=True))
        return [line for i, line in enumerate(lines) if line[0] == float("inf") or not any(
            other[1] >= line[1] and other[2] <= line[2] and (other[1:] != line[1:] or j < i)
            for j, other in enumerate(lines) if j != i)]

    def __str__(self) -> str:
        heads, *lines = cells_of(self)
        return "\n".join(["  ".join(f"{cell:>10}" for cell in line) for line in (heads, *lines)]
                         + [self.fastest])

    def _repr_html_(self) -> str:
        heads, *lines = cells_of(self)
        return html_table(heads, lines, self.fastest)

    @property
    def fastest(self) -> str:
        """The fastest search that reaches the target, in words."""
        effort = self.effort_for(self.target)
        how = "exact search, as no other costs less" if effort == float("inf") else (
            f"{_shown(self, effort)} {unit_of(self)}, at {self.cost_of(effort):.3g} of the cost of "
            "exact search")
        return f"fastest for recall {self.target:g}: {how}"

    def cost_of(self, effort: float, *, single: bool = False) -> float:
        """The cost of searches with an effort, interpolated in `costs`.

        Parameters
        ----------
        effort : float
            Up to the largest that was measured, or infinite.
        single : bool
            Whether it is for single queries: `single_costs`, if they were measured.

        Returns
        -------
        float
            Beside exact search, which costs 1; without vectors, beside a scan of all codes.
        """
        effort = checks.to_float("effort", effort)
        if effort == float("inf"):
            return 1.0
        costs = self.single_costs if single and self.single_costs else self.costs
        return float(np.interp(effort, self.efforts[:-1], costs[:-1]))

    def plot(self, axes: Axes | None = None) -> Axes:
        """Plot recall against cost; needs matplotlib.

        Parameters
        ----------
        axes : matplotlib.axes.Axes, optional
            To plot into; by default new ones.

        Returns
        -------
        matplotlib.axes.Axes
        """
        if axes is None:
            from matplotlib import pyplot

            axes = pyplot.figure().subplots()
        axes.plot(self.costs, self.recalls, marker="o")
        axes.set(xscale="log", xlabel="cost, 1 = exact search", ylabel=f"recall@{self.k}")
        return axes


def unit_of(table: Tuning) -> str:
    """The unit of a table's efforts."""
    return "deviations" if table.deviations else "rows"


def cells_of(table: Tuning) -> list[tuple[str, str, str]]:
    """Heads and lines of a table as it is printed."""
    return [(unit_of(table), f"recall@{table.k}", "cost"),
            *((_shown(table, effort), f"{recall:.4f}", f"{cost:,.4f}")
              for effort, recall, cost in table.worthwhile())]


def _shown(table: Tuning, effort: float) -> str:
    if effort == float("inf"):
        return "exact"
    return f"{effort:.4g}" if table.deviations else f"{int(effort):,}"


def _surely_missing(missing: float, sampled: int) -> float:
    """The share that a sample may miss so that other queries hardly miss more than `missing`.

    It is the lower end of Wilson's interval of one standard error (1927), for queries that miss all
    or nothing."""
    twice = 2.0 * missing + 1.0 / sampled
    factor = 1.0 + 1.0 / sampled
    return float((twice - (twice * twice - 4.0 * factor * missing * missing)**0.5) / (2.0 * factor))


def usual_of(witness: Float32Array) -> tuple[float, ...]:
    """What tells of answers (n, 2), as in `Tuning.usual`."""
    usual = list[float]()
    for values, least in zip(witness.T.astype(np.float64), _LEAST_SPREADS, strict=True):
        known = values[np.isfinite(values)]
        if len(known) == 0:
            usual += _NOT_MEASURED
            continue
        mean = known.mean()
        spread = max(known.std(), least * (1.0 + abs(mean)))
        far = np.clip((known - mean) / spread, -MOST_SURPRISING, MOST_SURPRISING)
        usual += mean, spread
        for side in (far, -far):
            squares = np.maximum(side, 0.0)**2
            usual += squares.mean(), max(squares.std(), _LEAST_OF_SQUARES)
    return tuple(map(float, usual))


def late_beyond(mean: float, spread: float) -> float:
    """The lateness beyond which a search is extended for a query."""
    return mean + _LATE * spread


def with_margin(table: Tuning, effort: float, *, single: bool) -> float:
    """The largest effort that costs at most 8 % more; with partitions `effort` itself."""
    if table.deviations or effort == float("inf"):
        return effort
    costs = table.single_costs if single and table.single_costs else table.costs
    efforts = np.geomspace(effort, max(effort, table.efforts[-2]), _MARGIN_STEPS)
    priced = np.interp(efforts, table.efforts[:-1], costs[:-1])
    dearer = np.append(priced > (1.0 + _MARGIN) * priced[0], True)
    return float(efforts[dearer.argmax() - 1])


def missing_at(recall: float) -> float:
    """The share of the answers that a plan for a recall may miss."""
    return (1.0 - _CAUTION) * (1.0 - recall)


class Measured(NamedTuple):
    """A tuning, and what it was measured with."""

    tuning: Tuning
    guard: Guard | None  # None: only for exact search
    answers: Int64Array | None = None  # slots, with repetitions; None of a tuning from a file
    queries: Float32Array | None = None  # those given to `Index.tune`; None: a sample of the store
    is_usual: bool = False  # whether the guard is that of the store's sample

    def holds(self, live: UInt8Array | None) -> bool:
        """Whether nearly all answers are still there."""
        if live is None or self.guard is None:
            return True
        return self.answers is not None and bool(
            (live[self.answers] == 0).sum() * _LOST <= len(self.answers))


class Tunings:
    """Tunings of a layout by k."""

    def __init__(self) -> None:
        self.by_k: dict[int, Measured] = {}
        # Unfinished measurements of searches, by k. They refer to rows, but not back to this.
        self._unfinished: dict[int, tuple[Allowance, Pieces[Measured] | None]] = {}
        self._lock = pool.fresh_lock(self)

    def usual_guard(self) -> Guard | None:
        """The guard of the store's own sample, which is the same for each k."""
        return next((one.guard for one in list(self.by_k.values()) if one.is_usual), None)

    def go_on(self, k: int, begin: Callable[[Allowance], Pieces[Measured]], supposed: float,
              n_queries: int, share: float) -> None:
        """Do some pieces of measuring the table for k: in all, no more work than exact searches of
        a share of the rows for some queries, each of which is supposed to take so many nanoseconds
        until that is known. `begin` starts the measurement. While another search measures, nothing
        is done."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            # Popped, so that none is left after an error, or in a child forked meanwhile.
            allowed, pieces = self._unfinished.pop(k, (Allowance(0.0), None))
            before, measured = self.by_k.get(k), None
            if allowed.lend(n_queries, share, supposed):
                if pieces is None:
                    log().info("measuring what recall= takes for k=%d, as part of searches", k)
                    pieces = begin(allowed)
                measured = allowed.advanced(pieces)
            if self.by_k.get(k) is not before:  # it was tuned meanwhile
                return
            if measured is None:
                self._unfinished[k] = allowed, pieces
            else:
                self.keep(measured)
                log().info("tuned for k=%d", k)
        finally:
            self._lock.release()

    def keep(self, measured: Measured) -> None:
        """Replace the tuning for its k."""
        self.by_k[measured.tuning.k] = measured
        self._unfinished.pop(measured.tuning.k, None)
