"""What a ranker gives: items with their scores, and the fused score as a formula."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from farann._types import Float64Array, Int64Array
from farann.adapters.posneg import naming
from farann.adapters.posneg.blend import Blended, Found, chances_of
from farann.adapters.posneg.naming import Ids
from farann.adapters.posneg.scoring import Scored


class PosNegHits(NamedTuple):
    """The k best items of each query, and why they are there.

    Attributes
    ----------
    scores : float64 (n_queries, k), or (k,) for a single query
        Fused scores, largest first. NaN where there are fewer items.
    ids : int64 or object, the same shape
        The items' ids; -1, or None among strings, where there are fewer.
    positive, negative : float64, the same shape
        P(like) by the positive model and P(dislike) by the negative one; similarities if
        nothing is calibrated. NaN where there are fewer items.
    """

    scores: Float64Array
    ids: Ids
    positive: Float64Array
    negative: Float64Array


class LinearLogit(NamedTuple):
    """The fused score as a formula, for use outside, in a TensorFlow layer say.

    For similarities p and n of an item under the two models, and the item's own log-odds o
    (`PosNegRanker.item_log_odds`), the fused score is ``weight * (positive_slope * p +
    positive_intercept + positive_item * o) - (1 - weight) * (negative_slope * n +
    negative_intercept + negative_item * o)``. The sums in brackets are the log-odds of a like
    and of a dislike. An item that a model lacks has `positive_unknown` or `negative_unknown`
    in the place of slope * similarity + intercept.
    """

    weight: float
    positive_slope: float
    positive_intercept: float
    positive_item: float
    positive_unknown: float
    negative_slope: float
    negative_intercept: float
    negative_item: float
    negative_unknown: float


class FusionHits(NamedTuple):
    """The k best items of each query, and why they are there.

    Attributes
    ----------
    scores : float64 (n_queries, k), or (k,) for a single query
        What they are ordered by, largest first. NaN where there are fewer items.
    ids : int64 or object, the same shape
        The items' ids; -1, or None among strings, where there are fewer.
    log_odds : float64, the same shape
        The fused log-odds of a like if the item is shown, for `probability`.
    chances : dict of float64, the same shape
        By the name of each model that counts: P(like) by it, or P(dislike) if its sign is -1.
    """

    scores: Float64Array
    ids: Ids
    log_odds: Float64Array
    chances: dict[str, Float64Array]


def hits_of(ids: Ids, scored: Scored, single: bool) -> PosNegHits:
    """Items by their ids; those of the only query if it was a single one."""
    none = scored.items < 0
    parts = [np.where(none, np.nan, part)
             for part in (scored.fused, scored.liked, scored.disliked)]
    hits = PosNegHits(parts[0], naming.answers(ids, scored.items), parts[1], parts[2])
    return PosNegHits(*(part[0] for part in hits)) if single else hits


def fusion_hits(blended: Blended, found: Found, single: bool,
                same: Int64Array | None = None) -> FusionHits:
    """What was found, with the log-odds and chances by a ranking without exposure.

    `same` are the items if they are the same for all queries.
    """
    items, none = found.items, found.items < 0
    asked = items if same is None else same
    parts = [np.where(none, np.nan, part) for part in (found.fused, blended(asked).fused)]
    ids, chances = naming.answers(blended.members.ids, items), chances_of(blended, asked)
    if single:
        parts, ids = [part[0] for part in parts], ids[0]
        chances = {name: part[0] for name, part in chances.items()}
    return FusionHits(parts[0], ids, parts[1], chances)
