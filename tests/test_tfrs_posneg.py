"""The layers for two models against PosNegRanker: answers, identifiers, calibration, bad input."""

from __future__ import annotations

from typing import Any

import inside
import numpy as np
import pytest
import tensorflow_recommenders as tfrs
from sklearn.linear_model import LogisticRegression
from tfrs_cases import tf
from tfrs_posneg_cases import (
    ASKED,
    LAYERS,
    LIKED,
    NAMES,
    NEGATIVE,
    POSITIVE,
    QUERIES,
    USER_NAMES,
    USERS,
    WHAT,
    WHO,
    N,
    agree,
    calibrated,
    empty,
    filled,
    fitted,
    ranked,
    text,
    tower,
)

from farann.adapters.posneg import PosNegRanker
from farann.adapters.tfrs import BruteForcePosNeg, FactorizedBottomK

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

slices = tf.data.Dataset.from_tensor_slices
# What the positive and the negative model have, where they don't have the same.
LEFT, RIGHT = np.r_[0:60], np.r_[79:20:-1]
BOTH = (POSITIVE, NEGATIVE)


def ways(layer: Any) -> list[Any]:
    return [layer, tf.function(layer), lambda queries: layer.predict(queries, verbose=0)]


@pytest.mark.parametrize("metric", ["dot", "cosine"])
@pytest.mark.parametrize("layer_class", LAYERS)
def test_answers_are_those_of_the_ranker(layer_class: Any, metric: str) -> None:
    layer, ranker = filled(layer_class, metric=metric), fitted(metric)
    for ask in ways(layer):
        agree(ask(QUERIES), ranked(ranker))
    agree(layer(QUERIES, k=3), ranked(ranker, 3))
    agree(tf.function(layer)(QUERIES, k=tf.constant(4)), ranked(ranker, 4))
    assert isinstance(layer, tfrs.layers.factorized_top_k.TopK) and layer.is_exact()


def test_the_case_tells_fusion_from_what_is_no_fusion() -> None:
    best = ranked(fitted()).ids
    for other in (fitted(weight=1.0), fitted(weight=0.0), fitted(item_prior=None),
                  fitted(calibration="none")):
        assert (ranked(other).ids != best).any(axis=1).mean() > 0.5


@pytest.mark.parametrize("layer_class", LAYERS)
def test_pairs_of_embeddings(layer_class: Any) -> None:
    layer = layer_class(k=5).index(BOTH, NAMES)
    layer.calibrate(USERS, NAMES[WHAT], LIKED, users=WHO)
    ranker = fitted()
    asked = (USERS[0][:6], USERS[1][:6])
    for ask in ways(layer):
        agree(ask(asked), ranker.rank(*asked, 5))
    for single in (layer, tf.function(layer)):
        agree(single(tuple(users[3] for users in USERS)), ranker.rank(USERS[0][3], USERS[1][3], 5))
    agree(layer(tuple(users.astype(np.float64) for users in asked)), ranker.rank(*asked, 5))
    with pytest.raises(TypeError, match="queries: expected a pair"):
        layer(USERS[0])
    for other in (USERS[1][0], USERS[1][:5]):
        with pytest.raises(ValueError, match="queries: expected as many by both models"):
            layer((USERS[0], other))


@pytest.mark.parametrize("layer_class", LAYERS)
def test_many_features(layer_class: Any) -> None:
    """Each model takes what it needs of the same features."""
    inputs = {"user": tf.keras.Input((), dtype=tf.string), "gain": tf.keras.Input(())}
    gain = inputs["gain"][:, None]
    models = [tf.keras.Model(inputs, tower(users)(inputs["user"]) * gain ** power)
              for power, users in enumerate(USERS)]
    layer = layer_class(*models, k=5).index(BOTH, NAMES)
    gain = np.linspace(0.5, 2.0, len(USERS[0])).astype(np.float32)
    layer.calibrate({"user": USER_NAMES, "gain": gain}, NAMES[WHAT], LIKED, users=WHO)
    users = (USERS[0], USERS[1] * gain[:, np.newaxis])
    ranker = PosNegRanker(*BOTH).fit(*users, WHAT, LIKED, users=WHO)
    features = {"user": tf.constant(QUERIES), "gain": gain[ASKED]}
    for ask in ways(layer):
        agree(ask(features), ranker.rank(users[0][ASKED], users[1][ASKED], 5))
    first = ranker.rank(users[0][ASKED], users[1][ASKED], 2).ids
    agree(layer.query_with_exclusions(features, NAMES[first], k=3),
          ranker.rank(users[0][ASKED], users[1][ASKED], 3, exclude=first))


