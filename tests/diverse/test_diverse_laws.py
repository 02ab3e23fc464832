"""Sets and selections: laws that hold for all rows, refused arguments, Ctrl+C, the command line."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diverse_oracle as oracle
import inside
import numpy as np
import pytest
from cases import DATA, assert_same_bits, float32, index_of, rows_for
from hypothesis import given
from hypothesis import strategies as st
from inside import core
from numpy.testing import assert_array_equal
from reference import METRICS
from shard_cases import PlainCluster, built

import farann
from farann.cli import main

SEEDS = st.integers(0, 2**32 - 1)
Arrays = Any


@given(SEEDS, st.sampled_from(sorted(DATA)), st.sampled_from(METRICS), st.integers(2, 80),
       st.integers(1, 12))
def test_laws_of_selections(seed: int, kind: str, metric: str, n: int, dim: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rows_for(kind, rng, n, dim, metric)
    index = index_of(rows, metric)
    k, start = int(rng.integers(1, n + 1)), int(rng.integers(n))
    picks = index.select_diverse(k, start=start)
    assert len(picks.ids) == k == len(set(picks.ids.tolist()))
    # Radii never rise.
    rising = picks.scores[1:] * (-1 if metric == "l2" else 1)
    assert (rising[1:] >= rising[:-1]).all()
    # What follows the first picks is what follows in a longer run.
    cut = int(rng.integers(1, k + 1))
    rest = index.select_diverse(n, first=picks.ids[:cut])
    assert_array_equal(rest.ids[: k - cut], picks.ids[cut:])
    assert_same_bits(rest.scores[: k - cut], picks.scores[cut:])
    # Every row is within the last radius of an earlier pick.
    if k > 1:
        found = index.search_furthest_from(
            [rows[picks.ids[: k - 1]]] * 2, 1, exclude=[picks.ids[: k - 1]] * 2)
        if k > 2:  # sets of one keep their keys, whose order may differ by rounding
            assert_same_bits(found.scores[0], picks.scores[-1:])


@given(SEEDS, st.sampled_from(METRICS))
def test_the_order_of_rows_does_not_matter(seed: int, metric: str) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((60, 5)).astype(np.float32)
    order = rng.permutation(60)
    ids = np.arange(60)
    picks = index_of(rows, metric, ids).select_diverse(30, start=7)
    moved = index_of(rows[order], metric, ids[order]).select_diverse(30, start=7)
    assert_array_equal(moved.ids, picks.ids)
    sets = [rows[:3] + 1, rows[5:7] - 1]
    assert_array_equal(index_of(rows, metric, ids).search_furthest_from(sets, 4).ids,
                       index_of(rows[order], metric, ids[order]).search_furthest_from(sets, 4).ids)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("seed", range(5))
def test_history_does_not_matter_where_the_mean_vanishes(seed: int, metric: str,
                                                         tmp_path: Path) -> None:
    """Rows closed under negation: their mean is zero, and a sum in float64 rarely is."""
    rng = np.random.default_rng(seed)
    half = float32(rng.standard_normal((50, 7)) * 10.0 ** rng.integers(-3, 4, (50, 1)))
    rows, order = np.concatenate([half, -half]), rng.permutation(100)
    picks = index_of(rows, metric).select_diverse(3)
    if metric != "l2":  # all rows are equally far from zero
        assert picks.ids[0] == 0
    assert_array_equal(farann.select_diverse(rows, 3, metric).ids, picks.ids)
    other = index_of(rows[order[:60]], metric, order[:60])
    other.add(half[:9], ids=np.arange(100, 109))
    other.build()
    other.add(rows[order[60:]], ids=order[60:])
    other.remove(np.arange(100, 109))
    assert_array_equal(other.select_diverse(3).ids, picks.ids)
    built(str(tmp_path), rows[np.argsort(order)], metric, 40, np.argsort(order))
    assert_array_equal(PlainCluster(str(tmp_path)).select_diverse(3).ids, picks.ids)


@pytest.mark.parametrize("seed", range(8))
def test_history_does_not_matter_where_diameters_are_about_equal(
        seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairs of scaled copies, whose cosines are equal but for rounding; few rows are asked."""
    monkeypatch.setattr(inside.settings, "first_pair_queries", 2)
    rng = np.random.default_rng(seed)
    third = rng.standard_normal((30, 5))
    rows = float32(np.concatenate([third, -3.0 * float32(third), 0.7 * float32(third)]))
    keys = np.array([oracle.member_keys(rows[i : i + 1], rows, "cosine")[0] for i in range(90)])
    keys = np.maximum(keys, keys.T)
    expected = min(sorted((int(i), int(j))) for i, j in np.argwhere(keys == keys.max()))
    for _ in range(4):
        order, cut = rng.permutation(90), int(rng.integers(1, 90))
        index = index_of(rows[order[:cut]], "cosine", order[:cut]).build()
        index.add(rows[order[cut:]], order[cut:])
        assert index.diameter(threads=1).ids.tolist() == expected


