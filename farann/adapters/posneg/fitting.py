"""Learning from feedback: both calibrations, the items' own log-odds, the weight."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from farann import metrics
from farann._types import BoolArray, Float32Array, Float64Array
from farann.adapters.posneg.calibration import (
    RAW,
    Calibration,
    Linear,
    fit_calibration,
    fit_weights,
    flat,
    item_log_odds,
    warn_against,
)
from farann.adapters.posneg.feedback import Feedback, askers
from farann.adapters.posneg.fusion import Fusion, Parts
from farann.adapters.posneg.intercepts import fit_personal, fit_weights_within_users
from farann.adapters.posneg.scoring import Model, Pair, Scorer
from farann.adapters.posneg.sides import Normaliser, Side
from farann.adapters.posneg.stack import AGAINST, Labels, Stack, beside, select

# Weights that are tried where no likelihood says which is best.
_WEIGHTS = np.linspace(0.0, 1.0, 21)
# Queries, or feedback, looked at together.
_QUERIES = 64
_FEEDBACK = 1 << 16
# A veto that drops so much of what was shown deserves a warning.
_MUCH = 0.9
_NAMES = ("positive", "negative")


class Settings(NamedTuple):
    """How to fit."""

    calibration: Any
    fusion: Fusion
    fit_weight: bool
    item_prior: float | None
    veto: float | tuple[str, float] | None = None


def fit(pair: Pair, settings: Settings, feedback: Feedback) -> Model:
    """Find all that a model consists of."""
    size = len(pair.positive.row_of)
    similar = [_similarities(side, queries, pair.normalize, feedback)
               for side, queries in zip(pair[:2], feedback.queries, strict=True)]
    own, about_items = np.zeros(size), np.zeros((len(feedback.items), 0))
    use_items = settings.item_prior is not None and settings.fusion.calibrated
    _both_kinds(feedback.liked)
    if use_items:
        assert settings.item_prior is not None
        own, about_items = _about_items(pair, settings.item_prior, feedback)
    positive = negative = RAW
    if settings.fusion.calibrated:
        positive, negative = _calibrated(settings, similar, about_items, feedback)
    fusion = settings.fusion
    nothing = np.zeros(len(feedback.items))
    liked, disliked = positive(similar[0], nothing), negative(similar[1], nothing)
    weight, of_items = _linear_weights(liked, disliked, about_items, settings, feedback)
    if use_items:
        # The same for both models: what is known of an item adds to what both say together.
        positive = replace(positive, item_weight=1.0)
        negative = replace(negative, item_weight=-1.0)
        own, left_out = own @ of_items, about_items @ of_items
        liked, disliked = liked + left_out, disliked - left_out
    parts = Parts(liked[:, np.newaxis], disliked[:, np.newaxis],
                  pair.positive.known[feedback.items][:, np.newaxis],
                  pair.negative.known[feedback.items][:, np.newaxis])
    model = Model(positive, negative, fusion, own)
    if settings.fit_weight:
        if fusion.name != "logit":
            weight = _best_weight(pair, model, parts, feedback)
        fusion = fusion._replace(weight=weight)
        model = replace(model, fusion=fusion)
    fused = (fused_of(pair, model, feedback) if fusion.by_rank else fusion(parts)[:, 0])
    (slope,), intercept = fit_weights(fused[:, np.newaxis], feedback.liked, feedback.weight)
    personal = None
    if feedback.by_user:
        personal = fit_personal(fused, feedback.liked, feedback.weight, feedback.users,
                                len(feedback.queries[0]))
    return replace(model, probability=Linear(slope, intercept), personal=personal,
                   veto=_threshold(settings.veto, fusion.chances(parts)[1][:, 0], feedback))


def _threshold(veto: float | tuple[str, float] | None, chance: Float64Array,
               feedback: Feedback) -> float | None:
    """The greatest P(dislike) that is not dropped, by the feedback's own."""
    if veto is None:
        return None
    asked = veto
    if isinstance(veto, tuple) and veto[0] == "quantile":
        order = np.argsort(chance)
        share = np.cumsum(feedback.weight[order]) / feedback.weight.sum()
        at = min(int(np.searchsorted(share, veto[1])), len(order) - 1)
        veto = float(chance[order[at]])
    elif isinstance(veto, tuple):
        base = float(np.average(~feedback.liked, weights=feedback.weight))
        odds = veto[1] * base / (1.0 - base)
        veto = odds / (1.0 + odds)
    dropped = float(np.average(chance > veto, weights=feedback.weight))
    if dropped >= _MUCH and not (isinstance(asked, tuple) and asked[0] == "quantile"):
        warnings.warn(f"veto: P(dislike) is above {veto:.3g} for {100 * dropped:.0f} % of what "
                      "was shown, and that is dropped; veto=('lift', 2) or ('quantile', 0.8) "
                      "goes by the feedback", UserWarning, stacklevel=4)
    return float(veto)


