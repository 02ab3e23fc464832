"""Losses of retrieval models that learn from likes and dislikes, for any library of tensors.

Pass ``keras.ops`` under Keras 3, and what `tensorflow_operations` gives under TensorFlow
Recommenders, which needs Keras 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple, Protocol, cast

from farann.contract import checks

Tensor = Any
# Replaces logits that don't count: finite, so that gradients are, and far below any other.
_MASKED = -1e30


class Operations(Protocol):
    """The tensor functions that losses use, by the names of ``keras.ops``."""

    arange: Any
    cast: Any
    concatenate: Any
    convert_to_tensor: Any
    log: Any
    logsumexp: Any
    matmul: Any
    reshape: Any
    shape: Any
    softplus: Any
    sum: Any
    transpose: Any
    where: Any


def tensorflow_operations() -> Operations:
    """TensorFlow under the names of ``keras.ops``, which Keras 2 doesn't have.

    Examples
    --------
    >>> import tensorflow as tf
    >>> round(float(tensorflow_operations().log(tf.constant(2.0))), 3)
    0.693
    """
    import tensorflow as tf

    def where(which: Tensor, one: Any, other: Any) -> Tensor:
        # Numbers would be float32 in graphs.
        dtype = next(each.dtype for each in (one, other) if tf.is_tensor(each))
        return tf.where(which, tf.cast(one, dtype), tf.cast(other, dtype))

    return cast(Operations, SimpleNamespace(
        arange=tf.range, cast=tf.cast, concatenate=tf.concat,
        convert_to_tensor=tf.convert_to_tensor, log=tf.math.log, logsumexp=tf.reduce_logsumexp,
        matmul=tf.matmul, reshape=tf.reshape, shape=tf.shape, softplus=tf.math.softplus,
        sum=tf.reduce_sum, transpose=tf.transpose, where=where))


def retrieval_loss(ops: Operations, query_embeddings: Tensor, candidate_embeddings: Tensor,
                   sample_weight: Tensor = None, *, labels: Tensor = None, log_q: Tensor = None,
                   candidate_ids: Tensor = None, negative_embeddings: Tensor = None,
                   negative_weight: Tensor = None, negative_ids: Tensor = None,
                   temperature: float = 1.0, dislike_weight: float = 1.0) -> Tensor:
    """Sum of the losses of a batch: a softmax over its candidates, with explicit negatives.

    Parameters
    ----------
    ops : module
        ``keras.ops`` or `tensorflow_operations`.
    query_embeddings : tensor (n, dim)
    candidate_embeddings : tensor (m, dim)
        The first n are those of the rows; the others are negatives of every row.
    sample_weight : tensor (n,), optional
    labels : tensor (n,) of bool or numbers, optional
        Whether the row's candidate was liked (more than 0), by default always.
    log_q : tensor (m,), optional
        Logarithm of how often each candidate is drawn; see `relative_log_q`.
    candidate_ids : tensor (m,), optional
        Which candidates are the same item. Without them an item that comes twice is a negative of
        itself.
    negative_embeddings : tensor (n, h, dim), optional
        What each row's user dislikes; of no account in rows that were disliked.
    negative_weight : tensor (n, h), optional
        As how many drawn negatives each counts; 0 is padding. 1 by default.
    negative_ids : tensor (n, h), optional
        Which of them is the row's own candidate, and no negative.
    temperature : float
        Scores are divided by it.
    dislike_weight : float
        How much a row that was disliked counts beside one that was liked.

    Returns
    -------
    tensor
        Of no dimension, float64 if the queries are, else float32.

    Raises
    ------
    ValueError
        For shapes that don't belong together, as far as they are known.

    Notes
    -----
    With p the softmax, over candidates that don't stand for the same item, of
    <query, candidate> / temperature - log q, a row that was liked has the loss -log p of its
    candidate. Without further arguments that is the loss of ``tfrs.tasks.Retrieval`` that removes
    accidental hits. There are two kinds of explicit negatives for two kinds of logs: *rows*, each
    shown and clicked or not, have `labels`, and the loss of a row that was not is -log(1 - p),
    "not to recommend" [2]_. Where there is no other candidate p says nothing, and such a loss is
    0. *Lists* of what each user dislikes are `negative_embeddings`, further terms of the
    denominator, each times its weight.

    Subtracting log q corrects for popular items being drawn more often [1]_. Both losses are
    logistic losses of one margin, by which a row's own logit exceeds the logarithm of the sum over
    all others, so neither overflows.

    References
    ----------
    .. [1] Yi et al., "Sampling-bias-corrected neural modeling for large corpus item
       recommendations" (RecSys 2019).
    .. [2] Wang et al., "Learning from negative user feedback and measuring responsiveness for
       sequential recommenders" (RecSys 2023).

    Examples
    --------
    >>> import tensorflow as tf
    >>> ops = tensorflow_operations()
    >>> users, films = tf.constant([[1.0, 0.0], [0.0, 1.0]]), tf.constant([[2.0, 0.0], [1.0, 1.0]])
    >>> round(float(retrieval_loss(ops, users, films, candidate_ids=["a", "b"])), 3)
    0.627
    >>> round(float(retrieval_loss(ops, users, films, labels=[True, False])), 3)
    1.627
    """
    temperature = checks.to_finite("temperature", temperature, 0.0, above=True)
    dislike_weight = checks.to_finite("dislike_weight", dislike_weight, 0.0)
    queries = ops.convert_to_tensor(query_embeddings)
    dtype = "float64" if "float64" in str(queries.dtype) else "float32"

    def numbers(value: Any) -> Tensor:
        return None if value is None else ops.cast(ops.convert_to_tensor(value), dtype)

    def tensor(value: Any) -> Tensor:
        return None if value is None else ops.convert_to_tensor(value)

    batch = _Batch(
        numbers(queries), numbers(candidate_embeddings),
        None if labels is None else ops.reshape(numbers(labels), [-1]) > 0, numbers(log_q),
        tensor(candidate_ids), numbers(negative_embeddings), numbers(negative_weight),
        tensor(negative_ids))
    _check_shapes(batch)
    losses = _row_losses(ops, batch, temperature)
    if sample_weight is not None:
        losses = losses * ops.reshape(numbers(sample_weight), [-1])
    if labels is not None:
        losses = ops.where(batch.labels, losses, losses * dislike_weight)
    return ops.sum(losses)


def logistic_losses(ops: Operations, scores: Tensor, labels: Tensor) -> Tensor:
    """Logistic loss of each score, (n,): of a model of both kinds of labels.

    Examples
    --------
    >>> import tensorflow as tf
    >>> scores = tf.constant([0.0, 3.0])
    >>> logistic_losses(tensorflow_operations(), scores, [False, True]).numpy().round(3)
    array([0.693, 0.049], dtype=float32)
    """
    return ops.softplus(ops.where(labels, -scores, scores))


def relative_log_q(ops: Any, frequency: Tensor, batch: Any, uniform: Any = 0) -> Tensor:
    """Logarithm of how often items are drawn as candidates, relative to uniform drawing.

    Parameters
    ----------
    ops : module
        With `log`: numpy, ``keras.ops``, ``tf.math``.
    frequency : tensor
        Of each item: its share of the rows times the number of items, 1 for an average item.
    batch, uniform : int or float tensor
        How many candidates of a batch come with its rows, and how many are drawn uniformly from
        all items (mixed negative sampling).

    Returns
    -------
    tensor, as `frequency`

    Notes
    -----
    Subtracted from logits, it corrects a softmax over drawn candidates for popular items being
    drawn more often; with uniform draws [1]_ the distribution is the mixture. A constant makes no
    difference to a softmax; this one lets a logit without correction (of an explicit negative)
    count like that of one uniform draw.

    References
    ----------
    .. [1] Yang et al., "Mixed negative sampling for learning two-tower neural networks in
       recommendations" (WWW Companion 2020).

    Examples
    --------
    >>> relative_log_q(np, np.array([0.5, 1.0, 8.0]), batch=4).round(2)
    array([-0.69,  0.  ,  2.08])
    >>> relative_log_q(np, np.array([0.5, 1.0, 8.0]), batch=4, uniform=4).round(2)
    array([-0.29,  0.  ,  1.5 ])
    """
    return ops.log((batch * frequency + uniform) / (batch + uniform))


class _Batch(NamedTuple):
    """The arguments of `retrieval_loss`, as tensors."""

    queries: Tensor
    candidates: Tensor
    labels: Tensor
    log_q: Tensor
    ids: Tensor
    negatives: Tensor
    negative_weight: Tensor
    negative_ids: Tensor


def _row_losses(ops: Operations, batch: _Batch, temperature: float) -> Tensor:
    """Loss of each row, (n,)."""
    logits = ops.matmul(batch.queries, ops.transpose(batch.candidates)) / temperature
    if batch.log_q is not None:
        logits = logits - batch.log_q[None, :]
    n, m = ops.shape(logits)[0], ops.shape(logits)[1]
    own = ops.arange(n)[:, None] == ops.arange(m)[None, :]
    mine = ops.sum(ops.where(own, logits, 0.0), axis=1)
    same = own
    if batch.ids is not None:
        same = own | (batch.ids[:n, None] == batch.ids[None, :])
    drawn = ops.where(same, _MASKED, logits)
    rest = others = ops.logsumexp(drawn, axis=1)
    if batch.negatives is not None:
        explicit = _explicit(ops, batch, n, temperature)
        others = ops.logsumexp(ops.concatenate([drawn, explicit], axis=1), axis=1)
    like = ops.softplus(others - mine)
    if batch.labels is None:
        return like
    alone = rest < _MASKED / 2
    dislike = ops.where(alone, 0.0, ops.softplus(mine - rest))
    return ops.where(batch.labels, like, dislike)


def _explicit(ops: Operations, batch: _Batch, n: Any, temperature: float) -> Tensor:
    """Logits of each row's explicit negatives, (n, h)."""
    logits = ops.sum(batch.queries[:, None, :] * batch.negatives, axis=2) / temperature
    if batch.negative_weight is not None:
        counts = batch.negative_weight > 0
        weight = ops.where(counts, batch.negative_weight, 1.0)  # also for the gradient
        logits = ops.where(counts, logits + ops.log(weight), _MASKED)
    if batch.negative_ids is not None:
        logits = ops.where(batch.negative_ids == batch.ids[:n, None], _MASKED, logits)
    return logits


