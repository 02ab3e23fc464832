"""Like A, not like B: a topic without a part of it, and a second page after feedback."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

import farann
from farann.metrics import ndcg_at_k

from .data import Labeled, Tree
from .record import Floats, Ints, Use, Values

WEIGHTS = (0.1, 0.2, 0.3, 0.5, 1.0)
K = 10


def unit(vectors: Floats) -> Floats:
    """Vectors of length 1."""
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def best(scores: Floats, k: int = K) -> Ints:
    """The positions of the k largest scores, in order."""
    some = np.argpartition(scores, -k)[-k:]
    return np.asarray(some[np.argsort(-scores[some])])


def best_score(rows: Floats, like: Floats, dislikes: Floats) -> Ints:
    """As in Qdrant: the similarity to the like, or minus the square of that to a dislike where that
    is larger."""
    scores, unlike = rows @ like, (rows @ dislikes.T).max(axis=1)
    return best(np.where(scores > unlike, scores, -unlike * unlike))


class Question(NamedTuple):
    """What is liked and disliked, the right rows, and those that were shown before."""

    likes: Floats
    dislikes: Floats
    right: Ints
    shown: Ints


def by_topic(tree: Tree) -> Iterator[Question]:
    """A topic, but not one of its parts, which has a fifth to six tenths of its rows."""
    below = np.stack([(tree.paths == topic).any(axis=1) for topic in tree.topics])
    names, sizes = unit(tree.names), below.sum(axis=1)
    pairs = [(whole, part) for whole in range(len(sizes)) for part in range(len(sizes))
             if 0.2 <= (below[whole] & below[part]).sum() / sizes[whole] <= 0.6
             and not (below[part] & ~below[whole]).any()]
    for i in np.random.default_rng(4).permutation(len(pairs)):
        whole, part = pairs[i]
        yield Question(names[[whole]], names[[part]], np.flatnonzero(below[whole] & ~below[part]),
                       np.empty(0, np.int64))


def by_feedback(found: Labeled) -> Iterator[Question]:
    """A row asks for others of its label; of the ten shown first the wrong ones are disliked."""
    rows = unit(found.rows)
    for asked in np.random.default_rng(5).permutation(len(rows)):
        first = best(rows @ rows[asked], K + 1)
        shown = first[first != asked][:K]
        good = found.labels[shown] == found.labels[asked]
        right = np.setdiff1d(np.flatnonzero(found.labels == found.labels[asked]),
                             [asked, *shown])
        if len(right) and not good.all():
            yield Question(rows[[asked, *shown[good]]], rows[shown[~good]], right,
                           np.append(shown, asked))


def values(found: Tree | Labeled, repeats: int) -> Values:
    """nDCG@10 of each question by each way."""
    rows = unit(found.rows)
    index = farann.Index(metric="cosine")
    index.add(rows)
    ways: dict[str, list[float]] = defaultdict(list)
    questions = by_topic(found) if isinstance(found, Tree) else by_feedback(found)
    for one, _ in zip(questions, range(repeats), strict=False):
        like, left = one.likes.mean(axis=0), np.setdiff1d(np.arange(len(rows)), one.shown)
        answers = {
            "likes alone": left[best(rows[left] @ like, K)],
            "Rocchio": left[best(rows[left] @ (like - 0.15 * one.dislikes.mean(axis=0)), K)],
            "average vector": left[best(rows[left] @ (2 * like - one.dislikes.mean(axis=0)), K)],
            "best score": left[best_score(rows[left], like, one.dislikes)],
            **{f"weight {weight:g}": index.search_contrast(
                one.likes, one.dislikes, K, weight=weight, exclude=one.shown).ids
               for weight in WEIGHTS}}
        for way, ids in answers.items():
            ways[way].append(float(ndcg_at_k(ids[None], one.right[None], K)[0]))
    return ways


USE = Use("Like A, not like B", f"nDCG@{K}", "weight 0.2",
          ("likes alone", "Rocchio", "average vector", "best score"), values, 150,
          ("living", "fashion", "things", "ideas", "words", "foldoc", "digits"),
          chose=("living", "fashion"))
