"""Tests of the Keras-RS layers on one backend; test_keras_rs.py runs them once for each."""

from __future__ import annotations

import importlib
import runpy
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path
from typing import Any

import inside
import keras
import numpy as np
import pytest
import training_oracle as oracle
from numpy.typing import NDArray

from farann.adapters.keras_rs import (
    BruteForceFurthestRetrieval,
    BruteForceFusionRetrieval,
    FurthestRetrieval,
)
from farann.adapters.posneg import FusionRanker, SignedModel
from farann.adapters.training import logistic_losses, relative_log_q, retrieval_loss

# Keras's own arrays don't know numpy 2's `copy` yet.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

BACKEND = keras.backend.backend()
EXAMPLES = Path(__file__).parents[2] / "examples"
LAYERS = [BruteForceFurthestRetrieval, FurthestRetrieval]
ROWS = np.random.default_rng(0).standard_normal((60, 5), dtype=np.float32)
QUERIES = np.random.default_rng(1).standard_normal((7, 5), dtype=np.float32)
PRODUCTS = QUERIES.astype(np.float64) @ ROWS.T.astype(np.float64)
ORDER = np.argsort(PRODUCTS, axis=1)

IDS: dict[str, NDArray[Any]] = {
    "numbers": np.arange(60, dtype=np.int32) + 5,
    "large numbers": np.arange(60, dtype=np.int64) * 2**33 + 2**40,
    "text": np.array([f"item {i}\u00e9" for i in range(60)]),
    "texts": np.array([f"f\u00edlm \ud800 {i}" for i in range(60)], object),
    "text and bytes": np.array([f"{i}" if i % 2 else b"%d" % i for i in range(60)], object),
    "fixed bytes": np.array([b"b%d" % i for i in range(60)]),
    "bytes": np.array([b"a\x00b%d" % i for i in range(60)], object),
}


def numpy(value: Any) -> NDArray[Any]:
    return value if isinstance(value, np.ndarray) else np.asarray(keras.ops.convert_to_numpy(value))


@pytest.mark.parametrize("layer_class", LAYERS)
@pytest.mark.parametrize("kind", [None, *IDS])
def test_eager_calls(layer_class: Any, kind: str | None) -> None:
    ids = None if kind is None else IDS[kind]
    layer = layer_class(ROWS, ids, k=4)
    scores, found = layer(QUERIES)
    expected = ORDER[:, :4] if ids is None else ids[ORDER[:, :4]]
    assert (numpy(found) == expected).all()
    np.testing.assert_allclose(numpy(scores), -np.sort(PRODUCTS, axis=1)[:, :4], rtol=1e-5)
    only_ids = layer_class(ROWS, ids, k=4, return_scores=False)(QUERIES)
    assert (numpy(only_ids) == expected).all()


@pytest.mark.parametrize("layer_class", LAYERS)
def test_updates_of_any_size(layer_class: Any) -> None:
    layer = layer_class(k=3)
    with pytest.raises(ValueError, match="update_candidates"):
        layer(QUERIES)
    for n, ids in ((60, None), (20, IDS["large numbers"][:20]), (40, IDS["text"][:40]),
                   (60, IDS["numbers"])):
        layer.update_candidates(keras.ops.convert_to_tensor(ROWS[:n]), ids)
        expected = np.argsort(PRODUCTS[:, :n], axis=1)[:, :3]
        found = numpy(layer(QUERIES)[1])
        assert (found == (expected if ids is None else ids[expected])).all()
    assert len(layer.weights) == (2 if layer_class is BruteForceFurthestRetrieval else 0)


@pytest.mark.parametrize(("layer_class", "kind"), [
    *zip(cycle(LAYERS), (None, *IDS)), (FurthestRetrieval, None), (LAYERS[0], "text")])
