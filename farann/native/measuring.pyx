"""Beside searches: keys and scores of given rows, pairs, and how far predictions were off."""

from libc.math cimport INFINITY
from libc.stdint cimport int64_t, uint64_t

from farann.native.collector cimport floor_of
from farann.native.kernels cimport *
from farann.native.picks cimport Picks
from farann.native.probing cimport PartitionMeans
from farann.native.process cimport NEVER, CancelFlag, Scratch
from farann.native.query_batch cimport Query, QueryBatch
from farann.native.snapshot cimport Filter, Segment, Snapshot
from farann.native.sources cimport RowReader
from farann.native.task cimport Task

import numpy as np

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


cdef enum:
    SCORES_AT_ONCE = 256  # rows whose keys are computed at once, in arrays on the stack


def score_slots(Snapshot snapshot, const float[:, ::1] queries, const int64_t[::1] slots,
                float[:, ::1] scores, int64_t start, int64_t stop, CancelFlag flag=None):
    """Write the scores of `slots` for queries start .. stop to the same rows of `scores`."""
    cdef int64_t i, j, n, at, n_slots = slots.shape[0]
    cdef int64_t positions[SCORES_AT_ONCE]
    cdef double keys[SCORES_AT_ONCE]
    cdef const Segment *segment
    cdef uint64_t before
    cdef QueryBatch batch
    cdef RowReader rows
    if n_slots == 0 or stop <= start:
        return
    for j in range(n_slots):
        if not 0 <= slots[j] < snapshot.n_slots or (
                not snapshot.vectors and slots[j] < snapshot.segments[0].count):
            raise ValueError("slots must be slots of the snapshot, of rows with vectors")
    batch = QueryBatch.of(snapshot, Filter(snapshot), queries, start, stop, 1, False, flag)
    rows = RowReader.of(snapshot, batch.scratch, min(batch.block_rows, SCORES_AT_ONCE))
    with nogil:
        before = farann_arithmetic_begin()
        at = 0
        for i in range(batch.n_queries):
            if batch.cancelled():
                break
            batch.find_query_vector(i)
        while at < n_slots and not batch.cancelled():
            segment = &snapshot.segments[slots[at] >= snapshot.segments[1].first]
            n = 0
            while n < SCORES_AT_ONCE and at + n < n_slots:
                positions[n] = slots[at + n] - segment.first
                if not 0 <= positions[n] < segment.count:
                    break
                n += 1
            for i in range(stop - start):
                if batch.cancelled():
                    break
                rows.keys_at(segment, positions, n, batch.exact_query(i), keys)
                for j in range(n):
                    scores[start + i, at + j] = <float>farann_score(
                        snapshot.metric, keys[j], batch.queries[i].prepared.query_norm)
            at += n
        farann_arithmetic_end(before)
    batch.check_cancelled()


def keys_of_found(Snapshot snapshot, const float[:, ::1] queries, const int64_t[::1] offsets,
                  const int64_t[::1] slots, bint nearest, double[::1] keys, int64_t start,
                  int64_t stop, CancelFlag flag=None):
    """Write the exact keys of what queries start .. stop found: of query i slots offsets[i] ..
    offsets[i + 1]. Larger is better; -infinity for slots below 0."""
    cdef int64_t i, j, n, m
    cdef int64_t positions[SCORES_AT_ONCE]
    cdef int64_t places[SCORES_AT_ONCE]
    cdef double found[SCORES_AT_ONCE]
    cdef double sign = -1.0 if nearest else 1.0
    cdef int s
    cdef const Segment *segment
    cdef uint64_t before
    cdef QueryBatch batch
    cdef RowReader rows
    if stop <= start:
        return
    if not snapshot.vectors or offsets.shape[0] <= stop or offsets[0] != 0 or (
            keys.shape[0] != slots.shape[0]) or offsets[offsets.shape[0] - 1] != slots.shape[0]:
        raise ValueError("there must be a key for each slot, of rows with vectors")
    for i in range(start, stop):
        if offsets[i] > offsets[i + 1]:
            raise ValueError("offsets must ascend")
        for j in range(offsets[i], offsets[i + 1]):
            if slots[j] >= snapshot.n_slots:
                raise ValueError("slots must be slots of the snapshot")
    batch = QueryBatch.of(snapshot, Filter(snapshot), queries, start, stop, 1, False, flag)
    rows = RowReader.of(snapshot, batch.scratch, min(batch.block_rows, SCORES_AT_ONCE))
    with nogil:
        before = farann_arithmetic_begin()
        for i in range(start, stop):
            if batch.cancelled():
                break
            batch.find_query_vector(i - start)
            for j in range(offsets[i], offsets[i + 1]):
                keys[j] = -INFINITY
            for s in range(2):
                segment = &snapshot.segments[s]
                j = offsets[i]
                while j < offsets[i + 1]:
                    n = 0
                    while n < SCORES_AT_ONCE and j < offsets[i + 1]:
                        if 0 <= slots[j] - segment.first < segment.count:
                            positions[n], places[n] = slots[j] - segment.first, j
                            n += 1
                        j += 1
                    rows.keys_at(segment, positions, n,
                                 batch.exact_query(i - start), found)
                    for m in range(n):
                        keys[places[m]] = sign * found[m] + 0.0  # never -0.0
        farann_arithmetic_end(before)
    batch.check_cancelled()


