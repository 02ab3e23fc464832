"""Furthest retrieval for Keras-RS, on Keras 3 with TensorFlow, JAX or PyTorch.

The layers are `keras_rs.layers.Retrieval` layers that return scores in descending order, larger
meaning further: negated dot products.
"""

from __future__ import annotations

import importlib.util
from abc import abstractmethod
from collections.abc import Mapping, MutableMapping
from typing import Any

import numpy as np
import numpy.typing as npt

from farann import _checks
from farann._types import Float32Array
from farann.adapters import _id_arrays
from farann.adapters._id_arrays import IdArray
from farann.index import Index

for _name in ("keras", "keras_rs"):
    if importlib.util.find_spec(_name) is None:
        raise ModuleNotFoundError(
            f"farann.adapters.keras_rs needs {_name}, which is not installed: "
            "pip install 'farann[keras-rs]', and one of tensorflow, jax and torch", name=_name)

import keras  # noqa: E402
from keras_rs.layers import Retrieval  # noqa: E402

__all__ = ["BruteForceFurthestRetrieval", "FurthestRetrieval"]

Tensor = Any


class _FurthestRetrieval(Retrieval):
    """What both layers share: identifiers, which backends can't always hold, and files."""

    def __init__(self, candidate_embeddings: Any, candidate_ids: Any, k: int,
                 return_scores: bool, **options: Any) -> None:
        super().__init__(k=_checks.to_int("k", k, 1), return_scores=return_scores, **options)
        # A table outside of the backend: JAX has no 64-bit numbers, and only TensorFlow has
        # strings.
        self._ids: IdArray | None = None
        self._n = 0
        if candidate_embeddings is not None:
            self.update_candidates(candidate_embeddings, candidate_ids)
        elif candidate_ids is not None:
            raise ValueError("candidate_ids: expected None without candidate_embeddings")

    @property
    def candidate_ids(self) -> IdArray | None:
        """The candidates' ids as they were given; None if they are their numbers."""
        return self._ids

    def update_candidates(self, candidate_embeddings: Any, candidate_ids: Any = None) -> None:
        """Take candidates, in the place of those there were.

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
        given = _checks.to_array("candidate_embeddings", _to_numpy(candidate_embeddings))
        if given.ndim != 2:
            raise ValueError("candidate_embeddings: expected rank 2, (n, dim), "
                             f"got shape {given.shape}")
        rows = _checks.to_vectors("candidate_embeddings", given, None, unit=False, single=False)
        if len(rows) < self.k:
            raise ValueError(f"candidate_embeddings: expected k = {self.k} candidates or more, "
                             f"got {len(rows)}")
        ids = None
        if candidate_ids is not None:
            ids = np.array(_to_numpy(candidate_ids))
            if ids.shape != (len(rows),):
                raise ValueError(f"candidate_ids: expected shape ({len(rows)},), one a candidate, "
                                 f"got {ids.shape}")
        self._store(rows)
        self._ids, self._n = ids, len(rows)
        self.built = True

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
            A tensor, or a numpy array where the backend has no tensors of such ids: strings
            outside of TensorFlow, 64-bit numbers on JAX.

        Raises
        ------
        ValueError
            If there are no candidates yet, or in compiled functions that can't have such ids.
        """
        if not self._n:
            raise ValueError("there are no candidates yet: call update_candidates first")
        scores, rows = self._retrieve(inputs)
        ids = self._ids_of(rows)
        return (scores, ids) if self.return_scores else ids

    def compute_output_spec(self, inputs: Any) -> Any:
        """Shapes and types of what a call returns, without calling."""
        shape = (*inputs.shape[:-1], self.k)
        dtype = "int32" if self._ids is None else _kept_dtype(self._ids) or "string"
        ids = keras.KerasTensor(shape, dtype)
        return (keras.KerasTensor(shape, "float32"), ids) if self.return_scores else ids

    def get_config(self) -> dict[str, Any]:
        """What `from_config` makes such a layer of; candidates are state, not configuration."""
        return {**super().get_config(), "return_scores": self.return_scores}

    def save_own_variables(self, store: MutableMapping[str, Any]) -> None:
        """Write the candidates to a `.keras` or `.weights.h5` file."""
        if not self._n:
            return
        store["candidate_embeddings"] = self._stored()
        if self._ids is not None:
            for name, array in _id_arrays.pack(self._ids).items():
                store[f"candidate_ids.{name}"] = array

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        """Read the candidates from such a file."""
        if "candidate_embeddings" not in store:
            return
        packed = {name: np.asarray(store[f"candidate_ids.{name}"]) for name in _id_arrays.PARTS
                  if f"candidate_ids.{name}" in store}
        ids = _id_arrays.unpack(packed) if packed else None
        self.update_candidates(np.asarray(store["candidate_embeddings"]), ids)

    # Keras would call the layer to build it when a file is loaded, before there are candidates.

    def get_build_config(self) -> None:
        """Nothing: the layer needs no building."""

    def build_from_config(self, config: Any) -> None:
        """Do nothing, likewise."""

    @abstractmethod
    def _store(self, rows: Float32Array) -> None:
        """Keep candidates."""

    @abstractmethod
    def _stored(self) -> Float32Array:
        """The candidates that are kept."""

    @abstractmethod
    def _retrieve(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and row numbers, tensors (n_queries, k), of the furthest candidates."""

    def _ids_of(self, rows: Tensor) -> Any:
        if self._ids is None:
            return rows
        dtype = _kept_dtype(self._ids)
        if dtype is not None:
            table = keras.ops.convert_to_tensor(_texts(self._ids), dtype=dtype)
            return keras.ops.take(table, rows, axis=0)
        if _is_symbolic(rows):
            raise ValueError(
                f"candidate_ids: the {keras.backend.backend()} backend has no {self._ids.dtype} "
                "tensors, so such ids can't come out of compiled functions. Call the layer itself, "
                "compile(run_eagerly=True), or let the layer return row numbers and look ids up "
                "outside")
        return self._ids[keras.ops.convert_to_numpy(rows)]
