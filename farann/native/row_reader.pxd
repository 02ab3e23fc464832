"""Rows as float32, whatever they are kept as."""

from libc.stdint cimport int64_t, uint8_t

from farann.native.kernels cimport farann_kernels, farann_metric, farann_row_type
from farann.native.scratch cimport Scratch
from farann.native.snapshot cimport Segment, Snapshot


cdef struct RowBlock:
    const float *rows
    const int64_t *positions  # of the rows of the block; NULL: they come one after the other


cdef class RowReader:
    cdef const farann_kernels *kernels
    cdef farann_metric metric
    cdef farann_row_type row_type
    cdef int64_t dim, row_bytes
    cdef int64_t room  # rows that fit into `wide`
    cdef float *wide
    cdef const uint8_t *source  # of the rows that are there; NULL: those at some positions
    cdef int64_t n_wide

    @staticmethod
    cdef RowReader of(Snapshot snapshot, Scratch scratch, int64_t room)
    cdef RowBlock block(self, const Segment *segment, int64_t start, int64_t n) noexcept nogil
    cdef RowBlock widen(self, const uint8_t *rows, const int64_t *positions,
                        int64_t n) noexcept nogil
    cdef void keys_at(self, const Segment *segment, const int64_t *positions, int64_t n,
                      const double *query, double *keys) noexcept nogil
