"""The mean query: rows are stretched along it before they are coded, and answers stay exact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import codes_in_numpy as model
import inside
import numpy as np
import pytest
import reference
from approximate_cases import recall_of, recalls_of
from cases import DATA, Float32, assert_exact, assert_same, index_of, queries_for, rows_for
from code_file_cases import Sections, assert_kept, change, file_of, put, refuse
from hypothesis import given
from hypothesis import strategies as st
from inside import Transform, core, native_codes, read_file, rotation_signs, write_file
from numpy.typing import NDArray

import farann

Float64 = NDArray[np.float64]
LEVELS = inside.levels()
METRICS = ["dot", "cosine"]
N, DIM = 5000, 24


def towers(rng: np.random.Generator, n: int = N, dim: int = DIM, n_users: int = 600,
           strength: float = 1.5) -> tuple[Float32, Float32]:
    """Items, and users that have a direction in common which items don't."""
    common = rng.standard_normal(dim)
    common *= strength * dim**0.5 / np.linalg.norm(common)
    users = common + rng.standard_normal((n_users, dim))
    items = rng.standard_normal((n, dim)) * np.exp(rng.normal(0.0, 0.2, (n, 1)))
    return items.astype(np.float32), users.astype(np.float32)


def built(items: Float32, users: Float32 | None, metric: str, isa: str = LEVELS[-1],
          **options: Any) -> farann.Index:
    index = index_of(items, metric, **options)
    index.build(users)
    inside.use_level(index, isa)
    return index


def arrays_of(index: farann.Index) -> inside.CodeArrays:
    codes = inside.store_of(index).codes
    assert codes is not None
    return codes


def by(stretch: Float64 | None) -> float:
    """How many times as long rows become."""
    return 1.0 if stretch is None else 1.0 + float(stretch @ stretch)


def along(direction: NDArray[Any], times: float) -> Float64:
    """The stretch that does so along a direction."""
    unit = direction.astype(np.float64) / np.linalg.norm(direction.astype(np.float64))
    return np.asarray(np.multiply((times - 1.0) ** 0.5, unit))


def with_stretch(rows: Float32, metric: str, stretch: Float64 | None, isa: str = LEVELS[-1],
                 **options: Any) -> farann.Index:
    """An index whose codes have a stretch of choice; AssertionError where rows have no codes."""
    index = built(rows, None, metric, isa)
    inside.put(index, codes=model.lay_out(rows, metric, centre=inside.store_of(index).centre,
                                          stretch=stretch, **options))
    return index


def asked_of(rng: np.random.Generator, mean: Float32, n: int) -> Float32:
    """Queries about the mean, the mean itself, its opposite, of other sizes, and across it."""
    dim = len(mean)
    spread = float(np.linalg.norm(mean.astype(np.float64))) / dim**0.5
    noise = rng.standard_normal((n, dim)) * spread
    across = noise[:4] - np.outer(noise[:4] @ mean / (mean @ mean.astype(np.float64)), mean)
    sizes = np.array([[1.0], [-1.0], [1e-6], [-1e6]])
    wide = np.vstack([mean + noise, sizes * mean, sizes * (mean + 1e-5 * noise[:4]), across])
    return wide.astype(np.float32)


# ---- answers ----


@pytest.mark.parametrize("times", [1.3, 8.0])
@pytest.mark.parametrize("by_length", [False, True])
@pytest.mark.parametrize("metric", METRICS)
def test_exact(metric: str, by_length: bool, times: float, rng: np.random.Generator) -> None:
    rows, users = towers(rng, 3000, 19)
    mean = users.mean(axis=0)
    index = with_stretch(rows, metric, along(mean, times), by_length=by_length)
    queries = asked_of(rng, mean, 60)
    assert_exact(index, rows, queries, [1, 10, 100], levels=LEVELS)
    excluded = rng.integers(-1, 3000, (len(queries), 20))
    allowed = np.sort(rng.choice(3000, 1500, replace=False))
    expected = reference.furthest(queries, rows, 10, metric, exclude=excluded, allowed=allowed)
    for isa in LEVELS:
        inside.use_level(index, isa)
        assert_same(index.search_furthest(queries, 10, exclude=excluded, allowed=allowed), expected)


