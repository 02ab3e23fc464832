"""What is known of all keys of any query: their mean and deviation, by a sample of rows.

`_core.KeyModel` computes them; docs/how-it-works/partitions.md explains it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from farann._types import Float32Array, Float64Array
from farann.quantize.records import Record, section
from farann.runtime.pieces import Allowance, Pieces

MODEL_ROWS = 4096  # most rows that a model is made from
_AXES = 15  # KEY_AXES of the core
_ITERATIONS = 8  # of subspace iterations
_SPARE_AXES = 8  # axes beyond those kept, with which iterations converge sooner
_MODELLED_AT_ONCE = 1024  # rows of one piece
_LAST_DEVIATION = 4.0  # of the last coordinate, over that along the longest axis


@dataclass(frozen=True, eq=False, repr=False)
class KeyArrays(Record):
    """The arrays that `_core.KeyModel` is made of, and that a file keeps."""

    axes: Float32Array = field(metadata=section(np.float32, 2))
    terms: Float64Array = field(metadata=section(np.float64, 2))


def in_pieces(allowed: Allowance, rows: Float64Array, squares: bool,
              seed: int) -> Pieces[KeyArrays]:
    """Make a model by centered rows; `squares`: whether keys have |y|^2."""
    allowed.multiplies = True
    yield
    random = np.random.default_rng([seed, 3])
    mean, unit = rows.mean(axis=0), 0.0
    z, n = rows - mean, len(rows)
    dim = z.shape[1]
    if squares:
        last = np.einsum("ij,ij->i", rows, rows)
        unit = last.std() / (_LAST_DEVIATION * (z.std() or 1.0)) or 1.0
        z = np.column_stack([z, (last - last.mean()) / unit])
    yield
    axes, _ = np.linalg.qr(random.standard_normal((z.shape[1], min(_AXES + _SPARE_AXES,
                                                                   z.shape[1]))))
    for _ in range(_ITERATIONS):
        moved = np.zeros_like(axes)
        for start in range(0, n, _MODELLED_AT_ONCE):
            some = z[start : start + _MODELLED_AT_ONCE]
            moved += some.T @ (some @ axes)
            allowed.spend_on(2 * some.size * axes.shape[1], some.size)
            yield
        axes, _ = np.linalg.qr(moved)
    along = z @ axes
    values, turn = np.linalg.eigh(along.T @ along / n)
    number = min(_AXES, len(values))
    axes, values = axes @ turn[:, ::-1][:, :number], values[::-1][:number]
    allowed.spend_on(2 * z.size * len(turn), 0)
    yield
    lines, terms = np.zeros((1 + _AXES, dim)), np.zeros((1 + _AXES, 2))
    lines[0], lines[1 : 1 + number] = mean, axes[:dim].T
    if squares:
        terms[0, 0], terms[1 : 1 + number, 0] = float(last.mean()), unit * axes[dim]
    terms[1 : 1 + number, 1] = values
    rest = max(float(np.einsum("ij,ij->", z, z)) / n - values.sum(), 0.0)
    terms[0, 1] = rest / max(z.shape[1] - number, 1)
    return KeyArrays(lines.astype(np.float32), terms)
