"""Pairs of rows within a radius, against all pairs in float64."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from typing import Any

import inside
import numpy as np
import pytest
import reference
from cases import DATA, Float32, assert_same_bits, index_of, rows_for
from diverse_oracle import pairs_within as right
from numpy.testing import assert_array_equal
from reference import METRICS

import farann


def assert_right(found: farann.Pairs, expected: tuple[Any, Float32]) -> None:
    assert_array_equal(found.ids, expected[0])
    assert_same_bits(found.scores, expected[1])


def radii_for(rows: Float32, metric: str) -> list[float]:
    """Scores of pairs to the bit, and numbers just below; 0, none and all."""
    scores = reference.scores_from_keys(
        rows[0], reference.keys(rows[0], rows[1:], metric), metric)
    on_pairs = np.quantile(scores, [0.0, 0.1, 0.9, 1.0], method="nearest").tolist()
    return [*on_pairs, float(np.nextafter(on_pairs[1], -np.inf)), 0.0, -1.0, np.inf, -np.inf]


@pytest.mark.parametrize(("metric", "kind"), list(zip(itertools.cycle(METRICS), DATA)))
def test_hostile_data(kind: str, metric: str, rng: np.random.Generator) -> None:
    rows = rows_for(kind, rng, 90, 11, metric)
    index = index_of(rows, metric)
    with np.errstate(all="ignore"):
        for radius in radii_for(rows, metric):
            assert_right(index.pairs_within(radius), right(rows, radius, metric))


@pytest.mark.parametrize("metric", METRICS)
def test_changes_filters_and_levels(metric: str, rng: np.random.Generator) -> None:
    rows = rng.standard_normal((1500, 10), dtype=np.float32)
    rows[1400:] = rows[:100]
    ids, groups = rng.permutation(5000)[:1500], np.arange(1500) % 4
    index = farann.Index(metric=metric)
    index.add(rows[:900], ids[:900], groups=groups[:900])
    index.build()
    index.add(rows[900:], ids[900:], groups=groups[900:])
    index.remove(ids[200:300])
    left = np.r_[0:200, 300:1500]
    radius = {"l2": 1.5, "dot": 9.0, "cosine": 0.85}[metric]
    expected = right(rows[left], radius, metric, ids[left])
    assert len(expected[0]) > 100
    for level in inside.native.levels():
        inside.store.use_level(index, level)
        for threads in (1, 2):
            assert_right(index.pairs_within(radius, threads=threads), expected)
    some = left[groups[left] != 1]
    filters: Any
    for filters in ({"outside_groups": 1}, {"groups": [0, 2, 3]}, {"exclude": ids[groups == 1]},
                    {"allowed": ids[some]}):
        assert_right(index.pairs_within(radius, **filters),
                     right(rows[some], radius, metric, ids[some]))


def test_rows_that_are_in_many_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch in which one row finds too much is asked again in parts, down to single rows."""
    rows = np.zeros((700, 3), np.float32)
    rows[:300, 0] = np.arange(300)
    index = index_of(rows)
    for most in (1 << 24, 5000, 300, 1):
        monkeypatch.setattr(inside.settings, "most_joined_rows", most)
        found = index.pairs_within(0.5)
        assert_array_equal(found.ids[:400, 0], 0)
        n = 401  # rows that are equal
        assert len(found.ids) == n * (n - 1) // 2


def test_limit(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((50, 4), dtype=np.float32)
    rows[:20] = 0.0
    index = index_of(rows)
    assert len(index.pairs_within(0.0, limit=190).ids) == 190
    with pytest.raises(ValueError, match=r"radius: expected at most limit=189 pairs within 0, got "
                       r"190 for the first 50 of 50 rows; take another radius, or a limit"):
        index.pairs_within(0.0, limit=189)
    with pytest.raises(ValueError, match="limit: expected"):
        index.pairs_within(0.0, limit=0)


TOO_MANY = """
import farann
import resource
index = farann.Index(threads=1)
index.add(np.ones((100_000, 4), np.float32))
index.build()
with open("/proc/self/statm") as statm:
    used = int(statm.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**29, -1))
try:
    index.pairs_within(0.0, limit=1_000_000)
except ValueError as error:
    resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
    give(said=str(error))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_too_many_pairs_are_refused_before_memory_goes(run_python: Callable[..., Any]) -> None:
    """Five billion pairs, where the process may take 512 MB."""
    said = str(run_python(TOO_MANY, timeout=300)["said"])
    assert "limit=1,000,000 pairs within 0, got at least " in said
    asked = int(said.split("for the first ")[1].split(maxsplit=1)[0].replace(",", ""))
    assert int(said.split("at least ")[1].split(maxsplit=1)[0].replace(",", "")) < asked * 100_000


def test_ids_of_strings_tables_and_empty_indexes() -> None:
    index = farann.Index()
    assert index.pairs_within(1.0).ids.shape == (0, 2)
    index.add([[0.0], [9.0], [0.5], [9.0]], ids=["a", "b", "c", "d"])
    found = index.pairs_within(0.5)
    assert found.ids.tolist() == [["a", "c"], ["b", "d"]]
    assert found.to_dict()["other_id"].tolist() == ["c", "d"]
    assert found.to_arrow().column_names == ["id", "other_id", "score"]
    assert found.to_pandas().shape == (2, 3)
    index.remove(["a", "b", "c", "d"])
    assert index.pairs_within(1.0).to_arrow().shape == (0, 3)
    with pytest.raises(ValueError, match="radius: expected a number, got NaN"):
        index.pairs_within(float("nan"))
    coded = farann.Index(keep_vectors=False)
    coded.add([[1.0], [2.0]])
    with pytest.raises(ValueError, match="pairs_within needs the vectors"):
        coded.pairs_within(1.0)


def test_like_scikit_learn(rng: np.random.Generator) -> None:
    neighbors = pytest.importorskip("sklearn.neighbors")
    rows = rng.integers(0, 6, (400, 3)).astype(np.float32)  # distances are roots of whole numbers
    graph = neighbors.radius_neighbors_graph(rows, 1.5, mode="distance").tocoo()
    once = graph.row < graph.col
    expected = sorted(zip(graph.row[once].tolist(), graph.col[once].tolist(), strict=True))
    assert sorted(map(tuple, index_of(rows).pairs_within(1.5).ids.tolist())) == expected


@pytest.mark.parametrize("kind", ["duplicates", "all equal", "grid", "gaussian"])
def test_components(kind: str, rng: np.random.Generator) -> None:
    rows, ids = rows_for(kind, rng, 80, 3, "l2"), rng.permutation(1000)[:80]
    index = farann.Index()
    index.add(rows, ids)
    pairs = index.pairs_within(0.8)
    of_row = {int(id): {int(id)} for id in pairs.ids.ravel()}
    for a, b in pairs.ids.tolist():  # union by walking through all members
        both = of_row[a] | of_row[b]
        for id in both:
            of_row[id] = both
    expected = sorted({tuple(sorted(some)) for some in of_row.values()})
    assert [tuple(some.tolist()) for some in pairs.components()] == expected
    named = farann.Index()
    named.add(rows, [f"n{id:03}" for id in ids])
    found = named.pairs_within(0.8).components()
    assert sorted(tuple(int(text[1:]) for text in some) for some in found) == expected
    assert farann.Index(dim=3).pairs_within(1.0).components() == []
