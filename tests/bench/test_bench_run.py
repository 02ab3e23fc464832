"""The benchmark suite at work: data, peers, single measurements and whole runs, all tiny."""

from __future__ import annotations

import dataclasses
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench_cases import RATES, Record, a_record, sample
from numpy.typing import NDArray

import farann
from bench import __main__ as command_line
from bench import datasets, fetch, measures, readme, run
from bench.algorithms import all_algorithms, by_name, matching
from bench.algorithms.base import Profile
from bench.algorithms.blind import Blind
from bench.reduction import METRICS
from bench.worker import Task, describe, measure, worth_timing

ROOT = Path(run.__file__).parent.parent
TINY = "numpy,sklearn,blind,farann"


@pytest.fixture(autouse=True)
def fixed_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine isn't measured."""
    monkeypatch.setattr(run, "measured_rates", lambda: RATES)


# Data


def test_own_data_in_all_its_shapes(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    rows, queries = sample(10, 60, 4), sample(11, 6, 4)
    np.save(tmp_path / "x.npy", rows.astype(np.float64))
    np.save(tmp_path / "q.npy", queries)
    with h5py.File(tmp_path / "both.hdf5", "w") as file:
        file["train"], file["test"], file["distances"] = rows, queries, np.zeros((6, 3))
    made = [
        datasets.from_files(f"{tmp_path}/{a}", b and f"{tmp_path}/{b}", "l2", tmp_path / "cache")
        for a, b in [("x.npy", "q.npy"), ("both.hdf5", None), ("both.hdf5", "both.hdf5"),
                     ("both.hdf5:train", "q.npy")]
    ]
    for data in made:
        np.testing.assert_array_equal(data.rows(), rows)
        np.testing.assert_array_equal(data.queries(), queries)
        ids, scores = measures.furthest(rows, queries, datasets.TRUTH_K, "l2")
        np.testing.assert_array_equal(data.truth()[0], ids)
        np.testing.assert_array_equal(data.truth()[1], scores)
    held = datasets.from_files(f"{tmp_path}/x.npy", None, "dot", tmp_path / "cache", max_rows=50)
    assert held.shape() == (45, 4)
    together = np.vstack([held.rows(), held.queries()])
    assert sorted(together.tolist()) == sorted(rows[:50].tolist())


def test_own_data_is_checked(tmp_path: Path) -> None:
    good = sample(12, 40, 3)
    cases: list[tuple[NDArray[Any], NDArray[Any], str, str]] = [
        (good[0], good, "l2", r"rows must be a filled array of two dimensions, got \(3,\)"),
        (good, good[:, :2], "l2", r"queries must have the dimension of rows \(3\), got 2"),
        (np.where(np.arange(40)[:, None] == 7, np.nan, good), good, "l2", "rows .* row 7 is not"),
        (good * (np.arange(40)[:, None] != 5), good, "cosine", "rows must not be zero .* row 5"),
        (good, good, "hamming", "metric must be one of .*, got 'hamming'"),
    ]
    for number, (rows, queries, metric, words) in enumerate(cases):
        np.save(tmp_path / f"x{number}.npy", rows)
        np.save(tmp_path / f"q{number}.npy", queries)
        paths = [str(tmp_path / f"{name}{number}.npy") for name in "xq"]
        with pytest.raises(ValueError, match=words):
            datasets.from_files(paths[0], paths[1], metric, tmp_path / "cache")
    assert not list(tmp_path.glob("cache/*/rows.npy"))


def test_unknown_and_unavailable_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyError, match="no data set 'glove'; there are .*glove-cosine"):
        datasets.load("glove", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(datasets, "FASHION", Path("/nowhere/fashion-mnist"))
    with pytest.raises(fetch.Unavailable, match="Fashion-MNIST: apt-get is not on this system"):
        datasets.load("fashion-mnist-l2", tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


# Algorithms


def test_algorithms_are_found_and_told_apart() -> None:
    everything = all_algorithms()
    names = [algorithm.name for algorithm in everything]
    assert names[0] == "farann"
    assert len(names) == len(set(names))
    assert {"numpy", "sklearn", "faiss-flat", "scann-tree", "mlpack-kfn"} <= set(names)
    assert [a.name for a in matching(["faiss-i*", "blind"])] == [
        "faiss-ivf-flat", "faiss-ivf-panorama", "faiss-ivf-pq", "blind"]
    assert {a.library for a in matching(["faiss"])} == {"faiss"}
    with pytest.raises(ValueError, match="no algorithm matches nothing; there are farann"):
        matching(["nothing"])
    with pytest.raises(KeyError, match="no algorithm 'nothing'"):
        by_name("nothing")


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("rows", [50, 5000, 400_000])
def test_sweeps_are_within_reach(rows: int, full: bool) -> None:
    for algorithm in all_algorithms():
        if algorithm.missing():
            continue
        for setting in algorithm.sweep(Profile(rows, 16, "l2", full=full)):
            assert setting.searches
            for name, value in itertools.chain(setting.build.items(),
                                               *[search.items() for search in setting.searches]):
                if name in ("nlist", "nprobe", "leaves", "listed"):
                    assert 1 <= value <= rows


def test_blas_is_chosen_by_the_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    faiss, plain = by_name("faiss-flat"), by_name("numpy")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    wide = frozenset({"avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl"})
    assert faiss.environment(wide) == {"OPENBLAS_CORETYPE": "SkylakeX"}
    assert faiss.environment(frozenset({"avx2", "fma"})) == {"OPENBLAS_CORETYPE": "Haswell"}
    assert faiss.environment(frozenset()) == {}
    assert plain.environment(wide) == {}
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Zen")
    monkeypatch.setenv("OPENBLAS_L2_SIZE", "1048576")
    kept = run.child_environment()
    assert "OPENBLAS_CORETYPE" not in kept
    assert "OPENBLAS_L2_SIZE" not in kept
    assert kept["OMP_NUM_THREADS"] == "1"
    given_back = run.child_environment(faiss.environment(wide))
    assert given_back["OPENBLAS_CORETYPE"] == "SkylakeX"


@pytest.mark.parametrize("metric", METRICS)
def test_blind_list_is_the_furthest_from_the_middle(metric: str) -> None:
    rows = sample(13, 80, 5, offset=0.3)
    blind = Blind(metric, 3, {})
    blind.build(rows)
    blind.configure({"listed": 10})
    unit = rows / np.linalg.norm(rows.astype(float), axis=1, keepdims=True)
    middle = (unit if metric == "cosine" else rows).mean(axis=0, dtype=float)
    expected = measures.furthest(rows, middle[None, :], 10, metric)[0][0]
    listed = {int(i) for query in sample(14, 200, 5) for i in blind.search(query[None, :])[0]}
    assert listed <= set(expected.tolist())
    assert blind.rows_scanned() == 10


# One measurement and what goes wrong


@pytest.fixture
def tiny(tmp_path: Path) -> datasets.DataSet:
    np.save(tmp_path / "x.npy", sample(15, 400, 12))
    np.save(tmp_path / "q.npy", sample(16, 50, 12))
    return datasets.from_files(f"{tmp_path}/x.npy", f"{tmp_path}/q.npy", "l2", tmp_path / "cache")


def test_measurement_of_one_peer(tiny: datasets.DataSet) -> None:
    task = Task("numpy", describe(tiny), k=5, repeats=2, budget=0.1)
    records = list(measure(task))
    assert [(r["mode"], r["threads"]) for r in records] == [("batch", 1), ("single", 1),
                                                            ("threads", 2)]
    for record in records:
        assert record["recall"] == 1.0
        assert record["exact"]
        assert record["us"] == min(record["us_all"])
        assert len(record["us_all"]) == 2
        assert 40 <= record["queries"] <= 50
        assert record["index_bytes"] == 400 * 13 * 4


def test_only_what_is_worth_it_is_timed_in_every_mode() -> None:
    settings = [(0.3, 1.0), (0.6, 2.0), (0.59, 3.0), (0.91, 4.0), (0.93, 5.0), (0.96, 6.0)]
    batch = [a_record("a", recall, us) for recall, us in settings]

    def kept(mode: str) -> list[float]:
        return [record["recall"] for record in worth_timing(mode, batch)]

    # Recall below one half, and 0.59, which another setting beats, are left out.
    assert kept("single") == [0.6, 0.91, 0.93, 0.96]
    # The fastest of 0.9 and of 0.95; none reaches 0.99.
    assert kept("threads") == [0.91, 0.96]
    batch.append(a_record("a", 1.0, 90.0))
    batch.append(a_record("a", 1.0, 80.0))  # exact as well, and slower ones stay
    assert kept("threads") == [0.91, 0.96, 1.0, 1.0]
    hopeless = [a_record("b", 0.1, 1.0), a_record("b", 0.2, 5.0), a_record("b", 0.2, 4.0)]
    for mode in ("single", "threads"):
        assert worth_timing(mode, hopeless) == [hopeless[2]]


def test_settings_that_are_not_worth_it_are_timed_in_a_batch_only(tiny: datasets.DataSet) -> None:
    searches = [{"listed": listed} for listed in (5, 400)]
    task = Task("blind", describe(tiny), searches=searches, k=5, repeats=1, budget=0.001)
    timed = [(r["search"]["listed"], r["mode"]) for r in measure(task)]
    assert timed == [(5, "batch"), (400, "batch"), (400, "single"), (400, "threads")]


class _Wrong(Blind):
    """Claims to be exact and isn't."""

    def claims_exact(self, search: Any) -> bool:
        return True


def test_a_wrong_answer_never_counts_as_exact(tiny: datasets.DataSet,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.worker.by_name", lambda name: _Wrong)
    task = Task("wrong", describe(tiny), searches=[{"listed": 20}], repeats=1, budget=0.001)
    records = list(measure(task))
    assert all(r["claims_exact"] and not r["exact"] and r["recall"] < 1 for r in records)


def test_a_crash_keeps_what_was_measured(tiny: datasets.DataSet) -> None:
    task = Task("blind", describe(tiny), searches=[{"listed": 50}, {"wrong": 1}], modes=["batch"],
                repeats=1, budget=0.001)
    records, reason = run.run_child("worker", dataclasses.asdict(task),
                                    run.child_environment(), timeout=300)
    assert [record["search"] for record in records] == [{"listed": 50}]
    assert reason == "exit status 1: KeyError: 'listed'"


def test_a_slow_peer_is_stopped(tiny: datasets.DataSet) -> None:
    task = Task("numpy", describe(tiny))
    records, reason = run.run_child("worker", dataclasses.asdict(task),
                                    run.child_environment(), timeout=0.01)
    assert records == []
    assert reason == "stopped after 0 s"


@pytest.mark.skipif(sys.platform == "win32", reason="signals are those of POSIX")
def test_reasons_of_an_end() -> None:
    assert run.reason_of(0) == ""
    assert run.reason_of(3) == "exit status 3"
    assert run.reason_of(-11) == "killed by SIGSEGV"


def test_what_is_left_out_is_said(tiny: datasets.DataSet) -> None:
    peers = matching(["numpy", "mlpack-kfn", "hnswlib"])
    dot = datasets.DataSet(tiny.name, tiny.title, "dot", tiny.folder)
    tasks, skipped = run.plan(peers, [dot], run.Options())
    assert {task[0].name for task in tasks} >= {"numpy"}
    reasons = {entry["algorithm"]: entry["reason"] for entry in skipped}
    assert reasons["mlpack-kfn"] in ("it has no dot", "mlpack is not installed")


# A whole run


def lines_of(path: Path) -> list[Record]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_run_and_report_on_own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                    capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", sample(17, 500, 9))
    np.save(tmp_path / "q.npy", sample(18, 60, 9))
    out = tmp_path / "out.jsonl"
    places = ["--cache", str(tmp_path / "cache"), "--out", str(out)]
    files = ["--rows", str(tmp_path / "x.npy"), "--queries", str(tmp_path / "q.npy")]
    short = ["--metric", "dot", "--only", TINY, "--repeats", "1", "--budget", "0.01", "--k", "5"]
    monkeypatch.setattr(sys, "argv", ["bench", "run", *files, *short, *places])
    assert command_line.main() == 0
    written = lines_of(out)
    assert written[0]["kind"] == "run"
    assert written[0]["command"].startswith("python -m bench run --rows")
    assert [line for line in written if line["kind"] == "failure"] == []
    found = [line for line in written if line["kind"] == "result"]
    assert {line["algorithm"] for line in found} == set(TINY.split(","))
    for line in found:
        assert line["exact"] == (
            line["algorithm"] != "blind" and not {"recall", "budget"} & line["search"].keys())
        assert (line["rows"], line["dim"]) == (500, 9)
    ours = [line for line in found if line["algorithm"] == "farann"]
    assert {line["version"] for line in ours} == {farann.__version__}
    assert all(line["rows_scanned"] <= 500 for line in ours)
    assert all(line["same_order"] == 1.0 for line in ours
               if not {"recall", "budget"} & line["search"].keys())
    assert {line["search"]["budget"] for line in ours if "budget" in line["search"]} == {500}

    page = tmp_path / "page.html"
    told = ["--results", str(out), "--html", str(page), "--readme"]
    for name in ("README.md", "docs/benchmarks.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"# Head\n\n{readme.START}\nold\n{readme.END}\n\ntail\n")
    monkeypatch.setattr(command_line, "_ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["bench", "report", *told])
    assert command_line.main() == 0
    assert "x, 500 x 9, dot" in page.read_text()
    for name in ("README.md", "docs/benchmarks.md"):
        text = (tmp_path / name).read_text("utf-8")
        assert text.startswith("# Head") and text.endswith("\n\ntail\n") and "old" not in text
        assert "| x, 500 x 9, dot |" in text and "**" in text
    capsys.readouterr()


def test_what_failed_is_said(tiny: datasets.DataSet, tmp_path: Path,
                             capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.jsonl"
    run.run(matching(["numpy"]), [tiny], [], run.Options(timeout=0.01), out)
    assert [line["kind"] for line in lines_of(out)] == ["run", "failure"]
    assert "failed: numpy on x, 400 x 12, l2: stopped after 0 s" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["run", "--rows", "x.npy"], "--rows needs --metric"),
     (["run", "--metric", "l2"], "--queries and --metric need --rows"),
     (["run", "--k", "101"], "--k must be between 1 and 100, got 101"),
     (["run", "--data", "nothing"], "no data set 'nothing'"),
     (["run", "--only", "nothing"], "no algorithm matches nothing"),

     (["report", "--results", "/nowhere.jsonl"], "nowhere.jsonl")],
)
def test_errors_of_the_command_line(arguments: list[str], words: str,
                                    monkeypatch: pytest.MonkeyPatch,
                                    capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(datasets, "QUICK", [])
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    assert command_line.main() == 2
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith("bench: ")
    assert words in error


def test_list(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "list"])
    assert command_line.main() == 0
    printed = capsys.readouterr().out
    for algorithm in all_algorithms():
        assert algorithm.name in printed
    assert "*glove-cosine" in printed


def test_sampled_sets_keep_queries_for_builds(tmp_path: Path,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    def make(folder: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        vectors = np.random.default_rng(0).standard_normal((1800, 4)).astype(np.float32)
        return vectors[:700], vectors[700:]

    monkeypatch.setitem(datasets.SOURCES, "some", datasets.Source("Some", make, sampled=True))
    whole = datasets.load("some-dot", tmp_path)
    assert len(whole.queries()) == datasets.QUERIES
    sample = whole.sample()
    assert sample is not None and len(sample) == 1100 - datasets.QUERIES
    small = datasets.load("some-dot", tmp_path, max_rows=300)
    assert small.shape() == (300, 4)
    np.testing.assert_array_equal(small.sample(), sample)
    monkeypatch.setitem(datasets.SOURCES, "other", datasets.Source("Other", make))
    assert datasets.load("other-dot", tmp_path).sample() is None
