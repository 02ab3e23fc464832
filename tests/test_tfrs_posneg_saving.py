"""The layers for two models saved, loaded in other processes, exported, and weights restored."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tfrs_cases import Elsewhere, Run, tf
from tfrs_posneg_cases import (
    LAYERS,
    NAMES,
    NEGATIVE,
    POSITIVE,
    QUERIES,
    USERS,
    agree,
    empty,
    filled,
    fitted,
    ranked,
    text,
)

from farann.adapters.tfrs import BruteForcePosNeg, PosNeg

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:You are saving")

# Items that a model lacks, so that more than embeddings has to be kept.
LEFT, RIGHT = np.r_[0:60], np.r_[79:20:-1]


@pytest.fixture
def elsewhere(tmp_path: Path, another_process: Elsewhere) -> Run:
    """Run code that knows `queries` and `given` in another process; bring back its `ids`."""
    return partial(another_process.run, tmp_path, QUERIES)


def with_holes(layer_class: Any, **options: Any) -> tuple[Any, Any]:
    """A layer and what it finds, on its ranker's word."""
    ranker = fitted("cosine", (LEFT, RIGHT))
    layer = empty(layer_class, metric="cosine", **options).index_ranker(ranker, NAMES)
    hits = ranked(ranker)
    agree(layer(tf.constant(QUERIES)), hits)
    return layer, hits


@pytest.mark.parametrize("suffix", ["", ".keras"])
@pytest.mark.parametrize("layer_class", LAYERS)
def test_saved_layers_work_in_other_processes(layer_class: Any, suffix: str, tmp_path: Path,
                                              elsewhere: Run) -> None:
    layer, hits = with_holes(layer_class, missing="drop")
    layer.compile()
    layer.save(tmp_path / f"layer{suffix}")
    found = elsewhere(
        "import tensorflow as tf, farann.adapters.tfrs\n"
        "layer = tf.keras.models.load_model(given['path'])\n"
        "assert type(layer).__name__ == given['name'], layer\n"
        "assert layer.get_config()['missing'] == 'drop'\n"
        "assert repr(layer.to_ranker().weight) == given['weight']\n"
        "queries = tf.constant(queries)\n"
        "layer.query_with_exclusions(queries, [['item 3']] * 7)\n"
        "ids = np.stack([layer.predict(queries, verbose=0)[1], layer(queries)[1]])",
        path=str(tmp_path / f"layer{suffix}"), name=layer_class.__name__,
        weight=repr(layer.to_ranker().weight))
    assert (found == NAMES[hits.ids]).all()


def test_exported_layers_need_no_farann(tmp_path: Path, elsewhere: Run) -> None:
    native, hits = with_holes(PosNeg, missing="drop")
    exact = native.to_exact()
    assert isinstance(exact, BruteForcePosNeg) and exact.get_config()["missing"] == "drop"
    agree(exact(tf.constant(QUERIES)), hits)
    exclusions = NAMES[hits.ids[:, :2]]
    exact.query_with_exclusions(tf.constant(QUERIES), exclusions)
    tf.saved_model.save(exact, tmp_path / "saved")
    exact.export(tmp_path / "exported")
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
        assert (found == NAMES[hits.ids]).all()
    left = elsewhere(
        code.format(call=f"model.query_with_exclusions(queries, {exclusions.tolist()})[1]"),
        path=str(tmp_path / "saved"))
    assert (left[:, :3] == NAMES[hits.ids[:, 2:]]).all()


def test_the_native_layer_refuses_to_be_exported(tmp_path: Path) -> None:
    layer = filled(PosNeg)
    layer(tf.constant(QUERIES))
    inputs = tf.keras.Input((), dtype=tf.string)
    inside = tf.keras.Model(inputs, layer(inputs))
    for export in (layer.export, lambda path: tf.saved_model.save(layer, path),
                   lambda path: tf.saved_model.save(inside, path)):
        with pytest.raises(ValueError, match="PosNeg layer can't be exported: .*to_exact"):
            export(tmp_path / "exported")
    with pytest.raises(AssertionError, match="PosNeg layer.*to_exact"):
        inside.export(tmp_path / "exported")


@pytest.mark.parametrize("suffix", ["", ".keras"])
def test_models_around_the_native_layer(suffix: str, tmp_path: Path, elsewhere: Run) -> None:
    layer, hits = with_holes(PosNeg)
    inputs = tf.keras.Input((), dtype=tf.string)
    model = tf.keras.Model(inputs, layer(inputs))
    agree(model(tf.constant(QUERIES)), hits)
    model.save(tmp_path / f"model{suffix}")
    code = "ids = {}(given['path'])(tf.constant(queries))[1]"
    found = elsewhere("import tensorflow as tf, farann.adapters.tfrs\n"
                      + code.format("tf.keras.models.load_model"),
                      path=str(tmp_path / f"model{suffix}"))
    assert (found == NAMES[hits.ids]).all()
    if not suffix:  # without farann the trace answers, in TensorFlow
        found = elsewhere("import tensorflow as tf\n" + code.format("tf.saved_model.load"),
                          path=str(tmp_path / "model"))
        assert (found == NAMES[hits.ids]).all()


@pytest.mark.parametrize("layer_class", LAYERS)
def test_restored_weights_are_searched(layer_class: Any, tmp_path: Path) -> None:
    layer, hits = with_holes(layer_class)
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
        lambda other: other.index_ranker(layer.to_ranker(), layer.identifiers),
    ]
    for restore in ways:
        other = empty(layer_class, metric="cosine")
        other.index((POSITIVE[:50], NEGATIVE[:50]), NAMES[:50])
        function = tf.function(other)
        for ask in (other, function):
            assert not (text(ask(queries)[1]) == NAMES[hits.ids]).all()
        restore(other)
        for ask in (other, function):
            agree(ask(queries), hits)
    unfilled = empty(layer_class, metric="cosine", id_dtype="string")
    unfilled.load_weights(path)
    agree(unfilled(queries), hits)


@pytest.mark.parametrize("layer_class", LAYERS)
def test_another_calibration_reaches_compiled_functions(layer_class: Any) -> None:
    layer = empty(layer_class).index((POSITIVE, NEGATIVE), NAMES)
    function = tf.function(layer)
    function(tf.constant(QUERIES))
    for options in ({}, {"weight": 0.9}, {"item_prior": None}):
        ranker = fitted(**options)
        layer.index_ranker(ranker, NAMES)
        agree(function(tf.constant(QUERIES)), ranked(ranker))


@pytest.mark.parametrize("layer_class", LAYERS)
def test_without_query_models(layer_class: Any, tmp_path: Path) -> None:
    layer = layer_class(k=5).index_ranker(fitted(), NAMES)
    asked = (USERS[0][:6], USERS[1][:6])
    hits = fitted().rank(*asked, 5)
    agree(layer(asked), hits)
    layer.save(tmp_path / "layer.keras")
    agree(tf.keras.models.load_model(tmp_path / "layer.keras")(asked), hits)
