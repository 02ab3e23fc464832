"""Of `farann/quantize`: transforms, codes, directions, k-means."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from farann._types import Int32Array, RowArray
from farann.quantize.kmeans import Space, labels_of, means_of
from farann.quantize.pca_filter import choose as choose_pca_filter
from farann.quantize.pca_filter import lie_anywhere, most_held
from farann.quantize.records import CodeArrays, CodeBounds, Layout, PartitionArrays
from farann.quantize.scalar import (
    blocks_of,
    centered,
    measure_rows,
    parts_of,
    places_of,
    sample_of,
)
from farann.quantize.transform import (
    Moment,
    Projection,
    Transform,
    directions,
    moment_of,
    rotation_signs,
)


def partition(rows: RowArray, space: Space, n_partitions: int, seed: int) -> Int32Array:
    """The partition of each row, as a build finds it."""
    return labels_of(rows, space, means_of(rows, space, n_partitions, seed), 1)
