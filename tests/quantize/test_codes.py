"""8-bit codes: what they hold, and that answers through them are exact at every level."""

from __future__ import annotations

import inside
import numpy as np
import pytest
import reference
from cases import Float32, core_top
from codes_in_numpy import Float64, by_position, codes_of, filled, halves, lay_out, turned
from hypothesis import given
from hypothesis import strategies as st
from inside import core
from numpy.typing import NDArray

import farann

DIMS = [1, 3, 4, 7, 16, 17, 33, 64, 97, 200, 784]
LEVELS = inside.levels()


def made(rows: Float32, metric: str = "l2", *, seed: int = 0,
         queries: Float32 | None = None) -> inside.quantize.CodeArrays | None:
    """Codes of rows around the origin, laid out as `build` does."""
    spec = inside.contract.IndexSpec(inside.contract.traits_of(metric), "int8", seed)
    center = np.zeros(rows.shape[1])
    layout = inside.layout.make_codes(rows, center, spec, LEVELS[-1], queries, False).layout
    return None if layout is None else layout.codes


def coded(rows: Float32, metric: str = "l2") -> inside.quantize.CodeArrays:
    arrays = made(rows, metric)
    assert arrays is not None
    return arrays


def codes_for(rows: Float32, metric: str) -> core.Codes:
    return core.Codes(len(rows), rows.shape[1], coded(rows, metric))


def ids_found(rows: Float32, queries: Float32, k: int, metric: str) -> NDArray[np.int64]:
    """What a search by codes finds at the fastest level."""
    return core_top(rows, queries, k, metric, LEVELS[-1], codes=codes_for(rows, metric))[1]


@pytest.mark.parametrize("metric", core.METRICS)
@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("isa", LEVELS)
def test_levels(isa: str, dim: int, metric: str, rng: np.random.Generator) -> None:
    rows = rng.standard_normal((333, dim), dtype=np.float32)
    queries = rng.standard_normal((29, dim), dtype=np.float32)
    codes = codes_for(rows, metric)
    for nearest, oracle in ((False, reference.furthest), (True, reference.nearest)):
        expected = oracle(queries, rows, 10, metric)
        for n_queries in (1, 3, 29):
            scores, ids, _ = core_top(rows, queries[:n_queries], 10, metric, isa, nearest=nearest,
                                      codes=codes)
            np.testing.assert_array_equal(ids, expected.ids[:n_queries])
            np.testing.assert_array_equal(scores, expected.scores[:n_queries])


@pytest.mark.parametrize("metric", core.METRICS)
def test_codes_prune(metric: str, rng: np.random.Generator) -> None:
    """Codes leave few rows to the exact keys, at one query and at many: that is their use."""
    rows = rng.standard_normal((20_000, 48), dtype=np.float32)
    queries = rng.standard_normal((40, 48), dtype=np.float32)
    codes = codes_for(rows, metric)
    for isa in LEVELS:
        for n_queries in (1, 40):
            *_, rescored = core_top(rows, queries[:n_queries], 10, metric, isa, codes=codes)
            assert 10 <= rescored / n_queries < 200, (isa, n_queries)


def vectors_of(rows: Float32, arrays: inside.quantize.CodeArrays) -> Float64:
    """The rows that are coded, by position, centered and turned."""
    assert arrays.slots is not None
    there = arrays.slots[filled(arrays)]
    return turned(rows[there].astype(np.float64), arrays.signs)


