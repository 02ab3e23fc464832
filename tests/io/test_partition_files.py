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
    assert metadata["cells"] == N_CELLS and metadata["cell_unit"] > 0.0
    starts = arrays["cells.starts"]
    assert len(starts) == N_CELLS + 1 and (starts % 16 == 0).all() and (np.diff(starts) > 0).all()
    assert arrays["cells.panels"].shape == (16, 4 * (2 + 1))
    assert arrays["cells.weights"].shape == (1,) and arrays["cells.squares"].shape == (16,)
    ((k, rows),) = metadata["tunings"]
    assert k == 4 and rows[-1][:2] == [None, 1.0]
    assert not refused(path, metadata, arrays)


def test_changed_rows_leave_cells_out(path: Path) -> None:
    index = index_of(ROWS, cells=N_CELLS).build()
    index.remove([3])
    index.save(path)
    metadata, arrays = inside.files.read_file(path)
    assert "cell_unit" not in metadata and not any(name.startswith("cells.") for name in arrays)
    again = farann.Index.load(path)
    assert_same(again.search_furthest(QUERIES, recall=0.5), index.search_furthest(QUERIES))
    assert again.build().stats()["bytes"]["cells"] > 0


def test_sections_left_out(parts: Any, path: Path) -> None:
    metadata, arrays = parts
    for name in ("starts", "panels", "weights", "squares"):
        rest = {other: array for other, array in arrays.items() if other != f"cells.{name}"}
        assert refused(path, metadata, rest), name


def test_shapes_and_types(parts: Any, path: Path) -> None:
    metadata, arrays = parts
    for name in ("cells.starts", "cells.panels", "cells.weights", "cells.squares"):
        array = arrays[name]
        for other in (array[:-1], array[:0], np.concatenate([array, array[-1:]]), array[None],
                      array.astype("f8"), array.astype("i2")):
            if name == "cells.starts" and other.dtype == array.dtype and other.ndim == 1 and (
                    len(other) > len(array)):
                # One cell more, with nothing in it.
                assert not refused(path, metadata, {**arrays, name: other})
                continue
            assert refused(path, metadata, {**arrays, name: other}), (name, other.shape)


