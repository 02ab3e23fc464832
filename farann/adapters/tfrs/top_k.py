"""Base of all furthest layers: queries, identifiers, exclusions, padding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_recommenders.layers.factorized_top_k import TopK
from tf_keras.src.saving.legacy.saved_model.utils import in_tf_saved_model_scope

from farann.adapters.tfrs import scoring
from farann.contract import checks

Tensor = Any
_MOST_COLUMNS = 2**31 - 1  # of TensorFlow's numbers of columns
NOT_INDEXED = "The `index` method must be called first to create the retrieval index."


class FurthestTopK(TopK):
    """Base of the furthest layers: a `TopK` whose scores are larger for further candidates.

    Subclasses say in `_retrieve` how the k furthest candidates are found.
    """

    # Why plain TensorFlow can't save the layer, if it can't; Keras restores it from its config.
    _CANT_BE_EXPORTED: str | None = None
    # The attributes that turn the layer's inputs into embeddings: models, or lists.
    _MODELS: tuple[str, ...] = ("query_model",)

    def __init__(self, query_model: Any, k: int, metric: str, name: str | None) -> None:
        super().__init__(k=checks.to_int("k", k, 1, _MOST_COLUMNS), name=name)
        self.query_model = query_model
        self._metric = checks.to_metric(metric)
        self._must_restore_from_config = self._CANT_BE_EXPORTED is not None

    def call(self, queries: Any, k: int | None = None) -> tuple[Tensor, Tensor]:
        """The k furthest candidates of each query.

        Parameters
        ----------
        queries : tensor (n_queries, dim) or (dim,)
            Or whatever the query model takes.
        k : int, optional
            In the place of the layer's own number.

        Returns
        -------
        scores : float32 (n_queries, k), or (k,) for a single query
            Descending; larger is further. NaN where there are fewer than k candidates.
        identifiers : (n_queries, k), or (k,) for a single query
            -1, "" or NaN where there are fewer, by their dtype.

        Raises
        ------
        ValueError
            If nothing was indexed yet, or queries are of another dimension.
        """
        k = self._checked_k(k)
        state = self._snapshot()
        embedded, single = self._embed(queries, state)
        scores, identifiers = self._retrieve(embedded, k, state)
        return (scores[0], identifiers[0]) if single else (scores, identifiers)

    def query_with_exclusions(self, queries: Any, exclusions: Any,
                              k: int | None = None) -> tuple[Tensor, Tensor]:
        """The k furthest candidates of each query, without some that are known.

        Parameters
        ----------
        queries : tensor (n_queries, dim)
            Or whatever the query model takes.
        exclusions : tensor (n_queries, n_exclusions) or ragged (n_queries, None)
            Identifiers to leave out, for each query, perhaps none at all. Unknown ones are ignored.
            Layers that run in TensorFlow alone are compiled anew for each Python list: give tensors
            or arrays.
        k : int, optional
            In the place of the layer's own number.

        Returns
        -------
        scores, identifiers
            As from a call of the layer; padded where fewer than k candidates are left.
        """
        k = self._checked_k(k)
        real, exclusions = None, _even(exclusions)
        if exclusions is None:
            answer: tuple[Tensor, Tensor] = self(queries, k=k)
            return answer
        if isinstance(exclusions, tf.RaggedTensor):
            real = tf.sequence_mask(exclusions.row_lengths())
            exclusions = exclusions.to_tensor()
        exclusions = tf.convert_to_tensor(exclusions)
        if exclusions.shape.rank not in (2, None):
            raise ValueError("exclusions: expected shape (n_queries, n_exclusions), "
                             f"got {exclusions.shape}")
        more = exclusions.shape[1]
        scores, identifiers = self(
            queries, k=k + (tf.shape(exclusions)[1] if more is None else more))
        if identifiers.shape.rank == 1:
            raise ValueError("queries: expected some, (n_queries, dim), as exclusions are for each "
                             "of them, got a single one, (dim,)")
        same = same_ids(identifiers[:, :, None], exclusions[:, None, :], "exclusions")
        excluded = tf.reduce_any(same if real is None else same & real[:, None, :], axis=-1)
        # Infinity marks them: no finite penalty is below every score.
        lowest = tf.constant(-np.inf, scores.dtype)
        allowed = tf.where(excluded | tf.math.is_nan(scores), lowest, scores)
        best, columns = tf.math.top_k(allowed, k)
        there = best > lowest
        return (tf.where(there, best, np.nan),
                tf.where(there, tf.gather(identifiers, columns, batch_dims=1),
                         no_id(identifiers.dtype)))

    def pair_scores(self, queries: Tensor, candidates: Tensor) -> Tensor:
        """Score of each query embedding for the candidate of the same row, (n, 1)."""
        queries, candidates = tf.cast(queries, tf.float32), tf.cast(candidates, tf.float32)
        if self._metric == "l2":
            return tf.norm(queries - candidates, axis=1, keepdims=True)
        if self._metric == "cosine":
            queries, candidates = scoring.unit(queries), scoring.unit(candidates)
        return -tf.reduce_sum(queries * candidates, axis=1, keepdims=True)

    def is_exact(self) -> bool:
        """Whether answers are exact."""
        return True

    def get_config(self) -> dict[str, Any]:
        """The configuration for `from_config`; candidates are weights, and not part of it."""
        models = {name: getattr(self, name) for name in self._MODELS}
        return {**{name: _each(tf.keras.layers.serialize, each) for name, each in models.items()},
                "k": self._k, "metric": self._metric, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> FurthestTopK:
        """A layer of such a configuration, without candidates."""
        made = {name: _each(lambda one: tf.keras.layers.deserialize(one, custom_objects),
                            config[name]) for name in cls._MODELS}
        return cls(**{**config, **made})

    # Keras would trace `call` to build a layer that it loads, before there are candidates.

    def get_build_config(self) -> None:
        """Nothing: the layer needs no building."""

    def build_from_config(self, config: Any) -> None:
        """Do nothing, likewise."""

    def export(self, filepath: Any) -> None:
        """Write the layer as a SavedModel for serving, if it runs without Python."""
        if self._CANT_BE_EXPORTED:
            raise ValueError(self._CANT_BE_EXPORTED)
        super().export(filepath)

    def _trackable_children(self, save_type: str = "checkpoint", **kwargs: Any) -> Any:
        if save_type == "savedmodel" and self._CANT_BE_EXPORTED:
            if not in_tf_saved_model_scope():
                raise ValueError(self._CANT_BE_EXPORTED)
            self.get_config()  # fails now rather than when the layer is loaded
        return super()._trackable_children(save_type, **kwargs)

    # ---- for subclasses ----

    def _snapshot(self) -> Any:
        """What a call needs of the layer's state, all of one moment."""
        return None

    def _retrieve(self, queries: Tensor, k: Any, state: Any) -> tuple[Tensor, Tensor]:
        """Scores and identifiers of the k furthest, padded; queries are float32 (n, dim)."""
        raise NotImplementedError

    def _checked_k(self, k: Any) -> Any:
        if k is None:
            return self._k
        return k if tf.is_tensor(k) else checks.to_int("k", k, 1, _MOST_COLUMNS)

    def _embed(self, queries: Any, state: Any) -> tuple[Tensor, bool]:
        """Query embeddings, float32 (n, dim), and whether a single one came."""
        return as_vectors(queries if self.query_model is None else self.query_model(queries))


