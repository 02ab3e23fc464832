"""One shard: an index, mapped from its file, and the changes since. Knows nothing of Ray.

Each change of a sharded index, rows added or ids removed, is a file with the next number, written
before any shard sees it, so that a shard that was restarted reads them all again. It has the form
of index files, whose checksums find damage.
"""

from __future__ import annotations

import json
import os
import re
import threading
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from farann._types import BoolArray, Float32Array, IdArray, Int64Array
from farann.adapters.ray.distinct import packed_keys
from farann.adapters.ray.storage import MANIFEST, SAMPLE_FILE, Manifest, ShardError, Storage
from farann.contract import FormatError
from farann.extending import (
    RowSum,
    next_mmr,
    numbers_of,
    read_bytes,
    rows_that,
    rows_there,
    rows_within,
    write_bytes,
)
from farann.index import Index
from farann.results import RangeHits

_CHANGE_NAME = re.compile(r"(\d{12})\.change")
_READ_AT_ONCE = 8_192


class Change(NamedTuple):
    """Rows with their ids and labels of groups, or, without rows, ids to remove."""

    token: str  # of the call that made it, which may be repeated
    ids: IdArray
    rows: Float32Array | None = None
    groups: IdArray | None = None
    shards: Int64Array | None = None  # of rows that may replace others; None: all are added

    def to_bytes(self, number: int) -> bytes:
        """The content of the file with this number."""
        arrays = {name: np.frombuffer(json.dumps(value.tolist()).encode(), np.uint8)
                  if value.dtype == object else value  # strings are bytes of JSON
                  for name, value in self._asdict().items() if isinstance(value, np.ndarray)}
        return write_bytes({"change": number, "kind": "remove" if self.rows is None else "add",
                            "token": self.token}, arrays)

    @classmethod
    def from_bytes(cls, content: bytes, number: int) -> Change:
        """Read a change; FormatError if it isn't the one with this number."""
        fields, arrays = read_bytes(content)
        wanted = {"add": {"ids", "rows"}, "remove": {"ids"}}.get(fields.get("kind", ""))
        if fields.get("change") != number or arrays.keys() - {"groups", "shards"} != wanted:
            raise FormatError(f"expected change {number}, got one with "
                              f"{ {**fields, 'arrays': sorted(arrays)} }")
        made = {name: np.array(json.loads(one.tobytes()), object) if one.dtype == np.uint8 else one
                for name, one in arrays.items()}
        return cls(fields["token"], **made)


def count_changes(storage: Storage) -> int:
    """The number of changes; other files may be left over from a killed process."""
    matches = map(_CHANGE_NAME.fullmatch, storage.names("changes"))
    return max((int(match[1]) for match in matches if match), default=0)


def name_of(change: int) -> str:
    """The name of the file of a change."""
    return f"changes/{change:012d}.change"


