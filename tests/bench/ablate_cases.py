"""Small sets on each of which some mechanisms of the search have something to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench import datasets
from bench.datasets import DataSet

Floats = npt.NDArray[np.float32]


def _gaussian(rng: np.random.Generator, n: int) -> Floats:
    return rng.standard_normal((n, 64), dtype=np.float32)


def _long(rng: np.random.Generator, n: int) -> Floats:
    decay = np.arange(1, 129, dtype=np.float32) ** np.float32(-0.25)
    return rng.standard_normal((n, 128), dtype=np.float32) * decay


def _few_directions(rng: np.random.Generator, n: int) -> Floats:
    shape = np.random.default_rng(5).standard_normal((12, 64), dtype=np.float32)
    return rng.standard_normal((n, 12), dtype=np.float32) @ shape


def _low_rank(rng: np.random.Generator, n: int) -> Floats:
    basis = np.random.default_rng(4).standard_normal((8, 300), dtype=np.float32)
    return (rng.standard_normal((n, 8), dtype=np.float32) @ basis
            + np.float32(0.1) * rng.standard_normal((n, 300), dtype=np.float32))


def _wide(rng: np.random.Generator, n: int) -> Floats:
    return rng.standard_normal((n, 512), dtype=np.float32)


def _decaying(rng: np.random.Generator, n: int) -> Floats:
    decay = np.arange(1, 51, dtype=np.float32) ** np.float32(-0.5)
    stray = rng.lognormal(0.0, 0.5, (n, 1)).astype(np.float32)
    drawn = stray * decay * rng.standard_normal((n, 50), dtype=np.float32)
    return np.asarray(np.float32(0.5) * decay + drawn, np.float32)


def _clusters(rng: np.random.Generator, n: int) -> Floats:
    centers = np.random.default_rng(2).standard_normal((200, 24), dtype=np.float32)
    return (centers[rng.integers(0, 200, n)]
            + np.float32(0.3) * rng.standard_normal((n, 24), dtype=np.float32))


def _one_hot(rng: np.random.Generator, n: int) -> Floats:
    rows = np.zeros((n, 60), np.float32)
    for feature in range(6):
        rows[np.arange(n), 10 * feature + rng.integers(0, 10, n) // (1 + feature % 3)] = 1.0
    return rows


def _term_weights(rng: np.random.Generator, n: int) -> Floats:
    rows = rng.random((n, 60), np.float32) * (rng.random((n, 60)) < 0.04)
    return np.asarray(rows + np.eye(60, dtype=np.float32)[rng.integers(0, 60, n)], np.float32)


def _with_outliers(rng: np.random.Generator, n: int) -> Floats:
    rows = rng.standard_normal((n, 32), dtype=np.float32)
    rows[::1000] *= np.float32(40.0)
    return rows


def _alike(rng: np.random.Generator, n: int) -> Floats:
    """Rows so near each other that codes can't tell them apart, which float32 can."""
    rows = np.float32(1e-4) * rng.standard_normal((n, 24), dtype=np.float32)
    rows[:, :2] += np.where(rng.random((n, 1)) < 0.5, np.float32(1.0), np.float32(-1.0))
    return rows


# Metric, rows and how they are made.
SETS: dict[str, tuple[str, int, Callable[[np.random.Generator, int], Floats]]] = {
    "gaussian": ("dot", 4_500, _gaussian),
    "long": ("dot", 12_000, _long),
    "long-l2": ("l2", 9_000, _long),
    "few-directions": ("dot", 6_000, _few_directions),
    "low-rank": ("l2", 6_000, _low_rank),
    "wide": ("dot", 12_000, _wide),
    "decaying": ("cosine", 20_000, _decaying),
    "clusters": ("cosine", 24_000, _clusters),
    "one-hot": ("l2", 6_000, _one_hot),
    "one-hot-dot": ("dot", 6_000, _one_hot),
    "term-weights": ("l2", 6_000, _term_weights),
    "outliers": ("l2", 9_000, _with_outliers),
    "alike": ("cosine", 9_000, _alike),
    "alike-l2": ("l2", 9_000, _alike),
}


def made(name: str, folder: Path) -> DataSet:
    """One of `SETS`, with queries and a sample."""
    metric, n, make = SETS[name]
    if not folder.exists():
        rng = np.random.default_rng(7)
        datasets.store(folder, make(rng, n), make(rng, 300), make(rng, 300))
    return DataSet(name, name, metric, folder)
