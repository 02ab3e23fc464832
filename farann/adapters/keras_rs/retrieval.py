"""Furthest retrieval: layers of `keras_rs.layers.Retrieval`."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Mapping, MutableMapping
from typing import Any

import keras
import numpy as np
from keras_rs.layers import Retrieval

from farann._types import Float32Array
from farann.adapters import id_arrays, versions
from farann.adapters.id_arrays import IdArray
from farann.adapters.index_options import IndexOptions
from farann.contract import checks

Tensor = Any
_NO_CANDIDATES = "there are no candidates yet: call update_candidates first"


class _FurthestRetrieval(Retrieval):
    """Base of both layers: identifiers, which backends can't always hold, and files."""

    def __init__(self, k: int, return_scores: bool, **options: Any) -> None:
        super().__init__(k=checks.to_int("k", k, 1), return_scores=return_scores, **options)
        # A table outside of the backend: Keras has no variables of strings, JAX no 64-bit numbers.
        # What a subclass searches and these, replaced in one assignment.
        self._state: tuple[Any, IdArray | None] | None = None
        self.built = True  # else Keras would, at the first call, forbid variables from then on

    def _start(self, candidate_embeddings: Any, candidate_ids: Any) -> None:
        if candidate_embeddings is not None:
            self.update_candidates(candidate_embeddings, candidate_ids)
        elif candidate_ids is not None:
            raise ValueError("candidate_ids: expected None without candidate_embeddings")

    @property
    def candidate_ids(self) -> IdArray | None:
        """The candidates' ids as they were given; None if they are their numbers."""
        return None if self._state is None else self._state[1]

    def update_candidates(self, candidate_embeddings: Any, candidate_ids: Any = None) -> None:
        """Replace the candidates.

        Parameters
        ----------
        candidate_embeddings : tensor or array (n, dim)
            Real numbers, kept as float32; n is k or more.
        candidate_ids : tensor or array (n,), optional
            Numbers of any size, or strings; by default 0 to n - 1.

        Raises
        ------
        ValueError, TypeError
            For embeddings that are no matrix of finite numbers, or fewer than k; for ids of
            another number. Nothing changes then.
        """
        candidates = checks.to_array("candidate_embeddings", _to_numpy(candidate_embeddings))
        if candidates.ndim != 2:
            raise ValueError("candidate_embeddings: expected rank 2, (n, dim), "
                             f"got shape {candidates.shape}")
        rows = checks.to_vectors("candidate_embeddings", candidates, None, normalized=False,
                                 single=False)
        if len(rows) < self.k:
            raise ValueError(f"candidate_embeddings: expected k = {self.k} candidates or more, "
                             f"got {len(rows)}")
        ids = None
        if candidate_ids is not None:
            ids = id_arrays.checked("candidate_ids", np.array(_to_numpy(candidate_ids)))
            if ids.shape != (len(rows),):
                raise ValueError(f"candidate_ids: expected shape ({len(rows)},), one a candidate, "
                                 f"got {ids.shape}")
        self._store(rows, ids)

    def call(self, inputs: Tensor) -> Any:
        """The k furthest candidates of each query.

        Parameters
        ----------
        inputs : tensor (n_queries, dim)
            Query embeddings.

        Returns
        -------
        scores : float32 (n_queries, k)
            Descending; larger is further. Only if `return_scores` is set.
        ids : (n_queries, k)
            A tensor; a numpy array for strings, and on JAX for numbers beyond 32 bits.

        Raises
        ------
        ValueError
            If there are no candidates yet, or in compiled functions that can't have such ids.
        """
        scores, rows, known = self._retrieve(inputs)
        ids = self._ids_of(rows, known)
        return (scores, ids) if self.return_scores else ids

    def compute_output_spec(self, inputs: Any) -> Any:
        """Shapes and types of the result of a call, without calling."""
        shape = (*inputs.shape[:-1], self.k)
        dtype, known = "int32", self.candidate_ids
        if known is not None:
            dtype = _tensor_dtype(known) or ("string" if known.dtype.kind in "OSU" else "int64")
        ids = keras.KerasTensor(shape, dtype)
        return (keras.KerasTensor(shape, "float32"), ids) if self.return_scores else ids

    def get_config(self) -> dict[str, Any]:
        """The configuration for `from_config`; candidates are state, and not part of it."""
        return {**super().get_config(), "return_scores": self.return_scores}

    def save_own_variables(self, store: MutableMapping[str, Any]) -> None:
        """Write the candidates to a `.keras` or `.weights.h5` file."""
        if self._state is None:
            return
        store["candidate_embeddings"], ids = self._stored()
        if ids is not None:
            id_arrays.write(store, "candidate_ids", ids)

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        """Read the candidates from such a file."""
        if "candidate_embeddings" in store:
            self.update_candidates(np.asarray(store["candidate_embeddings"]),
                                   id_arrays.read(store, "candidate_ids"))

    # Keras would call the layer to build it when a file is loaded, before there are candidates.

    def get_build_config(self) -> None:
        """Nothing: the layer needs no building."""

    def build_from_config(self, config: Any) -> None:
        """Do nothing, likewise."""

    @abstractmethod
    def _store(self, rows: Float32Array, ids: IdArray | None) -> None:
        """Keep candidates, or refuse and change nothing."""

    @abstractmethod
    def _stored(self) -> tuple[Float32Array, IdArray | None]:
        """The candidates that are kept, and their ids."""

    @abstractmethod
    def _retrieve(self, queries: Tensor) -> tuple[Tensor, Tensor, Any]:
        """Scores and row numbers, tensors (n_queries, k), of the furthest candidates, and the ids
        of all, as an array or as a tensor."""

    def _ids_of(self, rows: Tensor, known: Any) -> Any:
        if known is None:
            return rows
        ids, dtype = known[keras.ops.convert_to_numpy(rows)], _tensor_dtype(known)
        return ids if dtype is None else keras.ops.convert_to_tensor(ids, dtype=dtype)