def test_starts(parts: Any, path: Path) -> None:
    metadata, arrays = parts
    starts = arrays["cells.starts"]
    # The last three hide rows from searches that visit cells.
    wrong = [starts[::-1], starts + 1, starts - starts[1], starts + 2**40, starts - 2**62,
             np.zeros_like(starts), starts // 32 * 16, starts[:-1]]
    for at in range(len(starts)):
        for off in (-8, 1, 2**33, 2**63 - 1):
            other = starts.copy()
            other[at] = off if off == 2**63 - 1 else other[at] + off
            wrong.append(other)
    for other in wrong:
        assert refused(path, metadata, {**arrays, "cells.starts": other}), other
    # Cells without rows do no harm, nor do rows before the first cell, which are always scanned.
    for other in (np.append(starts, starts[-1]), np.full_like(starts, starts[-1])):
        assert not refused(path, metadata, {**arrays, "cells.starts": other}), other


def test_codes_behind_the_last_cell(parts: Any, path: Path) -> None:
    """They are no cells, however much they promise."""
    metadata, arrays = parts
    panels, squares = arrays["cells.panels"].copy(), arrays["cells.squares"].copy()
    panels.reshape(-1, 16, 4)[:, N_CELLS:] = 255
    squares[N_CELLS:] = 3e38
    assert not refused(path, metadata, {**arrays, "cells.panels": panels, "cells.squares": squares})


def test_unit(parts: Any, path: Path) -> None:
    metadata, arrays = parts
    for unit in (None, [], [1.0], "1", 1, True, 0.0, -0.0, -1e-9):
        assert refused(path, {**metadata, "cell_unit": unit}, arrays), unit
    for unit in (5e-324, 1e-300, 1e300):  # senseless, but numbers
        assert not refused(path, {**metadata, "cell_unit": unit}, arrays)
    tiny = np.full_like(arrays["cells.weights"], 1e-30)
    assert refused(path, {**metadata, "cell_unit": 1e300}, {**arrays, "cells.weights": tiny})


@pytest.mark.parametrize("name", ["weights", "squares"])
def test_values_of_cells(name: str, parts: Any, path: Path) -> None:
    metadata, arrays = parts
    for value in (np.nan, np.inf, -np.inf, -1e-30, 0.0, 1e-45, 1e-38, 1e30, 3.4e38):
        for at in (0, slice(None)):
            other = arrays[f"cells.{name}"].copy()
            other[at] = value
            number = 0.0 <= value < np.inf and (value > 0.0 or name == "squares")
            assert refused(path, metadata, {**arrays, f"cells.{name}": other}) != number, value


@pytest.mark.parametrize("name", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_json_lacks(name: str, parts: Any, path: Path) -> None:
    metadata, arrays = parts
    for key, value in (("cell_unit", float(name)), ("code_bounds", [1.0] * 4 + [float(name)])):
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
    metadata = {key: value for key, value in metadata.items()
                if key not in ("single_costs", "lateness", "extended")}
    rows: list[list[Any]] = [[0.0, 0.5, 1.0], [2.0, 0.9, 2.0], [None, 1.0, 9.0]]
    assert not refused(path, {**metadata, "tunings": [[4, rows]]}, arrays)
    assert not refused(path, {**metadata, "tunings": [[4, rows[2:]]]}, arrays)
    told = [[*row, expected] for row, expected in zip(rows, (-0.5, None, None), strict=True)]
    assert not refused(path, {**metadata, "tunings": [[4, told]]}, arrays)
    for tunings in (
        [[4, [[*told[0], 1.0], [*told[1], 1.0], [*told[2], 1.0]]]],
        [[4, [[*rows[0], "low"], *told[1:]]]],
        5, "all", {"4": rows}, [4], [[4]], [[4, []]], [[4, rows, 1]], [[4, 7]], [[4, [[]]]],
        [["4", rows]], [[0, rows]], [[-4, rows]], [[4.0, rows]], [[True, rows]], [[2**63, rows]],
        [[4, rows[:2]]],  # exact search is missing
        [[4, [rows[1], rows[0], rows[2]]]], [[4, [rows[0], rows[0], rows[2]]]],
        [[4, [rows[2], rows[2]]]], [[4, [[-1.0, 0.5, 1.0], rows[2]]]],
        [[4, [[0.0, 1.5, 1.0], rows[2]]]], [[4, [[0.0, -0.5, 1.0], rows[2]]]],
        [[4, [[0.0, 0.5, -1.0], rows[2]]]], [[4, [[None, 0.9, 9.0]]]],
        [[4, [["much", 0.5, 1.0], rows[2]]]], [[4, [[0.0, 0.5], rows[2]]]],
        [[4, [[0.0, 0.5, 1.0, 1.0], rows[2]]]], [[4, [[0.0, None, 1.0], rows[2]]]],
    ):
        assert refused(path, {**metadata, "tunings": tunings}, arrays), tunings


def test_bytes_at_random(parts: Any, path: Path) -> None:
    """Checksums are right here, so that only the sense of the numbers is left to check."""
    metadata, arrays = parts
    rng = np.random.default_rng(0)
    for name in ("cells.starts", "cells.panels", "cells.weights", "cells.squares"):
        for _ in range(25):
            noise = bytearray(arrays[name].tobytes())
            at = int(rng.integers(len(noise)))
            noise[at : at + 8] = rng.bytes(len(noise[at : at + 8]))
            other = np.frombuffer(bytes(noise), arrays[name].dtype).reshape(arrays[name].shape)
            refused(path, metadata, {**arrays, name: other})


def test_a_centre_whose_square_overflows(path: Path) -> None:
    """It is refused, without a warning."""
    index = farann.Index(metric="cosine")
    index.add(np.eye(8, dtype=np.float32))
    index.build().save(path)
    metadata, arrays = inside.files.read_file(path, mmap=False)
    arrays = {**arrays, "centre": np.full(8, 3e38, np.float32)}
    inside.files.write_file(path, metadata, arrays)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(farann.FormatError, match="the centre is not one"):
            farann.Index.load(path)
