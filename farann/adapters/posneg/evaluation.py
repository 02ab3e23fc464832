"""Evaluation of rankings on held-out feedback, and warnings about the data."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from farann import metrics
from farann._types import BoolArray, Float32Array, Float64Array, Int64Array
from farann.adapters.posneg.regression import THIS
from farann.metrics import Interval, Reliability

_FEW_USERS = 10  # with likes and dislikes; of fewer no interval says anything
_FEW_LABELS = 50  # of a kind; weights of fewer are chance
# Share of the feedback, and difference of chances or AUC, above which it is worth a word.
_LARGE_SHARE, _LARGE_DIFFERENCE = 0.1, 0.05
_TOO_GOOD = 0.97  # AUC that no model reaches on people's labels that it wasn't trained on


class Row(NamedTuple):
    """One way of ranking, judged; means over users with 95 % intervals.

    Attributes
    ----------
    name : str
    ndcg, disliked : Interval
        nDCG@k, and the share of dislikes in the first k, of all items but those that the user
        rated before, as `rank` lists them.
    auc : Interval
        Area under the ROC curve among each user's own feedback: of items that were shown.
    """

    name: str
    ndcg: Interval
    disliked: Interval
    auc: Interval


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


class Evaluation(NamedTuple):
    """A table of ways of ranking, which to use, and what is wrong.

    Attributes
    ----------
    rows : tuple of Row
    k : int
    advice : str
        A sentence for lists of all items and one for items that are shown.
    best : tuple of str
        The advised ways for both: ``ranker.by(*best)`` is a ranker that follows the advice.
    left_out : int
        Labels about users or items that no model knows.
    findings : tuple of Finding
        Faults of models or data.
    calibration_error : float
        Expected calibration error of the ranker's chances, by 10 bins.
    reliability : Reliability
        Predicted and observed chances of the ranker by bin, to plot.
    """

    rows: tuple[Row, ...]
    k: int
    advice: str
    best: tuple[str, str]
    left_out: int
    findings: tuple[Finding, ...]
    calibration_error: float
    reliability: Reliability

    def __str__(self) -> str:
        """A table in Markdown, the advice, and what is wrong."""
        lines = [f"| | all items: nDCG@{self.k} | disliked@{self.k} | shown items: AUC |",
                 "|---|---:|---:|---:|"]
        lines += [f"| {row.name} | {' | '.join(map(_shown, row[1:]))} |" for row in self.rows]
        lines += ["", f"Calibration error: {self.calibration_error:.3f}", "", self.advice]
        if self.left_out:
            lines += ["", f"{self.left_out:,} labels are about users or items that no model knows, "
                      "and left out."]
        return "\n".join([*lines, *(f"\n{each.kind}: {each.message}" for each in self.findings)])

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON can hold it; None stands for undefined values."""
        rows = [{key: value if isinstance(value, str) else
                 None if np.isnan(value.mean) else value._asdict()
                 for key, value in row._asdict().items()} for row in self.rows]
        return {**self._asdict(), "rows": rows, "best": list(self.best),
                "findings": [each._asdict() for each in self.findings], "reliability": {
                    key: value.tolist() for key, value in self.reliability._asdict().items()}}


def _shown(value: Interval) -> str:
    return ("–" if np.isnan(value.mean)
            else f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]")


def evaluate(users: Int64Array, items: Int64Array, liked: BoolArray,
             scores: dict[str, Float64Array], lists: dict[str, Int64Array], chances: Float64Array,
             k: int, left_out: int, findings: list[Finding]) -> Evaluation:
    """Judge ways of ranking by their scores of feedback, (n,), and their lists of all items,
    (n_users, k), for users in ascending order; `THIS` has these chances of a like."""
    person = np.unique(users, return_inverse=True)[1]
    good, bad = (_by_user(person[which], items[which], int(person.max()))
                 for which in (liked, ~liked))
    ndcg = {name: metrics.ndcg_at_k(found, good, k) for name, found in lists.items()}
    auc = {name: metrics.auc_by_user(person, liked, said) for name, said in scores.items()}
    rows = tuple(Row(name, metrics.mean_interval(ndcg[name]), metrics.mean_interval(
        metrics.disliked_at_k(found, bad, k)), metrics.mean_interval(auc[name]))
        for name, found in lists.items())
    ways = [_advice("Among all items", f"nDCG@{k}", ndcg, 0.0),
            _advice("Among shown items", "AUC", auc, 0.5)]
    return Evaluation(rows, k, " ".join(text for text, _ in ways), (ways[0][1], ways[1][1]),
                      left_out, tuple(findings), metrics.expected_calibration_error(chances, liked),
                      metrics.reliability(chances, liked))


