"""The benchmark suite: its measures, its arithmetic, and a whole run on tiny data."""

from __future__ import annotations

import html.parser
import importlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bench import __main__ as command_line
from bench import charts, datasets, growth, machine, measures, report, results, run, tables
from bench.algorithms import all_algorithms, by_name, matching
from bench.algorithms.base import Profile
from bench.algorithms.blind import Blind
from bench.reduction import METRICS, Reduction
from bench.worker import Task, describe, measure

ROOT = Path(run.__file__).parent.parent
RATES = {
    "read_1": 3e10,
    "read_2": 5e10,
    "read_cache": 1e11,
    "flops_1": 1e11,
    "flops_2": 2e11,
    "int8_1": 4e11,
}
TINY = "numpy,sklearn,blind,farann"
Record = dict[str, Any]


def naive_scores(rows: NDArray[Any], query: NDArray[Any], metric: str) -> list[float]:
    """Float64 scores by plain Python."""
    scores = []
    for row in rows.astype(float).tolist():
        pairs = list(zip(row, query.astype(float).tolist(), strict=True))
        dot = sum(x * q for x, q in pairs)
        if metric == "l2":
            scores.append(sum((x - q) ** 2 for x, q in pairs) ** 0.5)
        elif metric == "dot":
            scores.append(dot)
        else:
            scores.append(
                dot / (sum(x * x for x, _ in pairs) * sum(q * q for _, q in pairs)) ** 0.5
            )
    return scores


def sample(seed: int, count: int, dim: int, offset: float = 0.0) -> NDArray[np.float32]:
    """Gaussian rows away from the origin."""
    random = np.random.default_rng(seed)
    return (random.standard_normal((count, dim)) + offset).astype(np.float32)


# Measures


@pytest.mark.parametrize("metric", METRICS)
def test_truth_is_naive_brute_force(metric: str) -> None:
    rows, queries = sample(0, 90, 7), sample(1, 5, 7)
    rows[60] = rows[20]  # a tie
    ids, scores = measures.furthest(rows, queries, 90, metric)
    for query, found, values in zip(queries, ids, scores, strict=True):
        naive = naive_scores(rows, query, metric)
        sign = -1 if metric == "l2" else 1
        assert found.tolist() == sorted(range(90), key=lambda i: (round(sign * naive[i], 9), i))
        assert values == pytest.approx([naive[i] for i in found], abs=1e-12)


def test_truth_in_blocks_is_truth_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, queries = sample(2, 700, 5), sample(3, 9, 5)
    whole = measures.furthest(rows, queries, 8, "l2")
    monkeypatch.setattr(measures, "_PAIRS", 64)
    for once, blocked in zip(whole, measures.furthest(rows, queries, 8, "l2"), strict=True):
        np.testing.assert_array_equal(once, blocked)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("metric", METRICS)
def test_recall_counts_values_once(metric: str, scale: float) -> None:
    rows, queries = sample(4, 200, 6) * np.float32(scale), sample(5, 3, 6) * np.float32(scale)
    rows[150] = rows[measures.furthest(rows, queries[:1], 1, metric)[0][0, 0]]
    ids, scores = measures.furthest(rows, queries, 4, metric)
    kth = scores[:, -1]

    def recall(answer: NDArray[np.int64]) -> float:
        return measures.recall(rows, queries, answer, kth, metric)

    worst = measures.furthest(rows, queries, 200, metric)[0][:, -4:]
    assert recall(ids) == 1.0
    assert recall(ids[:, ::-1]) == 1.0
    assert recall(worst) == 0.0
    assert recall(np.repeat(ids[:, :1], 4, axis=1)) == pytest.approx(1 / 4)
    assert recall(np.where(np.arange(4) < 2, ids, -1)) == pytest.approx(1 / 2)
    assert recall(np.where(np.arange(4) < 3, ids, 200)) == pytest.approx(3 / 4)


def test_recall_takes_either_of_two_equal_rows() -> None:
    rows = np.array([[0.0], [5.0], [5.0], [1.0]], dtype=np.float32)
    query = np.zeros((1, 1), dtype=np.float32)
    kth = measures.furthest(rows, query, 1, "l2")[1][:, -1]
    for choice, expected in [(1, 1.0), (2, 1.0), (3, 0.0)]:
        assert measures.recall(rows, query, np.array([[choice]]), kth, "l2") == expected


