# Approximate search: the same scan, of the rows that promise most. Part of _core.pyx.

cdef enum:
    # Best cells that a query visits in its first and in its second wave; the third has the rest.
    FIRST_WAVE = 2
    SECOND_WAVE = 8
    FIRST_CHOICE = 10  # both
    # Cells looked at first; after each block, twice as long as that before, those are dropped that
    # can't be among the best.
    FIRST_CELLS = 64


cdef struct Visit:
    int32_t cell
    int32_t query


cdef void drop_visited(farann_candidates *cells, int64_t before, int64_t start, int64_t n,
                       float cut) noexcept nogil:
    """Of the cells from `before` on, numbered from `start` to n, keep those that promise less."""
    cdef int64_t i, kept = before
    for i in range(before, cells.count):
        cells.scores[kept], cells.slots[kept] = cells.scores[i], cells.slots[i] + start
        kept += cells.slots[kept] < n and cells.scores[kept] < cut
    cells.count = kept


cdef void keep_few(farann_candidates *cells, int64_t most) noexcept nogil:
    """Keep the best few, sorted, best first."""
    cdef int64_t i, j, kept = 0
    cdef float score
    for i in range(cells.count):
        score = cells.scores[i]
        if kept == most:
            if score <= cells.scores[kept - 1]:
                continue
            kept -= 1
        cells.slots[kept], j = cells.slots[i], kept
        while j > 0 and cells.scores[j - 1] < score:
            cells.scores[j] = cells.scores[j - 1]
            cells.slots[j - 1], cells.slots[j] = cells.slots[j], cells.slots[j - 1]
            j -= 1
        cells.scores[j] = score
        kept += 1
    cells.count = kept


