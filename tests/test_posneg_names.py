"""Strings as ids of items and users of both rankers: the same answers as with numbers."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import inside
import numpy as np
import pytest
from numpy.typing import NDArray

from farann import FormatError, Index
from farann.adapters.posneg import Factorization, FusionRanker, PosNegRanker, SignedModel, cross_fit

Array = NDArray[Any]
N, USERS = 40, 25
RNG = np.random.default_rng(3)
ITEMS = RNG.standard_normal((2, N, 4), dtype=np.float32)
QUERIES = list(RNG.standard_normal((2, USERS, 4), dtype=np.float32))
WHO, WHAT = RNG.integers(0, USERS, 1500), RNG.integers(0, N, 1500)
LIKED = RNG.random(1500) < 1 / (1 + np.exp((QUERIES[1][WHO] * ITEMS[1][WHAT]).sum(axis=1)
                                           - (QUERIES[0][WHO] * ITEMS[0][WHAT]).sum(axis=1)))
# In the order of numbers, as ties go by the order of ids.
NAMES = [f"item {i:02} é" for i in range(N)]
PEOPLE = [f"person {(7 * i) % USERS:02}" for i in range(USERS)]


def rankers(kind: str, *, named: bool) -> Any:
    ids = NAMES if named else None
    if kind == "pair":
        return PosNegRanker(*ITEMS, ids=ids)
    return FusionRanker([SignedModel(rows, sign, ids=ids)
                         for rows, sign in zip(ITEMS, (1, -1), strict=True)])


def fitted(kind: str, *, named: bool) -> Any:
    queries = QUERIES if kind == "pair" else [QUERIES]
    items, users = (np.array(NAMES)[WHAT], [PEOPLE[i] for i in WHO]) if named else (WHAT, WHO)
    return rankers(kind, named=named).fit(*queries, items, LIKED, users=users,
                                          user_ids=PEOPLE if named else None)


def asked(kind: str) -> list[Any]:
    few = [each[:3] for each in QUERIES]
    return few if kind == "pair" else [few]


@pytest.mark.parametrize("kind", ["pair", "fusion"])
def test_strings_answer_as_numbers_do(kind: str, tmp_path: Path) -> None:
    numbered, named = fitted(kind, named=False), fitted(kind, named=True)
    queries = asked(kind)
    ranker: Any
    named.save(tmp_path / "named.ranker")
    for ranker in (named, type(named).load(tmp_path / "named.ranker"),
                   pickle.loads(pickle.dumps(named))):
        assert ranker.ids.tolist() == NAMES
        for exclude, allowed in ((None, None), ([[3, 5], [], [1]], None), (None, range(6))):
            expected = numbered.rank(*queries, 8, exclude, allowed)
            hits = ranker.rank(
                *queries, 8, None if exclude is None else [[NAMES[i] for i in one] + ["nothing"]
                                                           for one in exclude],
                None if allowed is None else [NAMES[i] for i in allowed])
            np.testing.assert_array_equal(hits.scores, expected.scores)
            assert hits.ids.tolist() == [[None if i < 0 else NAMES[i] for i in row]
                                         for row in expected.ids.tolist()]
        mask = np.arange(N) < 6
        assert ranker.rank(*queries, 8, allowed=mask).ids[0, 6] is None
        assert ranker.rank(*queries, 2, exclude=hits.ids[0]).ids.shape == (3, 2)  # with None
        scores = ranker.score(*queries, NAMES[:5]).scores
        np.testing.assert_array_equal(scores, numbered.score(*queries, np.arange(5)).scores)
        chance = numbered.probability(scores, [2, 0, -1])
        for others in (None, "somebody"):
            np.testing.assert_array_equal(
                ranker.probability(scores, [PEOPLE[2], PEOPLE[0], others]), chance)
        assert ranker.probability(scores[0], PEOPLE[2]).shape == (5,)
    every = QUERIES if kind == "pair" else [QUERIES]
    found = named.evaluate(*every, np.array(NAMES)[WHAT], LIKED,
                           users=np.array(PEOPLE)[WHO], user_ids=PEOPLE)
    assert str(found) == str(numbered.evaluate(*every, WHAT, LIKED, users=WHO))


def test_an_index_brings_strings_and_replacing_keeps_them() -> None:
    index = Index(4, "dot")
    index.add(ITEMS[0], NAMES)
    ranker = fitted("fusion", named=True)
    again = ranker.replace([SignedModel(index, 1), SignedModel(ITEMS[1][::-1], -1,
                                                               ids=NAMES[::-1])])
    queries = [each[:3] for each in QUERIES]
    np.testing.assert_array_equal(again.rank(queries).ids, ranker.rank(queries).ids)
    pair = fitted("pair", named=True)
    more = pair.replace(np.vstack([ITEMS[0], ITEMS[0][:1]]), np.vstack([ITEMS[1], ITEMS[1][:1]]),
                        ids=[*NAMES, "new"])
    assert more.item_log_odds[more.ids.tolist().index("new")] == 0


@pytest.mark.filterwarnings("ignore:models left out|.*higher scores don't go")
def test_cross_fit_takes_strings() -> None:
    names = np.array(NAMES)[WHAT]
    trained = cross_fit(Factorization(USERS, dim=3), [PEOPLE[i] for i in WHO], names, LIKED, cv=2,
                        user_ids=PEOPLE)
    numbers = cross_fit(Factorization(USERS, dim=3), WHO, WHAT, LIKED, cv=2)
    mine = trained.ranker.rank(trained.queries)
    np.testing.assert_array_equal(mine.scores, numbers.ranker.rank(numbers.queries).scores)
    assert isinstance(mine.ids[0, 0], str)
    np.testing.assert_array_equal(trained.ranker.probability(mine.log_odds, PEOPLE),
                                  numbers.ranker.probability(mine.log_odds, np.arange(USERS)))


def test_errors_name_what_is_wrong() -> None:
    ranker = fitted("fusion", named=True)
    queries = [each[:3] for each in QUERIES]
    with pytest.raises(TypeError, match="models: expected integer ids or strings everywhere"):
        FusionRanker([SignedModel(ITEMS[0], ids=NAMES), SignedModel(ITEMS[1], -1)])
    with pytest.raises(ValueError, match="ids: expected each id once, got 'a' twice"):
        SignedModel(np.eye(2), ids=["a", "a"])
    with pytest.raises(TypeError, match="item_ids: expected strings, as ids are here"):
        ranker.score(queries, [1, 2])
    with pytest.raises(TypeError, match="item_ids: expected integers, as ids are here"):
        fitted("fusion", named=False).score(queries, NAMES[:2])
    with pytest.raises(KeyError, match="item_ids: nobody is in no model"):
        ranker.score(queries, ["nobody"])
    with pytest.raises(TypeError, match="exclude.*expected strings"):
        ranker.rank(queries, exclude=[[1], [2], [3]])
    with pytest.raises(KeyError, match="users: you is not among user_ids"):
        ranker.fit(QUERIES, NAMES[:1], [1], users=["you"], user_ids=PEOPLE)
    with pytest.raises(ValueError, match="user_ids: expected 25 ids"):
        ranker.fit(QUERIES, NAMES[:1], [1], users=["you"], user_ids=["you"])
    with pytest.raises(TypeError, match="got strings; user_ids= says"):
        ranker.fit(QUERIES, NAMES[:1], [1], users=["you"])
    with pytest.raises(TypeError, match="got strings; user_ids= says"):
        cross_fit(Factorization(2), ["a"], [1], [1])


@pytest.mark.parametrize("kind", ["pair", "fusion"])
def test_damaged_names_are_refused(kind: str, tmp_path: Path) -> None:
    ranker, path = fitted(kind, named=True), tmp_path / "damaged.ranker"
    ranker.save(path)
    metadata, arrays = inside.container.read_file(path)
    name = "positive.ids" if kind == "pair" else "ids.0"
    octets = np.array(arrays[f"{name}.bytes"])
    for change in ({f"{name}.ends": arrays[f"{name}.ends"][::-1]},
                   {f"{name}.ends": arrays[f"{name}.ends"].astype(np.float64)},
                   {f"{name}.bytes": octets[:-1]}, {f"{name}.bytes": octets | 0x80},
                   {"users.ids.ends": arrays["users.ids.ends"][:-1]}):
        inside.container.write_file(path, metadata, {**arrays, **change})
        with pytest.raises(FormatError):
            type(ranker).load(path)
