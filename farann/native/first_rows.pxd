"""The first coded rows: all are scored, so that there is a good threshold."""

from libc.stdint cimport int64_t

from farann.native.candidates cimport Candidates
from farann.native.code_scan cimport CodeScan
from farann.native.coded_queries cimport CodedQueries
from farann.native.kernels cimport farann_coded_rows, farann_coded_tile
from farann.native.key_scan cimport KeyScan
from farann.native.position_keys cimport PositionKeys
from farann.native.query_batch cimport QueryBatch
from farann.native.row_scan cimport RowScan


cdef class FirstRows:
    cdef QueryBatch batch
    cdef Candidates candidates
    cdef KeyScan key_scan
    cdef CodedQueries coded
    cdef CodeScan code_scan
    cdef PositionKeys position_keys
    cdef RowScan row_scan
    cdef int64_t n_scored  # first rows that are all scored, where these can be found
    cdef float *scores  # theirs, of one tile
    cdef int64_t *slots  # where they lie

    @staticmethod
    cdef FirstRows of(QueryBatch batch, Candidates candidates, KeyScan key_scan, CodedQueries coded,
                      CodeScan code_scan, PositionKeys position_keys, RowScan row_scan)
    cdef int64_t scan_first_rows(self, int64_t most) noexcept nogil
    cdef bint most_are_alike(self) noexcept nogil
    cdef void score_in_float32(self, int64_t n) noexcept nogil
    cdef int64_t scan_hubs(self, int64_t most) noexcept nogil
    cdef int64_t to_be_scored(self, int64_t most) noexcept nogil
    cdef int64_t score_tile(self, const farann_coded_rows *rows, const farann_coded_tile *tile,
                            int64_t count, int64_t n,
                            bint keys_follow) noexcept nogil
