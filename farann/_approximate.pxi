# Approximate search: the same scan, of the rows that promise most. Part of _core.pyx.

cdef enum:
    # Best cells that a query visits in its first wave; each later wave has so many times more.
    FIRST_WAVE = 4
    WAVE_GROWTH = 4
    # From so many queries on a cell is scanned for a tile of them.
    FEW_VISITORS = 3


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
    cdef float *cell_steps
    cdef int32_t *cell_shifts
    cdef farann_coded_query *cell_coded
    cdef farann_candidates *lists  # of cells, a list a query
    cdef int64_t *n_chosen         # of a list's end: cells to visit in this wave
    cdef int64_t *heads            # a cell's first visit
    cdef int32_t *visitors         # queries, cell after cell
    cdef int64_t *spent            # rows scored, by query
    cdef uint32_t *tile_codes      # a tile of visitors
    cdef float *tile_steps
    cdef int32_t *tile_shifts

    def __init__(self, Snapshot snapshot, Filter filter, const float[:, ::1] queries,
                 int64_t start, int64_t stop, int64_t k, double effort, int64_t budget=0):
        """`budget` limits the rows that are scored, about; 0: no limit."""
        self.effort, self.budget = effort, budget if budget > 0 else INT64_MAX
        self.cells = snapshot.cells
        Task.__init__(self, snapshot, filter, queries, start, stop, k, False)
        if self.codes is None:
            return
        self.n_first = self.codes.n_positions
        if self.cells is not None:
            self.n_first = self.cells.starts[0]
        elif self.effort < self.n_first:
            self.n_first = <int64_t>self.effort
        self.n_first = min(self.n_first, self.budget)

    cdef allocate_codes(self):
        Task.allocate_codes(self)
        if self.cells is None:
            return
        cdef int64_t width = self.code_width, groups = self.cells.coded.groups, i
        cdef int64_t n = (self.n_queries + width - 1) // width * width, room = self.cells.n_padded
        cdef float *scores
        self.cell_queries = <uint32_t *>self.allocate(n * (groups + 2), sizeof(uint32_t))
        self.cell_steps = <float *>(self.cell_queries + n * groups)
        self.cell_shifts = <int32_t *>(self.cell_steps + n)
        self.cell_coded = <farann_coded_query *>self.allocate(n, sizeof(farann_coded_query))
        self.lists = <farann_candidates *>self.allocate(
            n, sizeof(farann_candidates) + 2 * sizeof(int64_t))
        self.n_chosen = <int64_t *>(self.lists + n)
        self.spent = self.n_chosen + n
        self.heads = <int64_t *>self.allocate(room + 2, sizeof(int64_t))
        scores = <float *>self.allocate(n * room, 2 * sizeof(int32_t) + sizeof(int64_t))
        for i in range(n):
            self.lists[i].slots = <int64_t *>scores + i * room
            self.lists[i].scores = <float *>(<int64_t *>scores + n * room) + i * room
        self.visitors = <int32_t *>(<int64_t *>scores + n * room) + n * room
        self.tile_codes = <uint32_t *>self.allocate(
            width * (self.codes.scanned.groups + 2), sizeof(uint32_t))
        self.tile_steps = <float *>(self.tile_codes + width * self.codes.scanned.groups)
        self.tile_shifts = <int32_t *>(self.tile_steps + width)

    cdef void prepare(self, int64_t i, const float *vector) noexcept nogil:
        cdef Query *query = &self.queries[i]
        cdef int64_t width = self.code_width
        cdef double noise = min(1.0, 3.0 / sqrt(<double>self.snapshot.dim))
        Task.prepare(self, i, vector)
        if self.codes is None or query.whole.slack < 0.0:
            return
        query.whole.slack *= noise
        query.scan.slack *= noise
        if self.cells is None:
            return
        # The weights, turned, are what the codes of the query were made of last.
        farann_code_query(self.turned, self.effort * query.prepared.weight_norm,
                          &self.cells.bounds, self.codes.bounds.norm, &query.prepared,
                          self.snapshot.kernels.zero_point,
                          self.cell_queries + i // width * width * self.cells.coded.groups
                          + i % width, width, &self.cell_coded[i])
        self.cell_steps[i] = <float>self.cell_coded[i].step
        self.cell_shifts[i] = self.cell_coded[i].shift

    def run(self):
        """Find the answers; the GIL is released meanwhile."""
        if self.codes is None:
            Task.run(self)
            return
        with nogil:
            self.score_uncoded()
            self.scan_first()
            if self.cells is not None and self.budget > self.n_first:
                self.choose_cells()
                self.visit_cells()
            self.complete()
            self.scan(&self.filter.segments[1])
            self.finish()

    cdef void scan_first(self) noexcept nogil:
        """The rows that answer many queries."""
        cdef int64_t start = 0, n, ramp = FIRST_BLOCK
        while start < self.n_first:
            n = min(min(self.code_rows, ramp), self.n_first - start)
            self.scan_codes(start, n)
            ramp = min(2 * ramp, self.code_rows)
            start += n

    cdef void choose_cells(self) noexcept nogil:
        """For each query the cells that may be worth a visit, with what to expect there."""
        cdef farann_coded_tile tile
        cdef int64_t first = 0, count, i, width = self.code_width
        cdef Query *query
        cdef farann_scan_codes *scan_codes = (
            self.snapshot.kernels.scan_codes_one_i8 if width == 1
            else self.snapshot.kernels.scan_codes_i8)
        tile.thresholds, tile.sign = self.code_thresholds, 0
        while first < self.n_queries:
            count = min(width, self.n_queries - first)
            for i in range(width):
                self.code_thresholds[i] = INT32_MAX
            for i in range(count):
                query = &self.queries[first + i]
                self.candidates[i] = self.lists[first + i]
                self.spent[first + i] = self.n_first
                if query.whole.slack < 0.0:
                    continue
                self.keep_best(query)
                if self.cell_coded[first + i].slack >= 0.0:
                    self.code_thresholds[i] = farann_code_threshold(
                        &self.cell_coded[first + i], query.threshold)
            tile.codes = self.cell_queries + first * self.cells.coded.groups
            tile.steps, tile.shifts = self.cell_steps + first, self.cell_shifts + first
            scan_codes(&self.cells.coded, 0, self.cells.n_cells, &tile, self.candidates)
            for i in range(count):
                self.lists[first + i].count = self.candidates[i].count
            first += width

    cdef void visit_cells(self) noexcept nogil:
        """Visit the cells that were chosen, the best of each query first."""
        cdef int64_t i, c, n, wave = FIRST_WAVE
        while True:
            for c in range(self.cells.n_cells + 2):
                self.heads[c] = 0
            n = 0
            for i in range(self.n_queries):
                n += self.choose_wave(i, wave)
            if n == 0:
                return
            for c in range(self.cells.n_cells):
                self.heads[c + 2] += self.heads[c + 1]
            for i in range(self.n_queries):
                self.list_visits(i)
            for c in range(self.cells.n_cells):
                self.visit(c)
            for i in range(self.n_queries):
                if self.lists[i].count > 0:
                    self.keep_best(&self.queries[i])
            wave *= WAVE_GROWTH

    cdef int64_t choose_wave(self, int64_t i, int64_t wave) noexcept nogil:
        """Move the best cells of a query to the end of its list, and count their visitors."""
        cdef farann_candidates *cells = &self.lists[i]
        cdef double best = -INFINITY
        cdef int64_t first, j, c
        self.n_chosen[i] = 0
        if cells.count == 0 or self.spent[i] >= self.budget:
            cells.count = 0
            return 0
        if cells.count > wave:
            best = farann_candidates_keep_best(cells, wave, INFINITY)
        first = farann_candidates_split(cells, self.queries[i].threshold, best)
        for j in range(first, cells.count):
            c = cells.slots[j]
            if self.spent[i] >= self.budget:
                cells.count = j
                break
            self.spent[i] += self.cells.starts[c + 1] - self.cells.starts[c]
            self.heads[c + 2] += 1
        self.n_chosen[i] = cells.count - first
        return self.n_chosen[i]

    cdef void list_visits(self, int64_t i) noexcept nogil:
        cdef farann_candidates *cells = &self.lists[i]
        cdef int64_t j, c
        for j in range(cells.count - self.n_chosen[i], cells.count):
            c = cells.slots[j]
            self.visitors[self.heads[c + 1]] = <int32_t>i
            self.heads[c + 1] += 1
        cells.count -= self.n_chosen[i]

    cdef void visit(self, int64_t c) noexcept nogil:
        """Scan a cell for its visitors."""
        cdef int64_t at = self.heads[c], end = self.heads[c + 1], width, count, i
        cdef int64_t start = self.cells.starts[c], n
        while at < end:
            width = self.code_width if end - at >= FEW_VISITORS else 1
            count = min(width, end - at)
            for i in range(count):
                self.members[i] = self.visitors[at + i]
            n = self.cells.starts[c + 1]
            while start < n:
                self.scan_for_members(width, count, start, min(self.code_rows, n - start))
                start += self.code_rows
            start = self.cells.starts[c]
            at += count

    cdef void scan_for_members(self, int64_t width, int64_t count, int64_t start,
                               int64_t n) noexcept nogil:
        """Scan rows for a tile of any queries, the first `count` of `self.members`."""
        cdef int64_t groups = self.codes.scanned.groups, i, g, member, stride = self.code_width
        cdef const uint32_t *codes
        cdef farann_coded_tile tile
        for i in range(count):
            member = self.members[i]
            codes = self.code_queries + member // stride * stride * groups + member % stride
            for g in range(groups):
                self.tile_codes[g * width + i] = codes[g * stride]
            self.tile_steps[i], self.tile_shifts[i] = (
                self.code_steps[member], self.code_shifts[member])
        tile.codes, tile.steps, tile.shifts = self.tile_codes, self.tile_steps, self.tile_shifts
        self.scan_code_tile(&tile, width, count, start, n)

    cdef void complete(self) noexcept nogil:
        """Search all coded rows for queries that found too few."""
        cdef Segment outliers = self.snapshot.segments[0]
        cdef Query *query
        cdef int64_t i, start
        outliers.count = self.codes.outliers.shape[0]
        if outliers.count:
            outliers.positions = &self.codes.outliers[0]
        for i in range(self.n_queries):
            query = &self.queries[i]
            if query.whole.slack < 0.0 or query.found.count + query.candidates.count >= self.k:
                continue
            query.found.count = query.candidates.count = 0
            query.threshold = -INFINITY
            if outliers.count:
                self.score_exact(query, &outliers, 0, outliers.count)
            start = 0
            while start < self.codes.n_positions:
                self.members[0] = i
                self.scan_for_members(1, 1, start,
                                      min(self.code_rows, self.codes.n_positions - start))
                start += self.code_rows
