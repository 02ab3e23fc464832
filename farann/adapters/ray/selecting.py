"""Greedy selections over shards: picks that one index over all rows would make.

Each shard proposes its best rows with float64 keys, which are the same bits in any index, and with
their vectors. A row is picked as soon as no row that wasn't proposed can be better.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from itertools import islice
from math import inf, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from farann._types import Float32Array, UnknownKeyword
from farann.adapters.ray.gathering import Gathering
from farann.contract import checks
from farann.contract.names import unexpected
from farann.diverse.greedy import RowSum
from farann.index import Index
from farann.results import Hits, Selection, merge, no_hits

_PROPOSED = 64  # rows that each shard proposes at a time


class Selecting(Gathering):
    """Searches and selections of rows over all shards."""

    def search_mmr(self, queries: npt.ArrayLike | None = None, k: int = 10, *, ids: Any = None,
                   diversity: float = 0.5, candidates: int | None = None, exclude: Any = None,
                   allowed: Any = None, groups: Any = None, outside_groups: Any = None,
                   **unknown: UnknownKeyword) -> Hits:
        """Rows that are like the query and unlike each other; see `farann.Index.search_mmr`.

        With `candidates` shards are asked once, otherwise once for each of the k rows.
        """
        if unknown:
            raise unexpected(self.search_mmr, unknown)
        k = checks.to_int("k", k, 1)
        given, exclude = self._asked(queries, ids, exclude)
        vectors = np.atleast_2d(given)
        # An index without rows refuses what is wrong with the others.
        self._few_rows().search_mmr(vectors[:1], 1, diversity=diversity, candidates=candidates)
        hits = no_hits(len(vectors), k)
        if self._strings:
            hits.ids = np.full(hits.ids.shape, None)
        filters = self._to_filters(exclude=exclude, allowed=allowed, groups=groups,
                                   outside_groups=outside_groups)
        if candidates is None:
            self._choose_of_all(hits, vectors, {"diversity": diversity, **filters})
        else:
            self._choose_of_nearest(hits, vectors, diversity, {"k": candidates, **filters})
        return Hits(hits.ids[0], hits.scores[0]) if given.ndim == 1 else hits

    def _choose_of_all(self, hits: Hits, queries: Float32Array, options: dict[str, Any]) -> None:
        """Each shard says its best next row for each query; the best of these is the pick."""
        each, rows = np.arange(len(queries)), np.empty((len(queries), 0, self.manifest.dim),
                                                       np.float32)
        for step in range(hits.ids.shape[1]):
            parts, _ = self._ask("next_mmr", queries, hits.ids[:, :step].copy(), rows, options)
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
        nearest = merge([found for found, _, _ in parts], options["k"])
        index, (ids, _, orders, rows) = self._few_rows(), _joined(parts)
        _, once = np.unique(orders, return_index=True)
        index.add(rows[once], ids[once])
        for i, found in enumerate(nearest.found):
            chosen = index.search_mmr(
                queries[i], hits.ids.shape[1], diversity=diversity, candidates=options["k"],
                allowed=nearest.ids[i, found])
            hits.ids[i], hits.scores[i] = chosen.ids, chosen.scores

    def select_diverse(self, k: int, *, start: Any = None, first: Any = None,
                       radius: float | None = None, exclude: Any = None, allowed: Any = None,
                       groups: Any = None, outside_groups: Any = None,
                       **unknown: UnknownKeyword) -> Selection:
        """Choose rows that cover all others, each the one furthest from those before; see
        `farann.Index.select_diverse`.

        By default, or with "centroid" as `start`, the first pick is the row furthest from the mean.
        """
        if unknown:
            raise unexpected(self.select_diverse, unknown)
        self._few_rows().select_diverse(checks.to_int("k", k, 1), radius=radius)  # checks these
        if start is not None and first is not None:
            raise ValueError("start: expected at most one of start and first, got both")
        only, traits = self._to_filters(exclude=exclude, allowed=allowed, groups=groups,
                                        outside_groups=outside_groups), self._traits
        begin = before = np.unique(self._to_ids("first", [] if first is None else first))
        if len(before) == 0 and (start is None or (isinstance(start, str) and start == "centroid")):
            begin = self._furthest_from_mean(only)
        elif len(before) == 0:
            begin = self._to_ids("start", [start])
            may = begin if allowed is None else begin[np.isin(begin, only["allowed"])]
            parts, _ = self._ask("sum_of_rows", {**only, "allowed": may})
            if only and not sum(total.n for total, _ in parts):
                raise ValueError(f"start: expected an id that may be chosen, got {begin[0]!r}")
        ids, rows = begin.tolist(), list(self.reconstruct(begin))
        scores = [inf if traits.larger_is_further else -inf] * (len(ids) - len(before))
        done = not ids
        while not done and len(scores) < k:
            parts, _ = self._ask("search_with_rows", "search_furthest_from", _as_set(rows), {
                "k": _PROPOSED, "exclude": [np.array(ids, begin.dtype)], "only": only})
            done = True
            for id, row, key in islice(_picks(self._few_rows(), parts), k - len(scores)):
                score = sqrt(key) if traits.adds_squared_norm else 0.0 - key
                if traits.normalized:
                    score = min(1.0, max(-1.0, score))
                done = radius is not None and not (
                    score > radius if traits.larger_is_further else score < radius)
                if done:
                    break
                ids.append(id)
                rows.append(row)
                scores.append(score)
        with np.errstate(over="ignore"):
            return Selection(np.array(ids[len(before) :], begin.dtype),
                             np.array(scores).astype(np.float32))

    def _few_rows(self) -> Index:
        """An index of a few rows, like those of shards."""
        return Index(self.manifest.dim, self.manifest.metric, codes="float32", threads=1)

    def _furthest_from_mean(self, only: dict[str, Any]) -> npt.NDArray[Any]:
        """The id of the row furthest from the mean of those that may be chosen, if there is one."""
        parts, _ = self._ask("sum_of_rows", only)
        first = sorted(one for _, some in parts for one in some)[:1]
        mean = reduce(RowSum.plus, (total for total, _ in parts)).mean()
        if not first or (self._traits.normalized and not mean.any()):
            return self._to_ids("start", [id for _, id in first])
        hits: Hits = merge(
            self._ask("search", "search_furthest", mean, {"k": 1, "only": only})[0], 1)
        return hits.ids[hits.found]


def _picks(index: Index, parts: list[Any]) -> Iterator[tuple[Any, Float32Array, float]]:
    """Ids, rows and keys of the best of what shards propose, until another row may be next."""
    ids, keys, orders, rows = _joined(parts)
    # The last that a shard proposes, if it proposes all that it was asked for.
    last = [(-hits.keys[0, -1], order[-1]) for hits, order, _ in parts if hits.found.all()]
    index.add(rows)
    while len(ids) and (key := float(keys.max())) > -inf:
        best = int(np.lexsort((orders, -keys))[0])
        if any((-key, orders[best]) > one for one in last):
            return
        yield ids[best], rows[best], key
        hits: Any = index.search_furthest_from(_as_set([rows[best]]), len(ids), return_keys=True)
        keys[hits.ids[0]] = np.minimum(keys[hits.ids[0]], hits.keys[0])  # over all picks
        keys[best] = -inf


def _joined(parts: list[Any]) -> Any:
    """Ids, keys, orders and rows of what shards found, one behind the other."""
    found = [(hits.ids[hits.found], hits.keys[hits.found], *others) for hits, *others in parts]
    return map(np.concatenate, zip(*found, strict=True))


def _as_set(rows: list[Float32Array]) -> Float32Array:
    """Two members at least: keys of a set of one aren't divided by its norm under cosine."""
    return np.stack(rows * 2 if len(rows) == 1 else rows)[np.newaxis]
