"""The vector store of LlamaIndex: answers beside brute force, filters, changes and files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("llama_index.core")

from llama_index.core import StorageContext, VectorStoreIndex, load_index_from_storage
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.schema import NodeRelationship, NodeWithScore, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import (
    MetadataFilter,
    MetadataFilters,
    SimpleVectorStore,
    VectorStoreQuery,
)

from farann.adapters.llama_index import FarannDiversityPostprocessor, FarannVectorStore

N = 200
ROWS = np.random.default_rng(0).standard_normal((N, 6)).astype(np.float32)
ROWS[-20:] = ROWS[:20]


class Table(BaseEmbedding):
    """The text "17" has row 17."""

    def _get_query_embedding(self, query: str) -> list[float]:
        return list(map(float, ROWS[int(query)]))

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)

    _get_text_embedding = _get_query_embedding


def nodes(n: int = N) -> list[TextNode]:
    return [TextNode(
        id_=f"n{i}", text=str(i), embedding=ROWS[i].tolist(),
        metadata={"kind": ["pet", "car", 1][i % 3], "i": i, "tags": ["even"] * (i % 2 == 0)},
        relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=f"doc{i // 10}")})
        for i in range(n)]


def filled(**options: Any) -> FarannVectorStore:
    store = FarannVectorStore(**options)
    assert store.add(nodes()) == [f"n{i}" for i in range(N)]
    return store


def asked(number: int = 3, k: int = 7, **options: Any) -> VectorStoreQuery:
    return VectorStoreQuery(query_embedding=ROWS[number].tolist(), similarity_top_k=k, **options)


def similarities(metric: str, number: int) -> NDArray[np.float64]:
    rows = ROWS.astype(np.float64)
    if metric == "l2":
        return np.asarray(1 / (1 + np.linalg.norm(rows - rows[number], axis=1)))
    along = rows @ rows[number]
    if metric == "cosine":
        along /= np.linalg.norm(rows, axis=1) * np.linalg.norm(rows[number])
    return np.asarray(along)


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
def test_similar_and_unlike(metric: str) -> None:
    store, order = filled(metric=metric), similarities(metric, 3)
    for unlike in False, True:
        expected = np.lexsort((np.arange(N), order if unlike else -order))[:7]
        found = store.query(asked(), unlike=unlike)
        assert found.ids == [f"n{i}" for i in expected]
        assert found.nodes is not None and [node.get_content() for node in found.nodes] == [
            str(i) for i in expected]
        assert found.similarities is not None
        np.testing.assert_allclose(found.similarities, order[expected], rtol=1e-5, atol=1e-6)
    assert store.query(asked(k=1000)).ids is not None
    assert FarannVectorStore().query(asked()).ids == []
    with pytest.raises(ValueError, match="mode: expected 'default' or 'mmr', got 'sparse'"):
        store.query(asked(mode="sparse"))


def test_mmr_is_that_of_llama_index() -> None:
    """Its own store compares with the last pick alone, so with two picks both choose the same."""
    store, simple = filled(), SimpleVectorStore()
    simple.add(nodes())
    for threshold in 0.2, 0.5, 0.9, 1.0:
        for number in 3, 50, 77:
            ours = store.query(asked(number, 2, mode="mmr"), mmr_threshold=threshold,
                               candidates=None)
            theirs = simple.query(asked(number, 2, mode="mmr"), mmr_threshold=threshold)
            assert ours.ids is not None and theirs.ids is not None
            pairs = zip(ours.ids, theirs.ids, strict=True)
            assert all(a == b or int(a[1:]) % 180 == int(b[1:]) % 180 for a, b in pairs)  # copies
    assert (store.query(asked(3, 9, mode="mmr", mmr_threshold=0.2)).ids
            == store.query(asked(3, 9, mode="mmr"), mmr_threshold=0.2).ids
            != store.query(asked(3, 9, mode="mmr")).ids
            == store.query(asked(3, 9, mode="mmr"), mmr_threshold=0.7, candidates=20).ids)


def test_contrast() -> None:
    store = filled()
    expected = store.client.search_contrast(ROWS[3], ROWS[[7, 9]], 6).ids.tolist()
    for kwargs in ({"dislikes": ROWS[[7, 9]].tolist()}, {"dislike_ids": ["n7", "n9"]}):
        found = store.query(asked(3, 8), **kwargs).ids
        assert [id for id in found or [] if id not in ("n7", "n9")][:6] == expected
    light = store.query(asked(3, 6), dislikes=ROWS[[7]], weight=0.0).ids
    assert light == store.query(asked(3, 6)).ids


def test_diversity_by_the_scores_of_a_reranker() -> None:
    store = filled()
    given = [NodeWithScore(node=node, score=float(i % 5)) for i, node in enumerate(nodes()[:30])]
    scores = {one.node.node_id: one.score or 0.0 for one in given}
    for threshold in 0.3, 1.0:
        expected = store.client.search_mmr(scores=scores, k=4, diversity=1 - threshold).ids
        chosen = FarannDiversityPostprocessor(
            vector_store=store, top_n=4, mmr_threshold=threshold).postprocess_nodes(given)
        assert [one.node.node_id for one in chosen] == expected.tolist()
        assert all(one in given for one in chosen)
    assert FarannDiversityPostprocessor(vector_store=store).postprocess_nodes([]) == []
    given[3].score = None
    with pytest.raises(ValueError, match="[Ss]core"):
        FarannDiversityPostprocessor(vector_store=store).postprocess_nodes(given)


def filters(*conditions: tuple[str, str, Any], by: str | None = "and") -> MetadataFilters:
    return MetadataFilters(condition=by, filters=[
        MetadataFilter(key=key, operator=operator, value=value)
        for key, operator, value in conditions])


CASES: list[tuple[dict[str, Any], Callable[[int], bool]]] = [
    ({"filters": filters(("kind", "==", "pet"))}, lambda i: i % 3 == 0),
    ({"filters": filters(("kind", "==", 1))}, lambda i: i % 3 == 2),
    ({"filters": filters(("kind", "==", "1"))}, lambda i: False),
    ({"filters": filters(("kind", "in", ["car", "boat"]))}, lambda i: i % 3 == 1),
    ({"filters": filters(("kind", "nin", ["car", "boat"]))}, lambda i: i % 3 != 1),
    ({"filters": filters(("kind", "==", "pet"), by="not")}, lambda i: i % 3 != 0),
    ({"filters": filters(("kind", "==", "pet"), by="or")}, lambda i: i % 3 == 0),
    ({"filters": filters(("kind", "==", "pet"), ("i", "<", 9))}, lambda i: i % 3 == 0 and i < 9),
    ({"filters": filters(("kind", "==", "pet"), ("i", "<", 9), by="or")},
     lambda i: i % 3 == 0 or i < 9),
    ({"filters": filters(("tags", "contains", "even"))}, lambda i: i % 2 == 0),
    ({"filters": filters()}, lambda i: True),
    ({"node_ids": ["n1", "n2", "nowhere"]}, lambda i: i in (1, 2)),
    ({"node_ids": []}, lambda i: True),
    ({"doc_ids": ["doc3"]}, lambda i: i // 10 == 3),
    ({"doc_ids": ["doc3"], "filters": filters(("kind", "==", "pet"))},
     lambda i: i // 10 == 3 and i % 3 == 0),
]


@pytest.mark.parametrize("group_by", [None, "kind", "missing"])
def test_filters(group_by: str | None) -> None:
    store, order = filled(group_by=group_by), similarities("cosine", 8)
    for given, passes in CASES:
        kept = [i for i in range(N) if passes(i)]
        for unlike, sign in (False, -1), (True, 1):
            expected = sorted(kept, key=lambda i: (sign * order[i], i))[:7]
            assert store.query(asked(8, **given), unlike=unlike).ids == [
                f"n{i}" for i in expected], given


def test_changes() -> None:
    store = filled(group_by="kind")
    store.add([TextNode(id_="n3", text="new", embedding=[-x for x in ROWS[3].tolist()])])
    found = store.query(asked(3, 1), unlike=True)
    assert found.nodes is not None and found.nodes[0].get_content() == "new"
    store.delete("doc0")  # which the new node 3 is not of
    kept = [node.node_id for node in store.get_nodes()]
    assert set(kept) == {"n3"} | {f"n{i}" for i in range(10, N)}
    store.delete_nodes([])
    store.delete_nodes(["n3", "nowhere"])
    store.delete_nodes(["n10", "n12"], filters(("kind", "==", "pet")))
    store.delete_nodes(filters=filters(("i", ">", 20)))
    assert [node.node_id for node in store.get_nodes()] == [
        "n10", "n11", *(f"n{i}" for i in range(13, 21))]
    assert [node.node_id for node in store.get_nodes(["n14", "n3"])] == ["n14"]
    assert all(node.embedding is None for node in store.get_nodes())
    with pytest.raises(ValueError, match="embedding"):
        store.add([TextNode(text="none")])
    with pytest.raises(ValueError, match="NaN"):
        store.add([TextNode(id_="n10", text="none", embedding=[np.nan] * 6)])
    assert store.query(asked(10, 1)).ids == ["n10"] and len(store.client) == 10
    store.clear()
    assert store.get_nodes() == [] == store.query(asked()).ids
    assert FarannVectorStore.class_name() == "FarannVectorStore"


def test_retrievers(tmp_path: Path) -> None:
    """What users write: an index over the store, its retrievers, and its files."""
    context = StorageContext.from_defaults(vector_store=FarannVectorStore())
    index = VectorStoreIndex(nodes(), storage_context=context, embed_model=Table())
    order = similarities("cosine", 3)
    unlike = index.as_retriever(similarity_top_k=5, vector_store_kwargs={"unlike": True})
    expected = [str(i) for i in np.lexsort((np.arange(N), order))[:5]]
    assert [one.get_content() for one in unlike.retrieve("3")] == expected
    diverse = index.as_retriever(similarity_top_k=5, vector_store_query_mode="mmr",
                                 vector_store_kwargs={"mmr_threshold": 0.3})
    picks = [one.get_content() for one in diverse.retrieve("3")]
    assert picks[0] == "3" and len({*picks}) == 5
    index.storage_context.persist(str(tmp_path))
    for mmap in False, True:
        again = FarannVectorStore.from_persist_dir(str(tmp_path), mmap=mmap)
        loaded = VectorStoreIndex.from_vector_store(again, embed_model=Table())
        unlike = loaded.as_retriever(similarity_top_k=5, vector_store_kwargs={"unlike": True})
        assert [one.get_content() for one in unlike.retrieve("3")] == expected
        assert again.get_nodes() == context.vector_store.get_nodes()
        loaded.delete_ref_doc("doc0")
        assert len(again.get_nodes()) == N - 10
        again.client.close()
    # LlamaIndex's own way, which would otherwise find an empty store of its own kind.
    with pytest.raises(ValueError, match=r"pass vector_store=FarannVectorStore\.from_persist_dir"):
        StorageContext.from_defaults(persist_dir=str(tmp_path))
    store = FarannVectorStore.from_persist_dir(str(tmp_path))
    its = load_index_from_storage(StorageContext.from_defaults(
        persist_dir=str(tmp_path), vector_store=store), embed_model=Table())
    unlike = its.as_retriever(similarity_top_k=5, vector_store_kwargs={"unlike": True})
    assert [one.get_content() for one in unlike.retrieve("3")] == expected
    with pytest.raises(ValueError, match="fs: expected local files"):
        import fsspec

        context.vector_store.persist("x", fsspec.filesystem("memory"))
