"""Single queries and small batches: tasks and memory are kept between calls, with next to no
Python."""

cimport cython
from cpython.buffer cimport (PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_SIMPLE, PyBUF_WRITABLE,
                             PyBuffer_Release, PyObject_GetBuffer)
from libc.string cimport memset

from farann.native.collector cimport Collector
from farann.native.guard cimport Guard
from farann.native.judge cimport Pause, note, rests
from farann.native.kernels cimport *
from farann.native.query_batch cimport N_COUNTS, QueryBatch
from farann.native.snapshot cimport Filter, Snapshot
from farann.native.task cimport Task
from farann.native.watch cimport WITNESSES, KeyModel, Watch

import numpy as np

cdef enum:
    MOST_IDLE = 8  # idle tasks kept, one for each thread that searches at once
    HOLDS_GIL = 65536  # rows * dim + k below which a search takes less time than releasing the GIL
    MOST_TOGETHER = 256  # queries of a batch, at most

cdef enum Outcome:
    BAD  # a query is not finite, or is zero under cosine
    UNLIKE  # it is one for the guard
    PASSED_OVER  # too little is found, and the watch compares others
    ANSWERED

cdef enum Beginning:
    BY_CODES
    BY_NORMS
    AS_IN_MEMORY

cdef object ndarray = np.ndarray
cdef object new_array = np.empty
cdef object FLOAT32 = np.dtype(np.float32)
cdef object INT64 = np.dtype(np.int64)


