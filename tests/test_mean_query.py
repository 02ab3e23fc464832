"""The mean query: what queries have in common is a number of each row, and answers stay exact."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import farann
import numpy as np
import pytest
import reference
from approximate_cases import recall_of
from cases import (
    DATA,
    Float32,
    assert_exact,
    assert_same,
    assert_same_beyond,
    index_of,
    queries_for,
    rows_for,
)
from code_file_cases import Sections, change, put, refuse
from codes_in_numpy import Codes, codes_of, filled, lay_out, turned
from farann import _core, _layout
from farann._format import read_file, write_file
from hypothesis import given
from hypothesis import strategies as st
from test_absurd_codes import noise_like

LEVELS = farann.isa_levels()
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
    index._isa = isa
    return index


def arrays_of(index: farann.Index) -> _layout.CodeArrays:
    assert index._store is not None and index._store.codes is not None
    return index._store.codes


def with_mean(rows: Float32, metric: str, mean: Float32 | None, isa: str = LEVELS[-1],
              **options: Any) -> farann.Index:
    """An index whose codes have a mean query of choice; AssertionError where rows have none."""
    index = built(rows, None, metric, isa)
    assert index._store is not None
    index._store.codes = lay_out(rows, metric, centre=index._store.centre, mean=mean, **options)
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


@pytest.mark.parametrize("by_length", [False, True])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("isa", LEVELS)
def test_exact(isa: str, metric: str, by_length: bool, rng: np.random.Generator) -> None:
    rows, users = towers(rng, 3000, 19)
    mean = users.mean(axis=0)
    index = with_mean(rows, metric, mean, isa, by_length=by_length)
    queries = asked_of(rng, mean, 60)
    for search, oracle in ((index.search_furthest, reference.furthest),
                           (index.search_nearest, reference.nearest)):
        expected = oracle(queries, rows, 100, metric)
        for some in (slice(0, 1), slice(58, 63), slice(-1, None), slice(0, None)):
            part = reference.Found(expected.scores[some], expected.ids[some])
            for k in (1, 10, 100):
                assert_same(search(queries[some], k), part, k)
    excluded = rng.integers(-1, 3000, (len(queries), 20))
    allowed = np.sort(rng.choice(3000, 1500, replace=False))
    expected = reference.furthest(queries, rows, 10, metric, exclude=excluded, allowed=allowed)
    assert_same(index.search_furthest(queries, 10, exclude=excluded, allowed=allowed), expected)
    radius = float(np.median(reference.furthest(queries, rows, 20, metric).scores[:, -1]))
    assert_same_beyond(index.search_beyond(queries, radius),
                       reference.beyond(queries, rows, radius, metric))


@pytest.mark.parametrize("metric", METRICS)
def test_rows_come_and_go(metric: str, rng: np.random.Generator) -> None:
    rows, users = towers(rng)
    index = built(rows, users, metric)
    index.remove(np.arange(0, N, 3))
    more = towers(rng, 200)[0]
    ids = index.add(more)
    kept = np.setdiff1d(np.arange(N), np.arange(0, N, 3))
    assert arrays_of(index).mean is not None
    assert_exact(index, np.vstack([rows[kept], more]), users[:40], [10],
                 np.concatenate([kept, ids]))


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize("metric", METRICS)
def test_hostile_rows(metric: str, kind: str, size: float, rng: np.random.Generator) -> None:
    """Beside means like rows, like nothing, and of any size."""
    rows = rows_for(kind, rng, 400, 12, metric)
    typical = float(np.median(np.linalg.norm(rows.astype(np.float64), axis=1)))
    mean = rows.astype(np.float64).mean(axis=0) + typical * rng.standard_normal(12)
    mean *= size
    length = float(np.linalg.norm(mean))
    mean *= np.clip(length, 1.1e-20, 0.9e20) / length if length else 1.0
    if not length:
        mean = 1e-10 * rng.standard_normal(12)
    queries = np.vstack([queries_for(rng, rows, metric),
                         asked_of(rng, mean.astype(np.float32), 8)])
    queries = queries[queries.any(axis=1)] if metric == "cosine" else queries
    try:
        index = with_mean(rows, metric, mean.astype(np.float32))
    except AssertionError:  # such rows have no codes
        return
    assert_exact(index, rows, np.ascontiguousarray(queries), [7])


@given(seed=st.integers(0, 2**32 - 1), metric=st.sampled_from(METRICS),
       dim=st.sampled_from([1, 2, 7, 33]), spread=st.sampled_from([0.0, 1e-7, 1e-3, 1.0]),
       offset=st.sampled_from([0.0, 1.0, 1e4]), twins=st.booleans(), by_length=st.booleans())
def test_rows_that_differ_by_little(seed: int, metric: str, dim: int, spread: float,
                                    offset: float, twins: bool, by_length: bool) -> None:
    """Queries are nearly the mean, and rows nearly as far along it: biases decide, or nothing."""
    rng = np.random.default_rng(seed)
    mean = rng.standard_normal(dim).astype(np.float32)
    rows = rng.standard_normal((300, dim)) + offset
    rows += np.outer(1.0 - rows @ mean / (mean @ mean.astype(np.float64)), mean)
    rows = (rows + spread * rng.standard_normal((300, dim))).astype(np.float32)
    if twins:
        rows[150:] = rows[:150]
    queries = asked_of(rng, mean, 12)
    if metric == "cosine":
        rows[~rows.any(axis=1)] = 1.0
        queries[~queries.any(axis=1)] = 1.0
    try:
        index = with_mean(rows, metric, mean, by_length=by_length)
    except AssertionError:
        return
    assert_exact(index, rows, queries, [1, 10])


@pytest.mark.parametrize("size", [2e-20, 1e-10, 1.0, 1e10, 5e19])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("isa", LEVELS)
def test_rows_across_the_mean(isa: str, metric: str, size: float,
                              rng: np.random.Generator) -> None:
    """Biases are next to nothing, and queries are all mean: their units come close to nothing."""
    rows = rng.standard_normal((400, 16), dtype=np.float32)
    rows[:, 0] = 0
    mean = np.zeros(16, np.float32)
    mean[0] = size
    index = with_mean(rows, metric, mean, isa)
    # Powers of two leave nothing at all of the mean.
    sizes = 2.0 ** np.arange(-60, 60, 12)[:, None]
    queries = np.vstack([sizes * mean, sizes[4:6] * mean + 1e-12 * rng.standard_normal((2, 16))])
    assert_exact(index, rows, queries.astype(np.float32), [7])


def test_as_many_are_out_of_reach(rng: np.random.Generator) -> None:
    """Lengths of rows bound whole queries: biases take no part in that."""
    rows, users = towers(rng, 6000, 12)
    rows *= np.exp(rng.normal(0.0, 0.7, (6000, 1))).astype(np.float32)
    scanned = []
    for mean in (users.mean(axis=0), None):
        index = with_mean(rows, "dot", mean, by_length=True)
        for search in (index.search_furthest, index.search_nearest):
            search(users[:70], 10)
            scanned.append(index.stats()["last_search"]["rows_scanned"])
    assert max(scanned) < 0.8 * 6000 * 70
    assert (np.array(scanned[:2]) <= 1.02 * np.array(scanned[2:])).all()


# ---- what codes hold, and what it brings ----


@pytest.mark.parametrize("metric", METRICS)
def test_what_biases_hold(metric: str, rng: np.random.Generator) -> None:
    """Less the product of a row with the mean, times the weight; all else is as without it."""
    rows, users = towers(rng, 333)
    mean, centre = users.mean(axis=0), rng.standard_normal(DIM) / DIM
    arrays = lay_out(rows, metric, centre=centre, mean=mean)
    plain = lay_out(rows, metric, centre=centre)
    assert plain.squares is None and plain.mean is None and plain.bounds == arrays.bounds
    np.testing.assert_array_equal(plain.panels, arrays.panels)
    assert arrays.slots is not None and arrays.squares is not None
    vectors = rows[arrays.slots[filled(arrays)]].astype(np.float64)
    if metric == "cosine":
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    weights = np.repeat(arrays.weights.astype(np.float64), 16)[filled(arrays)]
    expected = -((vectors - centre) @ mean.astype(np.float64)) * weights
    np.testing.assert_allclose(arrays.squares[filled(arrays)], expected, rtol=1e-6,
                               atol=1e-6 * np.abs(expected).max())
    assert (arrays.squares[filled(arrays)] < 0).any() and not arrays.squares[333:].any()


def test_codes_and_biases_are_whole(rng: np.random.Generator) -> None:
    """Products with all of a query are those of what is left of it, and a share of the bias."""
    rows, users = towers(rng, 400)
    mean = users.mean(axis=0)
    arrays = lay_out(rows, "dot", mean=mean)
    codes: Codes = codes_of(arrays)
    at = filled(arrays)
    assert arrays.slots is not None and arrays.squares is not None
    z = (codes.whole[at, :DIM] - 128.0) / np.repeat(arrays.weights, 16)[at, None]
    left = turned((users - 0.5 * mean).astype(np.float64), arrays.signs)
    whole = left @ z.T - 0.5 * (arrays.squares / np.repeat(arrays.weights, 16))[at]
    exact = users.astype(np.float64) @ rows[arrays.slots[at]].astype(np.float64).T
    assert np.abs(whole - exact).max() < 0.01 * np.abs(exact).max()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("isa", LEVELS)
def test_fewer_rows_are_looked_at(isa: str, metric: str, rng: np.random.Generator,
                                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_core, "CACHED_BYTES", 0)  # upper halves first, also of so few rows
    items, users = towers(rng, 20_000, 32)
    index = built(items, users[:400], metric, isa)
    monkeypatch.setattr(_layout, "_WORTH_A_MEAN", np.inf)
    without = built(items, users[:400], metric, isa)
    assert arrays_of(index).mean is not None and arrays_of(without).mean is None
    asked = users[400:]
    expected = reference.furthest(asked[:20], items, 10, metric)
    did, before = [], []
    for found, all_stats in ((index, did), (without, before)):
        hits, stats = found.search_furthest(asked, 10, return_stats=True)
        assert_same(farann.Hits(hits.scores[:20], hits.ids[:20]), expected)
        all_stats += [stats.rows_rescored, sum(
            found.search_furthest(query, 10, return_stats=True)[1].rows_refined
            for query in asked[:50])]
    assert did[0] < before[0] and 0 < did[1] < 0.5 * before[1]
    # Other queries lose nothing by it: each takes the share that it has, here hardly any.
    others = rng.standard_normal((50, 32), dtype=np.float32)
    refined = [sum(found.search_furthest(query, 10, return_stats=True)[1].rows_refined
                   for query in others) for found in (index, without)]
    assert refined[0] <= refined[1]


# ---- where build takes one ----


@pytest.mark.parametrize("metric", METRICS)
def test_the_mean_of_sample_queries(metric: str, rng: np.random.Generator) -> None:
    rows, users = towers(rng)
    sizes = np.exp(rng.normal(0.0, 0.3, (len(users), 1))).astype(np.float32)
    users *= sizes
    kind = built(rows, users, metric)._store
    assert kind is not None and kind.codes is not None and kind.codes.mean is not None
    asked = np.delete(users, np.s_[::4], axis=0).astype(np.float64)
    if metric == "cosine":
        asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    np.testing.assert_allclose(kind.codes.mean, asked.mean(axis=0), rtol=1e-5)


@pytest.mark.parametrize("metric", METRICS)
def test_rows_stand_in_for_queries(metric: str, rng: np.random.Generator) -> None:
    rows = rng.standard_normal((N, DIM), dtype=np.float32) + np.float32(1e4)
    index = built(rows, None, metric)
    assert arrays_of(index).mean is not None
    assert_exact(index, rows, np.vstack([rows[:30], -rows[:5]]), [10])


def test_no_mean_where_it_would_not_pay(rng: np.random.Generator) -> None:
    rows, users = towers(rng)
    centred = rng.standard_normal((300, DIM), dtype=np.float32)
    low_rank = (rng.standard_normal((8000, 4)) @ rng.standard_normal((4, 96))
                + 0.01 * rng.standard_normal((8000, 96))).astype(np.float32)
    like = (low_rank[:300] + low_rank[0] * 5).astype(np.float32)
    assert arrays_of(built(rows, users, "dot")).mean is not None
    assert arrays_of(built(low_rank, like, "dot")).basis is not None
    for index in (built(rows, centred, "dot"), built(rows, users, "l2"),
                  built(rows[:1000], users, "dot"), built(low_rank, like, "dot"),
                  built(rows, users, "dot", codes="int4"),
                  built(rows, users, "dot", keep_vectors=False),
                  built(rows, users * np.float32(1e21), "dot"),
                  built(rows, users * np.float32(1e-21), "dot"),
                  built(rows, np.zeros((4, DIM), np.float32), "dot")):
        assert arrays_of(index).mean is None


@pytest.mark.parametrize("metric", METRICS)
def test_approximate_search(metric: str, rng: np.random.Generator,
                            monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells are judged by whole queries: the best are found with a mean as without one."""
    rows, users = towers(rng, 20_000, 12, strength=4.0)
    index = built(rows, users[:20], metric, cells=128)
    monkeypatch.setattr(_layout, "_WORTH_A_MEAN", np.inf)
    without = built(rows, users[:20], metric, cells=128)
    assert arrays_of(index).mean is not None and arrays_of(without).mean is None
    asked = users[500:]
    expected = reference.furthest(asked, rows, 10, metric)
    for some in (slice(0, 100), slice(0, 1)):
        part = reference.Found(expected.scores[some], expected.ids[some])
        assert_same(index.search_furthest(asked[some], 10), part)
    for options in ({"recall": 0.9}, {"budget": 600}):
        recalls = []
        for searched in (index, without):
            one_by_one = [searched.search_furthest(query, 10, **options).ids for query in asked]
            recalls += [recall_of(np.array(one_by_one), expected.ids), recall_of(
                searched.search_furthest(asked, 10, **options).ids, expected.ids)]
        assert min(recalls[:2]) > min(recalls[2:]) - 0.03 > 0.8, options
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
    path, twin = tmp_path / "index.farann", tmp_path / "twin.farann"
    index.save(path)
    built(rows, users, metric).save(twin)
    assert path.read_bytes() == twin.read_bytes()
    held = arrays_of(index).squares
    assert held is not None and held.nbytes == 4 * 30_000
    hits, stats = index.search_furthest(users, 10, return_stats=True)
    for again in (farann.Index.load(path), farann.Index.load(path, mmap=True),
                  pickle.loads(pickle.dumps(index))):
        np.testing.assert_array_equal(arrays_of(again).mean, arrays_of(index).mean)
        found, its_stats = again.search_furthest(users, 10, return_stats=True)
        assert_same(found, hits)
        assert its_stats == stats
        again.save(twin)
        assert path.read_bytes() == twin.read_bytes()