# ---- candidates and identifiers ----


@pytest.mark.parametrize("layer_class", LAYERS)
def test_datasets(layer_class: Any) -> None:
    expected = ranked(fitted())
    turned = np.random.default_rng(0).permutation(N)
    for layer in (
        empty(layer_class).index_from_dataset(slices((NAMES, *BOTH)).batch(7)),
        empty(layer_class).index_from_dataset(
            slices((NAMES, POSITIVE)).batch(7),
            slices((NAMES[turned], NEGATIVE[turned])).batch(9)),
    ):
        agree(calibrated(layer)(QUERIES), expected)


@pytest.mark.parametrize("missing", ["prior", "drop"])
@pytest.mark.parametrize("layer_class", LAYERS)
def test_candidates_that_one_model_lacks(layer_class: Any, missing: str) -> None:
    layer = empty(layer_class, missing=missing)
    layer.index((POSITIVE[LEFT], NEGATIVE[RIGHT]), (NAMES[LEFT], NAMES[RIGHT]))
    ranker = fitted(kept=(LEFT, RIGHT), missing=missing)
    assert len(layer.identifiers) == len(ranker.ids) == (80 if missing == "prior" else 39)
    shown = np.isin(WHAT, ranker.ids)
    if missing == "prior":
        message = "calibrate must be called first"
        for ask, error in ((layer, ValueError), (tf.function(layer), tf.errors.OpError)):
            with pytest.raises(error, match=message):
                ask(QUERIES)
        with pytest.raises(ValueError, match=message):
            layer.to_ranker()
    layer.calibrate(USER_NAMES[WHO[shown]], NAMES[WHAT[shown]], LIKED[shown])
    for ask in ways(layer):
        agree(ask(QUERIES), ranked(ranker))
    agree(layer(QUERIES, k=N), ranked(ranker, N))


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint64", "float64"])
@pytest.mark.parametrize("layer_class", LAYERS)
def test_identifiers_keep_their_type(layer_class: Any, dtype: str) -> None:
    ids = np.arange(N)[::-1].astype(dtype)
    if dtype.endswith("int64"):
        ids += np.array(2**53 + 1, dtype)  # float64 couldn't tell them apart
    layer = empty(layer_class).index(BOTH, ids)
    layer.calibrate(USER_NAMES[WHO], ids[WHAT], LIKED)
    hits = ranked(fitted())
    for ask in ways(layer):
        found = np.asarray(ask(QUERIES)[1])
        assert found.dtype == dtype and (found == ids[hits.ids]).all()
    left = layer.query_with_exclusions(QUERIES, ids[hits.ids[:, :2]], k=3)[1].numpy()
    assert left.dtype == dtype and (left == ids[hits.ids[:, 2:]]).all()


@pytest.mark.parametrize("layer_class", LAYERS)
def test_numbers_of_rows_are_the_default(layer_class: Any) -> None:
    layer = calibrated(empty(layer_class).index(BOTH), names=False)
    found = layer(QUERIES)[1].numpy()
    assert found.dtype == np.int32 and (found == ranked(fitted()).ids).all()


@pytest.mark.parametrize("dtype", ["float16", "float64", "bfloat16"])
@pytest.mark.parametrize("layer_class", LAYERS)
def test_number_types(layer_class: Any, dtype: str) -> None:
    rows = [tf.cast(side, dtype) for side in BOTH]
    layer = calibrated(empty(layer_class).index(rows, NAMES))
    positive, negative = (tf.cast(side, tf.float32).numpy() for side in rows)
    ranker = PosNegRanker(positive, negative).fit(USERS[0], USERS[1], WHAT, LIKED, users=WHO)
    agree(layer(QUERIES), ranked(ranker))


@pytest.mark.parametrize("layer_class", LAYERS)
def test_more_than_there_are(layer_class: Any) -> None:
    layer, ranker = filled(layer_class), fitted()
    for ask in (layer, tf.function(layer)):
        agree(ask(QUERIES, k=N + 10), ranked(ranker, N + 10))
    every = text(layer(QUERIES, k=N)[1])
    scores, ids = layer.query_with_exclusions(QUERIES, every[:, 2:], k=4)
    assert (text(ids[:, :2]) == every[:, :2]).all() and (text(ids[:, 2:]) == "").all()
    assert (np.isnan(scores) == [False, False, True, True]).all()


