"""The k best fused scores of all items: by one dot product, by a threshold, or by all scores.

The threshold algorithm is from Fagin, Lotem and Naor, "Optimal aggregation algorithms for
middleware" (PODS 2001).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from farann._types import BoolArray, Float32Array, Float64Array, Int64Array
from farann.adapters.posneg.fusion import Parts
from farann.adapters.posneg.joint import JointIndex
from farann.adapters.posneg.scoring import Filters, Model, Pair, Scored, Scorer
from farann.adapters.posneg.sides import Side

# Candidates scored at a time, over all queries.
_PAIRS = 1 << 20
# How far the first look goes down the lists, at least.
_DEPTH = 64
# From this share of all items on, looking at lists costs more than scoring everything.
_DENSE = 0.25


class Joint:
    """Both models as one index, whose dot product orders items as the fused log-odds do.

    A row holds both embeddings of an item, its own log-odds, and for each model whether it
    lacks the item.
    """

    def __init__(self, pair: Pair, model: Model, threads: int | None) -> None:
        extra = np.column_stack([model.items, ~pair.positive.known, ~pair.negative.known])
        self._index = JointIndex(pair[:2], extra, threads)

    @staticmethod
    def serves(pair: Pair, model: Model) -> bool:
        """Whether the fused score is linear in the dot products of these models."""
        return (model.fusion.name == "logit" and pair.normalize != "rank"
                and pair.positive.metric != "l2" and pair.negative.metric != "l2"
                and model.positive.linear is not None and model.negative.linear is not None)

    def search(self, scorer: Scorer, k: int, filters: Filters) -> Scored:
        """The k best items of each query."""
        vectors, constant = self._vectors(scorer)
        return self._index.search(
            empty(len(scorer), k), vectors, constant, k, filters,
            lambda active, items: scorer.take(active)(items).best(k), put)

    def _vectors(self, scorer: Scorer) -> tuple[Float64Array, Float64Array]:
        """Query vectors in float64, and what is the same for all items, as two summands."""
        model, weight = scorer.model, scorer.model.fusion.weight
        columns, constants, unknown = [], [], []
        for sign, side, calibration, queries, normaliser in zip(
                (weight, weight - 1.0), scorer.pair[:2], (model.positive, model.negative),
                scorer.queries, scorer.normalisers, strict=True):
            line = calibration.linear
            assert line is not None
            slope = sign * line.slope / normaliser.scale
            constant = sign * line.intercept - slope * normaliser.shift
            lacks = side.lacks(queries)
            constant[lacks] = sign * calibration.unknown
            columns.append(slope[:, np.newaxis] * side.unit_queries(queries))
            constants.append(constant)
            unknown.append(sign * calibration.unknown - constant)
        own = weight * model.positive.item_weight - (1.0 - weight) * model.negative.item_weight
        extra = np.column_stack([np.full(len(scorer), own), *unknown])
        return self._index.vectors(columns, extra), np.column_stack(constants)


def searchable(pair: Pair, model: Model) -> bool:
    """Whether the fused score rises with the positive and falls with the negative similarity."""
    return (not model.fusion.by_rank and pair.normalize != "rank"
            and model.positive.monotone and model.negative.monotone)


def by_threshold(scorer: Scorer, k: int, filters: Filters) -> Scored:
    """The k best by going down both models' lists until nothing below can be better."""
    size = len(scorer.model.items)
    found = empty(len(scorer), k)
    active, depth = np.arange(len(scorer)), max(_DEPTH, 4 * k)
    while len(active) and depth < _DENSE * size:
        some, few = filters.take(active), scorer.take(active)
        lists = _lists(few, depth, some)
        best = _put_best(found, few, active, _union(lists), k)
        active, depth = active[~_settled(few, lists, best)], 4 * depth
    if len(active):
        put(found, active, by_all_scores(scorer.take(active), k, filters.take(active)))
    return found


def by_all_scores(scorer: Scorer, k: int, filters: Filters) -> Scored:
    """The k best of all scores, for fusions that can't be searched."""
    size = len(scorer.model.items)
    found = empty(len(scorer), k)
    for i in range(len(scorer)):
        which = slice(i, i + 1)
        put(found, which, scorer.take(which).everything(filters.candidates(i, size)).best(k))
    return found


def by_candidates(scorer: Scorer, k: int, filters: Filters, candidates: int) -> Scored:
    """The k best of both models' first candidates, scored under both."""
    found = empty(len(scorer), k)
    lists = _lists(scorer, candidates, filters)
    union, fusion = _union(lists), scorer.model.fusion
    if not fusion.by_rank and fusion.name != "combmnz":
        _put_best(found, scorer, np.arange(len(scorer)), union, k)
        return found
    for i, items in enumerate(union):
        real = items[items >= 0][np.newaxis]
        listed = None if fusion.by_rank else (np.isin(real, lists[0][i]),
                                              np.isin(real, lists[1][i]))
        which = slice(i, i + 1)
        put(found, which, scorer.take(which)(real, listed).best(k))
    return found


