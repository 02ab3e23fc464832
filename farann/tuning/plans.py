"""The tunings of one layout of codes, shared by all stores that have this layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from farann._types import Float32Array, Int64Array, UInt8Array
from farann.runtime import pool

if TYPE_CHECKING:
    from farann.tuning.guard import Guard
    from farann.tuning.table import Tuning

# A tuning no longer holds once over 1/100 of the answers to its sample were removed.
_LOST = 100


class Measured(NamedTuple):
    """A tuning, its guard, and the slots of the answers to its queries, with repetitions."""

    tuning: Tuning
    guard: Guard | None
    answers: Int64Array


class Tunings:
    """Tunings by k, with their guards, and the queries that each was measured with, if somebody
    gave any.

    They belong to a layout: adding and removing rows keeps them, a build begins anew. A tuning
    without a guard is only for exact search, or from a file older than guards.
    """

    def __init__(self) -> None:
        self.by_k: dict[int, Tuning] = {}
        self.guards: dict[int, Guard] = {}
        self.queries: dict[int, Float32Array] = {}
        self.answers: dict[int, Int64Array] = {}  # not of tunings from files
        self.removed_before = 0  # rows that were removed when a file was read
        # Guard of the sample that is used where none is given: the same for each k.
        self.usual: Guard | None = None
        self._lock = pool.fresh_lock(self)

    def measured_once(self, k: int, measure: Callable[[], Measured],
                      holds: Callable[[], bool]) -> Tuning:
        """Return the tuning for k, measured again if it no longer holds.

        Searches that need it at the same time wait for one measurement."""
        found = self.by_k.get(k)
        if found is not None and holds():
            return found
        with self._lock:
            if k not in self.by_k or not holds():
                self.keep(k, measure())
            return self.by_k[k]

    def holds(self, k: int, alive: UInt8Array | None, n_removed: int) -> bool:
        """Whether nearly all answers that the tuning for k was measured with are still there."""
        if alive is None or k not in self.guards:
            return True
        answers = self.answers.get(k)
        if answers is None:
            return n_removed == self.removed_before
        return bool((alive[answers] == 0).sum() * _LOST <= len(answers))

    def keep(self, k: int, measured: Measured, queries: Float32Array | None = None) -> None:
        """Put a tuning in the place of that for k."""
        tuning, guard, self.answers[k] = measured
        # A search that takes the guard of one and the table of the other is guarded all the same.
        if guard is None:
            self.guards.pop(k, None)
        else:
            self.guards[k] = guard
        if queries is not None:
            self.queries[k] = queries
        self.by_k[k] = tuning
