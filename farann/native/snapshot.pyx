"""Snapshots: the rows to search, and filters on them."""

from libc.stdint cimport UINT32_MAX


import numpy as np


cdef class Snapshot:
    """One immutable state of an index: up to two segments of rows, their ids, removed rows.

    Parameters
    ----------
    base, tail : float32, float16, uint16 (bits of bfloat16), uint8 or int8 (n, dim), C-contiguous
        The rows, both of one type; slots count through both. Without `vectors`, base holds no rows
        but the outliers of the codes.
    ids : int64 (n_slots,) or None
        Ids by slot; None where the id is the slot.
    live : uint8 (n_slots,) or None
        0 for removed rows; None where no row is removed.
    center : float64 (dim,)
        Subtracted from rows before they are scored roughly; values that float32 has.
    metric, isa : int, str
        Position in `METRICS`, one of `isa_levels()`.
    codes, partitions : Codes, Partitions or None
        Of the base.
    vectors : bool
        False: the base is there as codes alone, without a basis, and scores of its rows are rough.
    added : Codes or None
        Of rows of the tail, turned as those of the base were; they have slots. Not without vectors.
    runs : int64 (r, 2) or None
        From which to which position of these to search, whole panels; there if `added` is.
    uncoded : int64 (m,) or None
        The other rows of the tail, counted from its first one; there if `added` is.
    in_file : array or None
        The base, if it is in a file and memory may not hold it: scans of float32 rows then go in
        the order of slots alone, and begin anew where codes are given up.
    """

    def __init__(self, base not None, tail not None, ids, live, const double[::1] center,
                 int metric, str isa, *, Codes codes=None, Partitions partitions=None,
                 bint vectors=True, Codes added=None, runs=None, uncoded=None, in_file=None):
        cdef int64_t n_base, j
        cdef uint64_t before
        self.isa, self.kernels = isa, kernels_of(isa)
        self.row_type, n_base = row_type_of(base), len(base)
        if row_type_of(tail) != self.row_type:
            raise ValueError("base and tail must be of one type")
        if not base.shape[1] == tail.shape[1] == center.shape[0] or base.shape[1] < 1:
            raise ValueError("base, tail and center must have one dim of at least 1")
        if not 0 <= metric < 3:
            raise ValueError(f"metric: expected 0, 1 or 2, got {metric}")
        self.metric = <farann_metric>metric
        self.traits = farann_traits_of(self.metric)
        self.base, self.tail = base.view(np.uint8), tail.view(np.uint8)
        self.dim = base.shape[1]
        self.row_bytes = self.dim * farann_row_type_bytes(self.row_type)
        self.vectors = vectors
        if not vectors:
            if codes is None or codes.has_pca_filter or n_base != codes.outliers.shape[0]:
                raise ValueError("without vectors there must be codes of all coordinates, and the "
                                 "rows of the outliers")
            n_base = codes.n_rows
        self.n_slots = n_base + tail.shape[0]
        self.ids, self.live, self.code_trials, self.in_file = ids, live, {}, in_file
        self.largest_integer = self.largest_square = self.negative = NOT_LOOKED_FOR
        if (ids is not None and self.ids.shape[0] != self.n_slots) or (
                live is not None and self.live.shape[0] != self.n_slots):
            raise ValueError("ids and live must have one entry a slot")
        if codes is not None and (codes.n_rows != n_base or codes.dim != self.dim):
            raise ValueError("codes must be those of the base")
        if not vectors and codes.transform.record.axes != NULL:
            raise ValueError("without vectors codes must be of all that rows are")
        if (codes is not None and codes.mean_query_direction is not None and self.traits.squared):
            raise ValueError("under l2 there can't be a lead")
        if partitions is not None and (
                codes is None or partitions.bounds.dim != codes.bounds.dim
                or not codes.n_filled <= partitions.starts[partitions.n_cells]
                <= codes.n_positions):
            raise ValueError("partitions must be those of the codes")
        if partitions is not None and partitions.relative and (vectors or not codes.int4_alone):
            raise ValueError("only 4-bit codes without vectors are relative to means of partitions")
        self.codes, self.added, self.partitions = codes, added, partitions
        if ids is not None and self.n_slots:
            self.ids_by_slot = &self.ids[0]
        self.segments[0] = Segment(NULL, 0, n_base, NULL)
        self.segments[1] = Segment(NULL, n_base, tail.shape[0], NULL)
        if self.base.shape[0]:
            self.segments[0].rows = &self.base[0, 0]
        if self.tail.shape[0]:
            self.segments[1].rows = &self.tail[0, 0]
        self.uncoded = self.segments[1]
        if added is not None:
            take_added(self, runs, uncoded)
        self.row_major_center = np.zeros(padded(self.dim), np.float32)
        self.center = np.zeros(padded(self.dim))
        before = farann_arithmetic_begin()
        for j in range(self.dim):
            self.center[j] = center[j]
            self.row_major_center[j] = 0.0 if self.traits.normalized else <float>center[j]
            self.center_norm += center[j] * center[j]
        self.center_norm = self.center_norm ** 0.5
        farann_arithmetic_end(before)

    # Computed when a search first needs it. Two threads may compute it at once, with one result.

    cdef int64_t largest_whole_number(self) noexcept nogil:
        """The largest size of a number of the rows, if all are whole; -1: not all are."""
        return of_all_rows(self, &self.largest_integer, farann_largest_integer)

    cdef bint has_negative(self) noexcept nogil:
        """Whether any number of the rows is below 0."""
        return of_all_rows(self, &self.negative, farann_has_negative)


