"""farann and its peers by turns, exact and at recalls: ``python -m bench turns [--nearest]``.

All indexes of a set are built in one process, then each batch size and number of threads is
measured in rounds in which each library takes its turn.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from . import datasets, machine, measures
from .algorithms.base import Algorithm, Profile, Rows, Setting
from .results import Record, is_ours, markdown, settings
from .run import Log, Options

SETS = ("glove-cosine", "fashion-mnist-l2", "two-towers-dot", "sentences-cosine",
        "sentences-wide-cosine", "patches-cosine")
TARGETS = (1.0, 0.99, 0.95)
BATCHES, THREADS = (1, 10, 100, 1000), (1, 2)
_EXACT = 0.999  # the recall of an exact library: float32 may round the last of k away
_ROUND_QUERIES = 64  # that each way answers in a round, in batches; or one batch
_FEWEST = 3  # rounds
# Seconds before a way that uses several threads: those of OpenMP and OpenBLAS keep a core busy
# while they wait for more to do, for up to 2^26 cycles.
REST = 0.05
_WARM = 0.01  # seconds of a way after it
_FEWEST_RESTED = 10  # rounds
# Times the fastest: a way that takes longer in two rounds, or twice as long in one, gets no more.
HOPELESS = 4.0
Key = TypeVar("Key", bound=Hashable)
Took = tuple[float, float]  # seconds of the CPU, of the clock


@dataclass(frozen=True, eq=False)
class Way:
    """An index, the parameters of a search on it, and what every line says of both."""

    algorithm: Algorithm
    about: Record
    asked: Rows

    def ask(self, batch: int, number: int) -> None:
        """Answer the queries of a round."""
        self.algorithm.configure(self.about["search"])
        for some in of_round(self.asked, batch, number):
            if batch == 1:
                self.algorithm.find_one(some[0])
            else:
                self.algorithm.find(some)


def asked_in(batch: int, queries: int) -> int:
    """Queries of a round: whole batches, at least one."""
    return min(queries, max(batch, _ROUND_QUERIES // batch * batch))


def of_round(queries: Rows, batch: int, number: int) -> list[Rows]:
    """The batches of a round. Each round has others: the CPU foresees the branches of queries that
    are asked again, and has their rows in its caches, which made ours up to 1.4 times as fast."""
    n = asked_in(batch, len(queries))
    first = number * n % (len(queries) - n + 1)
    return [queries[at : at + batch] for at in range(first, first + n, batch)]


def timed(ways: dict[Key, Callable[[int], object]], seconds: float,
          hopeless: float = np.inf, rest: float = 0.0) -> dict[Key, list[Took]]:
    """What each took in every round, at least three rounds and `seconds` a way; ten rounds if there
    is a rest before it, after some that aren't timed, as cores that rested are slow. A way is
    called with the number of the round; those below 0 aren't timed."""
    took: dict[Key, list[Took]] = {key: [] for key in ways}
    left, rounds, untimed = seconds * len(ways), 0, 0
    while rounds < (_FEWEST_RESTED if rest else _FEWEST) or left > 0.0:
        least = min((min(some)[0] for some in took.values() if some), default=0.0)
        for key in list(ways)[:: 1 if rounds % 2 else -1]:
            most = hopeless * least * (2 if rounds == 1 else 1)
            if rounds == 0 or min(took[key])[0] <= most:
                if rest:
                    time.sleep(rest)
                    awake = time.perf_counter() + _WARM
                    while time.perf_counter() < awake:
                        untimed -= 1
                        ways[key](untimed)
                cpu, wall = time.process_time(), time.perf_counter()
                ways[key](rounds)
                took[key].append((time.process_time() - cpu, time.perf_counter() - wall))
                left -= took[key][-1][1] + rest
        rounds += 1
    return took


def chosen(peer: type[Algorithm], profile: Profile) -> list[Setting]:
    """A peer's indexes of the quick run, with all searches of the full one."""
    builds = [setting.build for setting in peer.sweep(profile)]
    return [setting for setting in peer.sweep(replace(profile, full=True))
            if setting.build in builds and not setting.environment and "codes" not in setting.build]


def ways(data: datasets.DataSet, peer: type[Algorithm], targets: tuple[float, ...],
         k: int) -> Iterator[tuple[float, Way]]:
    """The exact ways of a peer, and its fastest one at each recall, in a batch of all queries."""
    rows, queries, kth = data.rows(), data.queries(), data.truth()[1][:, k - 1]
    fastest: dict[float, Way] = {}
    for setting in chosen(peer, Profile(*data.shape(), data.metric, k, nearest=data.nearest)):
        algorithm = peer(data.metric, k, setting.build, data.nearest)
        algorithm.set_threads(1)
        algorithm.sample = data.sample()
        began = time.process_time()
        algorithm.build(rows)
        built, asked = time.process_time() - began, algorithm.asked(queries)
        for search in setting.searches:
            claims = algorithm.claims_exact(search)
            if targets == (1.0,) and not claims:
                continue
            began = time.process_time()
            algorithm.configure(search)
            built += time.process_time() - began  # farann tunes then
            began = time.process_time()
            ids = np.asarray(algorithm.find(asked), np.int64)
            took = time.process_time() - began
            recall = measures.recall(rows, queries, ids, kth, data.metric, data.nearest)
            about = {"algorithm": peer.name, "title": peer.title, "library": peer.library,
                     "version": peer.version(), "build": setting.build, "search": search,
                     "build_seconds": built, "recall": recall, "batch_seconds": took,
                     "kernels": algorithm.kernels()}
            way = Way(algorithm, about, asked)
            if claims and recall >= _EXACT:
                yield 1.0, way
            for target in targets if is_ours(about) or not claims else ():
                if target < 1.0 and recall >= target and (
                        target not in fastest or took < fastest[target].about["batch_seconds"]):
                    fastest[target] = way
    yield from fastest.items()


