"""How late the rows of an answer lie in the order of codes."""

cimport cython
from libc.math cimport INFINITY, log2
from libc.stdint cimport int64_t, uint8_t

from farann.native.candidates cimport Candidates
from farann.native.coded_queries cimport CodedQueries
from farann.native.codes cimport Codes
from farann.native.kernels cimport *
from farann.native.partitions cimport Partitions
from farann.native.query_batch cimport Query, QueryBatch

import numpy as np

cdef enum:
    PLACES_AN_OCTAVE = 8  # steps of a place while the number of the panel doubles

# By place: the square root of the panel number, counted from 1.
cdef float ROOTS[256]
cdef int at
for at in range(256):
    ROOTS[at] = 2.0 ** (0.5 * at / PLACES_AN_OCTAVE)


cdef uint8_t place_of(int64_t position) noexcept nogil:
    """The octave that a position is in, log2(p + 1) of its panel p, in parts."""
    return <uint8_t>(PLACES_AN_OCTAVE * log2(position // FARANN_CODE_PANEL + 1.0) + 0.5)


cdef places_of(Codes codes):
    """Of each row of the base its place; rows without codes are always scored, and have 0.

    Made once, as few searches look at them.
    """
    cdef uint8_t[::1] places
    cdef int64_t position, panel, slot
    cdef uint8_t place
    if codes.places is None:
        made = np.zeros(codes.n_rows, np.uint8)
        places = made
        for panel in range(codes.n_filled // FARANN_CODE_PANEL + 1):
            place = place_of(panel * FARANN_CODE_PANEL)
            for position in range(panel * FARANN_CODE_PANEL,
                                  min((panel + 1) * FARANN_CODE_PANEL, codes.n_filled)):
                slot = position if codes.slots is None else codes.slots[position]
                if slot >= 0:
                    places[slot] = place
        codes.places = made
    return codes.places


@cython.no_gc  # what parts refer to never refers to them
@cython.freelist(8)
cdef class Lateness:
    """Tells of each query how late its answer came, see `ApproximateTask.late_to`."""

    @staticmethod
    cdef Lateness of(QueryBatch batch, Candidates candidates, CodedQueries coded, Partitions partitions):
        cdef Lateness self = Lateness.__new__(Lateness)
        self.batch, self.candidates = batch, candidates
        self.places, self.last_place = places_of(coded.codes), 255
        if partitions is not None:
            self.last_place = place_of(partitions.starts[0])
        self.which = <int64_t *>batch.scratch.allocate(
            batch.n_queries, sizeof(int64_t) + sizeof(float))
        self.of_queries = <float *>(self.which + batch.n_queries)
        return self

    cdef void tell_late(self) noexcept nogil:
        cdef int64_t i
        for i in range(self.batch.n_queries):
            self.of_queries[i] = self.lateness_of(&self.batch.queries[i])

    cdef float lateness_of(self, Query *query) noexcept nogil:
        """How late the rows of the answer lie, see `late_to`."""
        cdef int64_t j
        cdef double last = INFINITY, total = 0.0
        cdef const farann_candidates *list = &query.candidates
        if not query.coded:
            return 0.0
        if query.best.capacity == 0:
            last = self.candidates.keep_best(query)
            if last == INFINITY and query.found.count == self.batch.k:
                last = query.threshold
        elif query.best.count == self.batch.k:
            last = query.best.scores[self.batch.k - 1]
        for j in range(list.count):
            if list.scores[j] >= last:
                total += ROOTS[min(self.places[list.slots[j]], self.last_place)]
        return <float>(total / self.batch.k)
