"""What a file of results already holds, so that an interrupted run goes on where it stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .results import LIBRARY, Record, place, read

_SAME = ("algorithm", "version", "dataset", "rows", "dim", "k", "build", "variant")


class Done:
    """Measurements of earlier runs on this machine, with the same options, of these versions.

    Parameters
    ----------
    path : Path
        A file of JSON lines; it need not exist.
    run : dict
        What a run that starts now would write of itself: ``machine``, ``options``, ``commit``.
        Results of farann count only from the same commit without changes, those of the
        others by their version.
    """

    def __init__(self, path: Path, run: Record) -> None:
        self._tried: set[str] = set()
        self._searches: dict[str, list[Any]] = {}
        self._growth: set[str] = set()
        lines = read(path) if path.exists() else []
        alike = {
            line["run"]: line["commit"] == run["commit"] and "+" not in run["commit"]
            for line in lines
            if line["kind"] == "run"
            and place(line["machine"]) == place(run["machine"])
            and line["options"] == run["options"]
        }
        for line in lines:
            if line["kind"] == "run" or line["run"] not in alike:
                continue
            if line.get("library") == LIBRARY and not alike[line["run"]]:
                continue
            if line["kind"] == "failure":
                self._tried.add(_key(line))
            elif line["kind"] == "result":
                self._searches.setdefault(_key(line), []).append(line["search"])
            elif line["kind"] == "growth":
                self._growth.add(_point(line))

    def index(self, about: Record, searches: list[dict[str, Any]]) -> bool:
        """Whether all searches of an index were timed, or it failed."""
        key = _key(about)
        there = self._searches.get(key, [])
        return key in self._tried or all(search in there for search in searches)

    def point(self, about: Record) -> bool:
        """Whether the growth run has results of an algorithm at a size."""
        return _point(about) in self._growth


def _key(line: Record) -> str:
    return json.dumps([line.get(name) or None for name in _SAME], sort_keys=True)


def _point(line: Record) -> str:
    return json.dumps([line[name] for name in _SAME[:6]])
