"""A search goes through few files of Python, and rarely back to one of them."""

from __future__ import annotations

import pytest
from count_hops import Way, ways

# Changes of file and files at most.
GOALS = {"batch": (14, 7), "small batch": (6, 4), "recall": (20, 9), "mask": (18, 9),
         "single": (6, 4), "list": (8, 5)}


@pytest.fixture(scope="module")
def found() -> dict[str, Way]:
    return ways()


@pytest.mark.parametrize("kind", GOALS)
def test_a_search_takes_a_short_way(found: dict[str, Way], kind: str) -> None:
    way = found[kind]
    changes, files = GOALS[kind]
    assert way.files[0] == way.files[-1] == "index.py"
    assert way.changes <= changes and way.different <= files, str(way)
