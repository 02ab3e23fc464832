"""Questions to all shards at once, merged exactly. Knows nothing of Ray: how shards are asked is
left to whoever inherits this."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farann._types import Float32Array
from farann.adapters.ray import selecting
from farann.adapters.ray.arguments import (
    check_found,
    to_filters,
    to_ids,
    to_label_array,
)
from farann.adapters.ray.manifest import Manifest, ShardError
from farann.adapters.ray.shared_tuning import SharedTuning, SharedTunings
from farann.adapters.ray.storage import Storage
from farann.contract import checks
from farann.contract.metric_traits import traits_of
from farann.contract.stop_rule import to_limits
from farann.diverse.selection import Selection
from farann.merging import merge, merge_beyond
from farann.results import BeyondHits, Hits, with_keys
from farann.store import asked_ids


class Partial(NamedTuple):
    """An answer of those shards that could be asked, where ``allow_partial=True``.

    Attributes
    ----------
    answer : Hits, BeyondHits or array
        Exact over the rows of these shards.
    missing : tuple of str
        The shards that are missing in it; empty where the answer is whole.
    """

    answer: Any
    missing: tuple[str, ...]


class Lost(NamedTuple):
    """In the place of what a shard answers: it can't be asked."""

    shard: str
    error: BaseException

    def told(self) -> str:
        """What a message says of it; errors of shards name themselves."""
        return str(self.error) if isinstance(self.error, ShardError) else (
            f"{self.shard}: {self.error}")


