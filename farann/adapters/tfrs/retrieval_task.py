"""A retrieval task that corrects for how negatives are drawn, and knows explicit ones."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import tensorflow as tf
import tensorflow_recommenders as tfrs

from farann.adapters import training
from farann.adapters.tfrs.top_k import Tensor
from farann.contract import checks

_LEAST = 1e-30  # of probabilities: a logarithm has to be finite


def _where(which: Tensor, one: Any, other: Any) -> Tensor:
    """Choose between tensors and numbers, which in graphs would be float32."""
    dtype = next(each.dtype for each in (one, other) if tf.is_tensor(each))
    return tf.where(which, tf.cast(one, dtype), tf.cast(other, dtype))


# TensorFlow under the names of keras.ops, which Keras 2 doesn't have.
OPERATIONS = cast(training.Operations, SimpleNamespace(
    matmul=tf.matmul, transpose=tf.transpose, shape=tf.shape, arange=tf.range, where=_where,
    sum=tf.reduce_sum, log=tf.math.log, logsumexp=tf.reduce_logsumexp,
    concatenate=tf.concat, softplus=tf.math.softplus))


class RetrievalTask(tfrs.tasks.Retrieval):
    """A softmax over the candidates of a batch, with explicit negatives.

    It goes where ``tfrs.tasks.Retrieval`` goes, and without further arguments its loss is that of
    one that removes accidental hits.

    Parameters
    ----------
    metrics, batch_metrics, loss_metrics : optional
        As of ``tfrs.tasks.Retrieval``. Metrics count rows that were liked.
    temperature : float
        Scores are divided by it.
    dislike_weight : float
        How much a row that was disliked counts beside one that was liked.
    reduction : {"sum", "mean"}
        Whether the losses of a batch are added, as in TFRS, or divided by the number of rows.
    name : str, optional

    Notes
    -----
    Negatives of a row are all candidates that are not the same item, by `candidate_ids`. The two
    kinds of explicit negatives are for two kinds of logs: *rows*, each shown and clicked or not,
    have `labels`, and the loss of a row that was not is -log(1 - p), "not to recommend" [3]_.
    *Lists* of what each user dislikes are `negative_embeddings`, further terms of the softmax.

    Subtracting `log_q`, as `MixedNegatives` gives it, corrects for popular items being drawn more
    often [1]_, and for uniform draws [2]_.

    References
    ----------
    .. [1] Yi et al., "Sampling-bias-corrected neural modeling for large corpus item
       recommendations" (RecSys 2019).
    .. [2] Yang et al., "Mixed negative sampling for learning two-tower neural networks in
       recommendations" (WWW Companion 2020).
    .. [3] Wang et al., "Learning from negative user feedback and measuring responsiveness for
       sequential recommenders" (RecSys 2023).

    Examples
    --------
    >>> import tensorflow as tf
    >>> from farann.adapters.tfrs import RetrievalTask
    >>> task = RetrievalTask()
    >>> users, films = tf.constant([[1.0, 0.0], [0.0, 1.0]]), tf.constant([[2.0, 0.0], [1.0, 1.0]])
    >>> round(float(task(users, films, candidate_ids=["a", "b"])), 3)
    0.627
    >>> round(float(task(users, films, candidate_ids=["a", "b"], labels=[True, False])), 3)
    1.627
    """

    def __init__(self, metrics: Any = None, batch_metrics: Sequence[Any] | None = None,
                 loss_metrics: Sequence[Any] | None = None, temperature: float = 1.0,
                 dislike_weight: float = 1.0, reduction: str = "sum",
                 name: str | None = None) -> None:
        super().__init__(metrics=metrics, batch_metrics=batch_metrics, loss_metrics=loss_metrics,
                         name=name)
        self._autocast = False  # Keras would cast the queries, and nothing else
        self._temperature = checks.to_positive("temperature", temperature)
        self._dislike_weight = checks.to_positive("dislike_weight", dislike_weight, zero=True)
        self._reduction = checks.to_choice("reduction", reduction, ("sum", "mean"))

    def call(self, query_embeddings: Tensor, candidate_embeddings: Tensor,
             sample_weight: Tensor = None, candidate_sampling_probability: Tensor = None,
             candidate_ids: Tensor = None, compute_metrics: bool = True,
             compute_batch_metrics: bool = True, *, labels: Tensor = None, log_q: Tensor = None,
             negative_embeddings: Tensor = None, negative_weight: Tensor = None,
             negative_ids: Tensor = None) -> Tensor:
        """Loss of a batch; metrics are updated.

        Parameters
        ----------
        query_embeddings : tensor (n, dim)
        candidate_embeddings : tensor (m, dim)
            The first n are those of the rows; the others are negatives of every row.
        sample_weight : tensor (n,), optional
        candidate_sampling_probability : tensor (m,), optional
            As in TFRS; or give its logarithm, `log_q`.
        candidate_ids : tensor (m,), optional
            Of any type. Without them an item that comes twice is a negative of itself.
        compute_metrics, compute_batch_metrics : bool
        labels : tensor (n,) of bool or numbers, optional
            Whether the row's candidate was liked (more than 0), by default always.
        log_q : tensor (m,), optional
            Logarithm of how often each candidate is drawn, up to a constant. Explicit negatives
            have 0: a constant other than that of `MixedNegatives` weighs them otherwise.
        negative_embeddings : tensor (n, h, dim) or ragged (n, None, dim), optional
            What each row's user dislikes; of no account in rows that were disliked.
        negative_weight : tensor (n, h) or ragged (n, None), optional
            As how many drawn negatives each counts; 0 is padding. 1 by default.
        negative_ids : tensor (n, h) or ragged (n, None), optional
            Which of them is the row's own candidate, and no negative.

        Returns
        -------
        float32 or float64
            Of no dimension.

        Raises
        ------
        ValueError
            For shapes that don't belong together, as far as they are known.
        """
        batch = _batch(
            query_embeddings, candidate_embeddings, labels=labels, ids=candidate_ids,
            log_q=_log_q(log_q, candidate_sampling_probability), negatives=negative_embeddings,
            negative_weight=negative_weight, negative_ids=negative_ids)
        losses = training.row_losses(OPERATIONS, batch, self._temperature)
        weight, liked = _weights(sample_weight, batch, self._dislike_weight)
        loss = tf.reduce_sum(losses * weight)
        if self._reduction == "mean":
            loss /= tf.cast(tf.maximum(tf.size(losses), 1), loss.dtype)
        updates = [metric.update_state(loss) for metric in self._loss_metrics]
        if compute_metrics:
            n = tf.shape(batch.queries)[0]
            updates += [metric.update_state(
                query_embeddings, candidate_embeddings[:n],
                true_candidate_ids=None if batch.ids is None else batch.ids[:n],
                sample_weight=liked) for metric in self._factorized_metrics]
        if compute_batch_metrics and self._batch_metrics:
            logits = tf.matmul(batch.queries, batch.candidates, transpose_b=True)
            own = tf.eye(tf.shape(logits)[0], tf.shape(logits)[1])
            updates += [metric.update_state(own, logits / self._temperature, sample_weight=liked)
                        for metric in self._batch_metrics]
        with tf.control_dependencies([update for update in updates if update is not None]):
            return tf.identity(loss)

    def get_config(self) -> dict[str, Any]:
        """What `from_config` makes such a task of, without metrics."""
        return {"name": self.name, "temperature": self._temperature,
                "dislike_weight": self._dislike_weight, "reduction": self._reduction}


def is_liked(labels: Any) -> Tensor:
    """Labels as booleans, (n,)."""
    labels = tf.convert_to_tensor(labels)
    return tf.reshape(labels if labels.dtype == tf.bool else labels > 0, [-1])


def dense(value: Any) -> Any:
    """A tensor, padded if it was ragged; None stays None."""
    if value is None:
        return None
    return value.to_tensor() if isinstance(value, tf.RaggedTensor) else tf.convert_to_tensor(value)


def _log_q(log_q: Any, probability: Any) -> Any:
    if probability is None:
        return log_q
    if log_q is not None:
        raise ValueError("log_q, candidate_sampling_probability: expected one of them, got both")
    probability = tf.convert_to_tensor(probability)
    return tf.math.log(tf.maximum(probability, tf.cast(_LEAST, probability.dtype)))


def _batch(queries: Any, candidates: Any, **given: Any) -> training.Batch:
    """What a call was given, as tensors of one type."""
    queries, candidates = tf.convert_to_tensor(queries), tf.convert_to_tensor(candidates)
    dtype = tf.float64 if queries.dtype == tf.float64 else tf.float32
    lists, weight = given["negatives"], given["negative_weight"]
    if isinstance(lists, tf.RaggedTensor):
        if weight is None:
            weight = tf.sequence_mask(lists.row_lengths())
        lists = lists.to_tensor()
    given |= {"negatives": _of_type(lists, dtype), "negative_weight": _of_type(weight, dtype),
              "negative_ids": dense(given["negative_ids"]),
              "log_q": _of_type(given["log_q"], dtype), "ids": dense(given["ids"]),
              "labels": None if given["labels"] is None else is_liked(given["labels"])}
    batch = training.Batch(tf.cast(queries, dtype), tf.cast(candidates, dtype), **given)
    training.check_shapes(batch, _shape)
    return batch


def _shape(part: Tensor) -> tuple[int | None, ...] | None:
    return None if part.shape.rank is None else tuple(part.shape)


def _of_type(value: Any, dtype: Any) -> Any:
    return None if value is None else tf.cast(dense(value), dtype)


def _weights(sample_weight: Any, batch: training.Batch,
             dislike_weight: float) -> tuple[Tensor, Tensor]:
    """Weights of the rows in the loss, and in metrics, which are of likes."""
    dtype = batch.queries.dtype
    weight = tf.ones(tf.shape(batch.queries)[:1], dtype)
    if sample_weight is not None:
        weight = tf.reshape(tf.cast(sample_weight, dtype), [-1])
    if batch.labels is None:
        return weight, weight
    return (weight * tf.where(batch.labels, tf.cast(1.0, dtype), tf.cast(dislike_weight, dtype)),
            weight * tf.cast(batch.labels, dtype))


tf.keras.utils.register_keras_serializable(package="farann")(RetrievalTask)
