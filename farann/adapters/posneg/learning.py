"""The fit: what models' scores say of likes and of being shown, and which way lists likes best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from farann import metrics
from farann._types import BoolArray, Float32Array, Float64Array, Int64Array
from farann.adapters.posneg.models import Models

EXPOSURE = 0.75  # log-odds of a like count so much beside those of being shown, by default
THIS, RECORD = "this ranker", "items' record"
_UNSEEN = 4  # items drawn for each label that its user wasn't shown
_RECORD_PRIOR = 4.0  # labels of the average kind that each item's record is shrunk by
# Unseen pairs of a fold that exposure is learned from, at most: 4 for each of 65,536 labels.
_MOST_UNSEEN = 1 << 18
_MOST_STEPS = 500  # of a regression; 20 to 60 are usual
FEW_USERS = 10  # with likes and dislikes; of fewer no interval says anything
# A sign is refused if the 95 % interval of the model's AUC in its direction ends below this.
_SWAPPED = 0.48
_NESTED = 1 << 16  # labels that weights are learned from to judge the lists of all items
# Lists of all items that `fit` judges: of 20 items, for 500 users, or more with few items.
_JUDGED, _JUDGED_USERS, _JUDGED_SCORES = 20, 500, 1 << 22
# Standard errors that tell ways of ranking all items apart; and the share of its nDCG that a
# single model gains more than the mixture from the fifth of labels that folds lack: 8 % at most on
# the sets of design.
_SURE, _LATER_GAIN = 2.0, 0.08
_TIE = 1e-5  # weight of the record beside one model, for users whom that model lacks


class Feedback(NamedTuple):
    """Numbers of users and items, whether these were liked, and weights; (n,) each."""

    users: Int64Array
    items: Int64Array
    liked: BoolArray
    weight: Float64Array

    def take(self, rows: Int64Array) -> Feedback:
        """Some of it."""
        return Feedback(self.users[rows], self.items[rows], self.liked[rows], self.weight[rows])


class Pairs(NamedTuple):
    """Feedback, with whether models have the items, and what they say: `Models.features`."""

    users: Int64Array
    items: Int64Array
    liked: BoolArray
    weight: Float64Array
    there: BoolArray
    features: Float64Array  # (n, m + 2)

    @classmethod
    def of(cls, models: Models, labels: Feedback) -> Pairs:
        """Ask models."""
        return cls(*labels, models.there[labels.items],
                   models.features(labels.items, models.people[labels.users]))

    @classmethod
    def joined(cls, several: Sequence[Pairs], most: int | None = None) -> Pairs:
        """Those of several folds, of each a stride of so many at most."""
        fewer = [[part[:: max(1, -(-len(part) // (most or max(1, len(part)))))] for part in one]
                 for one in several]
        return cls(*map(np.concatenate, zip(*fewer, strict=True)))


class Fold(NamedTuple):
    """Models of a part of the log, and what they say of labels held out and of unseen pairs."""

    models: Models
    known: Int64Array  # rows of the log that models were trained on
    held: Int64Array  # rows that were held out
    labels: Pairs
    unseen: Pairs

    @classmethod
    def of(cls, models: Models, known: Int64Array, held: Int64Array, feedback: Feedback,
           shown: Int64Array, random: np.random.Generator) -> Fold:
        """Models of the known rows, asked about the others; `shown` as for `unseen_pairs`."""
        models, rest = knowing(models, feedback.take(known)), feedback.take(held)
        who, what = unseen_pairs(rest.users, shown, len(models.ids), random)
        return cls(models, known, held, Pairs.of(models, rest), Pairs.of(models, Feedback(
            who, what, np.zeros(len(who), np.bool_), np.ones(len(who)))))


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


class Learned(NamedTuple):
    """Weights of the models' scores, of the items' record and of popularity; (m + 2,) each."""

    liking: Float64Array  # to the log-odds of a like
    showing: Float64Array  # to those of being shown; zeros if these are chance
    intercept: float  # log-odds of a like where all scores are their means
    users: Float64Array  # (n_users,): the users' own
    shares: Float64Array  # (m,): of each model in the score
    aucs: Float64Array  # (m,): of each model alone
    order: tuple[str, str] = (THIS, THIS)  # the way that ranks all items, and shown ones

    def way(self, models: Models, name: str, among: str, exposure: float | None = None
            ) -> Float64Array:
        """Weights of a way of ranking: this one, a model alone, or the record."""
        m = len(models.names)
        this: Float64Array = self.liking if among == "shown" else self.showing + self.liking * (
            EXPOSURE if exposure is None else exposure)
        weights = np.zeros(m + 2)
        if name == THIS:
            return this
        if name == RECORD:
            weights[m] = 1.0
        else:
            weights[m:] = _TIE * (this[m:] if this[m:].any() else np.array([1.0, 0.0]))
            weights[models.names.index(name)] = models.directions[models.names.index(name)]
        return weights


class Solution(NamedTuple):
    """A regression: coefficients (n_columns,), the constant, the users' intercepts, the loss."""

    coefficients: Float64Array
    constant: float
    users: Float64Array
    loss: float


