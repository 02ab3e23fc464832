"""Documents in the file of their index: full disks, files of strangers, results that are copies."""

from __future__ import annotations

import errno
import io
import json
import os
import pickle
from pathlib import Path
from typing import Any

import inside
import numpy as np
import pytest

from farann import FormatError, Index


def made(**options: Any) -> inside.adapters.Documents[dict[str, Any]]:
    return inside.adapters.Documents(as_it_is, **options)


def as_it_is(one: Any) -> Any:
    return one


def loaded(path: Path) -> inside.adapters.Documents[dict[str, Any]]:
    documents = made()
    documents.load(path, as_it_is)
    return documents


@pytest.fixture
def path(tmp_path: Path) -> Path:
    documents = made(group_by="kind")
    documents.put({"a": {"kind": 1}, "b": {"kind": 2}}, {"a": [1.0, 0.0], "b": [0.0, 1.0]})
    documents.save(tmp_path / "saved.farann", as_it_is)
    return tmp_path / "saved.farann"


def rewrite(path: Path, content: bytes) -> None:
    """Put other documents into a file."""
    metadata, arrays = inside.files.read_file(path)
    inside.files.write_file(path, metadata, {**arrays, "documents": np.frombuffer(
        content, np.uint8)})


def test_saved_documents_come_back(path: Path) -> None:
    documents = loaded(path)
    assert documents.search("search_nearest", [1.0, 0.0], 2, {"kind": 2}) == [({"kind": 2}, 0.0)]
    assert os.listdir(path.parent) == [path.name]
    assert len(Index.load(path)) == 2