ctypedef int64_t (*OfNumbers)(const void *, farann_row_type, int64_t) noexcept nogil


cdef int64_t of_all_rows(Snapshot snapshot, int64_t *cache, OfNumbers of) noexcept nogil:
    """The larger value of both segments, or -1 if one has -1."""
    cdef int64_t known = farann_load(cache), value
    cdef int s
    cdef const Segment *segment
    if known == NOT_LOOKED_FOR:
        known = 0
        for s in range(2):
            segment = &snapshot.segments[s]
            if known >= 0 and segment.count:
                value = of(segment.rows, snapshot.row_type, segment.count * snapshot.dim)
                known = -1 if value < 0 else max(known, value)
        farann_store(cache, known)
    return known


cdef take_added(Snapshot snapshot, runs, uncoded):
    """Check the codes of the tail; note where they are, and which rows have none."""
    cdef Codes codes = snapshot.codes, added = snapshot.added
    cdef int64_t i
    snapshot.runs, snapshot.uncoded_rows = runs, uncoded
    if (codes is None or not snapshot.vectors or added.int4_alone or added.slots is None
            or added.n_rows > snapshot.n_slots or added.bounds.dim != codes.bounds.dim
            or added.has_pca_filter != codes.has_pca_filter
            or added.scanned.groups != codes.scanned.groups
            or (added.scanned.squares == NULL) != (codes.scanned.squares == NULL)
            or added.outliers.shape[0]
            or snapshot.uncoded_rows.shape[0] > snapshot.segments[1].count):
        raise ValueError("codes of added rows must be as those of the base")
    for i in range(snapshot.runs.shape[0]):
        if (snapshot.runs.shape[1] != 2 or snapshot.runs[i, 0] % FARANN_CODE_PANEL
                or snapshot.runs[i, 1] % FARANN_CODE_PANEL
                or not 0 <= snapshot.runs[i, 0] <= snapshot.runs[i, 1] <= added.n_positions):
            raise ValueError("runs must be positions of whole panels")
    snapshot.uncoded.count = snapshot.uncoded_rows.shape[0]
    if snapshot.uncoded.count:
        snapshot.uncoded.positions = &snapshot.uncoded_rows[0]


def marked(const int64_t[::1] ids, int64_t least, int64_t n):
    """A byte for each of n numbers from `least` on: 1 for those that are among the ids."""
    # Pointers, which writing bytes can't change.
    cdef const int64_t *numbers
    cdef uint8_t[::1] view
    cdef uint8_t *marks
    cdef uint64_t at, first = <uint64_t>least, count = <uint64_t>n
    cdef int64_t i, n_ids = ids.shape[0]
    result = np.zeros(n, np.uint8)
    if n == 0 or n_ids == 0:
        return result
    view = result
    numbers, marks = &ids[0], &view[0]
    with nogil:
        for i in range(n_ids):
            at = <uint64_t>numbers[i] - first  # one below the first is large
            if at < count:
                marks[at] = 1
    return result


