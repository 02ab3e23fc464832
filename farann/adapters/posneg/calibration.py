"""From similarities to log-odds: calibrators, each item's own record, and the weights.

Platt scaling with smoothed targets is from Platt, "Probabilistic outputs for support vector
machines and comparisons to regularized likelihood methods" (1999); isotonic calibration from
Zadrozny and Elkan, "Transforming classifier scores into accurate multiclass probability
estimates" (KDD 2002). The fitting is scikit-learn's.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from farann._types import BoolArray, Float64Array, Int64Array

# Newton's method needs about six.
_NEWTON_STEPS = 50
CALIBRATIONS = ("platt", "isotonic", "temperature", "none")


def expit(log_odds: Float64Array) -> Float64Array:
    """Probabilities of log-odds, without overflow."""
    probability: Float64Array = np.exp(-np.logaddexp(0.0, -log_odds))
    return probability


def logit(probability: Float64Array) -> Float64Array:
    """Log-odds of probabilities."""
    log_odds: Float64Array = np.log(probability) - np.log1p(-probability)
    return log_odds


def _log_odds(share: float) -> float:
    return float(np.log(share / (1.0 - share)))


class Linear(NamedTuple):
    """Log-odds that are linear in the similarity."""

    slope: float
    intercept: float

    def __call__(self, similarity: Float64Array) -> Float64Array:
        return self.slope * similarity + self.intercept


class Steps(NamedTuple):
    """Log-odds of an isotonic regression: linear in probability between its knots."""

    similarity: Float64Array
    probability: Float64Array

    def __call__(self, similarity: Float64Array) -> Float64Array:
        return logit(np.interp(similarity, self.similarity, self.probability))


@dataclass(frozen=True)
class Wrapped:
    """Log-odds of any scikit-learn classifier or regressor; need not be monotone."""

    estimator: Any
    margin: float

    def __call__(self, similarity: Float64Array) -> Float64Array:
        known = ~np.isnan(similarity)
        found = np.full(similarity.shape, np.nan)
        if known.any():
            values = similarity[known][:, np.newaxis]
            if hasattr(self.estimator, "predict_proba"):
                chance = self.estimator.predict_proba(values)[:, 1]
            else:
                chance = self.estimator.predict(values)
            found[known] = logit(np.clip(chance, self.margin, 1.0 - self.margin))
        return found


Curve = Linear | Steps | Wrapped


@dataclass(frozen=True)
class Calibration:
    """Calibrated log-odds of one model: those of the similarity, and the item's own.

    Attributes
    ----------
    curve : Linear, Steps or Wrapped
    item_weight : float
        Of each item's own log-odds, which are those of a like; so it is negative, or zero,
        for the negative model.
    unknown : float
        Log-odds where the model lacks the item.
    """

    curve: Curve
    item_weight: float = 0.0
    unknown: float = 0.0

    def __call__(self, similarity: Float64Array, items: Float64Array) -> Float64Array:
        """Log-odds; `items` are the items' own ones, and NaN similarities mean unknown."""
        known: Float64Array = np.where(np.isnan(similarity), self.unknown,
                                       self.curve(similarity))
        return known + self.item_weight * items

    @property
    def linear(self) -> Linear | None:
        """Slope and intercept if the log-odds are linear in the similarity."""
        return self.curve if isinstance(self.curve, Linear) else None

    @property
    def monotone(self) -> bool:
        """Whether log-odds never fall as the similarity grows."""
        return not isinstance(self.curve, Wrapped)


RAW = Calibration(Linear(1.0, 0.0))


def fit_calibration(name: str, method: Any, similarity: Float64Array, target: BoolArray,
                    weight: Float64Array) -> Calibration:
    """Calibrate one model, called `name` in errors, on feedback (n,) on items that it has."""
    n = len(target)
    if target.all() or not target.any():
        raise ValueError(f"labels: expected likes and dislikes to calibrate the {name} model by, "
                         f"got one kind only in {n} rows")
    weight = weight * (n / weight.sum())
    base = _log_odds(float(np.average(target, weights=weight)))
    curve = _fit_curve(method, similarity, target, weight)
    if isinstance(curve, Linear) and curve.slope <= 0:
        warnings.warn(
            f"{name}: higher scores don't go with more "
            f"{'likes' if name == 'positive' else 'dislikes'} in this feedback "
            f"(slope {curve.slope:.3g}); the model is left out of account. "
            "Are the models or the labels swapped?", UserWarning, stacklevel=4)
        curve = Linear(0.0, base)
    return Calibration(curve, unknown=base)