@pytest.mark.parametrize("layer_class", LAYERS)
def test_exclusions(layer_class: Any) -> None:
    ranker = fitted()
    out = ranked(ranker).ids[:, [0, 1, 3]]
    expected = ranked(ranker, exclude=out)
    agree(filled(layer_class).query_with_exclusions(QUERIES, NAMES[out]), expected)
    layer = filled(layer_class)
    asked = tf.function(layer.query_with_exclusions)
    agree(asked(QUERIES, NAMES[out]), expected)
    exclusions = NAMES[out]
    exclusions[:, 1] = "no item"  # unknown ones are ignored
    agree(layer.query_with_exclusions(QUERIES, exclusions),
          ranked(ranker, exclude=out[:, [0, 2]]))


@pytest.mark.parametrize("layer_class", LAYERS)
def test_exclusions_hold_whatever_the_scores(layer_class: Any) -> None:
    huge = [side * np.float32(1e9) for side in BOTH]
    layer = empty(layer_class).index(huge, NAMES)
    ids = text(layer(QUERIES, k=6)[1])
    scores, left = layer.query_with_exclusions(QUERIES, ids[:, [0, 2]], k=4)
    assert float(tf.reduce_max(tf.abs(scores))) > 1e9
    assert (text(left) == ids[:, [1, 3, 4, 5]]).all()


@pytest.mark.parametrize("layer_class", LAYERS)
def test_other_candidates_reach_compiled_functions(layer_class: Any) -> None:
    layer = filled(layer_class)
    function = tf.function(lambda queries: layer(queries))
    function(QUERIES)
    layer.predict(QUERIES, verbose=0)
    some = np.r_[10:63]
    layer.index((-POSITIVE[some, :3], -NEGATIVE[some]), NAMES[some])
    with pytest.raises(ValueError, match=r"queries: .*dimensions.* \[3, 4\], got \[6, 4\]"):
        layer(QUERIES)
    with pytest.raises(tf.errors.InvalidArgumentError, match="queries: .*dimensions"):
        function(QUERIES)
    layer.index((-POSITIVE[some], -NEGATIVE[some]), NAMES[some])
    # The calibration stays, and with it each item's own log-odds.
    line, own = fitted().linear_logit, fitted().item_log_odds[some]
    assert line is not None and own.any()
    liked = line.positive_slope * -(USERS[0] @ POSITIVE[some].T) + line.positive_intercept
    disliked = line.negative_slope * -(USERS[1] @ NEGATIVE[some].T) + line.negative_intercept
    fused = (line.weight * (liked + line.positive_item * own)
             - (1 - line.weight) * (disliked + line.negative_item * own))
    asked = fused[[int(name.split()[1]) for name in QUERIES]]
    expected = NAMES[some][np.argsort(-asked, axis=1)[:, :5]]
    for ask in (function, lambda queries: layer.predict(queries, verbose=0)):
        scores, ids = ask(QUERIES)
        assert (text(ids) == expected).all()
        np.testing.assert_allclose(scores, -np.sort(-asked)[:, :5], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer_class", LAYERS)
def test_of_equal_scores_the_first_comes_first(layer_class: Any) -> None:
    rows = [np.repeat(side[:20], 3, axis=0) for side in BOTH]
    found = empty(layer_class, k=9).index(rows)(QUERIES)[1].numpy()
    assert (found.reshape(len(QUERIES), 3, 3) % 3 == [0, 1, 2]).all()


# ---- calibration ----


@pytest.mark.parametrize("options", [
    {"weight": "fit"}, {"weight": 0.9, "item_prior": None}, {"calibration": "temperature"},
    {"calibration": LogisticRegression(C=0.01)}, {"calibration": "none", "weight": 0.25},
], ids=str)
@pytest.mark.parametrize("layer_class", LAYERS)
def test_ways_to_calibrate(layer_class: Any, options: dict[str, Any]) -> None:
    layer = calibrated(empty(layer_class).index(BOTH, NAMES), **options)
    agree(layer(QUERIES), ranked(fitted(**options)))


def test_feedback_is_embedded_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside.fused_layers(), "_BATCH", 7)
    agree(filled(BruteForcePosNeg)(QUERIES), ranked(fitted()))


@pytest.mark.parametrize("layer_class", LAYERS)
def test_weights_and_shares_of_feedback(layer_class: Any) -> None:
    weight = np.linspace(0.1, 3.0, len(WHO))
    layer = calibrated(empty(layer_class).index(BOTH, NAMES), sample_weight=weight, prior=0.03)
    ranker = PosNegRanker(*BOTH).fit(USERS[0], USERS[1], WHAT, LIKED, users=WHO,
                                     sample_weight=weight, prior=0.03)
    hits = ranked(ranker)
    agree(layer(QUERIES), hits)
    np.testing.assert_allclose(layer.probability(layer(QUERIES)[0]),
                               ranker.probability(hits.scores), rtol=1e-4)
    assert np.isnan(layer.probability([np.nan])).all()