cdef class Filter:
    """Which rows of a snapshot may be found, for all queries and for each.

    Parameters
    ----------
    snapshot : Snapshot
    allowed : uint8 (n_slots,) or None
        0 for rows that may not be found; it stands in the place of the snapshot's `live`.
    slots : int64 (m,) or None
        Sorted slots, the only ones to search; None: all of them.
    share : float
        About which share of the rows `allowed` has; answers don't depend on it.
    """

    def __init__(self, Snapshot snapshot, allowed=None, const int64_t[::1] slots=None, *,
                 double share=1.0):
        cdef int64_t i, split
        self.snapshot = snapshot
        self.segments[0], self.segments[1] = snapshot.segments[0], snapshot.segments[1]
        self.allowed = snapshot.live if allowed is None else allowed
        self.live, self.share = NULL, share
        if self.allowed is not None and snapshot.n_slots:
            if self.allowed.shape[0] != snapshot.n_slots:
                raise ValueError("allowed must have one entry a slot")
            self.live = &self.allowed[0]
        self.excluded = self.offsets = self.groups = self.left_out = None
        if slots is not None:
            split = 0
            for i in range(slots.shape[0]):
                if not 0 <= slots[i] < snapshot.n_slots:
                    raise ValueError("slots must be slots of the snapshot")
                split += slots[i] < self.segments[0].count
            self.positions = np.empty(slots.shape[0], np.int64)
            for i in range(slots.shape[0]):
                self.positions[i] = slots[i] - (self.segments[0].count if i >= split else 0)
            self.segments[0].count, self.segments[1].count = split, slots.shape[0] - split
            if slots.shape[0]:
                self.segments[0].positions = &self.positions[0]
                self.segments[1].positions = &self.positions[0] + split
        self.n_rows = self.segments[0].count + self.segments[1].count

    def excluding(self, const int64_t[::1] ids not None, const int64_t[::1] offsets not None):
        """This filter, and query i must not find the rows of ids[offsets[i]:offsets[i + 1]].

        In any order; repeated, unknown and negative ids are ignored.
        """
        cdef Filter new = copied(self)
        cdef int64_t i
        if offsets.shape[0] < 1 or offsets[0] != 0 or (
                offsets[offsets.shape[0] - 1] != ids.shape[0]):
            raise ValueError("offsets must lead from 0 to the number of ids")
        for i in range(offsets.shape[0] - 1):
            if not 0 <= offsets[i + 1] - offsets[i] <= UINT32_MAX:
                raise ValueError("offsets must not fall, and a query has at most 2^32 - 1 ids")
        new.excluded, new.offsets = ids, offsets
        return new

    def outside(self, const int32_t[::1] groups not None, const int32_t[::1] left_out not None):
        """This filter, and query i must not find the rows whose group is left_out[i].

        `groups` has that of each slot; of a number below 0 there are none.
        """
        cdef Filter new = copied(self)
        if groups.shape[0] < self.snapshot.n_slots:
            raise ValueError("groups must have one entry a slot")
        new.groups, new.left_out = groups, left_out
        return new

    cdef Filter for_all(self):
        """This filter without the ids and groups that single queries exclude."""
        cdef Filter new = copied(self)
        new.excluded = new.groups = None
        return new

    cdef check_queries(self, int64_t n):
        """Raise ValueError if this isn't for n queries, or sets."""
        if self.excluded is not None and self.offsets.shape[0] <= n:
            raise ValueError("offsets must be those of all queries")
        if self.groups is not None and self.left_out.shape[0] < n:
            raise ValueError("there must be a group for each query")

    cdef bint is_open(self) noexcept nogil:
        """Whether every row may be found."""
        return self.live == NULL and self.excluded is None and self.groups is None

    cdef bint is_mask_of(self, Filter other) noexcept:
        """Whether it is a mask on the rows that the other one searches, for all queries alike."""
        return (self.snapshot.n_slots == other.snapshot.n_slots == self.n_rows == other.n_rows
                and self.excluded is None and self.groups is None)

    cdef int64_t n_excluded(self, int64_t i) noexcept nogil:
        """Ids that query i must not find."""
        return 0 if self.excluded is None else self.offsets[i + 1] - self.offsets[i]

    cdef farann_filter of_query(self, int64_t i, uint32_t *places) noexcept nogil:
        """The filter of query i; `places` is zeroed memory for its set of ids."""
        cdef farann_filter result
        cdef int64_t n = self.n_excluded(i)
        result.live, result.ids = self.live, self.snapshot.ids_by_slot
        result.excluded.bits, result.groups = 0, NULL
        if self.groups is not None and self.left_out[i] >= 0:
            result.groups, result.group = &self.groups[0], self.left_out[i]
        if n:
            farann_id_set_fill(&result.excluded, &self.excluded[self.offsets[i]], n, places)
        return result


cdef Filter copied(Filter filter):
    cdef Filter new = Filter.__new__(Filter)
    new.segments[0], new.segments[1] = filter.segments[0], filter.segments[1]
    new.live, new.allowed, new.positions = filter.live, filter.allowed, filter.positions
    new.snapshot, new.n_rows, new.share = filter.snapshot, filter.n_rows, filter.share
    new.excluded, new.offsets = filter.excluded, filter.offsets
    new.groups, new.left_out = filter.groups, filter.left_out
    return new
