"""Codes packed, unpacked and put into another order in the memory they have.

A build then holds the codes of all rows once, not once for each of their layouts.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from farann import _core
from farann._codes import blocks_of
from farann._types import Int32Array, Int64Array

Codes = npt.NDArray[np.int8]


def pack(codes: Codes) -> None:
    """Make panels of codes that lie row after row, (n, 4 * n_groups) with n of whole panels."""
    for block in blocks_of(len(codes)):
        part = codes[block]
        _core.pack_codes(part.copy(), np.arange(len(part)), part)


def unpack(panels: Codes) -> None:
    """Undo `pack`."""
    panel = _core.code_rows(1)
    for block in blocks_of(len(panels)):
        part = panels[block]
        n, width = part.shape
        part[:] = part.reshape(n // panel, width // 4, panel, 4).swapaxes(1, 2).reshape(n, width)


def permute(rows: Codes, order: Int32Array | Int64Array) -> None:
    """Put what was rows[order[i]] at position i, for an order that has every row once."""
    # Where each row lies, and which row lies there: what stands in the way is swapped out.
    place = np.arange(len(rows), dtype=np.int32 if len(rows) < 2**31 else np.int64)
    holds = place.copy()
    for block in blocks_of(len(rows)):
        wanted, here = order[block], np.arange(block.start, block.stop)
        sources = place[wanted]
        outside = (sources < block.start) | (sources >= block.stop)
        stays = np.zeros(len(here), np.bool_)
        stays[sources[~outside] - block.start] = True
        freed, leaving = sources[outside], here[~stays]
        moved_rows, moved = holds[leaving], rows[leaving]
        rows[block] = rows[sources]
        rows[freed] = moved
        holds[block], place[wanted] = wanted, here
        holds[freed], place[moved_rows] = moved_rows, freed
