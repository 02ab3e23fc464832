"""8-bit codes: what they hold, and that answers through them are exact at every level."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import farann
import numpy as np
import pytest
import reference
from cases import Float32, ask_core
from farann import _codes, _core
from farann._format import read_file, write_file
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

DIMS = [1, 3, 4, 7, 16, 17, 33, 64, 97, 200, 784]
LEVELS = farann.isa_levels()


def coded(rows: Float32, metric: str, centre: np.ndarray | None = None) -> _codes.CodeArrays:
    middle = np.zeros(rows.shape[1]) if centre is None else centre
    arrays = _codes.make_codes(rows, middle, _core.METRICS.index(metric), 0, False)
    assert arrays is not None
    return arrays


def search(rows: Float32, queries: Float32, k: int, metric: str, isa: str, *,
           nearest: bool = False) -> tuple[Float32, NDArray[np.int64], int]:
    """Search by codes at a level; also how many rows needed their canonical key."""
    codes = _core.Codes(len(rows), *coded(rows, metric))
    return ask_core(rows, queries, k, metric, isa, nearest=nearest, codes=codes)


@pytest.mark.parametrize("metric", _core.METRICS)
@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("isa", LEVELS)
def test_levels(isa: str, dim: int, metric: str, rng: np.random.Generator) -> None:
    rows = rng.standard_normal((333, dim), dtype=np.float32)
    queries = rng.standard_normal((29, dim), dtype=np.float32)
    for nearest, oracle in ((False, reference.furthest), (True, reference.nearest)):
        for n_queries in (1, 3, 29):
            expected = oracle(queries[:n_queries], rows, 10, metric)
            scores, ids, _ = search(rows, queries[:n_queries], 10, metric, isa, nearest=nearest)
            np.testing.assert_array_equal(ids, expected.ids)
            np.testing.assert_array_equal(scores, expected.scores)


@pytest.mark.parametrize("metric", _core.METRICS)
@pytest.mark.parametrize("isa", LEVELS)
def test_codes_prune(isa: str, metric: str, rng: np.random.Generator) -> None:
    """Codes leave few rows to the exact keys, at one query and at many, else they'd be of no use."""
    rows = rng.standard_normal((20_000, 48), dtype=np.float32)
    queries = rng.standard_normal((40, 48), dtype=np.float32)
    for n_queries in (1, 40):
        *_, rescored = search(rows, queries[:n_queries], 10, metric, isa)
        assert 10 <= rescored / n_queries < 200


