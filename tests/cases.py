"""What the tests of the index share: hostile rows, queries, comparisons and snapshots."""

from __future__ import annotations

import collections
import itertools
import os
import pickle
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import inside
import numpy as np
import reference
from inside import core
from numpy.testing import assert_array_equal
from numpy.typing import ArrayLike, NDArray

import farann

Float32 = NDArray[np.float32]
Maker = Callable[[np.random.Generator, int, int], Float32]

FLOAT32_MAX = float(np.finfo(np.float32).max)
DEEP = os.environ.get("FARANN_HYPOTHESIS") == "deep"
TINY = float(np.finfo(np.float32).smallest_subnormal)


class Answer(Protocol):
    """Scores and ids, as the library and the oracle both return them."""

    @property
    def scores(self) -> Float32: ...
    @property
    def ids(self) -> NDArray[np.int64]: ...


def pairs(*axes: Iterable[Any]) -> list[tuple[Any, ...]]:
    """Of all combinations of values of some axes so many that each two values come together.

    For tests in which whatever is wrong shows with two values of the right axes at the latest.
    With FARANN_HYPOTHESIS=deep all combinations.
    """
    values = [list(axis) for axis in axes]
    if DEEP:
        return list(itertools.product(*values))
    left = {((a, x), (b, y)) for a, b in itertools.combinations(range(len(values)), 2)
            for x in range(len(values[a])) for y in range(len(values[b]))}
    used = collections.Counter[tuple[int, int]]()
    found = []
    while left:
        chosen = dict(min(left))
        for axis in range(len(values)):
            def worth(value: int, axis: int = axis) -> tuple[int, int]:
                new = sum(tuple(sorted(((axis, value), other))) in left for other in chosen.items())
                return new, -used[axis, value]

            if axis not in chosen:
                chosen[axis] = max(range(len(values[axis])), key=worth)
        used.update(chosen.items())
        left -= set(itertools.combinations(sorted(chosen.items()), 2))
        found.append(tuple(values[axis][value] for axis, value in sorted(chosen.items())))
    return found


def in_turn(kinds: Iterable[Any], first: int = 0,
            metrics: Sequence[Any] = reference.METRICS) -> list[tuple[Any, Any]]:
    """Each kind with one of the metrics in turn; with FARANN_HYPOTHESIS=deep with all of them.

    Tests of a mechanism begin at different ones: together they have all pairs.
    """
    if DEEP:
        return list(itertools.product(kinds, metrics))
    return [(kind, metrics[i % len(metrics)]) for i, kind in enumerate(kinds, first)]


def float32(values: ArrayLike) -> Float32:
    """An array of float32."""
    return np.asarray(values, np.float32)


def _normal(rng: np.random.Generator, n: int, dim: int) -> Float32:
    return rng.standard_normal((n, dim), dtype=np.float32)