@pytest.fixture
def saved(tmp_path: Path, rng: np.random.Generator) -> Path:
    rows, users = towers(rng, 100)
    path = tmp_path / "index.farann"
    with_mean(rows, "dot", users.mean(axis=0)).save(path)
    return path


BROKEN: dict[str, Callable[[Sections], object]] = {
    "no mean": lambda arrays: arrays.pop("codes.mean"),
    "no squares": lambda arrays: arrays.pop("codes.squares"),
    "cut short": change("mean", lambda array: array[:-1]),
    "none": change("mean", lambda array: array[:0]),
    "of another type": change("mean", lambda array: array.astype(np.float64)),
    "in other dimensions": change("mean", lambda array: array[None]),
    **{f"{value} in it": put("mean", 3, value) for value in (np.nan, np.inf, -np.inf, 3e38)},
    "zero": change("mean", lambda array: array * 0),
    "tiny": change("mean", lambda array: array * np.float32(1e-25)),
    **{f"{value} among biases": put("squares", 3, value) for value in (np.nan, np.inf, -np.inf)},
    "a basis": lambda arrays: arrays.update({"codes.basis": np.eye(2, DIM)}),
}


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("what", BROKEN)
def test_broken_sections(saved: Path, what: str, mmap: bool) -> None:
    farann.Index.load(saved, mmap=mmap)
    refuse(saved, BROKEN[what], mmap)


