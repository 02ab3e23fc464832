"""What is wrong with models, labels, or how they go together."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from farann import metrics
from farann._types import BoolArray, Float64Array, Int64Array

_FEW = 50
# Shares of feedback, and differences of chances, that are worth a word.
_LARGE_SHARE, _LARGE_DIFFERENCE = 0.1, 0.05
# No model that hasn't seen them orders labels of people so well.
_TOO_GOOD = 0.97


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
    if min(likes, every - likes) < _FEW:
        found.append(Finding("few labels", f"labels: {likes:,} likes and {every - likes:,} "
                             f"dislikes; weights of fewer than {_FEW} of a kind are chance"))
    found += _pairs(users, liked)
    for model in models:
        found += _of_model(users, liked, model)
    if chances is not None:
        expected, share = float(chances.mean()), likes / every
        if abs(expected - share) > _LARGE_DIFFERENCE:
            found.append(Finding(
                "share of likes", f"labels: {share:.2f} are likes, {expected:.2f} were expected; "
                "if the feedback of fit was sampled to another share, fit with prior= of the "
                "true one"))
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
                             "or use cross_fit"))
    return found