def _even(exclusions: Any) -> Any:
    """Exclusions, None if there are none, and lists of several lengths as a ragged tensor."""
    values = exclusions.flat_values if isinstance(exclusions, tf.RaggedTensor) else exclusions
    if checks.is_nothing(values):
        return None
    if not isinstance(exclusions, (list, tuple)):
        return exclusions
    if all(isinstance(one, (list, tuple)) and len(one) == len(exclusions[0]) for one in exclusions):
        return exclusions
    lists = [None if checks.is_nothing(one) else tf.convert_to_tensor(one) for one in exclusions]
    dtype = next(one.dtype for one in lists if one is not None)
    return tf.ragged.stack([tf.zeros([0], dtype) if one is None else one for one in lists])


def _each(change: Callable[[Any], Any], models: Any) -> Any:
    """A model changed, or each of a list; None stays None."""
    if models is None:
        return None
    return [change(one) for one in models] if isinstance(models, list) else change(models)


def as_vectors(queries: Any) -> tuple[Tensor, bool]:
    """Embeddings as float32 (n, dim), and whether there was but one, (dim,)."""
    queries = tf.convert_to_tensor(queries)
    if queries.dtype != tf.float32:
        if not (queries.dtype.is_floating or queries.dtype.is_integer):
            raise TypeError(f"queries: expected real numbers, got {queries.dtype.name}")
        queries = tf.cast(queries, tf.float32)
    rank = queries.shape.rank
    if rank == 1:
        return queries[None, :], True
    if rank not in (2, None):
        raise ValueError(f"queries: expected shape (n_queries, dim), got {queries.shape}")
    return queries, False


def take_ids(identifiers: Tensor, rows: Tensor) -> Tensor:
    """Identifiers of rows; where the row is -1, none."""
    taken = tf.gather(identifiers, tf.maximum(rows, 0))
    return tf.where(rows >= 0, taken, no_id(taken.dtype))


def take_along(identifiers: Tensor, columns: Tensor) -> Tensor:
    """Identifiers (n, m) in the columns (n, k) of their row; where the column is -1, none."""
    # One more column, so that there is something to gather from in every case.
    filled = tf.pad(identifiers, [[0, 0], [0, 1]], constant_values=no_id(identifiers.dtype))
    last = tf.shape(identifiers)[1]
    return tf.gather(filled, tf.where(columns >= 0, columns, last), batch_dims=1)


def no_id(dtype: Any) -> Tensor:
    """The value for no identifier: -1 (the largest number if unsigned), "", NaN or False."""
    if dtype == tf.string:
        return tf.constant("")
    if dtype == tf.bool:
        return tf.constant(False)
    if dtype.is_floating:
        return tf.constant(np.nan, dtype)
    return tf.constant(dtype.max if dtype.is_unsigned else -1, dtype)


def same_ids(identifiers: Tensor, others: Tensor, argument: str) -> Tensor:
    """Compare identifiers for equality, whatever their number types."""
    if identifiers.dtype != others.dtype:
        if not all(ids.dtype.is_integer or ids.dtype.is_floating for ids in (identifiers, others)):
            raise TypeError(f"{argument}: expected identifiers of type {identifiers.dtype.name}, "
                            f"got {others.dtype.name}")
        both_whole = identifiers.dtype.is_integer and others.dtype.is_integer
        common = tf.int64 if both_whole else tf.float64
        identifiers, others = tf.cast(identifiers, common), tf.cast(others, common)
    return tf.equal(identifiers, others)
