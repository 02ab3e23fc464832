"""Parser and help of ``farann posneg``."""

from __future__ import annotations

from typing import Any

from farann.cli.argument_types import add_max_bytes, at_least, number, texts

POSNEG = """\
Rank by likes and dislikes: models of what people like and of what they dislike,
calibrated to one scale."""

POSNEG_EXAMPLES = """\
examples:
  farann posneg evaluate log.csv            do models of dislikes pay here?

farann posneg evaluate --help explains it."""

EVALUATE = """\
Tell which way of ranking orders the end of a log best: a model of likes alone, one
of dislikes or of both, the average of their scores, the items' record alone, or
all of that fused; beside an oracle that knows the labels. In one sentence it says
which to use, and it names what is wrong with labels or models.

LOG is a .csv or .tsv with a header, or .parquet (this takes pyarrow), with a line
for each item that a user was shown: user, item, whether it was liked (1, or 0 or
-1), and perhaps the time. For ratings say which are likes and which dislikes; the
others are left out.

Models are files of vectors, with a row for each item, or user, in the order of a
file of ids; without that ids are the numbers of rows, from 0. They must not have
been trained on this log. Without models five are trained here, on the log without
its end."""

EVALUATE_EXAMPLES = """\
examples:
  farann posneg evaluate log.csv
  farann posneg evaluate ratings.csv --columns user,movie,stars,when --liked 4 --disliked 2
  farann posneg evaluate log.parquet --json
  farann posneg evaluate log.csv --model likes items.npy users.npy \\
      --model dislikes not-items.npy not-users.npy --item-ids items.txt --user-ids users.txt"""


def add(commands: Any) -> None:
    """Add the command to the parsers of commands."""
    posneg = commands.add_parser("posneg", help="rank by likes and dislikes",
                                 **texts(POSNEG, POSNEG_EXAMPLES))
    actions = posneg.add_subparsers(dest="action", metavar="ACTION", required=True)
    evaluate = actions.add_parser("evaluate", help="which way of ranking pays on a log",
                                  **texts(EVALUATE, EVALUATE_EXAMPLES))
    evaluate.add_argument("log", metavar="LOG", help=".csv, .tsv or .parquet")
    evaluate.add_argument("--columns", metavar="U,I,L[,T]",
                          help="names of the columns of user, item, label and time (default: user, "
                          "item, label or rating, and time if it is there)")
    evaluate.add_argument("--liked", type=number, metavar="X",
                          help="ratings of X or more are likes")
    evaluate.add_argument("--disliked", type=number, metavar="Y",
                          help="ratings of Y or less are dislikes")
    evaluate.add_argument("--model", nargs=3, action="append", default=[],
                          metavar=("SIGN", "ITEMS", "USERS"),
                          help="a model of likes, dislikes or both, and its vectors; may be "
                          "repeated")
    evaluate.add_argument("--metric", choices=["dot", "cosine"], default="dot",
                          help="what models were trained for (default: dot)")
    evaluate.add_argument("--item-ids", metavar="FILE", help="ids of the rows of ITEMS")
    evaluate.add_argument("--user-ids", metavar="FILE", help="ids of the rows of USERS")
    evaluate.add_argument("--test", type=number, default=0.3, metavar="SHARE",
                          help="the share of the log to judge by: the last, or of each user some "
                          "at random if there is no time (default: 0.3)")
    evaluate.add_argument("-k", "--k", type=at_least(1), default=10, metavar="N",
                          help="how much of a list counts (default: 10)")
    evaluate.add_argument("--dim", type=at_least(1), default=16, metavar="N",
                          help="dimension of models that are trained here (default: 16)")
    evaluate.add_argument("--seed", type=at_least(0), default=0, metavar="N",
                          help="seed of all that is random (default: 0)")
    evaluate.add_argument("--json", action="store_true", help="as JSON, for other programs")
    add_max_bytes(evaluate)
    evaluate.add_argument("-q", "--quiet", action="store_true", help="no remarks")
