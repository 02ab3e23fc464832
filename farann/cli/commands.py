"""The commands; `farann.cli` declares their arguments."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from farann import Hits, Index, Spaced
from farann.cli import answers as results
from farann.cli import terminal
from farann.cli.ids import (
    Columns,
    columns_of_table,
    joined_ids,
    listed,
    read_any_ids,
    read_lists,
    read_scores,
)
from farann.cli.parts import Parts, fingerprint_of
from farann.cli.streams import printable
from farann.cli.terminal import STREAM, blaming, counted, is_shown, note, option_of, say, size
from farann.contract.checks import to_float, to_int, to_new_ids
from farann.contract.stop_rule import to_limits
from farann.io.files import replacing, require_regular
from farann.io.text import SEPARATORS, begins_like_names
from farann.io.vector_content import optional_package
from farann.io.vector_formats import FORMATS, kinds_of
from farann.runtime.progress import build_steps, shown, told
from farann.tuning.table import Tuning, cells_of, unit_of
from farann.vectors import VectorFile, files_of, open_vectors, split_name

NO_IDS = "none"  # for --ids: no column has ids
QUERIES_A_CALL = 1024  # enough for all threads, few enough for the progress bar to move
# Options that ask for another search than that of the furthest rows, and the method for it.
SEARCHES = {"nearest": "search_nearest", "beyond": "search_beyond", "within": "search_within",
            "diversity": "search_mmr", "likes": "search_contrast", "dislikes": "search_contrast"}
ANSWERS = ("ivecs", "npz", "parquet", "csv", "jsonl")  # formats of exact answers
# Options of searches that are arguments of methods as they are.
OPTIONS = ("k", "weight", "likes_by", "diversity", "per_group", "recall", "epsilon", "budget",
           "seconds", "threads")


def build(arguments: argparse.Namespace) -> None:
    """Make an index of a file of vectors."""
    if arguments.output == STREAM:
        raise ValueError("--output: an index is written to a file, not to standard output")
    output = Path(arguments.output)
    _check_output(output, arguments, *(path for path, _ in files_of(arguments.vectors)))
    source, ids, labels = _opened(arguments, arguments.vectors, arguments.groups)
    if source.rows == 0:
        raise ValueError(f"{source.path}: expected vectors, got none")
    groups = labels if labels is not None else _one_each(
        arguments, "groups", source.rows, "a label for each row")
    if ids is not None and not isinstance(ids, list):
        with blaming(arguments):
            ids = to_new_ids("ids", ids, source.rows)
    sample = _sample(arguments, source.dim)
    began = time.perf_counter()
    index = Index(source.dim, arguments.metric, dtype=arguments.dtype or source.kept_as,
                  codes=arguments.codes, cells=arguments.cells,
                  keep_vectors=not arguments.no_vectors, seed=arguments.seed,
                  threads=arguments.threads)
    with shown(is_shown(arguments), build_steps()) as progress, blaming(
            arguments, rows=source.path):
        # The rows stay in their file, or in a copy beside the output: memory is for the codes.
        rows = source.map(output.parent, dtype=index.dtype, unit=index.metric == "cosine",
                          progress=progress)
        index.add(rows, ids, groups=groups, copy=False)
        index.build(queries=sample, progress=progress)
        index.save(output)
    seconds, room = time.perf_counter() - began, output.stat().st_size
    if arguments.json:
        _print_json({"file": str(output), "file_bytes": room, "rows": len(index),
                     "dim": index.dim, "metric": index.metric, "seconds": seconds})
    else:
        note(arguments, f"{output}: {counted(len(index), 'row')} of dimension {index.dim}, "
             f"{index.metric}, {size(room)}, in {seconds:.1f} s")


def _opened(arguments: argparse.Namespace, vectors: str | list[str],
            own_groups: str | None = None) -> tuple[VectorFile, Any, Any]:
    """Files of vectors, with the ids and the labels that come with them, None for none."""
    files = files_of(vectors)
    paths, kinds = [path for path, _ in files], kinds_of(files[0][0])
    labels, named = _column(own_groups, kinds), _column(arguments.ids, kinds)
    keep = arguments.ids == NO_IDS
    table = columns_of_table(files[0], None if keep else named, labels, keep=keep,
                             choose=arguments.ids is None)
    source = open_vectors(vectors, ids=table.without, max_bytes=arguments.max_bytes)
    for path in paths[1:] if table.coordinates() else []:
        if (others := [*kinds_of(path)]) != [*table.kinds]:
            raise ValueError(f"{path}: expected the columns of {paths[0]}, "
                             f"{listed([*table.kinds])}, got {listed(others)}")
    _say_columns(arguments, table, str(table))
    ids, groups = (None if column is None else joined_ids(paths, column, arguments.max_bytes)
                   for column in (table.ids, labels))
    if table.ids is None and arguments.ids is not None and not keep:
        ids = _one_each(arguments, "ids", source.rows, "an id for each row")
    return source, ids, groups


def _say_columns(arguments: argparse.Namespace, table: Columns, text: str) -> None:
    """Remark what the columns of a table were taken for, or a first line that may be names."""
    if not table.kinds and table.path.suffix.lower() in SEPARATORS and (
            begins_like_names(table.path)):
        text = "the first line, 0, 1, 2, ..., is taken as a row"
    elif not table.kinds:
        return
    name = "standard input" if str(table.path) == arguments.standard_input else table.path
    note(arguments, f"{name}: {text}")


def _column(name: str | None, kinds: dict[str, type]) -> str | None:
    """The column of the vector files that an option names; None for a file, or nothing."""
    file = split_name(name or "")[0]
    named = name is not None and not file.is_file() and (name in kinds or not file.suffix)
    return name if named else None


def _print_json(facts: dict[str, Any]) -> None:
    print(json.dumps(facts, indent=2))


def search(arguments: argparse.Namespace) -> None:
    """Answer the queries of a file."""
    method, options = _question(arguments)
    output, kind = _output(arguments, "results", ("npz", "csv", "parquet", "jsonl"),
                           "csv" if arguments.output == STREAM else "table")
    index = _loaded(arguments.index, mmap=arguments.mmap)
    if index.dim is None:
        raise ValueError(f"{arguments.index}: the index is empty")
    strings = _has_strings(index)
    source, n, lists = None, None, dict[str, Any]()
    if arguments.queries is not None:
        source = _queries(arguments, index.dim, f"{arguments.index} has")
        n = source.rows
    elif arguments.ids not in (None, NO_IDS):
        lists["ids"] = _read(arguments, "ids", strings)
        n = len(lists["ids"])
    for name, argument in (("likes", "like_ids"), ("dislikes", "dislike_ids"),
                           ("exclude", "exclude")):
        if (file := getattr(arguments, name)) is not None:
            listed = read_lists(file, n, arguments.max_bytes, strings)
            n = len(listed)
            lists[argument] = listed if name == "exclude" else [
                [id for id in one if id != -1] for one in listed]  # without padding
    assert n is not None
    for name in ("groups", "outside_groups"):
        lists[name] = _one_each(arguments, name, n, "a label for each query")
    options["allowed"] = _read(arguments, "allowed", strings)
    ask, seconds = getattr(index, method), 0.0

    def answers(advance: Callable[[int], None]) -> results.Answers:
        nonlocal seconds
        done = 0
        for batch in _batches(source, n):
            end = done + len(batch)
            chosen = {name: part[done:end] for name, part in lists.items() if part is not None}
            if source is not None:
                chosen["queries"] = batch
            began = time.perf_counter()
            with blaming(arguments, done):
                hits = ask(**chosen, **options)
            seconds += time.perf_counter() - began
            advance(len(batch))
            done = end
            yield hits

    if kind == "table":  # which itself shows that things move
        longest = 0 if strings else len(str(index.ids.max(initial=0)))
        results.print_answers(answers(lambda more: None), index.metric, longest, n,
                              grouped=arguments.per_group is not None)
    else:
        with told("queries", n, is_shown(arguments)) as advance:
            results.write(output, kind, answers(advance))
    a_query = f", {seconds / n * 1e6:,.0f} us each" if n else ""
    note(arguments, f"{counted(n, 'query', 'queries')} of {counted(len(index), 'row')} "
         f"in {seconds:.3f} s{a_query}")


def _question(arguments: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """The method of an index for the options, and its arguments that are the same for all
    queries; refuses options that it doesn't take."""
    named = [name for name in SEARCHES if getattr(arguments, name) is not None]
    by_ids = arguments.ids not in (None, NO_IDS) and arguments.queries is None
    methods = list(dict.fromkeys(SEARCHES[name] for name in named)) or ["search_furthest"]
    likes = "search_contrast" in methods
    if (arguments.queries is not None) + by_ids + likes != 1:
        raise ValueError("expected QUERIES, or --ids, or --likes and --dislikes")
    if len(methods) > 1:
        raise ValueError(f"expected at most one of {', '.join(map(option_of, named))}")
    known = signature(getattr(Index, methods[0])).parameters
    options = {name: value for name in OPTIONS if (value := getattr(arguments, name)) is not None}
    for name in options:
        if name not in known:
            raise ValueError(f"{option_of(name)} is " + (
                f"not for {option_of(named[0])}" if named else "for --likes and --dislikes"))
    if "radius" in known:
        options["radius"] = to_float(named[0], getattr(arguments, named[0]))
    to_limits(arguments.recall, arguments.epsilon, arguments.budget, arguments.seconds)
    return methods[0], options


