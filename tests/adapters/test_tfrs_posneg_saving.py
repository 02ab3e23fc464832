"""The layers of several models saved, loaded in other processes, exported, and weights restored."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tfrs_cases import Elsewhere, Run, tf
from tfrs_posneg_cases import (
    ITEMS,
    NAMES,
    QUERIES,
    USER_NAMES,
    USERS,
    agree,
    filled,
    ranker_of,
    text,
    tower,
)

from farann.adapters.tfrs import BruteForceFusion, BruteForcePosNeg

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:You are saving")


@pytest.fixture
def elsewhere(tmp_path: Path, another_process: Elsewhere) -> Run:
    """Run code that knows `queries` and `given` in another process; bring back its `ids`."""
    return partial(another_process.run, tmp_path, QUERIES)


def posneg() -> Any:
    return BruteForcePosNeg(tower(USERS[0]), tower(USERS[1]), k=5, metric="cosine").index(
        (ITEMS[0], ITEMS[1]), NAMES)


@pytest.mark.parametrize("suffix", ["", ".keras"])
@pytest.mark.parametrize("make", [lambda: filled(ranker_of(holes=True), among="shown"), posneg],
                         ids=["fusion", "posneg"])
def test_saved_layers_work_in_other_processes(make: Callable[[], Any], suffix: str,
                                              tmp_path: Path, elsewhere: Run) -> None:
    layer = make()
    expected = layer(tf.constant(QUERIES))[1]
    layer.compile()
    layer.save(tmp_path / f"layer{suffix}")
    found = elsewhere(
        "import tensorflow as tf, farann.adapters.tfrs\n"
        "layer = tf.keras.models.load_model(given['path'])\n"
        "assert type(layer).__name__ == given['name'], layer\n"
        "assert str(layer.get_config()['k']) + layer.get_config().get('metric', '') == given['k']\n"
        "queries = tf.constant(queries)\n"
        "assert repr(layer.probability([1.0]).numpy()) == given['chance']\n"
        "layer.query_with_exclusions(queries, [['item 3']] * 7)\n"
        "ids = np.stack([layer.predict(queries, verbose=0)[1], layer(queries)[1]])",
        path=str(tmp_path / f"layer{suffix}"), name=type(layer).__name__,
        k="5" + ("cosine" if make is posneg else ""),
        chance=repr(layer.probability([1.0]).numpy()))
    assert (found == text(expected)).all()


def test_exported_layers_need_no_farann(tmp_path: Path, elsewhere: Run) -> None:
    ranker = ranker_of(holes=True)
    hits = ranker.rank(QUERIES, 5, seen=True)
    layer = filled(ranker)
    agree(layer(tf.constant(QUERIES)), hits)
    exclusions = hits.ids[:, :2].astype(str)
    layer.query_with_exclusions(tf.constant(QUERIES), exclusions)
    tf.saved_model.save(layer, tmp_path / "saved")
    layer.export(tmp_path / "exported")
    code = ("import sys, tensorflow as tf\n"
            "model = tf.saved_model.load(given['path'])\n"
            "queries = tf.constant(queries)\n"
            "ids = {call}\n"
            "assert 'farann' not in sys.modules and 'tensorflow_recommenders' not in sys.modules")
    for name, call in (
        ("saved", "model(queries)[1]"),
        ("saved", "model.signatures['serving_default'](queries)['output_2']"),
        ("exported", "model.serve(queries)[1]"),
    ):
        found = elsewhere(code.format(call=call), path=str(tmp_path / name))
        assert (found == hits.ids.astype(str)).all()
    left = elsewhere(
        code.format(call=f"model.query_with_exclusions(queries, {exclusions.tolist()})[1]"),
        path=str(tmp_path / "saved"))
    assert (left[:, :3] == hits.ids[:, 2:].astype(str)).all()


def test_restored_weights_are_searched(tmp_path: Path) -> None:
    ranker = ranker_of(holes=True)
    layer, hits = filled(ranker), ranker.rank(QUERIES, 5, seen=True)
    queries = tf.constant(QUERIES)
    path = str(tmp_path / "weights")
    layer.save_weights(path)
    layer.save_weights(path + ".weights.h5")
    checkpoint = tf.train.Checkpoint(layer=layer).save(path + ".checkpoint")
    ways: list[Callable[[Any], object]] = [
        lambda other: other.load_weights(path),
        lambda other: other.load_weights(path + ".weights.h5"),
        lambda other: other.set_weights(layer.get_weights()),
        lambda other: tf.train.Checkpoint(layer=other).restore(checkpoint),
        lambda other: other.index_ranker(ranker),
    ]
    for restore in ways:
        other = filled(ranker_of(fit=False))
        function = tf.function(other)
        for ask in (other, function):
            assert not (text(ask(queries)[1]) == hits.ids.astype(str)).all()
        restore(other)
        for ask in (other, function):
            agree(ask(queries), hits)
    unfilled = BruteForceFusion([tower(users) for users in USERS], k=5, id_dtype="string")
    unfilled.load_weights(path)
    agree(unfilled(queries), hits)


def test_without_query_models(tmp_path: Path) -> None:
    ranker = ranker_of()
    layer = BruteForceFusion(k=5).index_ranker(ranker)
    asked = tuple(users[:6] for users in USERS)
    agree(layer(asked), ranker.rank(USER_NAMES[:6], 5, seen=True))
    layer.save(tmp_path / "layer.keras")
    loaded = tf.keras.models.load_model(tmp_path / "layer.keras")
    agree(loaded(asked), ranker.rank(USER_NAMES[:6], 5, seen=True))


@pytest.mark.parametrize("suffix", ["", ".keras"])
def test_query_models_that_share_layers(suffix: str, tmp_path: Path) -> None:
    """Keras writes them once: each model comes back with what it needs."""
    inputs = tf.keras.Input((), dtype=tf.string)
    shared = tower(USERS[0])
    models = []
    for m, users in enumerate(USERS[:2]):
        dense = tf.keras.layers.Dense(users.shape[1], use_bias=False)
        models.append(tf.keras.Model(inputs, dense(shared(inputs))))
        models[m].layers[-1].set_weights([np.eye(*dense.kernel.shape) * (m + 1)])
    layer = BruteForcePosNeg(models[0], models[1], k=5).index((ITEMS[0], ITEMS[1]), NAMES)
    queries = tf.constant(QUERIES)
    before, excluded = layer(queries)[1].numpy(), [["item 03"]] * len(QUERIES)
    without = layer.query_with_exclusions(queries, excluded)[1].numpy()
    layer.save(tmp_path / f"layer{suffix}")
    loaded = tf.keras.models.load_model(tmp_path / f"layer{suffix}")
    assert (loaded(queries)[1].numpy() == before).all()
    assert (loaded.query_with_exclusions(queries, excluded)[1].numpy() == without).all()
    # The layer itself is as before, and can be exported with its exclusions.
    assert layer.negative_query_model is models[1]
    tf.saved_model.save(layer, tmp_path / "served")
    served = tf.saved_model.load(tmp_path / "served")
    assert (served.query_with_exclusions(queries, excluded)[1].numpy() == without).all()
