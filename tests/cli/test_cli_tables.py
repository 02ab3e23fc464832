"""Tables with a column of names, JSON lines, and several files as one."""

from __future__ import annotations

import io
import json
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


def test_ids_that_are_numbers_are_no_coordinate() -> None:
    Path("a.csv").write_text("id,x,y\n7,1,2\n9,3,4\n")
    assert built("a.csv", "--ids", "id").ids.tolist() == [7, 9]
    assert built("a.csv").dim == 3  # nothing says that they are ids


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
