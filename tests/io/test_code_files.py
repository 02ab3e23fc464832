"""Codes in files: they come back, and a file that lies about them does no harm."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import inside
import numpy as np
import pytest
from cases import assert_same, pairs
from code_file_cases import (
    DIM,
    LAYOUTS,
    M,
    N,
    Sections,
    change,
    first_look,
    halves,
    make_index,
    put,
    queries_of,
    refuse,
    saved,
    without,
)
from inside import core

import farann

__all__ = ["first_look", "halves", "saved"]  # fixtures


@pytest.mark.parametrize(("metric", "layout", "mmap"), pairs(core.METRICS, LAYOUTS, [False, True]))
def test_codes_come_back(metric: str, layout: str, mmap: bool, tmp_path: Path,
                         rng: np.random.Generator) -> None:
    index = make_index(rng, metric, layout)
    index.save(tmp_path / "index.farann")
    loaded = farann.Index.load(tmp_path / "index.farann", mmap=mmap)
    directions = M if layout == "first look" else 0
    assert index.stats()["directions"] == loaded.stats()["directions"] == directions
    assert index.stats()["bytes"]["codes"] == loaded.stats()["bytes"]["codes"] > 0
    for some in (queries_of(index), queries_of(index)[0]):
        hits = index.search_furthest(some, return_stats=True)
        stats = hits.stats
        again = loaded.search_furthest(some, return_stats=True)
        same = again.stats
        assert_same(again, hits)
        assert stats == same and stats.rows_rescored < N * stats.queries
        assert layout != "first look" or stats.rows_refined > 0
    loaded.save(tmp_path / "again.farann")
    assert (tmp_path / "again.farann").read_bytes() == (tmp_path / "index.farann").read_bytes()


def test_large_codes_are_mapped(tmp_path: Path, rng: np.random.Generator,
                                monkeypatch: pytest.MonkeyPatch) -> None:
    """Sections of more than a MiB stay in the file."""
    monkeypatch.setattr(inside.settings, "most_rotated_rows", 0)
    rows = (rng.standard_normal((25_000, 4)) @ rng.standard_normal((4, 64))
            + 0.01 * rng.standard_normal((25_000, 64))).astype(np.float32)
    index = farann.Index()
    index.add(rows)
    index.build().save(tmp_path / "index.farann")
    mapped = farann.Index.load(tmp_path / "index.farann", mmap=True)
    codes = inside.store.of(mapped).codes
    assert codes is not None and codes.whole is not None
    assert not codes.whole.flags.owndata and not codes.whole.flags.writeable
    queries = rows[:9] + np.float32(1)
    for some in (queries, queries[0]):
        assert_same(mapped.search_furthest(some), index.search_furthest(some))


def test_pickle(rng: np.random.Generator) -> None:
    index = make_index(rng)
    twin = pickle.loads(pickle.dumps(index))
    assert twin.stats()["directions"] == M
    queries = queries_of(index)
    assert_same(twin.search_furthest(queries), index.search_furthest(queries))


# ---- files that lie ----

# Each of N rows has a place; what fills up the last panel has none.

def places(slots: Any) -> Any:
    return np.flatnonzero(slots >= 0)


def twice(slots: Any) -> None:
    """A row where nobody was, too."""
    slots[slots < 0] = np.append(slots[places(slots)[3]], slots[slots < 0][1:])


def nowhere(slots: Any) -> None:
    slots[places(slots)[3]] = -1


def instead(slots: Any) -> None:
    """As many rows as there should be, but one twice, and one not at all."""
    slots[places(slots)[3]] = slots[places(slots)[4]]


COMMON: dict[str, Callable[[Sections], object]] = {
    **{f"no {name}": without(name) for name in (
        "panels", "inv_scale", "squares", "signs", "outliers")},
    **{f"{name} cut short": change(name, lambda array: array[:-1])
       for name in ("panels", "inv_scale", "squares", "signs", "slots")},
    **{f"{name} cut by a panel": change(name, lambda array: array[:-16])
       for name in ("panels", "squares", "slots")},
    **{f"no {name} left": change(name, lambda array: array[:0])
       for name in ("panels", "inv_scale", "squares", "signs", "slots")},
    **{f"{name} too narrow": change(name, lambda array: array[:, :-4])
       for name in ("panels", "signs")},
    **{f"{name} of another type": change(name, lambda array: array.astype(np.float64))
       for name in ("panels", "inv_scale", "squares", "signs", "slots", "outliers")},
    **{f"{name} in other dimensions": change(name, lambda array: array[None])
       for name in ("panels", "inv_scale", "squares", "signs", "slots", "outliers")},
    **{f"{value} among {name}": put(name, 3, value)
       for name in ("inv_scale", "squares") for value in (np.nan, np.inf, -np.inf, -1e-30)},
    "weight 0": put("inv_scale", 3, 0.0),
    "slot too large": put("slots", 3, N),
    "slot too small": put("slots", 3, -2),
    "a row in two places": lambda arrays: twice(arrays["codes.slots"]),
    "a row in no place": lambda arrays: nowhere(arrays["codes.slots"]),
    "a row in its place and an outlier": change("outliers", lambda _: np.array([7])),
    "a row in the place of another": lambda arrays: instead(arrays["codes.slots"]),
    "outlier out of range": change("outliers", lambda _: np.array([N])),
    "outlier twice": change("outliers", lambda _: np.array([7, 7])),
    "outliers not ascending": change("outliers", lambda _: np.array([8, 7])),
    "too many outliers": change("outliers", lambda _: np.arange(65)),
}
OF_HALVES: dict[str, Callable[[Sections], object]] = {
    "no unknown": without("low_nibble_norm"),
    "a basis": lambda arrays: arrays.update({"codes.pca_filter": np.eye(M, DIM)}),
    **{f"{name} cut short": change(name, lambda array: array[:-1])
       for name in ("low_nibbles", "low_nibble_norm")},
    "lower cut by a panel": change("low_nibbles", lambda array: array[:-16]),
    "lower too narrow": change("low_nibbles", lambda array: array[:, :-4]),
    **{f"{name} of another type": change(name, lambda array: array.astype(np.float64))
       for name in ("low_nibbles", "low_nibble_norm")},
    **{f"{name} in other dimensions": change(name, lambda array: array[None])
       for name in ("low_nibbles", "low_nibble_norm")},
    **{f"unknown {value}": put("low_nibble_norm", 3, value)
       for value in (np.nan, np.inf, -np.inf, -1e-30)},
}
OF_A_BASIS: dict[str, Callable[[Sections], object]] = {
    **{f"no {name}": without(name)
       for name in ("pca_filter", "whole", "whole_inv_scale", "whole_squares")},
    **{f"{name} cut short": change(name, lambda array: array[:-1])
       for name in ("whole", "whole_inv_scale", "whole_squares")},
    **{f"{name} too narrow": change(name, lambda array: array[:, :-4])
       for name in ("pca_filter", "whole")},
    **{f"{name} of another type": change(name, lambda array: array.astype(np.int16))
       for name in ("pca_filter", "whole", "whole_inv_scale", "whole_squares")},
    **{f"{name} in other dimensions": change(name, lambda array: array[None])
       for name in ("pca_filter", "whole", "whole_inv_scale", "whole_squares")},
    **{f"{value} among {name}": put(name, 3, value)
       for name in ("whole_inv_scale", "whole_squares")
       for value in (np.nan, np.inf, -np.inf, -1e-30)},
    "whole weight 0": put("whole_inv_scale", 3, 0.0),
    "lower": lambda arrays: arrays.update({"codes.low_nibbles": arrays["codes.panels"]}),
    "unknown": lambda arrays: arrays.update({"codes.low_nibble_norm": arrays["codes.inv_scale"]}),
    "basis not orthogonal": put("pca_filter", 1, np.eye(DIM)[0]),
    "basis not of length 1": change("pca_filter", lambda basis: basis * (1 + 1e-11)),
    "NaN in the basis": put("pca_filter", (0, 0), np.nan),
    "infinity in the basis": put("pca_filter", (0, 0), np.inf),
    "huge basis": change("pca_filter", lambda basis: basis * 1e300),
    "another number of directions": change("pca_filter", lambda basis: basis[:-3]),
    "no directions": change("pca_filter", lambda basis: basis[:0]),
    "more directions than dimensions": change("pca_filter", lambda _: np.eye(DIM + 1, DIM)),
}


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("what", COMMON)
def test_broken_sections(saved: Path, what: str, mmap: bool) -> None:
    refuse(saved, COMMON[what], mmap)


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("what", OF_HALVES)
def test_broken_halves(halves: Path, what: str, mmap: bool) -> None:
    refuse(halves, OF_HALVES[what], mmap)


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("what", OF_A_BASIS)
def test_broken_first_looks(first_look: Path, what: str, mmap: bool) -> None:
    refuse(first_look, OF_A_BASIS[what], mmap)


@pytest.mark.parametrize("metric", ["dot", "cosine"])
def test_squares_where_there_should_be_none(metric: str, tmp_path: Path,
                                            rng: np.random.Generator) -> None:
    for layout in LAYOUTS:
        make_index(rng, metric, layout).save(tmp_path / "index.farann")
        n = len(inside.files.read_file(tmp_path / "index.farann")[1]["codes.slots"])
        ones = np.ones(n, np.float32)
        names = ["squares"] + ["whole_squares"] * (layout == "first look")
        refuse(tmp_path / "index.farann",
               lambda arrays, names=names, ones=ones: arrays.update(  # type: ignore[misc]
                   {f"codes.{name}": ones for name in names}), False)


BAD_BOUNDS: dict[str, Callable[[Any], Any]] = {
    "of another type": lambda bounds: bounds.astype(np.float32),
    "in other dimensions": lambda bounds: bounds[None],
    "none": lambda bounds: bounds[:0],
    "too few": lambda bounds: bounds[:5],
    "too many": lambda bounds: np.append(bounds, 1.0),
}


def with_bound(i: int, value: float) -> Callable[[Any], Any]:
    return lambda bounds: np.where(np.arange(8) == i, value, bounds)


BAD_BOUNDS |= {f"{value} at {i}": with_bound(i, value)
               for i in range(8) for value in (-1e-9, np.nan, np.inf, -np.inf)}


@pytest.mark.parametrize("name", ["bounds", "whole_bounds"])
@pytest.mark.parametrize("what", BAD_BOUNDS)
def test_broken_bounds(first_look: Path, what: str, name: str) -> None:
    refuse(first_look, change(name, BAD_BOUNDS[what]), False)


@pytest.mark.parametrize("what", BAD_BOUNDS)
def test_broken_bounds_of_halves(halves: Path, what: str) -> None:
    refuse(halves, change("bounds", BAD_BOUNDS[what]), False)


def test_a_unit_of_the_rest_and_a_basis_go_together(halves: Path, first_look: Path) -> None:
    for path, name, unit in ((halves, "bounds", 1.0), (first_look, "bounds", 0.0),
                             (first_look, "whole_bounds", 1.0)):
        metadata, arrays = inside.files.read_file(path)
        sections = dict(arrays)
        put(name, 4, unit)(sections)
        inside.files.write_file(path, metadata, sections)
        with pytest.raises(farann.FormatError, match="rest"):
            farann.Index.load(path)
        inside.files.write_file(path, metadata, dict(arrays))


def test_no_bounds_of_whole_codes(first_look: Path) -> None:
    refuse(first_look, without("whole_bounds"), False)


def test_files_hold_all_bits(first_look: Path) -> None:
    """Bounds are read back exactly; a rounded one would no longer be a bound."""
    arrays = inside.files.read_file(first_look)[1]
    store = inside.store.of(farann.Index.load(first_look))
    assert store is not None and store.codes is not None and store.codes.whole_bounds is not None
    for name, bounds in (("bounds", store.codes.bounds),
                         ("whole_bounds", store.codes.whole_bounds)):
        assert struct.pack("<8d", *bounds) == arrays[f"codes.{name}"].tobytes()
    assert arrays["codes.pca_filter"].dtype == np.float64
    assert arrays["codes.inv_scale"].dtype == arrays["codes.squares"].dtype == np.float32
