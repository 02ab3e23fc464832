"""Exact keys of all rows of a block, where rough scores rule out too little."""

from libc.stdint cimport int64_t

from farann.native.candidates cimport Candidates
from farann.native.ceilings cimport Ceilings
from farann.native.integer_keys cimport IntegerKeys
from farann.native.kernels cimport farann_block, farann_key_threshold, farann_key_panels
from farann.native.query_batch cimport Query, QueryBatch
from farann.native.snapshot cimport Segment

cdef enum:
    # Coded rows scanned, at least, before a query changes to exact keys; or 16 k if that is more.
    FEWEST_FOR_KEYS = 256


cdef class KeyScan:
    cdef QueryBatch batch
    cdef Candidates candidates
    cdef IntegerKeys integer_keys
    cdef bint in_float32  # whether all rows from now on are scored in float32
    cdef Ceilings ceilings
    cdef bint may_decide  # whether the search is one that may go by keys
    cdef int64_t packed_rows  # rows of a block that there is room for, packed; 0: row by row
    cdef farann_key_panels key_panels
    cdef double *key_tile   # some queries in float64, side by side
    cdef farann_key_threshold *key_thresholds
    cdef int64_t *keyed     # queries that get the keys of the block; NULL: not allocated yet
    cdef int64_t n_keyed

    @staticmethod
    cdef KeyScan of(QueryBatch batch, Candidates candidates, bint may_decide, bint packed)
    cdef int pieces(self) noexcept
    cdef bint keys_decide(self, const Query *query) noexcept nogil
    cdef bint few_of(self, int64_t passed, int64_t n) noexcept nogil
    cdef bint judge_rough(self, Query *query, int64_t passed, int64_t seen,
                          int64_t n) noexcept nogil
    cdef void admit_first(self, Query *query, const float *scores, int64_t n,
                          const farann_block *block) noexcept nogil
    cdef void settle_keys(self) noexcept nogil
    cdef void take_keys(self, int64_t i) noexcept nogil
    cdef bint allocate_keys(self) noexcept nogil
    cdef void score_keyed(self, Query *query, const Segment *segment, int64_t start,
                          int64_t n) noexcept nogil
    cdef void scan_keys(self, const Segment *segment, int64_t start, int64_t n) noexcept nogil
    cdef void pack_keys(self, const farann_block *block, const Segment *segment, int64_t start,
                        int64_t n) noexcept nogil
    cdef void take_columns(self, const int64_t *members, int64_t count) noexcept nogil
    cdef void scan_key_tile(self, const int64_t *members, int64_t count, const farann_block *block,
                            int64_t n) noexcept nogil
    cdef void set_key_threshold(self, farann_key_threshold *threshold, const Query *query) noexcept nogil
    cdef double near_key(self, const Query *query) noexcept nogil
