"""Parser and help of the commands."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from farann.cli import help_texts, posneg_arguments
from farann.cli.argument_types import add_max_bytes, at_least, number, texts
from farann.cli.streams import standard_input
from farann.cli.terminal import say
from farann.cli.wording import blaming_options
from farann.contract.index_spec import CODE_WIDTHS
from farann.contract.row_types import STORED

__all__ = ["main"]

USER_ERRORS = (ValueError, KeyError, OSError, ImportError, MemoryError)
# What does a command, where it isn't `commands`.
MODULES = {"select": "selections", "diameter": "selections", "posneg": "posneg", "demo": "demo"}
METRICS = ["l2", "dot", "cosine"]  # those of the core, which --help doesn't wait for
USAGE_ERROR, INTERRUPTED, BROKEN_PIPE = 2, 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process unless given.

    Returns
    -------
    int
        The exit status: 0, 1 (the demo found a wrong answer), 2 (the user can mend it),
        130 (interrupted), 141 (nobody reads the output any more).

    Examples
    --------
    >>> main(["search", "items.farann", "queries.npy", "-k", "5"])  # doctest: +SKIP
    """
    arguments = argparse.Namespace()
    try:
        parser = _parser()
        parser.parse_args(argv, arguments)
        if arguments.command is None:
            parser.print_help()
            return 0
        # Only now, so that --help comes at once.
        module = import_module(f"farann.cli.{MODULES.get(arguments.command, 'commands')}")
        with standard_input(arguments):
            status: int = getattr(module, arguments.command)(arguments)
        sys.stdout.flush()
        return status
    except SystemExit as leaving:  # argparse has said what there is to say
        return leaving.code if isinstance(leaving.code, int) else USAGE_ERROR
    except KeyboardInterrupt:
        print("farann: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        _silence(sys.stdout)
        return BROKEN_PIPE
    except USER_ERRORS as error:
        text = blaming_options(_one_line(error), arguments)
        say(f"farann: error: {text}", "bold red", sys.stderr)
        return USAGE_ERROR


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        text = f"{error.filename}: {error.strerror}"
    elif isinstance(error, KeyError) and error.args:
        text = str(error.args[0])  # str() of a KeyError has quotes around it
    else:
        text = str(error) or type(error).__name__
    return " ".join(text.split())


def _silence(stream: Any) -> None:
    """Send what is still in a broken stream's buffer nowhere, or Python complains at exit."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (OSError, io.UnsupportedOperation):
        pass


# Arguments


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE_ERROR, f"farann: error: {message} (see {self.prog} --help)\n")


class _Version(argparse.Action):
    """Shows the version and the instruction set; only then is there a core to load."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> NoReturn:
        import farann

        print(f"farann {farann.__version__} ({farann.Index().isa})")
        parser.exit()


def _cells(text: str) -> int | str:
    return text if text == "auto" else at_least(1)(text)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="farann", **texts(help_texts.ABOUT, help_texts.EXAMPLES))
    parser.add_argument("--version", action=_Version, nargs=0,
                        help="show the version and the instruction set in use")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    build = commands.add_parser("build", help="index the vectors of a file",
                                **texts(help_texts.BUILD, help_texts.BUILD_EXAMPLES))
    build.add_argument("vectors", metavar="VECTORS", help="file with a vector a row")
    build.add_argument("-o", "--output", metavar="INDEX", required=True,
                       help="file to write the index to")
    build.add_argument("--metric", choices=METRICS, default="l2",
                       help="what far means (default: l2)")
    build.add_argument("--dtype", choices=list(STORED), metavar="TYPE",
                       help=f"what numbers are kept as: {', '.join(STORED)}; only to float32 they "
                       "are rounded (default: as the file has them, or float32)")
    build.add_argument("--codes", choices=list(CODE_WIDTHS), default="int8",
                       help="how rows are scored before the exact rerank: by 8-bit codes (fast), "
                       "4-bit codes (half as large) or the rows themselves (least memory) "
                       "(default: int8)")
    build.add_argument("--no-vectors", action="store_true",
                       help="keep the codes alone, in a quarter (int8) or an eighth (int4) of the "
                       "memory; scores are approximate then, and searches need --recall or "
                       "--budget")
    build.add_argument("--cells", type=_cells, metavar="N",
                       help="group the rows into N partitions (IVF lists), or auto, of which "
                       "approximate searches probe a few (default: none)")
    build.add_argument("--queries", metavar="FILE",
                       help="a sample of the queries to come, if these are distributed "
                       "differently from the rows")
    build.add_argument("--ids", metavar="FILE", help="ids of the rows, one each")
    build.add_argument("--groups", metavar="FILE",
                       help="labels of the rows' groups, one each: integers or strings")
    build.add_argument("--seed", type=at_least(0), default=0, metavar="N",
                       help="seed of all that is random (default: 0)")

    search = commands.add_parser("search", help="find the rows furthest from queries",
                                 **texts(help_texts.SEARCH, help_texts.SEARCH_EXAMPLES))
    search.add_argument("index", metavar="INDEX", help="file that farann build wrote")
    search.add_argument("queries", metavar="QUERIES", help="file with a query a row")
    search.add_argument("-k", "--k", type=at_least(1), metavar="N",
                        help="how many rows to find for each query (default: 10)")
    search.add_argument("-o", "--output", metavar="OUT",
                        help=".npz, .csv, .parquet or .jsonl file to write; - is standard output, "
                        "as CSV")
    search.add_argument("--format", choices=["npz", "csv", "parquet", "jsonl"], metavar="F",
                        help="npz, csv, parquet or jsonl: what to write whatever OUT is called")
    search.add_argument("--nearest", action="store_true", help="find the nearest rows instead")
    search.add_argument("--beyond", type=number, metavar="RADIUS",
                        help="find all rows at a greater distance, or with a smaller dot "
                        "product or cosine; write --beyond=-0.5 if it is negative")
    search.add_argument("--recall", type=number, metavar="R",
                        help="find this share of the true answer, on average, as farann tune "
                        "measured")
    search.add_argument("--epsilon", type=number, metavar="E",
                        help="leave out no row that is more than 1 + E times as far as the last "
                        "one found (l2), or better by more than E (dot, cosine)")
    search.add_argument("--budget", type=at_least(1), metavar="N",
                        help="scan at most N rows")
    search.add_argument("--seconds", type=number, metavar="S",
                        help="stop after S seconds a query, with what has been found by then")
    search.add_argument("--exclude", metavar="FILE", help="ids to leave out, a list for each query")
    search.add_argument("--allowed", metavar="FILE",
                        help="the only ids to find, or a boolean mask over all rows")
    for word, which in (("within", "that group alone"), ("outside", "all other groups")):
        search.add_argument(f"--{word}", metavar="FILE",
                            help=f"labels of groups, one a query: find rows of {which}")
    search.add_argument("--mmap", action="store_true",
                        help="map the file: leave the rows on disk and read what is needed")

    tune = commands.add_parser("tune", help="measure what recall costs",
                               **texts(help_texts.TUNE, help_texts.TUNE_EXAMPLES))
    tune.add_argument("index", metavar="INDEX", help="file that farann build wrote")
    tune.add_argument("--queries", metavar="FILE",
                      help="a sample of the queries to come (default: rows)")
    tune.add_argument("-k", "--k", type=at_least(1), default=10, metavar="N",
                      help="how many rows searches will ask for (default: 10)")
    tune.add_argument("--recall", type=number, default=0.95, metavar="R",
                      help="name the fastest setting that reaches this recall (default: 0.95)")
    tune.add_argument("--plot", metavar="FILE",
                      help=".png, .svg or .pdf to plot recall against cost to; takes matplotlib")

    select = commands.add_parser("select", help="choose rows that cover all others",
                                 **texts(help_texts.SELECT, help_texts.SELECT_EXAMPLES))
    select.add_argument("-k", "--k", type=at_least(1), metavar="N",
                        help="how many rows to choose (default: all that --radius takes)")
    select.add_argument("-o", "--output", metavar="OUT",
                        help=".npy, .txt, .csv, .parquet or .json file of ids to write (default: "
                        "standard output, as text)")
    select.add_argument("--radius", type=number, metavar="R",
                        help="stop when every row is within this distance of a chosen one, or has "
                        "this dot product or cosine with one")
    select.add_argument("--start", metavar="ID",
                        help="the first row (default: the one furthest from the mean)")
    select.add_argument("--plot", metavar="FILE",
                        help=".png, .svg or .pdf to plot the radius by rows to; takes matplotlib")

    diameter = commands.add_parser("diameter", help="find the two rows furthest apart",
                                   **texts(help_texts.DIAMETER, help_texts.DIAMETER_EXAMPLES))
    for command in (select, diameter):
        command.add_argument("rows", metavar="ROWS", help="file of vectors, or an index")
        command.add_argument("--metric", choices=METRICS, default="l2",
                             help="of vectors: l2, dot or cosine (default: l2)")

    for command in (build, search, tune, select, diameter):
        add_max_bytes(command)
    for command in (build, search, diameter):
        command.add_argument("--threads", type=at_least(1), metavar="N",
                             help="how many threads to use (default: one for each CPU)")
    for command in (build, search, tune, select, diameter):
        command.add_argument("--json", action="store_true",
                             help=f"print what was {'written' if command is build else 'found'} as "
                             "JSON, for other programs")
    for command in (build, search, tune, select, diameter):
        command.add_argument("-q", "--quiet", action="store_true",
                             help="no progress bar and no closing remark")

    info = commands.add_parser("info", help="show what is in an index",
                               **texts(help_texts.INFO, help_texts.INFO_EXAMPLES))
    info.add_argument("index", metavar="INDEX", help="file that farann build wrote")
    info.add_argument("--verify", action="store_true", help="check every byte")
    info.add_argument("--json", action="store_true", help="as JSON, for other programs")

    posneg_arguments.add(commands)
    demo = commands.add_parser("demo", help="words, pictures and films least like others",
                               **texts(help_texts.DEMO, help_texts.DEMO_EXAMPLES))
    demo.add_argument("what", nargs="?", choices=["words", "images", "movies"], default="words",
                      help="what to show (default: words)")
    demo.add_argument("--queries", metavar="W1,W2,...", help="words to look up")
    demo.add_argument("-o", "--output", metavar="PAGE",
                      help=".html file to write (default: farann-WHAT.html)")
    demo.add_argument("--open", action="store_true", help="open the page in a browser")
    return parser

