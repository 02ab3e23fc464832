"""Tables with a column of names, JSON lines, and several files as one."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import farann
from farann.cli import main
from farann.vectors import open_vectors, read_ids, write_vectors

ROWS = np.array([[1.0, 2.0], [3.0, 4.5], [-1.0, 0.0], [8.0, 8.0]])
NAMES = ["apple", "pear", "plum", "fig"]
CSV = "name,x,y\n" + "".join(f"{name},{x},{y}\n" for name, (x, y) in zip(NAMES, ROWS, strict=True))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def built(*arguments: str) -> farann.Index:
    assert main(["build", *arguments, "-o", "x.farann", "-q"]) == 0
    return farann.Index.load("x.farann")


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["build", *arguments, "-o", "no.farann"]) == 2
    assert not Path("no.farann").exists()
    return capsys.readouterr().err


def as_csv() -> str:
    Path("a.csv").write_text(CSV)
    return "a.csv"


def as_tsv() -> str:
    Path("a.tsv").write_text(CSV.replace(",", "\t"))
    return "a.tsv"


def as_parquet() -> str:
    pa = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(
        pa.table({"name": NAMES, "x": ROWS[:, 0], "y": ROWS[:, 1]}), "a.parquet")
    return "a.parquet"


@pytest.mark.parametrize("make", [as_csv, as_tsv, as_parquet])
@pytest.mark.parametrize("more", [[], ["--ids", "name"]], ids=["found", "named"])
def test_a_column_of_names_is_the_ids(make: Callable[[], str], more: list[str],
                                      capsys: pytest.CaptureFixture[str]) -> None:
    index = built(make(), *more)
    assert index.ids.tolist() == NAMES and index.dim == 2
    assert_array_equal(index.reconstruct(NAMES), ROWS)
    assert index.search_furthest([0.0, 0.0], k=1).ids.tolist() == ["fig"]
    assert main(["diameter", make(), "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["ids"]) == {"plum", "fig"}


def table_of(kind: str, columns: dict[str, Any]) -> str:
    """A file with some columns; of JSON lines the coordinates, which are floats, are a list."""
    path = f"t.{kind}"
    if kind == "parquet":
        pa = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pa.table(columns), path)
    elif kind == "jsonl":
        lines(*({**{name: each for name, each in zip(columns, row, strict=True)
                    if not isinstance(each, float)},
                 "vector": [each for each in row if isinstance(each, float)]}
                for row in zip(*columns.values(), strict=True)))
        Path("a.jsonl").rename(path)
    else:
        text = io.StringIO()
        writer = csv.writer(text, delimiter="," if kind == "csv" else "\t", lineterminator="\n")
        writer.writerows([columns, *zip(*columns.values(), strict=True)])
        Path(path).write_text(text.getvalue())
    return path


TABLES = ["csv", "tsv", "jsonl", "parquet"]
XY = {"x": ROWS[:, 0].tolist(), "y": ROWS[:, 1].tolist()}


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("name", ["", "id", "IDs", "Index", "Unnamed: 0"])
@pytest.mark.parametrize("ids", [NAMES, [7, 3, 9, 1]], ids=["strings", "integers"])
def test_a_first_column_of_ids(ids: list[Any], name: str, kind: str,
                               capsys: pytest.CaptureFixture[str]) -> None:
    """In each table, for each command that reads one; stderr says so."""
    path = table_of(kind, {name: ids, **XY})
    said = f"ids from {name!r}" if name else "ids from the column without a name"
    assert main(["build", path, "-o", "x.farann"]) == 0
    assert f"{path}: {said}; " in capsys.readouterr().err
    index = farann.Index.load("x.farann")
    assert index.ids.tolist() == ids and index.dim == 2
    assert_array_equal(index.reconstruct(ids), ROWS)
    for command in (["search", "x.farann", path, "-k", "1", "--nearest", "--json"],
                    ["select", path, "-k", "4", "--json"], ["diameter", path, "--json"],
                    ["pairs", path, "99", "--json"], ["tune", "x.farann", "--queries", path]):
        assert main(command) == 0
        out, err = capsys.readouterr()
        assert f"{path}: " in err and ("coordinates 'x', 'y'" in err or kind == "jsonl")
        if command[0] == "search":
            assert [json.loads(line)["ids"] for line in out.splitlines()] == [[id] for id in ids]
        elif command[0] == "select":
            assert sorted(json.loads(out)["ids"]) == sorted(ids)
        elif command[0] == "diameter":
            assert set(json.loads(out)["ids"]) == {ids[2], ids[3]}


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet"])
def test_no_ids(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The first column is a coordinate, in queries, too; words never are."""
    path = table_of(kind, {"id": [7, 3, 9, 1], "name": NAMES, **XY})
    index = built(path, "--ids", "none")
    assert index.ids.tolist() == [0, 1, 2, 3] and index.dim == 3
    assert_array_equal(index.reconstruct([0])[0], [7, *ROWS[0]])
    search = ["search", "x.farann", path, "-k", "1", "--nearest", "--json"]
    assert main([*search, "--ids", "none"]) == 0
    out, err = capsys.readouterr()
    assert [json.loads(line)["ids"] for line in out.splitlines()] == [[0], [1], [2], [3]]
    assert f"{path}: coordinates 'id', 'x', 'y'; left out 'name'" in err
    assert main(search) == 2  # an error that names the columns
    assert (f"{path}: expected queries of dimension 3, as x.farann has, got 2: coordinates 'x', "
            "'y'; left out 'id', 'name'; --ids none leaves out words alone"
            ) in capsys.readouterr().err
    for command in (["select", path, "-k", "4"], ["diameter", path], ["pairs", path, "99"]):
        assert main([*command, "--ids", "none", "--json"]) == 0
        out, err = capsys.readouterr()
        assert set(np.ravel(json.loads(out)["ids"])) <= {0, 1, 2, 3}
        assert "ids are row numbers; coordinates 'id', 'x', 'y'; left out 'name'" in err
        assert main([*command, "--ids", "name", "--json"]) == 0
        out, err = capsys.readouterr()
        assert set(np.ravel(json.loads(out)["ids"])) <= set(NAMES)
        assert "ids from 'name'; coordinates 'x', 'y'; left out 'id'" in err
    assert main(["tune", "x.farann", "--queries", path, "--ids", "none"]) == 0
    built(path)
    assert main(["select", "x.farann", "-k", "2", "--ids", "name"]) == 2
    assert "--ids: an index has its own ids; leave it out" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet"])
