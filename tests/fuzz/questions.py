"""Random histories of indexes that are asked about rows by id, likes, pairs and selections.

Rows are kept as any type, ids may be strings; every answer is held against a float64 oracle.
`python tests/fuzz questions 123` runs a case again.
"""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diverse_oracle as oracle
import numpy as np
import reference
from cases import Float32, assert_same, assert_same_beyond, assert_same_bits
from histories import KINDS, History, batch, live
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

import farann

Int64 = NDArray[np.int64]
Masks = NDArray[np.bool_]
Asked = Callable[[], None]

MOST = 250  # rows that the slowest oracles go through
AGAIN = 3  # times that a question is asked
DTYPES = {"uint8": (0, 255), "int8": (-128, 127), "float16": (-65504, 65504)}
# Arguments that are ids, and where they are without a name.
OF_IDS = ("ids", "exclude", "allowed", "like_ids", "dislike_ids", "start", "first")
PLACES = {"add": 1, "remove": 0, "reconstruct": 0, "score": 1}


class Named:
    """An index with string ids, called as if they were integers."""

    def __init__(self, index: farann.Index) -> None:
        self.index = index

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = getattr(self.index, name)
        if name == "ids":
            return numbered(found)
        if not callable(found):
            return found

        def call(*given: Any, **options: Any) -> Any:
            at = PLACES.get(name, len(given))
            given = tuple(named(one) if i == at else one for i, one in enumerate(given))
            options = {key: named(one) if key in OF_IDS else one for key, one in options.items()}
            answer = found(*given, **options)
            if name == "add":
                return numbered(answer)
            if hasattr(answer, "scores"):
                answer.ids = numbered(answer.ids)
            return answer

        return call

    def __len__(self) -> int:
        return len(self.index)

    def __contains__(self, id: object) -> bool:
        return named(id) in self.index


def named(value: Any) -> Any:
    """Ids, however deep in lists, as strings; masks, filters and None as they are."""
    if value is None or isinstance(value, (str, farann.Filter)):
        return value
    if isinstance(value, np.ndarray) and value.dtype == np.bool_:
        return value
    if isinstance(value, (int, np.integer)):
        return None if value == -1 else f"row {value}"
    return [named(one) for one in value]


def numbered(ids: NDArray[Any]) -> Int64:
    """Strings as integers again; None as -1."""
    flat = [-1 if one is None else int(str(one).removeprefix("row ")) for one in ids.ravel()]
    return np.array(flat, np.int64).reshape(ids.shape)