cdef class SingleSearch:
    """Searches for the k rows furthest from single queries, or nearest to them, all by one plan; or
    from batches of up to `most` queries at once.

    Tasks are kept from one query to the next. Any number of threads may search at once. Exact
    searches begin with codes or in float32, and there in the order of norms. Where that serves
    query after query badly, most of the next ones begin with the other, or in the order of memory:
    a count of queries decides that, and answers are the same.

    The filter is one for all queries alike. `plan` is what the caller made the plan of, to tell
    later whether that still holds. Queries that are unlike the sample of a guard aren't searched
    for. Exact searches begin in float32, which serves while they read fewer bytes than
    `float32_below`; if that is 0, with codes. `collect` makes the collector of a task; `negates` as
    for `Task`.
    """

    cdef Snapshot snapshot
    cdef Filter filter
    cdef Guard guard
    cdef KeyModel model
    cdef readonly Watch watch
    cdef double float32_below
    cdef bint approximate, nearest, negates
    cdef int64_t k
    cdef readonly int64_t most
    cdef readonly object plan
    cdef object collect, costs, rule, results_of_one
    cdef bint holds_gil
    cdef list idle    # tasks by `Beginning`
    cdef Pause other  # of the level that searches begin with, where it served badly; in searches
    cdef Pause order  # of the order of norms in float32, where searches left it

    def __init__(self, Snapshot snapshot, Filter filter, int64_t k, plan, costs, rule, *,
                 Guard guard=None, bint nearest=False, double float32_below=0.0, collect=None,
                 int64_t most=1, bint negates=False):
        if filter.excluded is not None or filter.groups is not None:
            raise ValueError("a filter that differs from query to query is not for all alike")
        if not 1 <= most <= MOST_TOGETHER:
            raise ValueError(f"a batch has 1 to {MOST_TOGETHER} queries")
        self.snapshot, self.filter, self.k, self.plan, self.most = snapshot, filter, k, plan, most
        self.costs, self.rule, self.guard, self.nearest = costs, rule, guard, nearest
        self.collect, self.negates = collect, negates
        self.approximate, self.watch, self.model = rule.approximate, rule.watch, rule.model
        self.results_of_one = (k,)
        self.holds_gil = most * (filter.n_rows * snapshot.dim + k) < HOLDS_GIL
        self.idle = [[], [], []]
        self.float32_below = 0.0 if rule.approximate else float32_below

    @property
    def gives_codes_up(self):
        """Whether the next search begins in float32, as codes served badly."""
        return self.float32_below == 0.0 and self.other.left != 0

    cdef Task new_task(self, Beginning beginning):
        # Any query will do, as long as it has a direction.
        first = np.ones((self.most, self.snapshot.dim), np.float32)
        collector = Collector(self.k) if self.collect is None else self.collect()
        return Task(self.snapshot, self.filter, first, 0, self.most, collector, self.nearest,
                    self.rule, costs=self.costs, by_codes=beginning == BY_CODES,
                    by_norm=beginning == BY_NORMS, tells_late=self.watch is not None,
                    model=self.model, negates=self.negates)

    def search(self, queries, Filter within=None):
        """Find the rows for a float32 array (n, dim), or (dim,) of a single query: where `most` is
        1 one by one, else at once.

        `within` is a mask of rows for these queries alone.

        Returns
        -------
        (ids, scores, counts) or None
            In the shape that goes with that of the queries, and what the fields of `SearchStats`
            are. None: the argument is something else, and needs to be checked and converted. With a
            fourth part some queries have to be answered exactly: pairs of a query's number, and
            whether it was answered and is to be compared with that; the others are unlike the
            sample, or of a time when too little is found. An empty tuple: a batch at once has such
            queries.
        """
        cdef Py_buffer buffer
        if type(queries) is not ndarray or not (
                within is None or (self.most == 1 and within.is_mask_of(self.filter))):
            return None
        try:
            PyObject_GetBuffer(queries, &buffer, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS)
        except (BufferError, ValueError, TypeError):  # not in C order, or of a type such as dates
            return None
        try:
            if not self.takes(&buffer):
                return None
            return self.searched(<const float *>buffer.buf, buffer.shape[0] if buffer.ndim == 2
                                 else 1, buffer.ndim == 1, within)
        finally:
            PyBuffer_Release(&buffer)

    cdef bint takes(self, const Py_buffer *buffer) noexcept:
        """Whether a buffer is vectors of the right length, as float32 and aligned."""
        cdef int last = buffer.ndim - 1
        return (buffer.format != NULL and buffer.format[0] == b"f" and buffer.format[1] == 0
                and 0 <= last <= 1 and (last == 0 or buffer.shape[0] >= 1)
                and (self.most == 1 or (last == 1 and buffer.shape[0] <= self.most))
                and buffer.shape[last] == self.snapshot.dim
                and <uintptr_t>buffer.buf % sizeof(float) == 0)

    cdef searched(self, const float *queries, int64_t n, bint single, Filter within):
        cdef int64_t at_once = n if self.most > 1 else 1, at = 0
        cdef int64_t counts[N_COUNTS]
        cdef Outcome outcome
        cdef float told[WITNESSES * MOST_TOGETHER]
        cdef list left = None
        scores = new_array(self.results_of_one if single else (n, self.k), FLOAT32)
        ids = new_array(self.results_of_one if single else (n, self.k), INT64)
        cdef float *to_scores = <float *>memory_of(scores)
        cdef int64_t *to_ids = <int64_t *>memory_of(ids)
        memset(counts, 0, sizeof(counts))
        while at < n:
            outcome = self.some(queries + at * self.snapshot.dim, at_once, 0 if at else n, within,
                                to_scores + at * self.k, to_ids + at * self.k, told, counts)
            if outcome == BAD:
                return None
            if outcome != ANSWERED and self.most > 1:
                return ()
            if self.note(outcome, told, at_once):
                left = left or []
                left.append((at, outcome == ANSWERED))
            at += at_once
        did = (n, *[count for count in counts])
        return (ids, scores, did) if left is None else (ids, scores, did, left)

    cdef Outcome some(self, const float *queries, int64_t n, int64_t n_checked, Filter within,
                      float *scores, int64_t *ids, float *told, int64_t *counts) except *:
        """Search for some queries at once by a task that is idle, or new; count what it does."""
        cdef bint first
        cdef Beginning beginning = BY_CODES
        cdef list idle
        cdef Task task = None
        cdef Outcome outcome
        # Without a GIL threads would take one task.
        with cython.critical_section(self):
            first = within is not None or not rests(&self.other)
            if first != (self.float32_below == 0.0):
                beginning = AS_IN_MEMORY if within is None and rests(&self.order) else BY_NORMS
            idle = self.idle[beginning]
            if idle:
                task = idle.pop()
        if task is None:
            task = self.new_task(beginning)
        cdef QueryBatch batch = task.batch
        if within is not None:
            batch.take_filter(within)
        if self.holds_gil:
            outcome = self.answer(task, queries, n, n_checked, scores, ids, told)
        else:
            with nogil:
                outcome = self.answer(task, queries, n, n_checked, scores, ids, told)
        if outcome == ANSWERED:
            task.check_finished()
            batch.add_counts(counts)
        if within is not None:
            batch.take_filter(self.filter)
        with cython.critical_section(self):
            if len(idle) < MOST_IDLE:
                idle.append(task)
            if (outcome == ANSWERED and not self.approximate and within is None
                    and uses(SINGLE_JUDGE)):
                if first:
                    note(&self.other, (task.gave_up if self.most == 1 else task.lost)
                         if beginning == BY_CODES else batch.bytes_read > self.float32_below)
                if beginning == BY_NORMS:
                    note(&self.order, task.leaves)
        return outcome

    cdef bint note(self, Outcome outcome, const float *told, int64_t n) except *:
        """Count queries for the guard and the watch; return whether a single one has to be
        answered exactly."""
        if outcome == PASSED_OVER:
            self.watch.pass_over()
        elif outcome == UNLIKE:
            if self.watch is not None:
                self.watch.take_unlike()
        else:
            if self.guard is not None:
                self.guard.count(n)
            if self.watch is None:
                return False
            if self.most == 1:
                return self.watch.take_one(told)
            self.watch.take_some(told, n, self.watch.told_of(n, self.snapshot.dim))
            return False
        return True

    cdef Outcome answer(self, Task task, const float *queries, int64_t n, int64_t n_checked,
                        float *scores, int64_t *ids, float *told) noexcept nogil:
        """Answer n queries, if that is what the next `n_checked` are."""
        cdef uint64_t before = farann_arithmetic_begin()
        cdef Outcome outcome = ANSWERED
        cdef int64_t i, every
        if farann_first_bad_row(queries, n_checked, self.snapshot.dim,
                                self.snapshot.traits.normalized) >= 0:
            outcome = BAD
        elif self.most > 1 and self.watch is not None and self.watch.is_busy(n):
            outcome = PASSED_OVER
        for i in range(n if self.guard is not None and outcome == ANSWERED else 0):
            if not self.guard.passes(queries + i * self.snapshot.dim, 1.0):
                outcome = UNLIKE
                break
        if (outcome == ANSWERED and self.most == 1 and self.watch is not None
                and self.watch.passes_over()):
            outcome = PASSED_OVER
        if outcome == ANSWERED:
            task.begin_again(queries, n)
            task.answer()
            for i in range(n):
                task.collector.write(i, scores + i * self.k, ids + i * self.k, self.k)
            if self.watch is not None and self.most == 1:
                task.tell(0, told, self.watch.tells_key(self.snapshot.dim))
            elif self.watch is not None:
                every = self.watch.told_of(n, self.snapshot.dim)
                for i in range(n):
                    task.tell(i, told + i * WITNESSES, i % every == 0)
        farann_arithmetic_end(before)
        return outcome


cdef void *memory_of(array) except NULL:
    """The address of a new array, which outlives what is written there."""
    cdef Py_buffer buffer
    PyObject_GetBuffer(array, &buffer, PyBUF_SIMPLE | PyBUF_WRITABLE)
    cdef void *memory = buffer.buf
    PyBuffer_Release(&buffer)
    return memory
