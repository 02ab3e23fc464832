"""``python -m bench edge --mixtures``: recall where some queries are unlike the rows."""

from __future__ import annotations

import pickle
import sys
import warnings
from collections.abc import Iterator
from fnmatch import fnmatch

import numpy as np
from numpy.typing import NDArray

import farann
from farann.results import share_found
from farann.runtime.cost import cost_of

from ..fetch import Unavailable
from ..results import Record
from .splits import SPLITS, Floats, Split

RECALLS, BATCHES = (0.8, 0.95), (1, 40, 1000)
SHARES = (0.05, 0.2, 1.0)
_K = 10
_STREAM = 500  # queries of each kind in batches of fewer
_SHORT = 0.03  # recall that may be missing


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
                for nearest in (False, True):
                    yield from measured(f"{name}, {metric}", split, metric, layout, nearest)


def measured(name: str, split: Split, metric: str, cells: str | None,
             nearest: bool = False, k: int = _K) -> Iterator[Record]:
    """Records of a split: queries like the rows alone, then with each share of the others."""
    index = farann.Index(metric=metric, cells=cells, threads=1)
    index.add(split.rows)
    index.build(split.sample, tune=(k,), nearest=nearest)
    kinds = {"": split.like, **split.unlike, "mirrored": -split.like,
             "rotated": _rotated(split.like)}
    if metric == "l2":
        kinds["4 times as long"] = 4.0 * split.like
    asked = index.search_nearest if nearest else index.search_furthest
    truth = {kind: asked(queries, k).ids for kind, queries in kinds.items()}
    random, fresh = np.random.default_rng(11), pickle.dumps(index)
    for kind, queries in kinds.items():
        for share in SHARES if kind else (0.0,):
            for batch in BATCHES:
                n = min(len(split.like), len(queries), max(batch, _STREAM))
                few = round(share * n)
                order = random.permutation(n)
                mixed = np.vstack([split.like[: n - few], queries[:few]])[order]
                true = np.vstack([truth[""][: n - few], truth[kind][:few]])[order]
                for recall in RECALLS:
                    yield {"name": name, "cells": cells, "nearest": nearest, "k": k, "kind": kind,
                           "share": share, "requested": recall, "batch": batch,
                           **_asked(pickle.loads(fresh), mixed, true, recall, batch, nearest)}


def _rotated(queries: Floats) -> Floats:
    """Queries turned around their mean, at random."""
    center = queries.mean(axis=0)
    turn, _ = np.linalg.qr(np.random.default_rng(12).standard_normal((queries.shape[1],) * 2))
    rotated: Floats = ((queries - center) @ turn + center).astype(np.float32)
    return rotated


def _asked(index: farann.Index, queries: Floats, truth: NDArray[np.int64], recall: float,
           batch: int, nearest: bool) -> Record:
    """What is found in batches of that size, and counted, by an index that wasn't asked before."""
    search = index.search_nearest if nearest else index.search_furthest
    ids, works = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", farann.RecallWarning)
        for start in range(0, len(queries), batch):
            some = queries[start] if batch == 1 else queries[start : start + batch]
            hits = search(some, truth.shape[1], recall=recall, return_stats=True)
            ids.append(np.atleast_2d(hits.ids))
            works.append(hits.stats)
    total = farann.SearchStats(*map(sum, zip(*works, strict=True)))
    cost = cost_of(total, queries.shape[1], index.isa, single=batch == 1)
    return {"recall": share_found(np.vstack(ids), truth),
            "guarded": total.queries_guarded / total.queries, "counted": cost / total.queries}


def table(records: list[Record]) -> str:
    """Records as a Markdown table: what was found, less what was requested, by share.

    What lacks more than three hundredths is bold.

    Examples
    --------
    >>> alone = {"name": "a", "cells": None, "nearest": False, "kind": "", "share": 0.0,
    ...          "requested": 0.9, "batch": 40, "recall": 0.921, "guarded": 0.0, "counted": 8000.0}
    >>> mixed = {**alone, "kind": "mirrored", "share": 0.2, "recall": 0.862}
    >>> for line in table([alone, mixed]).splitlines()[2:]:
    ...     print(line)
    | a | 0.9 | 40 | like the rows, 8.0 µs | +.021 |  |  |  |
    | a | 0.9 | 40 | mirrored |  |  | **-.038** |  |
    """
    heads = ["set", "requested", "batch", "queries", "0", *(f"{share:.0%}" for share in SHARES)]
    lines = [_line(heads), f"|{'---|' * 4}{'---:|' * (len(heads) - 4)}"]
    found: dict[tuple[str, ...], dict[float, str]] = {}
    for record in records:
        short = record["recall"] - record["requested"]
        cell = f"{short:+.3f}".replace("0.", ".")
        kind = record["kind"] or f"like the rows, {record['counted'] / 1000:.1f} µs"
        cells = "" if record["cells"] is None else f", cells={record['cells']}"
        cells = f", nearest{cells}" if record["nearest"] else cells
        row = record["name"] + cells, f"{record['requested']:g}", str(record["batch"]), kind
        found.setdefault(row, {})[record["share"]] = f"**{cell}**" if short < -_SHORT else cell
    lines += [_line([*row, *(cells.get(share, "") for share in (0.0, *SHARES))])
              for row, cells in found.items()]
    return "\n".join(lines)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
