"""What the commands do; `farann.cli` says what they are called with."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from farann import Index, Spaced
from farann.cli import answers as results
from farann.cli import terminal
from farann.cli.ids import (
    columns_of_words,
    id_column,
    joined_ids,
    read_allowed,
    read_any_ids,
    read_name_lists,
    read_scores,
)
from farann.cli.terminal import (
    STREAM,
    blaming,
    counted,
    is_shown,
    note,
    option_of,
    printable,
    say,
    size,
)
from farann.contract.checks import to_float, to_new_ids
from farann.contract.stop_rule import to_limits
from farann.io.files import replacing, require_regular
from farann.io.text import SEPARATORS
from farann.io.vector_content import optional_package
from farann.io.vector_formats import FORMATS
from farann.runtime.progress import build_steps, shown, told
from farann.tuning.table import Tuning, cells_of, unit_of
from farann.vectors import (
    VectorFile,
    files_of,
    open_vectors,
    read_id_lists,
    read_ids,
    split_name,
)

QUERIES_A_CALL = 1024  # enough for all threads, few enough for the progress bar to move
# Options that ask for another search than that of the furthest rows, and the method for it.
SEARCHES = {"nearest": "search_nearest", "beyond": "search_beyond", "within": "search_within",
            "diversity": "search_mmr", "likes": "search_contrast", "dislikes": "search_contrast"}
# Options of searches that are arguments of methods as they are.
OPTIONS = ("k", "weight", "likes_by", "diversity", "recall", "epsilon", "budget", "seconds",
           "threads")
# Files with something for each query.
LISTS = ("ids", "likes", "dislikes", "exclude", "groups", "outside_groups")
PLOTS = (".png", ".svg", ".pdf")


def build(arguments: argparse.Namespace) -> int:
    """Make an index of a file of vectors."""
    if arguments.output == STREAM:
        raise ValueError("--output: an index is written to a file, not to standard output")
    paths = [path for path, _ in files_of(arguments.vectors)]
    labels, column = _column(arguments.groups), _column(arguments.ids)
    if arguments.ids is None:
        column = id_column(paths[0], labels)
    output = Path(arguments.output)
    _check_output(output, *paths, arguments.ids, arguments.queries, arguments.groups)
    source = open_vectors(arguments.vectors, ids=[one for one in (column, labels) if one],
                          max_bytes=arguments.max_bytes)
    if source.rows == 0:
        raise ValueError(f"{source.path}: expected vectors, got none")
    groups, ids = (
        _names(arguments, name, source.rows, each) if own is None
        else joined_ids(paths, own, arguments.max_bytes) for name, own, each in (
            ("groups", labels, "a label for each row"), ("ids", column, "an id for each row")))
    if ids is not None and not isinstance(ids, list):
        with blaming({"ids": arguments.ids}, 0):
            ids = to_new_ids("ids", ids, source.rows)
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
    seconds, room = time.perf_counter() - began, output.stat().st_size
    if arguments.json:
        _print_json({"file": str(output), "file_bytes": room, "rows": len(index),
                     "dim": index.dim, "metric": index.metric, "seconds": seconds})
    else:
        note(arguments, f"{output}: {counted(len(index), 'row')} of dimension {index.dim}, "
             f"{index.metric}, {size(room)}, in {seconds:.1f} s")
    return 0


def _column(given: str | None) -> str | None:
    """The column of the vector files that an option names; None for a file, or nothing."""
    file = split_name(given or "")[0]
    return given if not file.suffix and not file.exists() else None


def _print_json(facts: dict[str, Any]) -> None:
    print(json.dumps(facts, indent=2))


def _names(arguments: argparse.Namespace, name: str, n: int,
           each: str) -> NDArray[Any] | list[str] | None:
    """n integers or strings of the file of an argument, if it is given; from the column `name`
    where there are several."""
    file = getattr(arguments, name)
    if file is None:
        return None
    found = read_any_ids(file, arguments.max_bytes, name)
    kind = "strings" if isinstance(found, list) else str(found.dtype)
    if len(found) != n or kind not in ("strings", "int64"):
        named = kind == "strings" and len(found) == n + 1
        raise ValueError(f"{file}: expected {each} ({n}), integers or strings, got {len(found)} of "
                         f"{kind}" + ("; FILE:NAME says that the first line is a name" if named
                                      and Path(file).suffix in SEPARATORS else ""))
    return found


def search(arguments: argparse.Namespace) -> int:
    """Answer the queries of a file."""
    method, given = _question(arguments)
    output, kind = results.target(
        arguments.output, "jsonl" if arguments.json else arguments.format,
        ("npz", "csv", "parquet", "jsonl"), "results",
        "csv" if arguments.output == STREAM else "table")
    if output is not None:
        _check_output(output, arguments.index, arguments.queries, *(
            getattr(arguments, name) for name in LISTS), arguments.allowed)
    index = _loaded(arguments.index, mmap=arguments.mmap)
    if index.dim is None:
        raise ValueError(f"{arguments.index}: the index is empty")
    file, lists = None, _lists(arguments, index)
    if arguments.queries is not None:
        names = columns_of_words(files_of(arguments.queries)[0][0])
        file = open_vectors(arguments.queries, default="test", ids=names,
                            max_bytes=arguments.max_bytes)
        if file.dim != index.dim:
            raise ValueError(f"{file.path}: expected queries of dimension {index.dim}, as "
                             f"{arguments.index} has, got {file.dim}")
    n = len(next(iter(lists.values()))) if file is None else file.rows
    if arguments.exclude is not None:
        lists["exclude"] = _id_lists(arguments.exclude, arguments, index, n)
    for name in ("groups", "outside_groups"):
        lists[name] = _names(arguments, name, n, "a label for each query")
    given["allowed"] = _listed(arguments.allowed, index, arguments.max_bytes)
    ask, seconds = getattr(index, method), 0.0

    def answers(advance: Callable[[int], None]) -> results.Answers:
        nonlocal seconds
        done = 0
        for count, batch in _batches(file, n):
            chosen = {name: part[done : done + count] for name, part in lists.items()
                      if part is not None}
            if batch is not None:
                chosen["queries"] = batch
            began = time.perf_counter()
            with blaming({name: getattr(arguments, name) for name in (
                    "queries", "ids", "allowed", "groups", "outside_groups")}, done):
                hits = ask(**chosen, **given)
            seconds += time.perf_counter() - began
            done += count
            advance(count)
            yield hits

    if kind == "table":  # which itself shows that things move
        longest = 0 if _has_strings(index) else len(str(index.ids.max(initial=0)))
        results.print_answers(answers(lambda more: None), index.metric, longest, n)
    else:
        with (told("queries", n, is_shown(arguments)) as advance,
              results.written(output) as stream):
            results.WRITERS[kind](stream, answers(advance))
    a_query = f", {seconds / n * 1e6:,.0f} us each" if n else ""
    note(arguments, f"{counted(n, 'query', 'queries')} of {counted(len(index), 'row')} "
         f"in {seconds:.3f} s{a_query}")
    return 0


def _question(arguments: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """The method of an index that is asked for, and its arguments that are the same for all
    queries; refuses options that it doesn't take."""
    asked = [name for name in SEARCHES if getattr(arguments, name) is not None]
    methods = list(dict.fromkeys(SEARCHES[name] for name in asked)) or ["search_furthest"]
    likes = "search_contrast" in methods
    if (arguments.queries is not None) + (arguments.ids is not None) + likes != 1:
        raise ValueError("expected QUERIES, or --ids, or --likes and --dislikes")
    if len(methods) > 1:
        raise ValueError(f"expected at most one of {', '.join(map(option_of, asked))}")
    known = signature(getattr(Index, methods[0])).parameters
    given = {name: value for name in OPTIONS if (value := getattr(arguments, name)) is not None}
    for name in given:
        if name not in known:
            raise ValueError(f"{option_of(name)} is " + (
                f"not for {option_of(asked[0])}" if asked else "for --likes and --dislikes"))
    if "radius" in known:
        given["radius"] = to_float(asked[0], getattr(arguments, asked[0]))
    to_limits(arguments.recall, arguments.epsilon, arguments.budget, arguments.seconds)
    return methods[0], given


