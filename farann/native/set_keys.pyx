"""Exact keys of given rows over the members of sets."""

from libc.stdint cimport int64_t, uint64_t

from farann.native.kernels cimport *
from farann.native.picks cimport Picks
from farann.native.process cimport NEVER, CancelFlag
from farann.native.snapshot cimport Snapshot

from farann.native.process import Cancelled


def member_keys(Snapshot snapshot, const float[:, ::1] members, const int64_t[::1] slots,
                double[:, ::1] keys, CancelFlag flag=None):
    """Write the keys of `slots` for each of the members, (n_members, n_slots); larger = further.

    Those of single queries, but under cosine divided by the member's norm, so that keys of
    different members can be compared.
    """
    cdef int64_t i, j, nearest = 0, m = members.shape[0], n = slots.shape[0]
    cdef const int64_t *given_up = &NEVER
    cdef uint64_t before
    cdef Picks picks
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
    with nogil:
        before = farann_arithmetic_begin()
        for i in range(m):
            picks.add(&members[i, 0])
        for j in range(n):
            if farann_load(given_up):
                break
            picks.keys_of(picks.row_of(slots[j]), &keys[0, j], keys.shape[1])
        farann_arithmetic_end(before)
    if farann_load(given_up):
        raise Cancelled("the batch of this task was given up")
