"""Exact keys of given rows over the members of sets."""

from libc.stdint cimport int64_t, uint64_t

from farann.native.kernels cimport *
from farann.native.picks cimport Picks
from farann.native.process cimport NEVER, CancelFlag
from farann.native.scratch cimport Scratch
from farann.native.snapshot cimport Segment, Snapshot

from farann.native.process import Cancelled


cdef enum:
    # Members up to which each meets all rows in turn; with more, each row meets all members.
    FEW_SCANNED_MEMBERS = 16


def member_keys(Snapshot snapshot, const float[:, ::1] members, const int64_t[::1] slots,
                double[:, ::1] keys, CancelFlag flag=None):
    """Write the keys of `slots` for each of the members, (n_members, n_slots); larger = further.

    Those of single queries, but under cosine divided by the member's norm, so that keys of
    different members can be compared.
    """
    cdef int64_t i, j, m = members.shape[0], n = slots.shape[0]
    cdef const int64_t *given_up = &NEVER
    cdef uint64_t before
    cdef Picks picks
    cdef Scratch scratch
    cdef int64_t *places
    cdef double *of_segment
    if n == 0 or m == 0:
        return
    if (keys.shape[0] != m or keys.shape[1] != n or members.shape[1] != snapshot.dim
            or not snapshot.vectors):
        raise ValueError("there must be a key for each member and slot, of rows with vectors")
    for j in range(n):
        if not 0 <= slots[j] < snapshot.n_slots:
            raise ValueError("slots must be slots of the snapshot")
    if flag is not None:
        given_up = &flag.raised
    picks = Picks.of(snapshot)
    picks.grow(m)
    scratch = Scratch()
    places = <int64_t *>scratch.allocate(2 * n + 1, sizeof(int64_t))
    of_segment = <double *>scratch.allocate(n + 1, sizeof(double))
    with nogil:
        before = farann_arithmetic_begin()
        for i in range(m):
            picks.add(&members[i, 0])
        if m <= FEW_SCANNED_MEMBERS:
            for i in range(2):
                score_segment(picks, &snapshot.segments[i], &slots[0], n, places, of_segment,
                              &keys[0, 0], given_up)
        else:
            for j in range(n):
                if farann_is_up(given_up):
                    break
                picks.keys_of(picks.row_of(slots[j]), &keys[0, j], n)
        farann_arithmetic_end(before)
    if farann_is_up(given_up):
        raise Cancelled("the batch of this task was given up")


cdef void score_segment(Picks picks, const Segment *segment, const int64_t *slots, int64_t n,
                        int64_t *places, double *found, double *keys,
                        const int64_t *given_up) noexcept nogil:
    """Write the keys of those slots that are in a segment, member by member."""
    cdef int64_t *positions = places + n
    cdef int64_t i, j, count = 0
    for j in range(n):
        if 0 <= slots[j] - segment.first < segment.count:
            places[count], positions[count] = j, slots[j] - segment.first
            count += 1
    for i in range(picks.count):
        if count == 0 or farann_is_up(given_up):
            return
        picks.kernels.widen_f32(picks.rows + i * picks.dim, picks.dim, picks.exact)
        picks.reader.keys_at(segment, positions, count, picks.exact, found)
        for j in range(count):
            keys[i * n + places[j]] = found[j] / picks.norms[i]
