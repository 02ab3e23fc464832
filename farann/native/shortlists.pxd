"""Query-cluster shortlists."""

from libc.stdint cimport int64_t, uint8_t

from farann.native.kernels cimport farann_coded_rows

cdef enum:
    # Rows that are all scored before there is a threshold, and rows of a shortlist, at most.
    MOST_SCORED = 512


cdef class Shortlists:
    cdef const uint8_t[:, ::1] panels, rows
    cdef const float[::1] weights, squares, row_weights, row_squares
    cdef float[::1] ones
    cdef int64_t[::1] slots  # of the rows, ascending in each list
    cdef farann_coded_rows groups, listed
    cdef int64_t n_lists, length, n_padded, n_positions, dim

    cdef farann_coded_rows list_at(self, int64_t i) noexcept nogil
