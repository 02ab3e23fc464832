"""The layers' ways to an approximate index: recall, epsilon, cells."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tfrs_cases import tf

import farann
from farann.adapters.tfrs import FactorizedBottomK, Furthest

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

ROWS = np.random.default_rng(0).standard_normal((5000, 12), dtype=np.float32)
QUERIES = np.random.default_rng(1).standard_normal((40, 12), dtype=np.float32)
OPTIONS: list[dict[str, Any]] = [
    {"recall": 0.9}, {"epsilon": 0.5}, {"cells": 20}, {"cells": 20, "recall": 0.9},
    {"cells": 20, "epsilon": 0.5, "metric": "cosine"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_answers_are_those_of_the_index(options: dict[str, Any]) -> None:
    layer = Furthest(k=10, **options).index(ROWS)
    index = farann.Index(metric=options.get("metric", "dot"), cells=options.get("cells"))
    index.add(ROWS)
    index.build()
    how = {key: options[key] for key in ("recall", "epsilon") if key in options}
    expected = index.search_furthest(QUERIES, 10, **how)
    for ask in (layer, tf.function(layer)):
        scores, ids = ask(QUERIES)
        assert (ids.numpy() == expected.ids).all()
        assert (scores.numpy() == -expected.scores).all()
    assert layer.is_exact() == (not how)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_options_survive_saving(options: dict[str, Any], tmp_path: Any) -> None:
    layer = Furthest(k=10, **options).index(ROWS)
    before = layer(QUERIES)[1].numpy()
    layer.save(tmp_path / "layer.keras")
    loaded = tf.keras.models.load_model(tmp_path / "layer.keras")
    assert loaded.is_exact() == layer.is_exact()
    assert (loaded(QUERIES)[1].numpy() == before).all()


def test_evaluation_of_approximate_layers_needs_ids() -> None:
    metric = FactorizedBottomK(Furthest(recall=0.9).index(ROWS), ks=[10])
    true = Furthest(k=1).index(ROWS)(QUERIES)[1].numpy()[:, 0]
    with pytest.raises(ValueError, match="true_candidate_ids: expected with a layer"):
        metric.update_state(QUERIES, ROWS[true])
    metric.update_state(QUERIES, ROWS[true], true)
    assert metric.result()[0] > 0.5
