# Some queries of a batch, and the scratch memory to answer them. Part of _core.pyx.

cdef enum CodeLevel:
    # What a scan reads: whole codes, or their upper halves.
    WHOLE_CODES, UPPER_HALVES


cdef struct Query:
    # What every scan of a block needs comes first, so that it shares a line of the cache.
    double threshold  # a reduced key that every row of the answer reaches
    double expected   # one that it is taken to reach, until it turns out that it doesn't
    double bar_floor  # what the bar was made for, less what the cell adds
    farann_code_bar bar
    int bar_level
    farann_candidates candidates
    farann_best_scores best  # without room: k is too large to keep them sorted
    bint coded
    bint by_keys      # rough scores rule out too little, see `KeyRows`
    bint keys_end     # whether they do no longer, from the next block on
    int64_t box_pause, next_box_pause  # blocks before the next look at a box
    double along, across  # what the weights are along the lead, and how long the rest is
    double slack      # largest of the blocks so far
    farann_query prepared
    farann_filter filter
    farann_topk found
    const float *given
    farann_coded_query scan  # as coded for what is scanned
    farann_coded_query whole  # and for all coordinates; a negative unit: not usable
    farann_candidates deferred  # rows that passed by upper halves, as positions; scores: sums
    # Scans of upper halves that let too many rows pass are left for some blocks, ever more.
    int64_t pause, next_pause
    double radius


