"""Feedback as it is given to `fit`: checked, whose it is, and what its users were not shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farann._types import BoolArray, Float32Array, Float64Array, Int64Array
from farann.adapters.posneg import naming
from farann.adapters.posneg.naming import Ids
from farann.contract import checks
from farann.contract.strings import are_strings

# Feedback that weighs less beside the heaviest counts for nothing, and its inverse overflows.
LEAST_WEIGHT = 2.0**-100
MOST_UNSEEN = 1000
# Unseen pairs, at most: what is shown is learned from fewer than that.
_UNSEEN = 1 << 18


class Feedback(NamedTuple):
    """Checked feedback: `queries` of all models, and (n,) arrays."""

    queries: tuple[Float32Array, ...]
    users: Int64Array
    items: Int64Array
    liked: BoolArray
    weight: Float64Array
    by_user: bool

    def take(self, rows: Int64Array) -> Feedback:
        """Some of the feedback."""
        return self._replace(users=self.users[rows], items=self.items[rows],
                             liked=self.liked[rows], weight=self.weight[rows])


def known_items(ids: Ids, item_ids: npt.ArrayLike) -> Int64Array:
    """Places of ids that must all be known."""
    wanted = naming.asked("item_ids", item_ids, ids)
    items = naming.places(ids, wanted)
    if (items < 0).any():
        raise KeyError(f"item_ids: {wanted[items < 0][0]!s} is in no model")
    return items


class Users(NamedTuple):
    """Whose each feedback is, as it was given, and whose each row of queries is."""

    asked: Any
    ids: Ids | None

    @classmethod
    def of(cls, users: Any, user_ids: Any, n_queries: int) -> Users | None:
        """Checked arguments; None where feedback and queries are one to one."""
        if users is None and user_ids is not None:
            raise ValueError("user_ids: expected users=, which says whose each feedback is")
        if users is None:
            return None
        return cls(users, None if user_ids is None else naming.new("user_ids", user_ids,
                                                                   n_queries))

    def rows(self, n_queries: int) -> Int64Array:
        """Rows of queries, which must all be there."""
        if self.ids is None:
            if are_strings(self.asked):
                raise TypeError("users: expected numbers of queries, got strings; user_ids= says "
                                "whose each query is")
            rows = checks.to_ids("users", self.asked)
            bad = rows[(rows < 0) | (rows >= n_queries)]
            if len(bad):
                raise ValueError(f"users: expected numbers of the {n_queries} queries, "
                                 f"got {bad[0]}")
            return rows
        wanted = naming.asked("users", self.asked, self.ids)
        rows = naming.rows(self.ids, wanted)
        if (rows < 0).any():
            raise KeyError(f"users: {wanted[rows < 0][0]!s} is not among user_ids")
        return rows


def checked(queries: Sequence[Float32Array], ids: Ids, item_ids: npt.ArrayLike,
            labels: npt.ArrayLike, users: Users | None,
            sample_weight: npt.ArrayLike | None, prior: float | None) -> Feedback:
    """Check the arguments of `fit`."""
    items = known_items(ids, item_ids)
    n = len(items)
    if n == 0:
        raise ValueError("item_ids: expected feedback, got none")
    if users is None:
        rows = np.arange(n)
        if len(queries[0]) != n:
            raise ValueError(f"item_ids: expected {len(queries[0])} ids, one a query, got {n}; "
                             "users= says which query belongs to which feedback")
    else:
        rows = _sized("users", users.rows(len(queries[0])), n)
    liked = likes_of(labels, n)
    weight = np.ones(n)
    if sample_weight is not None:
        weight = _sized("sample_weight", checks.to_numbers("sample_weight", sample_weight), n)
        if not np.isfinite(weight).all() or (weight < 0).any() or not weight.any():
            raise ValueError("sample_weight: expected finite numbers of 0 or more, not all 0")
        weight /= weight.max()  # else sums overflow
        weight[weight < LEAST_WEIGHT] = 0.0
    if prior is not None:
        share = checks.to_float("prior", prior)
        if not LEAST_WEIGHT <= share < 1:
            raise ValueError(f"prior: expected a share between 0 and 1, got {share:g}")
        likes = weight[liked].sum() / weight.sum()
        if 0 < likes < 1:
            weight = weight * np.where(liked, share / likes, (1 - share) / (1 - likes))
    kept = weight > 0
    return Feedback(tuple(queries), rows[kept], items[kept], liked[kept],
                    weight[kept] * (kept.sum() / weight.sum()), users is not None)


def likes_of(labels: npt.ArrayLike, n: int) -> BoolArray:
    """Labels of 1 for likes and 0, or -1, for dislikes; which are likes."""
    given = _sized("labels", checks.to_array("labels", labels), n)
    if given.dtype.kind not in "biuf":
        raise TypeError(f"labels: expected 0 and 1, got {checks.what_is(given)}")
    wrong = given[(given != 0) & (given != 1) & (given != -1)]
    if len(wrong):
        raise ValueError(f"labels: expected 0 and 1, got {wrong[0]}")
    if (given == -1).any() and (given == 0).any():
        raise ValueError("labels: expected 0 and 1, or -1 and 1, got all three: leave out what "
                         "was neither liked nor disliked")
    liked: BoolArray = np.asarray(given == 1)
    return liked


def _sized(name: str, array: npt.NDArray[Any], n: int) -> npt.NDArray[Any]:
    if array.shape != (n,):
        raise ValueError(f"{name}: expected shape ({n},), one a feedback, got {array.shape}")
    return array


def askers(feedback: Feedback) -> Int64Array:
    """Whose each feedback is, as numbers from 0; equal queries are the same user's."""
    if feedback.by_user:
        return feedback.users
    both = np.hstack(feedback.queries)[feedback.users]
    rows = np.ascontiguousarray(both).view(np.dtype((np.void, both.itemsize * both.shape[1])))
    return np.unique(rows[:, 0], return_inverse=True)[1]


