"""Whatever is given for an argument: it works, or an error names the argument."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import assert_same

import farann
from farann import metrics
from farann.adapters.posneg import Factorization, FusionRanker, SignedModel
from farann.cli import main

N, DIM = 90, 4
HUGE = 10**400

ABSURD: list[Any] = [
    HUGE, -HUGE, 10**5000, -(10**5000), -1, 0, 2**31, 2**32, 2**53, 2**62, 2**63 - 1, 2**63, 2**64,
    2**128, 10**9, 1.5, 5e-324, 1e300, -1e300, np.inf, -np.inf, np.nan,
    np.float16("inf"), np.float32("nan"), np.longdouble("1e4000"), np.uint64(2**64 - 1),
    np.int8(-1),
    np.datetime64("2020-01-01"), np.datetime64("NaT"), np.timedelta64(1, "s"), np.bool_(True), True,
    1j, np.complex64(1j), np.array(1j), Decimal("1e999"), Decimal("sNaN"), Fraction(HUGE),
    Fraction(1, 3), "", "x" * 1_000_000, "\0", b"", bytearray(b"1"), None, ..., object(), slice(3),
    lambda *_: 0, {}, set(), range(3), [], [[]], [[], []], [1, [2]], [[1, 2], [3]], [None], ["a"],
    [HUGE], [[HUGE] * DIM], [2**63], [2**63, -1], [10**30], [-1], [1e300], [[1e300] * DIM],
    [[np.inf] * DIM], [np.nan], [1j], [np.datetime64("2020"), 1], [1, "a"], [Decimal(1)], [True],
    np.array([]), np.empty((0, 0)), np.empty((0, 10**9)), np.empty((3, 0, 5)), np.array(7),
    np.zeros((2, 2), [("x", "f4")]), np.array([[1, 2]], object), memoryview(b"abcd"),
    MANY := np.broadcast_to(np.int8(1), (2, 2**40)),  # it has a byte, and claims 2 TiB
]

Call = Callable[[Any], object]


def complaints(name: str, call: Call) -> list[str]:
    """What went wrong with which values, other than a proper error."""
    wrong = []
    for value in ABSURD:
        try:
            call(value)
        except (TypeError, ValueError, KeyError) as error:
            if re.match(rf"({name})\b", str(error.args[0])) and len(str(error)) < 1000:
                continue
            what = repr(error)[:200]
        except Exception as error:
            if value is MANY and isinstance(error, MemoryError):
                continue
            what = repr(error)[:200]
        else:
            continue
        try:
            shown = repr(value)[:40]
        except ValueError:
            shown = "10**5000"
        wrong.append(f"{name}={shown}: {what}")
    return wrong


def filled(**options: Any) -> farann.Index:
    """An index with rows, some of them added after the build."""
    index = farann.Index(**options)
    rows = np.random.default_rng(0).standard_normal((N, DIM)).astype(np.float32)
    index.add(rows[:-5])
    index.build()
    index.add(rows[-5:])
    return index


ONE, TWO = np.ones(DIM, np.float32), np.eye(2, DIM, dtype=np.float32)


Method = Callable[[farann.Index, Any], object]


def options_of(name: str) -> Call:
    """Make an index with an option, and use it."""
    def call(value: Any) -> None:
        filled(**{"codes": "int4" if name == "cells" else "int8", name: value}).search_furthest(TWO)
    return call


def with_one(call: Callable[..., object], name: str, **others: Any) -> Call:
    """Call with a value for one argument, and the others as they are."""
    return lambda value: call(**others | {name: value})


def search_with_one(search: str, name: str) -> Method:
    others = {"queries": TWO} | ({"radius": 1.0} if search == "search_beyond" else {})
    return lambda index, value: getattr(index, search)(**others | {name: value})


OF_AN_INDEX: dict[str, Call] = {
    "dim": lambda value: farann.Index(value),
    **{name: options_of(name) for name in (
        "metric", "codes", "cells", "keep_vectors", "seed", "threads")},
    "cells seed": lambda value: filled(cells=3, seed=value),
}

# An index, shared by all values, and what is given: it must not change where that is refused.
METHODS: dict[str, tuple[str, Method]] = {
    "add rows": ("rows", lambda i, v: farann.Index(i.dim).add(v)),
    "add rows of any dimension": ("rows", lambda i, v: farann.Index().add(v)),
    "add rows without a copy": ("rows", lambda i, v: farann.Index(i.dim).add(v, copy=False)),
    "add ids": ("ids", lambda i, v: farann.Index(DIM).add(TWO, v)),
    "remove": ("ids", lambda i, v: filled().remove(v)),
    "build": ("queries", lambda i, v: i.build(v)),
    "tune queries": ("queries", lambda i, v: i.tune(v)),
    "tune k": ("k", lambda i, v: i.tune(k=v)),
    "tune recall": ("recall", lambda i, v: i.tune(recall=v)),
    "recall": ("recall", lambda i, v: i.search_furthest(TWO, recall=v)),
    "epsilon": ("epsilon", lambda i, v: i.search_furthest(TWO, epsilon=v)),
    "budget": ("budget", lambda i, v: i.search_furthest(TWO, budget=v)),
    "radius": ("radius", lambda i, v: i.search_beyond(TWO, radius=v)),
    "radius of one": ("radius", lambda i, v: i.search_beyond(ONE, radius=v)),
    "score queries": ("queries", lambda i, v: i.score(v, [1])),
    "score ids": ("ids", lambda i, v: i.score(TWO, v)),
    "score threads": ("threads", lambda i, v: i.score(TWO, [1], threads=v)),
    "reconstruct": ("ids", lambda i, v: i.reconstruct(v)),
    "in": ("none is ever raised", lambda i, v: v in i),
    **{f"{search} {name}": (name, search_with_one(search, name))
       for search in ("search_furthest", "search_nearest", "search_beyond")
       for name in ("queries", "k", "exclude", "allowed", "threads")
       if (search, name) != ("search_beyond", "k")},
    "exclude of one": ("exclude", lambda i, v: i.search_furthest(ONE, exclude=v)),
    "k of many": ("k", lambda i, v: i.search_furthest(np.ones((5000, DIM)), k=v)),
    "k of none": ("k", lambda i, v: i.search_furthest(np.ones((0, DIM)), k=v)),
}

ONE_OFF: dict[str, Call] = {
    "rows": lambda v: farann.search_furthest(v, TWO),
    "queries": lambda v: farann.search_furthest(TWO, v),
    "k": lambda v: farann.search_furthest(TWO, TWO, v),
    "metric": lambda v: farann.search_furthest(TWO, TWO, 1, v),
    "threads": lambda v: farann.search_furthest(TWO, TWO, 1, threads=v),
}

TABLE = farann.Tuning(10, (1.0, 2.0, np.inf), (0.5, 0.9, 1.0), (1.0, 2.0, 9.0))
IDS, SOME = [[1, 2, 3], [4, 5, -1]], [[1, 9], [5]]
PLACES = [0.1, 0.2, 0.7]
JUDGES: list[tuple[Any, str]] = [
    (metrics.recall_at_k, "relevant"), (metrics.ndcg_at_k, "relevant"),
    (metrics.reciprocal_rank, "relevant"), (metrics.average_precision, "relevant"),
    (metrics.disliked_at_k, "disliked")]
CALIBRATION_JUDGES: list[Any] = [metrics.reliability, metrics.expected_calibration_error]
METRICS: dict[str, tuple[str, Call]] = {
    "recall": ("recall", TABLE.effort_for),
    **{f"{judge.__name__} {name}": (f"{name}|{good}" if name == "ids" else name,
                                    with_one(judge, name, **{"ids": IDS, good: SOME, "k": 2}))
       for judge, good in JUDGES for name in ("ids", good, "k")},
    **{f"auc_by_user {name}": (f"{name}|labels", with_one(
        metrics.auc_by_user, name, users=[1, 1, 2], labels=[0, 1, 1], scores=PLACES))
       for name in ("users", "labels", "scores")},
    **{f"{judge.__name__} {name}": (f"{name}|labels", with_one(
        judge, name, probabilities=PLACES, labels=[0, 1, 1]))
       for judge in CALIBRATION_JUDGES
       for name in ("probabilities", "labels", "bins", "strategy")},
    **{f"mean_interval {name}": (name, with_one(
        metrics.mean_interval, name, values=PLACES, samples=3))
       for name in ("values", "confidence", "seed")},
    **{f"bootstrap_interval {name}": (name, with_one(
        metrics.bootstrap_interval, name, statistic=len, n_users=3, samples=3))
       for name in ("statistic", "confidence", "seed")},
}

LIKED = np.random.default_rng(1).standard_normal((40, DIM)).astype(np.float32)


WHO, WHAT = np.arange(80) % 20, np.arange(80) // 2
LABELS = (LIKED[WHO] * LIKED[WHAT]).sum(axis=1) + np.sin(np.arange(80)) > 0
MODEL: dict[str, Any] = {"items": LIKED, "users": LIKED, "sign": "both"}
FEEDBACK: dict[str, Any] = {"users": WHO, "items": WHAT, "labels": LABELS}


def learned(**feedback: Any) -> FusionRanker:
    return FusionRanker([SignedModel(**MODEL)]).fit(**FEEDBACK | feedback)


def cross_fitted(cv: Any) -> FusionRanker:
    return FusionRanker(lambda *_: [SignedModel(**MODEL)]).fit(**FEEDBACK, cv=cv)


RANKER = learned()
OF_A_RANKER: dict[str, Call] = {
    **{f"model {name}": with_one(SignedModel, name, **MODEL)
       for name in ("items", "users", "sign", "name", "ids", "user_ids", "metric")},
    **{f"factorization {name}": with_one(Factorization, name)
       for name in ("dim", "seed", "rng")},
    **{f"fit {name}": with_one(learned, name)
       for name in ("users", "items", "labels", "times", "sample_weight", "shown", "seed")},
    "fit cv": cross_fitted,
    "models": FusionRanker, "threads": lambda v: FusionRanker(threads=v),
    **{f"rank {name}": with_one(RANKER.rank, name, users=[1, 2])
       for name in ("users", "k", "among", "exposure", "exclude", "allowed")},
    "rank queries": lambda v: RANKER.rank(queries=v),
    **{f"score {name}": with_one(RANKER.score, name, users=[1, 2]) for name in ("users", "items")},
    **{f"{judge.__name__} {name}": with_one(judge, name, **FEEDBACK)
       for judge in (RANKER.evaluate,) for name in FEEDBACK},
    "evaluate k": lambda v: RANKER.evaluate(**FEEDBACK, k=v),
}


@pytest.mark.parametrize("name", OF_AN_INDEX)
def test_index(name: str) -> None:
    assert not complaints(name.rsplit(maxsplit=1)[-1], OF_AN_INDEX[name])


@pytest.mark.parametrize("what", METHODS)
def test_methods(what: str) -> None:
    name, method = METHODS[what]
    index = filled()
    before = index.search_furthest(TWO)
    assert not complaints(name, lambda value: method(index, value))
    assert_same(index.search_furthest(TWO), before)


@pytest.mark.parametrize("name", ONE_OFF)
def test_one_off_search(name: str) -> None:
    assert not complaints(name, ONE_OFF[name])


@pytest.mark.parametrize("what", METRICS)
def test_metrics(what: str) -> None:
    assert not complaints(*METRICS[what])


# An argument that is fine in itself, but not beside another, may be told by the other's name.
OTHERS = {"items": "users", "labels": "users", "user_ids": "users", "seed": "rng",
          "queries": "users"}


@pytest.mark.filterwarnings("ignore:users. .* in no model:UserWarning")
@pytest.mark.parametrize("what", OF_A_RANKER)
def test_ranker(what: str) -> None:
    name = what.rsplit(maxsplit=1)[-1]
    assert not complaints(f"{name}|{OTHERS.get(name, name)}", OF_A_RANKER[what])


# ---- what comes of values at the ends ----


@pytest.mark.parametrize("metric", ["l2", "dot", "cosine"])
def test_radii_at_the_ends(metric: str) -> None:
    """Everything or nothing is further than what no distance or product reaches."""
    index = filled(metric=metric)
    everything, nothing = (-1.0, 1.0) if metric == "l2" else (1.0, -1.0)
    for size in (1e20, 1e300, np.inf, np.finfo(np.float64).max, Fraction(10**300)):
        for queries in (ONE, TWO):
            n = 1 if queries is ONE else 2
            assert len(index.search_beyond(queries, radius=nothing * size).ids) == 0
            assert len(index.search_beyond(queries, radius=everything * size).ids) == n * N
            assert len(index.search_within(queries, radius=nothing * size).ids) == n * N
            assert len(index.search_within(queries, radius=everything * size).ids) == 0
    radius: Any
    for radius in (HUGE, -HUGE, Fraction(HUGE)):
        with pytest.raises(ValueError, match="radius: expected a number that float64 can hold"):
            index.search_beyond(TWO, radius=radius)


@pytest.mark.parametrize("metric", ["l2", "dot", "cosine"])
def test_limits_at_the_ends(metric: str) -> None:
    index = filled(metric=metric)
    exact = index.search_furthest(TWO)
    for limits in ({"budget": 2**62}, {"budget": 2**63 - 1}, {"epsilon": 5e-324},
                   {"recall": 1.0}):
        assert_same(index.search_furthest(TWO, **limits), exact)
    for epsilon in (1e300, np.finfo(np.float64).max):
        ids = index.search_furthest(TWO, epsilon=epsilon).ids
        assert (ids >= 0).all() and all(len(set(row)) == 10 for row in ids.tolist())
    value: Any
    for name, value, told in (
            ("budget", 2**63, "at most 9223372036854775807, got 9223372036854775808"),
            ("budget", HUGE, "at most 9223372036854775807, got 1000"),
            ("epsilon", HUGE, "a number that float64 can hold, got 1000"),
            ("recall", HUGE, "a number that float64 can hold, got 1000"),
            ("threads", 2**63, "at most 4096, got 9223372036854775808")):
        with pytest.raises(ValueError, match=f"{name}: expected {told}"):
            index.search_furthest(TWO, **{name: value})


def test_padding() -> None:
    """k may be above the number of rows as long as a call pads to 2^24 results."""
    index = filled()
    most = 2**24
    for queries, k in ((ONE, most), (np.ones((2**14, DIM)), 2**10)):
        hits = index.search_furthest(queries, k)
        ids, scores = np.atleast_2d(hits.ids), np.atleast_2d(hits.scores)
        assert ids.shape == (max(1, len(queries) if queries.ndim > 1 else 1), k)
        assert (np.sort(ids[:, :N]) == np.arange(N)).all()
        assert (ids[:, N:] == -1).all() and np.isnan(scores[:, N:]).all()
        for search in (index.search_furthest, index.search_nearest, partial(
                farann.search_furthest, np.ones((N, DIM)))):
            with pytest.raises(ValueError, match=rf"k: expected at most {k} for .* {N} rows, as a "
                                                 rf"call pads to at most {most} results, got"):
                search(queries, k + 1)
    many = np.ones((most // N + 1, DIM), np.float32)
    assert index.search_furthest(many, N).ids.shape == (len(many), N)
    with pytest.raises(ValueError, match=f"k: expected at most {N} for"):
        index.search_furthest(many, N + 1)
    with pytest.raises(ValueError, match="k: expected at most 16777216 for 1 queries of 0 rows"):
        farann.Index(DIM).search_furthest(ONE, most + 1)
    with pytest.raises(ValueError, match=f"k: expected at most {most // 2} for 2 queries of 40"):
        RANKER.rank([1, 2], most)


def test_tuning_for_more_than_there_is() -> None:
    index = filled()
    assert index.tune(k=10**9).k == 10**9
    hits = index.search_furthest(ONE, 200, recall=0.9)
    assert hits.ids.shape == (200,) and (hits.ids[N:] == -1).all()
    assert np.isin(hits.ids, [-1, *range(N)]).all() and (hits.ids >= 0).sum() >= 0.8 * N


def test_the_scale_of_weights_does_not_matter() -> None:
    weights = 1.0 + np.arange(80) % 3
    usual = learned(sample_weight=weights).rank([1, 2]).scores
    assert not np.array_equal(usual, RANKER.rank([1, 2]).scores)
    for scale in (1e300, 1e-300, 2.0**-1000):
        found = learned(sample_weight=scale * weights).rank([1, 2]).scores
        np.testing.assert_allclose(found, usual, rtol=1e-6)


@pytest.mark.parametrize("value", [str(10**400), "9" * 5000, str(2**63), "-1", "1e999", "nan", ""])
@pytest.mark.parametrize("option", ["-k", "--beyond", "--recall", "--epsilon", "--budget",
                                    "--threads"])
def test_command_line(option: str, value: str, tmp_path: Path,
                      capsys: pytest.CaptureFixture[str]) -> None:
    filled().save(tmp_path / "index.farann")
    np.save(tmp_path / "queries.npy", TWO)
    status = main(["search", str(tmp_path / "index.farann"), str(tmp_path / "queries.npy"),
                   f"{option}={value}" if option != "-k" else f"-k{value}"])
    error = capsys.readouterr().err
    # No row is beyond an infinite radius, all are beyond -1; a large epsilon allows all errors; -1
    # thread is one for each CPU.
    if (option == "--beyond" and value not in ("nan", "")) or (
            (option, value) in (("--epsilon", str(2**63)), ("--threads", "-1"))):
        assert status == 0
    else:
        assert status == 2 and error.startswith("farann: error: ") and error.count("\n") == 1
        assert option.strip("-") in error


@pytest.mark.parametrize("option", ["--cells", "--seed", "--threads"])
def test_building_by_command_line(option: str, tmp_path: Path,
                                  capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "rows.npy", TWO)
    for value in (2**128, HUGE):
        assert main(["build", str(tmp_path / "rows.npy"), "-o", str(tmp_path / "x.farann"),
                     f"{option}={value}"]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"farann: error: {option}: expected")
        assert len(error) < 300
