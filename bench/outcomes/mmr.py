"""Relevant and diverse: the parts of a topic among ten answers to its name."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

import numpy as np

import farann

from .contrast import unit
from .data import Labeled, Tree
from .record import Floats, Ints, Use, Values

K = 10
POOLS: tuple[int | None, ...] = (20, 50, 200, None)
DIVERSITIES = (0.1, 0.2, 0.3, 0.5)
_AGAIN = 0.5  # what an answer is worth after each other one of its part
_PARTS = 3  # of a topic, at least


def gain(parts: Iterable[int]) -> float:
    """Discounted sum over answers of the parts that they are of, -1 for none."""
    seen: Counter[int] = Counter()
    total = 0.0
    for rank, part in enumerate(parts):
        if part >= 0:
            total += _AGAIN ** seen[part] / np.log2(rank + 2)
            seen[part] += 1
    return float(total)


def most(parts: Ints) -> float:
    """The largest gain of ten answers, by the parts of all rows: one of each, and again."""
    turns = sorted((turn, part) for part, count in Counter(parts[parts >= 0].tolist()).items()
                   for turn in range(min(count, K)))
    return gain(part for _, part in turns[:K])


def of_topics(tree: Tree) -> Iterator[tuple[Floats, Ints]]:
    """Names of topics with three parts or more, and the part that each row is of."""
    for i in np.random.default_rng(9).permutation(len(tree.topics)):
        rows, places = np.nonzero(tree.paths[:, :-1] == tree.topics[i])
        parts = np.full(len(tree.paths), -1)
        parts[rows] = tree.paths[rows, places + 1]
        if len(np.unique(parts)) > _PARTS:
            yield unit(tree.names[[i]])[0], parts


def between(found: Labeled) -> Iterator[tuple[Floats, Ints]]:
    """Questions between rows of two labels: answers of both are right."""
    rows, random = unit(found.rows), np.random.default_rng(10)
    while True:
        pair = random.integers(len(rows), size=2)
        if len(np.unique(found.labels[pair])) == 2:
            parts = np.where(np.isin(found.labels, found.labels[pair]), found.labels, -1)
            parts[pair] = -1
            yield rows[pair].sum(axis=0), parts


def values(found: Tree | Labeled, repeats: int) -> Values:
    """The share of the largest gain that ten answers to each question have, by each way."""
    index = farann.Index(metric="cosine")
    index.add(unit(found.rows))
    questions = of_topics(found) if isinstance(found, Tree) else between(found)
    asked = [one for one, _ in zip(questions, range(repeats), strict=False)]
    queries = np.stack([query for query, _ in asked])
    lists = {"nearest": index.search_nearest(queries, K).ids}
    for pool in POOLS:
        for diversity in DIVERSITIES:
            lists[f"{f'pool {pool}' if pool else 'all'}, {diversity:g}"] = index.search_mmr(
                queries, K, diversity=diversity, candidates=pool).ids
    ways: dict[str, list[float]] = defaultdict(list)
    for way, ids in lists.items():
        ways[way] += [gain(parts[some].tolist()) / most(parts)
                      for some, (_, parts) in zip(ids, asked, strict=True)]
    return ways


USE = Use("Relevant and diverse", f"α-nDCG@{K}", "pool 20, 0.3", ("nearest", "pool 20, 0.5"),
          values, 150, ("living", "things", "ideas", "words", "foldoc"), chose=("living",))
