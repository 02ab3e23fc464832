"""What the commands do; `farann.cli` says what they are called with."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from farann import BeyondHits, Hits, Index
from farann.cli import names, streams
from farann.cli.answers import WRITERS, Answers, print_answers
from farann.cli.terminal import counted, is_shown, note, print_facts, print_table, say, size
from farann.cli.wording import blaming, option_of
from farann.contract.checks import to_new_ids
from farann.contract.stop_rule import to_limits
from farann.io.files import replacing, require_regular
from farann.io.text import SEPARATORS
from farann.io.vector_content import optional_package
from farann.runtime.progress import build_steps, shown, told
from farann.tuning.table import Tuning, cells_of, unit_of
from farann.vectors import VectorFile, open_vectors, read_id_lists, read_ids, split_name

__all__ = ["build", "info", "search", "tune"]

# Queries asked at a time: enough for all threads, few enough for the progress bar to move.
BATCH = 1024
LIMITS = ("recall", "epsilon", "budget", "seconds")
PLOTS = (".png", ".svg", ".pdf")


def build(arguments: argparse.Namespace) -> int:
    """Make an index of a file of vectors."""
    source = open_vectors(arguments.vectors, max_bytes=arguments.max_bytes)
    if source.rows == 0:
        raise ValueError(f"{source.path}: expected vectors, got none")
    if arguments.output == streams.STREAM:
        raise ValueError("--output: an index is written to a file, not to standard output")
    output = Path(arguments.output)
    check_output(output, arguments.vectors, arguments.ids, arguments.queries, arguments.groups)
    groups = arguments.groups and _labels(arguments, "groups", source.rows, "row")
    ids = None if arguments.ids is None else _new_ids(arguments, source.rows)
    sample = None if arguments.queries is None else _sample(arguments, source.dim)
    began = time.perf_counter()
    index = Index(source.dim, arguments.metric, dtype=arguments.dtype or source.kept_as,
                  codes=arguments.codes, cells=arguments.cells,
                  keep_vectors=not arguments.no_vectors, seed=arguments.seed,
                  threads=arguments.threads)
    with shown(is_shown(arguments), build_steps()) as progress:
        # The rows stay in their file, or in a copy beside the output: memory is for the codes.
        rows = source.map(output.parent, dtype=index.dtype, unit=index.metric == "cosine",
                          progress=progress)
        with blaming({"rows": source.path, "ids": arguments.ids}, 0):
            index.add(rows, ids, groups=groups, copy=False)
        with blaming({"queries": arguments.queries}, 0):
            index.build(queries=sample, progress=progress)
        index.save(output)
    seconds, written = time.perf_counter() - began, output.stat().st_size
    if arguments.json:
        _print_json({"file": str(output), "file_bytes": written, "rows": len(index),
                     "dim": index.dim, "metric": index.metric, "seconds": seconds})
    else:
        note(arguments, f"{output}: {counted(len(index), 'row')} of dimension {index.dim}, "
             f"{index.metric}, {size(written)}, in {seconds:.1f} s")
    return 0


def _print_json(facts: dict[str, Any]) -> None:
    print(json.dumps(facts, indent=2))


def _new_ids(arguments: argparse.Namespace, n: int) -> NDArray[Any] | list[str]:
    """Ids of the n rows to come."""
    ids = _names(arguments.ids, arguments, "ids", f"an id for each row ({n})", n)
    with blaming({"ids": arguments.ids}, 0):
        return ids if isinstance(ids, list) else to_new_ids("ids", ids, n)


def _labels(arguments: argparse.Namespace, name: str, n: int,
            what: str) -> NDArray[Any] | list[str]:
    """Labels of groups, one for each of n rows or queries."""
    return _names(getattr(arguments, name), arguments, name, f"a label for each {what} ({n})", n)


def _names(file: str, arguments: argparse.Namespace, default: str, wanted: str,
           n: int) -> NDArray[Any] | list[str]:
    """n integers or strings of a file; `default` is the column to take where there are several."""
    found = names.read_any_ids(file, arguments.max_bytes, default)
    kind = "strings" if isinstance(found, list) else str(found.dtype)
    if len(found) != n or kind not in ("strings", "int64"):
        named = kind == "strings" and len(found) == n + 1
        raise ValueError(f"{file}: expected {wanted}, integers or strings, got {len(found)} of "
                         f"{kind}" + ("; FILE:NAME says that the first line is a name" if named
                                      and Path(file).suffix in SEPARATORS else ""))
    return found


def search(arguments: argparse.Namespace) -> int:
    """Answer the queries of a file."""
    kind = _checked_output(arguments)
    index = Index.load(arguments.index, mmap=arguments.mmap)
    queries = open_vectors(arguments.queries, default="test", max_bytes=arguments.max_bytes)
    if index.dim is None:
        raise ValueError(f"{arguments.index}: the index is empty")
    if queries.dim != index.dim:
        raise ValueError(f"{queries.path}: expected queries of dimension {index.dim}, as "
                         f"{arguments.index} has, got {queries.dim}")
    exclude, allowed = _filters(arguments, index, queries.rows)
    each = {name: _labels(arguments, name, queries.rows, "query")
            for name in ("within", "outside") if getattr(arguments, name) is not None}
    if exclude is not None:
        each["exclude"] = exclude
    seconds = 0.0

    def answers(advance: Callable[[int], None]) -> Answers:
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
            advance(len(batch))
            yield hits

    if kind == "table":  # which itself shows that things move
        longest = 0 if has_strings(index) else len(str(index.ids.max(initial=0)))
        print_answers(answers(lambda more: None), index.metric, longest, queries.rows)
    else:
        with (told("queries", queries.rows, is_shown(arguments)) as advance,
              streams.written(streams.place_of(arguments.output)) as stream):
            WRITERS[kind](stream, answers(advance))
    a_query = f", {seconds / queries.rows * 1e6:,.0f} us each" if queries.rows else ""
    note(arguments, f"{counted(queries.rows, 'query', 'queries')} of {counted(len(index), 'row')} "
         f"in {seconds:.3f} s{a_query}")
    return 0


def _filters(arguments: argparse.Namespace, index: Index, n: int) -> tuple[Any, Any]:
    """The rows to exclude for each of n queries, and the rows that may be found."""
    limit, exclude, allowed = arguments.max_bytes, arguments.exclude, arguments.allowed
    if has_strings(index):
        return (exclude and names.read_name_lists(exclude, n),
                allowed and names.read_allowed(allowed, limit))
    return (exclude and read_id_lists(exclude, n, max_bytes=limit),
            allowed and read_ids(allowed, max_bytes=limit))


def has_strings(index: Index) -> bool:
    return index._live.store is not None and index._live.store.labels is not None


def _checked_output(arguments: argparse.Namespace) -> str:
    """The output format; refuses arguments that don't go together."""
    if arguments.beyond is not None and (arguments.nearest or arguments.k is not None):
        raise ValueError("--beyond finds all rows beyond the radius; -k and --nearest don't apply")
    limits = [option_of(name) for name in LIMITS if getattr(arguments, name) is not None]
    if limits and arguments.beyond is not None:
        raise ValueError(f"{limits[0]} is for the best rows; --beyond is exact")
    if len(limits) > 1:
        raise ValueError(f"expected at most one limit of a search, got {' and '.join(limits)}")
    to_limits(arguments.recall, arguments.epsilon, arguments.budget, arguments.seconds)
    usual = "csv" if arguments.output == streams.STREAM else "table"
    wanted = "jsonl" if arguments.json else arguments.format
    kind = streams.kind_of(arguments.output, wanted, WRITERS, "results", usual)
    output = streams.place_of(arguments.output)
    if output is not None:
        check_output(output, arguments.index, arguments.queries, arguments.exclude,
                     arguments.allowed, arguments.within, arguments.outside)
    return kind


