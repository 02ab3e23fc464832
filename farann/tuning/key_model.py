"""What is known of all keys of any query: their mean, deviation, and the rows beyond a key.

`_core.KeyModel` computes it from a sample of rows: principal axes, and groups along the first of
these. docs/how-it-works/partitions.md explains it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from farann import _core
from farann._types import Float32Array, Float64Array
from farann.quantize.records import Record, kept
from farann.runtime.pieces import Allowance, Pieces

MODEL_ROWS = 4096  # most rows that a model is made from
MODEL_QUERIES = 512  # most queries that say which directions count
_AXES, _GROUP_AXES = 15, 8  # KEY_AXES and GROUP_AXES of the core
_GROUPS_OF_ROWS = 64  # groups of rows
_ITERATIONS = 8  # of subspace iterations, and of k-means
_SPARE_AXES = 8  # axes beyond those kept, with which iterations converge sooner
_MODELLED_AT_ONCE = 1024  # rows of one piece
_LAST_DEVIATION = 4.0  # of the last coordinate, over that along the longest axis


@dataclass(frozen=True, eq=False, repr=False)
class KeyArrays(Record):
    """The arrays that `_core.KeyModel` is made of, and that a file keeps."""

    axes: Float32Array = field(metadata=kept(np.float32, 2))
    terms: Float64Array = field(metadata=kept(np.float64, 2))
    groups: Float64Array = field(metadata=kept(np.float64, 2))


def in_pieces(allowed: Allowance, rows: Float64Array, asked: Float64Array, n_rows: int,
              square_sign: float, seed: int) -> Pieces[KeyArrays]:
    """Make a model by centered rows and query vectors; `square_sign` is that of |y|^2 in keys."""
    allowed.multiplies, squares = True, square_sign != 0.0
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
    kept_axes = min(_AXES, len(values))
    axes, along = axes @ turn[:, ::-1][:, :kept_axes], along @ turn[:, ::-1][:, :kept_axes]
    allowed.spend_on(2 * z.size * len(values), 0)
    yield
    variances = along.var(axis=0)
    rest = max(float(np.einsum("ij,ij->", z, z)) / n - variances.sum(), 0.0) / max(
        z.shape[1] - kept_axes, 1)
    # How much each axis counts in the keys of queries.
    w = np.column_stack([asked, np.full(len(asked), square_sign * unit)]) if squares else asked
    weights = np.sqrt(np.square(w @ axes).mean(axis=0))
    few = min(_GROUP_AXES, kept_axes)
    points = along[:, :few] * weights[:few]
    means, label = points[random.permutation(n)[:_GROUPS_OF_ROWS]], np.zeros(n, np.int64)
    for _ in range(_ITERATIONS):
        label = (np.square(means).sum(axis=1) - 2.0 * points @ means.T).argmin(axis=1)
        count = np.bincount(label, minlength=len(means))
        filled = count > 0
        means = np.stack([np.bincount(label, points[:, j], len(means)) for j in range(few)],
                         axis=1)[filled] / count[filled, None]
        allowed.spend_on(points.size * len(means), n * len(means))
        yield
    label = (np.square(means).sum(axis=1) - 2.0 * points @ means.T).argmin(axis=1)
    count = np.bincount(label, minlength=len(means))
    means, count = means[count > 0], count[count > 0]
    label = np.unique(label, return_inverse=True)[1]
    means = np.stack([np.bincount(label, along[:, j], len(count)) for j in range(few)],
                     axis=1) / count[:, None]
    left = along.copy()
    left[:, :few] -= means[label]
    within = left.var(axis=0)
    across = np.einsum("ij,ij->i", z, z) - np.square(along).sum(axis=1)
    spread = np.square(left * weights).sum(axis=1) + np.maximum(across, 0.0) * max(
        float(np.square(w).sum(axis=1).mean()) - float(np.square(weights).sum()), 0.0) / max(
            z.shape[1] - kept_axes, 1)
    usual = float(spread.mean()) or 1.0
    deviation = np.sqrt((np.bincount(label, spread) + 4.0 * usual) / (count + 4.0) / usual)
    lines = np.zeros((1 + _AXES, dim))
    terms = np.zeros((1 + _AXES, 3))
    lines[0], lines[1 : 1 + kept_axes] = mean, axes[:dim].T
    terms[0] = (float(last.mean()) if squares else 0.0), rest, rest
    if squares:
        terms[1 : 1 + kept_axes, 0] = unit * axes[dim]
    terms[1 : 1 + kept_axes, 1], terms[1 : 1 + kept_axes, 2] = variances, within
    groups = np.zeros((len(count), 2 + _GROUP_AXES))
    groups[:, 0], groups[:, 1], groups[:, 2 : 2 + few] = count * (n_rows / n), deviation, means
    return KeyArrays(lines.astype(np.float32), terms, groups)


def model_of(arrays: KeyArrays, isa: str, n_rows: int = 0) -> _core.KeyModel:
    """The core's model of these arrays, for so many rows; 0: for those that it was made of."""
    return _core.KeyModel(isa, arrays.axes, arrays.terms, arrays.groups, n_rows)
