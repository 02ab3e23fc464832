"""Cache of the depths that runs of added rows are scanned to, kept with their store."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from farann._types import Float32Array, Int64Array
    from farann.layout.added_rows import Run
    from farann.tuning.guard import Guard


class Answers(NamedTuple):
    """The rows furthest from sample queries, among the first `n_slots` of a store."""

    guard: object  # that of the tuned queries, which the sample is like
    queries: Float32Array
    scores: Float32Array  # (q, k)
    slots: Int64Array  # (q, k), -1 for none
    n_slots: int
    runs: tuple[Run, ...]  # those that there were
    lost: Int64Array  # (q,), answers that were removed since all rows were searched for a query


class Depths:
    """Depths of one store's runs, kept for the next searches and the next store."""

    def __init__(self) -> None:
        self.answers: dict[int, Answers] = {}  # by k
        self.stops: dict[tuple[int, float], tuple[Guard, Int64Array | None]] = {}

    def later(self) -> Depths:
        """Carry the answers over to a store with other rows and the same layout."""
        new = Depths()
        new.answers = dict(self.answers)
        return new
