"""Sets, selections, marginal relevance and pairs against the oracle, on hostile rows."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import diverse_oracle as oracle
import inside
import numpy as np
import pytest
import reference
from cases import (
    DATA,
    assert_same,
    assert_same_bits,
    float32,
    in_turn,
    index_of,
    queries_for,
    rows_for,
)
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

import farann

METRICS = reference.METRICS
KINDS = sorted(DATA)


def _ids(rng: np.random.Generator, n: int) -> oracle.Int64:
    return rng.permutation(3 * n)[:n].astype(np.int64)


@pytest.mark.parametrize(("kind", "metric"), in_turn(KINDS))
def test_a_selection_is_the_greedy_one(kind: str, metric: str) -> None:
    rng = np.random.default_rng(KINDS.index(kind))
    for n, dim in ((1, 3), (60, 2), (150, 17)):
        rows, ids = rows_for(kind, rng, n, dim, metric), _ids(rng, n)
        index = index_of(rows, metric, ids)
        scores, expected = oracle.selection(rows, n, metric, ids, [n // 2])
        for built in (False, True):
            found = index.select_diverse(n + 5, start=ids[n // 2])
            assert_array_equal(found.ids, [ids[n // 2], *expected])
            assert_same_bits(found.scores[1:], scores)
            assert found.scores[0] == (np.inf if metric == "l2" else -np.inf)
            if not built:
                index.build()


@pytest.mark.parametrize(("kind", "metric"), in_turn(KINDS, 1))
def test_most_rows_wait_behind_the_front(kind: str, metric: str) -> None:
    """They are brought up to date by many picks at once, or key by key where numbers are huge."""
    rng = np.random.default_rng(KINDS.index(kind))
    n, k = 1200, 100  # 256 are in front
    rows, ids = rows_for(kind, rng, n, 5, metric), _ids(rng, n)
    found = index_of(rows, metric, ids).select_diverse(k, start=int(ids[0]))
    scores, expected = oracle.selection(rows, k - 1, metric, ids, [0])
    assert_array_equal(found.ids[1:], expected)
    assert_same_bits(found.scores[1:], scores)


@pytest.mark.parametrize(("kind", "metric"), in_turn(KINDS, 2))
def test_rows_furthest_from_sets(kind: str, metric: str) -> None:
    rng = np.random.default_rng(KINDS.index(kind))
    n, dim, k = 400, 19, 7
    rows, ids = rows_for(kind, rng, n, dim, metric), _ids(rng, n)
    index = index_of(rows[:330], metric, ids[:330]).build()
    index.add(rows[330:], ids[330:])
    queries = queries_for(rng, rows, metric)
    sets = [queries[:m] for m in (1, 2, 5, len(queries))] + [queries[-3:], rows[:20], rows[3:4]]
    left_out = [ids[rng.integers(0, n, 30)] for _ in sets]
    for exclude in (None, left_out):
        found = index.search_furthest_from(sets, k, exclude=exclude)
        for i, members in enumerate(sets):
            scores, expected = oracle.furthest_from(
                members, rows, k, metric, ids, left_out[i].tolist() if exclude else [])
            assert_array_equal(found.ids[i], expected)
            assert_same_bits(found.scores[i], scores)
    alone = index.search_furthest_from([sets[2]], k)
    assert_array_equal(alone.ids[0], index.search_furthest_from(sets, k).ids[2])


def test_sets_of_one_vector_have_room_for_the_longest_blocks() -> None:
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((40_000, 200)).astype(np.float32)
    index = farann.Index(metric="dot", threads=1)
    index.add(rows)
    queries = rng.standard_normal((30, 200)).astype(np.float32)
    for i, query in enumerate(queries):  # each a search of its own, whose blocks are long
        assert_same(index.search_furthest_from([query[np.newaxis]], 5),
                    index.search_furthest(queries[i : i + 1], 5))


@pytest.mark.parametrize("options", [{"codes": "float32"}, {"codes": "int4"}, {"cells": 8}])
@pytest.mark.parametrize("metric", METRICS)
def test_sets_are_searched_for_in_every_layout(metric: str, options: dict[str, object]) -> None:
    rng = np.random.default_rng(5)
    rows = float32(rng.standard_normal((1500, 4)) @ rng.standard_normal((4, 48)))
    rows += float32(0.05 * rng.standard_normal(rows.shape))
    ids = _ids(rng, len(rows))
    index = index_of(rows, metric, ids, **options).build()
    sets = rng.standard_normal((9, 3, 48)).astype(np.float32)
    allowed = ids[::3]
    found = index.search_furthest_from(sets, 5, return_stats=True)
    stats = found.stats
    some = index.search_furthest_from(sets, 5, allowed=allowed, threads=2)
    for i, members in enumerate(sets):
        assert_array_equal(found.ids[i], oracle.furthest_from(members, rows, 5, metric, ids)[1])
        assert_array_equal(some.ids[i], oracle.furthest_from(
            members, rows[::3], 5, metric, allowed)[1])
    assert stats.queries == 9 and stats.rows_scanned >= len(rows)


@pytest.mark.parametrize("metric", ["l2", "dot"])
def test_sets_find_a_row_without_codes(metric: str) -> None:
    """One alone, which is furthest from some."""
    rng = np.random.default_rng(5)
    rows = rng.standard_normal((3000, 16)).astype(np.float32)
    rows[7] *= 1e6
    index, ids = index_of(rows, metric).build(), np.arange(3000)
    layout = inside.store.of(index).layout
    assert layout is not None and layout.codes.outliers.tolist() == [7]
    sets = (rng.standard_normal((6, 4, 16)) - rows[7] / 1e6).astype(np.float32)
    found = index.search_furthest_from(sets, 5)
    for i, members in enumerate(sets):
        scores, expected = oracle.furthest_from(members, rows, 5, metric, ids)
        assert_array_equal(found.ids[i], expected)
        assert_same_bits(found.scores[i], scores)
    assert (found.ids == 7).any()


def test_limits_of_searches_for_sets() -> None:
    rng = np.random.default_rng(6)
    rows = rng.standard_normal((3000, 24)).astype(np.float32)
    index = index_of(rows).build()
    sets = rng.standard_normal((4, 3, 24)).astype(np.float32)
    exact = index.search_furthest_from(sets, 5)
    near = index.search_furthest_from(sets, 5, epsilon=0.1)
    assert (near.scores[:, -1] * 1.1 >= exact.scores[:, -1]).all()
    assert_array_equal(index.search_furthest_from(sets, 5, recall=0.9).ids, exact.ids)
    few = index.search_furthest_from(sets, 5, budget=160, return_stats=True)
    stats = few.stats
    # By three members of each of four sets, and where a tile has no room for others by one before.
    assert (few.ids >= 0).all() and 0 < stats.rows_scanned <= 160 * (12 + 4)
    # A budget never leaves fewer than k.
    assert (index.search_furthest_from(sets, 200, budget=16).ids >= 0).all()


@pytest.mark.parametrize(("kind", "metric"), in_turn(KINDS, metrics=["dot", "cosine"]))
def test_marginal_relevance_over_all_rows(
    kind: str, metric: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inside.settings, "first_pool", 12)
    rng = np.random.default_rng(KINDS.index(kind))
    n, dim, k = 900, 12, 6
    rows, ids = rows_for(kind, rng, n, dim, metric), _ids(rng, n)
    index = index_of(rows, metric, ids).build()
    queries = queries_for(rng, rows, metric)[::2]
    for diversity in (0.0, 0.5, 1.0):
        found = index.search_mmr(queries, k, diversity=diversity)
        pool = index.search_mmr(queries, k, diversity=diversity, candidates=20)
        nearest = reference.nearest(queries, rows, 20, metric, ids=ids)
        for i, query in enumerate(queries):
            values, expected = oracle.relevance(query, rows, k, metric, ids, diversity)
            assert_array_equal(found.ids[i], expected)
            assert_same_bits(found.scores[i], reference.as_float32(values))
            among = np.isin(ids, nearest.ids[i])
            assert_array_equal(pool.ids[i], oracle.relevance(
                query, rows, k, metric, ids, diversity, among)[1])


@pytest.mark.parametrize("metric", ["dot", "cosine"])
def test_marginal_relevance_with_filters(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside.settings, "first_pool", 12)
    rng = np.random.default_rng(12)
    rows, ids = rng.standard_normal((1500, 9)).astype(np.float32), np.arange(1500)
    index = index_of(rows, metric).build()
    queries = rng.standard_normal((3, 9)).astype(np.float32)
    left_out = [rng.integers(0, 1500, 40) for _ in queries]
    allowed = ids[::2]
    found = index.search_mmr(queries, 7, diversity=0.5, exclude=left_out, allowed=allowed)
    for i, query in enumerate(queries):
        among = np.isin(ids, allowed) & ~np.isin(ids, left_out[i])
        assert_array_equal(found.ids[i], oracle.relevance(
            query, rows, 7, metric, ids, 0.5, among)[1])
    few = index.search_mmr(queries[0], 7, allowed=[5, 9], exclude=[9])
    assert_array_equal(few.ids, [5, -1, -1, -1, -1, -1, -1])
    itself = index.search_mmr(rows[:1], 4, diversity=0.5)
    assert_array_equal(itself.ids[0], oracle.relevance(rows[0], rows, 4, metric, ids, 0.5)[1])


@pytest.mark.parametrize("guess", [-np.inf, -3.0, 0.05, 1e9, np.nan])
def test_a_wrong_guess_costs_searches_and_no_rows(
    guess: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inside.settings, "first_pool", 4)
    monkeypatch.setattr(inside.settings, "likely_floor", lambda *_: guess)
    rng = np.random.default_rng(15)
    rows, ids = rng.standard_normal((1500, 9)).astype(np.float32), np.arange(1500)
    index = index_of(rows, "cosine").build()
    query, allowed = rng.standard_normal(9).astype(np.float32), ids[::3]
    found = index.search_mmr(query, 7, diversity=0.7).ids
    assert_array_equal(found, oracle.relevance(query, rows, 7, "cosine", ids, 0.7)[1])
    among = np.isin(ids, allowed)
    assert_array_equal(index.search_mmr(query, 7, diversity=0.7, allowed=allowed).ids,
                       oracle.relevance(query, rows, 7, "cosine", ids, 0.7, among)[1])


@pytest.mark.parametrize("metric", ["l2", "dot", "cosine"])
def test_members_of_a_set_that_are_in_several_tiles(metric: str) -> None:
    rng = np.random.default_rng(14)
    rows = (rng.standard_normal((9_000, 8)) * 0.7 ** np.arange(8)).astype(np.float32)
    index = index_of(rows, metric, np.arange(9_000)).build()
    members = rng.standard_normal((16, 8)).astype(np.float32)
    found = index.search_furthest_from([members], 5, return_stats=True)
    stats = found.stats
    assert_array_equal(found.ids[0], oracle.furthest_from(
        members, rows, 5, metric, np.arange(9_000))[1])
    for more in (1, 2, 5, 9):  # what the others tell still counts for these
        twice = np.concatenate([members, members[:more]])
        again = index.search_furthest_from([twice], 5, return_stats=True)
        stats_again = again.stats
        assert_array_equal(again.ids, found.ids)
        assert stats_again.rows_passed <= stats.rows_passed


@pytest.mark.parametrize(("dim", "size"), [(48, 5), (784, 8), (48, 40)])
def test_members_are_scanned_together_and_few_rows_get_keys(dim: int, size: int) -> None:
    """No more than a tile of members are scanned for, of which 16 is the largest."""
    rng = np.random.default_rng(5)
    scale = 0.9 ** np.arange(dim)
    rows = (rng.standard_normal((20_000, dim)) * scale).astype(np.float32)
    members = (rng.standard_normal((size, dim)) * scale).astype(np.float32)
    index = index_of(rows, "l2", np.arange(20_000)).build()
    found = index.search_furthest_from([members], 10, return_stats=True)
    assert_array_equal(found.ids[0], oracle.furthest_from(
        members, rows, 10, "l2", np.arange(20_000))[1])
    assert found.stats.rows_scanned < min(size + 1, 16) * 20_000
    # Tiles of AVX2 have half as many members, so that more rows pass for all of one.
    assert found.stats.rows_passed < (1_200 if index.isa == "avx2" else 1_000)


def test_sets_as_an_array_of_arrays() -> None:
    rows = np.random.default_rng(13).standard_normal((90, 4)).astype(np.float32)
    index = index_of(rows)
    sets = np.empty(2, object)
    sets[0], sets[1] = rows[:3], rows[5:6]
    assert_array_equal(index.search_furthest_from(sets, 90).ids,
                       index.search_furthest_from(list(sets), 90).ids)


@pytest.mark.parametrize(("kind", "metric"), in_turn(KINDS, 1))
def test_pairs_and_graphs(kind: str, metric: str) -> None:
    rng = np.random.default_rng(KINDS.index(kind))
    n, dim, k = 150, 11, 4
    rows, ids = rows_for(kind, rng, n, dim, metric), _ids(rng, n)
    index = index_of(rows, metric, ids)
    expected = reference.furthest(rows, rows, k, metric, ids=ids, exclude=ids[:, None])
    graph = index.furthest_graph(k)
    assert_array_equal(graph.ids, expected.ids)
    assert_same_bits(graph.scores, expected.scores)
    assert_same_bits(index.eccentricities(), expected.scores[:, 0])
    diameter = index.diameter()
    keys = oracle.member_keys(rows, rows, metric)
    keys = np.maximum(keys, keys.T)  # under cosine the two may differ by rounding
    np.fill_diagonal(keys, -np.inf)
    pairs = [sorted((ids[i], ids[j])) for i, j in np.argwhere(keys == keys.max())]
    assert diameter.ids.tolist() == min(pairs)
    assert np.float32(diameter.score) == oracle.scores_of(keys.max(), metric)


@pytest.mark.parametrize(("kind", "metric"), in_turn(KINDS))
def test_pairs_and_graphs_with_filters(kind: str, metric: str,
                                       monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairs of rows that pass; of a graph all rows, and what they may find."""
    monkeypatch.setattr(inside.settings, "pair_rows_at_once", 37)
    rng = np.random.default_rng(KINDS.index(kind))
    n, k = 100, 4
    rows, ids, labels = rows_for(kind, rng, n, 7, metric), _ids(rng, n), rng.integers(0, 5, n)
    index = farann.Index(metric=metric)
    index.add(rows, ids, groups=[f"g{label}" for label in labels])
    some, few = ids[::3], ids[[4, 9, 77]]
    own, lists = index.groups(), [rng.choice(ids, 3) for _ in ids]
    keys = oracle.member_keys(rows, rows, metric)
    keys = np.maximum(keys, keys.T)
    np.fill_diagonal(keys, -np.inf)
    same = labels[:, None] == labels
    for given, may in (
            ({"exclude": some}, ~np.isin(ids, some)), ({"allowed": few}, np.isin(ids, few)),
            ({"allowed": index.filter(allowed=some), "exclude": few},
             np.isin(ids, some) & ~np.isin(ids, few)),
            ({"groups": "g2"}, labels == 2), ({"outside_groups": "g2"}, labels != 2)):
        best = np.where(may & may[:, None], keys, -np.inf)
        pairs = [sorted((ids[i], ids[j])) for i, j in np.argwhere(best == best.max())]
        found = index.diameter(**given)
        assert found.ids.tolist() == min(pairs)
        assert np.float32(found.score) == oracle.scores_of(best.max(), metric)
        _assert_graph(index, rows, k, metric, np.broadcast_to(may, (n, n)), given)
    two = index.diameter(groups=["g1", "g3"]).ids
    assert set(index.groups(two)) <= {"g1", "g3"}
    assert index.diameter(allowed=[ids[3]]).ids.tolist() == [-1, -1]
    _assert_graph(index, rows, k, metric, same, {"groups": own})
    _assert_graph(index, rows, k, metric, ~same, {"outside_groups": own})
    _assert_graph(index, rows, k, metric, same & ~np.isin(ids, some), {
        "groups": own, "exclude": some})
    _assert_graph(index, rows, k, metric, ~np.array([np.isin(ids, one) for one in lists]), {
        "exclude": lists})
    matrix = index.furthest_graph(k, as_sparse=True, groups=own).toarray()
    assert not matrix[~same].any()


