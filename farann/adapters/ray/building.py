"""Building one shard from blocks of rows, in the memory of its codes and a block. Knows nothing of
Ray; whoever calls it again goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from farann._types import Float32Array
from farann._version import __version__
from farann.adapters.ray.distinct import keys_of, packed_keys, repeated
from farann.adapters.ray.gathering import to_label_array
from farann.adapters.ray.storage import (
    MANIFEST,
    SAMPLE_FILE,
    Manifest,
    ShardRecord,
    Storage,
    sha256_of,
)
from farann.contract import checks
from farann.contract.index_spec import traits_of
from farann.extending import private_folder
from farann.index import Index
from farann.vectors import open_vectors

PLAN = "plan.json"
ROWS_PER_SHARD = 10_000_000
_SHARED_ROWS = 4_096  # most rows that serve as a sample for all shards, where no queries are given


class Plan(NamedTuple):
    """The options of a sharded build, which must be the same when a build is resumed."""

    rows: int
    rows_per_shard: int
    metric: str
    codes: str
    cells: int | str | None
    column: str | None
    id_column: str | None
    group_column: str | None
    sample: str | None  # the hash of sample queries
    farann: str = __version__

    @property
    def bounds(self) -> list[int]:
        """The first row of each shard, and the end; shards have about equal numbers of rows."""
        n = math.ceil(self.rows / self.rows_per_shard)
        return [self.rows * i // n for i in range(n + 1)]

    def begin(self, storage: Storage) -> None:
        """Write the plan, or go on with one that is the same; ValueError for another."""
        if not storage.exists(PLAN):
            storage.write_json(PLAN, self._asdict())
        plan = json.loads(storage.read(PLAN))
        for name, value in self._asdict().items():
            if plan.get(name) != value:
                raise ValueError(f"{name}: expected {plan.get(name)!r}, as the build in "
                                 f"{storage.uri} began with, got {value!r}; build elsewhere, or "
                                 "remove that folder")


def to_plan(rows: int, rows_per_shard: int | None, metric: Any, codes: Any, cells: Any,
            columns: Any, sample: Float32Array | None) -> Plan:
    """Check the arguments of a build; the columns are those of vectors, ids and groups."""
    if rows < 1:
        raise ValueError("dataset: expected at least one row, got none")
    each = ROWS_PER_SHARD if rows_per_shard is None else checks.to_int(
        "rows_per_shard", rows_per_shard, 1)
    Index(None, metric, codes=codes, cells=cells)  # which says what is wrong with these
    digest = None if sample is None else hashlib.sha256(sample.tobytes()).hexdigest()
    return Plan._make((rows, each, checks.to_metric(metric), codes, cells, *columns, digest,
                       __version__))


def record_of(storage: Storage, shard: int) -> ShardRecord | None:
    """The record of a shard that was built; None if it wasn't."""
    if not all(storage.exists(_file_of(shard, kind)) for kind in ("farann", "json")):
        return None
    return ShardRecord(**json.loads(storage.read(_file_of(shard, "json"))))


