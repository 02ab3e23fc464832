"""Rows that are furthest from the nearest member of a set."""

from libc.math cimport INFINITY
from libc.stdint cimport int64_t

from farann.native.bounds cimport CeilingBound, NormBound, lie_by_norm
from farann.native.coded_queries cimport CodedQueries
from farann.native.codes cimport Codes
from farann.native.integer_keys cimport IntegerKeys
from farann.native.judge cimport Judge
from farann.native.kernels cimport *
from farann.native.key_level cimport KeyLevel
from farann.native.levels cimport code_rows_of
from farann.native.process cimport CancelFlag
from farann.native.query_batch cimport QueryBatch
from farann.native.search cimport Part
from farann.native.task cimport FEW_ROWS, Task
from farann.native.set_collector cimport SetBound, SetCollector, SetKeyLevel
from farann.native.snapshot cimport Filter, Snapshot
from farann.native.sources cimport CodeSource, RowSource


cdef class SetSearch(Task):
    """Some sets of a batch: `run` answers them, as a search for their members does.

    Parameters
    ----------
    snapshot : Snapshot
        With vectors.
    filter : Filter
        Which rows may be found; excluded ids are those of sets, counted through the whole batch.
    members : float32 (m, dim)
        Of these sets, one set after the other.
    offsets : int64 (n + 1,)
        Where the members of each set begin, from 0 on; no set is empty.
    start : int
        The first set's number in the whole batch.
    k : int
    epsilon : float
        No row that is left out is more than (1 + epsilon) times as far as the k-th found, or
        better by epsilon.
    budget : int
        How many rows of the last build to scan, in whole panels; 0: all.
    raw : bool
        Compare keys of members as they are, under cosine, too.
    floor : float
        Rows below this key over their set need not be found.
    """

    def __init__(self, Snapshot snapshot, Filter filter, const float[:, ::1] members,
                 const int64_t[::1] offsets, int64_t start, int64_t k, *, double epsilon=0.0,
                 int64_t budget=0, bint raw=False, double floor=-INFINITY,
                 CancelFlag flag=None):
        cdef int64_t n = members.shape[0], largest_block
        cdef bint listed = filter.segments[0].positions != NULL
        cdef Codes codes = None if listed or filter.n_rows <= FEW_ROWS else snapshot.codes
        if not snapshot.vectors:
            raise ValueError("sets can't be searched for without vectors")
        # The sets apply their own exclusions.
        self.batch = QueryBatch.of(snapshot, filter.for_others(n), members, 0, n, 1, False, flag)
        self.batch.epsilon = epsilon
        self.make_room()
        largest_block = self.batch.block_rows
        if codes is not None:
            largest_block = max(largest_block, code_rows_of(codes))
        self.collector = self.sets = SetCollector.__new__(SetCollector)
        self.sets.raw, self.sets.floor = raw, floor
        self.sets.set_up(self.batch, 0, largest_block, True, False)
        self.sets.take_sets(filter, offsets, start, max(min(k, filter.n_rows), 1), largest_block)
        self.judge = Judge.of(
            self.batch, self.sets,
            CeilingBound.of(self.batch, IntegerKeys.of(self.batch, self.sets.rows)),
            (0.0, 0.0, 0.0, 0.0), False)
        self.keys = KeyLevel.of(self.batch, self.sets, self.judge)
        if codes is None:
            self.add_rows(RowSource.of(self.batch, &filter.segments[0]),
                          SetKeyLevel.of(self.sets, False), None, True, False)
        else:
            self.put_codes_together(codes, budget)
        if filter.segments[1].count:
            self.add_rows(RowSource.of(self.batch, &filter.segments[1]),
                          SetKeyLevel.of(self.sets, False), None, True, True)
        self.prepare()
        if self.coded is not None:
            self.sets.find_coded(self.coded)

    cdef put_codes_together(self, Codes codes, int64_t budget):
        """The parts of the rows of the last build."""
        cdef int64_t n = codes.n_positions
        cdef Part part
        self.coded = CodedQueries.of_batch(self.batch, codes, False, codes.has_pca_filter)
        part = Part()
        part.source, part.level = CodeSource.of(self.batch, codes, 0), SetKeyLevel.of(self.sets, True)
        part.coded, part.usable = self.coded, False
        self.add(part)
        self.add_outliers(codes, SetKeyLevel.of(self.sets, False))
        if 0 < budget < n:
            n = min(whole_panels(budget), n)
        self.add_some(codes, 0, n)
        if n < codes.n_positions:  # a budget must not leave fewer than k
            self.add_some(codes, n, codes.n_positions)

    cdef add_some(self, Codes codes, int64_t first, int64_t stop):
        """Coded rows at some positions; all of a block are scored if tiles of members are."""
        cdef CodeSource source = CodeSource.of(self.batch, codes, 0)
        cdef NormBound norms = NormBound.of(self.coded) if lie_by_norm(self.batch, codes) else None
        cdef bint scored = (self.coded.width > 1 and not codes.has_pca_filter
                            and not codes.int4_alone)
        source.first, source.stop, source.all_scored = first, stop, scored
        self.add_codes(source, self.coded, code_rows_of(codes) if scored else 0, False)
        (<Part>self.parts[self.n_parts - 1]).bound = SetBound.of(self.sets, norms, first > 0)
        (<Part>self.parts[self.n_parts - 1]).floats = None

    def write_top(self, float[:, ::1] scores, int64_t[:, ::1] ids, int64_t start):
        """Write the answers to rows start, start + 1, ... of `scores` and `ids`."""
        self.sets.write_top(scores, ids, start)

    def write_keys(self, double[:, ::1] keys, int64_t start):
        """Write the keys of the answers, -infinity where there are fewer rows."""
        self.sets.write_keys(keys, start)
