"""A search service with many readers and one writer: a WSGI application.

FARANN_INDEX=items.farann gunicorn --preload --workers 4 --threads 2 service:application

Workers map the same file, so that rows and codes are in memory once. Another process changes it:
`Index.sync` appends what changed, `Index.save` replaces it. Each worker takes that over before its
next request. GET / tells how many rows are served; POST / with
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
    """The index of a file, mapped; it takes changes over once the file differs."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock, self._version = path, threading.Lock(), _version(path)
        self._index = farann.Index.load(path, mmap=True)

    def index(self) -> farann.Index:
        """The index, as new as it can be read; searches of other threads go on meanwhile."""
        try:
            changed = _version(self._path) != self._version
        except OSError:
            changed = False
        if changed and self._lock.acquire(blocking=False):
            try:
                version = _version(self._path)
                self._index.reload()
                self._version = version
            except (OSError, ValueError) as error:  # it answers as before
                print(f"{self._path}: {error}", flush=True)
            finally:
                self._lock.release()
        return self._index


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
    if "queries" not in asked:
        raise ValueError("queries: missing")
    queries = asked.pop("queries")  # the index checks them, in little memory
    if unknown := asked.keys() - OPTIONS:
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
    k = asked.pop("k", 10)
    several = isinstance(queries, list) and any(isinstance(one, list) for one in queries)
    if isinstance(k, int) and k * (len(queries) if several else 1) > MOST_RESULTS:
        raise ValueError(f"expected at most {MOST_RESULTS} results, queries times k")
    # Other requests have the other cores.
    hits = index.search_furthest(queries, k, **asked, threads=1, return_stats="recall" in asked)
    scores = np.where(np.isfinite(hits.scores), hits.scores, None)  # JSON has no NaN
    guarded = {"queries_guarded": hits.stats.queries_guarded} if hits.stats else {}
    return {"ids": hits.ids.tolist(), "scores": scores.tolist(), **guarded}
