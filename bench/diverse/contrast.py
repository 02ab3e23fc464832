"""Rows like one vector and unlike four others: farann, and what people do elsewhere.

Ways of others are written here in numpy, over all rows: `average_vector` and `best_score` by the
formulas of Qdrant's documentation of recommendations, and pools of nearest rows that are ranked
again. Each is measured by its share of the exact list, and by CPU seconds on one thread.

    python -m bench.diverse.contrast
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

import farann
from bench import datasets

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Way = Callable[[Floats, Floats], Ids]

K, DISLIKES, QUESTIONS, RUNS = 10, 4, 40, 3
NEAR = 100  # dislikes are drawn among so many rows nearest to the like, as results that were shown
POOLS = (100, 1_000, 10_000)
DATA = ("glove-cosine", "sentences-cosine")


def best(scores: Floats, k: int = K) -> Ids:
    """The positions of the k largest scores, in order."""
    some = np.argpartition(scores, -k)[-k:]
    return some[np.argsort(-scores[some])]


def brute_force(rows: Floats, like: Floats, dislikes: Floats) -> Ids:
    """One product of matrices; rows and vectors have length 1, here and below."""
    scores = rows @ np.vstack([like, dislikes]).T
    return best(scores[:, 0] - scores[:, 1:].max(axis=1))


def average_vector(rows: Floats, like: Floats, dislikes: Floats) -> Ids:
    """The nearest rows to the mean like, twice, less the mean dislike."""
    return best(rows @ (like + like - dislikes.mean(axis=0)))


def best_score(rows: Floats, like: Floats, dislikes: Floats) -> Ids:
    """The similarity to the like, or minus the square of that to a dislike where that is larger."""
    scores = rows @ np.vstack([like, dislikes]).T
    unlike = scores[:, 1:].max(axis=1)
    return best(np.where(scores[:, 0] > unlike, scores[:, 0], -unlike * unlike))


def pool(rows: Floats, size: int, like: Floats, dislikes: Floats) -> Ids:
    """The rows nearest to the like, ranked again with the dislikes."""
    some = best(rows @ like, min(size, len(rows)))
    return some[brute_force(rows[some], like, dislikes)]


def unit(vectors: Floats) -> Floats:
    """Vectors of length 1."""
    units: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return units


def compared(rows: Floats, queries: Floats, *, near: bool,
             runs: int = RUNS) -> list[tuple[str, float, float]]:
    """For each way its share of the exact lists, and CPU seconds a question; with `near`, dislikes
    are rows near the like, otherwise any queries."""
    rng, rows = np.random.default_rng(0), unit(rows)
    questions = []
    for like in unit(queries[rng.integers(len(queries), size=QUESTIONS)]):
        among = rows[best(rows @ like, NEAR)] if near else queries
        questions.append((like, unit(among[rng.integers(len(among), size=DISLIKES)])))
    index = farann.Index(metric="cosine", threads=1)
    index.add(rows)
    index.build()
    likes, dislikes = (np.stack(side) for side in zip(*questions, strict=True))
    ways: dict[str, Callable[[], list[Ids]]] = {
        "farann, single": lambda: [index.search_contrast(*one, K).ids for one in questions],
        "farann, batch": lambda: list(index.search_contrast(likes[:, None], dislikes, K).ids)}
    others: dict[str, Way] = {
        "numpy GEMM": partial(brute_force, rows), "average_vector": partial(average_vector, rows),
        "best_score": partial(best_score, rows),
        **{f"pool of {size:,}": partial(pool, rows, size) for size in POOLS}}
    for name, way in others.items():
        ways[name] = partial(lambda way: [way(*one) for one in questions], way)
    exact = ways["farann, single"]()
    found = []
    for name, answer in ways.items():
        seconds = []
        with threadpool_limits(1):
            for _ in range(runs):
                began = time.process_time()
                ids = answer()
                seconds.append(time.process_time() - began)
        same = [len(np.intersect1d(a, b)) for a, b in zip(ids, exact, strict=True)]
        found.append((name, float(np.mean(same)) / K, min(seconds) / len(questions)))
    return found


def main() -> None:
    """Print a table for each data set."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", default=",".join(DATA), help="default: %(default)s")
    arguments.add_argument("--cache", type=Path, default=datasets.CACHE)
    given = arguments.parse_args()
    for name in given.data.split(","):
        data = datasets.load(name, given.cache)
        rows = data.rows()
        for near in (False, True):
            print(f"{name}, {len(rows):,} x {rows.shape[1]}, "
                  f"{'dislikes near the like' if near else 'any dislikes'}\n")
            print(f"| way | of the exact {K} | ms |\n|---|---|---|")
            for way, share, seconds in compared(rows, data.queries(), near=near):
                print(f"| {way} | {share:.0%} | {seconds * 1e3:.2f} |")
            print()


if __name__ == "__main__":
    main()
