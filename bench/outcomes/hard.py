"""Rows to train with: wrong answers (negatives), and rows of the same label (positives)."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

import farann
from farann.metrics import reciprocal_rank

from .contrast import unit
from .data import Labeled, Pairs
from .record import Floats, Ints, Use, Values

WAYS = ("random", "furthest", "nearest", "nearest, margin")
_MARGIN = 0.95  # negatives score at most this share of the right answer's
_NEGATIVES, _EPOCHS, _BATCH, _RATE, _SHARP = 5, 3, 64, 0.03, 20.0
POSITIVE_WAYS = ("random", "nearest", "furthest", "furthest of 20 near")
_PAIRS, _SLOW, _BLUNT = 5, 0.01, 10.0  # of a row, an epoch each


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


def of_negatives(pairs: Pairs, repeats: int) -> Values:
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


NEGATIVES = Use("Negatives to train with", "MRR of held-out questions", "nearest",
                ("untrained", "random"), of_negatives, 8,
                ("verbs", "adjectives", "examples", "terms"), chose=("verbs",))


def positives(way: str, rows: Floats, labels: Ints) -> Ints:
    """For each row others of its label to train with, one an epoch; itself if there is no other."""
    index = farann.Index(metric="cosine")
    index.add(rows, groups=labels)
    own = np.arange(len(rows))[:, None]
    if way == "random":
        random = np.random.default_rng(20)
        ids = np.stack([random.choice(np.flatnonzero(labels == label), _PAIRS)
                        for label in labels])
    elif way == "furthest":
        ids = index.search_furthest(rows, _PAIRS, groups=labels, exclude=own).ids
    else:
        near = index.search_nearest(rows, 20, groups=labels, exclude=own).ids
        ids = near[:, :_PAIRS] if way == "nearest" else near[:, -_PAIRS:]
    return np.where(ids < 0, own, ids)


def trained_on_pairs(weights: Floats, rows: Floats, labels: Ints, way: str, seed: int) -> Floats:
    """A linear map after epochs of a softmax over the positive of a row and those of other labels
    in its batch."""
    random, weights = np.random.default_rng(seed), weights.copy()
    chosen = positives(way, rows @ weights, labels)
    for epoch in range(_PAIRS):
        for batch in np.array_split(random.permutation(len(rows)), -(-len(rows) // _BATCH)):
            one, two = rows[batch], rows[chosen[batch, epoch]]
            scores = _BLUNT * (one @ weights) @ (two @ weights).T
            same = labels[batch][:, None] == labels[batch]
            scores[same & ~np.eye(len(batch), dtype=bool)] = -np.inf
            odds = np.exp(scores - scores.max(axis=1, keepdims=True))
            odds /= odds.sum(axis=1, keepdims=True)
            slope = (odds - np.eye(len(batch), dtype=np.float32)) * np.float32(_BLUNT / len(batch))
            weights -= np.float32(_SLOW) * (one.T @ (slope @ (two @ weights))
                                            + two.T @ (slope.T @ (one @ weights)))
    return weights


def of_positives(found: Labeled, repeats: int) -> Values:
    """How often the nearest of the rows that were trained with has the label of one that wasn't.
    All ways go on from one map, trained at random."""
    rows = unit(found.rows)
    result: dict[str, list[float]] = defaultdict(list)
    for repeat in range(repeats):
        train, test = np.array_split(np.random.default_rng(repeat).permutation(len(rows)), 2)
        same = np.eye(rows.shape[1], dtype=np.float32)
        train = train[:1000]
        known = rows[train], found.labels[train]
        begun = trained_on_pairs(same, *known, "random", repeat)
        maps = {"untrained": same, **{way: trained_on_pairs(begun, *known, way, repeat)
                                      for way in POSITIVE_WAYS}}
        for way, weights in maps.items():
            index = farann.Index(metric="cosine")
            index.add(rows[train] @ weights)
            near = index.search_nearest(rows[test] @ weights, 1).ids[:, 0]
            result[way].append(float((found.labels[train][near] == found.labels[test]).mean()))
    return result


POSITIVES = Use("Positives to train with", "accuracy of the nearest row", "furthest",
                ("untrained", "random"), of_positives, 5,
                ("fashion", "nouns", "foldoc", "digits", "leaves"), chose=("fashion",))
