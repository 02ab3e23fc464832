"""``python -m bench edge --mixtures``: recall where some queries are unlike the rows."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from fnmatch import fnmatch

import numpy as np
from numpy.typing import NDArray

import farann
from farann.runtime.cost import cost_of

from .. import measures
from ..fetch import Unavailable
from ..results import Record
from .splits import SPLITS, Floats, Split

RECALLS, BATCHES = (0.8, 0.9, 0.95), (1, 40, 1000)
SHARES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_K = 10
_SHORT = 0.01  # recall that may be missing


def search(patterns: list[str] | None, scale: float, cells: tuple[str | None, ...] = (None, "auto"),
           ) -> Iterator[Record]:
    """Records of all splits whose names match: what is found of what is requested."""
    for name, (make, metrics) in SPLITS.items():
        chosen = [metric for metric in metrics if patterns is None or any(
            fnmatch(f"{name}-{metric}", pattern) for pattern in patterns)]
        if not chosen:
            continue
        try:
            split = make()
        except Unavailable as error:
            print(f"left out: {name}: {error}", file=sys.stderr)
            continue
        split = split if scale == 1.0 else split.smaller(scale)
        for metric in chosen:
            for layout in cells:
                yield from measured(f"{name}, {metric}", split, metric, layout)


def measured(name: str, split: Split, metric: str, cells: str | None) -> Iterator[Record]:
    """Records of a split: queries like the rows alone, then with each share of the others."""
    kth = {kind: measures.furthest(split.rows, queries, _K, metric)[1][:, -1]
           for kind, queries in {"": split.like, **split.unlike}.items()}
    index = farann.Index(metric=metric, cells=cells, threads=1)
    index.add(split.rows)
    index.build(split.sample, tune=(_K,))
    random = np.random.default_rng(11)
    for kind, queries in {"": split.like, **split.unlike}.items():
        n = min(len(split.like), len(queries))
        for share in SHARES if kind else (0.0,):
            few = round(share * n)
            mixed = np.vstack([split.like[: n - few], queries[:few]])
            found = np.concatenate([kth[""][: n - few], kth[kind][:few]])
            order = random.permutation(n)
            for recall in RECALLS:
                for batch in BATCHES:
                    yield {"name": name, "cells": cells, "kind": kind, "share": share,
                           "requested": recall, "batch": batch,
                           **_asked(index, split.rows, mixed[order], found[order], recall, batch)}


def _asked(index: farann.Index, rows: Floats, queries: Floats, kth: NDArray[np.float64],
           recall: float, batch: int) -> Record:
    """What is found in batches of that size, and counted."""
    store = index._live.store
    table = None if store is None else store.tunings.by_k.get(_K)
    if table is not None and table.guard is not None:
        table.guard.tests.late_surplus = 0.0  # no batch was asked before
    ids, works = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", farann.RecallWarning)
        for start in range(0, len(queries), batch):
            some = queries[start] if batch == 1 else queries[start : start + batch]
            hits = index.search_furthest(some, _K, recall=recall, return_stats=True)
            ids.append(np.atleast_2d(hits.ids))
            works.append(hits.stats)
    total = farann.SearchStats(*map(sum, zip(*works, strict=True)))
    cost = cost_of(total, rows.shape[1], index.isa, single=batch == 1)
    return {"recall": measures.recall(rows, queries, np.vstack(ids), kth, index.metric),
            "guarded": total.queries_guarded / total.queries, "counted": cost / total.queries}


def table(records: list[Record]) -> str:
    """Records as a Markdown table: what was found, less what was requested, by share.

    What lacks more than a hundredth is bold.

    Examples
    --------
    >>> alone = {"name": "a", "cells": None, "kind": "", "share": 0.0, "requested": 0.9,
    ...          "batch": 40, "recall": 0.921, "guarded": 0.0, "counted": 8000.0}
    >>> mixed = {**alone, "kind": "mirrored", "share": 0.1, "recall": 0.882}
    >>> for line in table([alone, mixed]).splitlines()[2:]:
    ...     print(line)
    | a | 0.9 | 40 | like the rows, 8.0 µs | +.021 |  |  |  |  |  |  |
    | a | 0.9 | 40 | mirrored |  |  |  | **-.018** |  |  |  |
    """
    heads = ["set", "requested", "batch", "queries", "0", *(f"{share:.0%}" for share in SHARES)]
    lines = [_line(heads), f"|{'---|' * 4}{'---:|' * (len(heads) - 4)}"]
    found: dict[tuple[str, ...], dict[float, str]] = {}
    for record in records:
        short = record["recall"] - record["requested"]
        cell = f"{short:+.3f}".replace("0.", ".")
        kind = record["kind"] or f"like the rows, {record['counted'] / 1000:.1f} µs"
        cells = "" if record["cells"] is None else f", cells={record['cells']}"
        row = record["name"] + cells, f"{record['requested']:g}", str(record["batch"]), kind
        found.setdefault(row, {})[record["share"]] = f"**{cell}**" if short < -_SHORT else cell
    lines += [_line([*row, *(cells.get(share, "") for share in (0.0, *SHARES))])
              for row, cells in found.items()]
    return "\n".join(lines)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
