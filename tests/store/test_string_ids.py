"""Ids that are strings: everything that integers can do, in files too, and in little memory."""

from __future__ import annotations

import pickle
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import inside
import numpy as np
import pytest

import farann
from farann.cli import main

N = 900
ROWS = np.random.default_rng(0).standard_normal((N, 6)).astype(np.float32)
# Of all lengths around those of words, with letters of several bytes, empty, with zeros.
NAMES = [f"{'äß€😀'[: i % 5]}{i * 7919 % N:x}{chr(0) * (i % 3)}" for i in range(N - 1)] + [""]
QUERIES = ROWS[:15]


class Pair:
    """An index with strings and one with integers, which must answer alike."""

    def __init__(self, **options: Any) -> None:
        self.strings, self.numbers = farann.Index(**options), farann.Index(**options)

    def add(self, which: list[int], times: int = 1) -> None:
        for part in np.array_split(which, times):
            added = self.strings.add(ROWS[part], [NAMES[i] for i in part])
            assert added.dtype == object and added.tolist() == [NAMES[i] for i in part]
            self.numbers.add(ROWS[part], part)

    def remove(self, which: list[int]) -> None:
        self.strings.remove([NAMES[i] for i in which])
        self.numbers.remove(which)

    def same(self, exclude: Any = None, allowed: Any = None, **options: Any) -> None:
        found = self.strings.search_furthest(QUERIES, 5, exclude=named(exclude),
                                             allowed=named(allowed), **options)
        right = self.numbers.search_furthest(QUERIES, 5, exclude=exclude, allowed=allowed,
                                             **options)
        assert found.ids.tolist() == named(right.ids.tolist())
        assert (found.found == right.found).all()
        assert np.array_equal(found.scores, right.scores, equal_nan=True)


def named(ids: Any) -> Any:
    """The same nest of ids with names for numbers."""
    if isinstance(ids, np.ndarray) and ids.dtype == np.bool_:
        return ids
    if isinstance(ids, (list, set, np.ndarray)):
        return (set if isinstance(ids, set) else list)(named(one) for one in ids)
    return ids if ids is None else None if ids < 0 else NAMES[ids]


@pytest.fixture
def pair() -> Pair:
    made = Pair()
    made.add(list(range(700)), times=9)
    made.strings.build()
    made.numbers.build()
    made.add(list(range(700, N)), times=3)
    return made


def test_searches_and_filters(pair: Pair) -> None:
    pair.same()
    pair.same(exclude=list(range(40)))
    pair.same(exclude={3, 4, 5})
    pair.same(exclude=[[i, i + 1] for i in range(15)])
    pair.same(exclude=[{i, 80} for i in range(15)])
    pair.same(exclude=pair.numbers.search_furthest(QUERIES, 4).ids)
    pair.same(allowed=[1, 2, 3])
    pair.same(allowed=np.arange(N) % 3 == 0, exclude=[9, 12])
    hits = pair.strings.search_furthest(QUERIES, 4)
    again = pair.strings.search_furthest(QUERIES, 4, exclude=hits.ids)  # as they came
    assert (again.ids == pair.strings.search_furthest(QUERIES, 8).ids[:, 4:]).all()
    padded = pair.strings.search_furthest(QUERIES[:2], 3, allowed=NAMES[:2])
    assert padded.ids[0, 2] is None and padded.found.sum() == 4 and set(padded.to_dict()["id"]) == {
        *NAMES[:2]}
    for out in (padded.ids, [None], np.array([None, NAMES[3]]), padded.ids[0]):
        assert pair.strings.search_furthest(QUERIES[:2], 3, exclude=out).found.all()
    for _ in range(3):  # the second goes the short way
        one = pair.strings.search_furthest(QUERIES[0], 3)
        assert one.ids.tolist() == hits.ids[0, :3].tolist()
    beyond = pair.strings.search_beyond(QUERIES, radius=4.0)
    right = pair.numbers.search_beyond(QUERIES, radius=4.0)
    assert beyond.ids.tolist() == named(right.ids.tolist())
    assert (pair.strings.score(QUERIES, NAMES[5:9]) == pair.numbers.score(QUERIES, range(5, 9))
            ).all()
    assert (pair.strings.reconstruct(NAMES[5]) == ROWS[5]).all()
    assert (pair.strings.reconstruct(NAMES[5:7]) == ROWS[5:7]).all()
    assert pair.strings.ids.tolist() == NAMES and "" in pair.strings and 5 not in pair.strings


