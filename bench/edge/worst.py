"""A fuzzer of data shapes: on which does exact search do most work, beside a plain scan?

Work is counted and weighed by farann's own table of costs, so that nothing here takes times: the
same seed gives the same figure at one instruction-set level.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import farann
from farann.runtime.cost import cost_of

from ..reduction import METRICS
from .data import Floats

_QUERIES = 64
_BLOCK = 1024  # rows of a block of a plain scan
_MOST_VALUES = 4_000_000
# Ties are everywhere in the first two, and would take all ten places if these came as often.
_DIMS = (2, 3, 8, 16, 17, 31, 64, 100, 128, 256)
_DIM_SHARES = [0.02] * 2 + [0.12] * 8
_SHOWN = 10

Wide = NDArray[np.float64]
Random = np.random.Generator


@dataclass(frozen=True)
class Shape:
    """Data that a seed stands for.

    Attributes
    ----------
    words : str
        How rows and queries were made.
    """

    seed: int
    metric: str
    k: int
    rows: Floats
    queries: Floats
    words: str


def _gaussian(count: int, dim: int, random: Random) -> Wide:
    return random.standard_normal((count, dim))


def _clusters(count: int, dim: int, random: Random) -> Wide:
    middles = random.standard_normal((int(random.integers(2, 300)), dim))
    spread = 10 ** random.uniform(-3, 0)
    return middles[random.integers(len(middles), size=count)] + spread * _gaussian(
        count, dim, random)


def _low_rank(count: int, dim: int, random: Random) -> Wide:
    rank = int(random.integers(1, dim + 1))
    return (_gaussian(count, rank, random) @ _gaussian(rank, dim, random)
            + 10 ** random.uniform(-6, -1) * _gaussian(count, dim, random))


def _histograms(count: int, dim: int, random: Random) -> Wide:
    few = random.dirichlet(np.full(dim, 10 ** random.uniform(-1.5, 0.5)),
                           int(random.integers(2, 100)))
    rows = few[random.integers(len(few), size=count)]
    return np.clip(rows + 0.02 * (rows > 0.01) * _gaussian(count, dim, random), 0, None)


def _bits(count: int, dim: int, random: Random) -> Wide:
    return (random.random((count, dim)) < random.uniform(0.02, 0.6)).astype(np.float64)


BASES: dict[str, Callable[[int, int, Random], Wide]] = {
    "gaussian": _gaussian, "clusters": _clusters, "low rank": _low_rank,
    "histograms": _histograms, "bits": _bits,
}


def _anisotropy(rows: Wide, random: Random) -> Wide:
    return rows * np.geomspace(1, 10 ** random.uniform(-4, -0.5), rows.shape[1])


def _sparsity(rows: Wide, random: Random) -> Wide:
    return rows * (random.random(rows.shape) < random.uniform(0.02, 0.5))


def _duplicates(rows: Wide, random: Random) -> Wide:
    few = int(random.integers(1, max(2, len(rows) // 20)))
    copies = random.random(len(rows)) < 0.9
    rows = rows.copy()
    rows[copies] = rows[random.integers(few, size=len(rows))][copies]
    return rows


def _ties(rows: Wide, random: Random) -> Wide:
    step = max(float(rows.std()), 1e-30) * random.uniform(0.3, 2)
    return np.asarray(np.round(rows / step) * step)


def _scale(rows: Wide, random: Random) -> Wide:
    factors = np.exp(random.uniform(0.5, 3) * random.standard_normal(rows.shape[1]))
    return np.asarray(rows * factors)


def _outliers(rows: Wide, random: Random) -> Wide:
    rows = rows.copy()
    chosen = random.integers(len(rows), size=max(1, int(len(rows) * 10 ** random.uniform(-4, -2))))
    rows[chosen] *= 10 ** random.uniform(0.5, 3)
    return rows


def _norms(rows: Wide, random: Random) -> Wide:
    return rows * (1 + random.pareto(random.uniform(1, 3), (len(rows), 1)))


def _offset(rows: Wide, random: Random) -> Wide:
    return rows + 10 ** random.uniform(0, 2.5) * max(float(rows.std()), 1e-30)


CHANGES: dict[str, Callable[[Wide, Random], Wide]] = {
    "anisotropy": _anisotropy, "sparsity": _sparsity, "duplicates": _duplicates, "ties": _ties,
    "scale": _scale, "outliers": _outliers, "norms": _norms, "offset": _offset,
}


def _distant(like: Wide, random: Random) -> Wide:
    return like + 5 * float(like.std()) * random.standard_normal(like.shape[1])


def _rotated(like: Wide, random: Random) -> Wide:
    turned, _ = np.linalg.qr(random.standard_normal((like.shape[1],) * 2))
    return np.asarray(like @ turned)


def _axes(like: Wide, random: Random) -> Wide:
    signs = random.choice([-1.0, 1.0], (len(like), 1))
    return signs * np.eye(like.shape[1])[random.integers(like.shape[1], size=len(like))]


ASKED: dict[str, Callable[[Wide, Random], Wide]] = {
    "alike": lambda like, random: like,
    "distant": _distant,
    "scaled": lambda like, random: like * 10 ** random.uniform(-2, 2),
    "rotated": _rotated,
    "reversed": lambda like, random: like[:, ::-1],
    "negated": lambda like, random: -like,
    "axes": _axes,
    "unstructured": lambda like, random: _gaussian(len(like), like.shape[1], random),
}


def shape(seed: int, scale: float = 1.0) -> Shape:
    """The data of a seed.

    Parameters
    ----------
    seed : int
    scale : float
        A factor of the number of rows, which lies between 4,000 and 40,000 otherwise.
    """
    random = np.random.default_rng(seed)
    metric = str(random.choice(METRICS))
    k = int(random.choice([1, 10, 100], p=[0.1, 0.8, 0.1]))
    dim = int(random.choice(_DIMS, p=_DIM_SHARES))
    count = min(int(np.exp(random.uniform(math.log(4000), math.log(40_000)))),
                _MOST_VALUES // dim)
    count = max(_QUERIES, int(scale * count))
    base = str(random.choice(list(BASES)))
    changes = [name for name in CHANGES if random.random() < 0.2]
    asked = str(random.choice(list(ASKED), p=[0.3] + [0.1] * (len(ASKED) - 1)))

    both = BASES[base](count + _QUERIES, dim, random)
    for name in changes:
        both = CHANGES[name](both, random)
    # In random order, so that both rows and queries have their share of what was changed.
    both = both[random.permutation(len(both))]
    rows, queries = both[:count], ASKED[asked](both[count:], random)
    words = ", ".join([base, *changes, f"queries {asked}"])
    return Shape(seed, metric, k, _without_zeros(rows), _without_zeros(queries), words)


def _without_zeros(vectors: Wide) -> Floats:
    """As float32, and 1 in the first place of those without a direction, as cosine needs."""
    narrow = vectors.astype(np.float32)
    narrow[~narrow.any(axis=1), 0] = 1
    return narrow


def plain_scan(queries: int, rows: int, dim: int, k: int) -> farann.SearchStats:
    """The work of a scan in float32 that has to look again at nothing but the answers."""
    answers = queries * min(k, rows)
    return farann.SearchStats(
        queries=queries, rows_scanned=queries * rows, rows_rescored=answers,
        float_products=queries * rows * dim, blocks_scanned=queries * -(-rows // _BLOCK),
        rows_passed=answers)


def over_plain(work: farann.SearchStats, rows: int, dim: int, k: int, isa: str) -> float:
    """Counted cost of a search, divided by that of a plain scan for as many queries."""
    plain = plain_scan(work.queries, rows, dim, k)
    return cost_of(work, dim, isa) / cost_of(plain, dim, isa)


def counted(made: Shape) -> dict[str, Any]:
    """What the exact search counts on a shape, one record."""
    index = farann.Index(metric=made.metric, threads=1)
    index.add(made.rows)
    index.build()
    work = index.search_furthest(made.queries, made.k, return_stats=True).stats
    rows, dim = made.rows.shape
    return {
        "seed": made.seed, "words": made.words, "metric": made.metric, "k": made.k,
        "rows": rows, "dim": dim, "isa": index.isa,
        "scanned": work.rows_scanned / work.queries,
        "rescored": work.rows_rescored / work.queries,
        "counted": over_plain(work, rows, dim, made.k, index.isa),
    }


def search(count: int, first: int, scale: float = 1.0) -> Iterator[dict[str, Any]]:
    """Records of `count` seeds from `first` on."""
    for seed in range(first, first + count):
        try:
            yield counted(shape(seed, scale))
        except Exception as error:
            error.add_note(f"with the data of seed {seed}")
            raise


def table(records: list[dict[str, Any]]) -> str:
    """The ten worst of the records as a Markdown table, the worst first."""
    lines = ["| seed | shape | metric, k | rows | counted / plain scan | scanned | rescored |",
             "|---|---|---|---|---:|---:|---:|"]
    for record in sorted(records, key=lambda record: -record["counted"])[:_SHOWN]:
        lines.append(
            f"| seed-{record['seed']} | {record['words']} | {record['metric']}, {record['k']} | "
            f"{record['rows']:,} x {record['dim']} | {record['counted']:.2f} | "
            f"{record['scanned']:,.0f} | {record['rescored']:,.0f} |")
    return "\n".join(lines)
