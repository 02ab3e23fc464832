"""Measures shards on this machine: searches with and without Ray, merging, building.

Ray listens on the outward address, so run it where only the loopback device is there:

    unshare -n sh -c 'ip link set lo up && python -m bench.scale.measure --folder DIR --out FILE'

With `--memory 400` it measures rows that memory does not hold instead, without Ray.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import farann
from bench.scale import memory

Float32 = NDArray[np.float32]
DIM, K, BLOCK = 96, 10, 100_000
BATCHES = (1, 100, 10_000)
# Rows of the comparison of one index, shards without Ray, and shards with it.
SMALL = 400_000


def generated(n: int, seed: int) -> Float32:
    """Rows whose coordinates vary less and less, as those of embeddings along their axes."""
    rng = np.random.default_rng(seed)
    scales = (1.0 / np.sqrt(np.arange(1, DIM + 1))).astype(np.float32)
    return rng.standard_normal((n, DIM), dtype=np.float32) * scales


def written(path: Path, n: int) -> Path:
    """A file of n rows; one that is there is taken."""
    if not path.exists():
        rows = np.lib.format.open_memmap(path, "w+", np.float32, (n, DIM))
        for start in range(0, n, BLOCK):
            stop = min(start + BLOCK, n)
            rows[start:stop] = generated(stop - start, start)
        rows.flush()
    return path


def times_of(call: Callable[[], Any], seconds: float = 4.0, most: int = 200) -> list[float]:
    """Seconds of some calls, after one that isn't counted."""
    call()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or (time.perf_counter() < end and len(times) < most):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return times


def searched(parts: list[farann.Index], queries: Float32) -> list[farann.Hits]:
    """What parts find, for merging."""
    return [part.search_furthest(queries, K, return_keys=True) for part in parts]


def compared(folder: Path, note: Callable[..., None]) -> None:
    """One index, its shards in this process, and the same with Ray."""
    from farann.adapters.ray import Cluster, build

    rows = written(folder / "small.npy", SMALL)
    queries = generated(BATCHES[-1], 7)
    for shards in (1, 2, 4):
        uri = folder / f"small-{shards}"
        build([rows], uri=uri, rows_per_shard=SMALL // shards, metric="cosine")
        parts = [farann.Index.load(path, mmap=True) for path in sorted(uri.glob("shards/*.farann"))]
        with Cluster(uri) as cluster:
            for batch in BATCHES:
                some = queries[:batch]
                found = searched(parts, some)
                note("ray", shards=shards, batch=batch,
                     times=times_of(partial(cluster.search_furthest, some, K)))
                note("here", shards=shards, batch=batch,
                     times=times_of(partial(searched, parts, some)))
                note("merge", shards=shards, batch=batch,
                     times=times_of(partial(farann.merge, found), 0.5))
        if shards == 1:
            for batch in BATCHES:
                note("index", batch=batch,
                     times=times_of(partial(parts[0].search_furthest, queries[:batch], K)))


def large(folder: Path, rows: int, shards: int, note: Callable[..., None]) -> None:
    """As many rows as memory allows: build, search, and one shard by itself."""
    from farann.adapters.ray import Cluster, build

    file, uri = written(folder / "large.npy", rows), folder / "large"
    began = time.perf_counter()
    build([file], uri=uri, rows_per_shard=rows // shards, metric="cosine",
          ray_remote_args={"num_cpus": 1})
    note("build", rows=rows, shards=shards, times=[time.perf_counter() - began])
    queries = generated(BATCHES[-1], 7)
    with Cluster(uri) as cluster:
        for batch in BATCHES[:2]:
            note("large", shards=shards, rows=rows, batch=batch,
                 times=times_of(partial(cluster.search_furthest, queries[:batch], K), 8.0))


def main() -> None:
    """Measure, and write a line of JSON for each figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="for rows and shards")
    parser.add_argument("--out", type=Path, required=True, help="file of JSON lines")
    parser.add_argument("--rows", type=int, help="default 5,000,000, or twice the memory")
    parser.add_argument("--memory", type=int, metavar="MB", help="builds and searches in a cgroup "
                        "of this memory, which takes root")
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--parts", default="compare,large")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.memory is not None:
        try:
            memory.run(args.folder, args.out, args.memory << 20, args.rows)
        except memory.NotHereError as error:
            parser.error(str(error))
        return

    def note(what: str, *, times: list[float], **facts: Any) -> None:
        line = {"what": what, **facts, "median": statistics.median(times), "times": times}
        with args.out.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print({name: value for name, value in line.items() if name != "times"}, flush=True)

    parts = args.parts.split(",")
    import ray

    ray.init(include_dashboard=False, num_cpus=8, log_to_driver=False)
    if "compare" in parts:
        compared(args.folder, note)
    if "large" in parts:
        large(args.folder, args.rows or 5_000_000, args.shards, note)
    ray.shutdown()


if __name__ == "__main__":
    main()
