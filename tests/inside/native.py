"""Of `farann/native`: instruction-set levels, what can be left out, searches without an index."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

import farann
import farann._core as core
from farann.contract.stop_rule import StopRule
from farann.diverse.member_sets import _low_bits as low_bits
from farann.native import _library as library
from farann.native.kernels import MECHANISMS, leave_out

_only: tuple[str, ...] | None = None


def levels() -> tuple[str, ...]:
    """The instruction-set levels to test, slowest first: all that the core has on this CPU."""
    return core.isa_levels() if _only is None else _only


def only_level(level: str) -> None:
    """Test at this level alone (pytest --one-level)."""
    global _only
    _only = (level,)


def largest_code(level: str) -> int:
    """Of a query's codes, in magnitude: what the products of bytes of a level allow."""
    return core.largest_query_code(level)


def work_of(task: Any) -> farann.SearchStats:
    """What a task did."""
    return farann.SearchStats(1, *task.did())


# ---- searches without an index: the one place that puts snapshots and tasks together ----


def snapshot_of_rows(rows: npt.NDArray[Any], metric: str, level: str, *,
                     codes: core.Codes | None = None, center: npt.NDArray[np.float64] | None = None,
                     ids: npt.NDArray[np.int64] | None = None, **others: Any) -> core.Snapshot:
    """Rows as searches see them."""
    middle = np.zeros(rows.shape[1]) if center is None else center
    return core.Snapshot(rows, rows[:0], ids, None, middle, core.METRICS.index(metric), level,
                         codes=codes, **others)


def task_of(snapshot: core.Snapshot, queries: npt.NDArray[np.float32], k: int, *,
            rule: StopRule | None = None, nearest: bool = False,
            chosen: core.Filter | None = None, start: int = 0, stop: int | None = None,
            collector: core.Collector | None = None, **options: Any) -> Any:
    """A task of `core` for some of the queries, all by default; `rule` says where it stops, and
    `collector` what is found, by default the k best rows."""
    chosen = core.Filter(snapshot) if chosen is None else chosen
    stop = len(queries) if stop is None else stop
    return core.Task(snapshot, chosen, queries, start, stop, collector or core.Collector(k),
                     nearest, rule, **options)


def run(task: Any, n_queries: int, k: int) -> farann.Hits:
    """What a task finds."""
    task.run()
    hits = farann.Hits(scores=np.empty((n_queries, k), np.float32),
                       ids=np.empty((n_queries, k), np.int64))
    task.write_top(hits.scores, hits.ids, 0)
    return hits


@contextmanager
def watched(*names: str, **methods: Callable[..., Any]) -> Iterator[None]:
    """Let new tasks call ``method(task, usual method, *arguments)`` instead of some methods.

    `names` are classes of `core`, `Task` unless told otherwise.
    """
    usual = {name: getattr(core, name) for name in names or ("Task",)}
    for name, kind in usual.items():
        setattr(core, name, _watched_kind(kind, methods))
    try:
        yield
    finally:
        for name, kind in usual.items():
            setattr(core, name, kind)


def _watched_kind(kind: Any, methods: dict[str, Callable[..., Any]]) -> type:
    def instead(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        return lambda self, *given, **options: method(
            self, partial(getattr(kind, name), self), *given, **options)

    own = {name: instead(name, method) for name, method in methods.items()}
    begin = own.pop("__init__", kind.__init__)

    def with_flag(self: Any, *given: Any, flag: Any = None, **options: Any) -> None:
        self.flag = flag
        begin(self, *given, flag=flag, **options)

    return type(f"Watched{kind.__name__}", (kind,), {**own, "__init__": with_flag})
