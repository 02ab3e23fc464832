"""Searches for the rows furthest from queries, or nearest to them: of what parts they are made."""

from libc.stdint cimport int64_t

from farann.native.coded_queries cimport CodedQueries
from farann.native.codes cimport Codes
from farann.native.levels cimport Level
from farann.native.row_levels cimport FloatLevel
from farann.native.search cimport Part, Search
from farann.native.sources cimport CodeSource, RowSource, RunSource

cdef enum:
    FEW_ROWS = 64  # rows up to which exact keys of all cost less than a rough pass


cdef class Task(Search):
    cdef FloatLevel floats
    cdef CodeSource base_codes  # None: the base is scanned as rows are kept
    cdef RowSource base_rows, tail_rows

    cdef put_together(self, rule, costs, bint by_codes, radii, int64_t start, int64_t k,
                      bint tells_late)
    cdef take_judge(self, costs, bint may_go_by_keys)
    cdef put_base_together(self, Codes codes, rule, bint tells_late)
    cdef put_tail_together(self, Codes codes, rule)
    cdef add_outliers(self, Codes codes, Level level)
    cdef RunSource runs_of(self, ends)
    cdef Level rows_level(self)
    cdef add_uncoded(self, CodeSource source, CodedQueries coded, bint tail)
    cdef int64_t most_code_rows(self, Codes codes)
    cdef int64_t n_before_tail(self)
    cdef Part add_codes(self, CodeSource source, CodedQueries coded, int64_t n_scored, bint tail)
    cdef int64_t rows_to_score(self, Codes codes, int64_t stop) noexcept
