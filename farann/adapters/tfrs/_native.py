"""Furthest retrieval by a farann index inside a layer."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tf_keras.src.saving.legacy.saved_model.utils import in_tf_saved_model_scope

from farann._types import Float32Array, Int64Array
from farann.adapters import _id_arrays
from farann.adapters._id_arrays import IdArray
from farann.adapters.tfrs import _scoring
from farann.adapters.tfrs._brute_force import BruteForceFurthest
from farann.adapters.tfrs._indexed import IndexedTopK, variable
from farann.adapters.tfrs._top_k import NOT_INDEXED, Tensor, furthest, no_id, take_ids
from farann.index import Index


class Furthest(IndexedTopK):
    """Furthest candidates by a `farann.Index`: exact and fast, or approximate and faster.

    It runs eagerly, in ``tf.function``, ``fit`` and ``predict``, and is kept by ``save`` (a folder
    or a ``.keras`` file) and ``save_weights``; programs that load it need farann. For a serving
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
        if recall is not None and epsilon is not None:
            raise ValueError("recall, epsilon: expected one of them at most, got both")
        super().__init__(query_model, k, metric, name, id_dtype)
        given = {"recall": recall, "epsilon": epsilon}
        self._native = _Native(
            metric, {"codes": codes} | ({} if cells is None else {"cells": cells}),
            {key: value for key, value in given.items() if value is not None})
        self._stamp = variable("stamp", np.int64(0))

    def __call__(self, queries: Any, k: int | None = None, **options: Any) -> Any:
        """The k furthest candidates of each query; see `call`."""
        # Keras's own way to `call` takes ten times as long as a search among few candidates. It has
        # to be gone the first time, to be ready for saving, and for graphs and query models.
        if (options or not self.built or self.query_model is not None
                or not isinstance(queries, (np.ndarray, tf.Tensor))
                or not tf.executing_eagerly()):
            return super().__call__(queries, k=k, **options)
        return self._retrieve(queries, self._checked_k(k))

    def is_exact(self) -> bool:
        """Whether answers are exact: unless `recall` or `epsilon` was given."""
        return not self._native.search_options

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
        native = self._native
        return {**super().get_config(), **native.index_options, **native.search_options}

    def _store(self, rows: Float32Array, identifiers: Tensor) -> None:
        ids = identifiers.numpy()
        stamp = _stamp_of(rows, ids)
        self._native.filled(stamp, lambda: (rows, ids))
        super()._store(rows, identifiers)
        self._stamp.assign(stamp)

    def _state(self) -> dict[str, Any]:
        return {**super()._state(), "stamp": self._stamp}

    def _retrieve(self, queries: Tensor, k: Any) -> tuple[Tensor, Tensor]:
        if tf.executing_eagerly():
            vectors = queries if isinstance(queries, np.ndarray) else queries.numpy()
            stamp = tf.raw_ops.ReadVariableOp(resource=self._stamp.handle, dtype=tf.int64)
            filled = self._native.filled(int(stamp), self._stored)
            scores, rows = self._native.search(filled.searcher, vectors, k)
            ids = filled.ids[rows]
            if len(filled.ids) < rows.shape[-1]:
                ids = np.where(rows < 0, no_id(self._identifiers.dtype).numpy(), ids)
            return tf.constant(scores), tf.constant(ids)
        if in_tf_saved_model_scope():
            # The trace of a model that this layer is part of must run in other processes.
            prepared = _scoring.prepare(self._metric, self._indexed())
            best, rows = furthest(_scoring.keys(self._metric, queries, prepared), k)
            return (_scoring.scores(self._metric, best, queries, prepared),
                    take_ids(self._identifiers, rows))
        with tf.control_dependencies([tf.identity(self._native.guard.tensor)]):
            scores, rows = tf.numpy_function(self._search, [queries, k, self._stamp],
                                             (tf.float32, tf.int64))
        shape = [queries.shape[0], None if tf.is_tensor(k) else k]
        scores.set_shape(shape)
        rows.set_shape(shape)
        return scores, take_ids(self._identifiers, rows)

    def _search(self, queries: Float32Array, k: int,
                stamp: int) -> tuple[Float32Array, Int64Array]:
        filled = self._native.filled(int(stamp), self._stored)
        return self._native.search(filled.searcher, queries, int(k))

    def _stored(self) -> tuple[Float32Array, IdArray]:
        rows, ids = self._candidates.numpy(), self._identifiers.numpy()
        if len(rows) == 0:
            raise ValueError(NOT_INDEXED)
        return rows, ids


class _NotForExport(tf.Module):
    """A tensor that TensorFlow refuses to export with a graph; the error shows what holds it.

    For models around a layer: their own `export` doesn't ask the layer.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tensor = tf.raw_ops.EmptyTensorList(
            element_shape=tf.constant([], tf.int32), max_num_elements=0, element_dtype=tf.int32)

    def __repr__(self) -> str:
        return f"<{Furthest._CANT_BE_EXPORTED}>"


class _Filled(NamedTuple):
    stamp: int
    searcher: Index
    ids: IdArray


class _Native:
    """An index and the stamp of the candidates that it was made from.

    Weights are restored in many ways, and most of them don't tell the layer. The stamp is restored
    along with the candidates, so that a search sees when its index is not theirs.
    """

    def __init__(self, metric: str, index_options: dict[str, Any],
                 search_options: dict[str, Any]) -> None:
        self.metric = metric
        self.index_options, self.search_options = index_options, search_options
        self._lock = threading.Lock()
        self._filled: _Filled | None = None
        self.guard = _NotForExport()
        self._empty()  # refuses bad options

    def _empty(self) -> Index:
        return Index(metric=self.metric, **self.index_options)

    def filled(self, stamp: int, stored: Callable[[], tuple[Float32Array, IdArray]]) -> _Filled:
        """The index of the candidates with that stamp; they are asked for if it isn't there."""
        filled = self._filled
        if filled is None or filled.stamp != stamp:
            with self._lock:
                filled = self._filled
                if filled is None or filled.stamp != stamp:
                    rows, ids = stored()
                    index = self._empty()
                    index.add(rows)
                    filled = self._filled = _Filled(stamp, index.build(), ids)
        return filled

    def search(self, index: Index, queries: npt.NDArray[Any],
               k: int) -> tuple[Float32Array, Int64Array]:
        """Scores, larger for what is further, and rows."""
        scores, rows = index.search_furthest(queries, k, **self.search_options)
        return scores if self.metric == "l2" else -scores, rows


def _stamp_of(rows: Float32Array, ids: IdArray) -> int:
    """A number that tells candidates from other candidates."""
    digest = hashlib.blake2b(np.array(rows.shape).tobytes(), digest_size=8)
    for part in (rows, *_id_arrays.pack(ids).values()):
        digest.update(np.ascontiguousarray(part).data)
    return int(np.frombuffer(digest.digest(), np.int64)[0])


tf.keras.utils.register_keras_serializable(package="farann")(Furthest)
