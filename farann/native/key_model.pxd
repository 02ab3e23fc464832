from farann.native.kernels cimport *

cdef enum:
    KEY_AXES = 15  # principal axes of the rows that variances of keys are known along
    GROUP_AXES = 8  # the first of them, along which groups of rows have means
    ROW_GROUPS = 64  # groups of rows, at most


cdef class KeyModel:
    cdef const farann_kernels *kernels
    cdef const float[:, ::1] axes
    cdef const float[::1] zeros
    cdef const double[:, ::1] terms
    cdef const float[:, ::1] groups
    cdef double more  # rows that it is for, over those it was made of

    cdef void tell(self, const float *vector, double factor, double norm, double sign,
                   double key, float *found) noexcept nogil
