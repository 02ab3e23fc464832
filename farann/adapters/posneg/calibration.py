"""From similarities to log-odds: calibrators, each item's own record, and the weights.

Platt scaling with smoothed targets is from Platt, "Probabilistic outputs for support vector
machines and comparisons to regularized likelihood methods" (1999); isotonic calibration from
Zadrozny and Elkan, "Transforming classifier scores into accurate multiclass probability
estimates" (KDD 2002). The fitting is scikit-learn's.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from farann._types import BoolArray, Float64Array, Int64Array

CALIBRATIONS = ("platt", "isotonic", "temperature", "none")


def expit(log_odds: Float64Array) -> Float64Array:
    """Probabilities of log-odds, without overflow."""
    probability: Float64Array = np.exp(-np.logaddexp(0.0, -log_odds))
    return probability


def logit(probability: Float64Array) -> Float64Array:
    """Log-odds of probabilities."""
    log_odds: Float64Array = np.log(probability) - np.log1p(-probability)
    return log_odds


def log_odds_of(share: float) -> float:
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
    """Calibrate one model, called `name` in errors, on feedback (n,) on items that it has.

    A slope may be negative; nothing else here is made for that.
    """
    n = len(target)
    if target.all() or not target.any():
        raise ValueError(f"labels: expected likes and dislikes to calibrate the {name} model by, "
                         f"got one kind only in {n} rows")
    weight = weight * (n / weight.sum())
    base = log_odds_of(float(np.average(target, weights=weight)))
    return Calibration(_fit_curve(method, similarity, target, weight), unknown=base)


def flat(calibration: Calibration) -> Calibration:
    """The same without the model: its log-odds are those of average feedback."""
    return replace(calibration, curve=Linear(0.0, calibration.unknown))


def warn_against(name: str, slope: float, likes: bool, stacklevel: int) -> None:
    """Tell that a model is left out as its scores don't rise with likes, or dislikes."""
    warnings.warn(
        f"{name}: higher scores don't go with more {'likes' if likes else 'dislikes'} in this "
        f"feedback (slope {slope:.3g}); the model is left out of account. "
        "Are the models or the labels swapped?", UserWarning, stacklevel=stacklevel + 1)


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
        model = sklearn_module("isotonic").IsotonicRegression(
            y_min=margin, y_max=1.0 - margin, out_of_bounds="clip")
        model.fit(similarity, target.astype(np.float64), sample_weight=weight)
        return Steps(np.asarray(model.X_thresholds_, np.float64),
                     np.asarray(model.y_thresholds_, np.float64))
    model = sklearn_module("base").clone(method)
    model.fit(similarity[:, np.newaxis], target.astype(np.int64), sample_weight=weight)
    if isinstance(model, sklearn_module("linear_model").LogisticRegression):
        return Linear(float(model.coef_[0, 0]), float(model.intercept_[0]))
    return Wrapped(model, 1.0 / (n + 2.0))


def _logistic(features: Float64Array, target: BoolArray, weight: Float64Array, *,
              signed: bool = False, intercept: bool = True) -> tuple[list[float], float]:
    """Coefficients and intercept by maximum likelihood with Platt's targets.

    Unless `signed`, coefficients below zero are set to zero and the others found again. The
    targets (n+ + 1) / (n+ + 2) and 1 / (n- + 2) keep coefficients finite where the classes
    can be separated: each row enters twice, as both classes.
    """
    soft = soft_targets(target, weight)
    spread, used = spread_of(features)
    scaled = features / spread
    if intercept:
        scaled = scaled - scaled.mean(axis=0)
    model = sklearn_module("linear_model").LogisticRegression(
        C=np.inf, fit_intercept=intercept, tol=1e-6, max_iter=1000)
    base = log_odds_of(float(np.average(soft, weights=weight)))
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


def soft_targets(target: BoolArray, weight: Float64Array) -> Float64Array:
    """Platt's targets."""
    likes = weight[target].sum()
    high, low = (likes + 1.0) / (likes + 2.0), 1.0 / (weight.sum() - likes + 2.0)
    targets: Float64Array = np.where(target, high, low)
    return targets


def spread_of(features: Float64Array) -> tuple[Float64Array, BoolArray]:
    """Standard deviations by which to divide columns, and which columns aren't constant."""
    spread = features.std(axis=0)
    used = spread > 1e-12 * np.abs(features).max(axis=0)
    spread[~used] = 1.0
    return spread, used


def fit_weights(features: Float64Array, target: BoolArray,
                weight: Float64Array) -> tuple[list[float], float]:
    """Coefficients of zero or more, and the intercept, of a logistic regression."""
    return _logistic(features, target, weight * (len(weight) / weight.sum()))


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
    base = log_odds_of(mean)
    likes = np.bincount(items, weights=weight * target, minlength=size).astype(np.float64)
    every = np.bincount(items, weights=weight, minlength=size).astype(np.float64)

    def shrunk(liked: Float64Array, shown: Float64Array) -> Float64Array:
        # Sums without the feedback itself may fall below zero by a rounding error.
        liked, disliked = np.maximum(liked, 0.0), np.maximum(shown - liked, 0.0)
        odds: Float64Array = np.log((liked + strength * mean) / (disliked + strength * (1 - mean)))
        return odds - base

    return shrunk(likes, every), shrunk(likes[items] - weight * target, every[items] - weight)


def sklearn_module(module: str, library: str = "sklearn") -> Any:
    """A module of scikit-learn, or of scipy, which comes along; imported for what is fitted."""
    from importlib import import_module

    return import_module(f"{library}.{module}")