def _assert_graph(index: farann.Index, rows: oracle.Float32, k: int, metric: str,
                  may: NDArray[np.bool_], given: dict[str, Any]) -> None:
    ids = index.ids
    expected = reference.furthest(rows, rows, k, metric, ids=ids, exclude=[
        np.append(ids[~one], own) for one, own in zip(may, ids, strict=True)])
    graph = index.furthest_graph(k, **given)
    assert_array_equal(graph.ids, expected.ids)
    assert_same_bits(graph.scores, expected.scores)
    assert_same_bits(index.eccentricities(**given), expected.scores[:, 0])


def test_filters_of_pairs_and_graphs_are_checked() -> None:
    index = index_of(np.ones((3, 2), np.float32))
    other = index_of(np.ones((3, 2), np.float32))
    for ask in (index.diameter, index.eccentricities, index.furthest_graph):
        with pytest.raises(ValueError, match="allowed: expected a Filter of this index"):
            ask(allowed=other.filter(exclude=[1]))
        with pytest.raises(ValueError, match="groups: the index has no groups"):
            ask(groups=["a", "a", "b"])
        with pytest.raises(TypeError, match="got an unexpected keyword 'within': use groups"):
            ask(within=3)  # type: ignore[call-arg, call-overload]


@pytest.mark.parametrize("metric", METRICS)
def test_no_row_of_a_graph_finds_itself(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where all rows are equal, or there is only one."""
    monkeypatch.setattr(inside.settings, "pair_rows_at_once", 3)
    rows = np.ones((7, 5), np.float32)
    for n in (1, 2, 7):
        ids = np.arange(n)[::-1] + 4
        index = index_of(rows[:n], metric, ids)
        for k in (1, 3):
            expected = reference.furthest(rows[:n], rows[:n], k, metric, ids=ids,
                                          exclude=ids[:, None])
            graph = index.furthest_graph(k)
            assert_array_equal(graph.ids, expected.ids)
            assert_same_bits(graph.scores, expected.scores)
        assert_same_bits(index.eccentricities(), expected.scores[:, 0])


def test_a_graph_is_sparse() -> None:
    pytest.importorskip("scipy")
    index = index_of(float32([[0], [3], [-4]]), ids=np.array([7, 2, 5]))
    graph = index.furthest_graph(1, as_sparse=True)
    assert_array_equal(graph.toarray(), [[0, 0, 4], [0, 0, 7], [0, 7, 0]])


@pytest.mark.parametrize("isa", inside.levels())
def test_levels_choose_the_same_rows(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    rows = rows_for("crowded edge", rng, 700, 33, "l2")
    for metric in METRICS:
        index = index_of(rows, metric)
        inside.store.use_level(index, isa)
        expected = oracle.selection(rows, 60, metric, np.arange(700), [4])[1]
        assert_array_equal(index.select_diverse(61, start=4).ids[1:], expected)
        index.build()
        inside.store.use_level(index, isa)
        found = index.search_furthest_from([rows[:7], rows[7:9]], 9)
        for i, members in enumerate((rows[:7], rows[7:9])):
            assert_array_equal(found.ids[i], oracle.furthest_from(
                members, rows, 9, metric, np.arange(700))[1])


def test_many_picks_of_rows_that_were_never_up_to_date() -> None:
    """An existing set is met by rows in tiles, and picks go on from there."""
    rng = np.random.default_rng(8)
    rows = rng.standard_normal((2500, 6)).astype(np.float32)
    for metric in METRICS:
        index = index_of(rows, metric)
        whole = index.select_diverse(1500)
        rest = index.select_diverse(200, first=whole.ids[:1300])
        assert_array_equal(rest.ids, whole.ids[1300:])
        assert_same_bits(rest.scores, whole.scores[1300:])
        scores, expected = oracle.selection(rows, 1499, metric, np.arange(2500), whole.ids[:1])
        assert_array_equal(whole.ids[1:], expected)
        assert_same_bits(whole.scores[1:], scores)


def test_where_a_selection_begins_and_ends() -> None:
    rng = np.random.default_rng(9)
    rows = rng.standard_normal((300, 5)).astype(np.float32)
    index = index_of(rows, ids=np.arange(300) + 1000)
    picks = index.select_diverse(40)
    mean = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    assert picks.ids[0] == index.search_furthest(mean, 1).ids[0]
    assert_array_equal(index.select_diverse(40, start="centroid").ids, picks.ids)
    assert_array_equal(farann.select_diverse(rows, 40).ids, picks.ids - 1000)
    covered = index.select_diverse(radius=float(picks.scores[20]))
    # Picks go on while some row is outside.
    assert len(covered.ids) == (picks.scores > picks.scores[20]).sum()
    assert_array_equal(covered.ids, picks.ids[: len(covered.ids)])
    allowed = picks.ids[::2]
    some = index.select_diverse(allowed=allowed, k=1000)
    assert sorted(some.ids) == sorted(allowed)
    again = index.select_diverse(allowed=index.filter(allowed=allowed), k=1000)
    assert_array_equal(again.ids, some.ids)
    index.remove(picks.ids[:3])
    assert not np.isin(picks.ids[:3], index.select_diverse(290).ids).any()


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("metric", METRICS)
def test_selections_with_filters(metric: str, named: bool) -> None:
    rng = np.random.default_rng(11)
    rows = rng.standard_normal((200, 6)).astype(np.float32)
    rows[150:] = rows[:50]  # ties
    labels, numbers = rng.integers(0, 4, 200), np.arange(200)
    ids = [f"r{i:03}" for i in numbers] if named else numbers
    index = farann.Index(metric=metric)
    index.add(rows, ids, groups=labels)
    index.remove([ids[5]])
    out = [ids[i] for i in range(20, 40)]
    live = (numbers != 5) & ~((numbers >= 20) & (numbers < 40))
    for given, may in (({"exclude": out}, live), ({"exclude": out, "groups": [1, 3]},
                                                  live & (labels % 2 == 1)),
                       ({"outside_groups": 2, "allowed": ids[::2]},
                        (numbers % 2 == 0) & (labels != 2)),
                       ({"exclude": out, "allowed": index.filter(groups=1)}, live & (labels == 1)),
                       ({"groups": 17}, live & False)):
        start = np.flatnonzero(may)[:1]
        found = index.select_diverse(9, **given, start=ids[start[0]] if len(start) else None)
        if not len(start):
            assert len(found.ids) == 0
            continue
        scores, expected = oracle.selection(rows, 8, metric, numbers, start, may)
        picks = [int(str(id).strip("r")) for id in found.ids]
        assert picks == [start[0], *expected]
        assert_same_bits(found.scores[1:], scores)
        assert may[[int(str(id).strip("r")) for id in index.select_diverse(9, **given).ids]].all()
    one_off = farann.select_diverse(rows, 9, metric, start=0, exclude=np.arange(20, 40))
    kept = ~((numbers >= 20) & (numbers < 40))
    assert one_off.ids[1:].tolist() == oracle.selection(rows, 8, metric, numbers, [0],
                                                        kept)[1].tolist()
    with pytest.raises(ValueError, match="groups: the index has no groups"):
        index_of(rows).select_diverse(3, groups=1)


def test_the_next_pick_is_the_row_furthest_from_the_picks() -> None:
    rng = np.random.default_rng(10)
    rows = rng.standard_normal((400, 9)).astype(np.float32)
    for metric in METRICS:
        index = index_of(rows, metric)
        picks = index.select_diverse(12)
        for n in range(1, 12):
            found = index.search_furthest_from(
                [rows[picks.ids[:n]]], 1, exclude=[picks.ids[:n]])
            assert found.ids[0, 0] == picks.ids[n]
            if n > 1:
                assert_same_bits(found.scores[0], picks.scores[n : n + 1])


@pytest.mark.parametrize("names", [None, ["a", "b", "c"]])
def test_bad_ids_to_begin_with_are_told_by_the_name_of_their_argument(
        names: list[str] | None) -> None:
    index = farann.Index()
    index.add(np.eye(3), ids=names)
    for name, many in (("start", False), ("first", True)):
        for bad, error in ((99 if names is None else "z", KeyError), (0.5, TypeError)):
            with pytest.raises(error, match=f"^\\W?{name}: "):
                given: dict[str, Any] = {name: [bad] if many else bad}
                index.select_diverse(2, **given)
    with pytest.raises(ValueError, match="^start: expected an id that may be chosen"):
        ids = names if names is not None else [0, 1, 2]
        index.select_diverse(2, start=ids[0], allowed=ids[1:])


def test_equal_rows_are_compared_a_few_times_only() -> None:
    rows, picked = np.ones((6000, 4), np.float32), 9
    task = inside.search.selection_of(index_of(rows, "l2"), picked)
    assert task.run(picked) == picked
    # All need exact keys, as bounds are a little above: after each a look at a few dozen rows.
    assert len(rows) < task.did()[1]
    assert task.did()[2] < 100 * len(rows)


@pytest.mark.parametrize("n", [1, 4, 500])
def test_means_are_exact(n: int) -> None:
    """Of all exponents, in any order and in parts."""
    rng = np.random.default_rng(n)
    rows = rng.integers(0, 2**32, (n, 9), np.uint32).view(np.float32)
    rows[~np.isfinite(rows)] = 3e-45
    rows[:, 0] = np.finfo(np.float32).max
    rows[:, 1] = [-1e-45, 0.0, 1e-45, -0.0][: n] * (n // 4) if n > 1 else -1e-45
    mean = float32([float(sum(map(Fraction, column.tolist())) / n) for column in rows.T])
    order = rng.permutation(n)
    parts = [inside.search.RowSum.of([part], 9, False)
             for part in (rows[order[: n // 3]], rows[order[n // 3 :]])]
    for total in (inside.search.RowSum.of([rows], 9, False), parts[0].plus(parts[1])):
        assert_same_bits(total.mean(), mean)


def test_a_shrinking_block_changes_nothing() -> None:
    """An outlier to begin with, so that its bounds rule nothing out; rows far and near."""
    rng = np.random.default_rng(5)
    rows = rng.standard_normal((9000, 6)).astype(np.float32)
    rows *= rng.gamma(2.0, 1.0, (9000, 1)).astype(np.float32)
    rows[17] = 60.0
    picks = farann.select_diverse(rows, 400, start=17)
    wide, least, at = rows.astype(np.float64), np.full(9000, np.inf), 17
    for found in picks.ids:
        assert found == at
        least = np.minimum(least, ((wide - wide[at]) ** 2).sum(axis=1))
        at = int(least.argmax())


@pytest.mark.parametrize("metric", ["dot", "cosine"])
@pytest.mark.parametrize("kind", ["gaussian", "duplicates", "all equal", "one huge row"])
def test_relevance_by_scores_of_others(kind: str, metric: str, rng: np.random.Generator) -> None:
    rows, labels = rows_for(kind, rng, 60, 5, metric), rng.integers(0, 7, 60)
    index, ids = farann.Index(metric=metric, cells=4), rng.permutation(900)[:60]
    index.add(rows, ids, groups=labels)
    index.remove(ids[50:])
    scales: dict[str, Any] = {
        "unit": lambda r: (r - r.min()) / (np.ptp(r) or 1.0), "as given": lambda r: r,
        "ranks": lambda r: (r[:, None] > r).sum(axis=1) / max(len(r) - 1, 1)}
    for scale, scaled in scales.items():
        for per_group in (None, 1, 2):
            lists, expected, limit = [], [], per_group or 60
            for number in (1, 9, 50):
                at, given = rng.permutation(50)[:number], rng.integers(-4, 5, number) / 2
                lists.append(dict(zip(ids[at].tolist(), given.tolist(), strict=True)))
                similar = np.zeros(60)
                similar[at] = scaled(given)
                expected.append(oracle.relevance(
                    rows[0], rows, 12, metric, ids, 0.4, at,
                    None if per_group is None else labels, limit, similar))
            hits = index.search_mmr(scores=lists, k=12, diversity=0.4, scale=scale,
                                    per_group=per_group)
            for i, (values, found) in enumerate(expected):
                assert_array_equal(hits.ids[i], np.append(found, [-1] * (12 - len(found))))
                assert_same_bits(hits.scores[i, : len(found)], reference.as_float32(values))
            alone = index.search_mmr(scores=lists[1], k=12, diversity=0.4, scale=scale,
                                     per_group=per_group)
            assert_array_equal(alone.ids, hits.ids[1])
    assert_array_equal(index.search_mmr(scores={}, k=2).ids, [-1, -1])
    many = index.search_mmr(scores={int(id): 1e308 * (-1) ** i for i, id in enumerate(ids[:50])})
    assert many.found.all()


def test_wrong_scores_are_refused(rng: np.random.Generator) -> None:
    index: Any = farann.Index(metric="cosine")
    assert_array_equal(index.search_mmr(scores={}, k=2).ids, [-1, -1])
    index.add(rng.standard_normal((5, 3)))
    for wrong, error, words in (({9: 1.0}, KeyError, "9"), ({0: np.nan}, ValueError, "NaN"),
                                ({0: np.inf}, ValueError, "finite"), ([[1.0]], TypeError, "dict"),
                                ({0: "a"}, TypeError, "scores"),
                                ([{0: 1.0}, 3], TypeError, "dict")):
        with pytest.raises(error, match=words):
            index.search_mmr(scores=wrong)
    for beside in ({"queries": [1.0, 0.0, 0.0]}, {"ids": 1}, {"candidates": 3}, {"exclude": [1]}):
        with pytest.raises(TypeError, match="beside scores"):
            index.search_mmr(scores={0: 1.0}, **beside)
    with pytest.raises(ValueError, match="scale: expected one of 'unit', 'ranks', 'as given'"):
        index.search_mmr(scores={0: 1.0}, scale="softmax")
