"""Answers of exact searches, ids and the bits of keys, kept from one version to the next.

``python tests/golden_answers.py --all`` compares all of them in some minutes: at each
instruction-set level, with codes of 8, 4 and 32 bits, with and without cells and rows that were
added, in batches and one by one. ``--seeds 0 7`` compares those of some seeds, ``--make`` writes
them anew, which is right only where answers were meant to change.

Rows and questions are made of integers by arithmetic that no version of numpy changes, and asked
through the public interface alone. Each answer is kept once for all these ways to get it: ids and
keys of searches by queries and by sets, checksums of ids and scores of all else.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import farann

DATA = Path(__file__).with_suffix(".npz")
SEEDS, METRICS = 64, ("l2", "dot", "cosine")
WIDE = 60  # the first of the seeds whose rows are wide
FILTERS = ("none", "exclude", "allowed", "groups", "outside_groups", "removed")
# Codes and cells of indexes.
WAYS: tuple[tuple[Any, int | None], ...] = (
    ("int8", None), ("int4", None), ("float32", None), ("int8", 6), ("int4", 6))
K = 5
_SETS = [0, 1], [2]
_SHOWN = 10  # wrong answers
# Two to these; squares of the tiny ones are denormal in float32.
_POWERS = {"huge": 55, "tiny": -68}
Floats = npt.NDArray[np.float64]
Answer = tuple[list[npt.NDArray[np.int64]], list[npt.NDArray[np.uint64]]]
# Without those of whole graphs: rows by themselves may be asked under fewer filters.
ROW_FILTERS = ("none", "allowed", "groups", "removed")
# Kinds whose rows lie within rounding of their center, where contrast isn't exact yet.
OFF_CENTER = ("nearly alike",)


# ---- rows ----


def hashed(seed: int, what: int, *shape: int) -> npt.NDArray[np.uint64]:
    """Random bits (splitmix64)."""
    start = np.uint64((seed * 64 + what + 1) * 0x9E3779B97F4A7C15 % 2**64)
    with np.errstate(over="ignore"):
        z = np.arange(1, np.prod(shape, dtype=np.int64) + 1, dtype=np.uint64)
        z = z * np.uint64(0x9E3779B97F4A7C15) + start
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return (z ^ (z >> np.uint64(31))).reshape(shape)


def below(most: int, seed: int, what: int, *shape: int) -> npt.NDArray[np.int64]:
    """Random integers from 0 on, less than `most`."""
    return (hashed(seed, what, *shape) >> np.uint64(33)).astype(np.int64) % most


def bell(seed: int, what: int, *shape: int) -> Floats:
    """Sums of four random integers, times a power of two: of deviation .58, and exact."""
    z = hashed(seed, what, *shape)
    total = sum(((z >> np.uint64(16 * i)) & np.uint64(0xFFFF)).astype(np.int64) for i in range(4))
    return np.asarray(np.ldexp(np.asarray(total - 2 * 0xFFFF, np.float64), -16))


def rows_of(kind: str, seed: int, n: int, dim: int, what: int = 0) -> Floats:
    """Vectors of a kind; `what` tells rows from queries."""
    rows = bell(seed, what + 1, n, dim)
    some = below(1 << 20, seed, what + 2, n)
    if kind == "clusters":
        return 4.0 * bell(seed, 50, 9, dim)[some % 9] + 0.125 * rows
    if kind == "integers":
        return (below(7, seed, what + 1, n, dim) - 3).astype(np.float64)
    if kind == "one-hot":
        return np.eye(dim)[some % dim]
    if kind == "duplicates":
        return bell(seed, 50, max(n // 9, 1), dim)[some % max(n // 9, 1)]
    if kind == "bits":
        return below(2, seed, what + 1, n, dim).astype(np.float64)
    if kind in _POWERS:
        return np.ldexp(rows, _POWERS[kind])
    if kind == "all sizes":
        return np.ldexp(rows, (some % 81 - 40)[:, None])
    if kind == "few directions":
        one, other = bell(seed, 50, 2, dim)
        return np.asarray(rows[:, :1] * one + rows[:, -1:] * other + np.ldexp(rows, -12))
    if kind == "nearly alike":
        steps = below(5, seed, what + 1, n, dim) - 2
        return np.asarray(1.0 + np.ldexp(steps.astype(np.float64), -18))
    if kind == "both signs":
        rows[1::2] = -rows[: n // 2 * 2 : 2]
        return rows
    if kind == "long and short":
        return np.where((some % 50 == 0)[:, None], 64.0 * rows, 0.5 * rows)
    return scaled(rows, kind, what > 0)


def scaled(rows: Floats, kind: str, queries: bool) -> Floats:
    """Make a fiftieth of the axes strong in rows.

    Codes are too rough for queries along weak axes: for all of them, or for every other one.
    """
    strong = np.arange(rows.shape[1]) < rows.shape[1] // 50
    if kind not in ("weak axes", "all axes"):
        return rows
    if not queries:
        return np.where(strong, rows, np.ldexp(rows, -10))
    rows[:: 1 if kind == "weak axes" else 2, strong] = 0.0
    return rows


KINDS = ("bell", "clusters", "integers", "one-hot", "duplicates", "bits", "huge", "tiny",
         "all sizes", "few directions", "nearly alike", "both signs", "long and short")
WIDE_KINDS = ("weak axes", "all axes", "nearly alike", "few directions")


@dataclass(frozen=True)
class Problem:
    """Rows of a seed, with ids and groups, and what is asked of them."""

    seed: int
    kind: str
    rows: npt.NDArray[np.float32]
    ids: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]
    queries: npt.NDArray[np.float32]

    @classmethod
    def of(cls, seed: int) -> Problem:
        """The problem of a seed: sizes and kinds take turns."""
        kind, n_queries = KINDS[seed % len(KINDS)], 3
        n, dim = 300 + 97 * (seed % 11), (16, 8, 33, 4, 24, 48, 3)[seed % 7]
        if seed >= WIDE:  # a block has fewer rows in float32 than of codes
            kind, n, dim, n_queries = WIDE_KINDS[seed - WIDE], 1700, 400, 9
        rows = rows_of(kind, seed, n, dim)
        queries = rows_of(kind, seed, n_queries, dim, 10)
        queries[1] = rows[n // 2]  # a row itself
        for vectors in (rows, queries):
            vectors[(vectors == 0.0).all(axis=1), 0] = 1.0  # zeros have no cosine
        return cls(seed, kind, rows.astype(np.float32), 7919 * np.arange(n) % 100_003,
                   below(4, seed, 20, n), queries.astype(np.float32))

    def built(self, metric: str, codes: Any, cells: int | None, in_steps: bool) -> farann.Index:
        """An index of the rows; `in_steps`: two fifths are added after the build, backwards."""
        # One thread has all queries of a wide batch, enough to share rows.
        index = farann.Index(metric=metric, codes=codes, cells=cells,
                             threads=1 if self.seed >= WIDE else None)
        order, n = np.arange(len(self.rows)), len(self.rows)
        if in_steps:
            order = np.concatenate([order[: n * 3 // 5], order[n * 3 // 5 :][::-1]])
        for start in [0, *range(n * 3 // 5, n, n // 5)] if in_steps else [0]:
            stop = n if not in_steps else n * 3 // 5 if start == 0 else start + n // 5
            some = order[start:stop]
            index.add(self.rows[some], self.ids[some], groups=self.groups[some])
            if start == 0:
                index.build()
        return index

    def filter(self, name: str, index: farann.Index) -> dict[str, Any]:
        """The filter of that name as keywords; for each query its own, where it can be."""
        n = len(self.rows)
        if name == "exclude":
            excluded = self.ids[below(n, self.seed, 21, len(self.queries), n // 3)]
            excluded[0, ::5] = -1
            return {"exclude": excluded}
        if name == "allowed":
            return {"allowed": np.isin(index.ids, self.ids[below(3, self.seed, 22, n) > 0])}
        if name in ("groups", "outside_groups"):
            return {name: np.arange(len(self.queries)) % 3}
        return {}

    @property
    def removed(self) -> npt.NDArray[np.int64]:
        """Ids of rows that are removed last."""
        return np.asarray(self.ids[below(3, self.seed, 23, len(self.rows)) == 0])


# ---- questions ----


def asked(problem: Problem, index: farann.Index, given: dict[str, Any],
          radii: tuple[Floats, Floats], alone: bool) -> Iterator[Answer]:
    """Ids and bits of keys of all questions under a filter, for each query, or set."""
    def parts(numbers: list[int]) -> Iterator[tuple[list[int], dict[str, Any]]]:
        for some in [[i] for i in numbers] if alone else [numbers]:
            own = {name: value if name == "allowed" else value[some]
                   for name, value in given.items()}
            yield some, own

    def together(ask: Any, numbers: list[int]) -> Answer:
        ids: list[npt.NDArray[np.int64]] = []
        keys: list[npt.NDArray[np.uint64]] = []
        for some, own in parts(numbers):
            hits = ask(some, own)
            ends = getattr(hits, "offsets", None)
            for i in range(len(some)):
                here = slice(ends[i], ends[i + 1]) if ends is not None else i
                found = hits.ids[here]
                assert (found[found >= 0] == found[: (found >= 0).sum()]).all()
                ids.append(found[found >= 0])
                keys.append(hits.keys[here][found >= 0].view(np.uint64))
        return ids, keys

    queries, every = problem.queries, list(range(len(problem.queries)))
    far, near = radii
    yield together(lambda some, own: index.search_furthest(
        queries[some], K, return_keys=True, **own), every)
    yield together(lambda some, own: index.search_nearest(
        queries[some], K, return_keys=True, **own), every)
    yield together(lambda some, own: index.search_nearest(
        queries[some], K, beyond=near[some], return_keys=True, **own), every)
    yield together(lambda some, own: index.search_beyond(
        queries[some], radius=far[some], return_keys=True, **own), every)
    yield together(lambda some, own: index.search_furthest_from(
        [queries[_SETS[i]] for i in some], K, return_keys=True, **own), [0, 1])


def radii_of(problem: Problem, index: farann.Index) -> tuple[Floats, Floats]:
    """Radii that are just those of rows: of the fourth furthest, and of the second nearest."""
    far = index.search_furthest(problem.queries, 4).scores[:, 3]
    near = index.search_nearest(problem.queries, 2).scores[:, 1]
    return far.astype(np.float64), near.astype(np.float64)


def answers(problem: Problem, index: farann.Index, radii: tuple[Floats, Floats],
            *ways: bool) -> Iterator[tuple[str, Any, Answer]]:
    """All answers of an index, by filter and whether queries are asked alone.

    Rows are removed before the last ones, for good. Other questions come with their name.
    """
    for name in FILTERS:
        if name == "removed":
            index.remove(problem.removed)
        for alone in ways:
            for answer in asked(problem, index, problem.filter(name, index), radii, alone):
                yield name, alone, answer
        if problem.seed < WIDE:
            yield from ((name, question, arrays) for question, arrays in asked_else(
                problem, index, name, radii))


def asked_else(problem: Problem, index: farann.Index, name: str,
               radii: tuple[Floats, Floats]) -> Iterator[tuple[str, Any]]:
    """Arrays that answer all other questions under a filter, by question."""
    given, queries, near = problem.filter(name, index), problem.queries, radii[1]
    sets = {key: value if key == "allowed" else value[:2] for key, value in given.items()}
    for alone in (False, True):
        hits = [index.search_within(queries[some], radius=near[some], return_keys=True, **{
            key: value if key == "allowed" else value[some] for key, value in given.items()})
            for some in ([slice(i, i + 1) for i in range(3)] if alone else [slice(None)])]
        yield "within", [np.concatenate(part) for part in zip(
            *((np.diff(some.offsets), some.ids, some.keys) for some in hits), strict=True)]
    yield from few_of_groups(problem, index, given, sets)
    if index.metric != "l2" and problem.kind not in OFF_CENTER:
        for way in ("mean", "best"):
            found = index.search_contrast(
                [queries[:2], queries[2:]], [queries[2:], queries[:1]], K, weight=0.75,
                likes_by=way, return_keys=True, **sets)
            yield f"contrast by {way}", (found.ids, found.keys)
    if name not in ROW_FILTERS:
        return
    if index.metric != "l2":
        for pool in (None, 3 * K):
            found = index.search_mmr(queries, K, diversity=0.5, candidates=pool, **given)
            yield f"mmr of {pool}", (found.ids, found.scores)
        found = index.search_mmr(queries, K, diversity=0.5, per_group=1, **given)
        yield "mmr with 1 of a group", (found.ids, found.scores, found.groups)
    rows, may = given, np.sort(index.ids)
    if name == "allowed":
        may = np.sort(index.ids[given["allowed"]])
    elif name == "groups":
        rows = {"allowed": index.filter(groups=[0, 2])}
        may = np.sort(index.ids[np.isin(index.groups(), [0, 2])])
    for how in ({}, {"start": may[1]}, {"first": may[:3]}, {"per_group": 1}):
        chosen = index.select_diverse(2 * K, **how, **rows)
        yield f"diverse {how}", (chosen.ids, chosen.scores)
    scores = below(50, problem.seed, 24, len(problem.rows)).astype(np.float64)
    order = np.argsort(problem.ids)
    scores = scores[order[np.searchsorted(problem.ids[order], index.ids)]]
    limits: tuple[dict[str, Any], ...] = {"k": 2 * K}, {"per_group": 2}
    for limit in limits:
        spaced = index.select_spaced(scores, radius=near[1], **limit, **rows)
        yield f"spaced {limit}", (spaced.ids, spaced.scores)
    ends = index.diameter(**rows)
    yield "diameter", (ends.ids, np.float64(ends.score))
    if name == "none":
        pairs, by_id = index.pairs_within(near[1]), np.argsort(index.ids)
        yield "pairs", (pairs.ids, pairs.scores)
        graph = index.furthest_graph(2)
        yield "graph", (graph.ids[by_id], graph.scores[by_id])
        yield "eccentricities", (index.eccentricities()[by_id],)


def few_of_groups(problem: Problem, index: farann.Index, given: dict[str, Any],
                  sets: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Arrays that answer questions with `per_group` under a filter, which sets have as `sets`."""
    queries = problem.queries
    parts = [slice(None)], [slice(i, i + 1) for i in range(3)]
    for (search, most), own in product(((index.search_furthest, 1), (index.search_nearest, 2)),
                                       parts):
        few = [search(queries[some], K, per_group=most, return_keys=True, **{
            key: value if key == "allowed" else value[some] for key, value in given.items()})
            for some in own]
        yield f"{most} of a group", [np.concatenate([getattr(one, part) for one in few])
                                     for part in ("ids", "keys", "groups")]
    few_from = index.search_furthest_from([queries[some] for some in _SETS], K, per_group=1,
                                          return_keys=True, **sets)
    yield "1 of a group from sets", (few_from.ids, few_from.keys, few_from.groups)


