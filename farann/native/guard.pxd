"""Which queries are unlike those that a search was tuned with."""

from libc.stdint cimport int64_t, uint8_t

from farann.native.kernels cimport farann_kernels


cdef class Guard:
    cdef const farann_kernels *kernels
    cdef const float[::1] signs, reaches, center
    cdef const float[:, ::1] points, axes
    cdef float[::1] biases
    cdef float[::1] point_panels, point_biases, axis_panels, axis_biases
    cdef float[::1] nowhere
    cdef double scale
    cdef bint unit
    cdef int64_t dim, width, alone
    cdef public double late_surplus  # lateness beyond the usual, summed over queries, in deviations

    cdef tuple packed(self, const float[:, ::1] rows)
    cdef void count_one(self) noexcept
    cdef int64_t tile_bytes(self) noexcept nogil
    cdef double reduce(self, const float *query, float *x) noexcept nogil
    cdef bint passes(self, const float *query, double times) noexcept nogil
    cdef bint is_overdue(self) noexcept nogil
    cdef bint is_inside(self, const float *along, int64_t n, double times) noexcept nogil
    cdef void look_at_tile(self, const float[:, ::1] queries, int64_t start, int64_t count,
                           float *memory, uint8_t *unlike) noexcept nogil