def test_recall_of_more_than_there_are_rows() -> None:
    rows, query = sample(6, 3, 2), sample(7, 1, 2)
    ids, scores = measures.furthest(rows, query, 10, "dot")
    padded = np.hstack([ids, np.full((1, 7), -1)])
    assert measures.recall(rows, query, padded, scores[:, -1], "dot") == 1.0


def test_recall_checks_shapes() -> None:
    rows, queries = sample(0, 5, 2), sample(1, 2, 2)
    with pytest.raises(ValueError, match=r"ids must have shape \(2, k\), got \(3, 1\)"):
        measures.recall(rows, queries, np.zeros((3, 1), dtype=np.int64), np.zeros(2), "l2")


# Reduction


# Only l2 is centred; the other reductions are the products as they are.
@pytest.mark.parametrize("multiple", [1, 16, 32])
@pytest.mark.parametrize("dim", [1, 7, 16, 33])
@pytest.mark.parametrize(
    ("metric", "offset"), [("l2", 0.0), ("l2", 1000.0), ("dot", 0.0), ("cosine", 0.0)]
)
def test_reduction_keeps_the_order(metric: str, dim: int, multiple: int, offset: float) -> None:
    rows, queries = sample(8, 150, dim, offset), sample(9, 12, dim, offset)
    before = rows.copy(), queries.copy()
    reduction = Reduction(rows, metric, multiple)
    asked = reduction.queries(queries)
    assert reduction.rows.dtype == asked.dtype == np.float32
    assert reduction.dim % multiple == 0
    assert asked.shape[1] == reduction.rows.shape[1] == reduction.dim
    k = min(10, 150)
    products = asked.astype(np.float64) @ reduction.rows.astype(np.float64).T
    ids = np.argsort(-products, axis=1)[:, :k]
    kth = measures.furthest(rows, queries, k, metric)[1][:, -1]
    assert measures.recall(rows, queries, ids, kth, metric) == 1.0
    np.testing.assert_array_equal(rows, before[0])
    np.testing.assert_array_equal(queries, before[1])


def test_reduction_of_rows_on_a_sphere_and_of_equal_rows() -> None:
    circle = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], dtype=np.float32)
    for rows in (circle, np.ones((4, 2), dtype=np.float32)):
        reduction = Reduction(rows, "l2")
        assert np.isfinite(reduction.rows).all()
        products = reduction.queries(circle[:1]) @ reduction.rows.T
        assert products[0, 2] == products.max()


def test_reduction_names_a_wrong_metric() -> None:
    with pytest.raises(ValueError, match="metric must be one of .*, got 'hamming'"):
        Reduction(sample(0, 3, 2), "hamming")


# Pareto fronts, ratios, exponents


def a_record(algorithm: str, recall: float, us: float, **more: Any) -> Record:
    library = more.pop("library", algorithm)
    return {
        "kind": "result",
        "run": "1",
        "algorithm": algorithm,
        "title": algorithm.title(),
        "library": library,
        "baseline": False,
        "version": "1.0",
        "dataset": "made-l2",
        "dataset_title": "Made <rows>, l2",
        "metric": "l2",
        "rows": 1000,
        "dim": 8,
        "k": 10,
        "environment": {},
        "variant": {},
        "build": {},
        "search": {},
        "mode": "batch",
        "threads": 1,
        "queries": 100,
        "us": us,
        "us_all": [us, us * 1.1],
        "recall": recall,
        "same_order": recall,
        "rows_scanned": None,
        "build_seconds": 0.5,
        "index_bytes": 32000,
        "index_bytes_are": "reported",
        "peak_bytes": 1 << 26,
        "kernels": ["openblas 0.3 SkylakeX"],
        "claims_exact": recall == 1.0,
        "exact": recall == 1.0,
        **more,
    }


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9)), min_size=1, max_size=12),
)
def test_pareto_front_holds_what_nothing_beats(pairs: list[tuple[int, int]]) -> None:
    records = [a_record("x", recall / 5, us) for recall, us in pairs]
    front = results.pareto(records)
    spots = [(r["recall"], r["us"]) for r in front]
    expected = {
        (r, us)
        for r, us in ((record["recall"], record["us"]) for record in records)
        if not any(
            (o["recall"] > r and o["us"] <= us) or (o["recall"] >= r and o["us"] < us)
            for o in records
        )
    }
    assert spots == sorted(expected)


