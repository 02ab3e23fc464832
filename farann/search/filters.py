"""Turn ids to exclude or to allow into the core's filter."""

from __future__ import annotations

import math
import weakref
from collections.abc import Set
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from farann import _core
from farann._types import BoolArray, Ids, Int32Array, Int64Array, UInt8Array
from farann.contract import checks
from farann.contract.strings import Strings, are_strings
from farann.runtime.cost import COSTS, FEW_QUERIES, PACKED_COORDINATE, SINGLE_COSTS
from farann.store import asked_ids
from farann.store.asked_ids import Checked
from farann.store.ids import distinct

if TYPE_CHECKING:
    from farann.store.groups import GroupLabels, Groups
    from farann.store.live import Live
    from farann.store.store import Store, View

# Allowed rows are a list, whose rows each query scores in float32, or a mask: each query scans the
# codes of all rows, and skips unmarked ones. `_list_pays` compares both by these costs, to which it
# adds the products of `cost.COSTS`. Fitted to 456 pairs of searches on an AMD EPYC (Zen 3): seven
# sets of 100 to 400,000 rows, k = 10 and 100, 5 to 70 % allowed, 1 to 200 queries.
_LISTED = 30.0  # ns to fetch a listed row
_LISTED_ALONE = 10.0  # the same where fewer than FEW_QUERIES ask, which ask ahead
_LISTED_SLOT = 1.2  # ns to look at a slot of a mask for a list
_LISTED_ANEW = 80000.0  # ns more for a single query, whose kept search takes masks alone
_CODE_COORDINATE = 0.2  # ns to read a coordinate of a code, for all queries together
_PASSED_BY_MASK = 45.0  # ns for each row that is expected to pass

_SORTED_BELOW = 16  # ids of fewer than 1/16 of the rows are sorted, more marked without sorting
_EXACT_BELOW = 4  # searches are exact if at most 1/4 of the rows are allowed
# Ids to exclude for a whole batch are listed for each query, up to 2^20 in all (ids times queries);
# more are removed from the allowed rows.
_MOST_LISTED = 1 << 20
_LEFT_OUT = 16  # if the excluded group holds over 1/16 of the rows, the tuning table is ignored


# What may be allowed: ids, a mask, or rows that were prepared.
Allowed: TypeAlias = "Ids | Filter"
# Searches for single queries, by instruction-set level, k and recall; and rows of a group, where
# these are limited.
Singles: TypeAlias = dict[tuple[Any, ...], _core.SingleSearch]


class Rows:
    """Allowed rows of a store, as a mask of its slots or a list of them, and their filters."""
    count: int

    def __init__(self, n_slots: int, *, mask: UInt8Array | None = None,
                 slots: Int64Array | None = None) -> None:
        self._mask, self._slots = mask, slots
        self.count = len(self.slots()) if mask is None else int(
            np.count_nonzero(mask.view(np.bool_)))
        self._n_slots = n_slots
        self._filters: dict[bool, _core.Filter] = {}  # by whether rows are listed
        self.of_groups: Groups | None = None  # groups of these rows alone, once they are needed
        self.singles: Singles | None = None  # a cache; None: the rows aren't those of a `Filter`

    def mask(self) -> UInt8Array:
        """A byte for each slot, 1 for the rows."""
        if self._mask is not None:
            return self._mask
        mask = np.zeros(self._n_slots, np.uint8)
        mask[self.slots()] = 1
        return mask

    def slots(self) -> Int64Array:
        """The slots of the rows, ascending."""
        if self._slots is not None:
            return self._slots
        return np.flatnonzero(self.mask().view(np.bool_)).astype(np.int64, copy=False)

    def filter(self, store: Store, view: View, n_queries: int, exact: bool,
               k: int = 0) -> _core.Filter:
        """The rows as a list, which each query scores in float32, or as a mask, under which it
        scans the codes of all rows: what costs less for the k best rows of `n_queries` queries.

        Approximate searches, and those without vectors, take masks alone.
        """
        listed = exact and store.n_coded is None and _list_pays(
            self.count, view.snapshot.n_slots, store.dim, view.coded_dim, k, n_queries,
            view.snapshot.isa, made=self.singles is not None)
        if listed not in self._filters:
            self._filters[listed] = (
                _core.Filter(view.snapshot, slots=self.slots()) if listed else
                _core.Filter(view.snapshot, self.mask(), share=self.count / max(self._n_slots, 1)))
        return self._filters[listed]


