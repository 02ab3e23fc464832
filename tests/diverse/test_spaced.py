"""Selections by score with a radius, against a greedy loop in float64."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import inside
import numpy as np
import pytest
import reference
from cases import DATA, Float32, in_turn, index_of, low_rank, rows_for
from diverse_oracle import keepers, spread
from diverse_oracle import spaced as right
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from reference import METRICS
from scipy.spatial.distance import pdist

import farann


def check_k(rows: Float32, scores: Any, k: int, metric: str, **options: Any) -> None:
    """By k: the first k by the radius that is found, and fewer by one that is a little larger."""
    asked = {name: value for name, value in options.items() if name == "per_group"}
    index = farann.Index(metric=metric)
    index.add(rows, groups=options.get("groups"))
    found = index.select_spaced(scores, k=k, **asked)
    assert found.radius is not None
    at_most = len(right(rows, scores, None, metric, **options))
    assert found.ids.tolist() == right(rows, scores, found.radius, metric, k, **options)
    assert len(found.ids) == min(k, at_most)
    if 1 < k <= at_most and np.isfinite(found.radius) and found.radius != 0.0:
        assert len(right(rows, scores, spread(metric, found.radius), metric, **options)) < k


@pytest.mark.parametrize(("kind", "metric"), in_turn(DATA))
def test_hostile_data(kind: str, metric: str, rng: np.random.Generator) -> None:
    """Radii on the very score of a pair, where it may stay; many scores are equal."""
    rows = rows_for(kind, rng, 120, 9, metric)
    worth = rng.integers(0, 20, 120)
    index = index_of(rows, metric)
    with np.errstate(all="ignore"):
        exact = reference.scores_from_keys(
            rows[7], reference.keys(rows[7], rows, metric), metric)
        on_rows = np.quantile(exact, [0.05, 0.3, 0.5, 0.9], method="nearest").tolist()
        for radius in (*on_rows, float(np.nextafter(on_rows[1], np.inf)), 0.0, 1.0, np.inf):
            found = index.select_spaced(worth, radius=radius, return_dropped=True)
            assert found.ids.tolist() == right(rows, worth, radius, metric)
            assert found.dropped is not None and found.keepers is not None
            covered = dict(zip(found.dropped.tolist(), found.keepers.tolist(), strict=True))
            expected = keepers(rows, worth, radius, metric, found.ids.tolist())
            assert [*covered.items()] == [*expected.items()]
            assert found.scores.tolist() == worth[found.ids].tolist() and found.radius == radius
            assert_array_equal(index.select_spaced(worth, radius=radius, k=5).ids, found.ids[:5])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", ["gaussian", "duplicates", "all equal", "grid", "mixed magnitudes",
                                  "3e38", "denormals", "ulps apart", "one huge row"])
def test_the_radius_that_leaves_k(kind: str, metric: str, rng: np.random.Generator) -> None:
    rows = rows_for(kind, rng, 70, 6, metric)
    worth = rng.standard_normal(70)
    with np.errstate(all="ignore"):
        for k in (1, 2, 9, 40, 70, 99):
            check_k(rows, worth, k, metric)
        check_k(rows, worth, 6, metric, groups=np.arange(70) % 4, per_group=2)


@pytest.mark.parametrize("named", [False, True])
def test_who_covers_whom_with_limits(named: bool, rng: np.random.Generator) -> None:
    """Rows after the last pick, and those of full groups, are told only where a pick is near."""
    rows, worth = rng.standard_normal((90, 3), dtype=np.float32), rng.integers(0, 9, 90)
    ids: Any = np.array([f"n{i:02}" for i in range(90)], object) if named else np.arange(90)
    index = farann.Index(dim=3)
    empty = index.select_spaced([], radius=1.0, return_dropped=True)
    assert empty.dropped is not None and empty.dropped.size == 0
    index.add(rows, ids, groups=np.arange(90) % 3)
    for limit in ({"k": 7, "radius": 1.0}, {"per_group": 2, "radius": 0.8}, {"k": 6},
                  {"per_group": 1}):
        found = index.select_spaced(worth, return_dropped=True, **limit)
        assert found.dropped is not None and found.keepers is not None
        numbers = [np.searchsorted(ids, some).tolist()
                   for some in (found.ids, found.dropped, found.keepers)]
        expected = keepers(rows, worth, found.radius, "l2", numbers[0])
        assert [*zip(*numbers[1:], strict=True)] == [*expected.items()]
    assert index.select_spaced(worth, radius=1.0).dropped is None


@pytest.mark.parametrize("metric", METRICS)
def test_many_rows_changes_and_filters(metric: str, rng: np.random.Generator) -> None:
    n = 2000
    rows = low_rank(rng, n, 24)
    ids, groups, worth = rng.permutation(10 * n)[:n], rng.integers(0, 30, n), rng.random(n)
    worth[::7] = 0.5
    index = farann.Index(metric=metric)
    index.add(rows[:1500], ids[:1500], groups=groups[:1500])
    index.build()
    index.add(rows[1500:], ids[1500:], groups=groups[1500:])
    index.remove(ids[1000:1100])
    left = np.r_[0:1000, 1100:n]
    assert_array_equal(index.ids, ids[left])
    own: Any = {"ids": ids[left], "groups": groups[left]}
    for radius in {"l2": (1.0, 4.0), "dot": (14.0, 2.0), "cosine": (0.97, 0.4)}[metric]:
        expected = right(rows[left], worth[left], radius, metric, **own)
        assert 5 < len(expected) < len(left) - 100
        for level in inside.native.levels():
            inside.store.use_level(index, level)
            for threads in (1, 2):
                found = index.select_spaced(worth[left], radius=radius, threads=threads)
                assert found.ids.tolist() == expected
        found = index.select_spaced(worth[left], radius=radius, per_group=3)
        assert found.ids.tolist() == right(rows[left], worth[left], radius, metric, per_group=3,
                                           **own)
        some = left[groups[left] < 20]
        found = index.select_spaced(worth[left], radius=radius, groups=np.arange(20))
        assert found.ids.tolist() == right(rows[some], worth[some], radius, metric, ids=ids[some])
        found = index.select_spaced(worth[left], radius=radius, allowed=ids[some], exclude=ids[:9])
        some = np.setdiff1d(some, np.arange(9))
        assert found.ids.tolist() == right(rows[some], worth[some], radius, metric, ids=ids[some])
    found = index.select_spaced(worth[left], k=50)
    assert found.radius is not None
    assert found.ids.tolist() == right(rows[left], worth[left], found.radius, metric, 50, **own)
    assert len(right(rows[left], worth[left], spread(metric, found.radius), metric, **own)) < 50


@given(st.data())
def test_laws(data: st.DataObject) -> None:
    """No two picks are nearer than the radius, every other row is nearer to a better one; without
    a radius the picks are the rows with the top scores."""
    metric = data.draw(st.sampled_from(METRICS))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    n = data.draw(st.integers(1, 80))
    rows = rng.integers(-3, 4, (n, 3)).astype(np.float32)
    rows[~rows.any(axis=1), 0] = 1.0
    worth = rng.integers(0, 9, n)
    index = index_of(rows, metric)
    radius = data.draw(st.sampled_from({"l2": [0.0, 1.0, 2.0, 3.0], "dot": [9.0, 3.0, 0.0],
                                        "cosine": [1.0, 0.5, 0.0]}[metric]))
    found = index.select_spaced(worth, radius=radius)
    order = np.lexsort((np.arange(n), -worth))
    place = np.argsort(order)
    assert (np.diff(place[found.ids]) > 0).all() and found.ids[0] == order[0]
    near = [reference.scores_from_keys(row, reference.keys(row, rows, metric), metric)
            for row in rows]
    nearer = np.array(near) < radius if metric == "l2" else np.array(near) > radius
    for i in range(n):
        before = found.ids[place[found.ids] < place[i]]
        assert nearer[i, before].any() != (i in found.ids)
    nothing = {"l2": 0.0, "dot": np.inf, "cosine": np.inf}[metric]
    k = data.draw(st.integers(1, n))
    assert_array_equal(index.select_spaced(worth, radius=nothing, k=k).ids, order[:k])


def test_per_group_alone() -> None:
    index = farann.Index()
    index.add([[0.0]] * 6, groups=["a", "a", "b", "b", "a", "c"])
    found = index.select_spaced([1, 2, 3, 4, 5, 6], per_group=1)
    assert (found.ids.tolist(), found.scores.tolist(), found.radius) == ([5, 4, 3], [6, 5, 4], None)
    assert index.select_spaced([1, 2, 3, 4, 5, 6], per_group=2, radius=0.0, k=4).ids.tolist() == [
        5, 4, 3, 2]
    assert found.to_dict()["rank"].tolist() == [1, 2, 3]


def test_progress_and_what_is_refused() -> None:
    index = farann.Index()
    assert index.select_spaced([], radius=1.0).ids.shape == (0,)
    index.add(np.arange(3000.0)[:, None])
    told: list[Any] = []
    index.select_spaced(np.arange(3000), radius=10.0, progress=lambda *step: told.append(step))
    assert told[0] == ("rows met", 0, 3000) and told[-1] == ("rows met", 3000, 3000)
    told.clear()
    index.select_spaced(np.arange(3000), k=10, progress=lambda *step: told.append(step))
    assert {step[0] for step in told} == {"radii tried"} and told[-1][1] == told[-1][2]
    worth: Any = np.zeros(3000)
    for message, asked in (
            ("k: expected how many rows to choose, or a radius, or per_group, got none",
             {"scores": worth}),
            ("radius: expected a distance of 0 or more", {"scores": worth, "radius": -1.0}),
            ("radius: expected a number, got NaN", {"scores": worth, "radius": np.nan}),
            ("k: expected", {"scores": worth, "k": 0}),
            ("per_group: the index has no groups", {"scores": worth, "per_group": 1}),
            (r"scores: expected one for each row in the order of index.ids, shape \(3000,\), got "
             r"\(2,\)", {"scores": [1, 2], "k": 1}),
            ("scores: expected numbers, got NaN at 7",
             {"scores": np.where(np.arange(3000) == 7, np.nan, 0), "k": 1})):
        with pytest.raises(ValueError, match=message):
            index.select_spaced(**asked)
    with pytest.raises(TypeError, match="scores: expected numbers"):
        index.select_spaced(["a"] * 3000, k=1)
    coded = farann.Index(keep_vectors=False)
    coded.add([[1.0], [2.0]])
    with pytest.raises(ValueError, match="select_spaced needs the vectors"):
        coded.select_spaced([1, 2], k=1)


def value_of(rows: Float32, worth: Any, picks: Any, weight: float, metric: str) -> float:
    """Scores, and a weight times the smallest distance, of unit vectors under cosine."""
    wide = rows[picks].astype(np.float64)
    if metric == "cosine":
        wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    apart = pdist(wide).min() if len(wide) > 1 else 0.0
    return float(worth[picks].sum() + weight * apart)


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_value_and_diversity_have_a_bound(metric: str) -> None:
    """Of few rows, with copies and tied scores, beside the best of all subsets."""
    rng = np.random.default_rng(0)
    for trial in range(30):
        n, k = int(rng.integers(1, 9)), int(rng.integers(1, 5))
        rows = rng.integers(-2, 3, (n, 2)).astype(np.float32) + np.float32(0.5)
        worth = rng.integers(0, 4, n).astype(np.float64)
        index = farann.Index(metric=metric)
        index.add(rows)
        for weight in (0.0, 0.3, 2.0, 50.0):
            found = index.select_spaced(worth, k, weight=weight)
            best = max(value_of(rows, worth, list(some), weight, metric)
                       for size in range(1, k + 1) for some in combinations(range(n), size))
            ours = value_of(rows, worth, found.ids, weight, metric)
            assert ours >= 0.65 * best - 1e-6 and len(found.ids) <= k, trial
            assert (np.diff(found.scores) <= 0).all() and len({*found.ids}) == len(found.ids)
            assert (found.radius is None) == (len(found.ids) < 2)


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_value_and_diversity_without_shortcuts(metric: str) -> None:
    """All radii in turn, none left out and none left early, are no better."""
    rng = np.random.default_rng(1)
    rows = (rng.standard_normal((20, 8))[rng.integers(0, 20, 1300)]
            + 0.3 * rng.standard_normal((1300, 8))).astype(np.float32)
    rows[50:60] = rows[40:50]
    worth, some = rng.integers(0, 50, 1300) / 50.0, np.arange(1300) % 9 > 0
    index = farann.Index(metric=metric)
    index.add(rows)
    wide = rows.astype(np.float64)
    if metric == "cosine":
        wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    for weight, k, allowed in ((0.5, 30, some), (4.0, 12, None)):
        order = np.argsort(-worth, kind="stable")
        order = order[some[order]] if allowed is not None else order
        far = pdist(wide[np.sort(order)]).max()
        values = []
        for radius in far * 0.025 * 1.05 ** np.arange(76):
            left, picks = order, list[int]()
            while len(left) and len(picks) < k:
                picks.append(int(left[0]))
                left = left[1:]
                left = left[np.linalg.norm(wide[left] - wide[picks[-1]], axis=1) >= radius]
            values.append(value_of(rows, worth, picks, weight, metric))
        found = index.select_spaced(worth, k, weight=weight, allowed=allowed)
        assert value_of(rows, worth, found.ids, weight, metric) >= max(values) * (1.0 - 1e-6)
        assert allowed is None or allowed[found.ids].all()
    several = index.select_spaced(worth, k, weight=weight, threads=2, return_dropped=True)
    assert several.ids.tolist() == found.ids.tolist() and several.radius == found.radius
    assert several.dropped is not None


def test_what_value_and_diversity_refuse() -> None:
    index = farann.Index()
    assert len(index.select_spaced([], 3, weight=1.0).ids) == 0
    index.add([[0.0], [0.0], [0.0]])
    assert index.select_spaced([1, 2, 3], 2, weight=5.0).ids.tolist() == [2, 1]
    asked: dict[str, Any]
    usual: dict[str, Any] = {"scores": [1, 2, 3], "k": 2, "weight": 1.0}
    for asked, words in (({"k": None, "radius": 1.0}, "weight: expected k beside it"),
                         ({"weight": -1.0}, "weight: expected a number from 0 to 1e.200, got -1"),
                         ({"weight": 1e308}, "weight: expected a number from 0 to 1e.200, got"),
                         ({"scores": [1, -2, 3]}, "scores: expected .* beside weight, got -2.0"),
                         ({"scores": [1, np.inf, 3]}, "scores: expected .* weight, got inf"),
                         ({"scores": [9e307] * 3, "k": 3}, "scores: expected numbers from 0 to")):
        with pytest.raises(ValueError, match=words):
            index.select_spaced(**{**usual, **asked})
    dot = farann.Index(metric="dot")
    dot.add([[1.0]])
    with pytest.raises(ValueError, match="weight: expected an index with metric='l2' or 'cosine'"):
        dot.select_spaced([1.0], 1, weight=1.0)