class BruteForceFurthestRetrieval(_FurthestRetrieval):
    """Furthest candidates by scoring them all, with the operations of any Keras backend.

    Parameters
    ----------
    candidate_embeddings : tensor or array (n, dim), optional
    candidate_ids : tensor or array (n,), optional
        Numbers of any size, or strings; by default 0 to n - 1.
    k : int
        How many candidates to retrieve.
    return_scores : bool
        Whether a call returns scores and ids, or ids alone.
    **options
        Of `keras.layers.Layer`.

    Notes
    -----
    Candidates are kept by ``save`` and ``save_weights``. Compiled functions can return ids if they
    are numbers that the backend has tensors of; others only come from eager calls.

    Examples
    --------
    >>> import keras
    >>> from farann.adapters.keras_rs import BruteForceFurthestRetrieval
    >>> rows = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], np.float32)
    >>> layer = BruteForceFurthestRetrieval(rows, ["a", "b", "c"], k=2)
    >>> scores, ids = layer(np.array([[2.0, 1.0]], np.float32))
    >>> keras.ops.convert_to_numpy(scores), ids
    (array([[ 2., -1.]], dtype=float32), array([['c', 'b']], dtype='<U1'))
    """

    def __init__(self, candidate_embeddings: Any = None, candidate_ids: Any = None, k: int = 10,
                 return_scores: bool = True, **options: Any) -> None:
        super().__init__(k, return_scores, **options)
        self.candidate_embeddings: Any = None
        self._id_variable: Any = None
        self._is_traced = False
        self._version: Any = None
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            self._version = tf.Variable(0, dtype="int64", trainable=False)
        self._start(candidate_embeddings, candidate_ids)

    def _store(self, rows: Float32Array, ids: IdArray | None) -> None:
        dtype = None if ids is None else _tensor_dtype(ids)
        numbers = None if dtype is None else ids
        held = self.candidate_embeddings
        same = (held is not None and held.shape == rows.shape
                and (self._id_variable is None) == (numbers is None)
                and (numbers is None or self._id_variable.dtype == dtype))
        if self._is_traced and not same:
            raise ValueError(
                "candidate_embeddings: compiled functions hold on to candidates of shape "
                f"{tuple(held.shape)} and ids of their type, got {rows.shape}; make a new layer "
                "for other ones")
        with versions.assigning(self._version):
            self._set("candidate_embeddings", rows, "float32", same)
            self._set("_id_variable", numbers, dtype, same)
            self._state = None, ids

    def _set(self, name: str, values: Any, dtype: str | None, same: bool) -> None:
        if same and values is not None:
            getattr(self, name).assign(values)
            return
        delattr(self, name)  # else Keras goes on counting the old variable among the weights
        setattr(self, name, None if values is None else keras.Variable(
            values, dtype=dtype, trainable=False, name=name.strip("_")))

    def _stored(self) -> tuple[Float32Array, IdArray | None]:
        embeddings, ids = self._read()
        return np.asarray(keras.ops.convert_to_numpy(embeddings)), ids

    def _read(self) -> tuple[Tensor, IdArray | None]:
        """Embeddings and ids after one update."""
        embeddings, state = versions.read(self._version, [
            lambda: _value_of(self.candidate_embeddings), lambda: self._state])
        return embeddings, state[1]

    def _read_symbolic(self) -> tuple[Tensor, Tensor | None]:
        """Likewise in a function that is compiled."""
        held, ids = [self.candidate_embeddings], self.candidate_ids
        self._is_traced |= self._version is not None  # the others look at shapes
        if ids is not None:
            if self._id_variable is None:
                raise ValueError(
                    f"candidate_ids: the {keras.backend.backend()} backend has no tensors of "
                    f"{ids.dtype}, so compiled functions can't return such ids. Call the layer "
                    "itself, use compile(run_eagerly=True), or leave candidate_ids out and look "
                    "the rows up afterwards")
            held.append(self._id_variable)
        values = versions.read(self._version, [functools.partial(_value_of, one) for one in held])
        return values[0], values[1] if ids is not None else None

    def _retrieve(self, queries: Tensor, more: int = 0) -> tuple[Tensor, Tensor, Any]:
        if self._state is None:
            raise ValueError(_NO_CANDIDATES)
        embeddings, ids = self._read_symbolic() if _is_symbolic(queries) else self._read()
        products = self.compute_score(keras.ops.cast(queries, "float32"), embeddings)
        scores, rows = keras.ops.top_k(-products, k=min(self.k + more, embeddings.shape[0]))
        return scores, rows, ids

    def _ids_of(self, rows: Tensor, known: Any) -> Any:
        if known is None or not _is_symbolic(rows):
            return super()._ids_of(rows, known)
        return keras.ops.take(known, rows, axis=0)


