"""A loss of retrieval that corrects for how negatives are drawn, and knows explicit ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from farann.adapters import training
from farann.contract import checks

Tensor = Any
# JAX has no numbers of 64 bits.
_KINDS = {"f": "float32", "b": "bool"}


class RetrievalTask:
    """A softmax over the candidates of a batch, with explicit negatives, on any Keras backend.

    Call it in the `compute_loss` of a model.

    Parameters
    ----------
    temperature : float
        Scores are divided by it.
    dislike_weight : float
        How much a row that was disliked counts beside one that was liked.
    reduction : {"mean", "sum"}
        Whether the losses of a batch are divided by the number of rows, as by the losses of Keras,
        or added.

    Notes
    -----
    The losses are those of `farann.adapters.tfrs.RetrievalTask`, whose page says what to use
    when, with sources.

    Examples
    --------
    >>> import keras
    >>> from farann.adapters.keras_rs import RetrievalTask
    >>> task = RetrievalTask()
    >>> users, films = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[2.0, 0.0], [1.0, 1.0]])
    >>> round(float(task(users, films, candidate_ids=[7, 8])), 3)
    0.313
    >>> round(float(task(users, films, candidate_ids=[7, 8], labels=[True, False])), 3)
    0.813
    """

    def __init__(self, *, temperature: float = 1.0, dislike_weight: float = 1.0,
                 reduction: str = "mean") -> None:
        self._temperature = checks.to_positive("temperature", temperature)
        self._dislike_weight = checks.to_positive("dislike_weight", dislike_weight, zero=True)
        self._reduction = checks.to_choice("reduction", reduction, ("mean", "sum"))

    def __call__(self, query_embeddings: Tensor, candidate_embeddings: Tensor,
                 sample_weight: Tensor = None, *, labels: Tensor = None, log_q: Tensor = None,
                 candidate_ids: Tensor = None, negative_embeddings: Tensor = None,
                 negative_weight: Tensor = None, negative_ids: Tensor = None) -> Tensor:
        """Loss of a batch.

        Parameters
        ----------
        query_embeddings : tensor (n, dim)
        candidate_embeddings : tensor (m, dim)
            The first n are those of the rows; the others are negatives of every row.
        sample_weight : tensor (n,), optional
        labels : tensor (n,) of bool or numbers, optional
            Whether the row's candidate was liked (more than 0), by default always.
        log_q : tensor (m,), optional
            Logarithm of how often each candidate is drawn, as `MixedNegatives` gives it.
        candidate_ids : tensor (m,), optional
            Numbers. Without them an item that comes twice is a negative of itself.
        negative_embeddings : tensor (n, h, dim), optional
            What each row's user dislikes; of no account in rows that were disliked.
        negative_weight : tensor (n, h), optional
            As how many drawn negatives each counts; 0 is padding. 1 by default.
        negative_ids : tensor (n, h), optional
            Which of them is the row's own candidate, and no negative.

        Returns
        -------
        tensor
            Of no dimension.

        Raises
        ------
        ValueError
            For shapes that don't belong together, as far as they are known.
        """
        queries = ops.convert_to_tensor(query_embeddings)
        dtype = "float64" if keras.backend.standardize_dtype(queries.dtype) == "float64" else (
            "float32")
        batch = training.Batch(
            ops.cast(queries, dtype), _cast(candidate_embeddings, dtype),
            None if labels is None else ops.reshape(_cast(labels, "float32"), [-1]) > 0,
            _cast(log_q, dtype), _tensor(candidate_ids), _cast(negative_embeddings, dtype),
            _cast(negative_weight, dtype), _tensor(negative_ids))
        training.check_shapes(batch, lambda part: part.shape)
        losses = training.row_losses(ops, batch, self._temperature)
        if sample_weight is not None:
            losses = losses * ops.reshape(_cast(sample_weight, dtype), [-1])
        if batch.labels is not None:
            weights = ops.where(batch.labels, 1.0, self._dislike_weight)
            losses = losses * ops.cast(weights, dtype)
        return ops.sum(losses) if self._reduction == "sum" else ops.mean(losses)


class MixedNegatives(keras.layers.Layer):
    """Adds uniformly drawn items of a catalogue to the candidates of each batch.

    Parameters
    ----------
    counts : array_like of int (n_items,)
        How often each item comes in the rows that the model is trained on. An item that never
        comes counts as one that comes once.
    catalogue : dict of arrays (n_items, ...), optional
        Features of all items, numbers, as the candidate tower takes them. Without them its
        only feature is the item's number.
    id : str, optional
        Which of the features, if there are several, is the item's number, 0 to n_items - 1.
    uniform : int
        How many to draw for each batch; 0 for the correction alone.
    seed : int, optional
    **options
        Of `keras.layers.Layer`.

    Examples
    --------
    >>> import keras
    >>> from farann.adapters.keras_rs import MixedNegatives
    >>> mixed = MixedNegatives([4, 2, 0], uniform=2)
    >>> drawn = mixed(np.array([1, 0]))
    >>> keras.ops.convert_to_numpy(drawn.ids)[:2], tuple(drawn.candidates.shape)
    (array([1, 0], dtype=int32), (4,))
    >>> keras.ops.convert_to_numpy(drawn.log_q)[:2].round(2)
    array([0.  , 0.41], dtype=float32)
    """

    def __init__(self, counts: npt.ArrayLike, catalogue: Mapping[str, npt.ArrayLike] | None = None,
                 *, id: str | None = None, uniform: int = 0, seed: int | None = None,
                 **options: Any) -> None:
        super().__init__(**options)
        number = np.asarray(counts)
        if number.ndim != 1 or not len(number) or number.dtype.kind not in "iuf" or (
                not np.isfinite(number).all() or (number < 0).any()):
            raise ValueError("counts: expected numbers of 0 or more, one an item, got "
                             f"{checks.shown(counts)}")
        n = len(number)
        if (catalogue is None) != (id is None) or (catalogue is not None and id not in catalogue):
            raise ValueError("id: expected the name of a feature of catalogue, or neither, got "
                             f"{id!r}")
        features = {key: np.asarray(each) for key, each in (catalogue or {}).items()}
        for key, each in features.items():
            if each.shape[:1] != (n,) or each.dtype.kind not in "biuf" or (
                    each.dtype.kind in "iu" and np.abs(each.astype(np.float64)).max() >= 2**31):
                raise ValueError(f"catalogue: expected numbers of {n} items, below 2^31 if whole, "
                                 f"got {key!r} of {each.dtype} {each.shape}")
        if id is not None and not (features[id] == np.arange(n)).all():
            raise ValueError(f"catalogue: expected {id!r} to be the items' numbers, 0 to {n - 1}")
        self.uniform, self.n_items = checks.to_int("uniform", uniform, 0), n
        self._key = id
        share = n / max(float(number.sum()), 1.0)
        self._once = share  # of an item that comes once
        self._frequency = self._constant("frequency", np.maximum(number, 1) * share, "float32")
        # Variables, as a compiled function would hold arrays a second time.
        self._features = [
            (key, self._constant(f"feature_{i}", each, _KINDS.get(each.dtype.kind, "int32")))
            for i, (key, each) in enumerate(features.items())]
        self._random = keras.random.SeedGenerator(seed)
        self.built = True

    def _constant(self, name: str, values: Any, dtype: str) -> Any:
        return self.add_weight(name=name, shape=values.shape, dtype=dtype, trainable=False,
                               autocast=False,
                               initializer=lambda shape, dtype: ops.cast(values, dtype))

    def call(self, candidates: Any) -> training.Drawn:
        """The candidates of a batch and drawn ones.

        Parameters
        ----------
        candidates : tensor (n, ...) or dict of such
            Features as in the catalogue, or numbers of items. Further features are left out.

        Returns
        -------
        Drawn
        """
        named = isinstance(candidates, Mapping)
        if named != (self._key is not None) or (named and self._key not in candidates):
            raise ValueError("candidates: expected " + (
                "numbers of items, as there is no catalogue" if self._key is None
                else f"features with {self._key!r}"))
        ids = ops.cast(candidates[self._key] if named else candidates, "int32")
        n = ops.shape(ids)[0]
        if self.uniform:
            rows = keras.random.randint((self.uniform,), 0, self.n_items, "int32", self._random)
            ids = ops.concatenate([ids, rows], axis=0)
            if named:
                candidates = {
                    key: ops.concatenate([
                        ops.convert_to_tensor(candidates[key]),
                        ops.cast(ops.take(all_of_them, rows, axis=0), candidates[key].dtype)],
                        axis=0)
                    for key, all_of_them in self._features}
        known = (ids >= 0) & (ids < self.n_items)
        frequency = ops.where(
            known, ops.take(self._frequency, ops.clip(ids, 0, self.n_items - 1)), self._once)
        return training.Drawn(candidates if named else ids, ids, training.relative_log_q(
            ops, frequency, ops.cast(n, "float32"), float(self.uniform)))


def _tensor(value: Any) -> Any:
    return None if value is None else ops.convert_to_tensor(value)


def _cast(value: Any, dtype: str) -> Any:
    return None if value is None else ops.cast(ops.convert_to_tensor(value), dtype)
