"""Single queries: tasks and memory are kept between calls, with next to no Python."""

cimport cython
from cpython.buffer cimport (PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_SIMPLE, PyBUF_WRITABLE,
                             PyBuffer_Release, PyObject_GetBuffer)

from farann.native.collector cimport Collector
from farann.native.guard cimport Guard
from farann.native.judge cimport Pause, note, rests
from farann.native.kernels cimport *
from farann.native.query_batch cimport QueryBatch
from farann.native.snapshot cimport Filter, Snapshot
from farann.native.task cimport Task
from farann.native.watch cimport WITNESSES, KeyModel, Watch

import numpy as np

cdef enum:
    MOST_IDLE = 8  # idle tasks kept, one for each thread that searches at once
    HOLDS_GIL = 65536  # rows * dim + k below which a search takes less time than releasing the GIL

cdef enum Outcome:
    BAD  # the query is not finite, or is zero under cosine
    UNLIKE  # it is one for the guard
    PASSED_OVER  # too little is found, and the watch compares others
    ANSWERED

cdef object ndarray = np.ndarray
cdef object new_array = np.empty
cdef object FLOAT32 = np.dtype(np.float32)
cdef object INT64 = np.dtype(np.int64)


cdef class SingleSearch:
    """Searches for the k rows furthest from a single query, or nearest to it, all by one plan; or
    from `n` queries at once, exactly.

    Tasks are kept from one query to the next. Any number of threads may search at once. Exact
    searches begin with codes or in float32. Where that serves query after query badly, most of the
    next ones begin with the other: a count of queries decides that, and answers are the same.

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
    cdef readonly int64_t n
    cdef readonly object plan
    cdef object collect, costs, rule, results_of_one, results_of_batch
    cdef bint holds_gil
    cdef list idle, idle_without_codes
    cdef Pause other  # of the level that searches begin with, where it served badly; in searches

    def __init__(self, Snapshot snapshot, Filter filter, int64_t k, plan, costs, rule, *,
                 Guard guard=None, bint nearest=False, double float32_below=0.0, collect=None,
                 int64_t n=1, bint negates=False):
        if filter.excluded is not None or filter.groups is not None:
            raise ValueError("a filter that differs from query to query is not for all alike")
        if n < 1 or (n > 1 and (rule.approximate or guard is not None)):
            raise ValueError("a batch is one of exact searches")
        self.snapshot, self.filter, self.k, self.plan, self.n = snapshot, filter, k, plan, n
        self.costs, self.rule, self.guard, self.nearest = costs, rule, guard, nearest
        self.collect, self.negates = collect, negates
        self.approximate, self.watch, self.model = rule.approximate, rule.watch, rule.model
        self.results_of_one, self.results_of_batch = (k,), (n, k)
        self.holds_gil = n * (filter.n_rows * snapshot.dim + k) < HOLDS_GIL
        self.idle, self.idle_without_codes = [], []
        self.float32_below = 0.0 if rule.approximate else float32_below

    cdef Task new_task(self, bint by_codes):
        # Any query will do, as long as it has a direction.
        first = np.ones((self.n, self.snapshot.dim), np.float32)
        collector = Collector(self.k) if self.collect is None else self.collect()
        return Task(self.snapshot, self.filter, first, 0, self.n, collector, self.nearest,
                    self.rule, costs=self.costs, by_codes=by_codes,
                    tells_late=self.watch is not None, model=self.model, negates=self.negates)

    def search(self, queries, Filter within=None):
        """Find the rows for a float32 array (n, dim), or (dim,) of a single query.

        `within` is a mask of rows for this query alone.

        Returns
        -------
        (ids, scores, counts) or None
            In the shape that goes with that of the query, and what the fields of `SearchStats` are.
            None: the argument is something else, and needs to be checked and converted. An empty
            tuple: it is a query that is unlike others, or one of a time when too little is found,
            and has to be answered exactly. With a fourth part it has to be, too, to be compared
            with that answer.
        """
        cdef Py_buffer buffer
        if type(queries) is not ndarray or not (
                within is None or (self.n == 1 and within.is_mask_of(self.filter))):
            return None
        try:
            PyObject_GetBuffer(queries, &buffer, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS)
        except (BufferError, ValueError, TypeError):  # not in C order, or of a type such as dates
            return None
        try:
            if not self.takes(&buffer):
                return None
            return self.searched(<const float *>buffer.buf, buffer.ndim == 1, within)
        finally:
            PyBuffer_Release(&buffer)

    cdef bint takes(self, const Py_buffer *buffer) noexcept:
        """Whether a buffer is a vector of the right length, as float32 and aligned."""
        cdef int last = buffer.ndim - 1
        return (buffer.format != NULL and buffer.format[0] == b"f" and buffer.format[1] == 0
                and (buffer.shape[0] == self.n if last == 1 else last == 0 and self.n == 1)
                and buffer.shape[last] == self.snapshot.dim
                and <uintptr_t>buffer.buf % sizeof(float) == 0)

    cdef searched(self, const float *query, bint single, Filter within):
        cdef bint first, by_codes
        cdef list idle
        cdef Task task = None
        # Without a GIL threads would take one task.
        with cython.critical_section(self):
            first = within is not None or not rests(&self.other)
            by_codes = first == (self.float32_below == 0.0)
            idle = self.idle if by_codes else self.idle_without_codes
            if idle:
                task = idle.pop()
        if task is None:
            task = self.new_task(by_codes)
        cdef QueryBatch batch = task.batch
        cdef Outcome outcome
        cdef float witness[WITNESSES]
        scores = new_array(self.results_of_one if single else self.results_of_batch, FLOAT32)
        ids = new_array(self.results_of_one if single else self.results_of_batch, INT64)
        cdef float *to_scores = <float *>memory_of(scores)
        cdef int64_t *to_ids = <int64_t *>memory_of(ids)
        if within is not None:
            batch.take_filter(within)
        if self.holds_gil:
            outcome = self.answer(task, query, to_scores, to_ids, witness)
        else:
            with nogil:
                outcome = self.answer(task, query, to_scores, to_ids, witness)
        if outcome == ANSWERED:
            task.check_finished()
        if within is not None:
            batch.take_filter(self.filter)
        with cython.critical_section(self):
            if len(idle) < MOST_IDLE:
                idle.append(task)
            if (first and outcome == ANSWERED and not self.approximate and within is None
                    and uses(SINGLE_JUDGE)):
                note(&self.other, (task.gave_up if self.n == 1 else task.lost) if by_codes
                     else batch.bytes_read > self.float32_below)
        if outcome == BAD:
            return None
        if outcome == UNLIKE:
            if self.watch is not None:
                self.watch.take_unlike()
            return ()  # the caller counts it
        if outcome == PASSED_OVER:
            self.watch.pass_over()
            return ()
        if self.guard is not None:
            self.guard.count_one()
        if self.watch is not None:
            if self.watch.take_one(witness):
                return ids, scores, (1, *batch.counts()), True
        return ids, scores, (self.n, *batch.counts())

    cdef Outcome answer(self, Task task, const float *query, float *scores, int64_t *ids,
                        float *witness) noexcept nogil:
        """Answer a query, or n, if that is what they are."""
        cdef uint64_t before = farann_arithmetic_begin()
        cdef Outcome outcome = ANSWERED
        cdef int64_t i
        if farann_first_bad_row(query, self.n, self.snapshot.dim,
                                self.snapshot.traits.normalized) >= 0:
            outcome = BAD
        elif self.guard is not None and not self.guard.passes(query, 1.0):
            outcome = UNLIKE
        elif self.watch is not None and self.watch.passes_over():
            outcome = PASSED_OVER
        if outcome == ANSWERED:
            task.begin_again(query)
            task.answer()
            for i in range(self.n):
                task.collector.write(i, scores + i * self.k, ids + i * self.k, self.k)
            if self.watch is not None:
                task.tell(0, witness, self.watch.tells_key(self.snapshot.dim))
        farann_arithmetic_end(before)
        return outcome


cdef void *memory_of(array) except NULL:
    """The address of a new array, which outlives what is written there."""
    cdef Py_buffer buffer
    PyObject_GetBuffer(array, &buffer, PyBUF_SIMPLE | PyBUF_WRITABLE)
    cdef void *memory = buffer.buf
    PyBuffer_Release(&buffer)
    return memory
