"""The ranker's fit: logistic regressions in which each user has an intercept of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from farann import metrics
from farann._types import BoolArray, Float64Array, Int64Array
from farann.adapters.posneg.models import Models, Way

EXPOSURE = 0.75  # log-odds of a like count so much beside those of being shown, by default
_UNSEEN = 4  # items drawn for each label that its user wasn't shown
_RECORD_PRIOR = 4.0  # labels of the average kind that each item's record is shrunk by
# Unseen pairs of a fold that exposure is learned from, at most: 4 for each of 65,536 labels.
_MOST_UNSEEN = 1 << 18
_MOST_STEPS = 50  # of a regression; 5 to 10 are usual
_CONVERGED = 1e-14  # expected decrease of the mean loss at which a regression ends
# A sign is refused if the 95 % interval of the model's AUC in its direction ends below this.
_SWAPPED = 0.48
THIS, AVERAGE, RECORD = "this ranker", "plain average", "items' record"


class Feedback(NamedTuple):
    """Held-out labels by numbers of users and items, with features of the pairs; (n,) each."""

    users: Int64Array
    items: Int64Array
    liked: BoolArray
    weight: Float64Array
    group: Int64Array  # users, or users in each fold: scores of one group are of the same models
    similar: Float64Array  # (n, n_models), NaN where a model lacks the item or the user
    record: Float64Array  # of the item, without the labels of this fold


class Pairs(NamedTuple):
    """Users and items that they were not shown, with the models' scores of them."""

    users: Int64Array
    items: Int64Array
    similar: Float64Array


