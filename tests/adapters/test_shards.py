"""Sharded indexes without Ray: what a shard does, and what shards answer together."""

from __future__ import annotations

import atexit
import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from approximate_cases import recall_of

pytest.importorskip("fsspec", reason="needs fsspec")

import fsspec
import inside
import reference
from cases import assert_same, assert_same_beyond
from fsspec.implementations.memory import MemoryFileSystem
from inside.adapters import Storage, blocks_of_files, record_of
from numpy.testing import assert_array_equal
from shard_cases import (
    DIM,
    PlainCluster,
    assert_answers,
    assert_pairs,
    assert_selections,
    built,
    hostile,
)

import farann
from farann.adapters.ray import Manifest, Partial, ShardError, SharedTuning

N = 600


def one_index(rows: Any, metric: str, ids: Any = None) -> farann.Index:
    index = farann.Index(DIM, metric)
    index.add(rows, ids)
    return index


@pytest.mark.parametrize(("metric", "named"), [("l2", True), ("dot", False), ("cosine", True)])
def test_selections_begin_with_the_mean_of_all_shards(
        metric: str, named: bool, rng: np.random.Generator) -> None:
    half = rng.standard_normal((60, DIM), dtype=np.float32)
    rows, uri = np.concatenate([half, -half]), f"memory://mean-{metric}-{named}"  # whose mean is 0
    ids = rng.permutation([f"n{i}" for i in range(120)] if named else np.arange(120))
    ids = ids.astype(object) if named else ids
    built(uri, rows, metric, 40, ids)
    cluster, one = PlainCluster(uri), one_index(rows, metric, ids)
    for options in ({}, {"start": "centroid"}, {"allowed": ids[7:99]}, {"allowed": ids[:0]},
                    {"leave_out": 0.3}, {"start": ids[5], "leave_out": 0.95, "allowed": ids[:90]},
                    {"first": ids[:9], "exclude": ids[9:20], "leave_out": 0.5}):
        assert_same(cluster.select_diverse(50, **options), one.select_diverse(50, **options))
    some = rng.choice(ids, 31, replace=False)
    cluster.remove(some)
    one.remove(some)
    assert_same(cluster.select_diverse(5), one.select_diverse(5))