def _queries(arguments: argparse.Namespace, dim: int, whose: str) -> VectorFile:
    """The file of queries, of the dimension that the rows have; its ids are no coordinates."""
    file, keep = files_of(arguments.queries)[0], arguments.ids == NO_IDS
    kinds = kinds_of(file[0])
    named = None if keep else _column(arguments.ids, kinds)
    if named not in kinds:  # elsewhere it may be a column of the rows alone
        if arguments.command in ("search", "tune") and not keep and arguments.ids is not None:
            raise ValueError(f"--ids: beside queries expected a column of {file[0]} or none, got "
                             f"{arguments.ids!r}; there are: {listed([*kinds])}")
        named = None
    table = columns_of_table(file, named, keep=keep, choose=False)._replace(ids=None)
    source = open_vectors(arguments.queries, default="test", ids=table.without,
                          max_bytes=arguments.max_bytes)
    if source.dim != dim:
        names = f": {table.of_vectors()}" if table.kinds else ""
        hint = "" if not table.kinds else "; --ids none leaves out words alone" if (
            source.dim < dim) else "; --ids NAME leaves out a column"
        raise ValueError(f"{source.path}: expected queries of dimension {dim}, as {whose}, got "
                         f"{source.dim}{names}{hint}")
    _say_columns(arguments, table, table.of_vectors())
    return source


