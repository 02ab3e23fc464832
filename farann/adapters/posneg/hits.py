"""What a ranker gives: items with their scores, and the fused score as a formula."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from farann._types import Float64Array, Int64Array
from farann.adapters.posneg.scoring import Scored


class PosNegHits(NamedTuple):
    """The k best items of each query, and why they are there.

    Attributes
    ----------
    scores : float64 (n_queries, k), or (k,) for a single query
        Fused scores, largest first. NaN where there are fewer items.
    ids : int64, the same shape
        The items' ids; -1 where there are fewer.
    positive, negative : float64, the same shape
        P(like) by the positive model and P(dislike) by the negative one; similarities if
        nothing is calibrated. NaN where there are fewer items.
    """

    scores: Float64Array
    ids: Int64Array
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


def hits_of(ids: Int64Array, scored: Scored, single: bool) -> PosNegHits:
    """Items by their ids; those of the only query if it was a single one."""
    none = scored.items < 0
    parts = [np.where(none, np.nan, part)
             for part in (scored.fused, scored.liked, scored.disliked)]
    hits = PosNegHits(parts[0], np.where(none, -1, ids[scored.items]), parts[1], parts[2])
    return PosNegHits(*(part[0] for part in hits)) if single else hits