def checksum(arrays: Any) -> int:
    """Of the bits of some arrays."""
    found = 0
    for array in arrays:
        found = zlib.crc32(array.astype(array.dtype.newbyteorder("<")).tobytes(), found)
    return found


# ---- what is kept ----


def make() -> None:
    """Write the answers of this version, by float32 rows."""
    counts, rows, places, keys, n_answers = [], [], [], [], []
    radii: list[tuple[Floats, Floats]] = []
    sums: list[list[int]] = []
    for seed in range(SEEDS):
        problem = Problem.of(seed)
        row_of = {int(name): i for i, name in enumerate(problem.ids)}
        for metric in METRICS:
            index = problem.built(metric, "float32", None, False)
            radii.append(radii_of(problem, index))
            found = []
            sums.append([])
            for _, what, answer in answers(problem, index, radii[-1], False):
                if isinstance(what, str):
                    sums[-1].append(checksum(answer))
                else:
                    found += list(zip(*answer, strict=True))
            n_answers.append(len(found))
            counts += [len(ids) for ids, _ in found]
            rows += [row_of[int(name)] for ids, _ in found for name in ids]
            # The same rows answer under several filters.
            distinct, place = np.unique(np.concatenate([bits for _, bits in found]),
                                        return_inverse=True)
            keys.append(distinct)
            places.append(place)
    np.savez_compressed(
        DATA, counts=np.array(counts, np.uint16), n_answers=np.array(n_answers, np.uint16),
        rows=np.array(rows, np.uint16), places=np.concatenate(places).astype(np.uint16),
        keys=np.concatenate(keys), n_keys=np.array([len(part) for part in keys], np.uint16),
        radii=np.concatenate(radii, axis=1), n_radii=[len(far) for far, _ in radii],
        sums=np.concatenate(sums).astype(np.uint32),
        n_sums=np.array([len(part) for part in sums], np.uint16))
    print(f"{DATA.name}: {len(rows):,} rows in {len(counts):,} answers, "
          f"{DATA.stat().st_size:,} bytes")


