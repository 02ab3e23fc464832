"""What a ranker learns: logistic regressions in which each user has an intercept of their own."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from farann import metrics
from farann._types import BoolArray, Float64Array, Int64Array
from farann.adapters.posneg.models import Models

# Labels of the average kind that each item's record is shrunk by.
_RECORD_PRIOR = 4.0
# Parts of the feedback by which it is found out whether the items' record helps.
_FOLDS = 5
# Unseen pairs that exposure is learned from, at most: above that seconds go, not errors.
_MOST_UNSEEN = 1 << 20
# A sign is refused if the 95 % interval of the model's AUC in its direction ends below this.
_SWAPPED = 0.48


class Feedback(NamedTuple):
    """Labels in numbers of users and items, (n,) each.

    Attributes
    ----------
    users, items : int64
    liked : bool
    weight : float64
        With the mean 1.
    group : int64
        Numbers of users, or of users in each fold: scores of one group come from the same models.
    """

    users: Int64Array
    items: Int64Array
    liked: BoolArray
    weight: Float64Array
    group: Int64Array


class Pairs(NamedTuple):
    """Users and items they were not shown, and what models say of them."""

    users: Int64Array
    items: Int64Array
    similar: Float64Array


class ModelReport(NamedTuple):
    """What `fit` made of one model.

    Attributes
    ----------
    name : str
    sign : 1, -1 or "both"
    weight : float
        Log-odds of a like per unit of the model's score, beside the other models; it may have
        either sign where models overlap.
    share : float
        The standard deviation of what the model adds to the log-odds, over the sum of those of
        all models and of the items' record.
    auc : float
        Mean over users of the area under the ROC curve of this model alone, in the direction of
        its sign.
    """

    name: str
    sign: int | str
    weight: float
    share: float
    auc: float


class Exposure(NamedTuple):
    """Log-odds of being shown: weights of the models (n_models,), and what each item adds."""

    weights: Float64Array
    items: Float64Array
    preference: float


class Learned(NamedTuple):
    """All that `fit` finds.

    Attributes
    ----------
    centers : float64 (n_models,)
        Mean score of each model, for what a model lacks.
    weights : float64 (n_models,)
    intercept : float
        Log-odds of a like where all scores are their means.
    record : float64 (n_items,)
        The items' own log-odds of a like, shrunk.
    items : float64 (n_items,)
        What each item adds to the log-odds of a like: its record times a weight, or 0.
    users : float64 (n_users,)
        What each user adds.
    exposure : Exposure or None
    reports : tuple of ModelReport
    """

    centers: Float64Array
    weights: Float64Array
    intercept: float
    record: Float64Array
    items: Float64Array
    users: Float64Array
    exposure: Exposure | None
    reports: tuple[ModelReport, ...]


class Solution(NamedTuple):
    """A regression: coefficients (n_columns,), the constant, and the users' intercepts."""

    coefficients: Float64Array
    constant: float
    users: Float64Array

    def log_odds(self, columns: Float64Array, users: Int64Array) -> Float64Array:
        """Log-odds of rows, (n,)."""
        found: Float64Array = columns @ self.coefficients + self.constant + self.users[users]
        return found


def regression(columns: Float64Array, target: BoolArray, weight: Float64Array, users: Int64Array,
               n_users: int) -> Solution:
    """Fit log-odds of the target by columns and an intercept for each user.

    The prior of the intercepts is normal with variance 1, as many users have little feedback, and
    so is that of the coefficients of columns scaled to standard deviation 1.

    Parameters
    ----------
    columns : float64 (n, n_columns)
    target : bool (n,)
    weight : float64 (n,)
    users : int64 (n,)
    n_users : int

    Returns
    -------
    Solution
    """
    from scipy.sparse import csr_matrix, hstack
    from sklearn.linear_model import LogisticRegression

    mean = np.average(columns, axis=0, weights=weight)
    spread = np.sqrt(np.average((columns - mean) ** 2, axis=0, weights=weight))
    used = spread > 1e-12 * np.abs(columns).max(axis=0, initial=0.0)
    scaled = (columns[:, used] - mean[used]) / spread[used]
    by_user = csr_matrix((np.ones(len(users)), (np.arange(len(users)), users)),
                         (len(users), n_users))
    model = LogisticRegression(C=1.0, tol=1e-6, max_iter=1000)
    model.fit(hstack([csr_matrix(scaled), by_user]).tocsr(), target, sample_weight=weight)
    found, coefficients = model.coef_[0], np.zeros(len(mean))
    coefficients[used] = found[: used.sum()] / spread[used]
    return Solution(coefficients, float(model.intercept_[0] - mean @ coefficients),
                    np.asarray(found[used.sum() :]))