def test_removed_and_added_again(pair: Pair) -> None:
    kept = pair.strings.filter(allowed=NAMES[:300], exclude=["never", NAMES[7]])
    marked = pair.strings.filter(allowed=np.arange(N) < 300, exclude=[NAMES[7]])
    right = [i for i in range(300) if i != 7]

    def check(there: list[int]) -> None:
        pair.same()
        for allowed in (kept, marked):
            found = pair.strings.search_furthest(QUERIES, 5, allowed=allowed)
            assert found.ids.tolist() == named(pair.numbers.search_furthest(
                QUERIES, 5, allowed=there).ids.tolist())

    pair.remove(list(range(50, 90)))
    check([i for i in right if not 50 <= i < 90])
    assert NAMES[60] not in pair.strings and NAMES[100] in pair.strings
    pair.add([60, 55])
    check([i for i in right if i in (60, 55) or not 50 <= i < 90])
    pair.strings.build()
    pair.numbers.build()
    check([i for i in right if i in (60, 55) or not 50 <= i < 90])
    pair.add([61])
    check([i for i in right if i in (60, 55, 61) or not 50 <= i < 90])
    labels = inside.store.of(pair.strings).labels
    assert labels is not None and len(labels) == N - 37  # names of removed rows are gone


def test_without_vectors() -> None:
    pair = Pair(keep_vectors=False, codes="int4", cells=4)
    pair.add(list(range(800)))
    pair.strings.build()
    pair.numbers.build()
    pair.remove(list(range(0, 800, 3)))
    pair.add(list(range(800, N)))
    pair.strings.build()
    pair.numbers.build()
    found = pair.strings.search_furthest(QUERIES, 5, budget=N)
    right = pair.numbers.search_furthest(QUERIES, 5, budget=N)
    assert found.ids.tolist() == named(right.ids.tolist())
    data = pickle.dumps(pair.strings)
    assert (pickle.loads(data).search_furthest(QUERIES, 5, budget=N).ids == found.ids).all()


