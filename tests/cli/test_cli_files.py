"""The command line: CSV, Parquet and JSON, in and out; standard input and output; HDF5 groups."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import farann
from farann.cli import main
from farann.vectors import open_vectors, read_id_lists, read_ids, write_vectors

Capture = pytest.CaptureFixture[str]
ROWS = np.random.default_rng(1).standard_normal((300, 8), dtype=np.float32)
QUERIES = np.random.default_rng(2).standard_normal((7, 8), dtype=np.float32)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with rows, queries and an index of the rows."""
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", ROWS)
    np.save("queries.npy", QUERIES)
    index = farann.Index(8)
    index.add(ROWS)
    index.save("rows.farann")
    return tmp_path


def given(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """Put something on standard input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def answers(k: int = 3) -> farann.Hits:
    return farann.Index.load("rows.farann").search_furthest(QUERIES, k)


class TestText:
    @pytest.mark.parametrize("suffix", [".csv", ".tsv"])
    def test_there_and_back(self, suffix: str) -> None:
        write_vectors(f"rows{suffix}", ROWS)
        source = open_vectors(f"rows{suffix}")
        assert (source.rows, source.dim, str(source.dtype), source.kept_as) == (
            300, 8, "float64", "float32")
        assert_array_equal(source.read().astype(np.float32), ROWS)
        assert [len(block) for block in source.blocks(100 * 8 * 8)] == [100, 100, 100]
        with pytest.raises(ValueError, match="text is written without names"):
            write_vectors(f"rows{suffix}", ROWS, "x")

    def test_names_of_columns(self) -> None:
        Path("a.csv").write_text('\ufeffids,x,"y, z"\r\n5,1,2\r\n\r\n900,-3e2,.5\r\n', "utf-8")
        assert_array_equal(open_vectors("a.csv").read(), [[5, 1, 2], [900, -300, 0.5]])
        assert_array_equal(open_vectors("a.csv:y, z").read(), [[2], [0.5]])
        assert_array_equal(read_ids("a.csv"), [5, 900])
        Path("lists.csv").write_text("1,2\n3,-1\n")
        assert_array_equal(read_id_lists("lists.csv", 2), [[1, 2], [3, -1]])

    @pytest.mark.parametrize(("text", "expected"), [
        ("1,2\n3\n", "line 2: expected 2 fields, got 1"),
        ("1,2\n3,4,5\n", "line 2: expected 2 fields, got 3"),
        ("x,y\n1,2\n3,four\n", "line 3: expected a number in column 'y', got 'four'"),
        ("1,2\n3,\n", "line 2: expected a number, got ''"),
        ("1,2\n# 3,4\n", "line 2: expected a number, got '# 3'"),
        ("1,\n3,4\n", "line 1: expected numbers, or names of columns, got both: '' and '1'"),
        ("1,NA\n3,4\n", "line 1: expected numbers, or names of columns, got both: 'NA' and '1'"),
        ("", "expected vectors, an array of shape"),
    ])
    def test_faults_are_named(self, text: str, expected: str) -> None:
        Path("a.csv").write_text(text)
        with pytest.raises(ValueError) as caught:
            open_vectors("a.csv").read()
        assert str(caught.value).startswith(f"a.csv: {expected}")

    def test_other_faults(self) -> None:
        Path("a.csv").write_bytes(b"1,2\n\xff,3\n")
        with pytest.raises(ValueError, match=r"^a\.csv: "):
            open_vectors("a.csv")
        Path("a.csv").write_text("1,2\n")
        with pytest.raises(ValueError, match="no names of columns, got 'x'"):
            open_vectors("a.csv:x")
        with pytest.raises(ValueError, match="at most 15 bytes of numbers"):
            open_vectors("a.csv", max_bytes=15)
        Path("a.csv").write_text("ids,x\n1.5,2\n")
        with pytest.raises(ValueError, match=r"line 2: expected an integer in .*got '1\.5'"):
            read_ids("a.csv")

    def test_build_and_search(self, capsys: Capture) -> None:
        names = [f"row {i}" for i in range(300)]
        lines = ["name,group," + ",".join(f"x{j}" for j in range(8))]
        lines += [",".join([names[i], str(i % 5), *map(str, ROWS[i])]) for i in range(300)]
        Path("rows.csv").write_text("\n".join(lines))
        write_vectors("plain.csv", ROWS)
        write_vectors("queries.csv", QUERIES)
        assert main(["build", "plain.csv", "-o", "n.farann", "-q", "--ids", "rows.csv:name",
                     "--groups", "rows.csv:group"]) == 0
        index = farann.Index.load("n.farann")
        assert index.ids.tolist() == names
        capsys.readouterr()
        assert main(["search", "n.farann", "queries.csv", "-k", "3", "-q", "--json"]) == 0
        found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [line["query"] for line in found] == list(range(7))
        assert [line["ids"] for line in found] == [[names[i] for i in ids] for ids in answers().ids]
        Path("groups.csv").write_text("group,more\n" + "3,0\n" * 7)
        assert main(["search", "n.farann", "queries.npy", "-q", "-o", "o.csv", "-k", "2",
                     "--groups", "groups.csv:group"]) == 0
        listed = Path("o.csv").read_text().splitlines()[1:]
        assert {int(line.split(",")[2].removeprefix("row ")) % 5 for line in listed} == {3}

    def test_files_of_names(self, capsys: Capture) -> None:
        names = ['a, "x"', "b\nc", *map(str, range(298))]
        quoted = [name if name.isdecimal() else '"' + name.replace('"', '""') + '"'
                  for name in names]
        Path("ids.csv").write_text("id,shelf\r\n" + "".join(f"{one},7\r\n" for one in quoted))
        Path("one.csv").write_text("id\n" + "".join(f"n{i}\n" for i in range(300)))
        Path("long.csv").write_text("ids,x\n" + "y" * 200_000 + ",1\n")
        build = ["build", "rows.npy", "-o", "n.farann", "-q", "--ids"]
        assert main([*build, "ids.csv:id", "--groups", "ids.csv:shelf"]) == 0
        index = farann.Index.load("n.farann")
        assert index.ids.tolist() == names and set(index.groups()) == {7}
        assert main(["info", "n.farann"]) == 0
        assert "\n  groups     1\n" in capsys.readouterr().out
        for file, said in (("ids.csv", "ids.csv: holds several: id, shelf; say which as ids.csv:N"),
                           ("one.csv", "FILE:NAME says that the first line is a name"),
                           ("long.csv", "long.csv: field larger than field limit"),
                           ("ids.csv:x", "ids.csv: no column is called 'x'; there are: id, shel")):
            assert main([*build, file]) == 2
            assert said in capsys.readouterr().err
        assert main([*build, "one.csv:id"]) == 0
        assert main(["select", "n.farann", "-k", "2", "--start", "n7", "-q"]) == 0
        assert capsys.readouterr().out.splitlines()[0] == "n7"
        Path("seen.txt").write_text("n7\nn9\n")
        assert main(["select", "n.farann", "-k", "1", "-q", "--first", "seen.txt"]) == 0
        assert capsys.readouterr().out.splitlines() == [
            str(id) for id in farann.Index.load("n.farann").select_diverse(
                1, first=["n7", "n9"]).ids]
        capsys.readouterr()

    def test_names_on_a_terminal(self, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("rich")
        index = farann.Index(8)
        index.add(ROWS[:2], ids=["a:dog:b [red]c[/red] " + "d" * 200, "\x1b[2Jé\n"])
        index.save("n.farann")
        search = ["search", "n.farann", "queries.npy", "-k", "2", "-q"]
        assert main(search) == main(["diameter", "n.farann"]) == 0
        plain = capsys.readouterr().out
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        assert main(search) == 0
        folded = "".join(capsys.readouterr().out.split())
        for out, times in ((plain, 8), (folded, 7)):
            assert "\\x1b[2Jé\\n" in out and "\x1b[2J" not in out
            assert ":dog:b" in out and "[red]c[/red]" in out and out.count("d" * 200) == times

    def test_columns_of_names(self, capsys: Capture) -> None:
        arrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        names = [f"n{i}" for i in range(300)]
        parquet.write_table(arrow.table({"id": names, "groups": range(300), "x": [None, *names[1:]],
                                         "y": [[name] for name in names]}), "a.parquet")
        build = ["build", "rows.npy", "-o", "n.farann", "-q", "--groups", "a.parquet", "--ids"]
        assert main([*build, "a.parquet:id"]) == 0
        index = farann.Index.load("n.farann")
        assert index.ids.tolist() == names and index.groups().tolist() == list(range(300))
        for file, said in (("a.parquet", "holds several: groups, id, x, y; say which as a.parquet"),
                           ("a.parquet:x", "row 0: expected a string in 'x', got None"),
                           ("a.parquet:y", "expected numbers or words in 'y', got list<")):
            assert main([*build, file]) == 2
            assert said in capsys.readouterr().err

    def test_a_byte_order_mark_is_no_part_of_an_id(self) -> None:
        for first, wanted in (("n", [f"n{i}" for i in range(300)]), ("", list(range(300)))):
            lines = "".join(f"{first}{i}\r\n" for i in range(300))
            Path("ids.txt").write_bytes(("\ufeff" + lines).encode())
            assert main(["build", "rows.npy", "-o", "n.farann", "-q", "--ids", "ids.txt"]) == 0
            assert farann.Index.load("n.farann").ids.tolist() == wanted


class TestOut:
    @pytest.mark.parametrize("options", [[], ["--beyond", "4.5"]])
    def test_parquet_and_json(self, options: list[str],
                              capsysbinary: pytest.CaptureFixture[bytes]) -> None:
        parquet = pytest.importorskip("pyarrow.parquet")
        asked = ["search", "rows.farann", "queries.npy", "-q", *options]
        for name in ("o.csv", "o.parquet", "o.jsonl"):
            assert main([*asked, "-o", name]) == 0
        table = parquet.read_table("o.parquet")
        assert table.column_names == ["query", "rank", "id", "score"]
        columns = [table[name].to_numpy() for name in table.column_names]
        listed = np.loadtxt("o.csv", delimiter=",", skiprows=1)
        assert len(listed) == table.num_rows > 7 and columns[3].dtype == np.float32
        for column, text in zip(columns, listed.T, strict=True):
            assert_array_equal(column, text.astype(column.dtype))
        lines = [json.loads(line) for line in Path("o.jsonl").read_text().splitlines()]
        assert [len(line["ids"]) for line in lines] == np.bincount(columns[0], minlength=7).tolist()
        assert [id for line in lines for id in line["ids"]] == columns[2].tolist()
        assert main([*asked, "-o", "-", "--format", "parquet"]) == 0  # whatever it is called
        assert capsysbinary.readouterr().out == Path("o.parquet").read_bytes()

    def test_standard_output(self, capsys: Capture) -> None:
        asked = ["search", "rows.farann", "queries.npy", "-q", "-k", "3"]
        assert main([*asked, "-o", "a.csv"]) == 0
        capsys.readouterr()
        assert main([*asked, "-o", "-"]) == 0
        assert capsys.readouterr().out == Path("a.csv").read_text()
        assert main([*asked, "-o", "b", "--format", "csv"]) == 0
        assert Path("b").read_text() == Path("a.csv").read_text()

    def test_no_queries(self) -> None:
        parquet = pytest.importorskip("pyarrow.parquet")
        np.save("none.npy", QUERIES[:0])
        assert main(["search", "rows.farann", "none.npy", "-o", "o.parquet"]) == 0
        assert parquet.read_table("o.parquet").num_rows == 0

    def test_json_of_other_commands(self, capsys: Capture) -> None:
        def told(*arguments: str) -> dict[str, Any]:
            capsys.readouterr()
            assert main([*arguments, "--json"]) == 0
            found: dict[str, Any] = json.loads(capsys.readouterr().out)
            return found

        built = told("build", "rows.npy", "-o", "b.farann")
        assert built["rows"] == 300 and built["file_bytes"] == Path("b.farann").stat().st_size
        index = farann.Index.load("rows.farann")
        furthest = index.diameter()
        assert told("diameter", "rows.npy") == {"ids": furthest.ids.tolist(),
                                                "distance": furthest.score}
        chosen = index.select_diverse(4)
        found = told("select", "rows.npy", "-k", "4")
        assert found["ids"] == chosen.ids.tolist() and found["scores"][0] is None
        assert_array_equal(np.float32(found["scores"][1:]), chosen.scores[1:])
        tuned = told("tune", "rows.farann", "-k", "3", "--recall", "0.9")
        assert (tuned["k"], tuned["target"]) == (3, 0.9) and tuned["efforts"][-1]["recall"] == 1.0
        assert set(tuned["fastest"]) == {"rows", "cost"}

    def test_select(self, capsys: Capture) -> None:
        parquet = pytest.importorskip("pyarrow.parquet")
        chosen = farann.select_diverse(ROWS, 4)
        capsys.readouterr()
        assert main(["select", "rows.npy", "-k", "4", "-q"]) == 0
        assert capsys.readouterr().out == "".join(f"{id}\n" for id in chosen.ids)
        Path("seen.txt").write_text("\n".join(map(str, chosen.ids[:2])))
        np.save("few.npy", np.arange(300) % 5 < 2)
        few = farann.select_diverse(ROWS, 4, exclude=chosen.ids[:2], allowed=np.load("few.npy"))
        assert main(["select", "rows.npy", "-k", "4", "-q", "--exclude", "seen.txt",
                     "--allowed", "few.npy"]) == 0
        assert capsys.readouterr().out == "".join(f"{id}\n" for id in few.ids)
        assert main(["select", "rows.npy", "-k", "2", "-q", "--first", "seen.txt"]) == 0
        assert capsys.readouterr().out == "".join(f"{id}\n" for id in chosen.ids[2:])
        assert main(["select", "rows.npy", "-k", "4", "-q", "-o", "o.parquet"]) == 0
        assert parquet.read_table("o.parquet")["id"].to_pylist() == chosen.ids.tolist()


def test_rows_unlike_each_other(capsys: Capture) -> None:
    assert main(["build", "rows.npy", "-o", "c.farann", "--metric", "cosine", "-q"]) == 0
    assert main(["search", "c.farann", "queries.npy", "-k", "4", "--diversity", "0.7", "-q",
                 "-o", "mmr.npz"]) == 0
    right = farann.Index.load("c.farann").search_mmr(np.load("queries.npy"), 4, diversity=0.7)
    assert_array_equal(np.load("mmr.npz")["ids"], right.ids)
    for other, said in (("--nearest", "at most one of --nearest, --diversity"),
                        ("--recall=0.9", "--recall is not for --diversity"),
                        ("--within=0", "at most one of --within, --diversity")):
        assert main(["search", "c.farann", "queries.npy", "--diversity", "0", other]) == 2
        assert said in capsys.readouterr().err


class TestStandardInput:
    @pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv", ".parquet", ".hdf5"])
    def test_queries(self, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
        for package in {".parquet": ["pyarrow"], ".hdf5": ["h5py"]}.get(suffix, []):
            pytest.importorskip(package)
        write_vectors(f"q{suffix}", QUERIES)
        given(monkeypatch, Path(f"q{suffix}").read_bytes())
        assert main(["search", "rows.farann", "-", "-k", "3", "-o", "o.npz", "-q"]) == 0
        with np.load("o.npz") as found:
            assert_array_equal(found["ids"], answers().ids)

    def test_rows_and_ids(self, monkeypatch: pytest.MonkeyPatch) -> None:
        given(monkeypatch, Path("rows.npy").read_bytes())
        assert main(["build", "-", "-o", "new.farann", "-q"]) == 0
        assert_array_equal(farann.Index.load("new.farann").reconstruct(np.arange(300)), ROWS)
        given(monkeypatch, b"7 8 9\n")
        assert main(["search", "rows.farann", "queries.npy", "--allowed", "-", "-q",
                     "-o", "o.npz"]) == 0
        with np.load("o.npz") as found:
            assert set(found["ids"].ravel()) == {7, 8, 9, -1}

    def test_scores(self, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
        """One a line, or a table with ids, in another order."""
        worth = [(7 * i) % 300 for i in range(300)]
        best = sorted(range(300), key=lambda i: -worth[i])[:3]
        rows = [f"{i},{worth[i]}\n" for i in reversed(range(300))]
        for text in ("".join(f"{one}\n" for one in worth), "".join(["id,worth\n", *rows])):
            given(monkeypatch, text.encode())
            assert main(["select", "rows.farann", "--scores", "-", "-k", "3", "--radius", "0",
                         "-q"]) == 0
            assert list(map(int, capsys.readouterr().out.split())) == best

    def test_errors(self, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
        given(monkeypatch, b"1,2\n3\n")
        assert main(["build", "-", "-o", "new.farann"]) == 2
        assert capsys.readouterr().err == (
            "farann: error: standard input: line 2: expected 2 fields, got 1\n")
        assert main(["search", "rows.farann", "-", "--exclude", "-"]) == 2
        assert "standard input can be one file, got it as 2" in capsys.readouterr().err


def test_groups_of_hdf5(capsys: Capture) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File("a.h5", "w") as file:
        file["deep/er/emb"] = ROWS
        file["deep/up"] = file["/"]  # a group below itself
    for name in ("a.h5", "a.h5:deep/er/emb", "a.h5:/deep/er/emb"):  # the only one, or named
        assert main(["build", name, "-o", "new.farann", "-q"]) == 0
        assert_array_equal(farann.Index.load("new.farann").reconstruct(np.arange(300)), ROWS)
    with h5py.File("a.h5", "a") as file:
        file["deep/other"] = ROWS[:5]
    for name, said in (("a.h5", "holds several: deep/er/emb, deep/other; say which as a.h5:NAME"),
                       ("a.h5:deep", "no data set is called 'deep'; there are: deep/er/emb, d")):
        assert main(["build", name, "-o", "new.farann"]) == 2
        assert said in capsys.readouterr().err
