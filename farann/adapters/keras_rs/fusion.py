"""One ranking by any number of retrieval models, as a layer of Keras-RS."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import keras
import numpy as np

from farann.adapters import id_arrays
from farann.adapters.keras_rs.retrieval import BruteForceFurthestRetrieval, Tensor
from farann.adapters.posneg import FusionRanker


class BruteForceFusionRetrieval(BruteForceFurthestRetrieval):
    """The best candidates by a `FusionRanker` of any number of models, on any Keras backend.

    It is called with a list of query embeddings, one array or tensor (n_queries, dim) for each
    model in the order of the ranker's `names`, and returns fused scores, larger for what is better,
    and ids. Zeros stand for a model that doesn't know somebody.

    Parameters
    ----------
    ranker : FusionRanker, optional
        As for `update_ranker`, which fills a layer that is made without one.
    candidate_ids : tensor or array (n,), optional
        In the order of ``ranker.ids``, which are the default: numbers of any size, or strings.
    k : int
        How many candidates to retrieve.
    return_scores : bool
        Whether a call returns scores and ids, or ids alone.
    among, exposure : optional
        As for `FusionRanker.rank`.
    **options
        Of `keras.layers.Layer`.

    Notes
    -----
    Answers are those of ``ranker.rank(queries=...)`` but for float32 rounding: give what somebody
    has rated to `query_with_exclusions`. ``save`` and ``save_weights`` keep what the
    ranker told. Compiled functions return ids if they are numbers that the backend has tensors of;
    in the place of strings give numbers of rows, ``np.arange(len(ranker.ids))``, and look them up.

    Examples
    --------
    >>> from farann.adapters.keras_rs import BruteForceFusionRetrieval
    >>> from farann.adapters.posneg import FusionRanker, SignedModel
    >>> rng = np.random.default_rng(0)
    >>> users, films = rng.standard_normal((2, 50, 4), dtype=np.float32)
    >>> who, what = rng.integers(0, 50, (2, 2000))
    >>> liked = (users[who] * films[what]).sum(axis=1) + rng.standard_normal(2000) > 0
    >>> ranker = FusionRanker([SignedModel(films, users), SignedModel(films, -users, -1)])
    >>> ranker = ranker.fit(who, what, liked)
    >>> layer = BruteForceFusionRetrieval(ranker, k=3, among="shown")
    >>> scores, ids = layer([users[:2], -users[:2]])
    >>> bool((keras.ops.convert_to_numpy(layer.probability(scores)) > 0.8).all())
    True
    """

    def __init__(self, ranker: FusionRanker | None = None, candidate_ids: Any = None, k: int = 10,
                 return_scores: bool = True, *, among: str = "all",
                 exposure: float | None = None, **options: Any) -> None:
        super().__init__(None, None, k, return_scores, **options)
        self._dims: tuple[int, ...] = ()
        self._cosine: tuple[bool, ...] = ()
        self._intercept = float("nan")
        if ranker is not None:
            self.update_ranker(ranker, candidate_ids, among=among, exposure=exposure)
        elif candidate_ids is not None:
            raise ValueError("candidate_ids: expected None without a ranker")

    def update_candidates(self, candidate_embeddings: Any, candidate_ids: Any = None) -> None:
        """Refused: candidates come with a ranker, which calibrates the scores of its models."""
        raise NotImplementedError("BruteForceFusionRetrieval takes rankers: call update_ranker")

    def update_ranker(self, ranker: FusionRanker, candidate_ids: Any = None, *, among: str = "all",
                      exposure: float | None = None) -> None:
        """Replace the items and weights by those of a ranker.

        Parameters
        ----------
        ranker : FusionRanker
            Before its `fit` the score is the plain average of the models' scores. Later changes of
            the ranker don't matter.
        candidate_ids, among, exposure : optional
            As for the layer.

        Raises
        ------
        ValueError, TypeError
            As `BruteForceFurthestRetrieval.update_candidates`; and for models of other dimensions
            or metrics, once functions of TensorFlow were compiled. Nothing changes then.
        """
        if not isinstance(ranker, FusionRanker):
            raise TypeError(f"ranker: expected a FusionRanker, got {type(ranker).__name__}")
        form = ranker.linear(among, exposure)
        ids = form.ids if candidate_ids is None else candidate_ids
        self._take(form.rows * form.scale, ids, form.dims,
                   tuple(metric == "cosine" for metric in form.metrics), form.intercept)

    def probability(self, scores: Tensor) -> Tensor:
        """Chances that candidates with these scores are liked if they are shown, float32.

        Parameters
        ----------
        scores : tensor
            Of this layer. It must hold a fitted ranker's score ``among="shown"``, as log-odds of
            being shown are in others: all chances are NaN then.
        """
        return keras.ops.sigmoid(keras.ops.cast(scores, "float32") + self._intercept)

    def call(self, inputs: Sequence[Tensor]) -> Any:
        """The k best candidates of each query.

        Parameters
        ----------
        inputs : list of tensor (n_queries, dim)
            Query embeddings by each model.

        Returns
        -------
        scores : float32 (n_queries, k)
            Descending; larger is better. Only if `return_scores` is set.
        ids : (n_queries, k)
            A tensor; a numpy array for strings, and on JAX for numbers beyond 32 bits.

        Raises
        ------
        ValueError
            For embeddings of other dimensions, if there is no ranker yet, or in compiled functions
            that can't have such ids.
        """
        # The base class looks for the smallest products.
        return super().call(-self._coordinates(inputs))

    def query_with_exclusions(self, inputs: Sequence[Tensor], exclusions: Any) -> Any:
        """The k best candidates of each query, without some that are known.

        Parameters
        ----------
        inputs : list of tensor (n_queries, dim)
            Query embeddings by each model.
        exclusions : tensor or array (n_queries, n_exclusions)
            Ids to leave out, for each query. Unknown ones, such as -1 or "", are ignored.

        Returns
        -------
        scores, ids
            As from a call; padded by NaN, and by -1 or "", where fewer than k are left.

        Raises
        ------
        ValueError
            As in a call, and for exclusions of another shape.
        """
        ops = keras.ops
        left_out = exclusions if keras.ops.is_tensor(exclusions) else np.asarray(exclusions)
        if len(left_out.shape) != 2 or left_out.shape[0] != inputs[0].shape[0]:
            raise ValueError("exclusions: expected shape (n_queries, n_exclusions), got "
                             f"{tuple(left_out.shape)} for {inputs[0].shape[0]} queries")
        scores, rows, known = self._retrieve(-self._coordinates(inputs), left_out.shape[1])
        ids = self._ids_of(rows, known)
        if isinstance(ids, np.ndarray):  # strings, and numbers that the backend has no tensors of
            left_out = ops.convert_to_numpy(left_out) if ops.is_tensor(left_out) else left_out
            out = ops.convert_to_tensor((ids[:, :, None] == left_out[:, None, :]).any(axis=2))
        else:
            left_out = ops.cast(ops.convert_to_tensor(left_out), ids.dtype)
            out = ops.any(ops.equal(ids[:, :, None], left_out[:, None, :]), axis=2)
        best, at = ops.top_k(ops.where(out, -float("inf"), scores), k=self.k)
        left = ops.isfinite(best)
        scores = ops.where(left, best, float("nan"))
        if isinstance(ids, np.ndarray):
            ids = np.where(ops.convert_to_numpy(left), np.take_along_axis(
                ids, ops.convert_to_numpy(at), axis=1), "" if ids.dtype.kind in "OSU" else -1)
        else:
            ids = ops.where(left, ops.take_along_axis(ids, at, axis=1), -1)
        return (scores, ids) if self.return_scores else ids

    def compute_output_spec(self, inputs: Any) -> Any:
        """Shapes and types of the result of a call, without calling."""
        return super().compute_output_spec(inputs[0])

    def save_own_variables(self, store: MutableMapping[str, Any]) -> None:
        """Write what the ranker told to a `.keras` or `.weights.h5` file."""
        super().save_own_variables(store)
        store["dims"], store["cosine"] = np.array(self._dims), np.array(self._cosine)
        store["intercept"] = np.float32(self._intercept)

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        """Read what a ranker told from such a file."""
        if "candidate_embeddings" in store:
            self._take(np.asarray(store["candidate_embeddings"]),
                       id_arrays.read(store, "candidate_ids"),
                       tuple(np.asarray(store["dims"]).tolist()),
                       tuple(np.asarray(store["cosine"]).tolist()),
                       float(np.asarray(store["intercept"])))

    def _take(self, rows: Any, ids: Any, dims: tuple[int, ...], cosine: tuple[bool, ...],
              intercept: float) -> None:
        if self._is_traced and (dims, cosine) != (self._dims, self._cosine):
            raise ValueError(
                "ranker: compiled functions hold on to models of dimensions "
                f"{self._dims}, got {dims}, or other metrics; make a new layer for other ones")
        super().update_candidates(rows, ids)
        self._dims, self._cosine, self._intercept = dims, cosine, intercept

    def _coordinates(self, queries: Any) -> Tensor:
        """What `LinearForm.vectors` makes of queries, but for the scale, which is in the rows."""
        ops = keras.ops
        if not self._dims:
            raise ValueError("inputs: there is no ranker yet: call update_ranker first")
        if not isinstance(queries, list | tuple) or len(queries) != len(self._dims):
            raise ValueError(f"inputs: expected a list of {len(self._dims)}, embeddings by each "
                             "model, got "
                             f"{len(queries) if isinstance(queries, list | tuple) else 'a tensor'}")
        parts = []
        for vectors, dim, cosine in zip(queries, self._dims, self._cosine, strict=True):
            each = ops.cast(vectors, "float32")
            if each.shape[1:] != (dim,) or each.shape[0] != queries[0].shape[0]:
                raise ValueError(f"inputs: expected shapes {self._dims} after the number of "
                                 f"queries, got {tuple(tuple(one.shape) for one in queries)}")
            known = ops.any(each != 0.0, axis=1, keepdims=True)
            length = ops.sqrt(ops.sum(each * each, axis=1, keepdims=True))
            parts += [each / ops.where(known, length, 1.0) if cosine else each,
                      ops.cast(known, "float32")]
        one = ops.ones_like(ops.cast(queries[0], "float32")[:, :1])
        return ops.concatenate([*parts, one, one], axis=1)


keras.saving.register_keras_serializable(package="farann")(BruteForceFusionRetrieval)
