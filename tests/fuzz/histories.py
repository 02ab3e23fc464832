"""Random histories of an index; every answer is held against the float64 oracle.

Each question is asked nine times: what a search notes for the next one must not change answers.
A case is one integer: `python tests/fuzz histories 123` runs it again, and prints what it did.
"""

from __future__ import annotations

import contextlib
import math
import pickle
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import inside
import numpy as np
import reference
from approximate_cases import DATA as ORDINARY
from approximate_cases import assert_within
from cases import DATA as HOSTILE
from cases import (
    Float32,
    assert_same,
    assert_same_beyond,
    assert_same_bits,
    queries_for,
    rows_for,
)
from grouping import Grouping
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

import farann

# A time limit that no search reaches, in seconds.
LONG = 1e6
# How often each question is asked: two batches that give codes up are followed by seven that don't
# begin with codes, three single queries by others.
TIMES = 9

KINDS: dict[str, dict[str, Any]] = {
    "float32": {"codes": "float32"},
    "int8": {"codes": "int8"},
    "int4": {"codes": "int4"},
    "cells": {"codes": "int8", "cells": 7},
    "cells auto": {"codes": "int8", "cells": "auto"},
    "int4 cells": {"codes": "int4", "cells": 5},
    "int8 alone": {"codes": "int8", "keep_vectors": False},
    "int4 alone": {"codes": "int4", "keep_vectors": False},
    "int4 cells alone": {"codes": "int4", "cells": 6, "keep_vectors": False},
}

# Settings by which indexes of some hundred rows have the layouts of large ones.
SMALL = {
    "fewest_built_rows": 64, "fewest_partitioned_rows": 100,
    "hub_rows": 32, "cached_code_bytes": 0,
    # Batches on few rows go by codes, too.
    "coded_query_cost": -math.inf,
}
SCALES: dict[str, dict[str, float]] = {
    # As farann has them; the suite has others.
    "usual": {"hub_rows": 512, "cached_code_bytes": 1 << 19, "coded_query_cost": 900.0},
    "small": SMALL,
    # Where it would cost more than it saves, too.
    "first look": {**SMALL, "pca_filter_worth_it": 1e9, "pca_filter_largest_share": 99.0},
}