def _both_kinds(liked: BoolArray) -> None:
    if liked.all() or not liked.any():
        raise ValueError("labels: expected likes and dislikes to learn from, got only "
                         f"{'likes' if liked.all() else 'dislikes'} in {len(liked)} rows")


def _calibrated(settings: Settings, similar: list[Float64Array], about_items: Float64Array,
                feedback: Feedback) -> list[Calibration]:
    """Both calibrations: each model by itself, or beside the other if that alone makes sense.

    The latter is for log-odds that are added: other fusions take each by itself.
    """
    lines = []
    for name, similarity, target in zip(_NAMES, similar, (feedback.liked, ~feedback.liked),
                                        strict=True):
        known = ~np.isnan(similarity)
        if not known.any():
            raise ValueError(f"item_ids: expected feedback on items of the {name} model, got none")
        lines.append(fit_calibration(name, settings.calibration, similarity[known], target[known],
                                     feedback.weight[known]))
    own = [1.0 if line.linear is None else line.linear.slope for line in lines]
    wrong = np.array(own) <= 0
    if not wrong.any():
        return lines
    labels = Labels(askers(feedback), feedback.items, feedback.liked, feedback.weight)
    directions, both = np.array([1.0, -1.0]), np.column_stack(similar)
    together = wrong & (settings.fusion.name == "logit")
    lines = beside(lines, together, directions, both, about_items, labels)
    reasons = [AGAINST if line.linear is not None and line.linear.slope <= 0 else ""
               for line in lines]
    said = np.column_stack([direction * line(similarity, np.zeros(1)) for direction, line,
                            similarity in zip(directions, lines, similar, strict=True)])
    select(Stack(said, about_items, labels), reasons, together, others=False)
    for m in np.flatnonzero(wrong):
        if reasons[m]:
            lines[m] = flat(lines[m])
            warn_against(_NAMES[m], own[m], m == 0, 4)
    return lines


def _similarities(side: Side, queries: Float32Array, normalize: str | None,
                  feedback: Feedback) -> Float64Array:
    """Normalised similarity of each feedback, (n,); NaN where the model lacks the item."""
    found = np.empty(len(feedback.items))
    if normalize is None:
        for start in range(0, len(found), _FEEDBACK):
            some = slice(start, start + _FEEDBACK)
            found[some] = side.similarity(queries[feedback.users[some]],
                                          feedback.items[some, np.newaxis])[:, 0]
        return found
    order = np.argsort(feedback.users, kind="stable")
    users = feedback.users[order]
    for start in range(0, len(queries), _QUERIES):
        at = order[np.searchsorted(users, start) : np.searchsorted(users, start + _QUERIES)]
        few = queries[start : start + _QUERIES]
        row = feedback.users[at] - start
        similarity = side.similarity(few[row], feedback.items[at, np.newaxis])
        found[at] = Normaliser(side, few, normalize).take(row)(similarity)[:, 0]
    return found


