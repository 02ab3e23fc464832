"""Furthest retrieval by a farann index inside a layer."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from tf_keras.src.saving.legacy.saved_model.utils import in_tf_saved_model_scope

from farann._types import Float32Array, Int64Array
from farann.adapters.tfrs import _scoring
from farann.adapters.tfrs._brute_force import BruteForceFurthest
from farann.adapters.tfrs._indexed import IndexedTopK, variable
from farann.adapters.tfrs._top_k import NOT_INDEXED, Tensor, furthest, take_ids
from farann.index import Index


@tf.keras.utils.register_keras_serializable(package="farann")
class Furthest(IndexedTopK):
    """Furthest candidates by a `farann.Index`: exact and fast, or approximate and faster.

    It runs eagerly, in ``tf.function``, ``fit`` and ``predict``, and is kept by ``save`` (a folder or
    a ``.keras`` file) and ``save_weights``; programs that load it need farann. For a serving
    process without Python, export what `to_exact` gives.

    Parameters
    ----------
    query_model : tf.keras.Model, optional
        Turns what the layer is called with into query embeddings; without it the layer expects
        embeddings.
    k : int
        How many candidates to retrieve, if a call doesn't say.
    metric : {"dot", "cosine", "l2"}
        Furthest means the smallest dot product, as two-tower models need it, the smallest cosine
        or the largest distance.
    recall, epsilon : float, optional
        Passed on to `farann.Index.search_furthest`: answers are approximate then. Give one of
        them at most.
    cells : int, optional
        Passed on to `farann.Index`.
    codes : str
        Passed on to `farann.Index`.
    name : str, optional
    id_dtype : str, optional
        Type of the identifiers; the first `index` tells it, so only ``load_weights`` into an empty
        layer needs it.

    Notes
    -----
    Candidates are kept twice: in a variable, which is what Keras saves, and in the index, which is
    made from it when it is first needed after loading. On the way through ``predict`` or another
    compiled function errors come as ``tf.errors.OpError`` with the same text.

    Examples
    --------
    >>> layer = Furthest(k=2)
    >>> layer = layer.index([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], ["a", "b", "c"])
    >>> scores, ids = layer.query_with_exclusions(tf.constant([[2.0, 1.0]]), [["c"]])
    >>> scores.numpy(), ids.numpy()
    (array([[-1., -2.]], dtype=float32), array([[b'b', b'a']], dtype=object))
    """

    _CANT_BE_EXPORTED = (
        "a Furthest layer can't be exported: its index is no part of a TensorFlow graph. Export "
        "layer.to_exact(), which retrieves the same in TensorFlow alone, or keep the layer itself "
        "with save and tf.keras.models.load_model")

    def __init__(self, query_model: Any = None, k: int = 10, metric: str = "dot",
                 recall: float | None = None, epsilon: float | None = None, cells: Any = None,
                 codes: str = "int8", name: str | None = None, *, id_dtype: Any = None) -> None:
        if recall is not None and epsilon is not None:
            raise ValueError("recall, epsilon: expected one of them at most, got both")
        super().__init__(query_model, k, metric, name, id_dtype)
        given = {"recall": recall, "epsilon": epsilon}
        self._search_options = {key: value for key, value in given.items() if value is not None}
        self._index_options = {"codes": codes} | ({} if cells is None else {"cells": cells})
        Index(metric=metric, **self._index_options)  # refuses what it doesn't know
        self._stamp = variable("stamp", np.int64(0))
        self._native = _Native()

    def is_exact(self) -> bool:
        """Whether answers are exact: unless `recall` or `epsilon` was given."""
        return not self._search_options

    def to_exact(self, name: str | None = None) -> BruteForceFurthest:
        """The same candidates and query model as a layer of TensorFlow alone.

        Parameters
        ----------
        name : str, optional

        Returns
        -------
        BruteForceFurthest
            It can be exported and served anywhere.
        """
        exact = BruteForceFurthest(self.query_model, self._k, name, metric=self._metric)
        return exact.index(self._candidates, self._identifiers)

    def get_config(self) -> dict[str, Any]:
        """As for all furthest layers, and what is passed on to the index."""
        return {**super().get_config(), **self._index_options, **self._search_options}

    def _store(self, rows: Float32Array) -> None:
        stamp = _stamp_of(rows)
        self._native.of(stamp, lambda: self._new_index(rows))
        self._candidates.assign(rows)
        self._stamp.assign(stamp)

    def _state(self) -> dict[str, Any]:
        return {**super()._state(), "stamp": self._stamp}

    def _new_index(self, rows: Float32Array) -> Index:
        index = Index(metric=self._metric, **self._index_options)
        index.add(rows)
        return index.build()

    def _retrieve(self, queries: Tensor, k: Any) -> tuple[Tensor, Tensor]:
        if tf.executing_eagerly():
            scores, rows = self._search(queries.numpy(), int(k), self._stamp.numpy())
            return tf.constant(scores), take_ids(self._identifiers, rows)
        if in_tf_saved_model_scope():
            # The trace of a model that this layer is part of must run in other processes.
            prepared = _scoring.prepare(self._metric, self._candidates)
            best, rows = furthest(_scoring.keys(self._metric, queries, prepared), k)
            return (_scoring.scores(self._metric, best, queries, prepared),
                    take_ids(self._identifiers, rows))
        scores, rows = tf.numpy_function(self._search, [queries, k, self._stamp],
                                         (tf.float32, tf.int64))
        shape = [queries.shape[0], None if tf.is_tensor(k) else k]
        scores.set_shape(shape)
        rows.set_shape(shape)
        return scores, take_ids(self._identifiers, rows)

    def _search(self, queries: Float32Array, k: int,
                stamp: int) -> tuple[Float32Array, Int64Array]:
        index = self._native.of(int(stamp), self._restored_index)
        scores, rows = index.search_furthest(queries, int(k), **self._search_options)
        return scores if self._metric == "l2" else -scores, rows

    def _restored_index(self) -> Index:
        rows = self._candidates.numpy()
        if len(rows) == 0:
            raise ValueError(NOT_INDEXED)
        return self._new_index(rows)


class _Native:
    """An index and the stamp of the rows that it was made from.

    Weights are restored in many ways, and most of them don't tell the layer. The stamp is restored
    along with the rows, so that a search sees when its index is not that of these rows.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: tuple[int, Index] | None = None

    def of(self, stamp: int, make: Callable[[], Index]) -> Index:
        """The index with that stamp, made if it isn't there."""
        held = self._held
        if held is None or held[0] != stamp:
            with self._lock:
                held = self._held
                if held is None or held[0] != stamp:
                    held = self._held = stamp, make()
        return held[1]


def _stamp_of(rows: Float32Array) -> int:
    """A number that tells rows from other rows."""
    digest = hashlib.blake2b(np.int64(rows.shape).tobytes(), digest_size=8)
    digest.update(rows.data)
    return int(np.frombuffer(digest.digest(), np.int64)[0])
