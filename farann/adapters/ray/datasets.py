"""Building a sharded index with Ray: a task a shard, fed by Ray Data or by vector files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import ray

from farann.adapters.ray import building
from farann.adapters.ray.building import Block, Plan
from farann.adapters.ray.manifest import NAME, Manifest, ShardRecord
from farann.adapters.ray.placing import placed
from farann.adapters.ray.storage import Storage
from farann.contract import checks
from farann.contract.metric_traits import traits_of
from farann.vectors import open_vectors

_ROWS_AT_ONCE = 65_536

Columns = tuple[str | None, str | None, str | None]  # of vectors, ids and groups


def build(dataset: Any, column: str | None = None, *, id_column: str | None = None,
          group_column: str | None = None, uri: str | os.PathLike[str],
          rows_per_shard: int | None = None, metric: str = "l2", codes: str = "int8",
          cells: int | str | None = None, sample_queries: npt.ArrayLike | None = None,
          ray_remote_args: dict[str, Any] | None = None) -> Manifest:
    """Build a sharded index, one file a shard, with a Ray task for each.

    A build that was interrupted goes on where it stopped when it is called again with the same
    arguments: shards that are written are left as they are. The manifest is written last; without
    it there is no index.

    Parameters
    ----------
    dataset : ray.data.Dataset, or sequence of paths
        Rows of vectors. Of a data set the order must be the same each time, and its blocks are put
        into Ray's object store, which writes to disk what memory doesn't hold. Vector files are of
        any kind that `farann.vectors.open_vectors` reads, and must be there on each machine.
    column : str, optional
        The column of vectors of a data set.
    id_column : str, optional
        A column of its ids, integers or strings, each once in all of it. By default rows are
        counted through, from 0 on.
    group_column : str, optional
        A column of the labels of their groups, for ``within=`` and ``outside=`` of searches.
    uri : str or path-like
        A folder, of any file system that fsspec knows: ``s3://bucket/folder``, or a path that all
        machines share. What is under ``memory://`` is built and searched in this process alone.
    rows_per_shard : int, optional
        At most; shards have about the same number. By default 10,000,000.
    metric, codes, cells
        As for `farann.Index`.
    sample_queries : array_like (n, dim), optional
        A sample of real queries, as for `farann.Index.build`; ``recall=`` is measured with it for
        all shards. By default rows serve as a sample, of each shard as many as its share of all.
    ray_remote_args : dict, optional
        Options of the tasks, such as ``{"num_cpus": 8}``, which is also the number of threads.

    Returns
    -------
    Manifest

    Raises
    ------
    ValueError, TypeError
        For arguments or rows that `farann.Index` would refuse, or those of another build in the
        same folder.
    ShardError
        If no machine has the CPUs that `ray_remote_args` asks for.
    OSError
        If a disk is full. What was written stays, and the next call goes on.

    Notes
    -----
    A task needs memory for the codes and ids of its shard and a block of rows, and a local folder
    for temporary files with room for twice the shard's vectors. Rows are kept as float32.

    Examples
    --------
    >>> manifest = build(ray.data.read_parquet("s3://bucket/items"), "vector", id_column="item",
    ...                  uri="s3://bucket/index", metric="cosine")  # doctest: +SKIP
    """
    storage = Storage(uri)
    traits = traits_of(checks.to_metric(metric))
    sample = None if sample_queries is None else checks.to_vectors(
        "sample_queries", sample_queries, None, normalized=traits.normalized, single=False)
    columns = column, id_column, group_column
    if isinstance(dataset, (list, tuple)):
        if columns != (None, None, None):
            raise ValueError("column: expected no columns with vector files")
        source: Any = _Files([os.fspath(file) for file in dataset])
    else:
        source = _Dataset(dataset, columns)
    plan = building.to_plan(source.rows, rows_per_shard, metric, codes, cells, columns, sample)
    options, threads = placed(ray_remote_args, {"num_cpus": 1}, 0 if storage.is_memory else 1)
    plan.begin(storage)
    if storage.exists(NAME):
        return Manifest.from_json(storage.read(NAME), storage.uri)
    task = ray.remote(_build_one).options(**options)
    shared = None if sample is None else ray.put(sample)
    records: dict[int, ShardRecord | None] = {
        shard: building.record_of(storage, shard) for shard in range(len(plan.bounds) - 1)}
    missing = [shard for shard, record in records.items() if record is None]
    feeds = source.feeds(plan, missing)
    if storage.is_memory:
        for shard, feed in zip(missing, feeds, strict=True):
            records[shard] = _build_one(storage.uri, shard, feed, plan, sample, threads)
        missing, feeds = [], []
    waiting = {task.remote(storage.uri, shard, feed, plan, shared, threads): shard
               for shard, feed in zip(missing, feeds, strict=True)}
    failed: Exception | None = None
    while waiting:  # all are awaited, so that what they wrote is there for the next call
        done, _ = ray.wait(list(waiting))
        try:
            records[waiting[done[0]]] = ray.get(done[0])
        except ray.exceptions.RayTaskError as error:
            failed = failed or getattr(error, "cause", error)
        except ray.exceptions.RayError as error:
            failed = failed or error
        del waiting[done[0]]
    if failed is not None:
        raise failed
    return building.finish(storage.uri, plan, [record for record in records.values()
                                               if record is not None], sample)


class _Files:
    """Vector files, whose rows are counted through."""

    def __init__(self, files: Sequence[str]) -> None:
        if not files:
            raise ValueError("dataset: expected at least one file, got none")
        self.files = list(files)
        self.counts = [open_vectors(file).rows for file in self.files]
        self.rows = sum(self.counts)

    def feeds(self, plan: Plan, shards: list[int]) -> list[Any]:
        bounds = list(pairwise(plan.bounds))
        return [(self.files, self.counts, *bounds[shard]) for shard in shards]


class _Dataset:
    """A data set of Ray, cut between its rows."""

    def __init__(self, dataset: Any, columns: Columns) -> None:
        if not hasattr(dataset, "split_at_indices"):
            raise TypeError("dataset: expected a ray.data.Dataset or a list of vector files, "
                            f"got {checks.shown(dataset)}")
        names = list(dataset.columns() or [])
        for argument, name in zip(("column", "id_column", "group_column"), columns, strict=True):
            if (name is None and argument == "column") or (name is not None and name not in names):
                raise ValueError(f"{argument}: expected one of {names}, got {name!r}")
        self._dataset, self._columns = dataset, columns
        self.rows = int(dataset.count())

    def feeds(self, plan: Plan, shards: list[int]) -> list[Any]:
        if not shards:
            return []
        parts = self._dataset.split_at_indices(plan.bounds[1:-1]) if len(plan.bounds) > 2 else [
            self._dataset.materialize()]
        return [(parts[shard], *self._columns) for shard in shards]


def _build_one(uri: str, shard: int, feed: Any, plan: Plan, sample: Any,
               threads: int | None) -> ShardRecord:
    blocks = building.blocks_of_files(*feed) if isinstance(feed[0], list) else _blocks_of(*feed)
    return building.build_shard(uri, shard, blocks, plan, sample, threads)


def _blocks_of(dataset: Any, column: str, id_column: str | None,
               group_column: str | None) -> Iterator[Block]:
    for batch in dataset.iter_batches(batch_size=_ROWS_AT_ONCE, batch_format="numpy"):
        rows = batch[column]
        if rows.dtype == object:
            rows = np.stack(rows.tolist())
        yield (rows, None if id_column is None else batch[id_column],
               None if group_column is None else batch[group_column])
