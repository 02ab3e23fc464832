"""What the commands do; `farann.cli` says what they are called with."""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from farann import BeyondHits, Hits, Index
from farann.cli import names
from farann.contract.checks import to_new_ids
from farann.contract.stop_rule import to_limits
from farann.io.files import replacing, require_regular
from farann.io.vector_content import optional_package
from farann.vectors import VectorFile, open_vectors, read_id_lists, read_ids, split_name

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["build", "info", "search", "tune"]

# Queries asked at a time: enough for all threads, few enough for the progress bar to move.
BATCH = 1024
SCORE_NAMES = {"l2": "distance", "dot": "dot", "cosine": "cosine"}

LIMITS = ("recall", "epsilon", "budget")
PLOTS = (".png", ".svg", ".pdf")

Answers = Iterator[Hits | BeyondHits]


def build(arguments: argparse.Namespace) -> int:
    """Make an index of a file of vectors."""
    source = open_vectors(arguments.vectors, max_bytes=arguments.max_bytes)
    if source.rows == 0:
        raise ValueError(f"{source.path}: expected vectors, got none")
    output = Path(arguments.output)
    check_output(output, arguments.vectors, arguments.ids, arguments.queries, arguments.groups)
    groups = arguments.groups and _labels(arguments, "groups", source.rows, "rows")
    ids = None if arguments.ids is None else _new_ids(arguments, source.rows)
    sample = None if arguments.queries is None else _sample(arguments, source.dim)
    began = time.perf_counter()
    index = Index(source.dim, arguments.metric, dtype=arguments.dtype or source.kept_as,
                  codes=arguments.codes, cells=arguments.cells,
                  keep_vectors=not arguments.no_vectors, seed=arguments.seed,
                  threads=arguments.threads)
    # The rows stay in their file, or in a copy beside the output: memory is for the codes.
    rows = source.map(output.parent, dtype=index.dtype, unit=index.metric == "cosine",
                      progress=is_shown(arguments))
    with blaming({"rows": source.path, "ids": arguments.ids}, 0):
        index.add(rows, ids, groups=groups, copy=False)
    with blaming({"queries": arguments.queries}, 0):
        index.build(queries=sample, progress=is_shown(arguments))
    index.save(output)
    seconds = time.perf_counter() - began
    note(
        arguments,
        f"{output}: {len(index):,} rows of dimension {index.dim}, {index.metric}, "
        f"{_size(output.stat().st_size)}, in {seconds:.1f} s",
    )
    return 0


def _new_ids(arguments: argparse.Namespace, n: int) -> NDArray[Any] | list[str]:
    """Ids of the n rows to come."""
    ids = names.read_any_ids(arguments.ids, arguments.max_bytes)
    kind = "strings" if isinstance(ids, list) else str(ids.dtype)
    if len(ids) != n or kind not in ("strings", "int64"):
        raise ValueError(f"{arguments.ids}: expected an integer id for each of {n} rows, "
                         f"got {len(ids)} of {kind}")
    with blaming({"ids": arguments.ids}, 0):
        return ids if isinstance(ids, list) else to_new_ids("ids", ids, n)


def _labels(arguments: argparse.Namespace, name: str, n: int,
            what: str) -> NDArray[Any] | list[str]:
    """Labels of groups, one for each of n rows or queries."""
    file = getattr(arguments, name)
    labels = names.read_any_ids(file, arguments.max_bytes, name)
    if len(labels) != n or (not isinstance(labels, list) and labels.dtype != np.int64):
        kind = "strings" if isinstance(labels, list) else str(labels.dtype)
        raise ValueError(f"{file}: expected a label for each of {n} {what}, integers or strings, "
                         f"got {len(labels)} of {kind}")
    return labels


