from farann.native.kernels cimport *

cdef enum:
    WITNESSES = 3  # numbers that tell of an answer: how late, how usual, how many rows beyond
    KEY_AXES = 16  # principal axes of the rows that variances of keys are known along
    GROUP_AXES = 8  # the first of them, along which groups of rows have means


cdef class KeyModel:
    cdef const farann_kernels *kernels
    cdef const float[:, ::1] axes
    cdef const float[::1] zeros
    cdef const double[:, ::1] terms, groups
    cdef double more  # rows that it is for, over those it was made of

    cdef void tell(self, const float *query_vector, double norm, double sign, double key,
                   float *found) noexcept nogil


cdef class Guard:
    cdef const farann_kernels *kernels
    cdef const float[::1] signs, reaches, center
    cdef const float[:, ::1] points, axes
    cdef float[::1] biases
    cdef double[::1] zeros
    cdef double scale
    cdef bint unit
    cdef int64_t dim, width, alone

    cdef void count_one(self) noexcept
    cdef double reduce(self, const float *query, float *x) noexcept nogil
    cdef double sum_of_squares(self, const float *x, int64_t n) noexcept nogil
    cdef bint passes(self, const float *query, double times) noexcept nogil


cdef class Watch:
    cdef readonly double recall
    cdef readonly int64_t sampled
    cdef readonly object usual
    cdef const double[:, ::1] of_witness
    cdef double margin
    cdef double surplus[2 * WITNESSES]  # of surprises beyond the margin, never below 0
    cdef int alarmed                    # witnesses that were surprising last, as bits
    cdef int64_t at_once                # queries of the last batch
    cdef int64_t seen[2]                # suspects, and other queries
    cdef int64_t checked[2]             # of these
    cdef double found[2]                # recalls of these, summed
    cdef double squares[2]              # squares of these
    cdef bint decided[2]                # whether enough were checked
    cdef bint short[2]                  # whether all are to be answered exactly
    cdef double total[2 * WITNESSES]    # surprises since queries are suspect
    cdef double tolerated[2 * WITNESSES]  # surprise of a query whose suspects had found enough

    cdef int tell(self, const float *witness, int64_t n) noexcept nogil
    cdef bint is_suspect(self, const float *witness) noexcept nogil
    cdef int64_t left(self, int group) noexcept nogil
    cdef void forget_checks(self) noexcept nogil
    cdef double mean_of(self, int group, double *error) noexcept nogil
    cdef void decide(self) noexcept nogil
    cdef int64_t others_left(self) noexcept nogil
    cdef int take_one(self, const float *witness) noexcept
