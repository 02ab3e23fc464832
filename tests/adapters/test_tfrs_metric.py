"""FactorizedBottomK against a count by numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow_recommenders as tfrs
from reference import METRICS
from test_tfrs_layers import LAYERS, NAMES, QUERIES, ROWS, filled, truth
from tfrs_cases import tf

from farann.adapters.tfrs import BruteForceFurthest, FactorizedBottomK, StreamingFurthest

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

KS = (1, 5, 20, 60)
WANTED = np.array([3, 80, 14, 2, 60, 5, 41, 33])  # the true candidate of each query
WEIGHTS = np.linspace(0.5, 2.0, 8, dtype=np.float32)


def expected(metric: str = "dot", weights: Any = None) -> list[float]:
    scores = truth(metric)
    rank = (scores > scores[np.arange(8), WANTED][:, None]).sum(axis=1)
    return [float(np.average(rank < k, weights=weights)) for k in KS]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("layer_class", LAYERS)
@pytest.mark.parametrize("with_ids", [True, False])
def test_counts(layer_class: Any, metric: str, with_ids: bool) -> None:
    layer = filled(layer_class(metric=metric), ids=NAMES)
    bottom_k = FactorizedBottomK(layer, ks=KS)
    ids = NAMES[WANTED] if with_ids else None
    for _ in range(2):
        bottom_k.update_state(QUERIES, ROWS[WANTED], ids)
        np.testing.assert_allclose(bottom_k.result(), expected(metric))
    bottom_k.reset_states()
    bottom_k.update_state(QUERIES, ROWS[WANTED], ids, sample_weight=WEIGHTS[:, None])
    np.testing.assert_allclose(bottom_k.result(), expected(metric, WEIGHTS), rtol=1e-6)


def test_the_case_has_something_to_count() -> None:
    for metric in METRICS:
        assert len(set(expected(metric))) > 2


def test_the_true_candidate_itself_at_the_border() -> None:
    # The layer's product and that of the pair are summed in another order.
    rng = np.random.default_rng(5)
    rows = rng.standard_normal((400, 301), dtype=np.float32) * np.float32(100)
    queries = rng.standard_normal((400, 301), dtype=np.float32)
    layer = BruteForceFurthest(k=7).index(rows)
    seventh = layer(queries)[1].numpy()[:, 6]
    bottom_k = FactorizedBottomK(layer, ks=(6, 7))
    bottom_k.update_state(queries, rows[seventh])
    sixth, seventh_share = bottom_k.result()
    assert seventh_share == 1.0 and sixth < 0.01  # scores closer than rounding count as equal


@pytest.mark.parametrize("with_ids", [True, False])
def test_more_than_there_are(with_ids: bool) -> None:
    bottom_k = FactorizedBottomK(BruteForceFurthest().index(ROWS), ks=[200])
    bottom_k.update_state(QUERIES, ROWS[WANTED], WANTED.astype(np.int64) if with_ids else None)
    assert bottom_k.result() == [1.0]
    bottom_k.reset_states()
    bottom_k.update_state(QUERIES, ROWS[WANTED], np.full(8, -1))
    assert bottom_k.result() == [0.0]  # the padding is no candidate


def test_of_a_dataset() -> None:
    bottom_k = FactorizedBottomK(tf.data.Dataset.from_tensor_slices(ROWS).batch(16), ks=KS)
    bottom_k.update_state(QUERIES, ROWS[WANTED])
    np.testing.assert_allclose(bottom_k.result(), expected())


def test_factorized_top_k_is_wrong_by_scores_and_right_by_ids() -> None:
    layer = BruteForceFurthest().index(ROWS)
    ids = layer(QUERIES, k=1)[1][:, 0]
    for metric, true_ids, share in ((FactorizedBottomK(layer, ks=[1]), None, 1.0),
                                    (tfrs.metrics.FactorizedTopK(layer, ks=[1]), None, 0.0),
                                    (tfrs.metrics.FactorizedTopK(layer, ks=[1]), ids, 1.0)):
        metric.update_state(QUERIES, ROWS[ids.numpy()], true_ids)
        assert metric.result() == [share]


def test_in_a_task() -> None:
    layer = filled(StreamingFurthest())
    task = tfrs.tasks.Retrieval(metrics=FactorizedBottomK(layer, ks=KS))
    step = tf.function(lambda: task(tf.constant(QUERIES), tf.constant(ROWS[WANTED])))
    step()
    np.testing.assert_allclose([m.result() for m in task.factorized_metrics[0].metrics],
                               expected(), rtol=1e-6)
    assert task.factorized_metrics[0].metrics[0].name == (
        "factorized_bottom_k/bottom_1_categorical_accuracy")


def test_bad_arguments() -> None:
    with pytest.raises(TypeError, match="candidates: expected a furthest layer"):
        FactorizedBottomK(tfrs.layers.factorized_top_k.BruteForce().index(ROWS))
    with pytest.raises(ValueError, match="ks: expected 1 or more"):
        FactorizedBottomK(filled(BruteForceFurthest()), ks=[0])
    with pytest.raises(ValueError, match="ks: expected one number or more"):
        FactorizedBottomK(filled(BruteForceFurthest()), ks=[])
    bottom_k = FactorizedBottomK(filled(BruteForceFurthest()), ks=[1])
    with pytest.raises(TypeError, match="true_candidate_ids: expected identifiers of type int32"):
        bottom_k.update_state(QUERIES, ROWS[WANTED], NAMES[WANTED])
