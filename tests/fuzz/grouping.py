"""Groups of the rows of a history, and questions that name some of them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import reference
from numpy.typing import NDArray

import farann

# Groups that rows are in; questions name others, too.
ROWS_IN, ASKED_FOR = 5, 6


class Grouping:
    """Which group each row is in, in the order of a history's rows.

    Chances are drawn from a generator of its own, so that histories go on as they did without it.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.limits = rng, rng.spawn(1)[0]
        self.used, self.strings = bool(rng.random() < 0.5), bool(rng.random() < 0.5)
        self.numbers = np.empty(0, np.int64)
        # A filter of groups that is asked with again after changes, whose index it is, and which.
        self.kept: tuple[farann.Index, farann.Filter, str, NDArray[np.int64]] | None = None

    def named(self, numbers: NDArray[np.int64]) -> Any:
        """Labels of groups as users give them."""
        return [f"group {number}" for number in numbers] if self.strings else numbers

    def grown(self, n: int) -> Any:
        """Labels of new rows, or None where rows have none."""
        if not self.used:
            return None
        new = self.rng.integers(0, ROWS_IN, n)
        self.numbers = np.concatenate([self.numbers, new])
        return self.named(new)

    def forget(self, gone: NDArray[Any]) -> None:
        """Rows were removed."""
        if self.used:
            self.numbers = np.delete(self.numbers, gone)

    def reorder(self, order: NDArray[Any]) -> None:
        """Rows have another order."""
        if self.used:
            self.numbers = self.numbers[order]

    def other_rows(self, n: int) -> Any:
        """Labels that rows beside those of an index can't have: it has none, or all have some."""
        return None if self.used else self.named(np.zeros(n, np.int64))

    def limit(self) -> int | None:
        """At most so many rows of a group in an answer; None: any number."""
        if not self.used or not len(self.numbers) or self.limits.random() < 0.6:
            return None
        return int(self.limits.integers(1, 4))

    def first(self, found: reference.Found, ids: NDArray[np.int64], k: int,
              per_group: int) -> reference.Found:
        """The first k of each line of an order of all rows that `per_group` leaves."""
        label_of = dict(zip(ids.tolist(), self.numbers.tolist(), strict=True))
        n = len(found.ids)
        limited = reference.Found(ids=np.full((n, k), -1, np.int64),
                                  scores=np.full((n, k), np.nan, np.float32))
        for i, line in enumerate(found.ids.tolist()):
            taken, at = Counter[int](), list[int]()
            for place, id in enumerate(line):
                if id >= 0 and taken[label_of[id]] < per_group and len(at) < k:
                    taken[label_of[id]] += 1
                    at.append(place)
            limited.ids[i, : len(at)] = found.ids[i, at]
            limited.scores[i, : len(at)] = found.scores[i, at]
        return limited

    def ask(self, index: farann.Index, ids: NDArray[np.int64], n_queries: int,
            given: dict[str, Any], asked: dict[str, Any]) -> str:
        """Name groups in a question; the oracle is told to leave their rows out, or all others.
        Says what was named."""
        if not self.used or not n_queries or self.rng.random() < 0.5:
            return ""
        side = str(self.rng.choice(["groups", "outside_groups"]))
        how = str(self.rng.choice(["one", "each", "filter", "kept"]))
        if how == "kept" and "allowed" in given:
            how = "filter"
        if how in ("one", "each"):
            numbers = self.rng.integers(0, ASKED_FOR, n_queries)
            if how == "one":
                numbers[:] = numbers[0]
            labels = self.named(numbers)
            given[side] = labels[0] if how == "one" else labels
            named = numbers[:, None]
        else:
            some = self.rng.permutation(ASKED_FOR)[: self.rng.integers(1, 4)]
            if how == "kept" and self.kept is not None and self.kept[0] is index:
                _, given["allowed"], side, some = self.kept
            else:
                given["allowed"] = index.filter(allowed=given.get("allowed"),
                                                **{side: self.named(some)})
                if how == "kept":
                    self.kept = index, given["allowed"], side, some
            named = np.tile(some, (n_queries, 1))
        out = [ids[np.isin(self.numbers, some) == (side == "outside_groups")].tolist()
               for some in named]
        before = asked.get("exclude", [[] for _ in range(n_queries)])
        asked["exclude"] = [[*a, *b] for a, b in zip(before, out, strict=True)]
        return f", {side} {how} {named.tolist()[:3]}"
