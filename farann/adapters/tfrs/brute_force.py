"""Exact furthest retrieval in TensorFlow alone, for serving anywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from farann.adapters.tfrs import scoring
from farann.adapters.tfrs.indexed import IndexedTopK, State, variable
from farann.adapters.tfrs.top_k import Tensor, furthest, take_ids


class BruteForceFurthest(IndexedTopK):
    """Furthest candidates by scoring them all in TensorFlow.

    It needs nothing but TensorFlow to run, so it can be exported and served like any model:
    ``tf.saved_model.save``, ``export``, ``save`` and ``save_weights`` keep the candidates.
    `Furthest` is much faster where farann is there.

    Parameters
    ----------
    query_model : tf.keras.Model, optional
        Turns what the layer is called with into query embeddings; without it the layer expects
        embeddings.
    k : int
        How many candidates to retrieve, if a call doesn't say.
    name : str, optional
    metric : {"dot", "cosine", "l2"}
        Furthest means the smallest dot product, as two-tower models need it, the smallest cosine
        or the largest distance.
    id_dtype : str, optional
        Type of the identifiers; the first `index` tells it, so only ``load_weights`` into an empty
        layer needs it.

    Notes
    -----
    Scores are computed in float32, as in ``tfrs.layers.factorized_top_k.BruteForce``: candidates
    whose scores differ by less than its rounding may change places. Of equal scores the candidate
    that was indexed first comes first.

    An identifier may belong to several candidates, but each exclusion makes room for one.

    Examples
    --------
    >>> import tensorflow as tf
    >>> from farann.adapters.tfrs import BruteForceFurthest
    >>> layer = BruteForceFurthest(k=2)
    >>> layer = layer.index([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], ["a", "b", "c"])
    >>> scores, ids = layer(tf.constant([[2.0, 1.0]]))
    >>> scores.numpy(), ids.numpy()
    (array([[ 2., -1.]], dtype=float32), array([[b'c', b'b']], dtype=object))
    """

    def __init__(self, query_model: Any = None, k: int = 10, name: str | None = None, *,
                 metric: str = "dot", id_dtype: Any = None) -> None:
        super().__init__(query_model, k, metric, name, id_dtype)
        if metric == "l2":
            self._offsets = variable("offsets", np.zeros(0, np.float32))
            self._centre = variable("centre", np.zeros(0, np.float32))
        # As an attribute it is exported with the layer, and holds on to a layer without a name.
        setattr(self, "query_with_exclusions", tf.function(super().query_with_exclusions))

    def _store(self, state: State, identifiers: Tensor) -> None:
        prepared = scoring.prepare(self._metric, tf.constant(state["candidates"]))
        more = {"offsets": prepared.offsets, "centre": prepared.centre}
        super()._store({"candidates": prepared.rows, **(more if self._metric == "l2" else {})},
                       identifiers)

    def _state(self) -> dict[str, Any]:
        state = super()._state()
        if self._metric == "l2":
            state |= {"offsets": self._offsets, "centre": self._centre}
        return state

    def _retrieve(self, queries: Tensor, k: Any) -> tuple[Tensor, Tensor]:
        state = {**self._state(), "candidates": self._indexed()}
        prepared = scoring.Prepared(state.pop("candidates"), **state)
        best, rows = furthest(scoring.keys(self._metric, queries, prepared), k)
        return (scoring.scores(self._metric, best, queries, prepared),
                take_ids(self._identifiers, rows))


tf.keras.utils.register_keras_serializable(package="farann")(BruteForceFurthest)
