"""Logistic regression in which each user has an intercept of their own.

The prior of the intercepts is normal; its variance is 1, or that of the largest evidence by
Laplace's approximation, found as by MacKay ("The evidence framework applied to classification
networks", Neural Computation 1992).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farann._types import BoolArray, Float64Array, Int64Array
from farann.adapters.posneg import naming
from farann.adapters.posneg.calibration import (
    Linear,
    expit,
    log_odds_of,
    soft_targets,
    spread_of,
)
from farann.adapters.posneg.naming import Ids
from farann.contract import checks

# Newton's method needs about six.
_NEWTON_STEPS = 50
# Rounds in which the variance of the intercepts settles, and how little it may still move.
_ROUNDS, _SETTLED = 8, 0.05
_LEAST_VARIANCE, _MOST_VARIANCE = 1e-4, 25.0


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
    soft = soft_targets(target, weight)
    spread, used = spread_of(features)
    scaled = (features - features.mean(axis=0)) / spread
    signed = np.arange(features.shape[1]) >= features.shape[1] - free
    coefficients = np.zeros(features.shape[1])
    while used.any():
        coefficients[:] = 0.0
        coefficients[used] = with_intercepts(scaled[:, used], soft, weight,
                                                 users).coefficients[:-1]
        wrong = used & ~signed & (coefficients < 0)
        if not wrong.any():
            break
        used &= ~wrong
        coefficients[:] = 0.0
    return coefficients / spread


class Solution(NamedTuple):
    """What a regression with intercepts found.

    Attributes
    ----------
    coefficients : float64 (m + 1,)
        Of the features, and the constant.
    own : float64 (n_users,)
        The users' intercepts beside the constant.
    curvature : float64 (n_users,)
        Second derivatives of the loss along these, the prior's among them.
    """

    coefficients: Float64Array
    own: Float64Array
    curvature: Float64Array


def with_intercepts(features: Float64Array, soft: Float64Array, weight: Float64Array,
                    users: Int64Array, variance: float = 1.0, start: Solution | None = None
                    ) -> Solution:
    """Newton's method, with the users' intercepts, whose part of the matrix is diagonal, solved
    for first; from `start`, if that is near."""
    precision = 1.0 / variance
    columns = np.column_stack([features, np.ones(len(features))])
    solution = np.zeros(columns.shape[1])
    solution[-1] = log_odds_of(float(np.average(soft, weights=weight)))
    own = np.zeros(int(users.max()) + 1)
    if start is not None:
        solution, own = start.coefficients, start.own

    def loss(solution: Float64Array, own: Float64Array) -> float:
        score = columns @ solution + own[users]
        return float(weight @ (np.logaddexp(0.0, score) - soft * score)
                     + 0.5 * precision * own @ own)

    least = loss(solution, own)
    diagonal = np.full(len(own), precision)
    for _ in range(_NEWTON_STEPS):
        chance = expit(columns @ solution + own[users])
        slack, curvature = weight * (soft - chance), weight * chance * (1.0 - chance)
        curved = columns * curvature[:, np.newaxis]
        by_user = np.column_stack([np.bincount(users, column, len(own)) for column in curved.T])
        diagonal = np.bincount(users, curvature, len(own)) + precision
        rest = np.bincount(users, slack, len(own)) - precision * own
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
    return Solution(solution, own, diagonal)


class Personal(NamedTuple):
    """Chances of a like where it is known who asks.

    Attributes
    ----------
    line : Linear
        From fused scores to log-odds of the average user.
    own : float64 (n_users,)
        What each user adds; 0 for who gave no feedback.
    ids : (n_users,) or None
        What users are called, if it isn't by their numbers.
    """

    line: Linear
    own: Float64Array
    ids: Ids | None = None


def fit_personal(fused: Float64Array, liked: BoolArray, weight: Float64Array,
                 users: Int64Array, n_users: int) -> Personal:
    """The users' own intercepts beside their fused scores, shrunk as much as they are alike."""
    weight = weight * (len(weight) / weight.sum())
    soft, (spread, _) = soft_targets(liked, weight), spread_of(fused[:, np.newaxis])
    scaled = fused[:, np.newaxis] / spread
    asked = np.bincount(users) > 0
    variance, found = 1.0, None  # type: float, Solution | None
    for _ in range(_ROUNDS):
        found = with_intercepts(scaled, soft, weight, users, variance, found)
        free = float((1.0 - 1.0 / (variance * found.curvature[asked])).sum())
        next_ = float((found.own[asked] ** 2).sum()) / max(free, 1e-9)
        next_ = min(max(next_, _LEAST_VARIANCE), _MOST_VARIANCE)
        settled = abs(next_ - variance) <= _SETTLED * variance
        variance = next_
        if settled:
            break
    assert found is not None
    own = np.zeros(n_users)
    own[: len(found.own)] = found.own
    slope, constant = found.coefficients
    return Personal(Linear(float(slope / spread[0]), float(constant)), own)


