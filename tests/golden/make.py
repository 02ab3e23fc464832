"""Write the files of this folder: ``python tests/golden/make.py FOLDER``, with the farann to keep.

`format2` and `format3` have files of these formats, `format1` one of format 1, which is refused. A
file that is here is never written anew: those of a later format go to a folder of their own.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import farann

N, DIM, N_QUERIES, K = 208, 12, 24, 10

# By which indexes of some rows have the layouts of large ones, in the words of this version.
SETTINGS: list[tuple[str, str, Any]] = [
    ("layout.build", "LEAST_SAMPLE", 64), ("layout.sampling", "LEAST_SAMPLE", 64),
    ("layout.added_rows", "LEAST_RUN", 16), ("runtime.pool", "_forced", "scalar"),
]
FILTER: list[tuple[str, str, Any]] = [
    ("quantize.pca_filter", "_WORTH_IT", 1e9), ("quantize.pca_filter", "_LARGEST_SHARE", 99.0),
]

# Name: metric and options. "changed" has ids of its own, removed rows, and added ones; "queries"
# is laid out for these; rows of "sparse" have one number, above 0; "named" has ids that are strings
# or not, and labels of groups.
FILES: dict[str, tuple[str, dict[str, Any]]] = {
    f"{codes}-{metric}": (metric, {"codes": codes})
    for codes in ("float32", "int8", "int4") for metric in ("l2", "cosine", "dot")
} | {
    "float32-dot-changed": ("dot", {"codes": "float32"}),
    "int8-l2-changed": ("l2", {"codes": "int8"}),
    "int4-cosine-changed": ("cosine", {"codes": "int4"}),
    "int8-cells-l2": ("l2", {"cells": 6}),
    "int8-cells-cosine-changed": ("cosine", {"cells": 6}),
    "int4-cells-dot": ("dot", {"codes": "int4", "cells": 6}),
    "int8-filter-l2": ("l2", {}), "int8-sparse-l2": ("l2", {}),
    "int8-queries-dot": ("dot", {}),
    "int8-queries-cosine": ("cosine", {}),
    "int8-alone-dot": ("dot", {"keep_vectors": False}),
    "int4-alone-l2": ("l2", {"codes": "int4", "keep_vectors": False}),
    "int4-cells-alone-cosine": ("cosine", {"codes": "int4", "cells": 6, "keep_vectors": False}),
    "words-named-cosine": ("cosine", {"cells": 6}), "numbers-named-dot": ("dot", {}),
}


def vectors(name: str = "") -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Rows and queries in steps of 1/64: mostly along few directions, and with a mean."""
    here = Path(__file__).parent
    rows, queries = (np.load(here / f"{part}.npy").astype(np.float32) / 64
                     for part in ("rows", "queries"))
    if "sparse" not in name:
        return rows, queries
    rows, queries = abs(rows), abs(queries)
    return np.where(rows == rows.max(axis=1, keepdims=True), rows, np.float32(0)), queries


def draw() -> None:
    rng = np.random.default_rng(48)
    spread = np.exp(-np.arange(DIM) / 4) * 300
    mixed = np.linalg.qr(rng.standard_normal((DIM, DIM)))[0]
    for name, n, mean in (("rows", N, 20.0), ("queries", N_QUERIES, 60.0)):
        drawn = (rng.standard_normal((n, DIM)) * spread + mean) @ mixed
        np.save(Path(__file__).parent / f"{name}.npy", np.rint(drawn).astype(np.int16))


def changed_ids() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ids of the rows of an index that was changed, and which were removed."""
    ids = np.arange(N, dtype=np.int64) * 7 + 1000
    return ids, ids[::9]


def names(name: str) -> tuple[Any, Any]:
    """Ids and labels of groups of a file that has both."""
    if name.startswith("words"):
        return [f"Wort {i} é" for i in range(N)], ["", "große", "small"] * (N // 3) + ["one"]
    return np.arange(N, dtype=np.int64) * 7 + 1000, np.arange(N, dtype=np.int64) % 5 - 2


def made(name: str) -> farann.Index:
    metric, options = FILES[name]
    rows, queries = vectors(name)
    index = farann.Index(DIM, metric, **options)
    if name.endswith("-changed"):
        ids, removed = changed_ids()
        index.add(rows[:-20], ids[:-20])
        index.build()
        index.add(rows[-20:], ids[-20:])
        index.remove(removed)
        return index
    named: tuple[Any, Any] = names(name) if "named" in name else (None, None)
    index.add(rows, named[0], groups=named[1])
    index.build(np.tile(queries, (8, 1)) if "queries" in name else None)
    if "cells" in name or "named" in name:
        index.tune(k=K)
    if "named" in name:
        index.tune(k=K, nearest=True)
    return index


def main(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name in FILES:
        more = FILTER if "filter" in name or "queries" in name else []
        for module, setting, value in SETTINGS + more:
            setattr(importlib.import_module(f"farann.{module}"), setting, value)
        path = folder / f"{name}.farann"
        if path.exists():
            raise FileExistsError(path)
        index = made(name)
        index.save(path)
        if not FILES[name][1].get("keep_vectors", True):
            found = index.search_furthest(vectors()[1], K, budget=N)
            np.savez(folder / f"{name}.npz", ids=found.ids.astype(np.int16), scores=found.scores)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