def test_k_centers_are_within_twice_the_best() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((12, 2)).astype(np.float32)
    distances = np.linalg.norm(rows[:, None] - rows, axis=2)
    best = min(distances[[a, b, c]].min(axis=0).max()
               for a in range(12) for b in range(12) for c in range(12))
    picks = farann.select_diverse(rows, 3)
    assert distances[picks.ids].min(axis=0).max() <= 2 * best


def test_duplicates_have_the_radius_zero() -> None:
    rows = float32([[0, 0], [3, 4], [0, 0], [3, 4], [0, 0]])
    picks = farann.select_diverse(rows, 10, start=4)
    assert_array_equal(picks.ids, [4, 1, 0, 2, 3])
    assert_array_equal(picks.scores, float32([np.inf, 5, 0, 0, 0]))
    assert_array_equal(farann.select_diverse(rows, radius=0, start=4).ids, [4, 1])


def test_empty_and_small() -> None:
    empty = farann.Index(2, "cosine")
    assert len(empty.select_diverse(3).ids) == 0
    assert np.isnan(empty.diameter().score) and empty.diameter().ids.tolist() == [-1, -1]
    assert empty.eccentricities().shape == (0,) and empty.furthest_graph(2).ids.shape == (0, 2)
    assert_array_equal(empty.search_furthest_from([[[1, 0]]], 2).ids, [[-1, -1]])
    assert_array_equal(empty.search_mmr([1, 0], 2).ids, [-1, -1])
    one = index_of(float32([[1, 2]]))
    assert np.isnan(one.eccentricities()).all() and np.isnan(one.diameter().score)
    assert_array_equal(one.furthest_graph(2).ids, [[-1, -1]])
    assert_array_equal(one.search_furthest_from([], 2).ids, np.empty((0, 2)))
    assert_array_equal(one.select_diverse(5).ids, [0])
    assert len(one.select_diverse(5, first=[0]).ids) == 0
    assert len(one.select_diverse(5, allowed=[]).ids) == 0


@pytest.mark.parametrize(("call", "said"), [
    (lambda i: i.select_diverse(), "k: expected how many rows to choose, or a radius"),
    (lambda i: i.select_diverse(0), "k: expected 1 or more"),
    (lambda i: i.select_diverse(2, start=1, first=[2]), "at most one of start and first"),
    (lambda i: i.select_diverse(2, start="mean"), "start: expected 'centroid' or an id"),
    (lambda i: i.select_diverse(2, start=99), "99 is not in the index"),
    (lambda i: i.select_diverse(2, first=[0, 99]), "99 is not in the index"),
    (lambda i: i.select_diverse(2, start=0, allowed=[1]), "start: expected an id that may be"),
    (lambda i: i.select_diverse(2, radius=float("nan")), "radius: expected a number, got NaN"),
    (lambda i: i.search_furthest_from([[]]), r"sets\[0\]: expected"),
    (lambda i: i.search_furthest_from([[[1, 2]], np.empty((0, 2))]), "got an empty set"),
    (lambda i: i.search_furthest_from(np.ones((3, 2))), r"pass one set as \[set\]"),
    (lambda i: i.search_furthest_from(np.ones((3, 0, 2))), "with m of 1 or more"),
    (lambda i: i.search_furthest_from([[[1, 2, 3]]]), "dimension 2, got 3"),
    (lambda i: i.search_furthest_from([[[0, 0]]]), "got a zero vector in row 0"),
    (lambda i: i.search_furthest_from("sets"), "expected a sequence of sets"),
    (lambda i: i.search_furthest_from([[[1, 2]]], recall=0.5, budget=3), "at most one limit"),
    (lambda i: i.search_furthest_from([[[1, 2]]], exclude=[[1], [2]]), "each of 1 queries"),
    (lambda i: i.search_furthest_from([[[1, 2]]], k=2**30), "k: expected at most"),
    (lambda i: i.search_mmr([1, 2], diversity=1.5), "diversity: expected a number from 0 to 1"),
    (lambda i: i.search_mmr([1, 2], candidates=0), "candidates: expected 1 or more"),
    (lambda i: i.furthest_graph(0), "k: expected 1 or more"),
    (lambda i: i.diameter(threads=0), "threads: expected 1 or more"),
])
def test_refused_arguments(call: Callable[[farann.Index], object], said: str) -> None:
    index = index_of(float32([[1, 2], [3, 4], [5, 7]]), "cosine")
    with pytest.raises((ValueError, TypeError, KeyError), match=said):
        call(index)


