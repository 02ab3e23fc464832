"""Rows like some vectors and unlike others, as the rows furthest from sets that are made of both.

With sim for the dot product or cosine, a like q, dislikes n and a weight w, the row x scores
sim(q, x) - w max sim(n, x), which is its smallest product with q - w n over the dislikes, and so
its key over a set of the members w n - q. Under cosine q and n have length 1, and members the
lengths they come to. Members are formed in float64, as keys are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from farann._types import Float64Array, Int64Array
from farann.contract import checks
from farann.diverse import member_sets
from farann.diverse.like_bounds import LikeBounds
from farann.diverse.member_sets import MemberSets
from farann.results import Hits, SearchStats, limited, no_hits
from farann.search.ask import check_one, rows_of
from farann.search.filters import RowFilters, Rows
from farann.search.plan import Question, total_of
from farann.store.store import Store

_LARGEST_WEIGHT = float(np.finfo(np.float32).max)  # times float32 it is far from float64's limits
# _MANY_MEMBERS: members for each like or dislike from which `LikeBounds` pay.
# _MEMBERS_FORMED, _ROWS_WITH_MEMBERS: members for these rows that are formed at once.
# _MEMBER_WORK: rows whose comparison with a like takes as long as forming a member.
_MANY_MEMBERS, _MEMBERS_FORMED, _ROWS_WITH_MEMBERS, _MEMBER_WORK = 16, 1 << 16, 16, 3000


@dataclass(frozen=True, slots=True)
class Contrasts:
    """Likes and dislikes of some questions."""

    likes: MemberSets
    dislikes: MemberSets
    weight: float
    by_best: bool
    normalized: bool

    def __len__(self) -> int:
        return len(self.likes)

    def __getitem__(self, which: Int64Array) -> Contrasts:
        """Some of the questions, in this order."""
        return replace(self, likes=self.likes[which], dislikes=self.dislikes[which])

    def sets(self) -> tuple[MemberSets, Int64Array]:
        """A set for each question, or for each of its likes; and which question it is of."""
        likes, dislikes = self.wide(self.likes), self.wide(self.dislikes)
        members, owners = list[Float64Array](), list[int]()
        for i in range(len(self)):
            liked = likes[self.likes.offsets[i] : self.likes.offsets[i + 1]]
            if len(liked) > 1 and not self.by_best:
                liked = liked.mean(axis=0, keepdims=True)
            disliked = dislikes[self.dislikes.offsets[i] : self.dislikes.offsets[i + 1]]
            origin = np.zeros((1, likes.shape[1]))  # in the place of likes or dislikes
            for like in liked if len(liked) else origin:
                members.append(self.weight * (disliked if len(disliked) else origin) - like)
                owners.append(i)
        offsets = np.cumsum([0] + [len(one) for one in members], dtype=np.int64)
        return MemberSets(np.concatenate(members), offsets), np.array(owners, np.int64)

    def many(self, n_rows: int, budget: int | None) -> Int64Array:
        """The questions with many more members than likes and dislikes, but for those of which a
        budget for each like leaves less work than comparing both with all rows."""
        likes, dislikes = np.diff(self.likes.offsets), np.diff(self.dislikes.offsets)
        many = likes * dislikes > _MANY_MEMBERS * (likes + dislikes)
        if budget is not None:
            many &= likes * dislikes * float(budget + _MEMBER_WORK) >= n_rows * (likes + dislikes)
        return np.flatnonzero(many & self.by_best)

    def with_only(self, likes: Int64Array, dislikes: Int64Array) -> Contrasts:
        """A single question with some of its likes and dislikes."""
        some = [MemberSets(sets.members[which], np.array([0, len(which)]))
                for sets, which in ((self.likes, likes), (self.dislikes, dislikes))]
        return replace(self, likes=some[0], dislikes=some[1])

    def wide(self, sets: MemberSets) -> Float64Array:
        """Vectors in float64, of length 1 under cosine."""
        vectors = sets.members.astype(np.float64)
        if self.normalized and len(vectors):
            # Squares are added up in this order on every machine.
            vectors /= np.sqrt(np.cumsum(vectors * vectors, axis=1)[:, -1:])
        return vectors


def to_contrasts(store: Store | None, likes: tuple[Any, Any], dislikes: tuple[Any, Any],
                 weight: Any, likes_by: Any, *, normalized: bool) -> tuple[Contrasts, bool]:
    """Check likes and dislikes, as vectors or as ids, and tell whether it is a single question."""
    weight = checks.to_finite("weight", weight, 0.0, _LARGEST_WEIGHT)
    by_best = checks.to_choice("likes_by", likes_by, ("mean", "best")) == "best"
    sides = [_side(store, "likes", *likes, normalized=normalized),
             _side(store, "dislikes", *dislikes, normalized=normalized)]
    if not any(sides):
        raise TypeError("likes: expected likes or dislikes, as vectors or ids, got neither")
    counts = [len(sets) for sets, is_batch in filter(None, sides) if is_batch]
    if len(set(counts)) > 1:
        raise ValueError(f"dislikes: expected a set for each of {counts[0]} questions, as there "
                         f"are of likes, got {counts[1]}")
    n = counts[0] if counts else 1
    dim = next(sets for sets, _ in filter(None, sides)).members.shape[1]
    none = MemberSets(np.empty((0, dim), np.float32), np.zeros(2, np.int64)), False
    liked, disliked = (sets if is_batch or n == 1 else sets[np.zeros(n, np.int64)]
                       for sets, is_batch in (side or none for side in sides))
    offsets = liked.offsets + disliked.offsets
    empty = offsets[1:] == offsets[:-1]
    if empty.any():
        raise ValueError("likes: expected a like or a dislike in each question, got none in "
                         f"question {empty.argmax()}")
    return Contrasts(liked, disliked, weight, by_best, normalized), not counts


def _side(store: Store | None, name: str, vectors: Any, ids: Any, *,
          normalized: bool) -> tuple[MemberSets, bool] | None:
    """Likes or dislikes, and whether they are a batch of sets; None where there are none."""
    of_ids = f"{name[:-1]}_ids"
    if vectors is None and ids is None:
        return None
    check_one(name, vectors, ids, of_ids)
    if ids is not None:
        if depth(ids, 1) > 1:
            return member_sets.of_ids(store, of_ids, ids, may_be_empty=True), True
        rows, own = rows_of(store, ids, of_ids)
        return MemberSets(rows, np.array([0, len(own)]), own), False
    dim = None if store is None else store.dim
    if depth(vectors, 2) > 2:
        return member_sets.to_sets(name, vectors, dim, normalized=normalized,
                                   may_be_empty=True), True
    one = checks.to_vectors(name, vectors, dim, normalized=normalized, single=True)
    return MemberSets(one, np.array([0, len(one)])), False


def depth(value: Any, empty: int, most: int = 4) -> int:
    """How deep sequences are nested, up to `most`; `empty`: how deep one without elements is taken
    to be."""
    if hasattr(value, "ndim") and getattr(getattr(value, "dtype", None), "kind", "") != "O":
        return int(value.ndim)
    if most == 0 or isinstance(value, (str, bytes)) or not hasattr(value, "__len__"):
        return 0
    return 1 + max((depth(one, empty, most - 1) for one in value), default=empty - 1)


def search(question: Question) -> tuple[Hits, SearchStats]:
    """The k best rows of each question, where all may find the same rows."""
    contrasts, limits = question.queries, question.limits
    many = contrasts.many(question.store.n_slots, limits.budget if limits else None)
    if len(many) == 0:
        return _by_sets(question)
    hits, did = no_hits(len(contrasts), question.k, keyed=question.keyed), list[SearchStats]()
    few = np.delete(np.arange(len(contrasts)), many)
    for which in [*([few] if len(few) else []), *many[:, np.newaxis]]:
        part, stats = (_by_sets if which is few else _by_bounds)(question.of(which))
        did.append(stats)
        hits.ids[which], hits.scores[which] = part.ids, part.scores
        if hits.keys is not None and part.keys is not None:
            hits.keys[which] = part.keys
    return hits, total_of(did, len(contrasts))


def _by_bounds(question: Question) -> tuple[Hits, SearchStats]:
    """The k best rows of a single question: sets are searched for among those that may be."""
    contrasts: Contrasts = question.queries
    contrasts = contrasts.with_only(*(
        np.unique(sets.members, axis=0, return_index=True)[1]
        for sets in (contrasts.likes, contrasts.dislikes)))
    store, slots = question.store, question.row_filters.slots(question.store)
    bounds = LikeBounds(store, contrasts.wide(contrasts.likes), contrasts.wide(contrasts.dislikes),
                        contrasts.weight, normalized=contrasts.normalized)
    for kind in (np.float32, np.float64):
        slots = bounds.candidates(slots, kind, question.k, question.per_group, question.threads)
    parts, did = [no_hits(1, question.k, keyed=True)], list[SearchStats]()
    for start in range(0, len(slots), _ROWS_WITH_MEMBERS):
        some = slots[start : start + _ROWS_WITH_MEMBERS]
        part = question._replace(k=len(some), per_group=None, limits=None, keyed=True,
                                 row_filters=RowFilters(Rows(store.n_slots, slots=some), None))
        likes, dislikes = bounds.needed(some)
        step = max(1, _MEMBERS_FORMED // len(dislikes))
        for first in range(0, len(likes), step):
            hits, stats = _by_sets(part._replace(
                queries=contrasts.with_only(likes[first : first + step], dislikes)))
            parts.append(hits)
            did.append(stats)
    ids, keys, scores = (np.concatenate([getattr(hits, name) for hits in parts], axis=1)
                         for name in ("ids", "keys", "scores"))
    hits = _merged(question, Hits(ids, scores, keys), np.zeros(1, np.int64))
    hits.keys = hits.keys if question.keyed else None
    return hits, total_of([*did, SearchStats(1, float_products=bounds.products)], 1)


def _by_sets(question: Question) -> tuple[Hits, SearchStats]:
    """The k best rows of each question, by a search for the sets of all."""
    contrasts: Contrasts = question.queries
    sets, owners = contrasts.sets()
    several, limits = len(sets) > len(contrasts), question.limits
    if limits is not None:
        # Under cosine the core compares keys divided by the norms of members.
        scale = 1.0 + contrasts.weight if contrasts.normalized else 1.0
        limits = limits._replace(epsilon=(limits.epsilon or 0.0) / scale,
                                 seconds=(limits.seconds or 0.0) * len(contrasts) / len(sets))
    hits, stats = member_sets.search(question._replace(
        queries=sets, row_filters=question.row_filters.of(owners), limits=limits,
        keyed=question.keyed or several), raw=True)
    if several:
        hits = _merged(question, hits, owners)
        hits.keys = hits.keys if question.keyed else None
    return hits, stats._replace(queries=len(contrasts))


def _merged(question: Question, hits: Hits, owners: Int64Array) -> Hits:
    """The best rows of all sets of each question, each row once, with its largest key.

    With `per_group` a row of the answer is in that of the set with its largest key: rows that are
    better there are better here, too.
    """
    n, k, store = len(question.queries), question.k, question.store
    ends = np.searchsorted(owners, np.arange(n + 1))
    merged = no_hits(n, k, keyed=True)
    for i, (start, end) in enumerate(pairwise(ends)):
        ids, keys, scores = (part[start:end].ravel() for part in (hits.ids, hits.keys, hits.scores))
        order = np.lexsort((ids, -keys))
        first = np.sort(np.unique(ids[order], return_index=True)[1])
        order = order[first[ids[order[first]] >= 0]]
        if question.per_group is not None and store.groups is not None:
            groups = store.groups.by_slot()[store.slots_of(hits.ids[start:end].ravel())]
            order = limited(order[np.newaxis], groups, k, question.per_group)
        order = order[order >= 0][:k]
        for to, part in ((merged.ids, ids), (merged.keys, keys), (merged.scores, scores)):
            to[i, : len(order)] = part[order]
    return merged
