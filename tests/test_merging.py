"""Answers of parts, merged: the bits of one index over all rows."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import inside
import numpy as np
import pytest
import reference
from cases import Float32, assert_same, assert_same_beyond, queries_for, rows_for
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

import farann

N, DIM, K = 600, 11, 12
HOSTILE = ("duplicates", "all equal", "grid", "ulps apart", "offset 1e6", "mixed magnitudes")


def parts_of(rows: Any, cuts: Sequence[int], metric: str, ids: Sequence[Any] | None = None,
             **options: Any) -> list[farann.Index]:
    """Indexes of rows between cuts; ids count through all."""
    ids = range(len(rows)) if ids is None else ids
    made = []
    for start, stop in zip([0, *cuts], [*cuts, len(rows)], strict=True):
        index = farann.Index(DIM, metric, **options)
        if stop > start:
            index.add(rows[start:stop], ids[start:stop])
        made.append(index)
    return made


def searched(indexes: list[farann.Index], search: str, *args: Any, **options: Any) -> list[Any]:
    return [getattr(index, search)(*args, return_keys=True, **options) for index in indexes]


@pytest.mark.parametrize("metric", reference.METRICS)
@pytest.mark.parametrize("kind", HOSTILE)
def test_merged_as_one_index(kind: str, metric: str, rng: np.random.Generator) -> None:
    rows = rows_for(kind, rng, N, DIM, metric)
    queries = queries_for(rng, rows, metric)
    exclude = np.where(rng.random((len(queries), 9)) < 0.3, -1,
                       rng.integers(0, N + 9, (len(queries), 9)))
    allowed = rng.permutation(N)[: N // 3]
    for n_parts, options in ((1, {}), (2, {"codes": "int8"}), (5, {"codes": "int4"}), (64, {})):
        cuts = np.sort(rng.integers(0, N + 1, n_parts - 1)).tolist()
        parts = parts_of(rows, cuts, metric, **options)
        for search, oracle in (("search_furthest", reference.furthest),
                               ("search_nearest", reference.nearest)):
            found = searched(parts, search, queries, K)
            assert_same(farann.merge(found), oracle(queries, rows, K, metric))
            assert_same(farann.merge(found, 3), oracle(queries, rows, 3, metric))
            if n_parts == 5:
                wanted = oracle(queries, rows, K, metric, exclude=exclude, allowed=allowed)
                found = searched(parts, search, queries, K, exclude=exclude, allowed=allowed)
                assert_same(farann.merge(found), wanted)
                tree = farann.merge([farann.merge(found[:2]), farann.merge(found[2:])])
                assert_same(tree, wanted)
    score = reference.furthest(queries, rows, 30, metric).scores
    radius = float(np.median(score[np.isfinite(score)]))
    assert_same_beyond(farann.merge(searched(parts, "search_beyond", queries, radius=radius)),
                       reference.beyond(queries, rows, radius, metric))


@pytest.mark.parametrize("metric", reference.METRICS)
def test_keys_are_those_of_the_oracle_whatever_else_is_in_the_index(
        metric: str, rng: np.random.Generator) -> None:
    """A key depends on the query and the row alone: not on the scales, center and transform of the
    index, on where its row lies, on the level, or on how it was searched for."""
    rows = rows_for("mixed columns", rng, N, DIM, metric)[:50]
    queries = queries_for(rng, rows, metric)[:6]
    wanted = np.array([reference.keys(query, rows, metric) for query in queries]) + 0.0
    others = {kind: rows_for(kind, rng, 400, DIM, metric) for kind in ("offset 1e6", "1e30")}
    for isa in farann.isa_levels():
        for codes in ("float32", "int8", "int4"):
            for kind, more in others.items():
                index = farann.Index(DIM, metric, codes=codes)
                inside.store.use_level(index, isa)
                index.add(more, range(1000, 1400))
                index.add(rows[:30], range(30))
                index.build()
                index.add(rows[30:], range(30, 50))  # the tail
                for sign, search in ((1, index.search_furthest), (-1, index.search_nearest)):
                    hits: Any = search(queries, 50, allowed=np.arange(50), return_keys=True)
                    keys = sign * np.take_along_axis(wanted, hits.ids, axis=1) + 0.0
                    assert_array_equal(hits.keys.view(np.int64), keys.view(np.int64), kind)
                    one: Any = search(queries[2], 50, allowed=np.arange(50), return_keys=True)
                    assert one.keys.shape == (50,)
                    assert_array_equal(one.keys.view(np.int64), hits.keys[2].view(np.int64))
    padded: Any = index.search_furthest(queries, 460, return_keys=True)
    assert np.isneginf(padded.keys[:, 450:]).all()


def test_approximate_searches_have_keys(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((1000, DIM), dtype=np.float32)
    for metric in ("l2", "dot"):
        index = farann.Index(DIM, metric, cells=10)
        index.add(rows)
        for search in (index.search_furthest, index.search_nearest):
            options: tuple[dict[str, Any], ...] = ({"recall": 0.9}, {"epsilon": 0.1}, {})
            for option in options:
                for queries in (rows[:5], rows[:1]):
                    hits = search(queries, 5, return_keys=True, **option)
                    sign = 1 if search == index.search_furthest else -1
                    wanted = [sign * reference.keys(query, rows[ids], metric) + 0.0
                              for query, ids in zip(queries, hits.ids, strict=True)]
                    assert_array_equal(hits.keys, wanted)


@pytest.mark.parametrize("metric", reference.METRICS)
def test_sets_merge(metric: str, rng: np.random.Generator) -> None:
    rows = rows_for("grid", rng, N, DIM, metric)
    sets = [rows[:3], rows[5:6], rows[7:40]]
    whole, parts = parts_of(rows, [], metric)[0], parts_of(rows, [50, 50, 400], metric)
    merged: Any = farann.merge(searched(parts, "search_furthest_from", sets, K))
    assert_same(merged, whole.search_furthest_from(sets, K))
    wanted: Any = whole.search_furthest_from(sets, K, return_keys=True)
    assert_array_equal(merged.keys.view(np.int64), wanted.keys.view(np.int64))


@pytest.mark.parametrize("dtype", ("float16", "int8"))
def test_compact_rows_merge(dtype: str, rng: np.random.Generator) -> None:
    rows = rng.integers(-9, 9, (N, DIM)).astype(dtype)
    queries = rng.standard_normal((7, DIM), dtype=np.float32)
    for metric in ("l2", "dot"):
        whole = parts_of(rows, [], metric, dtype=dtype)[0]
        parts = parts_of(rows, [10, 300], metric, dtype=dtype)
        assert_same(farann.merge(searched(parts, "search_furthest", queries, K)),
                    whole.search_furthest(queries, K))


def test_strings_merge_in_the_order_of_parts(rng: np.random.Generator) -> None:
    rows = np.repeat(rng.standard_normal((40, DIM), dtype=np.float32), 3, axis=0)
    names = [f"{'zyx'[i % 3]}{i}é" for i in range(120)]
    whole = parts_of(rows, [], "l2", names)[0]
    parts = parts_of(rows, [0, 31, 31, 77], "l2", names)  # two of them empty
    queries = rows[::11]
    for k in (7, 130):
        merged = farann.merge(searched(parts, "search_nearest", queries, k))
        wanted = whole.search_nearest(queries, k)
        assert_array_equal(merged.ids, wanted.ids)
        assert_array_equal(merged.scores, wanted.scores)
    merged_beyond = farann.merge(searched(parts, "search_beyond", queries, radius=1.0))
    assert_array_equal(merged_beyond.ids, whole.search_beyond(queries, radius=1.0).ids)
    # A row of two parts doesn't lie beside itself among its equals.
    parts = [*parts_of(rows[:2], [], "l2", ["a", "b"]), *parts_of(rows[:1], [], "l2", ["a"])]
    refused(lambda: farann.merge(searched(parts, "search_nearest", queries, 3)), "twice")
    refused(lambda: farann.merge(searched(parts, "search_beyond", queries, radius=0.0)), "twice")


def refused(make: Callable[[], object], *words: str) -> None:
    with pytest.raises((ValueError, TypeError)) as error:
        make()
    assert all(word in str(error.value) for word in words), error.value


def test_what_is_refused(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((20, DIM), dtype=np.float32)
    a, b = parts_of(rows, [12], "dot")
    queries = rows[:4]
    found: list[Any] = searched([a, b], "search_furthest", queries, 5)
    bare = a.search_furthest(queries, 5)
    assert bare.keys is None
    refused(lambda: farann.merge([]), "parts", "none")
    refused(lambda: farann.merge([found[0], bare]), "parts[1]", "return_keys=True")
    refused(lambda: farann.merge([found[0], 3]), "parts[1]", "Hits")
    refused(lambda: farann.merge(found, 6), "k:", "parts[0]", "5")
    refused(lambda: farann.merge(found, 0), "k:")
    refused(lambda: farann.merge([found[0], found[0]]), "twice")
    refused(lambda: farann.merge([found[0], b.search_furthest(queries[:3], 5, return_keys=True)]),
            "parts[1]", "of shape (4,), got (3,)")
    refused(lambda: farann.merge([found[0], b.search_furthest(queries[0], 5, return_keys=True)]),
            "parts[1]")
    turned = copy.copy(found[1])
    turned.keys = turned.keys[:, ::-1]
    refused(lambda: farann.merge([found[0], turned]), "parts[1]", "order")
    names = farann.Index(DIM, "dot")
    names.add(rows, [f"{i}" for i in range(20)])
    refused(lambda: farann.merge([found[0], names.search_furthest(queries, 5, return_keys=True)]),
            "integers and strings")
    beyond: list[Any] = searched([a, b], "search_beyond", queries, radius=1e9)
    refused(lambda: farann.merge([beyond[0], a.search_beyond(queries, radius=0.0)]), "parts[1]",
            "return_keys")
    refused(lambda: farann.merge([beyond[0], beyond[0]]), "twice")
    refused(lambda: farann.merge([beyond[0], b.search_beyond(
        queries[:2], radius=0.0, return_keys=True)]), "parts[1]")
    coded = farann.Index(DIM, "dot", codes="int8", keep_vectors=False)
    coded.add(rows)
    refused(lambda: coded.search_furthest(queries, 5, recall=0.9, return_keys=True), "return_keys")
    # A part that has fewer rows than are asked for tells all of them.
    assert farann.merge([found[0], b.search_furthest(queries, 9, return_keys=True)]).found.all()
    all_of_both = [a.search_furthest(queries, 13, return_keys=True),
                   b.search_furthest(queries, 9, return_keys=True)]
    assert_same(farann.merge(all_of_both, 30), reference.furthest(queries, rows, 30, "dot"))
    assert farann.merge(searched([a, b], "search_furthest", np.empty((0, DIM)), 5)).ids.shape == (
        0, 5)
    refused(lambda: farann.merge(beyond, 5), "k:", "RangeHits")
    refused(lambda: farann.merge([found[0], beyond[0]]), "parts[1]", "Hits, got")
    refused(lambda: farann.merge([beyond[0], found[0]]), "parts[1]", "RangeHits, got")


def test_results_with_keys_are_results(rng: np.random.Generator) -> None:
    rows: Float32 = rng.standard_normal((9, DIM), dtype=np.float32)
    index = parts_of(rows, [], "l2")[0]
    hits: Any = index.search_furthest(rows[:2], 11, return_keys=True)
    beyond: Any = index.search_beyond(rows[:2], radius=0.0, return_keys=True)
    assert "keys=" in repr(hits) and "keys=" in repr(beyond)
    for found in (hits, beyond):
        for other in (copy.copy(found), pickle.loads(pickle.dumps(found))):
            assert isinstance(other, type(found))
            assert_array_equal(other.keys, found.keys)
        table: dict[str, NDArray[Any]] = found.to_dict()
        assert [len(column) for column in table.values()] == [
            np.count_nonzero(~np.isnan(found.scores))] * 5
        assert list(table)[-1] == "key" and (np.sqrt(table["key"]).astype(np.float32)
                                             == table["score"]).all()
    empty: Any = farann.Index(DIM).search_furthest(rows, 2, return_keys=True)
    assert np.isneginf(empty.keys).all() and empty.keys.shape == (9, 2)
    nothing: Any = farann.Index(DIM).search_beyond(rows, radius=2.0, return_keys=True)
    assert len(nothing.keys) == 0
