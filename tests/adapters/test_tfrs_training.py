"""Losses of training against their definitions, and what the examples draw."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_recommenders as tfrs
import training_oracle as oracle
from tfrs_cases import tf

from farann.adapters.tfrs import BruteForceFurthest, FactorizedBottomK, Furthest
from farann.adapters.training import (
    logistic_losses,
    relative_log_q,
    retrieval_loss,
    tensorflow_operations,
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


OPS = tensorflow_operations()


@pytest.mark.parametrize("name", oracle.CASES)
def test_loss_and_gradient(name: str) -> None:
    case = oracle.CASES[name]
    variables = {each: tf.Variable(case[each]) for each in oracle.DERIVED if each in case}
    with tf.GradientTape() as tape:
        loss = retrieval_loss(OPS, **{**case, **variables})
    assert loss.dtype == tf.float64
    np.testing.assert_allclose(loss, oracle.loss(**case), rtol=1e-9)
    expected = oracle.gradients(case)
    for each, gradient in tape.gradient(loss, variables).items():
        np.testing.assert_allclose(gradient, expected[each], rtol=1e-5, atol=1e-6)
    narrow = {each: part.astype(np.float32) if getattr(part, "dtype", None) == np.float64 else part
              for each, part in case.items()}
    single = retrieval_loss(OPS, **narrow)
    assert single.dtype == tf.float32
    np.testing.assert_allclose(single, oracle.loss(**case), rtol=1e-4)


def test_logistic_losses() -> None:
    scores, labels = np.array([0.0, 3.0, -50.0]), np.array([False, True, True])
    np.testing.assert_allclose(logistic_losses(OPS, tf.constant(scores), labels),
                               np.log1p(np.exp(np.where(labels, -scores, scores))))


def test_as_tfrs_has_it() -> None:
    ids = oracle.BATCH["candidate_ids"].astype(str)
    queries, candidates = (oracle.BATCH[name].astype(np.float32)
                           for name in ("query_embeddings", "candidate_embeddings"))
    chance = np.linspace(0.01, 0.3, oracle.M, dtype=np.float32)
    theirs = tfrs.tasks.Retrieval(remove_accidental_hits=True, temperature=0.5)
    weight = oracle.BATCH["sample_weight"]
    np.testing.assert_allclose(
        retrieval_loss(OPS, queries, candidates, weight, candidate_ids=ids, log_q=np.log(chance),
                       temperature=0.5),
        theirs(queries, candidates, candidate_ids=ids, candidate_sampling_probability=chance,
               sample_weight=weight), rtol=1e-5)


def test_shapes_known_late() -> None:
    case = oracle.some("labels", "negative_ids")
    traces: list[None] = []
    names = ["query_embeddings", "candidate_embeddings", "candidate_ids", "log_q", "sample_weight",
             "negative_embeddings", "negative_weight"]

    def loss(*given: Any) -> Any:
        traces.append(None)
        return retrieval_loss(OPS, **dict(zip(names, given, strict=True)))

    spec = tf.TensorSpec
    compiled = tf.function(loss, input_signature=[
        spec([None, None], tf.float64), spec([None, oracle.DIM], tf.float64),
        spec([None], tf.string), spec([None], tf.float64), spec(None, tf.float64),
        spec([None, None, oracle.DIM], tf.float64), spec([None, None], tf.float64)])
    case["candidate_ids"] = case["candidate_ids"].astype(str)
    np.testing.assert_allclose(compiled(*(case[name] for name in names)), oracle.loss(**case),
                               rtol=1e-9)
    few = {name: part[:4] for name, part in case.items()}  # as the last batch of a data set
    np.testing.assert_allclose(compiled(*(few[name] for name in names)), oracle.loss(**few),
                               rtol=1e-9)
    assert len(traces) == 1


def test_one_row_alone() -> None:
    one = tf.ones((1, 3))
    for liked in (True, False):
        with tf.GradientTape() as tape:
            tape.watch(one)
            loss = retrieval_loss(OPS, one, one, labels=[liked])
        assert loss == 0.0 and (tape.gradient(loss, one).numpy() == 0).all()
    half = tf.cast(oracle.BATCH["query_embeddings"], tf.float16)
    assert retrieval_loss(OPS, half, half).dtype == tf.float32


def test_bad_training() -> None:
    rows = np.ones((3, 2), np.float32)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"candidate_embeddings": rows[:2]}, "candidate_embeddings: expected one a query or more"),
        ({"candidate_embeddings": rows[:, :1]}, r"candidate_embeddings: expected shape \(any, 2"),
        ({"candidate_ids": ["a"]}, r"candidate_ids: expected shape \(3\)"),
        ({"negative_weight": rows}, "negative_embeddings: expected with"),
    ]
    for given, text in cases:
        with pytest.raises(ValueError, match=text):
            retrieval_loss(OPS, **{"query_embeddings": rows, "candidate_embeddings": rows, **given})
    with pytest.raises(ValueError, match="temperature: expected a number above 0"):
        retrieval_loss(OPS, rows, rows, temperature=0)
    with pytest.raises(ValueError, match="dislike_weight: expected"):
        retrieval_loss(OPS, rows, rows, dislike_weight=-1)


def test_how_often_items_are_drawn() -> None:
    """Against counts: four rows a batch of a log, and two uniform draws of three items."""
    rng = np.random.default_rng(0)
    share = np.array([0.5, 0.3, 0.2])
    drawn = [*rng.choice(3, 40_000, p=share), *rng.integers(0, 3, 20_000)]
    found = relative_log_q(np, share * 3, batch=4, uniform=2)
    np.testing.assert_allclose(np.exp(found), np.bincount(drawn) / 60_000 * 3, rtol=0.02)


def test_ids_of_further_negatives_and_ragged_exclusions() -> None:
    rows = np.eye(3, dtype=np.float32)
    layer = BruteForceFurthest(k=2).index(rows, tf.constant(list("abc")))
    metric = FactorizedBottomK(layer, ks=[2])
    metric.update_state(rows[:2], rows[[1, 2]], ["b", "c", "a", "b"])  # as TFRS's task gives them
    assert metric.result() == [1.0]  # b and c for the first query, a and c for the second
    metric.update_state(rows[:2], rows[[1, 2]], tf.constant([["a"], ["b"]]))
    assert metric.result() == [0.5]
    with pytest.raises(ValueError, match="true_candidate_ids: expected 2 or more, one a query"):
        metric.update_state(rows[:2], rows[:2], ["b"])
    ragged = tf.ragged.constant([["a", "b"], [], ["c"]])
    for which in (layer, Furthest(k=2).index(rows, tf.constant(list("abc")))):
        found = which.query_with_exclusions(rows, ragged)[1].numpy().tolist()
        assert found == [[b"c", b""], [b"a", b"c"], [b"a", b"b"]]


# ---- what the examples draw ----

FILMS = {"id": np.array([f"film {i}" for i in range(5)]),
         "price": np.array([1.5, 2.5, 3.5, 4.5, 5.5], np.float32)}


@pytest.mark.parametrize("named", [True, False])
def test_mixed_negatives_of_the_examples(named: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "examples"))
    mixed_negatives = import_module("towers").MixedNegatives
    tf.random.set_seed(1)
    log = np.repeat(FILMS["id"][[0, 1, 2]], [6, 3, 1])
    batch: dict[str, Any] = {"id": np.array(["film 1", "film 0", "film 4"]),
                             "price": np.array([2.5, 1.5, 5.5], np.float32)}
    mixed = mixed_negatives(FILMS if named else FILMS["id"], log, "id" if named else None, 4000)
    candidates, ids, log_q = mixed(batch if named else batch["id"])
    assert ids[:3].numpy().astype(str).tolist() == batch["id"].tolist() and len(ids) == 4003
    places = np.searchsorted(FILMS["id"], ids.numpy().astype(str))
    np.testing.assert_allclose(np.bincount(places[3:], minlength=5) / 4000, 0.2, atol=0.03)
    if named:
        assert set(candidates) == {"id", "price"}
        assert (candidates["price"].numpy()[3:] == FILMS["price"][places[3:]]).all()
    # What never comes counts as coming once.
    chance = (3 * np.array([6, 3, 1, 1, 1])[places] / 10 + 4000 / 5) / 4003
    np.testing.assert_allclose(log_q, np.log(chance * 5), atol=1e-6)