def _by_user(person: Int64Array, items: Int64Array, last: int) -> list[Int64Array]:
    order = np.argsort(person, kind="stable")
    return np.split(items[order], np.searchsorted(person[order], np.arange(1, last + 1)))


def _advice(where: str, what: str, values: dict[str, Float64Array], chance: float
            ) -> tuple[str, str]:
    """The way to use, by numbers of the same users."""
    judged = ~np.isnan(values[THIS])
    if judged.sum() < _FEW_USERS:
        return (f"{where}: only {judged.sum()} users have the labels to judge by, of {_FEW_USERS} "
                "that it takes.", THIS)
    others = {name: metrics.mean_interval(each) for name, each in values.items() if name != THIS}
    best = max(others, key=lambda name: others[name].mean)
    if max(others[best].low, metrics.mean_interval(values[THIS]).low) <= chance:
        return f"{where}: nothing orders this feedback better than chance.", THIS
    gain = metrics.mean_interval(values[THIS] - values[best])
    told = f"{gain.mean:+.3f} {what} [{gain.low:+.3f}, {gain.high:+.3f}] against {best!r}."
    if gain.high < 0:
        return f"{where}: use {best!r} rather than this ranker: {told}", best
    return (f"{where}: use this ranker: {told}" if gain.low > 0 else
            f"{where}: {best!r} will do, as this ranker does: {told}"), THIS


def ndcg(scores: Float64Array | Float32Array, seen: BoolArray, liked: BoolArray, k: int
         ) -> Float64Array:
    """nDCG@k of lists of all unseen items for each user; (n_users, n_items) each."""
    values = np.where(seen, -np.inf, scores)
    k = min(k, values.shape[1])
    top = np.argpartition(-values, k - 1, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(values, top, axis=1), axis=1, kind="stable")
    hits = np.take_along_axis(liked, np.take_along_axis(top, order, axis=1), axis=1)
    worth = 1.0 / np.log2(np.arange(2, k + 2))
    ideal = np.append(0.0, np.cumsum(worth))[np.minimum(liked.sum(axis=1), k)]
    return np.where(ideal > 0, hits @ worth / np.where(ideal > 0, ideal, 1.0), np.nan)


def diagnose(users: Int64Array, liked: BoolArray, said: dict[str, Float64Array],
             before: dict[str, float], chances: Float64Array) -> list[Finding]:
    """Find faults of models and data, by each model's scores times its sign (NaN: no score), its
    AUC in the feedback of `fit`, and the ranker's probabilities."""
    likes, every = int(liked.sum()), len(liked)
    if likes in (0, every):
        return [Finding("one kind", f"labels: all {every:,} are "
                        f"{'likes' if likes else 'dislikes'}; nothing can be judged without both")]
    found = []
    if min(likes, every - likes) < _FEW_LABELS:
        found.append(Finding("few labels", f"labels: {likes:,} likes and {every - likes:,} "
                             f"dislikes; what fewer than {_FEW_LABELS} of a kind say is chance"))
    for name, scores in said.items():
        found += _of_model(users, liked, name, scores, before[name])
    if abs(chances.mean() - likes / every) > _LARGE_DIFFERENCE:
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
                             f"{100 * (1.0 - known.mean()):.0f} % of the labels; train it on more "
                             "recent feedback, or don't rank what it lacks"))
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
