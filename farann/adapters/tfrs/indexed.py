"""Layers that keep their candidates in variables, and so in everything that Keras saves."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from farann._types import Float32Array
from farann.adapters import id_arrays, versions
from farann.adapters.tfrs.top_k import NOT_INDEXED, FurthestTopK, Tensor
from farann.contract import checks

# The state of a layer beside its identifiers: arrays or tensors by name.
State = Mapping[str, Any]


class IndexedTopK(FurthestTopK):
    """Base of layers that are indexed once and asked often.

    The variables have no fixed shape and are made in the constructor: functions that were
    compiled before another `index` see what it stored, all of it or nothing.
    """

    _n_models = 1  # whose embeddings a candidate has

    def __init__(self, query_model: Any, k: int, metric: str, name: str | None,
                 id_dtype: Any) -> None:
        super().__init__(query_model, k, metric, name)
        self._candidates = variable("candidates", np.zeros((0, 0), np.float32))
        dtype = tf.as_dtype("int32" if id_dtype is None else id_dtype)
        self._identifiers = variable("identifiers", tf.zeros([0], dtype))
        self._version = variable("version", np.int64(0))

    def index(self, candidates: Any, identifiers: Any = None) -> IndexedTopK:
        """Replace the candidates.

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
        rows = to_rows("candidates", candidates, self._metric)
        ids = to_ids(identifiers, len(rows))
        self._take_id_dtype(ids.dtype)
        self._store({"candidates": rows}, ids)
        return self

    def index_from_dataset(self, candidates: tf.data.Dataset) -> IndexedTopK:
        """Replace the candidates by those of a dataset.

        Parameters
        ----------
        candidates : tf.data.Dataset
            Batches of embeddings, or of pairs (identifiers, embeddings); for a layer of two
            models, of (identifiers, positive embeddings, negative embeddings).

        Returns
        -------
        IndexedTopK
            The layer itself.
        """
        identifiers, *rows = collected(candidates, self._n_models)
        return self.index(rows[0] if self._n_models == 1 else rows, identifiers)

    def get_config(self) -> dict[str, Any]:
        """The configuration of all furthest layers, and the identifiers' type."""
        return {**super().get_config(), "id_dtype": self._identifiers.dtype.name}

    def save_own_variables(self, store: MutableMapping[str, Any]) -> None:
        """Write the state to a `.keras` or `.weights.h5` file."""
        state = self._read()
        id_arrays.write(store, "identifiers", state.pop("identifiers").numpy())
        for name, value in state.items():
            store[name] = value.numpy()

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        """Read the state from such a file."""
        ids = id_arrays.read(store, "identifiers")
        assert ids is not None
        self._take_id_dtype(tf.string if ids.dtype == object else tf.as_dtype(ids.dtype))
        self._assign({name: np.asarray(store[name]) for name in self._state()}, ids)

    # ---- for subclasses ----

    def _compile(self) -> None:
        """Compile exclusions; as an attribute they are exported, and hold on to unnamed layers."""
        setattr(self, "query_with_exclusions", tf.function(super().query_with_exclusions))

    def _store(self, state: State, identifiers: Tensor) -> None:
        """Replace candidates and the other state."""
        self._assign(state, identifiers)

    def _assign(self, state: State, identifiers: Any) -> None:
        """Assign to all variables at once, for whoever reads them by `_read`."""
        variables = {**self._state(), "identifiers": self._identifiers}
        values = {name: tf.convert_to_tensor(value, variables[name].dtype)
                  for name, value in {**state, "identifiers": identifiers}.items()}
        with versions.assigning(self._version):
            for name, value in values.items():
                variables[name].assign(value)

    def _read(self) -> dict[str, Tensor]:
        """The variables' values after one `index`, whoever calls it meanwhile."""
        variables = {**self._state(), "identifiers": self._identifiers}
        values = versions.read(self._version, [one.read_value for one in variables.values()])
        return dict(zip(variables, values, strict=True))

    def _state(self) -> dict[str, Any]:
        """The variables by name, but for the identifiers."""
        return {"candidates": self._candidates}

    def _snapshot(self) -> Any:
        return self._indexed()

    def _indexed(self) -> dict[str, Tensor]:
        """`_read`; where there are no candidates that is an error, in graphs when they run."""
        state = self._read()
        n = tf.shape(state["candidates"])[0]
        if tf.executing_eagerly():
            if int(n) == 0:
                raise ValueError(NOT_INDEXED)
            return state
        # Not now: models that are loaded from a configuration call the layer before it is filled.
        with tf.control_dependencies([tf.debugging.assert_positive(n, NOT_INDEXED)]):
            return {**state, "candidates": tf.identity(state["candidates"])}

    def _take_id_dtype(self, dtype: Any) -> None:
        """Change the type of the identifiers' variable; compiled functions keep the old one."""
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