def measure(data: datasets.DataSet, peers: list[type[Algorithm]], targets: tuple[float, ...],
            k: int, seconds: float, log: Log) -> list[Record]:
    """All cells of a set, a record each."""
    there: dict[float, list[Way]] = {target: [] for target in targets}
    for peer in peers:
        able = peer.nearest_metrics if data.nearest else peer.metrics
        if (data.metric not in able or peer.missing() or peer.baseline
                or (targets == (1.0,) and not peer.exact)):
            continue
        tqdm.write(f"{data.name}: {peer.name}", file=sys.stderr)
        try:
            for target, way in ways(data, peer, targets, k):
                there[target].append(way)
        except (RuntimeError, ValueError, TypeError, AssertionError) as error:
            log.write("failure", dataset=data.name, algorithm=peer.name, reason=str(error)[:300])
            tqdm.write(f"failed: {error}", file=sys.stderr)
    tqdm.write(f"{data.name}: built", file=sys.stderr)
    found = []
    for threads in THREADS:
        for algorithm in {id(w.algorithm): w.algorithm for some in there.values() for w in some
                          }.values():
            algorithm.set_threads(threads)
        for target, some in there.items():
            for batch in BATCHES:
                took = timed({way: partial(way.ask, batch) for way in some}, seconds, HOPELESS,
                             REST if threads > 1 else 0.0)
                for way, rounds in took.items():
                    n = asked_in(batch, len(way.asked))
                    us = [1e6 * one[threads > 1] / n for one in rounds]
                    found.append({"dataset": data.name, "dataset_title": data.title, "k": k,
                                  "nearest": data.nearest, "target": target, "threads": threads,
                                  "batch": batch, "us": median(us), "us_all": us, **way.about})
                    log.write("turn", **found[-1])
    return found


def run(names: list[str], peers: list[type[Algorithm]], targets: tuple[float, ...], nearest: bool,
        k: int, seconds: float, cache: Path, out: Path, command: list[str],
        max_rows: int | None = None) -> str:
    """Measure sets, append to a file of JSON lines, and return the tables."""
    for peer in peers:  # read when a library is loaded; numpy's OpenBLAS has its kernels already
        os.environ.update(peer.environment(machine.cpu_flags()))
    log, found = Log(out, Options(k=k), command), []
    for name in names:
        found += measure(datasets.load(name, cache, max_rows, nearest), peers, targets, k, seconds,
                         log)
    return tables(found)


def tables(found: list[Record]) -> str:
    """Of each set and recall the libraries, with how many queries pay for an index."""
    parts = []
    for dataset, target in dict.fromkeys((r["dataset"], r["target"]) for r in found):
        some = [r for r in found if (r["dataset"], r["target"]) == (dataset, target)]
        cells: dict[str, list[Record]] = {}
        for r in some:
            cells.setdefault(f"{r['title']}, {settings(r)}".removesuffix(", "), []).append(r)
        whole = {key: next(r for r in own if (r["batch"], r["threads"]) == (BATCHES[-1], 1))
                 for key, own in cells.items()}
        mine = [r for r in whole.values() if is_ours(r)]
        lines = [[key, f"{own[0]['recall']:.4f}", f"{own[0]['build_seconds']:.1f}",
                  "" if is_ours(own[0]) else pays_from(whole[key], mine),
                  *(f"{r['us']:,.4g} ({len(r['us_all'])})" for r in own)]
                 for key, own in cells.items()]
        heads = ["library", "recall", "build, s", "pays from", *(
            f"{batch} x {threads}" for threads in THREADS for batch in BATCHES)]
        parts.append(f"{some[0]['dataset_title']}, {'exact' if target == 1 else target}\n\n"
                     + markdown(heads, lines))
    spread = median(r["us"] / min(r["us_all"]) for r in found)
    return "\n\n".join([*parts, "µs a query (rounds) by batch x threads; the median round, shown, "
                        f"took {spread:.2f} of the least."])


def pays_from(peer: Record, mine: list[Record]) -> str:
    """From how many queries on a peer, its build included, is ahead of our fastest way.

    Examples
    --------
    >>> ours = {"us": 50.0, "build_seconds": 1.0}
    >>> pays_from({"us": 30.0, "build_seconds": 21.0}, [ours])
    '1,000,000'
    """
    queries = [max(0.0, 1e6 * (peer["build_seconds"] - one["build_seconds"]))
               / (one["us"] - peer["us"]) if peer["us"] < one["us"] else np.inf for one in mine]
    most = max(queries, default=np.inf)
    return f"{most:,.0f}" if most < np.inf else ""

