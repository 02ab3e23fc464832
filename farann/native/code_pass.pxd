"""All coded rows, block by block, as long as codes pay."""

from libc.stdint cimport int64_t, uint8_t

from farann.native.candidates cimport Candidates
from farann.native.code_scan cimport CodeScan
from farann.native.coded_queries cimport CodedQueries
from farann.native.cost_judge cimport CostJudge
from farann.native.first_rows cimport FirstRows
from farann.native.norm_pruning cimport NormPruning
from farann.native.position_keys cimport PositionKeys
from farann.native.query_batch cimport QueryBatch


cdef class CodePass:
    cdef QueryBatch batch
    cdef Candidates candidates
    cdef CodedQueries coded
    cdef CodeScan code_scan
    cdef NormPruning pruning
    cdef CostJudge judge
    cdef FirstRows first_rows
    cdef PositionKeys position_keys
    cdef uint8_t *whole_panels  # with a basis: whole codes of a block; NULL: the PCA filter pays
    cdef float *whole_weights  # of these panels

    @staticmethod
    cdef CodePass of(QueryBatch batch, Candidates candidates, CodedQueries coded,
                     CodeScan code_scan, NormPruning pruning, CostJudge judge, FirstRows first_rows,
                     PositionKeys position_keys)
    cdef void begin_again(self) noexcept nogil
    cdef int64_t scan_all_codes(self, int64_t first, int64_t last) noexcept nogil
    cdef void judge_pca_filter(self, int64_t refined, int64_t n) noexcept nogil
    cdef bint pack_whole(self, int64_t start, int64_t n) noexcept nogil
    cdef void scan_whole(self, int64_t start, int64_t n) noexcept nogil
    cdef void scan_for_active(self, int64_t start, int64_t n) noexcept nogil
    cdef void end_keys(self) noexcept nogil