def _lists(arguments: argparse.Namespace, index: Index) -> dict[str, Any]:
    """The ids that are asked for, with a list for each query or an id."""
    lists: dict[str, Any] = {}
    for name in ("likes", "dislikes"):
        if getattr(arguments, name) is not None:
            n = len(lists["like_ids"]) if lists else None
            lists[f"{name[:-1]}_ids"] = [  # without padding
                [id for id in one if isinstance(id, str) or id >= 0]
                for one in _id_lists(getattr(arguments, name), arguments, index, n)]
    if arguments.ids is not None:
        lists["ids"] = ids = read_any_ids(arguments.ids, arguments.max_bytes)
        if len(ids) and isinstance(ids, list) != _has_strings(index):
            raise ValueError(f"{arguments.ids}: expected integers or strings as the ids of "
                             f"{arguments.index} are, got {ids[0]!r}")
    return lists


def _id_lists(file: str, arguments: argparse.Namespace, index: Index, n: int | None) -> Any:
    """A list of ids for each of n queries; None: as many as there are lists."""
    if _has_strings(index):
        return read_name_lists(file, n)
    return read_id_lists(file, n, max_bytes=arguments.max_bytes)


def _listed(file: str | None, index: Index, limit: int | None) -> Any:
    """Ids of a file for all queries, or a mask."""
    return file and (read_allowed(file, limit) if _has_strings(index) else
                     read_ids(file, max_bytes=limit))


