"""Greedy selections over shards: picks that one index over all rows would make.

Each shard proposes its best rows with float64 keys, which are the same bits in any index, and with
their vectors. A row is picked as soon as no row that wasn't proposed can be better.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from math import inf
from typing import Any

import numpy as np
import numpy.typing as npt

from farann._types import Float32Array, Float64Array, Int64Array
from farann.adapters.ray.asking import Asking
from farann.contract import checks
from farann.contract.metric_traits import MetricTraits
from farann.diverse.selection import Selection
from farann.index import Index
from farann.merging import merge
from farann.results import Hits, no_hits

# Rows that each shard proposes at a time.
_PROPOSED = 64


class Selecting(Asking):
    """The part of `Gathering` that chooses rows unlike each other."""

    def search_mmr(self, queries: npt.ArrayLike, k: int = 10, *, diversity: float = 0.5,
                   candidates: int | None = None, exclude: Any = None,
                   allowed: Any = None) -> Hits:
        """Rows that are like the query and unlike each other; see `farann.Index.search_mmr`.

        With `candidates` shards are asked once, otherwise once for each of the k rows.
        """
        k = checks.to_int("k", k, 1)
        given = self._vectors("queries", queries)
        vectors = np.atleast_2d(given)
        # Which says what is wrong with the others.
        self._index().search_mmr(vectors[:1], 1, diversity=diversity, candidates=candidates)
        hits = no_hits(len(vectors), k)
        if self._strings:
            hits = hits._replace(ids=np.full(hits.ids.shape, None))
        filters = self._to_filters(exclude=exclude, allowed=allowed)
        if candidates is None:
            self._choose_of_all(hits, vectors, {"diversity": diversity, **filters})
        else:
            self._choose_of_nearest(hits, vectors, diversity, {"k": candidates, **filters})
        return Hits(hits.scores[0], hits.ids[0]) if given.ndim == 1 else hits

    def _choose_of_all(self, hits: Hits, queries: Float32Array, options: dict[str, Any]) -> None:
        """Each shard says its best next row for each query; the best of these is the pick."""
        each, rows = np.arange(len(queries)), np.empty((len(queries), 0, self.manifest.dim),
                                                       np.float32)
        for step in range(hits.ids.shape[1]):
            parts, _ = self._ask("next_mmr", queries, (hits.ids[:, :step].copy(), rows), options)
            ids, found, vectors = zip(*parts, strict=True)
            ties, orders, values = (np.stack(field) for field in zip(*found, strict=True))
            best = np.lexsort((ties, -orders, ties < 0), axis=0)[0]
            there = ties[best, each] >= 0
            if not there.any():
                break
            hits.ids[there, step] = np.stack(ids)[best, each][there]
            with np.errstate(over="ignore"):
                hits.scores[:, step] = values[best, each]
            rows = np.concatenate([rows, np.stack(vectors)[best, each][:, np.newaxis]], axis=1)

    def _choose_of_nearest(self, hits: Hits, queries: Float32Array, diversity: float,
                           options: dict[str, Any]) -> None:
        """Choose among the most similar rows of all shards, which have all that it takes."""
        parts, _ = self._ask("search_with_rows", "search_nearest", queries, options)
        known = {id: (order, row) for found, orders, rows in parts for id, order, row
                 in zip(found.ids[found.found].tolist(), orders.tolist(), rows, strict=True)}
        nearest = merge([found for found, _, _ in parts], options["k"])
        for i, found in enumerate(nearest.found):
            ids = sorted(nearest.ids[i, found].tolist(), key=lambda id: known[id][0])
            if ids:
                index = self._index()
                index.add(np.stack([known[id][1] for id in ids]), ids)
                hits.scores[i], hits.ids[i] = index.search_mmr(
                    queries[i], hits.ids.shape[1], diversity=diversity, candidates=len(ids))

    def select_diverse(self, k: int, *, start: Any = None, first: Any = None,
                       radius: float | None = None, allowed: Any = None) -> Selection:
        """Choose rows that cover all others, each the one furthest from those before; see
        `farann.Index.select_diverse`.

        Given `start`, an id, or `first`, the picks are those of one index over all rows.
        By default, or with "centroid", the first pick is the row furthest from the mean, which is
        the sum of those of the shards: it may be another one than that of one index where two are
        equally far but for rounding.
        """
        self._index().select_diverse(checks.to_int("k", k, 1), radius=radius)  # checks these
        if start is not None and first is not None:
            raise ValueError("start: expected at most one of start and first, got both")
        filters, traits = self._to_filters(allowed=allowed), self._traits
        ids, scores = list[Any](), list[float]()
        picked = np.unique(self._to_ids("first", [] if first is None else first))
        if len(picked) == 0:
            if start is None or (isinstance(start, str) and start == "centroid"):
                picked = self._furthest_from_mean(filters)
            else:
                picked = self._to_ids("start", [start])
                if allowed is not None and not np.isin(picked, filters["allowed"]).all():
                    raise ValueError("start: expected an id that may be chosen, got "
                                     f"{picked[0]!r}")
            ids, scores = picked.tolist(), [inf if traits.larger_is_further else -inf] * len(picked)
        members, dtype, done = self.reconstruct(picked), picked.dtype, len(picked) == 0
        while not done and len(ids) < k:
            proposed = _Proposed(self._index(), self._ask(
                "search_with_rows", "search_furthest_from", [_as_set(members)],
                {"k": _PROPOSED, "exclude": [picked], **filters})[0])
            new = list[int]()
            for row, key in islice(proposed.picks(), k - len(ids)):
                score = _score(key, traits)
                done = radius is not None and not (
                    score > radius if traits.larger_is_further else score < radius)
                if done:
                    break
                new.append(row)
                ids.append(proposed.ids[row])
                scores.append(score)
            done = done or not new
            members = np.concatenate([members, proposed.rows[new]])
            picked = np.concatenate([picked, proposed.ids[new]])
        with np.errstate(over="ignore"):
            return Selection(np.array(ids, dtype), np.array(scores).astype(np.float32))

    def _furthest_from_mean(self, filters: dict[str, Any]) -> npt.NDArray[Any]:
        """The id of the row furthest from the mean of those that may be chosen, if there is one."""
        sums, _ = self._ask("sum_of_rows", filters.get("allowed"))
        n = sum(count for _, count in sums)
        mean = (np.sum([total for total, _ in sums], axis=0) / max(n, 1)).astype(np.float32)
        if self._traits.normalized and not mean.any():
            mean[0] = 1.0  # there is no direction: any will do
        hits = merge(self._ask("search", "search_furthest", mean, {"k": 1, **filters})[0], 1)
        return hits.ids[hits.found]


class _Proposed:
    """The best rows of all shards for the picks so far, and what all others are at most."""

    def __init__(self, index: Index, parts: list[tuple[Any, Int64Array, Float32Array]]) -> None:
        self.ids = np.concatenate([hits.ids[hits.found] for hits, _, _ in parts])
        self.orders = np.concatenate([orders for _, orders, _ in parts])
        self.rows = np.concatenate([rows for _, _, rows in parts])
        self.keys: Float64Array = np.concatenate([hits.keys[hits.found] for hits, _, _ in parts])
        # The last that a shard proposes, if it proposes all that it was asked for: key, order.
        self._last = [(-float(hits.keys[0, -1]), int(orders[-1])) for hits, orders, _ in parts
                      if hits.found.all()]
        self._index = index
        if len(self.ids):
            index.add(self.rows)

    def picks(self) -> Iterator[tuple[int, float]]:
        """Rows one after the other, and their keys, until another one may be next."""
        while len(self.ids) and (key := float(self.keys.max())) > -inf:
            equal = np.flatnonzero(self.keys == key)
            best = int(equal[self.orders[equal].argmin()])
            if any((-key, self.orders[best]) > last for last in self._last):
                return
            yield best, key
            # Keys are the smallest over the picks.
            hits: Any = self._index.search_furthest_from(
                [_as_set(self.rows[best : best + 1])], len(self.ids), return_keys=True)
            self.keys[hits.ids[0]] = np.minimum(self.keys[hits.ids[0]], hits.keys[0])
            self.keys[best] = -inf


def _score(key: float, traits: MetricTraits) -> float:
    if traits.adds_squared_norm:
        return float(np.sqrt(key))
    return min(1.0, max(-1.0, 0.0 - key)) if traits.normalized else 0.0 - key


def _as_set(members: Float32Array) -> Float32Array:
    """Two members at least: keys of a set of one aren't divided by its norm under cosine."""
    return np.resize(members, (max(len(members), 2), members.shape[1]))
