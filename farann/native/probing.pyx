"""Sources of approximate searches: probed partitions, and more rows for late queries."""

cimport cython
from libc.math cimport INFINITY, NAN, isnan, log2, nextafterf, sqrt
from libc.stdint cimport INT64_MAX
from libc.stdlib cimport free

from farann.native.codes cimport Codes
from farann.native.collector cimport Answer
from farann.native.sources cimport Block

import numpy as np

cdef enum:
    # Interleaved groups of partitions; the mean of each group's best score predicts the k-th key.
    TELLING_PARTITIONS = 16
    PLACES_AN_OCTAVE = 8  # steps of a place while the number of the panel doubles

# With a budget: deviations by which optimistic scores of probed partitions may miss the threshold.
cdef double MISSES = 3.5

# By place: the square root of the panel number, counted from 1.
cdef float ROOTS[256]
cdef int at
for at in range(256):
    ROOTS[at] = 2.0 ** (0.5 * at / PLACES_AN_OCTAVE)


@cython.final
@cython.no_gc  # references between parts form no cycles
cdef class PartitionMeans:
    """The optimistic score of each partition: that of its mean, and some standard deviations."""

    @staticmethod
    cdef PartitionMeans of(CodedQueries coded, double credited):
        cdef PartitionMeans self = PartitionMeans.__new__(PartitionMeans)
        cdef QueryBatch batch = coded.batch
        cdef Partitions partitions = batch.snapshot.partitions
        cdef int64_t n = batch.n_queries
        self.batch, self.coded, self.credited = batch, coded, credited
        self.partitions = partitions
        self.codes = coded.room_for(partitions.coded.groups)
        self.best.slots = <int64_t *>batch.scratch.allocate(
            partitions.n_padded, sizeof(int64_t) + sizeof(float), False)
        self.best.scores = <float *>(self.best.slots + partitions.n_padded)
        self.queries = <farann_coded_query *>batch.scratch.allocate(n, sizeof(farann_coded_query))
        self.scores = <float *>batch.scratch.allocate(
            coded.width * partitions.n_padded, sizeof(float), False)
        return self

    cdef void encode(self, int64_t i) noexcept nogil:
        """Code query i: its vector, transformed, was coded for rows last."""
        if self.coded.of[i].usable:
            farann_code_query(
                self.batch.kernels, self.batch.query_vector,
                self.credited * self.batch.queries[i].prepared.vector_norm,
                &self.partitions.bounds, self.coded.codes.bounds.norm,
                &self.batch.queries[i].prepared, False, self.coded.code_bytes,
                self.codes.of + i * self.codes.groups, &self.queries[i])

    cdef bint can_score(self, int64_t i) noexcept nogil:
        return self.coded.of[i].usable and self.queries[i].step >= 0.0

    cdef void score(self, const int64_t *members, int64_t count) noexcept nogil:
        """Score all partitions for up to a tile of queries."""
        cdef int64_t width = self.coded.width, n = self.partitions.n_padded, i, c
        cdef farann_coded_tile tile
        cdef farann_pass_thresholds thresholds
        cdef farann_pass_threshold threshold
        thresholds.sign, tile.bars = self.batch.sign, &thresholds
        for i in range(width):
            threshold = farann_pass_threshold_none()
            if i < count and self.can_score(members[i]):
                threshold = farann_pass_threshold_at(
                    &self.queries[members[i]], &self.partitions.bounds, -INFINITY,
                    self.batch.sign, False)
            farann_pass_thresholds_set(&thresholds, i, &threshold)
        tile.codes = self.coded.tile_of(&self.codes, members, count, width)
        if width == 1:
            self.batch.kernels.score_codes_one_i8(&self.partitions.coded, n, &tile, self.scores)
        else:
            self.batch.kernels.score_codes_i8(&self.partitions.coded, n, &tile, self.scores)
        self.batch.count_products(n * width, self.codes.groups * FARANN_CODE_GROUP, count, True)
        for i in range(count):
            for c in range(self.partitions.n_cells, n):
                self.scores[i * n + c] = -INFINITY

    cdef double mean_of_best(self, const float *scores) noexcept nogil:
        """The mean of the groups' best scores; -inf if there are fewer partitions than groups."""
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

    cdef double deviation_of(self, int64_t i, const float *scores, double good) noexcept nogil:
        """The mean deviation of keys in partitions that score `good` or more, for query i."""
        cdef int64_t j
        cdef double total = 0.0
        self.best.count = 0
        self.batch.kernels.select_f32(scores, self.partitions.n_padded,
                                      nextafterf(<float>good, -INFINITY), &self.best)
        for j in range(self.best.count):
            total += self.partitions.deviations[self.best.slots[j]]
        return self.batch.queries[i].prepared.vector_norm * (total / max(self.best.count, 1))


