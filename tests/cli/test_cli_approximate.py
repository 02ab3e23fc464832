"""The command line of approximate search: --cells, --queries, the limits, and tune."""

from __future__ import annotations

import functools
import sys
import warnings
from pathlib import Path

import inside
import numpy as np
import pytest
from approximate_cases import clustered
from cases import Float32

import farann
from farann.cli import main

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def rows() -> Float32:
    return clustered(np.random.default_rng(1), 5000, 8)


@pytest.fixture
def queries() -> Float32:
    return clustered(np.random.default_rng(2), 40, 8)


@pytest.fixture
def place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: Float32, queries: Float32
) -> Path:
    """A folder to work in, with rows, queries and a partitioned index of the rows."""
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", rows)
    np.save("queries.npy", queries)
    assert main(["build", "rows.npy", "-o", "rows.farann", "--cells", "9", "-q",
                 "--metric", "cosine"]) == 0
    return tmp_path


def refused(capsys: Capture, *arguments: str) -> str:
    """What the one line on standard error says of arguments that are not right."""
    capsys.readouterr()
    assert main([*arguments]) == 2
    out, err = capsys.readouterr()
    assert not out and err.startswith("farann: error: ") and err.count("\n") == 1
    return err


class TestBuild:
    def test_cells(self, place: Path, rows: Float32) -> None:
        index = farann.Index(8, "cosine", cells=9)
        index.add(rows)
        index.build().save("expected.farann")
        assert Path("rows.farann").read_bytes() == Path("expected.farann").read_bytes()
        assert main(["build", "rows.npy", "-o", "auto.farann", "--cells", "auto", "-q"]) == 0
        stats = farann.Index.load("auto.farann").stats()
        assert stats["bytes"]["cells"] == 0  # few rows get none

    def test_queries(self, place: Path, rows: Float32, queries: Float32) -> None:
        assert main(["build", "rows.npy", "-o", "with.farann", "-q",
                     "--queries", "queries.npy"]) == 0
        index = farann.Index(8)
        index.add(rows)
        index.build(queries).save("expected.farann")
        assert Path("with.farann").read_bytes() == Path("expected.farann").read_bytes()

    def test_errors(self, place: Path, capsys: Capture) -> None:
        build = ("build", "rows.npy", "-o", "new.farann")
        for wrong, said in (("0", "expected None, 'auto', or an int"),
                            ("-1", "expected None, 'auto', or an int"),
                            ("some", "invalid cells value: 'some'")):
            assert f"--cells: {said}" in refused(capsys, *build, "--cells", wrong)
        assert "partitions need codes" in refused(
            capsys, *build, "--cells", "3", "--codes", "float32")
        np.save("wide.npy", np.ones((2, 9)))
        assert "wide.npy: expected queries of dimension 8" in refused(
            capsys, *build, "--queries", "wide.npy")
        np.save("nan.npy", np.full((2, 8), np.nan))
        assert "nan.npy: expected finite numbers, got NaN in row 0" in refused(
            capsys, *build, "--queries", "nan.npy")
        assert not Path("new.farann").exists()


class TestSearch:
    @pytest.mark.parametrize(
        ("option", "value"), [("recall", 1.0), ("epsilon", 0.25), ("budget", 48)]
    )
    def test_limits(
        self, option: str, value: float, place: Path, queries: Float32
    ) -> None:
        assert main(["search", "rows.farann", "queries.npy", "-k", "5", f"--{option}", str(value),
                     "-o", "out.npz", "-q", "--threads", "1"]) == 0
        index = farann.Index.load("rows.farann")
        expected = index.search_furthest(
            queries, 5, threads=1, **{option: value})  # type: ignore[arg-type]
        with np.load("out.npz") as found:
            assert np.array_equal(found["ids"], expected.ids)
            assert np.array_equal(found["scores"], expected.scores)
        if option == "budget":
            assert not np.array_equal(expected.ids, index.search_furthest(queries, 5).ids)

    def test_errors(self, place: Path, capsys: Capture) -> None:
        search = ("search", "rows.farann", "queries.npy")
        for option in ("recall", "epsilon", "budget", "seconds"):
            assert f"--{option} is not for --beyond" in refused(
                capsys, *search, f"--{option}", "1", "--beyond=1")
        assert main([*search, "--budget", "99", "--nearest", "-o", "near.csv", "-q"]) == 0
        assert "expected at most one limit of a search, got recall and budget" in refused(
            capsys, *search, "--recall", "0.9", "--budget", "9")
        assert "--seconds: expected a number above 0" in refused(capsys, *search, "--seconds", "0")
        assert "--recall: expected a number above 0, at most 1" in refused(
            capsys, *search, "--recall", "95")
        assert "--budget: expected 1 or more, got 0" in refused(capsys, *search, "--budget", "0")


