"""``farann demo movies``: what people went on to rate, ordered by likes, and by dislikes, too."""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from farann import metrics
from farann._types import Float64Array, Int64Array
from farann.demo import data, page
from farann.demo.data import Films
from farann.demo.page import say

FIRST = 5  # films that count as the first of a person's
LEAST = 2 * FIRST  # films held back of a person whose first ones are counted
SHARES = (0.7, 0.3)  # to train on, and to look at
BOTH, ALONE = "likes and dislikes", "likes alone"

_MARKED = {1: '<span class="good">&#10003; {}</span>', 0: "{}",
           -1: '<span class="bad">&#10007; {}</span>'}


def run(output: Path) -> bool:
    """Show the films, on a page too; True, as there are but people's ratings to compare with."""
    films = page.announced("MovieLens", data.load_films,
                           "These people and films are made up instead.", data.make_films)
    held = np.random.default_rng(0).choice(2, len(films.users), p=SHARES) == 1
    # 1: liked, with four stars and more; -1: disliked, with two and fewer.
    opinions = (films.stars >= 4).astype(np.int64) - (films.stars <= 2)
    ways, known = _scores(films, opinions, held)
    users, seen, said = films.users[known], films.films[known], opinions[known]
    counted = np.flatnonzero(np.bincount(users) >= LEAST)
    first = {name: _first(scores, users, counted) for name, scores in ways.items()}
    bad = {name: (said[rows] < 0).sum(axis=1) for name, rows in first.items()}
    right = {name: _in_order(scores, users, said) for name, scores in ways.items()}
    say("\nThe films that people rated later, ordered for each of them;")
    say(f"the first {FIRST} of {len(counted):,} people:")
    say(f"{'ordered by':30}{'liked':>8}{'disliked':>10}{'pairs in order':>16}")
    rows = []
    for name, which in first.items():
        rows.append([name, f"{(said[which] > 0).sum():,}", f"{bad[name].sum():,}",
                     f"{100 * np.nanmean(right[name]):.1f} %"])
        say("  {:<28}{:>8}{:>10}{:>16}".format(*rows[-1]))
    spared = bad[ALONE] - bad[BOTH]
    gain = metrics.mean_interval(100 * (right[BOTH] - right[ALONE]))
    told = (f"{(spared > 0).sum():,} people meet fewer films that they dislike than by {ALONE}, "
            f"{(spared < 0).sum():,} more.",
            f"Pairs of a liked and a disliked film in order: {gain.mean:+.1f} "
            f"[{gain.low:+.1f}, {gain.high:+.1f}] %.")
    say("\n".join(told))
    summary = page.section(
        "All people together",
        page.table(["films ordered by", f"liked, of the first {FIRST}",
                    f"disliked, of the first {FIRST}", "pairs in order"], rows, numbers_from=1),
        f"<p>{' '.join(told)} No model knew these ratings; the best model was chosen by them. "
        "Below are people who gain most, in the middle, and least.</p>")
    # Ties: people with more disliked films to put last.
    order = np.lexsort((counted, -np.bincount(users[said < 0], minlength=users.max() + 1)[counted],
                        -spared))
    middle = len(order) // 2 - 1
    shown = dict.fromkeys([*order[:2], *order[middle:][:2], *order[-2:]])
    page.write(output, "Films by likes and dislikes", films.about, [summary, *(
        _person(films, seen, said, {name: first[name][at] for name in (ALONE, BOTH)},
                int(counted[at])) for at in shown)])
    return True


def _scores(films: Films, opinions: Int64Array, held: NDArray[np.bool_]
            ) -> tuple[dict[str, Float64Array], Int64Array]:
    """Scores of the ratings held back by each way, and which ratings these are: of films and
    people that opinions were left of."""
    from farann.adapters.posneg import FusionRanker

    rated = ~held & (opinions != 0)
    ranker = FusionRanker().fit(films.users[rated], films.films[rated], opinions[rated] > 0, cv=3)
    people, every = ranker.user_ids.astype(np.int64), ranker.ids.astype(np.int64)
    known = np.flatnonzero(held & np.isin(films.users, people) & np.isin(films.films, every))
    at = np.searchsorted(people, films.users[known]), np.searchsorted(every, films.films[known])

    def by(ranker: FusionRanker) -> Float64Array:
        return ranker.score(people, among="shown").scores[at]

    each = {name: by(ranker.by(name)) for name in ranker.names}
    said = opinions[known]
    best = max((name for name in each if name != "positive"), key=lambda name: float(np.nanmean(
        _in_order(each[name], films.users[known], said))))
    return {"what everybody likes": by(ranker.by("items' record")), ALONE: each["positive"],
            f"the best model, {best!r}": each[best], BOTH: by(ranker)}, known


def _in_order(scores: Float64Array, users: Int64Array, said: Int64Array) -> Float64Array:
    """Each person's share of pairs of a liked and a disliked film in this order; NaN: no pair."""
    told = said != 0
    auc: Float64Array = metrics.auc_by_user(users[told], said[told] > 0, scores[told])
    return auc


def _first(scores: Float64Array, users: Int64Array, people: Int64Array) -> Int64Array:
    """Rows of the `FIRST` films with the highest scores of each of these people."""
    order: Int64Array = np.lexsort((-scores, users))
    start = np.searchsorted(users[order], people)
    return np.take(order, start[:, np.newaxis] + np.arange(FIRST))


def _person(films: Films, seen: Int64Array, said: Int64Array, first: dict[str, Int64Array],
            user: int) -> str:
    """A person's first films by both ways, with marks for what they like and dislike."""
    rows = zip(*([_MARKED[int(said[row])].format(escape(films.titles[seen[row]])) for row in which]
                 for which in first.values()), strict=True)
    return page.section(f"Person {user}", page.table([f"by {name}" for name in first], rows))
