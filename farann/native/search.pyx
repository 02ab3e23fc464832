"""Search."""
cimport cython
from cpython.buffer cimport (PyBUF_FORMAT, PyBUF_SIMPLE, PyBUF_STRIDES, PyBUF_WRITABLE,
                             PyBuffer_Release, PyObject_GetBuffer)
from libc.math cimport INFINITY, NAN, fabs, isnan, log2, nextafter, nextafterf, sqrt
from libc.stdint cimport (INT64_MAX, UINT32_MAX, int8_t, int32_t, int64_t, uint8_t, uint32_t,
                          uint64_t, uintptr_t)
from libc.stdlib cimport free

from farann.native.codes cimport Codes
from farann.native.guard cimport Guard
from farann.native.kernels cimport *
from farann.native.partitions cimport Cells
from farann.native.process cimport NEVER, CancelFlag
from farann.native.scratch cimport ALIGNMENT, aligned
from farann.native.shortlists cimport MOST_SCORED, Seeds
from farann.native.snapshot cimport FEW_BEST, Filter, Segment, Snapshot

import numpy as np

from farann.native.process import Cancelled

# Pays for the rounding of float64.
cdef double BOUND_UP = 1.0 + 1e-9

# What one piece of scratch memory may take.
cdef int64_t MOST_BYTES = 1 << 46

cdef enum:
    # How a task scores rows: canonical keys of all; roughly, as they lie; roughly, packed.
    EXACT, AS_THEY_LIE, PACKED
    # Below this many queries packing the rows costs more than it saves, and below this many
    # rows a rough pass does.
    FEW_ROWS = 64
    # Candidates that a query may hold beyond twice k before they are thinned out.
    CANDIDATE_ROOM = 64
    # Coordinates whose upper halves have sums that float32 holds, whatever they are.
    MOST_HALVED = 8192
    # Pieces of memory that a task may have.
    MOST_ALLOCATED = 32
    # From so many queries on rows are scanned for a tile of them.
    FEW_VISITORS = 3
    # The first rows, so many at most and at least, are all scored before there is a threshold.
    LEAST_SCORED = 128
    # So many best scores are kept sorted; of more, new ones are gathered first.
    # A packed block of rows should stay in the second-level cache.
    # Of the upper halves of codes less than one row in so many should pass.
    FEW_PASS = 4
    LONGEST_PAUSE = 7
    # Rows that pass by them but don't look like an answer are put off, so many at most.
    DEFERRED = 8192
    SCORES_AT_ONCE = 256
    # Rows that are scanned before it is judged whether codes rule out enough.
    FEWEST_JUDGED = 256
    # And rows that may pass until then, beside those that have to do with k.
    ALWAYS_PASS = 64
    # Rows that are scored again before somebody looks whether the search was given up.
    RESCORED_AT_ONCE = 4096
    # Coordinates that are checked, and coded, before signals are looked for.
    CHECKED_AT_ONCE = 16777216
    CODED_AT_ONCE = 1048576
    # Of the rows of a base, one in so many may be without codes.
    FEWEST_CODED = 256
    # Directions of a first look; what rounding may do to their products grows with the number.
    LARGEST_BASIS = 128


# Indexes without vectors: what codes say is all there is. Part of _core.pyx.

# Of the error that codes may have: more than rounding does to a key that is made of a score.
cdef double LEFT_OF_SLACK = 1e-6


cdef void take_as_true(farann_coded_query *coded, bint upper_alone) noexcept nogil:
    """Let a query take its rows' codes for the rows: there is no error to allow for.

    Where upper halves only come first, what is unknown of the lower ones stays.
    """
    coded.off *= LEFT_OF_SLACK
    coded.allowance = 0.0
    if upper_alone:
        coded.length = 0.0


cdef double rough_key(const farann_query *prepared, double sign, double score) noexcept nogil:
    """The key of which a rough score is the reduced one."""
    return sign * (score - prepared.key_offset) / prepared.key_scale


