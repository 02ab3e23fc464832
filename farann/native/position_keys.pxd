"""Exact keys of rows at positions of codes."""

from libc.stdint cimport int64_t

from farann.native.candidates cimport Candidates
from farann.native.coded_queries cimport CodedQueries
from farann.native.key_scan cimport KeyScan
from farann.native.norm_pruning cimport NormPruning
from farann.native.query_batch cimport QueryBatch


cdef class PositionKeys:
    cdef QueryBatch batch
    cdef Candidates candidates
    cdef KeyScan key_scan
    cdef CodedQueries coded
    cdef NormPruning pruning

    @staticmethod
    cdef PositionKeys of(QueryBatch batch, Candidates candidates, KeyScan key_scan,
                         CodedQueries coded, NormPruning pruning)
    cdef void scan_keys_at(self, int64_t start, int64_t n, bint counted) noexcept nogil
    cdef int64_t list_keyed(self) noexcept nogil
