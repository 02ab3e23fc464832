"""The furthest layers for TensorFlow Recommenders: answers, identifiers, bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from reference import METRICS
from tfrs_cases import tf

from farann.adapters.tfrs import BruteForceFurthest, Furthest, StreamingFurthest

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

INDEXED = [BruteForceFurthest, Furthest]
LAYERS = [*INDEXED, StreamingFurthest]
ROWS = np.random.default_rng(0).standard_normal((90, 6), dtype=np.float32)
QUERIES = np.random.default_rng(1).standard_normal((8, 6), dtype=np.float32)
NAMES = np.array([f"item {i}" for i in range(len(ROWS))])


def truth(metric: str = "dot", rows: NDArray[Any] = ROWS) -> NDArray[np.float64]:
    """Scores that a furthest layer gives, by float64."""
    q, x = QUERIES.astype(np.float64), rows.astype(np.float64)
    if metric == "l2":
        return np.asarray(np.linalg.norm(q[:, None] - x[None], axis=2))
    if metric == "cosine":
        q = q / np.linalg.norm(q, axis=1, keepdims=True)
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
    return -(q @ x.T)


def order(metric: str = "dot", rows: NDArray[Any] = ROWS) -> NDArray[np.int64]:
    return np.argsort(-truth(metric, rows), axis=1)


def filled(layer: Any, rows: Any = ROWS, ids: Any = None) -> Any:
    """Any of the layers with candidates, in batches of 7 where it takes a dataset."""
    if not isinstance(layer, StreamingFurthest):
        return layer.index(rows, ids)
    data = tf.data.Dataset.from_tensor_slices(rows if ids is None else (ids, rows))
    return layer.index_from_dataset(data.batch(7))


def text(ids: Any) -> NDArray[Any]:
    return np.char.decode(ids.numpy().astype(bytes))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("layer_class", LAYERS)
def test_answers(layer_class: Any, metric: str) -> None:
    layer = filled(layer_class(k=5, metric=metric), ids=NAMES)
    expected = order(metric)
    ways = [layer, tf.function(layer)]
    if metric == "dot":  # Keras makes one more function of what is called
        ways.append(lambda q: layer.predict(q, verbose=0))
    for ask in ways:
        scores, ids = ask(QUERIES)
        np.testing.assert_allclose(scores, -np.sort(-truth(metric))[:, :5], rtol=1e-4)
        assert (text(tf.constant(ids)) == NAMES[expected[:, :5]]).all()
    scores, ids = layer(QUERIES, k=3)
    assert scores.shape == ids.shape == (8, 3)
    scores, ids = layer(QUERIES[2])
    assert (text(ids) == NAMES[expected[2, :5]]).all() and scores.shape == (5,)


@pytest.mark.parametrize("layer_class", LAYERS)
def test_of_equal_scores_the_first_comes_first(layer_class: Any) -> None:
    rows = np.repeat(ROWS[:30], 3, axis=0)
    _, ids = filled(layer_class(k=9), rows)(QUERIES)
    assert (ids.numpy().reshape(8, 3, 3) % 3 == [0, 1, 2]).all()


@pytest.mark.parametrize("layer_class", LAYERS)
def test_far_from_the_origin(layer_class: Any) -> None:
    rows = ROWS + np.float32(1000)
    layer = filled(layer_class(k=5, metric="l2"), rows)
    queries = QUERIES + np.float32(1000)
    exact = np.linalg.norm(queries[:, None].astype(float) - rows[None], axis=2)
    assert (layer(queries)[1].numpy() == np.argsort(-exact, axis=1)[:, :5]).all()


@pytest.mark.parametrize("layer_class", LAYERS)
def test_query_model(layer_class: Any) -> None:
    model = tf.keras.Sequential([tf.keras.layers.Embedding(8, 6)])
    model(tf.constant([0]))
    model.set_weights([QUERIES])
    layer = filled(layer_class(model, 4))
    assert (layer(tf.constant([5, 2]))[1].numpy() == order()[[5, 2], :4]).all()
    excluded = order()[[5, 2], :2]
    found = layer.query_with_exclusions(tf.constant([5, 2]), excluded)[1]
    assert (found.numpy() == order()[[5, 2], 2:6]).all()


# ---- what TFRS's own layers get wrong ----


@pytest.mark.parametrize("layer_class", LAYERS)
def test_other_candidates_reach_compiled_functions(layer_class: Any) -> None:
    layer = filled(layer_class(k=4))
    function = tf.function(lambda q: layer(q))
    function(QUERIES)
    layer.predict(QUERIES, verbose=0)
    layer.query_with_exclusions(QUERIES, order()[:, :3])
    if layer_class is StreamingFurthest:
        # Its compiled functions hold a dataset, so only those made afterwards see another.
        layer = filled(StreamingFurthest(k=4), -ROWS[:33])
        function = tf.function(lambda q: layer(q))
    else:
        layer.index(-ROWS[:33])
    expected = order(rows=-ROWS[:33])
    assert (function(QUERIES)[1].numpy() == expected[:, :4]).all()
    assert (layer.predict(QUERIES, verbose=0)[1] == expected[:, :4]).all()
    left = layer.query_with_exclusions(QUERIES, expected[:, :3])[1]
    assert (left.numpy() == expected[:, 3:7]).all()


@pytest.mark.parametrize("layer_class", LAYERS)
def test_exclusions_of_nothing(layer_class: Any) -> None:
    layer = filled(layer_class(k=4), ids=NAMES)
    best = NAMES[order()]
    nothings: tuple[Any, ...] = (
        [], [[]] * 8, [None] * 8, np.empty((8, 0)), np.array([]), tf.zeros((8, 0)),
        tf.ragged.constant([[]] * 8, tf.string))
    for nothing in nothings:
        assert (text(layer.query_with_exclusions(QUERIES, nothing)[1]) == best[:, :4]).all()
    first = [best[0, :1].tolist(), [], None, *[best[i, :2] for i in range(3, 8)]]
    left = text(layer.query_with_exclusions(QUERIES, first)[1])
    for i, begin in enumerate([1, 0, 0, 2, 2, 2, 2, 2]):
        assert (left[i] == best[i, begin : begin + 4]).all()


@pytest.mark.parametrize("layer_class", LAYERS)
def test_exclusions_hold_whatever_the_scores(layer_class: Any) -> None:
    layer = filled(layer_class(k=5), ROWS * np.float32(1e9), NAMES)
    excluded = NAMES[order()[:, [0, 1, 3]]]
    scores, ids = layer.query_with_exclusions(QUERIES, excluded)
    assert (text(ids) == NAMES[order()[:, [2, 4, 5, 6, 7]]]).all()
    assert (np.diff(scores) <= 0).all()


@pytest.mark.parametrize("layer_class", LAYERS)
def test_more_than_there_are(layer_class: Any) -> None:
    layer = filled(layer_class(k=100), ids=NAMES)
    for scores, ids in (layer(QUERIES), tf.function(layer)(QUERIES)):
        assert (text(ids[:, :90]) == NAMES[order()]).all() and np.isfinite(scores[:, :90]).all()
        assert (ids[:, 90:] == b"").numpy().all() and np.isnan(scores[:, 90:]).all()
    all_but_two = NAMES[order()[:, 2:]]
    scores, ids = layer.query_with_exclusions(QUERIES, all_but_two, k=4)
    assert (text(ids[:, :2]) == NAMES[order()[:, :2]]).all() and (text(ids[:, 2:]) == "").all()
    assert (np.isnan(scores) == [False, False, True, True]).all()


@pytest.mark.parametrize("dtype", ["float16", "float64", "bfloat16", "int8"])
@pytest.mark.parametrize("layer_class", LAYERS)
def test_number_types(layer_class: Any, dtype: str) -> None:
    rows = tf.cast(tf.constant(np.round(ROWS * 40)), dtype)
    layer = filled(layer_class(k=5), rows)
    expected = order(rows=tf.cast(rows, tf.float64).numpy())[:, 0]
    for queries in (QUERIES, QUERIES.astype(np.float64)):
        scores, ids = layer(queries)
        assert scores.dtype == tf.float32 and (ids.numpy()[:, 0] == expected).all()


@pytest.mark.parametrize("layer_class", LAYERS)
def test_temporaries(layer_class: Any) -> None:
    found = filled(layer_class(k=2)).query_with_exclusions(QUERIES, order()[:, :1])[1]
    assert (found.numpy() == order()[:, 1:3]).all()


# ---- identifiers ----


@pytest.mark.parametrize(("layer_class", "dtype"), [
    *((layer_class, dtype) for layer_class in LAYERS for dtype in ("int64", "uint64", "float32")),
    *zip(2 * LAYERS, ("int8", "int16", "int32", "uint8", "uint32", "float64"), strict=True)])
def test_identifiers_keep_their_type(layer_class: Any, dtype: str) -> None:
    ids = np.arange(90)[::-1].astype(dtype)
    if dtype in ("int64", "uint64"):
        ids += np.array(2**53 + 1, dtype)  # float64 couldn't tell them apart
    layer = filled(layer_class(k=4), ids=ids)
    found = layer(QUERIES)[1].numpy()
    assert found.dtype == dtype and (found == ids[order()[:, :4]]).all()
    left = layer.query_with_exclusions(QUERIES, ids[order()[:, :2]])[1].numpy()
    assert left.dtype == dtype and (left == ids[order()[:, 2:6]]).all()
    missing = layer(QUERIES, k=91)[1].numpy()[:, 90]
    if dtype.startswith("float"):
        assert np.isnan(missing).all()
    else:
        assert (missing == np.array(-1).astype(dtype)).all()


@pytest.mark.parametrize("layer_class", LAYERS)
def test_exclusions_of_another_number_type(layer_class: Any) -> None:
    layer = filled(layer_class(k=4))  # int32 identifiers
    left = layer.query_with_exclusions(QUERIES, order()[:, :2].astype(np.int64))[1]
    assert (left.numpy() == order()[:, 2:6]).all()
    with pytest.raises(TypeError, match="exclusions: expected identifiers of type int32"):
        layer.query_with_exclusions(QUERIES, NAMES[order()[:, :2]])
    with pytest.raises(ValueError, match="exclusions: expected shape"):
        layer.query_with_exclusions(QUERIES, np.array([1, 2]))
    with pytest.raises(ValueError, match="queries: expected some"):
        layer.query_with_exclusions(QUERIES[0], np.array([[1, 2]]))


# ---- bad input ----


@pytest.mark.parametrize("layer_class", LAYERS)
def test_nothing_indexed(layer_class: Any) -> None:
    with pytest.raises(ValueError, match="`index` method must be called first"):
        layer_class()(QUERIES)
    error = ValueError if layer_class is StreamingFurthest else tf.errors.InvalidArgumentError
    with pytest.raises(error, match="`index` method must be called first"):
        tf.function(layer_class())(QUERIES)


@pytest.mark.parametrize("layer_class", INDEXED)
def test_bad_candidates_change_nothing(layer_class: Any) -> None:
    layer = layer_class(k=3).index(ROWS, NAMES)
    for rows, ids, error, message in (
        (ROWS[0], None, ValueError, "must be 2D"),
        (ROWS, NAMES[:3], ValueError, "same number of rows"),
        (ROWS, NAMES[:, None], ValueError, "identifiers: expected shape"),
        (ROWS, np.arange(90), ValueError, "indexed with string, got int64"),
        (ROWS[:0], NAMES[:0], ValueError, "one row or more"),
        (np.full_like(ROWS, np.inf), NAMES, ValueError, "candidates: .* infinity"),
        (NAMES[:, None], NAMES, TypeError, "candidates: expected real numbers"),
    ):
        with pytest.raises(error, match=message):
            layer.index(rows, ids)
        assert (text(layer(QUERIES)[1]) == NAMES[order()[:, :3]]).all()
    with pytest.raises(ValueError, match="cosine"):
        layer_class(metric="cosine").index(np.zeros_like(ROWS))
    with pytest.raises(RuntimeError, match="outside of tf.function"):
        tf.function(lambda: layer.index(ROWS, NAMES))()


@pytest.mark.parametrize("layer_class", LAYERS)
def test_bad_datasets(layer_class: Any) -> None:
    slices = tf.data.Dataset.from_tensor_slices
    with pytest.raises(TypeError, match="expected a dataset .* got ndarray"):
        layer_class().index_from_dataset(ROWS)
    for data in (slices(ROWS), slices({"x": ROWS}).batch(3), slices((ROWS, ROWS, ROWS)).batch(3),
                 tf.data.Dataset.zip((slices(NAMES).batch(2, drop_remainder=True),
                                      slices(ROWS).batch(3, drop_remainder=True)))):
        with pytest.raises(ValueError, match="candidates: expected a dataset of batches"):
            layer_class().index_from_dataset(data)


@pytest.mark.parametrize("layer_class", LAYERS)
def test_bad_arguments(layer_class: Any) -> None:
    with pytest.raises(ValueError, match="k: expected 1 or more"):
        layer_class(k=0)
    with pytest.raises(ValueError, match="metric: expected one of"):
        layer_class(metric="l1")
    layer = filled(layer_class())
    layer(QUERIES)
    with pytest.raises(TypeError, match="k: expected an int"):
        layer(QUERIES, k=2.5)
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
        layer(QUERIES[:, :5])


def test_streaming_takes_datasets_only() -> None:
    with pytest.raises(NotImplementedError, match="index_from_dataset"):
        StreamingFurthest().index(ROWS)


def test_bad_options_of_the_index() -> None:
    with pytest.raises(ValueError, match="codes: expected"):
        Furthest(codes="int3")
    with pytest.raises(ValueError, match="got both"):
        Furthest(recall=0.9, epsilon=0.1)
    with pytest.raises(ValueError, match="queries: .* NaN"):
        Furthest().index(ROWS)(QUERIES * np.nan)


def test_a_large_k() -> None:
    """An error in the place of all memory."""
    layer = BruteForceFurthest().index(np.eye(3, dtype=np.float32))
    with pytest.raises(ValueError, match="k: expected at most 8388608 for 2 queries of 3 rows"):
        layer(tf.zeros([2, 3]), k=10**9)
    for k in (2**31, 10**400):
        with pytest.raises(ValueError, match="k: expected at most 2147483647, got"):
            layer(tf.zeros([2, 3]), k=k)
        with pytest.raises(ValueError, match="k: expected at most 2147483647, got"):
            BruteForceFurthest(k=k)