@pytest.mark.parametrize("keys_at_once", [None, 1])
@pytest.mark.parametrize("named", [False, True])
def test_an_id_is_in_one_shard(named: bool, keys_at_once: int | None, tmp_path: Path,
                               rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """When shards are built, when they are loaded, and when rows are added."""
    if keys_at_once is not None:
        monkeypatch.setattr(inside.adapters.distinct, "_KEYS_COMPARED", keys_at_once)
    rows = rng.standard_normal((N, DIM), dtype=np.float32)
    numbers = rng.choice(2**62, N, replace=False)

    def ids(numbers: Any) -> Any:
        return np.array([f"n{one}" for one in numbers], object) if named else numbers

    manifest = built(str(tmp_path / "right"), rows, "l2", ids=ids(numbers))
    cluster = PlainCluster(str(tmp_path / "right"))
    assert len(manifest.shards) == 3 and manifest.is_distinct()
    with pytest.raises(ValueError, match="not in use"):
        cluster.add(rows[:2], ids([7, numbers[N - 1]]))
    cluster.add(rows[:1], ids([7]))
    with pytest.raises(ValueError, match="not in use"):
        PlainCluster(str(tmp_path / "right")).add(rows[:1], ids([7]))
    twice = numbers.copy()
    twice[N - 9] = twice[3]
    said = f"{twice[3]}.*shard 0 .*shard 2"
    for _ in range(2):  # and again, where shards are there
        with pytest.raises(ValueError, match=f"dataset: expected each id once, got .*{said}"):
            built(str(tmp_path / "wrong"), rows, "l2", ids=ids(twice))
    assert not (tmp_path / "wrong" / "manifest.json").exists()
    # Manifests of others, which nobody compared.
    for records, fits in ((manifest.shards, True), ((*manifest.shards, manifest.shards[1]), False)):
        made = Manifest("l2", DIM, "int8", sum(record.rows for record in records), records)
        (tmp_path / "right" / "manifest.json").write_bytes(made.to_json())
        other = PlainCluster(str(tmp_path / "right"))
        if fits:
            other.check_distinct()
        else:
            with pytest.raises(ShardError, match="shard 1 .* and shard 3 .* have ids in common"):
                other.check_distinct()


def test_ids_of_all_shards_are_of_one_kind(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((20, DIM), dtype=np.float32)
    first, last = built("memory://one-kind", rows, "l2", 10).shards
    named = replace(last, first_id="a", last_id="b")
    plan = inside.adapters.to_plan(20, 10, "l2", "int8", None, (None, None, None), None)
    with pytest.raises(ValueError, match="id_column: expected integers or strings, got both"):
        inside.adapters.finish("memory://one-kind", plan, [first, named], None)
    with pytest.raises(farann.FormatError, match="ids of one kind"):
        Manifest.from_json(Manifest("l2", DIM, "int8", 20, (first, named)).to_json(), "there")


@pytest.mark.skipif(os.name != "posix", reason="needs modes and owners of files")
def test_temporary_folders_are_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                       rng: np.random.Generator) -> None:
    """Whoever makes a folder of that name first, or a link, gets nothing and gives nothing."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    removed: list[str] = []
    monkeypatch.setattr(atexit, "register", lambda remove, path, **options: removed.append(path))
    rows, user = rng.standard_normal((30, DIM), dtype=np.float32), os.getuid()
    names = [f"farann-{what}-{user}" for what in ("build", "shards")]
    built("memory://private", rows, "l2", 15)
    PlainCluster("memory://private")
    assert sorted(os.listdir(tmp_path)) == names
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in names} == {0o700}
    assert len(os.listdir(tmp_path / names[1])) == 2 and not removed
    others = tmp_path / "others"
    for taken in ("by all", "by a link", "by a file"):
        for name in names:
            shutil.rmtree(tmp_path / name, ignore_errors=True)
            (tmp_path / name).unlink(missing_ok=True)
            others.mkdir(exist_ok=True)
            if taken == "by all":
                (tmp_path / name).mkdir()
                (tmp_path / name).chmod(0o777)
            elif taken == "by a link":
                (tmp_path / name).symlink_to(others)
            else:
                (tmp_path / name).write_text("")
        uri = f"memory://taken-{taken}"
        built(uri, rows, "l2", 15)
        right = one_index(rows, "l2").search_furthest(rows, 3)
        assert_same(PlainCluster(uri).search_furthest(rows, 3), right)
        assert not os.listdir(others) and all(
            not os.listdir(tmp_path / name) for name in names if (tmp_path / name).is_dir())
        assert removed and {os.stat(path).st_mode & 0o777 for path in removed} == {0o700}


@pytest.mark.parametrize("named", [False, True])
def test_filters_with_nothing_in_them(named: bool, rng: np.random.Generator) -> None:
    rows, uri = hostile(rng, 60, "dot"), f"memory://nothing-{named}"
    ids = np.array([f"n{i}" for i in range(60)], object) if named else np.arange(60)
    built(uri, rows, "dot", 25, ids, groups=np.arange(60) % 3)
    cluster, one = PlainCluster(uri), farann.Index(DIM, "dot")
    one.add(rows, ids, groups=np.arange(60) % 3)
    nothings: tuple[Any, ...] = ([], (), set(), [[]], np.empty((0, 4)), np.array([]))
    for nothing in nothings:
        only: dict[str, Any]
        asked: dict[str, Any]
        for only in ({"exclude": nothing}, {"outside_groups": nothing}, {"allowed": nothing},
                     {"groups": nothing}, {"exclude": nothing, "ids": ids[:3]}):
            if "ids" not in only:
                assert_same(cluster.select_diverse(5, **only), one.select_diverse(5, **only))
            asked = only if "ids" in only else {**only, "queries": rows[:4]}
            for kind in ("search_furthest", "search_nearest", "search_mmr"):
                assert_same(getattr(cluster, kind)(k=5, **asked), getattr(one, kind)(k=5, **asked))
    excluded: tuple[list[Any], ...] = [[], None, ids[:1]], [None, set(), ids[:9].tolist()]
    for exclude in excluded:
        for asked in ({"ids": ids[:3]}, {"queries": rows[:3]}):
            assert_same(cluster.search_furthest(k=5, exclude=exclude, **asked),
                        one.search_furthest(k=5, exclude=exclude, **asked))


@pytest.mark.parametrize("metric", reference.METRICS)
def test_string_ids(metric: str, rng: np.random.Generator) -> None:
    rows, uri = hostile(rng, N, metric), f"memory://named-{metric}"
    names = np.array([f"n{i % 10}-{i}" for i in range(N + 33)], object)
    queries = np.concatenate([rows[5:6], rng.standard_normal((8, DIM), dtype=np.float32)])
    built(uri, rows, metric, 250, names[:N], sample=rows[::2])
    cluster, one = PlainCluster(uri), one_index(rows, metric, names[:N])
    assert_same(cluster.select_diverse(9), one.select_diverse(9))
    more = np.concatenate([rows[:12], hostile(rng, 21, metric)])  # rows that are there already
    assert_array_equal(cluster.add(more, names[N:]), one.add(more, names[N:]))
    gone = ["n0-0", "n3-3", "n9-399", "n0-400", f"n2-{N + 2}"]
    cluster.remove(gone)
    one.remove(gone)
    assert_answers(PlainCluster(uri), one, queries)
    assert_selections(cluster, one, queries[:4])
    assert_pairs(cluster, one)
    kind = "search_nearest" if metric == "l2" else "search_furthest"
    tuning = cluster.tune(k=5, nearest=metric == "l2")
    assert tuning.recalls[-1] == 1.0 and tuning.recalls[0] > 0.3
    found, wanted = getattr(cluster, kind)(rows[1::2], 5, recall=0.9), getattr(one, kind)(
        rows[1::2], 5)
    assert found.ids.dtype == object and recall_of(found.ids, wanted.ids) >= 0.88
    for call in (lambda: cluster.score(queries, [3]), lambda: cluster.remove(3),
                 lambda: cluster.add(rows[:1], [3]), lambda: cluster.select_diverse(3, start=3),
                 lambda: cluster.search_furthest(queries, 3, allowed=[3])):
        with pytest.raises(TypeError, match="expected strings"):
            call()
    with pytest.raises(ValueError, match="ids: expected a string for each row"):
        cluster.add(rows[:1])
    with pytest.raises(KeyError, match="a.*x00.* is in no shard"):
        cluster.reconstruct("a\0")


@pytest.mark.parametrize("metric", reference.METRICS)
def test_shards_answer_as_one_index(metric: str, tmp_path: Path, rng: np.random.Generator) -> None:
    rows, uri = hostile(rng, N, metric), str(tmp_path / "index")
    queries = np.concatenate([rows[5:6], rng.standard_normal((8, DIM), dtype=np.float32)])
    manifest = built(uri, rows, metric)
    assert manifest.rows == N and len(manifest.shards) == 3
    assert [(shard.first_id, shard.last_id) for shard in manifest.shards] == [
        (0, 199), (200, 399), (400, 599)]
    cluster, one = PlainCluster(uri), one_index(rows, metric)
    assert_answers(cluster, one, queries)
    assert_selections(cluster, one, queries[:4])
    # Rows that come and go: seen at once, by other clients, and after all shards were restarted.
    more = hostile(rng, 30, metric)
    ids = cluster.add(more)
    assert_array_equal(ids, one.add(more))
    assert_array_equal(cluster.add(more[:1], ids=[9000]), one.add(more[:1], ids=[9000]))
    gone = [0, 3, 399, 400, int(ids[2])]
    cluster.remove(gone)
    one.remove(gone)
    assert_selections(cluster, one, queries[:4])
    for client in (cluster, PlainCluster(uri)):
        assert_answers(client, one, queries)
    assert_pairs(cluster, one)
    assert_array_equal(PlainCluster(uri).add(more), one.add(more))


@pytest.mark.parametrize(("metric", "named"), [("l2", False), ("dot", True), ("cosine", False)])
def test_groups_of_selections(metric: str, named: bool, rng: np.random.Generator) -> None:
    """Groups lie in several shards, and more is proposed of one than may be chosen."""
    rows, uri = hostile(rng, N, metric), f"memory://groups-{metric}-{named}"
    groups = np.minimum(rng.integers(0, 9, N), 3)
    labels = np.array([f"g{group}" for group in groups], object) if named else groups
    ids = np.array([f"n{i % 10}-{i}" for i in range(N)], object) if named else np.arange(N)
    built(uri, rows, metric, 250, ids if named else None, groups=labels)
    cluster, one = PlainCluster(uri), farann.Index(DIM, metric)
    one.add(rows, ids, groups=labels)
    few = labels[[groups.argmin(), groups.argmax()]].tolist()
    worth = rng.integers(0, 50, N)
    asked: list[dict[str, Any]] = [
        {}, {"k": 5}, {"first": ids[[1, 6, 80, 300]]}, {"groups": few}, {"outside_groups": few[0]},
        {"radius": 1.0}, {"start": ids[7], "k": 300}, {"allowed": ids[150:350]}]
    for number in range(2):
        for per_group, options in product((1, 20), asked):
            assert_same(cluster.select_diverse(per_group=per_group, **options),
                        one.select_diverse(per_group=per_group, **options))
        for options in (asked[4], {"radius": 1.0, "k": 40}):
            found, wanted = (each.select_spaced(worth, per_group=3, **options)
                             for each in (cluster, one))
            assert_array_equal(found.ids, wanted.ids)
            assert_array_equal(found.scores, wanted.scores)
        if number == 0:
            more = labels[[3, 4]]
            for each in (cluster, one):
                each.remove(ids[[0, 5]])
                each.add(rows[:2], np.array(["x", "y"], object) if named else [900, 901],
                         groups=more)
            assert_array_equal(np.sort(cluster.ids), np.sort(one.ids))
            own = dict(zip(one.ids.tolist(), worth.tolist(), strict=True))
            worth = np.array([own[id] for id in cluster.ids.tolist()])
            assert_array_equal(cluster.ids, one.ids)
    plain = f"memory://plain-{metric}-{named}"
    built(plain, rows[:40], metric, 20)
    for ask in (PlainCluster(plain).select_diverse, partial(
            PlainCluster(plain).select_spaced, worth[:40])):
        with pytest.raises(ValueError, match="per_group: the index has no groups"):
            ask(per_group=1)


def test_pairs_of_equal_rows_are_refused_by_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that shards find together are counted, and each stops at its part of a batch."""
    monkeypatch.setattr(inside.settings, "most_joined_rows", 3000)
    uri, rows = "memory://equal", np.ones((N, DIM), np.float32)
    built(uri, rows, "l2")
    cluster, n = PlainCluster(uri), N * (N - 1) // 2
    assert len(cluster.pairs_within(0.0, limit=n).ids) == n
    cluster.asked.clear()
    with pytest.raises(ValueError, match=r"limit=50,000 pairs within 0, got .* of 600 rows"):
        cluster.pairs_within(0.0, limit=50_000)
    asked = [args for method, args in cluster.asked if method == "near"]
    assert all(most * len(queries) <= 3000 // 3 for queries, _, most, _ in asked if most)
    with pytest.raises(ValueError, match=f"limit={n - 1:,} pairs"):
        cluster.pairs_within(0.0, limit=n - 1)


@pytest.mark.parametrize(("metric", "named"), [("l2", True), ("dot", False), ("cosine", True)])
def test_replaced_rows(metric: str, named: bool, tmp_path: Path, rng: np.random.Generator) -> None:
    """Each row stays in its shard, where its replacement is one change; the place of its id among
    equal scores stays, too."""
    rows, uri = hostile(rng, N, metric), str(tmp_path / "index")
    numbers = np.arange(N + 40)
    ids = np.array([f"n{i % 10}-{i}" for i in numbers], object) if named else numbers
    queries = np.concatenate([rows[5:6], rng.standard_normal((8, DIM), dtype=np.float32)])
    built(uri, rows, metric, 250, ids[:N] if named else None)
    cluster, one = PlainCluster(uri), one_index(rows, metric, ids[:N])
    for number in range(3):  # at last some that were added, or replaced, before
        some = np.concatenate([ids[[3 + number, 210, 399, 400, 599]], ids[N : N + 9 + number]])
        more = np.concatenate([rows[: len(some) - 2], hostile(rng, 9, metric)[:2]])
        for each in (cluster, one):
            assert_array_equal(each.add(more, some, replace=True), some)
        with pytest.raises(ValueError, match="not in use, got .*; pass replace=True"):
            cluster.add(more, some)
        assert_answers(cluster if number == 1 else PlainCluster(uri), one, queries)
        assert_selections(cluster, one, queries[:4])
    cluster.remove(ids[[210, N]])
    one.remove(ids[[210, N]])
    assert_answers(PlainCluster(uri), one, queries)
    assert_pairs(PlainCluster(uri), one)
    with pytest.raises(ValueError, match="^replace: expected the ids"):
        cluster.add(rows[:3], replace=True)
    with pytest.raises(ValueError, match="once"):
        cluster.add(rows[:2], ids[[4, 4]], replace=True)


def test_an_id_that_another_client_adds_is_replaced_where_it_is(rng: np.random.Generator) -> None:
    uri = "memory://replacing"
    built(uri, rng.standard_normal((40, DIM), dtype=np.float32), "l2", 20)
    cluster, other = PlainCluster(uri), PlainCluster(uri)
    rows = rng.standard_normal((2, DIM), dtype=np.float32)
    other.remove([5])
    other.add(rows[:1], [5])
    # A client that doesn't know of either change takes the id for one of the first shard.
    growing = cluster.shards[-1]
    assert growing.record(np.array([5]), rows[1:], None, "token", np.array([0]))[0] == 3
    for client in (other, PlainCluster(uri)):
        client.add(rows[:0])  # which tells it of all changes
        found = client.search_nearest(rows[1], 40)
        assert_array_equal(np.sort(found.ids), np.arange(40))
        assert found.ids[0] == 5 and found.scores[0] == 0.0


def test_two_clients_change_one_index(tmp_path: Path, rng: np.random.Generator) -> None:
    uri = str(tmp_path)
    built(uri, rng.standard_normal((40, DIM), dtype=np.float32), "l2", 20)
    first, second = PlainCluster(uri), PlainCluster(uri)
    rows = rng.standard_normal((4, DIM), dtype=np.float32)
    added = [client.add(rows) for client in (first, second, first)]
    assert np.concatenate(added).tolist() == list(range(40, 52))
    # A call that is sent again, as its worker died after the change was written, changes nothing.
    growing = first.shards[-1]
    assert growing.record(None, rows, None, "token")[0] == 4
    for client in (growing, PlainCluster(uri).shards[-1]):
        assert client.record(None, rows, None, "token")[0] == 4
    for bad in ([5, 60, 61, 62], [60], [60, 60, 61, 62], [52, 60, 61, 62]):
        with pytest.raises(ValueError, match="ids"):
            second.add(rows, bad)
    with pytest.raises(KeyError, match="77"):
        second.remove([1, 77])
    assert PlainCluster(uri).search_furthest(rows[0], 90).found.sum() == 56


def test_string_ids_and_a_file_system_without_files(rng: np.random.Generator) -> None:
    rows = hostile(rng, 90, "l2")
    names = np.array([f"n{i % 10}-{i}" for i in range(90)], object)
    uri = "memory://strings"
    built(uri, rows, "l2", 40, names)
    cluster, one = PlainCluster(uri), one_index(rows, "l2", names)
    hits, wanted = cluster.search_furthest(rows[:9], 20), one.search_furthest(rows[:9], 20)
    assert_array_equal(hits.ids, wanted.ids)
    cluster.add(rows[:1], ids=["new"])
    cluster.remove(["n1-1"])
    one.add(rows[:1], ids=["new"])
    one.remove("n1-1")
    for client in (cluster, PlainCluster(uri)):
        assert_array_equal(client.search_nearest(rows[:9], 20).ids,
                           one.search_nearest(rows[:9], 20).ids)
        assert_array_equal(client.score(rows[:2], ["new", "n3-3"]),
                           one.score(rows[:2], ["new", "n3-3"]))
    assert_array_equal(cluster.select_diverse(3, start="new").ids,
                       one.select_diverse(3, start="new").ids)


@pytest.mark.parametrize("kind", ["integers", "strings"])
def test_groups(kind: str, tmp_path: Path, rng: np.random.Generator) -> None:
    rows, uri = hostile(rng, 300, "cosine"), str(tmp_path)
    numbers = rng.integers(0, 7, 310)
    numbers[:100] %= 3  # others are in no row of the first shard
    labels = numbers if kind == "integers" else np.array([f"g{i}" for i in numbers], object)
    assert built(uri, rows, "cosine", 100, groups=labels[:300]).grouped
    cluster, one = PlainCluster(uri), farann.Index(DIM, "cosine")
    one.add(rows, groups=labels[:300])
    queries, own = rows[:12] + np.float32(0.1), labels[200:212]
    none_of_them = 99 if kind == "integers" else "99"

    def assert_groups(client: PlainCluster) -> None:
        for search in ("search_furthest", "search_nearest"):
            for filters in ({"groups": own}, {"outside_groups": own}, {"groups": labels[0]},
                            {"outside_groups": own, "exclude": [1, 2]}, {"groups": none_of_them}):
                assert_same(getattr(client, search)(queries, 9, **filters),
                            getattr(one, search)(queries, 9, **filters))
        sets = queries.reshape(4, 3, DIM)
        for limited in ({"per_group": 1}, {"per_group": 2, "exclude": [1, 2], "recall": 0.9}):
            for search, asked in (("search_furthest", queries), ("search_nearest", queries),
                                  ("search_furthest_from", sets), ("search_contrast", sets)):
                found, right = (getattr(each, search)(asked, k=9, **limited)
                                for each in (client, one))
                assert_same(found, right)
                assert_array_equal(found.groups, right.groups)
        for limited in ({"per_group": 1}, {"per_group": 2, "candidates": 30},
                        {"per_group": 1, "groups": own}, {"per_group": 2, "exclude": [1, 2]}):
            found, right = (each.search_mmr(queries, 6, **limited) for each in (client, one))
            assert_same(found, right)
            assert_array_equal(found.groups, right.groups)
        every = one.ids
        scores = dict(zip(every[::2].tolist(), range(len(every)), strict=False))
        found, right = (each.search_mmr(scores=scores, k=6, per_group=1) for each in (client, one))
        assert_same(found, right)
        assert_array_equal(found.groups, right.groups)
        for filters in ({"groups": own}, {"outside_groups": own, "exclude": [1, 2]}):
            assert_same(client.search_mmr(queries, 4, **filters),
                        one.search_mmr(queries, 4, **filters))
            assert_same(client.search_mmr(queries, 4, candidates=9, **filters),
                        one.search_mmr(queries, 4, candidates=9, **filters))
            assert_same(client.search_furthest_from(queries.reshape(12, 1, DIM), 4, **filters),
                        one.search_furthest_from(queries.reshape(12, 1, DIM), 4, **filters))
        for filters in ({"groups": labels[:2]}, {"outside_groups": labels[200], "exclude": [1, 2]},
                        {"groups": labels[0], "allowed": every[::2]}, {"groups": none_of_them}):
            for share in (0.0, 0.3):
                assert_same(client.select_diverse(9, leave_out=share, **filters),
                            one.select_diverse(9, leave_out=share, **filters))
        first = int(np.flatnonzero(labels[:300] == labels[0])[3])
        assert_same(client.select_diverse(9, start=first, groups=labels[0]),
                    one.select_diverse(9, start=first, groups=labels[0]))
        with pytest.raises(ValueError, match="start: expected an id that may be chosen"):
            client.select_diverse(9, start=first, outside_groups=labels[0])
        assert_same_beyond(client.search_beyond(queries, radius=0.2, outside_groups=own),
                           one.search_beyond(queries, radius=0.2, outside_groups=own))

    assert_groups(cluster)
    cluster.remove([5])
    one.remove(5)
    assert_groups(cluster)  # also the shard of added rows is asked, which has none
    for bad in (None, labels[:9]):
        with pytest.raises(ValueError, match="groups: expected 10 labels"):
            cluster.add(rows[:10], groups=bad)
    assert_array_equal(cluster.add(rows[:10], groups=labels[300:]),
                       one.add(rows[:10], groups=labels[300:]))
    for client in (cluster, PlainCluster(uri)):
        assert_groups(client)
    built(str(tmp_path / "without"), rows, "cosine", 100)
    without = PlainCluster(str(tmp_path / "without"))
    with pytest.raises(ValueError, match="built without"):
        without.add(rows[:1], groups=[1])
    with pytest.raises(ValueError, match="groups"):
        without.search_furthest(queries, 3, groups=own)


def test_unknown_keywords_and_sets_that_are_none(rng: np.random.Generator) -> None:
    uri = "memory://unknown"
    built(uri, rng.standard_normal((40, DIM), dtype=np.float32), "dot", 20)
    cluster: Any = PlainCluster(uri)
    queries = np.ones((2, DIM), np.float32)
    for search, given in (("search_furthest", {}), ("search_nearest", {}), ("search_mmr", {}),
                          ("search_beyond", {"radius": 1.0})):
        with pytest.raises(TypeError, match=rf"^{search}\(\) got .* 'within': use groups"):
            getattr(cluster, search)(queries, within=1, **given)
    with pytest.raises(TypeError, match=r"^select_diverse\(\) got .* 'n': use k"):
        cluster.select_diverse(3, n=4)
    with pytest.raises(ValueError, match="at most one limit"):
        cluster.search_furthest(queries, 3, seconds=1.0, budget=3)
    for bad, error, words in (([1, 2], ValueError, r"pass one set as \[ids\]"),
                              ([[]], ValueError, "empty set"), ([[1], [77]], KeyError, "77")):
        with pytest.raises(error, match=words):
            cluster.search_furthest_from(ids=bad)
    with pytest.raises(TypeError, match="expected one of sets and ids, got neither"):
        cluster.search_furthest_from()


def clustered(rng: np.random.Generator, n: int) -> Any:
    middles = rng.standard_normal((20, DIM), dtype=np.float32)
    return middles[rng.integers(0, 20, n)] + np.float32(0.3) * rng.standard_normal(
        (n, DIM), dtype=np.float32)


@pytest.mark.parametrize(("kind", "metric"), [
    ("search_furthest", "dot"), ("search_nearest", "dot"), ("search_nearest", "l2")])
def test_recall_of_merged_answers(kind: str, metric: str, tmp_path: Path,
                                  rng: np.random.Generator) -> None:
    rows = clustered(rng, 6000)
    sample, queries = rows[::3] + np.float32(0.01), rows[1::20]
    built(str(tmp_path), rows, metric, 1000, sample=sample)
    cluster = PlainCluster(str(tmp_path))
    cluster.add(rows[:9])
    wanted = getattr(cluster, kind)(queries, 10)
    cluster.asked.clear()
    found = getattr(cluster, kind)(queries, 10, recall=0.9)
    assert recall_of(found.ids, wanted.ids) >= 0.89
    # Of each of six shards less is asked, and all clients ask for the same.
    options = [args[2] for method, args in cluster.asked if method == "search"]
    assert options[0] == {"k": 10} and len(options) > 10
    asked = options[-1]["recall"]
    assert 0.3 <= asked < 0.9
    other = PlainCluster(str(tmp_path))
    assert_same(getattr(other, kind)(queries, 10, recall=0.9), found)
    assert [args[2] for method, args in other.asked] == [{"k": 10, "recall": asked}]
    exact = getattr(other, kind)(queries, 10, recall=1.0)
    assert_same(exact, wanted)
    for refused in (-0.1, 1.5, np.nan):
        with pytest.raises(ValueError, match="recall"):
            getattr(other, kind)(queries, 10, recall=refused)


def test_a_budget_is_shared(tmp_path: Path, rng: np.random.Generator) -> None:
    rows = clustered(rng, 900)
    built(str(tmp_path), rows, "dot", 300)
    cluster = PlainCluster(str(tmp_path))
    cluster.add(rows[:5] * np.float32(9))
    hits = cluster.search_furthest(rows[:9], 20, budget=300)
    assert hits.found.all()
    counts = [shard.stats()["last_search"]["rows_scanned"] for shard in cluster.shards]
    assert all(0 < count <= 9 * (100 + 16) for count in counts[:3])  # in whole panels
    wanted = cluster.search_furthest(rows[:9], 20, budget=9000)
    assert_array_equal(wanted.ids, cluster.search_furthest(rows[:9], 20).ids)
    for options, error in (({"budget": 0}, "budget"), ({"budget": 5, "recall": 0.5}, "at most one"),
                           ({"recall": 2.0}, "recall"), ({"epsilon": -1.0}, "epsilon")):
        with pytest.raises(ValueError, match=error):
            cluster.search_nearest(rows[:2], 3, **options)


def test_shared_tunings(tmp_path: Path, rng: np.random.Generator) -> None:
    rows = clustered(rng, 1500)
    built(str(tmp_path), rows, "dot", 500)
    # Without queries rows of all shards are the sample.
    sample = Storage(str(tmp_path)).read_rows("sample.npy")
    assert len(sample) == 1500 and {bytes(row) for row in sample} == {bytes(row) for row in rows}
    cluster = PlainCluster(str(tmp_path))
    first = cluster.tune(k=5)
    assert first.recalls[-1] == 1.0 and first.asked[-1] == 1.0 and first.sampled == 750
    assert list(first.asked) == sorted(first.asked) and "recall@5" in str(first)
    with pytest.raises(ValueError, match="expected at least one"):
        cluster.tune(rows[:0])
    # Another sample: the table on disk is that of the first, and isn't taken.
    cluster.tune(rows[:40] * np.float32(2), k=7)
    name = tmp_path / "tunings" / "search_furthest-5.json"
    before = json.loads(name.read_text())
    cluster.search_furthest(rows[:3], 5, recall=0.9)
    assert before["sampled"] == 750 and json.loads(name.read_text())["sampled"] == 40
    for damaged in ("{", "[]", json.dumps({**before, "asked": [0.5, float("nan")]}), "null"):
        name.write_text(damaged)
        client = PlainCluster(str(tmp_path))
        client.search_furthest(rows[:3], 5, recall=0.9)
        assert json.loads(name.read_text())["sampled"] == 40
    # What is missing can't be measured, so that the other shards are asked for enough.
    client = PlainCluster(str(tmp_path))
    client.broken = {1}
    with pytest.raises(ShardError, match="shard 1"):
        client.search_furthest(rows[:3], 9, recall=0.9)
    client.asked.clear()
    assert client.search_furthest(rows[:3], 9, recall=0.9, allow_partial=True).missing
    assert client.asked[-1][1][2] == {"k": 9, "recall": 0.9}
    (tmp_path / "sample.npy").unlink()
    client.broken = set()
    with pytest.raises(ValueError, match="built without one"):
        client.tune(k=3)
    assert client.search_furthest(rows[:3], 3, recall=0.9).found.all()


@pytest.mark.parametrize(("recalls", "recall", "asked"), [
    ((0.2, 0.96, 1.0), 0.95, 0.6), ((0.96, 0.94, 1.0), 0.95, 1.0), ((1.0, 1.0, 1.0), 0.95, 0.3),
    ((0.2, 0.951, 1.0), 0.95, 1.0)])
def test_what_is_asked_of_shards(recalls: tuple[float, ...], recall: float, asked: float) -> None:
    assert SharedTuning(10, (0.3, 0.6, 1.0), recalls, 9).asked_for(recall) == asked


def test_what_cannot_be_asked_is_told(tmp_path: Path, rng: np.random.Generator) -> None:
    rows = rng.standard_normal((60, DIM), dtype=np.float32)
    built(str(tmp_path), rows, "cosine", 20)
    cluster = PlainCluster(str(tmp_path))
    whole = cluster.search_furthest(rows[:3], 5, allow_partial=True)
    assert isinstance(whole, Partial) and whole.missing == ()
    cluster.broken = {1}
    asked: tuple[tuple[Callable[..., Any], tuple[Any, ...]], ...] = (
        (cluster.search_furthest, (rows[:3], 30)),
        (lambda *args, **given: cluster.search_beyond(*args, radius=0.5, **given), (rows[:3],)),
        (cluster.score, (rows[:3], [3, 25, 45])))
    for ask, args in asked:
        with pytest.raises(ShardError, match="shard 1 .shards/00001.farann.: gone"):
            ask(*args)
        partial = ask(*args, allow_partial=True)
        assert partial.missing == ("shard 1 (shards/00001.farann)",)
    assert np.isnan(partial.answer[:, 1]).all()
    assert not np.isnan(partial.answer[:, [0, 2]]).any()
    others = one_index(np.delete(rows, range(20, 40), axis=0), "cosine",
                       np.delete(np.arange(60), range(20, 40)))
    partial = cluster.search_furthest(rows[:3], 30, allow_partial=True)
    assert_array_equal(partial.answer.ids, others.search_furthest(rows[:3], 30).ids)
    for call in (lambda: cluster.select_diverse(3), lambda: cluster.search_mmr(rows[:1], 3),
                 lambda: cluster.remove([3]), lambda: cluster.reconstruct([3])):
        with pytest.raises(ShardError, match="shard 1"):
            call()
    cluster.broken = {0, 1, 2}
    with pytest.raises(ShardError, match="shard 0.*shard 1.*shard 2"):
        cluster.search_furthest(rows[0], allow_partial=True)


def test_damaged_files_are_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    rows, uri = rng.standard_normal((40, DIM), dtype=np.float32), str(tmp_path)
    built(uri, rows, "l2", 20)
    path = tmp_path / "shards" / "00001.farann"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    good = path.read_bytes()
    path.write_bytes(bytes(content))
    with pytest.raises(ShardError, match="shard 1 .*changed or damaged"):
        PlainCluster(uri)
    path.unlink()
    with pytest.raises(ShardError, match="shard 1 .*not there"):
        PlainCluster(uri)
    path.write_bytes(good)
    assert PlainCluster(uri).search_furthest(rows[0], 50).found.sum() == 40
    manifest = tmp_path / "manifest.json"
    text = manifest.read_text()
    for bad in ("", "[]", "{}", text.replace('"format": 1', '"format": 2'),
                text.replace('"rows": 40', '"rows": 41'), text.replace('"sha256"', '"sha"')):
        with pytest.raises(farann.FormatError):
            Manifest.from_json(bad.encode(), "here")


@pytest.mark.parametrize("named", [False, True])
def test_damaged_changes_are_refused(named: bool, rng: np.random.Generator) -> None:
    rows, uri = rng.standard_normal((40, DIM), dtype=np.float32), f"memory://changes-{named}"
    names = np.array([f"n{i}" for i in range(42)], object) if named else np.arange(42)
    built(uri, rows, "l2", 20, names[:40])
    shards, cluster, storage = PlainCluster(uri).shards, PlainCluster(uri), Storage(uri)
    cluster.add(rows[:2] + np.float32(9), names[40:])
    cluster.remove(names[[3, 41]])
    wanted = cluster.search_furthest(rows[:3], 45)
    files = [f"changes/{name}" for name in sorted(storage.names("changes"))]
    good = [storage.read(file) for file in files]

    def assert_refused(number: int, content: bytes | None) -> None:
        if content is None:
            MemoryFileSystem().rm(storage.path(files[number]))
        else:
            storage.write(files[number], content)
        for shard in shards[1:]:
            with pytest.raises(ShardError, match=files[number]):
                shard.sync(2)
            assert shard.n_changes == number

    for number, content in enumerate(good):
        for bit in range(8 * len(content)):
            flipped = bytearray(content)
            flipped[bit // 8] ^= 1 << bit % 8
            assert_refused(number, bytes(flipped))
        for bad in (b"", content[:-1], content + b"\0", good[1 - number], None):
            assert_refused(number, bad)
        if number == 0:  # a new client misses a change if there is a later one
            with pytest.raises(ShardError, match=files[number]):
                PlainCluster(uri)
        storage.write(files[number], content)
        for shard in shards:
            shard.sync(number + 1)
    storage.write("changes/notes.txt", b"of somebody else")
    assert_array_equal(PlainCluster(uri).search_furthest(rows[:3], 45).ids, wanted.ids)
    assert np.flatnonzero(sum(shard.holds(names) for shard in shards) == 0).tolist() == [3, 41]


def test_a_remote_file_is_copied_once_and_checked(tmp_path: Path,
                                                  rng: np.random.Generator) -> None:
    uri = "memory://copied"
    record = built(uri, rng.standard_normal((40, DIM), dtype=np.float32), "l2").shards[0]
    storage = Storage(uri)
    for content in (None, b"damaged"):
        if content is not None:
            next(tmp_path.iterdir()).write_bytes(content)
        path = storage.fetch(record.file, record.sha256, "shard 0", tmp_path)
        assert list(tmp_path.iterdir()) == [path] and path.stat().st_size == record.bytes
    with pytest.raises(ShardError, match="shard 0 of memory://copied: .*damaged"):
        storage.fetch(record.file, "0" * 64, "shard 0", tmp_path)
    assert list(tmp_path.iterdir()) == [path]


class FullFileSystem(MemoryFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A disk that is full after so many bytes."""

    protocol, room = "full", 0
    store: ClassVar[dict[str, Any]] = {}

    def _take(self, n: int) -> None:
        if n > FullFileSystem.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        FullFileSystem.room -= n

    def put_file(self, lpath: str, rpath: str, **options: Any) -> None:
        self._take(Path(lpath).stat().st_size)
        super().put_file(lpath, rpath, **options)

    def pipe_file(self, path: str, value: bytes, **options: Any) -> None:
        self._take(len(value))
        super().pipe_file(path, value, **options)


def test_a_full_disk(rng: np.random.Generator) -> None:
    fsspec.register_implementation("full", FullFileSystem, clobber=True)
    rows, uri = rng.standard_normal((60, DIM), dtype=np.float32), "full://index"
    FullFileSystem.room = 25_000
    before = -1
    for _ in range(20):  # each time somebody makes some room
        try:
            built(uri, rows, "l2", 20)
            break
        except OSError as error:
            assert error.errno == errno.ENOSPC and not Storage(uri).exists("manifest.json")
        records = [number for number in range(3)
                   if record_of(Storage(uri), number) is not None]
        assert len(records) >= before
        before = len(records)
        FullFileSystem.room += 10_000
    cluster = PlainCluster(uri)
    FullFileSystem.room = 100
    with pytest.raises(OSError, match="No space left"):
        cluster.add(rows)
    with pytest.raises(OSError, match="No space left"):
        cluster.remove([3])
    assert cluster.search_furthest(rows[0], 90).found.sum() == 60
    FullFileSystem.room = 100_000
    assert cluster.add(rows).tolist() == list(range(60, 120))
    assert PlainCluster(uri).search_furthest(rows[0], 150).found.sum() == 120


SMALL_DISK = """
import errno
import subprocess
import sys
import numpy as np
from shard_cases import PlainCluster, built

rows, uri = np.load(sys.argv[1]), sys.argv[2]

def mount(size, *options):
    subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join([*options, f"size={size}"]), "disk",
                    uri], check=True)

def refused(call, *args):
    try:
        call(*args)
    except OSError as error:
        assert error.errno == errno.ENOSPC, error
    else:
        raise AssertionError("there was room")

mount("40k")
print("mounted", flush=True)
refused(built, uri, rows, "l2", 20)
mount("400k", "remount")
built(uri, rows, "l2", 20)
cluster = PlainCluster(uri)
refused(cluster.add, np.tile(rows, (200, 1)))
for client in (cluster, PlainCluster(uri)):
    assert client.search_furthest(rows[0], 90).found.sum() == 60
mount("4m", "remount")
assert cluster.add(np.tile(rows, (200, 1)))[0] == 60
assert PlainCluster(uri).search_furthest(rows[0], 13_000).found.sum() == 12_060
"""


def test_a_disk_that_is_really_full(tmp_path: Path, rng: np.random.Generator) -> None:
    np.save(tmp_path / "rows.npy", rng.standard_normal((60, DIM), dtype=np.float32))
    (tmp_path / "disk").mkdir()
    paths = os.pathsep.join(filter(None, sys.path))
    for namespace in (["unshare", "-m"], ["unshare", "-r", "-m"]):
        if shutil.which("unshare") is None:
            break
        done = subprocess.run([*namespace, sys.executable, "-c", SMALL_DISK,
                               str(tmp_path / "rows.npy"), str(tmp_path / "disk")],
                              env={**os.environ, "PYTHONPATH": paths}, timeout=300, text=True,
                              capture_output=True)
        if "mounted" in done.stdout:
            assert done.returncode == 0, done.stderr
            return
    pytest.skip("mounts of one's own aren't allowed here: no disk is small enough to be full")


KILLED = """
import os
import sys
import numpy as np
from inside.adapters import Storage, build_shard, to_plan
from functools import partial
from itertools import pairwise

rows, uri = np.load(sys.argv[1]), sys.argv[2]

def blocks(start, stop):
    for at in range(start, stop, 5):
        if at == 45:
            os.kill(os.getpid(), 9)
        yield rows[at : at + 5], None, None

plan = to_plan(len(rows), 20, "l2", "int8", None, (None, None, None), None)
plan.begin(Storage(uri))
for number, bounds in enumerate(pairwise(plan.bounds)):
    build_shard(uri, number, partial(blocks, *bounds), plan, None)
"""


def test_a_killed_build_goes_on(tmp_path: Path, rng: np.random.Generator) -> None:
    rows, uri = rng.standard_normal((60, DIM), dtype=np.float32), str(tmp_path / "index")
    np.save(tmp_path / "rows.npy", rows)
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "rows.npy"), uri],
                          env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}, timeout=300)
    assert done.returncode == -9
    shards = tmp_path / "index" / "shards"
    times = {path.name: path.stat().st_mtime_ns for path in shards.iterdir()}
    assert sorted(times) == [
        f"{shard:05d}.{kind}" for shard in (0, 1) for kind in ("farann", "json", "sample.npy")]
    with pytest.raises(ValueError, match="metric: expected 'l2'"):
        built(uri, rows, "dot", 20)
    with pytest.raises(FileNotFoundError):
        PlainCluster(uri)
    built(uri, rows, "l2", 20)
    assert times.items() <= {path.name: path.stat().st_mtime_ns
                             for path in shards.iterdir()}.items()
    assert_answers(PlainCluster(uri), one_index(rows, "l2"), rows[:4])
    assert "plan.json" in {path.name for path in (tmp_path / "index").iterdir()}
    assert json.loads((tmp_path / "index" / "plan.json").read_text())["rows"] == 60


def test_files_of_a_path_that_machines_share(tmp_path: Path, rng: np.random.Generator) -> None:
    rows, uri = rng.standard_normal((40, DIM), dtype=np.float32), tmp_path / "index"
    built(str(uri), rows, "l2", 20)
    (uri / "changes").mkdir()
    (uri / "changes" / ".of-a-killed-process.part").touch()
    cluster = PlainCluster(str(uri))
    cluster.remove([3])
    assert PlainCluster(str(uri)).search_furthest(rows[0], 50).found.sum() == 39
    (tmp_path / "any").touch()
    assert {path.stat().st_mode for path in uri.rglob("*") if path.is_file()} == {
        (tmp_path / "any").stat().st_mode}


def test_vector_files_cut_anywhere(tmp_path: Path, rng: np.random.Generator) -> None:
    rows = rng.standard_normal((53, DIM), dtype=np.float32)
    files = [str(tmp_path / name) for name in ("a.npy", "b.fvecs", "c.npy")]
    counts = [20, 1, 32]
    for file, part in zip(files, np.split(rows, [20, 21]), strict=True):
        farann.vectors.write_vectors(file, part)
    for first, end in ((0, 53), (0, 20), (19, 22), (20, 21), (21, 53), (50, 51)):
        parts = [part for part, _, _ in blocks_of_files(files, counts, first, end)]
        assert_array_equal(np.concatenate(parts), rows[first:end])


def test_what_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    rows, uri = rng.standard_normal((40, DIM), dtype=np.float32), str(tmp_path / "index")
    with pytest.raises(ValueError, match="at least one row"):
        built(uri, rows[:0], "l2")
    with pytest.raises(ValueError, match="metric"):
        built(uri, rows, "l3")
    bad = rows.copy()
    bad[33, 2] = np.nan
    with pytest.raises(ValueError, match="rows.*NaN"):
        built(uri, bad, "l2", 20)
    built(uri, rows, "l2", 20)  # which goes on
    cluster = PlainCluster(uri)
    mask = np.zeros(40, np.bool_)
    for call, error, words in (
            (lambda: cluster.search_furthest(rows[:2], 0), ValueError, "k"),
            (lambda: cluster.search_furthest(rows[:2, :3], 2), ValueError, "queries"),
            (lambda: cluster.search_furthest(rows[:2], 2, allowed=mask), ValueError, "mask"),
            (lambda: cluster.search_furthest(
                rows[:2], 2, allowed=one_index(rows, "l2").filter(
                    exclude=[1])), ValueError, "Filter"),  # type: ignore[arg-type]
            (lambda: cluster.score(rows[:2], [3, 40]), KeyError, "40"),
            (lambda: cluster.search_mmr(rows[:2], 3), ValueError, "metric"),
            (lambda: cluster.select_diverse(3, start=99), KeyError, "99"),
            (lambda: cluster.select_diverse(3, start=1, allowed=[2]), ValueError, "start"),
            (lambda: cluster.select_diverse(3, start=1, first=[2]), ValueError, "start")):
        with pytest.raises(error, match=words):
            call()
