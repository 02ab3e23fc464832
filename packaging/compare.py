"""Time this checkout beside another commit of it: `python packaging/compare.py origin/main`.

Both are compiled by the running Python, and searched in two processes that take turns, so that a
machine that gets slower or faster meanwhile does so for both; in several pairs of them, as where
memory happens to lie changes a search by up to a tenth. The table has the least CPU time of each
search and their ratio. The exit code is 1 where the mean of the ratios is above 1.02, or where one
is above 1.05.

Made rows are always searched, real ones where `python -m bench` has fetched them (`bench/.cache`):
exactly, with a recall of .95 and with a mask of half of the rows, in a batch and one by one.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / "bench" / ".cache"
HIGHEST_MEAN, HIGHEST = 1.02, 1.05  # ratios of times that are allowed
K, ALONE = 10, 64
# By name: a set of `bench/.cache`, or rows that are made here, the metric, options of the index.
SETS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "60,000 x 64, cosine": ("normal", "cosine", {}),
    "15,000 x 512, l2": ("wide", "l2", {}),
    "100 x 64, dot": ("few", "dot", {}),
    "GloVe, cosine": ("glove", "cosine", {}),
    "GloVe, dot": ("glove", "dot", {}),
    "GloVe, cosine, cells": ("glove", "cosine", {"cells": "auto"}),
    "Fashion-MNIST, l2": ("fashion-mnist", "l2", {}),
    "Fashion-MNIST, cosine": ("fashion-mnist", "cosine", {}),
    "two towers, dot": ("two-towers", "dot", {}),
    "two towers, cosine": ("two-towers", "cosine", {}),
    "sentences, cosine": ("sentences", "cosine", {}),
    "descriptors, l2": ("descriptors", "l2", {}),
}
WAYS = [f"{limit}, {mode}" for limit in ("exact", ".95", "half") for mode in ("batch", "single")]


def git(*args: str) -> bytes:
    return subprocess.run(["git", *args], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout


def checkout(commit: str) -> Path:
    """A folder with the files of a commit, which is named so that it is laid and compiled once."""
    name = git("rev-parse", "--verify", "--end-of-options", f"{commit}^{{commit}}").decode().strip()
    tree = ROOT / "build" / f"at-{name[:12]}"
    if not tree.exists():
        with tarfile.open(fileobj=io.BytesIO(git("archive", name))) as files:
            files.extractall(tree, filter="data")
    return tree


def compiled(tree: Path) -> None:
    subprocess.run([sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"], cwd=tree,
                   check=True, env={**os.environ, "PYTHONPATH": str(tree)})


def vectors(name: str) -> tuple[Any, Any, Any]:
    """Rows, queries and perhaps a sample of queries of a set."""
    import numpy as np

    folder, rng = CACHE / name, np.random.default_rng(0)
    if (folder / "rows.npy").exists():
        rows, queries = (np.load(folder / f"{part}.npy").astype("f4", copy=False)
                         for part in ("rows", "queries"))
        sample = folder / "sample.npy"
        return rows, queries, np.load(sample) if sample.exists() else None
    if name == "wide":
        rows = rng.standard_normal((64, 40)) @ rng.standard_normal((40, 512))
        rows = rows[rng.integers(0, 64, 15_000)] + rng.standard_normal((15_000, 512))
        return rows.astype("f4"), rows[:200].astype("f4"), None
    rows = rng.standard_normal((100 if name == "few" else 60_000, 64), dtype=np.float32)
    return rows, rng.standard_normal((500, 64), dtype=np.float32), None


def searches(name: str) -> dict[str, Callable[[], object]]:
    """An index of a set, and the ways to search it."""
    import numpy as np

    import farann

    kind, metric, options = SETS[name]
    rows, queries, sample = vectors(kind)
    index = farann.Index(metric=metric, threads=1, **options)
    index.add(rows)
    index.build(queries=sample)
    index.tune(k=K)
    half = np.random.default_rng(1).random(len(rows)) < 0.5
    ways: dict[str, Callable[[], object]] = {}
    for limit, given in (("exact", {}), (".95", {"recall": 0.95}), ("half", {"allowed": half})):
        ways[f"{limit}, batch"] = lambda given=given: index.search_furthest(queries, K, **given)
        ways[f"{limit}, single"] = lambda given=given: [
            index.search_furthest(query, K, **given) for query in queries[:ALONE]]
    return ways


def serve() -> None:
    """Build the sets that are asked for, and time their searches: a line for each."""
    ways: dict[str, Callable[[], object]] = {}
    for line in sys.stdin:
        what, name = json.loads(line)
        if what == "build":
            ways = {}
            ways = searches(name)
        start = time.process_time()
        for _ in range(0 if what == "build" else 3):
            ways[name]()
        print((time.process_time() - start) / 3, flush=True)


class Side:
    """A checkout in a process of its own."""

    def __init__(self, tree: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), "--serve"], text=True, cwd=tree,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(tree)})

    def ask(self, what: str, name: str) -> float:
        assert self.process.stdin is not None and self.process.stdout is not None
        print(json.dumps([what, name]), file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())


def timed(sides: tuple[Side, Side], way: str, rounds: int) -> tuple[float, float]:
    """The least time of both sides, which take turns."""
    least = [float("inf"), float("inf")]
    for turn in range(rounds):
        for which in (turn % 2, 1 - turn % 2):
            least[which] = min(least[which], sides[which].ask("time", way))
    return least[0], least[1]


def compare(trees: tuple[Path, Path], names: list[str], rounds: int,
            processes: int) -> Iterator[tuple[str, float, float]]:
    """Each search, and the least seconds of both sides in some pairs of processes."""
    pairs = [(Side(trees[0]), Side(trees[1])) for _ in range(processes)]
    for name in names:
        least = dict.fromkeys(WAYS, (float("inf"), float("inf")))
        for sides in pairs:
            for side in sides:
                side.ask("build", name)
            for way in WAYS:
                before, now = timed(sides, way, rounds)
                least[way] = min(least[way][0], before), min(least[way][1], now)
        for way, (before, now) in least.items():
            yield f"{name}: {way}", before, now


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("base", nargs="?", default="main", help="a commit, main by default")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--processes", type=int, default=3, help="pairs of them")
    parser.add_argument("--only", default="", help="a part of the names of sets")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve()
        return 0
    trees = (checkout(args.base), ROOT)
    for tree in trees:
        compiled(tree)
    names = [name for name, (kind, *_) in SETS.items() if args.only in name and (
        kind in ("normal", "wide", "few") or (CACHE / kind).exists())]
    lines = ["| search | before, ms | now | ratio |", "|---|---:|---:|---:|"]
    ratios = []
    for name, before, now in compare(trees, names, args.rounds, args.processes):
        ratios.append(now / before)
        lines.append(f"| {name} | {1e3 * before:.3f} | {1e3 * now:.3f} | {ratios[-1]:.3f} |")
        print(lines[-1], flush=True)
    mean = statistics.fmean(ratios)
    lines.append(f"| mean | | | {mean:.3f} |")
    (ROOT / "build" / "compare.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(lines[-1])
    return int(mean > HIGHEST_MEAN or max(ratios) > HIGHEST)


if __name__ == "__main__":
    sys.exit(main())
