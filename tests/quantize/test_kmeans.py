"""How rows are grouped into cells: k-means in one level and in two."""

from __future__ import annotations

import inside
import numpy as np
import pytest
from approximate_cases import DATA, clustered, gaussian
from cases import Float32, pairs
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
    return inside.quantize.partition(rows, plain_space(rows.shape[1]), n_cells, seed)


def plain_space(dim: int, unit: bool = False) -> inside.quantize.Space:
    return inside.quantize.Space(np.zeros(dim), unit)


def test_number_of_cells() -> None:
    """By the root of the number of rows; larger cells where scanning costs little."""
    for isa, automatic in (("scalar", 4000), ("avx512vnni", 4000), ("amx", 2000)):
        assert inside.layout.number_of_partitions("auto", 1_000_000, isa) == automatic
        assert inside.layout.number_of_partitions("auto", 19_999, isa) == 0
        assert inside.layout.number_of_partitions(None, 1_000_000, isa) == 0
        assert inside.layout.number_of_partitions(300, 1_000_000, isa) == 300
        assert inside.layout.number_of_partitions(300, 200, isa) == 200


@pytest.mark.parametrize("kind", DATA)
def test_two_levels_are_nearly_as_good_as_one(
    kind: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = DATA[kind](rng, N, DIM)
    two = split(rows, N_CELLS)
    monkeypatch.setattr(inside.settings, "kmeans_at_once", N_CELLS)
    assert spread(rows, two) < 1.25 * spread(rows, split(rows, N_CELLS))


def queries_of_few_directions(rng: np.random.Generator, n: int = 400) -> NDArray[np.float64]:
    return rng.standard_normal((n, 3)) @ rng.standard_normal((3, DIM))


def fourth_root(moment: inside.quantize.Moment) -> NDArray[np.float64]:
    """As plain numpy has it, with the largest of what the moment tells apart on average for 1."""
    whole = moment.root() @ moment.root().T + moment.rest * np.eye(DIM)
    values, axes = np.linalg.eigh(whole)
    values /= max(values[-len(moment.values) :].mean(), moment.rest)
    result: NDArray[np.float64] = axes * values**0.25 @ axes.T
    return result


@pytest.mark.parametrize(("n_cells", "unit", "weighed"), pairs(
    [5, N_CELLS], [False, True], [False, True]))
def test_rows_are_in_the_nearest_cell(n_cells: int, unit: bool, weighed: bool,
                                      rng: np.random.Generator) -> None:
    rows = gaussian(rng, N, DIM) + np.float32(0.5)
    center = np.full(DIM, 0.125)
    moment = inside.quantize.moment_of(queries_of_few_directions(rng)) if weighed else None
    space = inside.quantize.Space(center, unit, moment)
    means = inside.quantize.means_of(rows, space, n_cells, 0).partitions
    labels = inside.quantize.partition(rows, space, n_cells, 0)
    some = np.arange(0, N, 8)
    vectors = rows[some].astype(np.float64)
    if unit:
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors -= center
    if moment is not None:
        vectors = vectors @ fourth_root(moment)
    distances = (vectors[:, None, :] - means.astype(np.float64)) ** 2
    distances = distances.sum(axis=2)
    # Rows are centered in float32.
    assert (distances[np.arange(len(some)), labels[some]] <= distances.min(axis=1) + 1e-5).all()
    assert len(np.unique(labels)) > 0.9 * n_cells


@pytest.mark.parametrize("size", [1e-38, 1e-20, 1e20, 1e38])
def test_directions_of_rows_of_any_length(size: float, rng: np.random.Generator) -> None:
    """Lengths whose squares float32 doesn't hold change no cell."""
    rows = clustered(rng, 2000, DIM)
    rows /= np.abs(rows).max(axis=1, keepdims=True)
    mixed = rows.copy()
    mixed[::3] *= np.float32(size)
    assert np.isfinite(mixed).all() and mixed.any(axis=1).all()
    plain, scaled = (inside.quantize.partition(some, plain_space(DIM, True), 20, 0)
                     for some in (rows, mixed))
    assert (plain == scaled).mean() > 0.98


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
    monkeypatch.setattr(inside.settings, "main_directions", most_axes)
    weights = queries_of_few_directions(rng)
    of_weights = inside.quantize.moment_of(weights)
    factor, rest = of_weights.root(), of_weights.rest
    directions = weights / np.linalg.norm(weights, axis=1, keepdims=True)
    moment = (directions.T @ directions + np.eye(DIM)) / (400 + DIM)
    assert factor.shape == (DIM, min(most_axes, DIM))
    np.testing.assert_allclose(factor @ factor.T + rest * np.eye(DIM), moment, atol=1e-12)
    assert np.isclose((factor**2).sum() + DIM * rest, 1.0)  # all of it
    vectors = gaussian(rng, 50, DIM)
    np.testing.assert_allclose(of_weights.weighed(vectors), vectors @ fourth_root(of_weights),
                               atol=1e-5)


def test_cells_are_small_where_queries_look(rng: np.random.Generator) -> None:
    """Keys of the rows of a cell differ less, although the rows differ more."""
    rows, weights = gaussian(rng, N, DIM), queries_of_few_directions(rng)
    space = inside.quantize.Space(np.zeros(DIM), False, inside.quantize.moment_of(weights))
    plain, weighed = split(rows, N_CELLS), inside.quantize.partition(rows, space, N_CELLS, 0)
    keys = (rows @ weights.T).astype(np.float32)
    assert spread(keys, weighed) < 0.5 * spread(keys, plain)
    assert spread(rows, weighed) > spread(rows, plain)
