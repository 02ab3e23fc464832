"""Questions to all shards at once, merged exactly; a subclass defines how shards are asked."""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from itertools import zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt

from farann._types import BoolArray, Exclude, Float32Array, IdArray, Ids, LabelsLike
from farann.adapters.ray.distinct import repeated
from farann.adapters.ray.storage import Manifest, ShardError, SharedTuning, SharedTunings, Storage
from farann.contract import checks
from farann.contract.index_spec import traits_of
from farann.contract.names import hinted
from farann.contract.stop_rule import to_limits
from farann.contract.strings import texts_of
from farann.extending import Filter, check_new_ids, check_one, depth, to_labels, to_sets
from farann.results import Hits, Result, merge


class Partial(Result):
    """An answer of those shards that could be asked, where ``allow_partial=True``.

    Attributes
    ----------
    answer : Hits, RangeHits or array
        Exact over the rows of these shards.
    missing : tuple of str
        The shards that are missing in it; empty where the answer is whole.
    """

    __slots__ = ("answer", "missing")

    def __init__(self, answer: Any, missing: tuple[str, ...]) -> None:
        self.answer, self.missing = answer, missing


class Gathering(ABC):
    """Searches over all shards: an answer is whole, a `ShardError`, or a `Partial` if allowed."""

    def __init__(self, storage: Storage, manifest: Manifest, n_changes: int) -> None:
        self._storage, self.manifest = storage, manifest
        self._tunings = SharedTunings(storage, self._merged)
        self._at = n_changes  # changes that answers must know of
        self._traits = traits_of(manifest.metric)
        self._strings = isinstance(manifest.shards[0].first_id, str)  # as ids

    @abstractmethod
    def _send(self, method: str, args: tuple[Any, ...], shards: Sequence[int]) -> list[Any]:
        """Call a method of each shard: results or errors, `ShardError` if it can't be reached."""

    def check_distinct(self) -> None:
        """Raise a ShardError if two shards have an id in common, if the build didn't compare."""
        if self.manifest.is_distinct():
            return
        shards = range(len(self.manifest.shards))
        files, _ = self._ask("keys", shards=shards)
        if match := repeated([partial(_part, file) for file in files]):
            key, twice = match
            names = " and ".join(self.manifest.name_of(shard) for shard in twice)
            raise ShardError(f"{names} of {self._storage.uri} have ids in common, so the rows of "
                             "these would come twice; build the index again from rows whose ids "
                             "differ")

    def _ask(self, method: str, *args: Any, allow_partial: bool = False,
             shards: Sequence[int] | None = None) -> tuple[list[Any], tuple[str, ...]]:
        """Call a method of all shards; return their answers and the names of missing shards."""
        if shards is None:
            shards = range(len(self.manifest.shards) + (self._at > 0))
        answers = self._send(method, args, shards)
        for error in answers:
            if isinstance(error, Exception) and not isinstance(error, ShardError):
                raise error
        lost = {shard: answer for shard, answer in zip(shards, answers, strict=True)
                if isinstance(answer, ShardError)}
        if lost and (not allow_partial or len(lost) == len(answers)):
            told = dict.fromkeys(map(str, lost.values()))  # once, of a file that all of them read
            raise ShardError("; ".join(told)) from next(iter(lost.values()))
        return ([answer for answer in answers if not isinstance(answer, ShardError)],
                tuple(map(self.manifest.name_of, lost)))

    @hinted
    def search_furthest(self, queries: npt.ArrayLike | None = None, k: int = 10, *, ids: Any = None,
                        recall: float | None = None, epsilon: float | None = None,
                        budget: int | None = None, seconds: float | None = None,
                        exclude: Exclude | None = None, allowed: Ids | None = None,
                        groups: LabelsLike | None = None, outside_groups: LabelsLike | None = None,
                        per_group: int | None = None, return_stats: bool = False,
                        allow_partial: bool = False) -> Any:
        """The k rows furthest from each query, of all shards; see `farann.Index.search_furthest`.

        Parameters
        ----------
        queries : array_like (n_queries, dim) or (dim,)
        k : int
        ids : int, str or array_like of these (n_queries,), optional
            In the place of `queries`: rows by their ids, each left out of its own answer.
        recall, epsilon : float, optional
            As there. What to ask of each shard for a `recall` of the merged answer is measured
            once, by the same queries for all: see `tune`.
        budget : int, optional
            Rows scanned for a query in all shards together, of each by its share of the rows.
        seconds, exclude, allowed, groups, outside_groups, per_group, return_stats : optional
            As there, but `allowed` takes ids alone. Shards search at the same time.
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
        return _search(kind="search_furthest", **locals())

    @hinted
    def search_nearest(self, queries: npt.ArrayLike | None = None, k: int = 10, *, ids: Any = None,
                       beyond: npt.ArrayLike | None = None, recall: float | None = None,
                       epsilon: float | None = None, budget: int | None = None,
                       seconds: float | None = None, exclude: Exclude | None = None,
                       allowed: Ids | None = None, groups: LabelsLike | None = None,
                       outside_groups: LabelsLike | None = None, per_group: int | None = None,
                       return_stats: bool = False, allow_partial: bool = False) -> Any:
        """The k rows nearest to each query; all else as in `search_furthest`."""
        return _search(kind="search_nearest", **locals())

    @hinted
    def search_contrast(self, likes: Any = None, dislikes: Any = None, k: int = 10, *,
                        like_ids: Any = None, dislike_ids: Any = None, weight: float = 0.2,
                        likes_by: str = "mean", recall: float | None = None,
                        epsilon: float | None = None, budget: int | None = None,
                        seconds: float | None = None, exclude: Exclude | None = None,
                        allowed: Ids | None = None, groups: LabelsLike | None = None,
                        outside_groups: LabelsLike | None = None, per_group: int | None = None,
                        return_stats: bool = False, allow_partial: bool = False) -> Any:
        """The k rows like some and unlike others; see `farann.Index.search_contrast`.

        Returns
        -------
        Hits, or Partial
            With keys.
        """
        to_limits(recall, epsilon, budget, seconds)
        own: list[Any] = [[]]
        sides = {"likes": likes, "dislikes": dislikes}
        for name, ids in (("likes", like_ids), ("dislikes", dislike_ids)):
            if ids is None:
                continue
            check_one(name, sides[name], ids, f"{name[:-1]}_ids")
            several = depth(ids, 1) > 1
            lists: list[Any] = [self._to_ids(f"{name[:-1]}_ids", one)
                                for one in (ids if several else [ids])]
            rows = [self.reconstruct(one) for one in lists]
            sides[name] = rows if several else rows[0]
            n = max(len(own), len(lists))  # where there are fewer, they are refused by a shard
            both = zip_longest(own * (n // len(own)), lists * (n // len(lists)), fillvalue=())
            own = [[*some, *others] for some, others in both]
        if own != [[]]:
            exclude = _excluding(exclude, own)
        k = checks.to_int("k", k, 1)
        options = self._to_filters(k=k, dislikes=sides["dislikes"], weight=weight,
                                   likes_by=likes_by, epsilon=epsilon, budget=budget,
                                   seconds=seconds, exclude=exclude, allowed=allowed,
                                   groups=groups, outside_groups=outside_groups,
                                   per_group=per_group, return_stats=return_stats)
        parts, missing = self._ask("search", "search_contrast", sides["likes"], options,
                                   allow_partial=allow_partial)
        hits = merge(parts, k, per_group=per_group)
        return Partial(hits, missing) if allow_partial else hits

    @hinted
    def search_beyond(self, queries: npt.ArrayLike | None = None, *, radius: npt.ArrayLike,
                      ids: Any = None, exclude: Exclude | None = None, allowed: Ids | None = None,
                      groups: LabelsLike | None = None, outside_groups: LabelsLike | None = None,
                      return_stats: bool = False, allow_partial: bool = False) -> Any:
        """Every row further from a query than a radius; see `farann.Index.search_beyond`.

        Returns
        -------
        RangeHits, or Partial
            With keys.
        """
        return _search(kind="search_beyond", **locals())

    @hinted
    def search_within(self, queries: npt.ArrayLike | None = None, *, radius: npt.ArrayLike,
                      ids: Any = None, exclude: Exclude | None = None, allowed: Ids | None = None,
                      groups: LabelsLike | None = None, outside_groups: LabelsLike | None = None,
                      return_stats: bool = False, allow_partial: bool = False) -> Any:
        """Every row no further from a query than a radius; all else as in `search_beyond`."""
        return _search(kind="search_within", **locals())

    @hinted
    def search_furthest_from(self, sets: Any = None, k: int = 10, *, ids: Any = None,
                             recall: float | None = None, epsilon: float | None = None,
                             budget: int | None = None, seconds: float | None = None,
                             exclude: Exclude | None = None, allowed: Ids | None = None,
                             groups: LabelsLike | None = None,
                             outside_groups: LabelsLike | None = None, per_group: int | None = None,
                             return_stats: bool = False, allow_partial: bool = False) -> Any:
        """The k rows furthest from the nearest member of each set; all else as in
        `search_furthest`. See `farann.Index.search_furthest_from`."""
        return _search(kind="search_furthest_from", **locals())

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

    def reconstruct(self, ids: Any) -> Float32Array:
        """The stored rows of some ids, (n, dim) float32; KeyError if one is in no shard."""
        wanted = self._to_ids("ids", ids)
        rows = np.empty((len(wanted), self.manifest.dim), np.float32)
        self._fill(rows, wanted, "reconstruct")
        return rows

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
            if len(sample := self._vectors("queries", queries, single=False)) == 0:
                raise ValueError("queries: expected at least one")
            self._tunings.replace_sample(sample)
            self._tell_all("forget_tuning")
        made = self._tunings.of(kind, k, anew=True)
        if made is None:
            raise ValueError("queries: expected a sample, as the index was built without one")
        return made

    def add(self, rows: npt.ArrayLike, ids: Any = None, groups: LabelsLike | None = None,
            replace: bool = False) -> IdArray:
        """Add rows, to a shard that grows, or replace rows; the next search finds them.

        They are written to the folder of the index before this returns, and read from there
        whenever that shard is restarted. When they have become many, build the index anew.

        Parameters
        ----------
        rows : array_like (n, dim)
        ids : array_like of int or str (n,), optional
            None in use, unless `replace` is true; by default counting goes on after the largest
            integer.
        groups : array_like of int or str (n,), optional
            The label of each row's group, where the rows of the index have groups.
        replace : bool
            True puts rows in the place of those with the same ids, each in its shard. A search
            beside it finds the old or the new row of each id.

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
        vectors, shards = self._vectors("rows", rows, single=False), None
        checks.check_flag("replace", replace)
        if ids is not None:
            check_new_ids(ids, len(vectors))  # which says what is wrong with these
            ids = self._to_ids("ids", ids)
            held = np.array(self._ask("holds", ids)[0])
            used = held.any(axis=0)
            if replace:
                shards = np.where(used, held.argmax(axis=0), len(self.manifest.shards))
            elif used.any():
                raise ValueError("ids: expected ids that are not in use, got "
                                 f"{ids[used][0]!r}; pass replace=True to replace rows")
        elif replace:
            raise ValueError("replace: expected the ids of the rows as well, got none; pass ids=")
        elif self._strings:
            raise ValueError("ids: expected a string for each row, as the index has string ids, "
                             "got none")
        labels = None if groups is None else to_label_array(groups)
        if (0 if labels is None else len(labels)) != len(vectors) * self.manifest.grouped:
            raise ValueError(f"groups: expected {len(vectors)} labels, one a row"
                             if self.manifest.grouped else
                             "groups: expected none, as the index was built without")
        return self._record(ids, vectors, labels, shards)

    def remove(self, ids: Any) -> None:
        """Remove rows, whichever shards they are in; KeyError if an id is in none, and nothing is
        removed then."""
        wanted = np.unique(self._to_ids("ids", ids))
        check_found(wanted, np.any(self._ask("holds", wanted)[0], axis=0))
        self._record(wanted, None, None)

    def _record(self, ids: Any, rows: Any, groups: Any, shards: Any = None) -> IdArray:
        # The token tells a call that is sent again, as its worker died, from another one.
        args = ids, rows, groups, uuid.uuid4().hex, shards
        [(at, new)], _ = self._ask("record", *args, shards=[len(self.manifest.shards)])
        self._at = max(self._at, at)
        return np.array(new)

    def _fill(self, places: Any, ids: IdArray, method: str, *args: Any,
              allow_partial: bool = False) -> tuple[str, ...]:
        """Fill places of ids from their shards; give shards that can't be asked. KeyError if
        an id is in none."""
        parts, missing = self._ask("of_ids", method, ids, *args, allow_partial=allow_partial)
        there = np.zeros(len(ids), np.bool_)
        for here, part in parts:
            places[here] = part.T if method == "score" else part
            there |= here
        if not missing:
            check_found(ids, there)
        return missing

    def _vectors(self, name: str, values: npt.ArrayLike, *, single: bool = True) -> Float32Array:
        """Vectors; where one may come alone it stays alone."""
        array = checks.to_array(name, values)
        vectors = checks.to_vectors(name, array, self.manifest.dim, single=single,
                                    normalized=self._traits.normalized)
        return vectors[0] if array.ndim == len(vectors) == 1 else vectors

    def _asked(self, queries: Any, ids: Any, exclude: Any) -> tuple[Float32Array, Any]:
        """Queries as vectors, or the rows of some ids, and ids to exclude: these rows, too."""
        check_one("queries", queries, ids)
        if ids is None:
            return self._vectors("queries", queries), exclude
        own = self._to_ids("ids", ids)
        rows = self.reconstruct(own)
        if checks.is_single_id(ids):
            return rows[0], _excluding(exclude, [own])
        return rows, _excluding(exclude, [[id] for id in own])

    def _asked_sets(self, sets: Any, ids: Any, exclude: Any) -> tuple[list[Float32Array], Any]:
        """Sets of vectors, or of the rows of some ids, and ids to exclude: these rows, too."""
        check_one("sets", sets, ids)
        if ids is None:
            checked = to_sets("sets", sets, self.manifest.dim, normalized=self._traits.normalized)
            return np.split(checked.members, checked.offsets[1:-1]), exclude
        if any(map(checks.is_single_id, ids)):
            raise ValueError(f"ids: expected a sequence of sets of ids, got {checks.shown(ids)}; "
                             "pass one set as [ids]")
        own = [self._to_ids(f"ids[{i}]", one) for i, one in enumerate(ids)]
        return [self.reconstruct(one) for one in own], _excluding(exclude, own)

    def _to_ids(self, name: str, ids: Any) -> IdArray:
        """Ids of the kind that the index has, as an array; one may come alone."""
        if not self._strings:
            return checks.to_ids(name, ids, single=True)
        ids = [ids] if isinstance(ids, str) else ids
        return np.array(texts_of(name, ids, padding=False), object)

    def _to_filters(self, **filters: Any) -> dict[str, Any]:
        """The filters that were given; refused where they can't be split by shard."""
        chosen = {name: value for name, value in filters.items()
                  if value is not None and value is not False
                  and not (name in ("exclude", "outside_groups") and checks.is_nothing(value))}
        if (allowed := chosen.get("allowed")) is not None:
            if isinstance(allowed, Filter):
                raise ValueError("allowed: expected ids, got a Filter, which belongs to one index")
            if np.asarray(allowed).dtype == np.bool_:
                raise ValueError("allowed: expected ids, got a mask, which is for the rows of one "
                                 "index; pass the ids that it marks")
            nothing = checks.is_nothing(allowed, padding=False)
            chosen["allowed"] = self._to_ids("allowed", [] if nothing else allowed)
        return chosen

    def _merged(self, kind: str, k: int, queries: Float32Array, recall: float) -> Hits:
        """The answer of all shards, of which each is asked for a recall."""
        options = {"k": k} if recall == 1.0 else {"k": k, "recall": recall}
        parts: list[Hits] = self._ask("search", kind, queries, options)[0]
        return merge(parts, k)

    def _tell_all(self, method: str) -> None:
        """Call a method of all workers; ShardError if one can't be asked."""
        self._ask(method)