def learn(models: Models, feedback: Feedback, similar: Float64Array, unseen: Pairs | None,
          preference: float) -> Learned:
    """Learn weights from feedback that the models which scored it were not trained on.

    Parameters
    ----------
    models : Models
    feedback : Feedback
    similar : float64 (n, n_models)
        Scores; NaN where a model lacks the item or the user.
    unseen : Pairs or None
        What exposure is learned from.
    preference : float
        How much a like counts beside exposure.

    Returns
    -------
    Learned

    Raises
    ------
    ValueError
        For labels of one kind only, and signs that turn out swapped.
    """
    users, items, liked, weight, _ = feedback
    if liked.all() or not liked.any():
        raise ValueError("labels: expected likes and dislikes to learn from, got only "
                         f"{'likes' if liked.all() else 'dislikes'} in {len(liked)} rows")
    size, n_users, m = len(models.ids), len(models.user_ids), len(models.names)
    centers = _means(similar, weight)
    record, left_out = item_record(items, size, liked, weight)
    scores = np.where(np.isnan(similar), centers, similar) - centers
    columns = np.column_stack([scores, left_out])
    if not _helps(columns, feedback, n_users):
        columns = scores
    found = regression(columns, liked, weight, users, n_users)
    weights, of_record = found.coefficients[:m], float(found.coefficients[m:].sum())
    spread = np.abs(found.coefficients) * columns.std(axis=0)
    reports = tuple(
        ModelReport(name, sign, float(weights[i]), float(spread[i] / max(spread.sum(), 1e-12)),
                    _checked_auc(name, sign, feedback, similar[:, i], float(weights[i])))
        for i, (name, sign) in enumerate(zip(models.names, models.signs, strict=True)))
    exposure = None
    if unseen is not None and len(unseen.items):
        exposure = _exposure(feedback, scores, unseen._replace(similar=np.where(
            np.isnan(unseen.similar), centers, unseen.similar) - centers), size, n_users,
            preference)
    return Learned(centers, weights, found.constant, record, of_record * record, found.users,
                   exposure, reports)


def _means(similar: Float64Array, weight: Float64Array) -> Float64Array:
    """Means of the columns where they are known; 0 where nothing is."""
    known = ~np.isnan(similar)
    total = (np.where(known, similar, 0.0) * weight[:, np.newaxis]).sum(axis=0)
    every: Float64Array = (known * weight[:, np.newaxis]).sum(axis=0)
    return np.where(every > 0, total / np.where(every > 0, every, 1.0), 0.0)


def item_record(items: Int64Array, size: int, liked: BoolArray, weight: Float64Array
                ) -> tuple[Float64Array, Float64Array]:
    """Each item's own log-odds of a like, shrunk towards the mean, which is zero.

    Parameters
    ----------
    items : int64 (n,)
    size : int
    liked, weight : (n,)

    Returns
    -------
    record : float64 (size,)
    left_out : float64 (n,)
        For each label that of its item without the label itself, to learn from.
    """
    mean = float(np.average(liked, weights=weight))
    likes = np.bincount(items, weight * liked, size)
    every = np.bincount(items, weight, size)

    def odds(liked: Float64Array, shown: Float64Array) -> Float64Array:
        # Sums without the label itself may fall below zero by a rounding error.
        liked, disliked = np.maximum(liked, 0.0), np.maximum(shown - liked, 0.0)
        found: Float64Array = np.log((liked + _RECORD_PRIOR * mean)
                                     / (disliked + _RECORD_PRIOR * (1.0 - mean)))
        return found - np.log(mean / (1.0 - mean))

    return odds(likes, every), odds(likes[items] - weight * liked, every[items] - weight)