@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize("metric", METRICS)
def test_hostile_rows(metric: str, kind: str, rng: np.random.Generator) -> None:
    rows = rows_for(kind, rng, 400, 12, metric)
    typical = float(np.median(np.linalg.norm(rows.astype(np.float64), axis=1)))
    mean = rows.astype(np.float64).mean(axis=0) + (typical or 1e-10) * rng.standard_normal(12)
    # Rows of 3e38 have no codes anyhow.
    about = np.clip(mean, -1e30, 1e30).astype(np.float32)
    queries = np.vstack([queries_for(rng, rows, metric), asked_of(rng, about, 8)])
    queries = queries[queries.any(axis=1)] if metric == "cosine" else queries
    try:
        index = with_stretch(rows, metric, along(mean, 8.0))
    except AssertionError:  # such rows have no codes
        return
    assert_exact(index, rows, np.ascontiguousarray(queries), [7])


@given(seed=st.integers(0, 2**32 - 1), metric=st.sampled_from(METRICS),
       dim=st.sampled_from([1, 2, 7, 33]), spread=st.sampled_from([0.0, 1e-7, 1e-3, 1.0]),
       offset=st.sampled_from([0.0, 1.0, 1e4]), twins=st.booleans(), times=st.floats(1.0, 8.0))
def test_rows_that_differ_by_little(seed: int, metric: str, dim: int, spread: float,
                                    offset: float, twins: bool, times: float) -> None:
    """Queries are nearly the mean, and rows nearly as far along it."""
    rng = np.random.default_rng(seed)
    mean = rng.standard_normal(dim).astype(np.float32)
    even = rng.standard_normal((300, dim)) + offset
    even += np.outer(1.0 - even @ mean / (mean @ mean.astype(np.float64)), mean)
    rows = (even + spread * rng.standard_normal((300, dim))).astype(np.float32)
    if twins:
        rows[150:] = rows[:150]
    queries = asked_of(rng, mean, 12)
    if metric == "cosine":
        rows[~rows.any(axis=1)] = 1.0
        queries[~queries.any(axis=1)] = 1.0
    try:
        index = with_stretch(rows, metric, along(mean, times))
    except AssertionError:
        return
    assert_exact(index, rows, queries, [1, 10])


# ---- what codes hold, and what it brings ----