class Kept:
    """The answers of the file, in the order in which they were asked."""

    def __init__(self) -> None:
        with np.load(DATA) as file:
            self.counts, self.rows, self.places = file["counts"], file["rows"], file["places"]
            self.keys, self.n_keys = file["keys"], file["n_keys"]
            self.radii = np.split(file["radii"], np.cumsum(file["n_radii"]), axis=1)
            self.sums = np.split(file["sums"], np.cumsum(file["n_sums"], dtype=np.int64))
            self.starts = np.concatenate([[0], np.cumsum(file["n_answers"], dtype=np.int64)])
        self.ends = np.concatenate([[0], np.cumsum(self.counts, dtype=np.int64)])
        self.key_ends = np.concatenate([[0], np.cumsum(self.n_keys, dtype=np.int64)])

    def of(self, seed: int, metric: int) -> tuple[
            tuple[Floats, Floats], list[tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]],
            npt.NDArray[np.uint32]]:
        """The radii, rows and bits of keys of each query's answers, checksums of all others."""
        number = seed * len(METRICS) + metric
        keys = self.keys[self.key_ends[number] : self.key_ends[number + 1]]
        found = []
        for i in range(self.starts[number], self.starts[number + 1]):
            here = slice(self.ends[i], self.ends[i + 1])
            found.append((self.rows[here].astype(np.int64), keys[self.places[here]]))
        return tuple(self.radii[number]), found, self.sums[number]


