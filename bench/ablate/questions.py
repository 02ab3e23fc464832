"""What is asked with and without a mechanism, and what is counted of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

import farann
from farann import _core

from ..datasets import DataSet

_K, _ALONE, _FEW, _SETS, _MEMBERS = 10, 64, 3, 16, 8
_WAYS: dict[str, dict[str, Any]] = {"exact": {}, "0.95": {"recall": 0.95}}
_TASKS = ("Greedy", "SetSearch", "Task")

Floats = NDArray[np.float32]
Ask = Callable[[farann.Index, Floats, dict[str, Any]], Any]


@dataclass(frozen=True)
class Question:
    """A way to ask, for queries of a set."""

    batch: Ask
    single: Ask | None = None
    limits: bool = True  # whether it takes `recall=`
    stats: bool = True  # and `return_stats=`
    added: int = 0  # of the rows one in so many is added after the build; 0: none


def _search(index: farann.Index, queries: Floats, options: dict[str, Any]) -> Any:
    return index.search_furthest(queries, _K, **options)


def _one_by_one(index: farann.Index, queries: Floats, options: dict[str, Any]) -> Any:
    return [index.search_furthest(query, _K, **options) for query in queries[:_ALONE]]


def _in_batches(of: int) -> Ask:
    def ask(index: farann.Index, queries: Floats, options: dict[str, Any]) -> Any:
        return [index.search_furthest(queries[at : at + of], _K, **options)
                for at in range(0, len(queries), of)]
    return ask


def _allowed(one_in: int) -> Ask:
    def ask(index: farann.Index, queries: Floats, options: dict[str, Any]) -> Any:
        return index.search_furthest(queries, _K, allowed=index.ids[::one_in], **options)
    return ask


def _unlike(index: farann.Index, queries: Floats, options: dict[str, Any]) -> Any:
    # Such as have other rows for answers than the sample had: turned, and from far away.
    turned = np.roll(queries, queries.shape[1] // 2, axis=1) * 2
    turned[::2] = queries[::2] * 8 + 3
    return index.search_furthest(turned, _K, **options)


def _sets(index: farann.Index, queries: Floats, options: dict[str, Any]) -> Any:
    size = min(_MEMBERS, len(queries))
    return index.search_furthest_from(
        [np.roll(queries, -i * size, axis=0)[:size] for i in range(_SETS)], _K, **options)


def _few_sets(index: farann.Index, queries: Floats, options: dict[str, Any]) -> Any:
    return [index.search_furthest_from([queries[i : i + _MEMBERS]], _K, **options)
            for i in range(_FEW)]


def _select(k: int) -> Ask:
    return lambda index, queries, options: index.select_diverse(k)


QUESTIONS = {
    "search": Question(_search, _one_by_one),
    "single": Question(_one_by_one),
    "few": Question(_in_batches(_FEW), limits=False),
    "small-batches": Question(_in_batches(32), limits=False),
    "small-rows": Question(_search, limits=False),
    "large-k": Question(lambda index, queries, options: index.search_furthest(
        queries, 100, **options), limits=False),
    "masked": Question(_allowed(4), limits=False),
    "listed": Question(_allowed(100), limits=False),
    "unlike": Question(_unlike),
    "added": Question(_search, _one_by_one, added=8),
    "sets": Question(_sets, _few_sets, limits=False),
    "selection": Question(_select(1000), limits=False, stats=False),
    "mmr": Question(lambda index, queries, options: index.search_mmr(queries[:_FEW], _K),
                    limits=False, stats=False),
    "diameter": Question(lambda index, queries, options: index.diameter(), limits=False,
                         stats=False),
}


def asks(question: Question, exact: bool = True) -> dict[tuple[str, str], Ask]:
    """Ways to ask: exact or with a recall, in batches or single; without vectors none is exact."""
    modes = {"batch": question.batch, "single": question.single}
    if question.batch is _search:
        modes |= {"tens": _in_batches(10), "threads": _with(_search, {"threads": 2})}
    return {(way, mode): _with(ask, options) for way, options in _WAYS.items()
            for mode, ask in modes.items()
            if ask is not None and (question.limits or way == "exact") and (
                exact or way != "exact")}


def _with(ask: Ask, options: dict[str, Any]) -> Ask:
    return lambda index, queries, more: ask(index, queries, {**options, **more})


def built(data: DataSet, options: dict[str, Any], question: Question) -> farann.Index:
    """An index to ask, built with the sample of a set."""
    index = farann.Index(metric=data.metric, **{"threads": 1, **options})
    rows = data.rows()
    later = len(rows) // question.added if question.added else 0
    index.add(rows[: len(rows) - later])
    index.build(queries=data.sample())
    for some in np.array_split(rows[len(rows) - later :], 8) if later else []:
        index.add(some)
    if question.limits:
        index.tune(k=_K)  # otherwise first searches with a recall would be exact
    return index


def counts(index: farann.Index, question: Question, ask: Ask, queries: Floats) -> dict[str, int]:
    """What tasks of the core do, and what `SearchStats` of searches have."""
    with _counted() as total:
        found = ask(index, queries, {"return_stats": True} if question.stats else {})
    for hits in (found if isinstance(found, list) else [found]) if question.stats else []:
        total.update(hits.stats._asdict())
    return dict(total)


@contextmanager
def _counted() -> Iterator[Counter[str]]:
    """Count what all tasks of the core do meanwhile, but for those that are kept."""
    total: Counter[str] = Counter()
    patchers = [mock.patch.object(_core, name, _counting(getattr(_core, name), total))
                for name in _TASKS]
    for patcher in patchers:
        patcher.start()
    try:
        yield total
    finally:
        for patcher in patchers:
            patcher.stop()


def _counting(task: Any, total: Counter[str]) -> Any:
    class Counting(task):  # type: ignore[misc]
        def run(self, *arguments: Any) -> Any:
            before = self.did()
            result = super().run(*arguments)
            total["tasks"] += 1
            for i, (old, new) in enumerate(zip(before, self.did(), strict=True)):
                total[f"{task.__name__} {i}"] += new - old
            return result

    return Counting