def search(arguments: argparse.Namespace) -> int:
    """Answer the queries of a file."""
    output = _checked_output(arguments)
    index = Index.load(arguments.index, mmap=arguments.mmap)
    queries = open_vectors(arguments.queries, default="test", max_bytes=arguments.max_bytes)
    if index.dim is None:
        raise ValueError(f"{arguments.index}: the index is empty")
    if queries.dim != index.dim:
        raise ValueError(f"{queries.path}: expected queries of dimension {index.dim}, as "
                         f"{arguments.index} has, got {queries.dim}")
    exclude, allowed = _filters(arguments, index, queries.rows)
    each = {name: _labels(arguments, name, queries.rows, "queries")
            for name in ("within", "outside") if getattr(arguments, name) is not None}
    if exclude is not None:
        each["exclude"] = exclude
    seconds = 0.0

    def answers(bar: tqdm[NoReturn] | None) -> Answers:
        nonlocal seconds
        ask = _question(arguments, index, allowed)
        done = 0
        for batch in _batches(queries):
            chosen = {name: part[done : done + len(batch)] for name, part in each.items()}
            began = time.perf_counter()
            with blaming({"queries": queries.path, "allowed": arguments.allowed,
                          "within": arguments.within, "outside": arguments.outside}, done):
                hits = ask(batch, chosen)
            seconds += time.perf_counter() - began
            done += len(batch)
            if bar is not None:
                bar.update(len(batch))
            yield hits

    if output is None:  # the table itself shows that things move
        _print_table(answers(None), index, queries.rows)
    else:
        with _progress(arguments, queries.rows, "queries") as bar:
            write = _write_npz if output.suffix == ".npz" else _write_csv
            write(output, answers(bar))
    a_query = f", {seconds / queries.rows * 1e6:,.0f} us each" if queries.rows else ""
    note(arguments, f"{queries.rows:,} queries of {len(index):,} rows in {seconds:.3f} s{a_query}")
    return 0


def _filters(arguments: argparse.Namespace, index: Index, n: int) -> tuple[Any, Any]:
    """What to leave out for each of n queries, and what may be found."""
    limit, exclude, allowed = arguments.max_bytes, arguments.exclude, arguments.allowed
    if _has_strings(index):
        return (exclude and names.read_name_lists(exclude, n),
                allowed and names.read_allowed(allowed, limit))
    return (exclude and read_id_lists(exclude, n, max_bytes=limit),
            allowed and read_ids(allowed, max_bytes=limit))


def _has_strings(index: Index) -> bool:
    return index._store is not None and index._store.labels is not None


def _checked_output(arguments: argparse.Namespace) -> Path | None:
    """Where answers go, None for the terminal; refuses arguments that don't go together."""
    if arguments.beyond is not None and (arguments.nearest or arguments.k is not None):
        raise ValueError("--beyond finds all rows beyond the radius; -k and --nearest don't apply")
    limits = [f"--{name}" for name in LIMITS if getattr(arguments, name) is not None]
    if limits and arguments.beyond is not None:
        raise ValueError(f"{limits[0]} is for the best rows; --beyond is exact")
    to_limits(arguments.recall, arguments.epsilon, arguments.budget)
    output = None if arguments.output is None else Path(arguments.output)
    if output is not None:
        if output.suffix not in (".npz", ".csv"):
            raise ValueError(f"{output}: unknown extension {output.suffix!r}; "
                             f"results are written as .npz or .csv")
        check_output(output, arguments.index, arguments.queries, arguments.exclude,
                     arguments.allowed, arguments.within, arguments.outside)
    return output


