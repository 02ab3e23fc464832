"""Exact furthest retrieval in TensorFlow alone, from memory or from a dataset."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from farann.adapters.tfrs import scoring
from farann.adapters.tfrs.indexed import IndexedTopK, State, check_dataset, variable
from farann.adapters.tfrs.top_k import NOT_INDEXED, FurthestTopK, Tensor, take_along, take_ids


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
        self._center = variable("center", np.zeros(0, np.float32))
        self._compile()

    def _store(self, state: State, identifiers: Tensor) -> None:
        candidates = tf.constant(state["candidates"])
        center = tf.reduce_mean(candidates, axis=0)
        rows = scoring.rows_of(self._metric, candidates, center)
        super()._store({"candidates": rows, "center": center}, identifiers)

    def _state(self) -> dict[str, Any]:
        return {**super()._state(), "center": self._center}

    def _retrieve(self, queries: Tensor, k: Any, state: State) -> tuple[Tensor, Tensor]:
        scores, rows = scoring.furthest(self._metric, queries, state["candidates"],
                                        state["center"], k)
        return scores, take_ids(state["identifiers"], rows)


class StreamingFurthest(FurthestTopK):
    """Furthest candidates of a dataset, which every call reads from its beginning to its end.

    For candidates that don't fit into memory, and for evaluation while a model is trained:
    a dataset that maps items through the candidate model gives their embeddings of the moment.

    Parameters
    ----------
    query_model, k, name, metric
        As for `BruteForceFurthest`.
    num_parallel_calls : int
        How many batches are scored at the same time.

    Notes
    -----
    Nothing is kept but the dataset. A layer that was saved and loaded wants `index_from_dataset`
    again. Of equal scores the candidate that comes first in the dataset comes first.

    Examples
    --------
    >>> import tensorflow as tf
    >>> from farann.adapters.tfrs import StreamingFurthest
    >>> rows = tf.data.Dataset.from_tensor_slices([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    >>> layer = StreamingFurthest(k=2).index_from_dataset(rows.batch(2))
    >>> scores, ids = layer(tf.constant([[2.0, 1.0]]))
    >>> scores.numpy(), ids.numpy()
    (array([[ 2., -1.]], dtype=float32), array([[2, 1]], dtype=int32))
    """

    _CANT_BE_EXPORTED = (
        "a StreamingFurthest layer can't be exported: its dataset is no part of a TensorFlow "
        "graph. Export a BruteForceFurthest, or save the layer and call index_from_dataset after "
        "loading")

    def __init__(self, query_model: Any = None, k: int = 10,
                 num_parallel_calls: int = tf.data.AUTOTUNE, name: str | None = None, *,
                 metric: str = "dot") -> None:
        super().__init__(query_model, k, metric, name)
        self._num_parallel_calls = num_parallel_calls
        self._candidates: tf.data.Dataset | None = None

    def index(self, candidates: Any, identifiers: Any = None) -> StreamingFurthest:
        """Refused: tensors in memory are for the other layers, a dataset for the other method."""
        raise NotImplementedError(
            "StreamingFurthest takes datasets: call index_from_dataset. For tensors in memory "
            "there are Furthest and BruteForceFurthest")

    def index_from_dataset(self, candidates: tf.data.Dataset) -> StreamingFurthest:
        """Replace the dataset, which calls will read.

        Parameters
        ----------
        candidates : tf.data.Dataset
            Batches of embeddings, or of pairs (identifiers, embeddings). Without identifiers they
            are numbered from 0 on, int32.

        Returns
        -------
        StreamingFurthest
            The layer itself.
        """
        check_dataset(candidates)
        self._candidates = candidates
        return self

    def get_config(self) -> dict[str, Any]:
        """The configuration of all furthest layers, and the parallel calls."""
        return {**super().get_config(), "num_parallel_calls": self._num_parallel_calls}

    def _snapshot(self) -> tf.data.Dataset | None:
        return self._candidates

    def _retrieve(self, queries: Tensor, k: Any,
                  state: tf.data.Dataset | None) -> tuple[Tensor, Tensor]:
        if state is None:
            raise ValueError(NOT_INDEXED)
        batches = state
        if not isinstance(batches.element_spec, tuple):
            batches = batches.scan(np.int32(0), _numbered)
        # Every batch has to be measured from one point; the middle of the queries is known.
        center = tf.reduce_mean(queries, axis=0)

        def best_of_batch(identifiers: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
            laid_out = scoring.rows_of(self._metric, tf.cast(rows, tf.float32), center)
            keys = scoring.products(self._metric, queries, laid_out, center)
            best, columns = tf.math.top_k(keys, tf.minimum(k, tf.shape(keys)[1]))
            return best, tf.gather(identifiers, columns)

        def best_of_both(one: tuple[Tensor, Tensor],
                         other: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            keys, identifiers = (tf.concat(parts, axis=1) for parts in zip(one, other, strict=True))
            best, columns = tf.math.top_k(keys, tf.minimum(k, tf.shape(keys)[1]))
            return best, tf.gather(identifiers, columns, batch_dims=1)

        n_queries, id_dtype = tf.shape(queries)[0], batches.element_spec[0].dtype
        nothing = (tf.zeros([n_queries, 0]), tf.zeros([n_queries, 0], id_dtype))
        keys, identifiers = batches.map(
            best_of_batch, num_parallel_calls=self._num_parallel_calls
        ).reduce(nothing, best_of_both)
        best, columns = scoring.best_of(keys, k)
        return (scoring.scores_of(self._metric, best, queries, center),
                take_along(identifiers, columns))


def _numbered(first: Tensor, rows: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    following = first + tf.shape(rows)[0]
    return following, (tf.range(first, following), rows)


for _layer in (BruteForceFurthest, StreamingFurthest):
    tf.keras.utils.register_keras_serializable(package="farann")(_layer)