def test_best_peer_is_at_the_same_or_higher_recall() -> None:
    mine = a_record("farann", 0.96, 10.0)
    others = [
        a_record("quick", 0.95, 1.0),  # less recall
        a_record("blind", 0.99, 2.0, baseline=True),  # no peer
        a_record("farann", 0.99, 3.0),  # ours
        a_record("else", 0.99, 4.0, dataset="other"),
        a_record("slow", 0.96, 40.0),
        a_record("fast", 1.0, 25.0),
    ]
    peer = results.best_peer(mine, [mine, *others])
    assert peer is not None
    assert peer["algorithm"] == "fast"
    assert results.ratio(mine, peer) == 2.5
    assert results.best_peer(mine, others[:4]) is None
    assert results.ratio(mine, None) is None


def test_ratio_in_digits() -> None:
    words = [tables.times(value) for value in (None, 0.512, 1.0, 3.44, 12.4, 1234.0)]
    assert words == ["", "0.51×", "1.0×", "3.4×", "12×", "1,234×"]


@pytest.mark.parametrize("slope", [0.0, 0.5, 1.0, 1.7])
def test_exponent_of_a_power(slope: float) -> None:
    sizes = [100.0, 1000.0, 5000.0]
    costs = [3 * n**slope for n in sizes]
    assert results.exponent(sizes, costs) == pytest.approx(slope)
    assert results.exponent(sizes[:1], costs[:1]) is None


def test_growth_sizes() -> None:
    assert growth.sizes("1e3..1e5", 3) == [1000, 10_000, 100_000]
    assert growth.sizes("1e3", 5) == [1000]
    for text, said in [("1e3..", None), ("x..y", "A..B"), ("1e5..1e3", "100 <= A <= B")]:
        if said is None:
            assert growth.sizes(text, 4) == [1000]
        else:
            with pytest.raises(ValueError, match=said):
                growth.sizes(text, 4)


# The machine


def test_limits_are_those_of_the_rates() -> None:
    about = {"rates": RATES, "cache_bytes": 1 << 20}
    large = machine.limits(about, 1_000_000, 100)
    assert large["batch"] == pytest.approx(2 * 1e8 / 1e11 * 1e6)
    assert large["threads"] == pytest.approx(2 * 1e8 / 2e11 * 1e6)
    assert large["single"] == pytest.approx(4e8 / 3e10 * 1e6)
    assert large["single-int8"] == pytest.approx(1e8 / 3e10 * 1e6)
    assert large["batch-int8"] == pytest.approx(2 * 1e8 / 4e11 * 1e6)
    cached = machine.limits(about, 1000, 100)
    assert cached["single"] == pytest.approx(4e5 / 1e11 * 1e6)


def test_machine_can_be_measured() -> None:
    rates = machine.measure(buffer_bytes=1 << 20, size=64, repeats=1)
    assert set(rates) == {"read_1", "read_2", "read_cache", "flops_1", "flops_2"}
    assert all(value > 1e6 for value in rates.values())
    about = machine.describe()
    assert about["cpu"]
    assert about["cores"] >= 1


