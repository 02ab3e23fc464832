"""Speed: all ways to fuse on a small log, and a large one beside scoring all in numpy."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from farann.adapters.posneg import FusionRanker, PosNegRanker, SignedModel

from .run import OUT, Log

Floats = NDArray[np.float32]
ITEMS, USERS, IMPRESSIONS, DIM, ASKED, K = 100_000, 50_000, 1_000_000, 64, 1000, 10
# Fusions that are timed beside the default; all scores of all items take seconds a user's batch.
_OTHERS: dict[str, dict[str, Any]] = {
    "convex": {"fusion": "convex"}, "product": {"fusion": "product"},
    "isotonic": {"calibration": "isotonic"}, "veto at 0.5": {"fusion": "veto"},
}
_FEW = 100
# A log on which fits took minutes once, and rank 54 ms a user.
SMALL = {"items": 20_000, "users": 400, "impressions": 30_000}
_FITS: dict[str, dict[str, Any]] = {
    "default": {}, "per-query zmuv": {"normalize": "zmuv"}, "reciprocal rank": {"fusion": "rrf"},
    "Borda": {"fusion": "borda"}, "convex": {"fusion": "convex"}, "veto": {"fusion": "veto"},
}


class Shop(NamedTuple):
    """Embeddings of two models and a balanced log of impressions."""

    positive: tuple[Floats, Floats]
    negative: tuple[Floats, Floats]
    users: NDArray[np.int64]
    items: NDArray[np.int64]
    liked: NDArray[np.bool_]


def make(seed: int = 0, items: int = ITEMS, users: int = USERS,
         impressions: int = IMPRESSIONS) -> Shop:
    """Two models' embeddings with decaying coordinates, and a log that they explain in part."""
    random = np.random.default_rng(seed)
    decay = np.arange(1, DIM + 1) ** -0.4

    def vectors(count: int) -> Floats:
        return (random.standard_normal((count, DIM)) * decay).astype(np.float32)

    positive, negative = (vectors(users), vectors(items)), (vectors(users), vectors(items))
    who, what = random.integers(0, users, impressions), random.integers(0, items, impressions)
    log_odds = np.empty(impressions)
    for start in range(0, impressions, 100_000):
        at = slice(start, start + 100_000)
        like, dislike = (np.einsum("id,id->i", left[who[at]], right[what[at]])
                         for left, right in (positive, negative))
        log_odds[at] = 0.5 * like - 0.5 * dislike
    liked = random.random(impressions) < 1 / (1 + np.exp(-log_odds))
    return Shop(positive, negative, who, what, liked)


def _numpy(shop: Shop, ranker: PosNegRanker, users: NDArray[np.int64]) -> NDArray[np.int64]:
    """What one writes without the library: all scores in float32, in batches, then the best."""
    line = ranker.linear_logit
    assert line is not None
    w = line.weight
    own = (w * line.positive_item - (1 - w) * line.negative_item) * ranker.item_log_odds
    found = []
    for start in range(0, len(users), 100):
        some = users[start : start + 100]
        scores = (np.float32(w * line.positive_slope) * shop.positive[0][some]) \
            @ shop.positive[1].T
        scores -= (np.float32((1 - w) * line.negative_slope) * shop.negative[0][some]) \
            @ shop.negative[1].T
        scores += own.astype(np.float32)
        top = np.argpartition(-scores, K, axis=1)[:, :K]
        order = np.argsort(-np.take_along_axis(scores, top, axis=1), axis=1)
        found.append(np.take_along_axis(top, order, axis=1))
    return np.concatenate(found)


def _best(function: Any, repeats: int = 3) -> tuple[float, Any]:
    seconds, answer = [], None
    for _ in range(repeats):
        start = time.perf_counter()
        answer = function()
        seconds.append(time.perf_counter() - start)
    return min(seconds), answer


