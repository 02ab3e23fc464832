from farann.native.kernels cimport *

cdef enum:
    WITNESSES = 3  # numbers that tell of an answer: how late, how usual, how many rows beyond
    SURPRISES = 4  # of a witness: squares of deviations on either side, and deviations


cdef struct Checks:
    int64_t seen      # queries of a group
    int64_t checked   # of these
    double found      # recalls of these, summed
    double squares    # squares of these
    bint decided      # whether enough were checked
    bint short        # whether all are to be answered exactly


cdef class Watch:
    cdef readonly double recall
    cdef readonly int64_t sampled, one_in
    cdef readonly object usual
    cdef const double[:, ::1] of_witness
    cdef double margin
    cdef double surplus[SURPRISES * WITNESSES]  # of surprises beyond the margin, never below 0
    cdef int alarmed                            # witnesses that were surprising last, as bits
    cdef bint in_batch                          # whether enough were told of for a mean
    cdef Checks of_group[2]                     # suspects, and other queries
    cdef Checks of_all                          # queries where nothing is surprising
    cdef int64_t unchecked, due                 # of these since the last check, and to check now
    cdef int64_t singles
    cdef double total[SURPRISES * WITNESSES]    # surprises since queries are suspect
    # Surprise of a query whose suspects had found enough.
    cdef double tolerated[SURPRISES * WITNESSES]

    cdef int tell(self, const float *told, int64_t n, int64_t every) noexcept nogil
    cdef bint is_suspect(self, const float *told) noexcept nogil
    cdef int64_t left(self, int group) noexcept nogil
    cdef void forget_checks(self) noexcept nogil
    cdef void decide(self) noexcept nogil
    cdef void decide_for_all(self) noexcept nogil
    cdef int64_t others_left(self) noexcept nogil
    cdef void count_unchecked(self, int64_t n, int64_t least) noexcept nogil
    cdef bint tells_key(self, int64_t dim) noexcept nogil
    cdef int take_one(self, const float *told) noexcept
