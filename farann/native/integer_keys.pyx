"""Exact keys by float32, where rows and query are whole numbers and all sums are below 2^24.

One-hot rows, bits, counts and pixels are such numbers, and the ones that tie most.
"""

cimport cython
from libc.stdint cimport int64_t

from farann.native.kernels cimport *
from farann.native.process cimport INTEGER_KEYS, uses
from farann.native.query_batch cimport Query, QueryBatch
from farann.native.row_reader cimport RowBlock, RowReader
from farann.native.snapshot cimport NOT_LOOKED_FOR, Segment

cdef enum:
    LARGEST_SUM = 1 << 24  # float32 has all whole numbers up to this one


@cython.final
@cython.no_gc  # what parts refer to never refers to them
@cython.freelist(8)
cdef class IntegerKeys:
    """Finds the exact keys of a block for one query, in half of the time that float64 takes."""

    @staticmethod
    cdef IntegerKeys of(QueryBatch batch, RowReader rows):
        cdef IntegerKeys self = IntegerKeys.__new__(IntegerKeys)
        self.batch, self.rows = batch, rows
        return self

    cdef bint are_exact(self, int64_t i) noexcept nogil:
        """Whether all sums of a query are whole numbers that float32 has; there is memory then."""
        cdef int64_t of_rows = self.batch.snapshot.largest_whole_number(), of_query, largest
        if of_rows < 0 or not uses(INTEGER_KEYS):
            return False
        of_query = farann_largest_integer(self.batch.queries[i].given, self.batch.dim)
        if of_query < 0:
            return False
        if self.batch.metric == FARANN_L2:  # squares and products are in one sum
            largest = of_rows * (of_rows + 2 * of_query)
        else:
            largest = of_rows * max(of_rows, of_query)
        return largest * self.batch.dim < LARGEST_SUM and self.make_room()

    cdef bint may_be_exact(self) noexcept nogil:
        """Whether rows are whole numbers, so that sums of some queries may be."""
        return uses(INTEGER_KEYS) and self.batch.snapshot.largest_whole_number() >= 0

    cdef bint make_room(self) noexcept nogil:
        cdef int64_t width = padded(self.batch.dim), n = self.batch.block_rows
        if self.zeros == NULL:
            self.zeros = <float *>self.batch.scratch.allocated(2 * width + 2 * n, sizeof(float),
                                                               True)
            self.batch.scratch.failed |= self.zeros == NULL
            self.vector = self.zeros + width
            self.products = self.vector + width
            self.squares = self.products + n
        return self.zeros != NULL

    cdef double largest_sum(self, int64_t i) noexcept nogil:
        """|q|^2 and the largest |x|^2 of all rows, whole numbers that float32 has.

        That of rows is looked for only once, as the largest number is.
        """
        cdef int64_t known = farann_load(&self.batch.snapshot.largest_square), start, n, j
        cdef double found = 0.0
        cdef float norms[2]
        cdef int s
        cdef const Segment *segment
        cdef const Query *query = &self.batch.queries[i]
        cdef RowBlock rows
        if known == NOT_LOOKED_FOR:
            for s in range(2):
                start, segment = 0, &self.batch.snapshot.segments[s]
                while start < segment.count:
                    n = min(self.batch.block_rows, segment.count - start)
                    rows = self.rows.block(segment, start, n)
                    self.batch.kernels.score_rows_f32(
                        rows.rows, NULL, n, self.batch.dim, self.zeros, self.zeros, False, 0.0,
                        self.products, norms)
                    found = max(found, norms[1])
                    start += n
            known = <int64_t>found
            farann_store(&self.batch.snapshot.largest_square, known)
        found = <double>known
        for j in range(self.batch.dim):
            found += <double>query.given[j] * query.given[j]
        return found

    cdef void find(self, int64_t i, const RowBlock *rows, int64_t n, double *keys) noexcept nogil:
        """Write the exact keys of n rows for query i."""
        cdef const farann_kernels *kernels = self.batch.kernels
        cdef const Query *query = &self.batch.queries[i]
        cdef bint l2 = self.batch.metric == FARANN_L2
        cdef float norms[2]
        cdef double of_query = 0.0
        cdef int64_t j
        for j in range(self.batch.dim):
            self.vector[j] = -2.0 * query.given[j] if l2 else query.given[j]
            of_query += <double>query.given[j] * query.given[j]
        kernels.score_rows_f32(rows.rows, rows.positions, n, self.batch.dim, self.zeros,
                               self.vector, False, 1.0 if l2 else 0.0, self.products, norms)
        if self.batch.metric == FARANN_COSINE:
            kernels.score_rows_f32(rows.rows, rows.positions, n, self.batch.dim, self.zeros,
                                   self.zeros, False, 1.0, self.squares, norms)
        farann_keys_of_integers(self.batch.metric, self.products, self.squares, n, of_query, keys)
        self.batch.count_products(n, self.batch.dim, 1, False)