class Questions(History):
    """An index that is asked the questions of `QUESTIONS`, and those of a history."""

    index: Any

    def __init__(self, rng: np.random.Generator, level: str, scale: str, folder: Path) -> None:
        super().__init__(rng, level, scale, folder)
        self.dtype = str(rng.choice(["float32", *DTYPES], p=[0.4, 0.2, 0.2, 0.2]))
        self.strings = bool(rng.random() < 0.3)
        self.dim = int(rng.choice([self.dim, 1, 2, 700], p=[0.8, 0.05, 0.1, 0.05]))
        self.rows = np.empty((0, self.dim), np.float32)
        if self.alone and rng.random() < 0.7:  # exact answers tell more
            self.kind = self.kind.removesuffix(" alone")
        index = farann.Index(self.dim, self.metric, **KINDS[self.kind], dtype=self.dtype,
                             seed=0, threads=int(rng.integers(1, 3)))
        self.index = Named(index) if self.strings else index
        # Ties go to the string that came first.
        self.own_ids = self.own_ids and not self.strings
        self.log = [f"{self.metric}, {self.kind}, {self.dtype}, {self.data}, dim {self.dim}, "
                    f"{level}, {scale}, strings {self.strings}, groups {self.grouping.used}"]

    def made(self, n: int) -> Float32:
        rows = super().made(n)
        if self.dtype != "float32":
            low, high = DTYPES[self.dtype]
            rows = np.clip(rows * self.rng.choice([1.0, 1.0, 40.0]), low, high)
            rows = (rows if self.dtype == "float16" else np.round(rows)).astype(self.dtype)
            rows = rows.astype(np.float32)
            if self.metric == "cosine":
                rows[~rows.any(axis=1), -1] = 1
        return rows

    def stored(self, rows: Float32) -> NDArray[Any]:
        return rows.astype(self.dtype)

    def add(self, n: int | None = None) -> None:
        n = int(self.rng.integers(1, 60)) if n is None else n
        if self.rng.random() < 0.2:
            room = int(self.rng.choice([0, 1, n, 3 * n, 2000]))
            self.log.append(f"reserve {room}")
            self.index.reserve(room)
        if not self.strings:
            super().add(n)
            return
        rows, n_known = self.made(n), int(self.rng.integers(0, min(n, len(self.ids)) + 1))
        known = self.rng.permutation(len(self.ids))[:n_known]
        new = self.next_id + np.arange(n - n_known)
        where = self.rng.permutation(n) < n_known
        ids = np.empty(n, np.int64)
        ids[where], ids[~where] = self.ids[known], new
        self.log.append(f"add {n} rows, {n_known} of them replaced")
        self.index.add(rows, ids, replace=True, groups=self.grouping.grown(n))
        self.forget(known)
        self.rows, self.ids = np.vstack([self.rows, rows]), np.concatenate([self.ids, ids])
        self.next_id += len(new)
        self.exact |= set(ids.tolist())

    def save(self) -> None:
        path, mapped = self.folder / "index.farann", bool(self.rng.random() < 0.5)

        def again() -> Any:
            self.index.save(path)
            index = farann.Index.load(path, mmap=mapped)
            return Named(index) if self.strings else index

        self.swap("save and load" + " mapped" * mapped, again)

    def refused(self) -> None:
        """Calls that must fail, and change nothing."""
        self.log.append("refused calls")
        bad = self.made(3)
        bad[1, -1] = self.rng.choice([np.nan, np.inf])
        some = self.ids[:2].tolist() if len(self.ids) > 1 else [self.next_id, self.next_id + 1]
        unknown, one = self.next_id + 7, self.made(1)[0]
        calls: tuple[Callable[[], Any], ...] = (
            lambda: self.index.add(bad, [*some, unknown], replace=True,
                                   groups=self.grouping.other_rows(3)),
            lambda: self.index.add(self.made(3), [*some, some[0]], replace=True),
            lambda: self.index.add(self.made(2), replace=True),
            lambda: self.index.reserve(-1),
            lambda: self.index.search_nearest(ids=[unknown], k=1, budget=9),
            lambda: self.index.search_nearest(one, ids=some[:1], k=1, budget=9),
            lambda: self.index.search_contrast(one, one, weight=-1.0),
            lambda: self.index.search_contrast(one, bad[1]),
            lambda: self.index.search_contrast(like_ids=[unknown]),
            lambda: self.index.search_contrast(),
            lambda: self.index.search_within(one, radius=np.nan),
            lambda: self.index.pairs_within(np.nan),
            lambda: self.index.pairs_within(1.0, limit=0),
            lambda: self.index.select_spaced(np.zeros(len(self.ids) + 1), radius=1.0),
            lambda: self.index.select_spaced(np.zeros(len(self.ids))),
        )
        for call in calls:
            try:
                call()
            except (ValueError, KeyError, TypeError):
                continue
            raise AssertionError("a call with bad arguments did not fail")

    def pickle(self) -> None:
        self.swap("pickle", lambda: pickle.loads(pickle.dumps(self.index)))

    # ---- questions ----

    def search(self) -> None:
        if self.rng.random() < 0.25:
            super().search()
            return
        names = [name for name, of_l2 in QUESTIONS.items() if of_l2 or self.metric != "l2"]
        name = "by_id" if self.alone else str(self.rng.choice(names))
        self.log.append(f"{name}:")
        with np.errstate(over="ignore", invalid="ignore"):
            ask = getattr(self, f"ask_{name}")()
            for time in range(AGAIN):
                ask()
                self.count(name, 1, False, again=time > 0)

    def note(self, text: str) -> None:
        self.log[-1] += f" {text},"

    def picked(self, most: int) -> Int64:
        """Ids of some rows, perhaps one twice."""
        n = int(self.rng.integers(0, most + 1)) if len(self.ids) else 0
        return self.rng.choice(self.ids, n) if n else np.empty(0, np.int64)

    def rows_of(self, ids: Any) -> Float32:
        at = np.argsort(self.ids)
        rows: Float32 = self.rows[at[np.searchsorted(self.ids, ids, sorter=at)]]
        return rows

    def limited(self, n_queries: int, most: int = 10**9) -> tuple[dict[str, Any], list[Int64]]:
        """Filters, at most `most` rows of which pass, and for each query the ids left out."""
        given: dict[str, Any] = {}
        asked: dict[str, Any] = {}
        if self.rng.random() < 0.6:
            given, asked = self.filters(n_queries, False)
        groups = self.grouping.ask(self.index, self.ids, n_queries, given, asked)
        if len(self.ids) > most and len(asked.get("allowed", self.ids)) > most:
            given.pop("allowed", None)
            asked["allowed"] = self.rng.permutation(self.ids)[:most].tolist()
            given["allowed"] = np.array(asked["allowed"], np.int64)
            if "filter" in groups or "kept" in groups:
                asked.pop("exclude", None)
                given.pop("exclude", None)
        given["threads"] = int(self.rng.integers(1, 3))
        out = np.setdiff1d(self.ids, np.array(asked.get("allowed", self.ids), np.int64))
        own = asked.get("exclude", [[]] * n_queries)
        self.note(f"filters {[name for name in given if name != 'threads']}{groups}")
        return given, [np.union1d(out, np.array(one, np.int64)) for one in own]

    def limited_rows(self, most: int = MOST) -> tuple[dict[str, Any], Masks]:
        """Filters of a selection, and which rows pass."""
        given: dict[str, Any] = {}
        passing = np.ones(len(self.ids), np.bool_)
        if len(self.ids) > most or self.rng.random() < 0.4:
            some = self.rng.permutation(len(self.ids))[: int(self.rng.integers(0, most + 1))]
            passing[:] = False
            passing[some] = True
            given["allowed"] = passing.copy() if self.rng.random() < 0.5 else self.ids[some]
        if self.rng.random() < 0.3:
            out = self.picked(40)
            given["exclude"] = out
            passing &= ~np.isin(self.ids, out)
        if self.grouping.used and len(self.ids) and self.rng.random() < 0.4:
            side = str(self.rng.choice(["groups", "outside_groups"]))
            some = self.rng.permutation(6)[: int(self.rng.integers(1, 4))]
            given[side] = self.grouping.named(some)
            passing &= np.isin(self.grouping.numbers, some) == (side == "groups")
        self.note(f"filters {list(given)}, {passing.sum()} rows")
        return given, passing

    def radius(self) -> float:
        """Half of the time just the score of a pair, or a number beside it."""
        if len(self.rows) == 0 or self.rng.random() < 0.2:
            return float(self.rng.choice([0.0, -0.5, 1.0, np.inf, -np.inf, 1e20]))
        one = self.rows[self.rng.integers(len(self.rows))]
        exact = reference.scores_from_keys(
            one, reference.keys(one, self.rows, self.metric), self.metric)
        found = float(np.quantile(exact, self.rng.choice([0.0, 0.01, 0.1, 0.5, 0.99, 1.0]),
                                  method="nearest"))
        return float(self.rng.choice([found, found, np.nextafter(found, -np.inf),
                                      np.nextafter(found, np.inf), np.float32(found)]))

    def ask_within(self) -> Asked:
        queries = self.queries(int(self.rng.choice([0, 1, 5, 6, 40])))
        given, out = self.limited(len(queries))
        radius = self.radius()
        self.note(f"{len(queries)} queries, radius {radius!r}")
        truth = reference.within(queries, self.rows, radius, self.metric, ids=self.ids,
                                 exclude=out)
        return lambda: assert_same_beyond(
            self.index.search_within(queries, radius=radius, **given), truth)

    def ask_by_id(self) -> Asked:
        """A question by ids is that by vectors, but for the rows themselves."""
        ids = self.picked(6)
        single = len(ids) == 1 and bool(self.rng.random() < 0.7)
        given, out = self.limited(len(ids))
        out = [np.union1d(one, [id]) for one, id in zip(out, ids, strict=True)]
        k = int(self.rng.choice([1, 2, 10, len(self.ids) + 2]))
        kind = str(self.rng.choice(["furthest", "nearest", "beyond", "within"]))
        if single:
            given = {name: one[0] if name in ("exclude", "groups", "outside_groups")
                     and not isinstance(one, str) and np.ndim(one) != 0 else one
                     for name, one in given.items()}
        asked: Any = int(ids[0]) if single else ids
        self.note(f"{kind} {asked}, k {k}")
        if self.alone:
            search = self.index.search_nearest if kind == "nearest" else self.index.search_furthest

            def ask_alone() -> None:
                hits = batch(search(ids=asked, k=k, budget=2**40, **given))
                self.settle()
                self.approximate(np.empty((len(ids), self.dim), np.float32), hits,
                                 {"exclude": [one.tolist() for one in out]}, kind == "nearest")

            return ask_alone
        options: dict[str, Any] = {"ids": self.ids, "exclude": out}
        queries = self.rows_of(ids)
        if kind in ("beyond", "within"):
            radius = self.radius()
            slow = reference.within if kind == "within" else reference.beyond
            right = slow(queries, self.rows, radius, self.metric, **options)
            return lambda: assert_same_beyond(
                getattr(self.index, f"search_{kind}")(ids=asked, radius=radius, **given), right)
        found = getattr(reference, kind)(queries, self.rows, k, self.metric, **options)
        return lambda: assert_same(
            batch(getattr(self.index, f"search_{kind}")(ids=asked, k=k, **given)), found)

    def ask_keys(self) -> Asked:
        """Keys are those of the rows found, and what a search did is told with its answer."""
        queries = self.queries(int(self.rng.choice([0, 1, 5, 40])))
        given, out = self.limited(len(queries))
        nearest = bool(self.rng.random() < 0.5)
        search = self.index.search_nearest if nearest else self.index.search_furthest
        slow = reference.nearest if nearest else reference.furthest
        truth = slow(queries, self.rows, 7, self.metric, ids=self.ids, exclude=out)
        keys = np.full(truth.ids.shape, -np.inf)
        for i, query in enumerate(queries):
            there = truth.ids[i] >= 0
            keys[i, there] = reference.keys(query, self.rows_of(truth.ids[i, there]), self.metric)
        keys[truth.ids >= 0] *= -1.0 if nearest else 1.0

        def ask() -> None:
            hits = search(queries, 7, return_keys=True, return_stats=True, **given)
            assert_same(hits, truth)
            assert_array_equal(hits.keys, keys)
            assert hits.stats.queries == len(queries)

        return ask

    def ask_furthest_from(self) -> Asked:
        by_id = bool(self.rng.random() < 0.5)
        n = int(self.rng.choice([0, 1, 4]))
        sets = [self.picked(5) for _ in range(n)]
        sets = [one for one in sets if len(one)]
        given, out = self.limited(len(sets))
        k = int(self.rng.choice([1, 5, len(self.ids) + 2]))
        self.note(f"by ids {by_id}, {[one.tolist() for one in sets]}, k {k}")
        members = [self.rows_of(one) for one in sets]
        if by_id:
            out = [np.union1d(*one) for one in zip(out, sets, strict=True)]
        truth = [oracle.furthest_from(one, self.rows, k, self.metric, self.ids, left.tolist())
                 for one, left in zip(members, out, strict=True)]

        def ask() -> None:
            hits = (self.index.search_furthest_from(ids=sets, k=k, **given) if by_id
                    else self.index.search_furthest_from(members, k, **given))
            assert hits.ids.shape == (len(sets), k)
            for i, (scores, ids) in enumerate(truth):
                assert_array_equal(hits.ids[i], ids)
                assert_same_bits(hits.scores[i], scores)

        return ask

    def ask_contrast(self) -> Asked:
        n, single = int(self.rng.choice([1, 1, 2, 5])), bool(self.rng.random() < 0.4)
        n = 1 if single else n
        by_id = self.rng.random(2) < 0.4
        sides: list[list[Any]] = [[self.picked(3) for _ in range(n)] if by else
                                  [self.queries(int(self.rng.integers(0, 4))) for _ in range(n)]
                                  for by in by_id.tolist()]
        for i in range(n):
            if not len(sides[0][i]) and not len(sides[1][i]):
                by_id[1] = False
                sides[1] = [self.made(2) for _ in range(n)]
        given, out = self.limited(n)
        if single:
            given = {name: one[0] if name in ("exclude", "groups", "outside_groups")
                     and not isinstance(one, str) and np.ndim(one) != 0 else one
                     for name, one in given.items()}
        options: dict[str, Any] = {
            "weight": float(self.rng.choice([0.0, 1.0, 0.3, 1e-30, 17.0, 3e38])),
            "likes_by": str(self.rng.choice(["mean", "best"]))}
        k = int(self.rng.choice([1, 7, len(self.ids) + 2]))
        self.note(f"by id {by_id}, {[len(one) for side in sides for one in side]}, single {single},"
                  f" {options}, k {k}")
        truth = []
        for i in range(n):
            likes, dislikes = (self.rows_of(side[i]) if by else side[i]
                               for by, side in zip(by_id, sides, strict=True))
            left = [*out[i], *(id for by, side in zip(by_id, sides, strict=True) if by
                               for id in side[i])]
            truth.append(oracle.contrast(likes, dislikes, self.rows, k, self.metric, ids=self.ids,
                                         left_out=left, **options))
        names = "like_ids" if by_id[0] else "likes", "dislike_ids" if by_id[1] else "dislikes"
        asked = {name: side[0] if single else side
                 for name, side in zip(names, sides, strict=True)}

        def ask() -> None:
            hits = batch(self.index.search_contrast(k=k, **asked, **options, **given))
            for i, right in enumerate(truth):
                assert_array_equal(hits.ids[i], right.ids)
                assert_same_bits(hits.scores[i], right.scores)

        return ask

    def ask_mmr(self) -> Asked:
        queries = self.queries(int(self.rng.choice([0, 1, 3])))
        given, out = self.limited(len(queries))
        k = int(self.rng.choice([1, 4, 9]))
        diversity = float(self.rng.choice([0.0, 0.3, 0.5, 1.0]))
        candidates = None if self.rng.random() < 0.6 else int(self.rng.choice([1, 5, 30, 10**6]))
        per_group = self.grouping.limit()
        labels = None if per_group is None else self.grouping.numbers
        self.note(f"{len(queries)} queries, k {k}, diversity {diversity}, {candidates}, "
                  f"per_group {per_group}")
        truth = []
        for query, left in zip(queries, out, strict=True):
            among = ~np.isin(self.ids, left)
            if candidates is not None:
                near = reference.nearest(query[None], self.rows, min(candidates, len(self.ids)),
                                         self.metric, ids=self.ids, exclude=[left])
                among &= np.isin(self.ids, near.ids[0])
            truth.append(oracle.relevance(query, self.rows, k, self.metric, self.ids, diversity,
                                          among, labels, per_group or 1))

        def ask() -> None:
            hits = self.index.search_mmr(queries, k, diversity=diversity, candidates=candidates,
                                         per_group=per_group, **given)
            for i, (values, ids) in enumerate(truth):
                assert_array_equal(hits.ids[i], np.append(ids, [-1] * (k - len(ids))))
                assert_same_bits(hits.scores[i, : len(ids)], reference.as_float32(values))

        return ask

    def ask_pairs(self) -> Asked:
        given, passing = self.limited_rows()
        radius = self.radius()
        self.note(f"radius {radius!r}")
        ids, scores = oracle.pairs_within(self.rows[passing], radius, self.metric,
                                          self.ids[passing])
        limit = max(len(ids), 1)

        def ask() -> None:
            found = self.index.pairs_within(radius, limit=limit, **given)
            assert_array_equal(found.ids, ids)
            assert_same_bits(found.scores, scores)

        return ask

    def ask_spaced(self) -> Asked:
        given, passing = self.limited_rows()
        worth = self.rng.choice([self.rng.standard_normal(len(self.ids)),
                                 self.rng.integers(-3, 3, len(self.ids)).astype(float),
                                 self.rng.choice([-np.inf, 0.0, np.inf], len(self.ids))])
        per_group = int(self.rng.integers(1, 4)) if self.grouping.used and len(self.ids) and (
            self.rng.random() < 0.5) else None
        radius = self.radius() if self.rng.random() < 0.6 else None
        if radius is not None and self.metric == "l2":
            radius = abs(radius)
        k = int(self.rng.choice([1, 2, 9, 60])) if radius is None or self.rng.random() < 0.4 else (
            None)
        self.note(f"radius {radius!r}, k {k}, per_group {per_group}")
        options: dict[str, Any] = {} if per_group is None else {
            "groups": self.grouping.numbers[passing], "per_group": per_group}
        rows, worth_left = self.rows[passing], worth[passing]

        def right(radius: float | None, k: int | None) -> list[int]:
            return oracle.spaced(rows, worth_left, radius, self.metric, k, ids=self.ids[passing],
                                 **options)

        def ask() -> None:
            found = self.index.select_spaced(worth, radius=radius, k=k, per_group=per_group,
                                             **given)
            if radius is not None or k is None:
                assert found.ids.tolist() == right(radius, k)
                return
            assert len(found.ids) == min(k, len(right(None, k)))
            if len(self.ids):
                assert found.ids.tolist() == right(found.radius, k)
            wider = oracle.spread(self.metric, found.radius) if len(self.ids) else 0.0
            if len(found.ids) == k > 1 and np.isfinite(found.radius) and found.radius != 0.0:
                assert len(right(wider, None)) < k

        return ask

    def ask_diverse(self) -> Asked:
        given, passing = self.limited_rows()
        first = self.picked(3)
        if len(first) == 0:
            first = self.ids[:1]
        k = int(self.rng.choice([1, 5, 30]))
        per_group = int(self.rng.integers(1, 4)) if self.grouping.used and len(self.ids) and (
            self.rng.random() < 0.6) else None
        self.note(f"after {first.tolist()}, k {k}, per_group {per_group}")
        if len(first) == 0:
            return lambda: assert_array_equal(self.index.select_diverse(k, **given).ids, [])
        at = np.flatnonzero(np.isin(self.ids, first))
        scores, ids = oracle.selection(
            self.rows, k, self.metric, self.ids, at, passing,
            None if per_group is None else self.grouping.numbers, per_group or 0)

        def ask() -> None:
            found = self.index.select_diverse(k, first=first, per_group=per_group, **given)
            assert_array_equal(found.ids, ids)
            assert_same_bits(found.scores, scores)

        return ask


# Each question, and whether it can be asked under l2.
QUESTIONS = {"within": True, "by_id": True, "keys": True, "furthest_from": True, "contrast": False,
             "mmr": False, "pairs": True, "spaced": True, "diverse": True}


def run(seed: int) -> Counter[str]:
    """Live through one history; raise AssertionError with its log where an answer is wrong."""
    return live(Questions, seed)
