"""The folder of a sharded index, on any file system that fsspec knows.

It has a manifest, and which recall to ask of each shard for the merged answer to reach a recall.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from farann._types import Float32Array
from farann._version import __version__
from farann.contract import FormatError
from farann.extending import missing_at, private_folder, replacing
from farann.results import Hits, share_found

MANIFEST = "manifest.json"
_FORMAT = 1
SAMPLE_FILE = "sample.npy"  # queries that all shards are tuned by
_MERGED_QUERIES = 1_024  # most queries of the sample that merged answers are measured with
# Recalls that shards are measured at. The best rows of all are among the best of their shards, and
# a shard's best rows may be found more often than its last ones: then a lower recall will do.
_RECALLS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.995, 1.0)

# A search by its name and k, of queries, and what to ask of each shard for it.
Search = Callable[[str, int, Float32Array, float], Hits]


class ShardError(RuntimeError):
    """A shard can't be searched: its file is not what the manifest says, or its workers are gone.

    The message names the shard.
    """


@dataclass(frozen=True)
class ShardRecord:
    """One shard, as the manifest lists it.

    Attributes
    ----------
    file : str
        Its name in the folder of the manifest.
    rows : int
    first_id, last_id : int or str
        The smallest and the largest id.
    sha256 : str
        Of the file, in hexadecimal digits.
    bytes : int
        Of the file.
    """

    file: str
    rows: int
    first_id: Any
    last_id: Any
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """A sharded index: what `build` returns, and writes last.

    Attributes
    ----------
    metric : str
    dim : int
    codes : str
    rows : int
        Of all shards.
    shards : tuple of ShardRecord
    farann : str
        The version that built it.
    grouped : bool
        Whether rows have groups.
    distinct : str
        A hash of the shards whose ids were compared: no two have one in common.
    """

    metric: str
    dim: int
    codes: str
    rows: int
    shards: tuple[ShardRecord, ...]
    farann: str = __version__
    grouped: bool = False
    distinct: str = ""

    def is_distinct(self) -> bool:
        """Whether each id is known to be in one shard alone."""
        ends = sorted((record.first_id, record.last_id) for record in self.shards)
        apart = all(last < first for (_, last), (first, _) in pairwise(ends))
        return apart or self.distinct == self.hash_of_shards()

    def hash_of_shards(self) -> str:
        """What tells these shards from others."""
        digests = "".join(record.sha256 for record in self.shards)
        return hashlib.sha256(digests.encode()).hexdigest()

    def to_json(self) -> bytes:
        """The bytes of its file."""
        return json.dumps({"format": _FORMAT, **asdict(self)}, indent=1).encode()

    @classmethod
    def from_json(cls, content: bytes, where: str) -> Manifest:
        """Read the bytes of its file; FormatError if they aren't those of one."""
        try:
            fields = json.loads(content)
            if (version := fields.pop("format")) != _FORMAT:
                raise FormatError(f"{where}: expected a manifest of format {_FORMAT}, "
                                  f"got {version!r}; a newer farann wrote it")
            shards = tuple(ShardRecord(**record) for record in fields.pop("shards"))
            made = cls(shards=shards, **fields)
            if not shards or made.rows != sum(int(record.rows) for record in shards):
                raise FormatError(f"{where}: expected as many rows as its shards have together, "
                                  f"got {made.rows}")
            if len({type(end) for one in shards for end in (one.first_id, one.last_id)}) > 1:
                raise FormatError(f"{where}: expected ids of one kind in all shards")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise error if isinstance(error, FormatError) else FormatError(
                f"{where}: not a manifest of shards ({error})") from None
        return made

    def name_of(self, shard: int) -> str:
        """The name of a shard in messages; the one after the last holds added rows."""
        files = [record.file for record in self.shards]
        return f"shard {shard} ({[*files, 'added rows'][shard]})"


