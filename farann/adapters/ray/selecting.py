"""Greedy selections over shards: picks that one index over all rows would make.

Each shard proposes its best rows with float64 keys, which are the same bits in any index, and with
their vectors. A row is picked as soon as no row that wasn't proposed can be better.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from math import inf
from typing import Any, NamedTuple

import numpy as np

from farann._types import Float32Array, Float64Array, Int64Array
from farann.adapters.ray.manifest import Manifest
from farann.contract.metric_traits import traits_of
from farann.diverse.centroid import RowSum
from farann.diverse.selection import Selection
from farann.index import Index
from farann.merging import merge
from farann.results import Hits, no_hits

Ask = Callable[..., tuple[list[Any], tuple[str, ...]]]

# Rows that each shard proposes at a time.
_PROPOSED = 64


class Choice(NamedTuple):
    """What a selection is asked for, checked."""

    k: int
    start: Int64Array | None
    first: Int64Array
    radius: float | None
    filters: dict[str, Any]


class _Proposed:
    """The best rows of all shards for the picks so far, and what all others are at most."""

    def __init__(self, parts: list[tuple[Hits, Float32Array]], manifest: Manifest) -> None:
        found = [hits.found[0] for hits, _ in parts]
        self.ids = np.concatenate([hits.ids[0][there] for (hits, _), there
                                   in zip(parts, found, strict=True)])
        self.rows = np.concatenate([rows for _, rows in parts])
        self.keys: Float64Array = np.concatenate(
            [hits.keys[0][there] for (hits, _), there in zip(parts, found, strict=True)
             if hits.keys is not None])
        # The last that a shard proposes, if it proposes all that it was asked for.
        self._last = [(float(hits.keys[0, -1]), int(hits.ids[0, -1]))
                      for (hits, _), there in zip(parts, found, strict=True)
                      if there.all() and hits.keys is not None]
        self._index = Index(manifest.dim, manifest.metric, codes="float32", threads=1)
        if len(self.ids):
            self._index.add(self.rows)

    def best(self) -> int | None:
        """Which row is next; None if another one may be."""
        if len(self.ids) == 0 or self.keys.max() == -inf:
            return None
        equal = np.flatnonzero(self.keys == self.keys.max())
        best = int(equal[self.ids[equal].argmin()])
        key, id = float(self.keys[best]), int(self.ids[best])
        certain = all(key > last or (key == last and id <= last_id)
                      for last, last_id in self._last)
        return best if certain else None

    def take(self, which: int) -> None:
        """Pick a row: keys are the smallest over the picks."""
        hits: Any = self._index.search_furthest_from(
            [_as_set(self.rows[which : which + 1])], len(self.ids), return_keys=True)
        self.keys[hits.ids[0]] = np.minimum(self.keys[hits.ids[0]], hits.keys[0])
        self.keys[which] = -inf


def select(ask: Ask, reconstruct: Callable[[Int64Array], Float32Array], manifest: Manifest,
           choice: Choice) -> Selection:
    """Greedy k-center over shards."""
    traits = traits_of(manifest.metric)
    ids, scores = list[int](), list[float]()
    first = np.unique(choice.first)
    if len(first) == 0:
        start = choice.start
        if start is None:
            start = _furthest_from_mean(ask, manifest, choice.filters)
            if start is None:
                return Selection(np.empty(0, np.int64), np.empty(0, np.float32))
        elif "allowed" in choice.filters and not np.isin(start, choice.filters["allowed"]).all():
            raise ValueError(f"start: expected an id that may be chosen, got {start[0]}")
        first = start
        ids.append(int(start[0]))
        scores.append(-inf if manifest.metric != "l2" else inf)
    members = reconstruct(first)
    picked = first
    while len(ids) < choice.k:
        options = {"k": _PROPOSED, "exclude": [picked], **choice.filters}
        parts, _ = ask("search_with_rows", "search_furthest_from", [_as_set(members)], options)
        proposed = _Proposed(parts, manifest)
        if len(proposed.ids) == 0:
            break
        new: list[int] = []
        while len(ids) < choice.k and (best := proposed.best()) is not None:
            score = _score(float(proposed.keys[best]), traits.adds_squared_norm,
                           traits.normalized)
            if choice.radius is not None and not _is_beyond(score, choice.radius, traits):
                return _selection(ids, scores)
            ids.append(int(proposed.ids[best]))
            scores.append(score)
            new.append(best)
            proposed.take(best)
        members = np.concatenate([members, proposed.rows[new]])
        picked = np.concatenate([picked, proposed.ids[new]])
    return _selection(ids, scores)


def _selection(ids: list[int], scores: list[float]) -> Selection:
    with np.errstate(over="ignore"):
        return Selection(np.array(ids, np.int64), np.array(scores).astype(np.float32))


def _score(key: float, squared: bool, normalized: bool) -> float:
    if squared:
        return float(np.sqrt(key))
    return min(1.0, max(-1.0, 0.0 - key)) if normalized else 0.0 - key


def _is_beyond(score: float, radius: float, traits: Any) -> bool:
    return score > radius if traits.larger_is_further else score < radius


def _as_set(members: Float32Array) -> Float32Array:
    """Two members at least: keys of a set of one aren't divided by its norm under cosine."""
    return np.resize(members, (max(len(members), 2), members.shape[1]))


