"""Likes and dislikes of many people: what they dislike among the first five of what was shown."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from ..posneg.feedback import TEST, Ratings
from ..posneg.run import AVERAGE, FIRST_SEED, RANKER, ways
from .record import Ints, Use, Values, Wide

FIRST = 5


def disliked(ratings: Ratings, part: Ints, scores: Wide) -> list[float]:
    """For each user the share of dislikes among the first five of the labels held out; NaN where
    there are five or fewer, or of one kind."""
    test = (part == TEST) & (ratings.labels != 0)
    users, items, labels = (each[test] for each in (ratings.users, ratings.items, ratings.labels))
    order = np.lexsort((items, -scores[users, items], users))
    found = np.full(ratings.shape[0], np.nan)
    for some in np.split(order, np.flatnonzero(np.diff(users[order])) + 1):
        if len(some) > FIRST and len(np.unique(labels[some])) == 2:
            found[users[some[0]]] = (labels[some[:FIRST]] < 0).mean()
    return found.tolist()


def values(ratings: Ratings, repeats: int) -> Values:
    """Each user's share, over some splits, by each model, their average, and the ranker."""
    result: dict[str, list[float]] = defaultdict(list)
    for seed in range(FIRST_SEED, FIRST_SEED + repeats):
        part = ratings.split(seed)
        for way, scores in ways(ratings, part, seed)[0].items():
            result[way] += disliked(ratings, part, scores.shown)
    return result


USE = Use("Likes and dislikes", f"dislikes among the first {FIRST} shown", RANKER,
          ("positive", AVERAGE), values, 1,
          ("filmtrust", "lecturers", "movielens", "by-time", "senate"),
          chose=("filmtrust", "lecturers"), fewer=True)
