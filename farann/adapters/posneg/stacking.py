"""Learning how much each of several models counts: weights within users, and who is left out.

Models are calibrated, stacked (`stack`), and what was learned is put together as a blend.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from farann import metrics
from farann._types import BoolArray, Float64Array, Int64Array
from farann.adapters.posneg.blend import About, Blend, Exposure, ModelReport
from farann.adapters.posneg.calibration import (
    Calibration,
    Linear,
    fit_calibration,
    fit_weights,
    flat,
    item_log_odds,
    log_odds_of,
    warn_against,
)
from farann.adapters.posneg.intercepts import Personal, fit_personal, fit_weights_within_users
from farann.adapters.posneg.signed import Members, Observed
from farann.adapters.posneg.stack import AGAINST, Labels, Stack, beside, select

# Beside how often an item was shown, as if it were once more.
_SHOWN = 1.0
# Of a model that tells what is shown the area under the ROC curve is so far from 0.5.
_TELLING = 0.05
_NOTHING = "no likes or no dislikes are on items and users that it has"


class Unseen(NamedTuple):
    """Pairs of users and items that were not shown, and what models say of them."""

    askers: Int64Array
    items: Int64Array
    observed: Observed


def learn(members: Members, observed: Observed, labels: Labels, item_prior: float | None, *,
          drop: bool, personal: int | None, unseen: Unseen | None, preference: float) -> Blend:
    """Find all that a blend consists of.

    Parameters
    ----------
    item_prior : float or None
        As in `FusionRanker`.
    drop : bool
        Whether models that don't help are left out.
    personal : int or None
        So many users get an intercept of their own in probabilities; askers are their numbers.
    unseen : Unseen or None
        For a model of exposure.
    preference : float
        How much the fused score counts beside exposure.
    """
    if labels.liked.all() or not labels.liked.any():
        raise ValueError("labels: expected likes and dislikes to learn from, got only "
                         f"{'likes' if labels.liked.all() else 'dislikes'} in "
                         f"{len(labels.liked)} rows")
    if not any(_both_kinds(labels, similar) for similar in observed.similar.T):
        raise ValueError("item_ids: expected likes and dislikes on items of one of the models, "
                         "got none")
    about, columns = _about(members, observed, labels, item_prior)
    lines, reasons, gains = _chosen(members, observed, columns, labels, drop)
    said = _aligned(members, lines, observed.similar)
    auc = [_auc(labels, observed.similar[:, m], members.directions[m])
           for m in range(len(lines))]
    stack = Stack(said, columns, labels)
    kept = np.array([not reason for reason in reasons])
    weights, coefficients = stack.weights(kept, slice(None))
    for m in np.flatnonzero(kept & (weights <= 0)):
        reasons[m] = "the others say as much"
    _tell(members.names, reasons)
    kept = np.array([not reason for reason in reasons])
    about = About(about.record, _spread_over(coefficients, kept, len(lines)), about.centers)
    fused = stack.fused(weights, coefficients)
    (slope,), intercept = fit_weights(fused[:, np.newaxis], labels.liked, labels.weight)
    own: Personal | None = None
    if personal is not None:
        own = fit_personal(fused, labels.liked, labels.weight, labels.askers, personal)
    exposure = None
    if unseen is not None:
        exposure = _exposure(members, lines, kept, said, observed, labels, unseen, preference)
    reports = tuple(
        ModelReport(name, sign, float(weight), float(gain), float(error), area, reason)
        for name, sign, weight, gain, error, area, reason in zip(
            members.names, members.signs, weights, *gains, auc, reasons, strict=True))
    return Blend(lines, weights, about.of(members), about, Linear(slope, intercept),
                 own, exposure, reports)


def _chosen(members: Members, observed: Observed, about: Float64Array, labels: Labels, drop: bool
            ) -> tuple[tuple[Calibration, ...], list[str], Float64Array]:
    """Calibrations, why models are left out, and their gains with errors, (2, n_models)."""
    lines = _calibrated(members, observed, labels)
    own = [0.0 if line.linear is None else line.linear.slope for line in lines]
    useful = np.array([_both_kinds(labels, similar) for similar in observed.similar.T])
    wrong = useful & (np.array(own) <= 0)
    if wrong.any():
        lines = beside(lines, wrong, members.directions, observed.similar, about, labels)
    reasons = [_NOTHING if not any_ else AGAINST if line.linear is None or line.linear.slope <= 0
               else "" for any_, line in zip(useful.tolist(), lines, strict=True)]
    gains = np.full((2, len(lines)), np.nan)
    if drop:
        gains = select(Stack(_aligned(members, lines, observed.similar), about, labels), reasons,
                       wrong)
    for m in np.flatnonzero(wrong):
        if reasons[m] == AGAINST:
            lines[m] = flat(lines[m])
            warn_against(members.names[m], own[m], members.signs[m] != -1, 5)
    return tuple(lines), reasons, gains


def _calibrated(members: Members, observed: Observed, labels: Labels) -> list[Calibration]:
    found = []
    for name, sign, similar in zip(members.names, members.signs, observed.similar.T, strict=True):
        known, target = ~np.isnan(similar), labels.liked if sign != -1 else ~labels.liked
        if not _both_kinds(labels, similar):
            share = log_odds_of(float(np.average(target, weights=labels.weight)))
            found.append(Calibration(Linear(0.0, share), unknown=share))
            continue
        found.append(fit_calibration(name, "platt", similar[known], target[known],
                                     labels.weight[known]))
    return found


def _both_kinds(labels: Labels, similar: Float64Array) -> bool:
    """Whether there are likes and dislikes that a model knows something of."""
    known = labels.liked[~np.isnan(similar)]
    return bool(known.any() and not known.all())


def _aligned(members: Members, lines: Sequence[Calibration],
             similar: Float64Array) -> Float64Array:
    """Log-odds of a like by each model, (n, n_models)."""
    zero = np.zeros(1)
    return np.column_stack([direction * line(similar[:, m], zero) for m, (direction, line)
                            in enumerate(zip(members.directions, lines, strict=True))])


def _auc(labels: Labels, similar: Float64Array, direction: float) -> float:
    known = ~np.isnan(similar)
    by_user = metrics.auc_by_user(labels.askers[known], labels.liked[known],
                                  direction * similar[known])
    return float(np.nanmean(by_user)) if not np.isnan(by_user).all() else float("nan")


def _about(members: Members, observed: Observed, labels: Labels, item_prior: float | None
           ) -> tuple[About, Float64Array]:
    """What is known of items, and for each feedback, without itself, (n, 1 + n_models)."""
    size, m = len(members.ids), len(members.sides)
    if item_prior is None:
        return About(np.zeros(size), np.zeros(1 + m), np.zeros(m)), np.zeros((len(labels.items), 0))
    record, left_out = item_log_odds(labels.items, size, labels.liked, labels.weight, item_prior)
    lengths, centers = _centered(members, observed.lengths, labels.items, labels.weight)
    return About(record, np.zeros(1 + m), centers), np.column_stack([left_out, lengths])


def _centered(members: Members, lengths: Float64Array, items: Int64Array,
              weight: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Lengths with the mean 0 where they are known, and 0 elsewhere; and those means."""
    found, centers = np.zeros_like(lengths), np.zeros(lengths.shape[1])
    for m, side in enumerate(members.sides):
        known = side.known[items]
        if known.any():
            centers[m] = np.average(lengths[known, m], weights=weight[known])
        found[:, m] = np.where(known, lengths[:, m] - centers[m], 0.0)
    return found, centers