class Gathering:
    """Searches over all shards of a sharded index.

    Answers are those of one `farann.Index` over all rows, bit for bit, and raise what its searches
    raise. A question is answered whole, or is a `ShardError` that names the shards that couldn't be
    asked; with ``allow_partial=True`` it is a `Partial`.
    """

    def __init__(self, storage: Storage, manifest: Manifest, n_changes: int) -> None:
        self._storage, self.manifest = storage, manifest
        self._tunings = SharedTunings(storage)
        self._at = n_changes  # changes that answers must know of
        self._strings = isinstance(manifest.shards[0].first_id, str)  # as ids

    # ---- how shards are asked ----

    def _send(self, method: str, args: tuple[Any, ...], shards: Sequence[int]) -> list[Any]:
        """What a method of each shard returns, or `Lost`; errors that it raises are raised."""
        raise NotImplementedError

    def _ask(self, method: str, *args: Any,
             allow_partial: bool = False) -> tuple[list[Any], tuple[str, ...]]:
        """What all shards answer, but for those that are missing, and which these are."""
        n = len(self.manifest.shards)
        answers = self._send(method, args, range(n + (self._at > 0)))
        lost = [answer for answer in answers if isinstance(answer, Lost)]
        if lost and (not allow_partial or len(lost) == len(answers)):
            # Of what all shards read, each says the same.
            told = dict.fromkeys(answer.told() for answer in lost)
            raise ShardError("; ".join(told)) from lost[0].error
        return ([answer for answer in answers if not isinstance(answer, Lost)],
                tuple(answer.shard for answer in lost))

    # ---- searches ----

    def search_furthest(self, queries: npt.ArrayLike, k: int = 10, *, recall: float | None = None,
                        epsilon: float | None = None, budget: int | None = None,
                        exclude: Any = None, allowed: Any = None, within: Any = None,
                        outside: Any = None, allow_partial: bool = False) -> Any:
        """The k rows furthest from each query, of all shards; see `farann.Index.search_furthest`.

        Parameters
        ----------
        queries : array_like (n_queries, dim) or (dim,)
        k : int
        recall, epsilon : float, optional
            As there. What to ask of each shard for a `recall` of the merged answer is measured
            once, by the same queries for all: see `tune`.
        budget : int, optional
            Rows scanned for a query in all shards together, of each by its share of the rows.
        exclude, allowed : optional
            Ids as there; no mask.
        within, outside : optional
            Labels of groups as there.
        allow_partial : bool
            Answer from the other shards if some can't be asked.

        Returns
        -------
        Hits, or Partial
            With keys.

        Raises
        ------
        ShardError
            If shards can't be asked; it names them.
        """
        return self._search("search_furthest", queries, allow_partial, k=k, recall=recall,
                            epsilon=epsilon, budget=budget, exclude=exclude, allowed=allowed,
                            within=within, outside=outside)

    def search_nearest(self, queries: npt.ArrayLike, k: int = 10, *, recall: float | None = None,
                       epsilon: float | None = None, budget: int | None = None,
                       exclude: Any = None, allowed: Any = None, within: Any = None,
                       outside: Any = None, allow_partial: bool = False) -> Any:
        """The k rows nearest to each query; all else as in `search_furthest`."""
        return self._search("search_nearest", queries, allow_partial, k=k, recall=recall,
                            epsilon=epsilon, budget=budget, exclude=exclude, allowed=allowed,
                            within=within, outside=outside)

    def search_beyond(self, queries: npt.ArrayLike, radius: npt.ArrayLike, *, exclude: Any = None,
                      allowed: Any = None, within: Any = None, outside: Any = None,
                      allow_partial: bool = False) -> Any:
        """Every row further from a query than a radius; see `farann.Index.search_beyond`.

        Returns
        -------
        BeyondHits, or Partial
            With keys.
        """
        vectors, _ = self._checked(queries)
        radii = checks.to_radii("radius", radius, len(vectors))
        options = {"radius": radii, **to_filters(
            self._strings, exclude=exclude, allowed=allowed, within=within, outside=outside)}
        parts, missing = self._ask("search", "search_beyond", vectors, options,
                                   allow_partial=allow_partial)
        found: BeyondHits = merge_beyond(parts)
        return Partial(found, missing) if allow_partial else found

    def score(self, queries: npt.ArrayLike, ids: Any, *, allow_partial: bool = False) -> Any:
        """Scores of given rows for given queries; see `farann.Index.score`.

        Returns
        -------
        float32 (n_queries, n_ids), or (n_ids,) for a single query; or Partial
            NaN of rows that may be in shards that are missing.

        Raises
        ------
        KeyError
            If an id is in no shard.
        """
        vectors, single = self._checked(queries)
        wanted = to_ids("ids", ids, self._strings)
        answers, missing = self._ask("score", vectors, wanted, allow_partial=allow_partial)
        scores = np.full((len(vectors), len(wanted)), np.nan, np.float32)
        found = np.zeros(len(wanted), np.bool_)
        for here, part in answers:
            scores[:, here], found = part, found | here
        if not missing:
            check_found(wanted, found)
        scores = scores[0] if single else scores
        return Partial(scores, missing) if allow_partial else scores

    def reconstruct(self, ids: Any) -> Float32Array:
        """The stored rows of some ids, (n, dim) float32; KeyError if one is in no shard."""
        wanted = to_ids("ids", ids, self._strings)
        rows = np.empty((len(wanted), self.manifest.dim), np.float32)
        found = np.zeros(len(wanted), np.bool_)
        for here, part in self._ask("reconstruct", wanted)[0]:
            rows[here], found = part, found | here
        check_found(wanted, found)
        return rows

    def search_mmr(self, queries: npt.ArrayLike, k: int = 10, *, diversity: float = 0.5,
                   candidates: int | None = None, exclude: Any = None,
                   allowed: Any = None) -> Hits:
        """Rows that are like the query and unlike each other; see `farann.Index.search_mmr`.

        With `candidates` shards are asked once, otherwise once for each of the k
        rows.
        """
        k = checks.to_int("k", k, 1)
        if traits_of(self.manifest.metric).adds_squared_norm:
            raise ValueError("search_mmr: expected an index with metric='dot' or 'cosine', "
                             f"got {self.manifest.metric!r}")
        diversity = checks.to_float("diversity", diversity)
        if not 0.0 <= diversity <= 1.0:
            raise ValueError(f"diversity: expected a number from 0 to 1, got {diversity}")
        vectors, single = self._checked(queries)
        filters = to_filters(self._strings, exclude=exclude, allowed=allowed)
        if candidates is None:
            hits = selecting.mmr(self._ask, vectors, k, diversity, filters, self._strings)
        else:
            hits = selecting.mmr_of_nearest(
                self._ask, self.manifest, vectors, k, diversity,
                {"k": checks.to_int("candidates", candidates, 1), **filters}, self._strings)
        return Hits(hits.scores[0], hits.ids[0]) if single else hits

    def select_diverse(self, k: int, *, start: Any = None, first: Any = None,
                       radius: float | None = None, allowed: Any = None) -> Selection:
        """Choose rows that cover all others, each the one furthest from those before; see
        `farann.Index.select_diverse`.

        Given `start`, an id, or `first`, the picks are those of one index over all rows.
        By default, or with "centroid", the first pick is the row furthest from the mean, which is
        the sum of those of the shards: it may be another one than that of one index where two are
        equally far but for rounding.
        """
        k = checks.to_int("k", k, 1)
        limit = checks.to_radius(
            radius, distance=traits_of(self.manifest.metric).adds_squared_norm)
        if start is not None and first is not None:
            raise ValueError("start: expected at most one of start and first, got both")
        before = to_ids("first", [] if first is None else first, self._strings)
        begin = None
        if start is not None and not (isinstance(start, str) and start == "centroid"):
            begin = to_ids("start", [start], self._strings)
        choice = selecting.Choice(k, begin, before, limit,
                                  to_filters(self._strings, allowed=allowed))
        return selecting.select(self._ask, self.reconstruct, self.manifest, choice)

    def tune(self, queries: npt.ArrayLike | None = None, k: int = 10, *,
             nearest: bool = False) -> SharedTuning:
        """Measure what to ask of each shard for a recall of the merged answer.

        The first search with ``recall=`` does it for its k. The table is kept in the folder, and
        all clients ask by it.

        Parameters
        ----------
        queries : array_like (n, dim), optional
            A sample of real queries, which takes the place of the one that there is, for all
            shards and from now on. Other clients know of it after `refresh`.
        k : int
        nearest : bool
            Measure for `search_nearest`.

        Returns
        -------
        SharedTuning

        Raises
        ------
        ValueError
            For queries that searches would refuse, or if there is no sample and none is given.
        ShardError
            If shards can't be asked; it names them.
        """
        k = checks.to_int("k", k, 1)
        kind = "search_nearest" if nearest else "search_furthest"
        if queries is not None:
            sample = self._vectors("queries", queries, single=False)
            if len(sample) == 0:
                raise ValueError("queries: expected at least one")
            self._tunings.replace_sample(sample)
            self._forget_tuning()
        elif not self._tunings.has_sample():
            raise ValueError("queries: expected a sample, as the index was built without one")
        return self._tunings.measure(kind, k, partial(self._merged, kind, k))

    # ---- changes ----

    def add(self, rows: npt.ArrayLike, ids: Any = None,
            groups: Any = None) -> npt.NDArray[Any]:
        """Add rows, to a shard that grows; the next search finds them.

        They are written to the folder of the index before this returns, and read from there
        whenever that shard is restarted. When they have become many, build the index anew.

        Parameters
        ----------
        rows : array_like (n, dim)
        ids : array_like of int or str (n,), optional
            None in use; by default counting goes on after the largest integer.
        groups : array_like of int or str (n,), optional
            The label of each row's group, where the rows of the index have groups.

        Returns
        -------
        int64 or object (n,)
            The rows' ids.

        Raises
        ------
        ValueError, TypeError, OSError, ShardError
            For rows or ids that `farann.Index.add` would refuse, or if they can't be written.
            Nothing is added then.
        """
        vectors = self._vectors("rows", rows, single=False)
        new = None
        if ids is None and self._strings:
            raise ValueError("ids: expected a string for each row, as the index has string ids, "
                             "got none")
        if ids is not None:
            asked_ids.new(ids, len(vectors))
            new = to_ids("ids", ids, self._strings)
            used = new[self._holds(new)]
            if len(used):
                raise ValueError(f"ids: expected ids that are not in use, got {used[0]!r}")
        labels = None if groups is None else to_label_array(groups)
        if (labels is not None) != self.manifest.grouped or (
                labels is not None and len(labels) != len(vectors)):
            raise ValueError(f"groups: expected {len(vectors)} labels, one a row"
                             if self.manifest.grouped else
                             "groups: expected none, as the index was built without")
        return self._record(new, vectors, labels)

    def remove(self, ids: Any) -> None:
        """Remove rows, whichever shards they are in; KeyError if an id is in none, and nothing is
        removed then."""
        wanted = np.unique(to_ids("ids", ids, self._strings))
        check_found(wanted, self._holds(wanted))
        self._record(wanted, None, None)

    def _record(self, ids: npt.NDArray[Any] | None, rows: Float32Array | None,
                groups: Any) -> npt.NDArray[Any]:
        growing = len(self.manifest.shards)
        # The token tells a call that is sent again, as its worker died, from another one.
        answer, = self._send("record", (ids, rows, groups, uuid.uuid4().hex), [growing])
        if isinstance(answer, Lost):
            raise ShardError(answer.told()) from answer.error
        at, new = answer
        self._at = max(self._at, at)
        return np.array(new)

    def _holds(self, ids: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        held: npt.NDArray[np.bool_] = np.logical_or.reduce(self._ask("holds", ids)[0])
        return held

    # ---- shared by the above ----

    def _search(self, kind: str, queries: npt.ArrayLike, allow_partial: bool,
                **options: Any) -> Any:
        k = checks.to_int("k", options["k"], 1)
        to_limits(options["recall"], options["epsilon"], options["budget"])
        vectors, single = self._checked(queries)
        filters = to_filters(self._strings, **{name: options.pop(name) for name in
                                ("exclude", "allowed", "within", "outside")})
        chosen = {name: value for name, value in options.items() if value is not None}
        if "recall" in chosen:
            chosen["recall"] = self._recall_of_shards(kind, k, chosen["recall"], allow_partial)
        parts, missing = self._ask("search", kind, vectors, {**chosen, "k": k, **filters},
                                   allow_partial=allow_partial)
        hits = merge(parts, k)
        if single and hits.keys is not None:
            hits = with_keys(Hits(hits.scores[0], hits.ids[0]), hits.keys[0])
        return Partial(hits, missing) if allow_partial else hits

    def _recall_of_shards(self, kind: str, k: int, recall: Any, allow_partial: bool) -> float:
        """What to ask of each shard for a recall of the merged answer."""
        wanted = checks.to_float("recall", recall)
        if wanted == 1.0:
            return wanted
        try:
            tuning = self._tunings.of(kind, k, partial(self._merged, kind, k))
        except ShardError:
            if not allow_partial:
                raise
            return wanted  # of each shard it is enough, and more than that
        return wanted if tuning is None else tuning.asked_for(wanted)

    def _merged(self, kind: str, k: int, queries: Float32Array, recall: float | None) -> Hits:
        """The answer of all shards, of which each is asked for a recall."""
        options = {"k": k} if recall is None else {"k": k, "recall": recall}
        return merge(self._ask("search", kind, queries, options)[0], k)

    def _forget_tuning(self) -> None:
        """Have all workers measure anew, as there is another sample."""
        self._ask("forget_tuning")

    def _vectors(self, name: str, given: npt.ArrayLike, *, single: bool) -> Float32Array:
        return checks.to_vectors(name, given, self.manifest.dim,
                                 normalized=traits_of(self.manifest.metric).normalized,
                                 single=single)

    def _checked(self, queries: npt.ArrayLike) -> tuple[Float32Array, bool]:
        array = checks.to_array("queries", queries)
        return self._vectors("queries", array, single=True), array.ndim == 1
