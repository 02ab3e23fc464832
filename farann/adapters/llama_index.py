"""A vector store of LlamaIndex: similar, unlike, and diverse nodes, exactly."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

from farann._types import Metric
from farann.adapters.documents import Documents, installed_with, pool_of
from farann.adapters.metadata import Condition
from farann.extending import replacing
from farann.index import Index

with installed_with("llama-index"):
    from llama_index.core.bridge.pydantic import PrivateAttr
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.schema import BaseNode, NodeWithScore, QueryBundle
    from llama_index.core.vector_stores import types, utils

_HOW_TO_LOAD = ("the nodes are in a store of farann: pass vector_store="
                "FarannVectorStore.from_persist_dir(folder) to StorageContext.from_defaults")
_QUERY_MODES = {"default": "search_nearest", "mmr": "search_mmr"}


class FarannVectorStore(types.BasePydanticVectorStore):
    """Nodes of LlamaIndex, found exactly.

    Parameters
    ----------
    metric : {"cosine", "dot", "l2"}
        Similarities are cosines, dot products, or 1 / (1 + distance).
    group_by : str, optional
        A field of the metadata by which searches filter without a pass over all nodes.
    options
        Of `farann.Index`, such as ``codes="int4"``.

    Notes
    -----
    The mode "mmr" chooses among the 20 (or twice as many as requested) most similar nodes.
    ``vector_store_kwargs={"candidates": None}`` of a retriever chooses among all. ``"unlike":
    True`` there gives the least similar nodes, with ``dislikes``, embeddings, or ``dislike_ids``,
    ids of nodes, those that are like the query and unlike these; what else stands there goes to the
    search of `farann.Index`.

    Examples
    --------
    >>> from llama_index.core.schema import TextNode
    >>> from llama_index.core.vector_stores.types import VectorStoreQuery
    >>> store = FarannVectorStore()
    >>> store.add([TextNode(id_="a", text="a cat", embedding=[1.0, 0.0]),
    ...            TextNode(id_="b", text="a car", embedding=[0.6, 0.8])])
    ['a', 'b']
    >>> store.query(VectorStoreQuery(query_embedding=[1.0, 0.1]), unlike=True).ids
    ['b']
    """

    stores_text: bool = True
    _store: Documents[BaseNode] = PrivateAttr()

    def __init__(self, *, metric: Metric = "cosine", group_by: str | None = None,
                 **options: Any) -> None:
        super().__init__(stores_text=True)
        self._store = Documents(lambda node: node.metadata, metric, group_by, **options)

    @classmethod
    def class_name(cls) -> str:
        """The name of the class in files."""
        return "FarannVectorStore"

    @property
    def client(self) -> Index:
        """The index of the embeddings."""
        return self._store.index

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Add nodes, or replace those with the same ids."""
        self._store.put(
            {node.node_id: node.model_copy(update={"embedding": None,
                                                   "metadata": dict(node.metadata)})
             for node in nodes},
            {node.node_id: node.get_embedding() for node in nodes})
        return [node.node_id for node in nodes]

    def delete(self, ref_doc_id: str, **kwargs: Any) -> None:
        """Remove the nodes of a document."""
        self._store.drop([id for id, node in list(self._store.by_id.items())
                          if node.ref_doc_id == ref_doc_id])

    def delete_nodes(self, node_ids: list[str] | None = None,
                     filters: types.MetadataFilters | None = None, **kwargs: Any) -> None:
        """Remove the nodes that have one of these ids and pass the filters."""
        self._store.drop([node.node_id for node in self.get_nodes(node_ids, filters)])

    def clear(self) -> None:
        """Remove all nodes."""
        self._store.drop(None)

    def get_nodes(self, node_ids: list[str] | None = None,
                  filters: types.MetadataFilters | None = None) -> list[BaseNode]:
        """The nodes that have one of these ids and pass the filters, without embeddings."""
        return self._store.passing(self._passes(node_ids, filters))

    def query(self, query: types.VectorStoreQuery, *, unlike: bool = False,
              mmr_threshold: float | None = None, **kwargs: Any) -> types.VectorStoreQueryResult:
        """Nodes, ids and similarities that a query finds, best first."""
        mode = types.VectorStoreQueryMode(query.mode)
        search = "search_furthest" if unlike else _QUERY_MODES.get(mode)
        if search is None:
            raise ValueError(f"mode: expected 'default' or 'mmr', got {mode.value!r}")
        if kwargs.keys() & {"dislikes", "dislike_ids"}:
            search = "search_contrast"
        if search == "search_mmr":
            limits = [one for one in (mmr_threshold, query.mmr_threshold, 0.7) if one is not None]
            kwargs = {"diversity": 1 - limits[0], "candidates": pool_of(query.similarity_top_k),
                      **kwargs}
        hits = self._store.search(search, query.query_embedding, query.similarity_top_k,
                                  self._filter(query), **kwargs)
        return types.VectorStoreQueryResult(
            nodes=[node for node, _ in hits], ids=[node.node_id for node, _ in hits],
            similarities=[self._store.similarity(score) for _, score in hits])

    def _filter(self, query: types.VectorStoreQuery) -> Any:
        node_ids = query.node_ids or None  # an index of this store alone passes an empty list
        filters, doc_ids = query.filters, query.doc_ids
        if node_ids is None and doc_ids is None and filters is None:
            return None
        passes = self._passes(node_ids, filters, doc_ids)
        if node_ids is not None or doc_ids is not None or filters is None or any(
                isinstance(one, types.MetadataFilters) or one.key != self._store.group_by
                for one in filters.filters):
            return passes
        choices: list[Any] | None = None
        match filters.filters:
            case [types.MetadataFilter(value=value, operator=types.FilterOperator.EQ)]:
                choices = [value]
            case [types.MetadataFilter(value=[*values], operator=types.FilterOperator.IN)]:
                choices = values
        return Condition(passes, utils.build_metadata_filter_fn(lambda metadata: metadata, filters),
                         None if filters.condition == types.FilterCondition.NOT else choices)

    def _passes(self, node_ids: list[str] | None, filters: types.MetadataFilters | None,
                doc_ids: list[str] | None = None) -> Callable[[BaseNode], bool]:
        nodes = dict(self._store.by_id)
        passes = utils.build_metadata_filter_fn(lambda id: nodes[id].metadata, filters)
        return lambda node: (
            (node_ids is None or node.node_id in node_ids)
            and (doc_ids is None or node.ref_doc_id in doc_ids)
            and node.node_id in nodes and passes(node.node_id))

    def persist(self, persist_path: str, fs: Any = None) -> None:
        """Write nodes and the index of their embeddings to one local file, in one step.

        The file has the name of `persist_path`, but ends in .farann. To `persist_path` goes what
        makes `StorageContext.from_defaults` say how the nodes are loaded, as it takes the stores of
        a folder for LlamaIndex's own, and would make an empty one.
        """
        if fs is not None and "file" not in fs.protocol:
            raise ValueError(f"fs: expected local files, got {fs.protocol}")
        path = Path(persist_path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(json.dumps({"embedding_dict": {"farann": [_HOW_TO_LOAD]}}).encode())
        self._store.save(path.with_suffix(".farann"), utils.node_to_metadata_dict)

    @classmethod
    def from_persist_path(cls, persist_path: str, *, mmap: bool = False) -> Self:
        """Read what `persist` wrote; nothing in it is run as code, whoever wrote it."""
        store = cls()
        store._store.load(Path(persist_path).with_suffix(".farann"), utils.metadata_dict_to_node,
                          mmap=mmap)
        return store

    @classmethod
    def from_persist_dir(cls, persist_dir: str = types.DEFAULT_PERSIST_DIR, *,
                         mmap: bool = False) -> Self:
        """Read what `StorageContext.persist` wrote to a folder.

        With ``StorageContext.from_defaults(persist_dir=folder, vector_store=store)`` LlamaIndex's
        `load_index_from_storage` loads the rest.
        """
        return cls.from_persist_path(f"{persist_dir}/default__vector_store.json", mmap=mmap)


class FarannDiversityPostprocessor(BaseNodePostprocessor):
    """Choose nodes that differ from each other and have large scores, such as a reranker's.

    Parameters
    ----------
    vector_store : FarannVectorStore
        The store that the nodes are from.
    top_n : int
    mmr_threshold : float
        From 0, diversity alone, to 1, scores alone.
    scale : {"unit", "ranks", "as given"}
        As of `farann.Index.search_mmr`.
    """

    vector_store: FarannVectorStore
    top_n: int = 10
    mmr_threshold: float = 0.5
    scale: str = "unit"

    @classmethod
    def class_name(cls) -> str:
        """The name of the class in files."""
        return "FarannDiversityPostprocessor"

    def _postprocess_nodes(self, nodes: list[NodeWithScore],
                           query_bundle: QueryBundle | None = None) -> list[NodeWithScore]:
        by_id = {one.node.node_id: one for one in nodes}
        hits = self.vector_store.client.search_mmr(
            k=self.top_n, diversity=1 - self.mmr_threshold, scale=self.scale,
            scores={id: one.get_score(raise_error=True) for id, one in by_id.items()})
        return [by_id[id] for id in hits.ids[hits.found]]
