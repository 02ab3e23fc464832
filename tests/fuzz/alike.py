"""Random histories of indexes of thousands of rows that codes can hardly tell apart.

One-hot rows, copies, bits: batches give codes up here, and searches change how they go on. Each
question is asked nine times. `python tests/fuzz alike 123` runs a case again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from cases import Float32, float32
from histories import KINDS, LONG, History, live

import farann

Made = Callable[[np.random.Generator, int, int], Float32]


def one_hot(rng: np.random.Generator, n: int, dim: int) -> Float32:
    return np.eye(dim, dtype=np.float32)[rng.integers(dim, size=n)]


def attributes(rng: np.random.Generator, n: int, dim: int) -> Float32:
    """Some one-hot columns side by side, whose values are popular and rare."""
    rows, start = np.zeros((n, dim), np.float32), 0
    while start < dim:
        width = min(int(rng.integers(2, 9)), dim - start)
        popular = 1.0 / np.arange(1, width + 1)
        rows[np.arange(n), start + rng.choice(width, n, p=popular / popular.sum())] = 1
        start += width
    return rows


def bits(rng: np.random.Generator, n: int, dim: int) -> Float32:
    return float32(rng.random((n, dim)) < rng.choice([0.5, 2.0 / dim]))


def copies(rng: np.random.Generator, n: int, dim: int) -> Float32:
    few = rng.standard_normal((int(rng.choice([1, 5, 40, 1 + n // 20])), dim))
    return float32(few[rng.integers(len(few), size=n)])


def signs(rng: np.random.Generator, n: int, dim: int) -> Float32:
    return float32(rng.integers(-1, 2, (n, dim)))


def narrow_groups(rng: np.random.Generator, n: int, dim: int) -> Float32:
    """Far apart, and so narrow that float32 can hardly tell the rows of one apart."""
    rows = (rng.choice([10.0, 1e4]) * rng.standard_normal((2, dim)))[rng.integers(2, size=n)]
    return float32(rows + 1e-3 * rng.standard_normal((n, dim)))


def scaled_bits(rng: np.random.Generator, n: int, dim: int) -> Float32:
    return bits(rng, n, dim) * np.exp(rng.standard_normal((n, 1))).astype(np.float32)


DATA: dict[str, Made] = {
    "one-hot": one_hot, "attributes": attributes, "bits": bits, "copies": copies, "signs": signs,
    "narrow groups": narrow_groups, "scaled bits": scaled_bits,
}


class Alike(History):
    """An index of such rows."""

    def __init__(self, rng: np.random.Generator, level: str, scale: str, folder: Path) -> None:
        super().__init__(rng, level, scale, folder)
        if self.alone and rng.random() < 0.7:  # exact answers tell more
            self.kind = self.kind.removesuffix(" alone")
        self.data, self.dim = str(rng.choice(list(DATA))), int(rng.choice([4, 8, 16, 16, 24, 48]))
        self.index = farann.Index(None, self.metric, **KINDS[self.kind], seed=0,
                                  threads=int(rng.integers(1, 3)))
        self.rows = np.empty((0, self.dim), np.float32)
        self.log = [f"{self.metric}, {self.kind}, {self.data}, dim {self.dim}, {level}, {scale}, "
                    f"groups {self.grouping.used}"]

    def live(self) -> None:
        self.add(int(self.rng.integers(3000, 6000)))
        self.search()
        for _ in range(int(self.rng.integers(2, 6))):
            change = str(self.rng.choice(["add", "remove", "build", "save"],
                                         p=[0.3, 0.4, 0.2, 0.1]))
            getattr(self, change)()
            self.done[change] += 1
            self.agree()
            for _ in range(int(self.rng.integers(2, 5))):
                self.search()
        self.done["histories of alike rows"] += 1

    def made(self, n: int) -> Float32:
        rows = DATA[self.data](self.rng, n, self.dim)
        if self.rng.random() < 0.2:  # some of another kind among them
            some = self.rng.random(n) < 0.01
            rows[some] = self.rng.standard_normal((int(some.sum()), self.dim))
        if self.metric == "cosine":
            rows[~rows.any(axis=1), 0] = 1
        return rows

    def queries(self, n: int) -> Float32:
        """Of the same kind, or of none."""
        if self.rng.random() < 0.8:
            return self.made(n)
        return self.rng.standard_normal((n, self.dim), dtype=np.float32)

    def filters(self, n_queries: int, single: bool) -> tuple[dict[str, Any], dict[str, Any]]:
        return ({}, {}) if self.rng.random() < 0.5 else super().filters(n_queries, single)

    def numbers_of_queries(self) -> list[int]:
        return [1, 2, 9, 17, 40, 64]

    def kind_of_question(self) -> str:
        limits = ["recall", "epsilon", "epsilon", "budget", "seconds"]
        nearest = [f"nearest {name}" for name in limits]
        return str(self.rng.choice(["exact", "exact", "nearest", "beyond", *limits, *nearest]))

    def limits(self) -> dict[str, Any]:
        return {**super().limits(), "seconds": float(self.rng.choice([1e-12, 1e-12, LONG]))}


def run(seed: int) -> Counter[str]:
    """Live through one history; raise AssertionError with its log where an answer is wrong."""
    return live(Alike, seed)
