from farann.native.kernels cimport *

cdef enum:
    KEY_AXES = 15  # principal axes of the rows that variances of keys are known along


cdef class KeyModel:
    cdef const farann_kernels *kernels
    cdef const float[:, ::1] axes
    cdef const float[::1] zeros
    cdef const double[:, ::1] terms

    cdef float tell(self, const float *vector, double factor, double norm, double sign,
                    double key) noexcept nogil
