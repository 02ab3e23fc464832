"""What searches have found: answers, and what finding them took."""

from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free

from farann.native.kernels cimport *
from farann.native.process cimport NEVER


cdef class Answers:
    """Answers to the queries of a batch."""

    def write_top(self, float[:, ::1] scores, int64_t[:, ::1] ids, int64_t start):
        """Write the answers to rows start, start + 1, ... of `scores` and `ids`."""
        cdef int64_t i
        cdef uint64_t before
        with nogil:
            before = farann_arithmetic_begin()
            for i in range(self.batch.n_queries):
                self.candidates.write_answer(&self.batch.queries[i], &scores[start + i, 0],
                                             &ids[start + i, 0], ids.shape[1])
            farann_arithmetic_end(before)

    def counts(self):
        """Rows found, by query."""
        cdef int64_t i
        return [self.batch.queries[i].found.count for i in range(self.batch.n_queries)]

    def write_beyond(self, float[::1] scores, int64_t[::1] ids, int64_t start):
        """Write all answers, query after query, from `start` on."""
        cdef int64_t i, n
        cdef uint64_t before
        with nogil:
            before = farann_arithmetic_begin()
            for i in range(self.batch.n_queries):
                n = self.batch.queries[i].found.count
                if n:
                    self.candidates.write_answer(&self.batch.queries[i], &scores[start],
                                                 &ids[start], n)
                start += n
            farann_arithmetic_end(before)

    def did(self):
        """What `SearchStats` has beside the number of queries."""
        return (self.batch.scanned, self.batch.refined, self.batch.rescored, self.batch.bytes_read,
                self.batch.code_products, self.batch.float_products, self.batch.blocks,
                self.batch.passed)


def write_best(tasks, float[:, ::1] scores, int64_t[:, ::1] ids):
    """Write what tasks found for the same queries in different rows."""
    cdef Answers task, first = tasks[0]
    cdef int64_t i, j, n, room = 0, k = scores.shape[1]
    cdef farann_topk all
    cdef farann_topk *found
    cdef uint64_t before
    for task in tasks:
        room += task.batch.k
    all.entries = <farann_entry *>farann_alloc(room * sizeof(farann_entry), False)
    if all.entries == NULL:
        raise MemoryError(f"a search needs {room * sizeof(farann_entry):,} bytes of scratch memory")
    before = farann_arithmetic_begin()
    for i in range(first.batch.n_queries):
        n = 0
        for task in tasks:
            found = &task.batch.queries[i].found
            for j in range(found.count):
                all.entries[n + j] = found.entries[j]
            n += found.count
        farann_entries_sort(all.entries, n, &NEVER)
        found = &first.batch.queries[i].found
        found.count = min(n, first.batch.k)
        for j in range(found.count):
            found.entries[j] = all.entries[j]
        first.candidates.write_answer(&first.batch.queries[i], &scores[i, 0], &ids[i, 0], k)
    farann_arithmetic_end(before)
    free(all.entries)