def _batches(source: VectorFile | None, n: int) -> Iterator[Any]:
    """Vectors of some queries at a time, or their numbers where they don't come from a file."""
    # Asking nothing still gives arrays of the right shape.
    blocks = [range(n)] if source is None else source.blocks() if n else [source.read()]
    for block in blocks:
        for start in range(0, max(len(block), 1), QUERIES_A_CALL):
            yield block[start : start + QUERIES_A_CALL]


def _read(arguments: argparse.Namespace, name: str, strings: bool | None = None) -> Any:
    """The ids, the mask or the labels in the file of an argument; None without a file."""
    file, groups = getattr(arguments, name), "groups" in name
    return None if file is None else read_any_ids(
        file, arguments.max_bytes, "groups" if groups else "ids", None if groups else strings)


def _one_each(arguments: argparse.Namespace, name: str, n: int, each: str) -> Any:
    """n ids or labels in the file of an argument; None without a file."""
    values = _read(arguments, name)
    if values is None or (name == "outside_groups" and not len(values)):
        return None
    file, kind = getattr(arguments, name), "strings" if isinstance(values, list) else values.dtype
    if len(values) != n or kind not in ("strings", np.int64):
        named = kind == "strings" and len(values) == n + 1
        raise ValueError(f"{file}: expected {each} ({n}), integers or strings, got {len(values)} "
                         f"of {kind}" + ("; FILE:NAME says that the first line is a name" if named
                                      and Path(file).suffix in SEPARATORS else ""))
    return values


def _has_strings(index: Index) -> bool:
    return index._live.store is not None and index._live.store.labels is not None


