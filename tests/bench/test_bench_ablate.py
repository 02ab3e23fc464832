"""What each mechanism of the search saves, on small sets that have something for it to do."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import ablate_cases
import inside
import pytest
from cases import arrays_of

from bench.ablate import mechanisms, questions, run

# Sets on which mechanisms change what is counted.
WHERE = {
    "gaussian": {"codes", "joined-nibbles", "single-tiles", "row-major", "kept-vectors",
        "rounding", "first-rows", "selecting", "best-first", "code-noise", "answers-first",
        "parts-by-size", "added-runs", "level-choice", "listed-rows", "kept-singles", "small-tasks",
        "member-order", "shrinking-blocks", "parts-of-rows"},
    "long": {"high-nibbles", "nibble-judge"},
    "long-l2": {"guard"},
    "wide": {"long-blocks"},
    "low-rank": {"pca-filter", "hubs", "early-filters"},
    "one-hot": {"key-scan", "integer-keys", "ceilings"},
    "one-hot-dot": {"zero-columns"},
    "few-directions": {"norm-pruning", "key-bounds", "pca-axes"},
    "decaying": {"mean-query", "mmr-floor", "reaches", "extended-searches", "lateness"},
    "clusters": {"predicted-threshold", "partitions", "judged-layouts", "merged-runs"},
    "term-weights": {"square-bounds"},
    "outliers": {"outliers"},
    "alike": {"cost-judge", "code-trials", "single-judge"},
    "alike-l2": {"first-in-float32"},
}
# With these constants small sets need what pays on large ones.
CONSTANTS: dict[str, dict[str, Any]] = {
    "parts-of-rows": {"long_work": 1, "part_work": 1 << 11, "part_keys": 0},
    "code-trials": {"most_together": 0}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ablate")


@pytest.mark.parametrize("mechanism", [
    known for known in mechanisms.MECHANISMS
    if any(known.name == min(names) for names in WHERE.values())], ids=lambda known: known.name)
def test_a_switch_changes_what_is_counted_and_no_exact_answer(
        mechanism: mechanisms.Mechanism, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # At one level the counts are the same everywhere.
    level = {"forced_level": "avx2"} if "avx2" in inside.levels() else {}
    for setting, value in {**level, **CONSTANTS.get(mechanism.name, {})}.items():
        monkeypatch.setattr(inside.settings, setting, value)
    name = next(name for name, names in WHERE.items() if mechanism.name in names)
    data, question = ablate_cases.made(name, folder / name), mechanism.question
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sides = [run.side(data, mechanism, off) for off in (False, True)]
        differs = False
        switches: list[run.Switch] = [nullcontext, mechanism.off]
        for (way, _), ask in run.asks_of(mechanism).items():
            found, answers = [], []
            for side, switch in zip(sides, switches, strict=True):
                with switch():
                    found.append(questions.counts(
                        side.index, questions.QUESTIONS[question], ask, data.queries()))
                    answers.append(bits_of(ask(side.index, data.queries(), {})))
            assert answers[0] == answers[1] or way != "exact"
            differs |= found[0] != found[1]
    assert differs == mechanism.counts


def bits_of(answers: object) -> bytes:
    """All numbers of some answers."""
    return b"".join(array.tobytes() for answer in (answers if isinstance(answers, list)
                                                   else [answers]) for array in arrays_of(answer))


def test_all_is_as_it_was_afterwards() -> None:
    for mechanism in mechanisms.MECHANISMS:
        before = [getattr(where, what) for where, what, _ in mechanism.patches]
        with mechanism.off():
            assert all(getattr(where, what) is not was for (where, what, _), was
                       in zip(mechanism.patches, before, strict=True))
        assert before == [getattr(where, what) for where, what, _ in mechanism.patches]


def test_each_switch_of_the_core_is_one_of_a_mechanism() -> None:
    named = sorted(mechanism.name for mechanism in mechanisms.MECHANISMS if mechanism.native)
    assert named == sorted(inside.native.MECHANISMS)
    with pytest.raises(ValueError, match="not in tuple"):
        inside.native.leave_out("magic")


def test_times_are_told_in_turns(folder: Path) -> None:
    data = ablate_cases.made("gaussian", folder / "gaussian")
    found = list(run.ablate(data, mechanisms.chosen(["selecting", "hubs"]), 0.0))
    assert [(saved.mechanism, saved.way, saved.mode) for saved in found] == [
        ("selecting", "exact", "batch"), *(("hubs", way, mode) for way in ("exact", "0.95")
                                           for mode in ("batch", "single", "tens", "threads"))]
    assert {saved.mechanism: saved.used for saved in found} == {"selecting": True, "hubs": False}
    assert all(saved.time > 0.0 for saved in found)
    # What time alone tells of counts as used wherever it is timed.
    assert all(saved.used for saved in run.ablate(data, mechanisms.chosen(["joined-nibbles"]), 0.0))


def test_the_table_leaves_out_what_makes_no_difference() -> None:
    saved = run.Saved("hubs", "a-dot", "exact", "batch", 1.05, 1.0, 1.0, 1.0, True)
    assert "| none | 1 of 1 |" in run.table([saved])
    with pytest.raises(ValueError, match="--only must be of codes, .*, got 'magic'"):
        mechanisms.chosen(["magic"])
