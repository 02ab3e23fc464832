"""Files that are synced: what is written, what readers take over, one writer at a time."""

from __future__ import annotations

import errno
import os
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import inside
import numpy as np
import pytest
from cases import assert_same
from sync_cases import DIM, begun, rows_of, seen, steps, synced

import farann

LAYOUTS: dict[str, dict[str, Any]] = {
    "l2": {}, "cosine": {"metric": "cosine"}, "cells": {"metric": "dot", "cells": 4},
    "float16": {"dtype": "float16"}, "float32": {"codes": "float32"},
    "alone": {"codes": "int4", "keep_vectors": False},
}


replaces = pytest.mark.skipif(os.name == "nt", reason="Windows replaces no file that is open")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "synced.farann"


def work(index: farann.Index) -> list[tuple[farann.Hits, Any]]:
    inside.store.use_threads(index, 1)
    options: dict[str, Any] = {} if index.stats()["keep_vectors"] else {"budget": 300}
    queries = rows_of(9)
    found = [index.search_furthest(some, return_stats=True, **options)
             for some in (queries, *queries)]
    return [(hits, hits.stats) for hits in found]


@pytest.mark.parametrize("layout", LAYOUTS)
@replaces
def test_readers_see_what_the_writer_has(layout: str, path: Path,
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same answers and the same work, whether they load the file or go on; the file is
    only appended to."""
    monkeypatch.setattr(inside.settings, "least_run", 16)
    options = dict(LAYOUTS[layout])
    rows = rows_of().astype(np.float16 if layout == "float16" else np.float32)
    index = farann.Index(**options)
    index.add(rows[:200], [f"row {i}" for i in range(200)], groups=[i % 3 for i in range(200)])
    index.build().sync(path)
    written = path.read_bytes()
    readers = [farann.Index.load(path), farann.Index.load(path, mmap=True)]
    for number, step in zip(range(12), steps(), strict=False):
        if layout == "float16":
            index.add(rows[200 + 9 * number : 209 + 9 * number],
                      [f"row {200 + 9 * number + i}" for i in range(9)], groups=[number] * 9)
        else:
            step(index)
        index.sync(path)
        now = path.read_bytes()
        assert now.startswith(written[: len(written) // 4096 * 4096]) and len(now) > len(written)
        written = now
        if number % 3 == 0:
            assert readers[1].reload()
    assert all(reader.reload() for reader in readers[:1]) and readers[1].reload()
    for again in (*readers, farann.Index.load(path), farann.Index.load(path, mmap=True)):
        assert not again.reload()
        for one in (again, index):  # trials of codes go on from what came of the last ones
            inside.store.forget_code_trials(one)
        for (hits, cost), (expected, its_cost) in zip(work(again), work(index), strict=True):
            assert_same(hits, expected)
            assert cost == its_cost
        assert again.ids.tolist() == index.ids.tolist()
        assert again.groups().tolist() == index.groups().tolist()
        for fact in ("rows", "removed", "added", "built"):
            assert again.stats()[fact] == index.stats()[fact]


@replaces
def test_integer_ids_tables_and_nothing(path: Path) -> None:
    index = farann.Index(dim=DIM)
    index.sync(path)
    assert len(farann.Index.load(path)) == 0
    index.add(rows_of()[:60], np.arange(60) * 3, groups=["a", "b"] * 30)
    index.sync(path)
    before = path.read_bytes()
    index.sync(path)
    assert path.read_bytes() == before
    index.build().sync(path)
    reader = farann.Index.load(path)
    tuning = index.tune(k=3)
    index.add(rows_of()[60:63], groups=["a", "c", "c"])
    index.sync(path)
    assert path.read_bytes()[: len(before)] != before
    assert reader.reload() and reader.groups([178]).tolist() == ["a"]
    assert reader.ids.tolist() == index.ids.tolist()
    assert reader.add(rows_of()[:1], groups=["d"]) == [index.ids.max() + 1]
    assert inside.tuning.tables_of(farann.Index.load(path))[3] == tuning


def test_a_change_costs_what_it_changes(path: Path) -> None:
    index = farann.Index()
    index.add(np.random.default_rng(0).standard_normal((20_000, 32), dtype=np.float32))
    index.build().sync(path)
    whole = path.stat().st_size
    index.add(np.ones((1, 32)))
    index.sync(path)
    assert 0 < path.stat().st_size - whole <= 3 * 4096 < whole / 100


@replaces
def test_the_file_is_written_anew_once_frames_are_most_of_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inside.settings, "least_frames", 0)
    index, sizes, anew = begun(), [], 0
    index.sync(path)
    reader = farann.Index.load(path, mmap=True)
    for step, _ in zip(steps(), range(40), strict=False):
        step(index)
        index.sync(path)
        sizes.append(path.stat().st_size)
        anew += inside.files.frames_of(path) == 0
        assert reader.reload() and seen(reader) == seen(index)
    index.save(path.with_name("whole"))
    assert 3 < anew < 30
    assert max(sizes) < 2 * path.with_name("whole").stat().st_size + 4 * 4096


def test_many_frames_are_a_reason_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside.settings, "most_frames", 5)
    synced(path, 8)
    assert inside.files.frames_of(path) == 1


@pytest.mark.parametrize("error", [PermissionError(), OSError(errno.ENOSPC, "full")])
def test_where_it_cannot_be_replaced_it_gets_longer(error: OSError, path: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows while a reader has it mapped, or where a disk has no room for two files."""
    def refused(*_: Any) -> None:
        raise error

    monkeypatch.setattr(inside.settings, "most_frames", 0)
    index = begun()
    index.sync(path)
    monkeypatch.setattr(os, "replace", refused)
    index.remove("row 7")
    index.sync(path)
    assert seen(farann.Index.load(path)) == seen(index)
    index.build()
    with pytest.raises(type(error)):
        index.sync(path)
    monkeypatch.undo()
    index.sync(path)
    assert seen(farann.Index.load(path)) == seen(index)


def test_one_writer_at_a_time(path: Path) -> None:
    first = begun()
    first.sync(path)
    second = farann.Index.load(path)
    second.remove("row 1")
    with pytest.raises(BlockingIOError, match="another index syncs to this file; close it"):
        second.sync(path)
    first.close()
    second.sync(path)
    assert "row 1" not in farann.Index.load(path)


def test_locks_of_windows(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here are none: a stand-in locks bytes, behind the file, as nobody else may read them. They
    are unlocked, which the system does in its own time where a file is only closed."""
    at, owners = dict[int, int](), dict[tuple[int, int], int]()

    class Windows:
        LK_UNLCK, LK_NBLCK = range(2)

        def locking(self, descriptor: int, how: int, n: int) -> None:
            byte = os.fstat(descriptor).st_ino, at.pop(descriptor)
            assert n == 1 and byte[1] > 2**60
            if how == self.LK_UNLCK:
                assert owners.pop(byte) == descriptor
            elif owners.setdefault(byte, descriptor) != descriptor:
                raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(inside.settings, "frames_fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", Windows())
    monkeypatch.setattr(os, "lseek", lambda descriptor, byte, _: at.update({descriptor: byte}))
    test_one_writer_at_a_time(path)
    assert not owners


@replaces
def test_changes_of_others_are_not_written_over(path: Path) -> None:
    synced(path, 1)
    first, second = farann.Index.load(path), farann.Index.load(path)
    first.remove("row 1")
    first.sync(path)
    first.close()
    with pytest.raises(ValueError, match=r"was changed by others .* reload\(\) takes"):
        second.sync(path)
    second.reload()
    second.remove("row 2")
    second.sync(path)
    assert {"row 1", "row 2"}.isdisjoint(farann.Index.load(path).ids)
    third = begun()
    third.save(path)  # whoever saves replaces it
    second.remove("row 3")
    with pytest.raises(ValueError, match="was changed by others"):
        second.sync(path)


@replaces
def test_saved_by_itself(path: Path) -> None:
    """`save` replaces the file; syncs go on behind it."""
    index = begun()
    index.sync(path)
    index.remove("row 1")
    index.save(path)
    index.remove("row 2")
    index.sync(path)
    assert inside.files.frames_of(path) == 1
    assert seen(farann.Index.load(path)) == seen(index)
    path.unlink()
    index.sync(path)
    assert seen(farann.Index.load(path)) == seen(index)


def test_files_of_format_2_are_written_anew(path: Path) -> None:
    path.write_bytes((Path(__file__).parents[1] / "golden/format2/int8-l2.farann").read_bytes())
    index = farann.Index.load(path)
    index.remove(index.ids[:2])
    index.sync(path)
    index.remove(index.ids[:2])
    index.sync(path)
    assert path.read_bytes()[8] == 3 and inside.files.frames_of(path) == 1
    assert farann.Index.load(path).ids.tolist() == index.ids.tolist()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_leaves_the_file_to_its_parent(path: Path) -> None:
    index = begun()
    index.sync(path)
    index.remove("row 1")
    told, tell = os.pipe()
    wait, go = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there are threads: each library warns in its own way
        child = os.fork()
    if not child:
        try:
            index.sync(path)
        except BlockingIOError:
            os.write(tell, b"refused")
        os.read(wait, 1)
        os._exit(0)
    assert os.read(told, 7) == b"refused"
    index.sync(path)
    index.close()
    again = farann.Index.load(path)
    again.remove("row 2")
    again.sync(path)  # the child is still there
    os.write(go, b".")
    assert os.waitpid(child, 0)[1] == 0
    for end in (told, tell, wait, go):
        os.close(end)
    assert "row 2" not in farann.Index.load(path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_keeps_no_lock_of_a_killed_parent(path: Path) -> None:
    synced(path, 1)
    wait, go = os.pipe()
    told, tell = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parent = os.fork()
        if not parent:
            index = farann.Index.load(path)
            index.remove("row 1")
            index.sync(path)
            if not os.fork():
                os.write(tell, b".")
                os.close(go)
                os.read(wait, 1)
            os._exit(0)
    assert os.waitpid(parent, 0)[1] == 0 and os.read(told, 1) == b"."
    again = farann.Index.load(path)
    again.remove("row 2")
    again.sync(path)  # the child of the dead process still lives
    for end in (told, tell, wait, go):
        os.close(end)
    assert {"row 1", "row 2"}.isdisjoint(farann.Index.load(path).ids)


@replaces
def test_a_change_beside_a_save_is_written_once(path: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    index, sections_of = begun(), inside.settings.sections_of
    index.sync(path)
    change = threading.Thread(target=index.remove, args=("row 1",))

    def changed_before(live: Any) -> Any:
        change.start()
        change.join(0.2)  # it waits for the save to end, where that keeps it out
        return sections_of(live)

    monkeypatch.setattr(inside.settings, "sections_of", changed_before)
    index.save(path)
    monkeypatch.undo()
    change.join()
    index.sync(path)
    assert seen(farann.Index.load(path)) == seen(index)


@replaces
def test_what_reload_refuses(path: Path) -> None:
    with pytest.raises(ValueError, match="expected an index that was loaded from a file"):
        begun().reload()
    synced(path, 2)
    index = farann.Index.load(path)
    index.remove("row 2")
    with pytest.raises(ValueError, match="without changes of its own"):
        index.reload()
    index = farann.Index.load(path)
    farann.Index(dim=DIM, metric="dot").save(path)
    before = seen(index)
    with pytest.raises(ValueError, match="an index of another kind"):
        index.reload()
    path.write_bytes(b"")
    with pytest.raises(farann.FormatError):
        index.reload()
    assert seen(index) == before
    index.close()
    with pytest.raises(ValueError, match="closed"):
        index.reload()


def test_an_index_that_a_reader_built(path: Path) -> None:
    index = farann.Index()
    index.add(rows_of()[:50])
    index.remove([4])
    index.sync(path)
    reader = farann.Index.load(path)
    reader.search_furthest([0.0] * DIM)
    assert not reader.reload()
    index.add(rows_of()[50:60])
    index.sync(path)
    assert reader.reload() and reader.ids.tolist() == index.ids.tolist()


def test_readers_beside_a_writer(path: Path) -> None:
    """Each sees one of the states, and later ones later; those that map the file go on."""
    n, stop, wrong = 60, threading.Event(), list[Any]()
    index = farann.Index()
    index.add(np.zeros((50, DIM)) + np.arange(50)[:, None])
    index.build().sync(path)

    def read(mmap: bool) -> None:
        reader, last = farann.Index.load(path, mmap=mmap), 0
        while not stop.is_set():
            try:
                reader.reload()
                count = len(reader)
                fresh = len(farann.Index.load(path, mmap=mmap))
                rows = reader.reconstruct(reader.ids)
                if not last <= count <= fresh or (rows[:, 0] != reader.ids).any():
                    wrong.append((last, count, fresh))
                last = count
            except Exception as error:
                wrong.append(error)
                return

    threads = [threading.Thread(target=read, args=(mmap,)) for mmap in (False, True)]
    for thread in threads:
        thread.start()
    for number in range(50, 50 + n):
        index.add([[float(number)] * DIM])
        index.sync(path)
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []


# ---- frames that lie ----


Lie = Callable[[dict[str, Any], dict[str, Any]], object]
NO_NUMBERS: list[Any] = [-1, None, "1", 2.0, []]


def put(name: str, at: Any, value: Any) -> Lie:
    def apply(metadata: dict[str, Any], arrays: dict[str, Any]) -> None:
        if name in metadata:
            metadata[name] = value
        else:
            arrays[name] = arrays[name].copy()
            arrays[name][at] = value
    return apply


def edit(name: str, change: Callable[[Any], Any]) -> Lie:
    def apply(_: Any, arrays: dict[str, Any]) -> None:
        arrays[name] = np.ascontiguousarray(change(arrays[name]))
    return apply


def without(name: str) -> Lie:
    return lambda metadata, arrays: (metadata.pop(name, None), arrays.pop(name, None))


LIES: dict[str, Lie] = {
    **{f"no {name}": without(name) for name in (
        "count", "next_id", "rows", "ids", "groups.numbers", "labels.ends", "labels.bytes",
        "groups.labels", "added.ends", "added.panels", "added.slots")},
    **{f"count of {value}": put("count", 0, value)
       for value in (1, 199, 10**9, 2**60, *NO_NUMBERS)},
    **{f"next id of {value}": put("next_id", 0, value) for value in (0, 2**64, *NO_NUMBERS)},
    **{f"{value} runs": put("runs", 0, value) for value in (9, *NO_NUMBERS)},
    "rows of NaN": put("rows", 3, np.nan), "rows too narrow": edit("rows", lambda a: a[:, 1:]),
    "rows of another type": edit("rows", lambda a: a.astype(np.float64)),
    "rows cut": edit("rows", lambda a: a[1:]), "ids cut": edit("ids", lambda a: a[1:]),
    "an id of another row": put("ids", 2, 15),
    "an id twice": edit("ids", lambda a: a[[1, *range(1, len(a))]]),
    "an id below 0": put("ids", 2, -1), "an id beyond": put("ids", 2, 10**6),
    "removed before": put("removed", 0, 0), "removed beyond": put("removed", -1, 10**6),
    "removed twice": edit("removed", lambda a: a[[0, *range(len(a))]]),
    "a string that is there": edit("labels.bytes", lambda a: np.frombuffer(
        b"row 1".ljust(len(a) - 8, b"x") + bytes(8), np.uint8)),
    "no UTF-8": put("labels.bytes", 0, 255), "ends fall": put("labels.ends", 0, 10**6),
    "a group beyond": put("groups.numbers", 2, 99), "a group below 0": put("groups.numbers", 2, -1),
    "a label that is there": put("groups.labels", 0, 1),
    "a slot of the base": put("added.slots", 3, 5), "a slot beyond": put("added.slots", 3, 2**30),
    "ends of no panels": put("added.ends", 0, 17),
}


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("lie", LIES)
def test_frames_that_lie(lie: str, mmap: bool, path: Path,
                         monkeypatch: pytest.MonkeyPatch) -> None:
    """Their checksums are right, and they do no harm."""
    monkeypatch.setattr(inside.settings, "least_run", 16)
    index = begun()
    index.remove(["row 0"])
    index.sync(path)
    index.add(rows_of()[200:240], [f"row {i}" for i in range(200, 240)],
              groups=[i % 6 for i in range(40)])
    index.remove([f"row {i}" for i in range(3, 9)])
    metadata, arrays = inside.files.delta_of(index)
    index.close()
    LIES[lie](metadata, arrays)
    inside.files.append(path, metadata, arrays)
    with pytest.raises(farann.FormatError, match="frame 0"):
        farann.Index.load(path, mmap=mmap)
