"""Codes of rows that were added since the last build, made as those of its rows were.

Rows wait until there are some panels of them, and are coded as a run. Several runs of a size become
one, as in a log-structured merge tree (O'Neil et al. 1996). Rows that are too large for the scales
of the base have no codes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farann import _core
from farann._types import Float32Array, Float64Array, Int64Array, RowArray
from farann.contract.index_spec import IndexSpec
from farann.layout import coding
from farann.layout.coding import Sizes
from farann.quantize.records import CodeArrays
from farann.runtime.process import ieee_arithmetic

LEAST_RUN = 256  # least rows that are coded together; fewer are scanned as quickly in float32
_FAN = 8  # runs of 256 * 8**i rows or more are on level i; 8 runs of a level are merged into one
# Largest coordinate of a coded row, as a multiple of the base's largest: the error bound of all
# codes grows with it.
_LARGEST_ADDED = 2.0
_ROOM = 1.5  # allocated room for codes, as a multiple of the need

_NO_ROWS = np.empty(0, np.int64)
_PANEL = _core.code_rows(1)
_BY_POSITION = ("panels", "low_nibbles", "squares", "slots", "whole", "whole_inv_scale",
                "whole_squares")
_BY_PANEL = ("inv_scale", "low_nibble_norm", "max_norm", "max_along")


class Run(NamedTuple):
    """Positions of rows that lie in an order of their own, the largest key bounds first."""

    start: int
    stop: int

    @property
    def n(self) -> int:
        return self.stop - self.start


class Added(NamedTuple):
    """Codes of some rows of the tail, and which rows have none; rows count from its first one.

    Codes of merged runs stay in place, for older stores, until there is no more room.
    """

    room: CodeArrays | None = None  # with spare room at the end
    codes: CodeArrays | None = None  # without
    runs: tuple[Run, ...] = ()
    waiting: Int64Array = _NO_ROWS
    large: Int64Array = _NO_ROWS  # rows that codes can't hold

    @property
    def uncoded(self) -> Int64Array:
        """Rows without codes, in their order."""
        return np.sort(np.concatenate([self.large, self.waiting]))

    def grown(self, base: CodeArrays, tail: RowArray, n_new: int, n_base: int,
              center: Float64Array, spec: IndexSpec, isa: str,
              queries: Callable[[], Float32Array]) -> Added:
        """Take in the last rows of the tail, and code them once there are enough."""
        new = np.arange(len(tail) - n_new, len(tail), dtype=np.int64)
        waiting = np.concatenate([self.waiting, new])
        if len(waiting) < LEAST_RUN or n_base + len(tail) > coding.MOST_ORDERED:
            return self._replace(waiting=waiting)
        with ieee_arithmetic():
            measured = coding.sizes_like(base, tail[waiting], center, spec, isa)
            fit = measured.largest <= _LARGEST_ADDED * base.largest
            large = np.concatenate([self.large, waiting[~fit]])
            # Rows that would not fill a panel wait on.
            now = np.flatnonzero(fit)
            now, later = np.split(now, [len(now) // _PANEL * _PANEL])
            if len(now) == 0:
                return self._replace(waiting=waiting[later], large=large)
            count = self._kept_beside(len(now))
            merged = self.runs[len(count):]
            old = [self._rows_of(run, n_base) for run in merged]
            rows = np.concatenate([*old, waiting[now]])
            sizes = Sizes.joined([*(coding.sizes_like(base, tail[some], center, spec, isa)
                                    for some in old), measured.of(now)])
            codes = coding.code_like(base, tail[rows], sizes, center, spec, isa, queries())
            assert codes.slots is not None
            codes = replace(codes, slots=(n_base + rows)[codes.slots].astype(np.int32))
            return self._replace(runs=count, waiting=waiting[later], large=large)._with(codes)

    def _kept_beside(self, n: int) -> tuple[Run, ...]:
        """The runs that aren't merged when n rows are coded."""
        runs = self.runs
        while True:
            above, count = LEAST_RUN * _FAN, len(runs)  # rows of the levels above that of n
            while n >= above:
                above *= _FAN
            while count and runs[count - 1].n < above:
                count -= 1
            if len(runs) - count < _FAN - 1:
                return runs
            n += sum(run.n for run in runs[count:])
            runs = runs[:count]

    def _rows_of(self, run: Run, n_base: int) -> Int64Array:
        assert self.codes is not None and self.codes.slots is not None
        return self.codes.slots[run.start : run.stop].astype(np.int64) - n_base

    def _with(self, codes: CodeArrays) -> Added:
        """Append a run, behind the codes that older stores see."""
        n, runs, room = 0 if self.codes is None else len(self.codes.panels), self.runs, self.room
        end = n + len(codes.panels)
        if room is None or end > len(room.panels):
            lie = np.concatenate([_NO_ROWS, *(np.arange(run.start, run.stop) for run in runs)])
            n, end, old = len(lie), len(lie) + len(codes.panels), room or codes
            longer: dict[str, Any] = {}
            for name, values, step in parts(old):
                longer[name] = np.empty((int(_ROOM * end) // step, *values.shape[1:]), values.dtype)
                longer[name][: n // step] = values[lie[::step] // step]
            room = replace(old, **longer)
            ends = accumulate(run.n for run in runs)
            runs = tuple(Run(stop - run.n, stop) for stop, run in zip(ends, runs, strict=True))
        for name, values, step in parts(codes):
            getattr(room, name)[n // step : end // step] = values
        bounds, whole_bounds = room.bounds.or_larger(codes.bounds), room.whole_bounds
        if whole_bounds is not None and codes.whole_bounds is not None:
            whole_bounds = whole_bounds.or_larger(codes.whole_bounds)
        room = replace(room, bounds=bounds, whole_bounds=whole_bounds)
        filled: Any = {name: values[: end // step] for name, values, step in parts(room)}
        return self._replace(room=room, codes=replace(room, **filled), runs=(*runs, Run(n, end)))

    def with_runs(self, codes: CodeArrays, ends: Int64Array, n_base: int, n_tail: int) -> Added:
        """These runs and more, from a file; ValueError where they aren't those of a tail.

        Rows without codes wait, also those that codes can't hold: they are measured again.
        """
        begins, slots = np.append(0, ends[:-1]), codes.slots
        if slots is None or not len(ends) or (ends <= begins).any() or (
                ends[-1] != len(codes.panels) or (ends % _PANEL).any()):
            raise ValueError("runs must be whole panels")
        rows = np.concatenate([*(self._rows_of(run, n_base) for run in self.runs), slots - n_base])
        if rows.min() < 0 or rows.max() >= n_tail:
            raise ValueError("slots must be those of added rows")
        uncoded = np.ones(n_tail, np.bool_)
        uncoded[rows] = False
        waiting = np.flatnonzero(uncoded).astype(np.int64, copy=False)
        if len(waiting) + len(rows) != n_tail:
            raise ValueError("slots must be those of different rows")
        added = self._replace(waiting=waiting, large=_NO_ROWS)
        if not added.runs:
            runs = tuple(map(Run, begins.tolist(), ends.tolist()))
            return added._replace(room=codes, codes=codes, runs=runs)
        for start, stop in zip(begins.tolist(), ends.tolist(), strict=True):
            part: Any = {name: values[start // step : stop // step]
                         for name, values, step in parts(codes)}
            added = added._with(replace(codes, **part))
        return added


def shared(base: CodeArrays) -> dict[str, Any]:
    """Fields that codes of added rows have in common with those of the base."""
    return {"signs": base.signs, "outliers": _NO_ROWS, "pca_axes": base.pca_axes,
            "pca_filter": base.pca_filter, "mean_query_direction": base.mean_query_direction}


def own(base: CodeArrays, spec: IndexSpec) -> set[str]:
    """Names of the fields that codes of added rows have for themselves."""
    names = {"panels", "inv_scale", "slots", "bounds"}
    names |= {"low_nibbles", "low_nibble_norm"} if base.pca_filter is None else {
        "whole", "whole_inv_scale", "whole_bounds"}
    if base.squares is not None:
        names |= {"squares"} if base.pca_filter is None else {"squares", "whole_squares"}
    if base.max_norm is not None or not spec.metric.normalized:  # see `coding.sizes_like`
        names |= {"max_norm"} if base.mean_query_direction is None else {"max_norm", "max_along"}
    return names


def parts(codes: CodeArrays) -> Iterator[tuple[str, npt.NDArray[Any], int]]:
    """Arrays by position and by panel: name, values, and positions for each of these."""
    for names, step in ((_BY_POSITION, 1), (_BY_PANEL, _PANEL)):
        for name in names:
            if getattr(codes, name) is not None:
                yield name, getattr(codes, name), step
