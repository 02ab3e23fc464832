"""Rows as people have them: columns of frames, tensors, small floats; and what errors tell them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import farann

N, DIM = 60, 5
ROWS = np.random.default_rng(0).standard_normal((N, DIM)).astype(np.float32)
LISTS = ROWS.tolist()


def need(name: str) -> Any:
    return pytest.importorskip(name, reason=f"needs {name}")


def pandas_objects(column: list[Any]) -> Any:
    pandas = need("pandas")
    return pandas.DataFrame({"id": range(len(column)), "embedding": column})["embedding"]


def pandas_arrow() -> Any:
    pandas, pa = need("pandas"), need("pyarrow")
    kind = pa.list_(pa.float32())
    return pandas.Series(LISTS, dtype=pandas.ArrowDtype(kind))


def polars_column(fixed: bool) -> Any:
    polars = need("polars")
    kind = polars.Array(polars.Float32, DIM) if fixed else polars.List(polars.Float32)
    return polars.Series("embedding", LISTS, dtype=kind)


def polars_chunks() -> Any:
    polars = need("polars")
    kind = polars.List(polars.Float32)
    parts = [polars.Series(LISTS[at : at + 7], dtype=kind) for at in range(0, N, 7)]
    return polars.concat(parts, rechunk=False)


def arrow_lists(make: str, numbers: str = "float32") -> Any:
    pa = need("pyarrow")
    return pa.array(LISTS, getattr(pa, make)(getattr(pa, numbers)()))


def arrow_fixed() -> Any:
    pa = need("pyarrow")
    return pa.FixedSizeListArray.from_arrays(pa.array(ROWS.ravel()), DIM)


def arrow_sliced(kind: str) -> Any:
    """Rows with others before and behind, and an offset within the numbers, too."""
    pa = need("pyarrow")
    numbers = pa.array(np.concatenate([np.full(3 * DIM, np.nan, np.float32), ROWS.ravel()]))
    if kind == "fixed":
        more = pa.FixedSizeListArray.from_arrays(numbers[DIM:], DIM)
    else:
        more = pa.ListArray.from_arrays(np.arange(0, (N + 2) * DIM + 1, DIM).astype("i4"),
                                        numbers[DIM:])
    return more[2:]


class OnlyDlpack:
    """A tensor that numpy can read in this way alone."""

    def __init__(self, array: npt.NDArray[Any], device: int = 1) -> None:
        self._array, self._device = array, device

    def __getitem__(self, rows: slice) -> OnlyDlpack:
        return OnlyDlpack(self._array[rows])

    def __dlpack__(self, **options: Any) -> Any:
        return self._array.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._device, 0


GIVEN: dict[str, Callable[[], Any]] = {
    "pandas, arrays": lambda: pandas_objects(list(ROWS)),
    "pandas, lists": lambda: pandas_objects(LISTS),
    "pandas, Arrow": pandas_arrow,
    "pandas, one column a coordinate": lambda: need("pandas").DataFrame(ROWS),
    "polars, lists": lambda: polars_column(False),
    "polars, arrays": lambda: polars_column(True),
    "polars, chunks": polars_chunks,
    "polars, one column a coordinate": lambda: need("polars").DataFrame(ROWS),
    "pyarrow, lists": lambda: arrow_lists("list_"),
    "pyarrow, large lists of float64": lambda: arrow_lists("large_list", "float64"),
    "pyarrow, fixed": arrow_fixed,
    "pyarrow, chunked": lambda: need("pyarrow").chunked_array([arrow_fixed()[:9],
                                                               arrow_fixed()[9:]]),
    "pyarrow, slice of lists": lambda: arrow_sliced("lists"),
    "pyarrow, slice of fixed": lambda: arrow_sliced("fixed"),
    "objects": lambda: np.array([*ROWS, None], dtype=object)[:-1],
    "masked, nothing hidden": lambda: np.ma.MaskedArray(ROWS),
    "DLPack": lambda: OnlyDlpack(ROWS),
    "torch": lambda: need("torch").from_numpy(ROWS.copy()).requires_grad_(),
    "jax": lambda: need("jax.numpy").asarray(ROWS),
}


@pytest.mark.parametrize("kind", GIVEN)
def test_rows_and_queries(kind: str) -> None:
    given = GIVEN[kind]()
    index = farann.Index()
    assert index.add(given).tolist() == list(range(N))
    assert (index.reconstruct(np.arange(N)) == ROWS).all()
    right = index.search_furthest(ROWS, k=3)
    found = index.search_furthest(given, k=3)
    assert (found.ids == right.ids).all() and (found.scores == right.scores).all()
    assert index.search_furthest(given[:1], k=3).ids.shape == (1, 3)
    assert (farann.search_furthest(given, ROWS, k=3).ids == right.ids).all()


@pytest.mark.parametrize("kind", ["pyarrow, fixed", "polars, arrays", "pyarrow, slice of fixed"])
def test_fixed_lists_are_not_copied(kind: str) -> None:
    given = GIVEN[kind]()
    index = farann.Index()
    index.add(given, copy=False)
    del given  # the index has to keep the memory
    assert (index.reconstruct(np.arange(N)) == ROWS).all()


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_small_floats(name: str) -> None:
    ml_dtypes = need("ml_dtypes")
    given = ROWS.astype(getattr(ml_dtypes, name))
    index = farann.Index()
    index.add(given)
    assert (index.reconstruct(np.arange(N)) == given.astype(np.float32)).all()
    given[7, 2] = np.nan
    with pytest.raises(ValueError, match=r"rows: expected finite numbers, got NaN in row 7"):
        farann.Index().add(given)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "ragged": (lambda: [[1, 2], [3, 4], [5]], "2 numbers in row 0 and 1 in row 2"),
    "ragged objects": (lambda: pandas_objects([[1, 2], [3]]), "2 numbers in row 0 and 1 in row 1"),
    "ragged Arrow": (lambda: need("pyarrow").array([[1.0, 2], [3.0]]), "and 1 in row 1"),
    "a row is missing": (lambda: pandas_objects([[1.0, 2], None]), "None in row 1; drop"),
    "the first is missing": (lambda: pandas_objects([None, [1.0, 2]]), "None in row 0; drop"),
    "a list is missing": (lambda: need("pyarrow").array([[1.0, 2], None]), "none in row 1; drop"),
    "a fixed list is missing": (lambda: need("polars").Series(
        [[1.0, 2.0], None], dtype=need("polars").Array(need("polars").Float32, 2)), "row 1; drop"),
    "a number is missing": (lambda: need("pyarrow").array([[1.0, 2], [3, None]]), "in row 1; drop"),
    "a frame": (lambda: need("pandas").DataFrame({"id": [3, 4], "x": [ROWS[0], ROWS[1]]}),
                'np.stack(table["embedding"])'),
    "a frame of objects": (lambda: need("pandas").DataFrame({"x": [1, None]}, dtype=object),
                           "objects; if they"),
    "a frame with words": (lambda: need("pandas").DataFrame({"x": [1, "a"]}), "got strings"),
    "a table": (lambda: need("pyarrow").table({"x": arrow_fixed()}), "np.stack"),
    "sparse": (lambda: need("scipy.sparse").csr_matrix(ROWS), "csr_matrix; write .toarray()"),
    "masked": (lambda: np.ma.masked_greater(ROWS, 1), "without masked values; write .filled"),
    "objects": (lambda: ROWS.astype(object), "write .astype(float)"),
    "a generator": (lambda: (row for row in LISTS), "got a generator; write list(...)"),
    "elsewhere": (lambda: OnlyDlpack(ROWS, device=2), "on the CPU, got one elsewhere"),
    "DLPack, complex": (lambda: OnlyDlpack(ROWS.astype(complex)), "array of complex128"),
}


class Tensor:
    """Does what tensors of torch do, which isn't among the packages of the tests."""

    __module__ = "torch"
    layout = None

    def __init__(self, device: str = "cpu", dtype: str = "torch.float32", sparse: bool = False,
                 grad: bool = False) -> None:
        self.dtype, self.is_sparse, self.requires_grad = dtype, sparse, grad
        self.device = type("device", (), {"type": device, "__str__": lambda self: f"{device}:0"})()

    def detach(self) -> Tensor:
        return Tensor(dtype=self.dtype)

    def float(self) -> Tensor:
        return Tensor()

    def __array__(self, *_: Any, **options: Any) -> npt.NDArray[np.float32]:
        if self.requires_grad:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad.")
        if "float32" not in self.dtype:
            raise TypeError("Got unsupported ScalarType")
        return ROWS


