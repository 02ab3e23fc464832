"""``farann demo movies``: lists by likes alone beside lists by likes and dislikes."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import farann
from farann.demo import data, page
from farann.demo.data import Films
from farann.demo.page import say

K = 10  # films listed for each person
PEOPLE = 6  # whose lists are shown
SHARES = (0.7, 0.3)  # to train on, and to look at

Array = NDArray[Any]


class Feedback(NamedTuple):
    """Ratings as likes (four stars and more) and dislikes (two and fewer), in two parts."""

    part: NDArray[np.int64]
    liked: NDArray[np.bool_]
    disliked: NDArray[np.bool_]


def run(output: Path) -> bool:
    """Show the films, on a page too; True, as there are but people's ratings to compare with."""
    films = page.announced("MovieLens", data.load_films(),
                           "These people and films are made up instead.", data.make_films)
    part = np.random.default_rng(0).choice(2, len(films.users), p=SHARES)
    feedback = Feedback(part, films.stars >= 4, films.stars <= 2)
    lists = _lists(films, feedback)
    held_back = feedback.part == 1
    liked, disliked = ([_counts(films, ids, held_back & kind) for ids in lists.values()]
                       for kind in (feedback.liked, feedback.disliked))
    # Those are shown who are spared most disliked films; a tie goes to more liked ones.
    spared = disliked[0] - disliked[1]
    people = np.lexsort((liked[0] - liked[1], -spared))[:PEOPLE].tolist()
    say(f"\n{K} films for each of {int(films.users.max()) + 1:,} people, of those not seen before;")
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
        page.paragraph(f"Of all films that a list names, those whose rating was held back. {told} "
                       "Most films were never rated, so that nobody knows. Below are the people "
                       "who are spared most."))
    sections = [summary, *(_person(films, feedback, lists, user)
                           for user in people)]
    page.write(output, "Films by likes and dislikes", films.about, sections)
    return True


def _lists(films: Films, feedback: Feedback) -> dict[str, NDArray[np.int64]]:
    """K films for each person: by a model of likes alone, and by likes and dislikes."""
    from farann.adapters.posneg import Factorization, FusionRanker

    told = (feedback.part == 0) & (feedback.liked | feedback.disliked)
    log = films.users[told], films.films[told], feedback.liked[told]
    people, seen = np.arange(int(films.users.max()) + 1), _by_person(films, feedback.part == 0)
    likes = Factorization()(*log)[0]
    alone = farann.Index(metric="dot")
    alone.add(likes.items, likes.ids)
    taste = np.zeros((len(people), likes.users.shape[1]), np.float32)
    taste[likes.user_ids.astype(np.int64)] = likes.users
    ranker = FusionRanker().fit(*log, cv=3)
    ids = np.full((len(people), K), -1)
    known = ranker.user_ids.astype(np.int64)
    ids[known] = ranker.rank(known, k=K, exclude=[seen[user] for user in known]).ids
    return {"likes alone": alone.search_nearest(taste, K, exclude=seen).ids,
            "likes and dislikes": ids}


def _by_person(films: Films, chosen: Array) -> list[NDArray[np.int64]]:
    """The chosen films of each person."""
    order = np.argsort(films.users[chosen], kind="stable")
    counts = np.bincount(films.users[chosen], minlength=int(films.users.max()) + 1)
    return np.split(films.films[chosen][order], np.cumsum(counts)[:-1])


def _counts(films: Films, ids: Array, chosen: Array) -> NDArray[np.int64]:
    """The number of entries of each list that are among the person's chosen ratings."""
    return np.array([np.isin(some, rated).sum()
                     for some, rated in zip(ids, _by_person(films, chosen), strict=True)])


def _person(films: Films, feedback: Feedback, lists: dict[str, Array], user: int) -> str:
    """A person's lists beside each other, with marks for what they like and dislike."""
    theirs = (films.users == user) & (feedback.part == 1)
    liked = set(films.films[theirs & feedback.liked])
    disliked = set(films.films[theirs & feedback.disliked])

    def entry(film: int) -> str:
        title = escape(films.titles[film])
        if film in liked:
            return f'<span class="good">&#10003; {title}</span>'
        return f'<span class="bad">&#10007; {title}</span>' if film in disliked else title

    rows = zip(*([entry(film) for film in ids[user]] for ids in lists.values()), strict=True)
    known = f"{len(liked)} liked and {len(disliked)} disliked films held back"
    return page.section(f"Person {user}", page.paragraph(f"<small>{known}</small>"),
                        page.table([f"by {name}" for name in lists], rows))
