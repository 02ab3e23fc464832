"""Time this checkout beside another commit of it: `python packaging/compare.py origin/main`.

Both are compiled by the running Python and timed in processes that take turns, so that a machine
that gets slower or faster meanwhile does so for both. The table says by what each search takes
longer: the median of the rounds' ratios, and the smallest and the largest. The exit code is 1 where
a search took longer in every round, and in the median by more than a tenth.
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
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOO_SLOW = 1.10


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


def measure() -> dict[str, float]:
    """Microseconds a query, the least of some tries, of a few searches that users do."""
    import numpy as np

    import farann

    rng = np.random.default_rng(0)
    rows = rng.standard_normal((60_000, 64), dtype=np.float32)
    wide = rng.standard_normal((64, 40)) @ rng.standard_normal((40, 512))
    wide = (wide[rng.integers(0, 64, 15_000)] + rng.standard_normal((15_000, 512))).astype("f4")
    times = {}

    def timed(name: str, search: object, n: int, tries: int = 7) -> None:
        assert callable(search)
        search()
        least = float("inf")
        for _ in range(tries):
            start = time.perf_counter()
            search()
            least = min(least, time.perf_counter() - start)
        times[name] = least / n * 1e6

    index = farann.Index(metric="cosine", threads=1)
    index.add(rows)
    index.build()
    queries = rng.standard_normal((500, 64), dtype=np.float32)
    timed("60,000 x 64, cosine, batch", lambda: index.search_furthest(queries, k=10), 500)
    timed("the same one by one",
          lambda: [index.search_furthest(query, k=10) for query in queries[:50]], 50)
    index.tune(queries, k=10)
    timed("the same, recall 0.95", lambda: index.search_furthest(queries, k=10, recall=0.95), 500)
    broad = farann.Index(metric="l2", threads=1)
    broad.add(wide)
    broad.build()
    timed("15,000 x 512, l2, batch", lambda: broad.search_furthest(wide[:200], k=10), 200)
    small = farann.Index(metric="dot", threads=1)
    small.add(rows[:100])
    timed("100 x 64, dot, one by one",
          lambda: [small.search_furthest(query, k=10) for query in queries], 500)
    return times


def run(tree: Path) -> dict[str, float]:
    out = subprocess.run([sys.executable, str(Path(__file__).resolve()), "--measure"], check=True,
                         capture_output=True, text=True, cwd=tree,
                         env={**os.environ, "PYTHONPATH": str(tree)}).stdout
    answer: dict[str, float] = json.loads(out)
    return answer


def table(pairs: list[tuple[dict[str, float], dict[str, float]]]) -> tuple[str, bool]:
    """Markdown of all searches, and whether one of them became slower."""
    lines = ["| search | before, µs a query | now | ratio, median | of all rounds |",
             "|---|---:|---:|---:|---|"]
    slower = False
    for name in pairs[0][0]:
        ratios = [now[name] / before[name] for before, now in pairs]
        middle = statistics.median(ratios)
        slower |= min(ratios) > 1 and middle > TOO_SLOW
        lines.append(f"| {name} | {statistics.median(b[name] for b, _ in pairs):.1f} "
                     f"| {statistics.median(n[name] for _, n in pairs):.1f} | {middle:.3f} "
                     f"| {min(ratios):.3f} to {max(ratios):.3f} |")
    return "\n".join(lines) + "\n", slower


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("base", nargs="?", default="main", help="a commit, main by default")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure()))
        return 0
    base = checkout(args.base)
    for tree in (base, ROOT):
        compiled(tree)
    pairs = []
    for i in range(args.rounds):
        if i % 2:
            now = run(ROOT)
            pairs.append((run(base), now))
        else:
            before = run(base)
            pairs.append((before, run(ROOT)))
    text, slower = table(pairs)
    print(text)
    (ROOT / "build" / "compare.md").write_text(text, encoding="utf-8")
    return int(slower)


if __name__ == "__main__":
    sys.exit(main())
