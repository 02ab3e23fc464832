"""The regression by which models are weighed, and which of them feedback can do without.

The log-odds of calibrated models are stacked by a logistic regression (Wolpert, "Stacked
generalization", Neural Networks 1992) in which each user has an intercept. A model stays if the
log-loss of feedback that the weights were not learned from grows without it. A model that says
nothing by itself may still help beside another, so that decides, not its own slope.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from farann._types import BoolArray, Float64Array, Int64Array
from farann.adapters.posneg.calibration import Calibration, Linear, flat
from farann.adapters.posneg.intercepts import fit_weights_within_users, loss_by_user

# Parts of the feedback by which a gain is measured.
_FOLDS = 5
# Feedback that gains are measured by, at most: whole users are left out beyond that.
_MEASURED = 1 << 17
# A model whose own slope speaks against it stays if its gain is so many standard errors.
_ERRORS = 2.0
AGAINST = "its scores don't rise with what they should"


class Labels(NamedTuple):
    """Feedback beside what models say of it: (n,) arrays.

    Attributes
    ----------
    askers, items : int64
        Numbers from 0; equal askers have one intercept.
    liked : bool
    weight : float64
        With the mean 1.
    """

    askers: Int64Array
    items: Int64Array
    liked: BoolArray
    weight: Float64Array


class Stack:
    """The regression: models' log-odds and what is known of items, as columns."""

    def __init__(self, said: Float64Array, about: Float64Array, labels: Labels) -> None:
        self.said, self.about, self.labels = said, about, labels

    def columns(self, kept: BoolArray) -> Float64Array:
        """Columns of the kept models, of the record, and of the kept models' lengths."""
        if not self.about.shape[1]:
            return self.said[:, kept]
        return np.column_stack([self.said[:, kept], self.about[:, 0], self.about[:, 1:][:, kept]])

    def weights(self, kept: BoolArray, rows: Int64Array | slice
                ) -> tuple[Float64Array, Float64Array]:
        """Weights of all models, 0 of those left out, and coefficients of what is about items.

        A model whose weight would be negative leaves with its lengths, and the rest is fitted
        again.
        """
        labels = self.labels
        while True:
            count = int(kept.sum())
            found = fit_weights_within_users(
                self.columns(kept)[rows], labels.liked[rows], labels.weight[rows],
                labels.askers[rows], free=count if self.about.shape[1] else 0)
            weights = np.zeros(len(kept))
            weights[kept] = found[:count]
            wrong = kept & (weights <= 0)
            if not wrong.any():
                return weights, found[count:]
            kept = kept & ~wrong

    def fused(self, weights: Float64Array, coefficients: Float64Array,
              rows: Int64Array | slice = slice(None)) -> Float64Array:
        """Fused scores of feedback."""
        used: Float64Array = self.said[rows] @ weights
        if len(coefficients):
            about = np.column_stack([self.about[rows, 0], self.about[rows, 1:][:, weights > 0]])
            used = used + about @ coefficients
        return used


def beside(lines: Sequence[Calibration], wrong: BoolArray, directions: Float64Array,
           similar: Float64Array, about: Float64Array, labels: Labels) -> list[Calibration]:
    """Calibrations in which those that are wrong by themselves have their slope beside the others.

    So two models may tell apart what neither of them does: of clicks and of passes, say, both of
    which grow with how often an item is shown. Where that slope isn't positive either, log-odds
    are constant. A slope is on the scale of the other models' log-odds.

    Parameters
    ----------
    lines : sequence of Calibration
        Each by itself.
    wrong : bool (n_models,)
        Whose similarities don't rise with what they should.
    directions : float64 (n_models,)
    similar : float64 (n, n_models)
        NaN where a model lacks the item or the user.
    about : float64 (n, 0 or 1 + n_models)
        What is known of items.
    labels : Labels
    """
    known, zero = ~np.isnan(similar), np.zeros(1)
    said = np.zeros_like(similar)
    for m, line in enumerate(lines):
        said[:, m] = directions[m] * line(similar[:, m], zero)
    center = np.zeros(len(lines))
    for m in np.flatnonzero(wrong).tolist():
        center[m] = np.average(similar[known[:, m], m], weights=labels.weight[known[:, m]])
        said[:, m] = directions[m] * np.where(known[:, m], similar[:, m] - center[m], 0.0)
    rising = np.array([line.linear is None or line.linear.slope > 0 for line in lines])
    slopes, _ = Stack(said, about, labels).weights(wrong | rising, slice(None))
    others = slopes[rising & (slopes > 0)]
    slopes /= others.mean() if len(others) else 1.0
    return [replace(line, curve=Linear(slope, line.unknown - slope * mean)) if bad and slope > 0
            else flat(line) if bad else line
            for line, bad, slope, mean in zip(lines, wrong.tolist(), slopes.tolist(),
                                              center.tolist(), strict=True)]


