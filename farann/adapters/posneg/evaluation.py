"""Evaluation of rankings on held-out feedback, and warnings about the data."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from farann import metrics
from farann._types import BoolArray, Float64Array, Int64Array
from farann.metrics import Interval, Reliability

THIS, ORACLE = "this ranker", "oracle"
_FEW_USERS = 10  # with likes and dislikes; of fewer no interval says anything
_FEW_LABELS = 50  # of a kind; weights of fewer are chance
# Share of the feedback, and difference of chances or AUC, above which it is worth a word.
_LARGE_SHARE, _LARGE_DIFFERENCE = 0.1, 0.05
_TOO_GOOD = 0.97  # AUC that no model reaches on people's labels that it wasn't trained on


class Row(NamedTuple):
    """One way of ranking, judged.

    Attributes
    ----------
    name : str
    ndcg, disliked, auc : Interval
        Means over users with 95 % intervals: of those with more than k items nDCG@k and the share
        of dislikes in the first k, and the area under the ROC curve.
    """

    name: str
    ndcg: Interval
    disliked: Interval
    auc: Interval


class Evaluation(NamedTuple):
    """A table of ways of ranking, and which to use.

    Attributes
    ----------
    rows : tuple of Row
    k : int
    advice : str
        One sentence.
    calibration_error : float
        Expected calibration error of the ranker's chances, by 10 bins.
    reliability : Reliability
        Predicted and observed chances of the ranker by bin, to plot.
    """

    rows: tuple[Row, ...]
    k: int
    advice: str
    calibration_error: float
    reliability: Reliability

    def __str__(self) -> str:
        """A table in Markdown, and the advice."""
        lines = [f"| | nDCG@{self.k} | disliked@{self.k} | AUC |", "|---|---:|---:|---:|"]
        lines += [f"| {row.name} | {' | '.join(map(_shown, row[1:]))} |" for row in self.rows]
        return "\n".join([*lines, "", f"Calibration error: {self.calibration_error:.3f}", "",
                          self.advice])

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON can hold it; None stands for undefined values."""
        rows = [{key: value if isinstance(value, str) else
                 None if np.isnan(value.mean) else value._asdict()
                 for key, value in row._asdict().items()} for row in self.rows]
        return {**self._asdict(), "rows": rows, "reliability": {
            key: value.tolist() for key, value in self.reliability._asdict().items()}}


def _shown(value: Interval) -> str:
    return ("–" if np.isnan(value.mean)
            else f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]")


def evaluate(users: Int64Array, liked: BoolArray, ways: dict[str, Float64Array],
             chances: Float64Array, k: int) -> Evaluation:
    """Judge scores of feedback, (n,) each, of which `THIS` has these chances of a like."""
    users = np.unique(users, return_inverse=True)[1]
    judged = {name: _by_user(users, liked, scores, k)
              for name, scores in {**ways, ORACLE: liked.astype(np.float64)}.items()}
    rows = tuple(Row(name, *map(metrics.mean_interval, values)) for name, values in judged.items())
    return Evaluation(rows, k, _advice({row.name: row.auc for row in rows},
                                       {name: values[2] for name, values in judged.items()}),
                      metrics.expected_calibration_error(chances, liked),
                      metrics.reliability(chances, liked))


def _by_user(users: Int64Array, liked: BoolArray, scores: Float64Array, k: int
             ) -> tuple[Float64Array, Float64Array, Float64Array]:
    """nDCG@k, disliked@k and AUC of each user's own feedback; NaN where that isn't defined."""
    # Ties go by the place in the feedback, which has nothing to do with labels.
    order = np.lexsort((np.arange(len(users)), -scores, users))
    counts = np.bincount(users)
    rank = np.arange(len(users)) - (np.cumsum(counts) - counts)[users[order]]
    ids = np.full((len(counts), int(counts.max())), -1, np.int64)
    ids[users[order], rank] = order
    of_users = [np.sort(row[row >= 0]) for row in ids]
    good, bad = ([rows[which[rows]] for rows in of_users] for which in (liked, ~liked))
    many = counts > k
    return (np.where(many, metrics.ndcg_at_k(ids, good, k), np.nan),
            np.where(many, metrics.disliked_at_k(ids, bad, k), np.nan),
            metrics.auc_by_user(users, liked, scores))


def _advice(means: dict[str, Interval], auc: dict[str, Float64Array]) -> str:
    """The ranking to use: by the area under the ROC curve, on the same users."""
    others = {name: value.mean for name, value in means.items() if name not in (THIS, ORACLE)}
    best = max(others, key=lambda name: np.nan_to_num(others[name], nan=0.5))
    gain = metrics.mean_interval(auc[THIS] - auc[best])
    both = int((~np.isnan(auc[THIS])).sum())
    if not both:
        return "No user has both likes and dislikes here, so nothing can be compared."
    if both < _FEW_USERS:
        return (f"Only {both} users have both likes and dislikes here, of {_FEW_USERS} that it "
                "takes to tell ways apart.")
    if max(means[best].low, means[THIS].low) <= 0.5:
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
        "one kind", "few labels", "swapped", "no signal", "unseen", "too good", "surer before" or
        "share of likes".
    message : str
        What was seen, and what to do.
    """

    kind: str
    message: str


def diagnose(users: Int64Array, liked: BoolArray, said: dict[str, Float64Array],
             before: dict[str, float], chances: Float64Array | None) -> list[Finding]:
    """Find faults of models and data, by each model's scores times its sign (NaN: no score), its
    AUC in the feedback of `fit`, and the ranker's probabilities."""
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
    for name, scores in said.items():
        found += _of_model(users, liked, name, scores, before.get(name, float("nan")))
    if chances is not None and abs(chances.mean() - likes / every) > _LARGE_DIFFERENCE:
        found.append(Finding(
            "share of likes", f"labels: {likes / every:.2f} are likes, {chances.mean():.2f} were "
            "expected; if the feedback of fit was sampled to another share, fit with "
            "sample_weight= of the true over the sampled share"))
    return found


def _of_model(users: Int64Array, liked: BoolArray, name: str, scores: Float64Array,
              before: float) -> list[Finding]:
    known, found = ~np.isnan(scores), []
    if known.mean() < 1.0 - _LARGE_SHARE:
        found.append(Finding("unseen", f"{name}: lacks the item or the user of "
                             f"{100 * (1.0 - known.mean()):.0f} % of the labels, which count as "
                             "average; train it on more recent feedback, or don't rank what it "
                             "lacks"))
    if not known.any():
        return found
    auc = metrics.mean_interval(metrics.auc_by_user(users[known], liked[known], scores[known]),
                                samples=500)
    what = f"{name}: AUC {auc.mean:.3f} [{auc.low:.3f}, {auc.high:.3f}] within users"
    if auc.high < 0.5:
        found.append(Finding("swapped", f"{what}, so it orders the wrong way round; are labels, "
                             "signs or models swapped, or users and items shuffled?"))
    elif auc.low <= 0.5:
        found.append(Finding("no signal", f"{what}, which may be chance; are its rows in the order "
                             "of ids, and its users in that of user_ids?"))
    if auc.mean > _TOO_GOOD:
        found.append(Finding("too good", f"{what}; was it trained on these labels?"))
    if before - auc.high > _LARGE_DIFFERENCE and auc.high >= 0.5:
        found.append(Finding("surer before", f"{what}, but {before:.3f} on the feedback of fit; "
                             "was it trained on that? Keep part of the log back, or give the "
                             "ranker what trains the models"))
    return found
