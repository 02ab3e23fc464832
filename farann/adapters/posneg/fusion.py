"""How two calibrated answers about an item become one number.

CombSUM and CombMNZ are from Fox and Shaw, "Combination of multiple searches" (TREC-2, 1994);
reciprocal rank fusion from Cormack, Clarke and Buettcher (SIGIR 2009), the inverse square rank
from Mourão et al. (2015), Borda from Aslam and Montague, "Models for metasearch" (SIGIR 2001).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from farann._types import BoolArray, Float64Array
from farann.adapters.posneg.calibration import expit

SCORE_FUSIONS = ("logit", "convex", "product", "combsum", "combmnz", "veto")
RANK_FUSIONS = ("rrf", "isr", "borda")
FUSIONS = SCORE_FUSIONS + RANK_FUSIONS


class Parts(NamedTuple):
    """What is known of some items; all (n_queries, m).

    Attributes
    ----------
    liked, disliked : float64
        Calibrated log-odds by the positive and the negative model, or raw similarities.
    in_positive, in_negative : bool
        Whether the model knows the item; under ``candidates=``, whether it lists it.
    """

    liked: Float64Array
    disliked: Float64Array
    in_positive: BoolArray
    in_negative: BoolArray


class Fusion(NamedTuple):
    """A fusion with its parameters; larger is better, and monotone in both parts."""

    name: str
    weight: float
    calibrated: bool
    rank_constant: float

    @property
    def by_rank(self) -> bool:
        """Whether an item's number depends on where the others stand."""
        return self.name in RANK_FUSIONS

    def chances(self, parts: Parts) -> tuple[Float64Array, Float64Array]:
        """P(like) and P(dislike); raw similarities where nothing was calibrated."""
        if self.calibrated:
            return expit(parts.liked), expit(parts.disliked)
        return parts.liked, parts.disliked

    def __call__(self, parts: Parts) -> Float64Array:
        """Fused scores, (n_queries, m)."""
        w, v = self.weight, 1.0 - self.weight
        if self.name == "logit":
            return w * parts.liked - v * parts.disliked
        if self.by_rank:
            return self._by_rank(parts)
        good = expit(parts.liked) if self.calibrated else parts.liked
        if self.name == "veto":
            return good
        harmless = expit(-parts.disliked) if self.calibrated else 1.0 - parts.disliked
        if self.name == "convex":
            return w * good + v * harmless
        if self.name == "product":
            product: Float64Array = good ** (2.0 * w) * harmless ** (2.0 * v)
            return product
        summed: Float64Array = 2.0 * (w * good + v * harmless)
        return summed * self._lists(parts) if self.name == "combmnz" else summed

    def _lists(self, parts: Parts) -> Float64Array:
        return parts.in_positive.astype(np.float64) + parts.in_negative

    def _by_rank(self, parts: Parts) -> Float64Array:
        fused = np.zeros_like(parts.liked)
        sides = ((self.weight, parts.liked, parts.in_positive),
                 (1.0 - self.weight, -parts.disliked, parts.in_negative))
        for weight, value, listed in sides:
            rank = _ranks(np.where(listed, value, -np.inf))
            count = listed.sum(axis=1, keepdims=True)
            if self.name == "rrf":
                points = np.where(listed, 1.0 / (self.rank_constant + rank), 0.0)
            elif self.name == "isr":
                points = np.where(listed, 1.0 / rank**2, 0.0) * self._lists(parts)
            else:
                every = parts.liked.shape[1]
                rest = (every - count + 1.0) / 2.0
                points = np.where(listed, every - rank + 1.0, rest) / max(every, 1)
            fused += 2.0 * weight * points
        return fused


def _ranks(values: Float64Array) -> Float64Array:
    """Ranks in each row from 1, the largest first; equal values in the order of columns."""
    order = np.argsort(-values, axis=1, kind="stable")
    ranks = np.empty_like(values)
    np.put_along_axis(ranks, order, np.arange(1.0, values.shape[1] + 1.0)[np.newaxis], axis=1)
    return ranks
