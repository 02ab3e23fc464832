"""What vectors go through before they are coded."""

from libc.stdint cimport int64_t

from farann.native.kernels cimport farann_transform

cdef enum:
    # Directions of a PCA filter; what rounding may do to their products grows with the number.
    LARGEST_BASIS = 128


cdef class Transform:
    cdef farann_transform given
    cdef double[:, ::1] signs
    cdef double[::1] mean_direction  # with zeros up to a multiple of 8
    cdef double[:, ::1] axes  # likewise
    cdef int64_t dim


cdef orthonormal(basis, dim, str name)
