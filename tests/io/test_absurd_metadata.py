"""Files whose metadata is absurd, with checksums that fit: they are refused, or do no harm."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import inside
import numpy as np
import pytest
from cases import assert_same
from code_file_cases import make_index

import farann

# As they stand in the file, where Python's own writer would not put some of them.
TEXTS = [
    "1e999", "-1e999", "NaN", "-Infinity", "1" + 400 * "0", "-1" + 400 * "0", "1" + 5000 * "0",
    "1" + 400 * "0" + ".5", "-1", "0", "-0.0", "5e-324", "1e308", "-1e308", "1.5", "2147483647",
    "16777216", "16777217", "281474976710655", "281474976710656", "9223372036854775807",
    "9223372036854775808", "18446744073709551616", "1" + 40 * "0", "true", "null", '""', '"x"',
    '"nan"', '"1"', "[]", "[[]]", "[null]", "{}", '{"a": 1}', "[[10, [[null, 1.0, 1.0]]]]",
    "[null, 1.0]",
    10_000 * "[" + 10_000 * "]",
]
Place = tuple[str | int, ...]


def with_vectors(rng: np.random.Generator) -> farann.Index:
    index = make_index(rng)
    index.tune(k=5)
    return index


def with_cells(rng: np.random.Generator) -> farann.Index:
    index = farann.Index(codes="int4", cells=3, keep_vectors=False)
    index.add(rng.standard_normal((300, 24)), np.arange(300) * 7)
    index.build()
    index.tune(k=5)
    return index


def without_rows(rng: np.random.Generator) -> farann.Index:
    return farann.Index(24)


MAKERS: dict[str, Callable[[np.random.Generator], farann.Index]] = {
    "vectors": with_vectors, "cells": with_cells, "no rows": without_rows}
OF_ALL: list[Place] = [(name,) for name in (
    "metric", "dim", "dtype", "count", "next_id", "codes", "cells", "keep_vectors", "seed", "built",
    "coded", "codes_recall", "for_nearest")]
OF_CODES: list[Place] = [
    ("tunings",), ("tunings", 0), *(("tunings", 0, name) for name in (
        "k", "rows", "deviations", "recalls", "costs", "predicted_thresholds", "single_costs",
        "late", "late_spread", "target", "sampled", "extends", "guard")),
    *(("tunings", 0, name, row) for row in (0, -1) for name in ("recalls", "costs")),
    ("for_nearest",)]
PLACES: dict[str, list[Place]] = {
    "vectors": [*OF_ALL, *OF_CODES],
    "cells": [*OF_ALL, *OF_CODES],
    "no rows": [*OF_ALL, ("tunings",)],
}


def write_with(path: Path, metadata: dict[str, Any], arrays: dict[str, Any], place: Place,
               text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a file that has a text at a place of its metadata."""
    changed = json.loads(json.dumps(metadata))
    part = changed
    for step in place[:-1]:
        part = part[step]
    part[place[-1]] = "@here@"
    payload = json.dumps(changed).replace('"@here@"', text).encode()
    with monkeypatch.context() as patch:
        patch.setattr(inside.settings, "encode_metadata", lambda _: payload)
        inside.files.write_file(path, {}, arrays)


def use(index: farann.Index, kind: str) -> farann.Hits | None:
    """Search in ways that read what the metadata says; the answer that must stay, if one must."""
    queries = np.ones((3, index.dim or 24), np.float32)
    if kind == "cells":
        index.search_furthest(queries, 5, recall=0.5)
        return index.search_furthest(queries, 5, budget=300)
    index.search_furthest(queries, 5, recall=0.5)
    index.add(queries)
    return index.search_furthest(queries[0], 5)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("saved")
    for kind, make in MAKERS.items():
        make(np.random.default_rng(0)).save(folder / kind)
    return {kind: folder / kind for kind in MAKERS}


@pytest.mark.parametrize("kind, place", [
    (kind, place) for kind, places in PLACES.items() for place in places])
def test_absurd_metadata(kind: str, place: Place, saved: dict[str, Path], tmp_path: Path,
                         monkeypatch: pytest.MonkeyPatch) -> None:
    metadata, arrays = inside.files.read_file(saved[kind])
    expected = use(farann.Index.load(saved[kind]), kind)
    path = tmp_path / "index.farann"
    refused = 0
    # Of files with rows each takes half of them, as both are read by the same code.
    for text in {"vectors": TEXTS[::2], "cells": TEXTS[1::2], "no rows": TEXTS}[kind]:
        write_with(path, metadata, arrays, place, text, monkeypatch)
        try:
            loaded = farann.Index.load(path)
        except farann.FormatError as error:
            assert len(str(error)) < 1000
            refused += 1
            continue
        if place == ("dim",) and kind == "no rows":
            continue  # an empty index of any dimension is fine
        found = use_or_run_out_of_ids(loaded, kind, place)
        # Ids count from where the file says; all else changes no answer.
        if expected is not None and found is not None and place[0] != "next_id":
            assert_same(found, expected)
    assert refused >= 3  # what is no JSON, or no finite number


def use_or_run_out_of_ids(index: farann.Index, kind: str, place: Place) -> farann.Hits | None:
    try:
        return use(index, kind)
    except ValueError as error:
        if place == ("next_id",) and str(error).startswith("ids: no int64 is left"):
            return None
        raise


@pytest.mark.parametrize("dim", [2**31 - 1, 2**24 + 1])
def test_a_file_of_a_few_bytes_takes_no_gigabytes(dim: int, tmp_path: Path) -> None:
    path = tmp_path / "index.farann"
    farann.Index(2**24).save(path)
    assert path.stat().st_size < 1000
    assert farann.Index.load(path).dim == 2**24
    metadata, _ = inside.files.read_file(path)
    inside.files.write_file(path, metadata | {"dim": dim}, {})
    with pytest.raises(farann.FormatError, match=f"dim: expected at most .*, got {dim}"):
        farann.Index.load(path)
