"""Near duplicates and spaced rows, beside what others do: python -m bench.diverse.spaced

One thread, CPU seconds. Pairs of all rows take too long by others: these are asked about some rows,
and the time is multiplied. numpy strikes the rows near each pick by a matrix-vector product.
max-div chooses for distance alone, without scores, in as many seconds as it is given.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

import farann

from .. import datasets

Floats = NDArray[np.float32]
ASKED = 4096  # rows that others are asked about
STRUCK_SECONDS = 20.0  # after which the numpy loop stops


def seconds_of(function: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of one thread, and what came of it."""
    with threadpool_limits(1):
        began = time.process_time()
        found = function()
        return time.process_time() - began, found


def struck(rows: Floats, scores: NDArray[np.float64], radius: float) -> tuple[float, int]:
    """The greedy loop in numpy: the share of the rows that it came to in time, and its picks."""
    squares, left, picks = np.einsum("ij,ij->i", rows, rows), np.ones(len(rows), bool), 0
    began = time.process_time()
    for done, i in enumerate(np.argsort(-scores, kind="stable")):
        if left[i]:
            left &= squares - 2.0 * (rows @ rows[i]) + squares[i] >= radius * radius
            left[i], picks = False, picks + 1
            if time.process_time() - began > STRUCK_SECONDS:
                return (done + 1) / len(rows), picks
    return 1.0, picks


def separation(rows: Floats, picks: Any) -> float:
    """The distance of the two picks that are nearest to each other."""
    index = farann.Index()
    index.add(rows[np.asarray(picks)])
    return float(index.search_nearest(ids=index.ids, k=1).scores.min())


def main() -> None:
    """Print what each takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="glove-l2", metavar="NAME")
    parser.add_argument("--max-rows", type=int, default=100_000, metavar="N")
    parser.add_argument("--cache", type=Path, default=datasets.CACHE)
    parser.add_argument("--rows", metavar="FILE", help="your own rows, .npy")
    arguments = parser.parse_args()
    rows = (np.load(arguments.rows)[: arguments.max_rows].astype(np.float32) if arguments.rows else
            datasets.load(arguments.data, arguments.cache, arguments.max_rows).rows())
    n, scores = len(rows), np.random.default_rng(0).random(len(rows))
    index = farann.Index(threads=1)
    index.add(rows)
    print(f"{n:,} rows of {rows.shape[1]} dimensions; build {seconds_of(index.build)[0]:.2f} s")
    nearest = index.search_nearest(ids=index.ids[:ASKED], k=1).scores[:, 0]
    near, far = float(np.quantile(nearest, 0.1)), float(np.quantile(nearest, 0.9))
    took, pairs = seconds_of(lambda: index.pairs_within(near))
    print(f"pairs within {near:.4g}: {len(pairs.ids):,}; farann {took:.2f} s")
    for name, ask in others(rows, near).items():
        print(f"  {name} ~{seconds_of(ask)[0] * n / ASKED:.1f} s")
    took, found = seconds_of(lambda: index.select_spaced(scores, radius=far))
    print(f"spaced by {far:.4g}: {len(found.ids):,} picks; farann {took:.2f} s")
    took, (share, picks) = seconds_of(lambda: struck(rows, scores, far))
    print(f"  numpy {took:.1f} s for {share:.0%} of the rows, {picks:,} picks")
    took, found = seconds_of(lambda: index.select_spaced(scores, k=1000))
    print(f"1,000 spaced: radius {found.radius:.4g}; farann {took:.2f} s")
    for name, select in valued(rows, index, scores):
        took, picks = seconds_of(select)
        value = scores[picks].sum() + separation(rows, picks)
        print(f"  100 by scores and distance: {name} {took:.2f} s, value {value:.4f}")
    some = rows[:20_000]
    took, diverse = seconds_of(lambda: farann.select_diverse(some, 200, threads=1))
    print(f"200 of {len(some):,} by distance alone: farann {took:.3f} s, "
          f"{separation(some, diverse.ids):.4g} apart")
    try:
        from max_div import MaxDivProblem, MaxDivSolverBuilder, Verbosity, seconds
    except ImportError:
        print("  max-div isn't installed")
        return

    def solved() -> Any:
        problem = MaxDivProblem.new(some, k=200)
        builder = MaxDivSolverBuilder(problem).with_preset(seconds(10))
        return builder.build().solve(verbosity=Verbosity.SILENT)

    took, solution = seconds_of(solved)
    print(f"  max-div {took:.1f} s, {separation(some, solution.i_selected):.4g} apart")


def valued(rows: Floats, index: farann.Index, scores: NDArray[np.float64],
           ) -> list[tuple[str, Callable[[], Any]]]:
    """Ways to choose rows by the sum of their scores and their smallest distance (GIST)."""
    ways: list[tuple[str, Callable[[], Any]]] = [
        ("farann", lambda: index.select_spaced(scores, 100, weight=1.0).ids)]
    with suppress(ImportError):
        import divsel

        for diameter in ("approx", "exact"):
            ways.append((f"divsel, diameter {diameter}", partial(
                divsel.gist_select, rows, scores, k=100, lam=1.0, eps=0.05, metric="euclidean",
                diameter=diameter)))
    with suppress(ImportError):
        import gist

        ways.append(("gist-select", lambda: gist.gist(
            rows, gist.LinearUtility(scores), gist.EuclideanDistance(), 100, 1.0, 0.05).indices))
    return ways


def others(rows: Floats, radius: float) -> dict[str, Callable[[], Any]]:
    """Range searches of others for the first rows."""
    ways: dict[str, Callable[[], Any]] = {}
    try:
        import faiss

        flat = faiss.IndexFlatL2(rows.shape[1])
        flat.add(rows)
        faiss.omp_set_num_threads(1)
        ways["faiss range_search"] = lambda: flat.range_search(rows[:ASKED], radius * radius)
    except ImportError:
        print("  faiss isn't installed")
    from sklearn.neighbors import NearestNeighbors

    near = NearestNeighbors(radius=radius, n_jobs=1).fit(rows)
    ways["scikit-learn radius_neighbors_graph"] = lambda: near.radius_neighbors_graph(rows[:ASKED])
    return ways


if __name__ == "__main__":
    main()