def _fit_curve(method: Any, similarity: Float64Array, target: BoolArray,
               weight: Float64Array) -> Curve:
    n = len(target)
    if method == "platt":
        (slope,), intercept = _logistic(similarity[:, np.newaxis], target, weight, signed=True)
        return Linear(slope, intercept)
    if method == "temperature":
        (slope,), _ = _logistic(similarity[:, np.newaxis], target, weight, signed=True,
                                intercept=False)
        return Linear(slope, 0.0)
    if method == "isotonic":
        margin = 1.0 / (n + 2.0)
        model = _sklearn("isotonic").IsotonicRegression(
            y_min=margin, y_max=1.0 - margin, out_of_bounds="clip")
        model.fit(similarity, target.astype(np.float64), sample_weight=weight)
        return Steps(np.asarray(model.X_thresholds_, np.float64),
                     np.asarray(model.y_thresholds_, np.float64))
    model = _sklearn("base").clone(method)
    model.fit(similarity[:, np.newaxis], target.astype(np.int64), sample_weight=weight)
    if isinstance(model, _sklearn("linear_model").LogisticRegression):
        return Linear(float(model.coef_[0, 0]), float(model.intercept_[0]))
    return Wrapped(model, 1.0 / (n + 2.0))


def _logistic(features: Float64Array, target: BoolArray, weight: Float64Array, *,
              signed: bool = False, intercept: bool = True) -> tuple[list[float], float]:
    """Coefficients and intercept by maximum likelihood with Platt's targets.

    Unless `signed`, coefficients below zero are set to zero and the others found again. The
    targets (n+ + 1) / (n+ + 2) and 1 / (n- + 2) keep coefficients finite where the classes
    can be separated: each row enters twice, as both classes.
    """
    soft = _soft(target, weight)
    spread, used = _spread(features)
    scaled = features / spread
    if intercept:
        scaled = scaled - scaled.mean(axis=0)
    model = _sklearn("linear_model").LogisticRegression(
        C=np.inf, fit_intercept=intercept, tol=1e-6, max_iter=1000)
    base = _log_odds(float(np.average(soft, weights=weight)))
    coefficients, constant = np.zeros(features.shape[1]), base
    while used.any():
        model.fit(np.vstack([scaled[:, used]] * 2), np.repeat([1, 0], len(target)),
                  sample_weight=np.concatenate([weight * soft, weight * (1.0 - soft)]))
        coefficients[:] = 0.0
        coefficients[used] = model.coef_[0]
        constant = float(model.intercept_[0])
        if signed or (coefficients >= 0).all():
            break
        used &= coefficients > 0
        coefficients[:] = 0.0
        constant = base
    coefficients /= spread
    if intercept:
        constant -= float(features.mean(axis=0) @ coefficients)
    return coefficients.tolist(), constant if intercept else 0.0


def _soft(target: BoolArray, weight: Float64Array) -> Float64Array:
    """Platt's targets."""
    likes = weight[target].sum()
    high, low = (likes + 1.0) / (likes + 2.0), 1.0 / (weight.sum() - likes + 2.0)
    targets: Float64Array = np.where(target, high, low)
    return targets


def _spread(features: Float64Array) -> tuple[Float64Array, BoolArray]:
    """Standard deviations by which to divide columns, and which columns aren't constant."""
    spread = features.std(axis=0)
    used = spread > 1e-12 * np.abs(features).max(axis=0)
    spread[~used] = 1.0
    return spread, used


def fit_weights(features: Float64Array, target: BoolArray,
                weight: Float64Array) -> tuple[list[float], float]:
    """Coefficients of zero or more, and the intercept, of a logistic regression."""
    return _logistic(features, target, weight * (len(weight) / weight.sum()))