def tune(arguments: argparse.Namespace) -> int:
    """Measure recall and cost, and keep the table in the index file."""
    plot = None if arguments.plot is None else Path(arguments.plot)
    if plot is not None:
        if plot.suffix not in PLOTS:
            raise ValueError(f"{plot}: unknown extension {plot.suffix!r}; plots are written as "
                             f"{', '.join(PLOTS)}")
        check_output(plot, arguments.index, arguments.queries)
        figures = optional_package("matplotlib.figure", plot)
    index = Index.load(arguments.index)
    sample = None
    if arguments.queries is not None and index.dim is not None:
        sample = _sample(arguments, index.dim)
    with blaming({"queries": arguments.queries, "tune": arguments.index}, 0):
        table = index.tune(sample, arguments.k)
    index.save(arguments.index)
    print(table)
    if plot is not None:
        figure = figures.Figure(layout="constrained")
        table.plot(figure.subplots())
        with replacing(plot) as stream:
            figure.savefig(stream, format=plot.suffix[1:])
    return 0


def info(arguments: argparse.Namespace) -> int:
    """Tell what is in an index file."""
    # Without mmap every byte is read, and checked.
    index = Index.load(arguments.index, mmap=not arguments.verify)
    stats = index.stats()
    strings = _has_strings(index)
    ids = np.empty(0, np.int64) if strings else index.ids
    facts: dict[str, Any] = {
        "file": str(arguments.index),
        "file_bytes": os.path.getsize(arguments.index),
        "verified": arguments.verify,
        **{key: stats[key] for key in ("rows", "dim", "metric", "dtype", "codes", "keep_vectors",
                                       "codes_recall", "built", "bytes")},
        "smallest_id": int(ids.min()) if len(ids) else None,
        "largest_id": int(ids.max()) if len(ids) else None,
    }
    if arguments.json:
        print(json.dumps(facts, indent=2))
        return 0
    parts = ", ".join(f"{_size(size)} {part}" for part, size in facts["bytes"].items() if size)
    lines = {
        "rows": f"{facts['rows']:,}",
        "dimension": facts["dim"],
        "metric": facts["metric"],
        "numbers": facts["dtype"],
        "codes": facts["codes"],
        "vectors": "kept" if facts["keep_vectors"] else (
            "dropped" if facts["codes_recall"] is None
            else f"dropped; all codes find {facts['codes_recall']:.1%} of the ten furthest"),
        "ids": "strings" if strings else f"{ids.min()} to {ids.max()}" if len(ids) else "none",
        "file": _size(facts["file_bytes"]),
        "memory": parts or "none",
        "built": "yes" if facts["built"] else "no, the first search does it",
        "checked": "every byte" if arguments.verify else "the structure (--verify checks all)",
    }
    print(arguments.index)
    for label, value in lines.items():
        print(f"  {label:<11}{value}")
    return 0


# Parts of a search


def _question(
    arguments: argparse.Namespace, index: Index, allowed: NDArray[Any] | None
) -> Callable[[NDArray[Any], Any], Hits | BeyondHits]:
    """What to ask the index about a batch of queries."""
    options: dict[str, Any] = {"allowed": allowed, "threads": arguments.threads}
    if arguments.beyond is not None:
        return lambda q, each: index.search_beyond(q, arguments.beyond, **each, **options)
    search = index.search_nearest if arguments.nearest else index.search_furthest
    k = 10 if arguments.k is None else arguments.k
    for name in LIMITS:
        if getattr(arguments, name) is not None:
            options[name] = getattr(arguments, name)
    return lambda q, each: search(q, k, **each, **options)


def _sample(arguments: argparse.Namespace, dim: int) -> NDArray[Any]:
    """All queries of a file."""
    source = open_vectors(arguments.queries, default="test", max_bytes=arguments.max_bytes)
    if source.dim != dim:
        raise ValueError(f"{source.path}: expected queries of dimension {dim}, as the rows have, "
                         f"got {source.dim}")
    return source.read()


def _batches(queries: VectorFile) -> Iterator[NDArray[Any]]:
    if queries.rows == 0:  # asking nothing still gives arrays of the right shape
        yield queries.read()
    for block in queries.blocks():
        for start in range(0, len(block), BATCH):
            yield block[start : start + BATCH]


