"""Training: the loss against its definition, draws, and models of a log."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow_recommenders as tfrs
import training_oracle as oracle
from tfrs_cases import tf

from farann import metrics
from farann.adapters.tfrs import (
    BruteForceFurthest,
    BruteForcePosNeg,
    FactorizedBottomK,
    Furthest,
    MixedNegatives,
    PosNeg,
    PosNegTopK,
    PosNegTowers,
    RetrievalTask,
    SignedTowers,
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def task_of(case: dict[str, Any]) -> tuple[RetrievalTask, dict[str, Any]]:
    """The task of a case, and what it is called with."""
    given = dict(case)
    options = {name: given.pop(name) for name in ("temperature", "dislike_weight") if name in given}
    return RetrievalTask(**options), given


@pytest.mark.parametrize("name", oracle.CASES)
def test_loss_and_gradient(name: str) -> None:
    case = oracle.CASES[name]
    task, given = task_of(case)
    variables = {each: tf.Variable(given[each]) for each in oracle.DERIVED if each in given}
    with tf.GradientTape() as tape:
        loss = task(**{**given, **variables})
    assert loss.dtype == tf.float64
    np.testing.assert_allclose(loss, oracle.loss(**case), rtol=1e-9)
    expected = oracle.gradients(case)
    for each, gradient in tape.gradient(loss, variables).items():
        np.testing.assert_allclose(gradient, expected[each], rtol=1e-5, atol=1e-6)
    single = task(**{each: part.astype(np.float32) if part.dtype == np.float64 else part
                     for each, part in given.items()})
    assert single.dtype == tf.float32
    np.testing.assert_allclose(single, oracle.loss(**case), rtol=1e-4)


def test_as_tfrs_has_it() -> None:
    ids = oracle.BATCH["candidate_ids"].astype(str)
    rows = [oracle.BATCH[name].astype(np.float32) for name in ("query_embeddings",
                                                               "candidate_embeddings")]
    chance = np.linspace(0.01, 0.3, oracle.M, dtype=np.float32)
    given = {"candidate_ids": ids, "candidate_sampling_probability": chance,
             "sample_weight": oracle.BATCH["sample_weight"]}
    theirs = tfrs.tasks.Retrieval(remove_accidental_hits=True, temperature=0.5)
    np.testing.assert_allclose(RetrievalTask(temperature=0.5)(*rows, **given),
                               theirs(*rows, **given), rtol=1e-5)


def test_shapes_known_late_and_ragged() -> None:
    case = oracle.some("labels", "negative_weight", "negative_ids")
    lengths = [2, 0, 3, 1, 0, 2]
    ragged = tf.RaggedTensor.from_tensor(case["negative_embeddings"], lengths)
    weight = np.arange(oracle.H) < np.array(lengths)[:, None]
    expected = oracle.loss(**{**case, "negative_weight": weight.astype(float)})
    task = RetrievalTask()
    traces: list[None] = []

    def loss(queries: Any, candidates: Any, ids: Any, log_q: Any, weights: Any, ragged: Any) -> Any:
        traces.append(None)
        return task(queries, candidates, weights, candidate_ids=ids, log_q=log_q,
                    negative_embeddings=ragged)

    spec = tf.TensorSpec
    compiled = tf.function(loss, input_signature=[
        spec([None, None], tf.float64), spec([None, oracle.DIM], tf.float64),
        spec([None], tf.string), spec([None], tf.float64), spec([None], tf.float64),
        tf.RaggedTensorSpec([None, None, oracle.DIM], tf.float64, 1)])
    ids = case["candidate_ids"].astype(str)
    given = (case["query_embeddings"], case["candidate_embeddings"], ids, case["log_q"],
             case["sample_weight"], ragged)
    np.testing.assert_allclose(compiled(*given), expected, rtol=1e-9)
    part = [each[:4] for each in given]  # the last batch of a data set is smaller
    few = {**case, **dict(zip(("query_embeddings", "candidate_embeddings", "candidate_ids",
                               "log_q", "sample_weight"), part[:5], strict=True))}
    few |= {"negative_embeddings": case["negative_embeddings"][:4],
            "negative_weight": weight[:4].astype(float)}
    np.testing.assert_allclose(compiled(*part), oracle.loss(**few), rtol=1e-9)
    assert len(traces) == 1
    np.testing.assert_allclose(loss(*given), expected, rtol=1e-9)


def test_one_row_alone() -> None:
    one = tf.ones((1, 3))
    for liked in (True, False):
        with tf.GradientTape() as tape:
            tape.watch(one)
            loss = RetrievalTask()(one, one, labels=[liked])
        assert loss == 0.0 and (tape.gradient(loss, one).numpy() == 0).all()
    half = tf.cast(oracle.BATCH["query_embeddings"], tf.float16)
    assert RetrievalTask()(half, tf.cast(half, tf.float16)).dtype == tf.float32


def test_metrics_count_likes() -> None:
    films = np.eye(4, dtype=np.float32)
    top = tfrs.metrics.FactorizedTopK(
        tfrs.layers.factorized_top_k.BruteForce().index(films, tf.constant(list("abcd"))), ks=[1])
    accuracy = tf.keras.metrics.CategoricalAccuracy()
    total = tf.keras.metrics.Mean()
    task = RetrievalTask(top, [accuracy], [total])
    queries, rows = films[[0, 1, 2]], films[[0, 3, 3, 1]]
    loss = task(queries, rows, candidate_ids=["a", "d", "d", "b"], labels=[1, 0, 1])
    assert top.result() == [0.5] and accuracy.result() == 0.5  # of rows 0 and 2
    assert total.result() == loss
    again = RetrievalTask.from_config(task.get_config())
    np.testing.assert_allclose(again(queries, rows, candidate_ids=["a", "d", "d", "b"],
                                     labels=[1, 0, 1]), loss)


def test_bad_training() -> None:
    rows = np.ones((3, 2), np.float32)
    for given, text in (
        ({"candidate_embeddings": rows[:2]}, "candidate_embeddings: expected one a query or more"),
        ({"candidate_embeddings": rows[:, :1]}, r"candidate_embeddings: expected shape \(any, 2"),
        ({"candidate_ids": ["a"]}, r"candidate_ids: expected shape \(3\)"),
        ({"negative_weight": rows}, "negative_embeddings: expected with"),
        ({"log_q": rows[:, 0], "candidate_sampling_probability": rows[:, 0]}, "got both"),
    ):
        with pytest.raises(ValueError, match=text):
            RetrievalTask()(**{"query_embeddings": rows, "candidate_embeddings": rows, **given})
    with pytest.raises(ValueError, match="temperature: expected a number above 0"):
        RetrievalTask(temperature=0)
    with pytest.raises(ValueError, match="reduction: expected one of"):
        RetrievalTask(reduction="none")


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


# ---- drawing ----

FILMS = {"id": np.array([f"film {i}" for i in range(5)]),
         "price": np.arange(5, dtype=np.float64) + 0.5}


@pytest.mark.parametrize("named", [True, False])
def test_mixed_negatives(named: bool) -> None:
    log = FILMS["id"][[0] * 6 + [1] * 3 + [2]].tolist() + ["unlisted"] * 10
    catalogue = FILMS if named else FILMS["id"]
    mixed = MixedNegatives(catalogue, log, id="id" if named else None, uniform=4000, seed=1)
    batch = {"id": tf.constant(["film 1", "unlisted", "never seen"]), "more": tf.zeros(3),
             "price": tf.constant([1.5, 0, 0])}
    drawn = tf.function(mixed)(batch if named else batch["id"])
    ids = drawn.ids.numpy()
    assert ids[:3].tolist() == [b"film 1", b"unlisted", b"never seen"] and len(ids) == 4003
    places = np.searchsorted(FILMS["id"], np.char.decode(ids[3:].astype("S")))
    np.testing.assert_allclose(np.bincount(places, minlength=5) / 4000, 0.2, atol=0.03)
    if named:
        assert set(drawn.candidates) == {"id", "price"}
        assert (drawn.candidates["price"].numpy()[3:] == FILMS["price"][places]).all()
    times = np.append([3, 10, 1], np.array([6, 3, 1, 1, 1])[places])
    chance = (3 * times / 20 + 4000 / 5) / 4003
    np.testing.assert_allclose(drawn.log_q, np.log(chance * 5), atol=1e-6)
    assert (MixedNegatives(catalogue, log, id="id" if named else None)(
        batch if named else batch["id"]).log_q.numpy()
        == np.log(np.array([3, 10, 1], np.float32) / 4)).all()


def test_bad_mixed_negatives() -> None:
    cases: list[tuple[tuple[Any, ...], Any, str]] = [
        ((FILMS, ["film 1"], "name"), ValueError, "id: expected the name of one of the features"),
        ((FILMS["id"], ["film 1"], "id"), ValueError, "id: expected None"),
        ((FILMS, [1, 2], "id"), TypeError, "occurrences: expected ids of type string"),
        ((FILMS, ["film 1"], "price"), ValueError, "id: expected strings or whole numbers"),
        ((np.array([3, 4, 3]), [3], None), ValueError, "expected each id once, got 3 2 times"),
        (({**FILMS, "price": [1.0]}, ["a"], "id"), ValueError, "features of as many items"),
    ]
    for arguments, error, text in cases:
        with pytest.raises(error, match=text):
            MixedNegatives(arguments[0], arguments[1], id=arguments[2])
    mixed = MixedNegatives(FILMS, ["film 1"], id="id", uniform=1)
    with pytest.raises(ValueError, match="got none of name 'price'"):
        mixed({"id": tf.constant(["film 1"])})


# ---- models ----


def towers(**options: Any) -> Any:
    """Two-tower models of all signs, whose query towers share a layer."""
    shared = tf.keras.layers.Embedding(20, 6)

    def query() -> Any:
        return tf.keras.Sequential([shared, tf.keras.layers.Dense(4)])

    def candidate() -> Any:
        inputs = {"id": tf.keras.Input((), dtype=tf.int32),
                  "price": tf.keras.Input((), dtype=tf.float32)}
        joined = tf.keras.layers.Concatenate()([
            tf.keras.layers.Embedding(24, 4)(inputs["id"]), inputs["price"][:, None]])
        return tf.keras.Model(inputs, tf.keras.layers.Dense(4)(joined))

    return PosNegTowers(*(SignedTowers(query(), candidate(), sign, **options)
                          for sign in (1, "both", -1)))


def test_towers(tmp_path: Any) -> None:
    tf.keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    items: dict[str, Any] = {"id": np.arange(24), "price": np.linspace(0, 1, 24, dtype=np.float32)}
    user, item = rng.integers(0, 20, 3000), rng.integers(0, 24, 3000)
    liked = (user + item) % 2 == 0  # everybody likes every other item
    log = tf.data.Dataset.from_tensor_slices(
        (user, {name: each[item] for name, each in items.items()}, liked, np.ones(3000)))
    model = towers(negatives=MixedNegatives(items, item, id="id", uniform=8))
    model.compile(optimizer=tf.keras.optimizers.legacy.Adam(0.02))
    history = model.fit(log.batch(128), epochs=6, verbose=0).history["loss"]
    assert history[-1] < history[0]

    layer = model.to_layer(items, "id", k=12)
    layer = layer.calibrate(user[:500], item[:500], liked[:500])
    asked = tf.range(20)
    found = layer(asked)[1].numpy()
    assert ((found + np.arange(20)[:, None]) % 2 == 0).mean() > 0.98
    ranker = model.to_ranker(items)
    with pytest.warns(UserWarning, match="models left out"):  # each knows all
        ranker.fit(model.embed_queries(np.arange(20)), item[:500], liked[:500], users=user[:500])
    assert ranker.names == ("positive", "signed", "negative")
    best = ranker.rank(model.embed_queries(np.arange(20)), 12, among="shown").ids
    assert ((best + np.arange(20)[:, None]) % 2 == 0).mean() > 0.98

    metric = PosNegTopK(layer, ks=(4, 12))
    groups = [[[i for i in range(24) if (i + u) % 2 == parity] for u in range(20)]
              for parity in (0, 1)]
    metric.update_state(asked, *groups)
    np.testing.assert_allclose(metric.result()["recall_at_12"], np.mean(
        metrics.recall_at_k(found, groups[0], 12)))
    # Saved, although the query models share a layer; the example has a `.keras` file.
    layer.save(tmp_path / "layer")
    again = tf.keras.models.load_model(tmp_path / "layer")
    assert (again(asked)[1].numpy() == found).all()
    assert layer.negative_query_model is model.of_sign(-1).query_model


def test_bad_towers() -> None:
    model = towers()
    with pytest.raises(ValueError, match="sign: expected 1, -1 or 'both'"):
        SignedTowers(None, None, 0)
    with pytest.raises(ValueError, match="towers: expected one or more of different signs"):
        PosNegTowers(model.towers[0], model.towers[0])
    with pytest.raises(ValueError, match="towers: expected a model of sign -1"):
        PosNegTowers(model.towers[0]).to_layer(np.arange(3))
    with pytest.raises(ValueError, match="inputs: expected batches of .*, got 2 parts"):
        model.compute_loss((tf.constant([1]), tf.constant([1])))


# ---- the metric ----


def test_posneg_top_k() -> None:
    rng = np.random.default_rng(4)
    rows = rng.standard_normal((2, 30, 4), dtype=np.float32)
    queries = tuple(rng.standard_normal((2, 5, 4), dtype=np.float32))
    names = np.array([f"film {i}" for i in range(30)])
    layer = PosNeg().index(tuple(rows), names)
    lists = [[rng.choice(30, size, replace=False) for size in sizes]
             for sizes in ([3, 0, 8, 1, 20], [5, 4, 0, 0, 6])]
    ragged = [tf.ragged.constant([names[one].tolist() for one in some], dtype=tf.string)
              for some in lists]
    metric, weights = PosNegTopK(layer, ks=(5, 40)), np.array([1.0, 2.0, 0.5, 0.0, 3.0])
    found = np.argsort(names)[np.searchsorted(
        np.sort(names), np.char.decode(layer(queries, k=30)[1].numpy().astype("S")))]

    def step(queries: Any, liked: Any, disliked: Any) -> None:
        metric.update_state(queries, liked, disliked, sample_weight=weights)

    tf.function(step)(queries, *ragged)
    for name, which, measure in (("recall", 0, metrics.recall_at_k),
                                 ("disliked", 1, metrics.disliked_at_k)):
        for k in (5, 40):
            each = measure(found, lists[which], k)
            mean = np.nansum(each * weights) / weights[~np.isnan(each)].sum()
            np.testing.assert_allclose(metric.result()[f"{name}_at_{k}"], mean, rtol=1e-6)
    metric.reset_states()
    first = layer(queries, k=1)[1]
    metric.update_state(queries, first[:, 0], exclusions=first)
    assert metric.result()["recall_at_40"] == 0.0
    metric.update_state(queries, first[:, 0])
    assert metric.result()["recall_at_5"] == 0.5 and metric.result()["disliked_at_5"] == 0.0


def test_bad_posneg_top_k() -> None:
    layer = BruteForcePosNeg().index((np.eye(3), np.eye(3)), ["a", "b", "c"])
    for arguments, text in (((layer, [0]), "ks: expected 1"), ((layer, []), "ks: expected one")):
        with pytest.raises(ValueError, match=text):
            PosNegTopK(*arguments)
    with pytest.raises(TypeError, match="layer: expected a layer"):
        PosNegTopK("layer")
    with pytest.raises(TypeError, match="disliked: expected identifiers of type string"):
        PosNegTopK(layer).update_state((np.eye(3), np.eye(3)), ["a", "b", "c"], [[1], [2], [3]])