def test_what_needs_vectors_or_another_metric() -> None:
    with pytest.raises(ValueError, match="metric='dot' or 'cosine'"):
        index_of(float32([[1, 2]])).search_mmr([1, 2])
    index = index_of(np.random.default_rng(0).standard_normal((600, 8)).astype(np.float32),
                     keep_vectors=False).build()
    for call in (lambda: index.select_diverse(3), index.diameter, index.eccentricities,
                 lambda: index.search_furthest_from([[[0] * 8]])):
        with pytest.raises(ValueError, match="needs the vectors"):
            call()


def test_a_selection_that_is_given_up_says_so() -> None:
    rows = np.random.default_rng(1).standard_normal((500, 4)).astype(np.float32)
    index = index_of(rows).build()
    snapshot, flag = inside.store.snapshot_of(index), core.CancelFlag()
    everything = core.Filter(snapshot)
    task = core.Greedy(snapshot, everything, np.array([0]), 100)
    assert task.run(10) == 10
    flag.cancel()
    with pytest.raises(core.Cancelled):
        task.run(10, flag)
    search = core.SetSearch(snapshot, everything, rows[:4].astype(float), np.array([0, 4]), 0, 3)
    search.run()
    with pytest.raises(core.Cancelled):
        core.SetSearch(snapshot, everything, rows[:4].astype(float), np.array([0, 4]), 0, 3,
                       flag=flag)
    with pytest.raises(core.Cancelled):
        core.keys_of_slots(snapshot, rows[:2], np.arange(5), np.empty((2, 5)), flag)


# A call, and which of its pieces of work is at work when the signal comes.
INTERRUPTED = {"index.select_diverse(5000)": 3, "index.search_furthest_from(sets, 50)": 3,
               "index.furthest_graph(3)": 20, "index.search_mmr(rows[:500], 10)": 50,
               "index.diameter()": 3}


def test_ctrl_c_ends_each(run_python: Callable[..., Arrays]) -> None:
    """The piece of work goes on once the main thread has heard of it, and notices by itself."""
    told = run_python("""
import os, signal
from functools import partial
import inside
import farann
rng = np.random.default_rng(0)
rows = rng.standard_normal((60_000, 48), dtype=np.float32)
rows /= np.linalg.norm(rows, axis=1, keepdims=True)
index = farann.Index(metric="dot", threads=2)
index.add(rows)
index.build()
sets = rng.standard_normal((3000, 8, 48), dtype=np.float32)
run_all = inside.settings.run_all

def noisy(functions, threads, **options):
    def work(function, flag):
        begun.append(function)
        if flag.is_cancelled():
            late.append(function)
        if len(begun) != last:
            return function(flag)
        os.kill(os.getpid(), signal.SIGINT)
        while not flag.is_cancelled():
            pass
        try:
            function(flag)
        except inside.core.Cancelled:
            noticed.append(True)
            raise
    run_all([partial(work, function) for function in functions], threads, **options)

told = []
for call, last in zip(given["calls"].tolist(), given["last"].tolist()):
    begun, noticed, late, interrupted, made = [], [], [], False, eval("lambda: " + call)
    inside.settings.run_all = noisy
    try:
        made()
    except KeyboardInterrupt:
        interrupted = True
    inside.settings.run_all = run_all
    same = index.search_furthest(rows[:1], 1).ids[0, 0] >= 0
    told.append((interrupted, bool(noticed), len(late) <= 1, same))
give(told=told)
""", calls=list(INTERRUPTED), last=list(INTERRUPTED.values()), timeout=600)
    for call, what in zip(INTERRUPTED, told["told"].tolist(), strict=True):
        assert what == [True] * 4, call


