from farann.native.kernels cimport *

cdef enum:
    WITNESSES = 2  # numbers that tell of an answer: how late, how far out its last key
    # Of each: squares of deviations on either side, and deviations; and queries the guard found.
    SURPRISES = 4 * WITNESSES + 1
    KEY_AXES = 15  # principal axes of the rows that variances of keys are known along


cdef enum Verdict:
    ENOUGH
    SHORT_WHERE_SURPRISING  # all are to be answered exactly, at least until surprises end
    SHORT  # where nothing was surprising: until they had found enough


cdef class Watch:
    cdef readonly double recall
    cdef readonly int64_t sampled, one_in
    cdef readonly object usual
    cdef const double[:, ::1] of_witness
    cdef double margin
    cdef double surplus[SURPRISES]    # of surprises beyond the margin, never below 0
    cdef double total[SURPRISES]      # surprises since some were suspicious
    cdef double tolerated[SURPRISES]  # surprise of a query of those that had found enough
    cdef int64_t remembered, memory   # queries until that is forgotten, and after the next verdict
    cdef int alarmed                  # witnesses that were surprising last, as bits
    cdef int64_t numbers[WITNESSES + 1]  # queries in `total`
    cdef int64_t checked              # queries since the last verdict
    cdef double recalls, squares        # recalls of these, and their squares, summed
    cdef Verdict verdict
    cdef int64_t unchecked, due       # queries since some were compared, and to check now
    cdef int64_t singles
    cdef int64_t fell_short           # queries since the verdict that too little is found
    cdef double recent                # mean recall of the last that were compared

    cdef void tell(self, const float *told, int64_t n, int64_t every, int64_t unlike) noexcept nogil
    cdef void count(self, int64_t n, int64_t least) noexcept nogil
    cdef int64_t to_check(self) noexcept nogil
    cdef void begin(self, Verdict verdict) noexcept nogil
    cdef void decide(self) noexcept nogil
    cdef bint tells_key(self, int64_t dim) noexcept nogil
    cdef int64_t one_in_short(self) noexcept nogil
    cdef bint passes_over(self) noexcept nogil
    cdef bint is_busy(self, int64_t n) noexcept nogil
    cdef int64_t told_of(self, int64_t n, int64_t dim) noexcept nogil
    cdef void pass_over(self) noexcept
    cdef bint take_one(self, const float *told) noexcept
    cdef void take_some(self, const float *told, int64_t n, int64_t every,
                        int64_t unlike=*) noexcept
    cdef void take_unlike(self) noexcept


cdef class KeyModel:
    cdef const farann_kernels *kernels
    cdef const float[:, ::1] axes
    cdef const float[::1] zeros
    cdef const double[:, ::1] terms

    cdef float tell(self, const float *vector, double factor, double norm, double sign,
                    double key) noexcept nogil
