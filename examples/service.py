"""A search service with many readers and one writer: a WSGI application.

FARANN_INDEX=items.farann gunicorn --preload --workers 4 --threads 2 service:application

Workers map the same file, so that rows and codes are in memory once. Another process writes a new
file in its place (`Index.save` replaces it in one step), and each worker goes on with the new one
from its next request. GET / tells how many rows are served; POST / with
{"queries": [[...], ...], "k": 10, "exclude": [...]} answers.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

import farann

MOST_BYTES = 16 << 20  # of a request
MOST_RESULTS = 1 << 20  # of an answer: queries times k
OPTIONS = {"k", "recall", "epsilon", "budget", "seconds", "exclude", "allowed"}


class Served:
    """The index of a file, mapped; loaded again once another file has its name."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        self._version, self._index = self._load()

    def index(self) -> farann.Index:
        """The newest index that can be read; others of the worker's threads go on with the old."""
        try:
            changed = _version(self._path) != self._version
        except OSError:
            changed = False
        if changed and self._lock.acquire(blocking=False):
            try:
                self._version, self._index = self._load()
            except (OSError, farann.FormatError) as error:  # the old one still answers
                print(f"{self._path}: {error}", flush=True)
            finally:
                self._lock.release()
        return self._index

    def _load(self) -> tuple[tuple[int, ...], farann.Index]:
        version = _version(self._path)
        return version, farann.Index.load(self._path, mmap=True)


def _version(path: Path) -> tuple[int, ...]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


served = Served(Path(os.environ["FARANN_INDEX"]))


def application(request: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    """Answer one request."""
    try:
        status, answer = "200 OK", answered(request)
    except (KeyError, RecursionError, TypeError, ValueError) as error:  # they say what is wrong
        status, answer = "400 Bad Request", {"error": str(error)}
    body = json.dumps(answer).encode()
    start(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def answered(request: dict[str, Any]) -> dict[str, Any]:
    """What a request asks for; ValueError, TypeError or KeyError for one that can't be read."""
    index = served.index()
    if request["REQUEST_METHOD"] == "GET":
        return {"rows": len(index), "dim": index.dim, "metric": index.metric}
    length = int(request.get("CONTENT_LENGTH") or 0)
    if not 0 <= length <= MOST_BYTES:
        raise ValueError(f"expected 0 to {MOST_BYTES} bytes, got {length}")
    asked = json.loads(request["wsgi.input"].read(length))
    if not isinstance(asked, dict):
        raise TypeError("expected an object with queries")
    queries = asked.pop("queries")  # the index checks them, in little memory
    if unknown := asked.keys() - OPTIONS:
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
    k = asked.pop("k", 10)
    several = isinstance(queries, list) and any(isinstance(one, list) for one in queries)
    if isinstance(k, int) and k * (len(queries) if several else 1) > MOST_RESULTS:
        raise ValueError(f"expected at most {MOST_RESULTS} results, queries times k")
    # Other requests have the other cores.
    hits = index.search_furthest(queries, k, **asked, threads=1)
    scores = np.where(np.isfinite(hits.scores), hits.scores, None)  # JSON has no NaN
    return {"ids": hits.ids.tolist(), "scores": scores.tolist()}