def test_saving_keeps_candidates(layer_class: Any, kind: str | None, tmp_path: Path) -> None:
    ids = None if kind is None else IDS[kind]
    inputs = keras.Input((5,))
    model = keras.Model(inputs, layer_class(ROWS, ids, k=4, name="retrieval")(inputs))
    model.save(tmp_path / "model.keras")
    layer = keras.saving.load_model(tmp_path / "model.keras").get_layer("retrieval")
    assert isinstance(layer, layer_class) and layer.k == 4 and layer.return_scores is True
    expected = ORDER[:, :4] if ids is None else ids[ORDER[:, :4]]
    found = numpy(layer(QUERIES)[1])
    assert (found == expected).all()
    if ids is not None:
        assert (layer.candidate_ids == ids).all() and layer.candidate_ids.dtype == ids.dtype

    model.save_weights(tmp_path / "model.weights.h5")
    other = keras.Model(inputs, layer_class(k=4, name="retrieval")(inputs))
    other.load_weights(tmp_path / "model.weights.h5")
    assert (numpy(other.get_layer("retrieval")(QUERIES)[0]) == numpy(layer(QUERIES)[0])).all()


@pytest.mark.parametrize("kind", [None, "numbers", "large numbers", "text"])
def test_compiled_brute_force(kind: str | None) -> None:
    ids = None if kind is None else IDS[kind]
    inputs = keras.Input((5,))
    layer = BruteForceFurthestRetrieval(ROWS, ids, k=4)
    model = keras.Model(inputs, layer(inputs))
    eager_only = (kind, BACKEND) in (("text", "tensorflow"), ("text", "jax"),
                                     ("large numbers", "jax"))
    if eager_only:
        with pytest.raises(ValueError, match="compiled functions can't return such ids"):
            model.predict(QUERIES, verbose=0)
        return
    expected = ORDER[:, :4] if ids is None else ids[ORDER[:, :4]]
    assert (numpy(model.predict(QUERIES, verbose=0)[1]) == expected).all()
    # What was compiled sees the candidates of the moment.
    layer.update_candidates(-ROWS, ids)
    nearest = ORDER[:, ::-1][:, :4]
    found = numpy(model.predict(QUERIES, verbose=0)[1])
    assert (found == (nearest if ids is None else ids[nearest])).all()
    if BACKEND == "tensorflow":
        with pytest.raises(ValueError, match="make a new layer"):
            layer.update_candidates(ROWS[:30], None if ids is None else ids[:30])
        assert (numpy(layer(QUERIES)[1]) == found).all()
    else:
        layer.update_candidates(ROWS[:30], None if ids is None else ids[:30])
        few = np.argsort(PRODUCTS[:, :30], axis=1)[:, :4]
        found = numpy(model.predict(QUERIES, verbose=0)[1])
        assert (found == (few if ids is None else ids[few])).all()


@pytest.mark.parametrize("layer_class", LAYERS)
def test_ids_that_no_file_holds(layer_class: Any) -> None:
    layer = layer_class(ROWS, IDS["text"], k=4)
    for bad in ([2**70 + i for i in range(60)], [None] * 60, [(i, 0) for i in range(60)],
                np.arange(60).astype("datetime64[s]")):
        ids = np.empty(60, object)
        ids[:] = bad
        for given in (ids,) if isinstance(bad, list) else (bad, ids):
            with pytest.raises(TypeError, match="candidate_ids: expected numbers of at most 64"):
                layer.update_candidates(-ROWS, given)
    assert (numpy(layer(QUERIES)[1]) == IDS["text"][ORDER[:, :4]]).all()


@pytest.mark.parametrize("kind", ["eager", "traced", "native"])
def test_updates_beside_calls(kind: str) -> None:
    """Ids and scores are those of one state."""
    if kind == "traced" and BACKEND != "tensorflow":
        return  # Keras itself reads the variables for compiled functions there
    sets = [(ROWS, np.arange(60)), (-ROWS, np.arange(60) + 1000)]
    layer = LAYERS[kind == "native"](*sets[0], k=4)
    ask: Any = layer
    if kind == "traced":
        import tensorflow as tf

        ask = tf.function(layer)
    queries = keras.ops.convert_to_tensor(QUERIES)
    right = [numpy(ask(queries)[1]).tolist()]
    layer.update_candidates(*sets[1])
    right.append(numpy(ask(queries)[1]).tolist())
    done, found = threading.Event(), []

    def asking() -> None:
        while not done.is_set():
            scores, ids = ask(queries)
            found.append(numpy(ids).tolist())

    with ThreadPoolExecutor(2) as pool:
        threads = [pool.submit(asking) for _ in range(2)]
        for i in range(150):
            layer.update_candidates(*sets[i % 2])
        done.set()
    for thread in threads:
        thread.result()
    assert found and all(one in right for one in found)


