"""Pairs of rows that are as far apart as any known before."""

from libc.math cimport INFINITY, fabs
from libc.stdint cimport int64_t

from farann.native.kernels cimport *
from farann.native.process cimport CancelFlag
from farann.native.query_batch cimport Query
from farann.native.task cimport Task
from farann.native.snapshot cimport Filter, Snapshot

cdef double ROUNDING = 2.0**-49  # relative error of float64 sums of a few terms


cdef class PairSearch(Task):
    """The furthest row of each query, for those queries that have one at least as far as `least`.

    `least` is a key, which under cosine is minus the cosine; rows below it are ruled out from the
    start.
    """

    def __init__(self, Snapshot snapshot, Filter filter, const float[:, ::1] queries,
                 int64_t start, int64_t stop, double least, CancelFlag flag=None,
                 costs=(0.0, 0.0, 0.0, 0.0)):
        cdef int64_t i
        cdef const Query *query
        Task.__init__(self, snapshot, filter, queries, start, stop, 1, False, flag=flag,
                      costs=costs)
        for i in range(self.batch.n_queries):
            query = &self.batch.queries[i]
            self.collector.raise_threshold(i, least + query.prepared.key_offset - ROUNDING * (
                fabs(least) + fabs(query.prepared.key_offset)))

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