def _per_query(answers: Answers) -> Iterator[tuple[NDArray[np.float32], NDArray[Any]]]:
    """Scores and ids of each query, without padding."""
    for hits in answers:
        if isinstance(hits, BeyondHits):
            for start, stop in pairwise(hits.offsets):
                yield hits.scores[start:stop], hits.ids[start:stop]
        else:
            for scores, ids, found in zip(*hits, hits.found, strict=True):
                yield scores[found], ids[found]


def _print_table(answers: Answers, index: Index, n: int) -> None:
    longest = 0 if _has_strings(index) else index.ids.max(initial=0)
    widths = max(5, len(str(n))), max(12, len(str(longest)) + 2)
    name = SCORE_NAMES[index.metric]
    found = _per_query(answers)
    first = list(islice(found, 1))  # before the head, as this may be an error
    print(f"{'query':>{widths[0]}}{'rank':>8}{'id':>{widths[1]}}{name:>16}")
    for query, (scores, ids) in enumerate(chain(first, found)):
        for rank, (score, id) in enumerate(zip(scores, ids, strict=True), 1):
            number = f"{score:.5f}" if abs(score) < 1e8 else f"{score:.8g}"
            print(f"{query:>{widths[0]}}{rank:>8}{id!s:>{widths[1]}}{number:>16}")


def _write_csv(path: Path, answers: Answers) -> None:
    with replacing(path) as stream:
        text = io.TextIOWrapper(stream, "utf-8", newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["query", "rank", "id", "score"])
        for query, (scores, ids) in enumerate(_per_query(answers)):
            # The shortest digits that give the float32 back.
            numbers = (str(score) for score in scores)
            writer.writerows(zip([query] * len(ids), range(1, len(ids) + 1), ids, numbers,
                                 strict=True))
        text.detach()  # what it holds is written; the stream stays open


def _write_npz(path: Path, answers: Answers) -> None:
    parts = list(answers)
    arrays: dict[str, Any] = {
        "scores": np.concatenate([hits.scores for hits in parts]),
        "ids": names.storable(np.concatenate([hits.ids for hits in parts])),
    }
    counts = [np.diff(hits.offsets) for hits in parts if isinstance(hits, BeyondHits)]
    if counts:
        arrays["offsets"] = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
    with replacing(path) as stream:
        np.savez(stream, **arrays)


# What is said beside the results


def is_shown(arguments: argparse.Namespace) -> bool:
    return not arguments.quiet and sys.stderr.isatty()


def _progress(arguments: argparse.Namespace, total: int, unit: str) -> tqdm[NoReturn]:
    from tqdm import tqdm

    return tqdm(total=total, unit=f" {unit}", unit_scale=total > 99_999, leave=False,
                disable=not is_shown(arguments))


def note(arguments: argparse.Namespace, text: str) -> None:
    if not arguments.quiet:
        sys.stdout.flush()  # keeps the order where both go to one place
        print(text, file=sys.stderr)


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            break
        count /= 1000
    else:
        unit = "GB"
    return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"


@contextlib.contextmanager
def blaming(files: Mapping[str, Path | str | None], done: int) -> Iterator[None]:
    """Let errors about an argument speak of the file that it came from."""
    try:
        yield
    except ValueError as error:
        argument, _, text = str(error).partition(": ")
        if files.get(argument) is None:
            raise
        counted = f", counting from {done}" if done and " row " in text else ""
        raise ValueError(f"{files[argument]}: {text}{counted}") from error


def check_output(path: Path, *inputs: str | None) -> None:
    """Refuse now what would fail after minutes of work, or destroy what was read."""
    if not path.parent.is_dir():
        raise ValueError(f"{path}: there is no folder {str(path.parent)!r} to write to")
    if path.exists():
        require_regular(path)
    sources = [split_name(file)[0] for file in inputs if file is not None]
    if path.exists() and any(source.exists() and path.samefile(source) for source in sources):
        raise ValueError(f"{path}: this would overwrite a file that is read")