def tune(arguments: argparse.Namespace) -> int:
    """Measure recall and cost, and keep the table in the index file."""
    plot = None if arguments.plot is None else Path(arguments.plot)
    if plot is not None:
        check_plot(plot, arguments.index, arguments.queries)
        figures = optional_package("matplotlib.figure", plot)
    index = Index.load(arguments.index)
    sample = None
    if arguments.queries is not None and index.dim is not None:
        sample = _sample(arguments, index.dim)
    with blaming({"queries": arguments.queries, "tune": arguments.index}, 0):
        table = index.tune(sample, arguments.k, arguments.recall, progress=is_shown(arguments))
    index.save(arguments.index)
    _print_tuning(table, arguments.json)
    if plot is not None:
        figure = figures.Figure(layout="constrained")
        table.plot(figure.subplots())
        with replacing(plot) as stream:
            figure.savefig(stream, format=plot.suffix[1:])
    return 0


def _print_tuning(table: Tuning, as_json: bool) -> None:
    unit = unit_of(table)
    if as_json:
        efforts = [{unit: None if effort == float("inf") else effort, "recall": recall,
                    "cost": cost} for effort, recall, cost in table.worthwhile()]
        fastest = table.effort_for(table.target)
        _print_json({"k": table.k, "efforts": efforts, "target": table.target, "fastest": {
            unit: None if fastest == float("inf") else fastest, "cost": table.cost_of(fastest)}})
        return
    heads, *lines = cells_of(table)
    print_table(heads, [10, max(12, len(heads[1]) + 2), 12], lines)
    say(f"{table.fastest}; search with --recall {table.target:g}", "bold green", sys.stdout)


