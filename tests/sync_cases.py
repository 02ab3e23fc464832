"""What the tests of synced files share: an index in small steps, and what each step leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from cases import Float32

import farann

N, DIM = 400, 6
Step = Callable[[farann.Index], object]


def rows_of(n: int = N, dim: int = DIM) -> Float32:
    rows = np.random.default_rng(n).standard_normal((n, 3)) @ np.ones((3, dim))
    rows += np.random.default_rng(n + 1).standard_normal((n, dim)) * np.arange(1, dim + 1)
    return rows.astype(np.float32)


def begun(n: int = 200, **options: Any) -> farann.Index:
    """An index of some rows, built."""
    index = farann.Index(**options)
    index.add(rows_of()[:n], [f"row {i}" for i in range(n)], groups=[i % 3 for i in range(n)])
    return index.build()


def adding(rows: Float32, names: list[str]) -> Step:
    return lambda index: index.add(rows, names, groups=[len(name) for name in names])


def steps(n: int = 200) -> Iterator[Step]:
    """Changes of all kinds, one after the other, for ever."""
    rows, at = rows_of(), n
    while True:
        for more in (1, 40, 7):
            names = [f"row {i}" for i in range(at, at + more)]
            yield adding(rows[np.arange(at, at + more) % N] + np.float32(at // N), names)
            at += more
        yield lambda index: index.remove(index.ids[::31])
        yield lambda index: index.add(rows[:2] * 2, index.ids[-2:], groups=[70, 80], replace=True)


def seen(index: farann.Index) -> tuple[Any, ...]:
    """What users see of an index."""
    ids = index.ids.tolist()
    if not ids:
        return ()
    hits = index.search_furthest(np.ones((2, index.dim or 0), np.float32), 5)
    return ids, index.groups().tolist(), hits.ids.tolist(), hits.scores.tolist()


def synced(path: Path, n: int) -> list[tuple[Any, ...]]:
    """Sync an index n times; return what was seen after each."""
    index, states = begun(60), list[tuple[Any, ...]]()
    for step, _ in zip(steps(60), range(n), strict=False):
        index.sync(path)
        states.append(seen(index))
        step(index)
    index.close()
    return states
