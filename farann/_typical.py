"""What is typical of a search: a sample of rows and queries, which tells what layouts pay."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from farann import _basis, _core
from farann._codes import centred
from farann._rotation import ROTATION_ROUNDS, Turn
from farann._types import Float32Array, Float64Array, Int64Array

# Rows that directions and costs are estimated from, and queries.
_ROWS, _QUERIES = 8192, 128
# What rows reach is kept if sample queries can leave out such a share of the rows by it.
_WORTH_AN_ORDER = 0.1
# Rows in the order of what they reach along the lead: it counts so many times there, which leaves
# the fewest rows. And of |y|^2, what pays for a lead that is not quite of length 1.
_LEAD_COUNTS, _REST_SHARE = 2.0, 1e-9
# A stretch must leave so much of what codes may be off at most.
_WORTH_A_STRETCH = 0.98
# What is outside the axes may move keys by such a share of how much they differ; and there are
# none in larger dimensions, as queries would take longer to prepare than to ask.
_LARGEST_OUTSIDE, _MOST_TURNED = 0.15, 256


def weights_of(queries: Float32Array, centre: Float64Array, metric: int) -> Float64Array:
    """What centred rows are multiplied with, to find the furthest ones."""
    weights = queries.astype(np.float64)
    if _core.METRICS[metric] == "cosine":
        weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    return -2.0 * (weights - centre) if _core.METRICS[metric] == "l2" else -weights


def directions_of(weights: Float64Array) -> Float64Array:
    """Weights of length 1: long queries aren't more important. Zeros stay what they are."""
    lengths = np.linalg.norm(weights, axis=1, keepdims=True)
    directions: Float64Array = weights / np.maximum(lengths, np.finfo(np.float64).tiny)
    return directions


