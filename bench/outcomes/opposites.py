"""The furthest as an answer: opposite words, voters, tastes; negatives that nobody labeled."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

import farann

from ..posneg.feedback import Ratings
from .data import Antonyms, Labeled
from .record import Floats, Ints, Use, Values

K = 10
_FEWEST = 15  # labels of people who are compared


def ids_of(rows: Floats, asked: Ints) -> dict[str, Ints]:
    """Ten answers to each of some rows by each way."""
    index = farann.Index(metric="cosine")
    index.add(rows)
    random = np.random.default_rng(13)
    drawn = random.integers(0, len(rows) - 1, (len(asked), K))
    return {"random": drawn + (drawn >= asked[:, None]),
            "nearest": index.search_nearest(ids=asked, k=K).ids,
            "furthest": index.search_furthest(ids=asked, k=K).ids}


def of_antonyms(found: Antonyms, repeats: int) -> Values:
    """Whether the opposite of an adjective is among ten answers of adjectives."""
    pairs = np.random.default_rng(14).permutation(found.pairs)[:repeats]
    drawn = ids_of(found.rows, pairs[:, 0])
    return {way: np.array([float(right in ids) for right, ids in zip(pairs[:, 1], each, strict=True)
                           ]).tolist() for way, each in drawn.items()}


def of_people(ratings: Ratings, repeats: int) -> Values:
    """How often people who seem opposite by half of the items disagree on the other half."""
    votes = np.zeros(ratings.shape, np.float32)
    votes[ratings.users, ratings.items] = ratings.labels
    votes = votes[(votes != 0).sum(axis=1) >= _FEWEST]
    seen, others = np.array_split(np.random.default_rng(15).permutation(votes.shape[1]), 2)
    given = votes[:, seen] != 0
    usual = votes[:, seen].sum(axis=0) / np.maximum(given.sum(axis=0), 1)
    asked = np.arange(len(votes))[:repeats]
    result: dict[str, list[float]] = defaultdict(list)
    for way, ids in ids_of(votes[:, seen] - usual * given, asked).items():
        for mine, found in zip(votes[asked][:, others], votes[:, others][ids], strict=True):
            both = (mine != 0) & (found != 0)
            result[way].append(float((mine * found < 0)[both].mean()) if both.any() else np.nan)
    return result


def of_labels(found: Labeled, repeats: int) -> Values:
    """The share of ten answers that have another label."""
    asked = np.random.default_rng(16).permutation(len(found.rows))[:repeats]
    return {way: (found.labels[ids] != found.labels[asked][:, None]).mean(axis=1).tolist()
            for way, ids in ids_of(found.rows, asked).items()}


def values(found: Antonyms | Ratings | Labeled, repeats: int) -> Values:
    """How often answers are right, by each way."""
    if isinstance(found, Ratings):
        return of_people(found, repeats)
    return of_antonyms(found, repeats) if isinstance(found, Antonyms) else of_labels(found, repeats)


USE = Use("Opposites", "share of right answers", "furthest", ("random", "nearest"), values, 300,
          ("antonyms", "antonyms-minilm", "senate", "movielens-100k", "lecturers", "digits",
           "nouns", "fashion"))
