"""Selections by score: the best rows of which no two are nearer than a radius, exactly."""

from __future__ import annotations

from math import inf
from typing import NamedTuple

import numpy as np

from farann._types import Int64Array, Progress
from farann.runtime import batches
from farann.runtime.progress import told
from farann.search.filters import Rows
from farann.store.store import Store, View

_AT_ONCE = 1024  # rows that meet the picks, and then each other, at a time
_CLOSE = 1 << 11  # numbers of float32 between a radius that leaves k rows and one that doesn't


class Ranked(NamedTuple):
    """Rows in the order in which they are considered, as slots, and the limits of a selection."""

    store: Store
    view: View
    order: Int64Array
    per_group: int | None
    threads: int

    def spaced(self, radius: float | None, k: int, progress: Progress = False, *,
               all_or_none: bool = False) -> Int64Array:
        """The first k rows that are not nearer than a radius to one chosen before.

        `all_or_none`: end as soon as there can't be k, with those that there are.
        """
        store, order, picks = self.store, self.order, list[int]()
        picked, groups, room = np.zeros(store.n_slots, np.bool_), None, np.empty(0, np.int64)
        if self.per_group is not None and store.groups is not None:
            groups, room = store.groups.by_slot(), np.full(len(store.groups), self.per_group)
        with told("rows met", len(order), progress) as advance:
            for start in range(0, len(order), _AT_ONCE):
                some = order[start : start + _AT_ONCE]
                advance(len(some))
                if len(picks) == k or (all_or_none and len(picks) + len(order) - start < k):
                    break
                if groups is not None:
                    some = some[room[groups[some]] > 0]
                ends = near = np.zeros(len(some) + 1, np.int64)
                if radius is not None:
                    if picks:
                        met, _ = self._nearer(radius, some, np.flatnonzero(picked), most=1)
                        some = some[np.diff(met) == 0]
                    ends, near = self._nearer(radius, some, np.sort(some))
                for i, slot in enumerate(some.tolist()):
                    if picked[near[ends[i] : ends[i + 1]]].any() or len(picks) == k:
                        continue
                    if groups is not None:
                        if room[groups[slot]] == 0:
                            continue
                        room[groups[slot]] -= 1
                    picked[slot] = True
                    picks.append(slot)
        return np.array(picks, np.int64)

    def widest(self, k: int, progress: Progress) -> tuple[float, Int64Array]:
        """A radius that leaves k rows, where one that is 1/2048 larger doesn't, and the rows.

        Bisection over the numbers of float32, of which there are 2^23 from one to its double.
        """
        sign = 1.0 if self.store.spec.metric.larger_is_further else -1.0
        picks = self.spaced(None, k)
        if len(picks) < k:  # there are no more, however near
            return (0.0 if sign > 0.0 else inf), picks
        if k == 1:
            return sign * inf, picks
        low = self._reach(picks, sign)
        rows = Rows(self.store.n_slots, slots=np.sort(self.order))
        chosen = rows.filter(self.store, self.view, 1, True)
        hits, _ = batches.top(self.view.exact, chosen, self.store.take(picks[:1]), 1, False,
                              self.threads)
        high = min(_place(sign * hits.scores[0, 0]) + 1, _place(inf))  # leaves the first row alone
        halvings = max(high - low, _CLOSE).bit_length() - _CLOSE.bit_length()
        with told("radii tried", halvings, progress) as advance:
            while high - low > _CLOSE:
                before, middle = (high - low).bit_length(), (low + high) // 2
                found = self.spaced(sign * _number(middle), k, all_or_none=True)
                if len(found) == k:
                    picks, low = found, self._reach(found, sign)
                else:
                    high = middle
                advance(before - max(high - low, _CLOSE).bit_length())
        return sign * _number(low), picks

    def _nearer(self, radius: float, slots: Int64Array, others: Int64Array,
                most: int = 0) -> tuple[Int64Array, Int64Array]:
        """Which of some other rows are nearer to each row than a radius: where each one's begin,
        and slots; `others` ascend."""
        larger = self.store.spec.metric.larger_is_further
        # The range has rows at its radius, too: the next number leaves them out.
        radii = np.full(len(slots), np.nextafter(radius, -inf if larger else inf))
        chosen = Rows(self.store.n_slots, slots=others).filter(self.store, self.view, len(slots),
                                                               True)
        hits, _ = batches.in_range(self.view.exact, chosen, self.store.take(slots), radii, True,
                                   self.threads, most)
        return hits.offsets, self.store.slots_of(hits.ids)

    def _reach(self, picks: Int64Array, sign: float) -> int:
        """The place of the largest radius that leaves some rows, of which no two are nearer."""
        store, view, own = self.store, self.view, np.arange(len(picks) + 1, dtype=np.int64)
        chosen = Rows(store.n_slots, slots=np.sort(picks)).filter(store, view, len(picks), True)
        others = chosen.excluding(store.ids.ids_of(picks), own)
        hits, _ = batches.top(view.exact, others, store.take(picks), 1, True, self.threads)
        place = _place((sign * hits.scores).min())
        # The score was rounded: up, if one goes.
        left = self._replace(order=picks).spaced(sign * _number(place), len(picks))
        return place - (len(left) < len(picks))


def _place(number: float) -> int:
    """The place of a number among those of float32, in ascending order; 0 for 0."""
    bits = int(np.float32(number).view(np.int32))
    return bits if bits >= 0 else -(bits & 0x7FFFFFFF)


def _number(place: int) -> float:
    """The number at a place."""
    size = float(np.int32(abs(place)).view(np.float32))
    return size if place >= 0 else -size
