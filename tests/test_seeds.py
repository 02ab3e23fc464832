"""Seeds: lists of rows that answer sample queries, which searches look at first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import inside
import numpy as np
import pytest
from numpy.typing import NDArray
from reference import furthest, nearest

import farann

LEVELS = inside.levels()


def two_towers(n: int = 6000, dim: int = 24, *, users: int = 1600, groups: int = 12,
               seed: int = 3) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Items, and users of a few tastes, which differ from them."""
    draw = np.random.default_rng(seed)
    items = draw.standard_normal((n, dim)).astype(np.float32)
    tastes = 1.0 + draw.standard_normal((groups, dim))
    chosen = tastes[draw.integers(0, groups, users)]
    return items, (chosen + 0.2 * draw.standard_normal((users, dim))).astype(np.float32)


@pytest.fixture(autouse=True)
def short_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few thousand rows have a dozen lists."""
    monkeypatch.setattr(inside.shortlists, "_LENGTH", 64)
    monkeypatch.setattr(inside.shortlists, "_SHARE", 8)


def built(metric: str = "cosine", **options: Any) -> tuple[farann.Index, NDArray[np.float32]]:
    """An index that was built with users, and other users."""
    items, users = two_towers()
    index = farann.Index(items.shape[1], metric, **options)
    index.add(items)
    index.build(queries=users[:1200])
    assert index.stats()["bytes"]["seeds"] > 0
    return index, users[1200:]


def seeds_in(index: farann.Index) -> inside.Shortlists:
    seeds = inside.store_of(index).shortlists
    assert seeds is not None
    return seeds


@pytest.mark.parametrize("metric", ["l2", "dot", "cosine"])
def test_answers_are_exact(metric: str) -> None:
    """At every level, of one index: it is built at the fastest in any case."""
    items, _ = two_towers()
    index, queries = built(metric)
    expected = furthest(queries[:100], items, 33, metric).ids
    for isa in LEVELS:
        inside.use_level(index, isa)
        assert index.isa == isa
        for k in (1, 10, 32, 33):
            hits = index.search_furthest(queries[:100], k)
            np.testing.assert_array_equal(hits.ids, expected[:, :k])
        found = index.search_furthest(queries[:20], 10).ids
        for query, ids in zip(queries[:20], found, strict=True):
            np.testing.assert_array_equal(index.search_furthest(query, 10).ids, ids)


def test_lists_have_the_answers() -> None:
    index, queries = built()
    seeds = seeds_in(index)
    assert seeds.positions.shape[1] == 64 and len(seeds.positions) > 4
    listed = np.unique(seeds.positions)
    order = inside.store_of(index).codes.slots  # type: ignore[union-attr]
    assert order is not None
    ids = index.search_furthest(queries, 10).ids
    assert np.isin(ids, order[listed]).mean() > 0.9
    for row in seeds.positions:
        assert (np.diff(order[row]) > 0).all()


def test_only_where_lists_would_have_the_answers() -> None:
    draw = np.random.default_rng(5)
    index = farann.Index(24, "cosine")
    index.add(draw.standard_normal((6000, 24)).astype(np.float32))
    index.build()  # rows serve as queries, and every row has answers of its own
    assert index.stats()["bytes"]["seeds"] == 0


def test_a_list_is_nearly_the_answer() -> None:
    """With seeds few rows reach a recall for which many had to be scanned without."""
    index, queries = built()
    items, users = two_towers()
    other = farann.Index(items.shape[1], "cosine")
    other.add(items)
    other.build()
    assert other.stats()["bytes"]["seeds"] == 0
    truth = furthest(queries, items, 10, "cosine").ids
    scanned = {}
    for name, one in (("seeds", index), ("none", other)):
        one.tune(queries=users[:400] if name == "none" else None, k=10)
        hits, stats = one.search_furthest(queries, 10, recall=0.9, return_stats=True)
        recall = (hits.ids[:, :, None] == truth[:, None, :]).any(axis=1).mean()
        assert recall >= 0.89
        scanned[name] = stats.rows_scanned / stats.queries
    assert scanned["seeds"] < 0.5 * scanned["none"]


@pytest.mark.parametrize("cells", [None, 20])
def test_filters_cost_no_result(cells: int | None) -> None:
    index, queries = built(cells=cells)
    items, _ = two_towers()
    queries = queries[:40]
    best = index.search_furthest(queries, 30).ids
    for options in ({}, {"recall": 0.9}, {"epsilon": 0.1}, {"budget": 1000}):
        exclude = best[:, :25]
        hits = index.search_furthest(queries, 10, exclude=exclude, **options)
        assert not (hits.ids[:, :, None] == exclude[:, None, :]).any()
        assert (hits.ids >= 0).all()
        assert all(len(set(row)) == 10 for row in hits.ids.tolist())
        if not options:
            expected = furthest(queries, items, 35, "cosine").ids[:, 25:]
            np.testing.assert_array_equal(hits.ids, expected)
    allowed = np.ones(len(items), np.bool_)
    allowed[np.unique(best)] = False
    hits = index.search_furthest(queries, 10, allowed=allowed)
    kept = np.flatnonzero(allowed)
    np.testing.assert_array_equal(
        hits.ids, kept[furthest(queries, items[kept], 10, "cosine").ids])


def test_rows_that_come_and_go() -> None:
    index, queries = built("dot")
    items, _ = two_towers()
    gone = np.unique(index.search_furthest(queries, 3).ids)
    index.remove(gone)
    more = 2.0 * items[:50]
    index.add(more, ids=np.arange(50) + 100_000)
    rows = np.concatenate([np.delete(items, gone, axis=0), more])
    ids = np.concatenate([np.delete(np.arange(len(items)), gone), np.arange(50) + 100_000])
    expected = ids[furthest(queries, rows, 10, "dot").ids]
    np.testing.assert_array_equal(index.search_furthest(queries, 10).ids, expected)
    index.build()
    np.testing.assert_array_equal(index.search_furthest(queries, 10).ids, expected)


@pytest.mark.parametrize("metric", ["l2", "dot", "cosine"])
def test_other_searches(metric: str) -> None:
    index, queries = built(metric)
    items, _ = two_towers()
    queries = queries[:30]
    np.testing.assert_array_equal(index.search_nearest(queries, 10).ids,
                                  nearest(queries, items, 10, metric).ids)
    hits = index.search_furthest(queries, 10)
    radius = float(np.median(hits.scores[:, 4]))
    beyond = index.search_beyond(queries, radius)
    for i in range(len(queries)):
        found = beyond.ids[beyond.offsets[i] : beyond.offsets[i + 1]]
        assert set(hits.ids[i, :4][(hits.scores[i, :4] > radius) if metric == "l2" else (
            hits.scores[i, :4] < radius)].tolist()) <= set(found.tolist())
    within = index.search_furthest(queries, 10, epsilon=0.1)
    if metric == "l2":
        assert (within.scores[:, -1] * 1.1001 >= hits.scores[:, -1]).all()
    else:
        assert (within.scores[:, -1] <= hits.scores[:, -1] + 0.1001).all()


@pytest.mark.parametrize("budget", [16, 100, 128, 1000])
@pytest.mark.parametrize("cells", [None, 20])
def test_budgets_pay_for_lists(budget: int, cells: int | None) -> None:
    index, queries = built(cells=cells)
    hits, stats = index.search_furthest(queries, 5, budget=budget, return_stats=True)
    assert stats.rows_scanned <= (budget + 15) // 16 * 16 * len(queries)
    assert (hits.ids >= 0).all()


@pytest.mark.parametrize("metric", ["l2", "dot"])
@pytest.mark.parametrize("mmap", [False, True])
def test_saved_and_loaded(metric: str, mmap: bool, tmp_path: Path) -> None:
    index, queries = built(metric)
    path = tmp_path / "seeds.farann"
    index.save(path)
    again = farann.Index.load(path, mmap=mmap)
    old, new = (seeds_in(one).sections("seeds") for one in (index, again))
    assert old.keys() == new.keys() and len(old) == 4 - (metric != "l2")
    for name, array in old.items():
        np.testing.assert_array_equal(array, new[name])
    assert again.stats()["bytes"]["seeds"] == index.stats()["bytes"]["seeds"]
    np.testing.assert_array_equal(again.search_furthest(queries, 10).ids,
                                  index.search_furthest(queries, 10).ids)
    again.save(tmp_path / "again.farann")
    assert (tmp_path / "again.farann").read_bytes() == path.read_bytes()
    same, _ = built(metric)
    same.save(tmp_path / "same.farann")
    assert (tmp_path / "same.farann").read_bytes() == path.read_bytes()


Sections = dict[str, NDArray[Any]]


def _put(name: str, at: Any, value: Any) -> Callable[[Sections], object]:
    return lambda arrays: arrays[f"seeds.{name}"].__setitem__(at, value)


def _change(name: str, change: Callable[[NDArray[Any]], NDArray[Any]],
            ) -> Callable[[Sections], object]:
    return lambda arrays: arrays.update(
        {f"seeds.{name}": change(arrays[f"seeds.{name}"]).copy()})


FAULTS: dict[str, Callable[[Sections], object]] = {
    "beyond": _put("positions", (0, 0), 1 << 30),
    "negative": _put("positions", (0, 0), -1),
    "twice": _change("positions", lambda array: np.hstack([array[:, :1], array[:, :1],
                                                           array[:, 2:]])),
    "unordered": _change("positions", lambda array: array[:, ::-1]),
    "short": _change("positions", lambda array: array[:, :16]),
    "none": _change("positions", lambda array: array[:0]),
    "wide": _change("positions", lambda array: np.tile(array, (1, 16))),
    "type": _change("positions", lambda array: array.astype(np.int64)),
    "panels": _change("panels", lambda array: array[:, :4]),
    "fewer": _change("panels", lambda array: array[:0]),
    "weights": _put("weights", 0, np.nan),
    "zero": _put("weights", 0, 0.0),
    "squares": _put("squares", 0, np.inf),
    "lost": lambda arrays: arrays.pop("seeds.squares"),
    "missing": lambda arrays: arrays.pop("seeds.panels"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_files_from_strangers(fault: str, tmp_path: Path) -> None:
    index, _ = built("l2")
    path = tmp_path / "x.farann"
    index.save(path)
    metadata, arrays = inside.container.read_file(path)
    FAULTS[fault](arrays)
    inside.container.write_file(path, metadata, arrays)
    with pytest.raises(farann.FormatError):
        farann.Index.load(path)


def test_older_files_have_no_seeds(tmp_path: Path) -> None:
    index, queries = built()
    path = tmp_path / "x.farann"
    index.save(path)
    metadata, arrays = inside.container.read_file(path)
    inside.container.write_file(path, metadata, {
        name: part for name, part in arrays.items() if not name.startswith("seeds.")})
    old = farann.Index.load(path)
    assert old.stats()["bytes"]["seeds"] == 0
    np.testing.assert_array_equal(old.search_furthest(queries, 10).ids,
                                  index.search_furthest(queries, 10).ids)


@pytest.mark.parametrize("case", ["offset", "large", "tiny", "equal", "ties", "constant"])
@pytest.mark.parametrize("metric", ["l2", "dot", "cosine"])
def test_hostile_rows(metric: str, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside.shortlists, "_LEAST_FOUND", 0.0)
    monkeypatch.setattr(inside.shortlists, "_LEAST_KNOWN", 0.0)
    items, users = two_towers(4500, 9)
    match case:
        case "offset":
            items += np.float32(1e4)
        case "large":
            items *= np.float32(1e12)
            users *= np.float32(1e20)
        case "tiny":
            items *= np.float32(1e-25)
        case "equal":
            items[:] = items[:10].repeat(450, axis=0)
        case "ties":
            items = np.sign(items)
            users = np.sign(users)
        case "constant":
            items[:, 1:] = 1.0
    index = farann.Index(9, metric)
    index.add(items)
    index.build(queries=users[:1200])
    assert index.stats()["bytes"]["seeds"] > 0
    queries = np.concatenate([users[1200:1260], items[:20]])
    hits = index.search_furthest(queries, 10)
    np.testing.assert_array_equal(hits.ids, furthest(queries, items, 10, metric).ids)


def test_queries_that_have_no_codes() -> None:
    index, queries = built("dot")
    items, _ = two_towers()
    queries = queries[:24].copy()
    queries[3] = 0.0
    queries[7] *= np.float32(1e34)
    queries[9] *= np.float32(1e-36)
    np.testing.assert_array_equal(index.search_furthest(queries, 10).ids,
                                  furthest(queries, items, 10, "dot").ids)
    index.search_furthest(queries, 10, recall=0.9)


def test_zero_queries_at_build() -> None:
    items, users = two_towers()
    users[:1200:3] = 0.0
    index = farann.Index(items.shape[1], "dot")
    index.add(items)
    index.build(queries=users[:1200])
    np.testing.assert_array_equal(index.search_furthest(users[1200:1300], 10).ids,
                                  furthest(users[1200:1300], items, 10, "dot").ids)


@pytest.mark.parametrize("metric", ["l2", "dot", "cosine"])
def test_queries_that_cancel_each_other(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group of opposite queries has no mean direction, and any rows furthest from it."""
    items, users = two_towers()
    users[:1200] = users[0] * np.where(np.arange(1200) % 2, 1.0, -1.0)[:, None]
    monkeypatch.setattr(inside.shortlists, "k_means", lambda points, n, seed: np.zeros(
        (n, points.shape[1]), np.float32))
    index = farann.Index(items.shape[1], metric)
    index.add(items)
    index.build(queries=users[:1200])
    queries = np.concatenate([users[:2], users[1200:1230]])
    np.testing.assert_array_equal(index.search_furthest(queries, 10).ids,
                                  furthest(queries, items, 10, metric).ids)
