"""One shard: an index, mapped from its file, and the changes since. Knows nothing of Ray."""

from __future__ import annotations

import os
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from farann._types import BoolArray, Float32Array
from farann.adapters.ray import changes
from farann.adapters.ray.changes import Change
from farann.adapters.ray.manifest import NAME, Manifest, ShardError
from farann.adapters.ray.shared_tuning import SAMPLE
from farann.adapters.ray.storage import Storage
from farann.contract import errors
from farann.diverse.centroid import RowSum
from farann.index import Index
from farann.results import BeyondHits, Hits

_ROWS_AT_ONCE = 8_192
# Fewer ids are looked up one by one.
_FEW = 1_000


class Shard:
    """A shard of a sharded index, or with the number after the last the rows that were added.

    Parameters
    ----------
    uri : str
        The folder of the manifest.
    number : int
    cache : str, optional
        A local folder for copies of shard files; by default one in that for temporary files.
    threads : int, optional
        For searches; by default one for each CPU.
    """

    def __init__(self, uri: str, number: int, cache: str | None = None,
                 threads: int | None = None) -> None:
        self.number, self._threads = number, threads
        self._storage = Storage(uri)
        self.manifest = Manifest.from_json(self._storage.read(NAME), uri)
        self.name = self.manifest.name_of(number)
        self.is_growing = number == len(self.manifest.shards)
        self._lock = threading.Lock()
        self._index = self._loaded(Path(cache or Path(tempfile.gettempdir()) / "farann-shards"))
        self.n_changes = 0
        self._tuned: set[tuple[str, int]] = set()
        self._done: dict[str, tuple[int, npt.NDArray[Any]]] = {}  # by token
        self._next_id = _next_after(self.manifest)
        self.sync(changes.count(self._storage))

    def _loaded(self, cache: Path) -> Index:
        manifest = self.manifest
        if self.is_growing:
            return Index(manifest.dim, manifest.metric, codes=manifest.codes)
        record = manifest.shards[self.number]
        path = self._storage.fetch(record.file, record.sha256, self.name, cache)
        try:
            index = Index.load(path, mmap=True)
        except errors.FormatError as error:
            raise ShardError(f"{self.name}: {error}") from None
        if len(index) != record.rows or index.metric != manifest.metric:
            raise ShardError(f"{self.name}: expected {record.rows} rows under {manifest.metric}, "
                             f"got {len(index)} under {index.metric}")
        return index

    # ---- changes ----

    def sync(self, at: int) -> None:
        """Take in the changes up to a number."""
        if self.n_changes >= at:
            return
        with self._lock:
            for change in changes.read(self._storage, self.n_changes + 1, at):
                self._take(change)

    def _take(self, change: Change) -> None:
        if change.rows is None:
            self._index.remove(change.ids[self.holds(change.ids)])
        elif self.is_growing:
            self._index.add(change.rows, change.ids, groups=change.groups)
        if change.ids.dtype != object and len(change.ids):
            self._next_id = max(self._next_id, int(change.ids.max()) + 1)
        self.n_changes += 1
        self._done[change.token] = self.n_changes, change.ids

    def record(self, ids: npt.NDArray[Any] | None, rows: Float32Array | None, groups: Any,
               token: str) -> tuple[int, npt.NDArray[Any]]:
        """Write a change, of the growing shard; gives its number and the ids. A call that is
        repeated with its token changes nothing."""
        with self._lock:
            while token not in self._done:
                for change in changes.read(self._storage, self.n_changes + 1,
                                           changes.count(self._storage)):
                    self._take(change)
                if token not in self._done:
                    self._append(ids, rows, groups, token)
            return self._done[token]

    def _append(self, ids: npt.NDArray[Any] | None, rows: Float32Array | None, groups: Any,
                token: str) -> None:
        if ids is None:
            assert rows is not None
            ids = np.arange(self._next_id, self._next_id + len(rows))
        if rows is not None and self.holds(ids).any():
            raise ValueError(f"ids: expected ids that are not in use, got "
                             f"{ids[self.holds(ids)][0]!r}")
        change = Change(ids, rows, groups, token)
        try:
            changes.append(self._storage, self.n_changes + 1, change)
        except FileExistsError:  # another ledger was first: read it, and try again
            return
        self._take(change)

    # ---- questions ----

    def holds(self, ids: npt.NDArray[Any]) -> BoolArray:
        """Which of some ids are rows of this shard."""
        here = np.ones(len(ids), np.bool_)
        if not self.is_growing and ids.dtype != object:
            record = self.manifest.shards[self.number]
            here = (ids >= record.first_id) & (ids <= record.last_id)
        if np.count_nonzero(here) > _FEW:
            return here & np.isin(ids, self._index.ids)
        here[here] = [id in self._index for id in ids[here].tolist()]
        return here

    def search(self, kind: str, queries: Any, options: dict[str, Any]) -> Hits | BeyondHits:
        """What a search of the index gives, with keys."""
        if self.is_growing and len(self._index) == 0:
            options = {name: value for name, value in options.items()
                       if name not in ("within", "outside")}  # of an index that has no groups yet
        if options.keys() & {"recall", "budget"}:
            options = self._limited(kind, options)
        found: Hits | BeyondHits = getattr(self._index, kind)(
            queries, **options, threads=self._threads, return_keys=True)
        return found

    def search_with_rows(self, kind: str, queries: Any,
                         options: dict[str, Any]) -> tuple[Hits, Float32Array]:
        """The same, and the vectors of all rows that were found, query after query."""
        hits: Any = self.search(kind, queries, options)
        return hits, self._rows_of(hits.ids[hits.found])

    def score(self, queries: Float32Array,
              ids: npt.NDArray[Any]) -> tuple[BoolArray, Float32Array]:
        """Which of some ids are here, and their scores (n_queries, n_here)."""
        here = self.holds(ids)
        return here, self._index.score(queries, ids[here], threads=self._threads)

    def reconstruct(self, ids: npt.NDArray[Any]) -> tuple[BoolArray, Float32Array]:
        """Which of some ids are here, and their rows."""
        here = self.holds(ids)
        return here, self._rows_of(ids[here])

    def sum_of_rows(self, allowed: npt.NDArray[Any] | None) -> tuple[RowSum, int | None]:
        """The sum of the rows that may be chosen, of their directions under cosine, and the
        smallest id among them, None without any."""
        ids = self._index.ids
        if allowed is not None:
            ids = ids[np.isin(ids, allowed)]
        blocks = (self._rows_of(ids[start : start + _ROWS_AT_ONCE])
                  for start in range(0, len(ids), _ROWS_AT_ONCE))
        total = RowSum.of(blocks, self.manifest.dim, self.manifest.metric == "cosine")
        return total, int(ids.min()) if len(ids) else None

    def next_mmr(self, queries: Float32Array, picks: Any,
                 options: dict[str, Any]) -> tuple[Any, Float32Array]:
        """For each query the best row after some picks by maximal marginal relevance: ids, what
        shards are compared by, values, and the rows of those that there are."""
        found = self._index._next_by_mmr(queries, *picks, threads=self._threads, **options)
        return found, self._rows_of(found[0][found[0] >= 0])

    def _limited(self, kind: str, options: dict[str, Any]) -> dict[str, Any]:
        """Options of a search with a recall, for which the index is tuned by the sample that all
        shards have, or with this shard's part of a budget; added rows are few, and searched
        exactly."""
        if self.is_growing:
            return {name: value for name, value in options.items()
                    if name not in ("recall", "budget")}
        if "budget" in options:
            rows = self.manifest.shards[self.number].rows
            return {**options, "budget": max(options["budget"] * rows // self.manifest.rows, 1)}
        self._tune_once(kind, options["k"])
        return options

    def _tune_once(self, kind: str, k: int) -> None:
        with self._lock:
            if (kind, k) not in self._tuned and self._storage.exists(SAMPLE):
                self._index.tune(self._storage.read_rows(SAMPLE), k,
                                 nearest=kind == "search_nearest")
                self._tuned.add((kind, k))

    def forget_tuning(self) -> None:
        """Measure again what a recall takes, as there is another sample."""
        self._tuned.clear()

    def stats(self) -> dict[str, Any]:
        """Those of the index, and which shard it is."""
        return {"shard": self.name, "pid": os.getpid(), "changes": self.n_changes,
                **self._index.stats()}

    def _rows_of(self, ids: npt.NDArray[Any]) -> Float32Array:
        if len(ids) == 0:
            return np.empty((0, self.manifest.dim), np.float32)
        return self._index.reconstruct(ids)


def _next_after(manifest: Manifest) -> int:
    """The first integer above all ids."""
    return max((record.last_id + 1 for record in manifest.shards
                if isinstance(record.last_id, int)), default=0)
