"""Answers of searches, and selections, as tables and files."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, repeat
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from farann import Hits, Pairs, RangeHits, Selection
from farann.cli.streams import data_output, without_controls
from farann.cli.terminal import print_table
from farann.contract.checks import shown
from farann.io.files import replacing
from farann.io.vector_content import optional_package
from farann.io.vector_formats import FORMATS

Answers = Iterator[Hits | RangeHits]
AnyAnswer = Hits | RangeHits | Selection | Pairs
Table = dict[str, NDArray[Any]]

_MOST_FIXED = 1 << 28  # bytes of strings in an array of numpy
SCORE_NAMES = {"l2": "distance", "dot": "dot", "cosine": "cosine"}


def print_answers(answers: Answers, metric: str, longest: int, n: int, *, grouped: bool) -> None:
    """Print a line a hit; ids have up to `longest` digits, and there are n queries. `grouped`: hits
    have groups."""
    widths = max(5, len(str(n))), 8, max(12, longest + 2), 16, *[22] * grouped
    print_table(["query", "rank", "id", SCORE_NAMES[metric], *["group"] * grouped], widths,
                ((*place, f"{score:.5f}" if abs(score) < 1e8 else f"{score:.8g}", *group)
                 for table in _tables_of(answers)
                 for *place, score, group in zip(
                     *(table[name] for name in ("query", "rank", "id", "score")),
                     zip(table["group"], strict=True) if grouped else repeat(()), strict=False)))


def _tables_of(answers: Iterable[AnyAnswer]) -> Iterator[Table]:
    """The columns of tables with a line a hit, batch by batch."""
    done = 0
    for part in answers:
        columns = part.to_dict()
        if "query" in columns:
            columns["query"] += done
        done += _queries_of(part)
        yield columns


def _queries_of(answer: AnyAnswer) -> int:
    return len(answer.offsets) - 1 if isinstance(answer, RangeHits) else len(answer.ids)


def _storable(ids: NDArray[Any]) -> NDArray[Any]:
    """Ids as numpy's files can hold them without pickling: strings, empty for padding."""
    if ids.dtype != object:
        return ids
    # Each takes as much as the longest.
    took = 4 * ids.size * max((len(one) for one in ids.ravel() if one is not None), default=0)
    if took > _MOST_FIXED:
        raise ValueError(f"ids: numpy's files would take {took} bytes for ids of this length; "
                         "write .jsonl, .csv or .parquet")
    return np.array(["" if one is None else one for one in ids.ravel()], np.str_).reshape(ids.shape)


def _csv(stream: IO[bytes], answers: Iterable[AnyAnswer]) -> None:
    # Python quotes the characters of the line end alone, and readers take \r for one, too.
    writer = csv.writer(SimpleNamespace(
        write=lambda row: stream.write(f"{row[:-2]}\n".encode())), lineterminator="\r\n")
    for number, table in enumerate(_tables_of(answers)):
        if number == 0:
            writer.writerow(table)
        # The shortest digits that give the float32 back.
        writer.writerows(zip(*(map(str, column) for column in table.values()), strict=True))


def _parquet(stream: IO[bytes], answers: Iterable[AnyAnswer]) -> None:
    arrow = optional_package("pyarrow", ".parquet")
    parquet = optional_package("pyarrow.parquet", ".parquet")
    tables = (arrow.table({
        name: column if column.dtype != object else arrow.array(column, arrow.string())
        for name, column in table.items()}) for table in _tables_of(answers))
    first = next(tables)
    with parquet.ParquetWriter(stream, first.schema) as writer:
        for table in chain([first], tables):
            writer.write_table(table)


def _jsonl(stream: IO[bytes], answers: Iterable[AnyAnswer]) -> None:
    """A line for each query, or one for all rows chosen or pairs."""
    query = 0
    for part in answers:
        if not isinstance(part, Hits | RangeHits):
            _write_json(stream, part.ids, part.scores)
            continue
        table, n = part.to_dict(), _queries_of(part)
        ends = np.searchsorted(table["query"], np.arange(1, n))
        for some in zip(*(np.split(column, ends)[:n] for column in table.values()), strict=True):
            of_query = dict(zip(table, some, strict=True))
            groups = {"groups": of_query["group"].tolist()} if "group" in table else None
            _write_json(stream, of_query["id"], of_query["score"], groups, query=query)
            query += 1


def _write_json(stream: IO[bytes], ids: NDArray[Any], scores: NDArray[Any],
                groups: dict[str, Any] | None = None, **more: int) -> None:
    # The fewest digits that give the float32 back; none where no row is before the first.
    content = {**more, "ids": ids.tolist(), "scores": [
        float(str(score)) if np.isfinite(score) else None for score in scores], **(groups or {})}
    text = json.dumps(content, ensure_ascii=False)
    if not text.isprintable():  # JSON itself escapes but half of the control characters
        text = "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in text)
    stream.write((text + "\n").encode())


def _npz(stream: IO[bytes], answers: Iterable[AnyAnswer]) -> None:
    parts = list(answers)
    arrays: dict[str, Any] = {"ids": _storable(np.concatenate([part.ids for part in parts])),
                              "scores": np.concatenate([part.scores for part in parts])}
    for name in ("groups", "keys"):
        if getattr(parts[0], name, None) is not None:
            arrays[name] = _storable(np.concatenate([getattr(part, name) for part in parts]))
    counts = [np.diff(part.offsets) for part in parts if isinstance(part, RangeHits)]
    if counts:
        arrays["offsets"] = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
    np.savez(stream, **arrays)


def _npy(stream: IO[bytes], answers: Iterable[AnyAnswer]) -> None:
    for part in answers:
        np.save(stream, _storable(part.ids))


def _ivecs(stream: IO[bytes], answers: Iterable[AnyAnswer]) -> None:
    for part in answers:
        FORMATS[".ivecs"].write(stream, part.ids, None)


def _txt(stream: IO[bytes], answers: Iterable[AnyAnswer]) -> None:
    for part in answers:
        for id in part.ids:
            if isinstance(id, str) and ("\n" in id or id.endswith("\r")):
                raise ValueError(f"ids: expected ones of a line each for text, got {shown(id)}; "
                                 "write .csv, .parquet or .json")
            stream.write(f"{id}\n".encode())


WRITERS: dict[str, Callable[[IO[bytes], Iterable[AnyAnswer]], None]] = {
    "npz": _npz, "npy": _npy, "txt": _txt, "csv": _csv, "parquet": _parquet, "jsonl": _jsonl,
    "json": _jsonl, "ivecs": _ivecs}


def write(path: Path | None, kind: str, answers: Iterable[AnyAnswer]) -> None:
    """Write a file, replacing it, or to standard output."""
    if path is not None:
        with replacing(path) as file:
            WRITERS[kind](file, answers)
    else:
        stream = data_output(binary=kind in ("npz", "npy", "parquet"))
        WRITERS[kind](stream, answers)
        stream.flush()


def print_ids(ids: NDArray[Any]) -> int:
    """Print ids, a line each; returns how many have characters that are escaped."""
    stream, changed = data_output(binary=False), 0
    for id in map(str, ids):
        text = without_controls(id)
        changed += text != id
        stream.write(f"{text}\n".encode())
    stream.flush()
    return changed
