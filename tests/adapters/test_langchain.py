"""The vector store of LangChain: its own suite, answers beside brute force, changes and files."""

from __future__ import annotations

import asyncio
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

import inside
import numpy as np
import pytest
from numpy.typing import NDArray

import farann

pytest.importorskip("langchain_core")

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings

from farann.adapters.langchain import FarannVectorStore

SUITE = Path(__file__).with_name("langchain_suite.py")


class Kind(StrEnum):
    CAR = "car"


KINDS = ["pet", "car", 1, None]


class Table(Embeddings):
    """The text "17" has row 17."""

    def __init__(self, rows: NDArray[np.float32]) -> None:
        self.rows = rows

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        vector: list[float] = self.rows[int(text)].tolist()
        return vector


def filled(n: int = 300, dim: int = 8, **options: Any) -> FarannVectorStore:
    """A store of n rows, the last tenth of which are copies of the first."""
    rows = np.random.default_rng(n + dim).standard_normal((n, dim)).astype(np.float32)
    rows[-(n // 10):] = rows[:n // 10]
    return FarannVectorStore.from_texts(
        [str(i) for i in range(n)], Table(rows),
        [{"kind": KINDS[i % 4], "i": i} for i in range(n)], ids=[f"d{i}" for i in range(n)],
        **options)


def similarities(store: FarannVectorStore, query: str) -> NDArray[np.float64]:
    """Of all documents, in float64; larger is more similar."""
    assert isinstance(store.embedding, Table)
    rows = store.embedding.rows.astype(np.float64)
    q = rows[int(query)]
    if store.documents.index.metric == "l2":
        return np.asarray(-np.linalg.norm(rows - q, axis=1))
    lengths = 1.0 if store.documents.index.metric == "dot" else np.linalg.norm(rows, axis=1)
    along = rows @ q / lengths
    return np.asarray(along if store.documents.index.metric == "dot" else along / np.linalg.norm(q))


def numbers(found: list[Document]) -> list[int]:
    return [int(one.page_content) for one in found]


def test_suite_of_langchain(tmp_path: Path) -> None:
    pytest.importorskip("langchain_tests")
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n")
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                   "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-c", "pytest.ini", "--noconftest",
         "-p", "pytest_asyncio.plugin", "-p", "no:cacheprovider", str(SUITE)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    passed = re.search(r"^(\d+) passed,? (?:\d+ warnings? )?in", done.stdout, re.M)
    assert done.returncode == 0 and passed and int(passed[1]) >= 25, done.stdout + done.stderr


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
def test_similar_and_unlike(metric: str) -> None:
    store = filled(metric=metric)
    for query in "3", "299":
        order = similarities(store, query)
        nearest = np.lexsort((np.arange(300), -order))[:7]
        furthest = np.lexsort((np.arange(300), order))[:7]
        assert numbers(store.similarity_search(query, 7)) == nearest.tolist()
        assert numbers(store.unlike_search(query, 7)) == furthest.tolist()
        assert numbers(store.similarity_search_by_vector(
            store.embedding.embed_query(query), 7)) == nearest.tolist()
        scored = store.similarity_search_with_score(query, 7)
        sign = -1 if metric == "l2" else 1
        np.testing.assert_allclose([score for _, score in scored], sign * order[nearest],
                                   rtol=1e-5, atol=1e-6)
        assert all(type(score) is float for _, score in scored)
        relevant = store.similarity_search_with_relevance_scores(query, 300)
        values = [score for _, score in relevant]
        assert values == sorted(values, reverse=True) and min(values) >= 0 and max(values) <= 1
    several = store.unlike_search_with_score(["3", "4"], 5)
    least = np.maximum(similarities(store, "3"), similarities(store, "4"))
    expected = np.lexsort((np.arange(300), least))[:5]
    assert numbers([one for one, _ in several]) == expected.tolist()
    assert len(store.similarity_search("3", 1000)) == 300
    assert len(store.similarity_search("3")) == len(store.unlike_search("3")) == 4


def test_contrast_and_at_most_some_of_a_group() -> None:
    store = filled(90, group_by="kind")
    index = store.documents.index
    likes, dislikes = (np.array([store.embedding.embed_query(one) for one in some])
                       for some in (["4", "9"], ["7"]))
    right = index.search_contrast([likes], [dislikes], 6).ids[0].tolist()
    assert [one.id for one in store.contrast_search(["4", "9"], "7", 6)] == right
    assert [one.id for one in store.contrast_search(["4", "9"], k=6)] == index.search_contrast(
        [likes], None, 6).ids[0].tolist()
    every = store.similarity_search("5", 90)
    seen, best = set[str](), list[str]()
    for one in every:
        if repr(one.metadata["kind"]) not in seen:
            seen.add(repr(one.metadata["kind"]))
            best.append(str(one.id))
    assert [str(one.id) for one in store.similarity_search("5", 4, per_group=1)] == best


def test_score_threshold() -> None:
    retriever = filled().as_retriever(search_type="similarity_score_threshold",
                                      search_kwargs={"score_threshold": 0.999, "k": 5})
    assert numbers(retriever.invoke("3")) == [3, 273]


def mmr(store: FarannVectorStore, query: str, k: int, weight: float) -> list[int]:
    """Maximal marginal relevance over all documents, in the most obvious way."""
    relevance, picks = similarities(store, query), list[int]()
    closest = np.zeros(len(relevance))
    for _ in range(k):
        value = weight * relevance - (1 - weight) * closest
        value[picks] = -np.inf
        picks.append(int(np.argmax(value)))
        others = similarities(store, str(picks[-1]))
        closest = others if len(picks) == 1 else np.maximum(closest, others)
    return picks


@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_mmr_is_over_all_documents(metric: str) -> None:
    store = filled(metric=metric)
    for weight in 0.3, 0.5, 0.9:
        expected = mmr(store, "5", 6, weight)
        assert numbers(store.max_marginal_relevance_search(
            "5", 6, lambda_mult=weight, candidates=None)) == expected
        retriever = store.as_retriever(search_type="mmr", search_kwargs={
            "k": 6, "lambda_mult": weight, "candidates": None})
        assert numbers(retriever.invoke("5")) == expected
        assert numbers(asyncio.run(retriever.ainvoke("5"))) == expected
        vector = store.embedding.embed_query("5")
        assert numbers(asyncio.run(store.amax_marginal_relevance_search_by_vector(
            vector, 6, lambda_mult=weight, candidates=None))) == expected
    pool = {*numbers(store.similarity_search("5", 20))}
    assert not {*mmr(store, "5", 6, 0.3)} <= pool
    assert numbers(store.max_marginal_relevance_search("5", 6)) == numbers(
        store.max_marginal_relevance_search("5", 6, fetch_k=20, lambda_mult=0.7))
    assert numbers(store.max_marginal_relevance_search("5", 15)) == numbers(
        store.max_marginal_relevance_search("5", 15, fetch_k=30, lambda_mult=0.7))
    assert {*numbers(store.max_marginal_relevance_search(
        "5", 6, lambda_mult=0.3, candidates=20))} <= pool
    assert numbers(store.max_marginal_relevance_search(
        "5", 6, lambda_mult=0.3, candidates=20)) == numbers(store.max_marginal_relevance_search(
            "5", 6, fetch_k=20, lambda_mult=0.3))
    with pytest.raises(ValueError, match="l2"):
        filled(metric="l2").max_marginal_relevance_search("5")


def test_mmr_by_the_scores_of_a_reranker() -> None:
    store = filled()
    found = store.similarity_search("5", 40)
    scored = [(one, float(one.metadata["i"] % 7)) for one in found]
    numbers_found = numbers(found)
    worth = np.array([score for _, score in scored])
    for weight, scale in ((1.0, "unit"), (0.6, "unit"), (0.6, "ranks")):
        relevance = worth / 6 if scale == "unit" else (
            worth[:, None] > worth).sum(axis=1) / (len(worth) - 1)
        alike = np.array([similarities(store, str(i))[numbers_found] for i in numbers_found])
        picks: list[int] = []
        for _ in range(9):
            value = weight * relevance - (1 - weight) * alike[picks].max(axis=0, initial=-np.inf) \
                if picks else relevance
            value = np.where(np.isin(np.arange(40), picks), -np.inf, value)
            ties = np.flatnonzero(value >= value.max() - 1e-9)  # the one that was added first
            picks.append(int(min(ties, key=lambda i: numbers_found[i])))
        assert numbers(store.max_marginal_relevance_search_by_score(
            scored, 9, weight, scale=scale)) == [numbers_found[i] for i in picks]
    assert store.max_marginal_relevance_search_by_score([]) == []
    for wrong, error, words in (
            ([Document("text")], TypeError, "scored: expected pairs of a document and its score"),
            ({"id": 1.0}, TypeError, "scored: expected pairs of a document and its score"),
            ([(Document("text"), 1.0)], ValueError, "scored: .* got one without an id")):
        with pytest.raises(error, match=words):
            store.max_marginal_relevance_search_by_score(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="per_group: expected a store with group_by="):
        store.similarity_search("5", per_group=1)
    with pytest.raises(KeyError, match="scores: 'gone' is not in the index"):
        store.max_marginal_relevance_search_by_score([(Document(id="gone", page_content=""), 1.0)])


FILTERS: list[tuple[Any, Callable[[int], bool]]] = [
    ({"kind": "pet"}, lambda i: i % 4 == 0),
    ({"kind": ["car", "boat"]}, lambda i: i % 4 == 1),
    ({"kind": 1.0}, lambda i: i % 4 == 2),  # 1.0 == 1
    ({"kind": "1"}, lambda i: False),
    ({"kind": None}, lambda i: i % 4 == 3),
    ({"kind": "boat"}, lambda i: False),
    ({"kind": []}, lambda i: False),
    ({"i": list(range(9))}, lambda i: i < 9),
    ({"kind": "pet", "i": [4, 5]}, lambda i: i == 4),
    ({}, lambda i: True),
    ({"kind": np.str_("pet")}, lambda i: i % 4 == 0),
    ({"kind": np.int64(1)}, lambda i: i % 4 == 2),
    ({"kind": Kind.CAR}, lambda i: i % 4 == 1),
    ({"kind": ("car", True)}, lambda i: i % 4 in (1, 2)),
    ({"kind": {"car", "pet"}}, lambda i: i % 4 < 2),
    ({"i": np.arange(9)}, lambda i: i < 9),
    ({"kind": {"$eq": "pet"}}, lambda i: i % 4 == 0),
    ({"kind": {"$ne": "pet"}}, lambda i: i % 4 != 0),
    ({"kind": {"$in": ("car", None)}}, lambda i: i % 4 in (1, 3)),
    ({"kind": {"$nin": ["car", None]}}, lambda i: i % 4 in (0, 2)),
    ({"kind": {"$gt": "d"}}, lambda i: i % 4 == 0),
    ({"kind": {"$not": {"$gt": "d"}}}, lambda i: i % 4 != 0),
    ({"i": {"$gte": 5, "$lt": 9}}, lambda i: 5 <= i < 9),
    ({"i": {"$gt": 5, "$lte": 9}, "kind": "car"}, lambda i: 5 < i <= 9 and i % 4 == 1),
    ({"$or": [{"kind": "pet"}, {"i": 1}]}, lambda i: i % 4 == 0 or i == 1),
    ({"$and": [{"kind": "pet"}, {"$not": {"i": {"$gt": 50}}}]}, lambda i: i % 4 == 0 and i <= 50),
    (lambda one: one.metadata["i"] > 200, lambda i: i > 200),
]


@pytest.mark.parametrize("number", range(len(FILTERS)))
@pytest.mark.parametrize("group_by", [None, "kind", "missing"])
def test_filters(group_by: str | None, number: int) -> None:
    given, passes = FILTERS[number]
    store = filled(group_by=group_by)
    kept = [i for i in range(300) if passes(i)]
    order = similarities(store, "8")
    for search, sign in (store.similarity_search, -1), (store.unlike_search, 1):
        expected = sorted(kept, key=lambda i: (sign * order[i], i))[:5]
        assert numbers(search("8", 5, filter=given)) == expected
    found = numbers(store.max_marginal_relevance_search("8", 5, filter=given))
    assert len(found) == min(5, len(kept)) and {*found} <= {*kept}


def test_changes() -> None:
    store = filled(30, group_by="kind")
    assert store.embeddings is store.embedding
    ids = store.add_texts(["0", "1"], ids=["d1", None])
    assert ids[0] == "d1" and ids[1] not in {f"d{i}" for i in range(30)}
    assert store.get_by_ids(["d1", "nowhere"]) == [Document("0", metadata={}, id="d1")]
    assert store.delete(["d0", "nowhere"]) is True
    assert {"d1", ids[1]} <= {one.id for one in store.similarity_search("0", 31)}
    assert "d0" not in {one.id for one in store.similarity_search("0", 31)}
    assert store.similarity_search("0", 31, filter={"kind": "car"}) and store.add_texts([]) == []
    before = [one.id for one in store.similarity_search("4", 50)]
    for texts, options, message in [
            (["1", "2"], {"ids": ["a"]}, "ids: expected 2, got 2 and 1"),
            (["1", "2"], {"metadatas": [{}]}, "metadatas")]:
        with pytest.raises(ValueError, match=message):
            store.add_texts(texts, **options)  # type: ignore[arg-type]
    assert isinstance(store.embedding, Table)
    store.embedding = Table(np.full((3, 8), np.nan, np.float32))
    with pytest.raises(ValueError, match="NaN"):
        store.add_texts(["2"], ids=["d2"])
    store.embedding = Table(np.ones((3, 5), np.float32))
    with pytest.raises(ValueError, match="dim"):
        store.add_texts(["2"], ids=["d2"])
    store.embedding = filled(30).embedding
    assert [one.id for one in store.similarity_search("4", 50)] == before
    assert store.delete() and store.similarity_search("0") == store.unlike_search("0") == []
    assert store.similarity_search("0", filter={"kind": "car"}) == []
    metadata = {"kind": "pet"}
    store.add_texts(["5", "6"], [metadata, metadata], ids=["x", "x"])
    metadata["kind"] = "car"
    assert store.get_by_ids(["x"]) == [Document("6", metadata={"kind": "pet"}, id="x")]


def test_files(tmp_path: Path) -> None:
    store = filled(40, group_by="kind", metric="dot")
    store.add_texts(["7"], [{"text": "ü\n\ud800", "list": [1, {"a": None}]}], ids=["\u2028"])
    store.save_local(tmp_path / "new" / "folder")
    store.save_local(tmp_path / "new" / "folder")
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == ["documents.farann"]
    for mmap in False, True:
        again = FarannVectorStore.load_local(tmp_path / "new" / "folder", store.embedding,
                                             mmap=mmap)
        for given in None, {"kind": "pet"}:
            assert (again.similarity_search_with_score("3", 50, filter=given)
                    == store.similarity_search_with_score("3", 50, filter=given))
        again.add_texts(["8"], [{"kind": "pet"}])
        assert len(again.similarity_search("3", 50)) == 42
        again.documents.index.close()


class Bomb:
    def __reduce__(self) -> Any:
        return pytest.fail, ("a file was run",)


def test_files_of_strangers(tmp_path: Path) -> None:
    store = filled(10)
    store.save_local(tmp_path)
    path = tmp_path / "documents.farann"
    metadata, arrays = inside.files.read_file(path)
    text, saved = arrays["documents"].tobytes(), path.read_bytes()
    wrong = [pickle.dumps(Bomb()), b"", b"[]", b"{}", b"\xff", b'{"group_by": null}',
             b'{"group_by": null, "documents": [1]}', b'{"group_by": 1, "documents": {}}',
             b'{"group_by": null, "documents": {"d1": 1}}',
             text.replace(b'"d9":', b'"d99":'), text.replace(b"page_content", b"page"), text[:-9]]
    for content in wrong:
        inside.files.write_file(path, metadata, {**arrays, "documents": np.frombuffer(
            content, np.uint8)})
        with pytest.raises(farann.FormatError, match=r"documents\.farann"):
            FarannVectorStore.load_local(tmp_path, store.embedding)
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(farann.FormatError, match=r"documents\.farann"):
        FarannVectorStore.load_local(tmp_path, store.embedding)
    path.write_bytes(saved)
    store.add_texts(["1"], [{"what": object()}])
    with pytest.raises(TypeError, match="JSON"):
        store.save_local(tmp_path)
    assert path.read_bytes() == saved


def test_ids_that_are_no_strings() -> None:
    store = filled(10)
    with pytest.raises(TypeError, match=r"^ids: expected strings, got 7"):
        store.add_texts(["1", "2"], ids=["a", 7])  # type: ignore[list-item]
    assert store.get_by_ids(["a"]) == [] and len(store.documents.index) == 10


def test_found_documents_are_copies() -> None:
    store = filled(10)
    for _ in range(2):
        (one,) = store.similarity_search("1", 1)
        assert one.metadata == store.get_by_ids([str(one.id)])[0].metadata
        one.metadata["kind"] = "other"
        assert one.metadata != store.similarity_search("1", 1)[0].metadata


def test_what_would_be_ignored_is_an_error() -> None:
    store = filled(20)
    assert repr(store) == "<FarannVectorStore: 20 documents>"
    for given, said in (
            ({"i": {"$regex": "x"}}, r"got '\$regex'; .* function of a document"),
            ({"$nor": [{"i": 1}]}, r"expected \$and, \$or, \$not or a field, got '\$nor'"),
            ({"$and": []}, r"expected a list of filters for \$and, got \[\]"),
            ({"$or": {"i": 1}}, r"expected a list of filters for \$or"),
            ({"$and": ["i"]}, "expected a dict of fields, got 'i'"),
            ({"i": {"$in": "abc"}}, r"expected a list of values for \$in, got 'abc'"),
            ({"i": {"$not": {"$gtt": 1}}}, r"got '\$gtt'"),
            ({"i": {}}, "got an empty dict"), ({"i": {"a": 1}}, "got 'a'")):
        for grouped in store, filled(20, group_by="i"):
            with pytest.raises(ValueError, match=f"^filter: .*{said}"):
                grouped.similarity_search("0", filter=given)
    with pytest.raises(TypeError, match=r"^delete\(\) got an unexpected keyword 'filter'"):
        store.delete(filter={"kind": "pet"})
    assert len(store.documents.by_id) == 20
    one = store.similarity_search("0", 1)[0].id
    assert one is not None and store.delete(one)
    assert len(store.documents.by_id) == 19
