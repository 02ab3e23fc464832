"""Partitions of an index (IVF lists): where their rows are, what each holds on average."""

from libc.math cimport INFINITY, fabs
from libc.stdint cimport INT64_MAX, int8_t, int64_t, uint8_t

from farann.native.codes cimport bounds_of
from farann.native.kernels cimport *

import numpy as np

# Limit on the scale of means that rows are coded relative to; coded coordinates are at most 1e18.
cdef double LARGEST_SCALE = 1e17


cdef class Partitions:
    """Which positions of codes belong to which cell, and each cell as a coded row.

    Parameters
    ----------
    n_coded, n_positions : int
        Of the codes.
    arrays : PartitionArrays
        With the attributes below.

    Attributes
    ----------
    starts : int64 (n_cells + 1,)
        Cell c has the positions starts[c] .. starts[c + 1], whole panels; what comes before
        starts[0] belongs to no cell and is always searched.
    panels : uint8 (n, 4 * (ceil(n_coded / 4) + 1))
        The cells' means in whole codes, laid out as rows along a basis are, turned by the same
        rotation as rows; the last group is the standard deviation of a cell's rows along one
        direction.
    inv_scale : float32 (n / 16,)
        As for rows.
    squares : float32 (n,) or None
        The mean of |z|^2 over a cell's rows, times the weight (l2).
    step : float
        Of the deviations.
    relative : bool
        Whether rows of a cell were coded less its mean, as coded.
    """

    def __init__(self, int64_t n_coded, int64_t n_positions, arrays):
        cdef int64_t i, n, groups = (n_coded - 1) // FARANN_CODE_GROUP + 2
        cdef double unit = arrays.step
        cdef const int64_t[::1] starts = arrays.starts
        cdef const uint8_t[:, ::1] panels = arrays.panels
        cdef const float[::1] weights = arrays.inv_scale
        squares = arrays.squares
        if starts is None or panels is None or weights is None:
            raise TypeError("partitions need starts, panels and weights")
        n = panels.shape[0]
        self.n_cells, self.n_padded = starts.shape[0] - 1, n
        self.starts, self.panels, self.weights, self.squares = starts, panels, weights, squares
        self.relative = arrays.relative
        if (self.n_cells < 1 or n != whole_panels(self.n_cells)
                or weights.shape[0] * FARANN_CODE_PANEL != n
                or panels.shape[1] != groups * FARANN_CODE_GROUP):
            raise ValueError("starts, panels and weights must fit together")
        for i in range(self.n_cells + 1):
            if not (starts[i - 1] if i else 0) <= starts[i] <= n_positions or (
                    starts[i] % FARANN_CODE_PANEL):
                raise ValueError("starts must be ascending positions of whole panels")
        self.bounds = bounds_of((0.0, 0.0, 0.0, 0.0, unit, 0.0, 0.0, 0.0), weights, squares,
                                n, n_coded)
        if not self.bounds.rest_unit > 0.0:
            raise ValueError("deviations must have a unit")
        coded = np.asarray(panels).reshape(-1, groups, FARANN_CODE_PANEL, FARANN_CODE_GROUP)
        with np.errstate(over="ignore", invalid="ignore"):
            deviations = (coded[:, -1, :, 0] - 128.0) * (
                unit / np.asarray(weights, np.float64)[:, None])
            self.deviations = deviations.ravel()
            self.deviation = np.asarray(self.deviations)[:self.n_cells].mean()
        if not fabs(self.deviation) < INFINITY:
            raise ValueError("deviations must be finite")
        if self.relative and not self.bounds.scale < LARGEST_SCALE:
            raise ValueError("means must be those of rows that have codes")
        self.coded = farann_coded_rows(&panels[0, 0], NULL, NULL, &weights[0], NULL, NULL, groups)
        if self.squares is not None:
            self.coded.squares = &self.squares[0]

    cdef int64_t usual_size(self) noexcept nogil:
        """Positions of a cell, on average; at least 1."""
        return max((self.starts[self.n_cells] - self.starts[0]) // self.n_cells, 1)

    cdef int64_t begun(self, int64_t position) noexcept nogil:
        """How many of `starts` are at a position or before: one more than the cell it is in."""
        cdef int64_t low = 0, high = self.n_cells + 1, middle
        while low < high:
            middle = (low + high) // 2
            if self.starts[middle] <= position:
                low = middle + 1
            else:
                high = middle
        return low

    cdef int64_t end_of_cell(self, int64_t position) noexcept nogil:
        """The position where the cell ends that a position is in, or what comes before cells."""
        cdef int64_t begun = self.begun(position)
        return self.starts[begun] if begun <= self.n_cells else INT64_MAX

    cdef double write_mean(self, int64_t position, int8_t *mean) noexcept nogil:
        """Write what a row at a position was coded relative to, whole groups; gives its unit.

        That is 0 where the row is in no cell.
        """
        cdef int64_t cell = self.begun(position) - 1, g, j
        cdef const uint8_t *codes
        if not 0 <= cell < self.n_cells:
            return 0.0
        codes = &self.panels[cell // FARANN_CODE_PANEL * FARANN_CODE_PANEL, 0] + (
            cell % FARANN_CODE_PANEL * FARANN_CODE_GROUP)
        for g in range(self.coded.groups - 1):  # the last is the deviation
            for j in range(FARANN_CODE_GROUP):
                mean[g * FARANN_CODE_GROUP + j] = <int8_t>(
                    <int>codes[g * FARANN_CODE_PANEL * FARANN_CODE_GROUP + j] - 128)
        return 1.0 / self.weights[cell // FARANN_CODE_PANEL]