def test_the_core_checks_what_it_is_given() -> None:
    rows = np.ones((5, 3), np.float32)
    index = index_of(rows)
    snapshot = inside.store.snapshot_of(index)
    everything = core.Filter(snapshot)
    with pytest.raises(ValueError, match="first must be slots"):
        core.Greedy(snapshot, everything, np.array([5]), 1)
    with pytest.raises(ValueError, match="a row to begin with"):
        core.Greedy(snapshot, everything, np.empty(0, np.int64), 1)
    with pytest.raises(ValueError, match="offsets must be"):
        core.SetSearch(snapshot, everything, rows.astype(float), np.array([0, 3]), 0, 1)
    with pytest.raises(ValueError, match="must have a member"):
        core.SetSearch(snapshot, everything, rows.astype(float), np.array([0, 0, 5]), 0, 1)
    with pytest.raises(ValueError, match="slots must be"):
        core.keys_of_slots(snapshot, rows, np.array([9]), np.empty((5, 1)))


# ---- the command line ----


def test_select_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = np.random.default_rng(1).standard_normal((200, 6), dtype=np.float32)
    np.save("rows.npy", rows)
    index = index_of(rows, "cosine", np.arange(200) + 50)
    index.save("rows.farann")
    assert main(["select", "rows.npy", "-k", "12", "-o", "ids.npy", "--start", "3"]) == 0
    expected = farann.select_diverse(rows, 12, start=3)
    assert_array_equal(np.load("ids.npy"), expected.ids)
    assert f"{expected.scores[-1]:.6g}" in capsys.readouterr().err
    assert main(["select", "rows.farann", "--radius", "0.5", "-o", "ids.txt", "-q"]) == 0
    assert_array_equal(np.loadtxt("ids.txt", dtype=np.int64), index.select_diverse(radius=0.5).ids)
    pytest.importorskip("matplotlib")
    assert main(["select", "rows.npy", "-k", "9", "-o", "ids.csv", "--plot", "radius.png"]) == 0
    assert Path("radius.png").stat().st_size > 1000
    with open("ids.csv", newline="") as file:
        lines = list(csv.reader(file))
    assert lines[0] == ["rank", "id", "score"] and len(lines) == 10 and lines[1][2] == "inf"
    capsys.readouterr()
    assert main(["diameter", "rows.farann"]) == 0
    furthest = index.diameter()
    assert capsys.readouterr().out == "cosine {:.8g} of {} and {}\n".format(
        furthest.score, *furthest.ids)


@pytest.mark.parametrize(("arguments", "said"), [
    (["select", "rows.npy", "-o", "ids.npy"], "give -k"),
    (["select", "rows.npy", "-k", "2", "-o", "ids.bin"], "unknown extension '.bin'"),
    (["select", "rows.npy", "-k", "2", "-o", "rows.npy"], "would overwrite"),
    (["select", "rows.npy", "-k", "2", "-o", "ids.npy", "--plot", "a.gif"], "unknown extension"),
    (["select", "rows.npy", "-k", "2", "-o", "ids.npy", "--start", "7"], "7 is not in the index"),
    (["diameter", "one.npy"], "expected at least two rows"),
])
def test_refused_on_the_command_line(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", np.eye(4, dtype=np.float32))
    np.save("one.npy", np.eye(1, dtype=np.float32))
    assert main(arguments) == 2
    assert said in capsys.readouterr().err