class Filter:
    """Rows that searches of an index may find, prepared once; made by `Index.filter`.

    Give it to searches as ``allowed``. It holds ids and labels of groups, so it may be kept while
    the index changes: searches find what they would find if they were given these. The first search
    after a change looks them up again.

    Any number of threads may use a filter at once.

    Examples
    --------
    >>> index = farann.Index()
    >>> index.add([[1.0], [2.0], [3.0], [4.0]])
    array([0, 1, 2, 3])
    >>> stock = index.filter(allowed=[0, 1, 2], exclude=[2])
    >>> index.search_furthest([[0.0], [9.0]], k=2, allowed=stock).ids
    array([[1, 0],
           [0, 1]])
    """

    def __init__(self, live: Live, filtering: Filtering) -> None:
        self._live, store = live, live.store
        self._allowed: Checked | None = None
        self._exclude: Checked | None = None
        self._groups: GroupLabels | None = None
        # Rows by the store that ids were looked up in. Two threads that look up find the same.
        self._found: weakref.WeakKeyDictionary[Store, Rows] = weakref.WeakKeyDictionary()
        if all(said is None for said in filtering):
            raise ValueError("filter: expected exclude, allowed, groups or outside_groups, "
                             "got none of them")
        filtering = filtering.without_nothing()
        if filtering.allowed is not None:
            mask, self._allowed = _allowed(store, 0 if store is None else len(store),
                                           filtering.allowed)
            if mask is not None and store is not None:
                ids = store.live_ids()[mask]
                self._allowed = ids if store.labels is None else store.labels.strings.of(ids)
        if filtering.exclude is not None:
            self._exclude = asked_ids.checked(store, "exclude", filtering.exclude, padding=True)
        self._by, labels = filtering.labels()
        if labels is not None:
            from farann.store.groups import to_labels

            self._groups = to_labels(self._by, labels)
            if store is not None:
                self._rows_of(store)  # raises if labels are strings and those of add integers

    def __repr__(self) -> str:
        def number(ids: Checked | None, otherwise: str) -> str:
            if ids is None:
                return otherwise
            return f"{ids.n if isinstance(ids, Strings) else len(ids):,} ids"
        groups = "" if self._groups is None else (
            f", {'of' if self._by == 'groups' else 'outside'} {len(self._groups):,} groups")
        return (f"<farann.Filter: allowed {number(self._allowed, 'all')}, "
                f"excluded {number(self._exclude, 'none')}{groups}>")

    def __len__(self) -> int:
        """The number of rows of the index that pass now."""
        store = self._live.store
        return 0 if store is None else self._rows_of(store).count

    def __bool__(self) -> bool:
        """True, also where no row passes."""
        return True

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a Filter belongs to its index and can't be pickled or copied; make "
                        "another with index.filter")

    def _rows_of(self, store: Store) -> Rows:
        rows = self._found.get(store)
        if rows is None:
            rows = self._found[store] = self._looked_up(store)
            rows.singles = {}
        return rows

    def singles(self, store: Store) -> Singles | None:
        """The cache of prepared single queries, if the filter was looked up in this store."""
        rows = self._found.get(store)
        return None if rows is None else rows.singles

    def _looked_up(self, store: Store) -> Rows:
        allowed, exclude = (None if ids is None else asked_ids.numbers(store, ids)
                            for ids in (self._allowed, self._exclude))
        if self._groups is None and exclude is None and allowed is not None:
            return rows_of_ids(store, allowed)
        mask = np.ones(store.n_slots, np.uint8)
        if exclude is not None:
            mask = store.ids.marked(exclude) ^ np.uint8(1)
        if allowed is not None:
            mask &= store.ids.marked(allowed)
        if self._groups is not None and store.n_slots:
            groups = _groups_of(store, self._by)
            numbers = groups.numbers_of(self._by, self._groups)
            passing = np.full(len(groups), self._by == "outside_groups", np.uint8)
            passing[numbers[numbers >= 0]] ^= np.uint8(1)
            mask &= passing[groups.by_slot()]
        return Rows(store.n_slots, mask=_living(store, mask))


