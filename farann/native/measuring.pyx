"""Beside searches: keys and scores of given rows, pairs, and how far predictions were off."""

from libc.math cimport INFINITY
from libc.stdint cimport int64_t, uint64_t

from farann.native.collector cimport floor_of
from farann.native.kernels cimport *
from farann.native.probing cimport PartitionMeans
from farann.native.process cimport CancelFlag
from farann.native.query_batch cimport Query, QueryBatch
from farann.native.snapshot cimport Filter, Segment, Snapshot
from farann.native.sources cimport RowReader
from farann.native.task cimport Task

import numpy as np

cdef enum:
    KEYS_AT_ONCE = 256  # rows whose keys are computed at once, in arrays on the stack


def member_keys(Snapshot snapshot, const float[:, ::1] members, const int64_t[::1] slots,
                double[:, ::1] keys, CancelFlag flag=None):
    """Write the keys of `slots` for each of the members, (n_members, n_slots); larger = further.

    Those of single queries, but under cosine divided by the member's norm, so that keys of
    different members can be compared.
    """
    cdef int64_t i, j, n, at = 0, m = members.shape[0], n_slots = slots.shape[0]
    cdef double found[KEYS_AT_ONCE]
    cdef uint64_t before
    cdef QueryBatch batch
    cdef RowReader rows
    if n_slots == 0 or m == 0:
        return
    if keys.shape[0] != m or keys.shape[1] != n_slots or members.shape[1] != snapshot.dim:
        raise ValueError("there must be a key for each member and slot")
    check_slots(snapshot, slots)
    batch = QueryBatch.of(snapshot, Filter(snapshot), members, 0, m, 1, False, flag)
    rows = RowReader.of(snapshot, batch.scratch, min(batch.block_rows, KEYS_AT_ONCE))
    with nogil:
        before = farann_arithmetic_begin()
        for i in range(m):
            if batch.cancelled():
                break
            batch.find_query_vector(i)
        while at < n_slots and not batch.cancelled():
            n = min(n_slots - at, KEYS_AT_ONCE)
            for i in range(m):
                if batch.cancelled():
                    break
                keys_of_slots(batch, rows, i, &slots[at], n, found)
                for j in range(n):
                    keys[i, at + j] = found[j] / batch.queries[i].prepared.query_norm
            at += n
        farann_arithmetic_end(before)
    batch.check_cancelled()


def score_slots(Snapshot snapshot, const float[:, ::1] queries, const int64_t[::1] slots,
                float[:, ::1] scores, int64_t start, int64_t stop, CancelFlag flag=None):
    """Write the scores of `slots` for queries start .. stop to the same rows of `scores`."""
    cdef int64_t i, j, n, at, n_slots = slots.shape[0]
    cdef int64_t positions[KEYS_AT_ONCE]
    cdef double keys[KEYS_AT_ONCE]
    cdef const Segment *segment
    cdef uint64_t before
    cdef QueryBatch batch
    cdef RowReader rows
    if n_slots == 0 or stop <= start:
        return
    check_slots(snapshot, slots)
    batch = QueryBatch.of(snapshot, Filter(snapshot), queries, start, stop, 1, False, flag)
    rows = RowReader.of(snapshot, batch.scratch, min(batch.block_rows, KEYS_AT_ONCE))
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
            while n < KEYS_AT_ONCE and at + n < n_slots:
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


cdef check_slots(Snapshot snapshot, const int64_t[::1] slots):
    """Refuse slots that the snapshot has no vectors for."""
    cdef int64_t j, first = 0 if snapshot.vectors else snapshot.segments[0].count
    for j in range(slots.shape[0]):
        if not first <= slots[j] < snapshot.n_slots:
            raise ValueError("slots must be slots of the snapshot, of rows with vectors")


cdef void keys_of_slots(QueryBatch batch, RowReader rows, int64_t i, const int64_t *slots,
                        int64_t n, double *keys) noexcept nogil:
    """Write the exact keys of up to KEYS_AT_ONCE slots for query i; -infinity for slots below 0."""
    cdef int64_t positions[KEYS_AT_ONCE]
    cdef int64_t places[KEYS_AT_ONCE]
    cdef double found[KEYS_AT_ONCE]
    cdef int64_t j, count
    cdef int s
    cdef const Segment *segment
    for j in range(n):
        keys[j] = -INFINITY
    for s in range(2):
        segment, count = &batch.snapshot.segments[s], 0
        for j in range(n):
            if 0 <= slots[j] - segment.first < segment.count:
                positions[count], places[count] = slots[j] - segment.first, j
                count += 1
        rows.keys_at(segment, positions, count, batch.exact_query(i), found)
        for j in range(count):
            keys[places[j]] = found[j]


def keys_of_found(Snapshot snapshot, const float[:, ::1] queries, const int64_t[::1] offsets,
                  const int64_t[::1] slots, bint nearest, double[::1] keys, int64_t start,
                  int64_t stop, CancelFlag flag=None):
    """Write the exact keys of what queries start .. stop found: of query i slots offsets[i] ..
    offsets[i + 1]. Larger is better; -infinity for slots below 0."""
    cdef int64_t i, j, n, at
    cdef double sign = -1.0 if nearest else 1.0
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
    rows = RowReader.of(snapshot, batch.scratch, min(batch.block_rows, KEYS_AT_ONCE))
    with nogil:
        before = farann_arithmetic_begin()
        for i in range(start, stop):
            if batch.cancelled():
                break
            at = offsets[i]
            while at < offsets[i + 1]:
                n = min(offsets[i + 1] - at, KEYS_AT_ONCE)
                keys_of_slots(batch, rows, i - start, &slots[at], n, &keys[at])
                for j in range(at, at + n):
                    if slots[j] >= 0:
                        keys[j] = sign * keys[j] + 0.0  # never -0.0
                at += n
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
    cdef const float *optimistic
    cdef double key, good
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
                optimistic = means.scores + at * means.partitions.n_padded
                good = means.mean_of_best(optimistic)
                found[i] = (key - good) / means.deviation_of(i, optimistic, good)
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
