"""Losses of retrieval models, each defined once, for whatever library has the operations.

The adapters for TensorFlow Recommenders and for Keras 3 pass their operations, convert what they
are given, and sum up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

Tensor = Any
# In the place of logits that don't count: finite, so that gradients are, and far below any other.
_MASKED = -1e30


# None for a tensor of which not even the number of dimensions is known.
ShapeOf = Callable[[Tensor], Sequence[int | None] | None]


class Operations(Protocol):
    """What is asked of a library of tensors; the names are those of ``keras.ops``."""

    matmul: Any
    transpose: Any
    shape: Any
    arange: Any
    where: Any
    sum: Any
    log: Any
    logsumexp: Any
    concatenate: Any
    softplus: Any


class Batch(NamedTuple):
    """What a retrieval model is trained on at a time: n rows, m candidates.

    Attributes
    ----------
    queries : (n, dim)
    candidates : (m, dim)
        The first n are those of the rows; the others are further negatives of every row.
    labels : bool (n,), optional
        Whether the row's candidate was liked, by default always.
    log_q : (m,), optional
        Logarithm of how often each candidate is drawn; see `relative_log_q`.
    ids : (m,), optional
        Which candidates are the same item.
    negatives : (n, h, dim), optional
        What each row's user dislikes.
    negative_weight : (n, h), optional
        As how many negatives each counts; 0 is padding.
    negative_ids : (n, h), optional
        Which of them is the row's own candidate, and no negative.
    """

    queries: Tensor
    candidates: Tensor
    labels: Tensor = None
    log_q: Tensor = None
    ids: Tensor = None
    negatives: Tensor = None
    negative_weight: Tensor = None
    negative_ids: Tensor = None


class Drawn(NamedTuple):
    """Candidates of a batch and drawn ones.

    Attributes
    ----------
    candidates : tensor (m, ...) or dict of such
        Features, first those of the batch.
    ids : tensor (m,)
    log_q : float32 tensor (m,)
        Logarithm of how often each is drawn, relative to uniform drawing.
    """

    candidates: Any
    ids: Tensor
    log_q: Tensor


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
    drawn more often; with uniform draws the distribution is the mixture. `MixedNegatives` of TFRS
    names the sources. A constant makes no difference to a softmax; this one lets a logit without
    correction (of an explicit negative) count like that of one uniform draw.

    Examples
    --------
    >>> relative_log_q(np, np.array([0.5, 1.0, 8.0]), batch=4).round(2)
    array([-0.69,  0.  ,  2.08])
    >>> relative_log_q(np, np.array([0.5, 1.0, 8.0]), batch=4, uniform=4).round(2)
    array([-0.29,  0.  ,  1.5 ])
    """
    return ops.log((batch * frequency + uniform) / (batch + uniform))


def row_losses(ops: Operations, batch: Batch, temperature: float) -> Tensor:
    """Loss of each row, (n,).

    Notes
    -----
    With p the softmax, over candidates that don't stand for the same item, of
    <query, candidate> / temperature - log q, a row that was liked has the loss -log p of its
    candidate. Its explicit negatives are further terms of the denominator, each times its
    weight. A row that was disliked has the loss -log(1 - p), "not to recommend" [1]_. Where
    there is no other candidate p says nothing, and such a loss is 0.

    Both are logistic losses of one margin, by which a row's own logit exceeds the logarithm of
    the sum over all others, so neither overflows.

    References
    ----------
    .. [1] Wang et al., "Learning from negative user feedback and measuring responsiveness for
       sequential recommenders" (RecSys 2023).
    """
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


def _explicit(ops: Operations, batch: Batch, n: Any, temperature: float) -> Tensor:
    """Logits of each row's explicit negatives, (n, h)."""
    logits = ops.sum(batch.queries[:, None, :] * batch.negatives, axis=2) / temperature
    if batch.negative_weight is not None:
        counts = batch.negative_weight > 0
        weight = ops.where(counts, batch.negative_weight, 1.0)  # also for the gradient
        logits = ops.where(counts, logits + ops.log(weight), _MASKED)
    if batch.negative_ids is not None:
        logits = ops.where(batch.negative_ids == batch.ids[:n, None], _MASKED, logits)
    return logits


def check_shapes(batch: Batch, shape_of: ShapeOf) -> None:
    """Refuse parts that don't belong together, as far as their shapes are known."""
    n, dim = _known("query_embeddings", shape_of(batch.queries), (None, None))
    m, _ = _known("candidate_embeddings", shape_of(batch.candidates), (None, dim))
    if n is not None and m is not None and m < n:
        raise ValueError(f"candidate_embeddings: expected one a query or more, {n}, got {m}")
    h: int | None = None
    if batch.negatives is not None:
        _, h, _ = _known("negative_embeddings", shape_of(batch.negatives), (n, None, dim))
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
            _known(name, shape_of(part), shape)


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


def logistic_losses(ops: Operations, scores: Tensor, labels: Tensor) -> Tensor:
    """Logistic loss of each score, (n,): of a model of both kinds of labels."""
    return ops.softplus(ops.where(labels, -scores, scores))
