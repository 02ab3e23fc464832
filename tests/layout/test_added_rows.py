"""Rows added since the last build: coded as its rows were, found as exactly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import inside
import numpy as np
import pytest
import reference
from cases import Float32, assert_exact, assert_same, assert_same_beyond, low_rank, queries_for
from inside import core
from numpy.typing import NDArray

import farann

BASE, DIM, K = 5000, 24, 10


def rows_like(kind: str, rng: np.random.Generator, n: int, dim: int) -> Float32:
    """Rows for which the base is laid out in some way or other."""
    rows = rng.standard_normal((n, dim)).astype(np.float32)
    if kind == "reach":
        rows *= np.exp(rng.standard_normal((n, 1))).astype(np.float32)
    elif kind == "lead":
        rows *= np.exp(rng.standard_normal((n, 1))).astype(np.float32)
        rows += np.float32(2.0)
    elif kind == "low rank":
        rows = low_rank(rng, n, dim, 0.01)
    elif kind == "duplicates":
        rows = rows[rng.integers(0, n // 7, n)]
    return rows


def grown(index: farann.Index, rows: Float32, step: int, ids: NDArray[np.int64] | None = None
          ) -> farann.Index:
    """The index with more rows, some at a time."""
    for start in range(0, len(rows), step):
        index.add(rows[start : start + step], None if ids is None else ids[start : start + step])
    return index


def built(rows: Float32, metric: str = "l2", ids: NDArray[np.int64] | None = None,
          **options: Any) -> farann.Index:
    index = farann.Index(metric=metric, **options)
    index.add(rows, ids)
    return index.build()


def n_coded(index: farann.Index) -> int:
    added = inside.store.of(index).added
    assert added is not None
    codes = added.codes
    return 0 if codes is None or codes.slots is None else int((codes.slots >= 0).sum())


@pytest.mark.parametrize("metric", reference.METRICS)
@pytest.mark.parametrize("kind", ["gaussian", "reach", "lead", "low rank", "duplicates"])
def test_answers_are_exact(kind: str, metric: str, rng: np.random.Generator) -> None:
    rows = rows_like(kind, rng, BASE + 2000, DIM)
    index = built(rows[:BASE], metric)
    at = BASE
    for n in (1, 126, 1, 17, 300, 1555):
        index.add(rows[at : at + n])
        at += n
        assert_exact(index, rows[:at], queries_for(rng, rows[:at], metric), [K, 1])
    assert at == len(rows) and n_coded(index) > 1800


@pytest.mark.parametrize("options", [
    {"cells": 20}, {"codes": "int4"}, {"codes": "int4", "cells": 9}, {"codes": "float32"},
    {"keep_vectors": True, "seed": 5}])
def test_answers_of_all_kinds_of_indexes_are_exact(options: dict[str, Any],
                                                   rng: np.random.Generator) -> None:
    for metric in reference.METRICS:
        rows = rows_like("lead", rng, BASE + 900, DIM)
        index = grown(built(rows[:BASE], metric, **options), rows[BASE:], 90)
        assert_exact(index, rows, queries_for(rng, rows, metric), [K, 40])
        # A batch is scanned in tiles, few queries one by one.
        queries = rng.standard_normal((70, DIM), dtype=np.float32)
        assert_same(index.search_furthest(queries, K),
                    reference.furthest(queries, rows, K, metric))


@pytest.fixture
def first_look(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Axes would do as well for so few dimensions."""

    monkeypatch.setattr(inside.settings, "most_rotated_rows", 0)
    yield


def near_few_dimensions(rng: np.random.Generator, n: int) -> Float32:
    rows = rng.standard_normal((n, 4)) @ np.linalg.qr(rng.standard_normal((64, 4)))[0].T
    return np.asarray((rows + 0.002 * rng.standard_normal((n, 64))).astype(np.float32))


@pytest.mark.parametrize("metric", reference.METRICS)
def test_a_first_look_goes_along_the_same_directions(metric: str, rng: np.random.Generator,
                                                     first_look: None) -> None:
    rows = near_few_dimensions(rng, 8000)
    index = built(rows[:6000], metric)
    assert index.stats()["directions"] > 0
    # Some that are far outside these directions: their codes are coarser, and as right.
    rows[6100:6110] += rng.standard_normal((10, 64)).astype(np.float32)
    grown(index, rows[6000:], 150)
    assert n_coded(index) > 1500
    queries = np.vstack([queries_for(rng, rows, metric), rows[:40]])
    assert_exact(index, rows, queries, [K])
    stats = index.search_furthest(rows[:40], K, return_stats=True).stats
    assert stats.rows_refined < 0.5 * stats.rows_scanned


