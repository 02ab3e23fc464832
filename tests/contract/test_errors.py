"""Every refusal: the message names the argument, and the index stays as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import snapshot

import farann

Call = Callable[[farann.Index, Any], object]
REFUSED = (ValueError, TypeError)

N, DIM = 300, 4


def with_at(value: object, *places: tuple[int, int], dtype: Any = np.float64) -> Any:
    """Make plain rows with a value at the places."""
    array = np.arange(1.0, N * DIM + 1).reshape(N, DIM).astype(dtype)
    for place in places:
        array[place] = value
    return array


def ragged() -> list[list[float]]:
    rows = with_at(1, (0, 0)).tolist()
    rows[137] = rows[137][:3]
    return list(rows)


# What is wrong, and whether the message has to tell the first row at fault: 137.
BAD_VECTORS: dict[str, tuple[Callable[[], Any], bool]] = {
    "nan": (lambda: with_at(np.nan, (137, 2), (211, 0)), True),
    "infinity": (lambda: with_at(np.inf, (137, 0), (211, 0)), True),
    "minus infinity": (lambda: with_at(-np.inf, (211, 1), (137, 3)), True),
    "float32 nan": (lambda: with_at(np.nan, (137, 0), dtype=np.float32), True),
    "float16 infinity": (lambda: with_at(np.inf, (137, 0), (140, 0), dtype=np.float16), True),
    "too large for float32": (lambda: with_at(1e39, (137, 1), (299, 1)), True),
    "largest float64": (lambda: with_at(-np.finfo(np.float64).max, (137, 1)), True),
    "nan in lists": (lambda: with_at(np.nan, (137, 2)).tolist(), True),
    "ragged": (ragged, False),
    "strings": (lambda: [["a"] * DIM] * N, False),
    "numbers as strings": (lambda: with_at(1, (0, 0)).astype(str), False),
    "bytes": (lambda: with_at(1, (0, 0)).astype(bytes), False),
    "objects": (lambda: with_at(1, (0, 0)).astype(object), False),
    "none inside": (lambda: [[None] * DIM] * N, False),
    "complex": (lambda: with_at(1j, (0, 0), dtype=complex), False),
    "dates": (lambda: with_at(1, (0, 0)).astype("M8[s]"), False),
    "structured": (lambda: np.zeros(N, [("x", "f4", DIM)]), False),
    "too few columns": (lambda: with_at(1, (0, 0))[:, :3], False),
    "too many columns": (lambda: np.ones((N, DIM + 1)), False),
    "no columns": (lambda: np.ones((N, 0)), False),
    "three axes": (lambda: np.ones((N, DIM, 1)), False),
    "no axis": (lambda: 1.0, False),
    "none": (lambda: None, False),
    "a dict": (lambda: {"rows": 1}, False),
}

VECTOR_CALLS: dict[str, tuple[str, Call]] = {
    "add": ("rows", lambda index, x: index.add(x)),
    "search_furthest": ("queries", lambda index, x: index.search_furthest(x)),
    "search_nearest": ("queries", lambda index, x: index.search_nearest(x)),
    "search_beyond": ("queries", lambda index, x: index.search_beyond(x, radius=1.0)),
    "score": ("queries", lambda index, x: index.score(x, [1, 2])),
}


def refuse(index: farann.Index, name: str, call: Call, bad: Any) -> str:
    """Check that a call fails with a message that names the argument, and changes nothing."""
    before = snapshot(index)
    with pytest.raises(REFUSED, match=rf"\b{name}\b") as caught:
        call(index, bad)
    assert snapshot(index) == before
    return str(caught.value)


@pytest.mark.parametrize("call", VECTOR_CALLS)
@pytest.mark.parametrize("kind", BAD_VECTORS)
def test_bad_vectors(kind: str, call: str, small_index: Callable[..., farann.Index]) -> None:
    make, tells_row = BAD_VECTORS[kind]
    name, function = VECTOR_CALLS[call]
    message = refuse(small_index(dim=DIM), name, function, make())
    if tells_row:
        assert "137" in message and not any(other in message for other in ("211", "299", "140"))


@pytest.mark.parametrize("kind", BAD_VECTORS)
def test_bad_rows_leave_an_empty_index_empty(kind: str) -> None:
    index = farann.Index(DIM)
    with pytest.raises(REFUSED, match=r"\brows\b"):
        index.add(BAD_VECTORS[kind][0]())
    assert (len(index), index.dim, index.ids.tolist()) == (0, DIM, [])
    untold = farann.Index()
    if kind not in ("too few columns", "too many columns"):
        with pytest.raises(REFUSED, match=r"\brows\b"):
            untold.add(BAD_VECTORS[kind][0]())
        assert (len(untold), untold.dim) == (0, None)
    untold.add(np.ones((2, 9)))
    assert (len(untold), untold.dim) == (2, 9)


def test_wrong_dimension_tells_both(small_index: Callable[..., farann.Index]) -> None:
    index = small_index(dim=4)
    for call in (index.add, index.search_furthest):
        with pytest.raises(ValueError, match=r"(?s)\b4\b.*\b37\b|\b37\b.*\b4\b"):
            call(np.ones((2, 37)))
    with pytest.raises(ValueError, match=r"(?s)queries.*\b4\b.*\b37\b"):
        index.search_furthest(np.ones(37))


@pytest.mark.parametrize("kind", ["nan", "ragged", "strings", "three axes", "too few columns"])
def test_bad_vectors_without_an_index(kind: str) -> None:
    bad = BAD_VECTORS[kind][0]()
    good = np.ones((3, DIM))
    if kind != "too few columns":
        with pytest.raises(REFUSED, match=r"\brows\b"):
            farann.search_furthest(bad, good)
    with pytest.raises(REFUSED, match=r"\bqueries\b"):
        farann.search_furthest(good, bad)
    with pytest.raises(ValueError, match=r"\bmetric\b"):
        farann.search_furthest(good, good, metric="euclid")
    with pytest.raises(ValueError, match=r"\bk\b"):
        farann.search_furthest(good, good, 0)


@pytest.mark.parametrize("zero", [0.0, -0.0, 1e-50])
def test_zero_vectors_under_cosine(zero: float, small_index: Callable[..., farann.Index]) -> None:
    """1e-50 is zero in float32."""
    index = small_index(dim=DIM, metric="cosine")
    vectors = with_at(1, (0, 0))
    vectors[137] = vectors[211] = zero
    for name, call in VECTOR_CALLS.values():
        message = refuse(index, name, call, vectors)
        assert "137" in message and "211" not in message
    refuse(index, "queries", lambda i, q: i.search_furthest(q), np.zeros(DIM))
    for metric in ("l2", "dot"):
        other = small_index(dim=DIM, metric=metric)
        other.add(vectors)
        assert other.search_furthest(np.zeros(DIM), 1).ids[0] >= 0


BAD_IDS: dict[str, Any] = {
    "too few": [100, 101],
    "too many": [100, 101, 102, 103],
    "none given": [],
    "negative": [100, -1, 101],
    "twice": [100, 101, 100],
    "present": [100, 7, 101],
    "floats": [100.0, 101.0, 102.0],
    "nan": [100.0, np.nan, 102.0],
    "booleans": np.array([True, False, True]),
    "strings": ["100", "101", "102"],
    "complex": [100j, 101, 102],
    "past int64": np.array([100, 2**63, 101], np.uint64),
    "far past int64": [100, 2**70, 101],
    "two axes": [[100, 101, 102]],
    "column": [[100], [101], [102]],
    "scalar": 100,
    "ragged": [[100], [101, 102], []],
}


@pytest.mark.parametrize("kind", BAD_IDS)
def test_bad_ids_of_new_rows(kind: str, small_index: Callable[..., farann.Index]) -> None:
    rows = np.ones((3, DIM))
    index = small_index(dim=DIM)
    refuse(index, "ids", lambda i, ids: i.add(rows, ids), BAD_IDS[kind])
    assert index.add(rows).tolist() == [50, 51, 52]


def test_clashing_ids_are_told(small_index: Callable[..., farann.Index]) -> None:
    index = small_index(dim=DIM)
    rows = np.ones((3, DIM))
    for ids, told in (([60, 41, 61], "41"), ([77, 78, 77], "77"), ([60, -8, 61], "-8")):
        with pytest.raises(ValueError, match=rf"(?s)ids.*{told}"):
            index.add(rows, ids)


def test_default_ids_past_int64(small_index: Callable[..., farann.Index]) -> None:
    index = small_index(dim=DIM)
    index.add(np.ones((1, DIM)), [2**63 - 1])
    refuse(index, "ids", lambda i, rows: i.add(rows), np.ones((1, DIM)))
    assert index.add(np.ones((1, DIM)), [2**63 - 2]).tolist() == [2**63 - 2]


@pytest.mark.parametrize("ids", [[50], [3, 50, 4], [-1], [2**63 - 1], [10**6, 10**7]])
def test_unknown_ids(ids: list[int], small_index: Callable[..., farann.Index]) -> None:
    index = small_index(dim=DIM)
    unknown = next(i for i in ids if i not in index)
    before = snapshot(index)
    for call in (index.remove, index.reconstruct, lambda i: index.score(np.ones(DIM), i)):
        with pytest.raises(KeyError, match=rf"(?s)ids.*{unknown}|{unknown}.*ids"):
            call(ids)
        assert snapshot(index) == before


def test_removed_ids_are_unknown(small_index: Callable[..., farann.Index]) -> None:
    index = small_index(dim=DIM)
    index.remove([7])
    assert 7 not in index and 8 in index
    for call in (index.remove, index.reconstruct):
        with pytest.raises(KeyError, match="7"):
            call([8, 7])
    assert 8 in index and len(index) == 49


@pytest.mark.parametrize(
    "ids", [[1.0], [1.5], np.array([True]), ["1"], [None], [[1, 2]], 2.0, "1", None, [2**70]]
)
def test_ids_of_a_wrong_kind(ids: Any, small_index: Callable[..., farann.Index]) -> None:
    """A number past int64 may as well be called unknown."""
    index = small_index(dim=DIM)
    before = snapshot(index)
    for call in (index.remove, index.reconstruct, lambda i: index.score(np.ones(DIM), i)):
        with pytest.raises((*REFUSED, KeyError), match=r"\bids\b"):
            call(ids)
        assert snapshot(index) == before


@pytest.mark.parametrize("k", [0, -1, 1.0, 2.5, "3", None, [3], np.nan, np.float64(2)])
def test_bad_k(k: Any, small_index: Callable[..., farann.Index]) -> None:
    index = small_index(dim=DIM)
    queries = np.ones((2, DIM))
    refuse(index, "k", lambda i, k: i.search_furthest(queries, k), k)
    refuse(index, "k", lambda i, k: i.search_nearest(queries[0], k), k)


def test_whole_numbers_of_numpy_are_k(small_index: Callable[..., farann.Index]) -> None:
    index = small_index(dim=DIM)
    numbers: list[Any] = [np.int8(3), np.uint64(3)]
    for k in numbers:
        assert index.search_furthest(np.ones(DIM), k).ids.shape == (3,)


@pytest.mark.parametrize("radius", ["1", None, [1.0, 2.0], [[1.0]], 1j, np.nan])
def test_bad_radius(radius: Any, small_index: Callable[..., farann.Index]) -> None:
    refuse(
        small_index(dim=DIM), "radius", lambda i, r: i.search_beyond(np.ones(DIM), radius=r), radius
    )


BAD_EXCLUDES: dict[str, Any] = {
    "too few queries": [[1], [2]],
    "too many queries": np.zeros((4, 2), np.int64),
    "flat floats": [1.0, 2.0, 3.0],
    "a flat list of lists and ids": [1, [2], 3],
    "three axes": np.zeros((3, 2, 1), np.int64),
    "floats": np.zeros((3, 2)),
    "floats inside": [[1], [2.5], [3]],
    "strings": [["1"], ["2"], ["3"]],
    "booleans": np.ones((3, 2), bool),
    "a number": 1,
    "none inside": [[1], [None, 3], [2]],
    "nested": [[[1]], [[2]], [[3]]],
}


@pytest.mark.parametrize("kind", BAD_EXCLUDES)
def test_bad_exclude(kind: str, small_index: Callable[..., farann.Index]) -> None:
    queries = np.ones((3, DIM))
    index = small_index(dim=DIM)
    for call in (
        lambda i, x: i.search_furthest(queries, exclude=x),
        lambda i, x: i.search_nearest(queries, exclude=x),
        lambda i, x: i.search_beyond(queries, radius=1.0, exclude=x),
    ):
        refuse(index, "exclude", call, BAD_EXCLUDES[kind])


@pytest.mark.parametrize(
    "allowed",
    [np.ones(49, bool), np.ones(51, bool), [1.0, 2.0], ["1"], [[1, 2]], 3, "all", [True], [None]],
)
def test_bad_allowed(allowed: Any, small_index: Callable[..., farann.Index]) -> None:
    index = small_index(dim=DIM)
    for call in (
        lambda i, x: i.search_furthest(np.ones(DIM), allowed=x),
        lambda i, x: i.search_beyond(np.ones((2, DIM)), radius=1.0, allowed=x),
    ):
        refuse(index, "allowed", call, allowed)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dim", 0),
        ("dim", -3),
        ("dim", 2.0),
        ("dim", "4"),
        ("metric", "euclid"),
        ("metric", ""),
        ("metric", None),
        ("metric", 2),
        ("metric", "L2 "),
    ],
)
def test_bad_index_arguments(name: str, value: Any) -> None:
    with pytest.raises(REFUSED, match=rf"\b{name}\b") as caught:
        farann.Index(**{name: value})
    if name == "metric":
        assert all(metric in str(caught.value) for metric in ("l2", "dot", "cosine"))


@pytest.mark.parametrize(
    ("name", "value", "available"),
    [("codes", "int7", "float32"), ("cells", -1, "None"), ("keep_vectors", "some", "False")],
)
def test_options_tell_what_is_available(name: str, value: Any, available: str) -> None:
    with pytest.raises(REFUSED, match=rf"(?s)\b{name}\b.*{available}"):
        farann.Index(4, **{name: value})


def test_arguments_after_metric_have_names() -> None:
    with pytest.raises(TypeError):
        farann.Index(4, "l2", "float32")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="colour"):
        farann.Index(4, colour="red")  # type: ignore[call-arg]


def test_slips_of_a_first_try_are_corrected(small_index: Callable[..., farann.Index]) -> None:
    index = small_index(dim=DIM)
    with pytest.raises(ValueError, match=r"exclude: .* got \(\); write \[\.\.\.\] around one id"):
        index.search_furthest(ids=0, exclude=3)
    with pytest.raises(ValueError, match=r"recall: .* got 95\.0; 95 % is 0\.95"):
        index.search_furthest(ids=0, recall=95)
