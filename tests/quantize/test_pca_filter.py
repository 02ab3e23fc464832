"""Axes: rows near a space of few dimensions are coded along these, and answers stay exact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import codes_in_numpy as model
import inside
import numpy as np
import pytest
import reference
from approximate_cases import recalls_of
from cases import DATA, Float32, assert_exact, assert_same, in_turn, index_of, queries_for, rows_for
from code_file_cases import Sections, assert_kept, change, file_of, put, refuse
from hypothesis import given
from hypothesis import strategies as st
from inside import core
from inside.files import read_file, write_file
from inside.quantize import CodeArrays, Projection, Transform, rotation_signs
from numpy.typing import NDArray

import farann

Float64 = NDArray[np.float64]
LEVELS = inside.levels()
DEFAULT = farann.Index().isa
N, DIM, RANK = 5000, 24, 9


def flat(rng: np.random.Generator, n: int = N, noise: float = 0.02, dim: int = DIM,
         rank: int = RANK) -> Float32:
    """Vectors near a space of few dimensions, the same one for rows and queries."""
    directions = np.random.default_rng(5).standard_normal((rank, dim))
    vectors = (0.5 + rng.standard_normal((n, rank))) @ directions
    return (vectors + noise * rng.standard_normal((n, dim))).astype(np.float32)


def built(rows: Float32, metric: str, isa: str = DEFAULT, queries: Float32 | None = None,
          **options: Any) -> farann.Index:
    index = index_of(rows, metric, **options)
    index.build(queries)
    inside.store.use_level(index, isa)
    return index


def arrays_of(index: farann.Index) -> CodeArrays:
    codes = inside.store.of(index).codes
    assert codes is not None
    return codes


def n_axes(index: farann.Index) -> int | None:
    axes = arrays_of(index).pca_axes
    return None if axes is None else len(axes)


def with_axes(rows: Float32, metric: str, axes: Float64, isa: str = DEFAULT,
              **options: Any) -> farann.Index:
    """An index whose codes have axes of choice; AssertionError where rows have no codes."""
    index = built(rows, metric, isa)
    inside.store.put(index, codes=model.lay_out(rows, metric, center=inside.store.of(index).center,
                                          axes=axes, **options))
    return index


def asked_of(rng: np.random.Generator, n: int) -> Float32:
    """Queries near the rows' space, and anywhere; of other sizes, and the other way."""
    near, anywhere = flat(rng, n), rng.standard_normal((n, DIM))
    sizes = np.array([[1e-6], [-1.0], [-1e6], [1e6]])
    return np.vstack([near, anywhere, sizes * near[:4], sizes * anywhere[:4]]).astype(np.float32)


# ---- answers ----


@pytest.mark.parametrize("options", [{}, {"by_length": True}, {"lead": True}, {"basis": 3}])
@pytest.mark.parametrize("metric", core.METRICS)
def test_exact(metric: str, options: dict[str, Any], rng: np.random.Generator) -> None:
    """With good axes, bad ones, and as many as there are coordinates."""
    rows, queries = flat(rng, 3000), asked_of(rng, 20)
    options = dict(options)
    if "lead" in options:
        if metric == "l2":
            return
        options["lead"] = rng.standard_normal(DIM)
    if "basis" in options:
        options["basis"] = model.leading(rows, metric, options["basis"])
    best = model.leading(rows, metric, 12)
    excluded = rng.integers(-1, 3000, (len(queries), 20))
    allowed = np.sort(rng.choice(3000, 1500, replace=False))
    expected = reference.furthest(queries, rows, 10, metric, exclude=excluded, allowed=allowed)
    for axes in (best, best[:1], model.orthonormal(rng, 5, DIM), model.orthonormal(rng, DIM, DIM)):
        index = with_axes(rows, metric, axes, **options)
        assert_exact(index, rows, queries, [1, 10], levels=LEVELS)
    for level in LEVELS:
        inside.store.use_level(index, level)
        assert_same(index.search_furthest(queries, 10, exclude=excluded, allowed=allowed),
                    expected)