def test_counts_of_codes(rng: np.random.Generator) -> None:
    """Coded rows cost what rows of the base do; those that wait are scanned in float32."""
    rows = rng.standard_normal((2 * BASE, DIM), dtype=np.float32)
    queries = rng.standard_normal((64, DIM), dtype=np.float32)
    index = grown(built(rows[:BASE]), rows[BASE:-1], 100)
    streamed = index.search_furthest(queries, K, return_stats=True).stats
    waiting = BASE - 1 - n_coded(index)
    assert 0 < waiting < inside.layout.LEAST_RUN
    assert streamed.rows_scanned <= 64 * (2 * BASE - 1)
    assert 64 * waiting * DIM <= streamed.float_products < 64 * 2 * inside.layout.LEAST_RUN * DIM
    once = index.build().search_furthest(queries, K, return_stats=True).stats
    assert streamed.code_products < 1.3 * once.code_products
    assert streamed.rows_scanned < 1.3 * once.rows_scanned
    assert streamed.rows_rescored < 1.5 * once.rows_rescored


def test_rows_out_of_reach_are_left_out(rng: np.random.Generator) -> None:
    rows = rows_like("reach", rng, 2 * BASE, DIM)
    index = grown(built(rows[:BASE], "dot"), rows[BASE:], 250)
    codes = inside.store.of(index).codes
    assert codes is not None and codes.max_norm is not None
    queries = rng.standard_normal((64, DIM), dtype=np.float32)
    stats = index.search_furthest(queries, K, return_stats=True).stats
    assert stats.rows_scanned < 0.7 * 64 * len(rows)


def test_rows_wait_until_there_are_panels_of_them(rng: np.random.Generator) -> None:
    index = built(rng.standard_normal((BASE, DIM), dtype=np.float32))
    for i in range(1, 3 * inside.layout.LEAST_RUN):
        index.add(rng.standard_normal((1, DIM), dtype=np.float32))
        assert n_coded(index) == i // inside.layout.LEAST_RUN * inside.layout.LEAST_RUN