def sample_of(rows: Float32Array, centre: Float64Array, unit: bool) -> Float64Array:
    """Rows from all over, centred; they may be in an order."""
    return centred(rows[:: max(-(-len(rows) // _ROWS), 1)], centre, unit)


def stretch_for(rows: Float32Array, centre: Float64Array, metric: int,
                weights: Float64Array) -> Float64Array | None:
    """The stretch of rows that makes codes best for these weights, if it makes them better.

    What a product of codes may be off is as the length of the row times that of the weights. Along
    the mean query, weights are long and rows are not: rows times s and weights over s have the same
    product there, and the s is best that makes the product of their mean squares smallest. Under
    l2, queries have next to no mean beside the centre of rows.
    """
    if _core.METRICS[metric] == "l2" or len(rows) == 0:
        return None
    sample = sample_of(rows, centre, _core.METRICS[metric] == "cosine")
    directions = directions_of(weights)
    mean = directions.sum(axis=0)
    length = float(np.linalg.norm(mean))
    size = float(np.einsum("ij,ij->", sample, sample))
    if not (length > 0.0 and size > 0.0):
        return None
    direction = mean / length
    of_rows = float(((sample @ direction) ** 2).sum()) / size
    of_weights = float(((directions @ direction) ** 2).mean())
    others = max((1.0 - of_rows) * of_weights, 0.0), max(of_rows * (1.0 - of_weights), 1e-30)
    by = float(min((others[0] / others[1]) ** 0.25, _core.LARGEST_STRETCH))
    if by <= 1.0:
        return None
    left = (1.0 + (by**2 - 1.0) * of_rows) * (1.0 - of_weights * (1.0 - by**-2))
    if left**0.5 > _WORTH_A_STRETCH:
        return None
    stretch: Float64Array = (by - 1.0) ** 0.5 * direction
    return stretch


def axes_for(rows: Float32Array, centre: Float64Array, metric: int, weights: Float64Array,
             stretch: Float64Array | None, seed: int) -> Float64Array | None:
    """The fewest principal axes of rows, in whole groups, along which coding them does as well.

    Rows that lie near a space of fewer dimensions than they have waste codes on the others. None
    where no group can be spared.
    """
    dim = rows.shape[1]
    if dim > _MOST_TURNED or len(rows) == 0:
        return None
    turn = Turn(np.ones((ROTATION_ROUNDS, dim), np.int8), stretch)
    sample = turn.stretched(sample_of(rows, centre, _core.METRICS[metric] == "cosine"))
    asked = turn.shrunk(directions_of(weights))
    with np.errstate(over="ignore", invalid="ignore"):
        found = _basis.directions(sample, seed)
        along, asked_along = (np.cumsum((vectors @ found.T) ** 2, axis=1)
                              for vectors in (sample, asked))
        left, asked_left = (
            np.sqrt(np.maximum(np.einsum("ij,ij->i", vectors, vectors)[:, None] - squares, 0.0))
            for vectors, squares in ((sample, along), (asked, asked_along)))
        differ = float((asked[: _QUERIES] @ sample.T).std())
        outside = asked_left.mean(axis=0) * left.max(axis=0)
    numbers = np.arange(4, min(len(found), _core.MOST_AXES) + 1, 4)
    enough = numbers[outside[numbers - 1] <= _LARGEST_OUTSIDE * differ]
    if len(enough) == 0 or -(-dim // 4) * 4 <= enough[0]:
        return None
    return np.ascontiguousarray(found[: enough[0]])


class Typical(NamedTuple):
    """What is typical of a search: rows of a sample, centred, and queries.

    Keys are <weight, row>, plus |row|^2 if `squared`; an answer ends with the key `threshold`.
    """

    rows: Float64Array
    weights: Float64Array
    thresholds: Float64Array
    squared: bool

    def out_of_reach(self) -> float:
        """The share of rows that are too near the centre to be an answer, whatever they are."""
        lengths = np.sort(np.linalg.norm(self.rows, axis=1))
        factors = np.linalg.norm(self.weights, axis=1)
        bounds = factors[:, None] * lengths + (lengths**2 if self.squared else 0.0)
        return float((bounds < self.thresholds[:, None]).mean())

    def reach(self, weights: Float64Array) -> tuple[bool, Lead | None]:
        """Whether it pays to know what rows reach, and the lead if that tells more than lengths.

        `weights` are those of all sample queries.
        """
        lead = self.lead(weights)
        of_lengths, of_lead = self.out_of_reach(), self.out_of_reach_along(lead)
        pays = max(of_lengths, of_lead) > _WORTH_AN_ORDER
        return pays, lead if pays and of_lead > of_lengths else None

    def lead(self, weights: Float64Array) -> Lead | None:
        """The direction of the mean weights; None under l2, where they have none in common."""
        total = weights.sum(axis=0)
        length = float(np.linalg.norm(total))
        if self.squared or not 1e-30 < length < 1e30:
            return None
        direction = total / length
        direction /= np.linalg.norm(direction)
        along, across = along_and_across(weights, direction)
        return Lead(direction, float(along.mean()), float(across.mean()))

    def out_of_reach_along(self, lead: Lead | None) -> float:
        """The share of rows that are left out if they are known to reach no more than those before
        them, along the lead and across it."""
        if lead is None:
            return 0.0
        along, across = along_and_across(self.rows, lead.direction)
        order = np.argsort(-lead.promise(along, across))
        most_along = np.maximum.accumulate(along[order][::-1])[::-1]
        most_across = np.maximum.accumulate(across[order][::-1])[::-1]
        ours, rest = along_and_across(self.weights, lead.direction)
        bounds = ours[:, None] * most_along + rest[:, None] * most_across
        return float(((bounds < self.thresholds[:, None]) & (ours > 0.0)[:, None]).mean())


class Lead(NamedTuple):
    """A direction that weights have in common, and what is typical of them: their products with
    it, and how long the rest is."""

    direction: Float64Array
    along: float
    across: float

    def promise(self, along: Float64Array, across: Float64Array) -> Float64Array:
        """What orders rows."""
        return _LEAD_COUNTS * self.along * along + self.across * across


def along_and_across(vectors: Float64Array,
                     direction: Float64Array) -> tuple[Float64Array, Float64Array]:
    """What vectors are along a direction, and how long what is left of them, rounded up."""
    along = vectors @ direction
    squares = np.einsum("ij,ij->i", vectors, vectors)
    return along, np.sqrt(np.maximum(squares - along**2, 0.0) + _REST_SHARE * squares)


def typical_of(rows: Float32Array, centre: Float64Array, metric: int, queries: Float32Array,
               last: Int64Array) -> Typical:
    """What is typical of some queries from all over the sample; `last` ends each one's answer."""
    unit, squared = _core.METRICS[metric] == "cosine", _core.METRICS[metric] == "l2"
    some = slice(None, None, -(-len(queries) // _QUERIES))
    sample = sample_of(rows, centre, _core.METRICS[metric] == "cosine")
    weights, ends = weights_of(queries[some], centre, metric), centred(rows[last[some]], centre,
                                                                       unit)
    thresholds = np.einsum("ij,ij->i", weights, ends)
    if squared:
        thresholds += (ends**2).sum(axis=1)
    return Typical(sample, weights, thresholds, squared)


def first_look(typical: Typical, n: int, width: int, seed: int) -> Float64Array | None:
    """The basis to look along first at n rows, whose codes have so many bytes, if that pays."""
    return _basis.choose(_basis.directions(typical.rows, seed), typical.rows, n, typical.weights,
                         typical.thresholds, typical.squared, width, seed)
