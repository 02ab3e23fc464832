"""Filters by metadata: what `==` says, with groups and without, whatever the values are."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Any

import inside
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

Documents = inside.adapters.Documents


class Color(enum.Enum):
    RED = 1


class Name(enum.StrEnum):
    PET = "pet"


class Twin:
    """Equal to nothing but itself, and written as others are."""

    def __repr__(self) -> str:
        return "Twin()"

    def __deepcopy__(self, memo: object) -> Twin:
        return self


TWIN = Twin()
VALUES: list[Any] = [
    "pet", np.str_("pet"), Name.PET, "1", 1, 1.0, True, np.int64(1), np.float32(1.0), 0, -0.0,
    False, float("nan"), None, ("pet", 1), ["pet", 1], (1, True), [], (), {"a": 1}, {1},
    frozenset({1}), Color.RED, np.arange(3), np.array(["pet"]), b"pet", 2010, np.int64(2010),
    "\ud800", "x" * 1000, "x" * 999 + "y", TWIN, Twin()]


def equal(value: Any, other: Any) -> bool:
    try:
        return bool(value == other)
    except ValueError:  # of arrays
        return False


def passes(value: Any, asked: Any) -> bool:
    """The filter written once more; a tuple equals a list, as files have lists alone."""
    value = list(value) if isinstance(value, tuple) else value
    if isinstance(asked, dict):
        (operator, operand), = asked.items()
        operand = list(operand) if isinstance(operand, tuple) else operand
        if operator in ("$in", "$nin"):
            return any(passes_alone(value, one) for one in operand) is (operator == "$in")
        if operator in ("$eq", "$ne"):
            return equal(value, operand) is (operator == "$eq")
        try:
            return bool(value > operand if operator == "$gt" else value <= operand)
        except (TypeError, ValueError):
            return False
    several = asked.tolist() if isinstance(asked, np.ndarray) else asked
    return passes_alone(value, asked) or (isinstance(several, list | tuple | set | frozenset)
                                          and any(passes_alone(value, one) for one in several))


def passes_alone(value: Any, asked: Any) -> bool:
    return equal(value, list(asked) if isinstance(asked, tuple) else asked)


def documents(values: list[Any], group_by: str | None) -> inside.adapters.Documents[dict[str, Any]]:
    made = Documents[dict[str, Any]](lambda one: one, group_by=group_by)
    some = {str(i): {"number": i, **({} if value is ... else {"kind": value})}
            for i, value in enumerate(values)}
    made.put(some, {id: [1.0, float(id)] for id in some if int(id) % 5 != 4})
    return made


def found(store: inside.adapters.Documents[dict[str, Any]], filter: Any) -> list[int]:
    return sorted(one["number"] for one, _ in store.search(
        "search_nearest", [1.0, 0.0], 100, filter))


some_value = st.sampled_from(VALUES)


@given(st.lists(st.one_of(some_value, st.just(...)), min_size=1, max_size=12), st.one_of(
    some_value.filter(lambda one: not isinstance(one, dict)), st.lists(some_value, max_size=3),
    st.fixed_dictionaries({"$in": st.lists(some_value, max_size=3)}),
    st.fixed_dictionaries({"$nin": st.lists(some_value, max_size=3)}),
    *(st.fixed_dictionaries({name: some_value}) for name in ("$eq", "$ne", "$gt", "$lte"))))
def test_filters_compare_by_equality(values: list[Any], asked: Any) -> None:
    expected = [i for i, value in enumerate(values)
                if i % 5 != 4 and passes(None if value is ... else value, asked)]
    for group_by in None, "kind", "number":
        assert found(documents(values, group_by), {"kind": asked}) == expected


def test_groups_are_looked_up_rather_than_documents() -> None:
    store = documents([i % 7 for i in range(50)], "kind")
    seen: list[Any] = []

    def of_group(metadata: Any) -> bool:
        seen.append(metadata)
        return bool(metadata["kind"] > 3)

    condition = inside.adapters.Condition[Any](
        lambda one: pytest.fail("a document was looked at"), of_group)
    assert found(store, condition) == [i for i in range(50) if i % 7 > 3 and i % 5 != 4]
    assert len(seen) == 7
    seen.clear()
    assert found(store, condition._replace(choices=[5.0, 99])) == [
        i for i in range(50) if i % 7 == 5 and i % 5 != 4]
    assert len(seen) == 1


def test_values_that_look_alike_are_told_apart() -> None:
    one, other = Twin(), Twin()
    assert found(documents([one, other, one], "kind"), {"kind": one}) == [0, 2]


def test_a_value_of_nobody_is_no_error() -> None:
    """As without groups, where no document has it."""
    for group_by in None, "kind":
        store = documents(["x", 1, 2], group_by)
        store.drop(["0"])
        condition = inside.adapters.Condition[Any](lambda one: one["kind"] > 1,
                                                   lambda metadata: metadata["kind"] > 1)
        assert found(store, condition) == [2]


def test_values_of_removed_documents_are_forgotten() -> None:
    store = documents([0], "kind")
    for i in range(300):
        store.put({"0": {"number": 0, "kind": f"{i}"}}, {"0": [1.0, 0.0]})
    assert inside.adapters.values_noted(store) < 100
    assert found(store, {"kind": "299"}) == [0] and found(store, {"kind": "298"}) == []


@pytest.mark.parametrize("later", ["pet", ["a", 1], ("a", 1), True])
def test_filters_of_loaded_documents(tmp_path: Path, later: Any) -> None:
    """JSON has changed values since their groups were named."""
    values = [("a", 1), ["a", 1], Name.PET, "pet", np.float64(1.0), 1, True, None, ...]
    documents(values, "kind").save(tmp_path / "x.farann", lambda one: one)
    store = Documents[dict[str, Any]](lambda one: one)
    store.load(tmp_path / "x.farann", lambda one: one)
    store.put({"99": {"number": 99, "kind": later}}, {"99": [1.0, 99.0]})
    kinds = {int(id): one.get("kind") for id, one in store.by_id.items() if id != "4"}
    for asked in "pet", ["a", 1], ("a", 1), {"$eq": ["a", 1]}, 1, None, {"$ne": 1}:
        assert found(store, {"kind": asked}) == [
            i for i, value in kinds.items() if passes(value, asked)]


@pytest.mark.parametrize("group_by", [None, "kind"])
def test_filters_find_the_same_after_loading(tmp_path: Path, group_by: str | None) -> None:
    """A file has lists for tuples, and plain numbers for those of numpy."""
    values = [("a", "c"), ["a", "c"], np.int64(3), np.float32(0.1), np.bool_(True), (("a",), 1)]
    store = documents(values, group_by)
    store.save(tmp_path / "x.farann", lambda one: one)
    loaded = documents([], group_by)
    loaded.load(tmp_path / "x.farann", dict)
    asked = [("a", "c"), {"$eq": ("a", "c")}, {"$eq": ["a", "c"]}, {"$in": [("a", "c")]}, 3,
             np.float32(0.1), True, {"$eq": [["a"], 1]}]
    expected = [[0, 1]] * 4 + [[2], [3], [], [5]]
    expected[6] = []  # the fifth has no vector
    for one in store, loaded:
        assert [found(one, {"kind": each}) for each in asked] == expected


def test_what_is_no_filter_and_what_no_file_holds(tmp_path: Path) -> None:
    store = documents([1, object()], None)
    for wrong in ("kind == 'pet'", [{"kind": 1}], 5):
        with pytest.raises(TypeError, match="^filter: expected a dict of fields, or a function"):
            found(store, wrong)
    with pytest.raises(TypeError, match=r"documents: '1', field 'kind': metadata: .*JSON.*object"):
        store.save(tmp_path / "x.farann", lambda one: one)
    assert not (tmp_path / "x.farann").exists()
