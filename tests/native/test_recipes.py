"""Recipes of CONTRIBUTING for a collector, a bound and a level: those of `toys.pyx` join searches.

They are compiled here, alone. Whatever passed one of their doors by would find other rows.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import inside
import numpy as np
import pytest
import reference
from cases import Float32, assert_same, index_of, pairs

import farann

ROOT = Path(__file__).parents[2]
SHARED = "farann.native._cyutility"
METRICS = ("l2", "dot", "cosine")
# How rows are held: among them rows that were added since, of which an index keeps codes, too.
KINDS: dict[str, dict[str, Any]] = {"codes": {}, "4 bits": {"codes": "int4"},
                                    "floats": {"codes": "float32"}}
N, DIM = 1200, 20


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The module, compiled."""
    pytest.importorskip("Cython")
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    if sys.platform == "win32" or not shutil.which(compiler):
        pytest.skip("needs a C compiler")
    source = tmp_path_factory.mktemp("toys") / "toys.c"
    library, core = source.with_suffix(".so"), Path(inside.native.library())
    for command in (
        [sys.executable, "-m", "cython", "-3", "-I", ".", "--shared", SHARED, "-X",
         "freethreading_compatible=True", "tests/native/toys.pyx", "-o", str(source)],
        [compiler, "-O1", "-g0", "-fPIC", "-std=c11", "-Isrc_c",
         *(["-DPy_LIMITED_API=0x030B0000"] if ".abi3." in core.name else []),
         f"-I{sysconfig.get_path('include')}", str(source), "-o", str(library),
         *(["-bundle", "-undefined", "dynamic_lookup"] if sys.platform == "darwin"
           else ["-shared"])],
    ):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    spec = spec_from_loader("toys", ExtensionFileLoader("toys", str(library)))
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def made(rng: np.random.Generator, kind: str, metric: str, level: str) -> tuple[
        farann.Index, Float32, Float32]:
    """An index with added rows at a level, its rows and queries."""
    rows, queries = (rng.standard_normal((n, DIM), dtype=np.float32) for n in (N, 7))
    rows[100:160] = rows[100]  # ties
    index = index_of(rows[: N - 150], metric, **KINDS[kind]).build()
    index.add(rows[N - 150 :])
    inside.store.use_level(index, level)
    return index, rows, queries


def keys_of(queries: Float32, rows: Float32, metric: str) -> Any:
    """Keys of all rows: larger ones are further."""
    wide, asked = rows.astype(np.float64), queries.astype(np.float64)
    if metric == "l2":
        return np.ascontiguousarray(((asked[:, None] - wide) ** 2).sum(axis=2))
    norms = np.linalg.norm(wide, axis=1) if metric == "cosine" else 1.0
    return np.ascontiguousarray(-(asked @ wide.T) / norms)


ALL = pairs(KINDS, METRICS, inside.levels(), (3, 30, 90))


@pytest.mark.parametrize(("kind", "metric", "level", "k"), ALL)
def test_a_collector(toys: Any, rng: np.random.Generator, kind: str, metric: str, level: str,
                     k: int) -> None:
    """By a question, and by tasks, which may also be about the nearest rows."""
    index, rows, queries = made(rng, kind, metric, level)
    gone = [4, 6, 7, N - 2]
    index.remove(gone)
    even = np.setdiff1d(np.arange(0, N, 2), gone)
    right = reference.furthest(queries, rows[even], k, metric, ids=even)
    assert_same(inside.search.collected(index, queries, k, toys.EvenCollector), right)
    assert_same(inside.search.collected(index, queries[:1], k, toys.EvenCollector),
                reference.furthest(queries[:1], rows[even], k, metric, ids=even))
    snapshot = inside.store.snapshot_of(index)
    task = inside.native.task_of(snapshot, queries, k, nearest=True,
                                 collector=toys.EvenCollector(k))
    assert_same(inside.native.run(task, len(queries), k),
                reference.nearest(queries, rows[even], k, metric, ids=even))


@pytest.mark.parametrize(("kind", "metric", "level", "k"), ALL)
def test_a_bound(toys: Any, rng: np.random.Generator, kind: str, metric: str, level: str,
                 k: int) -> None:
    """Answers stay exact, and one that leaves everything out leaves nothing to be found."""
    index, rows, queries = made(rng, kind, metric, level)
    snapshot, keys = inside.store.snapshot_of(index), keys_of(queries, rows, metric)
    task = inside.native.task_of(snapshot, queries, k)
    toys.bind_everywhere(task, keys.ctypes.data, N, False)
    assert_same(inside.native.run(task, len(queries), k),
                reference.furthest(queries, rows, k, metric))
    keys[:] = -np.inf
    for from_here_on in False, True:
        task = inside.native.task_of(snapshot, queries, k)
        bound = toys.bind_everywhere(task, keys.ctypes.data, N, from_here_on)
        assert (inside.native.run(task, len(queries), k).ids == -1).all() and bound.left_out


def test_a_bound_spares_blocks(toys: Any, rng: np.random.Generator) -> None:
    """For one alone, and where rows come in the order of their keys, for all that follow."""
    queries, rows = (rng.standard_normal((n, DIM), dtype=np.float32) for n in (1, 20_000))
    rows = rows[np.argsort(-keys_of(queries, rows, "l2")[0])]
    snapshot = inside.store.snapshot_of(index_of(rows, "l2", codes="float32").build())
    keys = keys_of(queries, rows, "l2")
    for from_here_on in False, True:
        task = inside.native.task_of(snapshot, queries, 5)
        bound = toys.bind_everywhere(task, keys.ctypes.data, len(rows), from_here_on)
        assert inside.native.run(task, 1, 5).ids.tolist() == [[0, 1, 2, 3, 4]]
        scanned = inside.native.work_of(task).rows_scanned
        assert scanned < len(rows) / 4 and (bound.left_out == 1) == from_here_on


@pytest.mark.parametrize(("kind", "metric", "level", "k"), ALL)
def test_a_level(toys: Any, rng: np.random.Generator, kind: str, metric: str, level: str,
                 k: int) -> None:
    """In the place of those that go by codes or in float32 it scores all rows."""
    index, rows, queries = made(rng, kind, metric, level)
    task = inside.native.task_of(inside.store.snapshot_of(index), queries, k)
    own = toys.put_levels(task)
    assert_same(inside.native.run(task, len(queries), k),
                reference.furthest(queries, rows, k, metric))
    # Exact keys alone may take its place, as they do where many rows nearly tie.
    assert inside.native.work_of(task).code_products == 0
    assert sum(level.scored for level in own) > 0.9 * len(queries) * N
