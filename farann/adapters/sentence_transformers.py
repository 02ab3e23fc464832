"""Hard negatives for sentence-transformers, by exact search of the texts nearest to each anchor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from farann.index import Index


def mine_hard_negatives(
        dataset: Mapping[str, Any], model: Any, anchor_column_name: str | None = None,
        positive_column_name: str | None = None, corpus: Iterable[str] | None = None, *,
        range_min: int = 0, range_max: int | None = None, max_score: float | None = None,
        min_score: float | None = None, absolute_margin: float | None = None,
        relative_margin: float | None = None, num_negatives: int = 3,
        sampling_strategy: str = "top", batch_size: int = 32, seed: int = 0
) -> dict[str, list[str]]:
    """Make triplets of pairs: to each anchor and positive, texts that are similar but no answer.

    Arguments have the meaning that they have in ``sentence_transformers.util.mine_hard_negatives``,
    and the triplets are the same.

    Parameters
    ----------
    dataset : datasets.Dataset, or dict of lists
        Columns of anchors and of positives, by default the first two.
    model : SentenceTransformer
        Or anything else that has ``encode_query`` and ``encode_document``.
    anchor_column_name, positive_column_name : str, optional
    corpus : iterable of str, optional
        Texts among which negatives are searched, beside all positives.
    range_min, range_max : int
        Candidates to skip, and where to stop.
    min_score, max_score, absolute_margin, relative_margin : float, optional
        Limits of a negative's cosine, and how far it must be below the least similar positive's.
    num_negatives, batch_size, seed : int
    sampling_strategy : {"top", "random"}

    Returns
    -------
    dict of lists
        The columns of anchors, positives, and "negative"; for ``datasets.Dataset.from_dict``.
    """
    columns = list(getattr(dataset, "column_names", dataset))
    anchor, positive = anchor_column_name or columns[0], positive_column_name or columns[1]
    answers: dict[str, dict[str, None]] = {}  # to each anchor its positives, each once
    for query, text in zip(dataset[anchor], dataset[positive], strict=True):
        answers.setdefault(query, {})[text] = None
    texts = list(dict.fromkeys([*(corpus or []), *dataset[positive]]))
    place, most = {text: i for i, text in enumerate(texts)}, max(map(len, answers.values()))
    if range_max is None:
        limited = {absolute_margin, relative_margin, max_score} != {None}
        range_max = range_min + most + num_negatives * (10 if limited else 1)
    if not 0 < num_negatives <= range_max - range_min <= range_max:
        raise ValueError(f"num_negatives: expected 1 to {range_max - range_min}, for range_min="
                         f"{range_min} and range_max={range_max}, got {num_negatives}")
    if sampling_strategy not in ("top", "random"):
        raise ValueError(f"sampling_strategy: expected top or random, got {sampling_strategy!r}")
    index, rng = Index(metric="cosine"), np.random.default_rng(seed)
    index.add(model.encode_document(texts, batch_size=batch_size))
    queries = np.asarray(model.encode_query(list(answers), batch_size=batch_size))
    hits = index.search_nearest(queries, range_max + most)
    rows: list[tuple[str, str, str]] = []
    for (query, own), vector, ids, scores in zip(
            answers.items(), queries, hits.ids, hits.scores, strict=True):
        places = [place[text] for text in own]
        least = float(index.score(vector, places).min())
        fits = (scores >= (-np.inf if min_score is None else min_score)) & ~np.isin(ids, places)
        highest = [np.inf if max_score is None else max_score]
        if absolute_margin is not None:
            highest.append(least - absolute_margin)
        if relative_margin is not None:
            highest.append(least - abs(least) * relative_margin)
        negatives = ids[fits & (scores <= min(highest))][range_min:range_max]
        negatives = negatives if sampling_strategy == "top" else rng.permutation(negatives)
        rows += [(query, text, texts[j]) for text in own for j in negatives[:num_negatives]]
    return {name: [row[i] for row in rows] for i, name in enumerate((anchor, positive, "negative"))}
