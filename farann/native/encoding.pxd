"""What vectors go through before they are coded."""

from libc.stdint cimport int64_t

from farann.native.kernels cimport farann_kernels, farann_transform

cdef enum:
    # Directions of a PCA filter, at most; the rounding error of their products grows with them.
    LARGEST_BASIS = 128


cdef class Projection:
    cdef double[:, ::1] directions  # with zeros up to a multiple of 8
    cdef int64_t n

    cdef double residual_norm(self, const farann_kernels *kernels, const double *vector,
                              double *along) noexcept nogil


cdef class Transform:
    cdef farann_transform given
    cdef double[:, ::1] signs
    cdef Projection axes
    cdef int64_t dim