def _search(self: Gathering, kind: str, ids: Any, allow_partial: bool,
            queries: Any = None, **args: Any) -> Any:
    """Search with limits and filters, None for those that aren't given."""
    to_limits(*map(args.get, ("recall", "epsilon", "budget", "seconds")))
    if "k" in args:
        args["k"] = k = checks.to_int("k", args["k"], 1)
    vectors: Any
    if "sets" in args or args.get("per_group") is not None:  # they are exact with a recall
        args["recall"] = None
    if "sets" in args:
        vectors, args["exclude"] = self._asked_sets(args.pop("sets"), ids, args["exclude"])
    else:
        vectors, args["exclude"] = self._asked(queries, ids, args["exclude"])
    options = self._to_filters(**args)
    if options.get("recall", 1.0) < 1.0:
        try:
            tuning = self._tunings.of(kind, k)
            options["recall"] = tuning.asked_for(options["recall"]) if tuning else options["recall"]
        except ShardError:
            if not allow_partial:  # where it may be, the recall itself is enough of each shard
                raise
    parts, missing = self._ask("search", kind, vectors, options, allow_partial=allow_partial)
    hits = merge(parts, args.get("k"), per_group=options.get("per_group"))
    return Partial(hits, missing) if allow_partial else hits


def _part(content: bytes, start: int, end: int) -> bytes:
    return content[start:end]


def _excluding(exclude: Any, own: list[Any]) -> Any:
    """Rows to exclude beside given ones, listed once for all queries, or for each."""
    if checks.is_nothing(exclude):
        exclude = []
    flat = len(exclude) == 0 or checks.is_flat(exclude)
    if flat and len(own) == 1:
        return [*own[0], *exclude]
    lists = [exclude] * len(own) if flat else exclude
    if len(own) == 1:
        own = own * len(lists)
    return [[*ids, *(() if checks.is_nothing(others) else others)] for ids, others in zip(
        own, checks.to_lists("exclude", lists, len(own)), strict=True)]


def check_found(ids: IdArray, there: BoolArray) -> None:
    """KeyError for the first id that is in no shard."""
    if not there.all():
        raise KeyError(f"id {ids[~there][0]!r} is in no shard")


def to_label_array(groups: Any) -> IdArray:
    """Labels of groups as an array, int64 or of objects."""
    labels = to_labels("groups", groups)
    return np.array(labels, object) if isinstance(labels, list) else labels