def test_tensors() -> None:
    for tensor in (Tensor(), Tensor(grad=True), Tensor(dtype="torch.bfloat16", grad=True)):
        index = farann.Index()
        index.add(tensor)
        assert (index.reconstruct(np.arange(N)) == ROWS).all()
    with pytest.raises(TypeError, match=r"rows: .* got one on cuda:0; write \.cpu\(\)"):
        farann.Index().add(Tensor("cuda"))
    with pytest.raises(TypeError, match=r"rows: .* write \.to_dense\(\)"):
        farann.Index().add(Tensor(sparse=True))


@pytest.mark.parametrize("kind", REFUSED)
def test_errors_say_what_to_write(kind: str) -> None:
    make, words = REFUSED[kind]
    given, index = make(), farann.Index()
    with pytest.raises((ValueError, TypeError)) as caught:
        index.add(given)
    assert str(caught.value).startswith("rows: expected ") and words in str(caught.value)
    assert (len(index), index.dim) == (0, None)


def test_broken_arrow_data() -> None:
    """Offsets that reach beyond the numbers, and lists that go backwards."""
    pa = need("pyarrow")
    for last in (9, -1):
        offsets = np.array([0, 1, 2], "i4")
        broken = pa.Array.from_buffers(pa.list_(pa.float32()), 2, [None, pa.py_buffer(offsets)],
                                       children=[pa.array([1.0, 2.0], pa.float32())])
        offsets[2] = last  # after pyarrow looked at them
        with pytest.raises(ValueError, match="rows: expected a valid Arrow array"):
            farann.Index().add(broken)


@pytest.mark.parametrize("kind", ["polars, lists", "polars, arrays"])
def test_without_pyarrow(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns are copied then, from objects."""
    given = GIVEN[kind]()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    index = farann.Index()
    index.add(given)
    assert (index.reconstruct(np.arange(N)) == ROWS).all()