def test_rows_are_coded_few_times(rng: np.random.Generator,
                                  monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for each level of runs."""
    coded = 0
    plain = inside.layout.code_like

    def counted(base: Any, rows: Float32, *others: Any) -> Any:
        nonlocal coded
        coded += len(rows)
        return plain(base, rows, *others)

    monkeypatch.setattr(inside.settings, "code_added_rows", counted)
    rows = rng.standard_normal((2 * BASE, DIM), dtype=np.float32)
    grown(built(rows[:BASE]), rows[BASE:], 100)
    assert BASE - inside.layout.LEAST_RUN < coded <= 2 * BASE


def test_large_rows_stay_float32(rng: np.random.Generator) -> None:
    """A few of them must not make the codes of all others coarse."""
    rows = rng.standard_normal((BASE + 1000, DIM), dtype=np.float32)
    rows[BASE + 5 :: 100] *= np.float32(1e30)
    rows[BASE + 7 :: 100] *= np.float32(9.0)
    index = grown(built(rows[:BASE]), rows[BASE:], 70)
    added = inside.store.of(index).added
    assert added is not None
    far = {*range(5, 1000, 100), *range(7, 1000, 100)}
    assert set(added.large) == far - set(added.waiting) and len(added.large) > 12
    assert_exact(index, rows, queries_for(rng, rows, "l2"), [K, 25])
    queries = rng.standard_normal((64, DIM), dtype=np.float32)
    assert_same(index.search_furthest(queries, 30), reference.furthest(queries, rows, 30, "l2"))


def test_rows_of_another_kind(rng: np.random.Generator) -> None:
    """Far from the base, or along other directions: slower, and as exact."""
    base = low_rank(rng, BASE, DIM, 0.01)
    for metric in reference.METRICS:
        other = rng.standard_normal((700, DIM)).astype(np.float32)
        rows = np.vstack([base, 0.3 * other, base[:300] + np.float32(3.0)]).astype(np.float32)
        index = grown(built(base, metric), rows[BASE:], 128)
        assert_exact(index, rows, queries_for(rng, rows, metric), [K])


def test_queries_that_codes_cannot_hold(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((BASE + 500, DIM), dtype=np.float32)
    index = grown(built(rows[:BASE]), rows[BASE:], 128)
    queries = rng.standard_normal((12, DIM), dtype=np.float32)
    queries[::3] = 3e38 * np.sign(queries[::3])
    assert_same(index.search_furthest(queries, K), reference.furthest(queries, rows, K, "l2"))
    stats = index.search_furthest(queries[:1], K, return_stats=True).stats
    assert stats.rows_rescored == len(rows)


def test_removed_rows_own_ids_and_filters(rng: np.random.Generator) -> None:
    for metric in reference.METRICS:
        rows = rows_like("reach", rng, BASE + 1500, DIM)
        ids = rng.permutation(10 * len(rows))[: len(rows)].astype(np.int64)
        index = built(rows[:BASE], metric, ids[:BASE])
        grown(index, rows[BASE:], 111, ids[BASE:])
        gone = rng.permutation(len(rows))[:800]
        index.remove(ids[gone])
        left = np.setdiff1d(np.arange(len(rows)), gone)
        queries = rng.standard_normal((40, DIM), dtype=np.float32)
        assert_same(index.search_furthest(queries, K),
                    reference.furthest(queries, rows[left], K, metric, ids=ids[left]))
        some = np.sort(rng.permutation(left)[: len(left) // 2])
        expected = reference.furthest(queries, rows[some], K, metric, ids=ids[some])
        assert_same(index.search_furthest(queries, K, allowed=ids[some]), expected)
        best = expected.ids[:, :4]
        rest = index.search_furthest(queries, K - 4, allowed=ids[some], exclude=best)
        assert np.array_equal(rest.ids, expected.ids[:, 4:])


def test_beyond_and_epsilon(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((BASE + 600, DIM), dtype=np.float32)
    index = grown(built(rows[:BASE]), rows[BASE:], 130)
    queries = rng.standard_normal((9, DIM), dtype=np.float32)
    radius = float(np.median(reference.furthest(queries, rows, 60, "l2").scores[:, -1]))
    assert_same_beyond(index.search_beyond(queries, radius=radius),
                       reference.beyond(queries, rows, radius, "l2"))
    exact = reference.furthest(queries, rows, K, "l2").scores[:, -1]
    near = index.search_furthest(queries, K, epsilon=0.1).scores[:, -1]
    assert (near * 1.1 >= exact).all()


@pytest.mark.parametrize("cells", [None, 30])
def test_recall_of_added_rows(cells: int | None, rng: np.random.Generator) -> None:
    rows = rng.standard_normal((4 * BASE, DIM), dtype=np.float32)
    half = 2 * BASE
    index = grown(built(rows[:half], cells=cells), rows[half:], 500)
    queries = rng.standard_normal((200, DIM), dtype=np.float32)
    exact = index.search_furthest(queries, K).ids
    hits = index.search_furthest(queries, K, recall=0.9).ids
    found = (hits[:, :, None] == exact[:, None, :]).any(axis=1)
    assert found[exact >= half].mean() > 0.9
    assert found.mean() > 0.9


def test_older_stores_stay_as_they_are(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((2 * BASE, DIM), dtype=np.float32)
    index = built(rows[:BASE])
    queries = rng.standard_normal((30, DIM), dtype=np.float32)
    seen: list[tuple[int, inside.store.Store]] = []
    for start in range(BASE, 2 * BASE, 331):
        index.add(rows[start : start + 331])
        seen.append((len(index), inside.store.of(index)))
    now = inside.store.of(index)
    for n, store in seen:
        inside.store.restore(index, store)
        assert_same(index.search_furthest(queries, K),
                    reference.furthest(queries, rows[:n], K, "l2"))
    inside.store.restore(index, now)


def test_files_and_builds(rng: np.random.Generator, tmp_path: Path) -> None:
    rows = rng.standard_normal((BASE + 777, DIM), dtype=np.float32)
    index = grown(built(rows[:BASE]), rows[BASE:], 100)
    queries = rng.standard_normal((30, DIM), dtype=np.float32)
    expected = reference.furthest(queries, rows, K, "l2")
    index.save(tmp_path / "index")
    loaded = farann.Index.load(tmp_path / "index")
    assert_same(loaded.search_furthest(queries, K), expected)
    loaded.add(rows[:200])
    assert_same(loaded.search_furthest(queries, 1), reference.furthest(
        queries, np.vstack([rows, rows[:200]]), 1, "l2"))
    assert_same(index.build().search_furthest(queries, K), expected)
    assert inside.store.of(index).added is None


def test_bytes_count_codes_of_added_rows(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((BASE + 1024, DIM), dtype=np.float32)
    index = built(rows[:BASE])
    before = index.stats()["bytes"]["codes"]
    index.add(rows[BASE:])
    assert index.stats()["bytes"]["codes"] >= before + 1024 * DIM


def test_codes_are_given_up_where_they_rule_out_too_little(rng: np.random.Generator) -> None:
    """As for the base: rows among which codes can't choose are scanned in float32."""
    rows = rng.standard_normal((BASE, 64), dtype=np.float32)
    index = built(rows)
    crowd = (9.0 * np.abs(rows[:1]) / np.linalg.norm(rows[:1])
             + 1e-4 * rng.standard_normal((4000, 64))).astype(np.float32)
    grown(index, crowd, 500)
    every = np.vstack([rows, crowd])
    queries = (-4.0 * crowd[:64]).astype(np.float32)
    hits = index.search_furthest(queries, K, return_stats=True)
    stats = hits.stats
    assert_same(hits, reference.furthest(queries, every, K, "l2"))
    assert stats.float_products > 64 * 2000 * 64
    assert stats.rows_rescored < 64 * 2500


def test_the_core_refuses_codes_that_do_not_fit(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((BASE + 512, DIM), dtype=np.float32)
    index = grown(built(rows[:BASE]), rows[BASE:], 512)
    store = inside.store.of(index)
    assert store.added is not None and store.added.codes is not None and store.layout is not None
    added = core.Codes(store.n_slots, DIM, store.added.codes, in_runs=True)
    codes, _ = store.layout.native(BASE, DIM)
    none = np.empty(0, np.int64)

    def snapshot(of_base: core.Codes | None, runs: Any = ((0, 512),), vectors: bool = True
                 ) -> core.Snapshot:
        runs = np.array(runs, np.int64)
        return core.Snapshot(store.base, store.tail, None, None, store.center, 0, index.isa,
                             codes=of_base, vectors=vectors, added=added, runs=runs, uncoded=none)

    snapshot(codes)
    with pytest.raises(ValueError, match="as those of the base"):
        snapshot(None)
    for runs in ([[0, 8]], [[-16, 16]], [[0, 528]], [[32, 16]], [[0, 16, 32]]):
        with pytest.raises(ValueError, match="whole panels"):
            snapshot(codes, runs)
    other = built(rows_like("gaussian", rng, BASE, DIM), "dot")
    with pytest.raises(ValueError, match="as those of the base"):
        snapshot(inside.store.snapshot_of(other).codes)


@pytest.mark.parametrize("metric", reference.METRICS)
@pytest.mark.parametrize("n_added", [100, 256, 2000])
def test_recall_where_added_rows_are_of_another_kind(n_added: int, metric: str,
                                                     rng: np.random.Generator) -> None:
    """They answer all queries, and have much in common outside the axes of codes."""
    middles = 4.0 * rng.standard_normal((8, 32))

    def draw(n: int) -> Float32:
        rows = middles[rng.integers(0, 8, n)] + 0.3 * rng.standard_normal((n, 32))
        return rows.astype(np.float32)

    rows, queries, more = draw(8000), draw(200), -draw(n_added)
    more *= rng.uniform(0.8, 1.6, (n_added, 1)).astype(np.float32)
    index = built(rows, metric)
    for k in (1, 10):
        index.tune(k=k)
    index.add(more)
    for k in (1, 10):
        exact = index.search_furthest(queries, k).ids
        for options in ({"recall": 0.99}, {"budget": len(index)}):
            found = index.search_furthest(queries, k, **options).ids
            assert (found[:, :, None] == exact[:, None, :]).any(axis=2).mean() > 0.98
