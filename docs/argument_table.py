"""Which question takes which argument: the table in the API pages, from signatures and options.

`conf.py` puts it there; `python docs/argument_table.py` prints it. Signatures are read from the
source, as Ray's cluster can't be imported without Ray.
"""

from __future__ import annotations

import argparse
import ast
from pathlib import Path

from farann.cli.arguments import parser_of_commands

ROOT = Path(__file__).resolve().parent.parent
# Columns of arguments that mean the same for all questions that take them.
SHARED = {"stop rules": ("recall", "epsilon", "budget", "seconds"),
          "filters": ("exclude", "allowed", "groups", "outside_groups"),
          "threads": ("threads",), "progress": ("progress",),
          "keys, stats": ("return_keys", "return_stats")}
QUESTIONS = ("search_", "select_", "pairs_", "diameter", "eccentricities", "furthest_graph")
# The files that have them, by where they are asked.
ASKED = {"`Index`": ("farann.Index", ["index.py"]), "`farann`": ("farann", ["one_off.py"]),
         "Ray's `Cluster`": ("farann.adapters.ray.cluster.Cluster",
                             ["adapters/ray/gathering.py", "adapters/ray/selecting.py"])}
# Options that say how a command reads and writes.
_NO_ARGUMENTS = {"help", "index", "rows", "metric", "output", "format", "json", "mmap", "max_bytes",
                 "quiet", "plot"}


def of_files(files: list[str]) -> dict[str, list[str]]:
    """Questions in some files, and the arguments of each; of overloads those of the last."""
    found = {}
    for file in files:
        for node in ast.walk(ast.parse((ROOT / "farann" / file).read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith(QUESTIONS):
                named = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                found[node.name] = [one.arg for one in named if one.arg != "self"]
    return found


def commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers of a parser's commands, by name."""
    return dict(next(action.choices for action in parser._actions
                     if isinstance(action, argparse._SubParsersAction)))


def help_of(command: str) -> str:
    """The help of a command, such as "posneg evaluate"."""
    parser = parser_of_commands()
    for name in command.split():
        parser = commands(parser)[name]
    return parser.format_help()


def of_commands() -> dict[str, list[str]]:
    """Commands that ask a question, linked, and their options by the names of the arguments."""
    return {f"[`farann {name}`](cli.md#farann-{name})": [action.dest for action in parser._actions
                                                         if action.dest not in _NO_ARGUMENTS]
            for name, parser in commands(parser_of_commands()).items()
            if name in ("search", "select", "diameter")}


def line_of(question: str, arguments: list[str]) -> str:
    """A line of the table: all of a column is a check mark, some of it are named."""
    own = [one for one in arguments if not any(one in column for column in SHARED.values())]
    cells = [", ".join(f"`{one}`" for one in own)]
    for column in SHARED.values():
        taken = [one for one in column if one in arguments]
        cells.append("✓" if len(taken) == len(column) else ", ".join(taken).replace("return_", ""))
    return f"| {question} | {' | '.join(cells)} |\n".replace("|  |", "| |").replace("|  |", "| |")


def table() -> str:
    """The table, a part for each place where questions are asked."""
    ruled = f" | its own | {' | '.join(SHARED)} |\n|{'---|' * (2 + len(SHARED))}\n"
    parts = [(place, {f"{{py:obj}}`{name} <{owner}.{name}>`": arguments
                      for name, arguments in of_files(files).items()})
             for place, (owner, files) in ASKED.items()]
    return "\n".join(f"| {place}{ruled}" + "".join(map(line_of, asked, asked.values()))
                     for place, asked in [*parts, ("command line", of_commands())])


if __name__ == "__main__":
    print(table())
