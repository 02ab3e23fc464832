"""Layers that keep their candidates in variables, and so in everything that Keras saves."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from farann import _checks
from farann._types import Float32Array
from farann.adapters import _id_arrays
from farann.adapters._id_arrays import IdArray
from farann.adapters.tfrs._top_k import NOT_INDEXED, FurthestTopK, Tensor


class IndexedTopK(FurthestTopK):
    """Base of layers that are indexed once and asked often.

    The variables have no fixed shape and are made in the constructor: functions that were
    compiled before another `index` see what it stored.
    """

    def __init__(self, query_model: Any, k: int, metric: str, name: str | None,
                 id_dtype: Any) -> None:
        super().__init__(query_model, k, metric, name)
        self._candidates = variable("candidates", np.zeros((0, 0), np.float32))
        dtype = tf.as_dtype("int32" if id_dtype is None else id_dtype)
        self._identifiers = variable("identifiers", tf.zeros([0], dtype))

    def index(self, candidates: Any, identifiers: Any = None) -> IndexedTopK:
        """Take candidates, in the place of those there were.

        Parameters
        ----------
        candidates : tensor (n, dim)
            Real numbers of any type, kept as float32.
        identifiers : tensor (n,), optional
            Strings or numbers, of the same type in every call; by default 0 to n - 1, int32.

        Returns
        -------
        IndexedTopK
            The layer itself.

        Raises
        ------
        ValueError, TypeError
            For candidates that are no matrix of finite numbers, or have no row; for identifiers
            of another number or, once there are candidates, another type. Nothing changes then.
        """
        if not tf.executing_eagerly():
            raise RuntimeError("index: call it outside of tf.function")
        rows = self._to_rows(candidates)
        if identifiers is None:
            identifiers = tf.range(len(rows))
        ids = tf.convert_to_tensor(identifiers)
        if ids.shape.rank != 1:
            raise ValueError(f"identifiers: expected shape (n,), got {ids.shape}")
        if len(ids) != len(rows):
            raise ValueError("The candidates and identifiers tensors must have the same number of "
                             f"rows (got {len(rows)} candidates rows and {len(ids)} identifier "
                             "rows).")
        self._take_id_dtype(ids.dtype)
        self._store(rows, ids)
        return self

    def index_from_dataset(self, candidates: tf.data.Dataset) -> IndexedTopK:
        """Take the candidates of a dataset, in the place of those there were.

        Parameters
        ----------
        candidates : tf.data.Dataset
            Batches of embeddings, or of pairs (identifiers, embeddings).

        Returns
        -------
        IndexedTopK
            The layer itself.
        """
        with_ids = check_dataset(candidates)
        batches = list(candidates)
        if not batches:
            raise ValueError("candidates: expected one batch or more, got an empty dataset")
        if not with_ids:
            return self.index(tf.concat(batches, axis=0))
        for ids, rows in batches:
            if len(ids) != len(rows):
                raise ValueError("candidates: expected as many identifiers as embeddings in each "
                                 f"batch, got {len(ids)} and {len(rows)}")
        return self.index(tf.concat([rows for _, rows in batches], axis=0),
                          tf.concat([ids for ids, _ in batches], axis=0))

    def get_config(self) -> dict[str, Any]:
        """As for all furthest layers, and the identifiers' type."""
        return {**super().get_config(), "id_dtype": self._identifiers.dtype.name}

    def save_own_variables(self, store: MutableMapping[str, Any]) -> None:
        """Write the state to a `.keras` or `.weights.h5` file."""
        for name, value in self._state().items():
            store[name] = value.numpy()
        for name, array in _id_arrays.pack(self._identifiers.numpy()).items():
            store[f"identifiers.{name}"] = array

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        """Read the state from such a file."""
        packed = {name: np.asarray(store[f"identifiers.{name}"]) for name in _id_arrays.PARTS
                  if f"identifiers.{name}" in store}
        ids: IdArray = _id_arrays.unpack(packed)
        self._take_id_dtype(tf.string if ids.dtype == object else tf.as_dtype(ids.dtype))
        for name, value in self._state().items():
            value.assign(np.asarray(store[name]))
        self._identifiers.assign(ids)

    # ---- for subclasses ----

    def _store(self, rows: Float32Array, identifiers: Tensor) -> None:
        """Put candidates into the variables."""
        self._candidates.assign(rows)
        self._identifiers.assign(identifiers)

    def _state(self) -> dict[str, Any]:
        """The variables by name, but for the identifiers."""
        return {"candidates": self._candidates}

    def _indexed(self) -> Tensor:
        """The stored candidates; where there are none that is an error, in graphs when they run."""
        candidates = self._candidates.read_value()
        n = tf.shape(candidates)[0]
        if tf.executing_eagerly():
            if int(n) == 0:
                raise ValueError(NOT_INDEXED)
            return candidates
        # Not now: models that are loaded from a configuration call the layer before it is filled.
        with tf.control_dependencies([tf.debugging.assert_positive(n, NOT_INDEXED)]):
            return tf.identity(candidates)

    def _to_rows(self, candidates: Any) -> Float32Array:
        if tf.is_tensor(candidates) or isinstance(candidates, tf.Variable):
            if candidates.dtype == tf.bfloat16:
                candidates = tf.cast(candidates, tf.float32)
            candidates = candidates.numpy()
        given: npt.NDArray[Any] = _checks.to_array("candidates", candidates)
        if given.ndim != 2:
            raise ValueError(f"The candidates tensor must be 2D (got {given.shape}).")
        rows = _checks.to_vectors("candidates", given, None, unit=self._metric == "cosine",
                                  single=False)
        if len(rows) == 0:
            raise ValueError("candidates: expected one row or more, got none")
        return rows

    def _take_id_dtype(self, dtype: Any) -> None:
        """Have the identifiers' variable be of a type; compiled functions hold on to the old."""
        if dtype == self._identifiers.dtype:
            return
        if int(tf.shape(self._candidates)[0]):
            raise ValueError(f"identifiers: this layer was indexed with "
                             f"{self._identifiers.dtype.name}, got {dtype.name}; cast them, or "
                             "make a new layer")
        del self._identifiers  # else Keras goes on counting it among the weights
        self._identifiers = variable("identifiers", tf.zeros([0], dtype))


def variable(name: str, value: Any) -> tf.Variable:
    """A variable that takes values of any size."""
    value = tf.convert_to_tensor(value)
    return tf.Variable(value, name=name, trainable=False, shape=[None] * value.shape.rank)


def check_dataset(candidates: Any) -> bool:
    """Refuse what is no dataset of candidates; tell whether it has identifiers."""
    expected = ("candidates: expected a dataset of batches of embeddings, or of pairs "
                "(identifiers, embeddings)")
    if not isinstance(candidates, tf.data.Dataset):
        raise TypeError(f"{expected}, got {type(candidates).__name__}")
    spec = candidates.element_spec
    with_ids = isinstance(spec, tuple)
    parts = spec if with_ids else (spec,)
    if len(parts) > 2 or not all(isinstance(part, tf.TensorSpec) for part in parts):
        raise ValueError(f"{expected}, got elements {spec}")
    if parts[-1].shape.rank not in (2, None):
        raise ValueError(f"{expected}, got elements {spec}; is `.batch(...)` missing?")
    if with_ids:
        ids, rows = spec
        if None not in (ids.shape.rank, rows.shape.rank) and ids.shape.rank != 1:
            raise ValueError(f"{expected}, got elements {spec}")
        if not ids.shape[:1].is_compatible_with(rows.shape[:1]):
            raise ValueError(f"{expected} of the same batch size, got elements {spec}")
    return with_ids
