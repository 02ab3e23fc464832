"""farann or a peer on one row of the suite: ``python -m bench.edge.worker task.json out.jsonl``."""

from __future__ import annotations

import gc
import importlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import farann
from farann.runtime.cost import cost_of

from .. import measures
from ..algorithms import by_name
from ..algorithms.base import Algorithm, Ids, Profile
from ..results import Record
from ..worker import serve
from .cases import BUILD, Case, Way, named
from .data import Floats

OURS = "farann"
_ONE_BY_ONE = 64  # queries whose answers are checked and counted when they are asked one by one
# And whose batch a peer is given under a filter, under which it multiplies query by query.
_FILTERED_BATCH = 64
_BUILDS, _BUILD_SECONDS = 3, 10.0  # best of so many, unless one takes longer
_FEWEST = 3  # repetitions
_BLOCK = 1024  # rows of a block of a plain scan


@dataclass(frozen=True)
class Problem:
    """The data of a case, and the k-th best scores of its queries."""

    case: Case
    rows: Floats
    queries: Floats
    k: int
    kth: NDArray[np.float64]
    # And of those among random rows of a share, as several filters allow the same ones.
    truths: dict[float, NDArray[np.float64]] = field(default_factory=dict)

    @classmethod
    def of(cls, case: Case, rows: Floats, queries: Floats) -> Problem:
        """With the truth, by float64 brute force."""
        k = min(case.k, max(1, len(rows) // 2))
        return cls(case, rows, queries, k,
                   measures.furthest(rows, queries, k, case.metric)[1][:, -1])

    def recall(self, ids: NDArray[Any], chosen: Chosen) -> float:
        """Of the answers to the first queries."""
        found = np.asarray(ids, np.int64)
        asked = self.queries[: len(found)]
        return measures.recall(self.rows, asked, found, chosen.kth[: len(found)],
                               self.case.metric)


@dataclass(frozen=True)
class Chosen:
    """A filter, and the k-th best scores of what it leaves."""

    kth: NDArray[np.float64]
    allowed: NDArray[np.bool_] | NDArray[np.int64] | farann.Filter | None = None
    exclude: NDArray[np.int64] | None = None

    @classmethod
    def of(cls, only: tuple[str, float] | None, problem: Problem) -> Chosen:
        """A filter as a case describes it, on random rows."""
        if only is None:
            return cls(problem.kth)
        random = np.random.default_rng(1)
        rows, queries, metric = problem.rows, problem.queries, problem.case.metric
        kind, size = only
        if kind == "exclude":
            many = min(int(size), len(rows) // 4)
            exclude = np.stack([random.choice(len(rows), many, replace=False) for _ in queries])
            ids, scores = measures.furthest(rows, queries, problem.k + many, metric)
            kth = np.empty(len(queries))
            for at, (best, values) in enumerate(zip(ids, scores, strict=True)):
                kth[at] = values[~np.isin(best, exclude[at])][problem.k - 1]
            return cls(kth, exclude=exclude)
        mask = np.zeros(len(rows), dtype=bool)
        mask[random.permutation(len(rows))[: max(problem.k, int(size * len(rows)))]] = True
        if size not in problem.truths:
            scores = measures.furthest(rows[mask], queries, problem.k, metric)[1]
            problem.truths[size] = scores[:, -1]
        return cls(problem.truths[size], allowed=np.flatnonzero(mask) if kind == "ids" else mask)

    def reading(self, seconds: float) -> float:
        """Microseconds to read the mask once, 0 where there is none."""
        mask = self.allowed
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
            return 0.0
        return _least(lambda: np.count_nonzero(mask), 1, seconds)

    def keywords(self, at: int | None = None) -> dict[str, Any]:
        """Of a search for all queries, or for that one."""
        return {
            **({} if self.allowed is None else {"allowed": self.allowed}),
            **({} if self.exclude is None else
               {"exclude": self.exclude if at is None else self.exclude[at]}),
        }


def measure(problem: Problem, who: str, seconds: float) -> Iterator[Record]:
    """Build and search in all ways and modes of the case; yields a record each.

    Parameters
    ----------
    who : str
        "farann", or the name of an algorithm of the main benchmark.
    seconds : float
        To repeat each measurement for, at least.
    """
    yield from (_ours(problem, seconds) if who == OURS else _theirs(problem, who, seconds))


def _ours(problem: Problem, seconds: float) -> Iterator[Record]:
    case = problem.case
    last, index, build_seconds, tuned = "", farann.Index(), 0.0, False
    # One index at a time, as some are large.
    built = list(dict.fromkeys(map(_index_of, case.ways)))
    for way in sorted(case.ways, key=lambda way: built.index(_index_of(way))):
        if _index_of(way) != last:
            del index
            gc.collect()
            index, build_seconds = _built(problem, way, case.modes == (BUILD,))
            last, tuned = _index_of(way), False
        if "recall" in way.search and not tuned:  # not in the time of a search
            index.tune(k=problem.k)
            tuned = True
        chosen = Chosen.of(way.only, problem)
        if way.only and way.only[0] == "prepared":
            chosen = replace(chosen, allowed=index.filter(allowed=chosen.allowed))
        for mode in way.modes or case.modes:
            yield {"library": OURS, "who": OURS, "label": way.label, "against": way.against,
                   "asked": way.search.get("recall", 1.0), "only": way.only, "mode": mode,
                   "reading": chosen.reading(seconds / 10) if mode == "single" else 0.0,
                   **_farann_in(mode, problem, way, chosen, index, build_seconds, seconds)}


def _index_of(way: Way) -> str:
    return json.dumps([way.streamed, way.index], sort_keys=True)


def _built(problem: Problem, way: Way, repeated: bool) -> tuple[farann.Index, float]:
    """An index, and the least time to build it."""
    rows, best = problem.rows, float("inf")
    for _ in range(_BUILDS if repeated else 1):
        index = farann.Index(metric=problem.case.metric, **{"threads": 1, **way.index})
        start = time.perf_counter()
        share, at_once = way.streamed or (0.0, 1)
        built = len(rows) - int(share * len(rows))
        index.add(rows[:built])
        index.build()
        for at in range(built, len(rows), at_once):
            index.add(rows[at : at + at_once])
        best = min(best, time.perf_counter() - start)
        if best > _BUILD_SECONDS:
            break
    return index, best


def _farann_in(mode: str, problem: Problem, way: Way, chosen: Chosen, index: farann.Index,
               build_seconds: float, seconds: float) -> Record:
    options: dict[str, Any] = {"k": problem.k, "threads": 1, **way.search}
    queries = problem.queries

    def one(at: int, **more: Any) -> Any:
        return index.search_furthest(queries[at], **options, **chosen.keywords(at), **more)

    if mode in ("batch", BUILD):
        filtered = chosen.keywords()
        hits = index.search_furthest(queries, **options, **filtered, return_stats=True)
        ids, work = hits.ids, hits.stats
    else:
        answers = [one(at, return_stats=True) for at in range(min(_ONE_BY_ONE, len(queries)))]
        ids = np.stack([hits.ids for hits in answers])
        work = farann.SearchStats(*map(sum, zip(*(hits.stats for hits in answers), strict=True)))
    if mode == BUILD:
        us = 1e6 * build_seconds
    elif mode == "batch":
        us = _least(lambda: index.search_furthest(queries, **options, **filtered),
                    len(queries), seconds)
    else:
        callers = int(mode.partition(" ")[2] or 1)
        us = _one_by_one(one, len(queries), callers, seconds)
    rows, dim = problem.rows.shape
    return {"us": us, "recall": problem.recall(ids, chosen),
            "scanned": work.rows_scanned / work.queries,
            "refined": work.rows_refined / work.queries,
            "rescored": work.rows_rescored / work.queries,
            "guarded": work.queries_guarded / work.queries,
            "counted": over_plain(work, rows, dim, problem.k, index.isa)}


def plain_scan(queries: int, rows: int, dim: int, k: int) -> farann.SearchStats:
    """The work of a scan in float32 that has to look again at nothing but the answers."""
    answers = queries * min(k, rows)
    return farann.SearchStats(queries=queries, rows_scanned=queries * rows, rows_rescored=answers,
                              float_products=queries * rows * dim,
                              blocks_scanned=queries * -(-rows // _BLOCK), rows_passed=answers)


def over_plain(work: farann.SearchStats, rows: int, dim: int, k: int, isa: str) -> float:
    """Counted cost of a search, divided by that of a plain scan for as many queries."""
    plain = plain_scan(work.queries, rows, dim, k)
    return cost_of(work, dim, isa) / cost_of(plain, dim, isa)


def _theirs(problem: Problem, who: str, seconds: float) -> Iterator[Record]:
    case = problem.case
    algorithm_class = by_name(who)
    for module in algorithm_class.modules:
        importlib.import_module(module)
    rows = problem.rows
    profile = Profile(len(rows), rows.shape[1], case.metric, problem.k)
    setting = algorithm_class.sweep(profile)[-1]
    build_seconds = float("inf")
    for _ in range(_BUILDS if case.modes == (BUILD,) else 1):
        algorithm = algorithm_class(case.metric, problem.k, setting.build)
        algorithm.set_threads(1)
        start = time.perf_counter()
        algorithm.build(rows)
        build_seconds = min(build_seconds, time.perf_counter() - start)
        if build_seconds > _BUILD_SECONDS:
            break
    # By the share that they allow: as mask, as ids and prepared they are the same to it.
    filters: dict[float, list[tuple[str, float] | None]] = {}
    for only in dict.fromkeys(way.only for way in case.ways):
        if only is None or (who == "faiss-flat" and only[0] != "exclude"):  # it has none a query
            filters.setdefault(1.0 if only is None else only[1], []).append(only)
    for alike in filters.values():
        chosen = Chosen.of(alike[0], problem)
        restore = _choose(algorithm, chosen, len(rows))
        for search in setting.searches[-1:] if case.modes == (BUILD,) else setting.searches:
            algorithm.configure(search)
            for mode in case.modes:
                found = _peer_in(mode, problem, chosen, algorithm, build_seconds, seconds)
                for only in alike:
                    yield {"library": algorithm.library, "who": who, "label": "", "only": only,
                           "mode": mode, "search": search, "kernels": algorithm.kernels(), **found}
        restore()


def _peer_in(mode: str, problem: Problem, chosen: Chosen, algorithm: Algorithm,
             build_seconds: float, seconds: float) -> Record:
    queries = problem.queries
    if chosen.allowed is not None:
        queries = queries[:_FILTERED_BATCH]
    asked = algorithm.asked(queries)

    def one(at: int) -> NDArray[np.integer]:
        return algorithm.find_one(asked[at])

    ids: Any
    if mode == "single":
        ids = [one(at) for at in range(min(_ONE_BY_ONE, len(queries)))]
        us = _one_by_one(one, len(queries), 1, seconds)
    else:
        ids = algorithm.find(asked)
        us = (1e6 * build_seconds if mode == BUILD else
              _least(lambda: algorithm.find(asked), len(queries), seconds))
    return {"us": us, "recall": problem.recall(ids, chosen)}


def _choose(algorithm: Any, chosen: Chosen, rows: int) -> Callable[[], None]:
    """Let faiss Flat search in the rows of a filter, prepared once; returns what undoes it."""
    if chosen.allowed is None:
        return lambda: None
    import faiss

    whole = algorithm._index
    mask = np.zeros(rows, dtype=bool)
    mask[np.asarray(chosen.allowed)] = True
    bits = np.packbits(mask, bitorder="little")
    parameters = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bits))

    class Selected:
        def search(self, queries: Floats, k: int) -> tuple[Floats, Ids]:
            found: tuple[Floats, Ids] = whole.search(queries, k, params=parameters)
            return found

    algorithm._index = Selected()

    def restore() -> None:
        algorithm._index = whole

    return restore


def _least(call: Callable[[], object], share: int, seconds: float) -> float:
    """Microseconds of one of `share`, in the fastest of at least three calls."""
    best, spent, count = float("inf"), 0.0, 0
    while spent < seconds or count < _FEWEST:
        start = time.perf_counter()
        call()
        took = time.perf_counter() - start
        best, spent, count = min(best, took), spent + took, count + 1
    return 1e6 * best / share


def _one_by_one(one: Callable[[int], object], queries: int, callers: int, seconds: float) -> float:
    """Microseconds of a query that `callers` threads ask one by one, each its own."""
    start = time.perf_counter()
    one(0)
    each = time.perf_counter() - start
    share = max(4, min(queries, _ONE_BY_ONE, int(seconds / _FEWEST / max(each, 1e-9))))

    def ask(first: int) -> None:
        for at in range(first, first + share):
            one(at % queries)

    def all_of_them() -> None:
        threads = [threading.Thread(target=ask, args=(caller * share,))
                   for caller in range(callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return _least((lambda: ask(0)) if callers == 1 else all_of_them, share * callers, seconds)


def _do(task: dict[str, Any]) -> Iterator[Record]:
    case = named(task["case"])
    yield from measure(Problem.of(case, *case.make(task["scale"])), task["who"], task["seconds"])


if __name__ == "__main__":
    serve(_do)
