"""The service of examples/service.py: its answers, and that it never stops answering."""

from __future__ import annotations

import http.client
import importlib.util
import io
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import farann

EXAMPLES = Path(__file__).parents[2] / "examples"
ROWS = np.random.default_rng(0).standard_normal((300, 8), dtype=np.float32)


def saved(path: Path, n: int) -> farann.Index:
    index = farann.Index(metric="cosine")
    index.add(ROWS[:n])
    index.save(path)
    return index


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    saved(tmp_path / "items.farann", 200)
    monkeypatch.setenv("FARANN_INDEX", str(tmp_path / "items.farann"))
    spec = importlib.util.spec_from_file_location("service", EXAMPLES / "service.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ask(service: Any, method: str = "POST", **asked: Any) -> tuple[str, Any]:
    body = json.dumps(asked).encode()
    status: list[str] = []
    request = {"REQUEST_METHOD": method, "CONTENT_LENGTH": str(len(body)),
               "wsgi.input": io.BytesIO(body)}
    (answer,) = service.application(request, lambda line, headers: status.append(line))
    return status[0], json.loads(answer)


def test_answers(service: Any, tmp_path: Path) -> None:
    index = farann.Index.load(tmp_path / "items.farann")
    right = index.search_furthest(ROWS[:3], k=4, exclude=[1])
    assert ask(service, queries=ROWS[:3].tolist(), k=4, exclude=[1]) == (
        "200 OK", {"ids": right.ids.tolist(), "scores": right.scores.tolist()})
    assert ask(service, "GET") == ("200 OK", {"rows": 200, "dim": 8, "metric": "cosine"})
    one = ask(service, queries=ROWS[0].tolist(), k=2, allowed=[7])[1]
    assert one["ids"] == [7, -1] and one["scores"][1] is None
    few = ask(service, queries=ROWS[:3].tolist(), k=4, recall=0.9)[1]
    assert few["queries_guarded"] == index.search_furthest(
        ROWS[:3], k=4, recall=0.9, return_stats=True).stats.queries_guarded


@pytest.mark.parametrize(("asked", "words"), [
    ({"queries": [[1.0, 2.0]]}, "dimension 8, got 2"), ({}, "queries: missing"),
    ({"queries": ROWS[:1].tolist(), "threads": 4000}, "unknown: threads"),
    ({"queries": ROWS[:1].tolist(), "k": 0}, "k: expected"),
    ({"queries": ROWS[:2].tolist(), "k": 2**20}, "at most 1048576 results"),
    ({"queries": [[1.0] * 8, [1.0]]}, ""), ({"queries": [["1"] * 8]}, "got strings"),
])
def test_bad_requests(service: Any, asked: dict[str, Any], words: str) -> None:
    status, answer = ask(service, **asked)
    assert status == "400 Bad Request" and words in answer["error"]


LONG = "x" * 40_000


@pytest.mark.parametrize("asked", [
    {"queries": [[LONG] + ["1"] * 7] * 2}, {"queries": [[1.0] * 8] * 500 + [[LONG] + [1.0] * 7]},
    {"queries": [[[LONG] + [""] * 999]]}, {"queries": [LONG] + [1] * 999},
    {"queries": [[1.0] * 8], "exclude": [LONG] + [1] * 999},
    {"queries": [[1.0] * 8], "exclude": [[1] * 999 + [LONG]]},
    {"queries": [[1.0] * 8], "allowed": [1] * 999 + [LONG]}], ids=lambda asked: str(asked)[:40])
def test_strings_in_little_memory(service: Any, asked: dict[str, Any]) -> None:
    """numpy would make room for the longest one in the place of each."""
    tracemalloc.start()
    try:
        status, answer = ask(service, **asked)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert status == "400 Bad Request" and "expected" in answer["error"]
    assert len(answer["error"]) < 500


@pytest.mark.parametrize(("body", "length"), [
    (b"[" * 10_000, None), (b"[]", None), (b"5", None), (b"\xff", None), (b"{}", "-1"),
    (b"{}", "x"), (b"{}", str(10**9))])
def test_bodies_of_strangers(service: Any, body: bytes, length: str | None) -> None:
    """Each is refused, and nothing is read beyond the length."""
    status: list[str] = []
    stream = io.BytesIO(body)
    request = {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": length or str(len(body)),
               "wsgi.input": stream}
    service.application(request, lambda line, headers: status.append(line))
    assert status == ["400 Bad Request"] and (length is None or stream.tell() == 0)


def test_a_file_in_its_place_is_served_without_a_gap(service: Any, tmp_path: Path) -> None:
    """Each answer is that of one of the files, and after the last change of the last."""
    right = {n: saved(tmp_path / "other.farann", n).search_furthest(ROWS[0], k=5).ids.tolist()
             for n in (200, 300)}
    assert right[200] != right[300]
    found: list[Any] = []
    going = threading.Event()
    going.set()

    def read() -> None:
        while going.is_set():
            found.append(ask(service, queries=ROWS[0].tolist(), k=5))

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for n in (300, 200) * 5 + (300,):
        saved(tmp_path / "items.farann", n)
    going.clear()
    for reader in readers:
        reader.join()
    assert {status for status, _ in found} <= {"200 OK"}
    assert all(answer["ids"] in right.values() for _, answer in found)
    assert ask(service, queries=ROWS[0].tolist(), k=5)[1]["ids"] == right[300]


def test_synced_changes_are_served(service: Any, tmp_path: Path) -> None:
    index = farann.Index.load(tmp_path / "items.farann")
    for n in range(200, 205):
        index.add(ROWS[n : n + 1])
        index.remove(n - 200)
        index.sync(tmp_path / "items.farann")
        assert ask(service, "GET")[1]["rows"] == 200
        assert ask(service, queries=ROWS[:3].tolist(), k=3)[1]["ids"] == (
            index.search_furthest(ROWS[:3], k=3).ids.tolist())
    index.close()


def test_a_damaged_file_leaves_the_old_one(service: Any, tmp_path: Path) -> None:
    before = ask(service, "GET")
    (tmp_path / "bad").write_bytes(b"no index")
    os.replace(tmp_path / "bad", tmp_path / "items.farann")
    assert ask(service, "GET") == before
    saved(tmp_path / "items.farann", 300)
    assert ask(service, "GET")[1]["rows"] == 300


class Connection(http.client.HTTPConnection):
    """HTTP over a socket of the file system: nothing listens on a network."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def is_listening(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as asked:
        return asked.connect_ex(path) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="gunicorn needs Unix")
def test_gunicorn_with_preload(tmp_path: Path) -> None:
    """Two workers answer from one mapped file."""
    pytest.importorskip("gunicorn", reason="needs gunicorn")
    index = saved(tmp_path / "items.farann", 200)
    with tempfile.TemporaryDirectory(prefix="farann-") as short:  # sockets have short names
        path = f"{short}/s"
        server = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "--preload", "--workers", "2", "--threads", "2",
             "--bind", f"unix:{path}", "service:application"], cwd=EXAMPLES, text=True,
            env={**os.environ, "FARANN_INDEX": str(tmp_path / "items.farann"), "HOME": short,
                 "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stderr=subprocess.PIPE)
        try:
            right = index.search_furthest(ROWS[:2], k=3).ids.tolist()
            while not is_listening(path):
                assert server.poll() is None, server.communicate()
                time.sleep(0.05)
            for _ in range(8):
                connection = Connection(path)
                connection.request("POST", "/", json.dumps({"queries": ROWS[:2].tolist(), "k": 3}))
                assert json.load(connection.getresponse())["ids"] == right
                connection.close()
        finally:
            server.terminate()
            server.communicate()