def _check_shapes(batch: _Batch) -> None:
    """Refuse parts that don't belong together, as far as their shapes are known."""
    n, dim = _known("query_embeddings", _shape(batch.queries), (None, None))
    m, _ = _known("candidate_embeddings", _shape(batch.candidates), (None, dim))
    if n is not None and m is not None and m < n:
        raise ValueError(f"candidate_embeddings: expected one a query or more, {n}, got {m}")
    h: int | None = None
    if batch.negatives is not None:
        _, h, _ = _known("negative_embeddings", _shape(batch.negatives), (n, None, dim))
    elif batch.negative_weight is not None or batch.negative_ids is not None:
        raise ValueError("negative_embeddings: expected with negative_weight and negative_ids, "
                         "got None")
    if batch.negative_ids is not None and batch.ids is None:
        raise ValueError("candidate_ids: expected with negative_ids, got None")
    for name, part, shape in (
        ("labels", batch.labels, (n,)), ("log_q", batch.log_q, (m,)),
        ("candidate_ids", batch.ids, (m,)), ("negative_weight", batch.negative_weight, (n, h)),
        ("negative_ids", batch.negative_ids, (n, h)),
    ):
        if part is not None:
            _known(name, _shape(part), shape)


def _known(name: str, shape: Sequence[int | None] | None,
           expected: tuple[int | None, ...]) -> Sequence[int | None]:
    if shape is None:
        return expected
    if len(shape) != len(expected) or any(
            None not in (one, other) and one != other
            for one, other in zip(shape, expected, strict=True)):
        wanted = ", ".join("any" if one is None else str(one) for one in expected)
        raise ValueError(f"{name}: expected shape ({wanted}), got {tuple(shape)}")
    return shape


def _shape(part: Tensor) -> tuple[int | None, ...] | None:
    """Its shape as far as it is known; TensorFlow may not even know the number of dimensions."""
    return None if getattr(part.shape, "rank", 0) is None else tuple(part.shape)
