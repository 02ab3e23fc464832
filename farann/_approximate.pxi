# Approximate search: the same scan, of the rows that promise most. Part of _core.pyx.

cdef enum:
    # What the k-th key is expected to be is told by what the best cells promise, those of so many
    # groups, which take turns.
    TELLING_CELLS = 16
    # So many cells at least are visited first where cells are caps, and what is kept of them.
    NEAREST_CELLS = 4
    MOST_NEAREST = 8


cdef class ApproximateTask(Task):
    """Some queries of a search that stops early.

    The rows that answer many queries are always scanned. What follows depends on the layout: in
    a partitioned index the cells are visited whose mean key plus `effort` standard deviations
    reaches the k-th best found so far, or what that is expected to be in the end. Otherwise
    `effort` is the number of positions that are scanned, and no others are.
    Errors of codes are taken for noise: what they allow for is three standard deviations of it.
    Where filters leave fewer than k rows of all these, every row is scanned.
    With `tells_late` the search tells how late the answers of queries came, see `late_to`.
    """

    cdef Cells cells
    cdef double effort
    cdef bint expects, may_expect  # at present, and when a search begins
    cdef double beside             # what is expected, from what good cells promise
    cdef int64_t budget, n_first
    cdef uint32_t *cell_queries    # whole codes of cells, query after query
    cdef uint32_t *cell_codes      # of a tile
    cdef farann_coded_query *cell_coded
    cdef float *promises           # of cells, for a tile
    cdef float *sines              # of the angle that a cap gets credit for, cells as caps; or NULL
    cdef float *cosines            # of the same
    cdef float *no_sines           # of no credit
    cdef float *no_cosines
    cdef int32_t *nearest          # the caps that were visited first, query after query; -1: none
    cdef farann_candidates chosen  # cells, for one query
    cdef int64_t *choosing         # queries that have cells to choose
    cdef int64_t n_choosing
    cdef int64_t *spent            # rows scored, by query
    cdef int64_t *heads            # a cell's first visit
    cdef int32_t *visitors         # queries, cell after cell
    cdef int32_t *visited          # cells, query after query of those that choose
    cdef int64_t *visit_ends       # theirs
    cdef int64_t n_visits, visits_room
    cdef farann_entry *ranked      # cells, where a budget needs them in order
    cdef const uint8_t[::1] places # of rows in the order of codes, see `places_of`
    cdef float *came_late          # by query; NULL: not told
    cdef uint8_t last_place        # that of all rows in cells

    def __dealloc__(self):
        free(self.visited)

    def __init__(self, Snapshot snapshot, Filter filter, const float[:, ::1] queries,
                 int64_t start, int64_t stop, int64_t k, double effort, int64_t budget=0,
                 double expected=NAN, CancelFlag flag=None, bint tells_late=False,
                 const int64_t[::1] stops=None):
        """`budget` limits the rows that are scanned, in whole panels; 0: no limit.

        `expected`: by how many deviations the k-th key is taken to be above what good cells
        promise, see `surprises`; NaN: nothing is expected. `stops`: of each run of the tail, before
        which position its scan ends; None: they are scanned whole.
        """
        self.effort, self.beside, self.budget = effort, expected, INT64_MAX
        if 0 < budget <= snapshot.n_slots:
            self.budget = code_rows(budget)
        # An infinite effort is for all rows, and no cell needs to be judged.
        self.cells = snapshot.cells if effort < INFINITY else None
        # A budget is spent once, and no query may begin again. The nearest caps are visited first,
        # and nothing need be expected.
        self.may_expect = (self.cells is not None and not isnan(expected)
                           and self.budget == INT64_MAX and self.cells.inv_norms is None)
        self.expects = self.may_expect
        # Thresholds may rise in steps here, and let more through in between.
        self.room = 3 * CANDIDATE_ROOM
        self.take_stops(snapshot, stops)
        Task.__init__(self, snapshot, filter, queries, start, stop, k, False, flag=flag)
        if self.codes is None:
            return
        self.n_first = self.codes.n_positions
        if self.sines != NULL:
            self.take_angles()
        if self.cells is not None:
            self.n_first = min(self.cells.starts[0], code_rows(self.budget // 2))
        elif self.effort < self.n_first:
            self.n_first = code_rows(<int64_t>self.effort)
        if self.budget < INT64_MAX and self.seeds is not None:
            self.budget -= self.seeds.length
        self.n_first = min(self.n_first, self.budget)
        if tells_late:
            self.places, self.last_place = places_of(self.codes), 255
            if self.cells is not None:
                self.last_place = place_of(self.cells.starts[0])
            self.came_late = <float *>self.allocate(self.n_queries, sizeof(float))

    cdef allocate_codes(self):
        Task.allocate_codes(self)
        cdef int64_t width = self.code_width, groups, room
        if self.cells is None:
            self.looks_first = False
            return
        groups, room = self.cells.coded.groups, self.cells.n_padded
        self.cell_queries = <uint32_t *>self.allocate(
            self.n_queries * groups, sizeof(uint32_t))
        self.cell_codes = <uint32_t *>self.allocate(
            self.words_of_tile(width, groups), sizeof(uint32_t))
        self.cell_coded = <farann_coded_query *>self.allocate(
            self.n_queries, sizeof(farann_coded_query))
        self.promises = <float *>self.allocate(width * room, sizeof(float), False)
        self.spent = <int64_t *>self.allocate(
            3 * self.n_queries + 2 * room + 2, sizeof(int64_t))
        self.choosing = self.spent + self.n_queries
        self.visit_ends = self.choosing + self.n_queries
        self.heads = self.visit_ends + self.n_queries
        self.chosen.slots = self.heads + room + 2
        self.chosen.scores = <float *>self.allocate(room, sizeof(float))
        if self.cells.inv_norms is not None:
            self.sines = <float *>self.allocate(4 * room, sizeof(float))
            self.cosines, self.no_sines = self.sines + room, self.sines + 2 * room
            self.no_cosines = self.sines + 3 * room
            self.nearest = <int32_t *>self.allocate(
                self.n_queries * MOST_NEAREST, sizeof(int32_t), False)
        if self.budget < INT64_MAX:
            self.ranked = <farann_entry *>self.allocate(room, sizeof(farann_entry))

    cdef take_angles(self):
        """The angles that caps get credit for: deviations are short beside the radius 1."""
        cdef int64_t c
        cdef double sine
        for c in range(self.cells.n_cells):
            sine = min(self.effort * self.cells.deviations[c], 1.0)
            self.sines[c], self.cosines[c] = <float>sine, <float>sqrt(1.0 - sine * sine)
            self.no_cosines[c] = 1.0

    cdef bint seeds_pay(self, Seeds seeds):
        """Where they can be paid for."""
        return self.budget >= 2 * seeds.length

    cdef void encode(self, int64_t i) noexcept nogil:
        cdef Query *query = &self.queries[i]
        cdef double noise = noise_of(&self.codes.bounds)
        self.outside_counts = self.codes.outside_noise / noise
        if self.codes is self.snapshot.added:
            # Rows of another kind have something in common outside the axes: that is no noise.
            self.outside_counts = 1.0 / noise
        Task.encode(self, i)
        query.whole.off *= noise
        query.whole.allowance *= noise
        query.whole.length *= noise
        query.scan.allowance *= noise
        query.scan.length *= noise

    cdef void prepare(self, int64_t i) noexcept nogil:
        cdef Query *query = &self.queries[i]
        Task.prepare(self, i)
        cdef double credit = self.effort if self.sines == NULL else 0.0
        if self.cells is None or self.codes is None or not query.coded:
            return
        # The weights, turned, are what the codes of the query were made of last.
        farann_code_query(self.snapshot.kernels, self.turned,
                          credit * query.prepared.weight_norm, &self.cells.bounds,
                          self.codes.bounds.norm, &query.prepared, False, self.code_bytes,
                          self.cell_queries + i * self.cells.coded.groups,
                          &self.cell_coded[i])

    cdef str what_lacked_memory(self):
        return "no memory for the list of cells to visit; ask fewer queries at once"

    cdef void answer(self) noexcept nogil:
        if self.codes is None:
            Task.answer(self)
            return
        self.snapshot.kernels.begin()
        self.score_uncoded()
        self.scan_seeds()
        if self.expects:
            self.choose_for_all()
        self.scan_in_order(0, self.n_first)
        if self.cells is not None:
            self.visit_cells()
        self.refine_all_deferred()
        self.complete()
        self.refine_all_deferred()
        self.tell_late()
        self.snapshot.kernels.end()
        self.answer_from_tail(self.codes.n_positions)

    cdef void begin_again(self, const float *given) noexcept nogil:
        self.expects = self.may_expect
        Task.begin_again(self, given)

    cdef bint keys_decide(self, const Query *query) noexcept nogil:
        """Not where it is told how late rows come: those that have keys count for nothing there."""
        return self.came_late == NULL and Task.keys_decide(self, query)

    cdef void tell_late(self) noexcept nogil:
        cdef int64_t i
        if self.came_late != NULL:
            for i in range(self.n_queries):
                self.came_late[i] = self.lateness(&self.queries[i])

    cdef float lateness(self, Query *query) noexcept nogil:
        """How late the rows of the answer lie, see `late_to`."""
        cdef int64_t j
        cdef double last = INFINITY, total = 0.0
        cdef const farann_candidates *list = &query.candidates
        if not query.coded:
            return 0.0
        if query.best.capacity == 0:
            last = self.keep_best(query)
            if last == INFINITY and query.found.count == self.k:
                last = query.threshold
        elif query.best.count == self.k:
            last = query.best.scores[self.k - 1]
        for j in range(list.count):
            if list.scores[j] >= last:
                total += ROOTS[min(self.places[list.slots[j]], self.last_place)]
        return <float>(total / self.k)

    def late_to(self, float[::1] late, int64_t start):
        """Write how late the answers of queries came, from `start` on.

        Rows lie first that answer many sample queries. Of the rows of an answer it is the mean root
        of the number of their panel, from 1 on, where rows in cells have that of the first of
        these. Those count as 0 that have their keys already, as the best of a list do. Queries of
        another kind have other answers, which lie later.
        """
        cdef int64_t i
        if self.came_late != NULL:
            for i in range(self.n_queries):
                late[start + i] = self.came_late[i]

    cdef void scan_in_order(self, int64_t start, int64_t end) noexcept nogil:
        """Scan the rows at positions start .. end."""
        cdef int64_t n, i, ramp
        if start == 0:
            start = self.scan_first_rows(end)
        ramp = max(start, FIRST_BLOCK)
        while start < end and not self.stopped():
            n = self.of_one_mean(start, min(min(self.code_rows, ramp), end - start))
            if self.codes.has_basis and not self.looks_first:
                for i in range(self.n_queries):
                    if self.stopped():
                        return
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
        """Scan the cells that promise most."""
        if self.sines != NULL and self.budget == INT64_MAX:
            self.visit_nearest()
        if not self.expects:
            self.choose_for_all()
        self.make_visits()
        if self.expects:
            self.refine_all_deferred()
            self.start_again()
            self.choose_cells()
            self.make_visits()

    cdef void visit_nearest(self) noexcept nogil:
        """Scan the caps whose middles are nearest, which give good thresholds."""
        cdef int64_t first = 0, count, i, j, n = self.cells.n_padded, found
        cdef int32_t *nearest
        for i in range(self.n_queries):
            self.choosing[i] = i
        for i in range(self.n_queries * MOST_NEAREST):
            self.nearest[i] = -1
        self.n_choosing, self.n_visits = self.n_queries, 0
        while first < self.n_queries and not self.stopped():
            count = min(self.code_width, self.n_queries - first)
            self.look_at_cells(self.choosing + first, count, self.no_sines, self.no_cosines)
            for i in range(count):
                self.visit_ends[first + i] = self.n_visits
                if not (self.sees_cells(first + i) and self.has_room()):
                    continue
                found = self.snapshot.kernels.find_f32(
                    self.promises + i * n, n, self.near(self.promises + i * n),
                    self.visited + self.n_visits)
                nearest = self.nearest + (first + i) * MOST_NEAREST
                for j in range(min(found, MOST_NEAREST)):
                    nearest[j] = self.visited[self.n_visits]
                    self.n_visits += 1
                self.visit_ends[first + i] = self.n_visits
            first += count
        self.make_visits()
        self.refine_all_deferred()

    cdef float near(self, const float *promises) noexcept nogil:
        """What the nearest cells score more than."""
        cdef float largest[FARANN_SCORE_GROUPS]
        cdef float best[NEAREST_CELLS]
        cdef float score
        cdef int64_t i, j
        self.snapshot.kernels.largest_f32(promises, self.cells.n_padded, largest)
        for j in range(NEAREST_CELLS):
            best[j] = -INFINITY
        for i in range(FARANN_SCORE_GROUPS):
            score = largest[i]
            for j in range(NEAREST_CELLS):
                if score > best[j]:
                    best[j], score = score, best[j]
        return nextafterf(best[NEAREST_CELLS - 1], -INFINITY)

    cdef void choose_for_all(self) noexcept nogil:
        cdef int64_t i
        for i in range(self.n_queries):
            self.choosing[i], self.spent[i] = i, self.n_first
        self.n_choosing = self.n_queries
        self.choose_cells()

    cdef void start_again(self) noexcept nogil:
        """For queries that found less than expected, with what they found for a threshold."""
        cdef int64_t i
        cdef Query *query
        self.n_choosing, self.expects = 0, False
        for i in range(self.n_queries):
            query = &self.queries[i]
            if query.best.capacity == 0:
                self.keep_best(query)
            if query.threshold + query.slack >= query.expected:
                continue
            query.expected = -INFINITY
            self.forget(query)
            self.score_outliers(query)
            if self.seeds is not None:
                self.askers[0] = i
                self.score_list(self.list_of[i], 0, 1)
            self.scan_for_one(i, self.n_first)
            self.choosing[self.n_choosing] = i
            self.n_choosing += 1

    cdef void forget(self, Query *query) noexcept nogil:
        """All that a query has found."""
        query.found.count = query.candidates.count = query.best.count = query.filter.n_met = 0

    cdef void choose_cells(self) noexcept nogil:
        """For the queries that choose, the cells that reach what their rows have to."""
        cdef int64_t first = 0, count, i, member, n = self.cells.n_padded
        cdef float *promises
        cdef float floor
        cdef Query *query
        self.n_visits = 0
        while first < self.n_choosing and not self.stopped():
            count = min(self.code_width, self.n_choosing - first)
            self.look_at_cells(self.choosing + first, count, self.sines, self.cosines)
            for i in range(count):
                member, promises = self.choosing[first + i], self.promises + i * n
                if self.sines != NULL and self.budget == INT64_MAX:
                    self.leave_out_nearest(member, promises)
                query = &self.queries[member]
                self.visit_ends[first + i] = self.n_visits
                if not (self.sees_cells(member) and self.has_room()):
                    continue
                if self.expects:
                    query.expected = self.expectation(query, promises)
                floor = nextafterf(<float>self.wanted(query), -INFINITY)
                if self.budget == INT64_MAX:
                    self.n_visits += self.snapshot.kernels.find_f32(
                        promises, n, floor, self.visited + self.n_visits)
                else:
                    self.visit_within_budget(member, promises, floor)
                self.visit_ends[first + i] = self.n_visits
            first += count

    cdef void leave_out_nearest(self, int64_t i, float *promises) noexcept nogil:
        """Cells that query i has visited."""
        cdef int64_t j
        cdef int32_t c
        for j in range(MOST_NEAREST):
            c = self.nearest[i * MOST_NEAREST + j]
            if c >= 0:
                promises[c] = -INFINITY

    cdef bint sees_cells(self, int64_t i) noexcept nogil:
        return self.queries[i].coded and self.cell_coded[i].unit >= 0.0

    cdef double expectation(self, const Query *query, const float *promises) noexcept nogil:
        """The reduced key that the k-th row is expected to have."""
        return self.telling(promises) + self.beside * self.deviation_of(query)

    cdef double telling(self, const float *promises) noexcept nogil:
        """What good cells promise, on average; -inf where there are too few."""
        cdef float largest[FARANN_SCORE_GROUPS]
        cdef float most
        cdef double total = 0.0
        cdef int64_t i, j
        self.snapshot.kernels.largest_f32(promises, self.cells.n_padded, largest)
        for i in range(TELLING_CELLS):
            most = largest[i]
            for j in range(1, FARANN_SCORE_GROUPS // TELLING_CELLS):
                most = max(most, largest[i + j * TELLING_CELLS])
            total += most
        return total / TELLING_CELLS

    cdef double deviation_of(self, const Query *query) noexcept nogil:
        """That of keys in a typical cell."""
        return query.prepared.weight_norm * self.cells.deviation

    cdef void look_at_cells(self, const int64_t *members, int64_t count, const float *sines,
                            const float *cosines) noexcept nogil:
        """What each cell promises to up to a tile of queries, caps with credit for angles."""
        cdef int64_t width = self.code_width, groups = self.cells.coded.groups, i, g
        cdef int64_t n = self.cells.n_padded
        cdef farann_coded_tile tile
        cdef farann_code_bar bar
        tile.bars = &self.bars
        for i in range(width):
            bar = self.no_bar
            if i < count and self.sees_cells(members[i]):
                bar = farann_code_bar_at(&self.cell_coded[members[i]], &self.cells.bounds,
                                         -INFINITY, self.sign, False)
            farann_code_bars_set(&self.bars, i, &bar)
        if width == 1:
            tile.codes = self.cell_queries + members[0] * groups
            self.snapshot.kernels.score_codes_one_i8(&self.cells.coded, n, &tile, self.promises)
        else:
            tile.codes = self.cell_codes
            self.snapshot.kernels.gather_codes(self.cell_queries, members, count, groups,
                                               self.cell_codes)
            self.snapshot.kernels.score_codes_i8(&self.cells.coded, n, &tile, self.promises)
        self.count_products(n * width, groups, count)
        for i in range(count if sines != NULL else 0):
            self.credit_caps(&self.queries[members[i]], self.promises + i * n, sines, cosines)
        for i in range(count):
            for g in range(self.cells.n_cells, n):
                self.promises[i * n + g] = -INFINITY

    cdef void credit_caps(self, const Query *query, float *promises, const float *sines,
                          const float *cosines) noexcept nogil:
        """From the keys of means to those of the best rows of caps."""
        cdef double scale = query.prepared.weight_norm
        if scale > 0.0:
            self.snapshot.kernels.cap_scores_f32(
                promises, &self.cells.inv_norms[0], sines, cosines, self.cells.n_padded,
                <float>(1.0 / scale), <float>scale, <float>query.prepared.key_offset)

    cdef bint has_room(self) noexcept nogil:
        """Make room for visits of one more query."""
        cdef int64_t room = self.n_visits + self.cells.n_padded
        cdef int32_t *visited
        if room > self.visits_room:
            visited = <int32_t *>farann_realloc(self.visited, 2 * room * sizeof(int32_t))
            if visited == NULL:
                self.out_of_memory = True
                return False
            self.visited, self.visits_room = visited, 2 * room
        return True

    cdef void visit_within_budget(self, int64_t i, const float *promises,
                                  float floor) noexcept nogil:
        """Of the cells that promise more than `floor` the best, as long as they can be paid for."""
        cdef farann_candidates *cells = &self.chosen
        cdef int64_t j, c, size
        cells.count = 0
        self.snapshot.kernels.select_f32(promises, self.cells.n_padded, floor, cells)
        # More can't be paid for, unless they are far smaller than others.
        j = 1 + 2 * (self.budget - self.spent[i]) // self.cells.usual_size()
        if j < cells.count:
            farann_candidates_keep_best(cells, j, 0.0)
        for j in range(cells.count):
            self.ranked[j].key, self.ranked[j].id = cells.scores[j], cells.slots[j]
        farann_entries_sort(self.ranked, cells.count, &NEVER)
        for j in range(cells.count):
            c = self.ranked[j].id
            size = self.cells.starts[c + 1] - self.cells.starts[c]
            if self.spent[i] + size > self.budget:
                continue  # a smaller one may fit
            self.spent[i] += size
            self.visited[self.n_visits] = <int32_t>c
            self.n_visits += 1

    cdef void make_visits(self) noexcept nogil:
        """Scan the cells in order, each for all its visitors."""
        cdef int64_t c, i, j
        if self.n_visits == 0:
            return
        if self.n_choosing == 1 and self.budget == INT64_MAX:
            self.visit_for_one(self.choosing[0])
            return
        self.visitors = <int32_t *>farann_alloc(
            self.n_visits * sizeof(int32_t), False)
        if self.visitors == NULL:
            self.out_of_memory = True
            return
        for c in range(self.cells.n_cells + 2):
            self.heads[c] = 0
        for j in range(self.n_visits):
            self.heads[self.visited[j] + 2] += 1
        for c in range(self.cells.n_cells):
            self.heads[c + 2] += self.heads[c + 1]
        # Each cell's head is that of the one before until its visitors are in place.
        j = 0
        for i in range(self.n_choosing):
            while j < self.visit_ends[i]:
                c = self.visited[j]
                self.visitors[self.heads[c + 1]] = <int32_t>self.choosing[i]
                self.heads[c + 1] += 1
                j += 1
        for c in range(self.cells.n_cells):
            if self.heads[c] == self.heads[c + 1]:
                continue
            if self.stopped():
                break
            if (self.code_width > 1 and c + 1 < self.cells.n_cells
                    and self.heads[c + 1] < self.heads[c + 2]):
                self.ask_for(c + 1)
            self.visit(c)
            farann_ahead_finish(&self.ahead)
        free(self.visitors)

    cdef void visit_for_one(self, int64_t member) noexcept nogil:
        """Scan the cells that a single query visits; they are in order."""
        cdef int64_t j, c, start, n
        cdef int64_t panel_bytes = FARANN_CODE_PANEL * self.codes.panels.shape[1]
        self.members[0] = member
        for j in range(self.n_visits):
            if self.stopped():
                return
            if j + 1 < self.n_visits:
                # They jump about, and a query alone has nothing else to do until memory answers.
                c = self.visited[j + 1]
                farann_ask_for(&self.codes.scanned, panel_bytes, self.cells.starts[c],
                               self.cells.starts[c + 1] - self.cells.starts[c])
            c = self.visited[j]
            start = self.cells.starts[c]
            while start < self.cells.starts[c + 1]:
                n = min(self.code_rows, self.cells.starts[c + 1] - start)
                self.take_block(start, n, 1)
                self.scan_for_members(1, 1, start, n)
                start += n

    cdef void ask_for(self, int64_t c) noexcept nogil:
        """Have the visit before ask memory for a cell, as cells are short, and jump about."""
        cdef const farann_kernels *kernels = self.snapshot.kernels
        cdef const int32_t *slots = NULL
        cdef int64_t before = self.cells.starts[c] - self.cells.starts[c - 1]
        cdef int64_t steps = max(before // kernels.step_rows, 1) * (
            (self.heads[c] - self.heads[c - 1] + self.code_width - 1) // self.code_width)
        if self.codes.slots is not None:
            slots = &self.codes.slots[0]
        self.ahead = farann_ahead_of(
            &self.codes.scanned, FARANN_CODE_PANEL * self.codes.panels.shape[1], slots,
            self.cells.starts[c],
            min(self.cells.starts[c + 1] - self.cells.starts[c], self.code_rows), steps)

    cdef void visit(self, int64_t c) noexcept nogil:
        """Scan a cell for its visitors."""
        cdef int64_t at, end = self.heads[c + 1], width, count, i
        cdef int64_t start = self.cells.starts[c], n
        while start < self.cells.starts[c + 1]:
            n, at = min(self.code_rows, self.cells.starts[c + 1] - start), self.heads[c]
            self.take_block(start, n, (end - at + self.code_width - 1) // self.code_width)
            while at < end and not self.stopped():
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
        cdef int64_t i
        for i in range(self.n_queries):
            query = &self.queries[i]
            if not query.coded or query.found.count + query.candidates.count >= self.k:
                continue
            self.forget(query)
            query.threshold = query.expected = -INFINITY
            self.score_outliers(query)
            self.scan_for_one(i, self.codes.n_positions)

    cdef void scan_for_one(self, int64_t i, int64_t stop) noexcept nogil:
        """Scan the coded rows before a position for query i."""
        cdef int64_t start = 0, n
        while start < stop and not self.stopped():
            n = self.of_one_mean(start, min(self.code_rows, stop - start))
            self.members[0] = i
            if self.codes.has_basis and not self.looks_first:
                self.refine_rows(i, start, n)
            else:
                self.take_block(start, n, 1)
                self.scan_for_members(1, 1, start, n)
            start += n


cdef double noise_of(const farann_code_bounds *bounds) noexcept nogil:
    """Three deviations of what codes are off, by the most that they may be."""
    return min(1.0, 3.0 / sqrt(<double>bounds.dim))


def surprises(Snapshot snapshot, Filter filter, const float[:, ::1] queries,
              const float[::1] scores, int64_t k, double effort):
    """By how many deviations k-th keys are above what good cells promise.

    NaN where that can't be said; `scores` are those of the k-th rows of the queries.
    """
    cdef int64_t first = 0, count, i, n = queries.shape[0]
    cdef ApproximateTask task = ApproximateTask(snapshot, filter, queries, 0, n, k, effort)
    cdef double[::1] found = np.full(n, np.nan)
    cdef const Query *query
    cdef double key
    cdef uint64_t before
    if scores.shape[0] != n:
        raise ValueError("there must be a score for each query")
    if task.cells is None or task.codes is None:
        return np.asarray(found)  # all rows are scored
    with nogil:
        before = farann_arithmetic_begin()
        snapshot.kernels.begin()
        while first < n:
            count = min(task.code_width, n - first)
            for i in range(count):
                task.choosing[i] = first + i
            task.look_at_cells(task.choosing, count, task.sines, task.cosines)
            for i in range(count):
                query = &task.queries[first + i]
                if not task.sees_cells(first + i):
                    continue
                key = (farann_key_at(snapshot.metric, scores[first + i], query.prepared.query_norm)
                       * query.prepared.key_scale + query.prepared.key_offset)
                found[first + i] = (
                    key - task.telling(task.promises + i * task.cells.n_padded)
                ) / task.deviation_of(query)
            first += count
        snapshot.kernels.end()
        farann_arithmetic_end(before)
    return np.asarray(found)
