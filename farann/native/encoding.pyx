"""Rows as 8-bit codes: what they go through before, coding them, laying the codes out in panels."""

from cpython.exc cimport PyErr_CheckSignals
from libc.math cimport sqrt
from libc.stdint cimport int8_t, int32_t, uint8_t, uint64_t

from farann.native.kernels cimport *

import numpy as np

from farann.native.kernels import widened

ctypedef fused real:
    float
    double

cdef enum:
    CODED_AT_ONCE = 1048576  # coordinates coded between looks for signals

CODE_SPAN, MOST_AXES = <int>FARANN_SPAN, <int>LARGEST_BASIS


def code_rows(int64_t n):
    """Rows of whole panels that hold n rows."""
    return whole_panels(n)


cdef class Projection:
    """Orthonormal directions, as `quantize.transform.Projection` has them.

    Parameters
    ----------
    given : Projection
    dim : int
        What vectors have.
    name : str
        Of the argument, for errors.
    """

    def __init__(self, given, int64_t dim, str name):
        directions = np.asarray(given.directions, np.float64)
        if (directions.ndim != 2 or not 1 <= directions.shape[0] <= min(dim, LARGEST_BASIS)
                or directions.shape[1] != dim):
            raise ValueError(f"{name} must be up to {LARGEST_BASIS} directions of the rows' space")
        # First that products stay finite; NaN fails this, too.
        if not (np.abs(directions).max() < 2.0
                and np.linalg.norm(directions @ directions.T - np.eye(len(directions))) < 1e-12):
            raise ValueError(f"{name} must be orthonormal")
        self.n = len(directions)
        self.directions = np.zeros((self.n, (dim + 7) // 8 * 8))
        np.asarray(self.directions)[:, :dim] = directions

    cdef double residual_norm(self, const farann_kernels *kernels, const double *vector,
                              double *along) noexcept nogil:
        """Write what a padded vector is along each direction; how long the rest is, rounded up."""
        return sqrt(farann_along(kernels, &self.directions[0, 0], self.n, self.directions.shape[1],
                                 vector, along))


cdef class Transform:
    """What vectors go through before they are coded: axes, if only what they are along these is
    coded, and a rotation.

    Parameters
    ----------
    signs : int8 (3, n_coded)
        Of the rotation.
    axes : Projection or None
        n_coded directions; None: all dim coordinates are coded.
    """

    def __init__(self, const int8_t[:, ::1] signs, axes=None):
        cdef int64_t dim = signs.shape[1]
        if signs.shape[0] != FARANN_ROTATION_ROUNDS or dim < 1:
            raise ValueError("there must be signs for each round of the rotation")
        self.signs = np.array(signs, np.float64)
        self.given = farann_transform(&self.signs[0, 0], NULL, dim)
        if axes is not None:
            if np.ndim(axes.directions) != 2 or len(axes.directions) != dim:
                raise ValueError("there must be signs for each of the axes")
            dim = axes.directions.shape[1]
            self.axes = Projection(axes, dim, "axes")
            self.given.axes = &self.axes.directions[0, 0]
        self.dim = dim


def rotate(double[:, ::1] vectors, const int8_t[:, ::1] signs, str isa):
    """Rotate vectors in place, as rows are before they are coded; the same bits at all levels."""
    cdef Transform turn = Transform(signs)
    cdef const farann_kernels *kernels = kernels_of(isa)
    cdef int64_t i, dim = signs.shape[1]
    cdef uint64_t before
    if vectors.shape[1] != dim:
        raise ValueError("there must be a sign for each coordinate")
    with nogil:
        before = farann_arithmetic_begin()
        for i in range(vectors.shape[0]):
            kernels.rotate_f64(&vectors[i, 0], dim, turn.given.signs, FARANN_ROTATION_ROUNDS)
        farann_arithmetic_end(before)


def code_extents(rows, const double[::1] center, bint unit,
                 const int8_t[:, ::1] signs, axes, str isa, double[::1] extents):
    """Write each row's largest |coordinate| after centring, and what `Transform` says, or how long the
    row is outside the axes, if that is more."""
    cdef double[::1] scratch = np.zeros(2 * padded(center.shape[0]))
    cdef Transform turn = Transform(signs, axes)
    cdef const farann_kernels *kernels = kernels_of(isa)
    cdef const float[:, ::1] wide
    cdef int64_t n, start = 0, n_rows = len(rows), dim = center.shape[0]
    cdef uint64_t before
    while start < n_rows:
        wide = wide_block(rows, start, dim)
        n = wide.shape[0]
        with nogil:
            before = farann_arithmetic_begin()
            farann_code_extents(kernels, &wide[0, 0], n, dim, &center[0],
                                unit, &turn.given, &scratch[0], &extents[start])
            farann_arithmetic_end(before)
        start += n


cdef const float[:, ::1] wide_block(rows, int64_t start, int64_t dim) except *:
    """Rows from one on as float32, as many as are coded between looks for signals."""
    cdef const float[:, ::1] wide
    if start > 0:
        PyErr_CheckSignals()
    wide = widened(rows[start:start + max(CODED_AT_ONCE // dim, 1)])
    if wide.shape[1] != dim:
        raise ValueError("rows must have the dimension of the center")
    return wide


def add_to_groups(real[:, ::1] vectors, const int32_t[::1] groups, double[:, ::1] sums):
    """Add each vector, float32 or float64, to the sum of its group; -1 is none."""
    cdef int64_t i, j, group, n = vectors.shape[0], dim = sums.shape[1], n_groups = sums.shape[0]
    cdef const real *vector
    cdef double *total
    if groups.shape[0] != n or (n and vectors.shape[1] != dim):
        raise ValueError("each vector must have a group, and the dimension of sums")
    with nogil:
        for i in range(n):
            group = groups[i]
            if 0 <= group < n_groups and dim > 0:
                vector, total = &vectors[i, 0], &sums[group, 0]
                for j in range(dim):
                    total[j] += vector[j]


def encode_rows(rows, const double[::1] center, bint unit,
                const int8_t[:, ::1] signs, axes, const float[::1] inv_scale, str isa,
                uint8_t[:, ::1] codes, double[::1] squares, float[::1] low_nibble_norm):
    """Code rows, one after the other; gives the largest |e|^2, |w z|^2, |l - 7.5|^2 and |z|^2, and
    of what is outside the axes |z'|^2 and |w z'|^2."""
    cdef double[::1] scratch = np.zeros(2 * padded(center.shape[0]))
    cdef Transform turn = Transform(signs, axes)
    cdef const farann_kernels *kernels = kernels_of(isa)
    cdef farann_code_extremes largest
    cdef const float[:, ::1] wide
    cdef int64_t n, start = 0, n_rows = len(rows), dim = center.shape[0]
    cdef uint64_t before
    largest.residual = largest.length = largest.low_nibble_norm = largest.norm = 0.0
    largest.outside = largest.outside_length = 0.0
    while start < n_rows:
        wide = wide_block(rows, start, dim)
        n = wide.shape[0]
        with nogil:
            before = farann_arithmetic_begin()
            farann_encode_rows(kernels, &wide[0, 0], n, dim, &center[0], unit,
                               &turn.given, &inv_scale[start], &scratch[0], &codes[start, 0],
                               &squares[start], &low_nibble_norm[start], &largest)
            farann_arithmetic_end(before)
        start += n
    return (largest.residual, largest.length, largest.low_nibble_norm, largest.norm, largest.outside,
            largest.outside_length)


def pack_codes(const uint8_t[:, ::1] rows, const int64_t[::1] places, bint halves,
               uint8_t[:, ::1] panels, uint8_t[:, ::1] lower=None):
    """Lay the codes of rows out in panels: row i at position places[i], nowhere if negative."""
    cdef int64_t i, groups = rows.shape[1] // FARANN_CODE_GROUP
    cdef int64_t width = (code_pairs(groups) if halves else groups) * FARANN_CODE_GROUP
    if (rows.shape[1] % FARANN_CODE_GROUP or rows.shape[0] != places.shape[0]
            or panels.shape[0] % FARANN_CODE_PANEL or panels.shape[1] != width
            or (lower is not None and (lower.shape[0] != panels.shape[0]
                                       or lower.shape[1] != width or not halves))):
        raise ValueError("panels must have room for the rows")
    for i in range(places.shape[0]):
        if places[i] >= panels.shape[0]:
            raise ValueError("places must be in the panels")
    if rows.shape[0] and panels.shape[0]:
        with nogil:
            farann_pack_codes(&rows[0, 0], &places[0], places.shape[0], groups, halves,
                              &panels[0, 0], NULL if lower is None else &lower[0, 0])
