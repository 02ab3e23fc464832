"""``farann groundtruth``: exact answers in files, also of runs that were interrupted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
from inside import settings
from numpy.testing import assert_array_equal

import farann
from farann.cli import main
from farann.vectors import open_vectors, write_vectors

Capture = pytest.CaptureFixture[str]
ROWS = np.random.default_rng(1).integers(-2, 3, (60, 4)).astype(np.float32)  # with many ties
ROWS[~ROWS.any(axis=1)] = 1
QUERIES = np.random.default_rng(2).integers(-2, 3, (7, 4)).astype(np.float32) + np.float32(0.5)
ASKED = ["groundtruth", "rows.npy", "queries.npy", "-k", "3"]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with rows and queries, of which two are asked at a time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(settings, "lines_a_batch", 2)
    np.save("rows.npy", ROWS)
    np.save("queries.npy", QUERIES)
    return tmp_path


@pytest.mark.parametrize(("metric", "nearest"), [
    ("l2", True), ("l2", False), ("dot", True), ("dot", False), ("cosine", True)])
def test_answers(metric: str, nearest: bool, capsys: Capture) -> None:
    expected = (reference.nearest if nearest else reference.furthest)(QUERIES, ROWS, 4, metric)
    keys = np.array([reference.keys(query, ROWS, metric)[ids] for query, ids in zip(
        QUERIES, expected.ids, strict=True)])
    asked = [*ASKED, "--metric", metric, *["--furthest"] * (not nearest)]
    for kind in ("ivecs", "npz", "csv", "jsonl", "parquet"):
        assert main([*asked, "-o", f"truth.{kind}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.split("\n}\n")[0] + "}")["tied"] == (
        keys[:, 2] == keys[:, 3]).sum() > 0
    assert_array_equal(open_vectors("truth.ivecs").read(), expected.ids[:, :3])
    with np.load("truth.npz") as arrays:
        assert_array_equal(arrays["ids"], expected.ids[:, :3])
        assert_array_equal(arrays["scores"], expected.scores[:, :3])
        assert_array_equal(arrays["keys"], -keys[:, :3] if nearest else keys[:, :3])
    lines = [line.split(",") for line in Path("truth.csv").read_text().splitlines()]
    assert lines[0] == ["query", "rank", "id", "score", "key"]
    assert [int(line[2]) for line in lines[1:]] == expected.ids[:, :3].ravel().tolist()
    from pyarrow import parquet
    assert parquet.read_table("truth.parquet")["id"].to_pylist() == (
        expected.ids[:, :3].ravel().tolist())
    assert json.loads(Path("truth.jsonl").read_text().splitlines()[6])["ids"] == (
        expected.ids[6, :3].tolist())
    assert sorted(path.name for path in Path().iterdir()) == ["queries.npy", "rows.npy", *sorted(
        f"truth.{kind}" for kind in ("csv", "ivecs", "jsonl", "npz", "parquet"))]


def test_filters_other_rows_and_an_index(capsys: Capture) -> None:
    np.save("allowed.npy", np.arange(60) % 3 > 0)
    Path("seen.txt").write_text("1 4\n\n" * 3 + "7\n")
    seen: list[list[int]] = [[1, 4], []] * 3 + [[7]]
    expected = reference.nearest(QUERIES, ROWS, 3, "l2", exclude=seen,
                                 allowed=np.flatnonzero(np.arange(60) % 3))
    assert main([*ASKED, "--allowed", "allowed.npy", "--exclude", "seen.txt", "-o", "t.ivecs"]) == 0
    assert_array_equal(open_vectors("t.ivecs").read(), expected.ids)
    write_vectors("bytes.bvecs", (ROWS + 2).astype(np.uint8))
    assert main(["groundtruth", "bytes.bvecs", "queries.npy", "-k", "70", "-o", "t.npz"]) == 0
    with np.load("t.npz") as arrays:
        assert_array_equal(arrays["ids"], reference.nearest(QUERIES, ROWS + 2, 70, "l2").ids)
    index = farann.Index(metric="dot")
    index.add(ROWS, ids=range(100, 160))
    index.save("rows.farann")
    capsys.readouterr()
    assert main(["groundtruth", "rows.farann", "queries.npy", "-k", "2", "-o", "t.ivecs"]) == 0
    assert capsys.readouterr().err.startswith("t.ivecs: 7 queries of 60 rows, ")
    assert_array_equal(open_vectors("t.ivecs").read(),
                       reference.nearest(QUERIES, ROWS, 2, "dot").ids + 100)


def interrupted(monkeypatch: pytest.MonkeyPatch, after: int) -> list[int]:
    """Interrupt the search for the part after so many; the list gets the sizes of batches."""
    search, asked = farann.Index.search_nearest, list[int]()

    def search_some(self: farann.Index, queries: Any, *given: Any, **more: Any) -> farann.Hits:
        if len(asked) == after:
            raise KeyboardInterrupt
        asked.append(len(queries))
        return search(self, queries, *given, **more)

    monkeypatch.setattr(farann.Index, "search_nearest", search_some)
    return asked


@pytest.mark.parametrize("after", range(4))
@pytest.mark.parametrize("kind", ["npz", "ivecs"])
def test_an_interrupted_run_continues(after: int, kind: str, capsys: Capture) -> None:
    out, folder = f"truth.{kind}", Path(f"truth.{kind}.parts")
    assert main([*ASKED, "-o", f"whole.{kind}"]) == 0
    with pytest.MonkeyPatch.context() as patch:
        assert interrupted(patch, after) == [] and main([*ASKED, "-o", out]) == 130
    assert not Path(out).exists() and len([*folder.glob("*")]) == after
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        asked = interrupted(patch, 9)
        assert main([*ASKED, "-o", out]) == 0
    assert asked == [2, 2, 2, 1][after:] and not folder.exists()
    assert Path(out).read_bytes() == Path(f"whole.{kind}").read_bytes()
    assert capsys.readouterr().err.endswith(
        f"; {2 * after} were answered before\n" if after else " s\n")


@pytest.mark.parametrize("change", [
    ["-k", "2"], ["--metric", "dot"], ["--allowed", "some.npy"], "rows.npy", "queries.npy",
    "some.npy", "damaged", "cut", "short", "rounded"])
def test_parts_of_something_else_are_not_taken(change: Any,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    np.save("some.npy", np.arange(50))
    asked = [*ASKED, *["--exclude", "some.npy"] * (change == "some.npy"), "-o", "t.ivecs"]
    with monkeypatch.context() as patch:
        interrupted(patch, 2)
        assert main(asked) == 130
    mine = Path("t.ivecs.parts/mine-0.npz")
    mine.write_bytes(b"kept")
    first, _ = sorted(Path("t.ivecs.parts").glob("*-00000*.npz"))
    if change == "damaged":
        data = bytearray(first.read_bytes())
        data[data.index(b"NUMPY") + 130] ^= 1  # of the first id
        first.write_bytes(data)
    elif change == "cut":
        first.write_bytes(first.read_bytes()[:300])
    elif change in ("short", "rounded"):
        n, kind = (1, np.float64) if change == "short" else (2, np.float32)
        np.savez(first, ids=np.zeros((n, 4), int), scores=np.zeros((n, 4), np.float32),
                 keys=np.zeros((n, 4), kind))
    elif isinstance(change, str):
        np.save(change, np.load(change)[::-1].copy())
    else:
        asked += change
    with monkeypatch.context() as patch:
        batches = interrupted(patch, 9)
        assert main(asked) == 0
    assert len(batches) == (3 if change in ("damaged", "cut", "short", "rounded") else 4)
    assert [*Path("t.ivecs.parts").iterdir()] == [mine]
    found = open_vectors("t.ivecs").read()
    Path("t.ivecs").unlink()
    assert main(asked) == 0
    assert_array_equal(open_vectors("t.ivecs").read(), found)


@pytest.mark.parametrize(("asked", "said"), [
    (["-o", "t.npy"], "t.npy: unknown extension '.npy'; answers are written as .ivecs, .npz, "
                      ".parquet, .csv or .jsonl"),
    (["-o", "-"], "-: unknown extension ''"),
    (["-o", "no/t.npz"], "there is no folder 'no' to write to"),
    (["-k", "0", "-o", "t.npz"], "-k: expected 1 or more, got 0"),
    (["--allowed", "no.npy", "-o", "t.npz"], "no.npy"),
    (["--exclude", "short.txt", "-o", "t.npz"], "short.txt: expected a list for each query (7)"),
])
def test_errors(asked: list[str], said: str, capsys: Capture) -> None:
    Path("short.txt").write_text("1\n")
    assert main([*ASKED, *asked]) == 2
    assert said in capsys.readouterr().err
    assert sorted(path.name for path in Path().iterdir()) == ["queries.npy", "rows.npy",
                                                             "short.txt"]


def test_errors_of_rows(capsys: Capture) -> None:
    Path("words.csv").write_text("id,x,y\na,1,2\nb,3,4\n")
    np.save("wide.npy", np.ones((2, 5)))
    np.save("nan.npy", np.full((2, 4), np.nan, np.float32))
    np.save("none.npy", np.ones((0, 4)))
    for rows, queries, said in (
            ("words.csv", "queries.npy", "words.csv: expected ids that are integers, got strings"),
            ("rows.npy", "wide.npy", "wide.npy: expected queries of dimension 4, as rows.npy has"),
            ("nan.npy", "queries.npy", "nan.npy: expected finite numbers, got NaN in row 0"),
            ("none.npy", "queries.npy", "none.npy: expected vectors, got none"),
            ("rows.npy", "nan.npy", "nan.npy: expected finite numbers, got NaN in row 0"),
            ("no.npy", "queries.npy", "no.npy: No such file")):
        assert main(["groundtruth", rows, queries, "-o", "t.npz"]) == 2
        assert said in capsys.readouterr().err
    assert not [*Path().glob("t.npz*")]