def test_kernel_rates_are_read_when_there(tmp_path: Path) -> None:
    path = tmp_path / "kernels.json"
    assert machine.kernel_rates(path) == {}
    path.write_text('{"int8_1": 1.1e12, "note": "anything"}')
    assert machine.kernel_rates(path) == {"int8_1": 1.1e12}


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
        for a, b in [
            ("x.npy", "q.npy"),
            ("both.hdf5", None),
            ("both.hdf5", "both.hdf5"),
            ("both.hdf5:train", "q.npy"),
        ]
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
    monkeypatch.setattr(datasets, "_FASHION", Path("/nowhere/fashion-mnist"))
    with pytest.raises(datasets.Unavailable, match="Fashion-MNIST: apt-get is not on this system"):
        datasets.load("fashion-mnist-l2", tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("equal_norm", [False, True])
def test_clusters_are_one_distribution_and_repeatable(equal_norm: bool) -> None:
    rows = datasets.clusters(4000, 8, seed=3, equal_norm=equal_norm)
    np.testing.assert_array_equal(rows, datasets.clusters(4000, 8, seed=3, equal_norm=equal_norm))
    norms = np.linalg.norm(rows, axis=1)
    assert (norms.std() < 1e-6) == equal_norm
    # In random order: the two halves have the same mean within the noise of a mean.
    error = rows.std(axis=0) * np.sqrt(2 / 2000)
    assert (np.abs(rows[:2000].mean(axis=0) - rows[2000:].mean(axis=0)) < 5 * error).all()


# Algorithms


def test_algorithms_are_found_and_told_apart() -> None:
    everything = all_algorithms()
    names = [algorithm.name for algorithm in everything]
    assert names[0] == "farann"
    assert len(names) == len(set(names))
    assert {"numpy", "sklearn", "faiss-flat", "scann-tree", "mlpack-kfn", "torch"} <= set(names)
    assert [a.name for a in matching(["faiss-i*", "blind"])] == [
        "faiss-ivf-flat",
        "faiss-ivf-pq",
        "blind",
    ]
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
            for name, value in itertools.chain(
                setting.build.items(), *[search.items() for search in setting.searches]
            ):
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
    task = Task("numpy", describe(tiny), k=5, repeats=2, budget=0.001)
    records = list(measure(task))
    assert [(r["mode"], r["threads"]) for r in records] == [
        ("batch", 1),
        ("single", 1),
        ("threads", 2),
    ]
    for record in records:
        assert record["recall"] == 1.0
        assert record["exact"]
        assert record["us"] == min(record["us_all"])
        assert len(record["us_all"]) == 2
        assert 40 <= record["queries"] <= 50
        assert record["index_bytes"] == 400 * 13 * 4


class _Wrong(Blind):
    """Claims to be exact and isn't."""

    def claims_exact(self, search: Any) -> bool:
        return True


def test_a_wrong_answer_never_counts_as_exact(
    tiny: datasets.DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.worker.by_name", lambda name: _Wrong)
    task = Task("wrong", describe(tiny), searches=[{"listed": 20}], repeats=1, budget=0.001)
    records = list(measure(task))
    assert all(r["claims_exact"] and not r["exact"] and r["recall"] < 1 for r in records)


def test_a_crash_keeps_what_was_measured(tiny: datasets.DataSet) -> None:
    task = Task(
        "blind",
        describe(tiny),
        searches=[{"listed": 50}, {"wrong": 1}],
        modes=["batch"],
        repeats=1,
        budget=0.001,
    )
    records, reason = run.run_child(task, run.child_environment(), timeout=60)
    assert [record["search"] for record in records] == [{"listed": 50}]
    assert reason == "exit status 1: KeyError: 'listed'"


def test_a_slow_peer_is_stopped(tiny: datasets.DataSet) -> None:
    task = Task("numpy", describe(tiny))
    records, reason = run.run_child(task, run.child_environment(), timeout=0.01)
    assert records == []
    assert reason == "stopped after 0 s"


@pytest.mark.skipif(sys.platform == "win32", reason="signals are those of POSIX")
def test_reasons_of_an_end() -> None:
    assert run._reason(0) == ""
    assert run._reason(3) == "exit status 3"
    assert run._reason(-11) == "killed by SIGSEGV"


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


def test_run_and_report_on_own_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "measured_rates", lambda: RATES)
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
        assert line["exact"] == (line["algorithm"] != "blind")
        assert (line["rows"], line["dim"]) == (500, 9)
    ours = [line for line in found if line["algorithm"] == "farann"]
    assert all(line["same_order"] == 1.0 and line["rows_scanned"] <= 500 for line in ours)

    readme = tmp_path / "README.md"
    readme.write_text(f"# Head\n\n{tables.START}\nold\n{tables.END}\n\ntail\n")
    page = tmp_path / "page.html"
    told = ["--results", str(out), "--html", str(page), "--readme", str(readme)]
    monkeypatch.setattr(sys, "argv", ["bench", "report", *told])
    assert command_line.main() == 0
    assert "x, 500 x 9, dot" in page.read_text()
    text = readme.read_text()
    assert text.startswith("# Head")
    assert text.endswith("\n\ntail\n")
    assert "old" not in text
    assert "| x, 500 x 9, dot | **" in text
    capsys.readouterr()


def test_growth_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "measured_rates", lambda: RATES)
    out = growth.run(
        [200, 400], 4, "l2", 0.9, ["farann", "numpy"], 60, tmp_path, tmp_path / "g", []
    )
    found = results.load(out)
    curves = {curve["algorithm"]: curve for curve in growth.curves(found.growth)}
    assert set(curves) == {"farann", "numpy"}
    for curve in curves.values():
        assert curve["target"] == "exact"
        for cost in growth.COSTS:
            assert [rows for rows, _ in curve["points"][cost]] == [200, 400]
        assert curve["exponents"]["memory"] == pytest.approx(1.0, abs=0.1)
    assert not list(tmp_path.glob("growth-*"))


