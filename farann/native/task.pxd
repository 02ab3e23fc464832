from libc.stdint cimport int64_t

from farann.native.codes cimport Codes
from farann.native.levels cimport Level
from farann.native.search cimport Search
from farann.native.sources cimport RowSource, Source

cdef enum:
    FEW_ROWS = 64  # rows up to which exact keys of all cost less than a rough pass


cdef class Task(Search):
    cdef list row_levels        # of rows that have no codes: float32, if they are many, and keys
    cdef Source base            # rows of the last build: positions of codes, or slots
    cdef RowSource tail         # rows that were added since and have no codes

    cdef void tell(self, int64_t i, float *witness, bint of_key) noexcept nogil


cdef take_judge(Search search, costs, bint goes_by_keys)
cdef add_outliers(Search search, Codes codes, Level level)