def _one_huge_row(rng: np.random.Generator, n: int, dim: int) -> Float32:
    rows = _normal(rng, n, dim)
    rows[n // 2] *= np.float32(1e30)
    return rows


def _constant_columns(rng: np.random.Generator, n: int, dim: int) -> Float32:
    rows = _normal(rng, n, dim)
    rows[:, ::3] = 7
    return rows


def _by_norm(rng: np.random.Generator, n: int, dim: int) -> Float32:
    rows = _normal(rng, n, dim)
    return rows[np.argsort(np.linalg.norm(rows, axis=1))]


def _unit(rng: np.random.Generator, n: int, dim: int) -> Float32:
    rows = _normal(rng, n, dim)
    return float32(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def _ulps_apart(rng: np.random.Generator, n: int, dim: int) -> Float32:
    base = rng.uniform(1.0, 1.9, dim).astype(np.float32)
    steps = rng.integers(-2, 3, (n, dim), dtype=np.int32)
    return (base.view(np.int32) + steps).view(np.float32)


def _crowded_edge(rng: np.random.Generator, n: int, dim: int) -> Float32:
    """A crowd far out, a few ulps apart and larger than most k, among ordinary rows."""
    rows = _normal(rng, n, dim)
    crowd = rng.permutation(n)[: n // 2]
    rows[crowd] = 5 * _ulps_apart(rng, len(crowd), dim)
    return rows


DATA: dict[str, Maker] = {
    "gaussian": _normal,
    "offset 1e4": lambda rng, n, dim: _normal(rng, n, dim) + np.float32(1e4),
    "offset 1e6": lambda rng, n, dim: _normal(rng, n, dim) + np.float32(1e6),
    "denormals": lambda rng, n, dim: float32(rng.integers(-99, 100, (n, dim)) * TINY),
    "1e-30": lambda rng, n, dim: np.float32(1e-30) * _normal(rng, n, dim),
    # Products fall among the denormals of float32.
    "1e-22": lambda rng, n, dim: np.float32(1e-22) * _normal(rng, n, dim),
    "1e30": lambda rng, n, dim: np.float32(1e30) * _normal(rng, n, dim),
    "3e38": lambda rng, n, dim: float32(rng.uniform(-3.4e38, 3.4e38, (n, dim))),
    "largest floats": lambda rng, n, dim: float32(rng.choice([-1, 1], (n, dim)) * FLOAT32_MAX),
    "mixed magnitudes": lambda rng, n, dim: float32(
        _normal(rng, n, dim) * 10.0 ** rng.uniform(-40, 37, (n, 1))
    ),
    "mixed columns": lambda rng, n, dim: float32(
        _normal(rng, n, dim) * 10.0 ** rng.uniform(-40, 37, dim)
    ),
    "one huge row": _one_huge_row,
    "duplicates": lambda rng, n, dim: _normal(rng, 1 + n // 7, dim)[
        rng.integers(0, 1 + n // 7, n)
    ],
    "all equal": lambda rng, n, dim: np.repeat(_normal(rng, 1, dim), n, axis=0),
    "constant columns": _constant_columns,
    "grid": lambda rng, n, dim: float32(rng.integers(-1, 2, (n, dim))),
    "signed zeros": lambda rng, n, dim: float32(rng.choice([-1.0, -0.0, 0.0], (n, dim))),
    "ulps apart": _ulps_apart,
    "crowded edge": _crowded_edge,
    "ascending norm": _by_norm,
    "descending norm": lambda rng, n, dim: _by_norm(rng, n, dim)[::-1].copy(),
    "unit norm": _unit,
}


def low_rank(rng: np.random.Generator, n: int, dim: int, noise: float = 0.05) -> Float32:
    """Rows near a space of few dimensions."""
    rank = max(1, dim // 8)
    rows = rng.standard_normal((n, rank)) @ rng.standard_normal((rank, dim))
    return float32(rows + noise * rng.standard_normal((n, dim)))


def rows_for(kind: str, rng: np.random.Generator, n: int, dim: int, metric: str) -> Float32:
    """Rows of one kind; under cosine those that came out as zero vectors get a coordinate."""
    rows = DATA[kind](rng, n, dim)
    if metric == "cosine":
        rows[~rows.any(axis=1), 0] = TINY
    return rows


def queries_for(rng: np.random.Generator, rows: Float32, metric: str) -> Float32:
    """Queries on rows, opposite to rows, near, like, far and farther; zero unless cosine."""
    n, dim = rows.shape
    largest = float(np.abs(rows).max())
    directions = rng.standard_normal((5, dim))
    sizes = np.array([[1.0], [largest], [1e6], [1e20], [FLOAT32_MAX]])
    wide = np.clip(directions * sizes, -FLOAT32_MAX, FLOAT32_MAX).astype(np.float32)
    picked = rows[rng.integers(0, n, 3)]
    near = np.nextafter(picked[2:], np.float32(0))
    queries = np.vstack([picked, -picked[:1], near, wide, np.zeros((1, dim), np.float32)])
    return queries[queries.any(axis=1)] if metric == "cosine" else queries


def index_of(
    rows: Float32, metric: str = "l2", ids: NDArray[np.int64] | None = None, **options: Any
) -> farann.Index:
    """A fresh index that holds the rows."""
    index = farann.Index(rows.shape[1], metric, **options)
    index.add(rows, ids)
    return index


def assert_same(got: Answer, expected: Answer, k: int | None = None) -> None:
    """Hold ids and bits of scores against the first k of the expected answer."""
    ids, scores = expected.ids[..., :k], expected.scores[..., :k]
    assert got.ids.dtype == ids.dtype in (np.int64, object) and got.scores.dtype == np.float32
    assert got.ids.shape == got.scores.shape == ids.shape
    if not np.array_equal(got.ids, ids):
        assert_array_equal(got.ids, ids)  # says where; it takes twenty times as long
    assert_same_bits(got.scores, scores)


def near(got: ArrayLike, expected: ArrayLike, rel: float = 1e-6, abs: float = 1e-12) -> bool:
    """What `pytest.approx` says of arrays, which it goes through number by number."""
    a, b = np.asarray(got, float), np.asarray(expected, float)
    return a.shape == b.shape and bool((np.abs(a - b) <= np.maximum(rel * np.abs(b), abs)).all())


def arrays_of(answer: Any) -> list[NDArray[Any]]:
    """What an answer consists of: the arrays of a result, in order, or itself."""
    names = ("offsets", "ids", "scores", "score")
    fields = [getattr(answer, name) for name in names if hasattr(answer, name)]
    return [np.asarray(field) for field in fields or [answer]]


def assert_same_bits(got: Float32, expected: Float32) -> None:
    """Hold float32 arrays against each other by bits; any NaN equals any NaN."""
    assert got.dtype == expected.dtype == np.float32 and got.shape == expected.shape
    if np.array_equal(got.view(np.uint32), expected.view(np.uint32)):
        return
    assert_array_equal(np.isnan(got), np.isnan(expected))
    real = ~np.isnan(expected)
    # The values first: their message is the readable one.
    assert_array_equal(got[real], expected[real])
    assert_array_equal(got[real].view(np.uint32), expected[real].view(np.uint32))


def assert_same_beyond(got: farann.RangeHits,
                       expected: reference.Beyond | farann.RangeHits) -> None:
    """Hold the answer of search_beyond against the oracle's, or another one."""
    assert got.offsets.dtype == np.int64 and got.ids.dtype == expected.ids.dtype
    assert_array_equal(got.offsets, expected.offsets)
    assert_array_equal(got.ids, expected.ids)
    assert_same_bits(got.scores, expected.scores)


def assert_exact(
    index: farann.Index,
    rows: Float32,
    queries: Float32,
    ks: Sequence[int],
    ids: NDArray[np.int64] | None = None,
    levels: Sequence[str] = (),
) -> None:
    """Hold batched, few and single answers, furthest and nearest, against the oracle.

    By default at the level of the index, otherwise at each of the `levels`.
    """
    furthest, nearest = reference.furthest_and_nearest(queries, rows, max(ks), index.metric, ids)
    for search, expected in ((index.search_furthest, furthest), (index.search_nearest, nearest)):
        few = reference.Found(expected.scores[:2], expected.ids[:2])
        single = reference.Found(expected.scores[0], expected.ids[0])
        for level in levels or (index.isa,):
            inside.store.use_level(index, level)
            for k in ks:
                assert_same(search(queries, k), expected, k)
            assert_same(search(queries[:2], ks[0]), few, ks[0])
            assert_same(search(queries[0], ks[0]), single, ks[0])


def snapshot(index: farann.Index) -> tuple[Any, ...]:
    """Everything a caller could see of an index, to compare before and after."""
    ids = index.ids
    answers: tuple[bytes, ...] = ()
    if len(index):
        rows = index.reconstruct(ids)
        hits = index.search_furthest(rows[:3], 5)
        answers = (rows.tobytes(), hits.scores.tobytes(), hits.ids.tobytes())
    return (len(index), index.dim, index.metric, ids.tobytes(), pickle.dumps(index), *answers)


def core_top(
    rows: Float32,
    queries: Float32,
    k: int,
    metric: str,
    isa: str,
    *,
    nearest: bool = False,
    center: NDArray[Any] | None = None,
    codes: core.Codes | None = None,
) -> tuple[Float32, NDArray[np.int64], int]:
    """Scores, ids and rows rescored, from the core itself: for a level and a center of choice."""
    middle = None if center is None else center.astype(np.float64)
    snapshot = inside.native.snapshot_of_rows(rows, metric, isa, codes=codes, center=middle)
    task = inside.native.task_of(snapshot, queries, k, nearest=nearest)
    hits = inside.native.run(task, len(queries), k)
    return hits.scores, hits.ids, inside.native.work_of(task).rows_rescored
