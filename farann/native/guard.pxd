from farann.native.kernels cimport *


cdef class Guard:
    cdef const farann_kernels *kernels
    cdef const float[::1] signs, reaches, center
    cdef const float[:, ::1] points, axes
    cdef float[::1] biases
    cdef double[::1] zeros
    cdef double scale
    cdef bint unit
    cdef int64_t dim, width, alone

    cdef void count(self, int64_t n) noexcept
    cdef double reduce(self, const float *query, float *x) noexcept nogil
    cdef double sum_of_squares(self, const float *x, int64_t n) noexcept nogil
    cdef bint passes(self, const float *query, double times) noexcept nogil