def compare(seeds: list[int]) -> int:
    """Compare the answers of some seeds at the level of this process; gives how many differ."""
    kept, wrong, compared = Kept(), 0, 0
    for seed, (metric, name), in_steps in product(seeds, enumerate(METRICS), (False, True)):
        problem = Problem.of(seed)
        radii, expected, sums = kept.of(seed, metric)
        for codes, cells in WAYS:
            index = problem.built(name, codes, cells, in_steps)
            at, right_sums = {False: 0, True: 0}, iter(sums)
            for filtered, alone, answer in answers(problem, index, radii, False, True):
                if isinstance(alone, str):
                    compared += 1
                    if checksum(answer) != next(right_sums):
                        wrong += 1
                        print(f"{index.isa}: seed {seed}, {name}, {codes}, {cells=}, {in_steps=}, "
                              f"{filtered}, {alone}: {answer}")
                    continue
                for ids, keys in zip(*answer, strict=True):
                    rows, right = expected[at[alone]]
                    at[alone], compared = at[alone] + 1, compared + 1
                    if np.array_equal(ids, problem.ids[rows]) and np.array_equal(keys, right):
                        continue
                    wrong += 1
                    if wrong <= _SHOWN:
                        print(f"{index.isa}: seed {seed}, {name}, {codes}, {cells=}, {in_steps=}, "
                              f"{alone=}, {filtered}, answer {at[alone] - 1}: {ids}, expected "
                              f"{problem.ids[rows]}; keys {keys.view(np.float64)}, expected "
                              f"{right.view(np.float64)}")
            assert at[False] == at[True] == len(expected) and next(right_sums, None) is None
    print(f"{farann.Index().isa}: {compared:,} answers compared, {wrong:,} wrong")
    return wrong