def to_ids(identifiers: Any, n: int) -> Tensor:
    """Identifiers of n candidates as a tensor; their numbers if there are none."""
    ids = tf.convert_to_tensor(tf.range(n) if identifiers is None else identifiers)
    if ids.shape.rank != 1:
        raise ValueError(f"identifiers: expected shape (n,), got {ids.shape}")
    if len(ids) != n:
        raise ValueError("The candidates and identifiers tensors must have the same number of "
                         f"rows (got {n} candidates rows and {len(ids)} identifier rows).")
    return ids


def to_rows(name: str, candidates: Any, metric: str) -> Float32Array:
    """Checked embeddings of candidates."""
    if not tf.executing_eagerly():
        raise RuntimeError("index: call it outside of tf.function")
    if tf.is_tensor(candidates) or isinstance(candidates, tf.Variable):
        if candidates.dtype == tf.bfloat16:
            candidates = tf.cast(candidates, tf.float32)
        candidates = candidates.numpy()
    array: npt.NDArray[Any] = checks.to_array(name, candidates)
    if array.ndim != 2:
        raise ValueError(f"The {name} tensor must be 2D (got {array.shape}).")
    rows = checks.to_vectors(name, array, None, normalized=metric == "cosine", single=False)
    if len(rows) == 0:
        raise ValueError(f"{name}: expected one row or more, got none")
    return rows


def check_dataset(candidates: Any, n_models: int = 1) -> None:
    """Refuse values that are no dataset of candidates; those of one model may lack identifiers."""
    expected = "candidates: expected a dataset of batches of " + (
        "embeddings, or of pairs (identifiers, embeddings)" if n_models == 1
        else "(identifiers, positive embeddings, negative embeddings)")
    if not isinstance(candidates, tf.data.Dataset):
        raise TypeError(f"{expected}, got {type(candidates).__name__}")
    spec = candidates.element_spec
    ids, *rows = spec if isinstance(spec, tuple) else (None, spec)
    if len(rows) != n_models or not all(isinstance(part, tf.TensorSpec) for part in rows):
        raise ValueError(f"{expected}, got elements {spec}")
    for part in rows:
        if part.shape.rank not in (2, None):
            raise ValueError(f"{expected}, got elements {spec}; is `.batch(...)` missing?")
        if ids is not None and not (ids.shape.rank in (1, None)
                                    and ids.shape[:1].is_compatible_with(part.shape[:1])):
            raise ValueError(f"{expected} of the same batch size, got elements {spec}")


def collected(candidates: tf.data.Dataset, n_models: int = 1) -> list[Tensor]:
    """Join a dataset of batches: identifiers, or None, and embeddings, as one tensor each."""
    check_dataset(candidates, n_models)
    with_ids = isinstance(candidates.element_spec, tuple)
    batches = [batch if with_ids else (batch,) for batch in candidates]
    if not batches:
        raise ValueError("candidates: expected one batch or more, got an empty dataset")
    for batch in batches:
        if len(set(map(len, batch))) > 1:
            raise ValueError("candidates: expected as many identifiers as embeddings in each "
                             f"batch, got {' and '.join(str(len(part)) for part in batch)}")
    parts = [tf.concat(part, axis=0) for part in zip(*batches, strict=True)]
    return parts if with_ids else [None, *parts]
