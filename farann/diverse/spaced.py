"""Selections by score: the best rows of which no two are nearer than a radius, exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import numpy as np
import numpy.typing as npt

from farann._types import Float32Array, Int64Array, Progress
from farann.runtime import batches
from farann.runtime.progress import told
from farann.search.filters import only
from farann.store.store import Store, View

_AT_ONCE = 1024  # rows that are compared at a time, first with the picks, then with each other
_FIRST_MET = 64  # rows of the first such block; the next ones are larger, up to 1,024
_CLOSE = 1 << 11  # a search for the widest radius ends within this number of float32 values


@dataclass(frozen=True, eq=False, kw_only=True)
class Ranked:
    """Rows in the order in which they are considered, as numbers, and the limits of a selection."""

    order: Int64Array
    n_rows: int  # numbers of rows are below this
    larger_is_further: bool
    groups: npt.NDArray[np.integer[Any]] | None  # the number of each row's group
    per_group: int | None
    # For a radius, rows, others in ascending order and about how many to find (0: all), the others
    # that are nearer to each row: where each one's begin, and their numbers.
    nearer: Callable[[float, Int64Array, Int64Array, int], tuple[Int64Array, Int64Array]]
    # For rows, others and whether the nearest is meant, the score of the best other row of each.
    best: Callable[[Int64Array, Int64Array, bool], Float32Array]

    def select(self, radius: float | None, k: int | None,
               progress: Progress = False) -> tuple[float | None, Int64Array]:
        """The first k rows that are spaced by a radius, or by the widest one, and the radius."""
        if radius is None and k is not None:
            return self.widest(k, progress)
        return radius, self.spaced(radius, k or len(self.order), progress)

    def spaced(self, radius: float | None, k: int, progress: Progress = False, *,
               hopeless: Callable[[list[int], int], bool] | None = None) -> Int64Array:
        """The first k rows that are not nearer than a radius to one chosen before; `hopeless`:
        whether to end early, by the rows chosen and the number of rows met."""
        order, groups, picks = self.order, self.groups, list[int]()
        picked, room = np.zeros(self.n_rows, np.bool_), np.empty(0, np.int64)
        if groups is not None:
            room = np.full(groups.max(initial=-1) + 1, self.per_group)
        with told("rows met", len(order), progress) as advance:
            stop = 0
            while stop < len(order):
                start, stop = stop, stop + min(stop + _FIRST_MET, _AT_ONCE)
                some = order[start:stop]
                advance(len(some))
                if len(picks) == k or (hopeless is not None and hopeless(picks, start)):
                    break
                if groups is not None:
                    some = some[room[groups[some]] > 0]
                ends = near = np.zeros(len(some) + 1, np.int64)
                if radius is not None:
                    if picks:
                        met, _ = self.nearer(radius, some, np.flatnonzero(picked), 1)
                        some = some[np.diff(met) == 0]
                    ends, near = self.nearer(radius, some, np.sort(some), 0)
                for i, row in enumerate(some.tolist()):
                    if picked[near[ends[i] : ends[i + 1]]].any() or len(picks) == k:
                        continue
                    if groups is not None:
                        if room[groups[row]] == 0:
                            continue
                        room[groups[row]] -= 1
                    picked[row] = True
                    picks.append(row)
        return np.array(picks, np.int64)

    def nearest(self, picks: Int64Array) -> float | None:
        """The score of the two of some rows that are nearest; None for fewer than two."""
        if len(picks) < 2:
            return None
        scores = self.best(picks, np.sort(picks), True)
        return float(scores.min() if self.larger_is_further else scores.max())

    def dropped(self, radius: float | None, picks: Int64Array) -> tuple[Int64Array, Int64Array]:
        """The rows that are nearer than a radius to a pick before them, and the first such pick of
        each."""
        none = np.empty(0, np.int64)
        if radius is None or len(picks) == 0:
            return none, none
        ranks = np.empty(self.n_rows, np.int64)
        ranks[self.order] = np.arange(len(self.order))
        others, sorted_picks = self.order[~np.isin(self.order, picks)], np.sort(picks)
        first = np.full(len(others), len(self.order))
        for start in range(0, len(others), _AT_ONCE):
            ends, near = self.nearer(radius, others[start : start + _AT_ONCE], sorted_picks, 0)
            np.minimum.at(first, start + np.repeat(np.arange(len(ends) - 1), np.diff(ends)),
                          ranks[near])
        covered = first < ranks[others]
        return others[covered], self.order[first[covered]]

    def widest(self, k: int, progress: Progress) -> tuple[float, Int64Array]:
        """A radius that leaves k rows, where one that is 1/2048 larger doesn't, and the rows.

        Bisection over the numbers of float32, of which there are 2^23 from one to its double.
        """
        sign = 1.0 if self.larger_is_further else -1.0
        picks = self.spaced(None, k)
        if len(picks) < k:  # there are no more, however near
            return (0.0 if sign > 0.0 else inf), picks
        if k == 1:
            return sign * inf, picks
        low = self._reach(picks, sign)
        furthest = self.best(picks[:1], np.sort(self.order), False)
        high = min(_place(sign * furthest[0]) + 1, _place(inf))  # leaves the first row alone
        halvings = max(high - low, _CLOSE).bit_length() - _CLOSE.bit_length()
        with told("radii tried", halvings, progress) as advance:
            while high - low > _CLOSE:
                before, middle = (high - low).bit_length(), (low + high) // 2
                found = self.spaced(sign * _number(middle), k, hopeless=lambda picks, met: (
                    len(picks) + len(self.order) - met < k))
                if len(found) == k:
                    picks, low = found, self._reach(found, sign)
                else:
                    high = middle
                advance(before - max(high - low, _CLOSE).bit_length())
        return sign * _number(low), picks

    def _reach(self, picks: Int64Array, sign: float) -> int:
        """The place of the largest radius that leaves some rows, of which no two are nearer."""
        place = _place((sign * self.best(picks, np.sort(picks), True)).min())
        # The score was rounded: up, if one goes.
        left = replace(self, order=picks).spaced(sign * _number(place), len(picks))
        return place - (len(left) < len(picks))


def inside(radius: float, larger_is_further: bool) -> float:
    """The next number inside a radius: searches within it find no row at the radius itself."""
    return float(np.nextafter(radius, -inf if larger_is_further else inf))


def ranked_slots(store: Store, view: View, order: Int64Array, per_group: int | None,
                 threads: int) -> Ranked:
    """Rows of a store by their slots."""
    larger_is_further = store.spec.metric.larger_is_further

    def nearer(radius: float, rows: Int64Array, others: Int64Array,
               most: int) -> tuple[Int64Array, Int64Array]:
        radii = np.full(len(rows), inside(radius, larger_is_further))
        hits, _ = batches.in_range(view.exact, only(store, view, others, len(rows)),
                                   store.take(rows), radii, True, threads, most)
        return hits.offsets, store.slots_of(hits.ids)

    def best(rows: Int64Array, others: Int64Array, nearest: bool) -> Float32Array:
        chosen = only(store, view, others, len(rows)).excluding(
            store.ids.ids_of(rows), np.arange(len(rows) + 1))
        return batches.top(view.exact, chosen, store.take(rows), 1, nearest,
                           threads)[0].scores[:, 0]

    groups = None if per_group is None or store.groups is None else store.groups.by_slot()
    return Ranked(order=order, n_rows=store.n_slots, larger_is_further=larger_is_further,
                  groups=groups, per_group=per_group, nearer=nearer, best=best)


def _place(number: float) -> int:
    """The place of a number among those of float32, in ascending order; 0 for 0."""
    bits = int(np.float32(number).view(np.int32))
    return bits if bits >= 0 else -(bits & 0x7FFFFFFF)


def _number(place: int) -> float:
    """The number at a place."""
    size = float(np.int32(abs(place)).view(np.float32))
    return size if place >= 0 else -size
