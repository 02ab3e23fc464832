"""Like A, not like B: a topic without a part of it, a word without its opposite, and a second page
after feedback. `python -m bench.outcomes.contrast` applies the rule for the default weight.

The rule, written before any of the sets in `FRESH` and of those that report was looked at:

1. Compare each weight with likes alone on the sets in `FRESH`: two of topics, two of feedback.
2. Leave out weights that are worse on one of them (the 95 % interval of the gain is below 0).
3. Take the weight with the largest gain, as a share of likes alone, in the mean of these sets.
4. If no weight is left, or if the one taken is worse than likes alone on a set that reports,
   `weight` has no default.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

import farann
from farann.metrics import mean_interval, ndcg_at_k

from .data import SETS, Labeled, Tree, load
from .record import Floats, Ints, Use, Values

WEIGHTS = (0.1, 0.2, 0.3, 0.5, 1.0)
K = 10
FRESH = ("people", "places", "fortunes", "leaves")  # sets that chose the default
SEEN = ("living", "fashion", "things", "ideas", "words", "foldoc", "digits")  # before the rule


def unit(vectors: Floats) -> Floats:
    """Vectors of length 1."""
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def best(scores: Floats, k: int = K) -> Ints:
    """The positions of the k largest scores, in order."""
    some = np.argpartition(scores, -k)[-k:]
    return np.asarray(some[np.argsort(-scores[some])])


def best_score(rows: Floats, like: Floats, dislikes: Floats) -> Ints:
    """As in Qdrant: the similarity to the like, or minus the square of that to a dislike where that
    is larger."""
    scores, unlike = rows @ like, (rows @ dislikes.T).max(axis=1)
    return best(np.where(scores > unlike, scores, -unlike * unlike))


class Question(NamedTuple):
    """What is liked and disliked, the right rows, and those that were shown before."""

    likes: Floats
    dislikes: Floats
    right: Ints
    shown: Ints


def by_topic(tree: Tree) -> Iterator[Question]:
    """A topic, but not its opposite, or not one of its parts, which has a fifth to six tenths of
    its rows."""
    below = np.stack([(tree.paths == topic).any(axis=1) for topic in tree.topics])
    names, sizes = unit(tree.names), below.sum(axis=1)
    pairs = tree.opposite or [
        (whole, part) for whole in range(len(sizes)) for part in range(len(sizes))
        if 0.2 <= (below[whole] & below[part]).sum() / sizes[whole] <= 0.6
        and not (below[part] & ~below[whole]).any()]
    for i in np.random.default_rng(4).permutation(len(pairs)):
        whole, part = pairs[i]
        yield Question(names[[whole]], names[[part]], np.flatnonzero(below[whole] & ~below[part]),
                       np.empty(0, np.int64))


def by_feedback(found: Labeled) -> Iterator[Question]:
    """A row asks for others of its label; of the ten shown first the wrong ones are disliked."""
    rows = unit(found.rows)
    for asked in np.random.default_rng(5).permutation(len(rows)):
        first = best(rows @ rows[asked], K + 1)
        shown = first[first != asked][:K]
        good = found.labels[shown] == found.labels[asked]
        right = np.setdiff1d(np.flatnonzero(found.labels == found.labels[asked]),
                             [asked, *shown])
        if len(right) and not good.all():
            yield Question(rows[[asked, *shown[good]]], rows[shown[~good]], right,
                           np.append(shown, asked))


def values(found: Tree | Labeled, repeats: int) -> Values:
    """nDCG@10 of each question by each way."""
    rows = unit(found.rows)
    index = farann.Index(metric="cosine")
    index.add(rows)
    ways: dict[str, list[float]] = defaultdict(list)
    questions = by_topic(found) if isinstance(found, Tree) else by_feedback(found)
    for one, _ in zip(questions, range(repeats), strict=False):
        like, left = one.likes.mean(axis=0), np.setdiff1d(np.arange(len(rows)), one.shown)
        answers = {
            "likes alone": left[best(rows[left] @ like, K)],
            "Rocchio": left[best(rows[left] @ (like - 0.15 * one.dislikes.mean(axis=0)), K)],
            "average vector": left[best(rows[left] @ (2 * like - one.dislikes.mean(axis=0)), K)],
            "best score": left[best_score(rows[left], like, one.dislikes)],
            **{f"weight {weight:g}": index.search_contrast(
                one.likes, one.dislikes, K, weight=weight, exclude=one.shown).ids
               for weight in WEIGHTS}}
        for way, ids in answers.items():
            ways[way].append(float(ndcg_at_k(ids[None], one.right[None], K)[0]))
    return ways


def gains(values: Values) -> dict[float, tuple[float, float, float]]:
    """What each weight gains over likes alone, with its interval, as a share of likes alone."""
    plain = np.asarray(values["likes alone"])
    mean, low, high = (np.array([mean_interval(np.asarray(values[f"weight {weight:g}"]) - plain)
                                 for weight in WEIGHTS]) / plain.mean()).T
    return dict(zip(WEIGHTS, zip(mean, low, high, strict=True), strict=True))


def chosen(fresh: Mapping[str, Values], reports: Mapping[str, Values]) -> float | None:
    """The default weight by the rule, or None."""
    by_set = [gains(values) for values in fresh.values()]
    left = [weight for weight in WEIGHTS if all(found[weight][2] >= 0 for found in by_set)]
    if not left:
        return None
    taken = max(left, key=lambda weight: np.mean([found[weight][0] for found in by_set]))
    return taken if all(gains(values)[taken][2] >= 0 for values in reports.values()) else None


def main() -> None:
    """Print what each weight gains on each set, and the default that the rule takes."""
    found = {}
    print("| set | likes alone |", *(f"weight {weight:g} |" for weight in WEIGHTS))
    print("|---|---|" + "---|" * len(WEIGHTS))
    for name in (*FRESH, *(name for name in USE.sets if name not in USE.chose)):
        found[name] = values(load(name), USE.repeats)
        print(f"| {SETS[name].title}{' (chose)' if name in FRESH else ''} |",
              f"{np.mean(found[name]['likes alone']):.3f} |",
              *(f"{mean:+.0%} [{low:+.0%}, {high:+.0%}] |"
                for mean, low, high in gains(found[name]).values()), flush=True)
    fresh = {name: found.pop(name) for name in FRESH}
    print(f"default: {chosen(fresh, found)}")


USE = Use("Like A, not like B", f"nDCG@{K}", "weight 0.2",
          ("likes alone", "Rocchio", "average vector", "best score"), values, 300,
          (*FRESH, *SEEN, "actions", "states", "opposites", "opposites-glove", "nouns", "cells",
           "cancer"), chose=(*FRESH, *SEEN))

if __name__ == "__main__":
    main()