def test_native_layer_in_models() -> None:
    inputs = keras.Input((5,))
    model = keras.Model(inputs, FurthestRetrieval(ROWS, IDS["numbers"], k=4)(inputs))
    expected = IDS["numbers"][ORDER[:, :4]]
    if BACKEND != "torch":
        with pytest.raises(ValueError, match="run_eagerly=True"):
            model.predict(QUERIES, verbose=0)
    model.compile(run_eagerly=True)
    assert (numpy(model.predict(QUERIES, verbose=0)[1]) == expected).all()


@pytest.mark.parametrize("layer_class", LAYERS)
def test_bad_input(layer_class: Any) -> None:
    layer = layer_class(ROWS, IDS["text"], k=4)
    before = numpy(layer(QUERIES)[1])
    for rows, ids, error, text in (
        (ROWS[0], None, ValueError, "candidate_embeddings: expected rank 2"),
        (ROWS[:3], None, ValueError, "expected k = 4 candidates or more, got 3"),
        (np.full_like(ROWS, np.nan), None, ValueError, "candidate_embeddings: .* NaN"),
        (ROWS, IDS["text"][:5], ValueError, r"candidate_ids: expected shape \(60,\)"),
        (ROWS.astype(str), None, TypeError, "candidate_embeddings: expected real numbers"),
    ):
        with pytest.raises(error, match=text):
            layer.update_candidates(rows, ids)
        assert (numpy(layer(QUERIES)[1]) == before).all()
    with pytest.raises(ValueError, match="candidate_ids: expected None"):
        layer_class(candidate_ids=IDS["text"])
    with pytest.raises(ValueError, match="k: expected 1 or more"):
        layer_class(k=0)


def test_options_of_the_native_layer() -> None:
    layer = FurthestRetrieval(ROWS, k=4, codes="float32")
    assert inside.adapters.index_options(FurthestRetrieval.from_config(layer.get_config())) == {
        "codes": "float32"}
    with pytest.raises(ValueError, match="codes: expected"):
        FurthestRetrieval(codes="int3")
    with pytest.raises(ValueError, match="got both"):
        FurthestRetrieval(recall=0.9, epsilon=0.1)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="needs TensorFlow imported with Keras 3")
def test_layers_that_need_keras_2() -> None:
    if not (find_spec("tensorflow_recommenders") and find_spec("tf_keras")):
        pytest.skip("needs tensorflow-recommenders and tf-keras")
    with pytest.raises(ImportError, match="TF_USE_LEGACY_KERAS=1"):
        importlib.import_module("farann.adapters.tfrs")


# ---- several models in one ranking ----

DIMS, NAMES = (6, 4, 5), np.array([f"film {i:02}" for i in range(60)])
SIGNS: tuple[int | str, ...] = (1, -1, "both")


def fused(metric: str = "dot", seed: int = 0, ids: Any = None) -> tuple[FusionRanker, list[Any]]:
    """A fitted ranker of three models, the second of which lacks items; users' embeddings."""
    rng = np.random.default_rng(seed)
    items, users = ([rng.standard_normal((n, dim), dtype=np.float32) for dim in DIMS]
                    for n in (60, 20))
    who, what = rng.integers(0, 20, 2000), rng.integers(0, 60, 2000)
    odds = sum(weight * (users[m][who] * items[m][what]).sum(axis=1)
               for m, weight in enumerate((1.0, -0.7, 0.4)))
    ids = np.arange(60) if ids is None else ids
    models = [SignedModel(items[m][12 * (m == 1):], users[m], sign, ids=ids[12 * (m == 1):],
                          metric=metric if m == 1 else "dot") for m, sign in enumerate(SIGNS)]
    ranker = FusionRanker(models).fit(who, ids[what], rng.random(2000) < 1 / (1 + np.exp(-odds)))
    return inside.adapters.fused(ranker), [each[:7] for each in users]