def surprises(Snapshot snapshot, Filter filter, const float[:, ::1] queries,
              const float[::1] scores, int64_t k, rule, *, bint nearest=False):
    """By how many deviations k-th keys are above the optimistic scores of good partitions.

    NaN where that can't be said; `scores` are those of the k-th rows of the queries.
    """
    cdef int64_t first = 0, count, i, at, n = queries.shape[0]
    cdef Task task = Task(snapshot, filter, queries, 0, n, k, nearest, rule)
    cdef double[::1] found = np.full(n, np.nan)
    cdef PartitionMeans means = task.means
    cdef double key
    cdef uint64_t before
    if scores.shape[0] != n:
        raise ValueError("there must be a score for each query")
    if means is None:
        return np.asarray(found)  # all rows are scored
    task.all_ask()
    with nogil:
        before = farann_arithmetic_begin()
        snapshot.kernels.begin()
        while first < n:
            count = min(task.coded.width, n - first)
            means.score(task.asking + first, count)
            for at in range(count):
                i = first + at
                if not means.can_score(i):
                    continue
                key = (farann_key_at(snapshot.metric, task.batch.sign, scores[i],
                                     task.batch.queries[i].prepared.query_norm)
                       * task.batch.queries[i].prepared.key_scale
                       + task.batch.queries[i].prepared.key_offset)
                found[i] = (key - means.mean_of_best(means.scores + at * means.partitions.n_padded)
                            ) / means.deviation_of(i)
            first += count
        snapshot.kernels.end()
        farann_arithmetic_end(before)
    return np.asarray(found)


cdef class PairSearch(Task):
    """The furthest row of each query, for those queries that have one at least as far as `least`.

    `least` is a key, which under cosine is minus the cosine; rows below it are ruled out from the
    start.
    """

    def __init__(self, Snapshot snapshot, Filter filter, const float[:, ::1] queries,
                 int64_t start, int64_t stop, double least, CancelFlag flag=None,
                 costs=(0.0, 0.0, 0.0, 0.0)):
        cdef int64_t i
        Task.__init__(self, snapshot, filter, queries, start, stop, 1, False, flag=flag,
                      costs=costs)
        for i in range(self.batch.n_queries):
            self.collector.raise_threshold(i, floor_of(&self.batch.queries[i], least))

    def write_keys(self, double[::1] keys, int64_t[::1] ids, int64_t start):
        """Write the key and the id of each query's furthest row, or -infinity and -1."""
        cdef int64_t i
        cdef const Query *query
        for i in range(self.batch.n_queries):
            query = &self.batch.queries[i]
            keys[start + i], ids[start + i] = -INFINITY, -1
            if self.collector.found[i].top.count:
                keys[start + i] = (self.collector.found[i].top.entries[0].key
                                   / query.prepared.query_norm)
                ids[start + i] = self.collector.found[i].top.entries[0].id