def _helps(columns: Float64Array, feedback: Feedback, n_users: int) -> bool:
    """Whether the last column lowers the log-loss of labels that nothing was learned from."""
    users, _, liked, weight, _ = feedback
    fold = np.random.default_rng(0).permutation(len(users)) % _FOLDS
    total = 0.0
    for one in range(_FOLDS):
        fit, held = fold != one, fold == one
        if not held.any() or liked[fit].all() or not liked[fit].any():
            return False
        for sign, some in ((1.0, columns[:, :-1]), (-1.0, columns)):
            found = regression(some[fit], liked[fit], weight[fit], users[fit], n_users)
            said = found.log_odds(some[held], users[held])
            total += sign * float(weight[held] @ (np.logaddexp(0.0, said) - liked[held] * said))
    return total > 0.0


def _checked_auc(name: str, sign: int | str, feedback: Feedback, similar: Float64Array,
                 weight: float) -> float:
    """AUC of a model in the direction of its sign, which must not be swapped."""
    direction = -1.0 if sign == -1 else 1.0
    known = ~np.isnan(similar)
    if not known.any():
        return float("nan")
    auc = metrics.mean_interval(metrics.auc_by_user(
        feedback.group[known], feedback.liked[known], direction * similar[known]), samples=500)
    # A model that says the opposite by itself may be right beside others: models of clicks and
    # of passes both grow with how often an item is shown.
    if auc.high < _SWAPPED and direction * weight < 0:
        raise ValueError(
            f"models: {name!r} has sign {sign!r}, but speaks against its sign by itself (AUC "
            f"{auc.mean:.3f} [{auc.low:.3f}, {auc.high:.3f}] within users) and beside the other "
            "models; expected 1 for a model of likes, -1 for one of dislikes, and labels of 1 for "
            "likes: swap what is swapped")
    return float(auc.mean)


def _exposure(feedback: Feedback, scores: Float64Array, unseen: Pairs, size: int, n_users: int,
              preference: float) -> Exposure:
    """What tells shown pairs from unseen ones."""
    times = np.bincount(feedback.items, minlength=size)
    # A shown pair counts its item's other showings, plus one for the logarithm.
    popular = np.log(np.concatenate([times[feedback.items], times[unseen.items] + 1.0]))
    columns = np.column_stack([np.vstack([scores, unseen.similar]), popular])
    shown = np.arange(len(columns)) < len(feedback.items)
    found = regression(columns, shown, np.ones(len(columns)),
                       np.concatenate([feedback.users, unseen.users]), n_users)
    return Exposure(found.coefficients[:-1], found.coefficients[-1] * np.log(times + 1.0),
                    preference)


def unseen_pairs(users: Int64Array, items: Int64Array, size: int, among: tuple[Int64Array,
                 Int64Array], each: int, random: np.random.Generator
                 ) -> tuple[Int64Array, Int64Array]:
    """Draw items for each label that its user wasn't shown.

    Parameters
    ----------
    users, items : int64 (n,)
        Of the labels.
    size : int
        Number of items.
    among : tuple of int64
        Users and items of all pairs that were shown.
    each : int
        Items drawn for each label.
    random : numpy.random.Generator

    Returns
    -------
    users, items : int64 (m,)
    """
    each = min(each, max(1, _MOST_UNSEEN // max(1, len(users)))) if each else 0
    who = np.repeat(users, each)
    what = random.integers(0, size, len(who))
    if len(who) > _MOST_UNSEEN:
        some = random.choice(len(who), _MOST_UNSEEN, replace=False)
        who, what = who[some], what[some]
    new = ~np.isin(who * size + what, among[0] * size + among[1])
    return who[new], what[new]
