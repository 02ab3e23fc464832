"""How well several ways of ranking order feedback that none of them has seen."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np

from farann import metrics
from farann._types import BoolArray, Float64Array, Int64Array
from farann.adapters.posneg import plotting
from farann.adapters.posneg.plotting import Trade
from farann.metrics import Interval, Reliability

ORACLE = "oracle"
THIS = "this ranker"
# Of fewer users no interval says anything.
_FEW = 10
# Weights of models of likes that are tried for a plot.
_WEIGHTS = np.linspace(0.0, 1.0, 21)


class Method(NamedTuple):
    """A score for each feedback, (n,), and its chance of a like if it gives one."""

    name: str
    scores: Float64Array
    chances: Float64Array | None = None


class Sides(NamedTuple):
    """This ranker's score as a sum: what models of likes say, and all the rest, (n,) each."""

    likes: Float64Array
    rest: Float64Array


class Row(NamedTuple):
    """One way of ranking, judged.

    Attributes
    ----------
    name : str
    ndcg, disliked, auc : Interval
        Means over users with 95 % intervals: nDCG@k and the share of dislikes in the first k, of
        users with more than k items; and the area under the ROC curve.
    ece : Interval
        Expected calibration error of its chances; NaN if it gives none.
    ndcg_change, disliked_change : Interval
        Relative to the first row, on the same users: 0.1 is a tenth more.
    """

    name: str
    ndcg: Interval
    disliked: Interval
    auc: Interval
    ece: Interval
    ndcg_change: Interval
    disliked_change: Interval


class Evaluation(NamedTuple):
    """A table of ways of ranking, and which to use.

    Attributes
    ----------
    rows : tuple of Row
    k : int
    advice : str
        One sentence.
    reliability : dict of Reliability
        Predicted and observed chances of each way that gives chances.
    trade : Trade or None
        How nDCG and dislikes move with the weight of models of likes; None where there is none.
    """

    rows: tuple[Row, ...]
    k: int
    advice: str
    reliability: dict[str, Reliability]
    trade: Trade | None

    def __str__(self) -> str:
        """A table in Markdown, and the advice."""
        k = self.k
        lines = [f"| | nDCG@{k} | | disliked@{k} | | AUC | ECE |",
                 "|---|---:|---:|---:|---:|---:|---:|"]
        lines += [f"| {row.name} | {_shown(row.ndcg)} | {_percent(row.ndcg_change)} | "
                  f"{_shown(row.disliked)} | {_percent(row.disliked_change)} | "
                  f"{_shown(row.auc)} | {_shown(row.ece)} |" for row in self.rows]
        return "\n".join([*lines, "", self.advice])

    def plot(self, file: str | os.PathLike[str]) -> None:
        """Plot reliability, and disliked@k against nDCG as the weight moves; takes matplotlib.

        Parameters
        ----------
        file : str or path-like
            .png, .svg, .pdf, or .html, which has the table, too.
        """
        plotting.write(file, self.reliability, self.trade, self.k, str(self))

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON can hold it; None stands for what isn't defined."""
        rows = [{key: value if key == "name" else _plain(value)
                 for key, value in row._asdict().items()} for row in self.rows]
        curves = {name: {key: value.tolist() for key, value in curve._asdict().items()}
                  for name, curve in self.reliability.items()}
        trade = None if self.trade is None else {key: value.tolist() for key, value
                                                 in self.trade._asdict().items()}
        return {"k": self.k, "rows": rows, "advice": self.advice, "reliability": curves,
                "trade": trade}


def _plain(value: Interval) -> dict[str, float] | None:
    return None if np.isnan(value.mean) else value._asdict()


def _shown(value: Interval) -> str:
    if np.isnan(value.mean):
        return "–"
    return f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]"


def _percent(value: Interval) -> str:
    if np.isnan(value.mean):
        return "–"
    return f"{100 * value.mean:+.0f} % [{100 * value.low:+.0f}, {100 * value.high:+.0f}]"


def evaluate(users: Int64Array, liked: BoolArray, methods: list[Method], k: int,
             dropped: list[str], sides: Sides | None = None) -> Evaluation:
    """Judge methods, of which the first is what the others are compared with."""
    _, numbers = np.unique(users, return_inverse=True)
    methods = [*methods, Method(ORACLE, liked.astype(np.float64), liked.astype(np.float64))]
    judged = {method.name: _by_user(numbers, liked, method.scores, k) for method in methods}
    first = judged[methods[0].name]
    rows = []
    for method in methods:
        ndcg, disliked, auc = (metrics.mean_interval(values) for values in judged[method.name])
        changes = [_relative(mine, base) for mine, base in
                   zip(judged[method.name][:2], first[:2], strict=True)]
        ece = Interval(float("nan"), float("nan"), float("nan"))
        if method.chances is not None:
            ece = _calibration_error(numbers, liked, method.chances)
        rows.append(Row(method.name, ndcg, disliked, auc, ece, *changes))
    curves = {method.name: metrics.reliability(method.chances, liked) for method in methods
              if method.chances is not None and method.name != ORACLE}
    return Evaluation(tuple(rows), k, _advice(methods, judged, dropped), curves,
                      None if sides is None else _trade(numbers, liked, sides, k))


