"""Keys and scores of given rows, and errors of predictions."""

from libc.math cimport INFINITY

from farann.native.collector cimport Collector
from farann.native.kernels cimport *
from farann.native.probing cimport PartitionMeans
from farann.native.query_batch cimport QueryBatch, reduced_key
from farann.native.snapshot cimport Filter, Snapshot
from farann.native.sources cimport KEYS_AT_ONCE, RowReader
from farann.native.task cimport Task

import numpy as np


def keys_of_slots(Snapshot snapshot, const float[:, ::1] queries, const int64_t[::1] slots,
                  double[:, ::1] keys, CancelFlag flag=None, *, float[:, ::1] scores=None):
    """Write the keys of `slots` for each of the queries, (n, n_slots), or their scores.

    Under cosine keys are divided by the query's norm, so that those of members of a set can be
    compared.
    """
    cdef double values[KEYS_AT_ONCE]
    cdef int64_t i, j, count, at = 0, n = queries.shape[0], n_slots = slots.shape[0]
    cdef int64_t first = 0 if snapshot.vectors else snapshot.segments[0].count
    cdef double norm
    cdef uint64_t before
    cdef QueryBatch batch
    cdef RowReader rows
    if n_slots == 0 or n == 0:
        return
    if queries.shape[1] != snapshot.dim or (
            (keys.shape[0], keys.shape[1]) if scores is None else
            (scores.shape[0], scores.shape[1])) != (n, n_slots):
        raise ValueError("there must be a key or a score for each query and slot")
    for j in range(n_slots):
        if not first <= slots[j] < snapshot.n_slots:
            raise ValueError("slots must be slots of the snapshot, of rows with vectors")
    batch = QueryBatch.of(snapshot, Filter(snapshot), queries, 0, n, 1, False, flag)
    rows = RowReader.of(snapshot, batch.scratch, min(batch.block_rows, KEYS_AT_ONCE))
    with nogil:
        before = farann_arithmetic_begin()
        for i in range(n):
            if batch.cancelled():
                break
            batch.find_query_vector(i)
        while at < n_slots and not batch.cancelled():
            count = min(n_slots - at, KEYS_AT_ONCE)
            for i in range(n):
                if batch.cancelled():
                    break
                rows.keys_of(&slots[at], count, batch.exact_query(i), values)
                norm = batch.queries[i].prepared.query_norm
                for j in range(count):
                    if scores is None:
                        keys[i, at + j] = values[j] / norm
                    else:
                        scores[i, at + j] = <float>farann_score(snapshot.metric, values[j], norm)
            at += count
        farann_arithmetic_end(before)
    batch.check_cancelled()


def keys_of_found(Snapshot snapshot, const float[:, ::1] queries, const int64_t[::1] offsets,
                  const int64_t[::1] slots, bint nearest, double[::1] keys, int64_t start,
                  int64_t stop, CancelFlag flag=None):
    """Write the exact keys of the rows that queries start .. stop found: those of query i are
    slots offsets[i] .. offsets[i + 1]. Larger is better; -infinity for slots below 0."""
    cdef int64_t i, j, n, at
    cdef double sign = -1.0 if nearest else 1.0
    cdef uint64_t before
    cdef QueryBatch batch
    cdef RowReader rows
    if stop <= start:
        return
    if not snapshot.vectors or offsets.shape[0] <= stop or keys.shape[0] != slots.shape[0] or not (
            0 <= offsets[start] <= offsets[stop] <= slots.shape[0]):
        raise ValueError("there must be a key for each slot, of rows with vectors")
    batch = QueryBatch.of(snapshot, Filter(snapshot), queries, start, stop, 1, False, flag)
    rows = RowReader.of(snapshot, batch.scratch, min(batch.block_rows, KEYS_AT_ONCE))
    with nogil:
        before = farann_arithmetic_begin()
        for i in range(start, stop):
            if batch.cancelled():
                break
            at, n = offsets[i], offsets[i + 1] - offsets[i]
            for j in range(at, at + n):
                keys[j] = -sign * INFINITY
            if n > 0:
                rows.keys_of(&slots[at], n, batch.exact_query(i - start), &keys[at])
            for j in range(at, at + n):
                keys[j] = sign * keys[j] + 0.0  # never -0.0
        farann_arithmetic_end(before)
    batch.check_cancelled()


def surprises(Snapshot snapshot, Filter filter, const float[:, ::1] queries,
              const float[::1] scores, int64_t k, rule, *, bint nearest=False):
    """The number of deviations from the optimistic scores of good partitions to the k-th keys.

    NaN where it is undefined; `scores` are those of the k-th rows of the queries.
    """
    cdef int64_t first = 0, count, i, at, n = queries.shape[0]
    cdef Task task = Task(snapshot, filter, queries, 0, n, Collector(k), nearest, rule)
    cdef double[::1] values = np.full(n, np.nan)
    cdef PartitionMeans means = task.means
    cdef const float *optimistic
    cdef double key, good
    cdef uint64_t before
    if scores.shape[0] != n:
        raise ValueError("there must be a score for each query")
    if means is None:
        return np.asarray(values)  # all rows are scored
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
                key = reduced_key(&task.batch.queries[i], farann_key_at(
                    snapshot.metric, task.batch.sign, scores[i],
                    task.batch.queries[i].prepared.query_norm))
                optimistic = means.scores + at * means.partitions.n_padded
                good = means.mean_of_best(optimistic)
                values[i] = (key - good) / means.deviation_of(i, optimistic, good)
            first += count
        snapshot.kernels.end()
        farann_arithmetic_end(before)
    return np.asarray(values)
