"""The store, the retriever and the ranker of Haystack, its own tests of stores, and pipelines."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import farann

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
pytest.importorskip("haystack")

from haystack import Document, Pipeline
from haystack.core.serialization import allow_deserialization_module, component_to_dict
from haystack.dataclasses import ByteStream
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from haystack.testing import document_store as own_tests
from haystack.testing import document_store_async as own_async_tests

from farann.adapters.haystack import (
    FarannDiversityRanker,
    FarannDocumentStore,
    FarannRetriever,
)

N = 200
ROWS = np.random.default_rng(0).standard_normal((N, 6)).astype(np.float32)
ROWS[-20:] = ROWS[:20]


# All that Haystack has for stores: a class for each method, and for its coroutine.
SUITE = [case for module in (own_tests, own_async_tests) for name, case in vars(module).items()
         if name.endswith("Test") and case.__module__ == module.__name__]


class TestFarannDocumentStore(*SUITE):  # type: ignore[misc]
    @pytest.fixture
    def document_store(self) -> FarannDocumentStore:
        return FarannDocumentStore(group_by="number")

    @staticmethod
    def assert_documents_are_equal(received: list[Document], expected: list[Document]) -> None:
        """Embeddings come back as float32."""
        assert [one.to_dict(flatten=False) | {"embedding": None} for one in received] == [
            one.to_dict(flatten=False) | {"embedding": None} for one in expected]
        for got, given in zip(received, expected, strict=True):
            assert (got.embedding is None) == (given.embedding is None)
            if given.embedding is not None:
                assert got.embedding == np.array(given.embedding, np.float32).tolist()

    def test_write_documents(self, document_store: FarannDocumentStore) -> None:
        one = Document(content="text")
        assert document_store.write_documents([one]) == 1
        with pytest.raises(DuplicateDocumentError):
            document_store.write_documents([Document(content="other"), one])
        assert document_store.filter_documents() == [one]

    @pytest.mark.asyncio
    async def test_write_documents_async(self, document_store: FarannDocumentStore) -> None:
        one = Document(content="text")
        assert await document_store.write_documents_async([one]) == 1
        with pytest.raises(DuplicateDocumentError):
            await document_store.write_documents_async([Document(content="other"), one])
        assert await document_store.filter_documents_async() == [one]


def documents() -> list[Document]:
    return [Document(id=f"d{i}", content=str(i), embedding=ROWS[i].tolist(),
                     meta={"kind": ["pet", "car", 1][i % 3], "i": i, "sub": {"kind": "pet"}})
            for i in range(N)]


def filled(**options: Any) -> FarannDocumentStore:
    store = FarannDocumentStore(**options)
    assert store.write_documents([*documents(), Document(id="bare", meta={"kind": "pet"})]) == N + 1
    return store


def similarities(metric: str, number: int) -> NDArray[np.float64]:
    rows = ROWS.astype(np.float64)
    if metric == "l2":
        return np.asarray(1 / (1 + np.linalg.norm(rows - rows[number], axis=1)))
    along = rows @ rows[number]
    if metric == "cosine":
        along /= np.linalg.norm(rows, axis=1) * np.linalg.norm(rows[number])
    return np.asarray(along)


def numbers(output: dict[str, list[Document]]) -> list[int]:
    return [int(one.id[1:]) for one in output["documents"]]


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
def test_modes(metric: str) -> None:
    store, order = filled(metric=metric), similarities(metric, 3)
    for mode, sign in ("similar", -1), ("unlike", 1):
        found = FarannRetriever(store, top_k=7, mode=mode).run(ROWS[3].tolist())
        expected = np.lexsort((np.arange(N), sign * order))[:7]
        assert numbers(found) == expected.tolist()
        np.testing.assert_allclose([one.score for one in found["documents"]], order[expected],
                                   rtol=1e-5, atol=1e-6)
        assert [one.embedding for one in found["documents"]] == ROWS[expected].tolist()
    if metric != "l2":
        mmr = FarannRetriever(store, mode="mmr", diversity=0.7).run(ROWS[3].tolist(), top_k=6)
        index = farann.Index(metric=metric)
        index.add(ROWS)
        assert numbers(mmr) == index.search_mmr(
            ROWS[3], 6, diversity=0.7, candidates=20).ids.tolist()
        contrast = FarannRetriever(store).run(ROWS[3].tolist(), dislikes=ROWS[[7, 9]].tolist())
        assert numbers(contrast) == index.search_contrast(ROWS[3], ROWS[[7, 9]]).ids.tolist()
    grouped = filled(metric=metric, group_by="i")
    assert FarannRetriever(grouped, top_k=3, per_group=1).run(ROWS[3].tolist()) == (
        FarannRetriever(grouped, top_k=3).run(ROWS[3].tolist()))
    with pytest.raises(ValueError, match="mode: expected one of similar, unlike, mmr, got 'x'"):
        FarannRetriever(store, mode="x")
    assert FarannRetriever(FarannDocumentStore()).run([1.0]) == {"documents": []}
    with pytest.raises(ValueError, match="^k: expected"):
        FarannRetriever(store).run(ROWS[3].tolist(), top_k=0)
    with pytest.raises(ValueError, match="^k: expected"):
        FarannDiversityRanker().run(store.filter_documents()[:5], top_k=0)


def condition(field: str, operator: str, value: Any) -> dict[str, Any]:
    return {"field": field, "operator": operator, "value": value}


CASES: list[tuple[dict[str, Any], Callable[[int], bool]]] = [
    (condition("meta.kind", "==", "pet"), lambda i: i % 3 == 0),
    (condition("meta.kind", "==", 1), lambda i: i % 3 == 2),
    (condition("meta.kind", "==", "1"), lambda i: False),
    (condition("meta.kind", "!=", "pet"), lambda i: i % 3 != 0),
    (condition("meta.kind", "==", ["pet"]), lambda i: False),
    (condition("meta.kind", "in", ["car", "boat"]), lambda i: i % 3 == 1),
    (condition("meta.sub.kind", "==", "pet"), lambda i: True),
    (condition("meta.i", "<", 9), lambda i: i < 9),
    ({"operator": "NOT", "conditions": [condition("meta.kind", "==", "pet")]},
     lambda i: i % 3 != 0),
    ({}, lambda i: True),
]


@pytest.mark.parametrize("group_by", [None, "kind", "missing"])
def test_filters(group_by: str | None) -> None:
    store, order = filled(group_by=group_by), similarities("cosine", 8)
    for filters, passes in CASES:
        expected = sorted(filter(passes, range(N)), key=lambda i: (-order[i], i))[:7]
        query = ROWS[8].tolist()
        assert numbers(FarannRetriever(store, filters, top_k=7).run(query)) == expected
        retriever = FarannRetriever(store, {} if not filters else CASES[2][0], top_k=7)
        assert numbers(retriever.run(query, filters)) == expected
        kept = [one for one in store.filter_documents(filters) if one.id != "bare"]
        assert [one.id for one in kept] == [f"d{i}" for i in filter(passes, range(N))]


def test_policies() -> None:
    store, twice = FarannDocumentStore(), [
        Document(id="a", content="1", embedding=[1.0, 0.0]),
        Document(id="a", content="2", embedding=[0.0, 1.0])]
    with pytest.raises(DuplicateDocumentError, match="'a'"):
        store.write_documents(twice)
    assert store.count_documents() == 0
    assert store.write_documents(twice, DuplicatePolicy.SKIP) == 1
    assert store.filter_documents()[0].content == "1"
    assert store.write_documents(twice, DuplicatePolicy.OVERWRITE) == 2
    assert store.filter_documents() == [twice[1]]
    assert store.write_documents([Document(id="a")], DuplicatePolicy.OVERWRITE) == 1
    assert FarannRetriever(store).run([1.0, 0.0]) == {"documents": []}
    assert store.filter_documents() == [Document(id="a")]


def test_ranker() -> None:
    given = documents()[:50]
    ranker = FarannDiversityRanker(top_k=5)
    assert numbers(ranker.run(given)) == farann.select_diverse(
        ROWS[:50], 5, metric="cosine").ids.tolist()
    index = farann.Index(metric="cosine")
    index.add(ROWS[:50])
    for top_k in None, 3, 80:
        expected = index.search_mmr(ROWS[7], top_k or 5).ids
        assert numbers(ranker.run(given, ROWS[7].tolist(), top_k)) == expected[
            expected >= 0].tolist()
    assert ranker.run([]) == {"documents": []}
    given = [replace(one, score=float(i % 9)) for i, one in enumerate(given)]
    by_score = index.search_mmr(scores={i: i % 9 for i in range(50)}, k=5, diversity=0.3)
    scored = FarannDiversityRanker(top_k=5, diversity=0.3, by_score=True)
    assert numbers(scored.run(given)) == by_score.ids.tolist()
    assert component_to_dict(scored, "ranker")["init_parameters"]["by_score"]
    with pytest.raises(ValueError, match="documents: expected embeddings, got none for 'x'"):
        ranker.run([*given, Document(id="x", content="none")])


def test_pipeline_and_files(tmp_path: Path) -> None:
    store = filled(group_by="kind", codes="int4")
    store.write_documents([Document(id="blob", blob=ByteStream(b"\0\xff"), meta={"kind": "car"})])
    pipeline = Pipeline()
    pipeline.add_component("retriever", FarannRetriever(store, mode="unlike", top_k=20))
    pipeline.add_component("ranker", FarannDiversityRanker(top_k=4))
    pipeline.connect("retriever.documents", "ranker.documents")
    query = {"query_embedding": ROWS[3].tolist()}
    found = pipeline.run({"retriever": query, "ranker": query})["ranker"]
    assert len(numbers(found)) == 4
    allow_deserialization_module("farann.*")
    again = Pipeline.loads(pipeline.dumps())
    assert again.dumps() == pipeline.dumps()
    store.save_to_disk(tmp_path / "store.farann")
    assert b"embedding" not in (tmp_path / "store.farann").read_bytes().replace(
        b'embedding": null', b"")
    for mmap in False, True:
        loaded = FarannDocumentStore.load_from_disk(tmp_path / "store.farann", mmap=mmap)
        assert loaded.filter_documents() == store.filter_documents()
        retriever = FarannRetriever(loaded, condition("meta.kind", "==", "pet"), mode="unlike")
        assert numbers(retriever.run(**query)) == numbers(FarannRetriever(
            store, condition("meta.kind", "==", "pet"), mode="unlike").run(**query))
        assert loaded.to_dict() == store.to_dict()
        loaded.documents.index.close()


def test_changes_by_filter() -> None:
    """Documents come into other groups, and keep their embeddings."""
    for group_by in None, "kind":
        store = filled(group_by=group_by)
        pets, query = condition("meta.kind", "==", "pet"), ROWS[8].tolist()
        before = store.filter_documents(pets)
        assert store.update_by_filter(pets, {"kind": "cat", "new": 1}) == len(before) == 68
        after = store.filter_documents(condition("meta.kind", "==", "cat"))
        assert [(one.id, one.embedding) for one in after] == [
            (one.id, one.embedding) for one in before]
        retriever = FarannRetriever(store, top_k=N)
        assert numbers(retriever.run(query, pets)) == []
        assert sorted(numbers(retriever.run(query, condition("meta.kind", "==", "cat")))) == list(
            range(0, N, 3))
        assert store.delete_by_filter(condition("meta.new", "==", 1)) == 68
        assert store.count_documents() == N + 1 - 68
        assert sorted(numbers(retriever.run(query))) == [i for i in range(N) if i % 3]


def test_filters_of_embeddings() -> None:
    store = filled()
    bare = store.filter_documents(condition("embedding", "==", None))
    assert [one.id for one in bare] == ["bare"]
    assert store.count_documents_by_filter(condition("embedding", "!=", None)) == N


def test_documents_of_the_store_are_its_own() -> None:
    given = Document(id="a", embedding=[1.0, 0.0], meta={"kind": "pet"})
    store = FarannDocumentStore(group_by="kind")
    store.write_documents([given])
    given.meta["kind"] = store.filter_documents()[0].meta["kind"] = "car"
    pets = condition("meta.kind", "==", "pet")
    assert store.count_documents_by_filter(pets) == 1
    assert FarannRetriever(store, pets).run([1.0, 0.0])["documents"]


def test_dates_are_equal_however_they_are_written() -> None:
    for group_by in None, "day":
        store = FarannDocumentStore(group_by=group_by)
        store.write_documents([Document(id=str(i), embedding=[1.0, i], meta={"day": day})
                               for i, day in enumerate(["2026-11-30", "2026-11-30T00:00:00", "x"])])
        found = store.search("search_nearest", [1.0, 0.0], 3,
                             condition("meta.day", "==", "2026-11-30"))
        assert [one.id for one in found] == ["0", "1"]


def test_all_embeddings_are_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled()
    for name in "reconstruct", "__contains__":
        monkeypatch.delattr(farann.Index, name)
    found = store.filter_documents(condition("meta.i", "<", 150))
    assert [one.embedding for one in found] == ROWS[:150].tolist()
    assert numbers(FarannRetriever(store).run(ROWS[3].tolist()))[0] == 3


def test_metadata_methods() -> None:
    store = FarannDocumentStore()
    store.write_documents([Document(id=str(i), meta={"x": x, "sub": {"y": [i % 2]}})
                           for i, x in enumerate([1, 2.5, None, float("nan"), -3])])
    assert store.get_metadata_field_min_max("x") == {"min": -3, "max": 2.5}
    assert store.get_metadata_fields_info() == {"x": {"type": "float"}, "sub": {"type": "keyword"}}
    assert store.get_metadata_field_unique_values("meta.sub.y") == ([[0], [1]], 2)
    assert store.count_unique_metadata_by_filter({}, ["meta.x", "sub", "none"]) == {
        "x": 4, "sub": 2, "none": 0}
    store.write_documents([Document(id="text", meta={"x": "1"})])
    with pytest.raises(ValueError, match="metadata_field: expected one whose values .* got 'x'"):
        store.get_metadata_field_min_max("x")


def test_coroutines_leave_the_loop_free() -> None:
    store, query = filled(), ROWS[3].tolist()
    pipeline = Pipeline()
    pipeline.add_component("retriever", FarannRetriever(store, top_k=3))

    async def both() -> None:
        found = await asyncio.gather(*(store.search_async("search_nearest", query, 3)
                                       for _ in range(8)))
        expected = FarannRetriever(store).run(query, top_k=3)
        assert all({"documents": one} == expected for one in found)
        again = await pipeline.run_async({"retriever": {"query_embedding": query}})
        assert again["retriever"] == expected
        with pytest.raises(ValueError, match="dim"):
            await store.search_async("search_nearest", [1.0], 3)

    asyncio.run(both())


def test_one_of_two_writers_is_refused() -> None:
    store = FarannDocumentStore()
    barrier = threading.Barrier(8)

    def write(i: int) -> int:
        barrier.wait()
        try:
            return store.write_documents([
                Document(id=str(j), content=str(i), embedding=[1.0, i]) for j in range(200)])
        except DuplicateDocumentError:
            return 0

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(write, range(8))) == [0] * 7 + [200]
