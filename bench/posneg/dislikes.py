"""A user's disliked items as a set, beside their mean: who tells likes from dislikes better?

Items are vectors of a factorization of the dislikes in training. For each user all items are ranked
by how unlike the training dislikes they are: furthest from the nearest of them
(`search_furthest_from`), or furthest from their mean (`search_furthest`). Judged by the share of
pairs of a liked and a disliked item in the test that stand in this order.

``python -m bench.posneg.dislikes``
"""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray

import farann
from farann.adapters.posneg.factorization import least_squares

from .feedback import TEST, TRAIN, Ratings, load

Floats = NDArray[np.float32]
DIM = 32

FEWEST = 3  # dislikes of a user in training
Wide = NDArray[np.float64]
Tests = list[tuple[NDArray[np.int64], NDArray[np.int64]]]


def item_vectors(ratings: Ratings, seed: int) -> Floats:
    """Of a factorization of the dislikes in training."""
    which = (ratings.split(seed) == TRAIN) & (ratings.labels < 0)
    return least_squares(ratings.users[which], ratings.items[which], ratings.shape, seed,
                         dim=DIM)[1]


def compare(ratings: Ratings, vectors: Floats, seed: int) -> tuple[Wide, Wide]:
    """For each user the share of pairs in the right order: by the set, and by the mean."""
    part = ratings.split(seed)
    index = farann.Index(metric="cosine")
    known = np.flatnonzero(np.linalg.norm(vectors, axis=1) > 0)
    index.add(vectors[known], ids=known)
    sets: list[Floats] = []
    tests: Tests = []
    for user in range(ratings.shape[0]):
        mine = (ratings.users == user) & np.isin(ratings.items, known)
        dislikes = ratings.items[mine & (part == TRAIN) & (ratings.labels < 0)]
        test = mine & (part == TEST)
        liked, disliked = (ratings.items[test & (ratings.labels == label)] for label in (1, -1))
        if len(dislikes) >= FEWEST and len(liked) and len(disliked):
            sets.append(vectors[dislikes])
            tests.append((liked, disliked))
    means = np.array([(each / np.linalg.norm(each, axis=1, keepdims=True)).mean(axis=0)
                      for each in sets])
    return (_right(index.search_furthest_from(sets, len(known)).ids, tests),
            _right(index.search_furthest(means, len(known)).ids, tests))


def _right(ids: NDArray[np.int64], tests: Tests) -> Wide:
    """The share of pairs in which the liked item stands before the disliked one."""
    shares = []
    for found, (liked, disliked) in zip(ids, tests, strict=True):
        place = np.empty(found.max() + 1)
        place[found] = np.arange(len(found))
        shares.append((place[liked][:, None] < place[disliked]).mean())
    return np.array(shares)


def main(seeds: int = 5) -> None:
    """Compare on MovieLens 100K, over some splits."""
    ratings = load("movielens-100k")
    found = [compare(ratings, item_vectors(ratings, seed), seed) for seed in range(seeds)]
    by_set, by_mean = (np.concatenate(each) for each in zip(*found, strict=True))
    gain = by_set - by_mean
    print(f"{len(gain) // seeds} users a split: by the set {by_set.mean():.4f}, by the mean "
          f"{by_mean.mean():.4f}, difference {gain.mean():+.4f} "
          f"(standard error {gain.std() / np.sqrt(len(gain)):.4f})")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
