"""Partitions of an index (IVF lists)."""

from libc.stdint cimport int8_t, int64_t, uint8_t

from farann.native.kernels cimport farann_code_bounds, farann_coded_rows


cdef class Partitions:
    cdef const int64_t[::1] starts
    cdef const uint8_t[:, ::1] panels
    cdef const float[::1] weights, squares
    cdef const double[::1] deviations
    cdef farann_coded_rows coded
    cdef farann_code_bounds bounds
    cdef int64_t n_cells, n_padded
    cdef double deviation  # of a typical cell
    cdef bint relative

    cdef int64_t usual_size(self) noexcept nogil
    cdef int64_t begun(self, int64_t position) noexcept nogil
    cdef int64_t end_of_cell(self, int64_t position) noexcept nogil
    cdef double write_mean(self, int64_t position, int8_t *mean) noexcept nogil
