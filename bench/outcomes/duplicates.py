"""Near duplicates: edited copies of texts, among texts that must be kept."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

import farann

from . import data
from .record import Bools, Floats, Ints, Use, Values, Wide

LOSS = 0.01  # of the texts without a copy that are taken for duplicates as well


def plain(text: str) -> list[str]:
    """Words without case and marks."""
    return re.sub(r"[^\w\s]", "", text.lower()).split()


def edited(text: str, random: np.random.Generator) -> str:
    """A copy as people make them: an eighth of the words gone, swapped, or with a slip."""
    words = plain(text)
    for _ in range(max(1, len(words) // 8)):
        at, how = int(random.integers(len(words) - 1)), random.integers(3)
        if how == 0:
            del words[at]
        elif how == 1:
            words[at], words[at + 1] = words[at + 1], words[at]
        else:
            slip = int(random.integers(len(words[at])))
            letter = chr(random.integers(ord("a"), ord("z") + 1))
            words[at] = words[at][:slip] + letter + words[at][slip + 1 :]
    return " ".join(words)


def found(pairs: Wide, others: Wide) -> Bools:
    """Which copies are more like their originals than all but a hundredth of the other texts are
    like any text."""
    return np.asarray(pairs > np.quantile(others, 1 - LOSS))


def by_meaning(rows: Floats, copies: Floats, of: Ints) -> Bools:
    """By cosines of embeddings, as `pairs_within` compares them."""
    index = farann.Index(metric="cosine")
    index.add(rows)
    near = index.search_nearest(ids=index.ids, k=1).scores[:, 0]
    return found(np.einsum("ij,ij->i", rows[of], copies), np.delete(near, of))


def by_pieces(texts: list[str], copies: list[str], of: Ints, **options: Any) -> Bools:
    """By cosines of counts of pieces."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    make = TfidfVectorizer(**options)
    rows, others = make.fit_transform(texts), make.transform(copies)
    products = (rows @ rows.T).tolil()
    products.setdiag(0)
    return found(np.asarray(rows[of].multiply(others).sum(axis=1)).ravel(),
                 np.delete(products.tocsr().max(axis=1).toarray().ravel(), of))


def values(labeled: data.Labeled, repeats: int) -> Values:
    """Whether each copy is found: by hash, pieces of five letters, words, and by meaning."""
    texts, first = np.unique([text for text in labeled.texts if len(plain(text)) > 5],
                             return_index=True)
    kept = np.flatnonzero([len(plain(text)) > 5 for text in labeled.texts])[first]
    random = np.random.default_rng(17)
    of = random.permutation(len(texts))[:repeats]
    copies = [edited(texts[i], random) for i in of]
    return {
        "hash": [float(plain(texts[i]) == copies[at].split()) for at, i in enumerate(of)],
        "five letters (MinHash)": by_pieces(
            texts.tolist(), copies, of, analyzer="char_wb", ngram_range=(5, 5), binary=True,
            use_idf=False).astype(float).tolist(),
        "words (tf-idf)": by_pieces(texts.tolist(), copies, of).astype(float).tolist(),
        "pairs_within": by_meaning(labeled.rows[kept], data.embedded(copies), of).astype(
            float).tolist()}


USE = Use("Near duplicates", "edited copies found at 1 % false alarms", "pairs_within",
          ("hash", "five letters (MinHash)", "words (tf-idf)"), values, 300,
          ("nouns", "foldoc", "fortunes"))