@pytest.mark.parametrize("appended", [False, True])
def test_a_full_disk_loses_nothing(appended: bool, tmp_path: Path,
                                   monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever write fails, of a file or of what is appended: the old documents load whole."""
    path, documents = tmp_path / "store.farann", made()
    old = {"a": {"text": "old"}, "b": {"text": "old"}}
    documents.put(old, {"a": [1.0, 0.0], "b": [0.0, 1.0]})
    documents.save(path, as_it_is)
    documents = loaded(path)
    if not appended:  # another store, which doesn't know the file
        documents = made()
        documents.put(old, {"a": [1.0, 0.0], "b": [0.0, 1.0]})
    documents.put({"a": {"text": "new"}}, {"a": [-1.0, 0.0]})
    refused = 0
    while True:
        with monkeypatch.context() as patch:
            fill_disk(patch, refused)
            try:
                documents.save(path, as_it_is)
            except OSError as error:
                assert error.errno == errno.ENOSPC
            else:
                break
        assert os.listdir(tmp_path) == [path.name]
        assert loaded(path).by_id == old
        assert [one for one, _ in loaded(path).search("search_nearest", [1.0, 0.0], 1)] == [
            {"text": "old"}]
        refused += 1
    assert refused > 3
    assert [one for one, _ in loaded(path).search("search_nearest", [-1.0, 0.0], 1)] == [
        {"text": "new"}]


def test_what_changed_is_appended(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((2000, 16), dtype=np.float32)
    ids = [f"document {i}" for i in range(2000)]
    path, documents = tmp_path / "store.farann", made(group_by="kind")
    documents.put({id: {"kind": 1, "text": id * 9} for id in ids},
                  dict(zip(ids, rows, strict=True)))
    documents.save(path, as_it_is)
    size = path.stat().st_size
    documents.put({"new": {"kind": 2}, "none": {"kind": 3}}, {"new": -rows[0]})
    documents.drop(["document 7", "nothing"])
    documents.save(path, as_it_is)
    documents.put({"document 8": {"kind": 4}}, {"document 8": rows[8]})
    documents.drop(["none"])
    documents.save(path, as_it_is)
    assert path.stat().st_size - size <= 5 * 4096 < size / 10
    for mmap in (False, True):
        again = made()
        again.load(path, as_it_is, mmap=mmap)
        assert again.by_id == documents.by_id
        for filter in (None, {"kind": 2}, {"kind": 4}):
            assert (again.search("search_nearest", -rows[0], 3, filter)
                    == documents.search("search_nearest", -rows[0], 3, filter))
    again.put({"last": {"kind": 5}}, {"last": rows[0]})
    again.save(path, as_it_is)  # whoever saves last has the file
    assert loaded(path).by_id == again.by_id
    documents.save(path, as_it_is)
    assert loaded(path).by_id == documents.by_id


def fill_disk(patch: pytest.MonkeyPatch, writes: int) -> None:
    """Let writes to files fail after some."""
    left = [writes]

    class Filling(io.FileIO):
        def write(self, data: Any) -> int:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(data) or 0

    def opened(path: Any, mode: str, opener: Any = os.open, **_: Any) -> Any:
        kind = io.FileIO if mode == "rb" else Filling
        return kind(path, mode.replace("b", ""), opener=opener)

    patch.setattr(inside.settings, "files_open", opened, raising=False)
    patch.setattr(inside.settings, "frames_open", opened, raising=False)


def test_an_index_alone_does_not_lose_documents(path: Path) -> None:
    index = Index.load(path)
    index.remove("a")
    for write in (index.sync, index.save):
        with pytest.raises(ValueError, match="has documents beside the index"):
            write(path)
    assert set(loaded(path).by_id) == {"a", "b"}
    index.save(path.with_name("other.farann"))


@pytest.mark.parametrize("content", [
    b"", b"[]", b"5", b"null", b"{}", b"\xff\xfe", b"[" * 100_000, pickle.dumps({"group_by": None}),
    b'{"group_by": 5, "documents": {"a": {}, "b": {}}}',
    b'{"group_by": ["kind"], "documents": {"a": {}, "b": {}}}',
    b'{"group_by": "kind", "documents": [1, 2]}', b'{"group_by": "kind", "documents": {"a": {}}}',
])
def test_files_of_strangers(content: bytes, path: Path) -> None:
    documents = made()
    rewrite(path, content)
    with pytest.raises(FormatError, match=r"saved\.farann"):
        documents.load(path, as_it_is)
    assert len(documents.index) == 0 and documents.by_id == {}


def test_an_index_without_documents(path: Path) -> None:
    index = Index()
    index.add([[1.0]], ["a"])
    index.save(path)
    with pytest.raises(FormatError, match=r"saved\.farann: expected documents"):
        loaded(path)


def test_groups_that_the_index_has_not(tmp_path: Path) -> None:
    documents = made()
    documents.put({"a": {"kind": 1}}, {"a": [1.0]})
    documents.save(tmp_path / "saved.farann", as_it_is)
    rewrite(tmp_path / "saved.farann", json.dumps(
        {"group_by": "kind", "documents": {"a": {"kind": 1}}}).encode())
    with pytest.raises(FormatError, match="groups"):
        loaded(tmp_path / "saved.farann")


def test_documents_of_a_mapped_file_are_checked(tmp_path: Path) -> None:
    """Also where they are large: they are read anyway."""
    documents, path = made(), tmp_path / "saved.farann"
    documents.put({"a": {"text": "x" * (1 << 20)}}, {"a": [1.0]})
    documents.save(path, as_it_is)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"xx", b"xy", 1))
    with pytest.raises(FormatError, match="'documents' is damaged"):
        made().load(path, as_it_is, mmap=True)


def test_ids_are_strings() -> None:
    documents = made()
    with pytest.raises(TypeError, match=r"^ids: expected strings, got 5"):
        documents.put({"a": {}, 5: {}}, {"a": [1.0], 5: [2.0]})  # type: ignore
    assert documents.by_id == {} and len(documents.index) == 0


def test_nobody_changes_stored_documents() -> None:
    documents, given = made(), {"list": [1]}
    documents.put({"a": given}, {"a": [1.0]})
    given["list"].append(2)
    for _ in range(2):
        for found in (documents.get(["a"]), documents.passing(lambda _: True),
                      [one for one, _ in documents.search("search_nearest", [1.0], 1)]):
            assert found == [{"list": [1]}]
            found[0]["list"].clear()


def test_options_come_back(tmp_path: Path) -> None:
    options = {"codes": "int4", "cells": 3, "dtype": "float16"}
    documents = made(metric="dot", **options)
    documents.put({"a": {}}, {"a": [1.0]})
    documents.save(tmp_path / "saved.farann", as_it_is)
    again = loaded(tmp_path / "saved.farann")
    assert again.options == options and again.index.metric == "dot"
    assert made().options == {}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_nobody_waits_for_a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(OSError, match="FIFO"):
        loaded(path)
