"""The command line: each command, what it writes, and how it fails."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from functools import wraps
from pathlib import Path
from typing import Any

import inside
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

import farann
from farann.cli import main
from farann.vectors import VectorFile, write_vectors

COMMANDS = ["build", "search", "tune", "info", "select", "diameter", "pairs", "demo"]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def rows() -> NDArray[np.float32]:
    return np.random.default_rng(1).standard_normal((300, 8), dtype=np.float32)


@pytest.fixture
def queries() -> NDArray[np.float32]:
    return np.random.default_rng(2).standard_normal((7, 8), dtype=np.float32)


@pytest.fixture
def place(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rows: NDArray[np.float32],
    queries: NDArray[np.float32],
) -> Path:
    """A folder to work in, with rows, queries and an index of the rows."""
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", rows)
    np.save("queries.npy", queries)
    index = farann.Index(8)
    index.add(rows)
    index.save("rows.farann")
    return tmp_path


def command(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run ``python -m farann`` in a process of its own."""
    return subprocess.run([sys.executable, "-m", "farann", *arguments], env=environment(),
                          capture_output=True, text=True, timeout=300, **options)


def environment() -> dict[str, str]:
    """The environment, with the farann under test in reach from any folder."""
    paths = [str(Path(farann.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "COLUMNS": "80"}


def table(text: str) -> tuple[list[str], NDArray[np.float64]]:
    """Heads and numbers of a printed table."""
    heads, *lines = text.splitlines()
    return heads.split(), np.array([line.split() for line in lines], np.float64).reshape(-1, 4)


def hits_of(path: str) -> NDArray[np.float64]:
    """The lines of a .csv as numbers."""
    with open(path, newline="", encoding="ascii") as stream:
        heads, *lines = csv.reader(stream)
    assert heads == ["query", "rank", "id", "score"]
    return np.array(lines, np.float64).reshape(-1, 4)


# build


@pytest.mark.parametrize("metric", ["l2", "dot", "cosine"])
def test_build(place: Path, rows: NDArray[np.float32], metric: str, capsys: Capture) -> None:
    assert main(["build", "rows.npy", "-o", "new.farann", "--metric", metric]) == 0
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"new.farann: 300 rows of dimension 8, {metric}, ")
    index = farann.Index.load("new.farann")
    assert (index.metric, index.dim, len(index)) == (metric, 8, 300)
    assert index.stats()["built"] is True
    assert_array_equal(index.ids, np.arange(300))
    assert_array_equal(index.reconstruct(index.ids), rows)


@pytest.mark.parametrize("codes", ["int8", "float32"])
def test_build_codes(place: Path, codes: str) -> None:
    assert main(["build", "rows.npy", "-o", "new.farann", "--codes", codes, "-q"]) == 0
    stats = farann.Index.load("new.farann").stats()
    assert stats["codes"] == codes and (stats["bytes"]["codes"] > 0) == (codes == "int8")


def test_build_metric_is_l2_unless_given(place: Path) -> None:
    assert main(["build", "rows.npy", "-o", "new.farann"]) == 0
    assert farann.Index.load("new.farann").metric == "l2"


@pytest.mark.parametrize("extension", [".npz", ".fvecs", ".parquet", ".hdf5"])
def test_build_from_every_kind_of_file(
    place: Path, rows: NDArray[np.float32], extension: str
) -> None:
    package = {".parquet": "pyarrow", ".hdf5": "h5py"}.get(extension)
    if package:
        pytest.importorskip(package)
    write_vectors(f"rows{extension}", rows)
    assert main(["build", f"rows{extension}", "-o", "new.farann", "-q"]) == 0
    index = farann.Index.load("new.farann")
    assert_array_equal(index.reconstruct(index.ids), rows)


def test_build_with_ids(place: Path, rows: NDArray[np.float32]) -> None:
    ids = np.random.default_rng(3).permutation(10_000)[:300]
    np.save("ids.npy", ids)
    Path("ids.txt").write_text("\n".join(map(str, ids)))
    for name in ("ids.npy", "ids.txt"):
        assert main(["build", "rows.npy", "-o", "new.farann", "--ids", name, "-q"]) == 0
        index = farann.Index.load("new.farann")
        assert_array_equal(index.reconstruct(ids), rows)


def test_build_reads_blocks(
    place: Path, rows: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez("rows.npz", rows.astype(np.float64))
    np.save("ids.npy", np.arange(300) * 3)
    lengths = []
    blocks = VectorFile.blocks

    def short(self: VectorFile, *_: int) -> Any:
        for block in blocks(self, 100 * 8 * 8):
            lengths.append(len(block))
            yield block

    monkeypatch.setattr(VectorFile, "blocks", short)
    assert main(["build", "rows.npz", "-o", "new.farann", "--ids", "ids.npy"]) == 0
    assert lengths == [100, 100, 100]
    assert_array_equal(farann.Index.load("new.farann").reconstruct(np.arange(300) * 3), rows)


def test_build_passes_seed_and_threads_on(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    class Recorder(farann.Index):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            made.append(options)
            super().__init__(*arguments, **options)

    monkeypatch.setattr(inside.settings, "index_of_commands", Recorder)
    assert main(["build", "rows.npy", "-o", "a.farann", "--seed", "5", "--threads", "2"]) == 0
    assert made == [{"dtype": "float32", "codes": "int8", "cells": None, "keep_vectors": True,
                     "seed": 5, "threads": 2}]


def test_build_without_vectors(place: Path, capsys: Capture) -> None:
    rows = np.random.default_rng(0).standard_normal((3000, 64), dtype=np.float32)
    np.save("many.npy", rows)
    np.save("some.npy", rows[:5])
    build = ["build", "many.npy", "-o", "c.farann", "--codes", "int4", "--no-vectors", "-q"]
    assert main(build) == 0
    assert os.path.getsize("c.farann") < 0.2 * rows.nbytes
    assert main(["info", "c.farann"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"codes +int4\n +vectors +dropped; all codes find \d\d\.\d% of the ten", shown)
    assert main(["search", "c.farann", "some.npy", "-k", "3"]) == 2
    assert "exact search needs the vectors" in capsys.readouterr().err
    assert main(["search", "c.farann", "some.npy", "-k", "3", "--budget", "3000"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 5 * 3


def test_the_same_build_gives_the_same_file(place: Path) -> None:
    for name in ("a.farann", "b.farann"):
        assert main(["build", "rows.npy", "-o", name, "-q"]) == 0
    assert Path("a.farann").read_bytes() == Path("b.farann").read_bytes()


# search


@pytest.mark.parametrize("metric", ["l2", "dot", "cosine"])
@pytest.mark.parametrize("nearest", [False, True])
def test_search_prints_a_table(
    place: Path,
    rows: NDArray[np.float32],
    queries: NDArray[np.float32],
    metric: str,
    nearest: bool,
    capsys: Capture,
) -> None:
    main(["build", "rows.npy", "-o", "m.farann", "--metric", metric, "-q"])
    arguments = ["search", "m.farann", "queries.npy", "-k", "4"] + ["--nearest"] * nearest
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    heads, numbers = table(out)
    assert heads == ["query", "rank", "id", {"l2": "distance"}.get(metric, metric)]
    index = farann.Index.load("m.farann")
    hits = (index.search_nearest if nearest else index.search_furthest)(queries, 4)
    assert_array_equal(numbers[:, 0], np.repeat(np.arange(7), 4))
    assert_array_equal(numbers[:, 1], np.tile(np.arange(1, 5), 7))
    assert_array_equal(numbers[:, 2], hits.ids.ravel())
    np.testing.assert_allclose(numbers[:, 3], hits.scores.ravel(), atol=6e-6)
    assert len({len(line) for line in out.splitlines()}) == 1, "columns are not aligned"
    assert err.startswith("7 queries of 300 rows in ")


def test_search_finds_ten_unless_told(place: Path, capsys: Capture) -> None:
    assert main(["search", "rows.farann", "queries.npy", "-q"]) == 0
    out, err = capsys.readouterr()
    assert len(table(out)[1]) == 70 and err == ""


def test_large_ids_and_scores_stay_aligned(place: Path, capsys: Capture) -> None:
    index = farann.Index(1)
    index.add([[1.0], [1e30]], ids=[2**62, 3])
    index.save("large.farann")
    np.save("q.npy", [[0.0]])
    assert main(["search", "large.farann", "q.npy", "-q"]) == 0
    out = capsys.readouterr().out
    assert len({len(line) for line in out.splitlines()}) == 1
    assert [line.split() for line in out.splitlines()[1:]] == [
        ["0", "1", "3", "1e+30"],
        ["0", "2", str(2**62), "1.00000"],
    ]


def test_search_writes_npz(place: Path, queries: NDArray[np.float32], capsys: Capture) -> None:
    assert main(["search", "rows.farann", "queries.npy", "-k", "5", "-o", "out.npz"]) == 0
    hits = farann.Index.load("rows.farann").search_furthest(queries, 5)
    with np.load("out.npz") as found:
        assert sorted(found) == ["ids", "scores"]
        assert_array_equal(found["ids"], hits.ids)
        assert_array_equal(found["scores"], hits.scores)
        assert (found["ids"].dtype, found["scores"].dtype) == (np.int64, np.float32)
    assert capsys.readouterr().out == ""


def test_search_writes_csv(place: Path, queries: NDArray[np.float32]) -> None:
    assert main(["search", "rows.farann", "queries.npy", "-k", "5", "-o", "out.csv", "-q"]) == 0
    hits = farann.Index.load("rows.farann").search_furthest(queries, 5)
    numbers = hits_of("out.csv")
    assert_array_equal(numbers[:, 0], np.repeat(np.arange(7), 5))
    assert_array_equal(numbers[:, 1], np.tile(np.arange(1, 6), 7))
    assert_array_equal(numbers[:, 2], hits.ids.ravel())
    assert_array_equal(numbers[:, 3].astype(np.float32), hits.scores.ravel())


def test_batches_change_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("seen.txt").write_text("1\n\n2 3\n4\n\n5\n6 7 8\n")
    arguments = ["search", "rows.farann", "queries.npy", "--exclude", "seen.txt", "-q", "-o"]
    for extra in ([], ["--beyond", "3"]):
        for batch, name in ((1024, "whole"), (3, "parts")):
            monkeypatch.setattr(inside.settings, "lines_a_batch", batch)
            assert main([*arguments, f"{name}.npz", *extra]) == 0
            assert main([*arguments, f"{name}.csv", *extra]) == 0
        assert Path("whole.csv").read_bytes() == Path("parts.csv").read_bytes()
        with np.load("whole.npz") as whole, np.load("parts.npz") as parts:
            assert sorted(whole) == sorted(parts)
            for name in whole:
                assert_array_equal(whole[name], parts[name])


@pytest.mark.parametrize("kind, radius", [("beyond", 4.5), ("within", 3.0)])
def test_ranges(place: Path, queries: NDArray[np.float32], capsys: Capture, kind: str,
                radius: float) -> None:
    arguments = ["search", "rows.farann", "queries.npy", f"--{kind}", str(radius), "-q"]
    hits = getattr(farann.Index.load("rows.farann"), f"search_{kind}")(queries, radius=radius)
    counts = np.diff(hits.offsets)
    assert counts.max() > 1 and len(set(counts)) > 1
    assert main(arguments) == 0
    numbers = table(capsys.readouterr().out)[1]
    assert_array_equal(numbers[:, 0], np.repeat(np.arange(7), counts))
    assert_array_equal(numbers[:, 2], hits.ids)
    assert main([*arguments, "-o", "out.csv"]) == 0
    numbers = hits_of("out.csv")
    assert_array_equal(numbers[:, 2], hits.ids)
    assert_array_equal(numbers[:, 3].astype(np.float32), hits.scores)
    assert main([*arguments, "-o", "out.npz"]) == 0
    with np.load("out.npz") as found:
        for name in ("offsets", "scores", "ids"):
            assert_array_equal(found[name], getattr(hits, name))
            assert found[name].dtype == getattr(hits, name).dtype


def test_pairs(place: Path, capsys: Capture) -> None:
    index = farann.Index.load("rows.farann")
    radius = float(np.median(index.search_nearest(index.reconstruct(index.ids), 2).scores[:, 1]))
    found = index.pairs_within(radius)
    assert 9 < len(found.ids) < 3000
    assert main(["pairs", "rows.npy", str(radius)]) == 0
    printed = capsys.readouterr()
    lines = [line.split(",") for line in printed.out.splitlines()]
    assert lines[0] == ["id", "other_id", "score"]
    assert [[int(a), int(b)] for a, b, _ in lines[1:]] == found.ids.tolist()
    assert f"{len(found.ids):,} pairs of 300 rows" in printed.err
    assert main(["pairs", "rows.npy", str(radius), "--json", "-q"]) == 0
    assert json.loads(capsys.readouterr().out)["ids"] == found.ids.tolist()
    for name in ("p.npz", "p.csv", "p.parquet"):
        assert main(["pairs", "rows.farann", str(radius), "-o", name, "-q"]) == 0
    with np.load("p.npz") as arrays:
        assert_array_equal(arrays["ids"], found.ids)
        assert_array_equal(arrays["scores"], found.scores)
    capsys.readouterr()
    assert main(["pairs", "rows.npy", "99", "--limit", "7"]) == 2
    assert "7 pairs within 99" in capsys.readouterr().err


def test_select_by_scores(place: Path, capsys: Capture) -> None:
    rows = np.load("rows.npy")
    worth = np.random.default_rng(1).random((300, 1), dtype=np.float32)
    np.save("worth.npy", worth)
    Path("classes.txt").write_text("".join(f"{i % 3}\n" for i in range(300)))
    assert main(["build", "rows.npy", "-o", "g.farann", "--groups", "classes.txt", "-q"]) == 0
    index = farann.Index(dim=rows.shape[1])
    index.add(rows, groups=np.arange(300) % 3)
    for options, given in (({"k": 9}, ["-k", "9"]), ({"radius": 2.0}, ["--radius", "2"]),
                           ({"k": 20, "per_group": 2}, ["-k", "20", "--per-group", "2"])):
        found: Any = index.select_spaced(worth.ravel(), **options)
        assert main(["select", "g.farann", "--scores", "worth.npy", *given]) == 0
        printed = capsys.readouterr()
        assert list(map(int, printed.out.split())) == found.ids.tolist()
        assert f"the radius {found.radius}" in printed.err
    assert main(["select", "g.farann", "--per-group", "2", "-q"]) == 0
    assert list(map(int, capsys.readouterr().out.split())) == index.select_diverse(
        per_group=2).ids.tolist()
    assert main(["select", "g.farann", "--scores", "worth.npy", "-k", "3", "--start", "1"]) == 2
    assert "--start: rows are chosen by --scores" in capsys.readouterr().err
    assert main(["select", "g.farann", "-k", "9", "--leave-out", "0.2", "-q"]) == 0
    assert list(map(int, capsys.readouterr().out.split())) == index.select_diverse(
        9, leave_out=0.2).ids.tolist()
    for more, said in ((["1.5"], "--leave-out: expected a share of the rows"),
                       ([".2", "--scores", "worth.npy"], "--leave-out: rows are chosen by")):
        assert main(["select", "g.farann", "-k", "9", "--leave-out", *more]) == 2
        assert said in capsys.readouterr().err


def test_search_beyond_a_negative_cosine(place: Path, queries: NDArray[np.float32]) -> None:
    main(["build", "rows.npy", "-o", "c.farann", "--metric", "cosine", "-q"])
    assert main(["search", "c.farann", "queries.npy", "--beyond=-5e-1", "-o", "o.npz", "-q"]) == 0
    hits = farann.Index.load("c.farann").search_beyond(queries, radius=-0.5)
    with np.load("o.npz") as found:
        assert len(hits.ids) > 0
        assert_array_equal(found["ids"], hits.ids)


def test_exclude_and_allowed(place: Path, queries: NDArray[np.float32]) -> None:
    index = farann.Index.load("rows.farann")
    exclude = index.search_furthest(queries, 3).ids
    allowed = np.arange(0, 300, 2)
    mask = np.isin(np.arange(300), allowed)
    np.save("seen.npy", exclude)
    Path("seen.txt").write_text("\n".join(" ".join(map(str, ids)) for ids in exclude))
    np.save("allowed.npy", allowed)
    np.save("mask.npy", mask)
    np.save("all.npy", exclude[0])
    cases: list[tuple[list[str], dict[str, Any]]] = [
        (["--exclude", "seen.npy"], {"exclude": exclude}),
        (["--exclude", "seen.txt"], {"exclude": exclude}),
        (["--exclude", "all.npy"], {"exclude": np.tile(exclude[0], (7, 1))}),
        (["--allowed", "allowed.npy"], {"allowed": allowed}),
        (["--allowed", "mask.npy"], {"allowed": allowed}),
        (["--allowed", "mask.npy", "--exclude", "seen.txt"],
         {"allowed": allowed, "exclude": exclude}),
    ]
    plain = index.search_furthest(queries, 6).ids
    for arguments, options in cases:
        assert main(["search", "rows.farann", "queries.npy", "-k", "6", "-o", "out.npz", "-q",
                     *arguments]) == 0
        expected = index.search_furthest(queries, 6, **options)
        with np.load("out.npz") as found:
            assert_array_equal(found["ids"], expected.ids)
            assert_array_equal(found["scores"], expected.scores)
        assert (expected.ids != plain).any()


def test_rows_as_queries(place: Path, rows: NDArray[np.float32], capsys: Capture) -> None:
    index = farann.Index(8)
    index.add(rows, [f"row {i}" for i in range(300)])
    index.save("named.farann")
    Path("own.txt").write_text("row 7\nrow 290\n")
    Path("left.txt").write_text("row 1\trow 2\n\n")
    np.save("own.npy", [7, 290])
    expected = index.search_furthest(ids=["row 7", "row 290"], exclude=[["row 1", "row 2"], []])
    assert main(["search", "named.farann", "--ids", "own.txt", "--exclude", "left.txt", "-o",
                 "out.jsonl", "-q"]) == 0
    lines = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [line["ids"] for line in lines] == expected.ids.tolist()
    assert main(["search", "rows.farann", "--ids", "own.npy", "--nearest", "-o", "out.npz"]) == 0
    with np.load("out.npz") as found:
        assert_array_equal(found["ids"], farann.Index.load("rows.farann").search_nearest(
            ids=[7, 290]).ids)
    Path("none.txt").write_text("")
    assert main(["search", "rows.farann", "--ids", "none.txt", "-o", "out.npz"]) == 0
    capsys.readouterr()
    for option in (["--ids", "own.npy"], ["queries.npy", "--allowed", "own.npy"]):
        assert main(["search", "named.farann", *option]) == 2
        assert "own.npy: expected strings, as the index has string ids" in capsys.readouterr().err
    for arguments, message in (([], "expected QUERIES, or --ids, or"),
                               (["queries.npy", "--ids", "own.npy"],
                                "--ids: beside queries expected a column of queries.npy or none"),
                               (["--ids", "own.txt"], "ids"), (["--ids", "gone.txt"], "gone.txt")):
        assert main(["search", "rows.farann", *arguments]) != 0
        assert message in capsys.readouterr().err


def test_likes_and_dislikes(place: Path, rows: NDArray[np.float32], capsys: Capture) -> None:
    index = farann.Index(8, "cosine")
    index.add(rows)
    index.save("cosine.farann")
    named = farann.Index(8, "cosine")
    named.add(rows, [f"row {i}" for i in range(300)])
    named.save("named.farann")
    Path("likes.txt").write_text("3 4\n5\n")
    Path("dislikes.txt").write_text("7\n\n")
    np.save("likes.npy", [[3, 4], [5, -1]])
    Path("likes names.txt").write_text("row 3\trow 4\nrow 5\n")
    Path("dislikes names.txt").write_text("row 7\n\n")
    right = index.search_contrast(like_ids=[[3, 4], [5]], dislike_ids=[[7], []], k=4, weight=0.5,
                                  likes_by="best")
    for name, kind, likes, dislikes in (
            ("cosine", int, "likes.txt", "dislikes.txt"), ("cosine", int, "likes.npy",
             "dislikes.txt"), ("named", str, "likes names.txt", "dislikes names.txt")):
        assert main(["search", f"{name}.farann", "--likes", likes, "--dislikes", dislikes, "-k",
                     "4", "--weight", "0.5", "--likes-by", "best", "-o", "out.jsonl", "-q"]) == 0
        lines = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
        wanted = right.ids.tolist()
        if kind is str:
            wanted = [[f"row {id}" for id in ids] for ids in wanted]
        assert [line["ids"] for line in lines] == wanted
    Path("one.txt").write_text("9\n")
    Path("few.txt").write_text("900\n")
    assert main(["search", "cosine.farann", "--dislikes", "one.txt", "-o", "out.npz", "-q"]) == 0
    with np.load("out.npz") as found:
        assert_array_equal(found["ids"], index.search_contrast(dislike_ids=[[9]]).ids)
    capsys.readouterr()
    for arguments, message in (
            (["queries.npy", "--likes", "likes.txt"], "expected QUERIES, or --ids, or --likes and"),
            (["--likes", "likes.txt", "--nearest"], "expected at most one of --nearest, --likes"),
            (["queries.npy", "--weight", "2"], "--weight is for --likes and"),
            (["--likes", "likes.txt", "--dislikes", "one.txt"], "one.txt: expected a list for"),
            (["--dislikes", "few.txt"], "--dislikes[0]: 900 is not in the index"),
            (["--likes", "likes.txt", "--weight", "-2"], "--weight: expected a number from 0")):
        assert main(["search", "cosine.farann", *arguments]) != 0
        assert message in capsys.readouterr().err


def test_fewer_rows_than_k(place: Path, capsys: Capture) -> None:
    Path("few.txt").write_text("7 8 9")
    arguments = ["search", "rows.farann", "queries.npy", "-k", "5", "--allowed", "few.txt", "-q"]
    assert main(arguments) == 0
    assert len(table(capsys.readouterr().out)[1]) == 7 * 3
    assert main([*arguments, "-o", "out.csv"]) == 0
    assert set(hits_of("out.csv")[:, 2]) == {7, 8, 9}
    assert main([*arguments, "-o", "out.npz"]) == 0
    with np.load("out.npz") as found:
        assert (found["ids"][:, 3:] == -1).all() and np.isnan(found["scores"][:, 3:]).all()


@pytest.mark.parametrize("options", [["--mmap"], ["--threads", "1"], ["--threads", "3"]])
def test_search_options_change_nothing(place: Path, options: list[str]) -> None:
    plain = ["search", "rows.farann", "queries.npy", "-q", "-o"]
    assert main([*plain, "plain.csv"]) == 0
    assert main([*plain, "other.csv", *options]) == 0
    assert Path("plain.csv").read_bytes() == Path("other.csv").read_bytes()


def test_mmap_and_threads_arrive(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    load, search = farann.Index.load, farann.Index.search_furthest

    def loading(path: str, *, mmap: bool = False) -> farann.Index:
        seen["mmap"] = mmap
        return load(path, mmap=mmap)

    @wraps(search)  # its arguments say which options go with it
    def searching(self: farann.Index, *, threads: Any, **rest: Any) -> farann.Hits:
        seen["threads"] = threads
        hits: farann.Hits = search(self, threads=threads, **rest)
        return hits

    monkeypatch.setattr(farann.Index, "load", loading)
    monkeypatch.setattr(farann.Index, "search_furthest", searching)
    assert main(["search", "rows.farann", "queries.npy", "--mmap", "--threads", "2", "-q"]) == 0
    assert seen == {"mmap": True, "threads": 2}


def test_no_queries_and_one_query(place: Path, capsys: Capture) -> None:
    np.save("none.npy", np.empty((0, 8), np.float32))
    assert main(["search", "rows.farann", "none.npy", "-k", "3"]) == 0
    out, err = capsys.readouterr()
    assert out.split() == ["query", "rank", "id", "distance"]
    assert err.startswith("0 queries of 300 rows")
    assert main(["search", "rows.farann", "none.npy", "-k", "3", "-o", "out.npz"]) == 0
    with np.load("out.npz") as found:
        assert found["ids"].shape == (0, 3)
    assert main(["search", "rows.farann", "none.npy", "--beyond", "3", "-o", "out.npz"]) == 0
    with np.load("out.npz") as found:
        assert found["offsets"].tolist() == [0]
    np.save("one.npy", np.ones(8))
    capsys.readouterr()
    assert main(["search", "rows.farann", "one.npy", "-k", "3"]) == 0
    out, err = capsys.readouterr()
    assert len(table(out)[1]) == 3 and err.startswith("1 query of 300 rows in ")
    assert main(["build", "one.npy", "-o", "one.farann"]) == 0
    assert capsys.readouterr().err.startswith("one.farann: 1 row of dimension 8, l2, ")


def test_queries_of_ann_benchmarks(place: Path, rows: NDArray[np.float32]) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File("a.hdf5", "w") as file:
        file["train"], file["test"] = rows, rows[:2] + 1
    assert main(["build", "a.hdf5", "-o", "a.farann", "-q"]) == 0
    assert main(["search", "a.farann", "a.hdf5", "-o", "out.npz", "-q"]) == 0
    expected = farann.search_furthest(rows, rows[:2] + 1)
    with np.load("out.npz") as found:
        assert_array_equal(found["ids"], expected.ids)


# info


def test_info(place: Path, capsys: Capture) -> None:
    assert main(["info", "rows.farann"]) == 0
    out = capsys.readouterr().out
    name, *lines = out.splitlines()
    facts = dict(line.split(None, 1) for line in lines)
    assert name == "rows.farann"
    assert facts["rows"] == "300" and facts["dimension"] == "8" and facts["metric"] == "l2"
    assert facts["ids"] == "0 to 299"
    assert "--verify" in facts["checked"]
    assert main(["info", "rows.farann", "--verify"]) == 0
    assert "every byte" in capsys.readouterr().out


def test_info_json(place: Path, capsys: Capture) -> None:
    index = farann.Index(8, "cosine")
    index.add(np.ones((2, 8)), ids=[5, 900])
    index.build().save("c.farann")
    assert main(["info", "c.farann", "--json", "--verify"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["bytes"]["rows"] == 2 * 8 * 4
    del facts["bytes"]
    assert facts == {
        "file": "c.farann", "file_bytes": os.path.getsize("c.farann"), "verified": True,
        "rows": 2, "removed": 0, "added": 0, "dim": 8, "metric": "cosine", "dtype": "float32",
        "codes": "int8", "keep_vectors": True, "codes_recall": None, "built": True,
        "smallest_id": 5, "largest_id": 900, "groups": 0,
    }


def test_info_of_a_changed_index(place: Path, capsys: Capture) -> None:
    rows = np.random.default_rng(0).standard_normal((1200, 8), dtype=np.float32)
    index = farann.Index()
    index.add(rows[:900])
    index.build()
    index.add(rows[900:])
    index.remove(np.arange(7))
    index.save("changed.farann")
    assert main(["info", "changed.farann"]) == 0
    told = capsys.readouterr().out
    assert "rows       1,193" in told
    assert "changes    300 added and 7 removed since the build" in told
    assert main(["info", "changed.farann", "--json"]) == 0
    codes = json.loads(capsys.readouterr().out)["bytes"]["codes"]
    assert codes == farann.Index.load("changed.farann").stats()["bytes"]["codes"] > 1150 * 8


def test_info_of_an_empty_index(place: Path, capsys: Capture) -> None:
    farann.Index().save("empty.farann")
    assert main(["info", "empty.farann", "--verify"]) == 0
    assert "ids        none" in capsys.readouterr().out
    assert main(["info", "empty.farann", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["largest_id"] is None


def test_verify_finds_an_altered_byte_that_is_otherwise_not_read(
    place: Path, capsys: Capture
) -> None:
    index = farann.Index(64)
    index.add(np.ones((9000, 64), np.float32))
    index.save("large.farann")
    content = bytearray(Path("large.farann").read_bytes())
    content[len(content) // 2] ^= 1
    Path("large.farann").write_bytes(content)
    assert main(["info", "large.farann"]) == 0
    assert main(["info", "large.farann", "--verify"]) == 2
    assert "checksum" in capsys.readouterr().err


# What goes wrong


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("bild", "invalid choice: 'bild'"),
        ("build rows.npy", "-o/--output"),
        ("build none.npy -o x", "none.npy: No such file"),
        ("build rows.xls -o x", "unknown extension '.xls'"),
        ("build bad.npz -o x", "bad.npz: damaged"),
        ("build nan.npy -o x", "nan.npy: expected finite numbers, got NaN in row 3"),
        ("build zero.npy -o x --metric cosine", "zero.npy: cosine needs"),
        ("build none8.npy -o x", "none8.npy: expected vectors, got none"),
        ("build rows.npy -o nowhere/x", "no folder 'nowhere'"),
        ("build rows.npy -o rows.npy", "rows.npy: this would overwrite a file that is read"),
        ("build rows.npy:a -o x", "no named arrays, got 'a'"),
        ("build rows.npy -o x --metric l3", "invalid choice: 'l3'"),
        ("build rows.npy -o x --threads 0", "--threads: expected 1 or more, got 0"),
        ("build rows.npy -o x --seed -1", "--seed: expected 0 or more, got -1"),
        ("build rows.npy -o x --ids queries.npy", "queries.npy: expected integer ids"),
        ("build rows.npy -o x --ids few.txt", "few.txt: expected an id for each row (300), integ"),
        ("build rows.npy -o -", "--output: an index is written to a file"),
        ("select rows.npy -k 2 --start x", "--start: expected 'centroid' or an id, got 'x'"),
        ("select rows.npy -k 2 --start 300", "--start: 300 is not in the index"),
        ("build rows.npy -o x --ids twice.npy", "twice.npy: expected each id once, got 7 twice"),
        ("build rows.npy -o x --ids minus.npy", "minus.npy: expected ids of 0 or more, got -4"),
        ("search rows.farann", "QUERIES"),
        ("search rows.farann --ids w1", "w1: there is no such file; "),
        ("search rows.farann queries.npy --top-k 3", "--top-k 3: use k (see farann search"),
        ("search rows.farann queries.npy --of-no-kind", "--of-no-kind (see farann search --help)"),
        ("search none.farann queries.npy", "none.farann: No such file"),
        ("search rows.npy queries.npy", "rows.npy: expected an index, got a file of vectors"),
        ("search short.farann queries.npy", "short.farann: truncated"),
        ("search empty.farann queries.npy", "empty.farann: the index is empty"),
        ("search rows.farann wide.npy", "wide.npy: expected queries of dimension 8, as rows.f"),
        ("search rows.farann nan.npy", "nan.npy: expected finite numbers, got NaN in row 3"),
        ("search rows.farann queries.npy -k 0", "-k: expected 1 or more, got 0"),
        ("search rows.farann queries.npy -k ten", "-k/--k: invalid int value: 'ten'"),
        ("search rows.farann queries.npy -o out.txt", "out.txt: unknown extension '.txt'"),
        ("search rows.farann queries.npy -o nowhere/out.csv", "no folder 'nowhere'"),
        ("search rows.farann one.npz -o one.npz", "one.npz: this would overwrite"),
        ("search rows.farann queries.npy --beyond far", "--beyond: invalid float value: 'far'"),
        ("search rows.farann queries.npy --beyond nan", "--beyond: expected a number, got NaN"),
        ("search rows.farann queries.npy --beyond 1 -k 3", "-k is not for --beyond"),
        ("search rows.farann queries.npy --within 1 --nearest", "most one of --nearest, --within"),
        ("search rows.farann queries.npy --within 1 --beyond 1", "most one of --beyond, --within"),
        ("search rows.farann queries.npy --within 1 --budget 5", "--budget is not for --within"),
        ("search rows.farann queries.npy --beyond 1 --nearest", "most one of --nearest, --beyond"),
        ("search rows.farann queries.npy --exclude few.txt", "few.txt: expected a list for each"),
        ("search rows.farann queries.npy --allowed short.npy", "short.npy: expected a mask"),
        ("search rows.farann queries.npy --recall 95", "--recall: expected a number above 0, at"),
        ("search rows.farann queries.npy --groups few.txt", "few.txt: expected a label for each"),
        ("build rows.npy -o x --cells 3 --codes float32", "--cells: partitions need codes, and"),
        ("build rows.npy -o x --max-bytes 9", "once unpacked, got 9600; --max-bytes sets another"),
        ("search rows.farann queries.npy --exclude none.txt", "none.txt: No such file"),
        ("info", "INDEX"),
        ("info rows.npy", "rows.npy: expected an index, got a file of vectors"),
        ("info .", ".: Is a directory"),
        ("demo --queries nosuchwordanywhere", "'nosuchwordanywhere' is not among the"),
    ],
)
def test_errors_are_one_line(
    place: Path, rows: NDArray[np.float32], arguments: str, expected: str, capsys: Capture
) -> None:
    Path("bad.npz").write_bytes(b"bad")
    Path("few.txt").write_text("1 2\n3\n")
    Path("short.farann").write_bytes(Path("rows.farann").read_bytes()[:-9])
    farann.Index().save("empty.farann")
    np.save("none8.npy", rows[:0])
    np.save("nan.npy", np.where(np.arange(6)[:, None] == 3, np.nan, rows[:6]))
    np.save("zero.npy", np.zeros((1, 8)))
    np.save("wide.npy", np.ones((2, 9)))
    np.save("twice.npy", np.where(np.arange(300) == 8, 7, np.arange(300)))
    np.save("minus.npy", np.where(np.arange(300) == 8, -4, np.arange(300)))
    np.save("short.npy", np.ones(3, bool))
    np.savez("one.npz", rows[:2])
    before = sorted(os.listdir())
    assert main(shlex.split(arguments)) == 2
    err = capsys.readouterr().err
    assert err.startswith("farann: error: ") and err.count("\n") == 1 and err.endswith("\n")
    assert expected in err
    assert sorted(os.listdir()) == before, "something was left behind"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_are_counted_through_the_file(
    place: Path, rows: NDArray[np.float32], dtype: Any, monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    rows[250, 3] = np.inf
    np.save("rows.npy", rows.astype(dtype))
    blocks = VectorFile.blocks
    monkeypatch.setattr(VectorFile, "blocks", lambda self, *_: blocks(self, 100 * 8 * 4))
    assert main(["build", "rows.npy", "-o", "x"]) == 2
    assert "rows.npy: expected finite numbers, got infinity in row 250" in capsys.readouterr().err


def test_errors_in_a_process_of_their_own(place: Path) -> None:
    done = command("search", "none.farann", "queries.npy")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "farann: error: none.farann: No such file or directory\n"


def test_a_missing_package_is_one_line(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    Path("a.hdf5").touch()
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert main(["build", "a.hdf5", "-o", "x"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("farann: error: a.hdf5: ") and "pip install h5py" in err


def test_interrupted(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def build(self: farann.Index, **options: Any) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(farann.Index, "build", build)
    # Shells start jobs in the background with the signal ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert main(["build", "rows.npy", "-o", "x.farann"]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err == "farann: interrupted\n"
    assert not Path("x.farann").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no broken pipes")
def test_a_reader_that_leaves(place: Path) -> None:
    np.save("many.npy", np.ones((5000, 8)))
    with subprocess.Popen(
        [sys.executable, "-m", "farann", "search", "rows.farann", "many.npy"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(),
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().split()[:2] == [b"query", b"rank"]
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 141


# What is said beside the results


@pytest.mark.parametrize(
    "arguments",
    ["build rows.npy -o x.farann", "search rows.farann queries.npy -o x.npz"],
)
def test_progress_is_for_terminals(
    place: Path, arguments: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    assert main(shlex.split(arguments)) == 0
    plain = capsys.readouterr().err
    assert plain.count("\n") == 1 and "%" not in plain
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(shlex.split(arguments)) == 0
    shown = capsys.readouterr().err
    assert "100%" in shown and shown.count("\n") == 2, "there is one bar, and a remark"
    assert main([*shlex.split(arguments), "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("arguments", ["search rows.farann queries.npy -k 2", "info rows.farann",
                                       "tune rows.farann", "info none.farann"])
def test_colors_are_for_terminals(
    place: Path, arguments: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    pytest.importorskip("rich")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    status = main(shlex.split(arguments))
    plain = capsys.readouterr()
    for stream in (sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    assert main(shlex.split(arguments)) == status
    colored = capsys.readouterr()
    bare = re.sub(r"\x1b\[[\d;]*m", "", colored.out + colored.err)
    assert "\x1b[" in colored.out + colored.err and "\x1b" not in plain.out + plain.err
    for word in [*plain.out.split(), *plain.err.partition(" in ")[0].split()]:
        assert word in bare
    monkeypatch.setitem(sys.modules, "rich.console", None)  # as where it isn't installed
    assert main(shlex.split(arguments)) == status
    assert "\x1b[" not in capsys.readouterr().out


def test_version(capsys: Capture) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"farann {farann.__version__} ({farann.Index().isa})\n"


def test_version_tells_the_level_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARANN_ISA", "scalar")
    assert command("--version").stdout == f"farann {farann.__version__} (scalar)\n"


def test_no_command_is_a_question_for_help(capsys: Capture) -> None:
    assert main([]) == 0
    said = capsys.readouterr().out
    assert main(["--help"]) == 0
    assert capsys.readouterr().out == said


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_teaches(name: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*name.split(), "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "examples:" in lines
    examples = [line.strip() for line in lines if line.startswith("  farann ")]
    assert len(examples) >= 2
    for example in examples:  # with what they explain, or go on to do, cut off
        words = shlex.split(re.split("  | && | [<>] ", example)[0])
        assert words[0] == "farann"
        assert inside.demo.parser().parse_args(words[1:]).command == (name or words[1])


def test_help_names_all_commands(capsys: Capture) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"    {name}" in out for name in COMMANDS)


def test_nothing_heavy_is_imported_for_help() -> None:
    code = (
        "import sys, farann.cli\n"
        "farann.cli.main(['search', '--help'])\n"
        "heavy = {'sklearn', 'scipy', 'pyarrow', 'h5py', 'farann.cli.commands'}\n"
        "heavy.add('farann.demo')\n"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), timeout=300,
                          capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_arguments_of_the_process(place: Path, monkeypatch: pytest.MonkeyPatch,
                                  capsys: Capture) -> None:
    monkeypatch.setattr(sys, "argv", ["farann", "info", "rows.farann"])
    assert main() == 0
    assert capsys.readouterr().out.startswith("rows.farann\n")


def test_from_start_to_end_in_processes(place: Path, queries: NDArray[np.float32]) -> None:
    done = command("build", "rows.npy", "-o", "p.farann", "--metric", "dot")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("p.farann: 300 rows")
    done = command("search", "p.farann", "queries.npy", "-k", "2", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    hits = farann.Index.load("p.farann").search_furthest(queries, 2)
    assert_array_equal(table(done.stdout)[1][:, 2], hits.ids.ravel())
    done = command("info", "p.farann", "--verify")
    assert done.returncode == 0 and "every byte" in done.stdout