@contextlib.contextmanager
def conditions(level: str, scale: str) -> Iterator[None]:
    """New indexes use an instruction-set level, and the layouts of a scale."""
    changes = {"forced_level": level, **SCALES[scale]}
    before = {name: getattr(inside.settings, name) for name in changes}
    for name, value in changes.items():
        setattr(inside.settings, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(inside.settings, name, value)


def run(seed: int) -> Counter[str]:
    """Live through one history; raise AssertionError with its log where an answer is wrong."""
    return live(History, seed)


def live(kind: type[History], seed: int) -> Counter[str]:
    """The same for a kind of histories."""
    rng = np.random.default_rng(seed)
    level = str(rng.choice(inside.levels()))
    scale = str(rng.choice(list(SCALES)))
    with conditions(level, scale), tempfile.TemporaryDirectory() as folder:
        history = kind(rng, level, scale, Path(folder))
        try:
            history.live()
        except Exception as error:
            error.add_note("\n".join(["history:", *history.log]))
            raise
    return history.done


class History:
    """An index, and what it should hold."""

    def __init__(self, rng: np.random.Generator, level: str, scale: str, folder: Path) -> None:
        self.rng, self.folder, self.done = rng, folder, Counter[str]()
        self.metric = str(rng.choice(reference.METRICS))
        self.kind = str(rng.choice(list(KINDS)))
        self.data = str(rng.choice([*HOSTILE, *ORDINARY]))
        self.dim = int(rng.choice([1, 2, 3, 4, 8, 16, 32, 33, 64, 128, 130, *range(1, 130, 8)]))
        self.own_ids = bool(rng.random() < 0.5)
        self.index = farann.Index(
            None if rng.random() < 0.5 else self.dim, self.metric, **KINDS[self.kind],
            seed=int(rng.integers(5)), threads=int(rng.integers(1, 3)))
        self.rows: Float32 = np.empty((0, self.dim), np.float32)
        self.ids = np.empty(0, np.int64)
        self.next_id = 0
        self.grouping = Grouping(rng.spawn(1)[0])
        # Numbers of their own, so that what a case does else stays what it was.
        self.draws = rng.spawn(1)[0]
        self.reader: farann.Index | None = None  # of the file, from some time ago
        # Ids of rows whose vectors the index is sure to have.
        self.exact: set[int] = set()
        self.log = [f"{self.metric}, {self.kind}, {self.data}, dim {self.dim}, {level}, {scale}, "
                    f"groups {self.grouping.used}"]

    @property
    def alone(self) -> bool:
        """Whether rows may be there as codes alone."""
        return self.kind.endswith("alone")

    def live(self) -> None:
        sizes = [1, 15, 16, 17, 40, 150, 400, 900]
        n = int(self.rng.choice([*sizes, 5000],
                                p=[0.04, 0.04, 0.04, 0.04, 0.2, 0.3, 0.2, 0.1, 0.04]))
        self.add(n + int(self.rng.integers(0, n + 1)))
        self.search()
        for _ in range(int(self.rng.integers(3, 12))):
            change = self.rng.choice(
                ["add", "remove", "build", "tune", "save", "pickle", "refused", "empty"],
                p=[0.25, 0.2, 0.2, 0.06, 0.14, 0.06, 0.06, 0.03])
            getattr(self, str(change))()
            self.done[f"{change}"] += 1
            self.agree()
            for _ in range(int(self.rng.integers(1, 4))):
                self.search()
        self.done["histories"] += 1

    def made(self, n: int) -> Float32:
        """Rows of the history's kind, sometimes of another."""
        kind = self.data if self.rng.random() < 0.8 else str(self.rng.choice([*HOSTILE, *ORDINARY]))
        if kind in HOSTILE:
            return rows_for(kind, self.rng, n, self.dim, self.metric)
        return ORDINARY[kind](self.rng, n, self.dim)

    def stored(self, rows: Float32) -> NDArray[Any]:
        """Rows as the index keeps them."""
        return rows

    # ---- changes ----

    def add(self, n: int | None = None) -> None:
        n = int(self.rng.integers(1, 60)) if n is None else n
        rows = self.made(n)
        if len(self.rows) and self.rng.random() < 0.2:  # rows that are there already
            rows = self.rows[self.rng.integers(0, len(self.rows), n)].copy()
        ids = None
        if self.own_ids:
            ids = self.next_id + self.rng.permutation(3 * n)[:n]
        known = np.empty(0, np.int64)
        replace = bool(len(self.ids)) and self.rng.random() < 0.3
        if replace:
            known = self.rng.permutation(len(self.ids))[: int(self.rng.integers(0, n + 1))]
            ids = self.next_id + np.arange(n) if ids is None else ids
            ids = self.rng.permutation(np.concatenate([self.ids[known], ids[len(known):]]))
        given = rows
        if self.rng.random() < 0.3:
            given = np.asfortranarray(rows) if self.rng.random() < 0.5 else rows.astype(np.float64)
        in_place = not len(self.index) and self.next_id == 0 and self.rng.random() < 0.3
        self.log.append(f"add {n} rows, own ids {self.own_ids}, in place {in_place}, "
                        f"{len(known)} of them replaced")
        got = self.index.add(self.stored(rows) if in_place else given, ids, copy=not in_place,
                             replace=replace, groups=self.grouping.grown(n))
        expected = self.next_id + np.arange(n) if ids is None else ids
        assert_array_equal(got, expected)
        self.forget(known)
        self.rows, self.ids = np.vstack([self.rows, rows]), np.concatenate([self.ids, expected])
        self.next_id = max(self.next_id, int(expected.max()) + 1)
        self.exact |= set(expected.tolist())

    def remove(self) -> None:
        n = len(self.ids)
        gone = self.rng.permutation(n)[: int(n * self.rng.choice([0.02, 0.1, 0.5, 0.95])) + 1]
        self.log.append(f"remove {len(gone)} rows")
        self.index.remove(self.ids[gone])
        self.forget(gone)

    def empty(self) -> None:
        self.log.append("remove all rows")
        self.index.remove(self.index.ids)
        self.forget(np.arange(len(self.ids)))

    def forget(self, gone: NDArray[Any]) -> None:
        self.exact -= set(self.ids[gone].tolist())
        self.grouping.forget(gone)
        self.rows, self.ids = np.delete(self.rows, gone, axis=0), np.delete(self.ids, gone)

    def build(self) -> None:
        sample = None
        if self.rng.random() < 0.4:
            sample = self.queries(int(self.rng.choice([2, 40, 200])))
        self.log.append(f"build with {0 if sample is None else len(sample)} queries")
        self.index.build(sample)
        if self.alone:
            self.exact.clear()

    def tune(self) -> None:
        k = int(self.rng.choice([1, 10, 40]))
        self.log.append(f"tune for k={k}")
        if len(self.index):
            self.index.tune(self.queries(30) if self.rng.random() < 0.5 else None, k=k)
            self.settle()

    def save(self) -> None:
        path, mapped = self.folder / "index.farann", bool(self.rng.random() < 0.5)
        how = str(self.draws.choice(["save", "sync", "sync and reload"]))

        def again() -> farann.Index:
            if how == "save":
                self.index.save(path)
            else:
                self.index.sync(path)
            reader = self.reader
            if how == "sync and reload" and reader is not None:
                reader.reload()
                self.reader = None
                return reader
            self.reader = farann.Index.load(path, mmap=not mapped)
            return farann.Index.load(path, mmap=mapped)

        before = self.index
        self.swap(how + " and load" + " mapped" * mapped, again)
        before.close()  # and leaves the file to the copy

    def pickle(self) -> None:
        self.swap("pickle", lambda: pickle.loads(pickle.dumps(self.index)))

    def swap(self, what: str, again: Any) -> None:
        """Go on with a copy, maybe at another level.

        Codes alone give the same answers, unless removed rows made place for others: then they
        are the same but for rounding.
        """
        level = str(self.rng.choice(inside.levels()))
        inside.settings.forced_level = level
        self.log.append(f"{what}, then {level}")
        before = self.index
        self.index = again()
        stats = before.stats()
        if self.alone and before.isa == self.index.isa and stats["built"] and not stats["removed"]:
            queries = self.queries(5)
            assert_same(self.index.search_furthest(queries, 7, budget=2**40),
                        before.search_furthest(queries, 7, budget=2**40))

    def refused(self) -> None:
        """Calls that must fail, and change nothing."""
        self.log.append("refused calls")
        bad = self.made(3)
        bad[1, self.dim - 1] = self.rng.choice([np.nan, np.inf])
        taken = self.ids[:1].tolist() * 3
        for call in (
            lambda: self.index.add(bad),
            lambda: self.index.add(self.made(3), taken or [-1, 0, 1]),
            lambda: self.index.add(np.ones((2, self.dim + 1))),
            lambda: self.index.remove([*self.ids[:2].tolist(), self.next_id + 7]),
            lambda: self.index.build(bad),
            lambda: self.index.search_furthest(bad, 1, budget=5),
            lambda: self.index.score(self.made(1), [self.next_id + 7]),
            lambda: self.index.add(np.ones((2, self.dim + (len(self.ids) == 0))),
                                   groups=self.grouping.other_rows(2)),
        ):
            try:
                call()
            except (ValueError, KeyError):
                continue
            raise AssertionError("a call with bad arguments did not fail")

    # ---- checks ----

    def agree(self) -> None:
        """Hold what the index says it has against what it should have."""
        assert len(self.index) == len(self.ids) and self.index.dim == self.dim
        there = self.index.ids
        assert_array_equal(np.sort(there), np.sort(self.ids))
        for some in (self.ids[:1], self.ids[-1:]):
            assert all(int(i) in self.index for i in some)
        assert self.next_id not in self.index
        # From here on in the order of the index, which masks refer to.
        order = np.argsort(self.ids)[np.argsort(np.argsort(there))]
        self.rows, self.ids = self.rows[order], self.ids[order]
        self.grouping.reorder(order)
        rows = self.index.reconstruct(self.ids)
        if not self.alone:
            assert_same_bits(rows, self.rows)
        assert np.isfinite(rows).all()
        self.done["checks"] += 1

    def queries(self, n: int) -> Float32:
        rows = self.rows if len(self.rows) else self.made(4)
        made = queries_for(self.rng, rows[-500:], self.metric)
        if n > len(made):
            made = np.vstack([made, self.made(n - len(made))])
        return made[self.rng.permutation(len(made))[:n]].copy()

    def filters(self, n_queries: int, single: bool) -> tuple[dict[str, Any], dict[str, Any]]:
        """Filters as the index takes them, and as the oracle does."""
        given: dict[str, Any] = {}
        asked: dict[str, Any] = {}
        n = len(self.ids)
        if self.rng.random() < 0.35:
            kept = self.rng.random(n) < self.rng.choice([0.0, 0.02, 0.2, 0.7, 1.0])
            asked["allowed"] = self.ids[kept].tolist()
            unknown = [self.next_id + 3] if self.rng.random() < 0.5 else []
            given["allowed"] = kept if self.rng.random() < 0.5 else np.array(
                asked["allowed"] + unknown, np.int64)
        if self.rng.random() < 0.35:
            most = int(self.rng.choice([0, 3, n // 2 + 1, n]))
            lists = [self.rng.permutation(self.ids)[: self.rng.integers(0, most + 1)]
                     for _ in range(n_queries)]
            asked["exclude"] = [ids.tolist() for ids in lists]
            if self.rng.random() < 0.5:
                matrix = np.full((n_queries, max(map(len, lists), default=0) + 1), -1, np.int64)
                for line, ids in zip(matrix, lists, strict=True):
                    line[: len(ids)] = ids
                given["exclude"] = matrix[0] if single else matrix
            else:
                given["exclude"] = lists[0] if single else lists
        return given, asked

    def search(self) -> None:
        """Ask a question of any kind, again and again."""
        n_queries = int(self.rng.choice(self.numbers_of_queries()))
        queries = self.queries(n_queries)
        n_queries = len(queries)
        single = n_queries == 1 and bool(self.rng.random() < 0.7)
        question = queries[0] if single else queries
        k = int(self.rng.choice([1, 2, 5, 10, 40, len(self.ids) + 2]))
        given, asked = self.filters(n_queries, single)
        groups = self.grouping.ask(self.index, self.ids, n_queries, given, asked)
        given["threads"] = int(self.rng.integers(1, 3))
        kind = self.kind_of_question()
        if self.alone and kind in ("exact", "nearest", "beyond", "epsilon", "nearest epsilon"):
            kind = "budget"
        self.log.append(f"{kind}: {n_queries} queries, single {single}, k={k}, "
                        f"allowed {len(asked['allowed']) if 'allowed' in asked else 'all'}, "
                        f"excluded {[len(ids) for ids in asked.get('exclude', [])][:5]}"
                        f"{groups}")
        oracle = {"ids": self.ids} | asked
        if kind == "beyond":
            ask = self.beyond(queries, question, given, oracle)
        elif kind == "score":
            ask = self.score(queries, question, given["threads"])
        else:
            ask = self.top(kind, queries, question, k, given, oracle)
        for time in range(TIMES):
            ask()
            self.count(kind, n_queries, bool(asked or groups), again=time > 0)

    def numbers_of_queries(self) -> list[int]:
        return [1, 1, 2, 7, 11, 17, 40]

    def kind_of_question(self) -> str:
        return str(self.rng.choice(
            ["exact", "nearest", "beyond", "score", "recall", "epsilon", "budget"]))

    def limits(self) -> dict[str, Any]:
        """Where a search may stop, for each way to say so."""
        return {
            "recall": self.rng.choice([0.5, 0.9, 0.99, 1.0]),
            "epsilon": self.rng.choice([0.0, 1e-9, 0.001, 0.05, 0.5, 3.0, 1e6]),
            "budget": int(self.rng.choice([1, 16, 40, 400, 2**40])),
        }

    def count(self, kind: str, n_queries: int, filtered: bool, *, again: bool) -> None:
        """Note that a question was answered, by kinds of questions and indexes."""
        self.done["checks"] += n_queries
        stats = self.index.stats()
        by_codes = stats["last_search"]["code_products"] > 0
        in_float32 = stats["last_search"]["float_products"] > 0
        modes = {
            f"asked for {kind}": True, f"index of {self.kind}": True,
            f"level {self.index.isa}": True, f"metric {self.metric}": True,
            "with filters": filtered, "with rows added since": stats["built"] and stats["added"],
            "with rows removed": stats["removed"], "many queries": n_queries > 1,
            "by codes alone": by_codes and not in_float32,
            "by codes and float32": by_codes and in_float32,
            "by float32 alone": in_float32 and not by_codes,
        }
        for mode in [mode for mode, there in modes.items() if there]:
            self.done[f"{mode}: {'asked again' if again else 'questions'}"] += 1
            self.done[f"{mode}: answers"] += n_queries

    def top(self, kind: str, queries: Float32, question: Any, k: int, given: dict[str, Any],
            oracle: dict[str, Any]) -> Callable[[], None]:
        """A question for k rows, the furthest or the nearest, exactly or within a limit."""
        nearest = kind.startswith("nearest")
        search = self.index.search_nearest if nearest else self.index.search_furthest
        slow = reference.nearest if nearest else reference.furthest
        name = kind.removeprefix("nearest ")
        limit: Any = None
        if name not in ("exact", "nearest"):
            limit = self.limits()[name]
            given = {name: limit, **given}
            self.log[-1] += f", {limit}"
        per_group = self.grouping.limit() if limit is None else None
        if per_group is not None:
            given = {"per_group": per_group, **given}
            self.log[-1] += f", per_group {per_group}"
        if name == "recall":  # each k is tuned for itself, a large one for seconds
            k = min(k, 100)
        exact = limit is None or (not self.alone and (
            name, limit) in (("epsilon", 0.0), ("recall", 1.0), ("seconds", LONG)))
        truth = slow(queries, self.rows, k if per_group is None else len(self.ids), self.metric,
                     **oracle) if exact else None
        if truth is not None and per_group is not None:
            truth = self.grouping.first(truth, self.ids, k, per_group)
        checked: set[bytes] = set()

        def ask() -> None:
            hits = batch(search(question, k, **given))
            self.settle()
            bits = hits.ids.tobytes() + hits.scores.tobytes()
            if bits in checked:
                return
            if limit is not None:
                self.approximate(queries, hits, oracle, nearest)
            if name == "epsilon":
                self.within(queries, hits, oracle, float(limit), nearest)
            if truth is not None:
                assert_same(hits, truth)
            checked.add(bits)

        return ask

    def settle(self) -> None:
        """A search may have built the index of its own accord, which drops vectors."""
        if self.alone and self.index.stats()["added"] < len(self.exact):
            self.exact.clear()

    def beyond(self, queries: Float32, question: Any, given: dict[str, Any],
               oracle: dict[str, Any]) -> Callable[[], None]:
        radius = float(self.rng.choice([0.0, -0.5, 1.0, np.inf, -np.inf, 1e20]))
        if len(self.rows):
            scores = reference.score(queries[:1], self.rows, self.metric)[0]
            # Half of the time just at a row's score.
            if self.rng.random() < 0.7:
                radius = float(self.rng.choice(scores))
        self.log[-1] += f", radius {radius!r}"
        truth = reference.beyond(queries, self.rows, radius, self.metric, **oracle)
        return lambda: assert_same_beyond(
            self.index.search_beyond(question, radius=radius, **given), truth)

    def score(self, queries: Float32, question: Any, threads: int) -> Callable[[], None]:
        at = self.rng.integers(0, len(self.ids), 20) if len(self.ids) else np.empty(0, np.int64)
        if self.alone:
            at = np.array([p for p in at if int(self.ids[p]) in self.exact], np.int64)
        truth = reference.score(queries, self.rows[at], self.metric)

        def ask() -> None:
            scores = self.index.score(question, self.ids[at], threads=threads)
            self.settle()
            if not (self.alone and not self.exact):
                assert_same_bits(np.atleast_2d(scores), truth)

        return ask

    def approximate(self, queries: Float32, hits: farann.Hits, asked: dict[str, Any],
                    nearest: bool) -> None:
        """As many as there can be, each once, within the filters, with true scores, in order."""
        allowed, k = set(asked.get("allowed", self.ids.tolist())), hits.ids.shape[1]
        slow = reference.nearest if nearest else reference.furthest
        for i, (scores, ids) in enumerate(zip(hits.scores, hits.ids, strict=True)):
            permitted = allowed - set(asked["exclude"][i]) if "exclude" in asked else allowed
            found = ids[ids >= 0]
            assert len(ids) == k and (ids[len(found):] == -1).all()
            assert len(found) == min(k, len(permitted)) and len(set(found.tolist())) == len(found)
            assert permitted.issuperset(found.tolist())
            if self.alone:
                sign = 1.0 if (self.metric == "l2") != nearest else -1.0
                real = sign * scores[: len(found)]
                assert not np.isnan(real).any() and (real[1:] <= real[:-1]).all()
                assert np.isnan(scores[len(found):]).all()
            else:
                # The exact answer among just these rows.
                truth = slow(queries[i : i + 1], self.rows, k, self.metric, ids=self.ids,
                             allowed=found.tolist())
                assert_same(farann.Hits(ids[None], scores[None]), truth)

    def within(self, queries: Float32, hits: farann.Hits, asked: dict[str, Any],
               epsilon: float, nearest: bool) -> None:
        """No row that was left out is further, or nearer, than the guarantee says."""
        for i, query in enumerate(queries):
            keep = np.isin(self.ids, asked["allowed"]) if "allowed" in asked else np.ones(
                len(self.ids), np.bool_)
            keep &= ~np.isin(self.ids, asked["exclude"][i]) if "exclude" in asked else True
            if keep.any():
                one = farann.Hits(hits.ids[i : i + 1], hits.scores[i : i + 1])
                assert_within(one, query[None], self.rows[keep], self.ids[keep], self.metric,
                              epsilon, nearest=nearest)


def batch(hits: farann.Hits) -> farann.Hits:
    """The answer for a single query as that of a batch of one."""
    return farann.Hits(np.atleast_2d(hits.ids), np.atleast_2d(hits.scores))
