"""Searching a sharded index with Ray: an actor a shard, or some that are alike."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self

import numpy as np
import ray

from farann.adapters.ray import changes
from farann.adapters.ray.gathering import Gathering, Lost
from farann.adapters.ray.manifest import NAME, Manifest, ShardError
from farann.adapters.ray.placing import placed
from farann.adapters.ray.shard import Shard
from farann.adapters.ray.storage import Storage
from farann.contract import checks

# Arguments larger than this are put into the object store, once for all shards.
_SMALL = 50_000
# Actors are spread over the machines; those that die are started again, and asked again. A
# hundredth of a CPU each: a laptop holds any number of shards, and CPUs are left for tasks.
_OPTIONS = {"num_cpus": 0.01, "max_concurrency": 4, "max_restarts": -1, "max_task_retries": 3,
            "scheduling_strategy": "SPREAD"}


class _Worker:
    """An actor: a shard, loaded when it is first asked, and again if that failed."""

    def __init__(self, uri: str, number: int, cache: str | None, threads: int | None) -> None:
        self._args = uri, number, cache, threads
        self._shard: Shard | None = None

    def answer(self, method: str, at: int, args: tuple[Any, ...]) -> Any:
        if self._shard is None:
            self._shard = Shard(*self._args)
        self._shard.sync(at)
        return getattr(self._shard, method)(*args)


class _Here:
    """A worker in this process, for files in its memory, which no other process has."""

    def __init__(self, *args: Any) -> None:
        self._worker = _Worker(*args)
        self.answer = self

    def remote(self, method: str, at: int, args: tuple[Any, ...]) -> Callable[[], Any]:
        return partial(self._worker.answer, method, at, args)

    def __reduce__(self) -> Any:
        raise TypeError("an index under memory:// can be searched by the process that built it "
                        "alone; build it in a folder that all machines share")


class Cluster(Gathering):
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
        files. Files of a local path are mapped where they are.

    Raises
    ------
    ShardError
        If a shard can't be loaded: its file was changed or damaged, or no machine has room for it.
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
            content = storage.read(NAME)
        except FileNotFoundError:
            raise FileNotFoundError(f"{storage.uri} has no {NAME}: build the index first, or "
                                    "end its build") from None
        manifest = Manifest.from_json(content, storage.uri)
        super().__init__(storage, manifest, changes.count(storage))
        n = 0 if storage.is_memory else replicas * (len(manifest.shards) + 1)
        options, threads = placed(ray_remote_args, _OPTIONS, n)
        start = _Here if storage.is_memory else ray.remote(_Worker).options(**options).remote
        folder = None if cache is None else os.fspath(cache)
        self._workers = [[start(storage.uri, shard, folder, threads) for _ in range(replicas)]
                         for shard in range(len(manifest.shards) + 1)]
        self._turn = 0
        try:
            self._tell_all("stats")  # which has them load their shards
        except BaseException:
            self.close()
            raise

    def _tell_all(self, method: str) -> None:
        """Call a method of all workers; ShardError if one can't be asked."""
        refs = [(self.manifest.name_of(shard), worker.answer.remote(method, self._at, ()))
                for shard, workers in enumerate(self._workers) for worker in workers]
        for name, ref in refs:
            answer = self._taken(name, ref, time.monotonic() + self._timeout)
            if isinstance(answer, Lost):
                raise ShardError(answer.told()) from answer.error

    def close(self) -> None:
        """End the actors, also for copies of this cluster."""
        for workers in self._workers:
            for worker in workers:
                if not isinstance(worker, _Here):
                    ray.kill(worker)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()

    def stats(self) -> dict[str, Any]:
        """What there is, and what the last searches did.

        Returns
        -------
        dict
            `rows` of all shards, `changes`, `replicas`, and `shards`, for each what
            `farann.Index.stats` has, with its name as `shard`.
        """
        shards = self._send("stats", (), range(len(self._workers)))
        lost = [answer for answer in shards if isinstance(answer, Lost)]
        if lost:
            raise ShardError("; ".join(answer.told() for answer in lost))
        return {"rows": sum(shard["rows"] for shard in shards), "changes": self._at,
                "replicas": len(self._workers[0]), "shards": shards}

    def refresh(self) -> None:
        """Have the next searches know of all changes and tunings that others made until now."""
        self._at = max(self._at, changes.count(self._storage))
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
            queries = batch[column]
            if queries.dtype == object:
                queries = np.stack(queries.tolist())
            hits = getattr(self, search)(queries, k, **options)
            return {**batch, "ids": hits.ids, "scores": hits.scores}

        return dataset.map_batches(answer, batch_size=batch_size, batch_format="numpy",
                                   concurrency=concurrency)

    # ---- how shards are asked ----

    def _forget_tuning(self) -> None:
        self._tell_all("forget_tuning")  # replicas, too

    def _send(self, method: str, args: tuple[Any, ...], shards: Sequence[int]) -> list[Any]:
        here = isinstance(self._workers[0][0], _Here)
        shared: Any = args if here or _nbytes(args) <= _SMALL else ray.put(args)
        self._turn += 1
        turn = self._turn if method != "record" else 0  # one worker alone writes changes
        deadline = time.monotonic() + self._timeout
        refs = [self._order(shard, turn)[0].answer.remote(method, self._at, shared)
                for shard in shards]
        answers = []
        raised: Exception | None = None
        for shard, ref in zip(shards, refs, strict=True):
            name, others = self.manifest.name_of(shard), self._order(shard, turn)[1:]
            try:
                answer = self._taken(name, ref, deadline)
                for other in others if method != "record" else ():
                    if not isinstance(answer, Lost):
                        break
                    answer = self._taken(name, other.answer.remote(method, self._at, shared),
                                         time.monotonic() + self._timeout)
                answers.append(answer)
            except Exception as error:  # of all it is taken, or Ray would write of it
                raised = raised or error
        if raised is not None:
            raise raised
        return answers

    def _order(self, shard: int, turn: int) -> list[Any]:
        """The workers of a shard, that first whose turn it is."""
        workers = self._workers[shard]
        first = turn % len(workers)
        return workers[first:] + workers[:first]

    def _taken(self, name: str, ref: Any, deadline: float) -> Any:
        """An answer that was asked for, or `Lost`; errors that a shard raises are raised."""
        try:
            if callable(ref):
                return ref()
            return ray.get(ref, timeout=max(deadline - time.monotonic(), 0.0))
        except ShardError as error:
            return Lost(name, getattr(error, "cause", error))
        except ray.exceptions.RayTaskError as error:
            raise getattr(error, "cause", error) from None
        except ray.exceptions.GetTimeoutError:
            return Lost(name, TimeoutError(f"no answer within {self._timeout} s"))
        except ray.exceptions.RayError as error:
            return Lost(name, error)


def _nbytes(value: Any) -> int:
    """About how many bytes the arrays of some arguments have."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, dict):
        value = list(value.values())
    return sum(map(_nbytes, value)) if isinstance(value, (list, tuple)) else 0
