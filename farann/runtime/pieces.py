"""Long work in pieces; each search does some of them, by counted work."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import nullcontext
from math import inf
from typing import TypeAlias, TypeVar

from farann.runtime.process import ieee_arithmetic, one_thread

Result = TypeVar("Result")
# Work that stops after each piece, and returns its result at the end.
Pieces: TypeAlias = Generator[None, None, Result]

# Nanoseconds of numpy for a multiply-add of a matrix product, and to read a number of a long array:
# round numbers, guided by timings on an AMD EPYC (Zen 5).
_PRODUCT, _NUMBER = 0.03, 1.0
_PIECE = 1e5  # nanoseconds of a piece beside its work
_FEWEST_LENT = 1e6  # nanoseconds from which pieces are begun, as each takes some time of its own
# Share of an exact search's cost that is lent: pieces take 1.4 to 1.7 times what is counted.
_LENT = 0.6


class Allowance:
    """Nanoseconds of one thread that the next pieces may take; by default unlimited."""
    left: float
    single: float
    query: float

    def __init__(self, left: float = inf) -> None:
        self.left = left  # below 0 where a piece took more
        # What an exact search takes for a single query, and for one of a batch: 0 until it's known.
        self.single = self.query = 0.0
        self.multiplies = False  # whether matrices are multiplied from now on

    @property
    def is_lent(self) -> bool:
        """Whether the nanoseconds are limited, as searches lend them."""
        return self.left != inf

    def lend(self, n_queries: int, share: float, supposed: float) -> bool:
        """Allow most of the work of an exact search in this share of the rows for some queries, of
        each `supposed` until that is known; return whether there is enough to go on."""
        each = (self.single if n_queries == 1 else self.query) or supposed
        self.left += _LENT * share * n_queries * each
        return self.left >= _FEWEST_LENT

    def spend_on(self, products: float, numbers: float) -> None:
        """Spend the nanoseconds of numpy's products, and of the numbers that it reads."""
        self.left -= products * _PRODUCT + numbers * _NUMBER

    def number(self, n: int, each: float) -> int:
        """How many of n queries to do next, at least one, if each takes `each` nanoseconds."""
        return n if not self.is_lent else min(max(int(self.left / max(each, 1.0)), 1), n)

    def advanced(self, pieces: Pieces[Result]) -> Result | None:
        """Do pieces until nothing is left to spend; return the result at the end, else None."""
        try:
            while self.left > 0.0:
                self.left -= _PIECE
                with ieee_arithmetic(), one_thread() if self.multiplies else nullcontext():
                    next(pieces)
        except StopIteration as end:
            result: Result = end.value
            return result
        return None

    def completed(self, pieces: Pieces[Result]) -> Result:
        """Do all pieces; the allowance must be unlimited."""
        result = self.advanced(pieces)
        assert result is not None
        return result
