"""The arithmetic of 8-bit codes in plain numpy: layouts of choice, scores, and their slack.

What `src_c/codes.c` and the kernels compute, in the words of docs/how-it-works.md; tests hold the
proof's inequalities against it, and the kernels' candidates.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import reference
from farann import _basis, _core, _layout
from farann._codes import centred, code_rows
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

ZERO_POINTS = {"scalar": 128, "avx2": 64, "avx512": 64, "avx512vnni": 128}


def lay_out(rows: Float32, metric: str, basis: Float64 | None = None, *,
            order: Int64 | None = None, centre: Float64 | None = None,
            isa: str = "scalar") -> _layout.CodeArrays:
    """Codes of rows with a basis, or none, and an order of choice."""
    middle = np.zeros(rows.shape[1]) if centre is None else centre
    coded = code_rows(rows, middle, metric == "cosine", 0, isa, False)
    assert coded is not None
    return _layout._lay_out(coded, rows, middle, _core.METRICS.index(metric),
                            _layout.Plan(order, basis))


def leading(rows: Float32, metric: str, m: int, centre: Float64 | None = None) -> Float64:
    """The first m principal directions, or all there are, turned at random as `choose` does."""
    middle = np.zeros(rows.shape[1]) if centre is None else centre
    found = _basis.directions(centred(rows, middle, metric == "cosine"), 0)[:m]
    return orthonormal(np.random.default_rng(1), len(found), len(found)) @ found


def orthonormal(rng: np.random.Generator, m: int, dim: int) -> Float64:
    """Random orthonormal directions (m, dim)."""
    return np.ascontiguousarray(np.linalg.qr(rng.standard_normal((dim, m)))[0].T)


def by_position(panels: NDArray[np.int8]) -> NDArray[np.int8]:
    """Codes row after row, as they were before they were packed."""
    n, width = panels.shape
    return panels.reshape(n // 16, width // 4, 16, 4).transpose(0, 2, 1, 3).reshape(n, width)


def turned(vectors: Float64, signs: NDArray[np.int8]) -> Float64:
    """The rotation of all coordinates, of each row."""
    dim = vectors.shape[1]
    size = 1 << (dim.bit_length() - 1)
    hadamard = np.ones((1, 1))
    while len(hadamard) < size:
        hadamard = np.block([[hadamard, hadamard], [hadamard, -hadamard]])
    hadamard /= math.sqrt(size)
    out = vectors.copy()
    for sign in signs:
        out *= sign
        out[:, :size] = out[:, :size] @ hadamard
        if size < dim:
            out[:, dim - size :] = out[:, dim - size :] @ hadamard
    return out


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


def question(query: Float32, centre: Float64, metric: str, sign: float) -> Question:
    """What `farann_query_prepare` makes of a query."""
    q = query.astype(np.float64)
    length = math.sqrt(float(reference.total((q * q)[:, None])[0])) if metric == "cosine" else 1.0
    weights = sign * (-2.0 * (q - centre) if metric == "l2" else -q / length)
    with np.errstate(over="ignore"):
        norm = float(np.linalg.norm(weights.astype(np.float32).astype(np.float64))) * (1 + 1e-9)
    terms = len(q) + 16
    gamma, gamma64, lost = terms * 2.0**-24 * 1.01, terms * 2.0**-52, terms * 2.0**-125
    s0, s1, s2 = lost * (1 + norm), gamma * norm + lost, 0.0
    scale, offset = 1.0, sign * float(q @ centre)
    if metric == "l2":
        offset = -sign * float(((q - centre) ** 2).sum())
        s0 += gamma64 * (norm * norm + abs(offset))
        s2 = 2 * gamma + 4 * gamma64
    elif metric == "dot":
        s0 += 2 * gamma64 * norm * float(np.linalg.norm(centre))
        s1 += 2 * gamma64 * norm
    else:
        scale, offset = 1 / length, offset / length
        s0 += 8 * gamma64
    return Question(weights, norm, scale, offset, (s0, s1, s2), lost)


class Level(NamedTuple):
    """A query's scores of all positions at one level of codes."""

    scores: Int64
    step: float
    slack: float

    def threshold(self, floor: float) -> int:
        """What `farann_code_threshold` gives for a floor in units of the key."""
        units = floor / self.step
        units -= abs(units) * 1e-12
        return int(np.clip(np.ceil(units) - 1, -(3 << 28), 3 << 28))


def levels(asked: Question, arrays: _layout.CodeArrays, sign: float,
           zero_point: int) -> list[Level] | None:
    """Scores by the codes along the basis, if there is one, then of all coordinates.

    None where the codes can't be used for this query.
    """
    scale, residual, norm, unit = arrays.bounds
    panels = by_position(arrays.panels).astype(np.int64)
    whole = panels if arrays.rows is None else arrays.rows.astype(np.int64)
    found = []
    if arrays.basis is not None:
        assert arrays.basis_bounds is not None
        along = arrays.basis @ asked.weights
        squares = float(asked.weights @ asked.weights)
        rest = math.sqrt(max(squares - float(along @ along), 0.0) + squares * 1e-9)
        found.append(_level(along, rest, panels, (*arrays.basis_bounds, unit), norm, asked,
                            arrays.squares, sign, zero_point))
    a = turned(asked.weights[None], arrays.signs)[0]
    found.append(_level(a, 0.0, whole, (scale, residual, norm, 0.0, unit), norm, asked,
                        arrays.squares, sign, zero_point))
    return None if any(level is None for level in found) else [x for x in found if x is not None]


def _level(a: Float64, rest: float, codes: Int64, bounds: tuple[float, ...], reach: float,
           asked: Question, squares: Any, sign: float, zero_point: int) -> Level | None:
    scale, residual, norm, rest_unit, unit = bounds
    most, shift = zero_point - 1, 0
    t = max(float(np.abs(a).max()), rest * rest_unit / scale / 4) / most
    if unit > 0:
        exponent = max(math.frexp(t * (scale / unit))[1], 0)
        shift, t = min(exponent, 31), math.ldexp(unit / scale, exponent)
    elif t == 0:
        t = 1 / scale
    step, slack = scale * t, asked.slack_at(reach)
    if not (1e-30 < step < 1e30 and slack < math.inf):
        return None
    u = np.rint(a / t)
    within, left = float(np.linalg.norm(u * t)), float(np.linalg.norm(a - u * t))
    slack += (within * residual + left * norm) * (1 + 1e-9)
    slack += 2.0**-22 * (within * (norm + residual) + reach * reach)
    slack += 2.0**-36 * asked.norm * reach
    assert np.abs(u).max() <= most
    query = np.zeros(codes.shape[1], np.int64)
    query[: len(u)] = u
    if rest_unit > 0:
        amount = min(math.ceil(rest * rest_unit / step), 4 * most)
        query[-4:] = np.clip(amount - most * np.arange(4), 0, most)
    scores = codes @ query
    if unit > 0:
        slack += 2 * step
        scores = scores + ((squares ^ (0 if sign > 0 else -1)) >> shift)
    return Level(scores, step, slack)


def reduced_keys(query: Float32, rows: Float32, metric: str, sign: float,
                 asked: Question) -> Float64:
    """The reduced keys of rows, from canonical ones."""
    return sign * reference.keys(query, rows, metric) * asked.key_scale + asked.key_offset