class RowFilters(NamedTuple):
    """The filter arguments of a search, checked and looked up; None where there is no limit."""

    rows: Rows | None
    excluded: tuple[Int64Array, Int64Array] | None
    # One group number per query. `groups`: the only group that the query may find, from which
    # `by_group` makes one filter per group. `outside_groups`: the group that it may not find.
    groups: Int64Array | None = None
    outside_groups: Int32Array | None = None

    def leaves_most(self, store: Store) -> bool:
        """Whether every excluded group holds at most 1/16 of the rows."""
        return self.outside_groups is None or store.groups is None or (
            store.groups.largest(self.outside_groups) * _LEFT_OUT <= store.n_slots)

    def singles(self, store: Store) -> Singles | None:
        """The cache of prepared single queries under these filters; None: they aren't cached."""
        if self.excluded is not None or self.groups is not None or self.outside_groups is not None:
            return None
        if self.rows is None:
            return store.singles
        return None if store.asks_nearest else self.rows.singles

    @property
    def mark_anew(self) -> bool:
        """Whether the rows belong to one search, not to a `Filter`, and are all its filters."""
        return (self.rows is not None and self.rows.singles is None and self.excluded is None
                and self.groups is None and self.outside_groups is None)

    def are_few(self, store: Store) -> bool:
        """Whether at most 1/4 of the rows are allowed and there are vectors: searches are exact."""
        return (self.rows is not None and store.n_coded is None
                and self.rows.count * _EXACT_BELOW <= store.n_slots)

    def most_of_groups(self, groups: Groups, k: int, per_group: int) -> int:
        """An upper limit of the rows that an answer can have, at most k: there is no threshold
        before these are found."""
        if self.rows is None:
            return groups.most(k, per_group)
        if self.rows.of_groups is None:
            self.rows.of_groups = groups.subset(self.rows.slots())
        return self.rows.of_groups.most(k, per_group)

    def of(self, which: Int64Array) -> RowFilters:
        """Select the filters of some of the queries."""
        groups, excluded, outside = self.groups, self.excluded, self.outside_groups
        if excluded is not None:
            places, ends = spans(excluded[1], which)
            excluded = excluded[0][places], ends
        return RowFilters(self.rows, excluded, None if groups is None else groups[which],
                          None if outside is None else outside[which])

    def filter(self, store: Store, view: View, n_queries: int, *, exact: bool,
               k: int = 0) -> _core.Filter:
        """The filter for the core; see `Rows.filter`."""
        assert self.groups is None
        chosen = view.everything
        if self.rows is not None:
            chosen = self.rows.filter(store, view, n_queries, exact, k)
        if self.outside_groups is not None and store.groups is not None:
            chosen = chosen.outside(store.groups.by_slot(), self.outside_groups)
        return chosen if self.excluded is None else chosen.excluding(*self.excluded)

    def slots(self, store: Store) -> Int64Array:
        """Slots of the rows that may be found, for a single query."""
        slots = store.live_slots() if self.rows is None else self.rows.slots()
        if self.excluded is not None:
            slots = slots[~np.isin(store.ids.ids_of(slots), self.excluded[0])]
        if self.outside_groups is not None and store.groups is not None:
            slots = slots[store.groups.by_slot()[slots] != self.outside_groups[0]]
        return slots

    def by_group(self, store: Store) -> list[tuple[Int64Array, RowFilters]]:
        """Split queries by group, with a filter for each; groups without rows are left out."""
        assert self.groups is not None
        allowed = None if self.rows is None else self.rows.mask()
        order = np.argsort(self.groups, kind="stable")
        ends = np.flatnonzero(np.diff(self.groups[order], append=-2)) + 1
        parts = []
        for which in np.split(order, ends[:-1]):
            rows = _rows_within(store, int(self.groups[which[0]]), allowed)
            if rows.count:
                part = self._replace(rows=rows, groups=None).of(which)
                parts.append((which, part))
        return parts


UNFILTERED = RowFilters(None, None)


