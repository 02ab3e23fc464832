# /// script
# requires-python = ">=3.11"
# dependencies = ["farann", "numpy"]
# ///
"""Exact retrieval for mteb: the three methods of its search backends.

``SearchEncoderWrapper(model, index_backend=FarannSearchIndex(model))`` evaluates a model with it.
"""

from types import SimpleNamespace as Model
from typing import Any

import numpy as np

import farann

METRICS = {"cosine": "cosine", "dot": "dot", "euclidean": "l2"}


class FarannSearchIndex:
    """Documents by position, in the metric of the model; larger scores are better."""

    def __init__(self, model: Any) -> None:
        self.metric = METRICS[model.mteb_model_meta.similarity_fn_name]
        self.clear()

    def add_documents(self, embeddings: Any, idxs: list[str]) -> None:
        self.index.add(vectors_of(embeddings))
        self.place |= {idx: len(self.place) + i for i, idx in enumerate(idxs)}

    def search(self, embeddings: Any, top_k: int, similarity_fn: Any = None,
               top_ranked: Any = None, query_idx_to_id: Any = None) -> tuple[list[Any], list[Any]]:
        queries, sign = vectors_of(embeddings), -1 if self.metric == "l2" else 1
        if top_ranked is None:
            hits = self.index.search_nearest(queries, min(top_k, len(self.place)))
            return (sign * hits.scores).tolist(), hits.ids.tolist()
        scores, found = [], []
        for i, query in enumerate(queries):  # mteb wants places in the list of candidates
            candidates = [self.place[idx] for idx in top_ranked.get(query_idx_to_id[i], ())]
            hits = self.index.search_nearest(query, min(top_k, len(candidates)) or 1,
                                             allowed=np.array(candidates, np.int64))
            scores.append((sign * hits.scores[hits.ids >= 0]).tolist())
            found.append([candidates.index(id) for id in hits.ids[hits.ids >= 0]])
        return scores, found

    def clear(self) -> None:
        self.index = farann.Index(metric=self.metric)
        self.place: dict[str, int] = {}


def vectors_of(embeddings: Any) -> np.ndarray:
    of_torch = hasattr(embeddings, "detach")
    return np.asarray(embeddings.detach().cpu() if of_torch else embeddings, np.float32)


if __name__ == "__main__":
    rng = np.random.default_rng(0)
    documents, queries = rng.standard_normal((1000, 16)), rng.standard_normal((2, 16))
    for name in METRICS:
        backend = FarannSearchIndex(Model(mteb_model_meta=Model(similarity_fn_name=name)))
        backend.add_documents(documents, [f"d{i}" for i in range(1000)])
        print(name, backend.search(queries, 3)[1])
        print("  reranked:", backend.search(queries[:1], 2, None, {"q": ["d7", "d5", "d9"]},
                                            {0: "q"})[1])