def _spread_over(coefficients: Float64Array, kept: BoolArray, n_models: int) -> Float64Array:
    """Coefficients of the record and of the kept models' lengths among those of all."""
    found = np.zeros(1 + n_models)
    if len(coefficients):
        found[0] = coefficients[0]
        found[1:][kept[:n_models]] = coefficients[1:]
    return found


def _tell(names: tuple[str, ...], reasons: list[str]) -> None:
    dropped = [f"{name} ({reason})" for name, reason in zip(names, reasons, strict=True)
               if reason and reason != AGAINST]
    if dropped:
        warnings.warn(f"models left out: {', '.join(dropped)}", UserWarning, stacklevel=4)


def _exposure(members: Members, lines: tuple[Calibration, ...], kept: BoolArray,
              said: Float64Array, observed: Observed, labels: Labels, unseen: Unseen,
              preference: float) -> Exposure:
    """What tells shown from unseen pairs, within users; signs are free.

    A model that was left out, as it doesn't help to order what is shown, may well help here.
    """
    size = len(members.ids)
    times = np.bincount(labels.items, minlength=size).astype(np.float64)
    level = np.log(times.mean() + _SHOWN)
    # Without the showing itself.
    popular = np.concatenate([np.log(times[labels.items] - 1.0 + _SHOWN),
                              np.log(times[unseen.items] + _SHOWN)]) - level
    items = np.concatenate([labels.items, unseen.items])
    lengths, centers = _centered(members, np.vstack([observed.lengths, unseen.observed.lengths]),
                                 items, np.ones(len(items)))
    log_odds = np.vstack([said, _aligned(members, lines, unseen.observed.similar)])
    shown = np.arange(len(items)) < len(labels.items)
    askers = np.concatenate([labels.askers, unseen.askers])
    kept = kept | np.array([_tells(askers, shown, column) for column in log_odds.T])
    columns = np.column_stack([log_odds[:, kept], popular, lengths[:, kept]])
    found = fit_weights_within_users(columns, shown, np.ones(len(items)), askers,
                                     free=columns.shape[1])
    weights = np.zeros(len(lines))
    weights[kept] = found[: kept.sum()]
    about = About(np.log(times + _SHOWN) - level,
                  _spread_over(found[kept.sum() :], kept, len(lines)), centers)
    return Exposure(weights, about.of(members), about, preference)


def _tells(askers: Int64Array, shown: BoolArray, log_odds: Float64Array) -> bool:
    """Whether a model alone tells what was shown, in either direction."""
    area = metrics.auc_by_user(askers, shown, log_odds)
    return bool(not np.isnan(area).all() and abs(np.nanmean(area) - 0.5) > _TELLING)
