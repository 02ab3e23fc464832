"""Choose the transform of rows before coding: a rotation, or PCA axes and a rotation."""

from __future__ import annotations

import numpy as np

from farann._types import Float64Array, RowArray
from farann.contract.index_spec import IndexSpec
from farann.quantize import projection
from farann.quantize.projection import Projection
from farann.quantize.query_sample import directions_of
from farann.quantize.scalar import FEW_ROWS, sample_of
from farann.quantize.transform import Transform, rotation_signs
from farann.runtime.process import one_thread

# _LARGEST_OUTSIDE: most that the part outside the PCA axes may move keys, as a share of their RMS.
# _MOST_TURNED: most dimensions for PCA axes; beyond, preparing a query costs more than its search.
_LARGEST_OUTSIDE, _MOST_TURNED = 0.15, 256
# _MOST_PASSING: most rows of the sample, per query, that the axes may let pass.
# _ASKED: most sample queries that this is counted for.
_MOST_PASSING, _ASKED = 8, 128


def transform_for(rows: RowArray, centre: Float64Array, spec: IndexSpec,
                  query_vectors: Float64Array, sample: Float64Array | None = None) -> Transform:
    """Choose the transform of rows before they are coded, for these query vectors.

    `sample` is a sample of the rows, see `scalar.sample_of`, if there is one already.
    """
    transform = Transform(rotation_signs(rows.shape[1], spec.seed))
    # Coarse codes are rounded for likely queries instead. Rows that are known by their codes alone
    # must not lose a part for good.
    if (spec.width.is_coarse or not spec.vectors or len(rows) < FEW_ROWS
            or rows.shape[1] > _MOST_TURNED):
        return transform
    with one_thread():
        if sample is None:
            sample = sample_of(rows, centre, spec.metric.normalized)
        pca_axes = pca_axes_for(sample, directions_of(query_vectors), spec.seed)
    if pca_axes is None:
        return transform
    return Transform(rotation_signs(len(pca_axes), spec.seed), pca_axes)


def pca_axes_for(sample: Float64Array, directions: Float64Array, seed: int) -> Projection | None:
    """The fewest principal axes of rows, in whole groups, along which coding them does as well.

    Rows that lie near a space of fewer dimensions than they have waste codes on the others. None
    where no group can be spared.
    """
    dim = sample.shape[1]
    found = projection.directions(sample, seed)
    outside = _left(directions, found).mean(axis=0) * _left(sample, found).max(axis=0)
    # The mean square of products, which are about zero on average as rows are centered.
    squares = (sample.T @ sample) * (directions.T @ directions)
    differ = np.sqrt(max(float(squares.sum()), 0.0) / (len(sample) * len(directions)))
    numbers = np.arange(4, min(len(found), projection.MOST_DIRECTIONS) + 1, 4)
    for number in numbers[outside[numbers - 1] <= _LARGEST_OUTSIDE * differ]:
        if -(-dim // 4) * 4 <= number:
            break
        axes = Projection(np.ascontiguousarray(found[:number]))
        if _passing(sample, directions, axes) <= _MOST_PASSING:
            return axes
    return None


def _passing(sample: Float64Array, directions: Float64Array, pca_axes: Projection) -> float:
    """Mean number of sampled rows per query that the axes can't tell from the best one.

    Where answers are very near to each other, little outside the axes hides them among others.
    """
    # What rows have in common moves all keys of a query alike, and hides none.
    sample = sample - np.median(sample, axis=0)
    directions = directions[:: -(-len(directions) // _ASKED)]
    best = (sample @ directions.T).max(axis=0)
    along = pca_axes.along(sample) @ pca_axes.along(directions).T
    # A few rows that are large may be left out of the codes.
    far = np.quantile(_left(sample, pca_axes.directions)[:, -1], 0.99, method="lower")
    outside = _left(directions, pca_axes.directions)[:, -1] * far
    return float((along >= best - outside).sum(axis=0).mean())


def _left(vectors: Float64Array, found: Float64Array) -> Float64Array:
    """Lengths of vectors outside the first direction, the first two, and so on."""
    along = np.cumsum((vectors @ found.T) ** 2, axis=1)
    left: Float64Array = np.einsum("ij,ij->i", vectors, vectors)[:, None] - along
    return np.sqrt(np.maximum(left, 0.0, out=left), out=left)