def test_no_table_before_an_error(place: Path, capsys: Capture) -> None:
    build = ["build", "rows.npy", "-o", "codes.farann", "--no-vectors", "-q"]
    assert main(build) == 0
    assert "--no-vectors dropped them: give --recall, or --budget" in refused(
        capsys, "search", "codes.farann", "queries.npy")


class TestTune:
    def test_prints_and_keeps(self, place: Path, capsys: Capture) -> None:
        assert main(["tune", "rows.farann", "-k", "3", "--queries", "queries.npy"]) == 0
        printed = capsys.readouterr().out
        assert "recall@3" in printed.splitlines()[0] and "exact" in printed.splitlines()[-2]
        assert printed.splitlines()[-1].startswith("fastest for recall 0.95: ")
        assert main(["tune", "rows.farann"]) == 0
        index = farann.Index.load("rows.farann")
        assert sorted(inside.tuning.tables_of(index)) == [3, 10]
        assert str(inside.tuning.tables_of(index)[3]).splitlines() == [
            *printed.splitlines()[:-1],
            printed.splitlines()[-1].removesuffix("; search with --recall 0.95")]

    @pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"),
                                                 ("a.pdf", b"%PDF")])
    def test_plots(self, name: str, start: bytes, place: Path) -> None:
        pytest.importorskip("matplotlib")
        assert main(["tune", "rows.farann", "--plot", name]) == 0
        assert Path(name).read_bytes().startswith(start)

    def test_plots_without_matplotlib(
            self, place: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        assert "a.png: this takes matplotlib, which can't be imported" in refused(
            capsys, "tune", "rows.farann", "--plot", "a.png")

    def test_errors(self, place: Path, capsys: Capture) -> None:
        before = Path("rows.farann").read_bytes()
        assert "unknown extension '.txt'" in refused(
            capsys, "tune", "rows.farann", "--plot", "a.txt")
        np.save("wide.npy", np.ones((2, 9)))
        assert "wide.npy: expected queries of dimension 8" in refused(
            capsys, "tune", "rows.farann", "--queries", "wide.npy")
        np.save("none.npy", np.ones((0, 8)))
        assert "none.npy: expected at least one" in refused(
            capsys, "tune", "rows.farann", "--queries", "none.npy")
        assert Path("rows.farann").read_bytes() == before
        farann.Index(8).save("empty.farann")
        assert "empty.farann: the index has no rows" in refused(capsys, "tune", "empty.farann")


@pytest.mark.filterwarnings("default::farann.RecallWarning")
@pytest.mark.parametrize("quiet", [False, True])
def test_warnings_are_remarks(place: Path, queries: Float32, capsys: Capture,
                              monkeypatch: pytest.MonkeyPatch, quiet: bool) -> None:
    """Without a place in Python, and in the words of the command line."""
    asked = farann.Index.search_furthest

    @functools.wraps(asked)
    def warned(index: farann.Index, *arguments: object, **options: object) -> object:
        warnings.warn("recall: lost; give some to tune(queries), or to build(queries)",
                      farann.RecallWarning, stacklevel=2)
        return asked(index, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(farann.Index, "search_furthest", warned)
    capsys.readouterr()
    assert main(["search", "rows.farann", "queries.npy", "-k", "1", "--json", *["-q"] * quiet]) == 0
    said = "--recall: lost; give some to farann tune --queries, or to farann build --queries\n"
    err = capsys.readouterr().err
    assert err == "" if quiet else err.startswith(said) and err.count("\n") == 2, err