def _has_strings(index: Index) -> bool:
    return index._live.store is not None and index._live.store.labels is not None


def tune(arguments: argparse.Namespace) -> int:
    """Measure recall and cost, and keep the table in the index file."""
    plot = _plotter(arguments.plot, arguments.index, arguments.queries)
    index = _loaded(arguments.index)
    sample = None
    if arguments.queries is not None and index.dim is not None:
        sample = _sample(arguments, index.dim)
    with blaming({"queries": arguments.queries, "tune": arguments.index}, 0):
        table = index.tune(sample, arguments.k, arguments.recall, progress=is_shown(arguments))
    index.save(arguments.index)
    _print_tuning(table, arguments.json)
    plot(table.plot)
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
    terminal.print_table(heads, [10, max(12, len(heads[1]) + 2), 12], lines)
    say(f"{table.fastest}; search with --recall {table.target:g}", "bold green", sys.stdout)


def info(arguments: argparse.Namespace) -> int:
    """Tell what is in an index file."""
    # Without mmap every byte is read, and checked.
    index = _loaded(arguments.index, mmap=not arguments.verify)
    stats = index.stats()
    strings = _has_strings(index)
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
    terminal.print_facts(arguments.index, lines)
    return 0


def select(arguments: argparse.Namespace) -> int:
    """Choose rows of a file or an index, and write their ids."""
    if arguments.k is None and arguments.radius is None and arguments.per_group is None:
        raise ValueError("give -k, how many rows to choose, or --radius, or --per-group")
    if arguments.scores is not None:
        for name in ("start", "first", "plot"):
            if getattr(arguments, name) is not None:
                raise ValueError(f"--{name}: rows are chosen by --scores; leave one of both out")
    output, kind = results.target(arguments.output, "json" if arguments.json else None,
                                  ("npy", "txt", "csv", "parquet", "json"), "ids", "txt")
    files = {name: getattr(arguments, name) for name in (
        "first", "exclude", "allowed", "groups", "outside_groups")}
    if output is not None:
        _check_output(output, arguments.rows, arguments.scores, *files.values())
    plot = _plotter(arguments.plot, arguments.rows)
    index, start = _index_of(arguments), arguments.start
    if start is not None and start.isdecimal() and not _has_strings(index):
        start = int(start)
    given = {name: getattr(arguments, name) for name in ("radius", "per_group", "threads")}
    given["progress"] = is_shown(arguments)
    for name, file in files.items():
        given[name] = file and (read_any_ids(file, arguments.max_bytes, "groups")
                                if "groups" in name else _listed(file, index, arguments.max_bytes))
    with blaming(files, 0):
        if arguments.scores is None:
            chosen = index.select_diverse(arguments.k, start=start, **given)
        else:
            del given["first"]
            values = read_scores(arguments.scores, index.ids, arguments.max_bytes)
            chosen = index.select_spaced(values, k=arguments.k, **given)
    with results.written(output) as stream:
        results.WRITERS[kind](stream, [chosen])
    name = results.SCORE_NAMES[index.metric]

    def draw(axes: Any) -> None:
        axes.plot(np.arange(2, len(chosen.ids) + 1), chosen.scores[1:])
        axes.set_xlabel("rows chosen")
        axes.set_ylabel(f"{name} to the nearest row chosen before")

    plot(draw)
    where = "" if output is None else f"{output}: "
    last = f"{chosen.scores[-1]:.6g}" if len(chosen.scores) else "none"
    what = f"last one's {name} to the nearest before is {last}"
    if isinstance(chosen, Spaced):
        what = f"last one's score is {last}, the radius {chosen.radius}"
    note(arguments, f"{where}{len(chosen.ids):,} of {counted(len(index), 'row')}; the {what}")
    return 0


def pairs(arguments: argparse.Namespace) -> int:
    """Write all pairs of rows of a file or an index within a radius."""
    output, kind = results.target(arguments.output, "json" if arguments.json else None,
                                  ("csv", "parquet", "npz", "json"), "pairs", "csv")
    if output is not None:
        _check_output(output, arguments.rows)
    index = _index_of(arguments)
    found = index.pairs_within(arguments.radius, limit=arguments.limit, threads=arguments.threads,
                               progress=is_shown(arguments))
    with results.written(output) as stream:
        results.WRITERS[kind](stream, [found])
    note(arguments, f"{counted(len(found.ids), 'pair')} of {counted(len(index), 'row')}")
    return 0