def test_growth_goes_as_far_as_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "measured_rates", lambda: RATES)
    monkeypatch.setattr(machine, "free_bytes", lambda: 1 << 20)
    out = growth.run([1000], 4, "l2", 0.9, ["numpy"], 60, tmp_path, tmp_path / "g", [])
    reasons = [line["reason"] for line in lines_of(out) if line["kind"] == "skipped"]
    assert reasons == ["1,000 rows need about 512 MB of memory"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--rows", "x.npy"], "--rows needs --metric"),
        (["run", "--metric", "l2"], "--queries and --metric need --rows"),
        (["run", "--k", "101"], "--k must be between 1 and 100, got 101"),
        (["run", "--data", "nothing"], "no data set 'nothing'"),
        (["run", "--only", "nothing"], "no algorithm matches nothing"),
        (["growth", "--rows", "many"], "--rows must be A..B"),
        (["report", "--results", "/nowhere.jsonl"], "nowhere.jsonl"),
    ],
)
def test_errors_of_the_command_line(
    arguments: list[str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
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


# Reading results


def write_results(
    path: Path, *lines: Record, machine_name: str = "A CPU", run_id: str = "1"
) -> Path:
    head = {
        "kind": "run",
        "run": run_id,
        "time": "2025-01-02T03:04:05+00:00",
        "command": f"python -m bench run --only '{run_id}'",
        "commit": "abc123",
        "machine": {
            "cpu": machine_name,
            "cores": 2,
            "flags": ["avx2"],
            "memory_bytes": 1 << 33,
            "cache_bytes": 1 << 20,
            "system": "Linux x86_64",
            "python": "3.11",
            "rates": RATES,
        },
    }
    with open(path, "a", encoding="utf-8") as file:
        for line in (head, *lines):
            file.write(json.dumps(line) + "\n")
    return path


def made_up() -> list[Record]:
    lines: list[Record] = []
    for mode, slow in (("batch", 1.0), ("single", 8.0), ("threads", 0.6)):
        more: dict[str, Any] = {"mode": mode, "threads": 2 if mode == "threads" else 1}
        lines += [
            a_record("farann", 1.0, 20 * slow, rows_scanned=1000.0, **more),
            a_record("farann", 1.0, 33 * slow, variant={"FARANN_ISA": "avx2"}, **more),
            a_record("flat", 1.0, 70 * slow, library="faiss", **more),
            a_record("numpy", 1.0, 90 * slow, **more),
            a_record("blind", 0.4, 0.5 * slow, baseline=True, search={"listed": 100}, **more),
        ]
        lines += [
            a_record("ivf", recall, us * slow, library="faiss", search={"nprobe": probe}, **more)
            for probe, recall, us in [(4, 0.8, 10), (16, 0.96, 30), (64, 0.999, 80), (8, 0.7, 50)]
        ]
    return lines


def growth_lines() -> list[Record]:
    return [
        {
            **a_record(name, 1.0, cost * rows, rows=rows, mode=mode, index_bytes=32 * rows),
            "kind": "growth",
            "target": "exact",
        }
        for name, cost in [("farann", 0.01), ("flat", 0.03)]
        for rows in (1000, 10_000)
        for mode in growth.MODES
    ]


def test_latest_result_of_the_last_machine_counts(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    write_results(path, a_record("numpy", 1.0, 1.0), machine_name="Other", run_id="0")
    old = [a_record("numpy", 1.0, 50.0), a_record("flat", 1.0, 40.0)]
    write_results(path, *old, run_id="1")
    failure = {
        **a_record("flat", 0.0, 0.0),
        "kind": "failure",
        "run": "1",
        "build": {"m": 1},
        "reason": "killed by SIGSEGV",
    }
    settled = {**failure, "build": {}, "run": "0"}
    left = {"kind": "skipped", "run": "2", "algorithm": "scann", "reason": "not installed"}
    came = {"kind": "skipped", "run": "2", "algorithm": "flat", "reason": "not installed"}
    newer = a_record("numpy", 1.0, 60.0, run="2")
    write_results(path, newer, failure, settled, left, came, run_id="2")
    found = results.load(path)
    assert found.machine["cpu"] == "A CPU"
    assert [head["run"] for head in found.runs] == ["1", "2"]
    assert {r["algorithm"]: r["us"] for r in found.records} == {"numpy": 60.0, "flat": 40.0}
    assert [(f["algorithm"], f["build"]) for f in found.failures] == [("flat", {"m": 1})]
    assert [line["algorithm"] for line in found.skipped] == ["scann"]


def test_broken_results_are_named(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text("")
    with pytest.raises(ValueError, match=r"r\.jsonl holds no run"):
        results.load(path)
    path.write_text('{"kind": "run"\n')
    with pytest.raises(ValueError, match=r"r\.jsonl, line 1 is not JSON"):
        results.load(path)


def test_readme_table_and_its_ratios(tmp_path: Path) -> None:
    found = results.load(write_results(tmp_path / "r.jsonl", *made_up()))
    lines = tables.readme_table(found).splitlines()
    row = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert row[:7] == [
        "Made <rows>, l2",
        "**20.0** (3.5×)",
        "70.0 Flat",
        "**160** (3.5×)",
        "560 Flat",
        "**20.0** (1.5×)",
        "30.0 Ivf",
    ]
    assert row[8] == "0.40 (listed 100)"
    assert all(line.count("|") == lines[0].count("|") for line in lines[:3])
    assert "A CPU" in lines[-1]


@pytest.mark.parametrize(
    "text",
    ["no markers", f"{tables.END} {tables.START}", f"{tables.START} {tables.START} {tables.END}"],
)
def test_readme_markers_must_be_there_once(text: str) -> None:
    with pytest.raises(ValueError, match="README must hold <!-- bench:start --> and then"):
        tables.replace_between(text, "table")


class _Checker(html.parser.HTMLParser):
    """Every tag that is opened is closed, in order."""

    VOID = ("meta", "link", "br", "circle", "polygon", "polyline", "line", "rect")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.counts: dict[str, int] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = write_results(tmp_path / "r.jsonl", *made_up(), *growth_lines())
    return report.write(path, tmp_path / "page.html")


def test_page_is_whole_and_needs_no_network(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    checker = _Checker()
    checker.feed(text)
    assert checker.open == []
    assert len(re.findall(r'<svg class="chart ', text)) == 2 + 2 + 4
    assert "Made &lt;rows&gt;, l2" in text
    assert "Made <rows>" not in text
    assert not re.search(r'(?:src|href)="(?!#|data:,)', text)
    assert "url(" not in text
    assert "@import" not in text
    assert "N<sup>1.00</sup>" in text
    for words in ("A CPU", "abc123", "faiss 1.0", "openblas 0.3 SkylakeX", "limit of a float32"):
        assert words in text
    # Of Ivf's four settings one is not on its front.
    assert text.count('class="pt faint"') == 2
    assert "3.5×" in text


def test_page_of_exact_results_only(tmp_path: Path) -> None:
    found = write_results(tmp_path / "r.jsonl", a_record("numpy", 1.0, 9.0))
    text = report.write(found, tmp_path / "p.html").read_text(encoding="utf-8")
    assert text.count('<svg class="chart ') == 2
    assert 'id="growth"' not in text


def test_places_on_the_axes() -> None:
    places = [charts.recall_place(r) for r in (0, 0.5, 0.9, 0.99, 0.999, 1.0)]
    assert places == sorted(places)
    assert places[0] == pytest.approx(0, abs=1e-3)
    assert places[-1] == pytest.approx(1)
    labelled = [value for value, shown in charts.log_ticks(8, 2000) if shown]
    assert labelled == [10, 100, 1000]
    assert [charts.number(v) for v in (0.01234, 4.561, 78.9, 12345.6)] == [
        "0.0123",
        "4.56",
        "78.9",
        "12,346",
    ]


def a_browser() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip("no chromium, chromium-browser or google-chrome in PATH")


def open_page(page: Path, profile: Path) -> tuple[str, list[str]]:
    """The document after its scripts ran, and the lines of the console."""
    command = [a_browser(), "--headless", "--disable-gpu", "--no-first-run", "--v=0"]
    command += ["--enable-logging=stderr", f"--user-data-dir={profile}", "--dump-dom"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--no-sandbox")  # it refuses to run as root otherwise
    done = subprocess.run(
        [*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def test_page_in_a_real_browser(page: Path, tmp_path: Path) -> None:
    document, console = open_page(page, tmp_path / "profile")
    assert console == []
    drawn = re.search(r'data-charts="(\d+)/(\d+)"', document)
    assert drawn is not None
    assert drawn.groups() == ("8", "8")


def test_browser_tells_errors_and_missing_charts(page: Path, tmp_path: Path) -> None:
    text = page.read_text(encoding="utf-8")
    broken = tmp_path / "broken.html"
    broken.write_text(text.replace('class="pt', 'class="gone').replace(
        "</body>", "<script>notThere();</script></body>"
    ))  # fmt: skip
    document, console = open_page(broken, tmp_path / "profile")
    assert 'data-charts="0/8"' in document
    assert any("notThere is not defined" in line for line in console)


def test_hover_shows_the_parameters(page: Path, tmp_path: Path) -> None:
    hovering = """<script>
      const point = [...document.querySelectorAll(".recall .pt")]
        .find(each => each.dataset.tip.includes("nprobe 16"));
      const box = point.getBoundingClientRect();
      point.closest("svg").dispatchEvent(new PointerEvent("pointermove",
        { clientX: box.left + box.width / 2, clientY: box.top + box.height / 2 }));
    </script></body>"""
    moved = tmp_path / "moved.html"
    moved.write_text(page.read_text(encoding="utf-8").replace("</body>", hovering), "utf-8")
    document, console = open_page(moved, tmp_path / "profile")
    assert console == []
    shown = re.search(r'<div id="tip"[^>]*class="on"[^>]*>([^<]*)', document)
    assert shown is not None
    assert shown.group(1).splitlines()[:3] == ["Ivf", "nprobe 16", "recall 0.9600"]


# The plug-in for ann-benchmarks


@pytest.mark.parametrize("side", ["nearest", "furthest"])
def test_plug_in_for_ann_benchmarks(
    side: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "ann_stub" / "algorithms" / "base"
    base.mkdir(parents=True)
    (base / "module.py").write_text(
        "class BaseANN:\n    def get_batch_results(self):\n        return self.res\n"
    )
    shutil.copytree(ROOT / "bench" / "ann_benchmarks", base.parent / "farann")
    monkeypatch.syspath_prepend(tmp_path)
    plug_in = importlib.import_module("ann_stub.algorithms.farann.module")
    rows, queries = sample(19, 300, 6), sample(20, 7, 6)
    for metric, own in [("euclidean", "l2"), ("angular", "cosine"), ("ip", "dot")]:
        algorithm = plug_in.Farann(metric, side)
        algorithm.fit(rows)
        algorithm.set_query_arguments()
        algorithm.batch_query(queries, 4)
        ids, _ = measures.furthest(rows, queries, len(rows), own)
        expected = ids[:, :4] if side == "furthest" else ids[:, ::-1][:, :4]
        np.testing.assert_array_equal(algorithm.get_batch_results(), expected)
        np.testing.assert_array_equal(algorithm.query(queries[0], 4), expected[0])
        assert algorithm.get_additional()["dist_comps"] > 0
        assert str(algorithm) == f"farann({side})"
    with pytest.raises(ValueError, match="metric must be one of .*, got 'hamming'"):
        plug_in.Farann("hamming")
    with pytest.raises(ValueError, match="side must be 'nearest' or 'furthest', got 'left'"):
        plug_in.Farann("ip", "left")
    for name in [name for name in sys.modules if name.startswith("ann_stub")]:
        monkeypatch.delitem(sys.modules, name)
