"""The arithmetic of 8-bit codes in plain numpy: layouts of choice, sums, limits, scores, slack.

What `src_c/quantize.c` and the kernels compute, in the words of docs/how-it-works; tests hold
the proof's inequalities against it, and the kernels' candidates.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import inside
import numpy as np
import reference
from inside.contract import traits_of
from inside.layout import Builder, MeanQueryDirection, RowLengths, key_bounds, whole_panels
from inside.quantize import (
    CodeArrays,
    CodeBounds,
    Projection,
    Transform,
    centered,
    measure_rows,
    rotation_signs,
)
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


# ---- layouts ----


def lay_out(rows: Float32, metric: str, basis: Float64 | None = None, *,
            order: Int64 | None = None, center: Float64 | None = None,
            isa: str = "scalar", by_length: bool = False, by_square: bool = False,
            lead: Float64 | None = None, axes: Float64 | None = None) -> CodeArrays:
    """Codes of rows with a basis, or none, and an order of choice, of which outliers are left out.

    `by_length`: the rows furthest from the center first; `by_square`: the longest rows first,
    which have no negative numbers; `lead`: those first that are most along it; `axes`: coded
    along these.
    AssertionError where rows have no codes.
    """
    middle = np.zeros(rows.shape[1]) if center is None else center
    n_coded = rows.shape[1] if axes is None else len(axes)
    turn = Transform(rotation_signs(n_coded, 0), projection(axes))
    extents = measure_rows(rows, middle, metric == "cosine", turn, isa, False)
    assert extents is not None
    order = np.arange(len(rows)) if order is None else order
    order = order[~np.isin(order, extents.outliers)]
    builder = Builder(rows, middle, traits_of(metric), isa, extents, False)
    along_first = projection(basis)
    if lead is not None:
        of_queries = MeanQueryDirection(
            Projection((lead / np.linalg.norm(lead))[None]), 1.0, 1.0)
        sizes = lengths_of(rows, middle, metric, of_queries.direction).sizes(extents.largest, True)
        assert sizes.along is not None and sizes.lengths is not None
        order = builder.by_key_bound(order, of_queries.optimistic_score(sizes.along, sizes.lengths))
        order = whole_panels(order)
        return replace(builder.lay_out(order, along_first),
                       **key_bounds(order, sizes, of_queries.direction))
    if not (by_length or by_square):
        return builder.lay_out(whole_panels(order), along_first)
    sizes = lengths_of(rows, middle, metric, from_origin=by_square).sizes(
        extents.largest, by_square=by_square)
    assert sizes.lengths is not None
    order = whole_panels(builder.by_key_bound(order, sizes.lengths))
    return replace(builder.lay_out(order, along_first),
                   **key_bounds(order, sizes, by_square=by_square))


def lengths_of(rows: Float32, center: Float64, metric: str, direction: Projection | None = None,
               from_origin: bool = False) -> RowLengths:
    lengths = RowLengths(len(rows), center, metric == "cosine", direction, from_origin)
    lengths.measure(rows, slice(0, len(rows)))
    return lengths


def projection(directions: Float64 | None) -> Projection | None:
    return None if directions is None else Projection(directions)


def directions_of(found: Projection | None) -> Float64 | None:
    return None if found is None else found.directions


def four_bits(arrays: CodeArrays) -> CodeArrays:
    """The same codes of which the lower halves are lost."""
    return replace(arrays, low_nibbles=None)


def leading(rows: Float32, metric: str, m: int, center: Float64 | None = None) -> Float64:
    """The first m principal directions, or all there are, turned at random as `choose` does."""
    middle = np.zeros(rows.shape[1]) if center is None else center
    found = inside.quantize.directions(centered(rows, middle, metric == "cosine"), 0)[:m]
    return orthonormal(np.random.default_rng(1), len(found), len(found)) @ found


def orthonormal(rng: np.random.Generator, m: int, dim: int) -> Float64:
    """Random orthonormal directions (m, dim)."""
    return np.ascontiguousarray(np.linalg.qr(rng.standard_normal((dim, m)))[0].T)


def by_position(panels: Bytes, rows: int = 16) -> Bytes:
    """Bytes row after row, as they were before panels, or quads, of so many rows were packed."""
    n, width = panels.shape
    return panels.reshape(n // rows, width // 4, rows, 4).transpose(0, 2, 1, 3).reshape(n, width)


def halves(packed: Bytes, groups: int) -> Int64:
    """Of each byte, row after row, the half of a pair's first group, then that of its second."""
    pairs = packed.reshape(len(packed), -1, 1, 4).astype(np.int64)
    both = np.concatenate([pairs & 15, pairs >> 4], axis=2)
    return both.reshape(len(packed), -1)[:, : 4 * groups]