def diameter(arguments: argparse.Namespace) -> int:
    """Print the two rows of a file or an index that are furthest apart."""
    index = _index_of(arguments)
    if len(index) < 2:
        raise ValueError(f"{arguments.rows}: expected at least two rows, got {len(index)}")
    found = index.diameter(threads=arguments.threads, progress=is_shown(arguments))
    name = results.SCORE_NAMES[index.metric]
    if arguments.json:
        print(json.dumps({"ids": found.ids.tolist(), name: found.score}))
    else:
        a, b = map(printable, found.ids)
        print(f"{name} {found.score:.8g} of {a} and {b}")
    return 0


def _loaded(file: str, *, mmap: bool = False) -> Index:
    if Path(file).suffix.lower() in FORMATS:
        raise ValueError(f"{file}: expected an index, got a file of vectors; index it first: "
                         f"farann build {file} -o {Path(file).with_suffix('.farann')}")
    return Index.load(file, mmap=mmap)


def _index_of(arguments: argparse.Namespace) -> Index:
    """The index of a file, or one of the vectors of a file."""
    if Path(arguments.rows).suffix == ".farann":
        return _loaded(arguments.rows)
    paths = [path for path, _ in files_of(arguments.rows)]
    column = id_column(paths[0])
    source = open_vectors(arguments.rows, ids=column, max_bytes=arguments.max_bytes)
    index = Index(source.dim, arguments.metric)
    with blaming({"rows": source.path}, 0):
        index.add(source.read(), None if column is None else joined_ids(
            paths, column, arguments.max_bytes))
    return index


def demo(arguments: argparse.Namespace) -> int:
    """Show words, pictures or films, and write a page of them."""
    if arguments.queries is not None and arguments.what != "words":
        raise ValueError(f"--queries are words, and {arguments.what} have none")
    output = Path(arguments.output or f"farann-{arguments.what}.html")
    if output.suffix != ".html":
        raise ValueError(f"{output}: unknown extension {output.suffix!r}; pages are written as "
                         ".html")
    _check_output(output)
    if isinstance(sys.stdout, io.TextIOWrapper):  # words have letters that a terminal may lack
        sys.stdout.reconfigure(errors="replace")
    queries = [word.strip() for word in (arguments.queries or "").split(",") if word.strip()]
    right = import_module(f"farann.demo.{arguments.what}").run(
        output, *([queries] if queries else []))
    print(f"\nThe page: {output}")
    if arguments.open:
        import webbrowser

        webbrowser.open(output.resolve().as_uri())
    return 0 if right else 1


# Parts of a search


def _sample(arguments: argparse.Namespace, dim: int) -> NDArray[Any]:
    """All queries of a file."""
    source = open_vectors(arguments.queries, default="test", max_bytes=arguments.max_bytes)
    if source.dim != dim:
        raise ValueError(f"{source.path}: expected queries of dimension {dim}, as the rows have, "
                         f"got {source.dim}")
    return source.read()


def _batches(file: VectorFile | None, n: int) -> Iterator[tuple[int, NDArray[Any] | None]]:
    """How many queries to ask at a time, and their vectors where they come from a file."""
    if file is None:
        for start in range(0, max(n, 1), QUERIES_A_CALL):
            yield min(QUERIES_A_CALL, n - start), None
        return
    if n == 0:  # asking nothing still gives arrays of the right shape
        yield 0, file.read()
    for block in file.blocks():
        for start in range(0, len(block), QUERIES_A_CALL):
            batch = block[start : start + QUERIES_A_CALL]
            yield len(batch), batch


def _check_output(path: Path, *inputs: str | Path | None) -> None:
    """Refuse now what would fail after minutes of work, or destroy what was read."""
    if not path.parent.is_dir():
        raise ValueError(f"{path}: there is no folder {str(path.parent)!r} to write to")
    if path.exists():
        require_regular(path)
    sources = [split_name(file)[0] for file in inputs if file is not None]
    if path.exists() and any(source.exists() and path.samefile(source) for source in sources):
        raise ValueError(f"{path}: this would overwrite a file that is read")


def _plotter(file: str | None, *inputs: str | None) -> Callable[[Callable[[Any], object]], None]:
    """What writes a plot, given what draws it on axes; refuses now what could not be written."""
    if file is None:
        return lambda draw: None
    path = Path(file)
    if path.suffix not in PLOTS:
        raise ValueError(f"{path}: unknown extension {path.suffix!r}; plots are written as "
                         f"{', '.join(PLOTS)}")
    _check_output(path, *inputs)
    figures = optional_package("matplotlib.figure", path)

    def write(draw: Callable[[Any], object]) -> None:
        figure = figures.Figure(layout="constrained")
        draw(figure.subplots())
        with replacing(path) as stream:
            figure.savefig(stream, format=path.suffix[1:])

    return write