def tune(arguments: argparse.Namespace) -> None:
    """Measure recall and cost, and keep the table in the index file."""
    plot = _plotter(arguments)
    index = _loaded(arguments.index)
    sample = None if index.dim is None else _sample(arguments, index.dim)
    with blaming(arguments, tune=arguments.index):
        table = index.tune(sample, arguments.k, arguments.recall, progress=is_shown(arguments))
    index.save(arguments.index)
    _print_tuning(table, arguments.json)
    plot(table.plot)


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


def info(arguments: argparse.Namespace) -> None:
    """Describe an index file."""
    # Without mmap every byte is read, and checked.
    index = _loaded(arguments.index, mmap=not arguments.verify)
    stats = index.stats()
    strings = _has_strings(index)
    ids = np.empty(0, np.int64) if strings else index.ids
    groups = None if index._live.store is None else index._live.store.groups
    facts: dict[str, Any] = {
        "file": str(arguments.index), "file_bytes": os.path.getsize(arguments.index),
        "verified": arguments.verify,
        **{key: stats[key] for key in (
            "rows", "removed", "added", "dim", "metric", "dtype", "codes", "keep_vectors",
            "codes_recall", "built", "bytes")},
        "smallest_id": int(ids.min()) if len(ids) else None,
        "largest_id": int(ids.max()) if len(ids) else None,
        "groups": 0 if groups is None else len(groups)}
    if arguments.json:
        _print_json(facts)
        return
    parts = ", ".join(f"{size(room)} {part}" for part, room in facts["bytes"].items() if room)
    lines = {
        "rows": f"{facts['rows']:,}",
        "changes": f"{facts['added']:,} added and {facts['removed']:,} removed since the build"
                   if facts["built"] and (facts["added"] or facts["removed"]) else "none",
        "dimension": facts["dim"], "metric": facts["metric"], "numbers": facts["dtype"],
        "codes": facts["codes"],
        "vectors": "kept" if facts["keep_vectors"] else (
            "dropped" if facts["codes_recall"] is None
            else f"dropped; all codes find {facts['codes_recall']:.1%} of the ten furthest"),
        "ids": "strings" if strings else f"{ids.min()} to {ids.max()}" if len(ids) else "none",
        "groups": f"{facts['groups']:,}" if facts["groups"] else "none",
        "file": size(facts["file_bytes"]),
        "memory": parts or "none",
        "built": "yes" if facts["built"] else "no, the first search does it",
        "checked": "every byte" if arguments.verify else "the structure (--verify checks all)"}
    terminal.print_facts(arguments.index, lines)


def select(arguments: argparse.Namespace) -> None:
    """Choose rows of a file or an index, and write their ids."""
    if arguments.k is None and arguments.radius is None and arguments.per_group is None:
        raise ValueError("give -k, how many rows to choose, or --radius, or --per-group")
    if arguments.scores is not None:
        for name in ("start", "first", "plot", "leave_out"):
            if getattr(arguments, name) is not None:
                raise ValueError(f"{option_of(name)}: rows are chosen by --scores; leave one of "
                                 "both out")
    output, kind = _output(arguments, "ids", ("npy", "txt", "csv", "parquet", "json"), "txt")
    plot = _plotter(arguments)
    index, start = _index_of(arguments), arguments.start
    strings = _has_strings(index)
    if start is not None and start.isdecimal() and not strings:
        start = int(start)
    options = {name: getattr(arguments, name) for name in ("k", "radius", "per_group", "threads")}
    options["progress"] = is_shown(arguments)
    for name in ("first", "exclude", "allowed", "groups", "outside_groups"):
        options[name] = _read(arguments, name, strings)
    with blaming(arguments):
        if arguments.scores is None:
            chosen = index.select_diverse(start=start, leave_out=arguments.leave_out or 0.0,
                                          **options)
        else:
            del options["first"]
            values = read_scores(arguments.scores, index.ids, arguments.max_bytes)
            chosen = index.select_spaced(values, **options)
    if arguments.output is None and kind == "txt":
        if changed := results.print_ids(chosen.ids):
            note(arguments, f"{counted(changed, 'id')} printed with escapes for control "
                 "characters; -o - writes ids as they are")
    else:
        results.write(output, kind, [chosen])
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


