"""Answers of searches, as a table or a file."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from itertools import chain, islice, pairwise
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from farann import BeyondHits, Hits
from farann.cli import names
from farann.cli.terminal import print_table
from farann.io.vector_content import optional_package

Answers = Iterator[Hits | BeyondHits]

SCORE_NAMES = {"l2": "distance", "dot": "dot", "cosine": "cosine"}


def per_query(answers: Answers) -> Iterator[tuple[NDArray[np.float32], NDArray[Any]]]:
    """Scores and ids of each query, without padding."""
    for hits in answers:
        if isinstance(hits, BeyondHits):
            for start, stop in pairwise(hits.offsets):
                yield hits.scores[start:stop], hits.ids[start:stop]
        else:
            for scores, ids, found in zip(*hits, hits.found, strict=True):
                yield scores[found], ids[found]


def print_answers(answers: Answers, metric: str, longest: int, n: int) -> None:
    """Print a line a hit; ids have up to `longest` digits, and there are n queries."""
    found = per_query(answers)
    first = list(islice(found, 1))  # before the head, as this may be an error
    widths = max(5, len(str(n))), 8, max(12, longest + 2), 16
    print_table(["query", "rank", "id", SCORE_NAMES[metric]], widths,
                ((query, rank, id, f"{score:.5f}" if abs(score) < 1e8 else f"{score:.8g}")
                 for query, (scores, ids) in enumerate(chain(first, found))
                 for rank, (score, id) in enumerate(zip(scores, ids, strict=True), 1)))


def _csv(stream: IO[bytes], answers: Answers) -> None:
    writer = csv_writer(stream)
    writer.writerow(["query", "rank", "id", "score"])
    for query, (scores, ids) in enumerate(per_query(answers)):
        # The shortest digits that give the float32 back.
        writer.writerows(zip([query] * len(ids), range(1, len(ids) + 1), ids, map(str, scores),
                             strict=True))


def csv_writer(stream: IO[bytes]) -> Any:
    """Writes lines of CSV to a stream of bytes."""
    class Encoding:
        def write(self, text: str) -> None:
            stream.write(text.encode())

    return csv.writer(Encoding(), lineterminator="\n")


def shortest(scores: NDArray[np.float32]) -> list[float]:
    """Numbers whose digits are the fewest that give the float32 back."""
    return [float(str(score)) for score in scores]


def _jsonl(stream: IO[bytes], answers: Answers) -> None:
    for query, (scores, ids) in enumerate(per_query(answers)):
        line = {"query": query, "ids": ids.tolist(), "scores": shortest(scores)}
        stream.write((json.dumps(line, ensure_ascii=False) + "\n").encode())


def _npz(stream: IO[bytes], answers: Answers) -> None:
    parts = list(answers)
    arrays: dict[str, Any] = {
        "scores": np.concatenate([hits.scores for hits in parts]),
        "ids": names.storable(np.concatenate([hits.ids for hits in parts])),
    }
    counts = [np.diff(hits.offsets) for hits in parts if isinstance(hits, BeyondHits)]
    if counts:
        arrays["offsets"] = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
    np.savez(stream, **arrays)


def _parquet(stream: IO[bytes], answers: Answers) -> None:
    """A row a hit; a batch of queries is written at a time."""
    arrow = optional_package("pyarrow", ".parquet")
    parquet = optional_package("pyarrow.parquet", ".parquet")
    writer, query = None, 0
    for hits in answers:
        found = list(per_query(iter([hits])))
        counts = [len(ids) for _, ids in found]
        columns = {
            "query": np.repeat(np.arange(query, query + len(found)), counts),
            "rank": np.concatenate([np.empty(0, np.int64),
                                    *(np.arange(1, count + 1) for count in counts)]),
            "id": arrow.array(np.concatenate([hits.ids.ravel()[:0], *(ids for _, ids in found)]),
                              arrow.string() if hits.ids.dtype == object else arrow.int64()),
            "score": np.concatenate([np.empty(0, np.float32), *(scores for scores, _ in found)]),
        }
        table = arrow.table(columns)
        if writer is None:
            writer = parquet.ParquetWriter(stream, table.schema)
        writer.write_table(table)
        query += len(found)
    if writer is not None:
        writer.close()


WRITERS: dict[str, Callable[[IO[bytes], Answers], None]] = {
    "npz": _npz, "csv": _csv, "jsonl": _jsonl, "parquet": _parquet}
