"""Furthest retrieval by a farann index inside a layer."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tf_keras.src.saving.legacy.saved_model.utils import in_tf_saved_model_scope

from farann._types import Float32Array
from farann.adapters import id_arrays
from farann.adapters.id_arrays import IdArray
from farann.adapters.index_options import IndexOptions
from farann.adapters.tfrs import scoring
from farann.adapters.tfrs.brute_force import BruteForceFurthest
from farann.adapters.tfrs.indexed import IndexedTopK, State, variable
from farann.adapters.tfrs.top_k import Tensor, no_id, take_ids
from farann.index import Index


class Furthest(IndexedTopK):
    """Furthest candidates by a `farann.Index`: exact and fast, or approximate and faster.

    It runs eagerly, in ``tf.function``, ``fit`` and ``predict``, and is kept by ``save`` (a folder
    or a ``.keras`` file) and ``save_weights``; programs that load it need farann. For a serving
    process without Python, export what `to_exact` gives.

    Parameters
    ----------
    query_model, k, metric, name, id_dtype
        As for `BruteForceFurthest`.
    recall, epsilon : float, optional
        Passed on to `farann.Index.search_furthest`: answers are approximate then. Give one of
        them at most.
    cells, codes
        Passed on to `farann.Index`.

    Notes
    -----
    Candidates are kept twice: in a variable, which is what Keras saves, and in the index, which is
    made from it when it is first needed after loading. On the way through ``predict`` or another
    compiled function errors come as ``tf.errors.OpError`` with the same text.

    Examples
    --------
    >>> import tensorflow as tf
    >>> from farann.adapters.tfrs import Furthest
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
        super().__init__(query_model, k, metric, name, id_dtype)
        self._search = _Search(IndexOptions(self._metric, recall, epsilon, cells, codes))
        self._guard = _NotForExport(self._CANT_BE_EXPORTED)
        self._stamp = variable("stamp", np.int64(0))

    def __call__(self, queries: Any, k: int | None = None, **options: Any) -> Any:
        """The k furthest candidates of each query; see `call`."""
        # Keras's own way to `call` takes ten times as long as a search among few candidates. It has
        # to be gone the first time, to be ready for saving, and for graphs and query models.
        if (options or not self.built or self.query_model is not None
                or not isinstance(queries, (np.ndarray, tf.Tensor))
                or not tf.executing_eagerly()):
            return super().__call__(queries, k=k, **options)
        return self._retrieve(queries, self._checked_k(k), None)

    def is_exact(self) -> bool:
        """Whether answers are exact: unless `recall` or `epsilon` was given."""
        return not self._search.how.of_search

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
        state = self._indexed()
        return exact.index(state["candidates"], state["identifiers"])

    def get_config(self) -> dict[str, Any]:
        """The configuration of all furthest layers, and the index's options."""
        return {**super().get_config(), **self._search.how.config}

    def _store(self, state: State, identifiers: Tensor) -> None:
        stored = state["candidates"], identifiers.numpy()
        stamp = _stamp_of(*stored)
        with self._search.replaced(stamp, *stored):  # before anything changes, as it may fail
            super()._store({**state, "stamp": stamp}, identifiers)

    def _state(self) -> dict[str, Any]:
        return {**super()._state(), "stamp": self._stamp}

    def _snapshot(self) -> Any:
        # Other calls read the stamp alone, and take the index of it.
        return self._indexed() if in_tf_saved_model_scope() else None

    def _stored(self) -> tuple[int, Float32Array, IdArray]:
        state = self._indexed()
        return int(state["stamp"]), state["candidates"].numpy(), state["identifiers"].numpy()

    def _retrieve(self, queries: Tensor, k: Any, state: State | None) -> tuple[Tensor, Tensor]:
        if tf.executing_eagerly():
            vectors = queries if isinstance(queries, np.ndarray) else queries.numpy()
            stamp = tf.raw_ops.ReadVariableOp(resource=self._stamp.handle, dtype=tf.int64)
            scores, ids = self._found(vectors, k, int(stamp))
            return tf.constant(scores), tf.constant(ids)
        if state is not None:
            # The trace of a model that this layer is part of must run in other processes.
            candidates = state["candidates"]
            center = tf.reduce_mean(candidates, axis=0)
            laid_out = scoring.rows_of(self._metric, candidates, center)
            scores, rows = scoring.furthest(self._metric, queries, laid_out, center, k)
            return scores, take_ids(state["identifiers"], rows)
        with tf.control_dependencies([tf.identity(self._guard.tensor)]):
            scores, ids = tf.numpy_function(self._found, [queries, k, self._stamp],
                                            (tf.float32, self._identifiers.dtype))
        shape = [queries.shape[0], None if tf.is_tensor(k) else k]
        scores.set_shape(shape)
        ids.set_shape(shape)
        return scores, ids

    def _found(self, queries: Float32Array, k: int, stamp: int) -> tuple[Float32Array, IdArray]:
        made = self._search.made(int(stamp), self._stored)
        scores, rows = self._search.how.search(made.native, queries, int(k))
        ids = made.ids[rows]
        if len(made.ids) < rows.shape[-1]:
            none = no_id(self._identifiers.dtype).numpy()
            ids = np.where(rows < 0, none, ids).astype(made.ids.dtype, copy=False)
        return scores, ids


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


class _Made(NamedTuple):
    stamp: int
    native: Index
    ids: IdArray


class _Search:
    """An index, and the stamp of the candidates that it was made from; two while one replaces the
    other.

    Weights are restored in many ways, and most of them don't tell the layer. The stamp is restored
    along with the candidates, so that a search sees when the index is not of them.
    """

    def __init__(self, how: IndexOptions) -> None:
        self.how = how
        self._lock = threading.Lock()
        self._made: tuple[_Made, ...] = ()

    def made(self, stamp: int, stored: Callable[[], tuple[int, Float32Array, IdArray]]) -> _Made:
        """The index of candidates with that stamp; if it isn't there, of those that are stored."""
        for made in self._made:
            if made.stamp == stamp:
                return made
        with self._lock:
            stamp, rows, ids = stored()
            for made in self._made:
                if made.stamp == stamp:
                    return made
            made = _Made(stamp, self.how.made(rows), ids)
            self._made = (made,)
        return made

    @contextmanager
    def replaced(self, stamp: int, rows: Float32Array, ids: IdArray) -> Iterator[None]:
        """Have an index of candidates that are stored meanwhile, beside the one of the old."""
        with self._lock:
            before, made = self._made, _Made(stamp, self.how.made(rows), ids)
            self._made = (*before, made)
            try:
                yield
            except BaseException:
                self._made = before
                raise
            self._made = (made,)


def _stamp_of(rows: Float32Array, ids: IdArray) -> int:
    """A number that tells candidates from other candidates."""
    digest = hashlib.blake2b(digest_size=8)
    for part in (rows, *id_arrays.pack(ids).values()):
        digest.update(np.array(part.shape).tobytes())
        digest.update(np.ascontiguousarray(part).data)
    return int(np.frombuffer(digest.digest(), np.int64)[0])


tf.keras.utils.register_keras_serializable(package="farann")(Furthest)