def spans(offsets: Int64Array, which: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Places of the elements of some queries, and the offsets of these alone."""
    counts = offsets[which + 1] - offsets[which]
    ends = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return np.arange(ends[-1]) + np.repeat(offsets[which] - ends[:-1], counts), ends


def check_owner(live: object, allowed: Any) -> None:
    """Refuse a filter of another index."""
    if isinstance(allowed, Filter) and allowed._live is not live:
        raise ValueError("allowed: expected a Filter of this index, got one of another; make it "
                         "with this index's filter method")


class Filtering(NamedTuple):
    """The filter arguments of a search, as given."""

    exclude: Any = None
    allowed: Any = None
    groups: Any = None
    outside_groups: Any = None
    per_group: Any = None  # a limit of answers, no filter of rows, that comes with these
    # Rows that serve as queries: ids, query after query, and offsets by query. Each query leaves
    # its own rows out, beside those in `exclude`.
    own: tuple[Int64Array, Int64Array] | None = None
    store: Store | None = None  # from which `own` and its vectors were taken; it is searched then

    def without_nothing(self) -> Filtering:
        """Excluding nothing is no filter; to allow nothing, in any form, is to find nothing."""
        settled: dict[str, Any] = {}
        for name in ("exclude", "outside_groups", "allowed", "groups"):
            value, finds = getattr(self, name), name in ("allowed", "groups")
            if value is None or isinstance(value, Filter) or (
                    name == "allowed" and getattr(value, "dtype", None) == np.bool_):
                continue  # an empty mask is one of no rows
            if checks.is_nothing(value, padding=not finds):
                settled[name] = () if finds else None
        return self._replace(**settled) if settled else self

    def labels(self) -> tuple[str, Any]:
        """The name of the group filter that is given, if any, and its labels."""
        if self.groups is not None and self.outside_groups is not None:
            raise ValueError("groups: expected at most one of groups and outside_groups, got "
                             "both")
        return (("outside_groups", self.outside_groups) if self.groups is None
                else ("groups", self.groups))


def row_filters(store: Store, n_rows: int, filtering: Filtering, n_queries: int,
                single: bool) -> RowFilters:
    """Check the filter arguments of a search among `n_rows` rows, and look the rows up."""
    filtering = filtering.without_nothing()
    rows, excluded = _allowed_rows(store, n_rows, filtering.allowed), None
    exclude = filtering.exclude
    if exclude is not None and not single and checks.is_flat(exclude):
        ids = asked_ids.numbers(store, asked_ids.checked(store, "exclude", exclude, padding=True))
        if len(ids) * n_queries > _MOST_LISTED:
            mask = _living(store, store.ids.marked(ids) ^ np.uint8(1))
            rows = Rows(store.n_slots, mask=mask if rows is None else mask & rows.mask())
        elif len(ids) and n_queries:
            excluded = np.tile(ids, n_queries), np.arange(n_queries + 1) * len(ids)
    elif exclude is not None:
        ids, offsets = asked_ids.listed(store, "exclude", exclude, n_queries, single)
        excluded = (ids, offsets) if len(ids) else None
    if filtering.own is not None:
        excluded = filtering.own if excluded is None else both(excluded, filtering.own)
    name, labels = filtering.labels()
    if labels is None:
        return RowFilters(rows, excluded)
    groups = _groups_asked(store, name, labels, n_queries)
    if name == "outside_groups":
        return RowFilters(rows, excluded, outside_groups=groups.astype(np.int32))
    if (groups != groups[:1]).any():
        return RowFilters(rows, excluded, groups=groups)
    return RowFilters(_rows_within(store, int(groups[0]) if n_queries else -1,
                                   None if rows is None else rows.mask()), excluded)


def both(some: tuple[Int64Array, Int64Array],
         others: tuple[Int64Array, Int64Array]) -> tuple[Int64Array, Int64Array]:
    """Join two lists of ids, query by query."""
    counts = [np.diff(offsets) for _, offsets in (some, others)]
    order = np.argsort(np.concatenate([np.repeat(np.arange(len(n)), n) for n in counts]),
                       kind="stable")
    return np.concatenate([some[0], others[0]])[order], some[1] + others[1]


def slots_and_mask(live: Live, store: Store,
                   filtering: Filtering) -> tuple[Int64Array, UInt8Array | None]:
    """Slots of the rows that a selection may choose, and their mask; None: all. Labels of groups
    are as for `Index.filter`."""
    filtering = filtering.without_nothing()
    rows = _allowed_rows(store, len(store), filtering.allowed)
    others = filtering._replace(allowed=None)
    mask = store.mask if rows is None else rows.mask()
    if any(said is not None for said in others):
        chosen = Filter(live, others)._rows_of(store).mask()
        mask = chosen if mask is None else mask & chosen
    return store.live_slots() if mask is None else np.flatnonzero(mask), mask


def _groups_asked(store: Store, name: str, labels: Any, n_queries: int) -> Int64Array:
    """The group number of each query; -1 where no row is in the group."""
    from farann.store.groups import to_labels

    checked = to_labels(name, labels)
    for_all = isinstance(labels, str) or np.ndim(labels) == 0
    if isinstance(labels, Set) or (len(checked) not in (0, n_queries) and not for_all):
        raise ValueError(f"{name}: expected a label, or one for each of {n_queries} queries, got "
                         f"{'a set' if isinstance(labels, Set) else len(checked)}; several labels "
                         f"for all queries go to allowed=index.filter({name}=...)")
    if not len(checked) or (store.groups is None and not store.n_slots):
        return np.full(n_queries, -1, np.int64)
    numbers = _groups_of(store, name).numbers_of(name, checked)
    return np.repeat(numbers, n_queries) if for_all else numbers


def _groups_of(store: Store, name: str) -> Groups:
    if store.groups is None:
        raise ValueError(f"{name}: the index has no groups; give them to add, as groups=")
    return store.groups


def _rows_within(store: Store, number: int, allowed: UInt8Array | None) -> Rows:
    """The rows of a group that aren't removed and, given a mask, are allowed."""
    slots = np.empty(0, np.int64)
    if number >= 0 and store.groups is not None:
        slots = store.groups.slots_of(number)
    for marks in (store.mask, allowed):
        if marks is not None:
            slots = slots[marks[slots] != 0]
    return Rows(store.n_slots, slots=slots)


def _allowed_rows(store: Store, n_rows: int, allowed: Any) -> Rows | None:
    """Look up `allowed`."""
    if allowed is None or isinstance(allowed, Filter):
        return None if allowed is None else allowed._rows_of(store)
    mask, ids = _allowed(store, n_rows, allowed)
    return rows_of_ids(store, asked_ids.numbers(store, ids)) if mask is None else (
        rows_of_mask(store, mask))


def _allowed(store: Store | None, n_rows: int, allowed: Any) -> tuple[BoolArray | None, Checked]:
    """A mask of allowed rows, or ids of them, checked."""
    if type(allowed) is np.ndarray and allowed.dtype == np.bool_ and allowed.shape == (n_rows,):
        return allowed, np.empty(0, np.int64)
    if not are_strings(allowed):
        allowed = checks.to_array("allowed", list(allowed) if isinstance(allowed, Set) else allowed)
        if allowed.dtype == np.bool_:
            if allowed.shape != (n_rows,):
                raise ValueError(f"allowed: expected a mask of shape ({n_rows},), got "
                                 f"{allowed.shape}")
            return allowed, np.empty(0, np.int64)
        if allowed.shape == (n_rows,) and n_rows > 2 and allowed.dtype.kind in "iu" and (
                0 <= allowed.min() <= allowed.max() <= 1):
            raise ValueError(f"allowed: expected ids or a boolean mask, got {n_rows} numbers 0 and "
                             "1, one for each row; write mask.astype(bool)")
    return None, asked_ids.checked(store, "allowed", allowed, copy=False)


def only(store: Store, view: View, slots: Int64Array, n_queries: int) -> _core.Filter:
    """The filter for an exact search of `n_queries` queries among the rows of some slots."""
    if len(slots) == len(store):
        return view.everything
    return Rows(store.n_slots, slots=np.sort(slots)).filter(store, view, n_queries, exact=True)


def rows_of_mask(store: Store, mask: BoolArray) -> Rows:
    """Rows by a mask over those that are not removed; it is copied only if some are removed."""
    if store.mask is None:
        return Rows(len(mask), mask=np.ascontiguousarray(mask).view(np.uint8))
    slots = store.mask.copy()
    slots[slots.view(np.bool_)] = mask
    return Rows(len(slots), mask=slots)


def rows_of_ids(store: Store, ids: Int64Array) -> Rows:
    """Rows by ids in any order; repeated and unknown ids are ignored."""
    if len(ids) * _SORTED_BELOW < store.n_slots:
        slots = distinct(store.slots_of(ids))
        return Rows(store.n_slots, slots=slots[slots >= 0])
    return Rows(store.n_slots, mask=_living(store, store.ids.marked(ids)))


def _living(store: Store, mask: npt.NDArray[np.uint8]) -> UInt8Array:
    """Clear the mask of removed rows."""
    if store.mask is not None:
        mask &= store.mask
    return mask


def _list_pays(n_rows: int, n_slots: int, dim: int, coded_dim: int, k: int, n_queries: int,
               isa: str, *, made: bool) -> bool:
    """Whether scoring a list of n_rows in float32 is faster than a scan of all codes under a mask;
    `made`: the list will be used again."""
    costs, fetched, packed, read = SINGLE_COSTS[isa], _LISTED_ALONE, 0.0, 0.0
    making = 0.0 if made else n_slots * _LISTED_SLOT + (_LISTED_ANEW if n_queries == 1 else 0.0)
    if n_queries >= FEW_QUERIES:
        costs, fetched, packed, read = COSTS[isa], _LISTED, PACKED_COORDINATE, _CODE_COORDINATE
    listed = packed + n_queries * costs.float_product
    scanned = listed * dim
    if coded_dim:
        scanned = (read + n_queries * costs.code_product) * coded_dim
    # Of rows in any order the i-th is better than the k best before with a chance of k in i. Codes
    # are scanned of all rows, so that n_slots / n_rows times as many pass.
    passed = float(n_slots)
    if k < n_rows:
        passed = n_slots * k / n_rows * max(1.0, math.log(n_rows / max(k, 1)))
    return (making + n_rows * (fetched + listed * dim)
            < n_slots * scanned + n_queries * passed * _PASSED_BY_MASK)
