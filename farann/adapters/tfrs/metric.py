"""A metric: how often the true candidate is among the furthest ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from tensorflow_recommenders.metrics.factorized_top_k import Factorized

from farann.adapters.tfrs.brute_force import StreamingFurthest
from farann.adapters.tfrs.top_k import FurthestTopK, Tensor, same_ids
from farann.contract import checks

# Scores this near, as a share of |q| |c|, count as equal: the order of sums changes their rounding.
_SCORE_ROUNDING = 4 * float(np.finfo(np.float32).eps)


class FactorizedBottomK(Factorized):
    """The share of queries whose true candidate is among their k furthest.

    The counterpart of ``tfrs.metrics.FactorizedTopK`` for furthest layers, for use in
    ``tfrs.tasks.Retrieval(metrics=...)`` or by itself. `FactorizedTopK` counts right with furthest
    layers if it gets ids; without them it compares their scores with products of the other sign.

    Parameters
    ----------
    candidates : furthest layer or tf.data.Dataset
        A layer of this module, or a dataset of candidate embeddings or pairs (identifiers,
        embeddings), for a `StreamingFurthest`.
    ks : sequence of int
    name : str

    Examples
    --------
    >>> import tensorflow as tf
    >>> from farann.adapters.tfrs import BruteForceFurthest, FactorizedBottomK
    >>> layer = BruteForceFurthest().index([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    >>> metric = FactorizedBottomK(layer, ks=(1, 2))
    >>> metric.update_state(tf.constant([[2.0, 1.0]]), tf.constant([[0.0, 1.0]]))
    >>> [float(share) for share in metric.result()]
    [0.0, 1.0]
    """

    def __init__(self, candidates: FurthestTopK | tf.data.Dataset,
                 ks: Sequence[int] = (1, 5, 10, 50, 100),
                 name: str = "factorized_bottom_k") -> None:
        super().__init__(name=name)
        self._ks = [checks.to_int("ks", k, 1) for k in ks]
        if not self._ks:
            raise ValueError("ks: expected one number or more, got none")
        if isinstance(candidates, tf.data.Dataset):
            candidates = StreamingFurthest(k=max(self._ks)).index_from_dataset(candidates)
        if not isinstance(candidates, FurthestTopK):
            raise TypeError("candidates: expected a furthest layer of farann.adapters.tfrs or a "
                            f"dataset, got {type(candidates).__name__}")
        self._candidates = candidates
        self._means = [tf.keras.metrics.Mean(name=f"{name}/bottom_{k}_categorical_accuracy")
                       for k in self._ks]

    def update_state(self, query_embeddings: Tensor, true_candidate_embeddings: Tensor,
                     true_candidate_ids: Tensor | None = None,
                     sample_weight: Tensor | None = None) -> tf.Operation | None:
        """Count the true candidates of some queries.

        Parameters
        ----------
        query_embeddings, true_candidate_embeddings : tensor (n, dim)
        true_candidate_ids : tensor (n,) or (n, 1), optional
            Looked for among the ids that the layer retrieves. Without them the score of the true
            candidate decides: it is among the k furthest if fewer than k have a larger one. Of
            more than n the first count: TFRS's task gives those of further negatives as well.
        sample_weight : tensor (n,) or (n, 1), optional

        Raises
        ------
        ValueError
            Without ids, if the layer's answers are approximate.
        """
        scores, ids = self._candidates(query_embeddings, k=max(self._ks))
        if true_candidate_ids is not None:
            n = tf.shape(scores)[0]
            true_ids = tf.reshape(tf.convert_to_tensor(true_candidate_ids), [-1, 1])[:n]
            if tf.executing_eagerly() and len(true_ids) < n:
                raise ValueError(f"true_candidate_ids: expected {n} or more, one a query, got "
                                 f"{len(true_ids)}")
            matches = (same_ids(ids, true_ids, "true_candidate_ids")
                       & ~tf.math.is_nan(scores))
            hits = [tf.reduce_any(matches[:, :k], axis=1, keepdims=True) for k in self._ks]
        else:
            if not self._candidates.is_exact():
                raise ValueError("true_candidate_ids: expected with a layer whose answers are "
                                 "approximate, since the score alone can't tell, got None")
            hits = self._hits_by_score(scores, query_embeddings, true_candidate_embeddings)
        updates = [mean.update_state(hit, sample_weight)
                   for mean, hit in zip(self._means, hits, strict=True)]
        return None if tf.executing_eagerly() else tf.group(updates)

    def _hits_by_score(self, scores: Tensor, queries: Tensor, candidates: Tensor) -> list[Tensor]:
        true = self._candidates.pair_scores(queries, candidates)
        lengths = tf.reduce_prod([tf.norm(tf.cast(vectors, tf.float32), axis=1, keepdims=True)
                                  for vectors in (queries, candidates)], axis=0)
        further = tf.cast(scores > true + _SCORE_ROUNDING * lengths, tf.int32)  # NaN is not
        return [tf.reduce_sum(further[:, :k], axis=1, keepdims=True) < k for k in self._ks]


tf.keras.utils.register_keras_serializable(package="farann")(FactorizedBottomK)