def fit_weights_within_users(features: Float64Array, target: BoolArray, weight: Float64Array,
                             users: Int64Array, free: int = 0) -> Float64Array:
    """Coefficients of a logistic regression in which each user has an intercept of their own.

    Lists are made for one user at a time, so what makes some users like more than others must
    not count for or against a model. The intercepts have a standard normal prior, as many users
    have little feedback, and are forgotten.

    Parameters
    ----------
    features : (n, m)
    target, weight : (n,)
    users : int64 (n,)
        Numbers from 0.
    free : int
        Of so many of the last coefficients the sign is free; the others are zero or more.
    """
    weight = weight * (len(weight) / weight.sum())
    soft = _soft(target, weight)
    spread, used = _spread(features)
    scaled = (features - features.mean(axis=0)) / spread
    signed = np.arange(features.shape[1]) >= features.shape[1] - free
    coefficients = np.zeros(features.shape[1])
    while used.any():
        coefficients[:] = 0.0
        coefficients[used] = _with_intercepts(scaled[:, used], soft, weight, users)
        wrong = used & ~signed & (coefficients < 0)
        if not wrong.any():
            break
        used &= ~wrong
        coefficients[:] = 0.0
    return coefficients / spread


def _with_intercepts(features: Float64Array, soft: Float64Array, weight: Float64Array,
                     users: Int64Array) -> Float64Array:
    """Newton's method, with the users' intercepts, whose part of the matrix is diagonal, solved
    for first."""
    columns = np.column_stack([features, np.ones(len(features))])
    solution = np.zeros(columns.shape[1])
    solution[-1] = _log_odds(float(np.average(soft, weights=weight)))
    own = np.zeros(int(users.max()) + 1)

    def loss(solution: Float64Array, own: Float64Array) -> float:
        score = columns @ solution + own[users]
        return float(weight @ (np.logaddexp(0.0, score) - soft * score) + 0.5 * own @ own)

    least = loss(solution, own)
    for _ in range(_NEWTON_STEPS):
        chance = expit(columns @ solution + own[users])
        slack, curvature = weight * (soft - chance), weight * chance * (1.0 - chance)
        curved = columns * curvature[:, np.newaxis]
        by_user = np.column_stack([np.bincount(users, column, len(own)) for column in curved.T])
        diagonal = np.bincount(users, curvature, len(own)) + 1.0
        rest = np.bincount(users, slack, len(own)) - own
        matrix = columns.T @ curved - by_user.T @ (by_user / diagonal[:, np.newaxis])
        # Two models may say the same: the shortest solution gives each half.
        step = np.linalg.lstsq(matrix, columns.T @ slack - by_user.T @ (rest / diagonal),
                               rcond=1e-10)[0]
        step_own, share = (rest - by_user @ step) / diagonal, 1.0
        found = loss(solution + step, own + step_own)
        while found > least and share > 1e-6:
            share /= 2.0
            found = loss(solution + share * step, own + share * step_own)
        solution, own = solution + share * step, own + share * step_own
        if least - found <= 1e-12 * abs(least):
            break
        least = found
    return solution[:-1]


def item_log_odds(items: Int64Array, size: int, target: BoolArray, weight: Float64Array,
                  strength: float) -> tuple[Float64Array, Float64Array]:
    """Each item's own log-odds of a like, shrunk towards the mean, which is zero.

    Parameters
    ----------
    items : int64 (n,)
    size : int
    target, weight : (n,)
    strength : float
        As if every item had so much feedback of the average kind beside its own.

    Returns
    -------
    log_odds : float64 (size,)
    left_out : float64 (n,)
        For each feedback those of its item without that feedback itself, to learn from.
    """
    mean = float(np.average(target, weights=weight))
    base = _log_odds(mean)
    likes = np.bincount(items, weights=weight * target, minlength=size).astype(np.float64)
    every = np.bincount(items, weights=weight, minlength=size).astype(np.float64)

    def shrunk(liked: Float64Array, shown: Float64Array) -> Float64Array:
        # Sums without the feedback itself may fall below zero by a rounding error.
        liked, disliked = np.maximum(liked, 0.0), np.maximum(shown - liked, 0.0)
        odds: Float64Array = np.log((liked + strength * mean) / (disliked + strength * (1 - mean)))
        return odds - base

    return shrunk(likes, every), shrunk(likes[items] - weight * target, every[items] - weight)


def _sklearn(module: str) -> Any:
    """A module of scikit-learn, which is imported only when something is fitted."""
    from importlib import import_module

    try:
        return import_module(f"sklearn.{module}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "sklearn":
            raise
        raise ImportError("calibration needs scikit-learn: pip install scikit-learn") from None