def by_asker(feedback: Feedback) -> Feedback:
    """The same with each query once: what depends on all items is computed once a query."""
    if feedback.by_user:
        return feedback
    numbers = askers(feedback)
    _, first = np.unique(numbers, return_index=True)
    return feedback._replace(
        users=numbers, queries=tuple(queries[feedback.users[first]]
                                     for queries in feedback.queries))


class Sampling(NamedTuple):
    """How many unseen items a feedback, and with which seed."""

    each: int
    seed: int


class UnseenPairs(NamedTuple):
    """Items that users weren't shown: rows of the feedback whose users these are, and items."""

    rows: Int64Array
    items: Int64Array


def pairs_of(feedback: Feedback, size: int, seen: list[Int64Array] | None = None) -> Int64Array:
    """Users and items of feedback, and those that users had seen before, as one number each."""
    pairs = feedback.users * size + feedback.items
    if seen is None:
        return pairs
    return np.concatenate([pairs, *(user * size + items for user, items in enumerate(seen))])


def unseen_pairs(feedback: Feedback, size: int, seen: Int64Array, sampling: Sampling
                 ) -> UnseenPairs | None:
    """Items drawn for each feedback that its user wasn't shown, which are `seen` as pairs."""
    if not sampling.each or not len(feedback.items):
        return None
    random = np.random.default_rng(sampling.seed)
    n = len(feedback.items)
    rows = np.repeat(np.arange(n), sampling.each)
    if len(rows) > _UNSEEN:
        rows = np.sort(random.choice(n, _UNSEEN // sampling.each, replace=False).repeat(
            sampling.each))
    items = random.integers(0, size, len(rows))
    shown = np.isin(feedback.users[rows] * size + items, seen)
    if shown.all():
        return None  # everybody was shown everything
    return UnseenPairs(rows[~shown], items[~shown])