@pytest.mark.parametrize("dim", DIMS)
def test_what_codes_hold(dim: int, rng: np.random.Generator) -> None:
    """Each row by the weight of its panel, as near as its steps are; and the bounds hold."""
    sizes = 10.0 ** rng.uniform(-4, 0, (61, 1))
    rows = (sizes * rng.standard_normal((61, dim))).astype(np.float32)
    arrays = coded(rows)
    assert arrays.slots is not None and arrays.squares is not None
    assert arrays.low_nibble_norm is not None
    np.testing.assert_array_equal(filled(arrays), np.arange(61))
    np.testing.assert_array_equal(np.sort(arrays.slots[:61]), np.arange(61))
    assert arrays.pca_filter is None and arrays.whole is None and arrays.low_nibbles is not None
    z, weights = vectors_of(rows, arrays), np.repeat(arrays.inv_scale, 16)[:61, None].astype(float)
    bytes_ = codes_of(arrays).whole
    codes = bytes_[:61, :dim] - 128
    assert (np.abs(codes - weights * z) <= 0.5 + 1e-9).all()
    assert (bytes_[:61, dim:] == 128).all() and not bytes_[61:].any()
    bounds = arrays.bounds
    lengths = np.linalg.norm(z, axis=1)
    for bound, values in (
        (bounds.residual, np.linalg.norm(codes - weights * z, axis=1)),
        (bounds.length, weights[:, 0] * lengths),
        (bounds.norm, lengths),
        (bounds.low_nibble_norm, np.linalg.norm((bytes_[:61, :dim] & 15) - 7.5, axis=1)),
    ):
        # To within what the turns of numpy and of C differ by.
        assert values.max() - 1e-11 <= bound * (1 + 1e-12) <= values.max() * (1 + 1e-6) + 2e-11
    unknown = np.linalg.norm((bytes_[:61, :dim] & 15) - 7.5, axis=1)
    of_panels = np.append(unknown, np.zeros(3)).reshape(-1, 16).max(axis=1)
    assert (arrays.low_nibble_norm >= of_panels * (1 - 1e-12)).all()
    assert (arrays.low_nibble_norm <= of_panels * (1 + 1e-6)).all()
    np.testing.assert_allclose(arrays.squares[:61], lengths**2 * weights[:, 0], rtol=1e-6)
    assert not arrays.squares[61:].any()


@pytest.mark.parametrize("dim", [3, 16, 64])
def test_weights(dim: int, rng: np.random.Generator) -> None:
    """Panels of the largest rows first; each takes its largest coordinate to 127, within bounds."""
    sizes = 10.0 ** rng.uniform(-4, 0, (61, 1))
    rows = (sizes * rng.standard_normal((61, dim))).astype(np.float32)
    arrays = coded(rows)
    z = np.abs(vectors_of(rows, arrays)).max(axis=1)
    assert (np.diff(z) <= 1e-12).all()
    largest = z[::16]
    room = np.maximum(largest, largest[0] / core.CODE_SPAN)
    np.testing.assert_allclose(arrays.inv_scale, 127 / room, rtol=1e-6)
    # Rows of all sizes are there, so that both ends are met.
    ratio = arrays.inv_scale.max() / arrays.inv_scale.min()
    assert ratio == pytest.approx(core.CODE_SPAN, rel=1e-6)
    highest = np.abs(codes_of(arrays).whole[:61, :dim] - 128).max(axis=1)
    assert (highest[: 16 : 16] == 127).all() and highest[-1] < 127


@pytest.mark.parametrize("size", [1.0, 1e6])
def test_a_panel_of_rows_of_all_sizes(size: float, rng: np.random.Generator) -> None:
    """An order of choice: the largest row sets the weight, and small ones become zeros."""
    rows = rng.standard_normal((64, 8), dtype=np.float32)
    rows[::2] *= np.float32(size)
    arrays = lay_out(rows, "l2")
    codes = codes_of(arrays).whole[:, :8] - 128
    assert (np.abs(codes).reshape(-1, 16 * 8).max(axis=1) == 127).all()
    assert (codes[1::2].any()) == (size == 1.0)


