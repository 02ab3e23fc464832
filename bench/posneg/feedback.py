"""Ratings of people, and how they are split."""

from __future__ import annotations

import csv
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets import CACHE
from .sources import SOURCES, Row, Source

Ints = NDArray[np.int64]

TRAIN, CALIBRATION, TEST, LEFT_OUT = 0, 1, 2, 3
# Shares of each user's ratings for training and calibration; the rest is for testing.
_SHARES = (0.5, 0.2)


@dataclass(frozen=True)
class Ratings:
    """Who rated what; users and items are numbered from 0.

    Attributes
    ----------
    users, items : int64 (n,)
    labels : int64 (n,)
        1 liked, -1 disliked, 0 neither.
    times : float64 (n,), optional
        When; a split is then by time.
    size : tuple of int, optional
        Number of users and of items, if there are more than are rated.
    few : int, optional
        Labels of a user that aren't for testing, at most; the others are left out.
    """

    users: Ints
    items: Ints
    labels: Ints
    times: NDArray[np.float64] | None = None
    size: tuple[int, int] | None = None
    few: int | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Number of users and of items."""
        return self.size or (int(self.users.max()) + 1, int(self.items.max()) + 1)

    def some(self, which: NDArray[Any]) -> Ratings:
        """Some of the ratings, of as many users and items."""
        return replace(self, users=self.users[which], items=self.items[which],
                       labels=self.labels[which], size=self.shape,
                       times=None if self.times is None else self.times[which])

    def until(self, share: float) -> Ratings:
        """Each user's first ratings by time."""
        assert self.times is not None
        return self.some(self._shares(np.random.default_rng(0)) < share)

    def _shares(self, random: np.random.Generator) -> NDArray[np.float64]:
        """How much of a user's ratings stands before each: by time, or else at random."""
        order = np.lexsort((random.random(len(self.users)),
                            *(() if self.times is None else (self.times,)), self.users))
        users = self.users[order]
        rank = np.arange(len(users)) - np.searchsorted(users, users)
        share = np.empty(len(users))
        share[order] = (rank + 0.5) / np.bincount(users)[users]
        return share

    def split(self, seed: int) -> Ints:
        """TRAIN, CALIBRATION or TEST for each rating of a user: by time, or else at random."""
        random = np.random.default_rng(seed)
        part: Ints = np.digitize(self._shares(random), np.cumsum(_SHARES))
        if self.few is not None:
            order = np.lexsort((random.random(len(part)), (self.labels == 0) | (part == TEST),
                                self.users))
            users = self.users[order]
            more = order[np.arange(len(users)) - np.searchsorted(users, users) >= self.few]
            part[more[part[more] < TEST]] = LEFT_OUT
        return part


# Other questions about a set, by what stands after its name.
BY_TIME, SPARSE = ":time", ":sparse"
FEW = 10  # labels of a user to learn from in a sparse log
# Users, items, labels of each and the exponent of items' exposure (Zipf) in logs that are made.
MADE = {"made-uniform": (600, 1200, 15, 0.0), "made-zipf": (600, 1200, 15, 1.0),
        "made-small": (600, 600, 12, 0.5), "made-wide": (1500, 1500, 10, 0.0)}
NAMES = [*SOURCES, *(name + BY_TIME for name, source in SOURCES.items() if source.timed),
         "movielens-100k" + SPARSE, "movielens-small" + SPARSE, "filmtrust" + SPARSE,
         "lecturers" + SPARSE, "senate" + SPARSE, *MADE]
# What the constants of the ranker were chosen on; figures are of the others.
DESIGN = ("movielens-small", "lecturers", "movielens-small:time", "movielens-small:sparse",
          "lecturers:sparse", "filmtrust", "senate:sparse", "made-uniform", "made-small",
          "made-zipf")


def title(name: str) -> str:
    """The name of a set of ratings in tables."""
    if name in MADE:
        users, items, each, exponent = MADE[name]
        return f"made, {users:,} x {each}, {items:,} items, {'Zipf' if exponent else 'uniform'}"
    set_name, _, variant = name.partition(":")
    return SOURCES[set_name].title + {
        "": "", "time": ", by time", "sparse": f", {FEW} labels a user"}[variant]


def license(name: str) -> str:
    """Who may have a set of ratings."""
    return "generated" if name in MADE else SOURCES[name.partition(":")[0]].license


def load(name: str, cache: Path = CACHE) -> Ratings:
    """A set of ratings, fetched on first use.

    After its name ``:time`` means that each user's ratings are split by time, ``:sparse`` that few
    of each user's labels are there to learn from.

    Raises
    ------
    KeyError
        No set of that name.
    Unavailable
        It can't be had here; the message says why.
    """
    set_name, _, variant = name.partition(":")
    if name in MADE:
        return _made(name, *MADE[name])
    if set_name not in SOURCES or variant not in ("", "time", "sparse"):
        raise KeyError(f"no ratings {name!r}; there are {', '.join(NAMES)}")
    source = SOURCES[set_name]
    file = cache / f"ratings-{set_name}.csv"
    if not file.exists():
        _fetch(source, file, cache)
    with open(file, encoding="utf-8", newline="") as stream:
        rows: list[Row] = [(user, item, float(rating), float(time))
                           for user, item, rating, time in csv.reader(stream)]
    return _numbered(source, rows, variant)


def _numbered(source: Source, rows: list[Row], variant: str) -> Ratings:
    users, items = (np.unique([row[i] for row in rows], return_inverse=True)[1] for i in (0, 1))
    given, times = (np.array([row[i] for row in rows]) for i in (2, 3))
    labels = np.where(given >= source.liked, 1, np.where(given <= source.disliked, -1, 0))
    return Ratings(users, items, labels, times if variant == "time" else None,
                   few=FEW if variant == "sparse" else None)


def _made(name: str, users: int, items: int, each: int, exponent: float) -> Ratings:
    """A log of few labels: people differ little in taste, items much in how much they please."""
    random = np.random.default_rng(sum(map(ord, name)))
    shown = np.arange(1, items + 1) ** -exponent
    who = np.repeat(np.arange(users), each)
    what = np.concatenate([random.choice(items, each, replace=False, p=shown / shown.sum())
                           for _ in range(users)])
    taste, kind = 0.6 * random.standard_normal((users, 4)), random.standard_normal((items, 4))
    charm, leaning = random.normal(0, 1.3, items), random.normal(0, 0.5, users)
    odds = (taste[who] * kind[what]).sum(axis=1) + charm[what] + leaning[who]
    labels = np.where(random.random(len(who)) < 1 / (1 + np.exp(-odds)), 1, -1)
    return Ratings(who, what, labels, size=(users, items))


def _fetch(source: Source, file: Path, cache: Path) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        rows = source.rows(Path(scratch))
        partial = Path(scratch) / file.name
        with open(partial, "w", encoding="utf-8", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerows(rows)
        partial.replace(file)
