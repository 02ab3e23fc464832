"""Boxes around rows that lie side by side."""

from libc.stdint cimport int64_t

from farann.native.snapshot cimport Snapshot

cdef enum:
    # Rows of a box: boxes take up less than a hundredth of what the rows do.
    BOX_ROWS = 256


cdef struct Boxes:
    const float *corners  # of each box the smallest of each coordinate, then the largest
    const int64_t *first_ids  # of each box the smallest id


cdef void count_boxed(Snapshot snapshot, int64_t n) noexcept nogil
cdef bint find_boxes(Snapshot snapshot, Boxes *boxes) noexcept nogil
cdef keep_boxes(Snapshot snapshot)