def _furthest_from_mean(ask: Ask, manifest: Manifest,
                        filters: dict[str, Any]) -> Int64Array | None:
    sums = ask("sum_of_rows", filters.get("allowed"))[0]
    smallest = [id for _, id in sums if id is not None]
    if not smallest:
        return None
    mean = reduce(RowSum.plus, [total for total, _ in sums]).mean()
    if manifest.metric == "cosine" and not mean.any():
        return np.array([min(smallest)], np.int64)
    parts = ask("search", "search_furthest", mean[None], {"k": 1, **filters})[0]
    ids: Int64Array = merge(parts, 1).ids[0]
    return ids


# ---- maximal marginal relevance ----


def mmr(ask: Ask, queries: Float32Array, k: int, diversity: float,
        filters: dict[str, Any]) -> Hits:
    """Each shard says its best next row for each query; the best of these is the pick."""
    n, dim = queries.shape
    hits = no_hits(n, k)
    rows = np.zeros((n, 0, dim), np.float32)
    for step in range(k):
        picks = hits.ids[:, :step].copy(), rows
        answers, _ = ask("next_mmr", queries, picks, {"diversity": diversity, **filters})
        best, order = np.full(n, -1, np.int64), np.full(n, -inf)
        values, vectors = np.full(n, np.nan), np.zeros((n, dim), np.float32)
        for (ids, orders, own), found in answers:
            there = ids >= 0
            better = there & ((orders > order) | (best < 0)
                              | ((orders == order) & (ids < best)))
            best[better], order[better], values[better] = ids[better], orders[better], own[better]
            vectors[better] = found[(np.cumsum(there) - 1)[better]]
        if (best < 0).all():
            break
        hits.ids[:, step] = best
        with np.errstate(over="ignore"):
            hits.scores[:, step] = values
        rows = np.concatenate([rows, vectors[:, None]], axis=1)
    return hits


def mmr_of_nearest(ask: Ask, manifest: Manifest, queries: Float32Array, k: int, diversity: float,
                   options: dict[str, Any]) -> Hits:
    """Choose among the most similar rows of all shards, which have all that it takes."""
    parts, _ = ask("search_with_rows", "search_nearest", queries, options)
    nearest = merge([hits for hits, _ in parts], options["k"])
    known: dict[int, Float32Array] = {}
    for hits, rows in parts:
        known.update(zip(hits.ids[hits.found].tolist(), rows, strict=True))
    answer = no_hits(len(queries), k)
    for i, found in enumerate(nearest.ids):
        ids = np.sort(found[found >= 0])
        if len(ids):
            index = Index(manifest.dim, manifest.metric, codes="float32", threads=1)
            index.add(np.stack([known[id] for id in ids.tolist()]), ids)
            answer.scores[i], answer.ids[i] = index.search_mmr(
                queries[i], k, diversity=diversity, candidates=len(ids))
    return answer
