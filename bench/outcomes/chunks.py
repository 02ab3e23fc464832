"""Texts in overlapping chunks, some of them repeated: what ten chunks show of an answer."""

from __future__ import annotations

from collections import defaultdict
from functools import partial

import numpy as np

import farann

from .data import Passages
from .record import Floats, Ints, Use, Values

K, POOL = 10, 50
CLOSE = (0.95, 0.9, 0.8)  # cosines beyond which a chunk repeats a better one


def ways(index: farann.Index, query: Floats) -> dict[str, Ints]:
    """Ten chunks by each way."""
    pool = index.search_nearest(query, min(POOL, len(index)))
    scores = np.full(len(index), -2.0)
    scores[pool.ids] = pool.scores
    return {"nearest": pool.ids[:K],
            **{f"pool {size}, {diversity:g}": index.search_mmr(
                query, K, diversity=diversity, candidates=size).ids
               for size in (20, POOL) for diversity in (0.1, 0.3, 0.5)},
            **{f"none within {close:g}": index.select_spaced(
                scores, radius=close, allowed=pool.ids).ids[:K] for close in CLOSE}}


def values(what: str, found: Passages, repeats: int) -> Values:
    """For each question the share of the answer's paragraphs that are shown, or how many different
    ones are."""
    index = farann.Index(metric="cosine")
    index.add(found.rows)
    result: dict[str, list[float]] = defaultdict(list)
    for asked in np.random.default_rng(18).permutation(len(found.questions))[:repeats]:
        answer = found.answers[asked]
        answer = answer[answer >= 0]
        for way, ids in ways(index, found.questions[asked]).items():
            shown = np.unique(found.blocks[ids])
            result[way].append(float(np.isin(answer, shown).mean()) if what == "answers"
                               else float(len(shown)))
    return result


ANSWERS, DIFFERENT = (
    Use(title, measure, "pool 20, 0.3", ("nearest", "pool 20, 0.5"), partial(values, what), 150,
        ("perl", "python", "git"))
    for what, title, measure in (
        ("answers", "Answers in overlapping chunks", f"share of an answer in {K} chunks"),
        ("different", "Little repeated", f"different paragraphs in {K} chunks")))