@pytest.mark.parametrize(("metric", "among"), [("dot", "shown"), ("cosine", "all")])
def test_fusion_is_that_of_the_ranker(metric: str, among: str, tmp_path: Path) -> None:
    ranker, queries = fused(metric)
    layer = BruteForceFusionRetrieval(ranker, k=5, among=among, name="fusion")
    inputs = [keras.Input((dim,)) for dim in DIMS]
    model = keras.Model(inputs, layer(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    hits = ranker.rank(np.arange(7), 5, among=among, seen=True)
    for ask in (layer, lambda asked: model.predict(asked, verbose=0),
                lambda asked: loaded.predict(asked, verbose=0), loaded.get_layer("fusion")):
        scores, ids = map(numpy, ask(queries))
        assert (ids == hits.ids).all() and ids.dtype.kind == "i"
        np.testing.assert_allclose(scores, hits.scores, rtol=1e-4, atol=1e-5)
    chances = numpy(loaded.get_layer("fusion").probability(scores))
    intercept = ranker.linear(among).intercept
    np.testing.assert_allclose(chances, 1 / (1 + np.exp(-scores - intercept)), rtol=1e-5)
    assert np.isnan(chances).all() == (among == "all")
    unknown = [queries[0], np.zeros_like(queries[1]), queries[2]]
    assert (numpy(layer(unknown)[1])
            == ranker.rank(queries=unknown, k=5, among=among).ids).all()


def test_fusion_keeps_ids_and_takes_another_ranker() -> None:
    ranker, queries = fused(ids=NAMES)
    hits = ranker.rank(np.arange(7), 4, seen=True)
    layer = BruteForceFusionRetrieval(ranker, k=4)
    assert (numpy(layer(queries)[1]) == hits.ids.astype(str)).all()
    rows = BruteForceFusionRetrieval(ranker, np.arange(60), k=4, return_scores=False)
    inputs = [keras.Input((dim,)) for dim in DIMS]
    model = keras.Model(inputs, rows(inputs))
    assert (NAMES[numpy(model.predict(queries, verbose=0))] == hits.ids.astype(str)).all()
    other, queries = fused(seed=1, ids=NAMES)
    rows.update_ranker(other, np.arange(60), exposure=3.0)
    assert (NAMES[numpy(model.predict(queries, verbose=0))]
            == other.rank(np.arange(7), 4, exposure=3.0, seen=True).ids.astype(str)).all()


@pytest.mark.parametrize("ids", [np.arange(60), 2**40 + np.arange(60), NAMES], ids=str)
def test_fusion_leaves_out_what_is_known(ids: Any) -> None:
    ranker, queries = fused(ids=ids)
    layer = BruteForceFusionRetrieval(ranker, k=4)
    before = numpy(layer(queries)[1])
    nobody = "" if ids is NAMES else -1
    known = np.column_stack([before[:, [2, 0]], np.full(7, nobody, before.dtype)])
    scores, found = map(numpy, layer.query_with_exclusions(queries, known))
    hits = ranker.rank(np.arange(7), 4, seen=True, exclude=[row[:2].tolist() for row in known])
    assert (found == hits.ids.astype(before.dtype)).all()
    np.testing.assert_allclose(scores, hits.scores, rtol=1e-4, atol=1e-5)
    most = np.tile(ids[:58], (7, 1))  # two are left
    scores, found = map(numpy, layer.query_with_exclusions(queries, most))
    assert (np.sort(found[:, :2], axis=1) == ids[58:]).all() and (found[:, 2:] == nobody).all()
    assert np.isnan(scores[:, 2:]).all() and np.isfinite(scores[:, :2]).all()
    with pytest.raises(ValueError, match="exclusions: expected shape .n_queries, n_exclusions."):
        layer.query_with_exclusions(queries, known[:2])


def test_bad_input_of_fusion() -> None:
    ranker, queries = fused()
    no_ranker: Any = ROWS
    empty = BruteForceFusionRetrieval(k=4)
    with pytest.raises(ValueError, match="there is no ranker yet: call update_ranker"):
        empty(queries)
    layer = BruteForceFusionRetrieval(ranker, k=4)
    before = numpy(layer(queries)[1])
    for bad in (queries[0], queries[:2], [*queries, queries[0]], [queries[0], *queries[:2]],
                [queries[0], queries[1][:3], queries[2]], [each[0] for each in queries]):
        with pytest.raises(ValueError, match="inputs: expected"):
            layer(bad)
    for change, error, text in (
        (lambda: layer.update_candidates(ROWS), NotImplementedError, "call update_ranker"),
        (lambda: layer.update_ranker(no_ranker), TypeError, "ranker: expected a FusionRanker"),
        (lambda: layer.update_ranker(ranker, NAMES[:5]), ValueError, "candidate_ids: expected sh"),
        (lambda: layer.update_ranker(ranker, among="some"), ValueError, "among: expected one of"),
        (lambda: BruteForceFusionRetrieval(ranker, k=61), ValueError, "k = 61 candidates or more"),
        (lambda: BruteForceFusionRetrieval(candidate_ids=NAMES), ValueError, "without a ranker"),
    ):
        with pytest.raises(error, match=text):
            change()
    assert (numpy(layer(queries)[1]) == before).all()


# ---- training ----


def gradients_of(given: dict[str, Any]) -> dict[str, NDArray[Any]]:
    """Derivatives by all embeddings, as this backend finds them."""
    derived = {name: given[name] for name in oracle.DERIVED if name in given}

    def loss(*embeddings: Any) -> Any:
        changed = dict(zip(derived, embeddings, strict=True))
        return retrieval_loss(keras.ops, **{**given, **changed})

    if BACKEND == "jax":
        import jax

        found = jax.jit(jax.grad(loss, tuple(range(len(derived)))))(*derived.values())
    elif BACKEND == "tensorflow":
        import tensorflow as tf

        variables = [tf.Variable(each) for each in derived.values()]
        with tf.GradientTape() as tape:
            value = loss(*variables)
        found = tape.gradient(value, variables)
    else:
        import torch

        variables = [torch.tensor(each, requires_grad=True) for each in derived.values()]
        found = torch.autograd.grad(loss(*variables), variables)
    return dict(zip(derived, map(numpy, found), strict=True))


@pytest.mark.parametrize("name", ["everything", "huge"])
def test_loss_and_gradient(name: str) -> None:
    case = oracle.CASES[name]
    given: dict[str, Any] = {
        each: part.astype(np.float32)
        if isinstance(part, np.ndarray) and part.dtype == np.float64 else part
        for each, part in case.items()}
    np.testing.assert_allclose(numpy(retrieval_loss(keras.ops, **given)), oracle.loss(**case),
                               rtol=1e-4)
    expected = oracle.gradients(case)
    for each, gradient in gradients_of(given).items():
        np.testing.assert_allclose(gradient, expected[each], rtol=1e-3, atol=1e-4)


def test_logistic_losses() -> None:
    scores, labels = np.array([0.0, 3.0, -50.0], np.float32), np.array([False, True, True])
    found = numpy(logistic_losses(keras.ops, keras.ops.convert_to_tensor(scores), labels))
    np.testing.assert_allclose(found, np.log1p(np.exp(np.where(labels, -scores, scores))),
                               rtol=1e-5)


def test_training() -> None:
    """Users like items of their own kind; the catalogue has some that the log lacks."""

    class Towers(keras.Model):  # type: ignore[misc]
        def __init__(self, counts: NDArray[Any]) -> None:
            super().__init__()
            self.users, self.items = (keras.layers.Embedding(n, 4) for n in (20, 30))
            self.draw = keras.random.SeedGenerator(0)
            self.frequency = keras.Variable(np.maximum(counts, 1) / counts.mean(), trainable=False)

        def call(self, inputs: Any) -> Any:
            ops = keras.ops
            drawn = keras.random.randint((8,), 0, 30, "int32", self.draw)
            ids = ops.concatenate([ops.cast(inputs["item"], "int32"), drawn], axis=0)
            log_q = relative_log_q(ops, ops.take(self.frequency, ids), 100, 8)
            return self.users(inputs["user"]), self.items(ids), ids, log_q

        def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None,
                         sample_weight: Any = None, training: bool = True) -> Any:
            user, item, ids, log_q = y_pred
            return retrieval_loss(keras.ops, user, item, sample_weight, labels=y,
                                  candidate_ids=ids, log_q=log_q) / 100

    rng = np.random.default_rng(0)
    user, item = rng.integers(0, 20, 2000), rng.integers(0, 24, 2000)
    keras.utils.set_random_seed(0)
    model = Towers(np.bincount(item, minlength=30))
    model.compile(optimizer=keras.optimizers.Adam(0.05))
    log = {"user": user, "item": item}
    model.fit(log, (user + item) % 2 == 0, batch_size=100, epochs=5, verbose=0)
    scores = numpy(model.users(np.arange(20))) @ numpy(model.items(np.arange(24))).T
    same = (np.arange(20)[:, None] + np.arange(24)) % 2 == 0
    assert (scores[same].min() > scores[~same].max()) or (
        (scores > 0)[same].mean() > 0.95 and (scores < 0)[~same].mean() > 0.95)


def test_bad_training() -> None:
    rows = np.ones((3, 2), np.float32)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"candidate_embeddings": rows[:2]}, "candidate_embeddings: expected one a query or more"),
        ({"candidate_embeddings": rows[:, :1]}, r"candidate_embeddings: expected shape \(any, 2"),
        ({"labels": [1, 0]}, r"labels: expected shape \(3\), got"),
        ({"log_q": [[0.0, 0, 0]]}, r"log_q: expected shape \(3\)"),
        ({"negative_ids": [[1], [2], [3]]}, "negative_embeddings: expected with"),
        ({"negative_embeddings": rows}, r"negative_embeddings: expected shape \(3, any, 2\)"),
    ]
    for given, text in cases:
        with pytest.raises(ValueError, match=text):
            retrieval_loss(keras.ops, **{"query_embeddings": rows, "candidate_embeddings": rows,
                                         **given})
    with pytest.raises(ValueError, match="temperature: expected a number above 0"):
        retrieval_loss(keras.ops, rows, rows, temperature=0)


