"""Losses of training by the definition, a row and a candidate at a time, in float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

RNG = np.random.default_rng(8)
N, M, H, DIM = 6, 9, 3, 4
# Of 9 candidates 6 are those of the rows; items come twice among both, and one is disliked twice.
BATCH: dict[str, NDArray[Any]] = {
    "query_embeddings": RNG.standard_normal((N, DIM)),
    "candidate_embeddings": RNG.standard_normal((M, DIM)),
    "sample_weight": np.array([1.0, 0.5, 2.0, 0.0, 1.5, 1.0]),
    "candidate_ids": np.array([5, 6, 5, 8, 9, 10, 6, 12, 5]),
    "labels": np.array([1, 0, 1, 1, 0, 1]),
    "log_q": RNG.normal(0, 1.5, M),
    "negative_embeddings": RNG.standard_normal((N, H, DIM)),
    "negative_weight": np.array([[1.0, 0, 0], [1, 1, 1], [0, 2.5, 0.5], [0, 0, 0], [1, 0, 1],
                                 [3, 1, 0]]),
    "negative_ids": np.array([[9, 0, 0], [1, 2, 3], [0, 5, 9], [0, 0, 0], [1, 1, 1], [6, 12, 0]]),
}


def loss(*, query_embeddings: Any, candidate_embeddings: Any, sample_weight: Any = None,
         candidate_ids: Any = None, labels: Any = None, log_q: Any = None,
         negative_embeddings: Any = None, negative_weight: Any = None, negative_ids: Any = None,
         temperature: float = 1.0, dislike_weight: float = 1.0) -> float:
    """The sum of the losses of all rows."""
    n, m = len(query_embeddings), len(candidate_embeddings)
    total = 0.0
    for i in range(n):
        terms = {}
        for j in range(m):
            logit = query_embeddings[i] @ candidate_embeddings[j] / temperature
            terms[j] = math.exp(logit - (0.0 if log_q is None else log_q[j]))
        own = terms.pop(i)
        if candidate_ids is not None:
            terms = {j: term for j, term in terms.items() if candidate_ids[j] != candidate_ids[i]}
        rest = sum(terms.values())
        weight = 1.0 if sample_weight is None else sample_weight[i]
        if labels is not None and not labels[i]:
            not_this = math.log(rest) - math.log(own + rest) if rest else 0.0
            total -= weight * dislike_weight * not_this
            continue
        for h in range(0 if negative_embeddings is None else negative_embeddings.shape[1]):
            if negative_ids is not None and negative_ids[i, h] == candidate_ids[i]:
                continue
            count = 1.0 if negative_weight is None else negative_weight[i, h]
            rest += count * math.exp(query_embeddings[i] @ negative_embeddings[i, h] / temperature)
        total -= weight * math.log(own / (own + rest))
    return total


def some(*left_out: str, **changed: Any) -> dict[str, Any]:
    """The batch without some of its parts."""
    return {**{name: value for name, value in BATCH.items() if name not in left_out}, **changed}


NEGATIVES = ("negative_embeddings", "negative_weight", "negative_ids")
CASES: dict[str, dict[str, Any]] = {
    "in batch": some("labels", "log_q", "candidate_ids", "sample_weight", *NEGATIVES),
    "corrected": some("labels", *NEGATIVES),
    "rows of dislikes": some(*NEGATIVES, dislike_weight=0.7),
    "lists of dislikes": some("labels", temperature=0.5),
    "lists without ids": some("labels", "negative_ids", "negative_weight"),
    "everything": some(temperature=2.0, dislike_weight=3.0),
    "huge": some(query_embeddings=BATCH["query_embeddings"] * 60),
}
DERIVED = ("query_embeddings", "candidate_embeddings", "negative_embeddings")


def gradients(case: dict[str, Any], step: float = 1e-5) -> dict[str, NDArray[Any]]:
    """Derivatives by all embeddings, by central differences."""
    found = {}
    for name in DERIVED:
        if name in case:
            found[name] = np.zeros(case[name].shape)
            for at in np.ndindex(case[name].shape):
                ends = []
                for sign in (step, -step):
                    moved = case[name].copy()
                    moved[at] += sign
                    ends.append(loss(**{**case, name: moved}))
                found[name][at] = (ends[0] - ends[1]) / (2 * step)
    return found
