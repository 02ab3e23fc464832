"""How many likes and dislikes are among the best of a layer of two models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from tensorflow_recommenders.layers.factorized_top_k import TopK

from farann.adapters.tfrs.top_k import Tensor, no_id, same_ids
from farann.contract import checks


class PosNegTopK(tf.keras.layers.Layer):
    """Recall of likes and share of dislikes among the k best, whatever ranks them.

    For `PosNeg` and `BruteForcePosNeg`, which rank by two models and so don't go with
    ``tfrs.metrics.FactorizedTopK``, and for any other `TopK` layer to compare them with.

    Parameters
    ----------
    layer : TopK layer
        What ranks; it is called with the queries of `update_state`.
    ks : sequence of int
    name : str

    Notes
    -----
    Results are means over queries, of the queries that have any liked item in "recall_at_k", and
    any disliked one in "disliked_at_k": those of `farann.metrics.recall_at_k` and
    `disliked_at_k`.

    Examples
    --------
    >>> import tensorflow as tf
    >>> from farann.adapters.tfrs import BruteForcePosNeg, PosNegTopK
    >>> films = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
    >>> layer = BruteForcePosNeg().index((films, films), ["a", "b", "c"])
    >>> metric = PosNegTopK(layer, ks=(1, 2))
    >>> users = tf.constant([[2.0, 1.0]]), tf.constant([[0.0, 1.0]])
    >>> metric.update_state(users, liked=[["a", "c"]], disliked=[["b"]])
    >>> {name: float(value) for name, value in metric.result().items()}
    {'recall_at_1': 0.5, 'disliked_at_1': 0.0, 'recall_at_2': 1.0, 'disliked_at_2': 0.0}
    """

    def __init__(self, layer: TopK, ks: Sequence[int] = (10, 100),
                 name: str = "posneg_top_k") -> None:
        super().__init__(name=name)
        self._ks = [checks.to_int("ks", k, 1) for k in ks]
        if not self._ks:
            raise ValueError("ks: expected one number or more, got none")
        if not isinstance(layer, TopK):
            raise TypeError("layer: expected a layer that retrieves the k best, got "
                            f"{type(layer).__name__}")
        self._layer = layer
        self._means = {f"{what}_at_{k}": tf.keras.metrics.Mean(name=f"{name}/{what}_at_{k}")
                       for k in self._ks for what in ("recall", "disliked")}

    def update_state(self, queries: Any, liked: Any, disliked: Any = None, exclusions: Any = None,
                     sample_weight: Any = None) -> tf.Operation | None:
        """Rank for some queries, and count.

        Parameters
        ----------
        queries
            What the layer is called with.
        liked, disliked : tensor (n,) or (n, m), or ragged (n, None)
            Identifiers of what each query's user is known to like and to dislike, each once. "",
            -1 and NaN are padding.
        exclusions : tensor (n, m), optional
            What is not to be retrieved, as in `query_with_exclusions`.
        sample_weight : tensor (n,), optional
        """
        k = max(self._ks)
        scores, found = (self._layer(queries, k=k) if exclusions is None
                         else self._layer.query_with_exclusions(queries, exclusions, k=k))
        real = ~tf.math.is_nan(scores)  # the others are padding
        weight = (tf.ones(tf.shape(found)[:1]) if sample_weight is None
                  else tf.reshape(tf.cast(sample_weight, tf.float32), [-1]))
        updates = []
        for what, name, given in (("recall", "liked", liked), ("disliked", "disliked", disliked)):
            if given is None:
                continue
            wanted = _lists(given)
            hits = real & tf.reduce_any(
                same_ids(found[:, :, None], wanted[:, None, :], name), axis=2)
            known = _count(~_is_none(wanted))
            for one in self._ks:
                of = known if what == "recall" else _count(real[:, :one])
                share = tf.math.divide_no_nan(_count(hits[:, :one]), of)
                counts = tf.cast((known > 0) & (of > 0), tf.float32)
                updates.append(self._means[f"{what}_at_{one}"].update_state(
                    share, sample_weight=weight * counts))
        return None if tf.executing_eagerly() else tf.group(updates)

    def result(self) -> dict[str, Tensor]:
        """The means so far by name, "recall_at_10" and "disliked_at_10" and so on."""
        return {name: mean.result() for name, mean in self._means.items()}

    def reset_states(self) -> None:
        """Begin anew."""
        for mean in self._means.values():
            mean.reset_states()


def _lists(ids: Any) -> Tensor:
    """Identifiers (n, m), padded."""
    if isinstance(ids, tf.RaggedTensor):
        return ids.to_tensor(no_id(ids.dtype))
    ids = tf.convert_to_tensor(ids)
    return ids[:, None] if ids.shape.rank == 1 else ids


def _is_none(ids: Tensor) -> Tensor:
    return tf.math.is_nan(ids) if ids.dtype.is_floating else tf.equal(ids, no_id(ids.dtype))


def _count(which: Tensor) -> Tensor:
    return tf.reduce_sum(tf.cast(which, tf.float32), axis=1)
