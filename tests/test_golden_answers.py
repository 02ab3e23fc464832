"""Exact answers stay what they were, to the bit: see golden_answers.py, of which this is a part."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import golden_answers
import inside
import numpy as np
import pytest

# Of the rows, queries, ids and groups of a seed of each kind.
CHECKSUM = 3675436633


@pytest.mark.parametrize("level", inside.levels())
def test_answers_at_a_level(level: str) -> None:
    """A seed each, at the last one of wide rows, too; `golden_answers.py --all` takes them all."""
    first = inside.levels().index(level)
    wide = golden_answers.WIDE
    seeds = [first]
    if level == inside.levels()[-1]:
        seeds.append(wide + first % (golden_answers.SEEDS - wide))
    did = golden_answers.at_level(level, seeds)
    assert did.returncode == 0, did.stdout + did.stderr
    assert re.match(rf"{level}: \d+,\d+ answers compared, 0 wrong", did.stdout)


def test_all_levels_are_compared() -> None:
    assert golden_answers.levels() == list(inside.core.isa_levels())
    assert golden_answers.DATA.stat().st_size < 1_000_000


@pytest.mark.parametrize("name", ["keys", "rows", "sums"])
def test_a_wrong_answer_is_found(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                 capsys: pytest.CaptureFixture[str]) -> None:
    with np.load(golden_answers.DATA) as file:
        kept = dict(file)
    kept[name][3] ^= 1  # the last bit
    monkeypatch.setattr(golden_answers, "DATA", tmp_path / "answers.npz")
    monkeypatch.setattr(golden_answers, "WAYS", (("int8", None),))
    np.savez(golden_answers.DATA, **kept)
    assert golden_answers.compare([0]) > 0
    assert "seed 0, l2, int8" in capsys.readouterr().out


def test_rows_are_the_same_with_any_numpy() -> None:
    """They are made of integers, and sums have one order."""
    found = 0
    for seed in range(len(golden_answers.KINDS)):
        problem = golden_answers.Problem.of(seed)
        for values in (problem.rows, problem.queries, problem.ids, problem.groups):
            found = zlib.crc32(values.astype(values.dtype.newbyteorder("<")).tobytes(), found)
    assert found == CHECKSUM