def select(stack: Stack, reasons: list[str], doubted: BoolArray,
           others: bool = True) -> Float64Array:
    """Leave models out one by one as long as nothing is lost; gains with their errors, (2, m).

    A reason is written to `reasons` for each. Those that are `doubted` must gain more than
    chance would give them; without `others` only these are looked at.
    """
    labels = stack.labels
    n_askers = int(labels.askers.max()) + 1
    random = np.random.default_rng(0)
    measured, folds = _folds(labels.askers, n_askers, random)
    count = np.zeros(n_askers)
    np.add.at(count, labels.askers[measured], labels.weight[measured])
    asked = count > 0

    parts = [(measured[folds != fold], measured[folds == fold]) for fold in range(_FOLDS)]
    parts = [(train, test) for train, test in parts if len(test) and labels.liked[train].any()
             and not labels.liked[train].all()]

    def losses(kept: BoolArray) -> Float64Array:
        total = np.zeros(n_askers)
        for train, test in parts:
            weights, coefficients = stack.weights(kept, train)
            fused = stack.fused(weights, coefficients, test)
            total += loss_by_user(fused, labels.liked[test], labels.weight[test],
                                  labels.askers[test], n_askers)
        return total

    gains = np.full((2, len(reasons)), np.nan)
    kept = np.array([not reason for reason in reasons])
    least = losses(kept)
    while (kept & (doubted | others)).any() and parts:
        without = {m: losses(kept & (np.arange(len(kept)) != m))
                   for m in np.flatnonzero(kept & (doubted | others)).tolist()}
        for m, loss in without.items():
            gains[:, m] = _mean_and_error((loss - least)[asked], count[asked])
        surplus = gains[0] - np.where(doubted, _ERRORS * gains[1], 0.0)
        worst = min(without, key=lambda m: surplus[m])
        if surplus[worst] > 0.0 or (kept.sum() == 1 and not doubted[worst]):
            break
        kept[worst] = False
        reasons[worst] = AGAINST if doubted[worst] else "feedback is told as well without it"
        least = without[worst]
    if not parts:  # nothing can be measured
        for m in np.flatnonzero(kept & doubted).tolist():
            reasons[m] = AGAINST
    return gains


def _folds(askers: Int64Array, n_askers: int, random: np.random.Generator
           ) -> tuple[Int64Array, Int64Array]:
    """Rows to measure by, and the fold of each: users stay together where there are enough."""
    counts = np.bincount(askers, minlength=n_askers)
    order = random.permutation(n_askers)
    chosen = np.zeros(n_askers, np.bool_)
    chosen[order[np.cumsum(counts[order]) <= _MEASURED]] = True
    if not (chosen & (counts > 0)).any():
        chosen[:] = True
    rows = np.flatnonzero(chosen[askers])
    if np.count_nonzero(counts[chosen]) >= 4 * _FOLDS:
        return rows, (np.argsort(order) % _FOLDS)[askers[rows]]
    return rows, random.permutation(len(rows)) % _FOLDS


def _mean_and_error(total: Float64Array, count: Float64Array) -> tuple[float, float]:
    """Mean of sums over users, a unit of their counts, and its standard error over users."""
    mean = total.sum() / count.sum()
    error = np.sqrt(((total - mean * count) ** 2).sum()) / count.sum()
    return float(mean), float(error)