@pytest.mark.parametrize("n", [1, 3, 16, 37])
@pytest.mark.parametrize("groups", [1, 2, 3, 8, 9])
def test_packing(groups: int, n: int, rng: np.random.Generator) -> None:
    """Panels hold all codes, whole or in halves, at the places asked for; zeros elsewhere."""
    rows = rng.integers(0, 256, (n, 4 * groups), dtype=np.uint8)
    places = rng.permutation(48)[:n]
    places[rng.random(n) < 0.2] = -1
    expected = np.zeros((48, 4 * groups), np.uint8)
    expected[places[places >= 0]] = rows[places >= 0]
    panels = np.zeros_like(expected)
    core.pack_codes(rows, places, False, panels)
    np.testing.assert_array_equal(by_position(panels), expected)
    upper, lower = np.zeros((2, 48, 4 * -(-groups // 2)), np.uint8)
    core.pack_codes(rows, places, True, upper, lower)
    np.testing.assert_array_equal(halves(by_position(upper), groups), expected >> 4)
    np.testing.assert_array_equal(halves(by_position(lower, 4), groups), expected & 15)
    alone = np.zeros_like(upper)
    core.pack_codes(rows, places, True, alone)
    np.testing.assert_array_equal(alone, upper)
    with pytest.raises(ValueError, match="places must be in the panels"):
        core.pack_codes(rows, np.full(n, 48), True, alone)
    for panels in (alone[1:], np.hstack([alone, alone])):
        with pytest.raises(ValueError, match="panels must have room for the rows"):
            core.pack_codes(rows, places, True, panels)


@pytest.mark.parametrize("metric", ["dot", "cosine"])
def test_squares_are_for_l2(metric: str, rng: np.random.Generator) -> None:
    arrays = coded(rng.standard_normal((101, 7), dtype=np.float32), metric)
    assert arrays.squares is None and arrays.bounds.rest_step == 0.0


def test_same_seed_same_codes(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((5000, 20), dtype=np.float32)
    one, same, other = (made(rows, seed=seed) for seed in (3, 3, 4))
    assert one is not None and same is not None and other is not None
    np.testing.assert_array_equal(one.panels, same.panels)
    np.testing.assert_array_equal(one.slots, same.slots)
    assert (one.panels != other.panels).any()


# ---- order and first look ----


@pytest.mark.parametrize("metric", core.METRICS)
def test_answering_rows_come_first(metric: str, rng: np.random.Generator) -> None:
    rows = rng.standard_normal((6000, 16), dtype=np.float32)
    queries = rng.standard_normal((300, 16), dtype=np.float32)
    arrays = made(rows, metric, queries=queries)
    assert arrays is not None and arrays.slots is not None
    np.testing.assert_array_equal(np.sort(arrays.slots[:6000]), np.arange(6000))
    assert (arrays.slots[6000:] == -1).all()
    answers = reference.furthest(queries, rows, inside.layout.ORDER_K, metric)
    slots, counts = np.unique(answers.ids, return_counts=True)
    several = slots[counts > 1]
    assert len(several) > 50
    assert set(several.tolist()) == set(arrays.slots[: len(several)].tolist())


def test_a_first_look_where_it_pays(rng: np.random.Generator,
                                    monkeypatch: pytest.MonkeyPatch) -> None:
    """Directions are found where there are some, and not where all are alike."""
    # Axes would do as well for so few dimensions.
    monkeypatch.setattr(inside.settings, "most_rotated_rows", 0)
    like_any = rng.standard_normal((8000, 96), dtype=np.float32)
    few = rng.standard_normal((8000, 6)) @ rng.standard_normal((6, 96))
    rows = (few + 0.01 * like_any).astype(np.float32)
    for metric in core.METRICS:
        found, none = coded(rows, metric), coded(like_any, metric)
        assert none.pca_filter is None and none.whole is None and none.whole_bounds is None
        assert found.pca_filter is not None and found.whole is not None
        assert found.low_nibbles is None
        assert len(found.pca_filter) == 8
        basis = found.pca_filter.directions
        np.testing.assert_allclose(basis @ basis.T, np.eye(8), atol=1e-14)
        # Nearly all of the rows lies along it.
        along = np.linalg.norm(rows @ basis.T, axis=1)
        assert (along > 0.99 * np.linalg.norm(rows, axis=1)).all()
        assert found.panels.shape[1] == 12 and found.whole.shape[1] == 96


@pytest.mark.parametrize("metric", core.METRICS)
def test_built_first_look_is_exact(metric: str, rng: np.random.Generator,
                                   monkeypatch: pytest.MonkeyPatch) -> None:
    # Axes would do as well for so few dimensions.
    monkeypatch.setattr(inside.settings, "most_rotated_rows", 0)
    rows = (rng.standard_normal((5000, 4)) @ rng.standard_normal((4, 64))
            + 0.01 * rng.standard_normal((5000, 64))).astype(np.float32)
    arrays = coded(rows, metric)
    assert arrays.pca_filter is not None
    codes = core.Codes(len(rows), rows.shape[1], arrays)
    queries = rows[::250] + np.float32(0.5)
    expected = reference.furthest(queries, rows, 10, metric)
    for isa in LEVELS:
        for n in (1, 20):
            scores, ids, rescored = core_top(rows, queries[:n], 10, metric, isa, codes=codes)
            np.testing.assert_array_equal(ids, expected.ids[:n])
            np.testing.assert_array_equal(scores, expected.scores[:n])
            assert rescored < 500 * n


def test_more_rows_than_slots_can_number(monkeypatch: pytest.MonkeyPatch,
                                         rng: np.random.Generator) -> None:
    monkeypatch.setattr(inside.settings, "most_ordered", 4999)
    rows = rng.standard_normal((5000, 8), dtype=np.float32)
    assert coded(rows).slots is None and coded(rows[:-1]).slots is not None
    rows[7] *= np.float32(100.0)  # it sticks out, and has a position all the same
    expected = reference.furthest(rows[:9], rows, 10, "l2")
    np.testing.assert_array_equal(ids_found(rows, rows[:9], 10, "l2"), expected.ids)


def test_samples_of_any_size(rng: np.random.Generator) -> None:
    """None, one or few queries as a sample; rows that all answer or are all the same."""
    rows = rng.standard_normal((4500, 8), dtype=np.float32)
    rows[1000:] = rows[0]
    queries = rng.standard_normal((6, 8), dtype=np.float32)
    for sample in (np.empty((0, 8)), queries[0], queries, np.zeros((1, 8)), 1e30 * queries):
        index = farann.Index()
        index.add(rows)
        index.build(sample)
        np.testing.assert_array_equal(index.search_furthest(queries).ids,
                                      reference.furthest(queries, rows, 10, "l2").ids)


@pytest.mark.parametrize("metric", core.METRICS)
def test_outliers_of_any_size_with_a_first_look(metric: str, rng: np.random.Generator) -> None:
    """Rows that float32 can hardly hold neither warn nor hide, nor spoil what others need."""
    rows = (rng.standard_normal((5000, 4)) @ rng.standard_normal((4, 64))
            + 0.01 * rng.standard_normal((5000, 64))).astype(np.float32)
    rows[77] = 3e38
    rows[4321] *= np.float32(1e20)
    index = farann.Index(metric=metric)
    index.add(rows)
    queries = rows[:5] + np.float32(0.5)
    expected = reference.furthest(queries, rows, 12, metric)
    np.testing.assert_array_equal(index.search_furthest(queries, 12).ids, expected.ids)


# ---- awkward rows ----


@pytest.mark.parametrize("metric", ["l2", "dot"])
@pytest.mark.parametrize("n_queries", [1, 30])
def test_outliers(n_queries: int, metric: str, rng: np.random.Generator) -> None:
    """A few huge rows don't spoil the scale of all; they are found, and can be filtered."""
    rows = rng.standard_normal((2000, 24), dtype=np.float32)
    huge = np.array([5, 700, 1999])
    rows[huge] *= 1000
    arrays = coded(rows, metric)
    assert arrays.outliers.tolist() == huge.tolist()
    queries = rng.standard_normal((n_queries, 24), dtype=np.float32)
    index = farann.Index(metric=metric)
    index.add(rows)
    for filters in ({}, {"exclude": [[700]] * n_queries}, {"allowed": np.arange(6, 2000)}):
        expected = reference.furthest(queries, rows, 12, metric, **filters)
        hits = index.search_furthest(queries, 12, **filters)
        np.testing.assert_array_equal(hits.ids, expected.ids)
    index.remove([5])
    assert 5 not in index.search_furthest(queries, 12).ids
    radius = 100.0 if metric == "l2" else -100.0
    assert set(index.search_beyond(queries, radius=radius).ids.tolist()) <= {700, 1999}


@given(
    st.integers(1, 40), st.integers(1, 300), st.integers(1, 12), st.sampled_from(core.METRICS),
    st.sampled_from(LEVELS), st.integers(0, 2**32 - 1), st.sampled_from([1e-3, 1.0, 1e6, 1e15]),
    st.booleans(),
)
def test_rows_on_the_edge(dim: int, n: int, n_queries: int, metric: str, isa: str, seed: int,
                          size: float, nearest: bool) -> None:
    """Rows and queries whose coordinates lie half-way between codes, where rounding is worst."""
    rng = np.random.default_rng(seed)
    steps = rng.integers(-8, 9, (n, dim)) + 0.5
    rows = (steps * size / 127).astype(np.float32)
    queries = ((rng.integers(-4, 5, (n_queries, dim)) + 0.5) * size / 63).astype(np.float32)
    oracle = reference.nearest if nearest else reference.furthest
    expected = oracle(queries, rows, 7, metric)
    scores, ids, _ = core_top(rows, queries, 7, metric, isa, nearest=nearest,
                              codes=codes_for(rows, metric))
    np.testing.assert_array_equal(ids, expected.ids)
    np.testing.assert_array_equal(scores, expected.scores)


@pytest.mark.parametrize("dim", [1, 2048])
def test_dimensions_at_the_ends(dim: int, rng: np.random.Generator) -> None:
    rows = rng.standard_normal((300, dim), dtype=np.float32)
    queries = rng.standard_normal((9, dim), dtype=np.float32)
    for metric in core.METRICS:
        expected = reference.furthest(queries, rows, 5, metric)
        np.testing.assert_array_equal(ids_found(rows, queries, 5, metric), expected.ids)


@pytest.mark.parametrize("isa", LEVELS)
@pytest.mark.parametrize("size", [1e30, 1e34, 1e36, 9e36])
def test_scores_that_float32_can_hold(size: float, isa: str, rng: np.random.Generator) -> None:
    """Queries so large that sums times their unit are infinite: keys are not, nor are answers."""
    rows = (rng.standard_normal((1500, 512)) * 0.3 / 512**0.5).astype(np.float32)
    queries = rng.standard_normal((20, 512))
    # Some that have the same coordinate everywhere, once they are turned: their sums are largest.
    there = turned(np.eye(512), lay_out(rows, "dot").signs)
    queries[:4] = there @ np.ones(512) * [[1], [-1], [1], [-1]] + 0.1 * queries[:4]
    queries = (queries / np.linalg.norm(queries, axis=1, keepdims=True) * size).astype(np.float32)
    expected = reference.furthest(queries, rows, 10, "dot")
    codes = core.Codes(1500, 512, lay_out(rows, "dot"))
    for some in (slice(0, 20), *(slice(i, i + 1) for i in range(20))):
        scores, ids, _ = core_top(rows, queries[some], 10, "dot", isa, codes=codes)
        np.testing.assert_array_equal(ids, expected.ids[some])
        np.testing.assert_array_equal(scores, expected.scores[some])


def test_no_codes_where_they_cannot_help() -> None:
    assert made(np.zeros((9, 3), np.float32)) is None
    assert made(np.empty((0, 3), np.float32)) is None
    assert made(np.ones((1, 17_000), np.float32)) is None


def test_kinds_of_codes_agree(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((5000, 40), dtype=np.float32) + np.float32(3)
    queries = rng.standard_normal((64, 40), dtype=np.float32)
    for metric in core.METRICS:
        answers = []
        for codes in ("int8", "float32"):
            index = farann.Index(metric=metric, codes=codes)
            index.add(rows)
            index.build()
            assert (index.stats()["bytes"]["codes"] > 0) == (codes == "int8")
            index.add(rows[:50] * np.float32(1.5))  # a tail without codes
            answers.append([index.search_furthest(queries, 20), index.search_nearest(queries, 3),
                            index.search_furthest(queries[0], 20),
                            index.search_beyond(queries, radius={"l2": 22.0, "dot": -90.0,
                                                          "cosine": -0.6}[metric])])
        for one, other in zip(*answers, strict=True):
            for name in type(one).__slots__:
                np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
