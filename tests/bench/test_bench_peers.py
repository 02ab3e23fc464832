"""Installed peers on small data: exact ones find all, others nearly all when asked for it."""

from __future__ import annotations

import numpy as np
import pytest
from bench_cases import sample
from numpy.typing import NDArray

from bench import measures
from bench.algorithms import Algorithm, all_algorithms, by_name
from bench.algorithms.base import Profile, Setting
from bench.reduction import METRICS

PEERS = [a for a in all_algorithms() if not a.baseline and a.library != "farann"]
K = 10
# What the largest effort finds; less than .95 where codes of 4 bits (RaBitQ) aren't refined.
FLOORS = {"rabitq-ivf": 0.9}


def recall_of(algorithm: Algorithm, rows: NDArray[np.float32],
              queries: NDArray[np.float32]) -> float:
    """Recall of a batch, after looking that single queries get the same answers."""
    found = np.asarray(algorithm.search(queries), dtype=np.int64)
    assert found.shape == (len(queries), K)
    how = algorithm.metric, algorithm.nearest
    kth = measures.furthest(rows, queries, K, *how)[1][:, -1]
    recall = measures.recall(rows, queries, found, kth, *how)
    one_by_one = np.vstack([algorithm.find_one(query) for query in algorithm.asked(queries)]
                           ).astype(np.int64)
    assert one_by_one.shape == found.shape
    single = measures.recall(rows, queries, one_by_one, kth, *how)
    assert single == pytest.approx(recall, abs=0.02)
    return recall


def settings(peer: type[Algorithm], profile: Profile) -> list[Setting]:
    """Those of a full run, each with the search that looks at most (the last one)."""
    return [Setting(s.build, s.searches[-1:]) for s in peer.sweep(profile)]


@pytest.mark.parametrize("nearest", [False, True], ids=["furthest", "nearest"])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_recall_of_a_peer(peer: type[Algorithm], metric: str, nearest: bool) -> None:
    reason = peer.missing()
    if reason:
        pytest.skip(reason)
    if metric not in (peer.nearest_metrics if nearest else peer.metrics):
        pytest.skip(f"it has no {metric}")
    # An odd dimension, rows away from the origin, and norms that differ.
    rows, queries = sample(30, 3000, 21, offset=0.4), sample(31, 30, 21)
    rows *= np.random.default_rng(32).uniform(0.5, 2, size=(len(rows), 1)).astype(np.float32)
    kept = rows.copy()
    for setting in settings(peer, Profile(len(rows), 21, metric, K, True, nearest)):
        algorithm = peer(metric, K, setting.build, nearest)
        algorithm.set_threads(1)
        algorithm.build(rows)
        np.testing.assert_array_equal(rows, kept)
        algorithm.configure(setting.searches[0])
        found = recall_of(algorithm, rows, queries)
        if algorithm.claims_exact(setting.searches[0]):
            assert found == 1.0, setting
        else:
            assert found >= FLOORS.get(peer.name, 0.95), setting


@pytest.mark.parametrize("metric", METRICS)
def test_panorama_rotates_and_does_not_center(metric: str) -> None:
    peer = by_name("faiss-panorama")
    if peer.missing():
        pytest.skip("faiss is not installed")
    import faiss

    # Far from the origin and anisotropic: the PCA of faiss's factory moves such rows.
    rows, queries = sample(33, 2000, 15, offset=3.0), sample(34, 20, 15, offset=1.0)
    rows[:, 0] *= 5
    kth = measures.furthest(rows, queries, K, metric)[1][:, -1]
    ours = peer(metric, K, {"levels": 4})
    ours.set_threads(1)
    ours.build(rows)
    assert measures.recall(rows, queries, np.asarray(ours.search(queries)), kth, metric) == 1.0
    if metric == "dot":
        centered = faiss.index_factory(15, "PCA15,FlatIPPanorama4", faiss.METRIC_INNER_PRODUCT)
        centered.train(rows)
        centered.add(rows)
        ids = centered.search(-queries, K)[1]
        assert measures.recall(rows, queries, ids, kth, metric) < 0.9
