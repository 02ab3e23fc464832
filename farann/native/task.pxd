from farann.native.codes cimport Codes
from farann.native.levels cimport Level
from farann.native.search cimport Search
from farann.native.sources cimport CodeSource, RowSource

cdef enum:
    FEW_ROWS = 64  # rows up to which exact keys of all cost less than a rough pass


cdef class Task(Search):
    cdef Level floats           # None: there are few rows, and all get exact keys
    cdef Level rows_level       # scores rows that have no codes
    cdef CodeSource base_codes  # None: the base is scanned as rows are kept
    cdef RowSource base_rows, tail_rows

    cdef take_judge(self, costs, bint may_go_by_keys)
    cdef add_outliers(self, Codes codes, Level level)