class Shard:
    """A shard of a sharded index, or with the number after the last the rows that were added.

    The manifest is in the folder `uri`. `cache` is a local folder for copies of shard files, by
    default one of this user in that for temporary files; `threads` are for searches, by default one
    a CPU.
    """

    def __init__(self, uri: str, number: int, cache: Any = None, threads: Any = None) -> None:
        self.number, self._threads = number, threads
        self._storage = Storage(uri)
        self.manifest = Manifest.from_json(self._storage.read(MANIFEST), uri)
        self.name = self.manifest.name_of(number)
        self.is_growing = number == len(self.manifest.shards)
        self._lock = threading.Lock()
        self._cache = cache
        self._index = self._loaded(cache)
        self.n_changes = 0
        self._tuned: set[tuple[str, int]] = set()
        self._done: dict[str, tuple[int, IdArray]] = {}  # by token
        # The first integer above all ids.
        self._next_id = max((record.last_id + 1 for record in self.manifest.shards
                             if isinstance(record.last_id, int)), default=0)
        self.sync(count_changes(self._storage))

    def _loaded(self, cache: Any) -> Index:
        manifest = self.manifest
        if self.is_growing:
            return Index(manifest.dim, manifest.metric, codes=manifest.codes)
        record = manifest.shards[self.number]
        path = self._storage.fetch(record.file, record.sha256, self.name, cache)
        try:
            index = Index.load(path, mmap=True)
        except FormatError as error:
            raise ShardError(f"{self.name}: {error}") from None
        if len(index) != record.rows or index.metric != manifest.metric:
            raise ShardError(f"{self.name}: expected {record.rows} rows under {manifest.metric}, "
                             f"got {len(index)} under {index.metric}")
        return index

    def sync(self, at: int) -> None:
        """Apply the changes up to a number."""
        if self.n_changes < at:
            with self._lock:
                self._take(at)

    def _take(self, last: int) -> None:
        """Apply all changes; ShardError if one is damaged or missing."""
        for number in range(self.n_changes + 1, last + 1):
            try:
                content = self._storage.read(name_of(number))
                token, ids, rows, groups, shards = Change.from_bytes(content, number)
            except (FileNotFoundError, FormatError) as error:
                raise ShardError(f"{name_of(number)} of {self._storage.uri}: the file was changed, "
                                 f"damaged or removed ({error}); restore it, or build the index "
                                 "again") from None
            if rows is None:
                self._index.remove(ids[self.holds(ids)])
            elif shards is not None:
                own = shards == self.number
                self._index.add(rows[own], ids[own], replace=True,
                                groups=None if groups is None else groups[own])
            elif self.is_growing:
                self._index.add(rows, ids, groups=groups)
            if ids.dtype != object and len(ids):
                self._next_id = max(self._next_id, int(ids.max()) + 1)
            self.n_changes = number
            self._done[token] = number, ids

    def record(self, ids: Any, rows: Any, groups: Any, token: str,
               shards: Any = None) -> tuple[int, IdArray]:
        """Write a change, of the growing shard, once for each token; gives its number and ids."""
        with self._lock:
            while True:
                self._take(count_changes(self._storage))
                if token in self._done:
                    return self._done[token]
                new = np.arange(self._next_id, self._next_id + len(rows)) if ids is None else ids
                if shards is not None:  # ids that another client added meanwhile are here
                    shards = np.where(self.holds(new), self.number, shards)
                elif rows is not None and (used := new[self.holds(new)]).size:
                    raise ValueError(f"ids: expected ids that are not in use, got {used[0]!r}")
                number = self.n_changes + 1
                content = Change(token, new, rows, groups, shards).to_bytes(number)
                with suppress(FileExistsError):  # another ledger was first: read it, and try again
                    self._storage.write(name_of(number), content, new=True)

    def keys(self) -> bytes:
        """Keys of the ids that the shard was built with, for `distinct.repeated`."""
        return packed_keys(self._loaded(self._cache).ids)

    def holds(self, ids: IdArray) -> BoolArray:
        """Mask of the ids that are rows of this shard."""
        return rows_there(self._index, ids)

    def search(self, kind: str, queries: Any, options: dict[str, Any]) -> Any:
        """Search the index, with keys. For a recall it is tuned by the sample that
        all shards have; it has its part of a budget. Added rows are few, and searched exactly.
        `only` has filters for all queries, as those of a selection."""
        options = dict(options)
        if only := options.pop("only", None):
            options["allowed"] = self._index.filter(**only)
        if self.is_growing:
            options = {name: value for name, value in options.items()
                       if name not in ("recall", "budget")}
        elif "budget" in options:
            rows = self.manifest.shards[self.number].rows
            options = {**options, "budget": max(options["budget"] * rows // self.manifest.rows, 1)}
        elif "recall" in options:
            with self._lock:
                storage = self._storage
                if (kind, k := options["k"]) not in self._tuned and storage.exists(SAMPLE_FILE):
                    self._index.tune(storage.read_rows(SAMPLE_FILE), k, nearest="near" in kind)
                    self._tuned.add((kind, k))
        search = getattr(self._index, kind)
        return search(queries, **options, threads=self._threads, return_keys=True)

    def forget_tuning(self) -> None:
        """Drop measured tables, as there is another sample."""
        self._tuned.clear()

    def search_with_rows(self, kind: str, queries: Any, options: dict[str, Any]) -> tuple[Any, ...]:
        """Search; return the hits, and the order, vectors and groups of all found rows, query by
        query."""
        hits = self.search(kind, queries, options)
        ids = hits.ids[hits.found]
        return hits, self._order_of(ids), self._index.reconstruct(ids), self._groups_of(ids)

    def near(self, rows: Float32Array, radius: float, most: int,
             only: dict[str, Any]) -> tuple[RangeHits, bool]:
        """Rows within a radius of some others, with keys: all, or about `most` for each row; and
        whether there may be more."""
        return rows_within(self._index, rows, radius, most, only, self._threads)

    def listed(self, only: dict[str, Any]) -> tuple[IdArray, Int64Array, IdArray]:
        """Ids, order and groups of the rows that may be chosen."""
        ids = rows_that(self._index, only)
        return ids, self._order_of(ids), self._groups_of(ids)

    def of_ids(self, method: str, ids: IdArray, *args: Any) -> tuple[BoolArray, Any]:
        """Mask of the ids that are here, and the index's scores or rows of these."""
        here = self.holds(ids)
        return here, getattr(self._index, method)(*args, ids[here])

    def sum_of_rows(self, only: dict[str, Any]) -> tuple[RowSum, list[tuple[int, Any]]]:
        """The sum of the rows that may be chosen, and of the first of them order and id."""
        ids = rows_that(self._index, only)
        blocks = (self._index.reconstruct(ids[at : at + _READ_AT_ONCE])
                  for at in range(0, len(ids), _READ_AT_ONCE))
        total = RowSum.of(blocks, self.manifest.dim, self.manifest.metric == "cosine")
        orders = self._order_of(ids)
        return total, [(int(orders.min()), ids[orders.argmin()])] if len(ids) else []

    def next_mmr(self, queries: Any, picked: IdArray, rows: Any, options: Any) -> tuple[Any, ...]:
        """For each query the best row after some picks by maximal marginal relevance: ids, values
        that shards are compared by, rows and groups, of zeros where there is none."""
        ids, hits = next_mmr(self._index, queries, picked, rows, threads=self._threads,
                             **options)
        there, rows = hits.ids[:, 0] >= 0, np.zeros_like(queries)
        rows[there] = self._index.reconstruct(ids[there])
        hits.ids[there, 0] = self._order_of(ids[there])
        of_found = self._groups_of(ids[there])
        labels = np.zeros(len(ids), of_found.dtype)
        labels[there] = of_found
        return ids, hits, rows, labels

    def stats(self) -> dict[str, Any]:
        """The index's statistics, with the shard's name."""
        return {"shard": self.name, "pid": os.getpid(), "changes": self.n_changes,
                **self._index.stats()}

    def _groups_of(self, ids: IdArray) -> IdArray:
        """Labels of the groups of rows; zeros where there are none."""
        return self._index.groups(ids) if len(ids) and self.manifest.grouped else np.zeros(
            len(ids), np.int64)

    def _order_of(self, ids: IdArray) -> Int64Array:
        """Order of equal rows: integer ids, or for strings the number of rows added before."""
        before = self.manifest.shards[: self.number] if ids.dtype == object else ()
        return sum(record.rows for record in before) + numbers_of(self._index, ids)