@cython.final
@cython.no_gc
cdef class PartitionSource(CodeSource):
    """The probed partitions, each read once for all queries that probe it.

    A query probes the partitions whose optimistic score reaches its current or predicted threshold;
    with a budget the best of these that fit into the budget.
    """

    cdef PartitionMeans means
    cdef Collector collector
    cdef int64_t n_first        # rows scanned in any case
    cdef int64_t budget         # rows to scan at most
    cdef double beside          # deviations that k-th keys are above good partitions; NaN: unknown
    cdef bint chosen            # whether partitions were chosen before any row was scanned
    cdef int64_t *everyone
    cdef int64_t *spent         # rows scanned, by query
    cdef int32_t *probed        # partitions, query after query
    cdef int64_t *probers       # queries, partition after partition
    cdef int64_t *probe_ends    # of each query's partitions
    cdef int64_t *heads         # of each partition's queries
    cdef int64_t n_probes, room
    cdef int64_t cell           # the partition of the next block; or the probe, of a single query
    cdef int64_t probing        # the partition of the next block; -1: there is none
    cdef farann_entry *entries

    def __dealloc__(self):
        free(self.probed)
        free(self.probers)

    cdef void foresee(self) noexcept nogil:
        """Predict thresholds, and choose the partitions that reach them."""
        self.chosen = not isnan(self.beside)
        if self.chosen:
            self.choose(self.everyone, self.batch.n_queries, True)

    cdef void begin(self, const int64_t *asking, int64_t n, bint all_rows) noexcept nogil:
        """Choose partitions; with `all_rows` none, as `CodeSource` then scans their rows, too."""
        self.at = self.end = self.done = 0
        if all_rows:
            self.n_probes = 0
        elif not self.chosen:
            self.choose(asking, n, False)
        self.chosen = False
        self.take_cell(0)

    cdef void choose(self, const int64_t *members, int64_t n, bint predicts) noexcept nogil:
        """Choose partitions for each of some queries."""
        cdef int64_t first = 0, count, j, i, n_cells = self.means.partitions.n_padded
        cdef const float *scores
        cdef double good, deviation
        cdef float floor
        self.n_probes = 0
        while first < n and not self.batch.cancelled():
            count = min(self.means.coded.width, n - first)
            self.means.score(members + first, count)
            for j in range(count):
                i, scores = members[first + j], self.means.scores + j * n_cells
                self.spent[i] = self.n_first
                if self.means.can_score(i) and self.has_room():
                    good = self.means.mean_of_best(scores)
                    deviation = self.means.deviation_of(i, scores, good)
                    if predicts:
                        self.collector.predict(i, good + self.beside * deviation)
                    floor = <float>self.collector.bar(i)
                    if self.budget < INT64_MAX:
                        floor -= <float>(MISSES * deviation)
                    floor = nextafterf(floor, -INFINITY)
                    self.choose_for_one(i, scores, floor)
                self.probe_ends[first + j] = self.n_probes
            first += count
        if self.batch.n_queries > 1:
            self.list_probers(members, n)

    cdef void choose_for_one(self, int64_t i, const float *scores, float floor) noexcept nogil:
        """Choose the best partitions above `floor` that fit into the budget."""
        cdef farann_candidates *ranked = &self.means.best
        cdef int64_t j, c, size, n = self.means.partitions.n_padded
        cdef int64_t n_cells = self.means.partitions.n_cells
        ranked.count = 0
        self.batch.kernels.select_f32(scores, n, floor, ranked)
        if self.budget == INT64_MAX:
            for j in range(ranked.count):
                self.probed[self.n_probes + j] = <int32_t>ranked.slots[j]
            self.n_probes += ranked.count
            return
        # The budget has no room for more, unless they are far smaller than others.
        size = ((self.means.partitions.starts[n_cells] - self.means.partitions.starts[0])
                // n_cells)
        j = 1 + 2 * (self.budget - self.spent[i]) // max(size, 1)
        if j < ranked.count:
            farann_candidates_split(ranked, self.batch.kernels.kth_largest_f32(
                ranked.scores, ranked.count, j), INFINITY)
        for j in range(ranked.count):
            self.entries[j].key, self.entries[j].id = ranked.scores[j], ranked.slots[j]
        farann_entries_sort(self.entries, ranked.count, NULL, &NEVER)
        for j in range(ranked.count):
            c = self.entries[j].id
            size = self.means.partitions.starts[c + 1] - self.means.partitions.starts[c]
            if self.spent[i] + size > self.budget:
                continue  # a smaller partition may fit
            self.spent[i] += size
            self.probed[self.n_probes] = <int32_t>c
            self.n_probes += 1

    cdef void list_probers(self, const int64_t *members, int64_t n) noexcept nogil:
        """List the queries of each partition."""
        cdef int64_t c, j, i, n_cells = self.means.partitions.n_cells
        for c in range(n_cells + 2):
            self.heads[c] = 0
        for j in range(self.n_probes):
            self.heads[self.probed[j] + 2] += 1
        for c in range(n_cells):
            self.heads[c + 2] += self.heads[c + 1]
        # Each partition's head is that of the one before until its probers are in place.
        j = 0
        for i in range(n):
            while j < self.probe_ends[i]:
                c = self.probed[j]
                self.probers[self.heads[c + 1]] = members[i]
                self.heads[c + 1] += 1
                j += 1

    cdef bint has_room(self) noexcept nogil:
        """Make room for probes of one more query; False: there is no memory."""
        cdef int64_t room = self.n_probes + self.means.partitions.n_padded
        cdef int32_t *probed
        cdef int64_t *probers
        if room <= self.room:
            return True
        probed = <int32_t *>farann_realloc(self.probed, 2 * room * sizeof(int32_t))
        if probed != NULL:
            self.probed = probed
            probers = <int64_t *>farann_realloc(self.probers, 2 * room * sizeof(int64_t))
            if probers != NULL:
                self.probers, self.room = probers, 2 * room
                return True
        self.batch.scratch.failed = True
        return False

    cdef void take_cell(self, int64_t cell) noexcept nogil:
        """Go on with the first probed partition from `cell` on; of a single query with a probe."""
        cdef int64_t n_cells = self.means.partitions.n_cells, c = -1
        if self.batch.n_queries > 1:
            while self.n_probes > 0 and cell < n_cells and self.heads[cell] == self.heads[cell + 1]:
                cell += 1
            if self.n_probes > 0 and cell < n_cells:
                c = cell
        elif cell < self.n_probes:
            c = self.probed[cell]
        self.cell, self.probing = cell, c
        if c >= 0:
            self.at, self.end = self.means.partitions.starts[c], self.means.partitions.starts[c + 1]

    cdef bint next(self, Block *block, int64_t most) noexcept nogil:
        cdef int64_t c = self.probing
        if c < 0:
            return False
        if self.batch.n_queries > 1:
            self.next_for(block, most, self.probers + self.heads[c],
                          self.heads[c + 1] - self.heads[c])
        else:
            self.next_for(block, most, self.everyone, 1)
        if self.at == self.end:
            self.take_cell(self.cell + 1)
        return True


cdef CodeSource probed_partitions(PartitionMeans means, Collector collector, int64_t n_first,
                                  int64_t budget, double predicted):
    """Make the source of probed partitions.

    `predicted`: deviations from the scores of good partitions to the k-th key, as predicted (see
    `surprises`); NaN: no prediction.
    """
    cdef PartitionSource source = PartitionSource.__new__(PartitionSource)
    cdef int64_t i, n = means.batch.n_queries, room = means.partitions.n_padded
    source.set_up(means.batch, means.coded.codes)
    source.means, source.collector = means, collector
    source.n_first, source.budget = n_first, budget
    # A failed prediction begins again, which would spend a budget twice.
    source.beside = predicted if budget == INT64_MAX else NAN
    source.everyone = <int64_t *>source.batch.scratch.allocate(3 * n + room + 2, sizeof(int64_t))
    source.spent, source.probe_ends = source.everyone + n, source.everyone + 2 * n
    source.heads = source.probe_ends + n
    for i in range(n):
        source.everyone[i] = i
    if budget < INT64_MAX:
        source.entries = <farann_entry *>source.batch.scratch.allocate(room, sizeof(farann_entry))
    return source


cdef uint8_t place_of(int64_t position) noexcept nogil:
    """The octave that a position is in, log2(p + 1) of its panel p, in parts."""
    return <uint8_t>(PLACES_AN_OCTAVE * log2(position // FARANN_CODE_PANEL + 1.0) + 0.5)


cdef places_of(Codes codes):
    """The place of each row of the base; 0 for rows without codes, which are always scored.

    Computed once, as few searches need them.
    """
    if codes.places is None:
        slots = np.arange(codes.n_filled) if codes.slots is None else np.asarray(codes.slots)
        slots = slots[:codes.n_filled]
        of_panels = [place_of(at) for at in range(0, codes.n_filled, FARANN_CODE_PANEL)]
        places = np.repeat(np.array(of_panels, np.uint8), FARANN_CODE_PANEL)[:codes.n_filled]
        made = np.zeros(codes.n_rows, np.uint8)
        made[slots[slots >= 0]] = places[slots >= 0]
        codes.places = made  # only once complete: other threads may read it
    return codes.places


@cython.final
@cython.no_gc
cdef class Lateness:
    """The lateness of a query's answer: see `Task.witness_to`."""

    @staticmethod
    cdef Lateness of(CodedQueries coded, Collector collector, Partitions partitions):
        cdef Lateness self = Lateness.__new__(Lateness)
        self.batch, self.coded, self.collector = coded.batch, coded, collector
        self.places, self.last_place = places_of(coded.codes), 255
        if partitions is not None:
            self.last_place = place_of(partitions.starts[0])
        self.of_queries = <float *>coded.batch.scratch.allocate(
            coded.batch.n_queries, sizeof(float))
        return self

    cdef void tell(self) noexcept nogil:
        cdef int64_t i
        for i in range(self.batch.n_queries):
            self.of_queries[i] = self.of_query(i)

    cdef float of_query(self, int64_t i) noexcept nogil:
        """The lateness of the rows that query i has found."""
        cdef const Answer *answer = &self.collector.answers[i]
        cdef double last = self.collector.keep_best(i), total = 0.0
        cdef int64_t j
        if not self.coded.of[i].usable:
            return 0.0
        if last == INFINITY and answer.top.count == self.batch.k:
            last = answer.threshold
        for j in range(answer.passed.count):
            if answer.passed.scores[j] >= last:
                total += ROOTS[min(self.places[answer.passed.slots[j]], self.last_place)]
        return <float>(total / self.batch.k)


@cython.final
@cython.no_gc
cdef class LateSource(CodeSource):
    """Rows that come later in the order of codes, for queries whose answers lie late.

    Twice as many rows are scanned for them, and again, until their answers lie early among these.
    """

    cdef Lateness lateness
    cdef double late            # lateness in the rows before `first` from which more are scanned
    cdef int64_t *late_ones
    cdef int64_t n_late

    cdef void begin(self, const int64_t *asking, int64_t n, bint all_rows) noexcept nogil:
        cdef int64_t i
        self.at = self.end = self.first
        self.done = self.n_late = 0
        if all_rows:
            return  # another source scans all rows
        self.lateness.tell()
        for i in range(self.batch.n_queries):
            if self.lateness.of_queries[i] > self.late:
                self.late_ones[self.n_late] = i
                self.n_late += 1

    cdef void keep_late(self) noexcept nogil:
        """Keep the queries whose answers still lie late in the rows scanned."""
        cdef int64_t j, n = self.n_late
        cdef double root = sqrt(self.end // FARANN_CODE_PANEL + 1.0)
        cdef double late = self.late * root / sqrt(self.first // FARANN_CODE_PANEL + 1.0)
        self.n_late = 0
        for j in range(n):
            if self.lateness.of_query(self.late_ones[j]) > late:
                self.late_ones[self.n_late] = self.late_ones[j]
                self.n_late += 1

    cdef bint next(self, Block *block, int64_t most) noexcept nogil:
        if self.at == self.end:
            if self.end > self.first:
                self.keep_late()
            if self.n_late == 0 or self.end >= self.codes.n_positions:
                return False
            self.end = min(max(2 * self.end, <int64_t>FARANN_CODE_PANEL), self.codes.n_positions)
        return self.next_for(block, most, self.late_ones, self.n_late)


cdef CodeSource late_rows(Lateness lateness, double late, int64_t n_first):
    """Make the source of more rows, for queries with a lateness above `late` in the first rows.

    The limit grows with the root of the number of scanned rows.
    """
    cdef LateSource source = LateSource.__new__(LateSource)
    source.set_up(lateness.batch, lateness.coded.codes)
    source.lateness, source.late, source.first = lateness, late, n_first
    source.late_ones = <int64_t *>source.batch.scratch.allocate(
        source.batch.n_queries, sizeof(int64_t))
    return source