def run(out: Path = OUT, command: list[str] | None = None, shop: Shop | None = None) -> list[str]:
    """Measure, append to the file of JSON lines, and return a table in Markdown."""
    shop = make() if shop is None else shop
    log = Log(out, command or [], range(1))
    n_items = len(shop.positive[1])
    users = np.arange(min(ASKED, len(shop.positive[0])))
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    ranker = PosNegRanker(shop.positive[1], shop.negative[1])

    def fit() -> PosNegRanker:
        return ranker.fit(shop.positive[0], shop.negative[0], shop.items, shop.liked,
                          users=shop.users)

    fit_seconds, _ = _best(fit, 1)
    queries = shop.positive[0][users], shop.negative[0][users]
    build_seconds, _ = _best(lambda: ranker.rank(queries[0][:1], queries[1][:1], K), 1)
    rows: list[tuple[str, float, bool]] = []
    dense_seconds, dense = _best(lambda: _numpy(shop, ranker, users))
    rows.append(("numpy, all scores in float32", dense_seconds / len(users), False))
    seconds, hits = _best(lambda: ranker.rank(*queries, K))
    rows.append(("default: log-odds by one index", seconds / len(users), True))
    agree = float(np.mean([len(np.intersect1d(a, b)) / K
                           for a, b in zip(hits.ids, dense, strict=True)]))
    seconds, _ = _best(lambda: [ranker.rank(p, n, K) for p, n in zip(
        queries[0][:_FEW], queries[1][:_FEW], strict=True)])
    rows.append(("default, one user at a time", seconds / min(_FEW, len(users)), True))
    seconds, rough = _best(lambda: ranker.rank(*queries, K, candidates=200))
    recall = float(np.mean([len(np.intersect1d(a, b)) / K
                            for a, b in zip(hits.ids, rough.ids, strict=True)]))
    rows.append((f"default, candidates=200 (recall {recall:.2f})", seconds / len(users), False))
    for name, options in _OTHERS.items():
        other = PosNegRanker(shop.positive[1], shop.negative[1], **options)
        other.fit(shop.positive[0], shop.negative[0], shop.items[:100_000], shop.liked[:100_000],
                  users=shop.users[:100_000])
        few = queries[0][:_FEW], queries[1][:_FEW]
        other.rank(few[0][:1], few[1][:1], K)
        seconds, _ = _best(partial(other.rank, *few, K), 1)
        rows.append((f"{name}: both lists", seconds / len(few[0]), True))
    numpy_time = rows[0][1]
    log.write({"kind": "scale", "items": n_items, "impressions": len(shop.items), "dim": DIM,
               "users": len(users), "threads": threads, "fit_seconds": fit_seconds,
               "build_seconds": build_seconds, "agreement": agree,
               "rows": [{"name": name, "us": 1e6 * each, "exact": exact,
                         "ratio": numpy_time / each} for name, each, exact in rows]})
    table = [f"{len(shop.items):,} impressions, {n_items:,} items, two models of {DIM} "
             f"dimensions; fit {fit_seconds:.1f} s, first search (builds the index) "
             f"{build_seconds:.1f} s; {threads} threads; {agree:.4f} of numpy's answers are "
             "the same",
             "", "| k = 10 | exact | µs a user | against numpy |", "|---|---|---:|---:|"]
    table += [f"| {name} | {'yes' if exact else 'no'} | {1e6 * each:,.0f} | "
              f"{numpy_time / each:.1f}× |" for name, each, exact in rows]
    return table


def fits(out: Path = OUT, command: list[str] | None = None, shop: Shop | None = None) -> list[str]:
    """CPU time of fit and rank for each way to fuse; a table in Markdown."""
    shop = make(**SMALL) if shop is None else shop
    likes, dislikes = shop.positive[0], shop.negative[0]
    queries = [likes, dislikes]
    ways: dict[str, tuple[Any, Any]] = {}
    for name, options in _FITS.items():
        pair = PosNegRanker(shop.positive[1], shop.negative[1], threads=1, **options)
        ways[name] = (partial(pair.fit, likes, dislikes, shop.items, shop.liked, users=shop.users),
                      partial(pair.rank, likes, dislikes, K))
    fusion = FusionRanker([SignedModel(shop.positive[1], 1), SignedModel(shop.negative[1], -1)],
                          threads=1)
    ways["FusionRanker"] = (partial(fusion.fit, queries, shop.items, shop.liked, users=shop.users),
                            partial(fusion.rank, queries, K))
    fusion.fit(queries, shop.items, shop.liked, users=shop.users)  # imports scikit-learn
    rows = []
    for name, (fit, rank) in ways.items():
        start = time.process_time()
        fit()
        middle = time.process_time()
        rank()
        rows.append({"name": name, "fit_seconds": middle - start, "rank_ms":
                     1e3 * (time.process_time() - middle) / len(likes)})
    Log(out, command or [], range(1)).write({"kind": "fits", "rows": rows})
    return [f"{len(shop.items):,} labels of {len(likes)} users, "
            f"{len(shop.positive[1]):,} items, two models of {DIM} dimensions; CPU time, one "
            "thread, the index built with the first batch", "",
            "| | fit, s | rank, ms a user |", "|---|---:|---:|",
            *(f"| {row['name']} | {row['fit_seconds']:.2f} | {row['rank_ms']:.2f} |"
              for row in rows), ""]
