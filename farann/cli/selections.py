"""What ``farann select`` and ``farann diameter`` do."""

from __future__ import annotations

import argparse
import csv
import io
from pathlib import Path
from typing import Any

import numpy as np

from farann.cli.commands import (
    PLOTS,
    SCORE_NAMES,
    blaming,
    check_output,
    is_shown,
    note,
)
from farann.cli.names import storable
from farann.diverse.selection import Selection
from farann.index import Index
from farann.io.files import replacing
from farann.io.vector_content import optional_package
from farann.vectors import open_vectors

__all__ = ["diameter", "select"]

OUTPUTS = (".npy", ".txt", ".csv")


def select(arguments: argparse.Namespace) -> int:
    """Choose rows of a file or an index, and write their ids."""
    if arguments.k is None and arguments.radius is None:
        raise ValueError("give -k, how many rows to choose, or --radius")
    output = Path(arguments.output)
    if output.suffix not in OUTPUTS:
        raise ValueError(f"{output}: unknown extension {output.suffix!r}; ids are written as "
                         f"{', '.join(OUTPUTS)}")
    check_output(output, arguments.rows)
    plot = None if arguments.plot is None else Path(arguments.plot)
    if plot is not None:
        if plot.suffix not in PLOTS:
            raise ValueError(f"{plot}: unknown extension {plot.suffix!r}; plots are written as "
                             f"{', '.join(PLOTS)}")
        check_output(plot, arguments.rows)
        figures = optional_package("matplotlib.figure", plot)
    index = _index_of(arguments)
    chosen = index.select_diverse(arguments.k, start=arguments.start, radius=arguments.radius,
                                  progress=is_shown(arguments))
    with replacing(output) as stream:
        _write(stream, output.suffix, chosen)
    if plot is not None:
        figure = figures.Figure(layout="constrained")
        _plot(figure.subplots(), chosen, index.metric)
        with replacing(plot) as stream:
            figure.savefig(stream, format=plot.suffix[1:])
    note(arguments, f"{output}: {len(chosen.ids):,} of {len(index):,} rows; the last one's "
         f"{SCORE_NAMES[index.metric]} to the nearest before is {_last(chosen)}")
    return 0


def diameter(arguments: argparse.Namespace) -> int:
    """Print the two rows of a file or an index that are furthest apart."""
    index = _index_of(arguments)
    if len(index) < 2:
        raise ValueError(f"{arguments.rows}: expected at least two rows, got {len(index)}")
    score, a, b = index.diameter(threads=arguments.threads, progress=is_shown(arguments))
    print(f"{SCORE_NAMES[index.metric]} {score:.8g} of {a} and {b}")
    return 0


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


def _write(stream: Any, suffix: str, chosen: Selection) -> None:
    if suffix == ".npy":
        np.save(stream, storable(chosen.ids))
        return
    text = io.TextIOWrapper(stream, "utf-8", newline="")
    if suffix == ".txt":
        text.writelines(f"{id}\n" for id in chosen.ids)
    else:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["rank", "id", "score"])
        # The shortest digits that give the float32 back.
        writer.writerows(zip(range(1, len(chosen.ids) + 1), chosen.ids,
                             (str(score) for score in chosen.scores), strict=True))
    text.detach()  # what it holds is written; the stream stays open


def _plot(axes: Any, chosen: Selection, metric: str) -> None:
    axes.plot(np.arange(2, len(chosen.ids) + 1), chosen.scores[1:])
    axes.set_xlabel("rows chosen")
    axes.set_ylabel(f"{SCORE_NAMES[metric]} to the nearest row chosen before")
