"""What tests of sharded indexes share: rows, shards without Ray, and one index to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import inside
import numpy as np
import pytest
from cases import Float32, assert_same, assert_same_beyond, assert_same_bits
from numpy.testing import assert_array_equal

import farann
from farann.adapters.ray import Manifest, ShardError

DIM = 7


class PlainCluster(inside.adapters.Gathering):
    """All shards in this process; those in `broken` can't be asked."""

    def __init__(self, uri: str) -> None:
        first = inside.adapters.Shard(uri, 0)
        self.shards = [first, *(inside.adapters.Shard(uri, number) for number in
                                range(1, len(first.manifest.shards) + 1))]
        self.broken: set[int] = set()
        self.asked: list[tuple[str, tuple[Any, ...]]] = []
        super().__init__(inside.adapters.Storage(uri), first.manifest, first.n_changes)

    def _send(self, method: str, args: tuple[Any, ...], shards: Sequence[int]) -> list[Any]:
        answers = []
        self.asked.append((method, args))
        for number in shards:
            shard = self.shards[number]
            if number in self.broken:
                answers.append(ShardError(f"{shard.name}: gone"))
                continue
            shard.sync(self._at)
            answers.append(getattr(shard, method)(*args))
        return answers


def built(uri: str, rows: Float32, metric: str, rows_per_shard: int = 250,
          ids: Any = None, sample: Float32 | None = None, groups: Any = None) -> Manifest:
    """Build shards of rows in this process."""
    columns = None, None, None if groups is None else "group"
    plan = inside.adapters.to_plan(len(rows), rows_per_shard, metric, "int8", None, columns, sample)
    plan.begin(inside.adapters.Storage(uri))
    def block(start: int, stop: int) -> Any:
        return [tuple(None if each is None else each[start:stop] for each in (rows, ids, groups))]

    records = [inside.adapters.build_shard(uri, number, partial(block, *cut), plan, sample)
               for number, cut in enumerate(pairwise(plan.bounds))]
    return inside.adapters.finish(uri, plan, records, sample)