@pytest.mark.parametrize(("kind", "metric"), in_turn(DATA, 1))
def test_hostile_rows(metric: str, kind: str, rng: np.random.Generator) -> None:
    rows = rows_for(kind, rng, 400, 12, metric)
    queries = queries_for(rng, rows, metric)
    for axes in (model.orthonormal(rng, 1, 12), model.orthonormal(rng, 8, 12), np.eye(12)[:4]):
        try:
            index = with_axes(rows, metric, axes)
        except AssertionError:  # such rows have no codes
            return
        assert_exact(index, rows, queries, [7])


@given(seed=st.integers(0, 2**32 - 1), metric=st.sampled_from(core.METRICS),
       dim=st.sampled_from([1, 2, 7, 33]), spread=st.sampled_from([0.0, 1e-7, 1e-3, 1.0]),
       offset=st.sampled_from([0.0, 1.0, 1e4]), twins=st.booleans(), data=st.data())
def test_rows_that_differ_by_what_is_outside(seed: int, metric: str, dim: int, spread: float,
                                             offset: float, twins: bool,
                                             data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    axes = model.orthonormal(rng, data.draw(st.integers(1, dim)), dim)
    along = rng.standard_normal((3, len(axes)))[rng.integers(0, 3, 300)] @ axes
    rows = (along + offset + spread * rng.standard_normal((300, dim))).astype(np.float32)
    if twins:
        rows[150:] = rows[:150]
    queries = np.vstack([rows[:3], -rows[:3], rng.standard_normal((6, dim))]).astype(np.float32)
    if metric == "cosine":
        rows[~rows.any(axis=1)] = 1.0
        queries[~queries.any(axis=1)] = 1.0
    try:
        index = with_axes(rows, metric, axes)
    except AssertionError:
        return
    assert_exact(index, rows, queries, [1, 10])


# ---- what codes hold, and what it brings ----


@pytest.mark.parametrize("dim", [1, 7, 8, 50, 129])
@pytest.mark.parametrize("isa", LEVELS)
def test_turns(isa: str, dim: int, rng: np.random.Generator) -> None:
    """In numpy as in the core; products are of what is along axes."""
    axes = model.orthonormal(rng, -(-dim // 2), dim)
    rows = rng.standard_normal((20, dim), dtype=np.float32)
    vectors, weights = rows.astype(np.float64), rng.standard_normal((9, dim))
    turn = Transform(rotation_signs(len(axes), 3), Projection(axes))
    coded, asked = turn.rows(vectors), turn.rows(weights)
    assert coded.shape == (20, turn.n_coded) and turn.n_coded == len(axes)
    projection = axes.T @ axes
    np.testing.assert_allclose(asked @ coded.T, weights @ projection @ vectors.T, atol=1e-12)
    np.testing.assert_allclose(coded, model.turned(vectors @ axes.T, turn.signs), atol=1e-12)
    np.testing.assert_allclose(turn.rows_from(coded), vectors @ projection, atol=1e-12)
    left = np.linalg.norm(vectors - vectors @ projection, axis=1)
    assert turn.outside(vectors) == pytest.approx((left**2).mean() ** 0.5, abs=1e-12)
    largest = np.empty(20)
    core.code_extents(rows, np.zeros(dim), False, *turn, isa, largest)
    # The share that rounds lengths up is 3e-5 of the row's.
    expected = np.maximum(np.abs(coded).max(axis=1), left)
    np.testing.assert_allclose(largest, expected, atol=1e-4)


@pytest.mark.parametrize("metric", core.METRICS)
@pytest.mark.parametrize("m", [1, 9, 24])
def test_bounds(m: int, metric: str, rng: np.random.Generator) -> None:
    """Of what codes hold, and of what is outside them; squares are those of whole rows."""
    rows, axes = flat(rng, 320, noise=0.3), model.orthonormal(rng, m, DIM)
    arrays = model.lay_out(rows, metric, axes=axes, order=rng.permutation(320))
    assert arrays.slots is not None and (arrays.slots >= 0).all() and len(arrays.slots) == 320
    vectors = rows[arrays.slots].astype(np.float64)
    if metric == "cosine":
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    weights = np.repeat(arrays.inv_scale, 16).astype(np.float64)
    coded = arrays.transform.rows(vectors) * weights[:, None]
    codes = model.codes_of(arrays).whole[:, :m] - 128
    outside = np.linalg.norm(vectors - vectors @ axes.T @ axes, axis=1)
    lengths = np.linalg.norm(vectors, axis=1)
    bounds = arrays.bounds
    for bound, values in ((bounds.residual, np.linalg.norm(coded - codes, axis=1)),
                          (bounds.length, np.linalg.norm(coded, axis=1)),
                          (bounds.norm, lengths)):
        assert values.max() <= bound <= values.max() * (1 + 1e-6)
    for bound, values, more in ((bounds.outside, outside, lengths),
                                (bounds.outside_length, weights * outside, weights * lengths)):
        assert values.max() <= bound <= values.max() + 1e-4 * more.max()
    assert bounds.outside_usual == pytest.approx((outside**2).mean() ** 0.5, abs=1e-6)
    if metric == "l2":
        assert arrays.squares is not None
        np.testing.assert_allclose(arrays.squares, weights * lengths**2, rtol=1e-6)


@pytest.mark.parametrize("metric", core.METRICS)
def test_fewer_bytes_for_the_same_answers(metric: str, rng: np.random.Generator,
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    rows, queries = flat(rng, 20_000), flat(rng, 30)
    index = built(rows, metric)
    monkeypatch.setattr(inside.settings, "most_rotated_rows", 0)
    without = built(rows, metric)
    assert n_axes(index) == 12 and n_axes(without) is None
    hits = index.search_furthest(queries, 10, return_stats=True)
    stats = hits.stats
    assert_same(hits, reference.furthest(queries, rows, 10, metric))
    plain = without.search_furthest(queries, 10, return_stats=True)
    before = plain.stats
    assert_same(hits, farann.Hits(plain.ids, plain.scores))
    assert stats.bytes_read < before.bytes_read
    assert stats.rows_rescored < 2 * before.rows_rescored


# ---- where build takes them ----


@pytest.mark.parametrize("metric", core.METRICS)
def test_as_few_as_do_as_well(metric: str, rng: np.random.Generator) -> None:
    assert n_axes(built(flat(rng), metric)) == 12
    assert n_axes(built(flat(rng, rank=8), metric)) == 8
    assert n_axes(built(flat(rng, noise=3.0), metric)) is None
    assert n_axes(built(rng.standard_normal((N, DIM), dtype=np.float32), metric)) is None
    # What would spare no group, too many dimensions, and rows that are none.
    assert n_axes(built(flat(rng, noise=0.0, dim=8, rank=7), metric)) is None
    assert n_axes(built(flat(rng, dim=300), metric)) is None
    assert n_axes(built(flat(rng, 4095), metric)) is None


@pytest.mark.parametrize(("rank", "axes"), [(56, 56), (60, None)])
def test_they_must_save_a_tenth_of_the_coordinates(
        rank: int, axes: int | None, rng: np.random.Generator) -> None:
    rows = rng.standard_normal((N, 64), dtype=np.float32)
    rows[:, rank:] *= 0.02
    for metric in core.METRICS:
        assert n_axes(built(rows, metric)) == axes


@pytest.mark.parametrize("metric", core.METRICS)
def test_constant_columns_and_equal_rows(metric: str, rng: np.random.Generator) -> None:
    rows = rng.standard_normal((N, DIM), dtype=np.float32)
    rows[:, ::3] = 1.0
    index = built(rows, metric)
    if metric != "cosine":  # under which they are a cone
        assert n_axes(index) == 16
    assert_exact(index, rows, asked_of(rng, 9), [10])
    rows[:] = rows[0]
    assert_exact(built(rows, metric), rows, asked_of(rng, 9), [10])


@pytest.mark.parametrize("large", [1e3, 1e12])
@pytest.mark.parametrize("metric", core.METRICS)
def test_rows_that_the_sample_missed(metric: str, large: float, rng: np.random.Generator,
                                     monkeypatch: pytest.MonkeyPatch) -> None:
    """A few rows stick out where no others are: codes are still of use, and answers exact."""
    monkeypatch.setattr(inside.settings, "sampled_rows", 100)
    rows = flat(rng)
    for number in (1, 40):  # outliers, or too many for that
        some = rows.copy()
        some[7 : 7 + number] = large * rng.standard_normal((number, DIM))
        index = built(some, metric)
        assert n_axes(index) is not None
        queries = asked_of(rng, 9)
        assert_exact(index, some, queries, [10])
        if number == 1 and large == 1e3:  # larger ones move the center
            stats = index.search_furthest(queries[:9], 10, return_stats=True).stats
            assert stats.rows_rescored < 0.2 * 9 * N


def test_queries_decide_too(rng: np.random.Generator) -> None:
    """What rows hardly have matters if queries ask for nothing else."""
    rows = flat(rng, noise=0.1)
    assert n_axes(built(rows, "dot")) == 12
    projection = model.leading(rows, "dot", 9)
    queries = rng.standard_normal((300, DIM))
    queries -= queries @ projection.T @ projection
    index = built(rows, "dot", queries=queries.astype(np.float32))
    assert n_axes(index) is None
    assert_exact(index, rows, queries[:20].astype(np.float32), [10])


@pytest.mark.parametrize("options", [{"codes": "int4"}, {"keep_vectors": False},
                                     {"codes": "int4", "keep_vectors": False}])
def test_none_for_codes_that_must_hold_all(options: dict[str, Any],
                                           rng: np.random.Generator) -> None:
    assert n_axes(built(flat(rng), "l2", **options)) is None


# ---- together with all else ----


@pytest.mark.parametrize("cells", [None, 32])
@pytest.mark.parametrize("metric", core.METRICS)
def test_changes_and_files(metric: str, cells: int | None, tmp_path: Path,
                           rng: np.random.Generator) -> None:
    rows, queries = flat(rng), asked_of(rng, 20)
    index = built(rows, metric, cells=cells)
    index.remove(np.arange(0, N, 3))
    more = rng.standard_normal((200, DIM)).astype(np.float32)  # not near those axes
    ids = np.concatenate([np.setdiff1d(np.arange(N), np.arange(0, N, 3)), index.add(more)])
    left = np.vstack([np.delete(rows, np.s_[::3], axis=0), more])
    assert n_axes(index) == 12
    assert_exact(index, left, queries, [10], ids)
    index.save(tmp_path / "index.farann")
    assert_exact(farann.Index.load(tmp_path / "index.farann"), left, queries, [10], ids)


@pytest.mark.parametrize("metric", core.METRICS)
def test_approximate_search(metric: str, rng: np.random.Generator,
                            monkeypatch: pytest.MonkeyPatch) -> None:
    rows, asked = flat(rng, 20_000), flat(rng, 100)
    index = built(rows, metric, cells=128)
    monkeypatch.setattr(inside.settings, "most_rotated_rows", 0)
    without = built(rows, metric, cells=128)
    assert n_axes(index) == 12 and n_axes(without) is None
    expected = reference.furthest(asked, rows, 10, metric)
    assert_same(index.search_furthest(asked, 10), expected)
    for options in ({"recall": 0.9}, {"budget": 3000}):
        ours, plain = (min(recalls_of(searched, asked, expected.ids, **options))
                       for searched in (index, without))
        assert ours > plain - 0.03 > 0.8, options
    hits = index.search_furthest(asked, 10, epsilon=0.1)
    for query, ids, best in zip(asked, hits.ids, expected.ids, strict=True):
        scores = reference.score(query[None], rows, metric)[0].astype(np.float64)
        if metric == "l2":
            assert scores[best].min() <= 1.1 * scores[ids].min() * (1 + 1e-6)
        else:
            assert scores[ids].max() <= scores[best].max() + 0.1 + 1e-4


@pytest.mark.parametrize("one_by_one", [False, True])
def test_approximate_search_allows_for_usual_rows(one_by_one: bool,
                                                  rng: np.random.Generator) -> None:
    """And exact search for the one that is longest outside the axes."""
    rows, asked = flat(rng), rng.standard_normal((40, DIM), dtype=np.float32)
    rows[::500] += rng.standard_normal((10, DIM)).astype(np.float32)
    arrays = arrays_of(built(rows, "dot"))
    assert arrays.pca_axes is not None and len(arrays.pca_axes) == 12
    assert 0.0 < arrays.bounds.outside_usual < 0.1 * arrays.bounds.outside
    rescored = []
    for usual in (arrays.bounds.outside_usual, arrays.bounds.outside):
        index = built(rows, "dot")
        inside.store.put(index, codes=replace(arrays,
            bounds=arrays.bounds._replace(outside_usual=usual)))
        kinds: tuple[dict[str, Any], ...] = ({"budget": 4000}, {})
        for limits in kinds:
            some = [query[None] for query in asked] if one_by_one else [asked]
            rescored.append(sum(
                index.search_furthest(queries, 10, return_stats=True, **limits).stats.rows_rescored
                for queries in some))
    assert rescored[0] < rescored[2] and rescored[1] == rescored[3]


# ---- files ----


@pytest.mark.parametrize("metric", core.METRICS)
def test_saved(metric: str, tmp_path: Path, rng: np.random.Generator) -> None:
    """It comes back, mapped or read; and the same rows make the same file."""
    rows, queries = flat(rng, 30_000), asked_of(rng, 20)
    index = built(rows, metric, cells=64)
    assert_kept(index, tmp_path / "index.farann", "pca_axes", queries)
    twin = built(rows, metric, cells=64)
    assert file_of(twin, tmp_path / "twin.farann") == (tmp_path / "index.farann").read_bytes()


@pytest.fixture
def saved(tmp_path: Path, rng: np.random.Generator) -> Path:
    rows = flat(rng, 100)
    path = tmp_path / "index.farann"
    with_axes(rows, "dot", model.leading(rows, "dot", 12)).save(path)
    return path


BROKEN: dict[str, Callable[[Sections], object]] = {
    "too few": change("pca_axes", lambda array: array[:-1]),
    "none": change("pca_axes", lambda array: array[:0]),
    "cut short": change("pca_axes", lambda array: array[:, :-1]),
    "of nothing": change("pca_axes", lambda array: array[:, :0]),
    "of another type": change("pca_axes", lambda array: array.astype(np.float32)),
    "in other dimensions": change("pca_axes", lambda array: array[0]),
    "twice the same": put("pca_axes", 3, 0.0),
    "longer": change("pca_axes", lambda array: array * 1.001),
    **{f"{value} in them": put("pca_axes", (3, 3), value) for value in (np.nan, np.inf, 1e200)},
    "gone": lambda arrays: arrays.pop("codes.pca_axes"),
    "more than there are dimensions": lambda arrays: arrays.update(
        {"codes.pca_axes": np.eye(25, 24), "codes.signs": np.ones((3, 25), np.int8)}),
}


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("what", BROKEN)
def test_broken_sections(saved: Path, what: str, mmap: bool) -> None:
    farann.Index.load(saved, mmap=mmap)
    refuse(saved, BROKEN[what], mmap)


@pytest.mark.parametrize("bounds", [
    [1.0] * 5, [1.0] * 7, [1.0] * 9, *([1.0] * i + [-1.0] + [1.0] * (7 - i) for i in (5, 6, 7))])
def test_broken_bounds(saved: Path, bounds: list[float]) -> None:
    metadata, arrays = read_file(saved)
    write_file(saved, metadata, arrays | {"codes.bounds": np.array(bounds)})
    with pytest.raises(farann.FormatError, match="bounds"):
        farann.Index.load(saved)


def test_none_without_vectors(tmp_path: Path, rng: np.random.Generator) -> None:
    """A file can't claim that rows were coded along axes, and then dropped."""
    path = tmp_path / "index.farann"
    built(flat(rng), "l2", keep_vectors=False).save(path)
    refuse(path, lambda arrays: arrays.update({"codes.pca_axes": np.eye(DIM)}), False)


def test_absurd_axes_do_no_harm(saved: Path, rng: np.random.Generator) -> None:
    """Answers may be wrong, ids are those of rows."""
    metadata, arrays = read_file(saved)
    queries = asked_of(rng, 20)
    for factor in (0.0, 1e-30, 1e30):
        sections = dict(arrays)
        sections["codes.pca_axes"] = model.orthonormal(rng, 12, DIM)
        sections["codes.bounds"] = arrays["codes.bounds"].copy()
        sections["codes.bounds"][5:] = factor
        write_file(saved, metadata, sections)
        index = farann.Index.load(saved)
        for some in (queries, queries[0], queries[-3]):
            for search in (index.search_furthest, index.search_nearest):
                for k in (5, 100):
                    ids = search(some, k).ids
                    assert ((ids >= -1) & (ids < 100)).all()
