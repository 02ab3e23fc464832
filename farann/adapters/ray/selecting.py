"""Greedy selections over shards: picks that one index over all rows would make.

Each shard proposes its best rows with float64 keys, which are the same bits in any index, and with
their vectors. A row is picked as soon as no row that wasn't proposed can be better.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from functools import reduce
from itertools import islice
from math import inf, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from farann._types import Exclude, Float32Array, IdArray, Ids, Int64Array, LabelsLike, Scale, Scores
from farann.adapters.ray.gathering import Gathering, to_label_array
from farann.adapters.ray.storage import ShardError
from farann.contract import checks
from farann.contract.names import hinted
from farann.extending import (
    ONE_A_ROW,
    Ranked,
    RowSum,
    centers_of,
    inside,
    joined,
    n_left_out,
    sample_of,
    scores_of,
)
from farann.index import Index
from farann.results import Hits, Pairs, RangeHits, Selection, Spaced, merge, no_hits, unchecked

_PROPOSED = 64  # rows that each shard proposes at a time


class Selecting(Gathering):
    """Searches and selections of rows over all shards."""

    @hinted
    def search_mmr(self, queries: npt.ArrayLike | None = None, k: int = 10, *, ids: Any = None,
                   scores: Scores | None = None, scale: Scale = "unit", diversity: float = 0.3,
                   candidates: int | None = None, exclude: Exclude | None = None,
                   allowed: Ids | None = None, groups: LabelsLike | None = None,
                   outside_groups: LabelsLike | None = None,
                   per_group: int | None = None) -> Hits:
        """Rows that are like the query and unlike each other; see `farann.Index.search_mmr`.

        With `candidates` shards are asked once, with `scores` for the rows that have one, otherwise
        once for each of the k rows.
        """
        k = checks.to_int("k", k, 1)
        if scores is not None:
            index = self._few_rows()
            self._check_groups(per_group)
            if len(names := list({id: None for one in scores_of(scores) for id in one})):
                rows = _Listed(self, {"allowed": self._to_ids("scores", names)})
                index.add(self.reconstruct(rows.ids), rows.ids,
                          groups=None if per_group is None else rows.labels)
            return index.search_mmr(
                queries, k, ids=ids, scores=scores, scale=scale, diversity=diversity,
                candidates=candidates, exclude=exclude, allowed=allowed, groups=groups,
                outside_groups=outside_groups, per_group=per_group)
        array, exclude = self._asked(queries, ids, exclude)
        vectors = np.atleast_2d(array)
        # An index without rows checks the other arguments.
        self._few_rows().search_mmr(vectors[:1], 1, diversity=diversity, candidates=candidates,
                                    per_group=per_group)
        self._check_groups(per_group)
        hits = no_hits(len(vectors), k)
        if self._strings:
            hits.ids = np.full(hits.ids.shape, None)
        filters = self._to_filters(exclude=exclude, allowed=allowed, groups=groups,
                                   outside_groups=outside_groups)
        if candidates is None:
            self._choose_of_all(hits, vectors, per_group, {"diversity": diversity, **filters})
        else:
            self._choose_of_nearest(hits, vectors, diversity, per_group,
                                    {"k": candidates, **filters})
        if per_group is not None:
            there = hits.found
            labels = _Listed(self, {"allowed": np.unique(hits.ids[there])})
            own = labels.labels[labels.numbers_of(hits.ids[there])]
            hits.groups = np.full(there.shape, None if own.dtype == object else -1, own.dtype)
            hits.groups[there] = own
        return hits if array.ndim > 1 else unchecked(
            hits.ids[0], hits.scores[0], groups=None if hits.groups is None else hits.groups[0])

    def _choose_of_all(self, hits: Hits, queries: Float32Array, per_group: int | None,
                       options: dict[str, Any]) -> None:
        """Each shard says its best next row for each query; the best of these is the pick."""
        each, rows = np.arange(len(queries)), np.empty((len(queries), 0, self.manifest.dim),
                                                       np.float32)
        taken = [Counter[Any]() for _ in queries]
        for step in range(hits.ids.shape[1]):
            full = [] if per_group is None else [
                [label for label in counts if counts[label] == per_group] for counts in taken]
            parts, _ = self._ask("next_mmr", queries, hits.ids[:, :step].copy(), rows,
                                 {**options, "full": full})
            ids, answers, vectors, labels = zip(*parts, strict=True)
            ties, keys, scores = (np.stack([getattr(one, field)[:, 0] for one in answers])
                                  for field in ("ids", "keys", "scores"))
            best = np.lexsort((ties, -keys, ties < 0), axis=0)[0]
            there = ties[best, each] >= 0
            if not there.any():
                break
            hits.ids[there, step] = np.stack(ids)[best, each][there]
            for i in np.flatnonzero(there).tolist():
                taken[i][labels[best[i]][i]] += 1
            hits.scores[:, step] = scores[best, each]
            rows = np.concatenate([rows, np.stack(vectors)[best, each][:, np.newaxis]], axis=1)

    def _choose_of_nearest(self, hits: Hits, queries: Float32Array, diversity: float,
                           per_group: int | None, options: dict[str, Any]) -> None:
        """Choose among the most similar rows of all shards, which have all that it takes."""
        parts, _ = self._ask("search_with_rows", "search_nearest", queries, options)
        nearest = merge([hits for hits, *_ in parts], options["k"])
        index, (ids, _, orders, rows, labels) = self._few_rows(), _joined(parts)
        _, once = np.unique(orders, return_index=True)
        index.add(rows[once], ids[once], groups=labels[once])
        for i, there in enumerate(nearest.found):
            chosen = index.search_mmr(
                queries[i], hits.ids.shape[1], diversity=diversity, candidates=options["k"],
                allowed=nearest.ids[i, there], per_group=per_group)
            hits.ids[i], hits.scores[i] = chosen.ids, chosen.scores

    @hinted
    def select_diverse(self, k: int | None = None, *, start: Any = None, first: Any = None,
                       radius: float | None = None, per_group: int | None = None,
                       leave_out: float = 0.0, exclude: Exclude | None = None,
                       allowed: Ids | None = None, groups: LabelsLike | None = None,
                       outside_groups: LabelsLike | None = None) -> Selection:
        """Choose rows that cover all others, each the one furthest from those before; see
        `farann.Index.select_diverse`.

        By default, or with "centroid" as `start`, the first pick is the row furthest from the mean.
        """
        self._few_rows().select_diverse(k, radius=radius, per_group=per_group,
                                        leave_out=leave_out)  # checks these
        self._check_groups(per_group)
        k = sys.maxsize if k is None else k
        if start is not None and first is not None:
            raise ValueError("start: expected at most one of start and first, got both")
        only, traits = self._to_filters(exclude=exclude, allowed=allowed, groups=groups,
                                        outside_groups=outside_groups), self._traits
        begin = before = np.unique(self._to_ids("first", [] if first is None else first))
        if leave_out:
            only = self._without_lonely(only, leave_out, before, start)
        if len(before) == 0 and (start is None or (isinstance(start, str) and start == "centroid")):
            begin = self._furthest_from_mean(only)
        elif len(before) == 0:
            begin = self._to_ids("start", [start])
            may = begin if allowed is None else begin[np.isin(begin, only["allowed"])]
            parts, _ = self._ask("sum_of_rows", {**only, "allowed": may})
            if only and not sum(total.n for total, _ in parts):
                raise ValueError(f"start: expected an id that may be chosen, got {begin[0]!r}")
        ids, rows = begin.tolist(), list(self.reconstruct(begin))
        taken, full = Counter[Any](), set[Any]()
        if per_group is not None:
            taken.update(_Listed(self, {"allowed": begin}).labels.tolist())
            full = {label for label in taken if taken[label] >= per_group}
        scores = [inf if traits.larger_is_further else -inf] * (len(ids) - len(before))
        done = not ids
        while not done and len(scores) < k:
            parts, _ = self._ask("search_with_rows", "search_furthest_from", _as_set(rows), {
                "k": _PROPOSED, "exclude": [np.array(ids, begin.dtype)],
                "only": _without(only, full)})
            done = True
            for id, row, key, label in islice(_picks(self._few_rows(), parts, full),
                                              k - len(scores)):
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
                taken[label] += 1
                if taken[label] == per_group:
                    full.add(label)
        with np.errstate(over="ignore"):
            return Selection(np.array(ids[len(before) :], begin.dtype),
                             np.array(scores).astype(np.float32))

    @hinted
    def select_spaced(self, scores: npt.ArrayLike, k: int | None = None, *,
                      radius: float | None = None, per_group: int | None = None,
                      exclude: Exclude | None = None, allowed: Ids | None = None,
                      groups: LabelsLike | None = None, outside_groups: LabelsLike | None = None,
                      return_dropped: bool = False) -> Spaced:
        """Choose the best-scored rows of which no two are nearer than a radius; see
        `farann.Index.select_spaced`. Scores are in the order of `ids`.

        Shards are asked twice for each 1,024 rows that are considered.
        """
        # An index without rows checks all but the scores.
        limit = self._few_rows().select_spaced([], k, radius=radius, per_group=per_group,
                                               return_dropped=return_dropped).radius
        self._check_groups(per_group)
        rows = _Listed(self, {})
        values = checks.to_one_each("scores", scores, len(rows.ids), ONE_A_ROW)[rows.places]
        only = self._to_filters(exclude=exclude, allowed=allowed, groups=groups,
                                outside_groups=outside_groups)
        order = np.argsort(-values, kind="stable")
        if only:
            chosen = rows.numbers_of(_Listed(self, only).ids)
            order = order[np.isin(order, chosen)]
        larger_is_further = self._traits.larger_is_further

        def nearer(radius: float, some: Int64Array, others: Int64Array,
                   most: int) -> tuple[Int64Array, Int64Array]:
            hits, _ = rows.near(rows.ids[some], inside(radius, larger_is_further), most,
                                {"allowed": rows.ids[others]})
            return hits.offsets, hits.ids

        def best(some: Int64Array, others: Int64Array, nearest: bool) -> Float32Array:
            search = self.search_nearest if nearest else self.search_furthest
            hits: Hits = search(ids=rows.ids[some], k=1, allowed=rows.ids[others])
            return hits.scores[:, 0]

        ranked = Ranked(
            order=order, n_rows=len(rows.ids), larger_is_further=larger_is_further,
            groups=None if per_group is None else np.unique(rows.labels, return_inverse=True)[1],
            per_group=per_group, nearer=nearer, best=best)
        limit, picks = ranked.select(limit, k)
        return Spaced(rows.ids[picks], values[picks], limit, *(
            rows.ids[some] for some in (ranked.dropped(limit, picks) if return_dropped else ())))

    @hinted
    def pairs_within(self, radius: float, *, limit: int = 10_000_000,
                     exclude: Exclude | None = None, allowed: Ids | None = None,
                     groups: LabelsLike | None = None,
                     outside_groups: LabelsLike | None = None) -> Pairs:
        """Find all pairs of rows within a radius of each other; see `farann.Index.pairs_within`.

        Shards are asked once for each 4,096 rows. `limit` is for the pairs of all shards.
        """
        self._few_rows().pairs_within(radius, limit=limit)  # checks these
        only = self._to_filters(exclude=exclude, allowed=allowed, groups=groups,
                                outside_groups=outside_groups)
        rows = _Listed(self, only)
        pairs = joined(np.arange(len(rows.ids)), lambda some, most: rows.near(
            rows.ids[some], radius, most, only), float(radius), limit, False)
        return Pairs(rows.ids[pairs.ids], pairs.scores)

    @property
    def ids(self) -> IdArray:
        """Ids of all rows, shard after shard: int64, or objects if ids are strings."""
        return np.concatenate([ids for ids, *_ in self._ask("listed", {})[0]])

    def _check_groups(self, per_group: int | None) -> None:
        if per_group is not None and not self.manifest.grouped:
            raise ValueError("per_group: the index has no groups; give them to build, as "
                             "group_column=")

    def _without_lonely(self, only: dict[str, Any], share: float, before: IdArray,
                        start: Any) -> dict[str, Any]:
        """Filters that leave out a share of the rows, too, the loneliest."""
        rows = _Listed(self, only)
        numbers = np.flatnonzero(~np.isin(rows.ids, before))
        n_out = n_left_out(share, len(numbers))
        if n_out < 1:
            return only
        sample = self.reconstruct(rows.ids[numbers[sample_of(len(numbers))]])
        kept = self._to_ids("start", [] if start is None or (
            isinstance(start, str) and start == "centroid") else [start])
        centers = centers_of(sample, self._traits, self._few_rows().isa)
        parts, _ = self._ask("search", "search_furthest_from", centers[np.newaxis], {
            "k": n_out, "only": _without_ids(only, np.append(before, kept))})
        ids, keys = (np.concatenate([getattr(one, name)[0][one.found[0]] for one in parts])
                     for name in ("ids", "keys"))
        order = np.lexsort((rows.numbers_of(ids), -keys))
        return _without_ids(only, ids[order[:n_out]])

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


class _Listed:
    """Rows of all shards by their numbers, which order ties: ids, groups, places in `ids`."""

    def __init__(self, cluster: Selecting, only: dict[str, Any]) -> None:
        self.cluster = cluster
        ids, orders, labels = map(
            np.concatenate, zip(*cluster._ask("listed", only)[0], strict=True))
        self.places = np.argsort(orders)
        self.ids, self.labels = ids[self.places], labels[self.places]
        strings = self.ids.tolist() if self.ids.dtype == object else []
        self._by_id = dict(zip(strings, range(len(strings)), strict=True))

    def numbers_of(self, ids: IdArray) -> Int64Array:
        """Numbers of ids; ShardError for one that isn't listed."""
        if self.ids.dtype == object:
            numbers = np.fromiter((self._by_id.get(id, -1) for id in ids.tolist()), np.int64)
        else:
            numbers = np.searchsorted(self.ids, ids)
            known = self.ids[np.minimum(numbers, len(self.ids) - 1)] == ids
            numbers[~known] = -1
        if (numbers < 0).any():
            raise ShardError("rows were added while others were compared; ask again")
        return numbers

    def near(self, ids: IdArray, radius: float, most: int,
             only: dict[str, Any]) -> tuple[RangeHits, bool]:
        """Rows within a radius of some rows, by numbers, and whether a search stopped at `most`, of
        which each shard has its part."""
        if most:
            most = max(most // len(self.cluster.manifest.shards), 1)
        parts, _ = self.cluster._ask("near", self.cluster.reconstruct(ids), radius, most, only)
        hits = merge([hits for hits, _ in parts])
        hits.ids = self.numbers_of(hits.ids)
        return hits, any(cut for _, cut in parts)


def _without_ids(only: dict[str, Any], ids: IdArray) -> dict[str, Any]:
    """Filters that leave out some ids, too."""
    return {**only, "exclude": np.concatenate([
        np.array(list(only.get("exclude", [])), ids.dtype), ids])}


def _without(only: dict[str, Any], full: set[Any]) -> dict[str, Any]:
    """Filters that leave some groups out, too."""
    if not full:
        return only
    if "groups" in only:
        left = [label for label in to_label_array(only["groups"]).tolist() if label not in full]
        return {**only, "groups": left}
    return {**only, "outside_groups": [
        *to_label_array(only.get("outside_groups", [])).tolist(), *full]}


def _picks(index: Index, parts: list[Any],
           full: set[Any]) -> Iterator[tuple[Any, Float32Array, float, Any]]:
    """Ids, rows, keys and groups of the best proposed rows, until another row may be next.

    Rows of groups that are full by then are passed over."""
    ids, keys, orders, rows, labels = _joined(parts)
    # The last that a shard proposes, if it proposes all that it was asked for.
    last = [(-hits.keys[0, -1], order[-1]) for hits, order, *_ in parts if hits.found.all()]
    index.add(rows)
    while len(ids) and (key := float(keys.max())) > -inf:
        best = int(np.lexsort((orders, -keys))[0])
        if any((-key, orders[best]) > one for one in last):
            return
        yield ids[best], rows[best], key, labels[best]
        hits: Any = index.search_furthest_from(_as_set([rows[best]]), len(ids), return_keys=True)
        keys[hits.ids[0]] = np.minimum(keys[hits.ids[0]], hits.keys[0])  # over all picks
        keys[best] = -inf
        if labels[best] in full:
            keys[labels == labels[best]] = -inf


def _joined(parts: list[Any]) -> Any:
    """Ids, keys, orders, rows and groups that shards found, concatenated."""
    columns = [(hits.ids[hits.found], hits.keys[hits.found], *others) for hits, *others in parts]
    return map(np.concatenate, zip(*columns, strict=True))


def _as_set(rows: list[Float32Array]) -> Float32Array:
    """Two members at least: keys of a set of one aren't divided by its norm under cosine."""
    return np.stack(rows * 2 if len(rows) == 1 else rows)[np.newaxis]
