"""Answers of searches, and selections, as tables and files, and parts of them beside the file."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
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
from farann.io.files import open_regular, replacing
from farann.io.vector_content import optional_package
from farann.io.vector_formats import FORMATS, look

Answers = Iterator[Hits | RangeHits]
AnyAnswer = Hits | RangeHits | Selection | Pairs
Table = dict[str, NDArray[Any]]

_MOST_FIXED = 1 << 28  # bytes of strings in an array of numpy
_PART_NAME = re.compile(r"[0-9a-f]{32}-\d{6,}\.npz")  # a fingerprint, and the number of a part
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


# ---- parts of the output of a long command, from which an interrupted run continues ----


def fingerprint_of(files: Iterable[Path], facts: Any) -> str:
    """A digest of the bytes of files, and of what else the output depends on."""
    digest = hashlib.blake2b(json.dumps(facts).encode(), digest_size=16)
    for path in files:
        with open_regular(path) as stream:
            digest.update(hashlib.file_digest(stream, "blake2b").digest())
    return digest.hexdigest()


class Parts:
    """Answers to batches of queries, as files in the folder OUTPUT.parts."""

    def __init__(self, output: Path, fingerprint: str) -> None:
        self._folder, self._fingerprint = output.with_name(f"{output.name}.parts"), fingerprint

    def load(self, number: int, shape: tuple[int, int]) -> Hits | None:
        """The answers of a part; None if there are none, of this shape and undamaged."""
        arrays = []
        for name, dtype in (("ids", np.int64), ("scores", np.float32), ("keys", np.float64)):
            try:
                content = look(self._path(number), name, name)
                if content.shape != shape or content.dtype != dtype:
                    return None
                arrays.append(np.concatenate([np.empty((0, shape[1]), dtype),
                                              *content.read(max(1, shape[0]))]))
            except (OSError, ValueError):
                return None
        return Hits(*arrays)

    def keep(self, number: int, hits: Hits) -> None:
        """Write a part, whole or not at all."""
        self._folder.mkdir(exist_ok=True)
        with replacing(self._path(number)) as stream:
            WRITERS["npz"](stream, [hits])

    def remove(self) -> None:
        """Remove all parts, of other fingerprints too, and the folder if nothing else is in it."""
        for path in self._folder.glob("*.npz"):  # none where there is no folder
            if _PART_NAME.fullmatch(path.name):
                path.unlink(missing_ok=True)
        with suppress(OSError):
            self._folder.rmdir()

    def _path(self, number: int) -> Path:
        return self._folder / f"{self._fingerprint}-{number:06}.npz"