def pairs(arguments: argparse.Namespace) -> None:
    """Write all pairs of rows of a file or an index within a radius."""
    output, kind = _output(arguments, "pairs", ("csv", "parquet", "npz", "json"), "csv")
    index = _index_of(arguments)
    hits = index.pairs_within(arguments.radius, limit=arguments.limit, threads=arguments.threads,
                               progress=is_shown(arguments))
    results.write(output, kind, [hits])
    note(arguments, f"{counted(len(hits.ids), 'pair')} of {counted(len(index), 'row')}")


def diameter(arguments: argparse.Namespace) -> None:
    """Print the two rows of a file or an index that are furthest apart."""
    index = _index_of(arguments)
    if len(index) < 2:
        raise ValueError(f"{arguments.rows}: expected at least two rows, got {len(index)}")
    pair = index.diameter(threads=arguments.threads, progress=is_shown(arguments))
    name = results.SCORE_NAMES[index.metric]
    if arguments.json:
        print(json.dumps({"ids": pair.ids.tolist(), name: pair.score}))
    else:
        a, b = map(printable, pair.ids)
        print(f"{name} {pair.score:.8g} of {a} and {b}")


def groundtruth(arguments: argparse.Namespace) -> None:
    """Write the exact answers to queries, and continue where such a run was interrupted."""
    output, k, tied, resumed = Path(arguments.output), arguments.k, 0, 0
    _check_output(output, arguments, what="answers", kinds=ANSWERS)
    to_int("k", k, 1)
    index = _index_of(arguments, output.parent)
    if not len(index) or index.dim is None:
        raise ValueError(f"{arguments.rows}: expected vectors, got none")
    if _has_strings(index):
        raise ValueError(f"{arguments.rows}: expected ids that are integers, got strings; --ids "
                         "none takes row numbers")
    source = _queries(arguments, index.dim, f"{arguments.rows} has")
    n, allowed = source.rows, _read(arguments, "allowed", False)
    lists = None if arguments.exclude is None else read_lists(
        arguments.exclude, n, arguments.max_bytes, False)
    files = {name: files_of(file)
             for name, file in terminal.files_of_arguments(arguments).items()}
    parts = Parts(output, fingerprint_of(
        (path for some in files.values() for path, _ in some if path.is_file()),
        [k, index.metric, arguments.nearest, arguments.ids, QUERIES_A_CALL,
         [(name, [of for _, of in some]) for name, some in files.items()]]))
    # One more row tells ties at rank k.
    asked, began = k + (k < len(index)), time.perf_counter()

    def answers(advance: Callable[[int], None]) -> results.Answers:
        nonlocal tied, resumed
        done = 0
        for number, batch in enumerate(_batches(source, n)):
            end = done + len(batch)
            hits = parts.load(number, (len(batch), asked))
            if hits is not None:
                resumed += len(batch)
            else:
                search = index.search_nearest if arguments.nearest else index.search_furthest
                with blaming(arguments, done):
                    hits = search(batch, asked, exclude=None if lists is None else lists[done:end],
                                  allowed=allowed, threads=arguments.threads, return_keys=True)
                parts.keep(number, hits)
            ties = hits.found[:, k:] & (hits.keys[:, k:] == hits.keys[:, k - 1 : k])
            tied += int(ties.sum())
            advance(len(batch))
            done = end
            yield Hits(hits.ids[:, :k], hits.scores[:, :k], hits.keys[:, :k])

    with told("queries", n, is_shown(arguments)) as advance:
        results.write(output, output.suffix[1:], answers(advance))
    parts.remove()
    seconds = time.perf_counter() - began
    if arguments.json:
        _print_json({"file": str(output), "queries": n, "rows": len(index), "k": k,
                     "metric": index.metric, "nearest": arguments.nearest, "tied": tied,
                     "resumed": resumed, "seconds": seconds})
    else:
        note(arguments, f"{output}: {counted(n, 'query', 'queries')} of "
             f"{counted(len(index), 'row')}, {tied:,} with a tie at rank {k:,}, in {seconds:.1f} s"
             + f"; {resumed:,} were answered before" * bool(resumed))