class FurthestRetrieval(_FurthestRetrieval):
    """Furthest candidates by a `farann.Index`: exact and fast, or approximate and faster.

    It runs eagerly on every backend: in direct calls, and in models compiled with
    ``run_eagerly=True``. For other compiled functions there is `BruteForceFurthestRetrieval`.

    Parameters
    ----------
    candidate_embeddings, candidate_ids, k, return_scores
        As for `BruteForceFurthestRetrieval`.
    recall, epsilon : float, optional
        Passed on to `farann.Index.search_furthest`: answers are approximate then. Give one of
        them at most.
    cells, codes
        Passed on to `farann.Index`.
    **options
        Of `keras.layers.Layer`.

    Notes
    -----
    Candidates are kept by ``save`` and ``save_weights``.

    Examples
    --------
    >>> import keras
    >>> from farann.adapters.keras_rs import FurthestRetrieval
    >>> rows = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], np.float32)
    >>> layer = FurthestRetrieval(rows, [2**40, 7, 8], k=2, return_scores=False)
    >>> keras.ops.convert_to_numpy(layer(np.array([[-2.0, 1.0]], np.float32)))
    array([[1099511627776,             7]])
    """

    def __init__(self, candidate_embeddings: Any = None, candidate_ids: Any = None, k: int = 10,
                 return_scores: bool = True, *, recall: float | None = None,
                 epsilon: float | None = None, cells: Any = None, codes: str = "int8",
                 **options: Any) -> None:
        super().__init__(k, return_scores, **options)
        self._how = IndexOptions("dot", recall, epsilon, cells, codes)
        self._start(candidate_embeddings, candidate_ids)

    def get_config(self) -> dict[str, Any]:
        """The configuration for `from_config`; candidates are state, and not part of it."""
        return {**super().get_config(), **self._how.config}

    def _store(self, rows: Float32Array, ids: IdArray | None) -> None:
        self._state = self._how.made(rows), ids

    def _stored(self) -> tuple[Float32Array, IdArray | None]:
        assert self._state is not None
        index, ids = self._state
        return index.reconstruct(index.ids), ids

    def _retrieve(self, queries: Tensor) -> tuple[Tensor, Tensor, Any]:
        if self._state is None:
            raise ValueError(_NO_CANDIDATES)
        if _is_symbolic(queries):
            raise ValueError(
                "FurthestRetrieval runs eagerly: call it directly, use compile(run_eagerly=True), "
                "or use BruteForceFurthestRetrieval in compiled functions")
        index, ids = self._state
        scores, rows = self._how.search(index, _to_numpy(queries), self.k)
        return (keras.ops.convert_to_tensor(scores),
                keras.ops.convert_to_tensor(rows, dtype="int32"), ids)


def _value_of(variable: Any) -> Tensor:
    """The value of a variable at this moment: TensorFlow's may be assigned after it was asked."""
    value = variable.value
    return value.read_value() if hasattr(value, "read_value") else value


def _to_numpy(value: Any) -> Any:
    if keras.ops.is_tensor(value) or isinstance(value, keras.Variable):
        return keras.ops.convert_to_numpy(value)
    return value


def _tensor_dtype(ids: IdArray) -> str | None:
    """Type of the tensors that hold such ids; None if the backend has none."""
    if ids.dtype.kind not in "iu":
        return None if ids.dtype.kind in "OSU" else str(ids.dtype)
    limits = np.iinfo(np.int32)
    if len(ids) == 0 or (limits.min <= int(ids.min()) and int(ids.max()) <= limits.max):
        return "int32"
    return None if keras.backend.backend() == "jax" else "int64"


def _is_symbolic(tensor: Tensor) -> bool:
    """Whether a function is being compiled, so that the tensor has no values."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return not tf.executing_eagerly()
    if backend == "jax":
        import jax

        return isinstance(tensor, jax.core.Tracer)
    import torch

    return bool(torch.compiler.is_compiling())


for _layer in (BruteForceFurthestRetrieval, FurthestRetrieval):
    keras.saving.register_keras_serializable(package="farann")(_layer)
