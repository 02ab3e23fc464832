"""Which partitions a query probes."""

cimport cython
from libc.math cimport INFINITY, isnan, nextafterf
from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint32_t
from libc.stdlib cimport free

from farann.native.candidates cimport Candidates
from farann.native.code_scan cimport CodeScan
from farann.native.coded_queries cimport CodedQueries
from farann.native.kernels cimport *
from farann.native.partitions cimport Partitions
from farann.native.process cimport NEVER
from farann.native.query_batch cimport Query, QueryBatch

cdef enum:
    # Interleaved groups of partitions; the mean of their best scores predicts the k-th key.
    TELLING_PARTITIONS = 16


@cython.no_gc  # what parts refer to never refers to them
@cython.freelist(8)
cdef class PartitionChoice:
    """Chooses the partitions whose optimistic score reaches what rows of the answer have to.

    That is their mean key plus `credited` standard deviations. With a budget the best are chosen, as
    long as they can be paid for.
    """

    @staticmethod
    cdef PartitionChoice of(QueryBatch batch, Candidates candidates, CodedQueries coded,
                            CodeScan code_scan, double credited, int64_t budget, double predicted):
        """`budget`: rows to score at most.

        `predicted`: by how many deviations the k-th key is taken to be above what good partitions
        score, see `surprises`; NaN: nothing is predicted.
        """
        cdef PartitionChoice self = PartitionChoice.__new__(PartitionChoice)
        cdef Partitions partitions = batch.snapshot.partitions
        cdef int64_t width = coded.code_width, room = partitions.n_padded
        cdef int64_t groups = partitions.coded.groups, n = batch.n_queries
        self.batch, self.candidates = batch, candidates
        self.coded, self.code_scan = coded, code_scan
        self.partitions, self.credited, self.budget = partitions, credited, budget
        # A budget is spent once, and no query may begin again.
        self.beside, self.may_predict = predicted, not isnan(predicted) and budget == INT64_MAX
        self.predicts = self.may_predict
        self.query_codes = <uint32_t *>batch.scratch.allocate(n * groups, sizeof(uint32_t))
        self.tile_codes = <uint32_t *>batch.scratch.allocate(
            coded.words_of_tile(width, groups), sizeof(uint32_t))
        self.coded_queries = <farann_coded_query *>batch.scratch.allocate(
            n, sizeof(farann_coded_query))
        self.optimistic_scores = <float *>batch.scratch.allocate(width * room, sizeof(float), False)
        self.spent = <int64_t *>batch.scratch.allocate(3 * n + room, sizeof(int64_t))
        self.choosing = self.spent + n
        self.probe_ends = self.choosing + n
        self.chosen.slots = self.probe_ends + n
        self.chosen.scores = <float *>batch.scratch.allocate(room, sizeof(float))
        if budget < INT64_MAX:
            self.ranked = <farann_entry *>batch.scratch.allocate(room, sizeof(farann_entry))
        return self

    def __dealloc__(self):
        free(self.probed)

    cdef void encode(self, int64_t i) noexcept nogil:
        """Code a query for partitions: its vector, transformed, was coded for rows last."""
        cdef Query *query = &self.batch.queries[i]
        if query.coded:
            farann_code_query(self.batch.kernels, self.batch.query_vector,
                              self.credited * query.prepared.vector_norm, &self.partitions.bounds,
                              self.coded.codes.bounds.norm, &query.prepared, False,
                              self.coded.code_bytes,
                              self.query_codes + i * self.partitions.coded.groups,
                              &self.coded_queries[i])

    cdef void choose(self) noexcept nogil:
        """For the queries that choose, the partitions that reach what their rows have to."""
        cdef int64_t first = 0, count, i, member, n = self.partitions.n_padded
        cdef float *scores
        cdef float floor
        cdef Query *query
        self.n_probes = 0
        while first < self.n_choosing and not self.batch.stopped():
            count = min(self.coded.code_width, self.n_choosing - first)
            self.score_partitions(self.choosing + first, count)
            for i in range(count):
                member, scores = self.choosing[first + i], self.optimistic_scores + i * n
                query = &self.batch.queries[member]
                self.probe_ends[first + i] = self.n_probes
                if not (self.sees_partitions(member) and self.has_room()):
                    continue
                if self.predicts:
                    query.predicted = self.predicted_threshold(query, scores)
                floor = nextafterf(<float>self.candidates.admission_threshold(query), -INFINITY)
                if self.budget == INT64_MAX:
                    self.n_probes += self.batch.kernels.find_f32(
                        scores, n, floor, self.probed + self.n_probes)
                else:
                    self.choose_within_budget(member, scores, floor)
                self.probe_ends[first + i] = self.n_probes
            first += count

    cdef bint sees_partitions(self, int64_t i) noexcept nogil:
        return self.batch.queries[i].coded and self.coded_queries[i].step >= 0.0

    cdef double predicted_threshold(self, const Query *query, const float *scores) noexcept nogil:
        """The reduced key that the k-th row is predicted to have."""
        return self.mean_of_best(scores) + self.beside * self.deviation_of(query)

    cdef double mean_of_best(self, const float *scores) noexcept nogil:
        """The score of good partitions, on average; -inf where there are too few."""
        cdef float largest[FARANN_SCORE_GROUPS]
        cdef float most
        cdef double total = 0.0
        cdef int64_t i, j
        self.batch.kernels.largest_f32(scores, self.partitions.n_padded, largest)
        for i in range(TELLING_PARTITIONS):
            most = largest[i]
            for j in range(1, FARANN_SCORE_GROUPS // TELLING_PARTITIONS):
                most = max(most, largest[i + j * TELLING_PARTITIONS])
            total += most
        return total / TELLING_PARTITIONS

    cdef double deviation_of(self, const Query *query) noexcept nogil:
        """That of keys in a typical partition."""
        return query.prepared.vector_norm * self.partitions.deviation

    cdef void score_partitions(self, const int64_t *members, int64_t count) noexcept nogil:
        """The optimistic score of each partition for up to a tile of queries."""
        cdef int64_t width = self.coded.code_width, groups = self.partitions.coded.groups, i, g
        cdef int64_t n = self.partitions.n_padded
        cdef farann_coded_tile tile
        cdef farann_pass_threshold threshold
        tile.bars = &self.code_scan.pass_thresholds
        for i in range(width):
            threshold = self.code_scan.nothing_passes
            if i < count and self.sees_partitions(members[i]):
                threshold = farann_pass_threshold_at(
                    &self.coded_queries[members[i]], &self.partitions.bounds,
                    -INFINITY, self.batch.sign, False)
            farann_pass_thresholds_set(&self.code_scan.pass_thresholds, i, &threshold)
        if width == 1:
            tile.codes = self.query_codes + members[0] * groups
            self.batch.kernels.score_codes_one_i8(&self.partitions.coded, n, &tile,
                                                  self.optimistic_scores)
        else:
            tile.codes = self.tile_codes
            self.batch.kernels.gather_codes(self.query_codes, members, count, groups,
                                            self.tile_codes)
            self.batch.kernels.score_codes_i8(&self.partitions.coded, n, &tile,
                                              self.optimistic_scores)
        self.code_scan.count_products(n * width, groups, count)
        for i in range(count):
            for g in range(self.partitions.n_cells, n):
                self.optimistic_scores[i * n + g] = -INFINITY

    cdef bint has_room(self) noexcept nogil:
        """Make room for probes of one more query."""
        cdef int64_t room = self.n_probes + self.partitions.n_padded
        cdef int32_t *probed
        if room > self.probes_room:
            probed = <int32_t *>farann_realloc(self.probed, 2 * room * sizeof(int32_t))
            if probed == NULL:
                self.batch.scratch.failed = True
                return False
            self.probed, self.probes_room = probed, 2 * room
        return True

    cdef void choose_within_budget(self, int64_t i, const float *scores,
                                   float floor) noexcept nogil:
        """Of partitions that score more than `floor` the best, as long as they can be paid for."""
        cdef farann_candidates *chosen = &self.chosen
        cdef int64_t j, c, size
        chosen.count = 0
        self.batch.kernels.select_f32(scores, self.partitions.n_padded, floor, chosen)
        # More can't be paid for, unless they are far smaller than others.
        j = 1 + 2 * (self.budget - self.spent[i]) // self.partitions.usual_size()
        if j < chosen.count:
            farann_candidates_keep_best(chosen, j, 0.0)
        for j in range(chosen.count):
            self.ranked[j].key, self.ranked[j].id = chosen.scores[j], chosen.slots[j]
        farann_entries_sort(self.ranked, chosen.count, &NEVER)
        for j in range(chosen.count):
            c = self.ranked[j].id
            size = self.partitions.starts[c + 1] - self.partitions.starts[c]
            if self.spent[i] + size > self.budget:
                continue  # a smaller one may fit
            self.spent[i] += size
            self.probed[self.n_probes] = <int32_t>c
            self.n_probes += 1