class Storage:
    """Files by name under a URI, a string such as ``s3://bucket/folder``, or a path."""

    def __init__(self, uri: str | os.PathLike[str]) -> None:
        try:
            import fsspec
        except ImportError as error:
            raise ImportError("farann.adapters.ray needs fsspec, which is not installed: "
                              "pip install 'farann[ray]'") from error
        self.uri = os.fspath(uri)
        self._fs, self._root = fsspec.core.url_to_fs(self.uri)
        self._fs.use_listings_cache = False
        protocols = np.atleast_1d(self._fs.protocol)
        self.is_local = "file" in protocols
        self.is_memory = "memory" in protocols  # of this process: Ray's workers have another

    def path(self, name: str) -> str:
        """A file's name on its file system."""
        return f"{self._root.rstrip('/')}/{name}"

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        self._fs.invalidate_cache()
        return bool(self._fs.exists(self.path(name)))

    def read(self, name: str) -> bytes:
        """All bytes of a file; FileNotFoundError if there is none."""
        return bytes(self._fs.cat_file(self.path(name)))

    def read_part(self, name: str, start: int, end: int) -> bytes:
        """Some bytes of a file."""
        if start == end:  # which servers refuse
            return b""
        return bytes(self._fs.cat_file(self.path(name), start=start, end=end))

    def names(self, folder: str) -> list[str]:
        """Names of the files in a folder; none if it isn't there."""
        if not self.exists(folder):
            return []
        return [Path(path).name for path in self._fs.ls(self.path(folder), detail=False)]

    def write(self, name: str, content: bytes, *, new: bool = False) -> None:
        """Write a file, whole or not at all; with `new`, FileExistsError if it is there."""
        if self.is_local:
            target = self.place(name)
            written = target.with_name(f".{uuid.uuid4().hex}.part") if new else target
            with replacing(written) as file:
                file.write(content)
            if new:
                try:
                    os.link(written, target)  # unlike a rename this fails where the name is taken
                finally:
                    written.unlink()
        elif new and self.exists(name):
            raise FileExistsError(self.path(name))
        else:
            self._fs.pipe_file(self.path(name), content, **({"mode": "create"} if new else {}))

    def write_json(self, name: str, fields: dict[str, Any]) -> None:
        """Write a file of JSON, whole or not at all."""
        self.write(name, json.dumps(fields, indent=1).encode())

    def read_rows(self, name: str) -> Float32Array:
        """The rows of a file that `write_rows` wrote."""
        rows: Float32Array = np.load(io.BytesIO(self.read(name)), allow_pickle=False)
        return rows

    def write_rows(self, name: str, rows: Float32Array) -> None:
        """Write rows as an .npy file, whole or not at all."""
        content = io.BytesIO()
        np.save(content, rows)
        self.write(name, content.getvalue())

    def place(self, name: str) -> Path:
        """The path of a local file, whose folder is made."""
        target = Path(self.path(name))
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def put(self, local: Path, name: str) -> None:
        """Copy a local file to its place on another file system."""
        self._fs.put_file(os.fspath(local), self.path(name))

    def fetch(self, name: str, sha256: str, what: str, folder: Any = None) -> Path:
        """A copy of a file in a local folder, by default a private one, or the file itself where it
        is local; errors as of `checked`."""
        where = f"{what} of {self.uri}"
        if self.is_local:
            return checked(Path(self.path(name)), sha256, where)
        cache = private_folder("farann-shards") if folder is None else Path(folder)
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = cache / f"{sha256}.farann"
        with suppress(ShardError):
            return checked(path, sha256, what)
        # Another worker of this machine may do the same: each has a file of its own until then.
        part = cache / f".{sha256}.{os.getpid()}"
        try:
            with suppress(FileNotFoundError):
                self._fs.get_file(self.path(name), os.fspath(part))
            os.replace(checked(part, sha256, where), path)
        finally:
            part.unlink(missing_ok=True)
        return path


