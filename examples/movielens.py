"""Ratings for the examples: MovieLens 100K where ``farann demo movies`` finds it, or made-up ones.

``pip install --no-deps recbole`` brings MovieLens.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from farann.demo import data


class Ratings(NamedTuple):
    """Who rated what: one entry a rating, and the titles of the items.

    Attributes
    ----------
    users, items : str (n,)
    stars : float32 (n,)
        1 to 5.
    titles : dict
        From item to title; items of a file of one's own stand for themselves.
    """

    users: NDArray[np.str_]
    items: NDArray[np.str_]
    stars: NDArray[np.float32]
    titles: dict[str, str]


def load(path: str | Path | None = None) -> Ratings:
    """Ratings of a tab-separated file with user, item and rating in the first columns.

    A first line whose rating is no number is a header.

    Parameters
    ----------
    path : path-like, optional
        By default MovieLens 100K if it is there, else people and films that are made up.
    """
    if path is None:
        try:
            films = data.load_films()
        except ImportError:
            films = data.make_films()
        titles = {str(number): title for number, title in enumerate(films.titles)}
        return Ratings(films.users.astype(str), films.films.astype(str),
                       films.stars.astype(np.float32), titles)
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    if rows and not _is_number(rows[0][2]):
        rows = rows[1:]
    users, items = (np.array([row[i] for row in rows]) for i in (0, 1))
    stars = np.array([row[2] for row in rows], np.float32)
    return Ratings(users, items, stars, {str(item): str(item) for item in set(items)})


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