cdef class ApproximateTask(Task):
    """Some queries of a search that stops early.

    The rows that answer many queries are always scanned. What follows depends on the layout: in
    a partitioned index the cells are visited whose mean key plus `effort` standard deviations
    reaches the k-th best found so far, in waves, so that the best cells set the bar for the
    others. Otherwise `effort` is the number of positions that are scanned, and no others are.
    Errors of codes are taken for noise: what they allow for is three standard deviations of it.
    Where filters leave fewer than k rows of all these, every row is scanned.
    """

    cdef Cells cells
    cdef double effort
    cdef int64_t budget, n_first
    cdef uint32_t *cell_queries  # tiles, as code_queries
    cdef farann_best_scores *cell_bests  # of one tile
    cdef double *cell_floors             # which cells must reach
    cdef farann_coded_query *cell_coded
    cdef farann_candidates *lists  # of cells, for the queries of a tile
    cdef float *cuts               # by query: cells that promise so much are visited
    cdef int64_t *spent            # rows scored, by query
    cdef int64_t *heads            # a cell's first visit
    cdef int32_t *visitors         # queries, cell after cell
    cdef Visit *visits             # those of a wave
    cdef int64_t n_visits, visits_room
    cdef farann_entry *ranked      # cells, where a budget needs them in order
    cdef farann_entry *waiting     # cells for the second wave, by query
    cdef int64_t *n_waiting

    def __dealloc__(self):
        free(self.visits)

    def __init__(self, Snapshot snapshot, Filter filter, const float[:, ::1] queries,
                 int64_t start, int64_t stop, int64_t k, double effort, int64_t budget=0):
        """`budget` limits the rows that are scanned, in whole panels; 0: no limit."""
        self.effort, self.budget = effort, INT64_MAX
        if 0 < budget <= snapshot.n_slots:
            self.budget = code_rows(budget)
        # An infinite effort is for all rows, and no cell needs to be judged.
        self.cells = snapshot.cells if effort < INFINITY else None
        # Thresholds rise in steps here, and let more through in between.
        self.room = 3 * CANDIDATE_ROOM
        Task.__init__(self, snapshot, filter, queries, start, stop, k, False)
        if self.codes is None:
            return
        self.n_first = self.codes.n_positions
        if self.cells is not None:
            self.n_first = self.cells.starts[0]
        elif self.effort < self.n_first:
            self.n_first = code_rows(<int64_t>self.effort)
        if self.budget < INT64_MAX and self.seeds is not None:
            self.budget -= self.seeds.length
        self.n_first = min(self.n_first, self.budget)

    cdef allocate_codes(self):
        Task.allocate_codes(self)
        cdef int64_t width = self.code_width, groups, i, room
        cdef int64_t n = (self.n_queries + width - 1) // width * width
        cdef float *scores
        cdef int64_t *slots
        if self.cells is None:
            self.looks_first = False
            return
        groups, room = self.cells.coded.groups, self.cells.n_padded
        self.cell_queries = <uint32_t *>self.allocate(n * groups, sizeof(uint32_t))
        self.cell_floors = <double *>self.allocate(width, sizeof(double))
        self.cell_bests = <farann_best_scores *>self.allocate(width, sizeof(farann_best_scores))
        scores = <float *>self.allocate(width * FIRST_CHOICE, sizeof(float))
        for i in range(width):
            self.cell_bests[i].scores = scores + i * FIRST_CHOICE
            self.cell_bests[i].capacity = FIRST_CHOICE
        self.cell_coded = <farann_coded_query *>self.allocate(n, sizeof(farann_coded_query))
        self.spent = <int64_t *>self.allocate(n, 2 * sizeof(int64_t))
        self.cuts = <float *>(self.spent + n)
        self.heads = <int64_t *>self.allocate(room + 2, sizeof(int64_t))
        self.lists = <farann_candidates *>self.allocate(width, sizeof(farann_candidates))
        slots = <int64_t *>self.allocate(width * room, sizeof(int64_t) + sizeof(float))
        scores = <float *>(slots + width * room)
        for i in range(width):
            self.lists[i].slots, self.lists[i].scores = slots + i * room, scores + i * room
        self.waiting = <farann_entry *>self.allocate(
            n * SECOND_WAVE, sizeof(farann_entry))
        self.n_waiting = <int64_t *>self.allocate(n, sizeof(int64_t))
        if self.budget < INT64_MAX:
            self.ranked = <farann_entry *>self.allocate(room, sizeof(farann_entry))

    cdef bint seeds_pay(self, Seeds seeds):
        """Where they can be paid for."""
        return self.budget >= 2 * seeds.length

    cdef void prepare(self, int64_t i) noexcept nogil:
        cdef Query *query = &self.queries[i]
        cdef int64_t width = self.code_width
        cdef double noise = min(1.0, 3.0 / sqrt(<double>self.snapshot.dim))
        Task.prepare(self, i)
        if self.codes is None or not query.coded:
            return
        query.whole.off *= noise
        query.whole.allowance *= noise
        query.whole.length *= noise
        query.scan.allowance *= noise
        query.scan.length *= noise
        if self.cells is None:
            return
        # The weights, turned, are what the codes of the query were made of last.
        farann_code_query(self.snapshot.kernels, self.turned,
                          self.effort * query.prepared.weight_norm, &self.cells.bounds,
                          self.codes.bounds.norm, &query.prepared, False, self.code_bytes,
                          self.cell_queries + i // width * width * self.cells.coded.groups
                          + i % width, width, &self.cell_coded[i])

    def run(self):
        """Find the answers; the GIL is released meanwhile."""
        if self.codes is None:
            Task.run(self)
            return
        with nogil:
            self.score_uncoded()
            self.scan_seeds()
            self.scan_first()
            if self.cells is not None:
                self.visit_cells()
            self.refine_all_deferred()
            self.complete()
            self.refine_all_deferred()
            self.scan(&self.filter.segments[1])
            self.finish()
        if self.out_of_memory:
            raise MemoryError("no memory for the list of cells to visit; ask fewer queries at once")

    cdef void scan_first(self) noexcept nogil:
        """The rows that answer many queries."""
        cdef int64_t start = self.scan_first_rows(self.n_first), n, i
        cdef int64_t ramp = max(start, FIRST_BLOCK)
        while start < self.n_first:
            n = self.of_one_mean(start, min(min(self.code_rows, ramp), self.n_first - start))
            if self.codes.has_basis and not self.looks_first:
                for i in range(self.n_queries):
                    self.refine_rows(i, start, n)
            else:
                self.scan_codes(start, n)
            ramp = min(2 * ramp, self.code_rows)
            start += n

    cdef void refine_rows(self, int64_t i, int64_t start, int64_t n) noexcept nogil:
        """Score rows by whole codes, without a first look: few rows aren't worth its cost."""
        cdef Query *query = &self.queries[i]
        cdef farann_block block = self.coded_block(start)
        cdef int64_t before = query.candidates.count, j
        if not query.coded:
            return
        self.candidates[0], self.members[0] = query.candidates, i
        for j in range(n):
            self.candidates[0].slots[before + j] = j
        self.candidates[0].count = before + n
        self.scanned += min(n, self.codes.n_filled - start)
        self.refine(1, start, NULL)
        self.admit_tile(1, &block)

    cdef void visit_cells(self) noexcept nogil:
        """Visit the cells that promise most, in waves, so that the best set the bar for others."""
        cdef int64_t wave, i
        for i in range(self.n_queries):
            self.spent[i], self.cuts[i] = self.n_first, INFINITY
        for wave in range(3):
            for i in range(self.n_queries):
                self.keep_best(&self.queries[i])
            self.n_visits = 0
            if wave == 1:
                self.visit_waiting()
            else:
                self.choose_visits(wave == 0)
            if self.n_visits:
                self.make_visits()

    cdef void choose_visits(self, bint few) noexcept nogil:
        """For each query the next best cells, as far as they reach its threshold.

        Of the best few, the first are visited now, the others wait.
        """
        cdef int64_t first = 0, count, i, j, n, width = self.code_width
        cdef farann_candidates *cells
        while first < self.n_queries:
            count = min(width, self.n_queries - first)
            self.look_at_cells(first, count, few)
            for i in range(count):
                cells = &self.lists[i]
                if few and cells.count > FIRST_WAVE:
                    n = cells.count - FIRST_WAVE
                    self.n_waiting[first + i] = n
                    for j in range(n):
                        self.waiting[(first + i) * SECOND_WAVE + j].key = (
                            cells.scores[FIRST_WAVE + j])
                        self.waiting[(first + i) * SECOND_WAVE + j].id = (
                            cells.slots[FIRST_WAVE + j])
                    cells.count = FIRST_WAVE
                self.add_visits(first + i, cells)
            first += width

    cdef void visit_waiting(self) noexcept nogil:
        """The second wave: of the cells that wait, those that reach the new threshold."""
        cdef farann_candidates *cells = &self.lists[0]
        cdef const farann_entry *waiting
        cdef int64_t i, j
        for i in range(self.n_queries):
            waiting, cells.count = &self.waiting[i * SECOND_WAVE], 0
            for j in range(self.n_waiting[i]):
                if waiting[j].key < self.queries[i].threshold:
                    break
                cells.scores[j], cells.slots[j] = <float>waiting[j].key, waiting[j].id
                cells.count += 1
            self.add_visits(i, cells)

    cdef void look_at_cells(self, int64_t first, int64_t count, bint few) noexcept nogil:
        """Fill the lists of a tile of queries with cells, the best few or all, not yet visited."""
        cdef farann_coded_tile tile
        cdef farann_coded_rows cells = self.cells.coded
        cdef int64_t start, n, i, before, width = self.code_width
        cdef farann_candidates *cells_of
        cdef farann_best_scores *best
        cdef farann_scan_codes *scan_codes = (
            self.snapshot.kernels.scan_codes_one_i8 if width == 1
            else self.snapshot.kernels.scan_codes_i8)
        tile.codes, tile.bars = self.cell_queries + first * cells.groups, &self.bars
        for i in range(width):
            self.lists[i].count = self.cell_bests[i].count = 0
            farann_code_bars_set(&self.bars, i, &self.no_bar)
            if i < count and (self.queries[first + i].coded
                              and self.cell_coded[first + i].unit >= 0.0
                              and self.spent[first + i] < self.budget):
                self.cell_floors[i] = self.queries[first + i].threshold
                self.set_cell_bar(first, i)
        start, n = 0, FIRST_CELLS
        while start < self.cells.n_cells:
            n = min(n, self.cells.n_cells - start)
            for i in range(width):
                self.candidates[i] = self.lists[i]
            scan_codes(&cells, start, n, &tile, self.candidates)
            for i in range(count):
                cells_of = &self.lists[i]
                before, cells_of.count = cells_of.count, self.candidates[i].count
                drop_visited(cells_of, before, start, self.cells.n_cells, self.cuts[first + i])
                if few:
                    best = &self.cell_bests[i]
                    farann_best_scores_add(best, cells_of.scores + before,
                                           cells_of.count - before)
                    if best.count == FIRST_CHOICE:
                        self.cell_floors[i] = max(self.cell_floors[i],
                                                  best.scores[FIRST_CHOICE - 1])
                        self.set_cell_bar(first, i)
            start += n
            n *= 2
        for i in range(count if few else 0):
            farann_candidates_split(&self.lists[i], self.cell_floors[i], INFINITY)
            keep_few(&self.lists[i], FIRST_CHOICE)

    cdef void set_cell_bar(self, int64_t first, int64_t i) noexcept nogil:
        cdef farann_code_bar bar = farann_code_bar_at(
            &self.cell_coded[first + i], &self.cells.bounds, self.cell_floors[i], self.sign, False)
        farann_code_bars_set(&self.bars, i, &bar)

    cdef void add_visits(self, int64_t i, farann_candidates *cells) noexcept nogil:
        cdef Visit *visits
        cdef int64_t j, c, size
        if self.n_visits + cells.count > self.visits_room:
            visits = <Visit *>realloc(
                self.visits, 2 * (self.n_visits + cells.count) * sizeof(Visit))
            if visits == NULL:
                self.out_of_memory = True
                return
            self.visits, self.visits_room = visits, 2 * (self.n_visits + cells.count)
        if self.budget < INT64_MAX:
            # More can't be paid for, however small they are.
            j = (self.budget - self.spent[i]) // FARANN_CODE_PANEL
            if 0 < j < cells.count:
                farann_candidates_keep_best(cells, j, 0.0)
            self.rank(cells)
        for j in range(cells.count):
            c = cells.slots[j]
            size = self.cells.starts[c + 1] - self.cells.starts[c]
            if self.spent[i] + size > self.budget:
                continue  # a smaller one may fit
            self.spent[i] += size
            self.cuts[i] = min(self.cuts[i], cells.scores[j])
            self.visits[self.n_visits].cell, self.visits[self.n_visits].query = (
                <int32_t>c, <int32_t>i)
            self.n_visits += 1

    cdef void rank(self, farann_candidates *cells) noexcept nogil:
        """Order cells by what they promise."""
        cdef int64_t j
        for j in range(cells.count):
            self.ranked[j].key, self.ranked[j].id = cells.scores[j], cells.slots[j]
        farann_entries_sort(self.ranked, cells.count)
        for j in range(cells.count):
            cells.scores[j], cells.slots[j] = <float>self.ranked[j].key, self.ranked[j].id

    cdef void make_visits(self) noexcept nogil:
        """Scan the cells in order, each for all its visitors."""
        cdef int64_t c, j
        for c in range(self.cells.n_cells + 2):
            self.heads[c] = 0
        for j in range(self.n_visits):
            self.heads[self.visits[j].cell + 2] += 1
        for c in range(self.cells.n_cells):
            self.heads[c + 2] += self.heads[c + 1]
        self.visitors = <int32_t *>malloc(self.n_visits * sizeof(int32_t))
        if self.visitors == NULL:
            self.out_of_memory = True
            return
        for j in range(self.n_visits):
            c = self.visits[j].cell
            self.visitors[self.heads[c + 1]] = self.visits[j].query
            self.heads[c + 1] += 1
        for c in range(self.cells.n_cells):
            # A single query has no time for that.
            if (self.code_width > 1 and c + 1 < self.cells.n_cells
                    and self.heads[c + 1] < self.heads[c + 2]):
                self.expect(c + 1)
            self.visit(c)
        free(self.visitors)

    cdef void expect(self, int64_t c) noexcept nogil:
        """Ask memory for the codes of a cell: cells are short, and it can't foresee the next."""
        cdef int64_t start = self.cells.starts[c]
        farann_prefetch_panels(
            &self.codes.scanned, FARANN_CODE_PANEL * self.codes.panels.shape[1], start,
            min(self.cells.starts[c + 1] - start, self.code_rows))

    cdef void visit(self, int64_t c) noexcept nogil:
        """Scan a cell for its visitors."""
        cdef int64_t at, end = self.heads[c + 1], width, count, i
        cdef int64_t start = self.cells.starts[c], n
        if self.heads[c] == end:
            return
        while start < self.cells.starts[c + 1]:
            n, at = min(self.code_rows, self.cells.starts[c + 1] - start), self.heads[c]
            self.take_block(start, n, (end - at + self.code_width - 1) // self.code_width)
            while at < end:
                width = self.code_width if end - at >= FEW_VISITORS else 1
                count = min(width, end - at)
                for i in range(count):
                    self.members[i] = self.visitors[at + i]
                self.scan_for_members(width, count, start, n)
                at += count
            start += n

    cdef void complete(self) noexcept nogil:
        """Search all coded rows for queries that found too few."""
        cdef Query *query
        cdef int64_t i, n, start
        for i in range(self.n_queries):
            query = &self.queries[i]
            if not query.coded or query.found.count + query.candidates.count >= self.k:
                continue
            query.found.count = query.candidates.count = query.best.count = 0
            query.threshold, query.filter.n_met = -INFINITY, 0
            self.score_outliers(query)
            start = 0
            while start < self.codes.n_positions:
                n = self.of_one_mean(start, min(self.code_rows, self.codes.n_positions - start))
                self.members[0] = i
                if self.codes.has_basis and not self.looks_first:
                    self.refine_rows(i, start, n)
                else:
                    self.take_block(start, n, 1)
                    self.scan_for_members(1, 1, start, n)
                start += n