def _trade(users: Int64Array, liked: BoolArray, sides: Sides, k: int) -> Trade | None:
    found = []
    for weight in _WEIGHTS:
        ndcg, disliked, _ = _by_user(users, liked,
                                     weight * sides.likes + (1.0 - weight) * sides.rest, k)
        if np.isnan(ndcg).all() or np.isnan(disliked).all():
            return None
        found.append((np.nanmean(ndcg), np.nanmean(disliked)))
    ndcgs, dislikes = np.array(found).T
    return Trade(_WEIGHTS, ndcgs, dislikes)


def _by_user(users: Int64Array, liked: BoolArray, scores: Float64Array, k: int
             ) -> tuple[Float64Array, Float64Array, Float64Array]:
    """nDCG@k, disliked@k and AUC of each user's own feedback; NaN where that isn't defined."""
    # Ties go by the place in the feedback, which has nothing to do with labels.
    order = np.lexsort((np.arange(len(users)), -scores, users))
    counts = np.bincount(users)
    rank = np.arange(len(users)) - (np.cumsum(counts) - counts)[users[order]]
    ids = np.full((len(counts), int(counts.max())), -1, np.int64)
    ids[users[order], rank] = order
    good, bad = (_lists(users, rows, len(counts)) for rows in (liked, ~liked))
    many = counts > k
    return (np.where(many, metrics.ndcg_at_k(ids, good, k), np.nan),
            np.where(many, metrics.disliked_at_k(ids, bad, k), np.nan),
            metrics.auc_by_user(users, liked, scores))


def _lists(users: Int64Array, which: BoolArray, n_users: int) -> list[Int64Array]:
    rows = np.flatnonzero(which)
    rows = rows[np.argsort(users[rows], kind="stable")]
    return np.split(rows, np.cumsum(np.bincount(users[rows], minlength=n_users))[:-1])


def _relative(mine: Float64Array, base: Float64Array) -> Interval:
    """Change of the mean over users who have both, relative to the second."""
    both = ~np.isnan(mine) & ~np.isnan(base)
    if not both.any() or not base[both].any():
        return Interval(float("nan"), float("nan"), float("nan"))
    new, old = mine[both], base[both]

    def change(users: Int64Array) -> float:
        before = old[users].mean()
        return float(new[users].mean() / before - 1.0) if before > 0 else 0.0

    return metrics.bootstrap_interval(change, len(new), samples=1000)


def _calibration_error(users: Int64Array, liked: BoolArray, chances: Float64Array,
                       bins: int = 10) -> Interval:
    """Expected calibration error with an interval over users, whose sums are weighed anew."""
    n_users = int(users.max()) + 1
    at = np.minimum((chances * bins).astype(np.int64), bins - 1)
    excess, counts = np.zeros((n_users, bins)), np.bincount(users, minlength=n_users)
    np.add.at(excess, (users, at), chances - liked)

    def error(sample: Int64Array) -> float:
        times = np.bincount(sample, minlength=n_users)
        return float(np.abs(times @ excess).sum() / max(1, counts @ times))

    return metrics.bootstrap_interval(error, n_users, samples=1000)


def _advice(methods: list[Method], judged: dict[str, tuple[Float64Array, Float64Array,
                                                            Float64Array]],
            dropped: list[str]) -> str:
    """Which to use: by the area under the ROC curve, on the same users."""
    others = [method.name for method in methods if method.name not in (THIS, ORACLE)]
    means = {name: float(np.nanmean(judged[name][2])) if not np.isnan(judged[name][2]).all()
             else 0.5 for name in others}
    best = max(others, key=lambda name: means[name])
    gain = metrics.mean_interval(judged[THIS][2] - judged[best][2])
    if np.isnan(gain.mean):
        return "No user has both likes and dislikes here, so nothing can be compared."
    both = int((~np.isnan(judged[THIS][2])).sum())
    if both < _FEW:
        return (f"Only {both} users have both likes and dislikes here, of {_FEW} that it takes "
                "to tell ways apart.")
    if all(metrics.mean_interval(judged[name][2]).low <= 0.5 for name in (best, THIS)):
        return "Nothing orders this feedback better than chance; diagnose() may say why."
    what = f"{gain.mean:+.3f} AUC [{gain.low:+.3f}, {gain.high:+.3f}] against {best!r}"
    also = f", without {', '.join(dropped)}, which fit left out" if dropped else ""
    if gain.low > 0:
        return f"Use this ranker{also}: {what}."
    if gain.high < 0:
        return f"Use {best!r} rather than this ranker: {what}."
    return f"{best!r} will do: this ranker{also} differs by {what}."
