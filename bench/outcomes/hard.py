"""Negatives to train with: at random, the nearest wrong answers, or the furthest."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

import farann
from farann.metrics import reciprocal_rank

from .contrast import unit
from .data import Pairs
from .record import Floats, Ints, Use, Values

WAYS = ("random", "furthest", "nearest", "nearest, margin")
_MARGIN = 0.95  # negatives score at most this share of the right answer's
_NEGATIVES, _EPOCHS, _BATCH, _RATE, _SHARP = 5, 3, 64, 0.03, 20.0


def negatives(way: str, asked: Floats, answers: Floats) -> Ints:
    """For each question the wrong answers to train with."""
    own = np.arange(len(asked))[:, None]
    if way == "random":
        drawn = np.random.default_rng(12).integers(0, len(asked) - 1, (len(asked), _NEGATIVES))
        return np.asarray(drawn + (drawn >= own))
    index = farann.Index(metric="cosine")
    index.add(answers)
    if way == "furthest":
        return index.search_furthest(asked, _NEGATIVES, exclude=own).ids
    hits = index.search_nearest(asked, 10 * _NEGATIVES, exclude=own)
    right = np.einsum("ij,ij->i", unit(asked), answers)
    late = hits.scores > (_MARGIN * right[:, None] if way == "nearest, margin" else np.inf)
    order = np.argsort(late, axis=1, kind="stable")  # the nearest of those that may be
    return np.take_along_axis(hits.ids, order, 1)[:, :_NEGATIVES]


def trained(weights: Floats, asked: Floats, answers: Floats, way: str, seed: int) -> Floats:
    """A linear map of questions after three epochs of a softmax over right and wrong answers."""
    random, weights = np.random.default_rng(seed), weights.copy()
    wrong = negatives(way, asked @ weights, answers)
    for _ in range(_EPOCHS):
        for batch in np.array_split(random.permutation(len(asked)), -(-len(asked) // _BATCH)):
            choices = answers[np.column_stack([batch, wrong[batch]])]
            scores = _SHARP * np.einsum("ij,ikj->ik", asked[batch] @ weights, choices)
            odds = np.exp(scores - scores.max(axis=1, keepdims=True))
            odds /= odds.sum(axis=1, keepdims=True)
            odds[:, 0] -= 1.0
            slope = asked[batch].T @ np.einsum("ik,ikj->ij", odds, choices)
            weights -= np.float32(_RATE * _SHARP / len(batch)) * slope
    return weights


def values(pairs: Pairs, repeats: int) -> Values:
    """MRR of held-out questions. All ways go on from one model, trained at random."""
    asked, answers = unit(pairs.questions), unit(pairs.answers)
    index = farann.Index(metric="cosine")
    index.add(answers)
    result: dict[str, list[float]] = defaultdict(list)
    for repeat in range(repeats):
        train, test = np.array_split(np.random.default_rng(repeat).permutation(len(asked)), 2)
        same = np.eye(asked.shape[1], dtype=np.float32)
        begun = trained(same, asked[train], answers[train], "random", repeat)
        models = {"untrained": same, **{
            way: trained(begun, asked[train], answers[train], way, repeat) for way in WAYS}}
        for way, weights in models.items():
            hits = index.search_nearest(asked[test] @ weights, 100)
            result[way].append(float(reciprocal_rank(hits.ids, test[:, None]).mean()))
    return result


USE = Use("Negatives to train with", "MRR of held-out questions", "nearest",
          ("untrained", "random"), values, 8, ("verbs", "adjectives", "examples", "terms"),
          chose=("verbs",))