def sha256_of(path: Path) -> str:
    """The hash of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checked(path: Path, sha256: str, what: str) -> Path:
    """The path of a file; ShardError, which says `what`, if it isn't the one with this hash."""
    try:
        digest = sha256_of(path)
    except FileNotFoundError:
        raise ShardError(f"{what}: the file is not there") from None
    if digest != sha256:
        raise ShardError(f"{what}: the file was changed or damaged: its SHA-256 is {digest}, the "
                         f"manifest says {sha256}; restore it, or build this shard again")
    return path


class SharedTuning(NamedTuple):
    """Recall of merged answers, by the recall requested of each shard; `print` shows a table.

    Attributes
    ----------
    k : int
    asked : tuple of float
        Of each shard, of its own k best.
    recalls : tuple of float
        The share of the k best of all rows that was found then.
    sampled : int
        Queries that this is of.
    """

    k: int
    asked: tuple[float, ...]
    recalls: tuple[float, ...]
    sampled: int

    def asked_for(self, recall: float) -> float:
        """The least that is to be asked of each shard for a recall of the merged answer.

        Parameters
        ----------
        recall : float
            Between 0 and 1.

        Returns
        -------
        float
            One of `asked`; 1 where nothing less does.
        """
        wanted, best = 1.0 - missing_at(recall), 1.0
        for asked, reached in zip(reversed(self.asked), reversed(self.recalls), strict=True):
            if reached < wanted:
                break
            best = asked
        return best

    def __str__(self) -> str:
        lines = [f"{'asked of shards':>15}  {'recall@' + str(self.k):>10}"]
        lines += [f"{asked:>15g}  {reached:>10.4f}"
                  for asked, reached in zip(self.asked, self.recalls, strict=True)]
        return "\n".join(lines)


class SharedTunings:
    """The tunings of a sharded index, kept in its folder: all clients ask shards for the same."""

    def __init__(self, storage: Storage, search: Search) -> None:
        self._storage, self._search = storage, search
        self._known: dict[tuple[str, int], SharedTuning] = {}

    def of(self, kind: str, k: int, *, anew: bool = False) -> SharedTuning | None:
        """The tuning of a search and k, measured if nobody did, or `anew`, by asking for more and
        more until all is found, and kept; None if there are no queries to measure with."""
        if anew or (kind, k) not in self._known:
            if not self._storage.exists(SAMPLE_FILE):
                return None
            content, name = self._storage.read(SAMPLE_FILE), f"tunings/{kind}-{k}.json"
            digest = hashlib.sha256(content).hexdigest()
            made = None if anew else self._read(name, digest)
            if made is None:
                sample = self._storage.read_rows(SAMPLE_FILE)
                queries = sample[:: -(-len(sample) // _MERGED_QUERIES)]
                truth, *answers = (self._search(kind, k, queries, share).ids
                                   for share in (1.0, *_RECALLS[:-1]))
                recalls = [share_found(ids, truth) for ids in (*answers, truth)]
                made = SharedTuning(k, _RECALLS, tuple(recalls), len(queries))
                self._storage.write_json(name, {**made._asdict(), "sample": digest})
            self._known[kind, k] = made
        return self._known[kind, k]

    def replace_sample(self, sample: Float32Array) -> None:
        """Tune by other queries from now on."""
        self._storage.write_rows(SAMPLE_FILE, sample)
        self.forget()

    def forget(self) -> None:
        """Drop cached tables, as others may have measured new ones."""
        self._known.clear()

    def _read(self, name: str, digest: str) -> SharedTuning | None:
        """Read a file; None if it is damaged or of another sample."""
        try:
            fields = json.loads(self._storage.read(name))
            requested, recalls = (tuple(map(float, fields[name])) for name in ("asked", "recalls"))
            whole = len(requested) == len(recalls) and fields["sample"] == digest and all(
                0.0 <= share <= 1.0 for share in requested + recalls)
            made = SharedTuning(int(fields["k"]), requested, recalls, int(fields["sampled"]))
        except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
            return None
        return made if whole else None
