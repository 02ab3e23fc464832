"""Hypothesis profiles and the fixtures of all tests."""

from __future__ import annotations

import asyncio
import gc
import inspect
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import inside
import numpy as np
import pytest
import scipy.linalg  # noqa: F401  # loads a BLAS of its own, which is limited, too
from hypothesis import HealthCheck, settings
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

import farann

# TensorFlow reads these when it is imported: TFRS needs Keras 2, and nobody its greeting.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# One thread each: the processes of the suite are as many as there are cores.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
# Shells start background jobs without Ctrl+C, and child processes inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# `ci` keeps the suite short and repeatable; FARANN_HYPOTHESIS=deep looks further, at random. No
# example is too slow: on a busy machine all of them are.
settings.register_profile("ci", max_examples=40, deadline=None, derandomize=True,
                          suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "deep",
    max_examples=1000,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile(os.environ.get("FARANN_HYPOTHESIS", "ci"))

Arrays = dict[str, NDArray[np.generic]]

# A snippet finds its input arrays in `given` and sends arrays back with `give(name=array)`.
PREAMBLE = """
import numpy as np
given = dict(np.load({given!r}))
def give(**arrays):
    np.savez({answer!r}, **arrays)
"""


# What takes longest comes first: if it came last, the other processes would have to wait for it.
LONGEST = ("test_ray", "test_tfrs", "test_docs_build", "test_keras_rs", "test_shards",
           "test_out_of_core", "test_corpus", "test_golden_answers", "test_types", "test_docs",
           "test_examples", "test_tuning", "test_diverse", "test_demo", "test_bench_edge")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--one-level", action="store_true",
                     help="run tests of all instruction-set levels at the default one only")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--one-level"):
        inside.native.only_level(farann.Index().isa)


def place_of(nodeid: str) -> tuple[int, str]:
    """When a test starts, and what it shares a process with: the other tests of its file.

    Tests of TensorFlow share one, as they share another one that has it imported.
    """
    name = Path(nodeid.partition("::")[0]).stem
    if name.startswith("test_tfrs"):
        name = "test_tfrs"
    return LONGEST.index(name) if name in LONGEST else len(LONGEST), name


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: place_of(item.nodeid)[0])


def pytest_collection_finish() -> None:
    """Modules and tests stay: to look at them again took the garbage collector .4 s each time."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run tests that are coroutines, as frameworks bring some along."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `--dist loadfile` files start as `place_of` says, not by their numbers of tests."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class ByPlace(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
        def _split_scope(self, nodeid: str) -> str:
            return place_of(nodeid)[1]

    config.option.loadscopereorder = False
    return ByPlace(config, log)


@pytest.fixture(scope="module", autouse=True)
def one_blas_thread() -> Iterator[None]:
    """On a busy machine threads of BLAS wait for each other, which makes small products slow.

    Anew for each file: what runs a benchmark sets another number, and modules that were imported
    since may have loaded another BLAS.
    """
    with threadpool_limits(1, user_api="blas"):
        yield


@pytest.fixture(autouse=True)
def codes_at_any_size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches on few rows go by codes, too, so that small tests are tests of codes."""
    if request.node.get_closest_marker("few_rows_as_floats") is None:
        monkeypatch.setattr(inside.settings, "coded_query_cost", -math.inf)


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """A generator of its own for each test, the same in every run."""
    return np.random.default_rng(list(request.node.name.encode()))


@pytest.fixture
def small_index(rng: np.random.Generator) -> Callable[..., farann.Index]:
    """Make a built l2 index (unless told otherwise) of Gaussian rows with ids 0..n-1."""

    def make(n: int = 50, dim: int = 6, metric: str = "l2") -> farann.Index:
        index = farann.Index(dim, metric)
        index.add(rng.standard_normal((n, dim), dtype=np.float32))
        return index.build()

    return make


@pytest.fixture(scope="session")
def run_python(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Arrays]:
    """Run a snippet in a new Python process and bring back the arrays it gives.

    ``run_python(code, isa="avx2", timeout=60, **arrays)``. Warnings are errors there too;
    an exit status other than ``status`` (0) fails the test with what the process wrote.
    """

    folder = tmp_path_factory.mktemp("run_python")

    def run(
        code: str,
        *,
        isa: str | None = None,
        timeout: float = 300,
        status: int = 0,
        **arrays: ArrayLike,
    ) -> Arrays:
        given, answer = folder / "given.npz", folder / "answer.npz"
        inputs: dict[str, Any] = {name: np.asarray(array) for name, array in arrays.items()}
        np.savez(given, **inputs)
        answer.unlink(missing_ok=True)
        paths = [str(Path(__file__).parent), *filter(None, sys.path)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        environment.pop("FARANN_ISA", None)
        if isa is not None:
            environment["FARANN_ISA"] = isa
        preamble = PREAMBLE.format(given=str(given), answer=str(answer))
        done = subprocess.run(
            [sys.executable, "-P", "-W", "error", "-c", preamble + code],
            env=environment,
            timeout=timeout,
            capture_output=True,
            text=True,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return dict(np.load(answer)) if answer.exists() else {}

    return run


@pytest.fixture(scope="session")
def another_process() -> Iterator[Any]:
    """A process that has TensorFlow imported, for tests that save in one and load in another."""
    from tfrs_cases import Elsewhere  # skips where TensorFlow is missing

    process = Elsewhere()
    yield process
    process.end()


@pytest.fixture(scope="session", autouse=True)
def halves_first() -> Iterator[None]:
    """Single queries read the upper halves of codes first, however few there are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inside.settings, "cached_code_bytes", 0)
        patch.setattr(inside.settings, "hub_rows", 32)
        yield
