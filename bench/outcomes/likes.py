"""Likes and dislikes of many people: how what was shown to them is ordered, and what comes first of
everything. Models of each way are trained on other labels of the same people."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from farann.adapters.posneg import Factorization, FusionRanker
from farann.metrics import auc_by_user, ndcg_at_k

from ..posneg.feedback import DESIGN, NAMES, TEST, Ratings
from .record import Ints, Use, Values, Wide

K, FIRST = 20, 5
# The first split; those below were looked at while the ranker was designed.
FIRST_SEED = 9000
# By time, the last of each user's ratings are left out so far before the next split.
_LATER = 0.1
RANKER, RECORD, AVERAGE = "ranker", "items' record", "plain average"
SINGLE = ("positive", "fine", "negative", "logistic", "graph", RECORD)


class Way(NamedTuple):
    """Scores of all users and items, among items shown and among all."""

    shown: Wide
    everywhere: Wide


Judge = Callable[[Ratings, Ints, Way], Wide]


def ways(ratings: Ratings, part: Ints, seed: int) -> dict[str, Way]:
    """The ranker, each of its models, the items' record and the plain average."""
    given = (part < TEST) & (ratings.labels != 0)
    users, items = ratings.users[given], ratings.items[given]
    train = Factorization(seed=seed)
    ranker = FusionRanker(train, threads=1).fit(
        users, items, ratings.labels[given], seed=seed,
        times=None if ratings.times is None else ratings.times[given])
    models = train(users, items, ratings.labels[given] > 0)
    people = [model.users for model in models]

    def of(ranker: FusionRanker) -> Way:
        both = []
        for among in ("shown", "all"):
            form = ranker.linear(among)
            scores = form.vectors(people) @ form.rows.T
            # What isn't in the log comes last, in the order of ids.
            wide = np.full(ratings.shape, scores.min() - 1.0)
            wide[np.ix_(ranker.user_ids, ranker.ids)] = scores
            both.append(wide)
        return Way(*both)

    return {RANKER: of(ranker), **{name: of(ranker.by(name)) for name in (*ranker.names, RECORD)},
            AVERAGE: of(FusionRanker(models))}  # not fitted


def disliked(ratings: Ratings, part: Ints, way: Way) -> Wide:
    """For each user the share of dislikes among the first five of the labels held out; NaN where
    there are five or fewer, or of one kind."""
    test = (part == TEST) & (ratings.labels != 0)
    users, items, labels = (each[test] for each in (ratings.users, ratings.items, ratings.labels))
    order = np.lexsort((items, -way.shown[users, items], users))
    found = np.full(ratings.shape[0], np.nan)
    for some in np.split(order, np.flatnonzero(np.diff(users[order])) + 1):
        if len(some) > FIRST and len(np.unique(labels[some])) == 2:
            found[users[some[0]]] = (labels[some[:FIRST]] < 0).mean()
    return found


def auc(ratings: Ratings, part: Ints, way: Way) -> Wide:
    """For each user the share of pairs of a like and a dislike held out that are in order."""
    known = (part == TEST) & (ratings.labels != 0)
    users, items = ratings.users[known], ratings.items[known]
    found = np.full(ratings.shape[0], np.nan)
    found[np.unique(users)] = auc_by_user(users, ratings.labels[known] > 0,
                                          way.shown[users, items])
    return found


def ndcg(ratings: Ratings, part: Ints, way: Way) -> Wide:
    """For each user that of the list of all items but those rated in the other splits, as `rank`
    returns it."""
    before, liked = part < TEST, (part == TEST) & (ratings.labels > 0)
    values = way.everywhere.copy()
    values[ratings.users[before], ratings.items[before]] = -np.inf
    top = np.argsort(-values, axis=1, kind="stable")[:, :K]
    top = np.where(np.isneginf(np.take_along_axis(values, top, axis=1)), -1, top)
    return ndcg_at_k(top, [ratings.items[liked & (ratings.users == user)]
                           for user in range(len(values))], K)


def values(judge: Judge, ratings: Ratings, splits: int) -> Values:
    """Each user's mean over the splits in which the number is defined, by each way."""
    found: dict[str, list[Wide]] = defaultdict(list)
    for late in range(splits):
        some = ratings if ratings.times is None else ratings.until(1.0 - _LATER * late)
        part = some.split(FIRST_SEED + late)
        for name, way in ways(some, part, FIRST_SEED + late).items():
            found[name].append(judge(some, part, way))
    known = ~np.isnan(found[RANKER]).all(axis=0)
    return {name: np.nanmean(np.array(each)[:, known], axis=0).tolist()
            for name, each in found.items()}


USE = Use("Likes and dislikes", f"dislikes among the first {FIRST} shown", RANKER,
          ("positive", AVERAGE), partial(values, disliked), 1,
          ("filmtrust", "lecturers", "movielens-100k", "movielens-100k:time", "senate"),
          chose=("filmtrust", "lecturers"), fewer=True)
SHOWN, LISTS = (Use(title, measure, RANKER, SINGLE, partial(values, judge), 3,
                    tuple(NAMES), chose=DESIGN)
                for title, measure, judge in (
                    ("Likes and dislikes, shown items", "AUC", auc),
                    ("Likes and dislikes, all items", f"nDCG@{K}", ndcg)))
