"""Boxes around rows that lie side by side: no row has a key better than that of the best corner.

Searches find boxes of blocks as they go. Where they do so again and again, as on rows that tie, the
boxes of all rows are kept with the snapshot.
"""

cimport cython
from libc.stdint cimport INT64_MAX, int64_t, uint64_t
from libc.string cimport memcpy

from farann.native.kernels cimport *
from farann.native.snapshot cimport Segment, Snapshot

import numpy as np

cdef enum:
    # Boxes are kept when searches have found those of so many times all rows.
    TIMES_BOXED = 2


cdef void count_boxed(Snapshot snapshot, int64_t n) noexcept nogil:
    """Note that a search found the box of n rows; where two do at once, one may be lost."""
    farann_store(&snapshot.boxed, farann_load(&snapshot.boxed) + n)


cdef bint join_boxes(Snapshot snapshot, int64_t start, int64_t n, float *corners,
                     int64_t *first_id) noexcept nogil:
    """Write the box of n rows from a slot on, the same that their values give, and their least id.

    False: no boxes are kept, or these rows are not whole boxes.
    """
    cdef int64_t dim = snapshot.dim, end = start + n, box, j
    cdef const float *kept = <const float *>farann_published(&snapshot.corners_at)
    cdef const int64_t *first_ids = <const int64_t *>farann_load(&snapshot.first_ids_at)
    cdef float *high = corners + dim
    if kept == NULL or start % BOX_ROWS or end > snapshot.segments[0].count or (
            end % BOX_ROWS and end < snapshot.segments[0].count):
        return False
    kept += start // BOX_ROWS * 2 * dim
    memcpy(corners, kept, 2 * dim * sizeof(float))
    first_id[0] = first_ids[start // BOX_ROWS]
    for box in range(start // BOX_ROWS + 1, (end + BOX_ROWS - 1) // BOX_ROWS):
        kept += 2 * dim
        first_id[0] = min(first_id[0], first_ids[box])
        for j in range(dim):
            corners[j] = kept[j] if kept[j] < corners[j] else corners[j]
        for j in range(dim):
            high[j] = kept[dim + j] if kept[dim + j] > high[j] else high[j]
    return True


cdef keep_boxes(Snapshot snapshot):
    """Keep boxes of all rows of the base, if searches have found enough of them.

    Of threads that do so at once the first one is kept.
    """
    cdef int64_t n = snapshot.segments[0].count, n_boxes = (n + BOX_ROWS - 1) // BOX_ROWS
    cdef float[:, :, ::1] corners
    cdef float[:, ::1] wide
    cdef int64_t[::1] first_ids
    cdef uint64_t before
    cdef int64_t box
    if farann_load(&snapshot.corners_at) or farann_load(&snapshot.boxed) < TIMES_BOXED * n or n == 0:
        return
    try:
        made = np.empty((n_boxes, 2, snapshot.dim), np.float32), np.empty(n_boxes, np.int64)
        wide = np.empty((BOX_ROWS, snapshot.dim), np.float32)
    except MemoryError:  # it goes without
        return
    corners, first_ids = made
    with nogil:
        before = farann_arithmetic_begin()
        for box in range(n_boxes):
            first_ids[box] = box_of(snapshot, box * BOX_ROWS, min(BOX_ROWS, n - box * BOX_ROWS),
                                    &wide[0, 0], &corners[box, 0, 0])
        farann_arithmetic_end(before)
    with cython.critical_section(snapshot):
        if snapshot.boxes is None:
            snapshot.boxes = made
            farann_store(&snapshot.first_ids_at, <int64_t>&first_ids[0])
            farann_publish(&snapshot.corners_at, <int64_t>&corners[0, 0, 0])


cdef int64_t box_of(Snapshot snapshot, int64_t start, int64_t n, float *wide,
                    float *corners) noexcept nogil:
    """Write the corners of the box of n rows of the base from `start` on; gives the least id."""
    cdef const Segment *rows = &snapshot.segments[0]
    cdef const float *given = <const float *>(rows.rows + start * snapshot.row_bytes)
    cdef int64_t i, first_id = INT64_MAX
    if snapshot.row_type != FARANN_FLOAT32:
        snapshot.kernels.widen_rows(snapshot.row_type, given, NULL, n, snapshot.dim, wide)
        given = wide
    snapshot.kernels.box_f32(given, NULL, n, snapshot.dim, corners, corners + snapshot.dim)
    for i in range(start, start + n):
        first_id = min(first_id, snapshot.ids_by_slot[i] if snapshot.ids_by_slot != NULL else i)
    return first_id
