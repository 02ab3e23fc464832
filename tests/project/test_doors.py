"""Parts of a search meet through their doors alone, so that the recipes of CONTRIBUTING hold.

A new collector, level, bound or source would be passed by where the loop or another part knows the
kinds there are, or writes what belongs to a collector.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import farann

NATIVE = Path(farann.__file__).parent / "native"
TEXTS = {path.stem: path.read_text("utf-8") for path in NATIVE.glob("*.pyx")}
NOUNS = ("Source", "Bound", "Level", "Collector")
DERIVED = re.compile(r"^cdef class (\w+)\((\w+)\):", re.M)
# Who puts searches together may name kinds; judges find ceilings.
MAY_NAME = {"Source": ("task", "sets"), "Bound": ("task", "sets", "judge"), "Level": (),
            "Collector": ()}
PUSHES = re.compile(r"farann_(?:topk|grouped)_push\w*\(")
WRITES = re.compile(r"\banswers?(?:\[[^\]]*\])?\.[\w.]+\s*[-+]?=(?!=)")


def kinds() -> dict[str, tuple[str, str]]:
    """The noun of each derived class, and its module."""
    parents = {name: (parent, stem) for stem, text in TEXTS.items()
               for name, parent in DERIVED.findall(text)}

    def noun_of(name: str) -> str:
        return noun_of(parents[name][0]) if name in parents else name

    return {name: (noun_of(name), stem) for name, (_, stem) in parents.items()
            if noun_of(name) in NOUNS}


KINDS = kinds()
COLLECTORS = {"collector", *(stem for noun, stem in KINDS.values() if noun == "Collector")}


def passed_by(stem: str, text: str) -> list[str]:
    """What a module does past the doors of other parts."""
    code = re.sub(r'"""[\s\S]*?"""|#.*', "", text)
    derived = {parent for _, parent in DERIVED.findall(code)}
    named = [name for name, (noun, own) in KINDS.items()
             if stem not in (own, *MAY_NAME[noun]) and name not in derived
             and re.search(rf"\b{name}\b", code)]
    own = [] if stem in COLLECTORS else [*PUSHES.findall(code), *WRITES.findall(code)]
    return named + own


@pytest.mark.parametrize("stem", TEXTS)
def test_parts_meet_through_their_doors(stem: str) -> None:
    assert passed_by(stem, TEXTS[stem]) == []


def test_all_kinds_are_known() -> None:
    assert {noun for noun, _ in KINDS.values()} == set(NOUNS) and len(KINDS) >= 20


@pytest.mark.parametrize(("stem", "line"), [
    ("search", "if type(level) is KeyLevel:"),  # the loop knows a kind of level
    ("search", "cdef NormBound bound = part.bounds[0]"),
    ("task", "task.collector = GroupedCollector(k, 1, by_slot)"),  # questions bring theirs
    ("levels", "from farann.native.row_levels cimport FloatLevel"),
    ("row_levels", "farann_topk_push_rows(&answer.top, keys, NULL, n, 1.0, &where, filter)"),
    ("judge", "judge.collector.answers[i].threshold = key"),
    ("probing", "answer.passed.count = 0"),
])
def test_a_door_passed_by_is_told(stem: str, line: str) -> None:
    assert len(passed_by(stem, f"{TEXTS[stem]}\n{line}\n")) == 1