def fused_of(pair: Pair, model: Model, feedback: Feedback) -> Float64Array:
    """Fused scores of feedback, (n,)."""
    found = np.empty(len(feedback.items))
    positive, negative = feedback.queries
    if not model.fusion.by_rank and pair.normalize is None:  # they depend on no other item
        for start in range(0, len(found), _FEEDBACK):
            some = slice(start, start + _FEEDBACK)
            who = feedback.users[some]
            scorer = Scorer(pair, model, positive[who], negative[who])
            found[some] = scorer(feedback.items[some, np.newaxis]).fused[:, 0]
        return found
    order = np.argsort(feedback.users, kind="stable")
    users = feedback.users[order]
    for start in range(0, len(positive), _QUERIES):
        at = order[np.searchsorted(users, start) : np.searchsorted(users, start + _QUERIES)]
        if len(at):
            few = slice(start, start + _QUERIES)
            scored = Scorer(pair, model, positive[few], negative[few]).everything()
            found[at] = scored.fused[feedback.users[at] - start, feedback.items[at]]
    return found


def _about_items(pair: Pair, strength: float, feedback: Feedback
                 ) -> tuple[Float64Array, Float64Array]:
    """What is known of items whoever asks: their record, and how long both models' vectors are.

    Returns
    -------
    of_items : float64 (size, 3)
    of_feedback : float64 (n, 3)
        For each feedback what is known of its item without that feedback itself.
    """
    record, left_out = item_log_odds(feedback.items, len(pair.positive.row_of), feedback.liked,
                                     feedback.weight, strength)
    lengths = []
    for side in pair[:2]:
        # What is average, or unknown, adds nothing, as with the record.
        known = side.known[feedback.items]
        length = side.log_lengths()
        length -= np.average(length[feedback.items[known]], weights=feedback.weight[known])
        lengths.append(np.where(side.known, length, 0.0))
    return (np.column_stack([record, *lengths]),
            np.column_stack([left_out, *(length[feedback.items] for length in lengths)]))


def _linear_weights(liked: Float64Array, disliked: Float64Array, about_items: Float64Array,
                    settings: Settings, feedback: Feedback) -> tuple[float, Float64Array]:
    """The positive model's weight and those of what is known of items, (m,), beside it.

    They have the largest likelihood. More for a better record, but lengths may mean either.
    """
    weight, m = settings.fusion.weight, about_items.shape[1]
    columns = [weight * liked - (1.0 - weight) * disliked]
    if settings.fit_weight:
        columns = [liked, -disliked]
    found = fit_weights_within_users(
        np.column_stack([*columns, about_items]), feedback.liked, feedback.weight,
        askers(feedback), free=max(m - 1, 0))
    models, of_items = found[: len(columns)], found[len(columns) :]
    if models.sum() <= 0:
        return weight, of_items
    if settings.fit_weight:
        weight = float(models[0] / models.sum())
    return weight, of_items / models.sum()


def _best_weight(pair: Pair, model: Model, parts: Parts, feedback: Feedback) -> float:
    """The weight of the largest AUC, by user if feedback says whose it is."""
    fusion = model.fusion
    if fusion.name == "veto":
        return fusion.weight
    quality: list[float] = []
    users = feedback.users if feedback.by_user else np.zeros(len(feedback.users), np.int64)
    if fusion.by_rank:  # ranks don't depend on the weight
        alone = [fused_of(pair, replace(model, fusion=fusion._replace(weight=weight)),
                                feedback) for weight in (1.0, 0.0)]
    for weight in _WEIGHTS:
        tried = fusion._replace(weight=float(weight))
        fused = (weight * alone[0] + (1.0 - weight) * alone[1] if fusion.by_rank
                 else tried(parts)[:, 0])
        auc = metrics.auc_by_user(users, feedback.liked, fused)
        quality.append(float(np.nanmean(auc)) if not np.isnan(auc).all() else 0.5)
    best = np.flatnonzero(np.asarray(quality) >= np.max(quality))
    return float(_WEIGHTS[best[len(best) // 2]])
