"""Some queries of a batch, and what is derived from each of them."""

cimport cython
from libc.float cimport DBL_MIN
from libc.math cimport INFINITY, NAN, fabs
from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport free

from farann.native.kernels cimport *
from farann.native.process cimport NEVER, CancelFlag
from farann.native.scratch cimport Scratch
from farann.native.snapshot cimport Filter, Snapshot

from farann.native.process import Cancelled

cdef enum:
    # With a time limit:
    ROWS_IN_ANY_CASE = 1024  # rows that each query meets before the first look; or 4 k if more
    WORK_A_LOOK = 1 << 22  # multiply-adds between looks at the clock: under a millisecond


@cython.no_gc  # what parts refer to never refers to them
@cython.freelist(8)
cdef class QueryBatch:
    """The queries start .. stop of a batch: what they ask, and how far they have come."""

    @staticmethod
    cdef QueryBatch of(Snapshot snapshot, Filter filter, const float[:, ::1] queries,
                       int64_t start, int64_t stop, int64_t k, bint nearest, CancelFlag flag):
        cdef QueryBatch self = QueryBatch.__new__(QueryBatch)
        cdef int64_t i, padded_dim = padded(snapshot.dim), n_places = 0
        cdef uint32_t *places = NULL
        cdef Query *query
        self.snapshot, self.filter, self.flag, self.scratch = snapshot, filter, flag, Scratch()
        self.given_up, self.end_time = &NEVER, INFINITY
        if flag is not None:
            self.given_up = &flag.raised
        self.kernels, self.metric, self.dim = snapshot.kernels, snapshot.metric, snapshot.dim
        self.n_queries, self.k = stop - start, max(min(k, filter.n_rows), 1)
        self.sign = -1.0 if nearest else 1.0
        self.packing = farann_packing_of(snapshot.metric, self.sign)
        self.block_rows = rows_in_cache(4 * self.dim)
        self.given, self.exact_of = queries, NULL
        self.queries = <Query *>self.scratch.allocate(self.n_queries, sizeof(Query))
        self.exact = <double *>self.scratch.allocate(padded_dim, sizeof(double))
        self.query_vector = <double *>self.scratch.allocate(
            2 * padded_dim, sizeof(double) + sizeof(float))
        self.rounded = <float *>(self.query_vector + 2 * padded_dim)
        filter.check_queries(stop)
        for i in range(self.n_queries):
            n_places += farann_id_set_room(filter.n_excluded(start + i))
        if n_places:
            places = <uint32_t *>self.scratch.allocate(n_places, sizeof(uint32_t))
        for i in range(self.n_queries):
            query = &self.queries[i]
            query.given = &queries[start + i, 0]
            query.threshold, query.predicted, query.pass_floor = -INFINITY, -INFINITY, NAN
            query.ceiling_key = NAN
        with nogil:
            for i in range(self.n_queries):
                if self.stopped():
                    break
                self.queries[i].filter = filter.of_query(start + i, places)
                places += farann_id_set_room(filter.n_excluded(start + i))
        return self

    cdef take_rule(self, rule):
        """Stop where a `StopRule` says, as far as that is the same for all parts of a search."""
        self.epsilon = rule.epsilon
        if rule.seconds is not None:
            self.end_time = farann_seconds() + rule.seconds * self.n_queries
            self.next_look = max(WORK_A_LOOK, self.n_queries * self.dim
                                 * max(ROWS_IN_ANY_CASE, 4 * self.k))

    cdef take_filter(self, Filter filter):
        """Find the rows of another mask for the one query there is."""
        self.filter, self.queries[0].filter = filter, filter.of_query(0, NULL)

    cdef take_radii(self, const double[::1] radii, int64_t start):
        """Search for all rows beyond a radius of each query, or where the nearest are asked for,
        for the k nearest of these."""
        cdef int64_t i
        self.beyond, self.best_beyond = self.sign > 0.0, self.sign < 0.0
        for i in range(self.n_queries):
            self.queries[i].radius = radii[start + i]

    def __dealloc__(self):
        cdef int64_t i
        if self.beyond and self.queries != NULL:  # answers of any number, see `Candidates.collect`
            for i in range(self.n_queries):
                free(self.queries[i].found.entries)

    cdef bint cancelled(self) noexcept nogil:
        """Whether the batch was given up."""
        return farann_is_up(self.given_up)

    cdef bint stopped(self) noexcept nogil:
        """Whether the search is to end; loops over blocks, tiles and queries ask once a round."""
        return self.cancelled() or (self.end_time < INFINITY and self.time_is_over())

    cdef bint time_is_over(self) noexcept nogil:
        cdef int64_t work = self.code_products + self.float_products + self.rescored * self.dim
        if not self.late and work >= self.next_look:
            self.next_look = work + WORK_A_LOOK
            self.late = farann_seconds() >= self.end_time and self.all_have_k_rows()
        return self.late

    cdef bint all_have_k_rows(self) noexcept nogil:
        """Whether every query has found k rows, which it keeps once the time is over."""
        cdef int64_t i
        for i in range(self.n_queries):
            if self.queries[i].found.count + self.queries[i].candidates.count < self.k:
                return False
        return True

    cdef void lift_time_limit(self) noexcept nogil:
        """Let what has been found become the answer, which takes little."""
        self.end_time = INFINITY

    cdef check_cancelled(self):
        if self.cancelled():
            raise Cancelled("the batch of this task was given up")

    cdef const double *exact_query(self, const Query *query) noexcept nogil:
        """A query in float64, until another one is asked for."""
        if self.exact_of != query:
            self.kernels.widen_f32(query.given, self.dim, self.exact)
            self.exact_of = query
        return self.exact

    cdef void find_query_vector(self, int64_t i) noexcept nogil:
        """Find what rows are multiplied with for a query, and its constants."""
        cdef Query *query = &self.queries[i]
        farann_query_prepare(
            self.kernels, self.metric, self.sign, query.given, self.dim,
            &self.snapshot.full_centre[0], self.snapshot.centre_norm, self.exact,
            self.query_vector, self.rounded, &query.prepared)
        self.exact_of = query

    cdef void set_radius(self, int64_t i) noexcept nogil:
        """Make the radius the threshold of a query."""
        cdef Query *query = &self.queries[i]
        query.threshold = (farann_key_at(self.metric, query.radius, query.prepared.query_norm)
                           * query.prepared.key_scale + query.prepared.key_offset)

    cdef void set_ceiling(self, int64_t i) noexcept nogil:
        """Note which rough scores tell that a row is beyond the radius, and that it isn't."""
        cdef Query *query = &self.queries[i]
        cdef double key = farann_key_at(self.metric, query.radius, query.prepared.query_norm)
        cdef double band = 4e-12 * fabs(key) + 4.0 * DBL_MIN  # twice the rounding error
        query.ceiling = query.prepared.key_offset - key * query.prepared.key_scale
        query.sure = query.prepared.key_offset - (key + band) * query.prepared.key_scale
        if not (query.sure <= query.ceiling):  # the radius is too large for its square
            query.ceiling, query.sure = INFINITY, -INFINITY

    cdef void count_scanned(self, int64_t n, int64_t n_queries) noexcept nogil:
        """Count n rows that were scored in full for `n_queries` queries."""
        self.scanned += n * n_queries
        self.bytes_read += n * n_queries * self.snapshot.row_bytes

    cdef void begin_again(self, const float *given) noexcept nogil:
        """Forget the one query there is, and take another in its place."""
        cdef Query *query = &self.queries[0]
        query.given, self.exact_of = given, NULL
        query.threshold, query.predicted, query.pass_floor = -INFINITY, -INFINITY, NAN
        query.slack, query.pause, query.next_pause, query.by_keys = 0.0, 0, 0, False
        query.keys_end, query.select_at = False, 0
        query.left_out, query.ceiling_key = False, NAN
        query.candidates.count = query.best.count = query.found.count = 0
        self.scanned = self.refined = self.rescored = self.bytes_read = 0
        self.code_products = self.float_products = self.blocks = self.passed = 0
        self.alike = self.n_near = 0