@pytest.mark.parametrize("layout", ["l2", "no vectors"])
def test_means_where_there_should_be_none(layout: str, saved: Path,
                                          rng: np.random.Generator) -> None:
    mean = read_file(saved)[1]["codes.mean"]
    index = built(towers(rng, 100)[0], None, "l2") if layout == "l2" else built(
        towers(rng, 100)[0], None, "dot", keep_vectors=False)
    index.save(saved)
    positions = read_file(saved)[1]["codes.weights"].shape[0] * 16
    refuse(saved, lambda arrays: arrays.update(
        {"codes.mean": mean, "codes.squares": np.ones(positions, np.float32)}), False)


@pytest.mark.parametrize("metric", [0, 1])
def test_the_core_refuses_others(metric: int, rng: np.random.Generator) -> None:
    """Biases that the metric doesn't have would be taken for |y|^2, or not at all."""
    rows, users = towers(rng, 100)
    arrays = lay_out(rows, "dot", mean=users.mean(axis=0))
    wrong = arrays if metric == 0 else arrays._replace(
        mean=None, squares=np.abs(arrays.squares) if arrays.squares is not None else None)
    with pytest.raises(ValueError, match="mean query"):
        _core.Snapshot(rows, rows[:0], None, None, np.zeros(DIM), metric, LEVELS[-1],
                       _core.Codes(100, DIM, *wrong))


@pytest.mark.parametrize("name", ["mean", "squares", "both"])
def test_absurd_means_do_no_harm(saved: Path, name: str, rng: np.random.Generator) -> None:
    """Answers may be wrong, ids are those of rows."""
    metadata, arrays = read_file(saved)
    users = towers(rng, 1)[1][:20]
    queries = np.vstack([users, 1e30 * users[:2], 1e-30 * users[:2], -users[:2]])
    for size in (1.1e-20, 1.0, 0.9e20):
        sections = dict(arrays)
        if name != "squares":
            mean = rng.standard_normal(DIM)
            sections["codes.mean"] = (size / np.linalg.norm(mean) * mean).astype(np.float32)
        if name != "mean":
            noise = noise_like(arrays["codes.squares"], rng)
            sections["codes.squares"] = noise * rng.choice(np.float32([-1, 1]), noise.shape)
        write_file(saved, metadata, sections)
        index = farann.Index.load(saved)
        for some in (queries, queries[0], queries[-3]):
            for search in (index.search_furthest, index.search_nearest):
                for k in (5, 100):
                    ids = search(some.astype(np.float32), k).ids
                    assert ((ids >= -1) & (ids < 100)).all()
