"""Of `farann/quantize`: transforms, codes, directions, k-means."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from farann.quantize.kmeans import Space, means_of, partition
from farann.quantize.kmeans import _labels as nearest_means
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