class Fold(NamedTuple):
    """Models of a part of the feedback, and what they say of what was held out."""

    models: Models
    record: Float64Array  # (n_items,)
    popular: Float64Array  # (n_items,)
    there: BoolArray  # (n_items,): what models have; all else in the log was held out
    known: Int64Array  # rows of the log that models were trained on
    held: Int64Array  # rows that were held out
    feedback: Feedback
    unseen: Pairs

    def at_most(self, n: int) -> Fold:
        """The same with less to learn from: a stride of the labels and of the unseen pairs."""
        some, others = (slice(None, None, max(1, -(-len(part.users) // most))) for part, most in (
            (self.feedback, n), (self.unseen, _UNSEEN * n)))
        feedback: Any = (each[some] for each in self.feedback)
        unseen: Any = (each[others] for each in self.unseen)
        return self._replace(feedback=Feedback(*feedback), unseen=Pairs(*unseen))


class ModelReport(NamedTuple):
    """The fit of one model.

    Attributes
    ----------
    name : str
    sign : 1, -1 or "both"
    weight : float
        Log-odds of a like per unit of the model's score, whose spread among a user's items is 1;
        0 or more, or less for sign -1. 0: the model says nothing that others don't.
    share : float
        Standard deviation of what the model adds to the log-odds, over the sum of all such.
    auc : float
        Mean over users of the area under the ROC curve of the model alone, in its direction.
    """

    name: str
    sign: int | str
    weight: float
    share: float
    auc: float


class Exposure(NamedTuple):
    """Log-odds of being shown: weights of models, and of popularity."""

    weights: Float64Array
    popularity: float


class Learned(NamedTuple):
    """The result of `learn`."""

    centers: Float64Array  # (n_models,): mean scores, used where a model has none
    weights: Float64Array  # (n_models,)
    trust: float  # weight of the items' record
    intercept: float  # log-odds of a like where all scores are their means
    record: Float64Array  # (n_items,): the items' own log-odds of a like, shrunk
    popular: Float64Array  # (n_items,): logarithms of how often they were shown, plus one
    users: Float64Array  # (n_users,): terms of users
    exposure: Exposure
    reports: tuple[ModelReport, ...]
    order: tuple[str, str] = (THIS, THIS)  # the way that ranks all items, and shown ones

    def log_odds(self, similar: Float64Array, users: Int64Array, items: Int64Array
                 ) -> Float64Array:
        """Log-odds of a like of pairs, (n,), by the models' scores, NaN where there is none."""
        scores = np.where(np.isnan(similar), 0.0, similar - self.centers)
        found: Float64Array = scores @ self.weights + self.trust * self.record[items]
        return found + self.users[users] + self.intercept

    def way(self, models: Models, name: str, among: str, exposure: float | None = None) -> Way:
        """A way of ranking as weights: this one, a model alone, the average, or the record."""
        nothing = np.zeros(len(self.weights))
        if name == RECORD:
            return Way(nothing, nothing, (1.0, 0.0), (1.0, 0.0))
        much, shows = (1.0, Exposure(nothing, 0.0)) if among == "shown" else (
            EXPOSURE if exposure is None else exposure, self.exposure)
        stranger = (much, shows.popularity)
        if name in models.names:
            weights = models.directions * (np.array(models.names) == name)
            return Way(weights, np.abs(weights) * models.bounds(), (0.0, 0.0), stranger)
        if name == AVERAGE:
            weights = models.directions * models.spreads / len(models.names)
            return Way(weights, -weights * self.centers, (0.0, 0.0), stranger)
        weights = much * self.weights + shows.weights
        return Way(weights, -weights * self.centers, (much * self.trust, stranger[1]), stranger)


class Solution(NamedTuple):
    """A regression: coefficients (n_columns,), the constant, and the users' intercepts."""

    coefficients: Float64Array
    constant: float
    users: Float64Array


def regression(columns: Float64Array, target: BoolArray, weight: Float64Array, users: Int64Array,
               n_users: int) -> Solution:
    """Fit log-odds of the target (n,) by columns (n, m) and an intercept for each user.

    The prior of the intercepts is normal with variance 1, as many users have little feedback, and
    so is that of the coefficients of columns scaled to standard deviation 1. Newton's method; the
    users' block of the Hessian is diagonal, so it is eliminated.
    """
    from scipy.special import expit

    mean = np.average(columns, axis=0, weights=weight)
    spread = np.sqrt(np.average((columns - mean) ** 2, axis=0, weights=weight))
    # Constant columns become zeros, whose coefficients stay 0.
    spread[spread <= 1e-12 * np.abs(columns).max(axis=0, initial=0.0) + 1e-15] = np.inf
    scaled = np.column_stack([(columns - mean) / spread, np.ones(len(columns))])
    prior = np.append(np.ones(len(mean)), 0.0)  # none for the constant

    def loss(found: Float64Array, own: Float64Array) -> float:
        odds = scaled @ found + own[users]
        return float(weight @ (np.logaddexp(0.0, odds) - target * odds)
                     + (prior @ found**2 + own @ own) / 2)

    found, own = np.zeros(len(prior)), np.zeros(n_users)
    before = loss(found, own)
    for _ in range(_MOST_STEPS):
        chance = expit(scaled @ found + own[users])
        slack, bend = weight * (chance - target), weight * chance * (1.0 - chance)
        slope = scaled.T @ slack + prior * found
        of_users = np.bincount(users, slack, n_users) + own
        curve = np.bincount(users, bend, n_users) + 1.0
        mixed = np.stack([np.bincount(users, bend * column, n_users) for column in scaled.T])
        whole = (scaled.T * bend) @ scaled + np.diag(prior + 1e-9) - mixed / curve @ mixed.T
        step = np.linalg.solve(whole, slope - mixed @ (of_users / curve))
        user_step, size = (of_users - step @ mixed) / curve, 1.0
        # Rounding hides the last decreases of the loss.
        while (after := loss(found - size * step, own - size * user_step)) > before + abs(
                1e-12 * before) and size > 1e-6:
            size /= 2
        found, own, before = found - size * step, own - size * user_step, after
        if slope @ step + of_users @ user_step < _CONVERGED * len(target):
            break
    coefficients = found[:-1] / spread
    return Solution(coefficients, float(found[-1] - mean @ coefficients), own)


def learn(models: Models, folds: Sequence[Fold], record: Float64Array, popular: Float64Array
          ) -> Learned:
    """Learn weights of 0 or more, in the direction of signs, from what folds held out.

    The record and popularity (n_items,) are of all labels.
    """
    feedback = Feedback(*map(np.concatenate, zip(*(fold.feedback for fold in folds), strict=True)))
    unseen = Pairs(*map(np.concatenate, zip(*(fold.unseen for fold in folds), strict=True)))
    liked, n_users, m = feedback.liked, len(models.user_ids), len(models.names)
    weight = feedback.weight / max(float(feedback.weight.mean()), 1e-300)
    centers = np.ma.filled(np.ma.average(np.ma.masked_invalid(feedback.similar), axis=0,
                                         weights=weight), 0.0)
    columns = np.column_stack([models.directions * np.nan_to_num(feedback.similar - centers),
                               feedback.record])
    weights, on = np.zeros(m + 1), np.ones(m + 1, np.bool_)
    while True:  # what weighs less than 0 leaves, until nothing does
        found = regression(columns[:, on], liked, weight, feedback.users, n_users)
        if (found.coefficients >= 0).all():
            break
        on[np.flatnonzero(on)[found.coefficients < 0]] = False
    weights[on] = found.coefficients
    share = weights * columns.std(axis=0)
    return Learned(
        centers, models.directions * weights[:m], float(weights[m]), found.constant, record,
        popular, found.users, _exposure(folds, feedback, unseen, centers, n_users),
        tuple(map(ModelReport, models.names, models.signs,
                  (models.directions * weights[:m] + 0.0).tolist(),
                  (share[:m] / max(share.sum(), 1e-12)).tolist(), [float("nan")] * m)))


def judged_alone(models: Models, folds: Sequence[Fold], learned: Learned, *, check_signs: bool
                 ) -> Learned:
    """Add the AUC of each model alone. Raises ValueError for signs that turn out swapped."""
    reports = []
    for i, report in enumerate(learned.reports):
        group, liked, scores = map(np.concatenate, zip(*(
            (fold.feedback.group, fold.feedback.liked, fold.feedback.similar[:, i])
            for fold in folds), strict=True))
        known = ~np.isnan(scores)
        mean, low, high = metrics.mean_interval(metrics.auc_by_user(
            group[known], liked[known], models.directions[i] * scores[known])
            if known.any() else [], samples=500)
        # A model alone may rank the other way: scores of clicks and of passes grow with exposure.
        if check_signs and high < _SWAPPED and not report.weight:
            raise ValueError(
                f"models: {report.name!r} has sign {report.sign!r}, but speaks against its "
                f"sign by itself (AUC {mean:.3f} [{low:.3f}, {high:.3f}] within users) and beside "
                "the other models; expected 1 for a model of likes, -1 for one of dislikes, and "
                "labels of 1 for likes: swap what is swapped")
        reports.append(report._replace(auc=mean))
    return learned._replace(reports=tuple(reports))


def item_record(items: Int64Array, size: int, liked: BoolArray, weight: Float64Array
                ) -> Float64Array:
    """Each item's own log-odds of a like, (size,), shrunk towards the mean, which is zero."""
    mean = float(np.clip(np.average(liked, weights=weight) if weight.any() else 0.5, 1e-9,
                         1.0 - 1e-9))
    likes, dislikes = (np.bincount(items, weight * which, size) for which in (liked, ~liked))
    odds: Float64Array = np.log((likes / mean + _RECORD_PRIOR)
                                / (dislikes / (1.0 - mean) + _RECORD_PRIOR))
    return odds


def popularity(items: Int64Array, size: int) -> Float64Array:
    """Logarithm of how often each item was shown, plus one; (size,)."""
    logarithms: Float64Array = np.log(np.bincount(items, minlength=size) + 1.0)
    return logarithms


def _exposure(folds: Sequence[Fold], feedback: Feedback, unseen: Pairs, centers: Float64Array,
              n_users: int) -> Exposure:
    """A classifier of shown against unseen pairs; it says nothing if everybody saw everything.

    Of items that a fold lacks it would learn that they were held out, and so shown.
    """
    popular, there = (np.concatenate([
        *(of_items[fold.feedback.items] for of_items, fold in zip(each, folds, strict=True)),
        *(of_items[fold.unseen.items] for of_items, fold in zip(each, folds, strict=True))])
        for each in ([fold.popular for fold in folds], [fold.there for fold in folds]))
    shown = np.arange(len(there)) < len(feedback.items)
    if shown[there].all():
        return Exposure(np.zeros(len(centers)), 0.0)
    columns = np.column_stack([
        np.nan_to_num(np.vstack([feedback.similar, unseen.similar]) - centers), popular])
    users = np.concatenate([feedback.users, unseen.users])
    found = regression(columns[there], shown[there], np.ones(int(there.sum())), users[there],
                       n_users)
    return Exposure(found.coefficients[:-1], float(found.coefficients[-1]))


def unseen_pairs(users: Int64Array, shown: Int64Array, size: int, random: np.random.Generator
                 ) -> tuple[Int64Array, Int64Array]:
    """Draw items for each label that weren't shown to its user; `shown` is user * size + item,
    ascending."""
    who = np.repeat(users, max(1, min(_UNSEEN, _MOST_UNSEEN // len(users))))
    if len(who) > _MOST_UNSEEN:
        who = random.choice(who, _MOST_UNSEEN, replace=False)
    what = random.integers(0, size, len(who))
    pairs = who * size + what
    at = np.minimum(np.searchsorted(shown, pairs), len(shown) - 1)
    new = shown[at] != pairs
    return who[new], what[new]
