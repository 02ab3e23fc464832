"""Speed: a large log and two models, beside scoring everything in numpy."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from farann.adapters.posneg import FusionRanker, SignedModel

from .run import OUT, Log

Floats = NDArray[np.float32]
ITEMS, USERS, IMPRESSIONS, DIM, ASKED, K = 100_000, 50_000, 1_000_000, 64, 1000, 10


class Shop(NamedTuple):
    """Two models and a balanced log of impressions."""

    models: list[SignedModel]
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

    models = [SignedModel(vectors(items), vectors(users), sign) for sign in (1, -1)]
    who, what = random.integers(0, users, impressions), random.integers(0, items, impressions)
    log_odds = sum(0.5 * float(model.sign) * np.einsum(
        "id,id->i", model.users[who], model.items[what]) for model in models)
    return Shop(models, who, what, random.random(impressions) < 1 / (1 + np.exp(-log_odds)))


def _numpy(ranker: FusionRanker, shop: Shop, users: NDArray[np.int64]) -> NDArray[np.int64]:
    """What one writes without the library: all scores in float32, in batches, then the best."""
    form = ranker.linear("shown")
    vectors = form.vectors([model.users[users] for model in shop.models])
    found = []
    for start in range(0, len(users), 100):
        scores = vectors[start : start + 100] @ form.rows.T
        top = np.argpartition(-scores, K, axis=1)[:, :K]
        order = np.argsort(-np.take_along_axis(scores, top, axis=1), axis=1)
        found.append(np.take_along_axis(top, order, axis=1))
    return np.concatenate(found)


def _seconds(function: Callable[[], object], repeats: int = 3) -> float:
    """CPU time of the best of some calls."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        seconds.append(time.process_time() - start)
    return min(seconds)


def run(out: Path = OUT, command: list[str] | None = None, shop: Shop | None = None) -> list[str]:
    """Measure in one thread, append to the file of JSON lines, and return a table in Markdown."""
    shop = make() if shop is None else shop
    users = np.arange(min(ASKED, len(shop.models[0].users)))
    ranker = FusionRanker(shop.models, threads=1)
    fit = _seconds(lambda: ranker.fit(shop.users, shop.items, shop.liked), 1)
    ranker.rank(users[:1], K)  # builds the index
    dense = _numpy(ranker, shop, users)
    agree = float((ranker.rank(users, K, among="shown", seen=True).ids == dense).mean())
    rows = [(name, 1e6 * _seconds(function) / len(users)) for name, function in (
        ("numpy, all scores in float32", lambda: _numpy(ranker, shop, users)),
        ("rank, in a batch", lambda: ranker.rank(users, K, among="shown", seen=True)),
        ("rank, one user at a time", lambda: [ranker.rank(user, K, among="shown", seen=True)
                                              for user in users.tolist()]))]
    Log(out, command or [], range(1)).write({"kind": "scale", "fit_seconds": fit,
                                             "agreement": agree, "rows": rows})
    return [f"{len(shop.items):,} impressions, {len(ranker.ids):,} items, two models of {DIM} "
            f"dimensions; fit {fit:.1f} s; CPU time, one thread; {agree:.4f} of numpy's answers "
            "are the same", "", "| k = 10 | µs a user |", "|---|---:|",
            *(f"| {name} | {us:,.0f} |" for name, us in rows)]