def loss_by_user(scores: Float64Array, liked: BoolArray, weight: Float64Array,
                 users: Int64Array, n_users: int) -> Float64Array:
    """Log-loss of each user's feedback at the intercept that suits the user best, (n_users,).

    The scores need no intercept for that, so the loss tells of the order and size within users.
    The intercept has a standard normal prior around the one that suits everybody.
    """
    target = liked.astype(np.float64)
    everybody = np.zeros(len(users), np.int64)
    common = _suited(scores, target, weight, everybody, 1, 1e-6)[0]
    own = _suited(scores + common, target, weight, users, n_users, 1.0)
    each = scores + common + own[users]
    loss = np.bincount(users, weight * (np.logaddexp(0.0, each) - target * each), n_users)
    total: Float64Array = loss + 0.5 * own**2
    return total


def _suited(scores: Float64Array, target: Float64Array, weight: Float64Array, users: Int64Array,
            n_users: int, precision: float) -> Float64Array:
    """Intercepts of the least loss, by Newton steps that are cut to 1: the loss is convex."""
    own = np.zeros(n_users)
    for _ in range(_NEWTON_STEPS):
        chance = expit(scores + own[users])
        slope = np.bincount(users, weight * (target - chance), n_users) - precision * own
        curvature = np.bincount(users, weight * chance * (1.0 - chance), n_users) + precision
        step = np.clip(slope / curvature, -1.0, 1.0)
        own += step
        if np.abs(step).max() < 1e-8:
            break
    return own


def personal_chance(personal: Personal | None, chance: Linear, scores: Float64Array,
                    users: npt.ArrayLike) -> Float64Array:
    """Chances of a like with the users' own log-odds; those of other users are by `chance`."""
    if personal is None:
        raise ValueError("users: expected a ranker whose fit had users=, so that it knows users")
    who = _known_users(personal, users)
    if np.ndim(users) == 0:
        who = np.resize(who, scores.shape[:1])
    if who.shape != scores.shape[:1]:
        raise ValueError(f"users: expected shape {scores.shape[:1]}, one a row of scores, got "
                         f"{who.shape}")
    shape = (-1,) + (1,) * (scores.ndim - 1)
    own = np.where(who < 0, 0.0, personal.own[who]).reshape(shape)
    return np.where((who < 0).reshape(shape), expit(chance(scores)),
                    expit(personal.line(scores) + own))


def _known_users(personal: Personal, users: Any) -> Int64Array:
    """Numbers of users; -1 for somebody else."""
    if personal.ids is None:
        who = checks.to_ids("users", users, single=np.ndim(users) == 0)
        bad = who[(who < -1) | (who >= len(personal.own))]
        if len(bad):
            raise ValueError(f"users: expected -1 or numbers of the {len(personal.own)} queries "
                             f"of fit, got {bad[0]}")
        return who
    wanted = [users] if np.ndim(users) == 0 else list(users)
    real = np.array([one is not None for one in wanted], np.bool_)
    who = np.full(len(wanted), -1)
    if real.any():
        names = naming.asked("users", [one for one in wanted if one is not None], personal.ids)
        who[real] = naming.rows(personal.ids, names)
    return who
