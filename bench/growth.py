"""How cost per query, build time and memory grow with the number of rows.

Rows in clusters, the same distribution at every size; exact peers, and approximate ones at the
fastest setting that reaches a wanted recall. A library that would need more memory than there is,
or that took too long at a size, is left out from there on, and the others go on.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from . import datasets, machine
from .algorithms import Algorithm, matching
from .algorithms.base import Profile
from .datasets import DataSet
from .results import Record, exponent, fastest
from .resume import Done
from .run import Log, Options, measure
from .tables import variant_title

DEFAULT = ["farann", "faiss-flat", "faiss-ivf-flat"]
QUERIES = 1000
MODES = ("batch", "single")
BESIDE = 1 << 29  # bytes of Python and its libraries, and of blocks
COSTS = {"batch": "us", "single": "us", "build": "build_seconds", "memory": "index_bytes"}


def sizes(text: str, points: int) -> list[int]:
    """Row counts spaced by one factor, as ``1e5..1e7`` says.

    Examples
    --------
    >>> sizes("1e2..1e4", 3)
    [100, 1000, 10000]
    >>> sizes("500", 3)
    [500]
    """
    first, _, last = text.partition("..")
    try:
        low, high = int(float(first)), int(float(last or first))
    except ValueError:
        raise ValueError(f"--rows must be A..B, as in 1e5..1e7, got {text!r}") from None
    if not 100 <= low <= high:
        raise ValueError(f"--rows must be A..B with 100 <= A <= B, got {text!r}")
    if points < 1:
        raise ValueError(f"--points must be at least 1, got {points}")
    if low == high or points == 1:
        return [high]
    return [round(float(n)) for n in np.geomspace(low, high, points)]


def _make(count: int, dim: int, metric: str, cache: Path) -> DataSet:
    folder = cache / f"growth-{count}x{dim}"
    if not (folder / "rows.npy").exists():
        vectors = datasets.clusters(count + QUERIES, dim, seed=5)
        datasets.store(folder, vectors[:count], vectors[count:])
    name = f"growth-{metric}"
    return datasets.with_truth(DataSet(name, f"Clusters, {count:,} x {dim}", metric, folder))


def _chosen(records: list[Record], wanted: float) -> list[tuple[str, Record]]:
    """Of every label, the exact record and the fastest approximate one that is good enough."""
    pairs: list[tuple[str, Record]] = []
    for label in dict.fromkeys(record["label"] for record in records):
        alike = [record for record in records if record["label"] == label]
        exact = fastest(alike, exact=True)
        rough = fastest([r for r in alike if not r["claims_exact"]], wanted)
        found = (("exact", exact), (f"recall {wanted:g}", rough))
        pairs += [(target, record) for target, record in found if record is not None]
    return pairs


class Library:
    """An algorithm on its way up: what it needed at the last size, and whether it goes on."""

    def __init__(self, algorithm: type[Algorithm]) -> None:
        self.algorithm = algorithm
        self.stopped = ""
        self._bytes_a_row = 0.0

    def obstacle(self, count: int, dim: int) -> str:
        """Why not to try that many rows; empty when nothing speaks against it."""
        if self.stopped:
            return self.stopped
        # Rows, their reduction, the index and what building takes; later, what was seen, which
        # is rather too much, as part of it doesn't grow.
        needed = int(count * self._bytes_a_row) or 5 * 4 * dim * count + BESIDE
        free = machine.free_bytes()
        if needed <= free:
            return ""
        return f"{count:,} rows would take about {needed >> 20:,} MB, {free >> 20:,} are free"

    def saw(self, count: int, records: list[Record], seconds: float, limit: float) -> None:
        """Remember what a size took."""
        peak = max((record["peak_bytes"] for record in records), default=0)
        self._bytes_a_row = peak / count
        if seconds >= limit:
            self.stopped = f"{count:,} rows took longer than {limit:g} s"
        elif not records:
            self.stopped = f"it failed on {count:,} rows"


def run(
    sizes: list[int],
    dim: int,
    metric: str,
    wanted_recall: float,
    only: list[str] | None,
    limit: float,
    cache: Path,
    out: Path,
    command: list[str],
    resume: bool = False,
) -> Path:
    """Measure every size as far as memory and time go, and append to a file of JSON lines.

    Parameters
    ----------
    sizes : list of int
        Rising.
    dim, metric
    wanted_recall : float
        Of the approximate ones.
    only : list of str or None
        Patterns of names; None for `DEFAULT`.
    limit : float
        Seconds that an algorithm may take at one size, all its settings together.
    cache, out : Path
    command : list of str
        Recorded with the results.
    resume : bool
        Leave out the points that the file holds already, in the sense of `resume.Done`.
    """
    options = Options(
        full=True, repeats=3, budget=1.0, timeout=limit, modes=MODES, recall=wanted_recall
    )
    log = Log(out, options, command)
    done = Done(out, log.about)
    libraries = []
    for algorithm in matching(only or DEFAULT):
        reason = algorithm.missing()
        if reason is None and metric not in algorithm.metrics:
            reason = f"it has no {metric}"
        if reason:
            _leave_out(log, algorithm.name, reason, algorithm=algorithm.name)
        else:
            libraries.append(Library(algorithm))
    name = f"growth-{metric}"
    with tqdm(total=len(sizes) * len(libraries), desc="growth", unit="point") as progress:
        for count in sizes:
            wanted = []
            for library in libraries:
                algorithm = library.algorithm
                about = {"algorithm": algorithm.name, "dataset": name, "rows": count, "dim": dim}
                known = {"version": algorithm.version(), "k": options.k}
                if resume and done.point({**about, **known}):
                    progress.update()
                elif obstacle := library.obstacle(count, dim):
                    _leave_out(log, f"{algorithm.name} on {count:,} rows", obstacle, **about)
                    progress.update()
                else:
                    wanted.append(library)
            if not wanted:
                continue
            progress.set_postfix_str(f"{count:,} rows")
            data = _make(count, dim, metric, cache)
            try:
                for library in wanted:
                    progress.set_postfix_str(f"{count:,} rows: {library.algorithm.name}")
                    _measure(library, data, wanted_recall, options, log)
                    progress.update()
            finally:
                shutil.rmtree(data.folder)  # large, and quick to make again
    return out


def _leave_out(log: Log, what: str, reason: str, **about: Any) -> None:
    log.write("skipped", **about, reason=reason)
    tqdm.write(f"left out: {what}: {reason}", file=sys.stderr)


def _measure(
    library: Library, data: DataSet, wanted: float, options: Options, log: Log
) -> None:
    """One algorithm at one size: all settings, of which the best are kept."""
    algorithm = library.algorithm
    count, dim = data.shape()
    measured: list[Record] = []
    start = time.monotonic()
    for setting in algorithm.sweep(Profile(count, dim, data.metric, options.k, full=True)):
        left = options.timeout - (time.monotonic() - start)
        if not setting.aside and left > 0:
            measured += measure(algorithm, data, setting, options, log, left)
    library.saw(count, measured, time.monotonic() - start, options.timeout)
    for mode in options.modes:
        chosen = _chosen([r for r in measured if r["mode"] == mode], wanted)
        for target, record in chosen:
            log.write("growth", **record, target=target)
        if measured and not chosen:
            about = {"algorithm": algorithm.name, "dataset": data.name, "rows": count, "mode": mode}
            reason = f"no setting reached recall {wanted:g} ({mode}) with {count:,} rows"
            _leave_out(log, algorithm.name, reason, **about)


def curves(records: list[Record]) -> list[dict[str, Any]]:
    """One curve an algorithm, label and target, with the fitted exponent of every cost.

    Returns
    -------
    list of dict
        ``title``, ``library``, ``algorithm``, ``target`` and, for each key of `COSTS`,
        ``points`` (pairs of rows and cost) and ``exponents``.
    """
    groups: dict[str, list[Record]] = {}
    for record in records:
        title = f"{variant_title(record)}, {record['target']}"
        groups.setdefault(title, []).append(record)
    made = []
    for title, group in groups.items():
        points = {}
        for cost, key in COSTS.items():
            mode = cost if cost in MODES else "batch"
            by_rows = {r["rows"]: r[key] for r in group if r["mode"] == mode}
            points[cost] = sorted(by_rows.items())
        made.append(
            {
                "algorithm": group[0]["algorithm"],
                "target": group[0]["target"],
                "title": title,
                "library": group[0]["library"],
                "points": points,
                "exponents": {
                    cost: exponent([n for n, _ in pairs], [value for _, value in pairs])
                    for cost, pairs in points.items()
                },
            }
        )
    return made
