"""The tunings of one layout of codes, shared by all stores that have this layout."""

from __future__ import annotations

from collections.abc import Callable

from farann import _tasks
from farann._guard import Guard
from farann._types import Float32Array
from farann.tuning import Tuning


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
        # Of the sample that is used where nobody gives any: the same for each k.
        self.usual: Guard | None = None
        self._lock = _tasks.fresh_lock(self)

    def measured_once(self, k: int, measure: Callable[[], tuple[Tuning, Guard | None]]) -> Tuning:
        """The tuning for k; searches that need it at once wait for one measurement."""
        found = self.by_k.get(k)
        if found is not None:
            return found
        with self._lock:
            if k not in self.by_k:
                self.keep(k, *measure())
            return self.by_k[k]

    def keep(self, k: int, tuning: Tuning, guard: Guard | None,
             queries: Float32Array | None = None) -> None:
        """Put a tuning in the place of that for k."""
        # A search that takes the guard of one and the table of the other is guarded all the same.
        if guard is None:
            self.guards.pop(k, None)
        else:
            self.guards[k] = guard
        if queries is not None:
            self.queries[k] = queries
        self.by_k[k] = tuning
