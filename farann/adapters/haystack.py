"""A document store, a retriever and a ranker of Haystack: similar, unlike and diverse documents."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Self

from farann._types import Metric
from farann.adapters.documents import Documents, installed_with
from farann.index import Index

with installed_with("haystack"):
    from haystack import Document, component, default_from_dict, default_to_dict
    from haystack.document_stores.errors import DuplicateDocumentError
    from haystack.document_stores.types import DuplicatePolicy
    from haystack.utils.filters import document_matches_filter

_MODES = {"similar": "search_nearest", "unlike": "search_furthest", "mmr": "search_mmr"}
Found = list[Document]


class FarannDocumentStore:
    """Documents of Haystack in memory, with an index that holds their embeddings as float32.

    Parameters
    ----------
    metric : {"cosine", "dot", "l2"}
    group_by : str, optional
        A field of the metadata by which searches filter without a pass over all documents.
    options
        Of `farann.Index`, such as ``codes="int4"``.
    """

    def __init__(self, metric: Metric = "cosine", group_by: str | None = None,
                 **options: Any) -> None:
        self.documents = Documents[Document](lambda one: one.meta, metric, group_by, **options)

    def to_dict(self) -> dict[str, Any]:
        """The arguments of the store, without its documents."""
        data: dict[str, Any] = default_to_dict(
            self, metric=self.documents.index.metric, group_by=self.documents.group_by,
            **self.documents.options)
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """An empty store with these arguments."""
        store: Self = default_from_dict(cls, data)
        return store

    def count_documents(self) -> int:
        """The number of documents."""
        return len(self.documents.by_id)

    def filter_documents(self, filters: dict[str, Any] | None = None) -> Found:
        """The documents that pass the filters, with their embeddings."""
        passing = self.documents.passing(
            lambda one: not filters or document_matches_filter(filters, one))
        return self._with_embeddings((one, None) for one in passing)

    def write_documents(self, documents: list[Document],
                        policy: DuplicatePolicy = DuplicatePolicy.NONE) -> int:
        """Add documents; by default one whose id is there is an error, and nothing is added."""
        if not isinstance(documents, list) or {type(one) for one in documents} - {Document}:
            raise ValueError("documents: expected a list of haystack.Document")
        written: dict[str, Document] = {}
        for one in documents:
            if policy == DuplicatePolicy.OVERWRITE or not (
                    one.id in self.documents.by_id or one.id in written):
                written[one.id] = one
            elif policy != DuplicatePolicy.SKIP:
                raise DuplicateDocumentError(f"documents: the id {one.id!r} is there")
        self.documents.put({id: replace(one, embedding=None) for id, one in written.items()},
                        {id: one.embedding for id, one in written.items() if one.embedding})
        return len(documents) if policy == DuplicatePolicy.OVERWRITE else len(written)

    def delete_documents(self, document_ids: list[str]) -> None:
        """Remove documents by their ids; unknown ids are ignored."""
        self.documents.drop(document_ids)

    def search(self, search: str, query_embedding: list[float], top_k: int,
               filters: dict[str, Any] | None = None, **options: Any) -> Found:
        """Search `farann.Index`; scores are larger for similar documents."""
        filter: Any = filters and (lambda one: document_matches_filter(filters, one))
        match filters:
            case {"field": field, "operator": "==" | "in" as operator, "value": value} if (
                    field == f"meta.{self.documents.group_by}"
                    and isinstance(value, list) == (operator == "in")):
                filter = {self.documents.group_by: value}
        found = self.documents.search(search, query_embedding, top_k, filter or None, **options)
        return self._with_embeddings(
            (one, self.documents.similarity(score)) for one, score in found)

    def _with_embeddings(self, found: Iterable[tuple[Document, float | None]]) -> Found:
        index = self.documents.index
        return [replace(one, score=score, embedding=index.reconstruct(one.id).tolist()
                        if one.id in index else None) for one, score in found]

    def save_to_disk(self, path: str | os.PathLike[str]) -> None:
        """Write documents and the index of their embeddings to one file, in one step."""
        self.documents.save(path, lambda one: one.to_dict(flatten=False))

    @classmethod
    def load_from_disk(cls, path: str | os.PathLike[str], *, mmap: bool = False) -> Self:
        """Read what `save_to_disk` wrote; nothing in it is run as code, whoever wrote it."""
        store = cls()
        store.documents.load(path, Document.from_dict, mmap=mmap)
        return store


@component
class FarannRetriever:
    """Retrieve documents from a `FarannDocumentStore`.

    Parameters
    ----------
    document_store : FarannDocumentStore
    filters : dict, optional
    top_k : int
    mode : {"similar", "unlike", "mmr"}
        The most similar documents, the least similar ones, or those that fit and differ from each
        other, chosen among all documents.
    diversity : float
        Of "mmr": from 0, relevance alone, to 1, diversity alone.
    """

    def __init__(self, document_store: FarannDocumentStore, filters: dict[str, Any] | None = None,
                 top_k: int = 10, mode: str = "similar", diversity: float = 0.5) -> None:
        if mode not in _MODES:
            raise ValueError(f"mode: expected one of {', '.join(_MODES)}, got {mode!r}")
        self.document_store, self.filters, self.top_k = document_store, filters, top_k
        self.mode, self.diversity = mode, diversity

    @component.output_types(documents=list[Document])
    def run(self, query_embedding: list[float], filters: dict[str, Any] | None = None,
            top_k: int | None = None) -> dict[str, Found]:
        """Retrieve documents for one query; filters take the place of those of the retriever."""
        options = {"diversity": self.diversity} if self.mode == "mmr" else {}
        return {"documents": self.document_store.search(
            _MODES[self.mode], query_embedding, top_k or self.top_k, filters or self.filters,
            **options)}


@component
class FarannDiversityRanker:
    """Choose documents that differ from each other, and fit the query if one is given.

    Parameters
    ----------
    top_k : int
    diversity : float
        From 0, relevance alone, to 1, diversity alone.
    """

    def __init__(self, top_k: int = 10, diversity: float = 0.5) -> None:
        self.top_k, self.diversity = top_k, diversity

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document], query_embedding: list[float] | None = None,
            top_k: int | None = None) -> dict[str, Found]:
        """Maximal marginal relevance; without a query each is as unlike those before as can be."""
        if not documents:
            return {"documents": []}
        vectors: Any = [one.embedding for one in documents]
        if None in vectors:
            raise ValueError("documents: expected embeddings, got none for "
                             f"{documents[vectors.index(None)].id!r}")
        index, k = Index(metric="cosine"), min(top_k or self.top_k, len(documents))
        index.add(vectors)
        picks = index.select_diverse(k) if query_embedding is None else index.search_mmr(
            query_embedding, k, diversity=self.diversity)
        return {"documents": [documents[i] for i in picks.ids]}