def info(arguments: argparse.Namespace) -> int:
    """Tell what is in an index file."""
    # Without mmap every byte is read, and checked.
    index = Index.load(arguments.index, mmap=not arguments.verify)
    stats = index.stats()
    strings = has_strings(index)
    ids = np.empty(0, np.int64) if strings else index.ids
    groups = None if index._live.store is None else index._live.store.groups
    facts: dict[str, Any] = {
        "file": str(arguments.index),
        "file_bytes": os.path.getsize(arguments.index),
        "verified": arguments.verify,
        **{key: stats[key] for key in ("rows", "dim", "metric", "dtype", "codes", "keep_vectors",
                                       "codes_recall", "built", "bytes")},
        "smallest_id": int(ids.min()) if len(ids) else None,
        "largest_id": int(ids.max()) if len(ids) else None,
        "groups": 0 if groups is None else len(groups),
    }
    if arguments.json:
        _print_json(facts)
        return 0
    parts = ", ".join(f"{size(room)} {part}" for part, room in facts["bytes"].items() if room)
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
        "groups": f"{facts['groups']:,}" if facts["groups"] else "none",
        "file": size(facts["file_bytes"]),
        "memory": parts or "none",
        "built": "yes" if facts["built"] else "no, the first search does it",
        "checked": "every byte" if arguments.verify else "the structure (--verify checks all)",
    }
    print_facts(arguments.index, lines)
    return 0


# Parts of a search


def _question(
    arguments: argparse.Namespace, index: Index, allowed: NDArray[Any] | None
) -> Callable[[NDArray[Any], Any], Hits | BeyondHits]:
    """The search of the index for a batch of queries."""
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


def check_output(path: Path, *inputs: str | None) -> None:
    """Refuse now what would fail after minutes of work, or destroy what was read."""
    if not path.parent.is_dir():
        raise ValueError(f"{path}: there is no folder {str(path.parent)!r} to write to")
    if path.exists():
        require_regular(path)
    sources = [split_name(file)[0] for file in inputs if file is not None]
    if path.exists() and any(source.exists() and path.samefile(source) for source in sources):
        raise ValueError(f"{path}: this would overwrite a file that is read")


def check_plot(path: Path, *inputs: str | None) -> None:
    """Refuse a plot that could not be written, likewise."""
    if path.suffix not in PLOTS:
        raise ValueError(f"{path}: unknown extension {path.suffix!r}; plots are written as "
                         f"{', '.join(PLOTS)}")
    check_output(path, *inputs)
