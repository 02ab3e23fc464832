"""A document store, a retriever and a ranker of Haystack: similar, unlike and diverse documents."""

from __future__ import annotations

import asyncio
import functools
import numbers
import os
from collections.abc import Callable, Coroutine, Iterable
from copy import deepcopy
from dataclasses import replace
from datetime import datetime
from typing import Any, ParamSpec, Self, TypeVar

from farann._types import Metric
from farann.adapters.documents import Documents, installed_with, pool_of
from farann.adapters.metadata import Condition, distinct
from farann.index import Index

with installed_with("haystack"):
    from haystack import Document, component, default_from_dict, default_to_dict
    from haystack.document_stores.errors import DuplicateDocumentError
    from haystack.document_stores.types import DuplicatePolicy
    from haystack.utils.filters import document_matches_filter

_MODES = {"similar": "search_nearest", "unlike": "search_furthest", "mmr": "search_mmr"}
Found = list[Document]
Filters = dict[str, Any]
P = ParamSpec("P")
R = TypeVar("R")
_FIELD_TYPES = ("boolean", bool), ("int", numbers.Integral), ("float", numbers.Real)


def _in_a_thread(method: Callable[P, R]) -> Callable[P, Coroutine[Any, Any, R]]:
    """A coroutine that runs a method in a thread."""
    @functools.wraps(method)
    async def run(*arguments: P.args, **options: P.kwargs) -> R:
        return await asyncio.to_thread(method, *arguments, **options)

    for attribute in "__name__", "__qualname__":
        setattr(run, attribute, f"{getattr(method, attribute)}_async")
    run.__doc__ = f"`{method.__name__}` in a thread, while the event loop goes on."
    return run


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

    def filter_documents(self, filters: Filters | None = None) -> Found:
        """The documents that pass the filters, with their embeddings."""
        return self._with_embeddings(
            (one, None) for one in self.documents.where(self._passes(filters)).values())

    def write_documents(self, documents: list[Document],
                        policy: DuplicatePolicy = DuplicatePolicy.NONE) -> int:
        """Add documents; by default one whose id is there is an error, and nothing is added."""
        if not isinstance(documents, list) or {type(one) for one in documents} - {Document}:
            raise ValueError("documents: expected a list of haystack.Document")
        written: dict[str, Document] = {}
        with self.documents.changing:
            for one in documents:
                if policy == DuplicatePolicy.OVERWRITE or not (
                        one.id in self.documents.by_id or one.id in written):
                    written[one.id] = one
                elif policy != DuplicatePolicy.SKIP:
                    raise DuplicateDocumentError(f"documents: the id {one.id!r} is there")
            self.documents.put(
                {id: replace(one, embedding=None, meta=dict(one.meta))
                 for id, one in written.items()},
                {id: one.embedding for id, one in written.items() if one.embedding})
        return len(documents) if policy == DuplicatePolicy.OVERWRITE else len(written)

    def delete_documents(self, document_ids: list[str]) -> None:
        """Remove documents by their ids; unknown ids are ignored."""
        self.documents.drop(document_ids)

    def delete_all_documents(self, recreate_index: bool = False) -> None:
        """Remove all documents; with `recreate_index` the next may be of another dimension."""
        if recreate_index:
            self.documents.restart()
        else:
            self.documents.drop(None)

    def delete_by_filter(self, filters: Filters) -> int:
        """Remove the documents that pass the filters; return how many they are."""
        return self.documents.drop_where(self._passes(filters))

    def update_by_filter(self, filters: Filters, meta: dict[str, Any]) -> int:
        """Set fields of the metadata of the documents that pass; return how many they are."""
        return self.documents.update(
            self._passes(filters), lambda one: replace(one, meta={**one.meta, **meta}))

    def count_documents_by_filter(self, filters: Filters) -> int:
        """The number of documents that pass the filters."""
        return len(self.documents.where(self._passes(filters)))

    def count_unique_metadata_by_filter(self, filters: Filters,
                                        metadata_fields: list[str]) -> dict[str, int]:
        """How many different values each field has in the documents that pass the filters."""
        matches = self.documents.where(self._passes(filters)).values()
        return {field.removeprefix("meta."): len(distinct(_values(matches, field)))
                for field in metadata_fields}

    def get_metadata_fields_info(self) -> dict[str, dict[str, str]]:
        """Of each field of the metadata its type: boolean, int, float or keyword, as of others."""
        types: dict[str, set[str]] = {}
        for one in list(self.documents.by_id.values()):
            for field, value in one.meta.items():
                if value is not None:
                    names = (name for name, kind in _FIELD_TYPES if isinstance(value, kind))
                    types.setdefault(field, set()).add(next(names, "keyword"))
        return {field: {"type": kinds.pop() if len(kinds) == 1 else
                        "float" if kinds == {"int", "float"} else "keyword"}
                for field, kinds in types.items()}

    def get_metadata_field_min_max(self, metadata_field: str) -> dict[str, Any]:
        """The smallest and the largest value of a field; None where no document has it.

        Raises
        ------
        ValueError
            If the values have no order.
        """
        values = [value for value in _values(self.documents.by_id.values(), metadata_field)
                  if value == value]  # not NaN
        try:
            return {"min": min(values, default=None), "max": max(values, default=None)}
        except TypeError as error:
            raise ValueError(f"metadata_field: expected one whose values have an order, got "
                             f"{metadata_field!r} ({error})") from None

    def get_metadata_field_unique_values(
            self, metadata_field: str, search_term: str | None = None, from_: int = 0,
            size: int = 10, filters: Filters | None = None) -> tuple[list[Any], int]:
        """Different values of a field, in the order of their texts, and how many there are.

        Parameters
        ----------
        metadata_field : str
        search_term : str, optional
            What the text of a value contains, in any case.
        from_, size : int
            Which part of the values.
        filters : dict, optional
            Of the documents whose values these are.
        """
        term = (search_term or "").lower()
        matches = self.documents.where(self._passes(filters)).values()
        values = [value for value in distinct(_values(matches, metadata_field))
                  if term in str(value).lower()]
        values.sort(key=lambda value: (str(value), type(value).__name__))
        return values[from_ : from_ + size], len(values)

    def search(self, search: str, query_embedding: list[float], top_k: int,
               filters: Filters | None = None, **options: Any) -> Found:
        """Search `farann.Index`; scores are larger for similar documents."""
        hits = self.documents.search(search, query_embedding, top_k, self._condition(filters),
                                     **options)
        return self._with_embeddings(
            (one, self.documents.similarity(score)) for one, score in hits)

    def _passes(self, filters: Filters | None) -> Callable[[Document], bool]:
        if not filters:
            return lambda one: True
        if "embedding" in _fields(filters):
            return lambda one: document_matches_filter(
                filters, *self._with_embeddings([(one, None)]))
        return lambda one: document_matches_filter(filters, one)

    def _condition(self, filters: Filters | None) -> Condition[Document] | None:
        if not filters:
            return None
        passes, group_by = self._passes(filters), self.documents.group_by
        if group_by is None or "." in group_by or _fields(filters) != {f"meta.{group_by}"}:
            return Condition(passes)
        choices: list[Any] | None = None
        match filters:
            case {"operator": "==", "value": value}:
                choices = [value]
            case {"operator": "in", "value": [*values]}:
                choices = values
        if choices is not None and any(isinstance(one, datetime | str) and str(one)[:4].isdigit()
                                       for one in choices):
            choices = None  # a date equals others that are written in another way
        return Condition(passes, lambda meta: document_matches_filter(
            filters, Document(id="one", meta=dict(meta))), choices)

    def _with_embeddings(self, hits: Iterable[tuple[Document, float | None]]) -> Found:
        hits = list(hits)
        return [_copied(one, score, vector) for (one, score), vector in zip(
            hits, self.documents.vectors(one.id for one, _ in hits), strict=True)]

    count_documents_async = _in_a_thread(count_documents)
    filter_documents_async = _in_a_thread(filter_documents)
    write_documents_async = _in_a_thread(write_documents)
    delete_documents_async = _in_a_thread(delete_documents)
    delete_all_documents_async = _in_a_thread(delete_all_documents)
    delete_by_filter_async = _in_a_thread(delete_by_filter)
    update_by_filter_async = _in_a_thread(update_by_filter)
    count_documents_by_filter_async = _in_a_thread(count_documents_by_filter)
    count_unique_metadata_by_filter_async = _in_a_thread(count_unique_metadata_by_filter)
    get_metadata_fields_info_async = _in_a_thread(get_metadata_fields_info)
    get_metadata_field_min_max_async = _in_a_thread(get_metadata_field_min_max)
    get_metadata_field_unique_values_async = _in_a_thread(get_metadata_field_unique_values)
    search_async = _in_a_thread(search)

    def save_to_disk(self, path: str | os.PathLike[str]) -> None:
        """Write documents and the index of their embeddings to one file, in one step."""
        self.documents.save(path, lambda one: one.to_dict(flatten=False))

    @classmethod
    def load_from_disk(cls, path: str | os.PathLike[str], *, mmap: bool = False) -> Self:
        """Read what `save_to_disk` wrote; nothing in it is run as code, whoever wrote it."""
        store = cls()
        store.documents.load(path, Document.from_dict, mmap=mmap)
        return store


