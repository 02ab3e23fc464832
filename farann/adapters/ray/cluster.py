"""Building a sharded index with Ray, by a task a shard, and searching it, by actors."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from itertools import chain, pairwise
from typing import Any

import numpy.typing as npt
import ray

from farann._types import Metric
from farann.adapters.ray import building
from farann.adapters.ray.selecting import Selecting
from farann.adapters.ray.shard import Shard, count_changes
from farann.adapters.ray.storage import MANIFEST, Manifest, ShardError, Storage
from farann.contract import checks
from farann.contract.index_spec import traits_of
from farann.vectors import open_vectors

_DATASET_ROWS = 65_536
_FEW_BYTES = 50_000  # bytes of arguments; more are put into the object store, once for all shards
# Actors are spread over the machines; those that die are started again, and asked again. A
# hundredth of a CPU each: a laptop holds any number of shards, and CPUs are left for tasks.
_ACTORS = {"num_cpus": 0.01, "max_concurrency": 4, "max_restarts": -1, "max_task_retries": 3,
           "scheduling_strategy": "SPREAD"}


def build(dataset: Any, column: str | None = None, *, id_column: str | None = None,
          group_column: str | None = None, uri: str | os.PathLike[str],
          rows_per_shard: int | None = None, metric: Metric = "l2", codes: str = "int8",
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
        A column of the labels of their groups, for ``groups=`` and ``outside_groups=`` of searches.
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
        For arguments or rows that `farann.Index` would refuse, also for one id in two shards, or
        those of another build in the same folder.
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
    normalized = traits_of(checks.to_metric(metric)).normalized
    sample = None if sample_queries is None else checks.to_vectors(
        "sample_queries", sample_queries, None, normalized=normalized, single=False)
    columns = column, id_column, group_column
    if isinstance(dataset, (list, tuple)):
        if columns != (None, None, None):
            raise ValueError("column: expected no columns with vector files")
        if not dataset:
            raise ValueError("dataset: expected at least one file, got none")
        files = [os.fspath(file) for file in dataset]
        counts = [open_vectors(file).rows for file in files]
    else:
        if not hasattr(dataset, "split_at_indices"):
            raise TypeError("dataset: expected a ray.data.Dataset or a list of vector files, "
                            f"got {checks.shown(dataset)}")
        names = list(dataset.columns() or [])
        for argument, name in zip(("column", "id_column", "group_column"), columns, strict=True):
            if name not in names and (name is not None or argument == "column"):
                raise ValueError(f"{argument}: expected one of {names}, got {name!r}")
        files, counts = [], [int(dataset.count())]
    plan = building.to_plan(sum(counts), rows_per_shard, metric, codes, cells, columns, sample)
    options, threads = _placed(ray_remote_args, {"num_cpus": 1}, 0 if storage.is_memory else 1)
    plan.begin(storage)
    if storage.exists(MANIFEST):
        return Manifest.from_json(storage.read(MANIFEST), storage.uri)
    bounds = plan.bounds
    if files:
        feeds = [partial(building.blocks_of_files, files, counts, *cut) for cut in pairwise(bounds)]
    else:
        parts = dataset.split_at_indices(bounds[1:-1]) if len(bounds) > 2 else [
            dataset.materialize()]
        feeds = [partial(_blocks_of, part, columns) for part in parts]
    if storage.is_memory:
        records = [building.build_shard(storage.uri, shard, feed, plan, sample, threads)
                   for shard, feed in enumerate(feeds)]
    else:
        task, shared = ray.remote(building.build_shard).options(**options), ray.put(sample)
        refs = [task.remote(storage.uri, shard, feed, plan, shared, threads)
                for shard, feed in enumerate(feeds)]
        ray.wait(refs, num_returns=len(refs))  # so that what they wrote is there for the next call
        records = [_got(ref) for ref in refs]
    return building.finish(storage.uri, plan, records, sample)


def _blocks_of(dataset: Any, columns: tuple[str | None, ...]) -> Iterator[Any]:
    for batch in dataset.iter_batches(batch_size=_DATASET_ROWS, batch_format="numpy"):
        yield tuple(None if name is None else batch[name] for name in columns)


def _got(ref: Any, timeout: float | None = None) -> Any:
    """The result of a task or a call; its errors are raised again."""
    try:
        return ray.get(ref, timeout=timeout)
    except ray.exceptions.RayTaskError as error:
        raise getattr(error, "cause", error) from None


def _placed(wanted: dict[str, Any] | None, defaults: dict[str, Any],
            n: int) -> tuple[dict[str, Any], int | None]:
    """Options of n actors or tasks at the same time, and the threads of each; ShardError if Ray's
    machines don't have the CPUs, which it would wait for."""
    options = {**defaults, **(wanted or {})}
    cpus = float(options["num_cpus"])
    if n and not ray.is_initialized():
        ray.init()
    machines = [node["Resources"].get("CPU", 0.0) for node in (ray.nodes() if n else ())
                if node["Alive"]]
    # An actor lies on one machine. Ray counts CPUs in ten thousandths.
    room = sum(round(machine * 10_000) // max(round(cpus * 10_000), 1) for machine in machines)
    if room < n and cpus > 0.0:
        raise ShardError(
            f"ray_remote_args: {n} workers of {cpus:g} CPUs each need {n * cpus:g} CPUs, and Ray's "
            f"machines, of {sum(machines):g} in all, have room for {room} of these; pass a smaller "
            f"num_cpus, by default {defaults['num_cpus']:g}, or start more machines first")
    return options, max(int(cpus), 1) if (wanted or {}).get("num_cpus") else None


class _Worker:
    """An actor: a shard, loaded when it is first asked, and again if that failed."""

    def __init__(self, *args: Any) -> None:
        self._args = args
        self._shard: Shard | None = None

    def answer(self, method: str, at: int, args: tuple[Any, ...]) -> Any:
        if self._shard is None:
            self._shard = Shard(*self._args)
        self._shard.sync(at)
        return getattr(self._shard, method)(*args)


class Cluster(Selecting, AbstractContextManager["Cluster"]):
    """Searches of a sharded index, by an actor for each shard.

    Answers are those of one `farann.Index` over all rows, bit for bit. A question is answered
    whole, or is a `ShardError` that names the shards that couldn't be asked.

    It can be passed to tasks and actors of Ray, which then ask the same shards. Each copy sees its
    own changes at once, and those of others by the time that a shard has heard of them.

    Parameters
    ----------
    uri : str or path-like
        What was passed to `build`.
    replicas : int
        Actors for each shard. If one dies, another one is asked meanwhile.
    ray_remote_args : dict, optional
        Options of the actors, such as ``{"num_cpus": 8, "memory": 40e9}``. The number of CPUs is
        that of threads, too. By default Ray keeps a hundredth of a CPU for each actor, which
        searches with all CPUs of its machine.
    timeout : float
        Seconds in which a shard has to answer, also after its actor died and was started again.
    cache : str or path-like, optional
        A folder of each machine for copies of shard files; by default one in that for temporary
        files which this user alone can read. Files of a local path are mapped where they are.

    Raises
    ------
    ShardError
        If a shard can't be loaded: its file was changed or damaged, or no machine has room for it;
        or if two shards have an id in common.
        At once if Ray has fewer CPUs than `ray_remote_args` asks for.

    Examples
    --------
    >>> with Cluster("s3://bucket/index", replicas=2) as cluster:  # doctest: +SKIP
    ...     hits = cluster.search_furthest(queries, k=10)
    """

    def __init__(self, uri: str | os.PathLike[str], *, replicas: int = 1,
                 ray_remote_args: dict[str, Any] | None = None, timeout: float = 60.0,
                 cache: str | os.PathLike[str] | None = None) -> None:
        storage = Storage(uri)
        replicas = checks.to_int("replicas", replicas, 1)
        self._timeout = checks.to_float("timeout", timeout)
        try:
            content = storage.read(MANIFEST)
        except FileNotFoundError:
            raise FileNotFoundError(f"{storage.uri} has no {MANIFEST}: build the index first, or "
                                    "end its build") from None
        manifest = Manifest.from_json(content, storage.uri)
        super().__init__(storage, manifest, count_changes(storage))
        self._here = storage.is_memory  # workers are objects of this process
        n = len(manifest.shards) + 1
        options, threads = _placed(ray_remote_args, _ACTORS, 0 if self._here else n * replicas)
        start = _Worker if self._here else ray.remote(_Worker).options(**options).remote
        self._workers = [[start(storage.uri, shard, cache, threads) for _ in range(replicas)]
                         for shard in range(n)]
        self._turn = 0
        try:
            self._tell_all("stats")  # which has them load their shards
            self.check_distinct()
        except BaseException:
            self.close()
            raise

    def __getstate__(self) -> dict[str, Any]:
        if self._here:
            raise TypeError("an index under memory:// can be searched by the process that built it "
                            "alone; build it in a folder that all machines share")
        return self.__dict__

    def close(self) -> None:
        """End the actors, also for copies of this cluster."""
        for worker in () if self._here else chain(*self._workers):
            ray.kill(worker)

    def __exit__(self, *error: object) -> None:
        self.close()

    def stats(self) -> dict[str, Any]:
        """The state of the cluster, and statistics of the last searches.

        Returns
        -------
        dict
            `rows` of all shards, `changes`, `replicas`, and `shards`, for each what
            `farann.Index.stats` has, with its name as `shard`.
        """
        shards, _ = self._ask("stats", shards=range(len(self._workers)))
        return {"rows": sum(shard["rows"] for shard in shards), "changes": self._at,
                "replicas": len(self._workers[0]), "shards": shards}

    def refresh(self) -> None:
        """Read all changes and tunings that others have made, for the next searches."""
        self._at = max(self._at, count_changes(self._storage))
        self._tunings.forget()

    def map_batches(self, dataset: Any, column: str, k: int = 10, *,
                    search: str = "search_furthest", batch_size: int = 4096,
                    concurrency: int = 2, **options: Any) -> Any:
        """Search for all rows of a data set of Ray, some batches at a time.

        Parameters
        ----------
        dataset : ray.data.Dataset
        column : str
            The column of queries.
        k : int
        search : str
            "search_furthest" or "search_nearest".
        batch_size : int
            Queries of a batch.
        concurrency : int
            Batches that are searched for at once, which bounds memory.
        **options
            Of the search, such as `recall`.

        Returns
        -------
        ray.data.Dataset
            The same rows with the columns `ids` and `scores` (k,); computed when it is read.
        """
        checks.to_choice("search", search, ("search_furthest", "search_nearest"))

        def answer(batch: dict[str, Any]) -> dict[str, Any]:
            hits = getattr(self, search)(batch[column], k, **options)
            return {**batch, "ids": hits.ids, "scores": hits.scores}

        return dataset.map_batches(answer, batch_size=batch_size, batch_format="numpy",
                                   concurrency=concurrency)

    def _tell_all(self, method: str) -> None:
        """Call a method of all workers, replicas too; ShardError if one can't be asked."""
        turns = [(shard, [one]) for shard, workers in enumerate(self._workers) for one in workers]
        for answer in self._answers(method, (), turns, self._timeout * len(turns)):
            if isinstance(answer, Exception):
                raise answer

    def _send(self, method: str, args: tuple[Any, ...], shards: Sequence[int]) -> list[Any]:
        options = args[-1].values() if args and isinstance(args[-1], dict) else ()
        nbytes = sum(getattr(value, "nbytes", 0) for value in (*args, *options))
        shared: Any = args if self._here or nbytes <= _FEW_BYTES else ray.put(args)
        self._turn += 1
        # The workers of each shard, that first whose turn it is; one alone writes changes.
        turn = self._turn % len(self._workers[0])
        turns = [(shard, workers[:1] if method == "record" else workers[turn:] + workers[:turn])
                 for shard, workers in enumerate(self._workers) if shard in shards]
        return self._answers(method, shared, turns, self._timeout)

    def _answers(self, method: str, args: Any, turns: list[Any], seconds: float) -> list[Any]:
        """Answers of the first worker of each shard, or of the next one if it can't be asked."""
        deadline, answers = time.monotonic() + seconds, []
        refs = [self._begun(workers[0], method, args) for _, workers in turns]
        for ref, (shard, (_, *others)) in zip(refs, turns, strict=True):
            answer = self._ended(shard, ref, deadline)
            while isinstance(answer, ShardError) and others:
                answer = self._ended(shard, self._begun(others.pop(0), method, args),
                                     time.monotonic() + self._timeout)
            answers.append(answer)
        return answers

    def _begun(self, worker: Any, method: str, args: Any) -> Any:
        """Send a worker a task."""
        return (partial(worker.answer, method, self._at, args) if self._here else
                worker.answer.remote(method, self._at, args))

    def _ended(self, shard: int, ref: Any, deadline: float) -> Any:
        """The answer, or the error that the shard raised; `ShardError` if it can't be asked."""
        name = self.manifest.name_of(shard)
        try:
            return ref() if self._here else _got(ref, max(deadline - time.monotonic(), 0.0))
        except ray.exceptions.GetTimeoutError:
            return ShardError(f"{name}: no answer within {self._timeout} s")
        except ray.exceptions.RayError as error:
            return ShardError(f"{name}: {error}")
        except Exception as error:
            return error