def _lists(scorer: Scorer, depth: int, filters: Filters) -> list[Int64Array]:
    """Most liked and least disliked items, `depth` a query or all there are, padded with -1."""
    positive, negative = scorer.pair[:2]
    asked = [side.findable(queries)
             for side, queries in zip(scorer.pair[:2], scorer.queries, strict=True)]
    near = positive.index.search_nearest(asked[0], min(depth, len(positive.items)),
                                         **filters.search(positive.items))
    # Larger is more alike: the least alike are the furthest under any metric.
    far = negative.index.search_furthest(asked[1], min(depth, len(negative.items)),
                                         **filters.search(negative.items))
    # Where there are fewer than `depth`, one column says that the list has ended.
    return [found.ids if found.ids.shape[1] == depth
            else np.pad(found.ids, ((0, 0), (0, 1)), constant_values=-1) for found in (near, far)]


def _union(lists: list[Int64Array]) -> Int64Array:
    """The items of both lists, each once, padded with -1."""
    both = np.sort(np.hstack(lists), axis=1)
    both[:, 1:][both[:, 1:] == both[:, :-1]] = -1
    return both


def _settled(scorer: Scorer, ends: list[Int64Array], best: Scored) -> BoolArray:
    """Whether no item further down both lists can be among the k best, (n_queries,)."""
    model, pair = scorer.model, scorer.pair
    last = [side.similarity(queries, ids[:, -1:])
            for side, queries, ids in zip(pair[:2], scorer.queries, ends, strict=True)]
    more = [ids[:, -1:] >= 0 for ids in ends]
    slack = [_rounding(side, queries)[:, np.newaxis]
             for side, queries in zip(pair[:2], scorer.queries, strict=True)]
    highest, lowest = last[0] + slack[0], last[1] - slack[1]
    own = np.array([model.items.max(), model.items.min()])
    pull = max(own * model.positive.item_weight)
    push = min(own * model.negative.item_weight)
    zero = np.zeros_like(highest)
    settled = np.ones(len(scorer), np.bool_)
    kth, kth_alike = best.fused[:, -1:], best.similarity[:, -1:]
    for known in ((True, True), (True, False), (False, True)):
        exists = ((pair.positive.known == known[0]) & (pair.negative.known == known[1])).any()
        if not exists:
            continue
        open_ = np.ones_like(more[0])
        for side in (0, 1):
            if known[side]:
                open_ &= more[side]
        nothing = np.full_like(highest, np.nan)
        liked = model.positive(scorer.normalisers[0](highest if known[0] else nothing), zero)
        disliked = model.negative(scorer.normalisers[1](lowest if known[1] else nothing), zero)
        flags = tuple(np.full(highest.shape, flag) for flag in known)
        bound = model.fusion(Parts(liked + pull, disliked + push, *flags))
        # Exponentials are monotone only up to their last bits; on plateaus nothing is rounded.
        beaten = kth > bound + 2.0**-40 * np.abs(bound)
        if known[0]:
            beaten |= (kth >= bound) & (kth_alike > highest)
        settled &= (beaten | ~open_)[:, 0]
    return settled


def _rounding(side: Side, queries: Float32Array) -> Float64Array:
    """By how much similarities may differ from those that the index sorts by."""
    norms = np.sqrt(np.einsum("id,id->i", queries, queries, dtype=np.float64))
    scale = {"dot": norms * side.largest_norm, "l2": norms + side.largest_norm,
             "cosine": np.ones(len(queries))}[side.metric]
    rounding: Float64Array = (side.dim + 8) * 2.0**-51 * scale
    return rounding


def _put_best(found: Scored, scorer: Scorer, queries: Int64Array, candidates: Int64Array,
              k: int) -> Scored:
    """Score candidates, (n_queries, m), block by block; the k best go to rows of `found`."""
    step = max(1, _PAIRS // max(1, candidates.shape[1]))
    for start in range(0, len(candidates), step):
        which = slice(start, start + step)
        put(found, queries[which], scorer.take(which)(candidates[which]).best(k))
    return found.map(lambda part: part[queries])


def empty(n_queries: int, k: int) -> Scored:
    """Answers without any item."""
    numbers = [np.full((n_queries, k), -np.inf) for _ in range(4)]
    return Scored(np.full((n_queries, k), -1, np.int64), *numbers)


def put(found: Scored, queries: Int64Array | slice, best: Scored) -> None:
    """Write answers into the rows of some queries."""
    for place, value in zip(found, best, strict=True):
        place[queries] = value


def best(scorer: Scorer, k: int, filters: Filters, candidates: int | None,
         joint_of: Callable[[Model], Joint]) -> Scored:
    """The k best items of each query, in the way that serves the ranker."""
    model = scorer.model
    if candidates is not None:
        return by_candidates(scorer, k, filters, candidates)
    if Joint.serves(scorer.pair, model):
        return joint_of(model).search(scorer, k, filters)
    if searchable(scorer.pair, model):
        return by_threshold(scorer, k, filters)
    return by_all_scores(scorer, k, filters)