@pytest.mark.parametrize("dim", DIMS)
def test_what_codes_hold(dim: int, rng: np.random.Generator) -> None:
    rows = rng.standard_normal((101, dim), dtype=np.float32)
    arrays = coded(rows, "l2")
    groups = -(-dim // 4)
    panels = arrays.codes.reshape(-1, groups, 16, 4).transpose(0, 2, 1, 3).reshape(-1, 4 * groups)
    norms = (rows.astype(np.float64) ** 2).sum(axis=1)
    np.testing.assert_array_equal(panels[:101].sum(axis=1, dtype=np.int64), arrays.sums[:101])
    np.testing.assert_allclose(arrays.norms[:101], norms, rtol=1e-6)  # rotation keeps lengths
    assert np.isnan(arrays.norms[101:]).all()
    assert np.abs(panels).max() == 127
    assert arrays.norm >= np.sqrt(norms.max()) * (1 - 1e-12)
    lengths = np.linalg.norm(arrays.scale * panels[:101].astype(np.float64), axis=1)
    assert (np.abs(lengths - np.sqrt(norms)) <= arrays.residual * (1 + 1e-9)).all()
    assert arrays.residual <= arrays.scale * 0.5 * dim**0.5 * (1 + 1e-9)


def test_same_seed_same_codes(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((50, 20), dtype=np.float32)
    make = [_codes.make_codes(rows, np.zeros(20), 0, seed, False) for seed in (3, 3, 4)]
    assert make[0] is not None and make[1] is not None and make[2] is not None
    np.testing.assert_array_equal(make[0].codes, make[1].codes)
    assert (make[0].codes != make[2].codes).any()


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
    assert set(index.search_beyond(queries, radius).ids.tolist()) <= {700, 1999}


@given(
    st.integers(1, 40), st.integers(1, 300), st.integers(1, 12), st.sampled_from(_core.METRICS),
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
    scores, ids, _ = search(rows, queries, 7, metric, isa, nearest=nearest)
    np.testing.assert_array_equal(ids, expected.ids)
    np.testing.assert_array_equal(scores, expected.scores)


@pytest.mark.parametrize("dim", [1, 2048])
def test_dimensions_at_the_ends(dim: int, rng: np.random.Generator) -> None:
    rows = rng.standard_normal((300, dim), dtype=np.float32)
    queries = rng.standard_normal((9, dim), dtype=np.float32)
    for metric in _core.METRICS:
        expected = reference.furthest(queries, rows, 5, metric)
        np.testing.assert_array_equal(search(rows, queries, 5, metric, LEVELS[-1])[1], expected.ids)


def test_no_codes_where_they_cannot_help() -> None:
    assert _codes.make_codes(np.ones((9, 3), np.float32), np.ones(3), 0, 0, False) is None
    assert _codes.make_codes(np.empty((0, 3), np.float32), np.zeros(3), 0, 0, False) is None
    assert _codes.make_codes(np.ones((1, 17_000), np.float32), np.zeros(17_000), 0, 0, False) is None


def test_kinds_of_codes_agree(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((5000, 40), dtype=np.float32) + np.float32(3)
    queries = rng.standard_normal((64, 40), dtype=np.float32)
    for metric in _core.METRICS:
        answers = []
        for codes in ("int8", "float32"):
            index = farann.Index(metric=metric, codes=codes)
            index.add(rows)
            index.build()
            assert (index.stats()["bytes"]["codes"] > 0) == (codes == "int8")
            index.add(rows[:50] * np.float32(1.5))  # a tail without codes
            answers.append([*index.search_furthest(queries, 20), *index.search_nearest(queries, 3),
                            *index.search_furthest(queries[0], 20),
                            *index.search_beyond(queries, {"l2": 22.0, "dot": -90.0,
                                                           "cosine": -0.6}[metric])])
        for one, other in zip(*answers, strict=True):
            np.testing.assert_array_equal(one, other)


# ---- files ----


@pytest.fixture
def saved(tmp_path: Path, rng: np.random.Generator) -> Path:
    index = farann.Index()
    index.add(rng.standard_normal((100, 10), dtype=np.float32))
    index.build().save(tmp_path / "index.farann")
    return tmp_path / "index.farann"


@pytest.mark.parametrize("mmap", [False, True])
def test_codes_come_back(saved: Path, mmap: bool) -> None:
    index = farann.Index.load(saved, mmap=mmap)
    assert index.stats()["bytes"]["codes"] == farann.Index.load(saved).stats()["bytes"]["codes"] > 0
    again = saved.with_name("again.farann")
    index.save(again)
    assert again.read_bytes() == saved.read_bytes()


def test_stale_codes_are_not_saved(saved: Path, tmp_path: Path) -> None:
    index = farann.Index.load(saved)
    index.add(np.ones((3, 10)))
    index.save(tmp_path / "grown.farann")
    metadata, arrays = read_file(tmp_path / "grown.farann")
    assert "code_bounds" not in metadata and "codes.codes" not in arrays
    grown = farann.Index.load(tmp_path / "grown.farann")
    queries = np.eye(10, dtype=np.float32)
    np.testing.assert_array_equal(grown.search_furthest(queries).ids,
                                  index.search_furthest(queries).ids)


def broken(metadata: dict[str, Any], arrays: dict[str, Any], what: str) -> None:
    scale, residual, norm = metadata["code_bounds"]
    if what == "no bounds list":
        metadata["code_bounds"] = "wide"
    elif what == "bounds that are no numbers":
        metadata["code_bounds"] = [scale, None, norm]
    elif what == "infinite residual":
        metadata["code_bounds"] = [scale, 1e999, norm]
    elif what == "negative scale":
        metadata["code_bounds"] = [-scale, residual, norm]
    elif what == "codes missing":
        del arrays["codes.codes"]
    elif what == "codes of another shape":
        arrays["codes.codes"] = arrays["codes.codes"][:, :8].copy()
    elif what == "sums of another type":
        arrays["codes.sums"] = arrays["codes.sums"].astype(np.int64)
    elif what == "outlier out of range":
        arrays["codes.outliers"] = np.array([100], np.int64)
    elif what == "an outlier twice":
        arrays["codes.outliers"] = np.array([7, 7], np.int64)
    elif what == "too many outliers":
        arrays["codes.outliers"] = np.arange(100, dtype=np.int64)
    elif what == "outliers missing":
        del arrays["codes.outliers"]


@pytest.mark.parametrize("what", [
    "no bounds list", "bounds that are no numbers", "infinite residual", "negative scale",
    "codes missing", "codes of another shape", "sums of another type", "outlier out of range",
    "an outlier twice", "too many outliers", "outliers missing",
])
def test_hostile_files(saved: Path, what: str) -> None:
    metadata, arrays = read_file(saved)
    arrays = dict(arrays)
    broken(metadata, arrays, what)
    try:
        write_file(saved, metadata, arrays)
    except ValueError:
        assert what == "infinite residual"  # the format itself refuses to write it
        return
    with pytest.raises(farann.FormatError):
        farann.Index.load(saved)


def test_absurd_codes_do_no_harm(saved: Path, rng: np.random.Generator) -> None:
    """Codes that lie lead to wrong answers at worst."""
    metadata, arrays = read_file(saved)
    arrays = dict(arrays)
    for name in ("codes", "sums", "norms", "signs"):
        array = arrays[f"codes.{name}"]
        noise = rng.integers(0, 256, array.nbytes, dtype=np.uint8)
        arrays[f"codes.{name}"] = noise.view(array.dtype).reshape(array.shape)
    write_file(saved, metadata, arrays)
    index = farann.Index.load(saved)
    for queries in (np.eye(10, dtype=np.float32), np.eye(10, dtype=np.float32)[0]):
        ids = index.search_furthest(queries, 5).ids
        assert ((ids >= -1) & (ids < 100)).all()