def _loaded(file: str, *, mmap: bool = False) -> Index:
    if Path(file).suffix.lower() in FORMATS:
        raise ValueError(f"{file}: expected an index, got a file of vectors; index it first: "
                         f"farann build {file} -o {Path(file).with_suffix('.farann')}")
    return Index.load(file, mmap=mmap)


def _index_of(arguments: argparse.Namespace, folder: Path | None = None) -> Index:
    """The index of a file, or one of the vectors of a file; given a folder for copies that
    mapping takes, rows are mapped."""
    mapped = folder is not None
    if Path(arguments.rows).suffix == ".farann":
        if arguments.ids is not None:
            raise ValueError("--ids: an index has its own ids; leave it out")
        return _loaded(arguments.rows, mmap=mapped)
    source, ids, _ = _opened(arguments, arguments.rows)
    index = Index(source.dim, arguments.metric, dtype=source.kept_as if mapped else "float32",
                  codes=vars(arguments).get("codes", "int8"))
    with blaming(arguments):
        rows = source.map(folder, dtype=index.dtype, unit=index.metric == "cosine",
                          progress=is_shown(arguments)) if mapped else source.read()
        index.add(rows, ids, copy=not mapped)
    return index


def demo(arguments: argparse.Namespace) -> int:
    """Show words, pictures or films, and write a page of them."""
    if arguments.queries is not None and arguments.what != "words":
        raise ValueError(f"--queries are words, and {arguments.what} have none")
    output = Path(arguments.output or f"farann-{arguments.what}.html")
    _check_output(output, arguments, what="pages", kinds=("html",))
    queries = [word.strip() for word in (arguments.queries or "").split(",") if word.strip()]
    right = import_module(f"farann.demo.{arguments.what}").run(
        output, *([queries] if queries else []))
    print(f"\nThe page: {output}")
    if arguments.open:
        import webbrowser

        webbrowser.open(output.resolve().as_uri())
    return 0 if right else 1


def _sample(arguments: argparse.Namespace, dim: int) -> NDArray[Any] | None:
    """A sample of queries, None without a file."""
    if arguments.queries is None:
        return None
    return _queries(arguments, dim, "the rows have").read()


# Output


def _output(arguments: argparse.Namespace, what: str, kinds: Sequence[str],
            usual: str) -> tuple[Path | None, str]:
    """The file to write, None for standard output, and its format: as options or its name say."""
    kind = "jsonl" if arguments.json else getattr(arguments, "format", None)
    if arguments.output in (None, STREAM):
        return None, kind or usual
    path = Path(arguments.output)
    _check_output(path, arguments, what=what, kinds=() if kind else kinds)
    return path, kind or path.suffix[1:]


def _check_output(path: Path, arguments: argparse.Namespace, *inputs: Path, what: str = "",
                  kinds: Sequence[str] = ()) -> None:
    """Refuse outputs that would fail after minutes of work, or overwrite an input."""
    if kinds and path.suffix[1:] not in kinds:
        *listed, last = (f".{kind}" for kind in kinds)
        raise ValueError(f"{path}: unknown extension {path.suffix!r}; {what} are written as "
                         + f"{', '.join(listed)} or " * bool(listed) + last)
    if not path.parent.is_dir():
        raise ValueError(f"{path}: there is no folder {str(path.parent)!r} to write to")
    if path.exists():
        require_regular(path)
        names = [split_name(file)[0] for file in terminal.files_of_arguments(arguments).values()]
        if any(source.exists() and path.samefile(source) for source in (*inputs, *names)):
            raise ValueError(f"{path}: this would overwrite a file that is read")


def _plotter(arguments: argparse.Namespace) -> Callable[[Callable[[Any], object]], None]:
    """A function that writes a plot, given one that draws it; refuses unwritable paths at once."""
    if arguments.plot is None:
        return lambda draw: None
    path = Path(arguments.plot)
    _check_output(path, arguments, what="plots", kinds=("png", "svg", "pdf"))
    figures = optional_package("matplotlib.figure", path)

    def write(draw: Callable[[Any], object]) -> None:
        figure = figures.Figure(layout="constrained")
        draw(figure.subplots())
        with replacing(path) as stream:
            figure.savefig(stream, format=path.suffix[1:])

    return write
