"""Runs the libraries in processes of their own, and makes tables of what they tell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from .libraries import LIBRARIES

TARGETS = (0.9, 0.95, 0.99)


def run(cache: Path, data: list[str], only: list[str], k: int, out: Path) -> None:
    """Measure, append to a file of JSON lines, and print a table for each data set."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    for one in data:
        name, _, metric = one.rpartition("-")
        print(f"\n{one}, k = {k}, one thread\n\n{head()}")
        for library in only:
            done = subprocess.run(
                [sys.executable, "-m", "bench.nearest.worker", library,
                 str(cache / name / "rows.npy"), str(cache / name / "queries.npy"), metric, str(k)],
                env=environment, stdout=subprocess.PIPE, text=True, check=False)
            lines = [json.loads(line) for line in done.stdout.splitlines()]
            if done.returncode or not lines:
                print(f"| {LIBRARIES[library].title} | failed |", flush=True)
                continue
            with out.open("a") as stream:
                stream.writelines(json.dumps({"data": one, **line}) + "\n" for line in lines)
            print(row_of(lines), flush=True)


def head() -> str:
    """The head of a table."""
    columns = ["library", "build, s", "memory, MB", *(f"us at {target:g}" for target in TARGETS),
               "best recall, us"]
    return f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"


def row_of(lines: list[dict[str, Any]]) -> str:
    """The fastest setting at each recall, and the one of the highest."""
    built, *found = lines
    cells = [built["title"], f"{built['build_s']:.1f}", f"{built['grown'] / 1e6:.0f}"]
    for target in TARGETS:
        times = [line["us"] for line in found if line["recall"] >= target]
        cells.append(f"{min(times):.0f}" if times else "")
    best = max(found, key=lambda line: (line["recall"], -line["us"]))
    cells.append(f"{best['recall']:.4f}, {best['us']:.0f}")
    return f"| {' | '.join(cells)} |"
