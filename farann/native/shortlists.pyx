"""Query-cluster shortlists: rows that answered sample queries of one kind."""

from libc.stdint cimport int32_t, int64_t, uint8_t

from farann.native.codes cimport Codes
from farann.native.kernels cimport *

import numpy as np


cdef class Shortlists:
    """Sample queries in groups, and for each group rows that answer them, by position of codes.

    Parameters
    ----------
    codes : Codes
        Not those of 4 bits, nor with a basis.
    arrays : Shortlists
        With the first four attributes below.
    rows, row_weights, row_squares
        As below.

    Attributes
    ----------
    panels : uint8 (n, 4 * ceil(dim / 4))
        The groups as coded rows, of which that with the largest key has the most similar queries:
        panels of whole codes, turned by the same rotation as rows.
    inv_scale : float32 (n / 16,)
        As for rows.
    squares : float32 (n,) or None
        What is added to a group's key, times the weight; there if rows have some.
    positions : int32 (n_lists, length)
        The rows of each list, whole groups of `FARANN_SCORE_GROUPS`, in the order of slots.
    rows : uint8 (n_lists * length, 4 * ceil(dim / 4))
        Their whole codes, in panels.
    row_weights : float32 (n_lists * length,)
    row_squares : float32 (n_lists * length,) or None
    """

    def __init__(self, Codes codes not None, arrays, const uint8_t[:, ::1] rows not None,
                 const float[::1] row_weights not None, row_squares):
        cdef int64_t n, width = codes.groups * FARANN_CODE_GROUP, n_rows
        cdef const uint8_t[:, ::1] panels = arrays.panels
        cdef const float[::1] weights = arrays.inv_scale
        cdef const int32_t[:, ::1] positions = arrays.positions
        squares = arrays.squares
        if panels is None or weights is None or positions is None:
            raise TypeError("shortlists need panels, weights and positions")
        n = panels.shape[0]
        self.n_lists, self.length, self.n_padded = positions.shape[0], positions.shape[1], n
        self.n_positions, self.dim = codes.n_positions, codes.dim
        n_rows = self.n_lists * self.length
        if (self.n_lists < 1 or n != whole_panels(self.n_lists) or panels.shape[1] != width
                or n > MOST_SCORED or weights.shape[0] * FARANN_CODE_PANEL != n
                or self.length < 1 or self.length > MOST_SCORED
                or self.length % FARANN_SCORE_GROUPS or codes.int4_alone or codes.has_pca_filter
                or rows.shape[0] != n_rows or rows.shape[1] != width
                or row_weights.shape[0] != n_rows
                or (squares is None) != (codes.refined.squares == NULL)
                or (squares is not None and len(squares) != n)
                or (row_squares is None) != (codes.refined.squares == NULL)
                or (row_squares is not None and len(row_squares) != n_rows)):
            raise ValueError("groups and lists must fit together, and the codes")
        if not (np.isfinite(weights).all() and (np.asarray(weights) > 0.0).all()
                and (squares is None or np.isfinite(squares).all())):
            raise ValueError("groups must have finite squares and positive weights")
        self.panels, self.weights, self.squares = panels, weights, squares
        self.rows, self.row_weights, self.row_squares = rows, row_weights, row_squares
        self.groups = farann_coded_rows(&panels[0, 0], NULL, NULL, &weights[0], NULL, NULL,
                                        codes.groups)
        if squares is not None:
            self.groups.squares = &self.squares[0]
        # Rows of a panel have different weights here, and scores are divided by them afterwards.
        self.ones = np.ones(n_rows // FARANN_CODE_PANEL, np.float32)
        self.listed = farann_coded_rows(&rows[0, 0], NULL, NULL, &self.ones[0], NULL, NULL,
                                        codes.groups)
        if row_squares is not None:
            self.listed.squares = &self.row_squares[0]
        at = np.asarray(positions)
        if at.min() < 0 or at.max() >= codes.n_positions:
            raise ValueError("positions must be those of the codes")
        slots = at if codes.slots is None else np.asarray(codes.slots)[at]
        if slots.min() < 0 or slots.max() >= codes.n_rows or (np.diff(slots, axis=1) <= 0).any():
            raise ValueError("a list must have different rows in the order of slots")
        self.slots = np.ascontiguousarray(slots.ravel(), np.int64)

    cdef farann_coded_rows list_at(self, int64_t i) noexcept nogil:
        """The rows of a list as coded rows."""
        cdef farann_coded_rows rows = self.listed
        cdef int64_t first = i * self.length
        rows.panels += first * rows.groups * FARANN_CODE_GROUP
        rows.inv_scales += first // FARANN_CODE_PANEL
        if rows.squares != NULL:
            rows.squares += first
        return rows