def test_lookups_of_all_kinds() -> None:
    draw = random.Random(0)
    names = sorted({"".join(draw.choice("abä€😀\0") for _ in range(draw.choice(
        [0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 40, 300]))) for _ in range(4000)})
    draw.shuffle(names)
    labels, before, at = inside.store.Labels(), [], 0
    while at < len(names):
        more = names[at : at + draw.choice([1, 2, 30, 50, 700])]
        labels.grown(inside.contract.packed("ids", [f"lost {at}", "x"]))  # a change that failed
        labels = labels.grown(inside.contract.packed("ids", more))
        at += len(more)
        asked = [draw.choice(names) for _ in range(draw.choice([1, 16, 17, 300]))]
        right = {name: i for i, name in enumerate(names[:at])}
        numbers = labels.numbers_of(inside.contract.packed("ids", asked))
        assert numbers.tolist() == [right.get(name, -1) for name in asked]
        assert labels.texts(numbers).tolist() == [name if name in right else None
                                                  for name in asked]
        before.append((labels, at))
    for old, n in before[:: len(before) // 9]:
        right = {name: i for i, name in enumerate(names[:n])}
        numbers = old.numbers_of(inside.contract.packed("ids", names))
        assert numbers.tolist() == [right.get(name, -1) for name in names]


def test_memory() -> None:
    """What is held beside the bytes is twelve bytes an id, and a little."""
    names = [f"product-{i:012d}" for i in range(0, 3_000_000, 30)]
    labels = inside.store.Labels().grown(inside.contract.packed("ids", names))
    assert labels.numbers_of(inside.contract.packed("ids", names[:99])).tolist() == list(range(99))
    assert labels.nbytes < 1.61 * 20 * len(names)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_files_of_few_strings(n: int) -> None:
    """Also of none, where all rows were removed."""
    index = farann.Index()
    names = [f"row {i}" for i in range(3)]
    index.add(np.eye(3), ids=names, groups=names)
    index.remove(names[n:])
    index.build()
    loaded = pickle.loads(pickle.dumps(index))
    assert loaded.ids.tolist() == loaded.groups().tolist() == names[:n]


def load(path: Path, mmap: bool) -> farann.Index:
    return farann.Index.load(path, mmap=mmap)


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("built", [False, True])
def test_files(mmap: bool, built: bool, pair: Pair, tmp_path: Path) -> None:
    pair.remove([3, 500])
    if built:
        pair.strings.build()
    path = tmp_path / "index.farann"
    pair.strings.save(path)
    right = pair.strings.search_furthest(QUERIES, 5).ids.tolist()
    loaded = load(path, mmap)
    assert loaded.search_furthest(QUERIES, 5).ids.tolist() == right
    assert loaded.ids.tolist() == pair.strings.ids.tolist() and NAMES[3] not in loaded
    loaded.remove("")
    loaded.add(ROWS[:1], [""])  # no byte more, which a mapped file hasn't room for either
    loaded.add(ROWS[:2], [NAMES[3], "new"])
    assert "" in loaded and NAMES[3] in loaded and "new" in loaded
    with pytest.raises(ValueError, match="not in use"):
        loaded.add(ROWS[:1], ["new"])
    again = tmp_path / "again.farann"
    load(path, mmap).save(again)
    assert again.read_bytes() == path.read_bytes()


def altered(index: farann.Index, **arrays: Any) -> bytes:
    """A file with other sections, or without those that are None."""
    metadata, old = inside.files.sections_of(index)
    named_so = {name.replace("_", "."): array for name, array in arrays.items()}
    return inside.files.write_bytes(metadata, {
        name: array for name, array in {**old, **named_so}.items() if array is not None})


def of(*names: bytes) -> dict[str, Any]:
    return {"labels_ends": np.cumsum([len(name) for name in names]).astype(np.uint32),
            "labels_bytes": np.frombuffer(b"".join(names) + bytes(8), np.uint8)}


HOSTILE: dict[str, dict[str, Any]] = {
    "no ends": {"labels_ends": None},
    "no bytes": {"labels_bytes": None},
    "too few": of(b"a", b"b"),
    "beyond the bytes": {"labels_ends": np.array([1, 2, 2**32 - 1], np.uint32)},
    "backwards": {"labels_ends": np.array([2, 1, 3], np.uint32)},
    "huge": {"labels_ends": np.array([1, 2, 2**64 - 1], np.uint64)},
    "signed": {"labels_ends": np.array([1, 2, 3], np.int32)},
    "no room behind": {"labels_bytes": np.frombuffer(b"abc", np.uint8)},
    "something behind": {"labels_bytes": np.frombuffer(b"abc" + b"\1" * 8, np.uint8)},
    "two dimensions": {"labels_bytes": np.zeros((11, 1), np.uint8)},
    "too long": of(b"a", b"b", b"c" * 65_536),
    "numbers that no label has": {"ids": np.array([0, 1, 3])},
    "not UTF-8": of(b"a", b"\xff", b"c"),
    "cut in a letter": of(b"a\xc3", b"\xa4", b"c"),
    "a surrogate": of(b"a", b"\xed\xa0\x80", b"c"),
    "twice": of(b"a", b"b", b"a"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files(kind: str, tmp_path: Path) -> None:
    index = farann.Index()
    index.add(ROWS[:3], ["a", "b", "c"])
    path = tmp_path / "index.farann"
    path.write_bytes(altered(index, **HOSTILE[kind]))
    with pytest.raises(farann.FormatError, match=r"index\.farann: "):
        farann.Index.load(path)
    try:  # what isn't read when a file is mapped may be refused later
        mapped = farann.Index.load(path, mmap=True)
        assert len(mapped.search_furthest(ROWS[:2], 3).ids) == 2 and "z" not in mapped
        mapped.add(ROWS[:1], ["z"])
    except farann.FormatError:
        pass


MIXED: Any = ["x", 5]
WITH_NONE: Any = ["x", None]
REFUSED: dict[str, tuple[Callable[[farann.Index], object], str]] = {
    "no ids": (lambda i: i.add(ROWS[:1]), "ids: expected a string for each row"),
    "integers": (lambda i: i.add(ROWS[:1], [5]), "ids: expected a string for each row"),
    "in use": (lambda i: i.add(ROWS[:2], ["new", "b"]), "not in use, got 'b'"),
    "twice": (lambda i: i.add(ROWS[:2], ["x", "x"]), "each id once, got 'x' twice"),
    "too few": (lambda i: i.add(ROWS[:2], ["x"]), "expected 2 ids, one a row, got 1"),
    "mixed": (lambda i: i.add(ROWS[:2], MIXED), "ids: expected strings alone, got 5"),
    "none": (lambda i: i.add(ROWS[:2], WITH_NONE), "ids: expected strings alone, got None"),
    "a lone surrogate": (lambda i: i.add(ROWS[:1], ["\ud800"]), "that UTF-8 can hold"),
    "too long": (lambda i: i.add(ROWS[:1], ["x" * 65_536]), "at most 65535 bytes"),
    "unknown": (lambda i: i.remove(["a", "z"]), "'z' is not in the index"),
    "bytes": (lambda i: i.remove(b"a"), "ids: expected strings"),
    "one for many": (lambda i: i.add(ROWS[:1], "x"), "a list of strings, got one string, 'x'"),
    "an integer": (lambda i: i.remove(0), "ids: expected strings, as the index has string ids"),
    "exclude": (lambda i: i.search_furthest(ROWS[:3], exclude=[0]), "exclude: expected strings"),
    "exclude each": (lambda i: i.search_furthest(ROWS[:1], exclude=[[0]]), "exclude.0.: expected"),
    "exclude few": (lambda i: i.search_furthest(ROWS[:3], exclude=[["a"]]), "each of 3 queries"),
    "exclude matrix": (lambda i: i.search_furthest(
        ROWS[:3], exclude=np.array([[["a"]]])), "exclude: expected ids for each of 3 queries"),
    "allowed": (lambda i: i.search_furthest(ROWS[:3], allowed=[0]), "allowed: expected strings"),
    "score": (lambda i: i.score(ROWS[:3], [0]), "ids: expected strings"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused(kind: str) -> None:
    call, words = REFUSED[kind]
    index = farann.Index()
    index.add(ROWS[:3], ["a", "b", "c"])
    with pytest.raises((ValueError, TypeError, KeyError), match=words):
        call(index)
    assert index.ids.tolist() == ["a", "b", "c"]


def test_strings_that_print_as_something_else() -> None:
    class Color(str):  # as a member of an Enum that is a string, too
        def __str__(self) -> str:
            return "Color"

    index = farann.Index()
    index.add(ROWS[:2], [Color("red"), Color("blue")])
    assert index.ids.tolist() == ["red", "blue"] and Color("red") in index
    index.remove(Color("red"))
    assert index.ids.tolist() == ["blue"]


def test_integers_stay_integers() -> None:
    index = farann.Index(6)
    assert index.search_furthest(ROWS[:2], 1, exclude=[["a"], []]).ids.tolist() == [[-1], [-1]]
    early = index.filter(allowed=["a"])
    index.add(ROWS[:3])
    for call in (lambda: index.add(ROWS[:1], ["a"]), lambda: index.remove("a"),
                 lambda: index.search_furthest(ROWS[:2], exclude=["a", "b"])):
        with pytest.raises((ValueError, TypeError), match="expected integer"):
            call()
    assert "a" not in index and not index.search_furthest(ROWS[:2], 1, allowed=early).found.any()
    other = farann.Index(6)
    number = other.filter(allowed=[0])
    other.add(ROWS[:2], np.array(["a", "b"]))
    assert not other.search_furthest(ROWS[:2], 1, allowed=number).found.any()


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = [f"Öl {i}" for i in range(50)]
    np.save("rows.npy", ROWS[:50])
    np.save("queries.npy", QUERIES)
    Path("ids.txt").write_text("\n".join(names) + "\n", "utf-8")
    Path("out.txt").write_text("".join(f"Öl {i}\tÖl {i + 1}\n" for i in range(15)), "utf-8")
    Path("in.txt").write_text("Öl 3\r\nÖl 4\nÖl 5\n", "utf-8")
    index = farann.Index()
    index.add(ROWS[:50], names)
    assert main(["build", "rows.npy", "-o", "i.farann", "--ids", "ids.txt", "-q"]) == 0
    assert farann.Index.load("i.farann").ids.tolist() == names
    search = ["search", "i.farann", "queries.npy", "-k", "4", "-q"]
    assert main([*search, "-o", "hits.npz", "--exclude", "out.txt"]) == 0
    right = index.search_furthest(QUERIES, 4, exclude=[[f"Öl {i}", f"Öl {i + 1}"]
                                                       for i in range(15)])
    assert np.load("hits.npz")["ids"].tolist() == right.ids.tolist()
    assert main([*search, "-o", "hits.csv", "--allowed", "in.txt"]) == 0
    found = index.search_furthest(QUERIES, 4, allowed=names[3:6])
    lines = Path("hits.csv").read_text("utf-8").splitlines()
    assert [line.split(",")[2] for line in lines[1:]] == found.ids[found.found].tolist()
    assert main([*search, "-o", "few.npz", "--allowed", "in.txt"]) == 0
    assert np.load("few.npz")["ids"][0].tolist() == [*found.ids[0, :3], ""]
    assert main(search) == 0 and "Öl 39" in capsys.readouterr().out
    assert main(["info", "i.farann"]) == 0 and "strings" in capsys.readouterr().out
    Path("ids.txt").write_text("\n".join(names[:49] + names[:1]), "utf-8")
    assert main(["build", "rows.npy", "-o", "j.farann", "--ids", "ids.txt", "-q"]) != 0
    assert "ids.txt" in capsys.readouterr().err and not Path("j.farann").exists()
    pa = pytest.importorskip("pyarrow", reason="needs pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    parquet.write_table(pa.table({"name": names}), "names.parquet")
    assert main(["build", "rows.npy", "-o", "k.farann", "--ids", "names.parquet:name", "-q"]) == 0
    assert Path("k.farann").read_bytes() == Path("i.farann").read_bytes()


def test_columns_of_strings() -> None:
    pandas = pytest.importorskip("pandas", reason="needs pandas")
    polars = pytest.importorskip("polars", reason="needs polars")
    pa = pytest.importorskip("pyarrow", reason="needs pyarrow")
    for column in (pandas.Series(NAMES), polars.Series(NAMES), pa.array(NAMES),
                   pa.chunked_array([NAMES[:5], NAMES[5:]]), np.array(NAMES, object),
                   tuple(NAMES), list(np.array(["x", "y"])) + NAMES[2:]):
        index = farann.Index()
        index.add(ROWS, column)
        assert index.ids[2:].tolist() == NAMES[2:]


def test_sets_and_selections(pair: Pair) -> None:
    left, right = pair.strings, pair.numbers
    sets = [QUERIES[:3], QUERIES[3:9]]
    assert left.search_furthest_from(sets, 4, exclude=NAMES[:9]).ids.tolist() == named(
        right.search_furthest_from(sets, 4, exclude=range(9)).ids.tolist())
    cosine = Pair(metric="cosine")
    cosine.add(list(range(200)))
    found = cosine.strings.search_mmr(QUERIES, 4, exclude=NAMES[:3])
    assert found.ids.tolist() == named(cosine.numbers.search_mmr(QUERIES, 4, exclude=range(3)
                                                                 ).ids.tolist())
    for start in (None, "centroid", 7):
        begin = NAMES[7] if start == 7 else start
        chosen = left.select_diverse(9, start=begin, allowed=NAMES[:200])
        assert chosen.ids.tolist() == named(right.select_diverse(9, start=start, allowed=range(200)
                                                                 ).ids.tolist())
    first = left.select_diverse(3, first=NAMES[:5]).ids
    assert first.tolist() == named(right.select_diverse(3, first=range(5)).ids.tolist())
    assert left.diameter().ids.tolist() == named(right.diameter().ids.tolist())
    assert left.diameter().score == right.diameter().score
    assert left.furthest_graph(2).ids.tolist() == named(right.furthest_graph(2).ids.tolist())
    assert (left.furthest_graph(2, as_sparse=True) != right.furthest_graph(2, as_sparse=True)
            ).nnz == 0
    with pytest.raises(KeyError, match="'nobody' is not in the index"):
        left.select_diverse(3, start="nobody")


def test_answers_of_nothing_are_of_strings() -> None:
    index = farann.Index(metric="cosine")
    index.add([[1.0, 2.0], [2.0, 1.0]], ids=["a", "b"])
    for _ in range(2):
        nothing, empty = np.empty((0, 2)), len(index) == 0
        for ids, shape in ((index.search_furthest(nothing, 3).ids, (0, 3)),
                           (index.search_mmr(nothing, 3).ids, (0, 3)),
                           (index.search_furthest_from([], 3).ids, (0, 3)),
                           (index.search_beyond(nothing, radius=1.0).ids, (0,))):
            assert ids.dtype == object and ids.shape == shape
        if empty:
            assert index.select_diverse(2).ids.dtype == object
            assert index.search_mmr([1.0, 2.0], 2).ids.tolist() == [None, None]
            assert index.search_furthest_from([[[1.0, 2.0]]], 1).ids.tolist() == [[None]]
        else:
            index.remove(["a", "b"])


def test_long_ids_take_memory_for_some_of_them_alone() -> None:
    """Strings are compared byte by byte, and each byte takes 16 more meanwhile."""
    ids = [f"{i:02}" + "x" * 60_000 for i in range(60)]
    index = farann.Index()
    index.add(np.arange(60.0)[:, np.newaxis], ids)
    assert index.reconstruct(ids[:20]).ravel().tolist() == [*range(20)]
    tracemalloc.start()
    try:
        assert index.reconstruct(ids).ravel().tolist() == [*range(60)]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12 * 60 * 60_000
