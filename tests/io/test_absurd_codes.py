"""Files of codes that fit together and mean nothing: answers may be wrong, but nothing breaks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import inside
import numpy as np
import pytest
from code_file_cases import DIM, N, halves, put, queries_of, saved, without

import farann

__all__ = ["halves", "saved"]  # fixtures


def search_all_ways(path: Path) -> None:
    """Searches of a file that lies: answers may be wrong, ids are those of rows."""
    index = farann.Index.load(path)
    queries = np.vstack([queries_of(index), 1e30 * np.eye(2, DIM), 1e-30 * np.eye(2, DIM)])
    for some in (queries, queries[0], queries[-1]):
        for search in (index.search_furthest, index.search_nearest):
            for k in (5, N):
                ids = search(some, k).ids
                assert ((ids >= -1) & (ids < N)).all()
        beyond = index.search_beyond(some, radius=1.0)
        assert ((beyond.ids >= 0) & (beyond.ids < N)).all()


NOISY = ("panels", "low_nibbles", "inv_scale", "low_nibble_norm", "squares", "signs", "whole",
         "whole_inv_scale", "whole_squares")


def noise_like(array: Any, rng: np.random.Generator) -> Any:
    """Bytes at random, but what must be a number from 0 on is one, of any size."""
    if array.dtype == np.float32:
        return (10.0 ** rng.uniform(-44, 38, array.shape)).astype(np.float32)
    noise = rng.integers(0, 256, array.nbytes, dtype=np.uint8)
    return noise.view(array.dtype).reshape(array.shape).copy()


@pytest.mark.parametrize("names", [*((name,) for name in NOISY), NOISY])
def test_absurd_codes_do_no_harm(saved: Path, names: tuple[str, ...],
                                 rng: np.random.Generator) -> None:
    metadata, arrays = inside.files.read_file(saved)
    sections = dict(arrays)
    for name in names:
        if f"codes.{name}" in arrays:
            noise = noise_like(arrays[f"codes.{name}"], rng)
            if name == "whole_inv_scale":  # others are refused: whole codes of a panel have one
                noise = np.repeat(noise[::16], 16)
            sections[f"codes.{name}"] = noise
    inside.files.write_file(saved, metadata, sections)
    search_all_ways(saved)


def test_whole_codes_of_a_panel_have_one_scale(saved: Path) -> None:
    metadata, arrays = inside.files.read_file(saved)
    if "codes.whole_inv_scale" not in arrays:
        return
    sections = dict(arrays)
    put("whole_inv_scale", 3, 0.5)(sections)
    inside.files.write_file(saved, metadata, sections)
    with pytest.raises(farann.FormatError, match="whole codes of a panel must have one scale"):
        farann.Index.load(saved)


@pytest.mark.parametrize("value", [0.0, 1e-45, 1e-38, 1e30, 3.4e38])
@pytest.mark.parametrize("name", ["inv_scale", "low_nibble_norm", "squares",
                                  "whole_inv_scale", "whole_squares"])
def test_numbers_at_the_ends_do_no_harm(saved: Path, name: str, value: float) -> None:
    """In one place, and everywhere."""
    metadata, arrays = inside.files.read_file(saved)
    if f"codes.{name}" not in arrays or (value == 0.0 and "inv_scale" in name):
        return
    for at in (slice(0, 16) if name == "whole_inv_scale" else 3, slice(None)):
        sections = dict(arrays)
        put(name, at, value)(sections)
        inside.files.write_file(saved, metadata, sections)
        search_all_ways(saved)


def test_every_row_in_one_slot(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such files are refused; the core would stand them all the same."""
    monkeypatch.setattr(inside.settings, "tail_covers", lambda *_: True)
    metadata, arrays = inside.files.read_file(saved)
    for at in (slice(None), slice(0, N), slice(N, None), slice(0, 3)):
        for slot in (7, -1):
            sections = dict(arrays)
            put("slots", at, slot)(sections)
            inside.files.write_file(saved, metadata, sections)
            search_all_ways(saved)


def test_positions_without_slots(saved: Path) -> None:
    """Then they are the rows' own, of which the last panel has fewer."""
    metadata, arrays = inside.files.read_file(saved)
    sections = dict(arrays)
    without("slots")(sections)
    inside.files.write_file(saved, metadata, sections)
    search_all_ways(saved)


def test_without_lower_halves(halves: Path) -> None:
    """Codes that are said to have 8 bits must have them."""
    metadata, arrays = inside.files.read_file(halves)
    sections = dict(arrays)
    without("low_nibbles")(sections)
    inside.files.write_file(halves, metadata, sections)
    with pytest.raises(farann.FormatError, match="low_nibbles"):
        farann.Index.load(halves)


@pytest.mark.parametrize("bounds", [
    [1e300] * 4, [1e-300] * 4, [0.0] * 4, [1e300, 0.0, 0.0, 0.0], [0.0, 1e300, 0.0, 0.0],
    [0.0, 0.0, 1e300, 0.0], [0.0, 0.0, 0.0, 1e300], [5e-324, 1e-3, 1.0, 1.0],
])
def test_absurd_bounds_do_no_harm(saved: Path, bounds: list[float]) -> None:
    metadata, arrays = inside.files.read_file(saved)
    basis = "codes.pca_filter" in arrays
    for unit in (1e-300, 1.0, 1e300) if basis else (0.0,):
        changed = arrays | {"codes.bounds": np.array([*bounds, unit, 0.0, 0.0, 0.0])}
        own = np.array([*bounds, 0.0, 0.0, 0.0, 0.0])
        for whole in (arrays["codes.whole_bounds"], own) if basis else (None,):
            if whole is not None:
                changed["codes.whole_bounds"] = whole
            inside.files.write_file(saved, metadata, changed)
            search_all_ways(saved)
