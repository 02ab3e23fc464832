"""``python -m bench outcomes``: each use on its sets, tables, and the page of the docs."""

from __future__ import annotations

import datetime
import fnmatch
import json
import shlex
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from ..fetch import Unavailable
from ..readme import replace_between
from ..run import RESULTS, commit
from . import chunks, contrast, coreset, duplicates, hard, likes, mmr, opposites, outliers
from .data import SETS, load
from .picture import picture
from .record import Record, Use, counts, records, role, whose

OUT = RESULTS.with_name("outcomes.jsonl")
USES: dict[str, Use] = {
    "opposites": opposites.USE, "contrast": contrast.USE,
    **{f"labels-{k}": use for k, use in coreset.AT_ONCE.items()}, "batches": coreset.IN_BATCHES,
    "mmr": mmr.USE, "answers": chunks.ANSWERS, "repeats": chunks.DIFFERENT,
    "outliers": outliers.SCATTERED, "outliers-of-one": outliers.GROUPED,
    "duplicates": duplicates.USE, "negatives": hard.NEGATIVES, "positives": hard.POSITIVES,
    "likes": likes.USE, "shown": likes.SHOWN, "lists": likes.LISTS}
ON_REQUEST = ("shown", "lists")  # five models a set and split
_QUICK = 8  # times fewer repeats
START, END = "<!-- outcomes:start -->", "<!-- outcomes:end -->"


def chosen(uses: Sequence[str] | None) -> dict[str, Use]:
    """Some of the uses, by their names; by default all but those on request.

    Raises
    ------
    ValueError
        There is none of a name.
    """
    unknown = set(uses or ()) - USES.keys()
    if unknown:
        raise ValueError(f"--use: expected some of {', '.join(USES)}, got {min(unknown)}")
    return {name: use for name, use in USES.items()
            if (name in uses if uses else name not in ON_REQUEST)}


def run(uses: dict[str, Use], only: Sequence[str] | None, quick: bool, out: Path,
        command: list[str]) -> list[Record]:
    """Measure, append JSON lines, and print a table for each use and set."""
    found, now = list[Record](), datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    out.parent.mkdir(parents=True, exist_ok=True)

    def write(kind: str, **content: Any) -> None:
        with open(out, "a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, "run": now, **content}) + "\n")

    began = time.process_time()
    write("run", command=f"python -m bench {shlex.join(command)}", commit=commit())
    for name, use in uses.items():
        for data in use.sets:
            if only and not any(fnmatch.fnmatch(data, pattern) for pattern in only):
                continue
            print(f"{use.title}: {SETS[data].title}", file=sys.stderr)
            try:
                with threadpool_limits(1):
                    repeats = max(1, use.repeats // _QUICK) if quick else use.repeats
                    values = use.values(load(data), repeats)
            except Unavailable as error:
                write("skipped", what=f"{name} on {data}", reason=str(error))
                print(f"left out: {error}", file=sys.stderr)
                continue
            mine = records(name, use, data, SETS[data].license, values)
            for one in mine:
                write("outcome", quick=quick, **asdict(one))
            print(f"{table(use, mine)}\n")
            found += mine
    print(f"{(time.process_time() - began) / 60:.1f} minutes of CPU time")
    return found


def table(use: Use, ways: Sequence[Record]) -> str:
    """All ways on a set, as Markdown."""
    one = ways[0]
    lines = [f"**{use.title}**, {SETS[one.data].title} ({one.license}, {one.role}): "
             f"{one.measure}{', fewer is better' if use.fewer else ''}, {one.repeats} repeats", "",
             "| way | mean [95 %] | beside the best of today's |", "|---|---|---|"]
    return "\n".join(lines + [
        f"| {f'**{one.way}**' if one.whose == 'ours' else one.way} "
        f"| {one.mean:.3f} [{one.low:.3f}, {one.high:.3f}] "
        f"| {'the best of them' if one.way == one.rival else gained(one)} |" for one in ways])


def gained(one: Record) -> str:
    """A gain with its interval."""
    return f"{one.gain:+.3f} [{one.gain_low:+.3f}, {one.gain_high:+.3f}]"


def page(found: Iterable[Record]) -> str:
    """The table of the docs: on each set the best of today's ways, and the recommended one."""
    lines = ["| use and set | license | best of today's | farann | gain [95 %] |",
             "|---|---|---|---|---|"]
    for name, same in groupby(found, lambda one: one.use):
        use, mine = USES[name], list(same)
        lines.append(f"| **{use.title}**: {use.measure}{', fewer is better' if use.fewer else ''} "
                     f"| | | {use.ours} | "
                     f"{', '.join(f'{word} {count}' for word, count in counts(mine).items())} |")
        means = {(one.data, one.way): one.mean for one in mine}
        lines += [f"| {SETS[one.data].title} | {one.license} "
                  f"| {means[one.data, one.rival]:.3f} {one.rival} | {one.mean:.3f} "
                  f"| {'chose: ' if one.role == 'chose' else ''}{gained(one)} |"
                  for one in mine if one.whose == "ours"]
    return "\n".join(lines)


def read(path: Path) -> Iterator[Record]:
    """The latest records of a file that weren't quick, in the order of uses and sets; which way is
    recommended, and which set chose it, may have changed since."""
    latest: dict[tuple[str, str], dict[str, list[Record]]] = {}
    for line in path.read_text("utf-8").splitlines():
        content = json.loads(line)
        if content.pop("kind") == "outcome" and not content.pop("quick"):
            ran, one = content.pop("run"), Record(**content)
            runs = latest.setdefault((one.use, one.data), {})
            runs.setdefault(ran, []).append(one)
    for name, use in USES.items():
        for data in use.sets:
            for records_of in list(latest.get((name, data), {}).values())[-1:]:
                yield from (replace(one, whose=whose(use, one.way), role=role(use, data))
                            for one in records_of)


def update(folder: Path, found: Sequence[Record]) -> None:
    """Put the table and the picture into the docs of a checkout."""
    path = folder / "docs" / "outcomes.md"
    text = replace_between(path.read_text("utf-8"), page(found), START, END)
    path.write_text(text, encoding="utf-8")
    drawn = picture(found, {key: use.title for key, use in USES.items()})
    (folder / "docs" / "_static" / "outcomes.svg").write_text(drawn, encoding="utf-8")
