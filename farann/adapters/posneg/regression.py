"""The ranker's fit: logistic regressions in which each user has an intercept of their own."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from farann import metrics
from farann._types import BoolArray, Float64Array, Int64Array
from farann.adapters.posneg.models import Models

_RECORD_PRIOR = 4.0  # labels of the average kind that each item's record is shrunk by
# Unseen pairs that exposure is learned from, at most: above that seconds go, not errors.
_MOST_UNSEEN = 1 << 20
# AUC by which fewer columns must be better to be preferred: halves of a log differ by that.
_NOISE = 0.0015
_MOST_STEPS = 100  # of a regression; 5 to 16 are usual
_CONVERGED = 1e-10  # largest slope of the mean loss at which it ends: users are many
# A sign is refused if the 95 % interval of the model's AUC in its direction ends below this.
_SWAPPED = 0.48


class Feedback(NamedTuple):
    """Held-out labels by numbers of users and items, with features of the pairs; (n,) each."""

    users: Int64Array
    items: Int64Array
    liked: BoolArray
    weight: Float64Array  # with the mean 1
    group: Int64Array  # users, or users in each fold: scores of one group are of the same models
    similar: Float64Array  # (n, n_models), NaN where a model lacks the item or the user
    record: Float64Array  # of the item, without the labels of this fold
    lengths: Float64Array  # (n, n_models): logarithms; long vectors are of items known well


class Pairs(NamedTuple):
    """Users and items that they were not shown, with the models' scores of them."""

    users: Int64Array
    items: Int64Array
    similar: Float64Array


class ModelReport(NamedTuple):
    """The fit of one model.

    Attributes
    ----------
    name : str
    sign : 1, -1 or "both"
    weight : float
        Log-odds of a like per unit of the model's score; of either sign where models overlap.
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
    """Log-odds of being shown: weights of models, terms of items, and the weight of a like."""

    weights: Float64Array
    items: Float64Array
    preference: float


class Learned(NamedTuple):
    """The result of `fit`."""

    centers: Float64Array  # (n_models,): mean scores, used where a model has none
    weights: Float64Array  # (n_models,)
    intercept: float  # log-odds of a like where all scores are their means
    record: Float64Array  # (n_items,): the items' own log-odds of a like, shrunk
    items: Float64Array  # (n_items,): terms of items in log-odds, by their record and lengths
    users: Float64Array  # (n_users,): terms of users
    exposure: Exposure | None
    reports: tuple[ModelReport, ...]

    def log_odds(self, similar: Float64Array, users: Int64Array, items: Int64Array
                 ) -> Float64Array:
        """Log-odds of a like of pairs, (n,), by the models' scores, NaN where there is none."""
        scores = np.where(np.isnan(similar), 0.0, similar - self.centers)
        found: Float64Array = scores @ self.weights + self.items[items] + self.users[users]
        return found + self.intercept


class Solution(NamedTuple):
    """A regression: coefficients (n_columns,), the constant, and the users' intercepts."""

    coefficients: Float64Array
    constant: float
    users: Float64Array


def regression(columns: Float64Array, target: BoolArray, weight: Float64Array, users: Int64Array,
               n_users: int) -> Solution:
    """Fit log-odds of the target (n,) by columns (n, m) and an intercept for each user.

    The prior of the intercepts is normal with variance 1, as many users have little feedback, and
    so is that of the coefficients of columns scaled to standard deviation 1.
    """
    from scipy.sparse import csr_matrix, hstack
    from sklearn.linear_model import LogisticRegression

    mean = np.average(columns, axis=0, weights=weight)
    spread = np.sqrt(np.average((columns - mean) ** 2, axis=0, weights=weight))
    # Constant columns become zeros, whose coefficients stay 0.
    spread[spread <= 1e-12 * np.abs(columns).max(axis=0, initial=0.0) + 1e-15] = np.inf
    by_user = csr_matrix((np.ones(len(users)), (np.arange(len(users)), users)),
                         (len(users), n_users))
    # L-BFGS takes a hundred steps and more where there are many users.
    model = LogisticRegression(solver="newton-cg", tol=_CONVERGED, max_iter=_MOST_STEPS)
    model.fit(hstack([csr_matrix((columns - mean) / spread), by_user]).tocsr(), target,
              sample_weight=weight)
    coefficients = model.coef_[0, : len(mean)] / spread
    return Solution(coefficients, float(model.intercept_[0] - mean @ coefficients),
                    model.coef_[0, len(mean) :])


