"""The layers of several models against FusionRanker: answers, identifiers, bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow_recommenders as tfrs
from tfrs_cases import tf
from tfrs_posneg_cases import (
    ASKED,
    ITEMS,
    NAMES,
    QUERIES,
    SIGNS,
    USER_NAMES,
    USERS,
    WHAT,
    WHO,
    N,
    agree,
    filled,
    ranker_of,
    text,
    tower,
)

from farann.adapters.posneg import FusionRanker, PosNegRanker, SignedModel
from farann.adapters.tfrs import BruteForceFusion, BruteForcePosNeg, FactorizedBottomK

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

slices = tf.data.Dataset.from_tensor_slices
POSITIVE, NEGATIVE = BOTH = (ITEMS[0], ITEMS[1])


def ways(layer: Any) -> list[Any]:
    return [layer, tf.function(layer)]


def posneg(**options: Any) -> Any:
    return BruteForcePosNeg(tower(USERS[0]), tower(USERS[1]), **{"k": 5, **options})


@pytest.mark.parametrize("among", ["all", "shown"])
@pytest.mark.parametrize("n_models", [1, 2, 3])
def test_answers_are_those_of_the_ranker(n_models: int, among: str) -> None:
    ranker = ranker_of(n_models, holes=True)
    layer = filled(ranker, among=among)
    asks = ways(layer)
    if n_models == 3:
        asks.append(lambda queries: layer.predict(queries, verbose=0))
    for ask in asks:
        agree(ask(QUERIES), ranker.rank(QUERIES, 5, among=among, seen=True))
    agree(layer(QUERIES, k=3), ranker.rank(QUERIES, 3, among=among, seen=True))
    agree(tf.function(layer)(QUERIES, k=tf.constant(4)),
          ranker.rank(QUERIES, 4, among=among, seen=True))
    assert isinstance(layer, tfrs.layers.factorized_top_k.TopK) and layer.is_exact()


def test_the_case_tells_fusion_from_what_is_no_fusion() -> None:
    best = ranker_of(2).rank(QUERIES, 5, seen=True).ids
    for other in (ranker_of(1).rank(QUERIES, 5, seen=True),
                  ranker_of(3).rank(QUERIES, 5, seen=True),
                  ranker_of(2).rank(QUERIES, 5, among="shown", seen=True)):
        assert (other.ids != best).any(axis=1).mean() > 0.5
    average = np.argsort(-(USERS[0] @ POSITIVE.T - USERS[1] @ NEGATIVE.T)[ASKED], axis=1)[:, :5]
    assert (NAMES[average] != best).any(axis=1).mean() > 0.5


def test_exposure() -> None:
    ranker = ranker_of()
    agree(filled(ranker, exposure=3.0)(QUERIES), ranker.rank(QUERIES, 5, exposure=3.0, seen=True))


def test_chances() -> None:
    ranker = ranker_of()
    layer = filled(ranker, among="shown")
    form = ranker.linear("shown")
    scores = layer(QUERIES)[0].numpy().astype(np.float64)
    np.testing.assert_allclose(layer.probability(scores),
                               1 / (1 + np.exp(-scores - form.intercept)), rtol=1e-5)
    assert np.isnan(layer.probability([np.nan])).all()
    everything = filled(ranker)
    assert np.isnan(everything.probability(everything(QUERIES)[0])).all()


def test_tuples_of_embeddings() -> None:
    ranker = ranker_of(holes=True)
    layer = BruteForceFusion(k=5).index_ranker(ranker)
    asked = tuple(users[:6] for users in USERS)
    for ask in ways(layer):
        agree(ask(asked), ranker.rank(USER_NAMES[:6], 5, seen=True))
    for single in (layer, tf.function(layer)):
        agree(single(tuple(users[3] for users in USERS)), ranker.rank(USER_NAMES[3], 5, seen=True))
    agree(layer(tuple(users.astype(np.float64) for users in asked)),
          ranker.rank(USER_NAMES[:6], 5, seen=True))
    # Zeros stand for a model that doesn't know the user.
    unknown = (asked[0], np.zeros_like(asked[1]), asked[2])
    agree(layer(unknown), ranker.rank(queries=unknown, k=5))
    with pytest.raises(TypeError, match="queries: expected a tuple"):
        layer(USERS[0])
    for other in (USERS[1][0], USERS[1][:5]):
        with pytest.raises(ValueError, match="queries: expected as many by each model"):
            layer((asked[0], other, asked[2]))


def test_many_features() -> None:
    """Each model takes what it needs of the same features."""
    inputs = {"user": tf.keras.Input((), dtype=tf.string), "gain": tf.keras.Input(())}
    gain = inputs["gain"][:, None]
    models = [tf.keras.Model(inputs, tower(users)(inputs["user"]) * gain ** power)
              for power, users in enumerate(USERS)]
    ranker = ranker_of()
    layer = BruteForceFusion(models, k=5).index_ranker(ranker)
    gains = np.linspace(0.5, 2.0, len(ASKED)).astype(np.float32)
    features = {"user": tf.constant(QUERIES), "gain": gains}
    queries = [users[ASKED] * gains[:, None] ** m for m, users in enumerate(USERS)]
    for ask in ways(layer):
        agree(ask(features), ranker.rank(queries=queries, k=5))
    first = ranker.rank(queries=queries, k=2).ids
    agree(layer.query_with_exclusions(features, first.astype(str), k=3),
          ranker.rank(queries=queries, k=3, exclude=list(first)))


# ---- candidates and identifiers ----


@pytest.mark.parametrize("dtype", ["int32", "uint64", "float64"])
def test_identifiers_keep_their_type(dtype: str) -> None:
    ids = np.arange(N)[::-1].astype(dtype)
    if dtype.endswith("int64"):
        ids += np.array(2**53 + 1, dtype)  # float64 couldn't tell them apart
    ranker = ranker_of()
    layer = filled(ranker, ids)
    rows = np.searchsorted(ranker.ids, ranker.rank(QUERIES, 5, seen=True).ids)
    for ask in ways(layer):
        found = np.asarray(ask(QUERIES)[1])
        assert found.dtype == dtype and (found == ids[rows]).all()
    left = layer.query_with_exclusions(QUERIES, ids[rows[:, :2]], k=3)[1].numpy()
    assert left.dtype == dtype and (left == ids[rows[:, 2:]]).all()


def test_numbers_of_a_ranker() -> None:
    ranker = FusionRanker([SignedModel(POSITIVE, USERS[0], ids=np.arange(N) + 2**40)])
    found = BruteForceFusion(k=3).index_ranker(ranker)((USERS[0],))[1].numpy()
    best = np.argsort(-USERS[0] @ POSITIVE.T, axis=1)[:, :3]
    assert found.dtype == np.int64 and (found == best + 2**40).all()


def test_more_than_there_are() -> None:
    ranker = ranker_of()
    layer = filled(ranker)
    hits = ranker.rank(QUERIES, N, seen=True)
    for ask in (layer, tf.function(layer)):
        scores, ids = ask(QUERIES, k=N + 10)
        agree((scores[:, :N], ids[:, :N]), hits)
        assert np.isnan(scores[:, N:]).all() and (text(ids[:, N:]) == "").all()
    every = text(layer(QUERIES, k=N)[1])
    scores, ids = layer.query_with_exclusions(QUERIES, every[:, 2:], k=4)
    assert (text(ids[:, :2]) == every[:, :2]).all() and (text(ids[:, 2:]) == "").all()
    assert (np.isnan(scores) == [False, False, True, True]).all()


def test_exclusions() -> None:
    ranker = ranker_of()
    out = ranker.rank(QUERIES, 5, seen=True).ids[:, [0, 1, 3]].astype(str)
    layer = filled(ranker)
    for asked in (layer.query_with_exclusions, tf.function(layer.query_with_exclusions)):
        agree(asked(QUERIES, out),
              ranker.rank(QUERIES, 5, exclude=list(out.astype(object)), seen=True))
    unknown = out.copy()
    unknown[:, 1] = "no item"  # ignored
    agree(layer.query_with_exclusions(QUERIES, unknown),
          ranker.rank(QUERIES, 5, exclude=list(out[:, [0, 2]].astype(object)), seen=True))


def test_another_ranker_reaches_compiled_functions() -> None:
    ranker = ranker_of()
    layer = filled(ranker)
    function = tf.function(lambda queries: layer(queries))
    function(QUERIES)
    layer.predict(QUERIES, verbose=0)
    others = ranker.replace([
        SignedModel(-ITEMS[m][10:63], USERS[m], sign, ids=NAMES[10:63], user_ids=USER_NAMES,
                    metric="cosine" if m == 1 else "dot")
        for m, sign in enumerate(SIGNS)])
    layer.index_ranker(others, among="shown")
    for ask in (function, lambda queries: layer.predict(queries, verbose=0)):
        agree(ask(QUERIES), others.rank(QUERIES, 5, among="shown", seen=True))
    layer.index_ranker(FusionRanker([
        SignedModel(ITEMS[m][:, :3], USERS[m][:, :3], ids=NAMES, name=str(m)) for m in range(3)]))
    for ask in (layer, function):
        with pytest.raises(tf.errors.InvalidArgumentError, match="(?s)queries: .*dimensions"):
            ask(QUERIES)


# ---- two models without a ranker ----


@pytest.mark.parametrize("metric", ["dot", "cosine"])
def test_without_a_ranker_products_are_averaged(metric: str) -> None:
    products = []
    for users, items in zip(USERS, BOTH, strict=False):
        q, x = users[ASKED].astype(np.float64), items.astype(np.float64)
        if metric == "cosine":
            q, x = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (q, x))
        products.append(q @ x.T)
    scores = (products[0] - products[1]) / 2
    best = np.argsort(-scores, axis=1)[:, :5]
    dataset = slices((NAMES, *BOTH)).batch(7)
    for layer in (posneg(metric=metric).index(BOTH, NAMES),
                  posneg(metric=metric).index_from_dataset(dataset)):
        for ask in ways(layer):
            found, ids = ask(QUERIES)
            assert (text(ids) == NAMES[best]).all()
            np.testing.assert_allclose(found, np.take_along_axis(scores, best, axis=1), rtol=1e-4,
                                       atol=1e-5)
        assert np.isnan(layer.probability(layer(QUERIES)[0])).all()


def test_two_models_take_a_ranker() -> None:
    ranker = PosNegRanker(POSITIVE, USERS[0], NEGATIVE, USERS[1]).fit(WHO, WHAT, WHO % 2 == 0)
    layer = posneg().index(BOTH, NAMES).index_ranker(ranker, NAMES)
    assert (text(layer(QUERIES)[1]) == NAMES[ranker.rank(ASKED, 5, seen=True).ids]).all()
    assert layer.positive_query_model is layer.query_models[0]
    assert layer.negative_query_model is layer.query_models[1]


@pytest.mark.parametrize("dtype", ["float16", "float64", "bfloat16"])
def test_number_types(dtype: str) -> None:
    rows = [tf.cast(side, dtype) for side in BOTH]
    again = [tf.cast(side, tf.float32).numpy() for side in rows]
    expected = posneg().index(again)(QUERIES)[1].numpy()
    found = posneg().index(rows)(QUERIES)[1].numpy()
    assert found.dtype == np.int32 and (found == expected).all()


def test_of_equal_scores_the_first_comes_first() -> None:
    rows = [np.repeat(side[:20], 3, axis=0) for side in BOTH]
    found = posneg(k=9).index(rows)(QUERIES)[1].numpy()
    assert (found.reshape(len(QUERIES), 3, 3) % 3 == [0, 1, 2]).all()


def test_exclusions_hold_whatever_the_scores() -> None:
    layer = posneg().index([side * np.float32(1e9) for side in BOTH], NAMES)
    ids = text(layer(QUERIES, k=6)[1])
    scores, left = layer.query_with_exclusions(QUERIES, ids[:, [0, 2]], k=4)
    assert float(tf.reduce_max(tf.abs(scores))) > 1e9
    assert (text(left) == ids[:, [1, 3, 4, 5]]).all()


# ---- bad input ----


@pytest.mark.parametrize("layer", [BruteForceFusion(), BruteForcePosNeg()],
                         ids=lambda layer: type(layer).__name__)
def test_nothing_indexed(layer: Any) -> None:
    message = "`index` method must be called first"
    with pytest.raises(ValueError, match=message):
        layer((USERS[0], USERS[1]))
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        tf.function(layer)((USERS[0], USERS[1]))


def test_bad_candidates_change_nothing() -> None:
    layer = posneg().index(BOTH, NAMES)
    expected = text(layer(QUERIES)[1])
    for rows, ids, error, message in (
        (POSITIVE, NAMES, TypeError, "candidates: expected a pair"),
        ((*BOTH, NEGATIVE), NAMES, TypeError, "candidates: expected a pair"),
        ((POSITIVE, NEGATIVE[0]), NAMES, ValueError, "negative_candidates tensor must be 2D"),
        ((POSITIVE, NEGATIVE * np.inf), NAMES, ValueError, "negative_candidates: .*got"),
        ((POSITIVE[:9], NEGATIVE), NAMES, ValueError, "as many rows by both models, got 9 and 80"),
        (BOTH, NAMES[:9], ValueError, "same number of rows"),
        (BOTH, NAMES[:, None], ValueError, "identifiers: expected shape"),
        (BOTH, np.arange(N), ValueError, "indexed with string, got int64"),
        ((POSITIVE[:0], NEGATIVE[:0]), NAMES[:0], ValueError, "one row or more"),
    ):
        with pytest.raises(error, match=message):
            layer.index(rows, ids)
        assert (text(layer(QUERIES)[1]) == expected).all()
    with pytest.raises(RuntimeError, match="outside of tf.function"):
        tf.function(lambda: layer.index(BOTH, NAMES))()


def test_bad_rankers_change_nothing() -> None:
    ranker = ranker_of()
    layer = filled(ranker)
    with pytest.raises(ValueError, match="ranker: expected 3 models, as there are query models, "
                                         "got positive, negative"):
        layer.index_ranker(ranker_of(2))
    no_ranker: Any = [1.0]
    with pytest.raises(TypeError, match="ranker: expected a FusionRanker, got list"):
        layer.index_ranker(no_ranker)
    with pytest.raises(ValueError, match="same number of rows"):
        layer.index_ranker(ranker, NAMES[:3])
    with pytest.raises(ValueError, match="among: expected"):
        layer.index_ranker(ranker, among="none")
    with pytest.raises(NotImplementedError, match="index_ranker"):
        layer.index(BOTH, NAMES)
    agree(layer(QUERIES), ranker.rank(QUERIES, 5, seen=True))


def test_bad_datasets() -> None:
    layer = posneg()
    with pytest.raises(TypeError, match="expected a dataset .* got ndarray"):
        layer.index_from_dataset(POSITIVE)
    for data, message in (
        (slices((NAMES, POSITIVE)).batch(8), "expected a dataset of batches of .identifiers, pos"),
        (slices((NAMES, *BOTH)), "batch"),
        (slices((NAMES, *BOTH)).batch(8).take(0), "got an empty dataset"),
    ):
        with pytest.raises(ValueError, match=message):
            layer.index_from_dataset(data)


def test_bad_arguments() -> None:
    model = tf.keras.Sequential([tf.keras.layers.Dense(3)])
    for arguments, options, message in (
        ((model,), {}, "expected both, or none"), ((), {"k": 0}, "k: expected 1 or more"),
        ((), {"metric": "l2"}, "metric: expected one of 'dot', 'cosine', got 'l2'"),
    ):
        with pytest.raises(ValueError, match=message):
            BruteForcePosNeg(*arguments, **options)
    layer = filled(ranker_of())
    with pytest.raises(TypeError, match="k: expected an int"):
        layer(QUERIES, k=2.5)
    with pytest.raises(TypeError, match="exclusions: expected identifiers of type string"):
        layer.query_with_exclusions(QUERIES, np.zeros((len(QUERIES), 1), np.int32))


def test_counting_true_candidates_needs_ids() -> None:
    ranker = ranker_of()
    metric = FactorizedBottomK(filled(ranker), ks=[1, 5])
    metric.update_state(QUERIES, None, ranker.rank(QUERIES, 5, seen=True).ids[:, 2].astype(str))
    assert [float(share) for share in metric.result()] == [0.0, 1.0]
    with pytest.raises(ValueError, match="true_candidate_ids: expected with a layer of several"):
        metric.update_state(QUERIES, QUERIES)
