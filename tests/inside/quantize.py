"""Of `farann/quantize`: transforms, codes, directions, k-means."""

from __future__ import annotations

from farann.quantize.decoding import places
from farann.quantize.kmeans import Space, k_means, means_of, partition
from farann.quantize.kmeans import _labels as nearest_means
from farann.quantize.pca_filter import choose as choose_pca_filter
from farann.quantize.pca_filter import lets_most_pass, most_held
from farann.quantize.projection import Projection, directions
from farann.quantize.query_sample import Moment, moment_of
from farann.quantize.records import CodeArrays, CodeBounds, Layout
from farann.quantize.scalar import blocks_of, centred, measure_rows, parts_of, sample_of
from farann.quantize.transform import Transform, rotated, rotated_back, rotation_signs
