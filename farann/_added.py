"""Codes of rows that were added since the last build, made as those of its rows were.

Rows wait for their codes until there are some panels of them. Then they are coded with the turn, the
directions and the scales of the base, and laid down behind those before. Rows that are too large for
these scales have none.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farann import _builder, _core
from farann._builder import CodeArrays
from farann._codes import CodeBounds
from farann._kind import Kind
from farann._process import ieee_arithmetic
from farann._types import Float32Array, Float64Array, Int64Array

# So many rows are coded at a time at least: fewer are as quickly scanned in float32.
AT_ONCE = 128
# Rows may be so many times as large as the largest of the base: what all codes may be off is as the
# scale of the largest.
_LARGEST = 2.0
# Codes are kept where there is room for so many times as many.
_ROOM = 1.5

_PANEL = _core.code_rows(1)
_BY_POSITION = ("panels", "lower", "squares", "slots", "whole", "whole_weights", "whole_squares")
_BY_PANEL = ("weights", "unknown", "longest", "along")


class Added(NamedTuple):
    """Codes of some rows of the tail, and which rows have none; rows count from its first one."""

    room: CodeArrays | None  # with spare room at the end
    n_positions: int
    waiting: Int64Array
    large: Int64Array  # rows that codes can't hold

    @property
    def codes(self) -> CodeArrays | None:
        """The codes without the spare room."""
        if self.room is None:
            return None
        of_positions = {name: _first(getattr(self.room, name), self.n_positions)
                        for name in _BY_POSITION}
        of_panels = {name: _first(getattr(self.room, name), self.n_positions // _PANEL)
                     for name in _BY_PANEL}
        return self.room._replace(**of_positions, **of_panels)

    @property
    def uncoded(self) -> Int64Array:
        """Rows without codes, in their order."""
        return np.sort(np.concatenate([self.large, self.waiting]))

    def grown(self, base: CodeArrays, tail: Float32Array, n_new: int, n_base: int,
              centre: Float64Array, kind: Kind, isa: str) -> Added:
        """The same with the last rows of the tail, coded where there are enough."""
        new = np.arange(len(tail) - n_new, len(tail), dtype=np.int64)
        waiting = np.concatenate([self.waiting, new])
        if len(waiting) < AT_ONCE or n_base + len(tail) > _builder.MOST_ORDERED:
            return self._replace(waiting=waiting)
        return self._coded(base, tail, waiting, n_base, centre, kind, isa)

    @ieee_arithmetic()
    def _coded(self, base: CodeArrays, tail: Float32Array, waiting: Int64Array, n_base: int,
               centre: Float64Array, kind: Kind, isa: str) -> Added:
        rows, largest = tail[waiting], np.empty(len(waiting))
        _core.code_extents(rows, centre, kind.unit, *base.turn, isa, largest)
        fit = largest <= _LARGEST * _builder.largest_coded(base)
        large = np.concatenate([self.large, waiting[~fit]])
        # What would not fill a panel waits on.
        fitting = np.flatnonzero(fit)
        now = fitting[: len(fitting) // _PANEL * _PANEL]
        later = waiting[fitting[len(now):]]
        if len(now) == 0:
            return self._replace(waiting=later, large=large)
        codes = _builder.code_like(base, rows[now], largest[now], centre, kind, isa)
        assert codes.slots is not None
        slots = (n_base + waiting[now])[codes.slots].astype(np.int32)
        codes = codes._replace(slots=slots)
        n = len(codes.panels)
        return Added(_behind(self.room, self.n_positions, codes), self.n_positions + n, later, large)


def nothing_added() -> Added:
    """Of a tail without rows."""
    none = np.empty(0, np.int64)
    return Added(None, 0, none, none)


def _first(values: Any, n: int) -> Any:
    return None if values is None else values[:n]


def _behind(room: CodeArrays | None, n: int, codes: CodeArrays) -> CodeArrays:
    """Codes of more rows behind the first n; what older stores see stays as it is."""
    if room is None:
        return codes
    parts = {}
    for names, first in ((_BY_POSITION, n), (_BY_PANEL, n // _PANEL)):
        for name in names:
            new = getattr(codes, name)
            parts[name] = None if new is None else _appended(getattr(room, name), first, new)
    bounds = _largest(room.bounds, codes.bounds)
    whole_bounds = room.whole_bounds
    if whole_bounds is not None and codes.whole_bounds is not None:
        whole_bounds = _largest(whole_bounds, codes.whole_bounds)
    return room._replace(bounds=bounds, whole_bounds=whole_bounds, **parts)


def _appended(room: npt.NDArray[Any], n: int, new: npt.NDArray[Any]) -> npt.NDArray[Any]:
    needed = n + len(new)
    if needed > len(room):
        larger = np.empty((max(needed, int(_ROOM * n)), *room.shape[1:]), room.dtype)
        larger[:n] = room[:n]
        room = larger
    room[n:needed] = new
    return room


def _largest(some: CodeBounds, others: CodeBounds) -> CodeBounds:
    return CodeBounds(*np.maximum(some, others).tolist())
