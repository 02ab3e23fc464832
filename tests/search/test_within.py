"""Rows within a radius, against the oracle: all those that `search_beyond` leaves."""

from __future__ import annotations

from typing import Any

import inside
import numpy as np
import pytest
import reference
from cases import (
    DATA,
    Float32,
    assert_same_beyond,
    assert_same_bits,
    float32,
    in_turn,
    index_of,
    low_rank,
    queries_for,
    rows_for,
)
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from reference import METRICS

import farann


def scores_of(query: Float32, rows: Float32, metric: str) -> Any:
    """Float64 scores of all rows."""
    return reference.scores_from_keys(query, reference.keys(query, rows, metric), metric)


@pytest.mark.parametrize(("kind", "metric"), in_turn(DATA, 2))
def test_within(kind: str, metric: str, rng: np.random.Generator) -> None:
    """Radii on the very score of a row, so that `<` and `<=` differ; and just below it."""
    rows = rows_for(kind, rng, 300, 20, metric)
    queries = queries_for(rng, rows, metric)
    index = index_of(rows, metric)
    exact = scores_of(queries[0], rows, metric)
    on_rows = np.quantile(exact, [0, 0.1, 0.5, 1], method="nearest")
    below = np.nextafter(on_rows[:3], -np.inf)
    for radius in [*on_rows.tolist(), *below.tolist(), -1.0, 0.0, np.inf, -np.inf]:
        expected = reference.within(queries, rows, radius, metric)
        assert_same_beyond(index.search_within(queries, radius=radius), expected)
        first = expected.offsets[1]
        single = reference.Beyond(
            expected.offsets[:2], expected.scores[:first], expected.ids[:first])
        assert_same_beyond(index.search_within(queries[0], radius=radius), single)


@pytest.mark.parametrize("options", [{}, {"codes": "int4"}, {"codes": "float32"}, {"cells": 9}])
@pytest.mark.parametrize("metric", METRICS)
def test_levels_changes_and_filters(metric: str, options: Any, rng: np.random.Generator) -> None:
    n = 3000
    rows = low_rank(rng, n, 24)
    rows[7] *= np.float32(1e20)  # gets no code
    rows[-40:] = rows[:40]
    labels, gone = np.arange(n) % 5, rng.choice(n, 200, replace=False)
    index = farann.Index(metric=metric, **options)
    index.add(rows[:2500], groups=labels[:2500])
    index.build(nearest=bool(options))
    index.add(rows[2500:], groups=labels[2500:])
    index.remove(gone)
    left = np.setdiff1d(np.arange(n), gone)
    queries = np.vstack([rows[left[:30]], low_rank(rng, 10, 24)])
    allowed, exclude = left[::2], rng.choice(n, (40, 60))
    near = float(np.quantile(scores_of(queries[3], rows[left], metric),
                             0.02 if metric == "l2" else 0.98, method="nearest"))
    for level in inside.native.levels():
        inside.store.use_level(index, level)
        filters: Any
        for filters in ({}, {"allowed": allowed}, {"exclude": exclude},
                        {"exclude": exclude, "allowed": allowed}):
            expected = reference.within(queries, rows[left], near, metric, ids=left, **filters)
            assert len(expected.ids) > 60
            assert_same_beyond(index.search_within(queries, radius=near, **filters), expected)
        for count in (1, 3):
            assert_same_beyond(index.search_within(queries[:count], radius=near, threads=2),
                               reference.within(queries[:count], rows[left], near, metric,
                                                ids=left))
    others = [left[labels[left] != label] for label in labels[:40]]
    of_own = reference.within(queries, rows[left], near, metric, ids=left, exclude=others)
    assert_same_beyond(index.search_within(queries, radius=near, groups=labels[:40]), of_own)


