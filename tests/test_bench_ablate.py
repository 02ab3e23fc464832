"""What each mechanism of the search saves, on small sets that have something for it to do."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from pathlib import Path

import ablate_cases
import inside
import numpy as np
import pytest

from bench.ablate import mechanisms, questions, run

# A set on which each mechanism changes what is counted.
WHERE = {
    "codes": "small",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ablate")


@pytest.mark.parametrize("mechanism", mechanisms.MECHANISMS, ids=lambda known: known.name)
def test_a_switch_changes_what_is_counted_and_no_exact_answer(
        mechanism: mechanisms.Mechanism, folder: Path) -> None:
    name = WHERE[mechanism.name]
    data, question = ablate_cases.made(name, folder / name), mechanism.question
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sides = [run.side(data, mechanism, off) for off in (False, True)]
        differs = False
        for (way, _), ask in run.asks_of(mechanism).items():
            found = []
            for side, switch in zip(sides, (nullcontext, mechanism.off), strict=True):
                with switch():
                    found.append(questions.counts(
                        side.index, questions.QUESTIONS[question], ask, data.queries()))
                    answers = ask(side.index, data.queries(), {})
                found[-1]["answers"] = bits_of(answers) if way == "exact" else 0
            assert found[0].pop("answers") == found[1].pop("answers")
            differs |= found[0] != found[1]
    assert differs == mechanism.counts


def bits_of(answers: object) -> bytes:
    """All numbers of some answers."""
    if isinstance(answers, np.ndarray):
        return answers.tobytes()
    if isinstance(answers, tuple | list):
        return b"".join(bits_of(part) for part in answers)
    return np.array(answers).tobytes()


def test_all_is_as_it_was_afterwards() -> None:
    for mechanism in mechanisms.MECHANISMS:
        before = [getattr(where, what) for where, what, _ in mechanism.patches]
        with mechanism.off():
            assert all(getattr(where, what) is not was for (where, what, _), was
                       in zip(mechanism.patches, before, strict=True))
        assert before == [getattr(where, what) for where, what, _ in mechanism.patches]


def test_each_switch_of_the_core_is_one_of_a_mechanism() -> None:
    named = sorted(mechanism.name for mechanism in mechanisms.MECHANISMS if mechanism.native)
    assert named == sorted(inside.MECHANISMS)
    with pytest.raises(ValueError, match="not in tuple"):
        inside.leave_out("magic")


def test_lines_are_those_of_files_and_functions() -> None:
    assert all(mechanism.lines > 0 for mechanism in mechanisms.MECHANISMS)
    known = mechanisms.Mechanism("known", "", ("bench/ablate/mechanisms.py: chosen",))
    assert known.lines == 7
    for place, message in (("farann/gone.py", "no file 'farann/gone.py'"),
                           ("bench/ablate/run.py: gone", "no function 'gone'")):
        with pytest.raises(ValueError, match=message):
            mechanisms.Mechanism("gone", "", (place,)).lines  # noqa: B018


def test_times_are_told_in_turns(folder: Path) -> None:
    data = ablate_cases.made("small", folder / "small")
    found = list(run.ablate(data, mechanisms.chosen(["selecting", "hubs"]), 0.0))
    assert [(saved.mechanism, saved.way, saved.mode) for saved in found] == [
        ("selecting", "exact", "batch"), ("hubs", "exact", "batch"), ("hubs", "exact", "single"),
        ("hubs", "0.95", "batch"), ("hubs", "0.95", "single")]
    assert {saved.mechanism: saved.used for saved in found} == {"selecting": True, "hubs": False}
    assert all(saved.time > 0.0 and saved.lines > 3 for saved in found)


def test_the_table_leaves_out_what_makes_no_difference() -> None:
    saved = run.Saved("hubs", "a-dot", "exact", "batch", 1.05, 1.0, 1.0, 1.0, 40, True)
    assert "| 1 of 1 | none |" in run.table([saved])
    with pytest.raises(ValueError, match="--only must be of codes, .*, got 'magic'"):
        mechanisms.chosen(["magic"])
