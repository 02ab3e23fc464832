"""Evaluation of rankings on held-out feedback, and warnings about the data."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from farann import metrics
from farann._types import BoolArray, Float64Array, Int64Array
from farann.adapters.posneg.learning import FEW_USERS, THIS
from farann.metrics import Interval

_FEW_LABELS = 50  # of a kind; weights of fewer are chance
_LARGE_DIFFERENCE = 0.05  # of chances or AUC, above which it is worth a word
_MOST_SEEN = 0.9  # share of pairs that `fit` had, above which lists miss nearly every like
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
    findings : tuple of str
        Faults of models or data, and what to do.
    calibration_error : float
        Expected calibration error of the ranker's chances, by 10 bins.
    """

    rows: tuple[Row, ...]
    k: int
    advice: str
    best: tuple[str, str]
    left_out: int
    findings: tuple[str, ...]
    calibration_error: float

    def __str__(self) -> str:
        """A table in Markdown, the advice, and what is wrong."""
        lines = [f"| | all items: nDCG@{self.k} | disliked@{self.k} | shown items: AUC |",
                 "|---|---:|---:|---:|"]
        lines += [f"| {row.name} | {' | '.join(map(_shown, row[1:]))} |" for row in self.rows]
        lines += ["", f"Calibration error: {self.calibration_error:.3f}", "", self.advice]
        if self.left_out:
            lines += ["", f"{self.left_out:,} labels are about users or items that no model knows, "
                      "and left out."]
        return "\n".join([*lines, *(f"\n{finding}" for finding in self.findings)])

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON can hold it; None stands for undefined values."""
        return {**self._asdict(), "rows": [
            {key: value if isinstance(value, str) else
             None if np.isnan(value.mean) else value._asdict()
             for key, value in row._asdict().items()} for row in self.rows]}


def _shown(value: Interval) -> str:
    return ("–" if np.isnan(value.mean)
            else f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]")


def evaluate(users: Int64Array, items: Int64Array, liked: BoolArray,
             scores: dict[str, Float64Array], lists: dict[str, Int64Array], chances: Float64Array,
             k: int, left_out: int, before: dict[str, float], seen: float) -> Evaluation:
    """Judge ways of ranking by their scores of feedback, (n,), and their lists of all items,
    (n_users, k), for users in ascending order; `THIS` has these chances of a like, models had
    these AUC in the feedback of `fit`, and it had this share of the pairs."""
    person = np.unique(users, return_inverse=True)[1]
    good, bad = (_by_user(person[which], items[which], int(person.max()))
                 for which in (liked, ~liked))
    ndcg = {name: metrics.ndcg_at_k(ranked, good, k) for name, ranked in lists.items()}
    auc = {name: metrics.auc_by_user(person, liked, said) for name, said in scores.items()}
    rows = tuple(Row(name, metrics.mean_interval(ndcg[name]), metrics.mean_interval(
        metrics.disliked_at_k(ranked, bad, k)), metrics.mean_interval(auc[name]))
        for name, ranked in lists.items())
    enough = (~np.isnan(auc[THIS])).sum() >= FEW_USERS
    ways = [_advice("Among all items", f"nDCG@{k}", ndcg, 0.0),
            _advice("Among shown items", "AUC", auc, 0.5)]
    return Evaluation(rows, k, " ".join(text for text, _ in ways), (ways[0][1], ways[1][1]),
                      left_out,
                      tuple(_faults(rows if enough else (), before, liked, chances, seen)),
                      metrics.expected_calibration_error(chances, liked))


def _by_user(person: Int64Array, items: Int64Array, last: int) -> list[Int64Array]:
    order = np.argsort(person, kind="stable")
    return np.split(items[order], np.searchsorted(person[order], np.arange(1, last + 1)))


def _advice(where: str, what: str, values: dict[str, Float64Array], chance: float
            ) -> tuple[str, str]:
    """The way to use, by numbers of the same users."""
    judged = ~np.isnan(values[THIS])
    if judged.sum() < FEW_USERS:
        return (f"{where}: only {judged.sum()} users have the labels to judge by, of {FEW_USERS} "
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


def _faults(rows: tuple[Row, ...], before: dict[str, float], liked: BoolArray,
            chances: Float64Array, seen: float) -> list[str]:
    """Faults of labels and of models."""
    few, faults = min(liked.sum(), (~liked).sum()), []
    if few < _FEW_LABELS:
        faults.append(f"few labels: {liked.sum():,} likes and {(~liked).sum():,} dislikes; what "
                      f"fewer than {_FEW_LABELS} of a kind say is chance")
    if seen > _MOST_SEEN:
        faults.append(f"{seen:.0%} of the pairs of user and item were in the feedback of fit, and "
                      "lists leave them out; evaluate feedback that fit didn't have")
    for row in rows:
        auc = row.auc
        what = f"{row.name}: AUC {auc.mean:.3f} [{auc.low:.3f}, {auc.high:.3f}] within users"
        if row.name in before and auc.high < 0.5:
            faults.append(f"{what}, so it orders the wrong way round; are labels, signs or models "
                          "swapped, or users and items shuffled?")
        elif row.name in before and before[row.name] - auc.high > _LARGE_DIFFERENCE:
            faults.append(f"{what}, but {before[row.name]:.3f} on the feedback of fit; was it "
                          "trained on that? Keep part of the log back, or give the ranker what "
                          "trains the models")
        elif auc.mean > _TOO_GOOD:
            faults.append(f"{what}; was it trained on these labels?")
    if few and abs(chances.mean() - liked.mean()) > _LARGE_DIFFERENCE:
        faults.append(f"labels: {liked.mean():.2f} are likes, {chances.mean():.2f} were expected; "
                      "if the feedback of fit was sampled to another share, fit with sample_weight="
                      " of the true over the sampled share")
    return faults