@given(st.data())
def test_within_and_beyond_are_all_rows(data: st.DataObject) -> None:
    """Each row is within the radius or beyond it: never both, never neither."""
    metric = data.draw(st.sampled_from(METRICS))
    kind = data.draw(st.sampled_from(sorted(DATA)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    n, dim = data.draw(st.integers(1, 150)), data.draw(st.integers(1, 20))
    rows = rows_for(kind, rng, n, dim, metric)
    queries = queries_for(rng, rows, metric)
    index = index_of(rows, metric)
    one = int(rng.integers(len(queries)))
    radius = scores_of(queries[one], rows, metric)[int(rng.integers(n))]
    if data.draw(st.booleans()):
        radius = float(reference.as_float32(radius))
    near, far = (search(queries, radius=radius)
                 for search in (index.search_within, index.search_beyond))
    assert_array_equal(near.offsets + far.offsets, n * np.arange(len(queries) + 1))
    everything = index.search_nearest(queries, n)
    for i in range(len(queries)):
        mine = near.ids[near.offsets[i] : near.offsets[i + 1]]
        others = far.ids[far.offsets[i] : far.offsets[i + 1]]
        assert_array_equal(mine, everything.ids[i, : len(mine)])
        assert_same_bits(near.scores[near.offsets[i] : near.offsets[i + 1]],
                         everything.scores[i, : len(mine)])
        assert_array_equal(np.sort(np.concatenate([mine, others])), np.arange(n))


def test_radius_0_finds_copies() -> None:
    """-0 is 0, and a row that float32 can't tell from the query is another row."""
    above_1 = float(np.nextafter(np.float32(1), np.float32(2)))
    rows = float32([[1.0, 0.0], [1.0, -0.0], [1.0, 1e-45], [above_1, 0.0], [3.0, 4.0]])
    index = index_of(rows)
    assert index.search_within(rows[0], radius=0.0).ids.tolist() == [0, 1]
    assert index.search_within(rows[:2], radius=[0.0, 1e-45]).ids.tolist() == [0, 1, 0, 1]
    assert index.search_within(rows[0], radius=2e-45).ids.tolist() == [0, 1, 2]
    assert len(index.search_within(rows[0], radius=-0.5).ids) == 0
    assert len(farann.Index(2).search_within(rows, radius=9.0).ids) == 0


@pytest.mark.parametrize("metric", METRICS)
def test_keys_merge(metric: str, rng: np.random.Generator) -> None:
    rows = rng.standard_normal((900, 12), dtype=np.float32)
    rows[450:500] = rows[:50]
    queries = rows[:20]
    whole, parts = index_of(rows, metric), []
    for start in (0, 300, 600):
        parts.append(index_of(rows[start : start + 300], metric, np.arange(start, start + 300)))
    radius = float(whole.search_nearest(queries, 30).scores[0, -1])
    merged = farann.merge([part.search_within(queries, radius=radius, return_keys=True)
                           for part in parts])
    found = whole.search_within(queries, radius=radius, return_keys=True)
    assert_same_beyond(found, reference.within(queries, rows, radius, metric))
    assert_same_beyond(merged, reference.Beyond(found.offsets, found.scores, found.ids))
    assert merged.keys is not None and found.keys is not None
    assert_array_equal(merged.keys, found.keys)
    nearest = whole.search_nearest(queries[0], 30, return_keys=True)
    assert nearest.keys is not None
    assert_array_equal(found.keys[:30], nearest.keys)


def test_what_is_refused() -> None:
    index = index_of(float32([[1.0], [2.0]]))
    with pytest.raises(ValueError, match="radius: expected numbers, got NaN"):
        index.search_within([[1.0]], radius=[np.nan])
    with pytest.raises(ValueError, match="radius: expected a number, or one for each query, shape"):
        index.search_within([1.0], radius=[1.0, 2.0])
    coded = farann.Index(keep_vectors=False)
    coded.add([[1.0], [2.0]])
    with pytest.raises(ValueError, match="search_within needs the vectors.*use search_nearest"):
        coded.search_within([1.0], radius=1.0)
