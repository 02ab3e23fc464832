"""Searches: exact and approximate, from the first row to the answer."""

from libc.stdint cimport int64_t

from farann.native.answers cimport Answers
from farann.native.code_pass cimport CodePass
from farann.native.code_scan cimport CodeScan
from farann.native.coded_queries cimport CodedQueries
from farann.native.codes cimport Codes
from farann.native.first_rows cimport FirstRows
from farann.native.key_scan cimport KeyScan
from farann.native.lateness cimport Lateness
from farann.native.ordered_scan cimport OrderedScan
from farann.native.partition_choice cimport PartitionChoice
from farann.native.partition_probe cimport PartitionProbe
from farann.native.query_batch cimport QueryBatch
from farann.native.row_scan cimport RowScan
from farann.native.tail_scan cimport TailScan
from farann.native.uncoded_rows cimport UncodedRows

cdef enum:
    CANDIDATE_ROOM = 64  # candidates beyond 2 k that a query holds before they are thinned out


cdef class Task(Answers):
    cdef KeyScan key_scan
    cdef RowScan row_scan
    # None where there are no codes that are of use.
    cdef CodedQueries coded
    cdef CodeScan code_scan
    cdef FirstRows first_rows
    cdef CodePass code_pass
    cdef UncodedRows uncoded
    cdef TailScan tail
    cdef readonly bint futile  # codes: float32 would have cost far less
    cdef readonly bint gave_up  # codes, as they rule out too little
    cdef bint lacks_tail  # whose codes take the place of the others
    cdef int64_t first, end  # of the rows to search, where these aren't all

    cdef put_together(self, QueryBatch batch, Codes codes, int64_t room, bint keys_may_decide,
                      bint exact)
    cdef put_codes_together(self, Codes codes, costs, bint approximate, bint pca_filtered,
                            run_ends=*)
    cdef prepare(self)
    cdef void prepare_query(self, int64_t i) noexcept nogil
    cdef check_finished(self)
    cdef str what_lacked_memory(self)
    cdef void answer(self) noexcept nogil
    cdef void answer_from_tail(self, bint by_codes) noexcept nogil
    cdef search_added(self)
    cdef search_base(self)
    cdef int64_t n_before_tail(self) noexcept nogil
    cdef void scan_segment(self, int s) noexcept nogil
    cdef void begin_again(self, const float *given) noexcept nogil


cdef class ApproximateTask(Task):
    cdef PartitionChoice choice  # None: there are no partitions, or all are searched
    cdef PartitionProbe probe
    cdef OrderedScan ordered
    cdef Lateness lateness  # None: lateness is not measured
    cdef bint extends  # whether queries answered later than `late` scan twice as many rows
    cdef double late
