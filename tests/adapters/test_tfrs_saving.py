"""The furthest layers saved, loaded in other processes, exported, and their weights restored."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_tfrs_layers import INDEXED, NAMES, QUERIES, ROWS, filled, order, text
from tfrs_cases import Elsewhere, Run, tf

from farann.adapters.tfrs import BruteForceFurthest, Furthest, StreamingFurthest

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:You are saving")


@pytest.fixture
def elsewhere(tmp_path: Path, another_process: Elsewhere) -> Run:
    """Run code that knows `queries` and `given` in another process; bring back its `ids`."""
    return partial(another_process.run, tmp_path, QUERIES)


def two_towers(layer_class: Any, metric: str = "dot") -> Any:
    """A layer with a query model that doubles and turns what it gets."""
    tower = tf.keras.Sequential([tf.keras.layers.Dense(6, use_bias=False, input_shape=(6,))])
    tower.set_weights([np.diag([2.0, 2.0, 2.0, 2.0, 2.0, -2.0])])
    return filled(layer_class(tower, 4, metric=metric), ids=NAMES)


@pytest.mark.parametrize("suffix", ["", ".keras"])
@pytest.mark.parametrize("layer_class", INDEXED)
def test_saved_layers_work_in_other_processes(layer_class: Any, suffix: str, tmp_path: Path,
                                              elsewhere: Run) -> None:
    layer = two_towers(layer_class, "l2")
    layer.compile()
    before = text(layer(QUERIES)[1])
    layer.save(tmp_path / f"layer{suffix}")
    found = elsewhere(
        "import tensorflow as tf, farann.adapters.tfrs\n"
        "layer = tf.keras.models.load_model(given['path'])\n"
        "assert type(layer).__name__ == given['name'], layer\n"
        "layer.query_with_exclusions(queries, [['item 3']] * 8)\n"
        "ids = layer.predict(queries, verbose=0)[1]",
        path=str(tmp_path / f"layer{suffix}"), name=layer_class.__name__)
    assert (found == before).all()


def test_exported_layers_need_no_farann(tmp_path: Path, elsewhere: Run) -> None:
    native = two_towers(Furthest, "cosine")
    before = text(native(QUERIES)[1])
    exact = native.to_exact()
    assert isinstance(exact, BruteForceFurthest) and (text(exact(QUERIES)[1]) == before).all()
    exact.query_with_exclusions(QUERIES, NAMES[order()[:, :2]])
    tf.saved_model.save(exact, tmp_path / "saved")
    exact.export(tmp_path / "exported")
    code = ("import sys, tensorflow as tf\n"
            "model = tf.saved_model.load(given['path'])\n"
            "ids = {call}\n"
            "assert 'farann' not in sys.modules and 'tensorflow_recommenders' not in sys.modules")
    for name, call in (
        ("saved", "model(queries)[1]"),
        ("saved", "model.signatures['serving_default'](tf.constant(queries))['output_2']"),
        ("exported", "model.serve(queries)[1]"),
    ):
        assert (elsewhere(code.format(call=call), path=str(tmp_path / name)) == before).all()


@pytest.mark.parametrize("layer_class", [Furthest, StreamingFurthest])
def test_what_needs_python_refuses_to_be_exported(layer_class: Any, tmp_path: Path) -> None:
    layer = filled(layer_class())
    layer(QUERIES)
    inputs = tf.keras.Input((6,))
    inside = tf.keras.Model(inputs, layer(inputs))
    module = tf.Module()
    module.layer = layer
    for export in (layer.export, lambda path: tf.saved_model.save(layer, path),
                   lambda path: tf.saved_model.save(inside, path),
                   lambda path: tf.saved_model.save(module, path)):
        with pytest.raises(ValueError, match="can't be exported: .*(to_exact|BruteForce)"):
            export(tmp_path / "exported")
    message = "to_exact" if layer_class is Furthest else "untracked"
    with pytest.raises(AssertionError, match=message):
        inside.export(tmp_path / "exported")


@pytest.mark.parametrize("suffix", ["", ".keras"])
def test_models_around_a_native_layer(suffix: str, tmp_path: Path, elsewhere: Run) -> None:
    inputs = tf.keras.Input((6,))
    model = tf.keras.Model(inputs, filled(Furthest(k=4), ids=NAMES)(inputs))
    before = text(model(QUERIES)[1])
    model.save(tmp_path / f"model{suffix}")
    found = elsewhere("import tensorflow as tf, farann.adapters.tfrs\n"
                      "ids = tf.keras.models.load_model(given['path'])(queries)[1]",
                      path=str(tmp_path / f"model{suffix}"))
    assert (found == before).all()
    if not suffix:  # without farann the trace answers, in TensorFlow
        found = elsewhere("import tensorflow as tf\n"
                          "ids = tf.saved_model.load(given['path'])(queries)[1]",
                          path=str(tmp_path / "model"))
        assert (found == before).all()


@pytest.mark.parametrize(("layer_class", "metric"), [
    (BruteForceFurthest, "cosine"), (Furthest, "l2"), (Furthest, "cosine")])
def test_restored_weights_are_searched(layer_class: Any, metric: str, tmp_path: Path) -> None:
    layer = filled(layer_class(k=4, metric=metric), ids=NAMES)
    expected = text(layer(QUERIES)[1])
    path = str(tmp_path / "weights")
    layer.save_weights(path)
    layer.save_weights(path + ".weights.h5")
    checkpoint = tf.train.Checkpoint(layer=layer).save(path + ".checkpoint")

    def other() -> Any:
        return filled(layer_class(k=4, metric=metric), -ROWS[:50], NAMES[:50])

    ways: list[Callable[[Any], object]] = [
        lambda other: other.load_weights(path),
        lambda other: other.load_weights(path + ".weights.h5"),
        lambda other: other.set_weights(layer.get_weights()),
        lambda other: tf.train.Checkpoint(layer=other).restore(checkpoint),
        lambda other: other.index(ROWS, NAMES),
    ]
    for restore in ways:
        layer_with_others = other()
        function = tf.function(layer_with_others)
        assert not (text(function(QUERIES)[1]) == expected).all()
        assert not (text(layer_with_others(QUERIES)[1]) == expected).all()
        restore(layer_with_others)
        assert (text(layer_with_others(QUERIES)[1]) == expected).all()
        assert (text(function(QUERIES)[1]) == expected).all()
    empty = layer_class(k=4, metric=metric, id_dtype="string")
    empty.load_weights(path)
    assert (text(empty(QUERIES)[1]) == expected).all()


@pytest.mark.parametrize("layer_class", INDEXED)
def test_new_identifiers_for_the_same_rows(layer_class: Any) -> None:
    layer = filled(layer_class(k=4), ids=NAMES)
    layer(QUERIES)
    layer.index(ROWS, NAMES[::-1])
    assert (text(layer(QUERIES)[1]) == NAMES[::-1][order()[:, :4]]).all()


def test_streaming_layers_are_saved_without_their_dataset(tmp_path: Path) -> None:
    layer = filled(StreamingFurthest(k=4, metric="cosine"))
    layer(QUERIES)
    layer.save(tmp_path / "layer.keras")
    loaded = tf.keras.models.load_model(tmp_path / "layer.keras")
    with pytest.raises(ValueError, match="must be called first"):
        loaded(QUERIES)
    assert (filled(loaded)(QUERIES)[1].numpy() == order("cosine")[:, :4]).all()


def test_query_models_of_ones_own(tmp_path: Path) -> None:
    class Tower(tf.keras.Model):  # type: ignore[misc]
        def __init__(self, width: int, **options: Any) -> None:
            super().__init__(**options)
            self.dense = tf.keras.layers.Dense(width)

        def call(self, x: Any) -> Any:
            return self.dense(x)

    layer = filled(Furthest(Tower(6)), ids=NAMES)
    expected = text(layer(QUERIES)[1])
    layer.save(tmp_path / "layer")
    with pytest.raises(ValueError, match="Unknown .*Tower"):
        tf.keras.models.load_model(tmp_path / "layer")
    loaded = tf.keras.models.load_model(tmp_path / "layer", custom_objects={"Tower": Tower})
    assert (text(loaded(QUERIES)[1]) == expected).all()
