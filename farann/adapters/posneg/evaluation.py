"""How well ways of ranking order feedback that none of them has seen, and what is wrong with it."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np

from farann import metrics
from farann._types import BoolArray, Float64Array, Int64Array
from farann.adapters.posneg import plotting
from farann.metrics import Interval, Reliability

ORACLE = "oracle"
THIS = "this ranker"
# Users with likes and dislikes; of fewer no interval says anything.
_FEW_USERS = 10
# Labels of a kind; weights of fewer are chance.
_FEW_LABELS = 50
# Share of the feedback, and difference of chances, above which it is worth a word.
_LARGE_SHARE, _LARGE_DIFFERENCE = 0.1, 0.05
# AUC that no model reaches on people's labels that it wasn't trained on.
_TOO_GOOD = 0.97


class Method(NamedTuple):
    """A score for each feedback, (n,), and its chance of a like if it gives one."""

    name: str
    scores: Float64Array
    chances: Float64Array | None = None


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
    """

    rows: tuple[Row, ...]
    k: int
    advice: str
    reliability: dict[str, Reliability]

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
        """Plot AUC by way of ranking, and how well chances are calibrated; takes matplotlib.

        Parameters
        ----------
        file : str or path-like
            .png, .svg, .pdf, or .html, which has the table, too.

        Raises
        ------
        ValueError
            For another extension.
        ImportError
            Without matplotlib.
        """
        plotting.write(file, {row.name: row.auc for row in self.rows if row.name != ORACLE},
                       self.reliability, str(self))

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON can hold it; None stands for what isn't defined.

        Returns
        -------
        dict
        """
        rows = [{key: value if key == "name" else _plain(value)
                 for key, value in row._asdict().items()} for row in self.rows]
        curves = {name: {key: value.tolist() for key, value in curve._asdict().items()}
                  for name, curve in self.reliability.items()}
        return {"k": self.k, "rows": rows, "advice": self.advice, "reliability": curves}


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


def evaluate(users: Int64Array, liked: BoolArray, methods: list[Method], k: int) -> Evaluation:
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
    return Evaluation(tuple(rows), k, _advice(methods, judged), curves)


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


def _advice(methods: list[Method],
            judged: dict[str, tuple[Float64Array, Float64Array, Float64Array]]) -> str:
    """Which to use: by the area under the ROC curve, on the same users."""
    others = [method.name for method in methods if method.name not in (THIS, ORACLE)]
    means = {name: float(np.nanmean(judged[name][2])) if not np.isnan(judged[name][2]).all()
             else 0.5 for name in others}
    best = max(others, key=lambda name: means[name])
    gain = metrics.mean_interval(judged[THIS][2] - judged[best][2])
    if np.isnan(gain.mean):
        return "No user has both likes and dislikes here, so nothing can be compared."
    both = int((~np.isnan(judged[THIS][2])).sum())
    if both < _FEW_USERS:
        return (f"Only {both} users have both likes and dislikes here, of {_FEW_USERS} that it "
                "takes to tell ways apart.")
    if all(metrics.mean_interval(judged[name][2]).low <= 0.5 for name in (best, THIS)):
        return "Nothing orders this feedback better than chance; diagnose() may say why."
    what = f"{gain.mean:+.3f} AUC [{gain.low:+.3f}, {gain.high:+.3f}] against {best!r}"
    if gain.low > 0:
        return f"Use this ranker: {what}."
    if gain.high < 0:
        return f"Use {best!r} rather than this ranker: {what}."
    return f"{best!r} will do: this ranker differs by {what}."


class Finding(NamedTuple):
    """One thing that is wrong.

    Attributes
    ----------
    kind : str
        "one kind", "few labels", "no pairs", "swapped", "no signal", "unseen", "too good",
        "surer before" or "share of likes".
    message : str
        What was seen, and what to do.
    """

    kind: str
    message: str


class Seen(NamedTuple):
    """What a model says of feedback, in the direction of its sign; NaN where it lacks it.

    `before` is its AUC on the feedback of `fit`, or NaN.
    """

    name: str
    scores: Float64Array
    before: float


def diagnose(users: Int64Array, liked: BoolArray, models: list[Seen],
             chances: Float64Array | None) -> list[Finding]:
    """All that is found; an empty list if nothing is."""
    likes, every = int(liked.sum()), len(liked)
    if likes in (0, every):
        return [Finding("one kind", f"labels: all {every:,} are "
                        f"{'likes' if likes else 'dislikes'}; nothing can be learned or judged "
                        "without both. Where there are no dislikes, sample what was shown and "
                        "passed over")]
    found = []
    if min(likes, every - likes) < _FEW_LABELS:
        found.append(Finding("few labels", f"labels: {likes:,} likes and {every - likes:,} "
                             f"dislikes; weights of fewer than {_FEW_LABELS} of a kind are chance"))
    found += _pairs(users, liked)
    for model in models:
        found += _of_model(users, liked, model)
    if chances is not None:
        expected, share = float(chances.mean()), likes / every
        if abs(expected - share) > _LARGE_DIFFERENCE:
            found.append(Finding(
                "share of likes", f"labels: {share:.2f} are likes, {expected:.2f} were expected; "
                "if the feedback of fit was sampled to another share, fit with sample_weight= "
                "of the true over the sampled share"))
    return found


def _pairs(users: Int64Array, liked: BoolArray) -> list[Finding]:
    _, numbers = np.unique(users, return_inverse=True)
    likes, every = np.bincount(numbers, liked), np.bincount(numbers)
    both = (likes > 0) & (likes < every)
    share = float(every[both].sum() / every.sum())
    if share >= _LARGE_SHARE:
        return []
    return [Finding("no pairs", f"users: {100 * share:.0f} % of the labels are of users with both "
                    "likes and dislikes; what orders one user's list can't be learned from the "
                    "others")]


def _of_model(users: Int64Array, liked: BoolArray, model: Seen) -> list[Finding]:
    known = ~np.isnan(model.scores)
    found = []
    lacking = 1.0 - float(known.mean())
    if lacking > _LARGE_SHARE:
        found.append(Finding("unseen", f"{model.name}: lacks the item or the user of "
                             f"{100 * lacking:.0f} % of the labels, which count as average; "
                             "train it on more recent feedback, or don't rank what it lacks"))
    if not known.any():
        return found
    auc = metrics.mean_interval(metrics.auc_by_user(users[known], liked[known],
                                                    model.scores[known]), samples=500)
    if np.isnan(auc.mean):
        return found
    what = f"AUC {auc.mean:.3f} [{auc.low:.3f}, {auc.high:.3f}] within users"
    if auc.high < 0.5:
        found.append(Finding("swapped", f"{model.name}: {what}, so it orders the wrong way round; "
                             "are labels, signs or models swapped, or users and items shuffled?"))
    elif auc.low <= 0.5:
        found.append(Finding("no signal", f"{model.name}: {what}, which may be chance; are its "
                             "rows in the order of the ids, and its queries in that of users?"))
    if auc.mean > _TOO_GOOD:
        found.append(Finding("too good", f"{model.name}: {what}; was it trained on these labels?"))
    if model.before - auc.high > _LARGE_DIFFERENCE and auc.high >= 0.5:
        found.append(Finding("surer before", f"{model.name}: {what}, but {model.before:.3f} on the "
                             "feedback of fit; was it trained on that? Keep part of the log back, "
                             "or give the ranker what trains the models"))
    return found
