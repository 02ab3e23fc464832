"""What ``farann select`` and ``farann diameter`` do."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from farann.cli import streams
from farann.cli.answers import SCORE_NAMES, csv_writer, shortest
from farann.cli.commands import check_output, check_plot, has_strings
from farann.cli.names import storable
from farann.cli.terminal import counted, is_shown, note, printable
from farann.cli.wording import blaming
from farann.diverse.selection import Selection
from farann.index import Index
from farann.io.files import replacing
from farann.io.vector_content import optional_package
from farann.vectors import open_vectors

__all__ = ["diameter", "select"]


def select(arguments: argparse.Namespace) -> int:
    """Choose rows of a file or an index, and write their ids."""
    if arguments.k is None and arguments.radius is None:
        raise ValueError("give -k, how many rows to choose, or --radius")
    kind = streams.kind_of(arguments.output, "json" if arguments.json else None, WRITERS, "ids",
                           "txt")
    output = streams.place_of(arguments.output)
    if output is not None:
        check_output(output, arguments.rows)
    plot = None if arguments.plot is None else Path(arguments.plot)
    if plot is not None:
        check_plot(plot, arguments.rows)
        figures = optional_package("matplotlib.figure", plot)
    index = _index_of(arguments)
    chosen = index.select_diverse(arguments.k, start=_start(arguments.start, index),
                                  radius=arguments.radius, progress=is_shown(arguments))
    with streams.written(output) as stream:
        WRITERS[kind](stream, chosen)
    if plot is not None:
        figure = figures.Figure(layout="constrained")
        _plot(figure.subplots(), chosen, index.metric)
        with replacing(plot) as stream:
            figure.savefig(stream, format=plot.suffix[1:])
    where = "" if output is None else f"{output}: "
    note(arguments, f"{where}{len(chosen.ids):,} of {counted(len(index), 'row')}; the last one's "
         f"{SCORE_NAMES[index.metric]} to the nearest before is {_last(chosen)}")
    return 0


def diameter(arguments: argparse.Namespace) -> int:
    """Print the two rows of a file or an index that are furthest apart."""
    index = _index_of(arguments)
    if len(index) < 2:
        raise ValueError(f"{arguments.rows}: expected at least two rows, got {len(index)}")
    score, a, b = index.diameter(threads=arguments.threads, progress=is_shown(arguments))
    name = SCORE_NAMES[index.metric]
    if arguments.json:
        print(json.dumps({name: score, "ids": [a, b]}, default=int))
    else:
        print(f"{name} {score:.8g} of {printable(a)} and {printable(b)}")
    return 0


def _start(text: str | None, index: Index) -> str | int | None:
    """An id as the index has them, a string or a number."""
    return text if text is None or has_strings(index) or not text.isdecimal() else int(text)


def _index_of(arguments: argparse.Namespace) -> Index:
    """The index of a file, or one of the vectors of a file."""
    if Path(arguments.rows).suffix == ".farann":
        return Index.load(arguments.rows)
    source = open_vectors(arguments.rows, max_bytes=arguments.max_bytes)
    index = Index(source.dim, arguments.metric)
    with blaming({"rows": source.path}, 0):
        index.add(source.read())
    return index


def _last(chosen: Selection) -> str:
    return f"{chosen.scores[-1]:.6g}" if len(chosen.scores) else "none"


def _lines(stream: IO[bytes], chosen: Selection) -> None:
    for id in chosen.ids:
        stream.write(f"{id}\n".encode())


def _csv(stream: IO[bytes], chosen: Selection) -> None:
    writer = csv_writer(stream)
    writer.writerow(["rank", "id", "score"])
    # The shortest digits that give the float32 back.
    writer.writerows(zip(range(1, len(chosen.ids) + 1), chosen.ids, map(str, chosen.scores),
                         strict=True))


def _json(stream: IO[bytes], chosen: Selection) -> None:
    """The first row's score is none, as there is no row before it."""
    scores = [score if np.isfinite(score) else None for score in shortest(chosen.scores)]
    found = {"ids": chosen.ids.tolist(), "scores": scores}
    stream.write((json.dumps(found, ensure_ascii=False) + "\n").encode())


def _parquet(stream: IO[bytes], chosen: Selection) -> None:
    arrow = optional_package("pyarrow", ".parquet")
    table = arrow.table({"rank": np.arange(1, len(chosen.ids) + 1),
                         "id": arrow.array(chosen.ids), "score": chosen.scores})
    optional_package("pyarrow.parquet", ".parquet").write_table(table, stream)


WRITERS: dict[str, Callable[[IO[bytes], Selection], None]] = {
    "npy": lambda stream, chosen: np.save(stream, storable(chosen.ids)),
    "txt": _lines, "csv": _csv, "parquet": _parquet, "json": _json}


def _plot(axes: Any, chosen: Selection, metric: str) -> None:
    axes.plot(np.arange(2, len(chosen.ids) + 1), chosen.scores[1:])
    axes.set_xlabel("rows chosen")
    axes.set_ylabel(f"{SCORE_NAMES[metric]} to the nearest row chosen before")
