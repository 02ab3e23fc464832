"""Files of partitioned indexes: the same bytes again, and sections that don't fit together."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import inside
import numpy as np
import pytest
from approximate_cases import clustered
from cases import assert_same, index_of
from numpy.typing import NDArray
from reference import METRICS

import farann

N, DIM, N_CELLS = 900, 6, 5
ROWS = clustered(np.random.default_rng(0), N, DIM)
QUERIES = clustered(np.random.default_rng(1), 7, DIM)
LIMITS: tuple[dict[str, Any], ...] = ({}, {"recall": 0.6}, {"epsilon": 0.1}, {"budget": 200})
Arrays = dict[str, NDArray[Any]]
PARTS = [f"partitions.{name}" for name in ("starts", "panels", "inv_scale", "squares", "step")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "index.farann"


@pytest.fixture
def parts(path: Path) -> tuple[dict[str, Any], Arrays]:
    """Metadata and arrays of a partitioned index that is tuned."""
    index = index_of(ROWS, cells=N_CELLS).build()
    index.tune(k=4)
    index.save(path)
    return inside.files.read_file(path)


def refused(path: Path, metadata: dict[str, Any], arrays: Arrays) -> bool:
    """Load what was made up: refused, or an index that answers every question with its rows."""
    inside.files.write_file(path, metadata, arrays)
    found = []
    for mmap in (False, True):
        try:
            index = farann.Index.load(path, mmap=mmap)
        except farann.FormatError:
            found.append(True)
            continue
        found.append(False)
        for limit in LIMITS:
            for queries in (QUERIES, QUERIES[0]):
                hits = index.search_furthest(queries, 4, **limit)
                assert np.isin(hits.ids, np.arange(N)).all()
                ids = np.atleast_2d(hits.ids).tolist()
                assert all(len(set(row)) == 4 for row in ids)
    assert found[0] == found[1]
    return found[0]


@pytest.mark.parametrize("metric", METRICS)
def test_the_same_bytes_again(metric: str, path: Path) -> None:
    contents = set()
    for threads in (1, 2):
        index = index_of(ROWS, metric, cells=N_CELLS, threads=threads).build()
        index.save(path)
        contents.add(path.read_bytes())
        for mmap in (False, True):
            again = farann.Index.load(path, mmap=mmap)
            for limit in ({}, {"budget": 200}, {"epsilon": 0.1}):
                assert_same(again.search_furthest(QUERIES, threads=1, **limit),
                            index.search_furthest(QUERIES, threads=1, **limit))
            again.save(path)
            contents.add(path.read_bytes())
    assert len(contents) == 1


def test_what_is_in_it(parts: Any, path: Path) -> None:
    metadata, arrays = parts
    assert metadata["cells"] == N_CELLS and arrays["partitions.step"][0] > 0.0
    starts = arrays["partitions.starts"]
    assert len(starts) == N_CELLS + 1 and (starts % 16 == 0).all() and (np.diff(starts) > 0).all()
    assert arrays["partitions.panels"].shape == (16, 4 * (2 + 1))
    assert arrays["partitions.inv_scale"].shape == (1,)
    assert arrays["partitions.squares"].shape == (16,)
    (table,) = metadata["tunings"]
    assert table["k"] == 4 and table["deviations"][-1] is None and table["recalls"][-1] == 1.0
    assert not refused(path, metadata, arrays)


def test_sections_left_out(parts: Any, path: Path) -> None:
    metadata, arrays = parts
    for name in ("starts", "panels", "inv_scale", "squares", "step", "relative"):
        rest = {other: array for other, array in arrays.items() if other != f"partitions.{name}"}
        assert refused(path, metadata, rest), name


def test_shapes_and_types(parts: Any, path: Path) -> None:
    metadata, arrays = parts
    for name in PARTS:
        array = arrays[name]
        for other in (array[:-1], array[:0], np.concatenate([array, array[-1:]]), array[None],
                      array.astype("f8"), array.astype("i2")):
            if name == "partitions.starts" and other.dtype == array.dtype and (
                    other.shape == (len(array) + 1,)):
                # One cell more, with nothing in it.
                assert not refused(path, metadata, {**arrays, name: other})
                continue
            if other.dtype != array.dtype or other.shape != array.shape:
                assert refused(path, metadata, {**arrays, name: other}), (name, other.shape)


def test_starts(parts: Any, path: Path) -> None:
    metadata, arrays = parts
    starts = arrays["partitions.starts"]
    # The last three hide rows from searches that visit cells.
    wrong = [starts[::-1], starts + 1, starts - starts[1], starts + 2**40, starts - 2**62,
             np.zeros_like(starts), starts // 32 * 16, starts[:-1]]
    for at in range(len(starts)):
        for off in (-8, 1, 2**33, 2**63 - 1):
            other = starts.copy()
            other[at] = off if off == 2**63 - 1 else other[at] + off
            wrong.append(other)
    for other in wrong:
        assert refused(path, metadata, {**arrays, "partitions.starts": other}), other
    # Cells without rows do no harm, nor do rows before the first cell, which are always scanned.
    for other in (np.append(starts, starts[-1]), np.full_like(starts, starts[-1])):
        assert not refused(path, metadata, {**arrays, "partitions.starts": other}), other


def test_codes_behind_the_last_cell(parts: Any, path: Path) -> None:
    """They are no cells, however much they promise."""
    metadata, arrays = parts
    panels, squares = arrays["partitions.panels"].copy(), arrays["partitions.squares"].copy()
    panels.reshape(-1, 16, 4)[:, N_CELLS:] = 255
    squares[N_CELLS:] = 3e38
    assert not refused(path, metadata, {
        **arrays, "partitions.panels": panels, "partitions.squares": squares})


def test_unit(parts: Any, path: Path) -> None:
    metadata, arrays = parts
    for unit in (0.0, -0.0, -1e-9, np.nan, np.inf, -np.inf):
        assert refused(path, metadata, {**arrays, "partitions.step": np.array([unit])}), unit
    for unit in (5e-324, 1e-300, 1e300):  # senseless, but numbers
        assert not refused(path, metadata, {**arrays, "partitions.step": np.array([unit])})
    tiny = np.full_like(arrays["partitions.inv_scale"], 1e-30)
    assert refused(path, metadata, {**arrays, "partitions.step": np.array([1e300]),
                                    "partitions.inv_scale": tiny})


@pytest.mark.parametrize("name", ["inv_scale", "squares"])
def test_values_of_cells(name: str, parts: Any, path: Path) -> None:
    metadata, arrays = parts
    for value in (np.nan, np.inf, -np.inf, -1e-30, 0.0, 1e-45, 1e-38, 1e30, 3.4e38):
        for at in (0, slice(None)):
            other = arrays[f"partitions.{name}"].copy()
            other[at] = value
            number = 0.0 <= value < np.inf and (value > 0.0 or name == "squares")
            assert refused(path, metadata, {**arrays, f"partitions.{name}": other}) != number, value


@pytest.mark.parametrize("name", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_json_lacks(name: str, parts: Any, path: Path) -> None:
    metadata, arrays = parts
    for key, value in (("codes_recall", float(name)), ("tunings", [{"target": float(name)}])):
        with pytest.raises(ValueError, match="JSON"):
            inside.files.write_file(path, {**metadata, key: value}, arrays)


def test_cells_need_codes(parts: Any, path: Path) -> None:
    metadata, arrays = parts
    assert refused(path, {**metadata, "codes": "float32"}, arrays)
    for cells in (0, -1, 2.5, "many", [1], True):
        assert refused(path, {**metadata, "cells": cells}, arrays), cells
    # What the index is asked to be may differ from what its last build made.
    for good in (None, 3, "auto"):
        assert not refused(path, {**metadata, "cells": good}, arrays), good


def test_tunings(parts: Any, path: Path) -> None:
    metadata, arrays = parts
    table: dict[str, Any] = {
        "k": 4, "rows": [], "deviations": [0.0, 2.0, None], "recalls": [0.5, 0.9, 1.0],
        "costs": [1.0, 2.0, 9.0], "predicted_thresholds": [-0.5, None, None],
        "single_costs": [1.0, 1.0, 1.0], "late": [0.0, 1.0, 0.0], "late_spread": [1.0, 0.0, 0.0],
        "target": 0.9, "sampled": 20, "extends": False}
    exact: dict[str, Any] = {name: value[2:] if isinstance(value, list) else value
                             for name, value in table.items()}
    for some in ([table], [exact], [], [{**table, "guard": None}, {**table, "k": 5}],
                 [{**table, "late": [], "late_spread": [], "sampled": 0}],
                 [{**table, "late": [None, 1.0, 0.0], "late_spread": [None, 0.0, 0.0]}],
                 [{**table, "predicted_thresholds": [], "single_costs": [], "later": "more"}]):
        assert not refused(path, {**metadata, "tunings": some}, arrays), some
    columns = [name for name, value in table.items() if isinstance(value, list)]
    wrong: dict[str, list[Any]] = {
        "k": [0, -4, "4", 4.0, True, None, 2**63, []],
        "rows": [[0.0, 2.0, None], [1.0]],  # with partitions
        "deviations": [[], [0.0, 2.0, 3.0], [2.0, 0.0, None], [0.0, 0.0, None], [0.0, None, None],
                       [-1.0, 2.0, None]],
        "recalls": [[0.5, 0.9, 0.99], [1.5, 0.9, 1.0], [-0.5, 0.9, 1.0]],
        "costs": [[-1.0, 2.0, 9.0], []], "single_costs": [[1.0, -1.0, 1.0]],
        "late": [[-0.1, 1.0, 0.0], []], "late_spread": [[0.0, -1.0, 0.0], []],
        "target": [1.5, -0.5, None, "high", []], "sampled": [0, -1, 2.5, True, None],
        "extends": [True, None, 1], "guard": [1, -1, "0", True, 0.5, [0]],
    }
    for name in columns:
        wrong.setdefault(name, [])
        wrong[name] += [table[name][:-1], [*table[name], 1.0], None, 5, ["much", *table[name][1:]],
                        [[], *table[name][1:]], [10**400, *table[name][1:]]]
        if name not in ("rows", "deviations", "predicted_thresholds", "late", "late_spread"):
            wrong[name].append([None, *table[name][1:]])
    del wrong["rows"][2]  # an empty column less its last number
    for name, values in wrong.items():
        for value in values:
            assert refused(path, {**metadata, "tunings": [{**table, name: value}]}, arrays), (
                name, value)
        assert name == "guard" or refused(path, {**metadata, "tunings": [
            {key: value for key, value in table.items() if key != name}]}, arrays), name
    made_up: list[Any] = [5, "all", {"4": table}, [4], [[]], [{}], [None], [table, table]]
    for tunings in made_up:
        assert refused(path, {**metadata, "tunings": tunings}, arrays), tunings


def test_bytes_at_random(parts: Any, path: Path) -> None:
    """Checksums are right here, so that only the sense of the numbers is left to check."""
    metadata, arrays = parts
    rng = np.random.default_rng(0)
    for name in PARTS:
        for _ in range(25):
            noise = bytearray(arrays[name].tobytes())
            at = int(rng.integers(len(noise)))
            noise[at : at + 8] = rng.bytes(len(noise[at : at + 8]))
            other = np.frombuffer(bytes(noise), arrays[name].dtype).reshape(arrays[name].shape)
            refused(path, metadata, {**arrays, name: other})


def test_a_center_whose_square_overflows(path: Path) -> None:
    """It is refused, without a warning."""
    index = farann.Index(metric="cosine")
    index.add(np.eye(8, dtype=np.float32))
    index.build().save(path)
    metadata, arrays = inside.files.read_file(path, mmap=False)
    arrays = {**arrays, "center": np.full(8, 3e38, np.float32)}
    inside.files.write_file(path, metadata, arrays)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(farann.FormatError, match="the center is not one"):
            farann.Index.load(path)
