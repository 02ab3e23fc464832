"""Layers that search outside of TensorFlow, and what tells them that candidates have changed."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tf_keras.src.saving.legacy.saved_model.utils import in_tf_saved_model_scope

from farann._types import Float32Array, Int64Array
from farann.adapters import id_arrays
from farann.adapters.id_arrays import IdArray
from farann.adapters.tfrs.indexed import IndexedTopK, State, variable
from farann.adapters.tfrs.top_k import NOT_INDEXED, Tensor, no_id, take_ids


class Search(Protocol):
    """How a native layer finds candidates."""

    def make(self, state: State) -> Any:
        """What searches such candidates."""

    def search(self, made: Any, queries: Float32Array,
               k: int) -> tuple[npt.NDArray[np.floating[Any]], Int64Array]:
        """Scores, the best largest, and rows, padded with NaN and -1."""


class NativeTopK(IndexedTopK):
    """Base of layers whose candidates are searched by farann.

    They run eagerly and, by ``tf.numpy_function``, in graphs of this process. Where TensorFlow
    has to do without farann, `_retrieve_without` stands in.
    """

    # Whether `index` makes the search ready, rather than the first call that needs it.
    _MADE_AT_ONCE = True

    def __init__(self, query_model: Any, k: int, metric: str, name: str | None, id_dtype: Any,
                 search: Search) -> None:
        super().__init__(query_model, k, metric, name, id_dtype)
        assert self._CANT_BE_EXPORTED is not None
        self._native = Native(search, self._CANT_BE_EXPORTED)
        self._stamp = variable("stamp", np.int64(0))

    def _store(self, state: State, identifiers: Tensor) -> None:
        ids = identifiers.numpy()
        stamp = _stamp_of(state, ids)
        if self._MADE_AT_ONCE:  # and before anything changes, as it may fail
            self._native.filled(stamp, lambda: (state, ids))
        super()._store({**state, "stamp": stamp}, identifiers)

    def _state(self) -> dict[str, Any]:
        return {**super()._state(), "stamp": self._stamp}

    def _retrieve(self, queries: Tensor, k: Any) -> tuple[Tensor, Tensor]:
        if tf.executing_eagerly():
            vectors = queries if isinstance(queries, np.ndarray) else queries.numpy()
            stamp = tf.raw_ops.ReadVariableOp(resource=self._stamp.handle, dtype=tf.int64)
            filled = self._native.filled(int(stamp), self._stored)
            scores, rows = self._native.search(filled, vectors, k)
            ids = filled.ids[rows]
            if len(filled.ids) < rows.shape[-1]:
                ids = np.where(rows < 0, no_id(self._identifiers.dtype).numpy(), ids)
            return tf.constant(scores), tf.constant(ids)
        if in_tf_saved_model_scope():
            # The trace of a model that this layer is part of must run in other processes.
            return self._retrieve_without(queries, k)
        with tf.control_dependencies([tf.identity(self._native.guard.tensor)]):
            scores, rows = tf.numpy_function(self._search, [queries, k, self._stamp],
                                             (tf.float32, tf.int64))
        shape = [queries.shape[0], None if tf.is_tensor(k) else k]
        scores.set_shape(shape)
        rows.set_shape(shape)
        return scores, take_ids(self._identifiers, rows)

    def _retrieve_without(self, queries: Tensor, k: Any) -> tuple[Tensor, Tensor]:
        """What `_retrieve` does, in TensorFlow alone."""
        raise NotImplementedError

    def _search(self, queries: Float32Array, k: int,
                stamp: int) -> tuple[Float32Array, Int64Array]:
        return self._native.search(self._native.filled(int(stamp), self._stored), queries, int(k))

    def _stored(self) -> tuple[State, IdArray]:
        state = {name: value.numpy() for name, value in self._state().items()}
        if len(state["candidates"]) == 0:
            raise ValueError(NOT_INDEXED)
        return state, self._identifiers.numpy()


class _NotForExport(tf.Module):
    """A tensor that TensorFlow refuses to export with a graph; the error shows what holds it.

    For models around a layer: their own `export` doesn't ask the layer.
    """

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason
        self.tensor = tf.raw_ops.EmptyTensorList(
            element_shape=tf.constant([], tf.int32), max_num_elements=0, element_dtype=tf.int32)

    def __repr__(self) -> str:
        return f"<{self.reason}>"


class _Filled(NamedTuple):
    stamp: int
    made: Any
    ids: IdArray


class Native:
    """What searches, and the stamp of the candidates that it was made from.

    Weights are restored in many ways, and most of them don't tell the layer. The stamp is restored
    along with the candidates, so that a search sees when what it has is not of them.
    """

    def __init__(self, search: Search, reason: str) -> None:
        self._how = search
        self._lock = threading.Lock()
        self._filled: _Filled | None = None
        self.guard = _NotForExport(reason)

    def filled(self, stamp: int, stored: Callable[[], tuple[State, IdArray]]) -> _Filled:
        """What searches the candidates with that stamp; they are asked for if it isn't there."""
        filled = self._filled
        if filled is None or filled.stamp != stamp:
            with self._lock:
                filled = self._filled
                if filled is None or filled.stamp != stamp:
                    state, ids = stored()
                    filled = self._filled = _Filled(stamp, self._how.make(state), ids)
        return filled

    def search(self, filled: _Filled, queries: npt.NDArray[Any],
               k: int) -> tuple[Float32Array, Int64Array]:
        """Scores, the best largest, and rows."""
        scores, rows = self._how.search(filled.made, queries, k)
        return scores.astype(np.float32, copy=False), rows


def _stamp_of(state: State, ids: IdArray) -> int:
    """A number that tells candidates from other candidates."""
    digest = hashlib.blake2b(digest_size=8)
    for part in (*state.values(), *id_arrays.pack(ids).values()):
        array = np.asarray(part)
        digest.update(np.array(array.shape).tobytes())
        digest.update(np.ascontiguousarray(array).data)
    return int(np.frombuffer(digest.digest(), np.int64)[0])
