"""How rows are grouped into cells: k-means in one level and in two."""

from __future__ import annotations

import numpy as np
import pytest
from approximate_cases import DATA, clustered, gaussian
from cases import Float32
from farann import _cells
from numpy.typing import NDArray

N, DIM, N_CELLS = 20_000, 16, 400


def spread(rows: Float32, labels: NDArray[np.int32]) -> float:
    """The mean squared distance of rows from the mean of their cell."""
    total = 0.0
    for cell in np.unique(labels):
        members = rows[labels == cell].astype(np.float64)
        total += ((members - members.mean(axis=0)) ** 2).sum()
    return total / len(rows)


def split(rows: Float32, n_cells: int, seed: int = 0) -> NDArray[np.int32]:
    return _cells.partition(rows, np.zeros(rows.shape[1]), False, n_cells, seed)


@pytest.mark.parametrize("kind", DATA)
def test_two_levels_are_nearly_as_good_as_one(
    kind: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = DATA[kind](rng, N, DIM)
    two = split(rows, N_CELLS)
    monkeypatch.setattr(_cells, "_MOST_AT_ONCE", N_CELLS)
    assert spread(rows, two) < 1.2 * spread(rows, split(rows, N_CELLS))


def test_rows_are_in_the_nearest_cell_of_all_parts(rng: np.random.Generator) -> None:
    """Nearly all, though most parts weren't looked at."""
    rows = gaussian(rng, N, DIM)
    parts = _cells._parts_of(rows, np.zeros(DIM), False, N_CELLS, 0)
    labels = split(rows, N_CELLS)
    nearest = np.argmax(_cells._closeness(rows, np.concatenate(parts)), axis=1)
    assert len(parts) > 2 * _cells._NEAR_PARTS
    assert (labels == nearest).mean() > 0.9


def test_same_seed_same_cells(rng: np.random.Generator) -> None:
    rows = clustered(rng, N, DIM)
    np.testing.assert_array_equal(split(rows, N_CELLS, 3), split(rows, N_CELLS, 3))


@pytest.mark.parametrize("n_cells", [257, 300])
def test_rows_that_are_all_the_same(n_cells: int) -> None:
    assert (split(np.ones((2000, 3), np.float32), n_cells) >= 0).all()


def test_rows_that_are_huge(rng: np.random.Generator) -> None:
    labels = split(np.float32(1e30) * gaussian(rng, 3000, 8), 300)
    assert labels.min() >= 0 and labels.max() < 300 + 20


@pytest.mark.parametrize("most_axes", [3, 8, 16, 96])
def test_moment_of_queries(
    most_axes: int, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where queries have few directions the main axes say it all, and the rest is even."""
    monkeypatch.setattr(_cells, "_MOST_AXES", most_axes)
    weights = rng.standard_normal((400, 3)) @ rng.standard_normal((3, DIM))
    factor, rest = _cells._root_of_moment(weights)
    directions = weights / np.linalg.norm(weights, axis=1, keepdims=True)
    moment = (directions.T @ directions + np.eye(DIM)) / (400 + DIM)
    assert factor.shape == (DIM, min(most_axes, DIM))
    np.testing.assert_allclose(factor @ factor.T + rest * np.eye(DIM), moment, atol=1e-12)
    assert np.isclose((factor**2).sum() + DIM * rest, 1.0)  # all of it
