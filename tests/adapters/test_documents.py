"""Documents beside an index: files of strangers, and paths that would lose something."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import inside
import pytest

from farann import FormatError, Index


def made(**options: Any) -> inside.adapters.Documents[dict[str, Any]]:
    return inside.adapters.Documents(as_it_is, **options)


def as_it_is(one: Any) -> Any:
    return one


@pytest.fixture
def path(tmp_path: Path) -> Path:
    documents = made(group_by="kind")
    documents.put({"a": {"kind": 1}, "b": {"kind": 2}}, {"a": [1.0, 0.0], "b": [0.0, 1.0]})
    documents.save(tmp_path / "saved.json", as_it_is)
    return tmp_path / "saved.json"


def test_saved_documents_come_back(path: Path) -> None:
    documents = made()
    documents.load(path, as_it_is)
    assert documents.search("search_nearest", [1.0, 0.0], 2, {"kind": 2}) == [({"kind": 2}, 0.0)]


@pytest.mark.parametrize("content", [
    b"", b"[]", b"5", b"null", b"{}", b"\xff\xfe", b"[" * 100_000, pickle.dumps({"group_by": None}),
    b'{"group_by": 5, "documents": {"a": {}, "b": {}}}',
    b'{"group_by": ["kind"], "documents": {"a": {}, "b": {}}}',
    b'{"group_by": "kind", "documents": [1, 2]}', b'{"group_by": "kind", "documents": {"a": {}}}',
])
def test_files_of_strangers(content: bytes, path: Path) -> None:
    documents = made()
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"saved\.json"):
        documents.load(path, as_it_is)
    assert len(documents.index) == 0 and documents.by_id == {}


def test_groups_that_the_index_has_not(path: Path) -> None:
    index = Index()
    index.add([[1.0]], ["a"])
    index.save(path.with_suffix(".farann"))
    path.write_text(json.dumps({"group_by": "kind", "documents": {"a": {"kind": 1}}}))
    with pytest.raises(FormatError, match="groups"):
        made().load(path, as_it_is)


def test_the_index_is_not_written_over(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'all\.farann'"):
        made().save(tmp_path / "all.farann", as_it_is)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_nobody_waits_for_a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(OSError, match="FIFO"):
        made().load(path, as_it_is)
