"""Answers of searches, and selections, as tables and files."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from farann import Hits, Pairs, RangeHits, Selection
from farann.cli.terminal import STREAM, print_table
from farann.io.files import replacing
from farann.io.vector_content import optional_package

Answers = Iterator[Hits | RangeHits]
Table = dict[str, NDArray[Any]]

SCORE_NAMES = {"l2": "distance", "dot": "dot", "cosine": "cosine"}


def tables_of(answers: Answers) -> Iterator[Table]:
    """The columns of a table with a line for each hit, batch by batch."""
    done = 0
    for hits in answers:
        columns = hits.to_dict()
        yield {**columns, "query": columns["query"] + done}
        done += _queries_of(hits)


def _queries_of(hits: Hits | RangeHits) -> int:
    return len(hits.ids) if isinstance(hits, Hits) else len(hits.offsets) - 1


def print_answers(answers: Answers, metric: str, longest: int, n: int) -> None:
    """Print a line a hit; ids have up to `longest` digits, and there are n queries."""
    tables = tables_of(answers)
    first = next(tables)  # before the head, as this may be an error
    widths = max(5, len(str(n))), 8, max(12, longest + 2), 16
    print_table(["query", "rank", "id", SCORE_NAMES[metric]], widths,
                ((*place, f"{score:.5f}" if abs(score) < 1e8 else f"{score:.8g}")
                 for table in chain([first], tables)
                 for *place, score in zip(*table.values(), strict=True)))


def printed_scores(scores: NDArray[np.float32]) -> list[float]:
    """Numbers whose digits are the fewest that give the float32 back."""
    return [float(str(score)) for score in scores]


def write_json(stream: IO[bytes], content: dict[str, Any]) -> None:
    """Write a line of JSON."""
    stream.write((json.dumps(content, ensure_ascii=False) + "\n").encode())


def storable(ids: NDArray[Any]) -> NDArray[Any]:
    """Ids as .npz can hold them without pickling: strings, empty for padding."""
    if ids.dtype != object:
        return ids
    return np.array(["" if one is None else one for one in ids.ravel()], np.str_).reshape(ids.shape)


def _csv(stream: IO[bytes], tables: Iterable[Table]) -> None:
    for number, table in enumerate(tables):
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if number == 0:
            writer.writerow(table)
        # The shortest digits that give the float32 back.
        writer.writerows(zip(*(map(str, column) for column in table.values()), strict=True))
        stream.write(text.getvalue().encode())


def _parquet(stream: IO[bytes], tables: Iterable[Table]) -> None:
    arrow = optional_package("pyarrow", ".parquet")
    parquet = optional_package("pyarrow.parquet", ".parquet")
    writer = None
    for table in tables:
        made = arrow.table({name: column if column.dtype != object else arrow.array(
            column, arrow.string()) for name, column in table.items()})  # if there are none, too
        if writer is None:
            writer = parquet.ParquetWriter(stream, made.schema)
        writer.write_table(made)
    if writer is not None:
        writer.close()


def _jsonl(stream: IO[bytes], answers: Answers) -> None:
    query = 0
    for hits in answers:
        table, n = hits.to_dict(), _queries_of(hits)
        ends = np.searchsorted(table["query"], np.arange(1, n))
        for ids, scores in zip(np.split(table["id"], ends)[:n],
                               np.split(table["score"], ends)[:n], strict=True):
            write_json(stream, {"query": query, "ids": ids.tolist(),
                                "scores": printed_scores(scores)})
            query += 1


def _npz(stream: IO[bytes], answers: Answers) -> None:
    parts = list(answers)
    arrays: dict[str, Any] = {"ids": storable(np.concatenate([hits.ids for hits in parts])),
                              "scores": np.concatenate([hits.scores for hits in parts])}
    counts = [np.diff(hits.offsets) for hits in parts if isinstance(hits, RangeHits)]
    if counts:
        arrays["offsets"] = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
    np.savez(stream, **arrays)


WRITERS: dict[str, Callable[[IO[bytes], Answers], None]] = {
    "npz": _npz, "csv": lambda stream, answers: _csv(stream, tables_of(answers)), "jsonl": _jsonl,
    "parquet": lambda stream, answers: _parquet(stream, tables_of(answers))}


# Selections


def _lines(stream: IO[bytes], chosen: Selection) -> None:
    for id in chosen.ids:
        stream.write(f"{id}\n".encode())


def _json(stream: IO[bytes], chosen: Selection) -> None:
    """The first row's score is none, as there is no row before it."""
    write_json(stream, {"ids": chosen.ids.tolist(), "scores": [
        score if np.isfinite(score) else None for score in printed_scores(chosen.scores)]})


SELECTION_WRITERS: dict[str, Callable[[IO[bytes], Selection], None]] = {
    "npy": lambda stream, chosen: np.save(stream, storable(chosen.ids)), "txt": _lines,
    "csv": lambda stream, chosen: _csv(stream, [chosen.to_dict()]),
    "parquet": lambda stream, chosen: _parquet(stream, [chosen.to_dict()]), "json": _json}


PAIR_WRITERS: dict[str, Callable[[IO[bytes], Pairs], None]] = {
    "csv": lambda stream, found: _csv(stream, [found.to_dict()]),
    "parquet": lambda stream, found: _parquet(stream, [found.to_dict()]),
    "npz": lambda stream, found: np.savez(stream, ids=storable(found.ids.ravel()).reshape(-1, 2),
                                          scores=found.scores),
    "json": lambda stream, found: write_json(stream, {
        "ids": found.ids.tolist(), "scores": printed_scores(found.scores)})}


# Where to


@contextmanager
def written(path: Path | None) -> Iterator[IO[bytes]]:
    """A file that is replaced, or standard output."""
    if path is None:
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    else:
        with replacing(path) as stream:
            yield stream


def target(output: str | None, wanted: str | None, kinds: dict[str, Any], what: str,
           usual: str) -> tuple[Path | None, str]:
    """The file to write, None for standard output, and what: as --format says, or its name."""
    path = None if output in (None, STREAM) else Path(str(output))
    if wanted is not None or path is None:
        return path, wanted or usual
    if path.suffix[1:] not in kinds:
        listed = [f".{kind}" for kind in kinds]
        raise ValueError(f"{path}: unknown extension {path.suffix!r}; {what} are written as "
                         f"{', '.join(listed[:-1])} or {listed[-1]}")
    return path, path.suffix[1:]
