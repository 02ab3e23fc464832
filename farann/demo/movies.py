"""``farann demo movies``: lists by likes alone beside lists by likes and dislikes."""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import farann
from farann._types import BoolArray, Int64Array
from farann.demo import data, page
from farann.demo.data import Films
from farann.demo.page import say

K = 10  # films listed for each person
PEOPLE = 6  # whose lists are shown
SHARES = (0.7, 0.3)  # to train on, and to look at

Opinions = NDArray[np.int8]  # 1: liked, with four stars and more; -1: disliked, with two and fewer
_MARKED = {1: '<span class="good">&#10003; {}</span>', 0: "{}",
           -1: '<span class="bad">&#10007; {}</span>'}


def run(output: Path) -> bool:
    """Show the films, on a page too; True, as there are but people's ratings to compare with."""
    films = page.announced("MovieLens", data.load_films,
                           "These people and films are made up instead.", data.make_films)
    held_back = np.random.default_rng(0).choice(2, len(films.users), p=SHARES) == 1
    opinions = (films.stars >= 4).astype(np.int8) - (films.stars <= 2)
    lists = _lists(films, opinions, ~held_back)
    # Of each person on each film; the last column is that of the id -1.
    kept = np.zeros((int(films.users.max()) + 1, len(films.titles) + 1), np.int8)
    kept[films.users[held_back], films.films[held_back]] = opinions[held_back]
    liked, disliked = ([(np.take_along_axis(kept, ids, axis=1) == opinion).sum(axis=1)
                        for ids in lists.values()] for opinion in (1, -1))
    # People who are spared most disliked films are shown; ties go to those with more liked films.
    spared = disliked[0] - disliked[1]
    people = np.lexsort((liked[0] - liked[1], -spared))[:PEOPLE].tolist()
    say(f"\n{K} films for each of {len(kept):,} people, of those not seen before;")
    say("what they held back says which of these they like:")
    say(f"{'':26}{'liked':>8}{'disliked':>10}{'to 100 liked':>14}")
    rows = []
    for name, good, bad in zip(lists, liked, disliked, strict=True):
        rows.append([f"{good.sum():,}", f"{bad.sum():,}",
                     f"{100 * bad.sum() / max(good.sum(), 1):.1f}"])
        say("  {:<24}{:>8}{:>10}{:>14}".format(name, *rows[-1]))
    told = (f"{(spared > 0).sum():,} people are shown fewer films that they dislike, "
            f"{(spared < 0).sum():,} more.")
    say(told)
    summary = page.section(
        "All lists together",
        page.table(["films by", "liked", "disliked", "disliked to 100 liked"],
                   [[name, *row] for name, row in zip(lists, rows, strict=True)], numbers_from=1),
        f"<p>Of all films that a list names, those whose rating was held back. {told} Most films "
        "were never rated, so that nobody knows. Below are the people who are spared most.</p>")
    page.write(output, "Films by likes and dislikes", films.about,
               [summary, *(_person(films, kept[user], lists, user) for user in people)])
    return True


def _lists(films: Films, opinions: Opinions, told: BoolArray) -> dict[str, Int64Array]:
    """K films for each person, of those not in the log: by likes alone, by likes and dislikes."""
    from farann.adapters.posneg import Factorization, FusionRanker

    rated = told & (opinions != 0)
    log = films.users[rated], films.films[rated], opinions[rated] > 0
    seen = np.zeros((int(films.users.max()) + 1, len(films.titles)), np.bool_)
    seen[films.users[told], films.films[told]] = True
    exclude = [np.flatnonzero(row) for row in seen]
    likes = Factorization()(*log)[0]
    alone = farann.Index(metric="dot")
    alone.add(likes.items, likes.ids)
    taste = np.zeros((len(seen), likes.users.shape[1]), np.float32)
    taste[likes.user_ids.astype(np.int64)] = likes.users
    ranker = FusionRanker().fit(*log, cv=3)
    ids = np.full((len(seen), K), -1)
    known = ranker.user_ids.astype(np.int64)
    ids[known] = ranker.rank(known, k=K, exclude=[exclude[user] for user in known]).ids
    return {"likes alone": alone.search_nearest(taste, K, exclude=exclude).ids,
            "likes and dislikes": ids}


def _person(films: Films, kept: Opinions, lists: dict[str, Int64Array], user: int) -> str:
    """A person's lists beside each other, with marks for what they like and dislike."""
    rows = zip(*([_MARKED[int(kept[film])].format(escape(films.titles[film])) for film in ids[user]]
                 for ids in lists.values()), strict=True)
    known = f"{(kept > 0).sum()} liked and {(kept < 0).sum()} disliked films held back"
    return page.section(f"Person {user}", f"<p><small>{known}</small></p>",
                        page.table([f"by {name}" for name in lists], rows))
