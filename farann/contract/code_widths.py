"""What each width of codes means, so that nobody asks for the number of bits.

A code of 8 bits is kept as two nibbles: of narrower ones, what is left of the low nibble is known
to be somewhere in a range, and counts as its middle.
"""

from __future__ import annotations

from typing import NamedTuple


class CodeWidth(NamedTuple):
    """A width of codes, and what follows from it."""

    bits: int
    # Rounded so that likely queries see least of it, and without vectors relative to the means of
    # partitions (`quantize/coarse.py`). Others are as near as rounding gets, and are worth a
    # transform, a PCA filter, and a shorter way for few rows.
    is_coarse: bool

    @property
    def low_bits(self) -> int:
        """Bits of the low nibble that are kept."""
        return self.bits - 4

    @property
    def step(self) -> int:
        """Distance from one code to the next, in units of 8-bit codes."""
        return 1 << (8 - self.bits)

    @property
    def middle(self) -> float:
        """Middle of the values that the dropped bits may have."""
        return (self.step - 1) / 2


INT8 = CodeWidth(8, is_coarse=False)
INT4 = CodeWidth(4, is_coarse=True)
# Code widths by their names in `codes=`, `--codes` and files; None: rows are scored as float32.
CODE_WIDTHS: dict[str, CodeWidth | None] = {"int8": INT8, "int4": INT4, "float32": None}
