"""Questions to all shards at once, merged exactly. Knows nothing of Ray: how shards are asked is
left to whoever inherits this."""

from __future__ import annotations

import uuid
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from farann._types import BoolArray, Float32Array
from farann.adapters.ray.asking import Partial, check_found, taken, to_label_array
from farann.adapters.ray.selecting import Selecting
from farann.adapters.ray.storage import Manifest, ShardError, Storage
from farann.adapters.ray.tuning import SAMPLE, SharedTuning, SharedTunings
from farann.contract import checks
from farann.contract.stop_rule import to_limits
from farann.merging import merge, merge_beyond
from farann.results import BeyondHits, Hits
from farann.store import asked_ids


class Gathering(Selecting):
    """Searches over all shards of a sharded index.

    Answers are those of one `farann.Index` over all rows, bit for bit, and raise what its searches
    raise. A question is answered whole, or is a `ShardError` that names the shards that couldn't be
    asked; with ``allow_partial=True`` it is a `Partial`.
    """

    def __init__(self, storage: Storage, manifest: Manifest, n_changes: int) -> None:
        super().__init__(storage, manifest, n_changes)
        self._tunings = SharedTunings(storage)

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
        options = self._to_filters(exclude=exclude, allowed=allowed, within=within, outside=outside)
        parts, missing = self._ask("search", "search_beyond", self._vectors("queries", queries),
                                   {"radius": radius, **options}, allow_partial=allow_partial)
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
        vectors, wanted = self._vectors("queries", queries), self._to_ids("ids", ids)
        scores = np.full((len(wanted), *vectors.shape[:-1]), np.nan, np.float32)
        missing = self._fill(scores, wanted, "score", vectors, allow_partial=allow_partial)
        scores = np.ascontiguousarray(scores.T)
        return Partial(scores, missing) if allow_partial else scores

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
            self._storage.write_rows(SAMPLE, sample)
            self._tunings.forget()
            self._forget_tuning()
        made = self._tunings.of(kind, k, partial(self._merged, kind, k), anew=True)
        if made is None:
            raise ValueError("queries: expected a sample, as the index was built without one")
        return made

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
            asked_ids.new(ids, len(vectors))  # which says what is wrong with these
            new = self._to_ids("ids", ids)
            used = new[self._holds(new)]
            if len(used):
                raise ValueError(f"ids: expected ids that are not in use, got {used[0]!r}")
        labels = None if groups is None else to_label_array(groups)
        if (0 if labels is None else len(labels)) != len(vectors) * self.manifest.grouped:
            raise ValueError(f"groups: expected {len(vectors)} labels, one a row"
                             if self.manifest.grouped else
                             "groups: expected none, as the index was built without")
        return self._record(new, vectors, labels)

    def remove(self, ids: Any) -> None:
        """Remove rows, whichever shards they are in; KeyError if an id is in none, and nothing is
        removed then."""
        wanted = np.unique(self._to_ids("ids", ids))
        check_found(wanted, self._holds(wanted))
        self._record(wanted, None, None)

    def _record(self, ids: npt.NDArray[Any] | None, rows: Float32Array | None,
                groups: Any) -> npt.NDArray[Any]:
        # The token tells a call that is sent again, as its worker died, from another one.
        args = ids, rows, groups, uuid.uuid4().hex
        [(at, new)], _ = taken(self._send("record", args, [len(self.manifest.shards)]))
        self._at = max(self._at, at)
        return np.array(new)

    def _holds(self, ids: npt.NDArray[Any]) -> BoolArray:
        held: BoolArray = np.logical_or.reduce(self._ask("holds", ids)[0])
        return held

    # ---- shared by the above ----

    def _search(self, kind: str, queries: npt.ArrayLike, allow_partial: bool, k: Any, recall: Any,
                epsilon: Any, budget: Any, **filters: Any) -> Any:
        k = checks.to_int("k", k, 1)
        limits = to_limits(recall, epsilon, budget)
        options = {"k": k, **self._to_filters(**filters, **(limits._asdict() if limits else {}))}
        vectors = self._vectors("queries", queries)
        if "recall" in options:
            options["recall"] = self._recall_of_shards(kind, k, options["recall"], allow_partial)
        parts, missing = self._ask("search", kind, vectors, options, allow_partial=allow_partial)
        hits = merge(parts, k)
        return Partial(hits, missing) if allow_partial else hits

    def _recall_of_shards(self, kind: str, k: int, recall: float, allow_partial: bool) -> float:
        """What to ask of each shard for a recall of the merged answer."""
        tuning = None
        try:
            if recall < 1.0:
                tuning = self._tunings.of(kind, k, partial(self._merged, kind, k))
        except ShardError:
            if not allow_partial:
                raise  # or of each shard the recall itself, which is enough, and more than that
        return recall if tuning is None else tuning.asked_for(recall)

    def _merged(self, kind: str, k: int, queries: Float32Array, recall: float | None) -> Hits:
        """The answer of all shards, of which each is asked for a recall."""
        options = {"k": k} if recall is None else {"k": k, "recall": recall}
        return merge(self._ask("search", kind, queries, options)[0], k)

    def _forget_tuning(self) -> None:
        """Have all workers measure anew, as there is another sample."""
        self._ask("forget_tuning")