def levels() -> list[str]:
    """The instruction-set levels of this CPU, as the message says that refuses another."""
    refused = subprocess.run([sys.executable, "-c", "import farann\nfarann.Index()"],
                             env={**os.environ, "FARANN_ISA": "none"}, text=True,
                             capture_output=True)
    named = re.search(r"this CPU has ([\w, ]+); got", refused.stderr)
    assert named is not None, refused.stderr
    return named[1].split(", ")


def at_level(level: str, seeds: list[int]) -> subprocess.CompletedProcess[str]:
    """Compare in a process of its own, at a level."""
    return subprocess.run([sys.executable, __file__, "--seeds", *map(str, seeds)], text=True,
                          env={**os.environ, "FARANN_ISA": level}, capture_output=True)


def main() -> int:
    """What the command line asks for; 1 if an answer differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--all", action="store_true", help="all seeds, at each level")
    what.add_argument("--make", action="store_true", help="write the answers of this version")
    what.add_argument("--seeds", type=int, nargs="+", help="some seeds, at the level of FARANN_ISA")
    given = parser.parse_args()
    if given.make:
        make()
        return 0
    if given.seeds:
        return int(compare(given.seeds) > 0)
    failed = 0
    for level in levels():
        did = at_level(level, list(range(SEEDS)))
        print(did.stdout + did.stderr, end="", flush=True)
        failed |= did.returncode
    return failed


if __name__ == "__main__":
    sys.exit(main())
