"""Memory layout of codes: panels of 16 rows, in whole bytes or in nibbles of two groups each.

`farann_pack_codes` in src_c/quantize.c puts them there.
"""

from __future__ import annotations

import numpy as np

from farann._types import Int64Array, UInt8Array


def empty_panels(n_positions: int, width: int, halves: bool) -> tuple[UInt8Array,
                                                                     UInt8Array | None]:
    """Empty panels for codes of `width` bytes; whole, or split into nibbles."""
    if not halves:
        return np.zeros((n_positions, width), np.uint8), None
    shape = (n_positions, 4 * -(-width // 8))
    return np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)


def bytes_at(positions: Int64Array, panels: UInt8Array,
             low_nibbles: UInt8Array | None) -> UInt8Array:
    """Codes + 128 at some positions, (n, 8 * pairs); low nibbles 0 where they aren't kept."""
    pairs = panels.shape[1] // 4
    panel, row = positions // 16, positions % 16
    high = panels.reshape(-1, pairs, 16, 4)[panel, :, row]
    halves = np.stack([high & 15, high >> 4], axis=2) << 4
    if low_nibbles is not None:
        own = low_nibbles.reshape(-1, 4, pairs, 4, 4)[panel, row // 4, :, row % 4]
        halves |= np.stack([own & 15, own >> 4], axis=2)
    codes: UInt8Array = halves.reshape(len(positions), 8 * pairs).astype(np.uint8, copy=False)
    return codes