def build_shard(uri: str, shard: int, feed: Callable[[], Iterable[Any]], plan: Plan,
                sample: Float32Array | None, threads: int | None = None) -> ShardRecord:
    """Build a shard from the blocks of rows, ids and groups of `feed`, and write it and its record,
    if it isn't there. Meanwhile rows are in a local file, which is mapped."""
    storage = Storage(uri)
    if known := record_of(storage, shard):
        return known
    name = f"{hashlib.sha256(uri.encode()).hexdigest()[:16]}-{shard}"
    scratch, file = private_folder("farann-build") / name, _file_of(shard, "farann")
    shutil.rmtree(scratch, ignore_errors=True)  # of a build that was killed
    scratch.mkdir()
    try:
        index = _index_of(scratch / "rows", feed(), plan, shard, threads)
        index.build(sample)
        path = storage.place(file) if storage.is_local else scratch / "index"
        index.save(path)
        ids = index.ids
        smallest, largest = np.sort(ids)[[0, -1]].tolist()
        record = ShardRecord(file, len(ids), smallest, largest, sha256_of(path),
                             path.stat().st_size)
        if sample is None:  # as good as queries where none are known: a part of all rows
            some = index.reconstruct(ids[:: -(-plan.rows // _SHARED_ROWS)])
            storage.write_rows(_file_of(shard, "sample.npy"), some)
        index.close()
        if not storage.is_local:
            storage.put(path, file)
        if plan.id_column is not None or smallest != plan.bounds[shard] or (
                largest != plan.bounds[shard + 1] - 1):
            storage.write(_file_of(shard, "keys"), packed_keys(ids))
        storage.write_json(_file_of(shard, "json"), asdict(record))
        return record
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def finish(uri: str, plan: Plan, records: list[ShardRecord],
           sample: Float32Array | None) -> Manifest:
    """Write the files that all shards share, the manifest last; ValueError if two shards have an id
    in common."""
    storage = Storage(uri)
    # Queries that builds leave for tuning, as the others order the rows; or else rows of shards.
    sample = sample[::4] if sample is not None else np.concatenate([
        storage.read_rows(_file_of(shard, "sample.npy")) for shard in range(len(records))])
    made = Manifest(plan.metric, sample.shape[1], plan.codes, plan.rows, tuple(records),
                    grouped=plan.group_column is not None)
    if len({type(record.first_id) for record in records}) > 1:
        raise ValueError("id_column: expected integers or strings, got both, in different shards")
    if not made.is_distinct():
        _check_distinct(storage, made)
        made = replace(made, distinct=made.hash_of_shards())
    storage.write_rows(SAMPLE_FILE, sample)
    storage.write(MANIFEST, made.to_json())
    return made


def _check_distinct(storage: Storage, manifest: Manifest) -> None:
    """Raise a ValueError if two shards have an id in common."""
    twice = repeated([partial(storage.read_part, _file_of(shard, "keys"))
                      for shard in range(len(manifest.shards))])
    if twice is not None:
        key, shards = twice
        record = manifest.shards[shards[0]]
        path = storage.fetch(record.file, record.sha256, manifest.name_of(shards[0]))
        with Index.load(path, mmap=True) as index:
            ids = index.ids
        id = ids[keys_of(ids) == key].tolist()[0]
        raise ValueError(f"dataset: expected each id once, got {id!r} in "
                         f"{' and '.join(map(manifest.name_of, shards))}; remove {storage.uri}, "
                         "and build from rows whose ids differ")


def blocks_of_files(files: list[str], counts: list[int], first: int, end: int) -> Iterator[Any]:
    """The rows first .. end of vector files that follow each other."""
    at = 0
    for file, count in zip(files, counts, strict=True):
        if at + count <= first:
            at += count
            continue
        for block in open_vectors(file).blocks():
            if at >= end:
                return
            part = block[max(first - at, 0) : end - at]
            at += len(block)
            if len(part):
                yield part, None, None


def _index_of(path: Path, blocks: Iterable[Any], plan: Plan, shard: int,
              threads: int | None) -> Index:
    """An index of the rows of some blocks, which are mapped from a file."""
    dim, n, ids, groups = None, 0, [], []
    first, end = plan.bounds[shard : shard + 2]
    with path.open("wb") as file:
        for rows, own_ids, own_groups in blocks:
            vectors = checks.to_vectors("rows", rows, dim, single=False,
                                        normalized=traits_of(plan.metric).normalized)
            dim = vectors.shape[1]
            file.write(vectors.data)
            n += len(vectors)
            if own_ids is not None:
                ids.append(np.asarray(own_ids))
            if own_groups is not None:
                groups.append(to_label_array(own_groups))
    if n != end - first or dim is None:
        raise ValueError(f"dataset: expected {end - first} rows for the rows from {first} on, got "
                         f"{n}; it changed since it was counted")
    index = Index(dim, plan.metric, codes=plan.codes, cells=plan.cells, threads=threads)
    mapped = np.memmap(path, np.float32, "r", shape=(n, dim))
    index.add(mapped, np.concatenate(ids) if ids else np.arange(first, end),
              groups=np.concatenate(groups) if groups else None, copy=False)
    return index


def _file_of(shard: int, kind: str) -> str:
    return f"shards/{shard:05d}.{kind}"
