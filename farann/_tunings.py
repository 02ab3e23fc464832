"""The tunings of one layout of codes, shared by all stores that have this layout."""

from __future__ import annotations

from collections.abc import Callable

from farann import _tasks
from farann._types import Float32Array
from farann.tuning import Tuning


class Tunings:
    """Tunings by k, with the queries that each was measured with, if somebody gave any.

    They belong to a layout: adding and removing rows keeps them, a build begins anew.
    """

    def __init__(self) -> None:
        self.by_k: dict[int, Tuning] = {}
        self.queries: dict[int, Float32Array] = {}
        self._lock = _tasks.fresh_lock(self)

    def measured_once(self, k: int, measure: Callable[[], Tuning]) -> Tuning:
        """The tuning for k; searches that need it at once wait for one measurement."""
        found = self.by_k.get(k)
        if found is not None:
            return found
        with self._lock:
            if k not in self.by_k:
                self.by_k[k] = measure()
            return self.by_k[k]