def _copied(one: Document, score: float | None, embedding: list[float] | None) -> Document:
    """A document with a score and an embedding; `replace` would check it once more."""
    made = Document.__new__(Document)
    vars(made).update(vars(one), score=score, embedding=embedding, meta=deepcopy(one.meta))
    return made


def _fields(filters: Filters) -> set[str]:
    """The fields that filters read."""
    if "field" in filters:
        return {filters["field"]}
    return set().union(*map(_fields, filters.get("conditions", ())))


def _values(documents: Iterable[Document], field: str) -> list[Any]:
    """The values of a field of the metadata, as filters find it, that are not None."""
    field = field.removeprefix("meta.")
    values = []
    for one in list(documents):
        value: Any = one.meta
        for part in [field] if field in one.meta else field.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        values.append(value)
    return [value for value in values if value is not None]


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
        other, chosen among the 20 (or twice as many as requested) most similar ones.
    diversity : float
        Of "mmr": from 0, relevance alone, to 1, diversity alone.
    per_group : int, optional
        Most documents of each value of the store's `group_by`.
    """

    def __init__(self, document_store: FarannDocumentStore, filters: dict[str, Any] | None = None,
                 top_k: int = 10, mode: str = "similar", diversity: float = 0.3,
                 per_group: int | None = None) -> None:
        if mode not in _MODES:
            raise ValueError(f"mode: expected one of {', '.join(_MODES)}, got {mode!r}")
        self.document_store, self.filters, self.top_k = document_store, filters, top_k
        self.mode, self.diversity, self.per_group = mode, diversity, per_group

    @component.output_types(documents=list[Document])
    def run(self, query_embedding: list[float], filters: dict[str, Any] | None = None,
            top_k: int | None = None,
            dislikes: list[list[float]] | None = None) -> dict[str, Found]:
        """Retrieve documents for one query; filters take the place of those of the retriever.

        With the embeddings `dislikes` documents are like the query and unlike these, in any mode.
        """
        search, options = _MODES[self.mode], dict[str, Any]()
        k = self.top_k if top_k is None else top_k
        if dislikes:
            search, options = "search_contrast", {"dislikes": dislikes}
        elif self.mode == "mmr":
            options = {"diversity": self.diversity, "candidates": pool_of(k)}
        return {"documents": self.document_store.search(
            search, query_embedding, k, filters or self.filters, per_group=self.per_group,
            **options)}

    @component.output_types(documents=list[Document])
    async def run_async(self, query_embedding: list[float], filters: dict[str, Any] | None = None,
                        top_k: int | None = None,
                        dislikes: list[list[float]] | None = None) -> dict[str, Found]:
        """`run` in a thread, for ``run_async`` of pipelines."""
        return await asyncio.to_thread(self.run, query_embedding, filters, top_k, dislikes)


@component
class FarannDiversityRanker:
    """Choose documents that differ from each other, and fit the query if one is given.

    Parameters
    ----------
    top_k : int
    diversity : float
        From 0, relevance alone, to 1, diversity alone.
    by_score : bool
        Take documents' scores, such as a reranker's, in place of their similarity to a query.
    """

    def __init__(self, top_k: int = 10, diversity: float = 0.3, by_score: bool = False) -> None:
        self.top_k, self.diversity, self.by_score = top_k, diversity, by_score

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
        index = Index(metric="cosine")
        k = min(self.top_k if top_k is None else top_k, len(documents))
        index.add(vectors)
        if self.by_score:
            scores: Any = {i: one.score for i, one in enumerate(documents)}
            picks: Any = index.search_mmr(k=k, scores=scores, diversity=self.diversity)
        else:
            picks = index.select_diverse(k) if query_embedding is None else index.search_mmr(
                query_embedding, k, diversity=self.diversity)
        return {"documents": [documents[i] for i in picks.ids]}