cdef void *aligned(void *memory) noexcept nogil:
    cdef uintptr_t address = <uintptr_t>memory
    return <void *>((address + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT)


cdef class Queries:
    """Some queries of a search, prepared, with the scratch memory to answer them."""

    cdef Snapshot snapshot
    cdef Filter filter
    cdef CancelFlag flag
    cdef const int64_t *given_up
    cdef int64_t room  # for candidates, beyond twice k
    cdef int64_t n_queries, k, n_tiles, block_rows, code_rows, capacity
    cdef double sign, epsilon
    # What it costs that a row passes, is refined and rescored, in rows that are scanned by codes and
    # not in float32; 0: codes are never given up.
    cdef double cost_passed, cost_refined, cost_rescored
    cdef double cost_whole  # the same of one that is scanned by whole codes, put into panels
    cdef int64_t judged  # up to which position it was looked whether codes pay
    cdef double cost_judged, share_judged  # the cost up to there, and of a row before it
    cdef double outside_counts  # so many times: what weights are outside the axes of codes
    cdef bint beyond, out_of_memory
    cdef bint scans_rows  # or nothing but codes
    cdef int mode
    cdef farann_packing packing
    cdef Query *queries
    cdef void *memory[MOST_ALLOCATED]
    cdef int n_memory
    cdef const float[:, ::1] given  # keeps the queries alive
    cdef double *exact              # the last of them that was asked for, in float64
    cdef const Query *exact_of
    cdef double *keys
    cdef float *weights
    cdef float *panels
    cdef float *bias
    cdef float *thresholds
    cdef int64_t *positions
    cdef farann_candidates *candidates  # of one tile
    cdef int64_t *members  # its queries
    cdef Codes codes  # None where the codes are of no use
    cdef int64_t code_width  # queries of a tile of codes
    cdef int64_t n_scored    # first rows that are all scored, where these can be found
    cdef float *scores       # theirs, of one tile
    cdef bint looks_first    # along a basis
    cdef uint32_t *codes_of      # of queries, for what is scanned, one after the other
    cdef uint32_t *code_tiles    # the same in tiles
    cdef int64_t tile_words      # from one of these to the next
    cdef farann_coded_rows block  # the rows that are scanned by tile after tile
    cdef farann_ahead ahead  # what is read after these
    cdef uint8_t *joined  # their codes, where these lie in halves and many tiles read them
    cdef uint32_t *tile_codes  # a tile of some of the queries
    cdef int64_t *active       # queries that have rows in reach
    cdef int64_t n_active
    cdef uint32_t *whole_queries  # with a basis: all coordinates, query after query
    cdef uint32_t *hub_queries  # the same of a tile
    cdef farann_code_bars bars  # of one tile
    cdef farann_code_bar no_bar
    cdef int8_t *mean        # what rows of the block were coded relative to; NULL: none ever is
    cdef double mean_unit    # 0: nothing
    cdef double *offsets     # what that adds to scores, for the queries of a tile
    cdef double *turned    # weights of the last query, which codes turn; and behind them scratch
    cdef float *rounded    # the same as float32, before they are turned
    cdef uint8_t *code_bytes
    cdef readonly int64_t scanned, refined, rescored, bytes_read
    # Multiply-adds of rough scores, those for the empty places of tiles, too; blocks that were
    # scanned for a query; and rows that passed.
    cdef readonly int64_t code_products, float_products, blocks, passed

    def __cinit__(self):
        self.n_memory = 0
        self.queries = NULL
        self.given_up = &NEVER
        self.room = CANDIDATE_ROOM

    def __dealloc__(self):
        cdef int64_t i
        if self.beyond and self.queries != NULL:
            for i in range(self.n_queries):
                free(self.queries[i].found.entries)
        for i in range(self.n_memory):
            free(self.memory[i])

    cdef void *allocate(self, int64_t count, int64_t size, bint zeroed=True) except NULL:
        """Memory that goes with the task."""
        cdef void *memory = self.allocated(count, size, zeroed)
        if memory == NULL:
            raise MemoryError(f"a search needs {count * size:,} bytes of scratch memory")
        return memory

    cdef void *allocated(self, int64_t count, int64_t size, bint zeroed) noexcept nogil:
        """The same, or NULL where there is none."""
        cdef void *memory = NULL
        if count <= MOST_BYTES // size and self.n_memory < MOST_ALLOCATED:
            memory = farann_alloc(count * size + ALIGNMENT, zeroed)
        if memory == NULL:
            return NULL
        self.memory[self.n_memory] = memory
        self.n_memory += 1
        return aligned(memory)

    def __init__(self, Snapshot snapshot, Filter filter, const float[:, ::1] queries,
                 int64_t start, int64_t stop, int64_t k, bint nearest, radius=None,
                 double epsilon=0.0, CancelFlag flag=None, costs=(0.0, 0.0, 0.0, 0.0),
                 bint by_codes=True):
        cdef int64_t i, tile, width, dim = snapshot.dim, exact_dim = padded(snapshot.dim)
        cdef const farann_kernels *kernels = snapshot.kernels
        cdef farann_entry *entries = NULL
        cdef float *scores = NULL
        cdef float *best = NULL
        cdef int64_t *slots = NULL
        cdef int64_t n_places = 0
        cdef uint32_t *places = NULL
        cdef Query *query
        cdef uint64_t before
        self.snapshot, self.filter, self.flag = snapshot, filter, flag
        if flag is not None:
            self.given_up = &flag.raised
        self.n_queries, self.k = stop - start, max(min(k, filter.n_rows), 1)
        self.sign, self.epsilon = -1.0 if nearest else 1.0, epsilon
        self.cost_passed, self.cost_refined, self.cost_rescored, self.cost_whole = costs
        self.beyond = radius is not None
        self.mode = PACKED if self.n_queries >= FEW_QUERIES else AS_THEY_LIE
        if filter.n_rows <= FEW_ROWS and (snapshot.vectors or filter.n_rows == 0):
            self.mode = EXACT
        if not snapshot.vectors and filter.segments[0].positions != NULL:
            raise ValueError("without vectors a filter must be a mask")
        self.packing = farann_packing_of(snapshot.metric, self.sign)

        if (snapshot.codes is not None and self.mode != EXACT and (by_codes or not snapshot.vectors)
                and filter.segments[0].positions == NULL):
            self.codes = snapshot.codes
        self.block_rows = rows_in_cache(4 * dim)
        if self.codes is not None:
            self.code_rows = rows_in_cache(self.codes.scanned.groups * FARANN_CODE_GROUP)
        tile = kernels.tile_queries
        self.n_tiles = (self.n_queries + tile - 1) // tile if self.mode == PACKED else 0
        # If k is large, so are those that can't be told from the k-th by codes, and getting keys
        # of them before the end is a waste.
        self.capacity = self.room
        if not self.beyond:
            self.capacity += (2 if self.k <= FEW_BEST else 4) * self.k

        cdef int64_t room = self.capacity + max(self.block_rows, self.code_rows)
        self.queries = <Query *>self.allocate(self.n_queries, sizeof(Query))
        self.given, self.exact_of = queries, NULL
        self.exact = <double *>self.allocate(exact_dim, sizeof(double))
        self.turned = <double *>self.allocate(
            2 * exact_dim, sizeof(double) + sizeof(float) + sizeof(uint8_t))
        self.rounded = <float *>(self.turned + 2 * exact_dim)
        self.code_bytes = <uint8_t *>(self.rounded + 2 * exact_dim)
        self.keys = <double *>self.allocate(room, 2 * sizeof(double), False)
        self.positions = <int64_t *>(self.keys + room)
        self.scans_rows = self.codes is None or (
            filter.segments[1].count > 0 if snapshot.added is None else snapshot.uncoded.count > 0)
        if self.scans_rows:
            self.weights = <float *>self.allocate(self.n_weights(), sizeof(float))
        if not self.beyond:
            entries = <farann_entry *>self.allocate(
                self.n_queries * self.k, sizeof(farann_entry))
            if self.k <= FEW_BEST:
                best = <float *>self.allocate(self.n_queries * self.k, sizeof(float))
        if self.mode != EXACT:
            width = dim if self.mode == PACKED else 0
            self.panels = <float *>self.allocate(
                self.block_rows * (width + 1) + tile, sizeof(float))
            self.bias = self.panels + self.block_rows * width
            self.thresholds = self.bias + self.block_rows
            scores = <float *>self.allocate(
                self.n_queries * room + 1, sizeof(float) + sizeof(int64_t), False)
            slots = <int64_t *>(scores + self.n_queries * room + self.n_queries * room % 2)
            self.candidates = <farann_candidates *>self.allocate(
                max(tile, kernels.code_queries), sizeof(farann_candidates) + sizeof(int64_t))
            self.members = <int64_t *>(self.candidates + max(tile, kernels.code_queries))
        if self.codes is not None:
            self.allocate_codes()

        for i in range(self.n_queries):
            query = &self.queries[i]
            query.given = &queries[start + i, 0]
            query.threshold, query.expected, query.bar_floor = -INFINITY, -INFINITY, NAN
            if self.beyond:
                query.radius = radius
            else:
                query.found.entries = entries + i * self.k
                query.found.capacity = self.k
                if best != NULL:
                    query.best.scores, query.best.capacity = best + i * self.k, self.k
            if self.mode != EXACT:
                query.candidates.scores = scores + i * room
                query.candidates.slots = slots + i * room
        if filter.excluded is not None and filter.offsets.shape[0] <= stop:
            raise ValueError("offsets must be those of all queries")
        for i in range(self.n_queries):
            n_places += farann_id_set_room(filter.n_excluded(start + i))
        if n_places:
            places = <uint32_t *>self.allocate(n_places, sizeof(uint32_t))
        with nogil:
            before = farann_arithmetic_begin()
            for i in range(self.n_queries):
                if self.stopped():
                    break
                self.queries[i].filter = filter.of_query(start + i, places)
                places += farann_id_set_room(filter.n_excluded(start + i))
                self.prepare(i)
            if self.codes is not None and self.code_width > 1:
                self.make_tiles()
            farann_arithmetic_end(before)
        self.check_cancelled()

    @cython.final
    cdef bint stopped(self) noexcept nogil:
        """Whether the batch was given up; loops over blocks, tiles and queries ask once a round."""
        return farann_load(self.given_up) != 0

    cdef check_cancelled(self):
        if self.stopped():
            raise Cancelled("the batch of this task was given up")

    cdef int64_t n_weights(self) noexcept nogil:
        """Of all queries, in whole tiles."""
        return max(self.n_tiles * self.snapshot.kernels.tile_queries, self.n_queries) * padded(
            self.snapshot.dim)

    cdef allocate_codes(self):
        """Room for queries as codes."""
        cdef int64_t width = self.snapshot.kernels.code_queries, n
        if self.n_queries < FEW_QUERIES:
            width = 1
        n = (self.n_queries + width - 1) // width
        self.code_width, self.looks_first = width, self.codes.has_basis
        self.codes_of = <uint32_t *>self.allocate(
            self.n_queries * self.codes.scanned.groups, sizeof(uint32_t))
        self.code_tiles, self.n_active = self.codes_of, self.n_queries
        self.tile_words = self.words_of_tile(width, self.codes.scanned.groups)
        if width > 1:
            self.code_tiles = <uint32_t *>self.allocate(n * self.tile_words, sizeof(uint32_t))
        self.tile_codes = <uint32_t *>self.allocate(self.tile_words, sizeof(uint32_t))
        self.active = <int64_t *>self.allocate(self.n_queries, sizeof(int64_t))
        self.outside_counts = 1.0
        self.bars.sign, self.no_bar = self.sign, farann_code_bar_none()
        if self.snapshot.cells is not None and self.snapshot.cells.relative:
            self.offsets = <double *>self.allocate(
                width + self.codes.groups, sizeof(double))
            self.mean = <int8_t *>(self.offsets + width)
        self.n_scored = 0
        if (width > 1 and self.k <= FEW_BEST // 2 and not self.beyond
                and not self.codes.upper_alone and self.filter.alive == NULL):
            self.n_scored = min(self.codes.n_leading, self.code_rows, MOST_SCORED)
            self.scores = <float *>self.allocate(width * MOST_SCORED, sizeof(float), False)
        if (width > 1 and n > self.snapshot.kernels.few_tiles
                and self.codes.lower is not None):
            self.joined = <uint8_t *>self.allocate(
                self.code_rows, self.codes.groups * FARANN_CODE_GROUP, False)
        if width == 1 and self.codes.halves_first:
            self.allocate_deferred()
        if self.codes.has_basis:
            self.whole_queries = <uint32_t *>self.allocate(
                self.n_queries * self.codes.groups, sizeof(uint32_t))
            self.hub_queries = <uint32_t *>self.allocate(
                self.words_of_tile(width, self.codes.groups), sizeof(uint32_t))

    cdef int64_t words_of_tile(self, int64_t width, int64_t groups) noexcept nogil:
        """Of codes; a single query's are a tile without more."""
        cdef int64_t most = self.snapshot.kernels.tile_groups
        return groups if width == 1 else width * ((groups + most - 1) // most * most)

    cdef void make_tiles(self) noexcept nogil:
        """Put queries as coded into tiles, in their order."""
        cdef int64_t first = 0, width = self.code_width, i
        while first < self.n_queries:
            for i in range(width):
                self.members[i] = first + i
            self.snapshot.kernels.gather_codes(
                self.codes_of, self.members, min(width, self.n_queries - first),
                self.codes.scanned.groups, self.tile_of(first))
            first += width

    cdef uint32_t *tile_of(self, int64_t first) noexcept nogil:
        """The tile that begins with a query."""
        return self.code_tiles + first // self.code_width * self.tile_words

    cdef allocate_deferred(self):
        """Room for rows that a scan of upper halves puts off."""
        cdef int64_t i, room = DEFERRED + LARGEST_BLOCK
        cdef float *scores = <float *>self.allocate(
            self.n_queries * room, sizeof(float) + sizeof(int64_t), False)
        cdef int64_t *slots = <int64_t *>(scores + self.n_queries * room)
        for i in range(self.n_queries):
            self.queries[i].deferred.scores = scores + i * room
            self.queries[i].deferred.slots = slots + i * room

    cdef const double *exact_query(self, const Query *query) noexcept nogil:
        """A query in float64, until another one is asked for."""
        if self.exact_of != query:
            self.snapshot.kernels.widen_f32(query.given, self.snapshot.dim, self.exact)
            self.exact_of = query
        return self.exact

    cdef void weigh(self, int64_t i) noexcept nogil:
        """Find the weights of a query and their constants; leaves them in `self.turned`."""
        cdef int64_t dim = self.snapshot.dim, tile = self.snapshot.kernels.tile_queries, j
        cdef Query *query = &self.queries[i]
        cdef bint packed = self.mode == PACKED and self.scans_rows
        cdef float *rounded = self.rounded
        cdef float *weights = self.weights
        if self.scans_rows and not packed:
            rounded = weights + i * padded(dim)
        farann_query_prepare(
            self.snapshot.kernels, self.snapshot.metric, self.sign, query.given, dim,
            &self.snapshot.full_centre[0], self.snapshot.centre_norm, self.exact, self.turned,
            rounded, &query.prepared)
        self.exact_of = query
        if packed:
            weights += i // tile * tile * dim + i % tile
            for j in range(dim):
                weights[j * tile] = rounded[j]

    cdef void prepare(self, int64_t i) noexcept nogil:
        """All that is derived from one query before the search."""
        cdef Query *query = &self.queries[i]
        self.weigh(i)
        if self.beyond:
            query.threshold = (
                farann_key_at(self.snapshot.metric, query.radius, query.prepared.query_norm)
                * query.prepared.key_scale + query.prepared.key_offset)
        if self.codes is not None:
            self.encode(i)
            query.coded = query.whole.unit >= 0.0
            self.active[i] = i

    cdef void encode(self, int64_t i) noexcept nogil:
        """Code a query, whose weights `weigh` has just found, for the codes that rows have."""
        cdef Query *query = &self.queries[i]
        cdef int64_t dim = self.snapshot.dim
        cdef double *weights = self.turned
        cdef double outside
        cdef uint32_t *codes = self.codes_of + i * self.codes.scanned.groups
        if self.looks_first:
            self.encode_along(query, weights, codes)
        if self.codes.lead is not None:
            self.take_lead(query, weights)
        if self.codes.has_basis:
            codes = self.whole_queries + i * self.codes.groups
        outside = farann_turn_weights(self.snapshot.kernels, &self.codes.turn.given, dim, weights,
                                      weights + padded(dim)) * self.outside_counts
        farann_code_query(self.snapshot.kernels, weights, outside, &self.codes.bounds,
                          self.codes.bounds.norm, &query.prepared, self.codes.upper_alone,
                          self.code_bytes, codes, &query.whole)
        if not self.snapshot.vectors:
            take_as_true(&query.whole, self.codes.upper_alone)
        if not self.codes.has_basis:
            query.scan = query.whole
        elif self.looks_first and query.scan.unit < 0.0:
            query.whole.unit = -1.0

    cdef void take_lead(self, Query *query, const double *weights) noexcept nogil:
        """See what weights are along the lead, and how long the rest is."""
        query.across = sqrt(farann_along(self.snapshot.kernels, &self.codes.lead[0, 0], 1,
                                         self.codes.lead.shape[1], weights, &query.along))

    cdef void encode_along(self, Query *query, const double *weights,
                           uint32_t *codes) noexcept nogil:
        """Code a query along the basis, for the first look."""
        cdef const farann_kernels *kernels = self.snapshot.kernels
        cdef int64_t m = self.codes.basis.shape[0], dim = self.codes.basis.shape[1], j
        cdef double *along = self.turned + padded(self.snapshot.dim)
        cdef double rest = sqrt(farann_along(kernels, &self.codes.basis[0, 0], m, dim, weights,
                                             along))
        for j in range(m, padded(m)):
            along[j] = 0.0
        farann_code_query(kernels, along, rest, &self.codes.scan_bounds,
                          self.codes.bounds.norm, &query.prepared, False, self.code_bytes, codes,
                          &query.scan)