def learn(models: Models, feedback: Feedback, record: Float64Array, unseen: Pairs,
          preference: float) -> Learned:
    """Learn weights from feedback that the models which scored it were not trained on.

    The record (n_items,) is by all labels, and `preference` how much a like counts beside
    exposure, which is learned from unseen pairs. Raises ValueError for labels of one kind only,
    and for signs that turn out swapped.
    """
    liked, weight, n_users = feedback.liked, feedback.weight, len(models.user_ids)
    if liked.all() or not liked.any():
        raise ValueError("labels: expected likes and dislikes to learn from, got only "
                         f"{'likes' if liked.all() else 'dislikes'} in {len(liked)} rows")
    centers = np.ma.filled(np.ma.average(np.ma.masked_invalid(feedback.similar), axis=0,
                                         weights=weight), 0.0)
    scores = np.nan_to_num(feedback.similar - centers)
    about = np.column_stack([feedback.record, feedback.lengths])
    of_items = np.column_stack([record, models.log_lengths()])
    # Features of items cost AUC on some data, so each choice is tried on held-out users.
    nothing, just_record = np.zeros((2, about.shape[1]), np.bool_)
    just_record[0] = True
    choices = [~nothing, just_record, ~just_record, nothing]
    auc = [_auc_elsewhere(np.column_stack([scores, about[:, used]]), feedback, n_users)
           for used in choices]
    best = next(used for used, each in zip(choices, auc, strict=True) if each >= max(auc) - _NOISE)
    columns = np.column_stack([scores, about[:, best]])
    found = regression(columns, liked, weight, feedback.users, n_users)
    m = len(centers)
    items = (of_items[:, best] - about[:, best].mean(axis=0)) @ found.coefficients[m:]
    constant = found.constant + about[:, best].mean(axis=0) @ found.coefficients[m:]
    spread = np.abs(found.coefficients) * columns.std(axis=0)
    reports = tuple(
        ModelReport(name, sign, float(found.coefficients[i]),
                    float(spread[i] / max(spread.sum(), 1e-12)),
                    _checked_auc(name, sign, feedback, i, float(found.coefficients[i])))
        for i, (name, sign) in enumerate(zip(models.names, models.signs, strict=True)))
    exposure = (_exposure(feedback, unseen, centers, len(record), n_users, preference)
                if len(unseen.items) else None)
    return Learned(centers, found.coefficients[:m], float(constant), record, items, found.users,
                   exposure, reports)


def _auc_elsewhere(columns: Float64Array, feedback: Feedback, n_users: int) -> float:
    """Mean AUC within groups by weights that were learned from the other half of the users."""
    half = np.random.default_rng(0).permutation(n_users)[feedback.users] % 2
    said = np.zeros(len(half))
    for part in (0, 1):
        fit, liked = half == part, feedback.liked[half == part]
        if liked.any() and not liked.all():
            found = regression(columns[fit], liked, feedback.weight[fit], feedback.users[fit],
                               n_users)
            said[~fit] = columns[~fit] @ found.coefficients
    auc = metrics.auc_by_user(feedback.group, feedback.liked, said)
    return 0.5 if np.isnan(auc).all() else float(np.nanmean(auc))


def item_record(items: Int64Array, size: int, liked: BoolArray, weight: Float64Array
                ) -> Float64Array:
    """Each item's own log-odds of a like, (size,), shrunk towards the mean, which is zero."""
    mean = float(np.clip(np.average(liked, weights=weight) if weight.any() else 0.5, 1e-9,
                         1.0 - 1e-9))
    likes, dislikes = (np.bincount(items, weight * which, size) for which in (liked, ~liked))
    odds: Float64Array = np.log((likes / mean + _RECORD_PRIOR)
                                / (dislikes / (1.0 - mean) + _RECORD_PRIOR))
    return odds


def _checked_auc(name: str, sign: int | str, feedback: Feedback, m: int, weight: float) -> float:
    """AUC of a model in the direction of its sign, which must not be swapped."""
    similar, direction = feedback.similar[:, m], -1.0 if sign == -1 else 1.0
    known = ~np.isnan(similar)
    if not known.any():
        return float("nan")
    auc = metrics.mean_interval(metrics.auc_by_user(
        feedback.group[known], feedback.liked[known], direction * similar[known]), samples=500)
    # A model alone may rank the other way: scores of clicks and of passes grow with exposure.
    if auc.high < _SWAPPED and direction * weight < 0:
        raise ValueError(
            f"models: {name!r} has sign {sign!r}, but speaks against its sign by itself (AUC "
            f"{auc.mean:.3f} [{auc.low:.3f}, {auc.high:.3f}] within users) and beside the other "
            "models; expected 1 for a model of likes, -1 for one of dislikes, and labels of 1 for "
            "likes: swap what is swapped")
    return float(auc.mean)


def _exposure(feedback: Feedback, unseen: Pairs, centers: Float64Array, size: int, n_users: int,
              preference: float) -> Exposure:
    """A classifier of shown against unseen pairs."""
    times = np.bincount(feedback.items, minlength=size)
    # A shown pair counts its item's other showings, plus one for the logarithm.
    popular = np.log(np.concatenate([times[feedback.items], times[unseen.items] + 1.0]))
    columns = np.column_stack([np.nan_to_num(np.vstack([feedback.similar, unseen.similar])
                                             - centers), popular])
    found = regression(columns, np.arange(len(columns)) < len(feedback.items),
                       np.ones(len(columns)), np.concatenate([feedback.users, unseen.users]),
                       n_users)
    return Exposure(found.coefficients[:-1], found.coefficients[-1] * np.log(times + 1.0),
                    preference)


def unseen_pairs(users: Int64Array, shown: Int64Array, each: int,
                 random: np.random.Generator, size: int) -> tuple[Int64Array, Int64Array]:
    """Draw items for each label that weren't shown to its user: `shown` is user * size + item."""
    who = np.repeat(users, min(each, max(1, _MOST_UNSEEN // len(users)) if each else 0))
    if len(who) > _MOST_UNSEEN:
        who = random.choice(who, _MOST_UNSEEN, replace=False)
    what = random.integers(0, size, len(who))
    new = ~np.isin(who * size + what, shown)
    return who[new], what[new]