@pytest.mark.filterwarnings("ignore")  # Keras and TensorFlow warn of what they do themselves
@pytest.mark.skipif(BACKEND != "tensorflow" and bool(find_spec("tensorflow")),
                    reason="runs on TensorFlow where it is there")
def test_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                 capsys: pytest.CaptureFixture[str]) -> None:
    """Two groups of users; each likes one half of the films and dislikes the other."""
    users, films = np.divmod(np.random.default_rng(0).permutation(60 * 40)[:1200], 40)
    stars = np.where((users + films) % 2 == 0, 5, 1)
    (tmp_path / "ratings.inter").write_text("".join(
        f"u{u}\ti{i}\t{s}\n" for u, i, s in zip(users, films, stars, strict=True)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.setattr(sys, "argv", [
        "keras_posneg.py", "--ratings", "ratings.inter", "--batch", "100", "--folds", "2",
        "--dim", "8", "--epochs", "6"])
    runpy.run_path(str(EXAMPLES / "keras_posneg.py"), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("1,200 ratings by 60 users of 40 films")
    assert f"trained three models 3 times on {BACKEND}" in lines[1]
    this = next(line for line in lines if line.startswith("| this ranker"))
    assert float(this.split("|")[-2].split()[0]) > 0.9  # its AUC
    best = lines[lines.index("likely to be liked by user u0 if watched:") + 1 :][:5]
    assert all(int(line.split()[0][1:]) % 2 == 0 for line in best)
    assert lines[-1] == "as the ranker ranks: 100.0%; the same after saving and loading: True"
