"""At most some rows of a group: the rows that are taken greedily, against the oracle."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import diverse_oracle
import inside
import numpy as np
import pytest
import reference
from cases import DATA, Float32, assert_same, assert_same_bits, pairs, queries_for, rows_for
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

import farann

N, DIM = 700, 11
Labels = NDArray[Any]



GROUPINGS: dict[str, Callable[[np.random.Generator, int], Labels]] = {
    "one": lambda rng, n: np.zeros(n, np.int64),
    "two": lambda rng, n: (np.arange(n) > 0).astype(np.int64),  # one of a single row
    "in turn": lambda rng, n: np.arange(n) % 13,
    "runs": lambda rng, n: np.arange(n) // 50 - 7,
    "any": lambda rng, n: rng.integers(-40, 40, n),
    "strings": lambda rng, n: np.array([f"label {i}" for i in rng.integers(0, 30, n)], object),
    "each its own": lambda rng, n: np.random.default_rng(0).permutation(n) * 10**12,
}


def greedily(everything: Any, labels: Labels, k: int, most: int) -> reference.Found:
    """The first k rows of whole answers, but for rows whose group has enough; ids are rows."""
    n = len(everything.ids)
    found = reference.Found(np.full((n, k), np.nan, np.float32), np.full((n, k), -1, np.int64))
    for i in range(n):
        taken: dict[Any, int] = {}
        at = 0
        for score, row in zip(everything.scores[i], everything.ids[i].tolist(), strict=True):
            if row < 0 or at == k:
                break
            if taken.get(labels[row], 0) == most:
                continue
            taken[labels[row]] = taken.get(labels[row], 0) + 1
            found.scores[i, at], found.ids[i, at] = score, row
            at += 1
    return found


def assert_grouped(hits: farann.Hits, expected: reference.Found, labels: Labels) -> None:
    assert_same(hits, expected)
    there = expected.ids >= 0
    assert hits.groups.shape == hits.ids.shape and hits.groups.dtype == labels.dtype
    assert_array_equal(hits.groups[there], labels[expected.ids[there]])
    assert (hits.groups[~there] == (-1 if labels.dtype == np.int64 else None)).all()


@pytest.mark.parametrize(("metric", "kind"), list(zip(
    itertools.cycle(reference.METRICS), [kind for kind in DATA if kind != "1e-30"])))
def test_hostile_rows(kind: str, metric: str, rng: np.random.Generator) -> None:
    """Also of removed rows, rows added since a build, and few rows for single queries."""
    rows = rows_for(kind, rng, N, DIM, metric)
    queries = queries_for(rng, rows, metric)
    labels = GROUPINGS[[*GROUPINGS][sorted(DATA).index(kind) % len(GROUPINGS)]](rng, N)
    index = farann.Index(metric=metric)
    index.add(rows[:600], groups=labels[:600].tolist())
    index.build()
    index.add(rows[600:], groups=labels[600:].tolist())
    gone = np.arange(0, N, 9)
    for removed in (gone[:0], gone):
        index.remove(removed)
        for search, oracle in ((index.search_furthest, reference.furthest),
                               (index.search_nearest, reference.nearest)):
            with np.errstate(all="ignore"):
                everything = oracle(queries, rows, N, metric,
                                    allowed=np.delete(np.arange(N), removed))
            for k, most in ((1, 1), (10, 1), (10, 3), (80, 2), (40, N)):
                expected = greedily(everything, labels, k, most)
                assert_grouped(search(queries, k, per_group=most), expected, labels)
                single = reference.Found(expected.scores[2], expected.ids[2])
                assert_grouped(search(queries[2], k, per_group=most), single, labels)


@pytest.mark.parametrize(("grouping", "options", "isa"), pairs(
    GROUPINGS, [{}, {"codes": "int4"}, {"codes": "float32"}, {"cells": 30}], farann.isa_levels()))
def test_many_rows(grouping: str, options: dict[str, Any], isa: str,
                   rng: np.random.Generator) -> None:
    """All kinds of scans, with first rows that all lie in one group."""
    n = 4000
    rows = rng.standard_normal((n, 20), dtype=np.float32) * np.float32(0.9) ** np.arange(20)
    rows = rows[np.argsort(-np.linalg.norm(rows, axis=1))].astype(np.float32)
    rows[::5] = rows[1::5]  # ties
    labels = GROUPINGS[grouping](rng, n)
    index = farann.Index(**options)
    index.add(rows, groups=labels.tolist())
    index.build()
    inside.store.use_level(index, isa)
    queries = rng.standard_normal((7, 20), dtype=np.float32)
    whole = {search: search(queries, n) for search in (index.search_furthest, index.search_nearest)}
    for search, everything in whole.items():
        for k, most in ((10, 1), (10, 4), (200, 3)):
            expected = greedily(everything, labels, k, most)
            assert_grouped(search(queries, k, per_group=most), expected, labels)
            for _ in range(2):  # prepared, and cached
                assert_grouped(search(queries[0], k, per_group=most), reference.Found(
                    expected.scores[0], expected.ids[0]), labels)


@pytest.mark.parametrize("codes", ["int8", "float32"])
@pytest.mark.parametrize("n_queries", [1, 3])
def test_parts_of_the_rows(n_queries: int, codes: str, rng: np.random.Generator,
                           monkeypatch: pytest.MonkeyPatch) -> None:
    """What parts find is merged, for few queries on many rows."""
    for name, value in (("is_long", lambda *_: True), ("leading_share", 16), ("part_work", 1),
                        ("part_keys", 0), ("found_cost", 0.0), ("rows_a_part", 64),
                        ("small_work_of_few", 1)):
        monkeypatch.setattr(inside.settings, name, value)
    rows = rng.integers(-3, 4, (4000, 4)).astype(np.float32)
    labels = np.argsort(np.argsort(rows[:, 0], kind="stable")) // 100
    index = farann.Index(codes=codes)
    index.add(rows, groups=labels)
    index.build()
    queries = rng.standard_normal((n_queries, 4), dtype=np.float32)
    parts = list[int]()

    def noted(task: Any, search: Any, first: int, end: int, leader: Any = None) -> None:
        parts.append(first)
        search(first, end, leader)

    for search in (index.search_furthest, index.search_nearest):
        expected = greedily(search(queries, 4000), labels, 15, 2)
        for threads in (n_queries + 1, n_queries + 4):
            parts.clear()
            inside.store.forget_code_trials(index)
            with inside.native.watched(search_only=noted):
                hits = search(queries, 15, per_group=2, threads=threads)
            assert_grouped(hits, expected, labels)
            assert len(parts) > 2


@pytest.mark.parametrize("single", [False, True])
def test_filters(single: bool, rng: np.random.Generator) -> None:
    rows = rng.standard_normal((N, DIM), dtype=np.float32)
    labels = rng.integers(0, 20, N)
    index = farann.Index(metric="cosine")
    index.add(rows, groups=labels)
    queries = rng.standard_normal((6, DIM), dtype=np.float32)
    some = np.sort(rng.choice(N, 300, False))
    mask = np.isin(np.arange(N), some)
    everything = index.search_furthest(queries, N)

    def check(left: Any, **given: Any) -> None:
        whole = [(scores[left(i, ids)], ids[left(i, ids)]) for i, (scores, ids) in
                 enumerate(zip(everything.scores, everything.ids, strict=True))]
        for i, (scores, ids) in enumerate(whole):
            kept = greedily(reference.Found(scores[None], ids[None]), labels, 12, 2)
            if single:
                hits = index.search_furthest(queries[i], 12, per_group=2, **given)
                assert_grouped(hits, reference.Found(kept.scores[0], kept.ids[0]), labels)
            else:
                hits = index.search_furthest(queries, 12, per_group=2, **given)
                assert_same(reference.Found(hits.scores[i], hits.ids[i]),
                            reference.Found(kept.scores[0], kept.ids[0]))

    check(lambda i, ids: np.isin(ids, some), allowed=some)
    check(lambda i, ids: np.isin(ids, some), allowed=mask)
    check(lambda i, ids: np.isin(ids, some), allowed=index.filter(allowed=some))
    check(lambda i, ids: labels[ids] < 4, allowed=index.filter(groups=[0, 1, 2, 3]))
    check(lambda i, ids: labels[ids] == 7, groups=7)
    check(lambda i, ids: labels[ids] != 7, outside_groups=7)
    check(lambda i, ids: ~np.isin(ids, some), exclude=some)
    if not single:
        check(lambda i, ids: labels[ids] == i, groups=np.arange(6))
        check(lambda i, ids: ids != some[i], exclude=some[:6, None])


def test_own_ids_and_rows_as_queries(rng: np.random.Generator) -> None:
    rows = rng.integers(-1, 2, (300, 3)).astype(np.float32)
    names = [f"row {i:03}" for i in rng.permutation(300)]
    labels = np.array([f"{i % 9}" for i in range(300)], object)
    index = farann.Index()
    index.add(rows, names, groups=labels.tolist())
    hits = index.search_furthest(ids=names[:5], k=20, per_group=2)
    plain = index.search_furthest(ids=names[:5], k=299)
    at = {name: i for i, name in enumerate(names)}
    numbers = np.array([[at[name] for name in line] for line in plain.ids])
    expected = greedily(reference.Found(plain.scores, numbers), labels, 20, 2)
    assert [[at.get(name, -1) for name in line] for line in hits.ids] == expected.ids.tolist()
    assert_array_equal(hits.groups[hits.found], labels[expected.ids[hits.found]])


def test_limits_of_a_search(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((5000, 6), dtype=np.float32)
    labels = rng.integers(0, 30, 5000)
    index = farann.Index(metric="dot")
    index.add(rows, groups=labels)
    queries = rng.standard_normal((20, 6), dtype=np.float32)
    exact = index.search_furthest(queries, 10, per_group=1)
    index.tune(queries, 10)
    for given_limit in ({"recall": 0.5}, {"seconds": 1e6}, {"epsilon": 0.0}, {"budget": 10**6}):
        assert_same(index.search_furthest(queries, 10, per_group=1, **given_limit), exact)
    near = index.search_furthest(queries, 10, per_group=1, epsilon=0.5)
    some = index.search_furthest(queries, 10, per_group=1, budget=200)
    for hits in (near, some):
        assert hits.found.all()
        assert all(len(set(line)) == 10 for line in hits.groups.tolist())
    assert (near.scores[:, -1] <= exact.scores[:, -1] + 0.5 + 1e-6).all()
    assert (some.scores >= exact.scores).all() and (some.scores > exact.scores).any()


def test_without_vectors(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((3000, 16), dtype=np.float32)
    labels = rng.integers(0, 25, 3000)
    index = farann.Index(keep_vectors=False)
    index.add(rows, groups=labels)
    index.build()
    queries = rng.standard_normal((9, 16), dtype=np.float32)
    everything = index.search_furthest(queries, 3000, recall=1.0)
    expected = greedily(everything, labels, 10, 1)
    hits = index.search_furthest(queries, 10, per_group=1, recall=0.9)
    assert_array_equal(hits.ids, expected.ids)
    assert_array_equal(index.search_furthest(queries[1], 10, per_group=1, recall=0.9).ids,
                       expected.ids[1])


def test_mapped_and_loaded(rng: np.random.Generator, tmp_path: Any) -> None:
    rows = rng.standard_normal((3000, 16), dtype=np.float32)
    index = farann.Index()
    index.add(rows, groups=rng.integers(0, 25, 3000))
    index.save(tmp_path / "some.farann")
    queries = rng.standard_normal((9, 16), dtype=np.float32)
    expected = index.search_nearest(queries, 10, per_group=1)
    for mmap in (False, True):
        loaded = farann.Index.load(tmp_path / "some.farann", mmap=mmap)
        hits = loaded.search_nearest(queries, 10, per_group=1)
        assert_same(hits, expected)
        assert_array_equal(hits.groups, expected.groups)


@given(st.data())
def test_laws(data: st.DataObject) -> None:
    """No limit, and groups of one row, change nothing; a wider answer begins with a narrower."""
    n, dim = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 3))
    numbers = st.lists(st.integers(-2, 2), min_size=n * dim, max_size=n * dim)
    rows = np.array(data.draw(numbers), np.float32).reshape(n, dim)
    labels = np.array(data.draw(st.lists(st.integers(-3, 3), min_size=n, max_size=n)))
    k, most = data.draw(st.integers(1, n)), data.draw(st.integers(1, 4))
    limited, own = farann.Index(), farann.Index()
    limited.add(rows, groups=labels)
    own.add(rows, groups=np.arange(n) - 5)
    queries = rows[: data.draw(st.integers(1, 7))]
    plain = limited.search_furthest(queries, k)
    assert_same(limited.search_furthest(queries, k, per_group=n), plain)
    assert_same(own.search_furthest(queries, k, per_group=1), plain)
    hits = limited.search_furthest(queries, n, per_group=most)
    assert_same(limited.search_furthest(queries, k, per_group=most), hits, k)
    assert_array_equal(hits.found.sum(axis=1),
                       np.minimum(np.unique(labels, return_counts=True)[1], most).sum())


def test_keys_are_those_of_the_rows(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((400, 5), dtype=np.float32)
    index = farann.Index(metric="cosine")
    index.add(rows, groups=np.arange(400) % 7)
    hits = index.search_nearest(rows[:3], 9, per_group=1, return_keys=True)
    plain = index.search_nearest(rows[:3], 400, return_keys=True)
    for i in range(3):
        keys = dict(zip(plain.ids[i].tolist(), plain.keys[i].tolist(), strict=True))
        assert_array_equal(hits.keys[i, :7], [keys[row] for row in hits.ids[i, :7].tolist()])
        assert (hits.keys[i, 7:] == -np.inf).all()
    table = hits.to_dict()
    assert list(table) == ["query", "rank", "id", "score", "key", "group"]
    assert len(table["group"]) == 21


def test_what_is_refused(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((30, 5), dtype=np.float32)
    bare, index = farann.Index(), farann.Index()
    bare.add(rows)
    index.add(rows, groups=np.arange(30) % 4)
    with pytest.raises(ValueError, match="per_group: the index has no groups"):
        bare.search_furthest(rows, 2, per_group=1)
    refused: list[tuple[Any, type[Exception]]] = [
        (0, ValueError), (-1, ValueError), (1.5, TypeError), ("a", TypeError)]
    for wrong, error in refused:
        with pytest.raises(error, match="per_group"):
            index.search_furthest(rows, 2, per_group=wrong)
    with pytest.raises(ValueError, match="per_group: expected none beside beyond"):
        index.search_nearest(rows, 2, per_group=1, beyond=1.0)
    with pytest.raises(ValueError, match="NaN"):
        index.search_furthest(rows * np.float32("nan"), 2, per_group=1)


def test_without_rows() -> None:
    hits = farann.Index(dim=3).search_furthest(np.ones((2, 3)), 4, per_group=1)
    assert (hits.ids == -1).all() and (hits.groups == -1).all() and hits.groups.shape == (2, 4)


def test_work_where_few_rows_can_be_found(rng: np.random.Generator) -> None:
    """There is a threshold although fewer than k rows can be found."""
    rows = rng.standard_normal((30_000, 16), dtype=np.float32)
    index = farann.Index()
    index.add(rows, groups=np.zeros(30_000, np.int64))
    index.build()
    queries = rng.standard_normal((50, 16), dtype=np.float32)
    hits = index.search_furthest(queries, 10, per_group=2, return_stats=True)
    plain = index.search_furthest(queries, 10, return_stats=True)
    assert_same_bits(hits.scores[:, :2], plain.scores[:, :2])
    assert hits.stats.rows_passed < 2 * plain.stats.rows_passed
    allowed = index.filter(exclude=np.arange(100))
    filtered = index.search_furthest(queries, 10, per_group=2, allowed=allowed, return_stats=True)
    plain = index.search_furthest(queries, 10, allowed=allowed, return_stats=True)
    assert filtered.stats.rows_passed < 2 * plain.stats.rows_passed


def questions_of(index: farann.Index, rows: Float32,
                 rng: np.random.Generator) -> list[Callable[..., farann.Hits]]:
    """Questions about sets, of one vector and several, and about likes and dislikes."""
    sets = [rows[rng.integers(0, len(rows), size)] + np.float32(0.1) for size in (1, 2, 5, 9)]
    likes, dislikes = ([rows[rng.integers(0, len(rows), size)] + np.float32(0.2)
                        for size in sizes] for sizes in ((1, 3, 2, 2), (2, 1, 3, 1)))
    asked: list[Callable[..., farann.Hits]] = [
        lambda **given: index.search_furthest_from(sets, **given)]
    if index.metric != "l2":
        asked += [lambda **given: index.search_contrast(likes, dislikes, **given),
                  lambda **given: index.search_contrast(likes, dislikes, likes_by="best", **given)]
    return asked


@pytest.mark.parametrize(("n", "kind", "metric"), pairs(
    [60, 3000], ["gaussian", "grid"], reference.METRICS))
def test_sets_and_contrasts(n: int, kind: str, metric: str, rng: np.random.Generator) -> None:
    rows = rows_for(kind, rng, n, 12, metric)
    for grouping in ("one", "any", "strings", "each its own"):
        labels = GROUPINGS[grouping](rng, n)
        index = farann.Index(metric=metric)
        index.add(rows[20:], groups=labels[20:].tolist(), ids=np.arange(20, n))
        index.build()
        index.add(rows[:20], groups=labels[:20].tolist(), ids=np.arange(20))
        for search in questions_of(index, rows, rng):
            everything = search(k=n)
            assert everything.found.all()
            for k, most in ((10, 1), (30, 2), (7, n)):
                expected = greedily(everything, labels, k, most)
                assert_grouped(search(k=k, per_group=most), expected, labels)
            limited = search(k=5, per_group=1, return_keys=True)
            assert (np.diff(limited.keys[limited.found.all(axis=1)]) <= 0).all()


@pytest.mark.parametrize("strings", [False, True])
def test_merged_parts(strings: bool, rng: np.random.Generator) -> None:
    """Parts with all kinds of sizes, and one that never had rows."""
    rows = rng.integers(-2, 3, (3000, 4)).astype(np.float32)
    labels = GROUPINGS["strings" if strings else "any"](rng, 3000)
    whole, parts = farann.Index(), [farann.Index(4)]
    whole.add(rows, groups=labels.tolist())
    for start, stop in ((0, 500), (500, 504), (504, 3000)):
        parts.append(farann.Index())
        parts[-1].add(rows[start:stop], np.arange(start, stop), groups=labels[start:stop].tolist())
    for queries in (rows[:9] + np.float32(0.5), rows[0] + np.float32(0.5)):
        for k, most in ((10, 1), (90, 2), (5, 5)):
            expected = whole.search_nearest(queries, k, per_group=most, return_keys=True)
            found = [part.search_nearest(queries, k, per_group=most, return_keys=True)
                     for part in parts]
            merged = farann.merge(found, per_group=most)
            assert_same(merged, expected)
            assert_array_equal(merged.groups, expected.groups)
            assert_array_equal(merged.keys, expected.keys)
    with pytest.raises(ValueError, match="per_group: expected that of the searches, as parts"):
        farann.merge(found)
    with pytest.raises(ValueError, match="per_group: expected none, as parts"):
        farann.merge([whole.search_nearest(queries, 3, return_keys=True)], per_group=1)
    other = farann.Index()
    other.add(rows[:5], np.arange(5000, 5005), groups=[5] * 5 if strings else ["a"] * 5)
    mixed = other.search_nearest(queries, 3, per_group=1, return_keys=True)
    with pytest.raises(ValueError, match="labels of groups of one kind"):
        farann.merge([mixed, found[1]], per_group=1)


@pytest.mark.parametrize(("n", "kind", "metric"), pairs(
    [40, 3000], ["gaussian", "grid"], ["dot", "cosine"]))
def test_marginal_relevance(n: int, kind: str, metric: str, rng: np.random.Generator) -> None:
    """Also where the first pools hold rows of full groups alone."""
    rows = rows_for(kind, rng, n, 6, metric)
    queries = rng.standard_normal((2, 6), dtype=np.float32)
    for labels in (np.argsort(np.argsort(rows @ queries[0])) * 7 // n, rng.integers(0, n, n)):
        index = farann.Index(metric=metric)
        index.add(rows, groups=labels)
        for diversity, most in ((0.0, 1), (0.4, 1), (0.7, 2), (1.0, 3)):
            hits = index.search_mmr(queries, 9, diversity=diversity, per_group=most)
            for i, query in enumerate(queries):
                _, expected = diverse_oracle.relevance(query, rows, 9, metric, np.arange(n),
                                                       diversity, labels=labels, per_group=most)
                assert_array_equal(hits.ids[i, : len(expected)], expected)
                assert (hits.ids[i, len(expected) :] == -1).all()
                assert_array_equal(hits.groups[i, : len(expected)], labels[expected])


def test_arrays_without_an_index(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((200, 4), dtype=np.float32)
    labels = [f"{i % 6}" for i in range(200)]
    index = farann.Index()
    index.add(rows, groups=labels)
    for name in ("search_furthest", "search_nearest"):
        hits = getattr(farann, name)(rows, rows[:3], 5, row_groups=labels, per_group=1)
        expected = getattr(index, name)(rows[:3], 5, per_group=1)
        assert_same(hits, expected)
        assert_array_equal(hits.groups, expected.groups)
        with pytest.raises(ValueError, match="per_group: expected row_groups, too"):
            getattr(farann, name)(rows, rows[:3], 5, per_group=1)
        with pytest.raises(ValueError, match="row_groups: expected 200 labels, one a row, got 6"):
            getattr(farann, name)(rows, rows[:3], 5, row_groups=labels[:6], per_group=1)


@pytest.mark.parametrize("metric", ["l2", "dot", "cosine"])
def test_single_queries_that_are_prepared(metric: str) -> None:
    """They find what a batch finds, also after changes, and arguments are still checked."""
    rng = np.random.default_rng(3)
    rows = rng.integers(-3, 4, (600, 5)).astype(np.float32) + np.float32(0.5)  # ties
    index = farann.Index(metric=metric)
    index.add(rows, [f"n{i}" for i in range(600)], groups=[f"g{i % 40}" for i in range(600)])
    for search in (index.search_furthest, index.search_nearest):
        for change in (lambda: None, lambda: index.remove([f"n{i}" for i in range(9)]),
                       lambda: index.add(rows[:4], ["a", "b", "c", "d"], groups=["g1"] * 4)):
            change()
            batch = search(rows[:5], 7, per_group=2)
            for i, row in enumerate(rows[:5]):
                for _ in range(2):
                    one = search(row, 7, per_group=2, return_stats=True)
                    assert one.ids.tolist() == batch.ids[i].tolist()
                    assert one.groups.tolist() == batch.groups[i].tolist()
                    assert np.array_equal(one.scores, batch.scores[i]) and one.stats.queries == 1
            again = search(rows[:5], 7, per_group=2)  # one by one
            assert again.ids.tolist() == batch.ids.tolist()
            assert again.groups.tolist() == batch.groups.tolist()
            index.remove([id for id in ("a", "b", "c", "d") if id in index])
            index.add(rows[:9], [f"n{i}" for i in range(9)], groups=["g0"] * 9, replace=True)
        assert search(rows[0], 7, per_group=1).ids.shape == (7,)
        wrong: Any
        for wrong in (True, 0, 1.5):
            with pytest.raises((TypeError, ValueError), match="^per_group: expected"):
                search(rows[0], 7, per_group=wrong)
        with pytest.raises(ValueError, match="^recall: expected"):
            search(rows[0], 7, per_group=1, recall=2.0)