def hostile(rng: np.random.Generator, n: int, metric: str) -> Float32:
    """Rows of which many are alike, equal or huge."""
    rows = np.repeat(rng.standard_normal((n // 3, DIM), dtype=np.float32), 3, axis=0)
    rng.shuffle(rows)
    rows[: n // 4] = rng.integers(-1, 2, (n // 4, DIM))
    rows[n // 4 : n // 3] *= np.float32(1e18)
    rows[~rows.any(axis=1), 0] = 1.0
    return rows


def assert_answers(cluster: Any, one: farann.Index, queries: Float32) -> None:
    """Hold everything that can be asked against one index, bit by bit."""
    rows = one.ids
    exclude, allowed = rows[::3], rows[: len(rows) // 2]
    for k in (1, 12):
        assert_same(cluster.search_furthest(queries, k), one.search_furthest(queries, k))
        assert_same(cluster.search_nearest(queries, k), one.search_nearest(queries, k))
    assert_same(cluster.search_furthest(queries[0], 5), one.search_furthest(queries[0], 5))
    hits = cluster.search_furthest(queries, 9, exclude=exclude, allowed=allowed)
    assert_same(hits, one.search_furthest(queries, 9, exclude=exclude, allowed=allowed))
    radius = float(one.search_furthest(queries, 30).scores[0, -1])
    assert_same_beyond(cluster.search_beyond(queries, radius=radius),
                       one.search_beyond(queries, radius=radius))
    radius = float(one.search_nearest(queries, 30).scores[0, -1])
    assert_same_beyond(cluster.search_within(queries, radius=radius),
                       one.search_within(queries, radius=radius))
    some = rows[[1, 5, len(rows) - 1]]
    for left_out in (None, rows[:9], [rows[:2], rows[:0], rows[7:30]]):
        for search in ("search_furthest", "search_nearest"):
            assert_same(getattr(cluster, search)(ids=some, k=6, exclude=left_out),
                        getattr(one, search)(ids=some, k=6, exclude=left_out))
    assert_same(cluster.search_nearest(ids=some[0], k=4), one.search_nearest(ids=some[0], k=4))
    for search in ("search_beyond", "search_within"):
        assert_array_equal(getattr(cluster, search)(ids=some, radius=radius).ids,
                           getattr(one, search)(ids=some, radius=radius).ids)
    sets = [queries[:4], queries[-1:], queries[-2:]]
    members = [some[:2], some[2:], some]
    for options in ({}, {"exclude": rows[:9]}, {"allowed": allowed}, {"recall": 0.9},
                    {"seconds": 1e6}):
        assert_same(cluster.search_furthest_from(sets, 7, **options),
                    one.search_furthest_from(sets, 7, **options))
        assert_same(cluster.search_furthest_from(ids=members, k=7, **options),
                    one.search_furthest_from(ids=members, k=7, **options))
    for search, given in (("search_furthest", {"k": 3}), ("search_within", {"radius": radius})):
        did = getattr(cluster, search)(queries, **given, return_stats=True).stats
        assert did.queries == len(queries) and did.rows_scanned >= len(rows)
        assert getattr(cluster, search)(queries, **given).stats is None
    radii = one.search_nearest(queries, 5).scores[:, -1]
    assert_same(cluster.search_nearest(queries, 6, beyond=radii),
                one.search_nearest(queries, 6, beyond=radii))
    assert_same(cluster.search_furthest(queries, 6, seconds=1e6), one.search_furthest(queries, 6))
    assert_array_equal(cluster.score(queries, some), one.score(queries, some))
    assert_array_equal(cluster.reconstruct(some), one.reconstruct(some))


def assert_selections(cluster: Any, one: farann.Index, queries: Float32) -> None:
    """Hold selections against those of one index."""
    some = one.ids[[1, 5, 80]]
    start = some.tolist()[0]
    wanted = one.select_diverse(70, start=start)
    radius = float(wanted.scores[25])
    for options in ({"start": start}, {"first": some}, {"start": start, "radius": radius},
                    {"start": start, "allowed": one.ids[:60]}, {"leave_out": 0.2},
                    {"start": start, "leave_out": 0.9},
                    {"first": some, "exclude": one.ids[7:30], "leave_out": 0.3}):
        assert_same(cluster.select_diverse(70, **options), one.select_diverse(70, **options))
    if one.metric == "l2":
        return
    for diversity in (0.0, 0.5, 1.0):
        assert_same(cluster.search_mmr(queries, 3, diversity=diversity),
                    one.search_mmr(queries, 3, diversity=diversity))
    few = one.ids[[0, 1, 250]]  # of two shards
    for options in ({"candidates": 20}, {"exclude": one.ids[:50]}, {"allowed": few},
                    {"allowed": few, "candidates": 9}):
        assert_same(cluster.search_mmr(queries, 5, **options),
                    one.search_mmr(queries, 5, **options))
    assert_same(cluster.search_mmr(ids=few, k=3), one.search_mmr(ids=few, k=3))
    worth = {id: i % 5 for i, id in enumerate(one.ids[::3].tolist())}  # ties
    scores: Any
    for scores in (worth, [worth, {few[2]: 2.5, few[0]: 1e300}, {}]):
        for scale in ("unit", "ranks", "as given"):
            assert_same(cluster.search_mmr(scores=scores, scale=scale, k=7, diversity=0.8),
                        one.search_mmr(scores=scores, scale=scale, k=7, diversity=0.8))
    unknown = {few[0]: 1.0, "nobody" if one.ids.dtype == object else 10**9: 2.0}
    for client in (cluster, one):
        with pytest.raises(KeyError, match="scores: .* is not in the index"):
            client.search_mmr(scores=unknown, k=3)
        with pytest.raises(TypeError, match="scores: expected neither"):
            client.search_mmr(queries, scores=worth)


def assert_pairs(cluster: Any, one: farann.Index) -> None:
    """Hold pairs and rows by score against those of one index."""
    some = one.ids[[1, 5, 80]]
    assert_array_equal(np.sort(cluster.ids), np.sort(one.ids))
    radius = float(one.search_nearest(ids=some, k=40).scores[1, -1])
    filters: list[dict[str, Any]] = [{}, {"exclude": one.ids[:50]}, {"allowed": one.ids[20:300]}]
    for options in filters:
        found, right = (index.pairs_within(radius, **options) for index in (cluster, one))
        assert len(right.ids) > 300
        assert_array_equal(found.ids, right.ids)
        assert_same_bits(found.scores, right.scores)
    for given in ({"limit": 0}, {"limit": len(right.ids) - 1}):
        with pytest.raises(ValueError, match="limit"):
            cluster.pairs_within(radius, **options, **given)
    found = cluster.pairs_within(radius, **options, limit=len(right.ids))
    assert_array_equal(found.ids, right.ids)
    worth = np.random.default_rng(1).integers(0, 9, len(one.ids))  # with ties
    own = dict(zip(one.ids.tolist(), worth.tolist(), strict=True))
    there = [own[id] for id in cluster.ids.tolist()]
    for options in ({"radius": abs(radius)}, {"radius": abs(radius), "k": 5},
                    {"k": 7, "allowed": one.ids[20:300]}, {"k": 2, "exclude": one.ids[2:]}):
        found, wanted = (cluster.select_spaced(there, **options, return_dropped=True),
                         one.select_spaced(worth, **options, return_dropped=True))
        for field in ("ids", "scores", "dropped", "keepers"):
            assert_array_equal(getattr(found, field), getattr(wanted, field))
        assert found.radius == wanted.radius
