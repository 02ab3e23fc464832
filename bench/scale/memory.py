"""Rows that memory does not hold: what a build and searches read and take, in a memory cgroup.

`python -m bench.scale.measure --memory 400` runs this. Each job is a process of its own, which
joins the group before it imports anything large. Bytes are those that its faults and reads had to
fetch from the disk (`read_bytes` of /proc/self/io), read-ahead included; before each job the
system drops what it has cached of the files.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DIM = 384  # codes take a third of the rows, so that they fit where rows are twice the memory
_BLOCK = 16_384  # rows generated at a time
_ROOT = Path("/sys/fs/cgroup")
BATCHES = (1, 20, 1000)
K = 10


class NotHereError(Exception):
    """Nothing can be measured here: the message says why."""


def _parent_and_file() -> tuple[Path, str]:
    """Where a group can be made, and the file of its limit: in version 2 of cgroups or 1."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        raise NotHereError("there are no cgroups on this system") from None
    for line in lines:
        number, controllers, _ = line.split(":", 2)
        if number != "0" and "memory" in controllers.split(","):
            return _ROOT / "memory", "memory.limit_in_bytes"
    passed_on = _ROOT / "cgroup.subtree_control"
    if passed_on.exists() and "memory" in passed_on.read_text().split():
        return _ROOT, "memory.max"
    raise NotHereError("the memory controller of cgroups is not there, or not passed on")


@contextmanager
def group_of(limit: int) -> Iterator[Path]:
    """A cgroup whose processes may use `limit` bytes, with the files that the system caches."""
    parent, file = _parent_and_file()
    group = parent / f"farann-{os.getpid()}"
    try:
        group.mkdir()
        (group / file).write_text(str(limit))
    except OSError as error:
        if group.exists():
            group.rmdir()
        raise NotHereError(f"{group} can't be made or limited ({error.strerror}); root can") \
            from None
    try:
        yield group
    finally:
        group.rmdir()


def write_rows(path: Path, n: int, dim: int = DIM) -> None:
    """Write rows whose coordinates vary less and less, unless the file is there."""
    import numpy as np

    if path.exists():
        return
    rng = np.random.default_rng(0)
    scales = (1.0 / np.sqrt(np.arange(1, dim + 1))).astype(np.float32)
    rows = np.lib.format.open_memmap(path, "w+", np.float32, (n, dim))
    for start in range(0, n, _BLOCK):
        block = rng.standard_normal((min(_BLOCK, n - start), dim), dtype=np.float32)
        rows[start : start + _BLOCK] = block * scales
    rows.flush()


def dropped(path: Path) -> None:
    """Have the system drop what it has cached of a file."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def bytes_read() -> int:
    """Bytes that this process had fetched from disks."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["read_bytes"])


def check_counted(folder: Path) -> None:
    """Refuse a folder whose files the system keeps in memory, or whose reads it doesn't count."""
    file = folder / f"counted-{os.getpid()}"
    try:
        file.write_bytes(bytes(1 << 20))
        dropped(file)
        before = bytes_read()
        file.read_bytes()
        if bytes_read() == before:
            raise NotHereError(f"what is read in {folder} isn't counted; it takes a folder on a "
                               "disk")
    finally:
        file.unlink(missing_ok=True)


def run(folder: Path, out: Path, limit: int, rows: int | None = None) -> None:
    """Measure builds and searches with little memory, and builds with enough; without partitions
    and with them. A line of JSON for each."""
    n = rows or 2 * limit // (4 * DIM)
    file, index = folder / f"rows-{n}.npy", folder / "index.farann"
    with group_of(limit) as group:
        check_counted(folder)
        write_rows(file, n)
        for cells in ("0", str(int(4 * n**0.5))):
            jobs = [("build", cells, group), *(("search", str(batch), group) for batch in BATCHES),
                    ("build", cells, None)]
            for what, how, inside in jobs:
                line = {"what": what, "how": how, "memory": limit if inside else None,
                        "cells": cells, "rows": n, "rows_bytes": 4 * DIM * n,
                        **_done([what, how], file, index, inside)}
                with out.open("a") as stream:
                    stream.write(json.dumps(line) + "\n")
                print(line, flush=True)


def _done(job: list[str], file: Path, index: Path, group: Path | None) -> dict[str, Any]:
    """What a job in a process of its own found."""
    command = [sys.executable, "-m", "bench.scale.memory", *job, str(file), str(index),
               *([str(group)] if group else [])]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if ran.returncode:
        return {"ended": ran.returncode}  # -9: the memory of the group was not enough
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def work(what: str, how: str, file: Path, index: Path) -> dict[str, Any]:
    """Build an index of a file, or search a mapped one, and count."""
    import numpy as np

    import farann
    from farann.vectors import open_vectors

    dropped(file if what == "build" else index)
    before, began, cpu = bytes_read(), time.perf_counter(), time.process_time()
    facts: dict[str, Any] = {}
    if what == "build":
        made = farann.Index(cells=int(how) or None, threads=1)
        made.add(open_vectors(file).map(), copy=False)
        made.build().save(index)
    else:
        loaded = farann.Index.load(index, mmap=True)
        facts["load_bytes"] = bytes_read() - before
        scales = (1.0 / np.sqrt(np.arange(1, DIM + 1))).astype(np.float32)
        queries = scales * np.random.default_rng(1).standard_normal(
            (int(how), DIM), dtype=np.float32)
        before, began, cpu = bytes_read(), time.perf_counter(), time.process_time()
        loaded.search_furthest(queries, K, threads=1)
        facts["rescored"] = loaded.stats()["last_search"]["rows_rescored"]
    return {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu,
            "read_bytes": bytes_read() - before, **facts}


if __name__ == "__main__":
    job, how, file, index, *groups = sys.argv[1:]
    for group in groups:
        Path(group, "cgroup.procs").write_text(str(os.getpid()))
    print(json.dumps(work(job, how, Path(file), Path(index))))