def regression(columns: Float64Array, target: BoolArray, weight: Float64Array, users: Int64Array,
               n_users: int, signs: Sequence[float] | None = None) -> Solution:
    """Fit log-odds of the target (n,) by columns (n, m) and an intercept for each user.

    The prior of the intercepts is normal with variance 1, as many users have little feedback, and
    so is that of the coefficients of columns scaled to standard deviation 1. Coefficients are 0 or
    of their sign, if signs are given.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    m = columns.shape[1]
    mean = np.average(columns, axis=0, weights=weight)
    spread = np.sqrt(np.average((columns - mean) ** 2, axis=0, weights=weight))
    # Constant columns become zeros, whose coefficients stay 0.
    spread[spread <= 1e-12 * np.abs(columns).max(axis=0, initial=0.0) + 1e-15] = np.inf
    scaled = np.column_stack([(columns - mean) / spread, np.ones(len(columns))])
    # Of each variable at its usual curvature 1, so that few steps do.
    size = np.append(np.full(m + 1, 2.0 / np.sqrt(weight.sum() + 4.0)),
                     2.0 / np.sqrt(np.bincount(users, weight, n_users) + 4.0))
    prior = np.append(np.ones(m), [0.0, *np.ones(n_users)])

    def loss(point: Float64Array) -> tuple[float, Float64Array]:
        solution = point * size
        odds = scaled @ solution[: m + 1] + solution[m + 1 :][users]
        slack = weight * (expit(odds) - target)
        slope = np.append(scaled.T @ slack, np.bincount(users, slack, n_users)) + prior * solution
        return (float(weight @ (np.logaddexp(0.0, odds) - target * odds) + prior @ solution**2 / 2),
                slope * size)

    free = [(None, None)] * (1 + n_users + (m if signs is None else 0))
    bounds = [(0, None) if sign > 0 else (None, 0) for sign in signs or ()]
    # Limits: of rounding, where no step is of use.
    result = minimize(loss, np.zeros(len(size)), jac=True, method="L-BFGS-B",
                      bounds=[*bounds, *free], options={
                          "maxiter": _MOST_STEPS, "ftol": 1e-13, "gtol": 1e-7, "maxcor": 20})
    solution = result.x * size
    coefficients = solution[:m] / spread
    return Solution(coefficients, float(solution[m] - mean @ coefficients), solution[m + 1 :],
                    result.fun)


def learn(models: Models, folds: Sequence[Fold], most: int | None = None) -> Learned:
    """Learn weights in the direction of signs, from what folds held out; of each the most."""
    labels, unseen = (Pairs.joined(several, most) for several in (
        [fold.labels for fold in folds], [fold.unseen for fold in folds]))
    m, n_users = len(models.names), len(models.user_ids)
    weight = labels.weight / max(float(labels.weight.mean()), 1e-300)
    like = regression(labels.features[:, : m + 1], labels.liked, weight, labels.users, n_users,
                      [*models.directions, 1.0])
    added = np.abs(like.coefficients) * labels.features[:, : m + 1].std(axis=0)
    return Learned(np.append(like.coefficients, 0.0), _showing(labels, unseen, n_users),
                   like.constant, like.users, added[:m] / max(added.sum(), 1e-12),
                   np.full(m, np.nan))


def _showing(labels: Pairs, unseen: Pairs, n_users: int) -> Float64Array:
    """Weights to the log-odds of being shown: shown against unseen pairs.

    Of items that a fold lacks they would learn that they were held out, and so shown. They are
    zeros if they explain no more than as many coefficients of chance (Schwarz, 1978).
    """
    m = labels.features.shape[1] - 2
    there = np.append(labels.there, unseen.there)
    shown = (np.arange(len(there)) < len(labels.users))[there]
    columns = np.delete(np.vstack([labels.features, unseen.features])[there], m, axis=1)
    users, weight = np.append(labels.users, unseen.users)[there], np.ones(len(shown))
    if shown.all():
        return np.zeros(m + 2)
    fitted, nothing = (regression(some, shown, weight, users, n_users)
                       for some in (columns, columns[:, :0]))
    if nothing.loss - fitted.loss < (m + 1) / 2 * np.log(len(shown)):
        return np.zeros(m + 2)
    return np.insert(fitted.coefficients, m, 0.0)


def judged_alone(models: Models, folds: Sequence[Fold], learned: Learned, *, check_signs: bool
                 ) -> Learned:
    """Add the AUC of each model alone. Raises ValueError for signs that turn out swapped."""
    users, _, liked, _, _, scores = Pairs.joined([fold.labels for fold in folds])
    for i, (name, sign, toward) in enumerate(zip(models.names, models.signs, models.directions,
                                                 strict=True)):
        auc = metrics.auc_by_user(users, liked, toward * scores[:, i])
        mean, low, high = metrics.mean_interval(auc, samples=500)
        # A model alone may rank the other way: scores of clicks and of passes grow with exposure.
        if check_signs and high < _SWAPPED and not learned.liking[i] and (
                (~np.isnan(auc)).sum() >= FEW_USERS):
            raise ValueError(
                f"models: {name!r} has sign {sign!r}, but speaks against its sign by itself "
                f"(AUC {mean:.3f} [{low:.3f}, {high:.3f}] within users) and beside the other "
                "models; expected 1 for a model of likes, -1 for one of dislikes, and labels of 1 "
                "for likes: swap what is swapped")
        learned.aucs[i] = mean
    return learned


def knowing(models: Models, feedback: Feedback) -> Models:
    """Models with the items' own log-odds of a like, shrunk towards the mean, which is zero, and
    with the logarithm of how often each was shown, plus one."""
    _, items, liked, weight = feedback
    size, mean = len(models.ids), np.average(liked, weights=weight) if weight.any() else 0.5
    mean = float(np.clip(mean, 1e-9, 1.0 - 1e-9))
    likes, dislikes = (np.bincount(items, weight * which, size) for which in (liked, ~liked))
    return models.knowing(
        np.log((likes / mean + _RECORD_PRIOR) / (dislikes / (1.0 - mean) + _RECORD_PRIOR)),
        np.log(np.bincount(items, minlength=size) + 1.0))


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


def order_of_all(learned: Learned, folds: Sequence[Fold], feedback: Feedback,
                 random: np.random.Generator) -> str:
    """The way that ranks all items: this ranker's, but where one model surely lists more likes.

    Of single models it is the first, in the order in which they are given, that none surely beats.
    """
    if not learned.showing.any():  # all items are like shown ones
        return THIS
    each = _listed_likes(folds, feedback, random)
    judged = ~np.isnan(each[THIS])
    if judged.sum() < 2:
        return THIS

    def beats(one: Float64Array, other: Float64Array) -> bool:
        gain = (one - other)[judged]
        return bool(gain.mean() > _SURE * gain.std() / np.sqrt(len(gain)))

    alone = [name for name in each if name != THIS]
    most = max(alone, key=lambda name: float(each[name][judged].mean()))
    best = next(name for name in alone if name == most or not beats(each[most], each[name]))
    return best if beats((1.0 + _LATER_GAIN) * each[best], each[THIS]) else THIS


def _listed_likes(folds: Sequence[Fold], feedback: Feedback, random: np.random.Generator
                  ) -> dict[str, Float64Array]:
    """The nDCG of each way of ranking all items, by likes that were held out of each fold, for some
    users; weights are those of other folds."""
    users, items, liked, _ = feedback
    size, n_users = folds[0].models.rows.shape[0], len(folds[0].models.people)
    some = np.sort(random.permutation(np.unique(users[liked]))[: max(
        _JUDGED_USERS, _JUDGED_SCORES // size)])
    place = np.full(n_users, -1)
    place[some] = np.arange(len(some))
    worth: dict[str, list[Float64Array]] = {}
    for number, (models, known, held, _, _) in enumerate(folds):
        others = [*folds[:number], *folds[number + 1 :]] or folds
        apart = learn(models, others, _NESTED // len(folds))
        seen, good = np.zeros((2, len(some), size), np.bool_)
        for mask, rows in ((seen, known), (good, held[liked[held]])):
            mine = rows[place[users[rows]] >= 0]
            mask[place[users[mine]], items[mine]] = True
        seen[:, ~models.there], good[:, ~models.there] = True, False
        for name in (THIS, *models.names, RECORD):
            scale = models.scale(apart.way(models, name, "all")).astype(np.float32)
            worth.setdefault(name, []).append(_ndcg(
                models.people[some] * scale @ models.rows.T, seen, good))
    return {name: np.concatenate(parts) for name, parts in worth.items()}


def _ndcg(scores: Float32Array, seen: BoolArray, liked: BoolArray) -> Float64Array:
    """nDCG of lists of all unseen items for each user; (n_users, n_items) each."""
    values = np.where(seen, -np.inf, scores)
    k = min(_JUDGED, values.shape[1])
    top = np.argpartition(-values, k - 1, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(values, top, axis=1), axis=1, kind="stable")
    hits = np.take_along_axis(liked, np.take_along_axis(top, order, axis=1), axis=1)
    worth = 1.0 / np.log2(np.arange(2, k + 2))
    ideal = np.append(0.0, np.cumsum(worth))[np.minimum(liked.sum(axis=1), k)]
    return np.where(ideal > 0, hits @ worth / np.where(ideal > 0, ideal, 1.0), np.nan)
