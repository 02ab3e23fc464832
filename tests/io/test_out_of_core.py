"""Rows that memory does not hold: building from a file, and searching a mapped index.

Processes of their own may take so much memory and no more. Pages of mapped files don't count, as
the system drops them where memory is short; arrays do. In each of them, a copy of the rows fails.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import Float32, assert_same
from numpy.testing import assert_array_equal

import farann

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is limited as on Linux")

N, DIM = 250_000, 128
ROWS_BYTES = 4 * N * DIM
N_QUERIES = 8

LIMITED = """
import re, resource
import farann.cli, inside, sklearn.cluster
path = str(given["path"])
# Both libraries of BLAS take their buffers now.
np.ones((300, 300)) @ np.ones((300, 300))
sklearn.cluster.KMeans(64, n_init=1).fit(np.random.default_rng(0).random((3000, 64)))

def limit():
    with open("/proc/self/status") as stream:
        held = 1024 * int(re.search(r"VmData:\\s+(\\d+) kB", stream.read())[1])
    most = held + int(given["room"])
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    try:
        np.empty(int(given["rows_bytes"]), np.int8)
    except MemoryError:
        return
    raise AssertionError("a copy of the rows would fit")

def resident():
    # Bytes of the rows that this process has touched: of the largest part of the file.
    parts, size = [0], 0
    with open("/proc/self/smaps") as stream:
        for line in stream:
            if re.match(r"[0-9a-f]+-", line):
                start, stop = (int(end, 16) for end in line.split()[0].split("-"))
                size = stop - start if line.rstrip().endswith(path) else 0
            elif line.startswith("Rss:") and size >= int(given["rows_bytes"]):
                parts.append(1024 * int(line.split()[1]))
    return sum(parts)
"""

BUILD = LIMITED + """
limit()
assert farann.cli.main(["build", *given["arguments"].tolist(), "--threads", "1", "-q"]) == 0
"""

SEARCH = LIMITED + """
limit()
index = farann.Index.load(path, mmap=True)
loaded = resident()
hits = index.search_furthest(given["queries"], threads=1)
touched = resident()
near = index.search_nearest(given["queries"], threads=1)
rough = index.search_furthest(given["queries"], recall=0.95, threads=1)
close = index.search_furthest(given["queries"], epsilon=0.1, threads=1)
give(loaded=loaded, touched=touched, scores=hits.scores, ids=hits.ids, near=near.ids,
     rough=rough.ids, close=close.scores)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with rows in float32 and in float16, ids, and queries."""
    folder = tmp_path_factory.mktemp("large")
    rng = np.random.default_rng(0)
    spread = np.exp(-np.arange(DIM) / 10).astype(np.float32)
    step = N // 16
    for name, dtype in (("rows.npy", np.float32), ("half.npy", np.float16)):
        array = np.lib.format.open_memmap(folder / name, "w+", dtype, (N, DIM))
        block = spread * rng.standard_normal((step, DIM), dtype=np.float32)
        for start in range(0, N, step):
            # The same shapes elsewhere: drawing all of them takes longer than building.
            array[start : start + step] = block + spread * rng.standard_normal(DIM)
    np.save(folder / "ids.npy", np.arange(N) * 3 + 1)
    queries = spread * rng.standard_normal((N_QUERIES, DIM), dtype=np.float32)
    np.save(folder / "queries.npy", queries)
    return folder


@pytest.mark.parametrize(("name", "options", "share"), [
    ("rows.npy", ["--codes", "float32", "--ids", "ids.npy"], 0.2),
    ("rows.npy", [], 0.9),
    ("rows.npy", ["--cells", "64"], 0.9),
    ("half.npy", ["--metric", "cosine"], 0.9),
])
def test_in_little_memory(
    place: Path, name: str, options: list[str], share: float,
    run_python: Callable[..., Any], monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(place)
    before = sorted(place.iterdir())
    run_python(BUILD, path=str(place / name), rows_bytes=ROWS_BYTES,
               room=int(share * ROWS_BYTES), arguments=[name, "-o", "new.farann", *options])
    index = farann.Index.load("new.farann", mmap=True)
    assert index.stats()["built"] and len(index) == N
    ids = np.load("ids.npy") if "--ids" in options else np.arange(N)
    assert_array_equal(index.ids, ids)
    some = np.r_[0, 1, 99_999:100_004, N - 1]
    rows = np.load(name, mmap_mode="r")
    assert_array_equal(index.reconstruct(ids[some]), rows[some].astype(np.float32))
    if options in ([], ["--cells", "64"]):
        assert_mapped(place, rows, run_python)
    Path("new.farann").unlink()
    assert sorted(place.iterdir()) == before


def assert_mapped(place: Path, rows: Float32, run_python: Callable[..., Any]) -> None:
    """Searches of the mapped file read few of its rows, and have the answers of these."""
    queries: Float32 = np.load("queries.npy")
    # Most of it is what a guard for recall= is made with, however many rows there are.
    found = run_python(SEARCH, path=str(place / "new.farann"), rows_bytes=ROWS_BYTES,
                       room=int(0.7 * ROWS_BYTES), queries=queries)
    assert found["loaded"] == 0
    assert 0 < found["touched"] < 0.3 * ROWS_BYTES
    expected = farann.search_furthest(rows, queries)
    assert_same(farann.Hits(found["ids"], found["scores"]), expected)
    everything = farann.Index(codes="float32")
    everything.add(rows, copy=False)
    assert_array_equal(found["near"], everything.search_nearest(queries).ids)
    assert (found["rough"] == expected.ids).mean() > 0.5
    assert (found["close"][:, -1] * 1.1 >= expected.scores[:, -1]).all()