def test_a_column_to_leave_out_of_queries(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = table_of(kind, {"x": XY["x"], "key": [7, 3, 9, 1], "y": XY["y"]})
    index = built(path, "--ids", "key", "--queries", path)
    assert index.ids.tolist() == [7, 3, 9, 1] and index.dim == 2
    search = ["search", "x.farann", path, "-k", "1", "--nearest", "--json"]
    assert main(search) == 2
    assert "got 3: coordinates 'x', 'key', 'y'; --ids NAME leaves out" in capsys.readouterr().err
    assert main([*search, "--ids", "key"]) == 0
    out, err = capsys.readouterr()
    assert [json.loads(line)["ids"] for line in out.splitlines()] == [[7], [3], [9], [1]]
    assert f"{path}: coordinates 'x', 'y'; left out 'key'" in err
    tune = ["tune", "x.farann", "--queries", path]
    assert main([*tune, "--ids", "key"]) == 0
    Path("ids.txt").write_text("7\n")
    for command in (search, tune):
        for other in ("kay", "ids.txt"):
            assert main([*command, "--ids", other]) == 2
            assert (f"--ids: beside queries expected a column of {path} or none, got {other!r}; "
                    "there are: 'x', 'key', 'y'") in capsys.readouterr().err
    np.save("q.npy", ROWS)  # where the rows alone have such a column
    assert built(path, "--ids", "key", "--queries", "q.npy").dim == 2


def test_ids_that_are_numbers_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    """A later column is a coordinate, whatever it is called, and stderr says so."""
    path = table_of("csv", {"x": [0, 1], "id": [7, 9], "y": [3, 4]})
    assert main(["build", path, "-o", "x.farann"]) == 0
    remark = "'id' is no first column and so a coordinate: --ids id takes it for ids"
    assert f"ids are row numbers; coordinates 'x', 'id', 'y'; {remark}\n" in (
        capsys.readouterr().err)
    assert main(["build", path, "-o", "x.farann", "--ids", "none"]) == 0
    assert remark not in capsys.readouterr().err
    assert built(path, "--ids", "id").ids.tolist() == [7, 9]
    assert built(path, "--ids", "id").dim == 2


def test_frames_of_pandas(capsys: pytest.CaptureFixture[str]) -> None:
    pandas = pytest.importorskip("pandas")
    rows = np.random.default_rng(0).standard_normal((9, 4))
    for frame in (pandas.DataFrame(rows), pandas.DataFrame(rows, columns=list("abcd"))):
        frame.to_csv("a.csv", index=False)
        assert_array_equal(built("a.csv").reconstruct(range(9)), rows.astype(np.float32))
        frame.to_csv("a.csv")
        assert_array_equal(built("a.csv").reconstruct(range(9)), rows.astype(np.float32))
        frame.index = 10 + np.arange(9)
        frame.to_csv("a.csv")
        assert built("a.csv").ids.tolist() == list(range(10, 19))
        frame.columns = frame.columns.astype(str)
        pytest.importorskip("pyarrow")
        frame.to_parquet("a.parquet")  # puts its index last
        index = built("a.parquet")
        assert index.ids.tolist() == list(range(10, 19)) and index.dim == 4


@pytest.mark.parametrize("name", ["id", "key", None])
def test_an_index_of_pandas_is_no_coordinate(name: str | None) -> None:
    """It comes last in Parquet; a first column of ids goes before it."""
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    frame = pandas.DataFrame(XY, index=pandas.Index([7, 3, 9, 1], name=name))
    for frames in (frame, frame.assign(vector=ROWS.tolist())[["vector"]]):
        frames.to_parquet("a.parquet")
        index = built("a.parquet")
        assert index.ids.tolist() == [7, 3, 9, 1] and index.dim == 2
    frame.insert(0, "ids", [5, 6, 8, 4])
    frame.to_parquet("a.parquet")
    index = built("a.parquet")
    assert index.ids.tolist() == [5, 6, 8, 4]
    assert_array_equal(index.reconstruct([5, 6, 8, 4]), ROWS)
    pandas.DataFrame({"score": [1, 2, 3, 4]}, pandas.Index([4, 8, 6, 5], name=name)).to_parquet(
        "s.parquet")
    assert main(["select", "x.farann", "--scores", "s.parquet", "-k", "4", "-o", "o.txt"]) == 0
    assert Path("o.txt").read_text().split() == ["5", "6", "8", "4"]


@pytest.mark.parametrize(("lines_of", "n_rows"), [
    (["0,1,2", "0.5,1.0,2.5", "1,0,3"], 2),
    (["0,1,2,3,4,5,6,7", "1,0,0,9,0,0,0,0"], 1),
    (["0,1,2"], 1), (["0,1,2", "3,4,5"], 2), (["0,1", "0.5,2.5"], 2), (["0,1,3", ".5,.5,.5"], 2),
    (["0,1,2,3,4,5,6,7", "8,9,10,11,12,13,14,15"], 2)])
def test_names_that_are_numbers(lines_of: list[str], n_rows: int,
                                capsys: pytest.CaptureFixture[str]) -> None:
    """Frames of pandas have such: above fractions, or many, but not in rows that go on counting."""
    Path("a.csv").write_text("\n".join(lines_of) + "\n")
    assert main(["build", "a.csv", "-o", "x.farann"]) == 0
    index = farann.Index.load("x.farann")
    assert (len(index), index.dim) == (n_rows, lines_of[0].count(",") + 1)
    has_names = n_rows < len(lines_of)
    err = capsys.readouterr().err
    assert ("a.csv: ids are row numbers; coordinates '0', '1', '2'" in err) == has_names
    assert ("a.csv: the first line, 0, 1, 2, ..., is taken as a row" in err) == (
        not has_names and lines_of[0].startswith("0,1,2"))
    assert_array_equal(index.reconstruct(0), np.array(lines_of[has_names].split(","), np.float32))


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_words_beside_lists_are_ids(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    def made(**columns: Any) -> str:
        if kind == "parquet":
            parquet.write_table(pa.table(columns), "a.parquet")
        else:
            lines(*(dict(zip(columns, row, strict=True))
                    for row in zip(*columns.values(), strict=True)))
        return f"a.{kind}"

    vectors = ROWS.tolist()
    assert built(made(vector=vectors, name=NAMES)).ids.tolist() == NAMES
    assert built(made(vector=vectors, tags=[["a"]] * 4, stars=[1, 2, 3, 4])).ids.tolist() == [
        0, 1, 2, 3]
    for id in ("id", "IDs", "index"):  # before words, wherever it is
        path = made(vector=vectors, name=NAMES, **{id: [7, 3, 9, 1]})
        assert built(path).ids.tolist() == [7, 3, 9, 1]
    assert built(path, "--ids", "name").ids.tolist() == NAMES
    two = made(vector=vectors, name=NAMES, color=["red"] * 4)
    assert "columns 'name', 'color' have words" in refused(capsys, two)
    assert built(two, "--ids", "name").ids.tolist() == NAMES
    assert built(two, "--ids", "none").ids.tolist() == [0, 1, 2, 3]


def test_files_with_nothing_in_them(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is left out; of no groups and of nothing allowed nothing is found."""
    np.save("rows.npy", ROWS)
    Path("none.txt").write_text("")
    np.save("none.npy", [])
    for more in ([], ["--ids", as_csv() + ":name"]):
        built("rows.npy", *more, "--groups", as_csv() + ":name")
        search = ["search", "x.farann", "rows.npy", "-k", "2", "-q", "-o", "-"]
        assert main(search) == 0
        everything = capsys.readouterr().out
        for option, wanted in (("--exclude", everything), ("--outside-groups", everything),
                               ("--allowed", "query,rank,id,score\n")):
            for file in ["none.txt", "none.npy"][: 1 if more else 2]:
                assert main([*search, option, file]) == 0
                assert capsys.readouterr().out == wanted


@pytest.mark.parametrize("named", [False, True])
def test_at_most_some_rows_of_a_group(named: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """In every form of output there is the group of each row."""
    rows = np.arange(12, dtype=np.float32)[:, np.newaxis]
    index = farann.Index()
    index.add(rows, groups=[f"g{i % 3}" if named else i % 3 - 1 for i in range(12)])
    index.save("x.farann")
    np.save("rows.npy", rows[:2])
    search = ["search", "x.farann", "rows.npy", "-k", "4", "-q", "--per-group", "1"]
    groups = ["g2", "g1", "g0"] if named else [1, 0, -1]
    assert main([*search, "-o", "-"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["query,rank,id,score,group", f"0,1,11,11.0,{groups[0]}"]
    assert len(lines) == 7
    assert main([*search, "--json"]) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    assert first == {"query": 0, "ids": [11, 10, 9], "scores": [11.0, 10.0, 9.0], "groups": groups}
    assert main(search) == 0
    table = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert table[0][-1] == "group"
    assert table[2] == ["0", "2", "10", "10.00000", str(groups[1])]
    assert main([*search, "-o", "x.npz"]) == 0
    found = np.load("x.npz")
    assert found["groups"].tolist() == 2 * [[*groups, "" if named else -1]]
    without_k = [one for one in search if one not in ("-k", "4")]
    assert main([*without_k, "--within", "1"]) == 2
    assert "--per-group is not for --within" in capsys.readouterr().err


def test_long_ids_in_little_memory(capsys: pytest.CaptureFixture[str]) -> None:
    """In arrays of numpy each takes as much as the longest."""
    index = farann.Index()
    index.add(np.ones((2, 1)), ["x" * 60_000, "y"])
    index.save("x.farann")
    np.save("rows.npy", np.ones((600, 1)))
    assert main(["search", "x.farann", "rows.npy", "-k", "2", "-o", "o.npz"]) == 2
    assert "288000000 bytes for ids of this length; write .jsonl" in capsys.readouterr().err
    assert main(["search", "x.farann", "rows.npy", "-k", "2", "-o", "o.jsonl"]) == 0
    Path("log.csv").write_text("user,item,label\n" + "u,i,1\n" * 2000 + "u" * 60_000 + ",i,0\n")
    assert main(["posneg", "evaluate", "log.csv"]) == 2
    assert "log.csv: row 2000: expected users and items of at most 256 characters, got 60000" in (
        capsys.readouterr().err)


def test_columns_of_files_that_follow_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    for name, head in (("a", "id,x,y"), ("b", "id,y,x"), ("c", "id,x,y")):
        Path(f"{name}.csv").write_text(f"{head}\n{ord(name)},1,2\n")
    assert "b.csv: expected the columns of a.csv, 'id', 'x', 'y', got 'id', 'y', 'x'" in refused(
        capsys, "a.csv", "b.csv")
    assert built("a.csv", "c.csv").ids.tolist() == [97, 99]


def test_ids_with_line_ends_in_csv() -> None:
    """Readers take a carriage return for a line end unless it is quoted."""
    names = ["a\rb", "c\r\nd", "e\nf", 'g,"h']
    index = farann.Index()
    index.add(ROWS, names)
    index.save("x.farann")
    np.save("rows.npy", ROWS)
    assert main(["search", "x.farann", "rows.npy", "-k", "1", "--nearest", "-o", "o.csv"]) == 0
    with open("o.csv", newline="") as stream:
        assert [row[2] for row in csv.reader(stream)] == ["id", *names]


def test_names_of_columns_that_are_odd(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.csv").write_text("na:me\x1b[2J,x.y\napple,1\npear,2\n")
    assert main(["build", "a.csv", "-o", "x.farann"]) == 0
    assert farann.Index.load("x.farann").ids.tolist() == ["apple", "pear"]
    assert "\x1b" not in capsys.readouterr().err
    Path("b.csv").write_text("a:b,id.no,x\n5,apple,1\n6,pear,2\n")
    assert built("b.csv", "--ids", "a:b").ids.tolist() == [5, 6]
    assert built("b.csv", "--ids", "id.no").ids.tolist() == ["apple", "pear"]


@pytest.mark.parametrize(("text", "said"), [
    ("id,x\n,2\n1.0,3\n", "row 0: expected a string in 'id', got nothing"),
    ("id,x\n1,2\n,3\n", "line 3: expected an integer in column 'id', got ''"),
    ("id,x\n1,2\n123456789012345678901,3\n",
     "line 3: expected an integer that int64 can hold in column 'id', got '1234567890"),
    ('name,x\nfig,2\n"a\nb",3\n', "fields in quotes can't have line breaks here"),
    ("id;x\n1;2,5\n", "by commas or tabs, not by semicolons"),
    ("1;2\n3;4\n", "by commas or tabs, not by semicolons")])
def test_gaps_in_ids_and_semicolons(text: str, said: str,
                                    capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.csv").write_text(text)
    error = refused(capsys, "a.csv")
    assert "a.csv: " in error and said in error


def test_ids_of_a_first_column_that_are_none(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.csv").write_text("id,x\n1.5,2\n2.5,3\n")
    assert "fractions; --ids none takes no column for ids" in refused(capsys, "a.csv")
    assert built("a.csv", "--ids", "none").dim == 2
    Path("a.csv").write_text("id\n1\n2\n")
    assert "a.csv: expected coordinates beside 'id', got none; --ids none" in refused(
        capsys, "a.csv")
    assert built("a.csv", "--ids", "none").dim == 1


@pytest.mark.parametrize(("word", "times", "took"), [
    ("w" * 60_000, 100_000, 65_536 * 60_000), ("w", 9_000_000, 72_000_000)])
def test_parquet_of_words_in_little_memory(word: str, times: int, took: int,
                                           capsys: pytest.CaptureFixture[str]) -> None:
    """Long or short, a word is in the file but once."""
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    built(as_csv())
    parquet.write_table(pa.table({"ids": pa.DictionaryArray.from_arrays(
        np.zeros(times, np.int32), [word])}), "big.parquet", compression="zstd")
    assert os.path.getsize("big.parquet") < 100_000
    before = pa.default_memory_pool().max_memory()
    for command in (["select", "x.farann", "-k", "1", "--allowed"], ["search", "x.farann", "--ids"],
                    ["build", "a.csv", "-o", "no.farann", "--ids"],
                    ["build", "a.csv", "-o", "no.farann", "--groups"]):
        name = ":ids" if "--groups" in command else ""
        assert main([*command, f"big.parquet{name}"]) == 2
        said = capsys.readouterr().err
        assert "big.parquet: expected at most 67108864 bytes of " in said
        assert f"once unpacked, got {took}; the limit is" in said
    assert pa.default_memory_pool().max_memory() <= max(before, 100 << 20)
    assert main(["select", "x.farann", "-k", "1", "--allowed", "a.csv:name", "--max-bytes", "9"]
                ) == 2
    assert "a.csv: expected at most 9 bytes of text once unpacked, got 13" in (
        capsys.readouterr().err)


@pytest.mark.parametrize(("text", "words"), [
    ("name,color,x\napple,red,1\nplum,blue,2\n", "columns 'name', 'color' have words"),
    ("x,y\n1,2\nNA,3\n", "line 3: expected a number in column 'x', got 'NA'"),
    ("x,y\nNA,2\n1,3\n", "line 2: expected a number in column 'x', got 'NA'"),
    ("name,x\napple,1\npear,red\n", "line 3: expected a number in column 'x', got 'red'"),
    (CSV.replace("pear", "apple"), "ids: expected each id once"),
])
def test_tables_that_are_refused(text: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.csv").write_text(text)
    assert words in refused(capsys, "a.csv")


def test_a_column_that_there_isnt(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no column is called 'sku'; there are: name, x, y" in refused(
        capsys, as_csv(), "--ids", "sku")


@pytest.mark.parametrize("labels", [["red", "green", "red", "blue"], [7, 8, 7, 9]])
@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet"])
def test_names_and_groups_are_columns_of_one_table(kind: str, labels: list[Any],
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    path = f"a.{kind}"
    if kind == "parquet":
        pa = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pa.table(
            {"color": labels, "x": ROWS[:, 0], "name": NAMES, "y": ROWS[:, 1]}), path)
    else:
        table = [("color", "x", "name", "y"),
                 *zip(labels, ROWS[:, 0], NAMES, ROWS[:, 1], strict=True)]
        text = "\n".join(",".join(map(str, line)) for line in table)
        Path(path).write_text(text if kind == "csv" else text.replace(",", "\t"))
    for more in ([], ["--ids", "name"]):
        index = built(path, *more, "--groups", "color")
        assert index.ids.tolist() == NAMES and index.groups().tolist() == labels
        assert_array_equal(index.reconstruct(NAMES), ROWS)
    Path("only.txt").write_text(f"{labels[1]}\n{labels[3]}\n")
    for option, wanted in (("--groups", {"pear", "fig"}), ("--outside-groups", {"apple", "plum"})):
        assert main(["select", "x.farann", "-k", "9", option, "only.txt", "-q"]) == 0
        assert set(capsys.readouterr().out.split()) == wanted
    if labels[0] == "red":  # what else has words is no coordinate of a query
        assert main(["search", "x.farann", path, "-k", "1", "--nearest", "--json", "-q"]) == 0
        assert [json.loads(line)["ids"] for line in capsys.readouterr().out.splitlines()] == [
            [name] for name in NAMES]
    said = refused(capsys, path, "--groups", "colour", "--ids", "name")
    assert "no column is called 'colour'; there are: color, name, x, y" in said or kind == "parquet"


def test_scores_by_ids(capsys: pytest.CaptureFixture[str]) -> None:
    """In any order, with those of rows that aren't there; without ids in the order of the rows."""
    built(as_csv())
    scores = dict(zip(NAMES, [0.1, 0.9, 0.5, 0.7], strict=True))
    turned = [("kiwi", 2.0), *list(scores.items())[::-1]]
    Path("s.csv").write_text("score,name\n" + "".join(f"{s},{name}\n" for name, s in turned))
    Path("t.tsv").write_text("name\tn\tscore\n" + "".join(
        f"{name}\t3\t{s}\n" for name, s in turned))
    Path("s.txt").write_text("".join(f"{s}\n" for s in scores.values()))
    Path("plain.csv").write_text(Path("s.txt").read_text())
    for file in ("s.csv", "s.csv:score", "t.tsv:score", "s.txt", "plain.csv"):
        assert main(["select", "x.farann", "--scores", file, "-k", "3", "--radius", "0", "-q"]) == 0
        assert capsys.readouterr().out.split() == ["pear", "fig", "plum"]
    np.save("rows.npy", ROWS)
    Path("n.csv").write_text("id,score\n2,0.5\n1,0.9\n0,0.1\n3,0.7\n")
    for file in ("n.csv", "n.csv:score", "s.txt"):
        assert main(["select", "rows.npy", "--scores", file, "-k", "3", "--radius", "0", "-q"]) == 0
        assert capsys.readouterr().out.split() == ["1", "3", "2"]
    Path("few.csv").write_text("name,score\napple,1\nfig,2\n")
    Path("twice.csv").write_text(Path("s.csv").read_text() + "4,fig\n")
    Path("bad.txt").write_text("1\nx\n")
    for file, words in (("few.csv", "got 2 scores of 2 ids, none for 'pear'"),
                        ("twice.csv", "each id once, got 6 scores of 5 ids"),
                        ("t.tsv", "expected a score for each id, and each id once, got 10 scores"),
                        ("bad.txt", "could not convert string 'x'")):
        assert main(["select", "x.farann", "--scores", file, "-k", "3", "-q"]) == 2
        error = capsys.readouterr().err
        assert file in error and words in error


def test_errors_speak_of_options(capsys: pytest.CaptureFixture[str]) -> None:
    built(as_csv())
    Path("likes.txt").write_text("apple\n")
    for options, said in ((["--likes", "likes.txt"], "--likes and --dislikes"),
                          (["a.csv", "--diversity", "0.5"], "--diversity")):
        assert main(["search", "x.farann", *options]) == 2
        assert f"{said}: expected an index with --metric dot or cosine, got 'l2'" in (
            capsys.readouterr().err)


# JSON lines


def lines(*records: Any) -> str:
    Path("a.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return "a.jsonl"


def test_json_lines() -> None:
    path = lines(*({"id": name, "vector": row, "stars": 3}
                   for name, row in zip(NAMES, ROWS.tolist(), strict=True)))
    assert_array_equal(open_vectors(path).read(), ROWS)
    assert_array_equal(open_vectors("a.jsonl:vector").read(), ROWS)
    index = built(path, "--ids", "id")
    assert index.ids.tolist() == NAMES
    assert built(path).ids.tolist() == NAMES
    assert_array_equal(open_vectors(lines(*ROWS.tolist())).read(), ROWS)
    write_vectors("b.jsonl", ROWS)
    assert_array_equal(open_vectors("b.jsonl").read(), ROWS)
    assert read_ids(f"{lines({'n': 3}, {'n': 2**62})}:n").tolist() == [3, 2**62]


def test_json_lines_come_and_go(monkeypatch: pytest.MonkeyPatch,
                                capsys: pytest.CaptureFixture[str]) -> None:
    """What is found can be asked for again."""
    built(as_csv())
    text = "".join(json.dumps({"vector": row}) + "\n" for row in ROWS.tolist())
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert main(["search", "x.farann", "-", "-k", "2", "--json", "-q"]) == 0
    found = [json.loads(line)["ids"] for line in capsys.readouterr().out.splitlines()]
    index = farann.Index.load("x.farann")
    assert found == index.search_furthest(ROWS, k=2).ids.tolist()


@pytest.mark.parametrize(("records", "name", "words"), [
    ([[1, 2], [3]], "", "line 2: expected 2 numbers, got [3]"),
    ([[1, 2], [3, None]], "", "line 2: expected 2 numbers, got [3, null]"),
    ([[1, 2], [3, True]], "", "line 2: expected 2 numbers"),
    ([{"a": [1], "b": [2]}], "", "holds several: a, b; say which as a.jsonl:NAME"),
    ([{"a": [1]}, {"b": [2]}], "", "line 2: expected 1 numbers, got null"),
    ([{"a": [1]}, [2]], "", "line 2: expected 1 numbers, got null"),
    ([{"a": "x"}], "", "holds no field of numbers"),
    ([[1]], ":a", "lines are lists without names, got 'a'"),
    ([[]], "", "expected vectors"),
])
def test_json_lines_that_are_refused(records: list[Any], name: str, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        open_vectors(lines(*records) + name).read()
    assert words in str(caught.value) and "a.jsonl" in str(caught.value)


def test_json_lines_that_are_none() -> None:
    for text in ("{\n", "[1, 2]\n[1,\n", "[" * 100_000 + "\n", "[1, NaN]\n[1]\n"):
        Path("a.jsonl").write_text(text)
        with pytest.raises(ValueError, match="a.jsonl: line"):
            open_vectors("a.jsonl").read()
    Path("a.jsonl").write_text("")
    with pytest.raises(ValueError, match="expected vectors"):
        open_vectors("a.jsonl")


# Several files


def test_several_files_are_one() -> None:
    np.save("a.npy", ROWS[:1].astype(np.float32))
    np.save("b.npy", ROWS[1:3].astype(np.float16))
    Path("c.csv").write_text("8,8\n")
    for given in (["a.npy", "b.npy", "c.csv"], ["[ab].npy", "c.csv"]):
        found = open_vectors(given)
        assert (found.rows, found.dim) == (4, 2) and found.dtype == np.float64
        assert_array_equal(found.read(), ROWS)
        assert [len(block) for block in found.blocks(1)] == [1, 1, 1, 1]
        assert_array_equal(found.map(), ROWS)
        assert_array_equal(built(*given).reconstruct(range(4)), ROWS)


def test_a_folder_of_parquet() -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    Path("parts").mkdir()
    Path("parts/_SUCCESS").write_text("")
    for number, some in enumerate((slice(0, 3), slice(3, 4))):
        parquet.write_table(pa.table({"name": NAMES[some], "embedding": ROWS[some].tolist()}),
                            f"parts/{number}.parquet")
    assert_array_equal(open_vectors("parts").read(), ROWS)
    assert_array_equal(open_vectors("parts:embedding").read(), ROWS)
    assert built("parts", "--ids", "name").ids.tolist() == NAMES


def test_files_that_do_not_go_together(capsys: pytest.CaptureFixture[str]) -> None:
    np.save("a.npy", ROWS)
    np.save("b.npy", ROWS[:, :1])
    assert "b.npy: expected vectors of dimension 2, as a.npy has, got 1" in refused(
        capsys, "a.npy", "b.npy")
    Path("empty").mkdir()
    for nothing in ("empty", "z*.npy"):
        assert f"{nothing}: expected files of vectors" in refused(capsys, nothing)
    with pytest.raises(ValueError, match="expected one or more"):
        open_vectors([])
    assert main(["build", "*.npy", "-o", "a.npy"]) == 2
    assert "this would overwrite a file that is read" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["id", "ids"])
@pytest.mark.parametrize("ids", [NAMES, [7, 3, 9, 1]], ids=["strings", "integers"])
def test_ids_beside_lists_of_numbers_are_found(name: str, ids: list[Any]) -> None:
    pa = pytest.importorskip("pyarrow")
    Path("a.jsonl").write_text("".join(
        json.dumps({name: id, "vector": row.tolist()}) + "\n"
        for id, row in zip(ids, ROWS, strict=True)))
    Path("parts").mkdir()
    for i in range(2):
        pytest.importorskip("pyarrow.parquet").write_table(pa.table(
            {name: ids[2 * i:2 * i + 2], "text": ["a b", "c"],
             "vector": ROWS[2 * i:2 * i + 2].tolist()}), f"parts/{i}.parquet")
    for file in ("a.jsonl", "parts"):
        index = built(file)
        assert index.ids.tolist() == ids
        assert_array_equal(index.reconstruct(ids), ROWS.astype(np.float32))


def test_queries_may_have_a_column_of_names(capsys: pytest.CaptureFixture[str]) -> None:
    file = as_csv()
    built(file)
    assert main(["search", "x.farann", file, "-k", "1", "--json", "-q"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["ids"] for one in lines] == [["fig"], ["fig"], ["fig"], ["plum"]]
