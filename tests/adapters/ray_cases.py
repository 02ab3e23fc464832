"""What `test_ray.py` runs where only the loopback device is there."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import inside
import numpy as np
import pytest
import ray
import ray.data
from cases import Float32, assert_same
from numpy.testing import assert_array_equal
from ray.cluster_utils import Cluster as Nodes
from shard_cases import DIM, assert_answers, assert_pairs, assert_selections, hostile

import farann
from farann.adapters.ray import Cluster, ShardError, build

N = 900
ARGS = {"num_cpus": 0.1}


def add_node(nodes: Nodes) -> Any:
    """Start one more node. On a busy machine it may take longer than Ray waits for it."""
    for tries_left in (2, 1, 0):
        try:
            return nodes.add_node(num_cpus=2, include_dashboard=False,
                                  node_ip_address="127.0.0.1", object_store_memory=100_000_000)
        except Exception as error:
            if tries_left == 0 or "timed out" not in str(error):
                raise
    raise AssertionError


@pytest.fixture(scope="session")
def nodes() -> Iterator[Nodes]:
    """A head and another node, each with workers of its own."""
    made = Nodes()
    add_node(made)
    ray.init(address=made.address, log_to_driver=False)
    add_node(made)
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture(scope="session")
def rows() -> Float32:
    return hostile(np.random.default_rng(3), N, "cosine")


@pytest.fixture(scope="session")
def one(rows: Float32) -> farann.Index:
    index = farann.Index(DIM, "cosine")
    index.add(rows)
    return index


@pytest.fixture(scope="session")
def queries(rows: Float32) -> Float32:
    rng = np.random.default_rng(4)
    return np.concatenate([rows[7:8], rng.standard_normal((40, DIM), dtype=np.float32)])


@pytest.fixture(scope="session")
def uri(nodes: Nodes, rows: Float32, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("built")
    files = [folder / name for name in ("a.npy", "b.npy")]
    for file, part in zip(files, np.split(rows, [N // 3]), strict=True):
        np.save(file, part)
    where = str(folder / "index")
    manifest = build(files, uri=where, rows_per_shard=450, metric="cosine", ray_remote_args=ARGS)
    assert [shard.rows for shard in manifest.shards] == [450, 450]
    assert build(files, uri=where, rows_per_shard=450, metric="cosine") == manifest
    with pytest.raises(ValueError, match="metric: expected 'cosine'"):
        build(files, uri=where, rows_per_shard=450, metric="dot")
    return where


@pytest.fixture(scope="session")
def cluster(uri: str) -> Iterator[Cluster]:
    with Cluster(uri, ray_remote_args=ARGS) as made:
        yield made


def test_answers_are_those_of_one_index(uri: str, cluster: Cluster, one: farann.Index,
                                        queries: Float32) -> None:
    assert_answers(cluster, one, queries)
    assert_selections(cluster, one, queries[:5])
    assert_pairs(cluster, one)
    many = np.tile(queries, (60, 1))  # by the object store
    assert_same(cluster.search_furthest(many, 5), one.search_furthest(many, 5))
    cluster.tune(queries)
    assert_array_equal(inside.adapters.Storage(uri).read_rows("sample.npy"), queries)
    found = cluster.search_furthest(queries, 5, recall=0.8).ids
    assert np.mean([np.isin(a, b).mean() for a, b in zip(
        one.search_furthest(queries, 5).ids, found, strict=True)]) >= 0.8
    stats = cluster.stats()
    assert stats["rows"] == N and len(stats["shards"]) == 3 and stats["replicas"] == 1
    options: tuple[dict[str, Any], ...] = ({"epsilon": -1.0}, {"exclude": ["x"]})
    for bad in options:
        with pytest.raises((ValueError, TypeError)) as error:
            cluster.search_furthest(queries, 3, **bad)
        assert not isinstance(error.value, ray.exceptions.RayError)


def test_an_id_in_two_shards_is_refused(nodes: Nodes, rows: Float32, tmp_path: Path) -> None:
    ids = np.arange(100) * 7
    ids[90] = ids[5]
    for named in False, True:
        table = ray.data.from_items([{"item": f"n{id}" if named else int(id), "vector": row}
                                     for id, row in zip(ids, rows[:100], strict=True)])
        with pytest.raises(ValueError, match="expected each id once, got '?n?35'? in shard 0 "):
            build(table, "vector", id_column="item", uri=tmp_path / f"{named}", rows_per_shard=50)
        assert not (tmp_path / f"{named}" / "manifest.json").exists()


def test_memory_of_this_process(rows: Float32, one: farann.Index, queries: Float32,
                                tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", rows)
    uri = "memory://here"
    manifest = build([tmp_path / "rows.npy"], uri=uri, rows_per_shard=300, metric="cosine")
    assert len(manifest.shards) == 3
    with Cluster(uri, replicas=2) as cluster:
        assert_answers(cluster, one, queries)
        assert_selections(cluster, one, queries[:3])
        ids = cluster.add(rows[:2] + np.float32(1))
        cluster.remove(ids)
        assert cluster.stats()["rows"] == N and ids.tolist() == [N, N + 1]
        with pytest.raises(TypeError, match="by the process that built it"):
            pickle.dumps(cluster)


def test_more_shards_than_cpus(uri: str, nodes: Nodes, rows: Float32, one: farann.Index,
                               queries: Float32, tmp_path: Path) -> None:
    where = tmp_path / "index"
    np.save(tmp_path / "rows.npy", rows)
    assert sum(node["Resources"]["CPU"] for node in ray.nodes() if node["Alive"]) == 4
    with pytest.raises(ShardError, match="1 workers of 3 CPUs each need 3 CPUs.*smaller num_cpus"):
        build([tmp_path / "rows.npy"], uri=where, ray_remote_args={"num_cpus": 3})
    assert len(build([tmp_path / "rows.npy"], uri=where, rows_per_shard=180,
                     metric="cosine").shards) == 5
    with Cluster(where) as cluster:  # six workers
        assert_same(cluster.search_furthest(queries, 9), one.search_furthest(queries, 9))
    for options, words in (({"num_cpus": 1}, "6 workers of 1 CPUs each need 6 CPUs"),
                           ({"num_cpus": 0.8}, "room for 4 of these.*smaller num_cpus")):
        with pytest.raises(ShardError, match=words):
            Cluster(where, ray_remote_args=options)


def test_two_clients_at_once(cluster: Cluster, one: farann.Index, queries: Float32) -> None:
    wanted = one.search_furthest(queries, 9)
    failed: list[BaseException] = []

    def ask(client: Cluster) -> None:
        try:
            for _ in range(10):
                assert_same(client.search_furthest(queries, 9), wanted)
        except BaseException as error:
            failed.append(error)

    @ray.remote(num_cpus=0.1)
    def ask_elsewhere(client: Cluster) -> Any:
        return [client.search_furthest(queries, 9) for _ in range(10)]

    elsewhere = ask_elsewhere.remote(cluster)
    threads = [threading.Thread(target=ask, args=(client,))
               for client in (cluster, pickle.loads(pickle.dumps(cluster)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed
    for hits in ray.get(elsewhere):
        assert_same(hits, wanted)


def test_killed_in_the_middle_of_a_search(cluster: Cluster, one: farann.Index,
                                          queries: Float32) -> None:
    many = np.tile(queries, (300, 1))
    wanted = one.search_furthest(many, 60)
    before = [shard["pid"] for shard in cluster.stats()["shards"]]
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(cluster.search_furthest(many, 60)))
    thread.start()
    time.sleep(0.05)
    os.kill(before[0], signal.SIGKILL)
    thread.join()
    assert_same(answers[0], wanted)  # the whole answer, from the worker that was started again
    after = [shard["pid"] for shard in cluster.stats()["shards"]]
    assert after[0] != before[0] and after[1:] == before[1:]


def test_rows_that_come_and_go_outlive_their_worker(
        uri: str, rows: Float32, queries: Float32, tmp_path: Path) -> None:
    source = Path(uri)
    copy = tmp_path / "index"
    copy.mkdir()
    for path in source.rglob("*"):
        if path.is_file():
            (copy / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            (copy / path.relative_to(source)).write_bytes(path.read_bytes())
    index = farann.Index(DIM, "cosine")
    index.add(rows)
    with Cluster(copy, ray_remote_args=ARGS) as cluster:
        assert_array_equal(cluster.add(rows[:50]), index.add(rows[:50]))
        cluster.remove([1, 899, 905])
        index.remove([1, 899, 905])
        assert_answers(cluster, index, queries)
        os.kill(cluster.stats()["shards"][-1]["pid"], signal.SIGKILL)
        os.kill(cluster.stats()["shards"][0]["pid"], signal.SIGKILL)
        assert_answers(cluster, index, queries)
        # A file that is no longer what the manifest says is refused by the worker that loads it.
        path = copy / "shards" / "00001.farann"
        path.write_bytes(path.read_bytes()[::-1])
        os.kill(cluster.stats()["shards"][1]["pid"], signal.SIGKILL)
        with pytest.raises(ShardError, match="shard 1 .*changed or damaged"):
            cluster.search_furthest(queries, 5)
        partial = cluster.search_furthest(queries, 5, allow_partial=True)
        assert partial.missing == ("shard 1 (shards/00001.farann)",)


def test_a_node_that_dies(nodes: Nodes, uri: str, one: farann.Index, queries: Float32) -> None:
    node = add_node(nodes)
    with Cluster(uri, replicas=2, ray_remote_args=ARGS) as cluster:
        wanted = one.search_furthest(queries, 9)
        assert_same(cluster.search_furthest(queries, 9), wanted)
        nodes.remove_node(node, allow_graceful=False)
        for _ in range(4):
            assert_same(cluster.search_furthest(queries, 9), wanted)


def test_a_build_whose_worker_is_killed(uri: str, rows: Float32, tmp_path: Path) -> None:
    where, mark = str(tmp_path / "index"), tmp_path / "killed"
    plan = inside.adapters.to_plan(N, 450, "cosine", "int8", None, (None, None, None), None)
    plan.begin(inside.adapters.Storage(where))

    @ray.remote(num_cpus=0.1)
    def build_one(number: int, first: int, end: int) -> Any:
        def blocks() -> Iterator[Any]:
            for start in range(first, end, 50):
                if start == 700 and not mark.exists():
                    mark.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                yield rows[start : start + 50], None, None

        return inside.adapters.build_shard(where, number, blocks, plan, None)

    records = ray.get([build_one.remote(number, *bounds)
                       for number, bounds in enumerate(pairwise(plan.bounds))])
    assert mark.exists()
    manifest = inside.adapters.finish(where, plan, records, None)
    wanted = [(path / "shards" / "00001.farann").read_bytes()
              for path in (Path(where), Path(uri))]
    assert manifest.rows == N and wanted[0] == wanted[1]


def test_data_sets(nodes: Nodes, cluster: Cluster, rows: Float32, one: farann.Index,
                   queries: Float32, tmp_path: Path) -> None:
    import pyarrow

    ids = np.arange(5000, 5000 + N)[::-1].copy()
    table = pyarrow.table({"v": pyarrow.array(rows.tolist(), pyarrow.list_(pyarrow.float32())),
                           "item": ids, "class": ids % 5, "name": [f"n{id}" for id in ids]})
    manifest = build(ray.data.from_arrow(table), "v", id_column="item", group_column="class",
                     metric="cosine", uri=tmp_path / "index", rows_per_shard=600,
                     ray_remote_args=ARGS)
    assert [(shard.rows, shard.first_id, shard.last_id) for shard in manifest.shards] == [
        (450, 5450, 5899), (450, 5000, 5449)]
    same = farann.Index(DIM, "cosine")
    same.add(rows, ids, groups=ids % 5)
    with Cluster(tmp_path / "index", ray_remote_args=ARGS) as other:
        assert_same(other.search_nearest(queries, 9, outside_groups=np.arange(len(queries)) % 5),
                    same.search_nearest(queries, 9, outside_groups=np.arange(len(queries)) % 5))
        assert_same(other.select_diverse(per_group=3), same.select_diverse(per_group=3))
        assert_same(other.search_furthest(queries, 20), same.search_furthest(queries, 20))
    asked = ray.data.from_items(
        [{"q": query, "n": i} for i, query in enumerate(queries)])
    build(ray.data.from_arrow(table), "v", id_column="name", metric="cosine",
          uri=tmp_path / "named", ray_remote_args=ARGS)
    with Cluster(tmp_path / "named", ray_remote_args=ARGS) as other:
        named = farann.Index(DIM, "cosine")
        named.add(rows, table["name"])
        assert_same(other.select_diverse(3, start="n5007"), named.select_diverse(3, start="n5007"))
        wanted = named.search_furthest(queries, N + 1)
        for row in other.map_batches(asked, "q", N + 1, batch_size=16).take_all():
            assert list(row["ids"]) == wanted.ids[row["n"]].tolist()
    found = cluster.map_batches(asked, "q", 7, batch_size=16).take_all()
    found.sort(key=lambda row: row["n"])
    wanted = one.search_furthest(queries, 7)
    assert_array_equal([row["ids"] for row in found], wanted.ids)
    assert_array_equal([row["scores"] for row in found], wanted.scores)


def test_the_example_of_serve(nodes: Nodes, tmp_path: Path,
                              capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("starlette", reason="needs ray[serve]")
    import ray_serve  # type: ignore[import-not-found]

    ray_serve.main(str(tmp_path), port=8123)
    rows = np.load(tmp_path / "rows.npy")
    index = farann.Index()
    index.add(rows)
    wanted = [f"furthest from row {row}: {index.search_furthest(rows[row], 3).ids.tolist()}"
              for row in range(3)]
    printed = [line for line in capsys.readouterr().out.splitlines() if "(raylet)" not in line]
    assert printed == [
        "20,000 rows in 2 shards", "health: {'rows': 20000, 'shards': 3}", *wanted]