@pytest.mark.parametrize("dim", [1, 7, 8, 50, 129])
@pytest.mark.parametrize("isa", LEVELS)
def test_turns(isa: str, dim: int, rng: np.random.Generator) -> None:
    """In numpy as in the core; products stay, and rows come back."""
    stretch = along(rng.standard_normal(dim), 5.0)
    turn = Transform(rotation_signs(dim, 3), stretch)
    rows = rng.standard_normal((20, dim), dtype=np.float32)
    vectors, weights = rows.astype(np.float64), rng.standard_normal((9, dim))
    coded = turn.rows(vectors)
    np.testing.assert_allclose(turn.query_vectors(weights) @ coded.T, weights @ vectors.T,
                               atol=1e-12)
    np.testing.assert_allclose(turn.rows_from(coded), vectors, atol=1e-12)
    np.testing.assert_allclose(
        coded, model.turned(model.stretched(vectors, stretch), turn.signs), atol=1e-12)
    np.testing.assert_allclose(
        turn.query_vectors(weights), model.turned(model.shrunk(weights, stretch), turn.signs),
        atol=1e-12)
    largest = np.empty(20)
    core.code_extents(rows, np.zeros(dim), False, *turn, isa, largest)
    np.testing.assert_allclose(largest, np.abs(coded).max(axis=1), rtol=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_fewer_rows_are_looked_at(metric: str, rng: np.random.Generator,
                                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_codes, "CACHED_BYTES", 0)  # upper halves first, also of so few rows
    items, users = towers(rng, 20_000, 32, strength=3.0)
    index = built(items, users[:400], metric)
    monkeypatch.setattr(inside.transform_choice, "_WORTH_SCALING", 0.0)
    without = built(items, users[:400], metric)
    assert arrays_of(index).mean_direction_scaling is not None
    assert arrays_of(without).mean_direction_scaling is None
    asked = users[400:]
    expected = reference.furthest(asked[:20], items, 10, metric)
    for isa in LEVELS:
        refined = []
        for found in (index, without):
            inside.use_level(found, isa)
            hits = found.search_furthest(asked, 10)
            assert_same(farann.Hits(hits.scores[:20], hits.ids[:20]), expected)
            refined.append(sum(found.search_furthest(query, 10, return_stats=True)[1].rows_refined
                               for query in asked[:50]))
        assert 0 < refined[0] < 0.7 * refined[1], isa


@pytest.mark.parametrize("metric", METRICS)
def test_codes_alone_find_more(metric: str, rng: np.random.Generator,
                               monkeypatch: pytest.MonkeyPatch) -> None:
    items, users = towers(rng, 20_000, 32, strength=4.0)
    index = built(items, users[:400], metric, keep_vectors=False)
    monkeypatch.setattr(inside.transform_choice, "_WORTH_SCALING", 0.0)
    without = built(items, users[:400], metric, keep_vectors=False)
    assert arrays_of(index).mean_direction_scaling is not None
    assert arrays_of(without).mean_direction_scaling is None
    expected = reference.furthest(users[400:], items, 10, metric)
    recall, before = (recall_of(some.search_furthest(users[400:], 10, recall=1.0).ids, expected.ids)
                      for some in (index, without))
    assert recall > before and 1.0 - recall < 0.8 * (1.0 - before)
    scores = index.score(users[400:], np.arange(50))
    exact = reference.score(users[400:], items[:50], metric)
    assert np.abs(scores - exact).max() < 0.02 * np.abs(exact).max()


# ---- where build takes one ----


@pytest.mark.parametrize("metric", METRICS)
def test_along_the_mean_of_sample_queries(metric: str, rng: np.random.Generator) -> None:
    """Queries are as important as each other, however long; and no other factor is better."""
    rows, users = towers(rng)
    users[:5] *= 1000.0
    stretch = arrays_of(built(rows, users, metric)).mean_direction_scaling
    assert stretch is not None
    asked = np.delete(users, np.s_[::4], axis=0).astype(np.float64)
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    mean = asked.mean(axis=0)
    assert -stretch @ mean > 0.999 * np.linalg.norm(stretch) * np.linalg.norm(mean)
    points = rows.astype(np.float64)
    if metric == "cosine":
        points /= np.linalg.norm(points, axis=1, keepdims=True)
    points -= points.mean(axis=0)

    def left(times: float) -> float:
        tried = along(mean, times)
        return float((model.stretched(points, tried) ** 2).sum()
                     * (model.shrunk(asked, tried) ** 2).sum())

    best = min(left(times) for times in np.linspace(1.0, 8.0, 200))
    assert left(by(stretch)) < 1.001 * best < 0.9 * left(1.0)


@pytest.mark.parametrize("metric", METRICS)
def test_rows_stand_in_for_queries(metric: str, rng: np.random.Generator) -> None:
    rows = rng.standard_normal((N, DIM), dtype=np.float32) + np.float32(1e4)
    index = built(rows, None, metric)
    # They are all mean, and this is as much as rows are ever stretched.
    assert by(arrays_of(index).mean_direction_scaling) == pytest.approx(core.MOST_SCALING)
    assert_exact(index, rows, np.vstack([rows[:30], -rows[:5]]), [10])


def test_none_where_it_would_not_pay(rng: np.random.Generator) -> None:
    rows, users = towers(rng)
    centred = rng.standard_normal((300, DIM), dtype=np.float32)
    along_users = rows + np.float32(3.0) * rng.standard_normal((N, 1), dtype=np.float32) * (
        users.mean(axis=0))
    assert arrays_of(built(rows, users, "dot")).mean_direction_scaling is not None
    for index in (built(rows, centred, "dot"), built(rows, users, "l2"),
                  built(rows[:1000], users, "dot"), built(along_users, users, "dot"),
                  built(rows, users, "dot", codes="int4"),
                  built(rows, np.zeros((4, DIM), np.float32), "dot"),
                  *(built(rows[:, :1].copy(), some[:, :1].copy(), metric)
                    for some in (users, rows, np.ones((9, 1), np.float32))
                    for metric in METRICS)):
        assert arrays_of(index).mean_direction_scaling is None


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_queries_of_any_size(size: float, rng: np.random.Generator) -> None:
    rows, users = towers(rng)
    stretch, same = (arrays_of(built(rows, users * np.float32(some), "dot")).mean_direction_scaling
                     for some in (size, 1.0))
    assert stretch is not None and same is not None
    np.testing.assert_allclose(stretch, same, rtol=1e-6)


# ---- beside all else ----


@pytest.mark.parametrize("vectors", [True, False])
@pytest.mark.parametrize("cells", [None, 60])
@pytest.mark.parametrize("metric", METRICS)
def test_rows_come_and_go(metric: str, cells: int | None, vectors: bool, tmp_path: Path,
                          rng: np.random.Generator) -> None:
    rows, users = towers(rng)
    index = built(rows, users, metric, cells=cells, keep_vectors=vectors)
    index.remove(np.arange(0, N, 3))
    more = towers(rng, 200)[0]
    ids = np.concatenate([np.setdiff1d(np.arange(N), np.arange(0, N, 3)), index.add(more)])
    left = np.vstack([np.delete(rows, np.s_[::3], axis=0), more])
    assert arrays_of(index).mean_direction_scaling is not None
    index.save(tmp_path / "index.farann")
    index = farann.Index.load(tmp_path / "index.farann")
    if vectors:
        assert_exact(index, left, users[:40], [10], ids)
        return
    expected = reference.furthest(users, left, 10, metric, ids=ids)
    assert recall_of(index.search_furthest(users, 10, recall=1.0).ids, expected.ids) > 0.95
    found = index.reconstruct(ids)
    if metric == "cosine":
        found, left = (some / np.linalg.norm(some, axis=1, keepdims=True) for some in (found, left))
    assert np.abs(found - left).max() < 0.03 * np.abs(left).max()


@pytest.mark.parametrize("metric", METRICS)
def test_approximate_search(metric: str, rng: np.random.Generator,
                            monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells are judged by whole queries: the best are found with a stretch as without one."""
    rows, users = towers(rng, 20_000, 12, strength=4.0)
    index = built(rows, users[:20], metric, cells=128)
    monkeypatch.setattr(inside.transform_choice, "_WORTH_SCALING", 0.0)
    without = built(rows, users[:20], metric, cells=128)
    assert arrays_of(index).mean_direction_scaling is not None
    assert arrays_of(without).mean_direction_scaling is None
    asked = users[500:]
    expected = reference.furthest(asked, rows, 10, metric)
    for some in (slice(0, 100), slice(0, 1)):
        part = reference.Found(expected.scores[some], expected.ids[some])
        assert_same(index.search_furthest(asked[some], 10), part)
    for options in ({"recall": 0.9}, {"budget": 600}):
        ours, plain = (min(recalls_of(searched, asked, expected.ids, **options))
                       for searched in (index, without))
        assert ours > plain - 0.03 > 0.8, options
    hits = index.search_furthest(asked, 10, epsilon=0.1)
    for query, ids, best in zip(asked, hits.ids, expected.ids, strict=True):
        scores = reference.score(query[None], rows, metric)[0].astype(np.float64)
        assert scores[ids].max() <= scores[best].max() + 0.1 + 1e-5


# ---- files ----


@pytest.mark.parametrize("metric", METRICS)
def test_saved(metric: str, tmp_path: Path, rng: np.random.Generator) -> None:
    """It comes back, mapped or read; and the same rows and queries make the same file."""
    rows, users = towers(rng, 30_000)
    index = built(rows, users, metric)
    assert_kept(index, tmp_path / "index.farann", "stretch", users)
    twin = built(rows, users, metric)
    assert file_of(twin, tmp_path / "twin.farann") == (tmp_path / "index.farann").read_bytes()


@pytest.fixture
def saved(tmp_path: Path, rng: np.random.Generator) -> Path:
    rows, users = towers(rng, 100)
    path = tmp_path / "index.farann"
    with_stretch(rows, "dot", along(users.mean(axis=0), 4.0)).save(path)
    return path


BROKEN: dict[str, Callable[[Sections], object]] = {
    "cut short": change("stretch", lambda array: array[:-1]),
    "none": change("stretch", lambda array: array[:0]),
    "of another type": change("stretch", lambda array: array.astype(np.float32)),
    "in other dimensions": change("stretch", lambda array: array[None]),
    **{f"{value} in it": put("stretch", 3, value) for value in (np.nan, np.inf, -np.inf, 1e200)},
    "too much": change("stretch", lambda array: array * 1.6),
    "beside squares": lambda arrays: arrays.update(
        {"codes.squares": np.ones(16 * len(arrays["codes.weights"]), np.float32)}),
}


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("what", BROKEN)
def test_broken_sections(saved: Path, what: str, mmap: bool) -> None:
    farann.Index.load(saved, mmap=mmap)
    refuse(saved, BROKEN[what], mmap)


def test_absurd_stretches_do_no_harm(saved: Path, rng: np.random.Generator) -> None:
    """Answers may be wrong, ids are those of rows."""
    metadata, arrays = read_file(saved)
    users = towers(rng, 1)[1][:20]
    queries = np.vstack([users, 1e30 * users[:2], 1e-30 * users[:2], -users[:2]])
    for size in (0.0, 1e-300, 1.0, 7.0**0.5):
        sections = dict(arrays)
        sections["codes.stretch"] = size * along(rng.standard_normal(DIM), 2.0)
        write_file(saved, metadata, sections)
        index = farann.Index.load(saved)
        for some in (queries, queries[0], queries[-3]):
            for search in (index.search_furthest, index.search_nearest):
                for k in (5, 100):
                    ids = search(some.astype(np.float32), k).ids
                    assert ((ids >= -1) & (ids < 100)).all()
