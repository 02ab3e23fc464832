"""Layers that are indexed again while other threads ask them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from tfrs_cases import tf

from farann.adapters.tfrs import BruteForceFurthest, BruteForcePosNeg, Furthest

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

QUERIES = np.random.default_rng(1).standard_normal((4, 5), dtype=np.float32)
# Two states, of other rows, numbers of rows and identifiers.
STATES = [(np.random.default_rng(i).standard_normal((60 + 9 * i, 5), dtype=np.float32),
           [f"{i}-{j}" for j in range(60 + 9 * i)]) for i in range(2)]


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("layer_class", [BruteForceFurthest, Furthest, BruteForcePosNeg])
def test_answers_are_of_one_state(layer_class: Any, traced: bool) -> None:
    several = layer_class is BruteForcePosNeg
    options = {} if several else {"metric": "l2"}
    layer = layer_class(k=4, **options)
    queries = (tf.constant(QUERIES), tf.constant(-QUERIES)) if several else tf.constant(QUERIES)

    def put(i: int) -> None:
        rows, ids = STATES[i]
        layer.index((rows, rows[::-1]) if several else rows, ids)

    put(0)
    ask = tf.function(layer) if traced else layer
    done, found, right = threading.Event(), [], []

    def answer() -> list[Any]:
        scores, ids = ask(queries)
        return [ids.numpy().tolist(), np.round(scores.numpy(), 3).tolist()]

    def asking() -> None:
        while not done.is_set():
            found.append(answer())

    for i in range(2):
        put(i)
        right.append(answer())
    with ThreadPoolExecutor(3) as pool:
        threads = [pool.submit(asking) for _ in range(3)]
        try:
            for i in range(60):
                put(i % 2)
        finally:
            done.set()
    for thread in threads:
        thread.result()
    assert len(found) > 10 and all(one in right for one in found)


def test_states_that_were_saved_half_assigned_are_an_error() -> None:
    layer = BruteForceFurthest(k=2).index(*STATES[0])
    ask, weights = tf.function(layer), layer.get_weights()
    names = [weight.name for weight in layer.weights]
    at = next(i for i, name in enumerate(names) if name.startswith("version"))
    layer.set_weights([*weights[:at], weights[at] + 1, *weights[at + 1 :]])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("farann.adapters.versions._MOST_TRIES", 10)
        with pytest.raises(tf.errors.InvalidArgumentError, match="index them once more"):
            ask(tf.constant(QUERIES))
    layer.index(*STATES[0])
    assert (layer(QUERIES)[1] == tf.function(layer)(tf.constant(QUERIES))[1]).numpy().all()