cdef double decoded_score(const farann_coded_rows *codes, int64_t dim, const double *turned,
                          double sign, int64_t position) noexcept nogil:
    """The rough score of the row at a position for weights that are turned, but not coded."""
    cdef int64_t pairs = code_pairs(codes.groups), panel, row, j, pair
    cdef int64_t panel_row
    cdef int shift
    cdef double total = 0.0, low = 7.5
    panel, row = position // FARANN_CODE_PANEL, position % FARANN_CODE_PANEL
    cdef const uint8_t *upper = codes.panels + (
        panel * FARANN_CODE_PANEL * pairs + row) * FARANN_CODE_GROUP
    cdef const uint8_t *lower = NULL
    if codes.lower != NULL:  # in quads of rows
        panel_row = panel * FARANN_CODE_PANEL + row // 4 * 4
        lower = codes.lower + (panel_row * pairs + row % 4) * FARANN_CODE_GROUP
    for j in range(dim):
        pair = j // (2 * FARANN_CODE_GROUP)
        shift = 4 * (j // FARANN_CODE_GROUP % 2)
        if lower != NULL:
            low = lower[pair * 4 * FARANN_CODE_GROUP + j % FARANN_CODE_GROUP] >> shift & 15
        total += turned[j] * (16.0 * (upper[pair * FARANN_CODE_PANEL * FARANN_CODE_GROUP
                                            + j % FARANN_CODE_GROUP] >> shift & 15) + low - 128.0)
    if codes.squares != NULL:
        total += sign * codes.squares[position]
    return total / codes.weights[panel]


cdef double mean_score(const int8_t *mean, double unit, int64_t dim,
                       const double *turned) noexcept nogil:
    """What a mean adds to the rough scores of rows that are coded relative to it, likewise."""
    cdef int64_t j
    cdef double total = 0.0
    for j in range(dim):
        total += turned[j] * mean[j]
    return total * unit

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

# Choosing among rows that were scored: candidates, thresholds, answers. Part of _core.pyx.

cdef class Selection(Queries):
    """What the queries of a task have found so far."""

    @cython.final
    cdef void admit_tile(self, int64_t count, const farann_block *block) noexcept nogil:
        """Take over what the scan of a tile, `self.members`, appended to `self.candidates`."""
        cdef int64_t i, before
        cdef Query *query
        for i in range(count):
            query = &self.queries[self.members[i]]
            before = query.candidates.count
            if self.candidates[i].count > before:
                query.candidates.count = self.candidates[i].count
                self.admit(query, before, block)

    @cython.final
    cdef float threshold_for(self, Query *query, double slack) noexcept nogil:
        """What a rough score must be greater than, in a block where it is off by `slack`."""
        query.slack = max(query.slack, slack)
        return nextafterf(<float>(self.wanted(query) - query.slack), -INFINITY)

    @cython.final
    cdef double wanted(self, const Query *query) noexcept nogil:
        """The reduced key that a row must reach to be worth finding."""
        if self.epsilon == 0.0:
            return max(query.threshold, query.expected)
        return farann_key_within(self.snapshot.metric, query.threshold, self.epsilon,
                                 &query.prepared)

    cdef void admit_best(self, Query *query, const float *scores, int64_t n,
                         const farann_block *block) noexcept nogil:
        """Admit those of n scored rows of a block that may be among the k best of them."""
        cdef int64_t before = query.candidates.count
        self.select_best(query, scores, n, block)
        self.admit(query, before, block)

    cdef void select_best(self, Query *query, const float *scores, int64_t n,
                          const farann_block *block) noexcept nogil:
        """Append them to the candidates, as rows of the block."""
        cdef int64_t before = query.candidates.count, i, reach = 0
        cdef bint all_allowed = self.filter.is_open()
        # Of the best some may be excluded: as many rows again may take their places.
        cdef float floor = self.at_least(self.k if all_allowed else 2 * self.k, scores, n)
        self.snapshot.kernels.select_f32(
            scores, n, nextafterf(<float>(floor - 2.0 * query.slack), -INFINITY),
            &query.candidates)
        if not all_allowed and floor > -INFINITY:
            farann_candidates_drop(&query.candidates, before, block, &query.filter)
            for i in range(before, query.candidates.count):
                reach += query.candidates.scores[i] >= floor
            if reach < self.k:
                query.candidates.count = before
                self.snapshot.kernels.select_f32(scores, n, -INFINITY, &query.candidates)

    cdef float at_least(self, int64_t m, const float *scores, int64_t n) noexcept nogil:
        """What the last of the m best of n scores is at least, m <= FEW_BEST.

        The largest of groups are different scores. -inf: there are too few.
        """
        cdef float largest[FARANN_SCORE_GROUPS]
        cdef float kept[FEW_BEST]
        cdef farann_best_scores best
        best.scores, best.capacity, best.count = kept, m, 0
        self.snapshot.kernels.largest_f32(scores, n, largest)
        farann_best_scores_add(&best, largest, FARANN_SCORE_GROUPS)
        return farann_best_scores_last(&best)

    @cython.final
    cdef void admit(self, Query *query, int64_t before, const farann_block *block) noexcept nogil:
        """Let new candidates through the filters; if there are many, thin them out."""
        cdef farann_candidates *list = &query.candidates
        self.passed += list.count - before
        farann_candidates_admit(list, before, block, &query.filter, &query.best,
                                2.0 * query.slack)
        if query.best.count == self.k:
            query.threshold = max(query.threshold, query.best.scores[self.k - 1] - query.slack)
        if list.count >= self.capacity or (
                query.threshold == -INFINITY and list.count >= 2 * self.k):
            self.thin_out(query)

    cdef const float *rows_at(self, const Segment *segment, int64_t start) noexcept nogil:
        if segment.positions != NULL:
            return segment.rows
        return segment.rows + start * self.snapshot.dim

    cdef farann_block block_of(self, const Segment *segment, int64_t start) noexcept nogil:
        cdef farann_block block
        block.first = segment.first
        block.positions, block.slots, block.end = NULL, NULL, self.snapshot.n_slots
        if segment.positions != NULL:
            block.positions = segment.positions + start
        else:
            block.first += start
        block.ids = self.snapshot.ids_by_slot
        return block

    cdef void score_exact(self, Query *query, const Segment *segment, int64_t start,
                          int64_t n) noexcept nogil:
        """Offer the canonical keys of rows start .. start + n of a segment."""
        cdef farann_block block = self.block_of(segment, start)
        self.snapshot.kernels.keys_f64[<int>self.snapshot.metric](
            self.rows_at(segment, start), block.positions, n, self.snapshot.dim,
            self.exact_query(query), self.keys)
        self.offer(query, n, &block, &query.filter)
        self.rescored += n

    cdef void offer(self, Query *query, int64_t n, const farann_block *block,
                    const farann_filter *filter) noexcept nogil:
        """Offer rows with `self.keys` to the answer, and raise the threshold."""
        cdef farann_topk *found = &query.found
        if self.beyond:
            self.collect(query, n, block, filter)
            return
        farann_topk_push_block(found, self.keys, n, self.sign, block, filter)
        self.raise_threshold(query)

    @cython.final
    cdef void raise_threshold(self, Query *query) noexcept nogil:
        """Make the k-th best key, if k are known, the threshold."""
        cdef const farann_topk *found = &query.found
        if found.count == found.capacity:
            query.threshold = max(
                query.threshold,
                found.entries[0].key * query.prepared.key_scale + query.prepared.key_offset)

    cdef void collect(self, Query *query, int64_t n, const farann_block *block,
                      const farann_filter *filter) noexcept nogil:
        """Append the rows that lie beyond the radius."""
        cdef farann_topk *found = &query.found
        cdef farann_entry *entries
        cdef double score
        cdef int64_t i, slot
        if found.count + n > found.capacity:
            found.capacity = 2 * found.capacity + n
            entries = <farann_entry *>farann_realloc(
                found.entries, found.capacity * sizeof(farann_entry))
            if entries == NULL:
                found.capacity = found.count
                self.out_of_memory = True
                return
            found.entries = entries
        for i in range(n):
            score = farann_score(self.snapshot.metric, self.keys[i], query.prepared.query_norm)
            slot = block.first + (block.positions[i] if block.positions != NULL else i)
            if (farann_is_beyond(self.snapshot.metric, score, query.radius)
                    and farann_filter_allows(filter, slot)):
                found.entries[found.count].key = self.keys[i]
                found.entries[found.count].id = block.ids[slot] if block.ids != NULL else slot
                found.count += 1

    cdef void thin_out(self, Query *query) noexcept nogil:
        """Drop candidates that can't belong to the answer; if most stay, get keys."""
        self.keep_best(query)
        if query.candidates.count > self.capacity // 2:
            self.rescore_best(query)
        if query.candidates.count > self.capacity // 2:
            self.rescore(query, 0)

    @cython.final
    cdef double keep_best(self, Query *query) noexcept nogil:
        """The k-th best rough score; less its slack, it bounds the k-th best key."""
        cdef double best
        if query.best.capacity:
            if query.best.count < self.k:
                return INFINITY
            best = query.best.scores[self.k - 1]
            farann_candidates_split(&query.candidates, best - 2.0 * query.slack, INFINITY)
            return best
        if self.beyond or query.candidates.count < self.k:
            return INFINITY
        best = farann_candidates_keep_best(&query.candidates, self.k, 2.0 * query.slack)
        query.threshold = max(query.threshold, best - query.slack)
        return best

    @cython.final
    cdef int64_t raise_thresholds(self, int64_t start) noexcept nogil:
        """Where the k best scores aren't kept sorted, look what they are; gives when to next."""
        cdef int64_t i
        if self.k > FEW_BEST:
            for i in range(self.n_queries):
                self.keep_best(&self.queries[i])
        return 2 * start

    cdef void rescore_best(self, Query *query) noexcept nogil:
        """Get the keys of the k best candidates, and drop those that these leave no place.

        Exact keys bound the k-th best key better, so that few other candidates need theirs.
        """
        cdef double best = self.keep_best(query)
        cdef int64_t first = farann_candidates_split(&query.candidates, -INFINITY, best)
        self.rescore(query, first)
        farann_candidates_split(&query.candidates, query.threshold - query.slack, INFINITY)

    cdef void rescore(self, Query *query, int64_t first) noexcept nogil:
        """Offer the canonical keys of the candidates from `first` on, and forget these."""
        cdef farann_filter admitted
        cdef farann_block block
        cdef int64_t i, n, slot, count = query.candidates.count
        cdef const int64_t *slots = query.candidates.slots
        cdef int64_t *positions = self.positions
        cdef int s
        cdef bint rough
        cdef const Segment *segment
        admitted.alive = NULL
        admitted.excluded.bits = 0
        admitted.n_met = 0
        for s in range(2):
            segment = &self.snapshot.segments[s]
            if segment.count == 0:
                continue
            rough = s == 0 and not self.snapshot.vectors
            block.first, block.positions, block.slots = segment.first, self.positions, NULL
            block.end = self.snapshot.n_slots
            block.ids = self.snapshot.ids_by_slot
            i = first
            while i < count and not self.stopped():
                n = 0
                while i < count and n < RESCORED_AT_ONCE:
                    slot = slots[i] - segment.first
                    if 0 <= slot < segment.count:
                        positions[n] = slot
                        if rough:
                            self.keys[n] = rough_key(&query.prepared, self.sign,
                                                     query.candidates.scores[i])
                        n += 1
                    i += 1
                if n == 0:
                    continue
                if not rough:
                    self.snapshot.kernels.keys_f64[<int>self.snapshot.metric](
                        segment.rows, self.positions, n, self.snapshot.dim,
                        self.exact_query(query), self.keys)
                    self.rescored += n
                    self.bytes_read += n * self.snapshot.dim * sizeof(float)
                self.offer(query, n, &block, &admitted)
        query.candidates.count = first

    cdef void finish(self) noexcept nogil:
        cdef Query *query
        cdef int64_t i
        for i in range(self.n_queries):
            if self.stopped():
                return
            query = &self.queries[i]
            if self.mode != EXACT:
                self.rescore_best(query)
                self.rescore(query, 0)
            if self.beyond or self.mode == EXACT:
                farann_entries_sort(query.found.entries, query.found.count, self.given_up)
                continue
            # Its candidates, which are done with, had room for four times k slots if k is large.
            farann_many_entries_sort(query.found.entries, query.found.count,
                                     <farann_entry *>query.candidates.slots, self.given_up)

    cdef double score_of(self, const Query *query, int64_t i) noexcept nogil:
        cdef double key = self.sign * query.found.entries[i].key
        if self.snapshot.metric == FARANN_L2:
            key = max(key, 0.0)  # that of a rough score may be less
        return farann_score(self.snapshot.metric, key, query.prepared.query_norm)

    def write_top(self, float[:, ::1] scores, int64_t[:, ::1] ids, int64_t start):
        """Write the answers to rows start, start + 1, ... of `scores` and `ids`."""
        cdef int64_t i
        cdef uint64_t before
        with nogil:
            before = farann_arithmetic_begin()
            for i in range(self.n_queries):
                self.write_answer(&self.queries[i], &scores[start + i, 0], &ids[start + i, 0],
                                  ids.shape[1])
            farann_arithmetic_end(before)

    cdef void write_answer(self, const Query *query, float *scores, int64_t *ids,
                           int64_t n) noexcept nogil:
        """Write n results, padded where fewer rows were found."""
        cdef int64_t j
        for j in range(n):
            if j < query.found.count:
                scores[j] = <float>self.score_of(query, j)
                ids[j] = query.found.entries[j].id
            else:
                scores[j], ids[j] = <float>NAN, -1

    def did(self):
        """What `SearchStats` has beside the number of queries."""
        return (self.scanned, self.refined, self.rescored, self.bytes_read, self.code_products,
                self.float_products, self.blocks, self.passed)

    def counts(self):
        """Rows found, by query."""
        cdef int64_t i
        return [self.queries[i].found.count for i in range(self.n_queries)]

    def write_beyond(self, float[::1] scores, int64_t[::1] ids, int64_t start):
        """Write all answers, query after query, from `start` on."""
        cdef int64_t i, j
        cdef uint64_t before
        cdef Query *query
        with nogil:
            before = farann_arithmetic_begin()
            for i in range(self.n_queries):
                query = &self.queries[i]
                for j in range(query.found.count):
                    scores[start] = <float>self.score_of(query, j)
                    ids[start] = query.found.entries[j].id
                    start += 1
            farann_arithmetic_end(before)

# Canonical keys of all rows of a block, where rough scores rule out too little. Part of _core.pyx.

cdef enum:
    # Keys of so many rows are compared with one threshold.
    KEYS_AT_ONCE = 256
    # Fewer queries take keys row by row: packing serves too few.
    FEW_KEYED = 3
    # If more than one row in so many passes by float32, float64 for all of them costs less: a row
    # that passes is kept in lists and fetched again. Squared differences take three operations
    # where a product takes one.
    MANY_PASS = 10
    MANY_PASS_L2 = 5
    # Of rows that are scored first, more than one in so many can't be told from the best. Later ones
    # may still rule them out, so that one costs no more than a key of so many coordinates.
    FEW_ALIKE = 4
    PASSES_AS_KEY = 512
    # A float64 product of a packed row is counted as so many in float32, or of l2 as so many.
    KEY_PRODUCTS = 2
    KEY_PRODUCTS_L2 = 6

# More than rounding moves a quotient by, and a product with a norm, relative to themselves.
cdef double QUOTIENT_ERROR = 2.0 ** -50
# Less than any product of float32 numbers other than 0; its product with a norm does not underflow.
cdef double NEARLY_ZERO = 1e-200


cdef class KeyRows(Selection):
    """Gives queries whose k-th key is shared, or nearly so, by many rows the keys of all rows.

    Float32 can't tell these rows apart, and would let all of them pass. Canonical keys and ids can.
    """

    cdef farann_key_panels key_panels
    cdef float *box_low     # the smallest of each coordinate of the block
    cdef float *box_high    # the largest
    cdef float *corner      # of these the ones whose key is best
    cdef double *key_tile   # some queries in float64, side by side
    cdef farann_key_bar *key_bars
    cdef int64_t *keyed     # queries that get the keys of the block; NULL: no memory so far
    cdef int64_t n_keyed
    cdef int64_t n_seen     # rows scanned before those of the segment
    cdef bint keys_follow   # blocks of codes, for queries that too many of their rows pass for
    cdef bint takes_alike   # whether rows are the first, see `admit_best`
    cdef int64_t n_near     # rows that would have passed, had they had no keys
    cdef int64_t alike      # and those of codes

    cdef bint keys_decide(self, const Query *query) noexcept nogil:
        """Whether a search is one that may go by keys: exact, for k rows, with vectors."""
        return (not self.beyond and self.epsilon == 0.0 and query.expected == -INFINITY
                and self.snapshot.vectors)

    cdef bint few_of(self, int64_t passed, int64_t n) noexcept nogil:
        """Whether so few of n rows pass that float32 costs less."""
        return passed * (MANY_PASS_L2 if self.snapshot.metric == FARANN_L2 else MANY_PASS) <= n

    cdef bint judge_rough(self, Query *query, int64_t passed, int64_t seen,
                          int64_t n) noexcept nogil:
        """Whether too many of n rows passed, after `seen` others: from now on keys decide.

        Of rows in any order n k / seen pass by themselves, some more or less.
        """
        if seen < self.k or self.few_of(passed - 2 * n * self.k // seen, n) or (
                not self.keys_decide(query)):
            return False
        if not self.allocate_keys():
            return False
        self.rescore_best(query)
        self.rescore(query, 0)
        query.by_keys = True
        return True

    cdef void admit_best(self, Query *query, const float *scores, int64_t n,
                         const farann_block *block) noexcept nogil:
        """As in `Selection`, but rows that codes can't tell from the best get keys.

        Where a filter leaves out the best, many pass for that reason alone.
        """
        cdef int64_t before = query.candidates.count, passed
        if not (self.takes_alike and self.filter.is_open() and self.keys_decide(query)):
            Selection.admit_best(self, query, scores, n, block)
            return
        self.select_best(query, scores, n, block)
        passed = query.candidates.count - before
        if (passed * FEW_ALIKE > n and passed * PASSES_AS_KEY > n * self.snapshot.dim
                and self.allocate_keys()):
            self.alike += passed
            query.candidates.count, query.by_keys = before, True
            return
        self.admit(query, before, block)

    cdef void count_scanned(self, int64_t n, int64_t n_queries) noexcept nogil:
        """Note that so many queries were scored for by n rows in full."""
        self.scanned += n * n_queries
        self.bytes_read += n * n_queries * self.snapshot.dim * <int64_t>sizeof(float)

    cdef void settle_keys(self) noexcept nogil:
        """After a whole block: rough scores will do again for queries that few rows came near."""
        cdef int64_t i
        cdef Query *query
        for i in range(self.n_queries):
            query = &self.queries[i]
            query.by_keys = query.by_keys and not query.keys_end
            query.keys_end = False

    cdef void take_keys(self, int64_t i) noexcept nogil:
        """Put a query among those that get the keys of the block."""
        self.keyed[self.n_keyed] = i
        self.n_keyed += 1

    cdef bint allocate_keys(self) noexcept nogil:
        """Room for packed rows in float64, once for all; whether there is."""
        cdef const farann_kernels *kernels = self.snapshot.kernels
        cdef int64_t dim = self.snapshot.dim, width = kernels.key_queries, i
        cdef int64_t rows = self.block_rows + kernels.key_rows if self.mode == PACKED else 0
        cdef double *memory
        if self.keyed != NULL:
            return True
        memory = <double *>self.allocated(
            rows * (dim + 3) + width * (dim + 2 * KEYS_AT_ONCE + sizeof(farann_key_bar) // 8)
            + self.n_queries + 2 * dim, sizeof(double), False)
        if memory == NULL:
            self.out_of_memory = True
            return False
        self.key_panels.rows, self.key_panels.dim = memory, dim
        self.key_panels.norms = memory + rows * dim
        self.key_panels.ids = self.key_panels.norms + rows
        self.key_panels.first_ids = self.key_panels.ids + rows
        self.key_tile = self.key_panels.first_ids + rows
        memory = self.key_tile + width * dim
        self.key_bars = <farann_key_bar *>(memory + width * 2 * KEYS_AT_ONCE)
        for i in range(width):
            self.key_bars[i].keys = memory + 2 * i * KEYS_AT_ONCE
            self.key_bars[i].rows = <int64_t *>(self.key_bars[i].keys + KEYS_AT_ONCE)
        self.keyed = <int64_t *>(self.key_bars + width)
        self.box_low = <float *>(self.keyed + self.n_queries)
        self.box_high = self.box_low + dim
        self.corner = self.box_high + dim
        return True

    cdef void score_keyed(self, Query *query, const Segment *segment, int64_t start,
                          int64_t n) noexcept nogil:
        """Offer the keys of a block, row by row."""
        cdef double near = self.near_key(query)
        cdef int64_t i, n_near = 0
        self.score_exact(query, segment, start, n)
        for i in range(n):
            n_near += self.sign * self.keys[i] > near
        self.n_near += n_near
        query.keys_end = self.few_of(2 * n_near, n)

    cdef int64_t scan_keys(self, const Segment *segment, int64_t start, int64_t n) noexcept nogil:
        """Offer the keys of a block to the queries in `self.keyed`; gives how many need none."""
        cdef const farann_kernels *kernels = self.snapshot.kernels
        cdef int64_t at = 0, count, i, width = kernels.key_queries
        cdef farann_block block = self.block_of(segment, start)
        cdef int64_t n_left_out = self.leave_out_box(&block, self.rows_at(segment, start), n)
        if self.n_keyed < FEW_KEYED:
            for i in range(self.n_keyed):
                self.score_keyed(&self.queries[self.keyed[i]], segment, start, n)
            return n_left_out
        self.pack_keys(&block, self.rows_at(segment, start), n)
        while at < self.n_keyed and not self.stopped():
            count = min(width, self.n_keyed - at)
            self.scan_key_tile(&self.keyed[at], count, &block, n)
            self.float_products += n * width * self.snapshot.dim * (
                KEY_PRODUCTS_L2 if self.snapshot.metric == FARANN_L2 else KEY_PRODUCTS)
            self.blocks += count
            at += count
        return n_left_out

    cdef int64_t leave_out_box(self, const farann_block *block, const float *rows,
                               int64_t n) noexcept nogil:
        """Forget the queries in `self.keyed` that no row of a block can answer; gives how many."""
        cdef int64_t n_before = self.n_keyed
        cdef int64_t i, slot, kept = 0, id, first_id = INT64_MAX
        cdef bint wanted = False
        cdef Query *query
        for i in range(self.n_keyed):
            query = &self.queries[self.keyed[i]]
            wanted |= query.box_pause == 0 and query.found.count == query.found.capacity
        if not wanted:
            for i in range(self.n_keyed):
                query = &self.queries[self.keyed[i]]
                query.box_pause -= query.box_pause > 0
            return 0
        self.snapshot.kernels.box_f32(rows, block.positions, n, self.snapshot.dim, self.box_low,
                                      self.box_high)
        for i in range(n):
            slot = block.first + (block.positions[i] if block.positions != NULL else i)
            id = block.ids[slot] if block.ids != NULL else slot
            first_id = min(first_id, id)
        for i in range(self.n_keyed):
            query = &self.queries[self.keyed[i]]
            if query.box_pause > 0:
                query.box_pause -= 1
            elif query.found.count == query.found.capacity:
                if self.box_is_worse(query, first_id):
                    query.next_box_pause = 0
                    continue
                query.next_box_pause = min(2 * query.next_box_pause + 1, LONGEST_PAUSE)
                query.box_pause = query.next_box_pause
            self.keyed[kept] = self.keyed[i]
            kept += 1
        self.n_keyed = kept
        return n_before - kept

    cdef bint box_is_worse(self, const Query *query, int64_t first_id) noexcept nogil:
        """Whether every row in the box, none with an id before `first_id`, has a key too small.

        Rounding keeps order: sums of terms that are none larger, added in the same order, are none
        larger. So the computed key of the best corner bounds the computed keys of all rows.
        """
        cdef const farann_entry *last = &query.found.entries[0]
        cdef const double *exact = self.exact_query(query)
        cdef farann_metric metric = self.snapshot.metric
        cdef double key
        cdef int64_t j
        for j in range(self.snapshot.dim):
            if metric != FARANN_L2:
                self.corner[j] = self.box_low[j] if self.sign * exact[j] > 0.0 else self.box_high[j]
            elif self.sign > 0.0:
                if fabs(exact[j] - self.box_low[j]) > fabs(exact[j] - self.box_high[j]):
                    self.corner[j] = self.box_low[j]
                else:
                    self.corner[j] = self.box_high[j]
            else:
                self.corner[j] = <float>min(max(exact[j], <double>self.box_low[j]),
                                            <double>self.box_high[j])
        if metric == FARANN_COSINE:
            metric = FARANN_DOT
        self.snapshot.kernels.keys_f64[<int>metric](self.corner, NULL, 1, self.snapshot.dim, exact,
                                                    &key)
        key *= self.sign
        if self.packing.unit:
            # What is not above 0 is not after dividing by a norm.
            key = 0.0 if key <= 0.0 else INFINITY
        return key < last.key or (key == last.key and first_id > last.id)

    cdef void pack_keys(self, const farann_block *block, const float *rows,
                        int64_t n) noexcept nogil:
        cdef int64_t i, slot, width = self.snapshot.kernels.key_rows
        cdef double *first = self.key_panels.first_ids
        cdef double id
        self.snapshot.kernels.pack_rows_f64(
            rows, block.positions, n, self.snapshot.dim, self.packing.unit, self.key_panels.rows,
            self.key_panels.norms)
        for i in range(n):
            slot = block.first + (block.positions[i] if block.positions != NULL else i)
            id = <double>(block.ids[slot] if block.ids != NULL else slot)
            self.key_panels.ids[i] = id
            first[i // width] = id if i % width == 0 else min(first[i // width], id)
        for i in range(n, (n + width - 1) // width * width):
            self.key_panels.ids[i] = INFINITY

    cdef void scan_key_tile(self, const int64_t *members, int64_t count, const farann_block *block,
                            int64_t n) noexcept nogil:
        cdef int64_t width = self.snapshot.kernels.key_queries, dim = self.snapshot.dim, start = 0
        cdef int64_t i, j, step
        cdef int64_t near[16]
        cdef farann_key_bar *bar
        cdef Query *query
        for i in range(count):
            query, near[i] = &self.queries[members[i]], 0
            for j in range(dim):
                self.key_tile[j * width + i] = query.given[j]
        for i in range(count, width):
            for j in range(dim):
                self.key_tile[j * width + i] = 0.0
        while start < n:
            step = KEYS_AT_ONCE
            for i in range(count):
                query = &self.queries[members[i]]
                self.set_key_bar(&self.key_bars[i], query)
                if query.found.count < query.found.capacity:
                    # All pass until there are k: then there is something to compare with.
                    step = self.snapshot.kernels.key_rows
            step = min(step, n - start)
            self.snapshot.kernels.scan_keys_f64[<int>self.snapshot.metric](
                &self.key_panels, start, step, self.key_tile, self.sign, <int>count, self.key_bars)
            for i in range(count):
                bar, query = &self.key_bars[i], &self.queries[members[i]]
                near[i] += bar.n_near
                self.rescored += bar.count
                farann_topk_push_rows(&query.found, bar.keys, bar.rows, bar.count, block,
                                      &query.filter)
                self.raise_threshold(query)
            start += step
        for i in range(count):
            query = &self.queries[members[i]]
            self.n_near += near[i]
            query.keys_end = self.few_of(2 * near[i], n)

    cdef void set_key_bar(self, farann_key_bar *bar, const Query *query) noexcept nogil:
        """What keys times the sign are compared with, by what has been found so far."""
        cdef double lost
        bar.n_near, bar.count = 0, 0
        bar.least = bar.just_below = bar.near = -INFINITY
        bar.last_id, bar.beyond = INFINITY, -INFINITY
        if query.found.count < query.found.capacity:
            return
        bar.least, bar.last_id = query.found.entries[0].key, <double>query.found.entries[0].id
        lost = fabs(bar.least) * QUOTIENT_ERROR
        bar.beyond = 0.5 * (nextafter(bar.least, INFINITY) - bar.least) * (1.0 - QUOTIENT_ERROR)
        bar.just_below = bar.least - (lost if self.packing.unit else 0.0)
        bar.near = min(self.near_key(query), bar.least - 2.0 * lost - NEARLY_ZERO)

    cdef double near_key(self, const Query *query) noexcept nogil:
        """Keys times the sign above this would pass by float32, give or take the slack."""
        return ((query.threshold - query.slack - query.prepared.key_offset)
                / query.prepared.key_scale)

    cdef void scan_keys_at(self, int64_t start, int64_t n, bint counted) noexcept nogil:
        """Score rows at some positions by keys for queries that get these.

        `counted`: as scanned, as they were scored by codes before.
        """
        cdef Segment rows = self.snapshot.segments[0]
        cdef int64_t i, slot, at = 0, n_rows, n_scored, near
        if self.list_keyed() == 0:
            return
        rows.count, rows.positions = 0, self.positions
        for i in range(start, start + n):
            slot = i if self.codes.slots is None else self.codes.slots[i]
            if 0 <= slot < self.codes.n_rows:
                self.positions[rows.count] = slot
                rows.count += 1
        while at < rows.count and not self.stopped():
            n_rows, n_scored = min(self.block_rows, rows.count - at), self.list_keyed()
            near = self.n_near
            n_scored -= self.scan_keys(&rows, at, n_rows)
            if not counted:
                self.count_scanned(n_rows, n_scored)
                self.alike += self.n_near - near
            at += n_rows
        self.settle_keys()

    cdef int64_t list_keyed(self) noexcept nogil:
        """Put the active queries that get keys into `self.keyed`; gives how many these are."""
        cdef int64_t i
        self.n_keyed = 0
        for i in range(self.n_active):
            if self.queries[self.active[i]].by_keys:
                self.take_keys(self.active[i])
        return self.n_keyed

    cdef void end_keys(self) noexcept nogil:
        """From here on nobody looks for keys: what is scanned next is scanned for all queries."""
        cdef int64_t i
        self.keys_follow = False
        for i in range(self.n_queries):
            self.queries[i].by_keys = False

# One block of coded rows: scanned for tiles of queries, scored again. Part of _core.pyx.

cdef class CodedBlocks(KeyRows):
    """Scans blocks of codes, of their upper halves or along a basis, and refines what passes."""

    cdef void scan_codes(self, int64_t start, int64_t n) noexcept nogil:
        """Score rows at some positions by their 8-bit codes, a tile of queries at a time."""
        cdef int64_t first = 0, count, i, width = self.code_width
        self.take_block(start, n, (self.n_queries + width - 1) // width)
        while first < self.n_queries and not self.stopped():
            count = min(width, self.n_queries - first)
            for i in range(count):
                self.members[i] = first + i
            self.scan_code_tile(self.tile_of(first), width, count, start, n)
            first += width

    cdef void scan_for_members(self, int64_t width, int64_t count, int64_t start,
                               int64_t n) noexcept nogil:
        """Scan the block for a tile of any queries, the first `count` of `self.members`."""
        cdef const uint32_t *codes = self.tile_codes
        if width == 1:
            codes = self.single_codes(self.members[0])
        else:
            self.snapshot.kernels.gather_codes(self.codes_of, self.members, count,
                                               self.codes.scanned.groups, self.tile_codes)
        self.scan_code_tile(codes, width, count, start, n)

    cdef void take_block(self, int64_t start, int64_t n, int64_t n_tiles) noexcept nogil:
        """Make rows at some positions those that are scanned, by so many tiles."""
        cdef const farann_coded_rows *rows = &self.codes.scanned
        cdef int64_t panel = start // FARANN_CODE_PANEL
        cdef int64_t at = panel * FARANN_CODE_PANEL * self.codes.panels.shape[1]
        self.block = rows[0]
        self.block.weights += panel
        if rows.unknown != NULL:
            self.block.unknown += panel
        if rows.squares != NULL:
            self.block.squares += start
        self.block.panels += at
        self.take_mean(start)
        if rows.lower == NULL:
            return
        if n_tiles > self.snapshot.kernels.few_tiles and self.joined != NULL:
            self.snapshot.kernels.join_codes_i8(rows, start, n, self.joined)
            self.block.panels, self.block.lower = self.joined, NULL
        else:
            self.block.lower += at

    cdef void take_mean(self, int64_t position) noexcept nogil:
        """Make the mean of a position's cell that of the block."""
        if self.mean != NULL:
            self.mean_unit = self.snapshot.cells.write_mean(position, self.mean)

    cdef int64_t of_one_mean(self, int64_t start, int64_t n) noexcept nogil:
        """How many of n rows from a position on were coded relative to the same mean."""
        cdef int64_t begun
        if self.mean == NULL:
            return n
        begun = self.snapshot.cells.begun(start)
        if begun > self.snapshot.cells.n_cells:
            return n
        return min(n, self.snapshot.cells.starts[begun] - start)

    cdef double offset_of(self, int64_t i) noexcept nogil:
        """What the mean adds to scores of the block for query i."""
        return self.mean_unit * self.queries[i].scan.unit * farann_code_product(
            self.single_codes(i), self.mean, self.codes.groups)

    cdef void add_offsets(self, int64_t count) noexcept nogil:
        """Add what means do to scores that the scan of a tile appended."""
        cdef farann_candidates *list
        cdef int64_t i, j
        for i in range(count):
            list = &self.candidates[i]
            for j in range(self.queries[self.members[i]].candidates.count, list.count):
                list.scores[j] = <float>(list.scores[j] + self.offsets[i])

    @cython.final
    cdef void scan_code_tile(self, const uint32_t *codes, int64_t width, int64_t count,
                             int64_t start, int64_t n) noexcept nogil:
        """Scan the block for one tile, whose queries are the first `count` of `self.members`."""
        cdef farann_block block = self.coded_block(start)
        cdef int64_t i, n_coded = 0, n_rows = min(n, self.codes.n_filled - start)
        cdef bint single = width == 1
        cdef bint upper = self.codes.upper_alone or (
            single and self.upper_first(&self.queries[self.members[0]]))
        cdef farann_coded_tile tile
        cdef double offset = 0.0
        cdef Query *query
        for i in range(count):
            query = &self.queries[self.members[i]]
            self.candidates[i] = query.candidates
            if query.by_keys:
                farann_code_bars_set(&self.bars, i, &self.no_bar)
                continue
            n_coded += query.coded
            if self.mean_unit != 0.0:
                offset = self.offsets[i] = self.offset_of(self.members[i])
            self.raise_bar(query, UPPER_HALVES if upper else WHOLE_CODES, offset)
            farann_code_bars_set(&self.bars, i, &query.bar)
        for i in range(count, width):
            farann_code_bars_set(&self.bars, i, &self.no_bar)
        if n_coded == 0:
            return
        tile.codes, tile.bars, tile.ahead = codes, &self.bars, &self.ahead
        self.scan_function(single, upper)(&self.block, 0, n, &tile, self.candidates)
        if self.keys_follow and not single and start >= max(FEWEST_JUDGED, 16 * self.k):
            self.give_up_codes_of(count, start, n_rows)
        if self.mean_unit != 0.0:
            self.add_offsets(count)
        self.scanned += n_rows * n_coded
        self.count_products(n * width, self.codes.scanned.groups, count)
        self.bytes_read += n_rows * n_coded * self.code_bytes_of_row(upper)
        if self.filter.alive != NULL and (
                self.codes.has_basis or (upper and not self.codes.upper_alone)):
            # To see whether a row is allowed costs less than to fetch its other codes.
            for i in range(count):
                query = &self.queries[self.members[i]]
                farann_candidates_drop(&self.candidates[i], query.candidates.count, &block,
                                       &query.filter)
        if self.codes.has_basis:
            self.refine(count, start, NULL)
        elif upper and not self.codes.upper_alone:
            query = &self.queries[self.members[0]]
            self.judge_upper(query, self.candidates[0].count - query.candidates.count, n)
            self.defer(query, start)
            self.refine(1, start, codes)
            if query.deferred.count > DEFERRED:
                self.admit_tile(count, &block)
                self.refine_deferred(self.members[0], codes)
                return
        self.admit_tile(count, &block)

    @cython.final
    cdef void give_up_codes_of(self, int64_t count, int64_t start, int64_t n) noexcept nogil:
        """Drop what passed for queries of a tile if it is too much; these get keys instead."""
        cdef int64_t i, passed
        cdef Query *query
        for i in range(count):
            query = &self.queries[self.members[i]]
            passed = self.candidates[i].count - query.candidates.count
            if passed > 0 and self.judge_rough(query, passed, start, n):
                self.alike += passed
                self.candidates[i].count = query.candidates.count

    @cython.final
    cdef void raise_bar(self, Query *query, int level, double offset) noexcept nogil:
        """Make the bar that of the threshold, for scores that lack the offset."""
        cdef double floor = self.wanted(query) - offset
        if floor == query.bar_floor and level == query.bar_level:
            return
        query.bar_floor, query.bar_level = floor, level
        query.bar = farann_code_bar_at(&query.scan, &self.codes.scan_bounds, floor, self.sign,
                                       level == UPPER_HALVES)

    @cython.final
    cdef farann_scan_codes *scan_function(self, bint single, bint upper) noexcept nogil:
        cdef const farann_kernels *kernels = self.snapshot.kernels
        if upper:
            return kernels.scan_upper_one_i4 if single else kernels.scan_upper_i4
        return kernels.scan_codes_one_i8 if single else kernels.scan_codes_i8

    @cython.final
    cdef void count_products(self, int64_t n, int64_t groups, int64_t blocks) noexcept nogil:
        """Note n rough scores by codes of so many groups."""
        self.code_products += n * groups * FARANN_CODE_GROUP
        self.blocks += blocks

    @cython.final
    cdef int64_t code_bytes_of_row(self, bint upper) noexcept nogil:
        """Bytes that a scan reads of a row."""
        cdef int64_t n = self.codes.panels.shape[1]
        if not upper and self.codes.scanned.lower != NULL:
            n *= 2
        return n if self.codes.scanned.squares == NULL else n + <int64_t>sizeof(float)

    cdef bint upper_first(self, Query *query) noexcept nogil:
        """Whether to read the upper halves of codes first: not before there is a threshold.

        Nor for a query that is alone only for once, which has no room for rows to put off.
        """
        if query.deferred.slots == NULL or query.threshold == -INFINITY:
            return False
        if query.pause > 0:
            query.pause -= 1
            return False
        return True

    cdef void judge_upper(self, Query *query, int64_t passed, int64_t n) noexcept nogil:
        if passed * FEW_PASS > n:
            query.next_pause = min(2 * query.next_pause + 1, LONGEST_PAUSE)
            query.pause = query.next_pause

    cdef void defer(self, Query *query, int64_t start) noexcept nogil:
        """Put off rows that passed, but by the middle of what they may be are no answer yet.

        In the end, when the threshold is as good as it gets, fewer of them are worth a look.
        """
        cdef farann_candidates *passed = &self.candidates[0]
        cdef farann_candidates *deferred = &query.deferred
        cdef const farann_coded_rows *rows = &self.codes.scanned
        cdef int64_t i, position, panel, kept = query.candidates.count
        cdef double floor = self.wanted(query)
        cdef float score, square = 0.0
        for i in range(kept, passed.count):
            position = start + passed.slots[i]
            panel = position // FARANN_CODE_PANEL
            if rows.squares != NULL:
                square = <float>self.sign * rows.squares[position]
            score = farann_code_score(&query.bar, passed.scores[i], rows.weights[panel], square)
            if score >= floor:
                passed.slots[kept], passed.scores[kept] = passed.slots[i], passed.scores[i]
                kept += 1
                continue
            deferred.slots[deferred.count] = position
            deferred.scores[deferred.count] = passed.scores[i]
            deferred.count += 1
        passed.count = kept

    cdef void refine_all_deferred(self) noexcept nogil:
        cdef int64_t i
        for i in range(self.n_queries):
            if self.stopped():
                return
            if self.queries[i].deferred.count:
                self.refine_deferred(i, self.single_codes(i))

    @cython.final
    cdef const uint32_t *single_codes(self, int64_t i) noexcept nogil:
        """The codes of query i side by side."""
        return self.codes_of + i * self.codes.scanned.groups

    cdef void refine_deferred(self, int64_t i, const uint32_t *codes) noexcept nogil:
        """Score those rows that were put off and may still belong to the answer."""
        cdef Query *query = &self.queries[i]
        cdef farann_candidates *deferred = &query.deferred
        cdef farann_candidates *passed = &self.candidates[0]
        cdef farann_block block = self.coded_block(0)
        cdef int64_t j = 0
        cdef farann_code_bar bar
        while j < deferred.count:
            self.candidates[0], self.members[0] = query.candidates, i
            bar = farann_code_bar_at(&query.whole, &self.codes.bounds, self.wanted(query),
                                     self.sign, True)
            while j < deferred.count and passed.count < query.candidates.count + FIRST_BLOCK:
                if farann_code_passes(&bar, &self.codes.scanned, deferred.slots[j],
                                      deferred.scores[j]):
                    passed.slots[passed.count] = deferred.slots[j]
                    passed.scores[passed.count] = deferred.scores[j]
                    passed.count += 1
                j += 1
            self.refine(1, 0, codes)
            self.admit_tile(1, &block)
        deferred.count = 0

    cdef void refine(self, int64_t count, int64_t start, const uint32_t *codes) noexcept nogil:
        """Score again, by the whole codes, what a tile's scan has left.

        `codes` are those of a single query; NULL: all members have some of their own.
        """
        cdef farann_coded_tile tile
        cdef farann_code_bars bars
        cdef farann_code_bar bar
        cdef int64_t i, n
        cdef Query *query
        tile.bars, bars.sign = &bars, self.bars.sign
        for i in range(count):
            query = &self.queries[self.members[i]]
            n = self.candidates[i].count - query.candidates.count
            if n == 0:
                continue
            self.refined += n
            self.bytes_read += n * self.codes.groups * FARANN_CODE_GROUP
            bar = farann_code_bar_at(&query.whole, &self.codes.bounds, self.wanted(query),
                                     self.sign, False)
            farann_code_bars_set(&bars, 0, &bar)
            tile.codes = codes
            if codes == NULL:
                tile.codes = self.whole_queries + self.members[i] * self.codes.groups
            self.snapshot.kernels.refine_codes_i8(
                &self.codes.refined, start, &tile, &self.candidates[i], query.candidates.count)

    @cython.final
    cdef farann_block coded_block(self, int64_t start) noexcept nogil:
        cdef farann_block block
        block.first, block.positions, block.ids = start, NULL, self.snapshot.ids_by_slot
        block.slots, block.end = NULL, self.codes.n_rows
        if self.codes.slots is not None:
            block.slots = &self.codes.slots[start]
        return block

# All coded rows: which come first, which queries need the next. Part of _core.pyx.

# Codes are given up if what passes will cost so many times what they save.
cdef double SURELY = 1.5


cdef class CodedRows(CodedBlocks):
    """Scores all coded rows of a snapshot, block by block, and those without codes."""

    cdef int64_t first, end  # of the rows to search, where these aren't all
    cdef bint by_reach  # whether rows lie by it, and it tells of what is asked
    cdef uint8_t *whole_panels  # with a basis: whole codes of a block; NULL: there is a first look
    cdef float *whole_weights   # of these panels

    def __cinit__(self):
        self.first, self.end = 0, INT64_MAX

    cdef allocate_codes(self):
        CodedBlocks.allocate_codes(self)
        self.see_reach()

    cdef void see_reach(self) noexcept nogil:
        # What is nearest under l2 may have any length.
        self.by_reach = self.codes.reach is not None and (
            self.sign > 0.0 or self.snapshot.metric != FARANN_L2)

    cdef int64_t scan_all_codes(self) noexcept nogil:
        """Score all coded rows, as `scan` does; gives the position from which codes don't pay."""
        cdef int64_t end = min(self.end, self.codes.n_positions), start = self.first, n
        cdef int64_t ramp, stale = 0, refined
        if start == 0:
            start = self.scan_first_rows(end)
        ramp = max(min(start, self.code_rows), FIRST_BLOCK)
        # A first look lets many pass by itself, and of rows in cells as many as k may be answers.
        self.keys_follow = not self.codes.has_basis and self.k <= FEW_BEST
        while start < end and not self.stopped():
            if start >= stale:
                stale = self.raise_thresholds(start)
                # Later rows have the judgment of the first.
                if self.first == 0 and start >= max(FEWEST_JUDGED, 16 * self.k) and (
                        self.will_cost_too_much(start, self.codes.n_positions - start)):
                    self.end_keys()
                    return start
            n = self.of_one_mean(start, min(min(self.code_rows, ramp), end - start))
            self.keep_active(start)
            refined = self.refined
            if self.n_active == 0:
                break
            elif self.whole_panels != NULL and self.pack_whole(start, n):
                self.scan_whole(start, n)
            elif self.n_active == self.n_queries:
                self.scan_codes(start, n)
            else:
                self.scan_for_active(start, n)
            self.judge_look(self.refined - refined, n)
            self.scan_keys_at(start, n, False)
            ramp = min(2 * ramp, self.code_rows)
            start += n
        self.end_keys()
        return self.codes.n_positions

    cdef void judge_look(self, int64_t refined, int64_t n) noexcept nogil:
        """If a first look at n rows let so many pass that whole codes cost less, look no more."""
        if (self.codes.has_basis and self.whole_panels == NULL and self.code_width > 1
                and n == self.code_rows
                and refined * self.cost_refined > SURELY * n * self.n_active * self.cost_whole):
            self.whole_panels = <uint8_t *>self.allocated(
                n, self.codes.groups * FARANN_CODE_GROUP + sizeof(float), False)
            self.whole_weights = <float *>(
                self.whole_panels + n * self.codes.groups * FARANN_CODE_GROUP)

    cdef bint pack_whole(self, int64_t start, int64_t n) noexcept nogil:
        """Put whole codes of n rows into panels; False: these must have one weight, and don't."""
        cdef const float *weights = self.codes.refined.weights + start
        cdef int64_t i, groups = self.codes.groups
        for i in range(n):
            if weights[i] != weights[i - i % FARANN_CODE_PANEL]:
                return False
            self.whole_weights[i // FARANN_CODE_PANEL] = weights[i]
            self.positions[i] = i
        farann_pack_codes(self.codes.refined.whole + start * groups * FARANN_CODE_GROUP,
                          self.positions, n, groups, False, self.whole_panels, NULL)
        return True

    cdef void scan_whole(self, int64_t start, int64_t n) noexcept nogil:
        """Scan the whole codes that `pack_whole` has laid out for the queries that are active."""
        cdef int64_t at = 0, count, i, width = self.code_width, groups = self.codes.groups
        cdef int64_t n_coded
        cdef farann_coded_rows rows = self.codes.refined
        cdef farann_block block = self.coded_block(start)
        cdef farann_coded_tile tile
        rows.panels, rows.weights, rows.whole = self.whole_panels, self.whole_weights, NULL
        if rows.squares != NULL:
            rows.squares += start
        tile.bars, tile.ahead, tile.codes = &self.bars, NULL, self.hub_queries
        while at < self.n_active and not self.stopped():
            count, n_coded = min(width, self.n_active - at), 0
            for i in range(count):
                self.members[i] = self.active[at + i]
                n_coded += self.queries[self.members[i]].coded
            self.snapshot.kernels.gather_codes(self.whole_queries, self.members, count, groups,
                                               self.hub_queries)
            self.set_whole_bars(count)
            self.snapshot.kernels.scan_codes_i8(&rows, 0, n, &tile, self.candidates)
            self.count_products(n * width, groups, count)
            self.scanned += min(n, self.codes.n_filled - start) * n_coded
            self.bytes_read += n * n_coded * groups * FARANN_CODE_GROUP
            self.admit_tile(count, &block)
            at += count

    cdef void set_whole_bars(self, int64_t count) noexcept nogil:
        """Bars for whole codes, of a tile whose queries are the first `count` of `self.members`."""
        cdef int64_t i
        cdef farann_code_bar bar
        cdef const Query *query
        for i in range(self.code_width):
            bar = self.no_bar
            if i < count:
                query = &self.queries[self.members[i]]
                self.candidates[i] = query.candidates
                if query.coded and not query.by_keys:
                    bar = farann_code_bar_at(&query.whole, &self.codes.bounds,
                                             self.wanted(query), self.sign, False)
            farann_code_bars_set(&self.bars, i, &bar)

    cdef bint will_cost_too_much(self, int64_t start, int64_t left) noexcept nogil:
        """Whether rows that codes let pass of those that are left will cost more than codes save.

        Of the first 16 k rows some 6 k pass in any case, until there is a good threshold, and later
        about k each time as many rows again were scanned. Where codes serve, those that pass beside
        these become as rare; where they don't, as many pass of rows that come later.
        """
        cdef int64_t n = start - self.judged, usual = self.k
        cdef double saved = left
        cdef double cost = self.cost_so_far(), share, falls = 0.5, expected = 0.0
        if self.judged == 0:
            # Where rows lie by reach the first pass, whatever the rest does.
            usual = start if self.by_reach else 6 * self.k + ALWAYS_PASS
        share = ((cost - self.cost_judged) / self.n_queries
                 - usual * (self.cost_passed + self.cost_rescored)) / n
        if self.share_judged > 0.0:
            falls = min(max(share / self.share_judged, falls), 1.0)
        self.share_judged = share if self.judged else 0.0
        self.judged, self.cost_judged = start, cost
        if share <= 0.0 or not self.all_look_on():
            return False
        n = start
        while left > 0:
            share *= falls
            expected += share * min(n, left)
            left -= n
            n *= 2
        return expected > SURELY * saved

    cdef bint all_look_on(self) noexcept nogil:
        """Whether all queries have codes, and rows in reach: of others all is known."""
        cdef int64_t i
        for i in range(self.n_queries):
            if not self.queries[i].coded:
                return False
        return self.n_active == self.n_queries

    cdef double cost_so_far(self) noexcept nogil:
        """What rows that codes did not rule out have cost, see `Queries`."""
        return ((self.passed + self.alike) * self.cost_passed + self.refined * self.cost_refined
                + (self.rescored + self.alike) * self.cost_rescored)

    cdef int64_t scan_first_rows(self, int64_t most) noexcept nogil:
        """Score some rows, up to `most`, that set the threshold; gives how many."""
        cdef int64_t first = 0, count, i, width = self.code_width
        cdef int64_t n = self.to_be_scored(most)
        cdef farann_coded_tile tile
        cdef Query *query
        if self.codes.has_basis:
            return self.scan_hubs(most)
        if n == 0:
            return 0
        self.take_block(0, n, (self.n_queries + width - 1) // width)
        tile.bars, self.takes_alike = &self.bars, True
        while first < self.n_queries and not self.stopped():
            count = min(width, self.n_queries - first)
            for i in range(count):
                query = &self.queries[first + i]
                self.members[i] = first + i
                self.raise_bar(query, WHOLE_CODES, 0.0)
                farann_code_bars_set(&self.bars, i, &query.bar)
            tile.codes = self.tile_of(first)
            self.scanned += n * self.score_tile(&self.block, &tile, count, n)
            first += width
        self.bytes_read += self.scanned * self.code_bytes_of_row(False)
        self.scan_keys_at(0, n, True)
        self.takes_alike = False
        for i in range(self.n_queries):
            # Keys have set a threshold: the next rows show whether codes will do.
            self.queries[i].by_keys = False
        return n

    cdef int64_t to_be_scored(self, int64_t most) noexcept nogil:
        """How many first rows, of up to `most`, to score all of."""
        cdef int64_t n = min(self.n_scored, most)
        return n - n % FARANN_SCORE_GROUPS if n >= LEAST_SCORED else 0

    cdef int64_t score_tile(self, const farann_coded_rows *rows, const farann_coded_tile *tile,
                            int64_t count, int64_t n) noexcept nogil:
        """Score the first n rows for a tile, and admit the best; gives how many queries do.

        A threshold that is good from the start spares most rows the way through the lists.
        """
        cdef farann_block block = self.coded_block(0)
        cdef int64_t i, n_coded = 0, before
        cdef const float *scores
        cdef Query *query
        self.snapshot.kernels.score_codes_i8(rows, n, tile, self.scores)
        self.count_products(n * self.code_width, self.codes.groups, count)
        for i in range(count):
            query = &self.queries[self.members[i]]
            if not query.coded:
                continue
            n_coded += 1
            scores = self.scores + i * n
            if query.expected == -INFINITY:
                self.admit_best(query, scores, n, &block)
                continue
            before = query.candidates.count
            self.snapshot.kernels.select_f32(scores, n, self.threshold_for(query, 0.0),
                                             &query.candidates)
            self.admit(query, before, &block)
        return n_coded

    cdef int64_t scan_hubs(self, int64_t most) noexcept nogil:
        """With a basis: score the first rows, up to `most`, by whole codes; gives how many.

        A first look would let most of them pass.
        """
        cdef int64_t first = 0, count, i, width = self.code_width, groups = self.codes.groups
        cdef int64_t n_rows = min(self.codes.n_hubs, most), start, n, n_coded
        cdef int64_t n_scored = self.to_be_scored(n_rows)
        cdef farann_coded_tile tile
        cdef farann_block block
        tile.bars, tile.ahead = &self.bars, NULL
        while n_rows and first < self.n_queries and not self.stopped():
            count, n_coded = min(width, self.n_queries - first), 0
            for i in range(count):
                self.members[i] = first + i
                n_coded += self.queries[first + i].coded
            tile.codes = self.whole_queries + first * groups
            if width > 1:
                tile.codes = self.hub_queries
                self.snapshot.kernels.gather_codes(self.whole_queries, self.members, count, groups,
                                                   self.hub_queries)
            start = 0
            while start < n_rows:
                n = min(max(start, FIRST_BLOCK), n_rows - start)
                if start == 0 and n_scored:
                    n = n_scored
                self.set_whole_bars(count)
                if start == 0 and n_scored:
                    self.score_tile(&self.codes.hubs, &tile, count, n)
                else:
                    self.scan_function(width == 1, False)(&self.codes.hubs, start, n, &tile,
                                                          self.candidates)
                    self.count_products(n * width, groups, count)
                    block = self.coded_block(start)
                    self.admit_tile(count, &block)
                start += n
            n = min(n_rows, self.codes.n_filled)
            self.scanned += n * n_coded
            self.bytes_read += n * n_coded * (
                groups * FARANN_CODE_GROUP + (sizeof(float) if self.codes.hubs.squares else 0))
            first += width
        return n_rows

    cdef void keep_active(self, int64_t start) noexcept nogil:
        """Where rows lie by reach: forget the queries that no row from a position on can answer."""
        cdef int64_t i, kept = 0, panel = start // FARANN_CODE_PANEL
        cdef const Query *query
        if not self.by_reach:
            return
        for i in range(self.n_active):
            query = &self.queries[self.active[i]]
            self.active[kept] = self.active[i]
            kept += query.coded and (
                self.most_from(panel, query) + query.whole.slack >= self.wanted(query))
        self.n_active = kept

    cdef double most_from(self, int64_t panel, const Query *query) noexcept nogil:
        """The reduced key that rows from a panel on have at most."""
        cdef double reach = self.codes.reach[panel], along
        cdef double length = query.prepared.weight_norm
        if self.snapshot.metric == FARANN_L2:
            return (length * reach + reach * reach) * BOUND_UP
        if self.codes.lead is None:
            return length * reach * BOUND_UP
        # Backwards rows may lie as far as any does.
        along = query.along * (self.codes.reach_along[panel] if query.along > 0.0
                               else -self.codes.bounds.norm)
        reach *= query.across
        return along + reach + (BOUND_UP - 1.0) * (fabs(along) + reach)

    cdef void scan_for_active(self, int64_t start, int64_t n) noexcept nogil:
        """Scan rows for some of the queries."""
        cdef int64_t at = 0, count, i, width = self.code_width
        self.take_block(start, n, (self.n_active + width - 1) // width)
        while at < self.n_active and not self.stopped():
            if self.n_active - at < FEW_VISITORS:
                width = 1
            count = min(width, self.n_active - at)
            for i in range(count):
                self.members[i] = self.active[at + i]
            self.scan_for_members(width, count, start, n)
            at += count

    cdef void score_uncoded(self) noexcept nogil:
        """First of all the canonical keys of rows without codes, and for queries without them."""
        cdef const Segment *rows = &self.snapshot.segments[0]
        cdef int64_t i, start, n
        for i in range(self.n_queries):
            if self.queries[i].coded:
                self.queries[i].slack = self.queries[i].whole.off
                self.score_outliers(&self.queries[i])
                continue
            self.scanned += rows.count
            if not self.snapshot.vectors:
                self.score_outliers(&self.queries[i])
                self.score_decoded(&self.queries[i])
                continue
            start = 0
            while start < rows.count and not self.stopped():
                n = min(self.block_rows, rows.count - start)
                self.score_exact(&self.queries[i], rows, start, n)
                self.bytes_read += n * self.snapshot.dim * sizeof(float)
                start += n

    cdef void score_outliers(self, Query *query) noexcept nogil:
        """Offer the canonical keys of the rows that have no codes."""
        cdef Segment rows = self.snapshot.segments[0]
        cdef farann_block block
        cdef const int64_t *positions = NULL
        cdef int64_t start = 0, n
        rows.count = self.codes.outliers.shape[0]
        self.rescored += rows.count
        self.bytes_read += rows.count * self.snapshot.dim * sizeof(float)
        while start < rows.count and not self.stopped():
            n = min(self.block_rows, rows.count - start)
            rows.positions = &self.codes.outliers[0]
            block = self.block_of(&rows, start)
            if self.snapshot.vectors:
                positions = rows.positions + start
            else:
                # The outliers are all that there is of the base.
                rows.positions = NULL
            self.snapshot.kernels.keys_f64[<int>self.snapshot.metric](
                self.rows_at(&rows, start), positions, n, self.snapshot.dim,
                self.exact_query(query), self.keys)
            self.offer(query, n, &block, &query.filter)
            start += n

    cdef void score_decoded(self, Query *query) noexcept nogil:
        """Offer all coded rows, for a query that can't be coded itself, without vectors."""
        cdef farann_block block
        cdef int64_t start = 0, position, slot, n
        cdef double offset
        farann_query_weights(self.snapshot.metric, self.sign, self.exact_query(query),
                             self.snapshot.dim, &self.snapshot.centre[0],
                             query.prepared.query_norm, self.turned)
        farann_turn_weights(self.snapshot.kernels, &self.codes.turn.given, self.snapshot.dim,
                            self.turned, self.turned + padded(self.snapshot.dim))
        block.first, block.positions, block.slots = 0, self.positions, NULL
        block.ids, block.end = self.snapshot.ids_by_slot, self.snapshot.n_slots
        while start < self.codes.n_positions and not self.stopped():
            n = 0
            self.take_mean(start)
            offset = 0.0
            if self.mean_unit != 0.0:
                offset = mean_score(self.mean, self.mean_unit, self.codes.dim, self.turned)
            for position in range(start, start + FARANN_CODE_PANEL):
                slot = position if self.codes.slots is None else self.codes.slots[position]
                if 0 <= slot < self.codes.n_rows:
                    self.positions[n] = slot
                    self.keys[n] = rough_key(&query.prepared, self.sign,
                                             decoded_score(
                        &self.codes.scanned, self.codes.dim, self.turned, self.sign, position)
                                             + offset)
                    n += 1
            self.offer(query, n, &block, &query.filter)
            start += FARANN_CODE_PANEL

# First of all rows that answered similar queries. Part of _core.pyx.

cdef class SeededRows(CodedRows):
    """Looks first at rows that answered similar queries: they give a good threshold at once.

    They are passed over when they are met again in their place.
    """

    cdef Seeds seeds           # None where they are of no use
    cdef uint32_t *seed_codes  # whole codes of a tile
    cdef float *seed_scores    # of a tile
    cdef int64_t *list_of      # by query
    cdef int64_t *list_heads   # a list's first query among these
    cdef int64_t *askers       # queries, list after list

    cdef allocate_codes(self):
        CodedRows.allocate_codes(self)
        cdef int64_t width = self.snapshot.kernels.code_queries
        cdef Seeds seeds = self.snapshot.seeds
        self.seeds = None
        if (not self.snapshot.seeds_for(self.k) or self.sign < 0.0 or self.beyond
                or not self.seeds_pay(seeds)):
            return
        self.seeds = seeds
        self.n_scored = 0  # there is a threshold before
        self.list_of = <int64_t *>self.allocate(
            2 * self.n_queries + seeds.n_lists + 2, sizeof(int64_t))
        self.askers = self.list_of + self.n_queries
        self.list_heads = self.askers + self.n_queries
        self.seed_codes = <uint32_t *>self.allocate(
            self.words_of_tile(width, self.codes.groups) + width * MOST_SCORED, sizeof(uint32_t))
        self.seed_scores = <float *>(
            self.seed_codes + self.words_of_tile(width, self.codes.groups))

    cdef bint seeds_pay(self, Seeds seeds):
        return True

    cdef void scan_seeds(self) noexcept nogil:
        """Score the rows of each query's list."""
        cdef int64_t width = self.snapshot.kernels.code_queries, i, at, end
        if self.seeds is None:
            return
        self.choose_lists()
        for i in range(self.seeds.n_lists):
            at, end = self.list_heads[i], self.list_heads[i + 1]
            while at < end and not self.stopped():
                self.score_list(i, at, min(width, end - at))
                at += width

    cdef void choose_lists(self) noexcept nogil:
        """Find the list of each query, and put the queries of a list together."""
        cdef int64_t width = self.snapshot.kernels.code_queries, first = 0, count, i, j
        cdef int64_t n = self.seeds.n_padded
        cdef const float *scores
        for i in range(self.seeds.n_lists + 2):
            self.list_heads[i] = 0
        for i in range(self.n_queries):
            self.askers[i] = i
        while first < self.n_queries:
            count = min(width, self.n_queries - first)
            self.score_seeds(&self.seeds.groups, n, first, count)
            for i in range(count):
                scores = self.seed_scores + i * n
                self.list_of[first + i] = 0
                for j in range(1, self.seeds.n_lists):
                    if scores[j] > scores[self.list_of[first + i]]:
                        self.list_of[first + i] = j
                self.list_heads[self.list_of[first + i] + 2] += 1
            first += width
        # Each list's head is that of the one before until its queries are in place.
        for i in range(self.seeds.n_lists):
            self.list_heads[i + 2] += self.list_heads[i + 1]
        for i in range(self.n_queries):
            self.askers[self.list_heads[self.list_of[i] + 1]] = i
            self.list_heads[self.list_of[i] + 1] += 1

    cdef void score_seeds(self, const farann_coded_rows *rows, int64_t n, int64_t at,
                          int64_t count) noexcept nogil:
        """Score rows for a tile of queries, `count` of `self.askers`, a row of scores for each."""
        cdef int64_t width = self.snapshot.kernels.code_queries if count > 1 else 1, i
        cdef farann_coded_tile tile
        cdef farann_code_bar bar
        cdef const Query *query
        tile.codes, tile.bars = self.seed_codes, &self.bars
        for i in range(width):
            # What is left of a tile repeats a query.
            self.members[i] = self.askers[at + min(i, count - 1)]
            query = &self.queries[self.members[i]]
            bar = self.no_bar  # scores of a query without codes mean nothing, and aren't used
            if query.coded:
                bar = farann_code_bar_at(&query.whole, &self.codes.bounds, -INFINITY, self.sign,
                                         False)
            farann_code_bars_set(&self.bars, i, &bar)
        if width == 1:
            tile.codes = self.single_codes(self.members[0])
            self.snapshot.kernels.score_codes_one_i8(rows, n, &tile, self.seed_scores)
        else:
            self.snapshot.kernels.gather_codes(self.codes_of, self.members, width,
                                               self.codes.groups, self.seed_codes)
            self.snapshot.kernels.score_codes_i8(rows, n, &tile, self.seed_scores)
        self.count_products(n * width, self.codes.groups, count)

    cdef void score_list(self, int64_t number, int64_t at, int64_t count) noexcept nogil:
        """Admit the rows of a list for some of its queries."""
        cdef farann_coded_rows rows = self.seeds.list_at(number)
        cdef int64_t n = self.seeds.length, i, j
        cdef const float *weights = &self.seeds.row_weights[number * n]
        cdef farann_block block = self.coded_block(0)
        cdef float *scores
        cdef Query *query
        block.first, block.slots, block.positions = 0, NULL, &self.seeds.slots[number * n]
        self.score_seeds(&rows, n, at, count)
        for i in range(count):
            query = &self.queries[self.askers[at + i]]
            if not query.coded:
                continue
            scores = self.seed_scores + i * n
            for j in range(n):
                scores[j] /= weights[j]
            self.admit_best(query, scores, n, &block)
            self.rescore_best(query)
            query.filter.met, query.filter.n_met = block.positions, n
            self.scanned += n
            self.bytes_read += n * self.codes.groups * FARANN_CODE_GROUP

# Rows in float32: where they have no codes, or codes rule out too little. Part of _core.pyx.

cdef class FloatRows(SeededRows):
    """Scores float32 rows in blocks, as they lie or packed."""

    cdef void scan_without_codes(self, int64_t start) noexcept nogil:
        """Score the rows at all positions from `start` on in float32, in the order of slots."""
        cdef Segment rest = self.snapshot.segments[0]
        cdef const int32_t[::1] of_positions = self.codes.slots
        cdef int64_t *slots = NULL
        cdef uint8_t *done = NULL
        cdef int64_t i
        if of_positions is None:
            rest.first, rest.count = start, self.codes.n_rows - start
            rest.rows += start * self.snapshot.dim
        else:
            slots = <int64_t *>self.allocated(self.codes.n_rows, sizeof(int64_t) + 1, True)
            if slots == NULL:
                self.out_of_memory = True
                return
            done = <uint8_t *>(slots + self.codes.n_rows)
            for i in range(start):
                if of_positions[i] >= 0:
                    done[of_positions[i]] = 1
            for i in range(self.codes.outliers.shape[0]):
                done[self.codes.outliers[i]] = 1
            rest.count, rest.positions = 0, slots
            for i in range(self.codes.n_rows):
                slots[rest.count] = i
                rest.count += not done[i]
        self.n_seen = start
        self.scan_after_codes(&rest)

    cdef void scan_after_codes(self, const Segment *rest) noexcept nogil:
        """Score rows that codes were given up for."""
        if not self.scans_rows:
            self.weights = <float *>self.allocated(self.n_weights(), sizeof(float), True)
            if self.weights == NULL:
                self.out_of_memory = True
                return
            self.scans_rows = True
            for i in range(self.n_queries):
                self.weigh(i)
        for i in range(self.n_queries):
            # Rough scores by codes are further off; what is left of them gets keys.
            self.rescore_best(&self.queries[i])
            self.rescore(&self.queries[i], 0)
            self.queries[i].best.count, self.queries[i].slack = 0, 0.0
            self.queries[i].by_keys = False
        self.scan(rest, 0, rest.count)

    cdef void scan(self, const Segment *segment, int64_t start, int64_t end) noexcept nogil:
        """Score rows block by block, and keep what may belong to an answer.

        The first blocks are small, so that there is a threshold soon.
        """
        cdef int64_t n, i, ramp = FIRST_BLOCK, stale = 0, passed
        while start < end and not self.stopped():
            if start >= stale:
                stale = self.raise_thresholds(start)
            n = min(min(self.block_rows, ramp), end - start)
            self.count_scanned(n, self.n_queries)
            if self.mode == PACKED:
                self.scan_packed(segment, start, n)
            else:
                for i in range(self.n_queries):
                    if self.mode == EXACT:
                        self.score_exact(&self.queries[i], segment, start, n)
                    elif self.queries[i].by_keys:
                        self.n_keyed = 0
                        self.take_keys(i)
                        self.count_scanned(-n, self.scan_keys(segment, start, n))
                    else:
                        passed = self.passed
                        self.scan_as_they_lie(i, segment, start, n)
                        self.judge_rough(&self.queries[i], self.passed - passed,
                                         self.n_seen + start, n)
            self.settle_keys()
            ramp = min(2 * ramp, self.block_rows)
            start += n
        self.n_seen += start

    cdef void scan_as_they_lie(self, int64_t i, const Segment *segment, int64_t start,
                               int64_t n) noexcept nogil:
        """Few queries: what bounds the speed is reading the rows."""
        cdef const farann_kernels *kernels = self.snapshot.kernels
        cdef Query *query = &self.queries[i]
        cdef farann_block block = self.block_of(segment, start)
        cdef int64_t before = query.candidates.count, j
        cdef float norms[2]
        cdef double slack
        kernels.score_rows_f32(
            self.rows_at(segment, start), block.positions, n, self.snapshot.dim,
            &self.snapshot.padded_centre[0], self.weights + i * padded(self.snapshot.dim),
            self.packing.unit, self.packing.bias_sign, self.bias, norms)
        slack = farann_query_slack_as_lies(&query.prepared, self.packing.unit, norms[0], norms[1])
        if slack < 0.0:
            self.score_exact(query, segment, start, n)
            return
        if self.packing.unit:
            # As they lie unit rows are not centred: what the centre takes off is a constant.
            for j in range(n):
                self.bias[j] += <float>query.prepared.key_offset
        self.float_products += n * self.snapshot.dim
        self.blocks += 1
        kernels.select_f32(self.bias, n, self.threshold_for(query, slack), &query.candidates)
        self.admit(query, before, &block)

    cdef void scan_packed(self, const Segment *segment, int64_t start, int64_t n) noexcept nogil:
        """Many queries: rows are packed once for all of them."""
        cdef farann_block block = self.block_of(segment, start)
        cdef int64_t tile, i, n_keyed = 0
        cdef double squares
        for i in range(self.n_queries):
            n_keyed += self.queries[i].by_keys
        self.n_keyed = 0
        if n_keyed < self.n_queries:
            squares = self.snapshot.kernels.pack_rows_f32(
                self.rows_at(segment, start), block.positions, n, self.snapshot.dim,
                &self.snapshot.centre[0], self.packing.unit, self.packing.bias_sign, self.panels,
                self.bias)
            for tile in range(self.n_tiles):
                if self.stopped():
                    return
                self.scan_tile(tile, segment, start, n, squares)
        else:
            for i in range(self.n_queries):
                self.take_keys(i)
        self.count_scanned(-n, self.scan_keys(segment, start, n))

    cdef void scan_tile(self, int64_t tile, const Segment *segment, int64_t start, int64_t n,
                        double squares) noexcept nogil:
        cdef const farann_kernels *kernels = self.snapshot.kernels
        cdef int64_t width = kernels.tile_queries, first = tile * width, i, passed
        cdef int64_t count = min(width, self.n_queries - first)
        cdef farann_block block = self.block_of(segment, start)
        cdef double slack
        cdef bint any_packed = False
        cdef Query *query
        for i in range(width):
            self.thresholds[i] = INFINITY
        for i in range(count):
            query = &self.queries[first + i]
            self.members[i] = first + i
            self.candidates[i] = query.candidates
            slack = farann_query_slack(&query.prepared, squares)
            if query.by_keys or (slack < 0.0 and self.keys_decide(query) and self.allocate_keys()):
                self.take_keys(first + i)
                continue
            if slack < 0.0:
                self.score_exact(query, segment, start, n)
                continue
            any_packed = True
            self.thresholds[i] = self.threshold_for(query, slack)
        if not any_packed:
            return
        kernels.scan_panels_f32(self.panels, n, self.snapshot.dim, self.bias,
                                self.weights + first * self.snapshot.dim, self.thresholds,
                                self.candidates)
        self.float_products += n * width * self.snapshot.dim
        self.blocks += count
        for i in range(count):
            query = &self.queries[first + i]
            passed = self.candidates[i].count - query.candidates.count
            if passed > 0 and self.judge_rough(query, passed, self.n_seen + start, n):
                self.candidates[i].count = query.candidates.count
                self.take_keys(first + i)
        self.admit_tile(count, &block)

# Rows added since the last build. Part of _core.pyx.

cdef class AddedRows(FloatRows):
    """Scores the rows of the tail: most have codes, the others are scanned in float32."""

    cdef const int64_t[::1] stops  # before which positions scans of runs end
    cdef bint has_stops            # or they are scanned whole
    cdef bint stops_early          # whether they do, for the queries there are
    cdef bint looked_first         # at the base

    cdef take_stops(self, Snapshot snapshot, const int64_t[::1] stops):
        cdef int64_t run
        if stops is None or snapshot.added is None:
            return
        if stops.shape[0] != snapshot.runs.shape[0]:
            raise ValueError("there must be a stop for each run")
        for run in range(stops.shape[0]):
            if stops[run] % FARANN_CODE_PANEL or not (
                    snapshot.runs[run, 0] <= stops[run] <= snapshot.runs[run, 1]):
                raise ValueError("stops must be positions of whole panels of their runs")
        self.stops, self.has_stops = stops, True

    cdef bint has_added(self, int64_t coded) noexcept nogil:
        """Whether the tail has codes that pay, as those of the base did up to position `coded`."""
        return (self.codes is not None and self.snapshot.added is not None
                and coded == self.codes.n_positions and not self.stopped())

    cdef search_added(self):
        """Score the tail by its codes, and settle the answers."""
        cdef uint64_t before
        self.codes, self.looked_first = self.snapshot.added, self.looks_first
        with nogil:
            before = farann_arithmetic_begin()
            self.stops_early = self.has_stops and self.all_found()
            self.take_added_codes()
            self.snapshot.kernels.begin()
            self.scan_added_codes()
            self.refine_all_deferred()
            self.snapshot.kernels.end()
            self.scan(&self.snapshot.uncoded, 0, self.snapshot.uncoded.count)
            self.finish()
            farann_arithmetic_end(before)

    cdef search_base(self):
        """Take the codes of the base again."""
        self.codes, self.looks_first = self.snapshot.codes, self.looked_first
        self.see_reach()

    cdef bint all_found(self) noexcept nogil:
        """Whether all queries have found k rows: others need what there is."""
        cdef int64_t i
        cdef const Query *query
        for i in range(self.n_queries):
            query = &self.queries[i]
            if query.found.count + query.candidates.count < self.k:
                return False
        return True

    cdef int64_t stop_of(self, int64_t run) noexcept nogil:
        return self.stops[run] if self.stops_early else self.snapshot.runs[run, 1]

    cdef void take_added_codes(self) noexcept nogil:
        """Code the queries anew: what holds for the rows of the tail is another thing."""
        cdef int64_t i
        cdef Query *query
        self.looks_first = self.codes.has_basis
        self.see_reach()
        # Where it tells nothing of the base, it tells nothing of the tail.
        self.by_reach &= self.snapshot.codes.reach is not None
        for i in range(self.n_queries):
            if self.stopped():
                return
            query = &self.queries[i]
            query.bar_floor, query.filter.n_met = NAN, 0  # what was met is in the base
            self.weigh(i)
            self.encode(i)
            query.coded = query.whole.unit >= 0.0
            if query.coded:
                query.slack = max(query.slack, query.whole.off)
            else:
                self.score_added(query)
        if self.code_width > 1:
            self.make_tiles()

    cdef void score_added(self, Query *query) noexcept nogil:
        """Offer the canonical keys of rows with codes, for a query without."""
        cdef Segment rows = self.snapshot.segments[1]
        cdef int64_t run, start, stop, n
        rows.positions = self.positions
        for run in range(self.snapshot.runs.shape[0]):
            start, stop = self.snapshot.runs[run, 0], self.snapshot.runs[run, 1]
            while start < stop and not self.stopped():
                n = self.added_at(start, min(start + self.block_rows, stop), self.positions)
                self.score_exact(query, &rows, 0, n)
                self.scanned += n
                self.bytes_read += n * self.snapshot.dim * sizeof(float)
                start += self.block_rows

    cdef int64_t added_at(self, int64_t start, int64_t stop, int64_t *rows) noexcept nogil:
        """Write which rows of the tail have the positions start .. stop; gives how many."""
        cdef int64_t i, n = 0
        for i in range(start, stop):
            if self.codes.slots[i] >= 0:
                rows[n] = self.codes.slots[i] - self.snapshot.segments[1].first
                n += 1
        return n

    cdef void scan_added_codes(self) noexcept nogil:
        """Score the coded rows, run by run, up to where codes don't pay, if they don't."""
        cdef int64_t run, start, stop, n, ramp = FIRST_BLOCK, done = 0, stale = 0
        self.judged, self.share_judged, self.cost_judged = 0, 0.0, self.cost_so_far()
        for run in range(self.snapshot.runs.shape[0]):
            start, stop = self.snapshot.runs[run, 0], self.stop_of(run)
            self.all_active()
            if self.by_reach:
                ramp = FIRST_BLOCK
            while start < stop and not self.stopped():
                if done >= stale:
                    stale = self.raise_thresholds(done)
                    if done >= max(FEWEST_JUDGED, 16 * self.k) and (
                            self.will_cost_too_much(done, self.codes.n_filled - done)):
                        self.scan_added_without_codes(run, start)
                        return
                n = min(min(self.code_rows, ramp), stop - start)
                self.keep_active(start)
                if self.n_active == self.n_queries:
                    self.scan_codes(start, n)
                elif self.n_active:
                    self.scan_for_active(start, n)
                else:
                    break
                ramp = min(2 * ramp, self.code_rows)
                start += n
                done += n

    cdef void all_active(self) noexcept nogil:
        cdef int64_t i
        self.n_active = self.n_queries
        for i in range(self.n_queries):
            self.active[i] = i

    cdef void scan_added_without_codes(self, int64_t run, int64_t start) noexcept nogil:
        """Score the rows from a position of a run on in float32."""
        cdef Segment rest = self.snapshot.segments[1]
        cdef int64_t *rows = <int64_t *>self.allocated(rest.count, sizeof(int64_t), False)
        if rows == NULL:
            self.out_of_memory = True
            return
        self.refine_all_deferred()
        rest.positions, rest.count = rows, 0
        while run < self.snapshot.runs.shape[0]:
            rest.count += self.added_at(start, self.stop_of(run), rows + rest.count)
            run += 1
            if run < self.snapshot.runs.shape[0]:
                start = self.snapshot.runs[run, 0]
        self.scan_after_codes(&rest)

# The search: every row is scored, in blocks. Part of _core.pyx.

cdef class Task(AddedRows):
    """Some queries of a search: `run` answers them."""

    cdef readonly bint gave_up  # codes, as they rule out too little
    cdef bint lacks_tail        # whose codes take the place of the others

    def run(self):
        """Find the answers; the GIL is released meanwhile."""
        cdef uint64_t before
        with nogil:
            before = farann_arithmetic_begin()
            self.answer()
            farann_arithmetic_end(before)
        if self.lacks_tail:
            self.search_added()
        self.check_finished()

    cdef check_finished(self):
        self.check_cancelled()
        if self.out_of_memory:
            raise MemoryError(self.what_lacked_memory())

    cdef str what_lacked_memory(self):
        return "no memory for the rows that were found; ask for fewer"

    cdef void answer(self) noexcept nogil:
        """Find the answers, between the calls that begin and end arithmetic."""
        cdef int64_t coded = 0
        if self.codes is not None:
            self.snapshot.kernels.begin()
            if self.first == 0:
                self.score_uncoded()
                self.scan_seeds()
            coded = self.scan_all_codes()
            self.refine_all_deferred()
            self.snapshot.kernels.end()
            self.gave_up = coded < self.codes.n_positions
            if self.gave_up and self.end == INT64_MAX and not self.stopped():
                self.scan_without_codes(coded)
        else:
            self.scan_segment(0)
        self.answer_from_tail(coded)

    cdef void answer_from_tail(self, int64_t coded) noexcept nogil:
        """Settle the answers with the rows of the tail, unless these have codes."""
        self.lacks_tail = self.has_added(coded)
        if not self.lacks_tail:
            self.scan_segment(1)
            self.finish()

    def n_in_line(self):
        """Rows to search, in a line: positions of codes or the first segment, then the second."""
        return self.n_before_tail() + self.filter.segments[1].count

    cdef int64_t n_before_tail(self) noexcept nogil:
        return self.filter.segments[0].count if self.codes is None else self.codes.n_positions

    def search_only(self, int64_t first, int64_t end, Task leader=None):
        """Search only some rows of the line, in whole panels of codes.

        The leader has searched its first ones, and there is a threshold. What has no place in the
        line belongs to the first rows. If codes rule out too little, the leader stops, and
        `gave_up` is true.
        """
        cdef int64_t i
        if not 0 <= first <= end or first % FARANN_CODE_PANEL or end % FARANN_CODE_PANEL or (
                (first > 0) != (leader is not None)):
            raise ValueError("parts of the line must be whole panels, and all but the first have "
                             "a leader")
        self.first, self.end = first, end
        if leader is None:
            return
        if leader.n_queries != self.n_queries or leader.snapshot is not self.snapshot:
            raise ValueError("a leader must have searched for the same queries")
        for i in range(self.n_queries):
            self.queries[i].threshold = leader.queries[i].threshold
            if self.queries[i].coded:
                self.queries[i].slack = self.queries[i].whole.off

    cdef void scan_segment(self, int s) noexcept nogil:
        """Score what the task has to search of a segment, in float32 or by canonical keys."""
        cdef const Segment *segment = &self.filter.segments[s]
        cdef int64_t before = self.n_before_tail() if s == 1 else 0
        self.scan(segment, max(self.first - before, 0), min(self.end - before, segment.count))

    cdef void begin_again(self, const float *given) noexcept nogil:
        """Forget the one query of this task, and prepare another in its place."""
        cdef Query *query = &self.queries[0]
        query.given, self.exact_of = given, NULL
        query.threshold, query.expected, query.bar_floor = -INFINITY, -INFINITY, NAN
        query.slack, query.pause, query.next_pause, query.by_keys = 0.0, 0, 0, False
        query.box_pause, query.next_box_pause, query.keys_end = 0, 0, False
        query.candidates.count = query.best.count = query.found.count = query.deferred.count = 0
        query.filter.met, query.filter.n_met = NULL, 0
        self.n_active, self.mean_unit, self.out_of_memory, self.n_seen = 1, 0.0, False, 0
        self.scanned = self.refined = self.rescored = self.bytes_read = 0
        self.code_products = self.float_products = self.blocks = self.passed = 0
        self.alike = self.n_near = 0
        self.judged, self.cost_judged, self.share_judged = 0, 0.0, 0.0
        self.prepare(0)


def write_best(list tasks, float[:, ::1] scores, int64_t[:, ::1] ids):
    """Write what tasks found for the same queries in different rows, or in some of the same."""
    cdef Task task, first = tasks[0]
    cdef int64_t i, j, n, room = 0, k = scores.shape[1]
    cdef farann_topk all
    cdef farann_topk *found
    cdef uint64_t before
    for task in tasks:
        room += task.k
    all.entries = <farann_entry *>farann_alloc(room * sizeof(farann_entry), False)
    if all.entries == NULL:
        raise MemoryError(f"a search needs {room * sizeof(farann_entry):,} bytes of scratch memory")
    before = farann_arithmetic_begin()
    for i in range(first.n_queries):
        n = 0
        for task in tasks:
            found = &task.queries[i].found
            for j in range(found.count):
                all.entries[n + j] = found.entries[j]
            n += found.count
        farann_entries_sort(all.entries, n, &NEVER)
        found = &first.queries[i].found
        found.count = 0
        for j in range(n):
            # A row has the same key wherever it was found, so that it lies beside itself.
            if found.count < first.k and (j == 0 or all.entries[j].id != all.entries[j - 1].id):
                found.entries[found.count] = all.entries[j]
                found.count += 1
        first.write_answer(&first.queries[i], &scores[i, 0], &ids[i, 0], k)
    farann_arithmetic_end(before)
    free(all.entries)


def score_slots(Snapshot snapshot, const float[:, ::1] queries, const int64_t[::1] slots,
                float[:, ::1] scores, int64_t start, int64_t stop, CancelFlag flag=None):
    """Write the scores of `slots` for queries start .. stop to the same rows of `scores`."""
    cdef int64_t i, j, n, first, at, n_slots = slots.shape[0]
    cdef int64_t positions[SCORES_AT_ONCE]
    cdef double keys[SCORES_AT_ONCE]
    cdef const Segment *segment
    cdef uint64_t before
    cdef Task task
    if n_slots == 0 or stop <= start:
        return
    for j in range(n_slots):
        if not 0 <= slots[j] < snapshot.n_slots or (
                not snapshot.vectors and slots[j] < snapshot.segments[0].count):
            raise ValueError("slots must be slots of the snapshot, of rows with vectors")
    # Only the queries are wanted of it: with no rows to search, it takes little memory.
    task = Task(snapshot, Filter(snapshot, slots=np.empty(0, np.int64)), queries, start, stop, 1,
                False, flag=flag)
    with nogil:
        before = farann_arithmetic_begin()
        at = 0
        while at < n_slots and not task.stopped():
            segment = &snapshot.segments[slots[at] >= snapshot.segments[1].first]
            n = 0
            while n < SCORES_AT_ONCE and at + n < n_slots:
                positions[n] = slots[at + n] - segment.first
                if not 0 <= positions[n] < segment.count:
                    break
                n += 1
            for i in range(stop - start):
                if task.stopped():
                    break
                snapshot.kernels.keys_f64[<int>snapshot.metric](
                    segment.rows, positions, n, snapshot.dim,
                    task.exact_query(&task.queries[i]), keys)
                for j in range(n):
                    scores[start + i, at + j] = <float>farann_score(
                        snapshot.metric, keys[j], task.queries[i].prepared.query_norm)
            at += n
        farann_arithmetic_end(before)
    task.check_cancelled()

# Where rows lie in the order of codes, to a part of an octave. Part of _core.pyx.

cdef enum:
    PLACES_AN_OCTAVE = 8

# By place: the root of the number of the panel, from 1 on.
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

# Approximate search: the same scan, of the rows that promise most. Part of _core.pyx.

cdef enum:
    # What the k-th key is expected to be is told by what the best cells promise, those of so many
    # groups, which take turns.
    TELLING_CELLS = 16


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
            self.budget = whole_panels(budget)
        # An infinite effort is for all rows, and no cell needs to be judged.
        self.cells = snapshot.cells if effort < INFINITY else None
        # A budget is spent once, and no query may begin again.
        self.may_expect = (self.cells is not None and not isnan(expected)
                           and self.budget == INT64_MAX)
        self.expects = self.may_expect
        # Thresholds may rise in steps here, and let more through in between.
        self.room = 3 * CANDIDATE_ROOM
        self.take_stops(snapshot, stops)
        Task.__init__(self, snapshot, filter, queries, start, stop, k, False, flag=flag)
        if self.codes is None:
            return
        self.n_first = self.codes.n_positions
        if self.cells is not None:
            self.n_first = min(self.cells.starts[0], whole_panels(self.budget // 2))
        elif self.effort < self.n_first:
            self.n_first = whole_panels(<int64_t>self.effort)
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
        if self.budget < INT64_MAX:
            self.ranked = <farann_entry *>self.allocate(room, sizeof(farann_entry))

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
        if self.cells is None or self.codes is None or not query.coded:
            return
        # The weights, turned, are what the codes of the query were made of last.
        farann_code_query(self.snapshot.kernels, self.turned,
                          self.effort * query.prepared.weight_norm, &self.cells.bounds,
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
        if not self.expects:
            self.choose_for_all()
        self.make_visits()
        if self.expects:
            self.refine_all_deferred()
            self.start_again()
            self.choose_cells()
            self.make_visits()

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
            self.look_at_cells(self.choosing + first, count)
            for i in range(count):
                member, promises = self.choosing[first + i], self.promises + i * n
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

    cdef void look_at_cells(self, const int64_t *members, int64_t count) noexcept nogil:
        """What each cell promises to up to a tile of queries."""
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
        for i in range(count):
            for g in range(self.cells.n_cells, n):
                self.promises[i * n + g] = -INFINITY

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
            task.look_at_cells(task.choosing, count)
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


# Single queries, one after another: with memory that is kept, and next to no Python. Part of
# _core.pyx.

cdef enum:
    # Tasks that are kept, for as many threads that search at once.
    MOST_IDLE = 8
    # Multiply-adds that take less time than to hand the GIL over and get it back.
    HOLDS_GIL = 65536
    # Where codes were given up for so many queries in a row, so many are searched without them.
    FUTILE_SEARCHES = 3
    SEARCHES_WITHOUT_CODES = 31

cdef object ndarray = np.ndarray
cdef object new_array = np.empty
cdef object FLOAT32 = np.dtype(np.float32)
cdef object INT64 = np.dtype(np.int64)


cdef class SingleSearch:
    """Searches for the k rows furthest from a single query, all by one plan.

    Tasks are kept from one query to the next. Any number of threads may search at once. Where exact
    searches give codes up query after query, most of the next ones don't begin with them: a count of
    queries decides that, and answers are the same.

    Parameters
    ----------
    snapshot : Snapshot
    filter : Filter
        For all queries alike.
    k : int
    plan : object
        What the caller made the plan of, to tell later whether that still holds.
    costs : tuple
        As for `Task`.
    effort : float or None
        As for `ApproximateTask`; None: the search is exact.
    expected : float
        Likewise.
    guard : Guard, optional
        Queries that are unlike its sample aren't searched for.
    late : tuple, optional
        How late answers usually come: what `Guard.how_late` has after `late`. None: that isn't told.
    stops : int64 (r,), optional
        As for `ApproximateTask`.
    """

    cdef Snapshot snapshot
    cdef Filter filter
    cdef Guard guard
    cdef double usual
    cdef int64_t k
    cdef readonly object plan
    cdef object costs, effort, expected, late, stops, results_of_one, results_of_batch
    cdef bint unit, holds_gil
    cdef list idle, idle_without_codes
    cdef int64_t futile, without_codes  # searches that gave codes up in a row; that will not try

    def __init__(self, Snapshot snapshot, Filter filter, int64_t k, plan, costs, effort=None,
                 double expected=NAN, Guard guard=None, late=None, stops=None):
        if filter.excluded is not None:
            raise ValueError("a filter that differs from query to query is not for all alike")
        self.snapshot, self.filter, self.k, self.plan = snapshot, filter, k, plan
        self.costs, self.effort, self.expected, self.guard = costs, effort, expected, guard
        self.late, self.stops = late, stops
        self.usual = NAN if late is None else late[0]
        self.results_of_one, self.results_of_batch = (k,), (1, k)
        self.unit = snapshot.metric == FARANN_COSINE
        self.holds_gil = filter.n_rows * snapshot.dim + k < HOLDS_GIL
        self.idle, self.idle_without_codes = [], []
        self.futile = self.without_codes = 0

    cdef Task new_task(self, bint by_codes):
        # Any query will do, as long as it has a direction.
        first = np.ones((1, self.snapshot.dim), np.float32)
        if self.effort is None:
            return Task(self.snapshot, self.filter, first, 0, 1, self.k, False, None, 0.0, None,
                        self.costs, by_codes)
        return ApproximateTask(self.snapshot, self.filter, first, 0, 1, self.k, self.effort, 0,
                               self.expected, None,
                               self.guard is not None and self.late is not None, self.stops)

    def search(self, queries):
        """Find the rows furthest from a float32 array (dim,) or (1, dim).

        Returns
        -------
        (scores, ids, counts) or None
            In the shape that goes with that of the query, and what the fields of `SearchStats` are.
            None: the argument is something else, and needs to be checked and converted, or a query
            that is unlike others, or after many such one whose answer comes late.
        """
        cdef Py_buffer given
        if type(queries) is not ndarray:
            return None
        try:
            PyObject_GetBuffer(queries, &given, PyBUF_FORMAT | PyBUF_STRIDES)
        except (BufferError, ValueError, TypeError):  # types that buffers don't have, such as dates
            return None
        try:
            if not self.takes(&given):
                return None
            return self.searched(<const float *>given.buf, given.ndim == 1)
        finally:
            PyBuffer_Release(&given)

    cdef bint takes(self, const Py_buffer *given) noexcept:
        """Whether a buffer is a vector of the right length, as float32 in C order and aligned."""
        cdef int last = given.ndim - 1
        return (given.format != NULL and given.format[0] == b"f" and given.format[1] == 0
                and (last == 0 or (last == 1 and given.shape[0] == 1))
                and given.shape[last] == self.snapshot.dim
                and (given.strides[last] == sizeof(float) or given.shape[last] == 1)
                and <uintptr_t>given.buf % sizeof(float) == 0)

    cdef searched(self, const float *query, bint single):
        cdef bint by_codes = self.without_codes == 0
        cdef list idle = self.idle if by_codes else self.idle_without_codes
        cdef Task task = idle.pop() if idle else self.new_task(by_codes)
        cdef int memory = task.n_memory
        cdef bint finite
        scores = new_array(self.results_of_one if single else self.results_of_batch, FLOAT32)
        ids = new_array(self.results_of_one if single else self.results_of_batch, INT64)
        cdef float *to_scores = <float *>memory_of(scores)
        cdef int64_t *to_ids = <int64_t *>memory_of(ids)
        if task.lacks_tail:
            task.search_base()
        if self.holds_gil:
            finite = self.answer(task, query, to_scores, to_ids)
        else:
            with nogil:
                finite = self.answer(task, query, to_scores, to_ids)
        if finite:
            if task.lacks_tail:
                task.search_added()
                self.write(task, to_scores, to_ids)
            task.check_finished()
        # One that needed more memory is not like a new one.
        if task.n_memory == memory and len(idle) < MOST_IDLE:
            idle.append(task)
        if finite and self.effort is None:
            self.judge_codes(by_codes, task.gave_up)
        if not finite or (self.guard is not None and self.is_late(task)):
            return None  # whoever answers it counts it
        if self.guard is not None:
            self.guard.alone += 1
        return scores, ids, (1, task.scanned, task.refined, task.rescored, task.bytes_read,
                             task.code_products, task.float_products, task.blocks, task.passed)

    cdef void judge_codes(self, bint by_codes, bint gave_up) noexcept:
        """Note whether a search gave codes up: the next ones begin with them, or don't."""
        if not by_codes:
            self.without_codes = max(self.without_codes - 1, 0)
            return
        self.futile = self.futile + 1 if gave_up else 0
        if self.futile >= FUTILE_SEARCHES:
            self.without_codes = SEARCHES_WITHOUT_CODES

    cdef bint is_late(self, Task task):
        """Whether a query has to be answered otherwise; those that haven't are counted."""
        cdef float late
        if self.effort is None or (<ApproximateTask>task).came_late == NULL:
            return False
        late = (<ApproximateTask>task).came_late[0]
        if late > self.usual and self.guard.is_overdue():
            return True
        self.guard.how_late(1, late, *self.late)
        return False

    cdef bint answer(self, Task task, const float *query, float *scores,
                     int64_t *ids) noexcept nogil:
        """Answer a query; False if it holds what no query may, or is one for the guard."""
        cdef uint64_t before = farann_arithmetic_begin()
        cdef bint good = farann_first_bad_row(query, 1, self.snapshot.dim, self.unit) < 0
        if good and self.guard is not None:
            good = self.guard.passes(query, 1.0)
        if good:
            task.begin_again(query)
            task.answer()
            if not task.lacks_tail:
                task.write_answer(&task.queries[0], scores, ids, self.k)
        farann_arithmetic_end(before)
        return good

    cdef void write(self, Task task, float *scores, int64_t *ids) noexcept nogil:
        cdef uint64_t before = farann_arithmetic_begin()
        task.write_answer(&task.queries[0], scores, ids, self.k)
        farann_arithmetic_end(before)


cdef void *memory_of(array) except NULL:
    """Where a new array lies, which lives longer than what is written there."""
    cdef Py_buffer buffer
    PyObject_GetBuffer(array, &buffer, PyBUF_SIMPLE | PyBUF_WRITABLE)
    cdef void *memory = buffer.buf
    PyBuffer_Release(&buffer)
    return memory
