"""Boxes around rows that lie side by side."""

from libc.stdint cimport int64_t

from farann.native.snapshot cimport Snapshot

cdef enum:
    # Rows of a box: the fewest of a block, so that blocks of rows in the order of slots are made of
    # boxes. These take up a 32nd of what the rows do.
    BOX_ROWS = 64


cdef void count_boxed(Snapshot snapshot, int64_t n) noexcept nogil
cdef bint join_boxes(Snapshot snapshot, int64_t start, int64_t n, float *corners,
                     int64_t *first_id) noexcept nogil
cdef keep_boxes(Snapshot snapshot)
