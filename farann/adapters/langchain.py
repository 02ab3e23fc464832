"""A vector store of LangChain: similar, unlike, and diverse documents, exactly."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Self

from farann._types import Metric
from farann.adapters.documents import Documents, installed_with, pool_of
from farann.contract import checks

with installed_with("langchain"):
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.runnables import run_in_executor
    from langchain_core.vectorstores import VectorStore

Found = list[Document]
Scored = list[tuple[Document, float]]
Vector = list[float]


class FarannVectorStore(VectorStore):
    """Documents of LangChain, found exactly.

    Parameters
    ----------
    embedding : langchain_core.embeddings.Embeddings
    metric : {"cosine", "dot", "l2"}
        Scores of searches are cosines, dot products or distances.
    group_by : str, optional
        A field of the metadata by which searches filter without a pass over all documents.
    options
        Of `farann.Index`, such as ``codes="int4"``.

    Notes
    -----
    Searches take ``filter=``: a function of a document, or a dict from fields of the metadata to
    the value or list of values that pass, compared by ``==``, or to operators:
    ``{"year": {"$gte": 2010}}``. There are $eq, $ne, $gt, $gte, $lt, $lte, $in, $nin and $not, and
    between fields $and, $or and $not. A field that is missing is None. Searches also take what
    `farann.Index` takes, such as ``recall=``, or ``per_group=2`` for at most two documents of each
    value of `group_by`.

    Examples
    --------
    >>> from langchain_core.embeddings import DeterministicFakeEmbedding
    >>> store = FarannVectorStore.from_texts(
    ...     ["a cat", "a dog", "a car"], DeterministicFakeEmbedding(size=8),
    ...     [{"kind": "pet"}, {"kind": "pet"}, {"kind": "thing"}], group_by="kind")
    >>> [one.page_content for one in store.unlike_search("a dog", filter={"kind": "pet"})]
    ['a cat', 'a dog']
    """

    def __init__(self, embedding: Embeddings, *, metric: Metric = "cosine",
                 group_by: str | None = None, **options: Any) -> None:
        self.embedding = embedding
        self.documents = Documents[Document](lambda one: one.metadata, metric, group_by, **options)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self.documents.by_id):,} documents>"

    @property
    def embeddings(self) -> Embeddings:
        """The model that makes vectors of texts."""
        return self.embedding

    @classmethod
    def from_texts(cls, texts: list[str], embedding: Embeddings,
                   metadatas: list[dict[str, Any]] | None = None, *,
                   ids: list[str] | None = None, **kwargs: Any) -> Self:
        """A store of texts; further arguments are those of the class."""
        store = cls(embedding, **kwargs)
        store.add_texts(texts, metadatas, ids=ids)
        return store

    def add_texts(self, texts: Iterable[str], metadatas: list[dict[str, Any]] | None = None, *,
                  ids: Sequence[str | None] | None = None, **kwargs: Any) -> list[str]:
        """Add texts, or replace those with the same ids; an id that is None is made up."""
        texts = list(texts)
        metadatas = [{} for _ in texts] if metadatas is None else metadatas
        ids = [None for _ in texts] if ids is None else ids
        if not len(texts) == len(metadatas) == len(ids):
            raise ValueError(
                f"metadatas, ids: expected {len(texts)}, got {len(metadatas)} and {len(ids)}")
        names = [str(uuid.uuid4()) if id is None else id for id in ids]
        self.documents.put(
            {id: Document(id=id, page_content=text, metadata=metadata)
             for id, text, metadata in zip(names, texts, metadatas, strict=True)},
            dict(zip(names, self.embedding.embed_documents(texts), strict=True)))
        return names

    def delete(self, ids: Iterable[str] | None = None, **kwargs: Any) -> bool:
        """Remove documents by their ids, all of them if None; unknown ids are ignored."""
        if kwargs:
            raise TypeError(f"delete() got an unexpected keyword {next(iter(kwargs))!r}: pass the "
                            "ids of documents to remove")
        self.documents.drop([ids] if isinstance(ids, str) else ids)
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> Found:
        """The documents that have these ids; unknown ids are ignored."""
        return self.documents.get(ids)

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> Found:
        """The k most similar documents.

        ``filter=`` and the options of `farann.Index.search_nearest`, such as ``recall=``, may
        follow: see the class.
        """
        return self.similarity_search_by_vector(self.embedding.embed_query(query), k, **kwargs)

    def similarity_search_by_vector(self, embedding: Vector, k: int = 4, **kwargs: Any) -> Found:
        """The k documents most similar to a vector; arguments are as for `similarity_search`."""
        return [one for one, _ in self.documents.search("search_nearest", embedding, k, **kwargs)]

    def similarity_search_with_score(self, query: str, k: int = 4, **kwargs: Any) -> Scored:
        """The k most similar documents, each with its cosine, dot product or distance."""
        vector = self.embedding.embed_query(query)
        return self.documents.search("search_nearest", vector, k, **kwargs)

    def unlike_search(self, query: str | Sequence[str], k: int = 4, **kwargs: Any) -> Found:
        """The k least similar documents; of several queries, those that are unlike all of them.

        ``filter=`` and the options of `farann.Index.search_furthest` may follow: see the class.
        """
        return [one for one, _ in self.unlike_search_with_score(query, k, **kwargs)]

    def unlike_search_with_score(self, query: str | Sequence[str], k: int = 4,
                                 **kwargs: Any) -> Scored:
        """The k least similar documents, each with its score for the most similar query."""
        if isinstance(query, str):
            vector = self.embedding.embed_query(query)
            return self.documents.search("search_furthest", vector, k, **kwargs)
        vectors = [self.embedding.embed_query(one) for one in query]
        return self.documents.search("search_furthest_from", [vectors], k, **kwargs)

    def contrast_search(self, likes: str | Sequence[str], dislikes: str | Sequence[str] = (),
                        k: int = 4, **kwargs: Any) -> Found:
        """The k documents that are like some texts and unlike others.

        ``filter=`` and the options of `farann.Index.search_contrast` may follow: see the class.
        """
        wanted, unwanted = ([[self.embedding.embed_query(one) for one in (
            [texts] if isinstance(texts, str) else texts)]] for texts in (likes, dislikes))
        return [one for one, _ in self.documents.search(
            "search_contrast", wanted, k, dislikes=unwanted, **kwargs)]

    def max_marginal_relevance_search(self, query: str, k: int = 4, fetch_k: int | None = None,
                                      lambda_mult: float = 0.7, **kwargs: Any) -> Found:
        """Documents that fit a query and differ from each other, chosen among the `fetch_k` most
        similar ones, by default 20 or twice k; ``candidates=None`` chooses among all.

        A `lambda_mult` of 1 counts similarity to the query alone, 0 difference alone.
        """
        return self.max_marginal_relevance_search_by_vector(
            self.embedding.embed_query(query), k, fetch_k, lambda_mult, **kwargs)

    def max_marginal_relevance_search_by_vector(
            self, embedding: Vector, k: int = 4, fetch_k: int | None = None,
            lambda_mult: float = 0.7, **kwargs: Any) -> Found:
        """Documents that fit a vector and differ from each other."""
        return [one for one, _ in self.documents.search(
            "search_mmr", embedding, k, diversity=1 - lambda_mult,
            **{"candidates": pool_of(k) if fetch_k is None else fetch_k, **kwargs})]

    def max_marginal_relevance_search_by_score(
            self, scored: Scored, k: int = 4, lambda_mult: float = 0.5, **kwargs: Any) -> Found:
        """Choose among documents of this store with a reranker's scores in place of their
        similarities to a query. `scale` of `farann.Index.search_mmr` may follow."""
        try:
            scores = {one.id: score for one, score in scored}
        except (AttributeError, TypeError, ValueError):
            raise TypeError("scored: expected pairs of a document and its score, got "
                            f"{checks.shown(scored)}") from None
        if None in scores:
            raise ValueError("scored: expected documents found in the store, got one without an id")
        return [one for one, _ in self.documents.search(
            "search_mmr", None, k, scores=scores, diversity=1 - lambda_mult, **kwargs)]

    async def amax_marginal_relevance_search(
            self, query: str, k: int = 4, fetch_k: int | None = None, lambda_mult: float = 0.5,
            **kwargs: Any) -> Found:
        """`max_marginal_relevance_search` in a thread."""
        documents: Found = await run_in_executor(
            None, self.max_marginal_relevance_search, query, k, fetch_k, lambda_mult, **kwargs)
        return documents

    async def amax_marginal_relevance_search_by_vector(
            self, embedding: Vector, k: int = 4, fetch_k: int | None = None,
            lambda_mult: float = 0.5, **kwargs: Any) -> Found:
        """`max_marginal_relevance_search_by_vector` in a thread."""
        documents: Found = await run_in_executor(
            None, self.max_marginal_relevance_search_by_vector, embedding, k, fetch_k, lambda_mult,
            **kwargs)
        return documents

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return lambda score: min(max(self.documents.similarity(score), 0.0), 1.0)

    def save_local(self, folder: str | os.PathLike[str]) -> None:
        """Write documents and the index of their vectors to a file of a folder, in one step."""
        self.documents.save(Path(folder, "documents.farann"), lambda one: one.model_dump())

    @classmethod
    def load_local(cls, folder: str | os.PathLike[str], embedding: Embeddings, *,
                   mmap: bool = False) -> Self:
        """Read what `save_local` wrote; nothing in it is run as code, whoever wrote it."""
        store = cls(embedding)
        store.documents.load(Path(folder, "documents.farann"), Document.model_validate, mmap=mmap)
        return store