@pytest.mark.parametrize("layer_class", LAYERS)
def test_without_calibration_products_are_averaged(layer_class: Any) -> None:
    layer = empty(layer_class).index(BOTH, NAMES)
    expected = ranked(PosNegRanker(*BOTH, calibration="none"))
    for ask in ways(layer):
        agree(ask(QUERIES), expected)
    assert np.isnan(layer.probability(layer(QUERIES)[0])).all()


@pytest.mark.parametrize("metric", ["dot", "cosine"])
@pytest.mark.parametrize("layer_class", LAYERS)
def test_of_a_ranker_and_back(layer_class: Any, metric: str) -> None:
    ranker = fitted(metric, kept=(LEFT, RIGHT), weight="fit")
    layer = empty(layer_class, metric=metric).index_ranker(ranker, NAMES)
    hits = ranked(ranker)
    for ask in ways(layer):
        agree(ask(QUERIES), hits)
    back = ranked(layer.to_ranker())
    assert (back.ids == hits.ids).all()
    for one, other in zip(back, hits, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
    np.testing.assert_allclose(layer.to_ranker().probability(hits.scores),
                               ranker.probability(hits.scores))
    numbered = empty(layer_class, metric=metric).index_ranker(ranker)
    found = numbered(QUERIES)[1].numpy()
    assert found.dtype == np.int64 and (found == hits.ids).all()


@pytest.mark.parametrize("layer_class", LAYERS)
def test_raw_rankers(layer_class: Any) -> None:
    ranker = PosNegRanker(*BOTH, calibration="none", weight=0.75)
    layer = empty(layer_class).index_ranker(ranker, NAMES)
    agree(layer(QUERIES), ranked(ranker))
    layer.index((POSITIVE[LEFT], NEGATIVE[RIGHT]), (NAMES[LEFT], NAMES[RIGHT]))
    with pytest.raises(ValueError, match="calibrate must be called first"):
        layer(QUERIES)


@pytest.mark.parametrize("layer_class", LAYERS)
def test_rankers_that_are_no_product(layer_class: Any) -> None:
    layer = filled(layer_class)
    expected = ranked(fitted())
    for ranker, message in (
        (fitted(calibration="isotonic"), "ranker: expected the fusion 'logit'"),
        (fitted(fusion="convex"), "ranker: expected the fusion 'logit'"),
        (fitted(normalize="zmuv"), "ranker: expected the fusion 'logit'"),
        (fitted(veto=0.4), "without normalize and veto"),
        (fitted("l2"), "metric 'dot' .* of l2"),
        (fitted("cosine"), "metric 'dot', as the layer is, got 'cosine'"),
    ):
        with pytest.raises(ValueError, match=message):
            layer.index_ranker(ranker, NAMES)
        agree(layer(QUERIES), expected)
    with pytest.raises(RuntimeError, match="fit must be called first"):
        layer.index_ranker(PosNegRanker(*BOTH), NAMES)
    with pytest.raises(ValueError, match="same number of rows"):
        layer.index_ranker(fitted(), NAMES[:3])


# ---- bad input ----


@pytest.mark.parametrize("layer_class", LAYERS)
def test_nothing_indexed(layer_class: Any) -> None:
    message = "`index` method must be called first"
    layer = empty(layer_class)
    for ask in (layer, lambda queries: layer.to_ranker(), lambda queries: calibrated(layer)):
        with pytest.raises(ValueError, match=message):
            ask(QUERIES)
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        tf.function(layer)(QUERIES)


@pytest.mark.parametrize("layer_class", LAYERS)
def test_bad_candidates_change_nothing(layer_class: Any) -> None:
    layer, expected = filled(layer_class), ranked(fitted())
    twice = np.where(np.arange(N) == 5, "item 3", NAMES)
    for rows, ids, error, message in (
        (POSITIVE, NAMES, TypeError, "candidates: expected a pair"),
        ((*BOTH, NEGATIVE), NAMES, TypeError, "candidates: expected a pair"),
        ((POSITIVE, NEGATIVE[0]), NAMES, ValueError, "negative_candidates tensor must be 2D"),
        ((POSITIVE, NEGATIVE * np.inf), NAMES, ValueError, "negative_candidates: .*got"),
        ((POSITIVE[:9], NEGATIVE), NAMES, ValueError, "same number of rows"),
        (BOTH, (NAMES, NAMES[:9]), ValueError, "same number of rows"),
        (BOTH, (NAMES, NAMES, NAMES), ValueError, "identifiers: expected a tensor or a pair"),
        (BOTH, (NAMES, np.arange(N)), ValueError, "same type for both models, got string and int"),
        (BOTH, NAMES[:, None], ValueError, "identifiers: expected shape"),
        (BOTH, twice, ValueError, "identifiers: expected each once, got b'item 3' twice"),
        (BOTH, (NAMES, twice), ValueError, "identifiers: expected each once"),
        (BOTH, np.arange(N), ValueError, "indexed with string, got int64"),
        ((POSITIVE[:0], NEGATIVE[:0]), NAMES[:0], ValueError, "one row or more"),
    ):
        with pytest.raises(error, match=message):
            layer.index(rows, ids)
        agree(layer(QUERIES), expected)
    with pytest.raises(RuntimeError, match="outside of tf.function"):
        tf.function(lambda: layer.index(BOTH, NAMES))()
    others = np.char.add("other ", NAMES)
    with pytest.raises(ValueError, match="some that both models have, got none"):
        empty(layer_class, missing="drop").index(BOTH, (NAMES, others))


@pytest.mark.parametrize("layer_class", LAYERS)
def test_bad_datasets(layer_class: Any) -> None:
    layer = empty(layer_class)
    pairs = slices((NAMES, POSITIVE)).batch(8)
    with pytest.raises(TypeError, match="expected a dataset .* got ndarray"):
        layer.index_from_dataset(POSITIVE)
    with pytest.raises(TypeError, match="expected a dataset .* got ndarray"):
        layer.index_from_dataset(pairs, NEGATIVE)
    for data, message in (
        ((pairs,), "expected a dataset of batches of .identifiers, positive"),
        ((slices((NAMES, *BOTH)),), "batch"),
        ((pairs, slices(NEGATIVE).batch(8)), "negative_candidates: expected batches"),
        ((pairs.take(0), pairs), "got an empty dataset"),
    ):
        with pytest.raises(ValueError, match=message):
            layer.index_from_dataset(*data)


@pytest.mark.parametrize("layer_class", LAYERS)
def test_bad_feedback_changes_nothing(layer_class: Any) -> None:
    layer, expected = filled(layer_class), ranked(fitted())
    queries, ids = USER_NAMES[WHO], NAMES[WHAT]
    for arguments, options, error, message in (
        ((queries, np.char.add(ids, "?"), LIKED), {}, KeyError, r"item_ids: b'item \d+\?'"),
        ((queries, WHAT, LIKED), {}, KeyError, "is no candidate"),
        ((queries, ids[:, None], LIKED), {}, ValueError, "item_ids: expected shape"),
        ((queries[:9], ids, LIKED), {}, ValueError, "item_ids: expected 9 ids"),
        ((queries, ids, np.ones(len(ids))), {}, ValueError, "labels: expected likes and dislikes"),
        ((queries, ids, LIKED), {"calibration": "isotonic"}, ValueError,
         "calibration: expected one that is linear"),
        ((queries, ids, LIKED), {"weight": 2.0}, ValueError, "weight: expected"),
    ):
        with pytest.raises(error, match=message):
            layer.calibrate(*arguments, **options)
        agree(layer(QUERIES), expected)


@pytest.mark.parametrize("layer_class", LAYERS)
def test_bad_arguments(layer_class: Any) -> None:
    model = tf.keras.Sequential([tf.keras.layers.Dense(3)])
    for arguments, options, message in (
        ((model,), {}, "expected both, or none"), ((), {"k": 0}, "k: expected 1 or more"),
        ((), {"metric": "l2"}, "metric: expected 'dot' or 'cosine', got 'l2'"),
        ((), {"missing": "zero"}, "missing: expected 'prior' or 'drop', got 'zero'"),
    ):
        with pytest.raises(ValueError, match=message):
            layer_class(*arguments, **options)
    layer = filled(layer_class)
    with pytest.raises(TypeError, match="k: expected an int"):
        layer(QUERIES, k=2.5)
    with pytest.raises(TypeError, match="exclusions: expected identifiers of type string"):
        layer.query_with_exclusions(QUERIES, np.zeros((len(QUERIES), 1), np.int32))


@pytest.mark.parametrize("layer_class", LAYERS)
def test_counting_true_candidates_needs_ids(layer_class: Any) -> None:
    metric = FactorizedBottomK(filled(layer_class), ks=[1, 5])
    third = NAMES[ranked(fitted()).ids[:, 2]]
    metric.update_state(QUERIES, None, third)
    assert [float(share) for share in metric.result()] == [0.0, 1.0]
    with pytest.raises(ValueError, match="true_candidate_ids: expected with a layer of two"):
        metric.update_state(QUERIES, QUERIES)
