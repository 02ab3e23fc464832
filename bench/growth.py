"""How cost per query, build time and memory grow with the number of rows.

Rows in clusters, the same distribution at every size; exact peers, and approximate ones at the
fastest setting that reaches a wanted recall.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from . import datasets, machine
from .algorithms import Algorithm, matching
from .algorithms.base import Profile
from .datasets import DataSet
from .results import exponent, fastest
from .run import Log, Options, child_environment, run_child
from .worker import Task, describe

DEFAULT = ["farann", "faiss-flat", "faiss-ivf-flat"]
QUERIES = 200
MODES = ("batch", "single")
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
    return [int(round(n)) for n in np.geomspace(low, high, points)]


def _make(count: int, dim: int, metric: str, cache: Path) -> DataSet:
    folder = cache / f"growth-{count}x{dim}"
    if not (folder / "rows.npy").exists():
        vectors = datasets.clusters(count + QUERIES, dim, seed=5)
        datasets.store(folder, vectors[:count], vectors[count:])
    name = f"growth-{metric}"
    return datasets.with_truth(DataSet(name, f"Clusters, {count:,} x {dim}", metric, folder))


def _needed(count: int, dim: int) -> int:
    """The rows, their reduction, the index and what building takes, beside the rest."""
    return 5 * 4 * count * dim + (1 << 29)


def _chosen(records: list[dict[str, Any]], wanted: float) -> list[tuple[str, dict[str, Any]]]:
    """The exact record and the fastest approximate one that is good enough."""
    exact = fastest(records, exact=True)
    rough = fastest([r for r in records if not r["claims_exact"]], wanted)
    pairs = (("exact", exact), (f"recall {wanted:g}", rough))
    return [(target, record) for target, record in pairs if record is not None]


def run(
    sizes: list[int],
    dim: int,
    metric: str,
    wanted_recall: float,
    only: list[str] | None,
    timeout: float,
    cache: Path,
    out: Path,
    command: list[str],
) -> Path:
    """Measure every size as far as memory goes, and append to a file of JSON lines."""
    options = Options(full=True, repeats=3, budget=1.0, timeout=timeout, modes=MODES)
    log = Log(out, options, command)
    chosen = []
    for algorithm in matching(only or DEFAULT):
        reason = algorithm.missing()
        if reason is None and metric not in algorithm.metrics:
            reason = f"it has no {metric}"
        if reason:
            log.write("skipped", algorithm=algorithm.name, reason=reason)
            tqdm.write(f"left out: {algorithm.name}: {reason}", file=sys.stderr)
        else:
            chosen.append(algorithm)
    with tqdm(total=len(sizes) * len(chosen), desc="growth", unit="index") as progress:
        for count in sizes:
            if _needed(count, dim) > machine.free_bytes():
                reason = f"{count:,} rows need about {_needed(count, dim) >> 20:,} MB of memory"
                log.write("skipped", dataset=f"growth-{metric}", rows=count, reason=reason)
                tqdm.write(f"left out: {reason}", file=sys.stderr)
                progress.update(len(chosen))
                continue
            progress.set_postfix_str(f"{count:,} rows")
            data = _make(count, dim, metric, cache)
            for algorithm in chosen:
                progress.set_postfix_str(f"{count:,} rows: {algorithm.name}")
                _measure(algorithm, data, wanted_recall, options, log)
                progress.update()
            shutil.rmtree(data.folder)  # large, and quick to make again
    return out


def _measure(
    algorithm: type[Algorithm], data: DataSet, wanted: float, options: Options, log: Log
) -> None:
    count, dim = data.shape()
    about = {
        "algorithm": algorithm.name,
        "title": algorithm.title,
        "library": algorithm.library,
        "version": algorithm.version(),
        "dataset": data.name,
        "metric": data.metric,
        "rows": count,
        "dim": dim,
        "k": options.k,
    }
    environment = child_environment(algorithm.environment(machine.cpu_flags()))
    measured = []
    for setting in algorithm.sweep(Profile(count, dim, data.metric, options.k, full=True)):
        if setting.aside:
            continue
        task = Task(
            algorithm=algorithm.name,
            dataset=describe(data),
            build=setting.build,
            searches=setting.searches,
            modes=list(options.modes),
            k=options.k,
            repeats=options.repeats,
            budget=options.budget,
        )
        records, reason = run_child(task, environment, options.timeout)
        measured += records
        if reason:
            log.write("failure", **about, build=setting.build, reason=reason)
            tqdm.write(f"failed: {algorithm.name} on {count:,} rows: {reason}", file=sys.stderr)
    for mode in options.modes:
        chosen = _chosen([r for r in measured if r["mode"] == mode], wanted)
        for target, record in chosen:
            log.write("growth", **about, **record, target=target)
        if measured and not chosen:
            reason = f"no setting reached recall {wanted:g} ({mode})"
            there = {"algorithm": algorithm.name, "dataset": data.name, "rows": count}
            log.write("skipped", **there, mode=mode, reason=reason)
            tqdm.write(f"left out: {algorithm.name} on {count:,} rows: {reason}", file=sys.stderr)


def curves(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One curve an algorithm and target, with the fitted exponent of every cost.

    Returns
    -------
    list of dict
        ``title``, ``library``, ``algorithm``, ``target`` and, for each key of `COSTS`,
        ``points`` (pairs of rows and cost) and ``exponents``.
    """
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for record in records:
        groups.setdefault((record["algorithm"], record["target"]), []).append(record)
    made = []
    for (name, target), group in groups.items():
        points = {}
        for cost, key in COSTS.items():
            mode = cost if cost in MODES else "batch"
            by_rows = {r["rows"]: r[key] for r in group if r["mode"] == mode}
            points[cost] = sorted(by_rows.items())
        made.append(
            {
                "algorithm": name,
                "target": target,
                "title": f"{group[0]['title']}, {target}",
                "library": group[0]["library"],
                "points": points,
                "exponents": {
                    cost: exponent([n for n, _ in pairs], [value for _, value in pairs])
                    for cost, pairs in points.items()
                },
            }
        )
    return made