class Codes(NamedTuple):
    """Bytes c + 128 by position, in int64: of all coordinates, and of what is scanned."""

    whole: Int64
    upper: Int64 | None  # upper halves; None with a basis
    along: Int64 | None  # along the basis and the rest; None without


def codes_of(arrays: CodeArrays) -> Codes:
    panels = by_position(arrays.panels)
    if arrays.whole is not None:
        return Codes(arrays.whole.astype(np.int64), None, panels.astype(np.int64))
    groups = -(-arrays.signs.shape[1] // 4)
    upper = halves(panels, groups)
    if arrays.low_nibbles is None:
        return Codes(16 * upper, upper, None)
    return Codes(16 * upper + halves(by_position(arrays.low_nibbles, 4), groups), upper, None)


def filled(arrays: CodeArrays) -> NDArray[np.intp]:
    """Positions that hold a row."""
    assert arrays.slots is not None
    return np.flatnonzero(arrays.slots >= 0)


@cache
def _hadamard(size: int) -> Float64:
    matrix = np.ones((1, 1))
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix / math.sqrt(size)


def turned(vectors: Float64, signs: NDArray[np.int8]) -> Float64:
    """The rotation of all coordinates, of each row."""
    dim = vectors.shape[1]
    size = 1 << (dim.bit_length() - 1)
    hadamard = _hadamard(size)
    out = vectors.copy()
    for sign in signs:
        out *= sign
        out[:, :size] = out[:, :size] @ hadamard
        if size < dim:
            out[:, dim - size :] = out[:, dim - size :] @ hadamard
    return out


def along_axes(vectors: Float64, axes: Float64 | None) -> tuple[Float64, Float64]:
    """What vectors are along axes, and how long what is left of each, rounded up."""
    if axes is None:
        return vectors, np.zeros(len(vectors))
    along, squares = vectors @ axes.T, (vectors**2).sum(axis=1)
    left = np.maximum(squares - (along**2).sum(axis=1), 0.0) + 1e-9 * squares
    return along, np.sqrt(left)


# ---- queries ----


class Question(NamedTuple):
    """A query as a search prepares it."""

    weights: Float64  # a
    norm: float       # |a| of the float32 weights
    key_scale: float
    key_offset: float
    slack: tuple[float, float, float]
    lost: float

    def slack_at(self, length: float) -> float:
        """s0 + s1 L + s2 L^2 for rows up to a length; infinite where float32 ends."""
        reach = 1.001 * math.sqrt(length * length + self.lost)
        if not (self.norm * reach + reach * reach < 1e37 and self.norm < 1e37):
            return math.inf
        return self.slack[0] + reach * (self.slack[1] + reach * self.slack[2])


def question(query: Float32, center: Float64, metric: str, sign: float) -> Question:
    """What `farann_query_prepare` makes of a query."""
    q = query.astype(np.float64)
    length = math.sqrt(_total(q * q)) if metric == "cosine" else 1.0
    weights = sign * (-2.0 * (q - center) if metric == "l2" else -q / length)
    with np.errstate(over="ignore"):
        norm = math.sqrt(_total(weights.astype(np.float32).astype(np.float64) ** 2))
    terms = len(q) + 16
    gamma, gamma64, lost = terms * 2.0**-24 * 1.01, terms * 2.0**-52, terms * 2.0**-125
    s0, s1, s2 = lost, gamma * norm, 0.0
    scale, offset = 1.0, sign * _total(q * center)
    if metric == "l2":
        offset = -sign * _total((q - center) ** 2)
        s0 += gamma64 * abs(offset)
        s2 = 2 * gamma
    elif metric == "dot":
        s0 += 2 * gamma64 * norm * float(np.linalg.norm(center))
    else:
        scale, offset = 1 / length, offset / length
        s0 += 8 * gamma64
    return Question(weights, norm, scale, offset, (s0, s1, s2), lost)


def _total(terms: Float64) -> float:
    """A sum in the order of `scale_query_f64`: eight lanes, then a tree."""
    return float(reference.total(terms[:, None])[0])


class Limits(NamedTuple):
    """What sums must be greater than, by position: in real numbers, and as levels round it."""

    real: Float64
    fused: Int64    # each multiply and add rounded once
    rounded: Int64  # each rounded twice

    @property
    def strictest(self) -> Int64:
        return np.maximum(self.fused, self.rounded)

    @property
    def loosest(self) -> Int64:
        return np.minimum(self.fused, self.rounded)


class Level(NamedTuple):
    """A query against all positions, as one kind of scan sees them."""

    sums: Int64             # H
    weights: Float64        # w
    squares: Float64 | None  # b
    unknown: Float64 | None  # Lambda of the position's panel, where upper halves are read alone
    sign: float
    unit: float       # t
    total: float      # sum of u
    allowance: float  # U
    length: float     # |u|
    slack: float
    off: float

    @property
    def width(self) -> float:
        """How much of c + 128 a unit of what is read stands for."""
        return 1.0 if self.unknown is None else 16.0

    @property
    def middle(self) -> float:
        return -128.0 if self.unknown is None else 7.5 - 128.0

    def limits(self, floor: float | Float64) -> Limits:
        """For rows of this reduced key and more; a floor for all positions or for each."""
        units = 1.0 / (self.unit * self.width)
        most = 2.0**29 / self.weights.max() / self.width
        threshold = (np.broadcast_to(floor, self.weights.shape) - self.slack) * units
        every = ~(threshold > -most)
        threshold = np.minimum(np.where(every, 0.0, threshold), most)
        offset = -(self.allowance + self.middle * self.total) / self.width - 2.0
        parts = [(self.weights, threshold)]
        if self.unknown is not None:
            parts.append((self.unknown, np.full_like(threshold, -self.length / 16)))
        if self.squares is not None:
            parts.append((self.squares, np.full_like(threshold, -self.sign * units)))
        real = np.full(threshold.shape, offset)
        fused = real.astype(np.float32)
        rounded = fused
        for held, factor in parts:
            real = real + held * factor
            exact = held * _float32(factor)  # in float64, which holds it all
            fused = (exact + fused).astype(np.float32)
            rounded = exact.astype(np.float32) + rounded
        return Limits(np.where(every, -2.0**30, real), *(
            np.where(every, -2.0**30, np.rint(limit)).astype(np.int64)
            for limit in (fused, rounded)))

    def passing(self, floor: float) -> NDArray[np.bool_]:
        """The positions that stay where candidates are refined, in float64 from float32 parts."""
        units = 1.0 / self.unit
        most = 2.0**29 / self.weights.max()
        threshold = (floor - self.slack) * units
        if not threshold > -most:
            return np.ones(len(self.sums), np.bool_)
        limit = self.weights * _float32(min(threshold, most))
        if self.squares is not None:
            limit += self.squares * _float32(-self.sign * units)
        allowed = _float32(-(self.allowance + self.middle * self.total) - 2.0)
        return np.asarray(self.sums > limit + allowed)

    def scores(self) -> Float32:
        """What rows are thinned out by, in float32 throughout."""
        step, origin = np.float32(self.unit * self.width), np.float32(
            self.middle * self.total * self.unit)
        numerator = self.sums.astype(np.float32) * step + origin
        if self.squares is not None:
            numerator += self.squares.astype(np.float32) * np.float32(self.sign)
        return np.asarray(numerator / self.weights.astype(np.float32), np.float32)


def _float32(value: Any) -> Any:
    """Rounded to float32, and back: products of two such are exact."""
    return np.float64(np.float32(value)) if np.ndim(value) == 0 else (
        value.astype(np.float32).astype(np.float64))


class Levels(NamedTuple):
    """A query against all kinds of codes that rows have."""

    whole: Level | None  # all coordinates; None where lower halves are lost
    upper: Level | None  # upper halves; None with a basis
    along: Level | None  # along a basis; None without


def levels(asked: Question, arrays: CodeArrays, sign: float,
           largest: int) -> Levels | None:
    """All kinds of scans of one query; None where the codes can't be used for it."""
    codes = codes_of(arrays)
    along_them, lengths = along_axes(asked.weights[None], directions_of(arrays.pca_axes))
    a, outside = turned(along_them, arrays.signs)[0], float(lengths[0])
    if arrays.pca_filter is None:
        assert arrays.low_nibble_norm is not None
        weights, unknown = (np.repeat(v, 16).astype(np.float64)
                            for v in (arrays.inv_scale, arrays.low_nibble_norm))
        upper_alone = arrays.low_nibbles is None
        whole = _level(a, outside, codes.whole, arrays.bounds, arrays.bounds.norm, asked, weights,
                       arrays.squares, None, sign, largest, upper_alone)
        assert codes.upper is not None
        upper = _level(a, outside, codes.upper, arrays.bounds, arrays.bounds.norm, asked, weights,
                       arrays.squares, unknown, sign, largest, upper_alone)
        if whole is None or upper is None:
            return None
        return Levels(None if upper_alone else whole, upper, None)
    assert arrays.whole_bounds is not None and arrays.whole_inv_scale is not None
    reach = arrays.whole_bounds.norm
    products = arrays.pca_filter.directions @ asked.weights
    squares = float(asked.weights @ asked.weights)
    rest = math.sqrt(max(squares - float(products @ products), 0.0) + squares * 1e-9)
    assert codes.along is not None
    along = _level(products, rest, codes.along, arrays.bounds, reach, asked,
                   np.repeat(arrays.inv_scale, 16).astype(np.float64), arrays.squares, None, sign,
                   largest, False)
    whole = _level(a, outside, codes.whole, arrays.whole_bounds, reach, asked,
                   arrays.whole_inv_scale.astype(np.float64), arrays.whole_squares, None, sign,
                   largest, False)
    return None if along is None or whole is None else Levels(whole, None, along)


def _level(a: Float64, rest: float, codes: Int64, bounds: CodeBounds, reach: float,
           asked: Question, weights: Float64, squares: Float32 | None, unknown: Float64 | None,
           sign: float, largest: int, upper_alone: bool) -> Level | None:
    scale = 1.0 / float(weights.min())
    t = max(float(np.abs(a).max()), rest * bounds.rest_step / 4) / largest
    if squares is not None:
        t = max(t, float(squares.max()) / 2.0**28)
    t = t if t > 0.0 else 1e-37 / 2.0**28 if squares is not None else 1.0 / scale
    slack = asked.slack_at(reach)
    if not (slack < math.inf and 1e-36 < t < 1e29 and 1e-30 < t * scale < 1e30):
        return None
    u = np.rint(a * (1.0 / t))
    assert np.abs(u).max() <= largest
    query = np.zeros(codes.shape[1], np.int64)
    query[: len(u)] = u
    if bounds.rest_step > 0.0:
        amount = min(math.ceil(rest * bounds.rest_step / t), 4 * largest)
        query[-4:] = np.clip(amount - largest * np.arange(4), 0, largest)
    total = float(query.sum())
    within, left = float(np.linalg.norm(t * u)), float(np.linalg.norm(a - t * u))
    rounding = 2.0**-21 * 128 * abs(total)
    outside = rest * bounds.outside_length * (1 + 2.0**-20)
    allowance = (within * bounds.residual + left * bounds.length + outside) / t
    allowance += rounding
    length = within / t
    if not allowance + length * bounds.low_nibble_norm < 2.0**28:
        return None
    missing = bounds.residual + (bounds.low_nibble_norm if upper_alone else 0.0)
    off = slack + (within * missing + rounding * t) * scale
    off += left * bounds.norm + rest * bounds.outside
    held = None if squares is None else squares.astype(np.float64)
    return Level(codes @ query, weights, held, unknown, sign, t, total, allowance, length, slack,
                 off)


def reduced_keys(query: Float32, rows: Float32, metric: str, sign: float,
                 asked: Question) -> Float64:
    """The reduced keys of rows, from canonical ones."""
    return sign * reference.keys(query, rows, metric) * asked.key_scale + asked.key_offset
