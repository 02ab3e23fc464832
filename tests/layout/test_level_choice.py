"""Builds choose what single exact queries begin with; answers are the same whatever it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import inside
import numpy as np
import pytest
import reference
from cases import DATA, Float32, assert_same, index_of, pairs, queries_for, rows_for
from reference import METRICS

import farann

LEVELS = inside.levels()
N, K = 6000, 10


def letter_pairs(rng: np.random.Generator, n: int) -> Float32:
    """Counts of 100 pairs in words of 6: most products of two words are zero."""
    popular = np.arange(1, 101) ** -0.5
    drawn = rng.choice(100, (n, 6), p=popular / popular.sum())
    rows = np.zeros((n, 100), np.float32)
    np.add.at(rows, (np.arange(n)[:, None], drawn), 1)
    return rows


def poles(rng: np.random.Generator, n: int) -> Float32:
    """Near one of two opposite points."""
    vectors = 0.1 * rng.standard_normal((n, 128), dtype=np.float32)
    vectors[:, 0] += rng.choice(np.array([-1, 1], np.float32), n)
    return vectors


def few_at_poles(rng: np.random.Generator, n: int) -> Float32:
    """Rows of which next to none but those at the poles pass by their high nibbles."""
    return np.concatenate([poles(rng, n // 40), 0.1 * rng.standard_normal(
        (n - n // 40, 128), dtype=np.float32)])


def few_dimensions(rng: np.random.Generator, n: int) -> Float32:
    """High nibbles spare 4 bytes of a row, and let many rows pass."""
    return rng.standard_normal((n, 8), dtype=np.float32)


Make = Callable[[np.random.Generator, int], Float32]
# The metric, rows and queries that a level is best for.
KINDS: dict[str, tuple[str, Make, Make]] = {
    "float32": ("dot", letter_pairs, letter_pairs),
    "high nibbles": ("cosine", few_at_poles, poles),
    "whole codes": ("cosine", few_dimensions, few_dimensions)}


def built(kind: str, rng: np.random.Generator) -> farann.Index:
    """An index for which a level is the best."""
    metric, rows, queries = KINDS[kind]
    return index_of(rows(rng, N), metric).build(queries=queries(rng, 300))


def chosen(index: farann.Index) -> str:
    codes = inside.store.of(index).codes
    assert codes is not None
    if codes.float32_below > 0.0:
        return "float32"
    return "whole codes" if codes.whole_codes_first else "high nibbles"


def alone(index: farann.Index, query: Float32, k: int = K, **options: Any) -> farann.SearchStats:
    """The work of a single query."""
    stats = index.search_furthest(query, k, return_stats=True, **options).stats
    assert isinstance(stats, farann.SearchStats)
    return stats


# What codes say of each level.
LEVEL: dict[str, dict[str, Any]] = {
    "float32": {"float32_below": 1e30}, "high nibbles": {},
    "whole codes": {"whole_codes_first": True}}
USUAL: dict[str, Any] = {"float32_below": 0.0, "whole_codes_first": False}


def waits_of(index: farann.Index, queries: Float32) -> float:
    """Bytes that single queries wait for."""
    return sum(inside.runtime.bytes_waited_for(alone(index, query)) for query in queries)


@pytest.mark.parametrize("kind", KINDS)
def test_each_level_where_it_waits_least(kind: str, rng: np.random.Generator) -> None:
    index, queries = built(kind, rng), KINDS[kind][2](rng, 100)
    assert chosen(index) == kind
    codes, waits = inside.store.of(index).codes, {}
    assert codes is not None
    for name, level in LEVEL.items():
        inside.store.put(index, codes=replace(codes, **USUAL | level))
        waits[name] = waits_of(index, queries)
    assert waits[kind] == min(waits.values())


@pytest.mark.parametrize("kind", ["high nibbles", "whole codes"])
def test_approximate_single_queries_of_few_dimensions(kind: str, rng: np.random.Generator) -> None:
    """They begin with whole codes where exact ones do, as high nibbles spare a few bytes only."""
    index, query = built(kind, rng), KINDS[kind][2](rng, 1)[0]
    codes = inside.store.of(index).codes
    assert codes is not None
    for level in ("high nibbles", "whole codes"):
        inside.store.put(index, codes=replace(codes, **USUAL | LEVEL[level]))
        refined = alone(index, query, budget=N // 2).rows_refined
        assert (refined == 0) == (level == kind == "whole codes")


def test_rows_serve_as_queries_where_there_are_none(rng: np.random.Generator) -> None:
    assert chosen(index_of(letter_pairs(rng, N), "dot").build()) == "float32"
    assert chosen(index_of(few_dimensions(rng, N), "cosine").build()) == "whole codes"


@pytest.fixture
def forced(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A level that all builds choose, whatever it costs, of sets of any size."""
    def choose(task: object, made: Any, queries: object) -> Any:
        assert made.layout is not None
        codes = replace(made.layout.codes, **USUAL | LEVEL[request.param])
        return made._replace(layout=made.layout._replace(codes=codes))

    monkeypatch.setattr(inside.settings, "fewest_built_rows", 64)
    monkeypatch.setattr(inside.settings, "choose_for_singles", choose)
    return str(request.param)


@pytest.mark.parametrize(("kind", "metric", "options", "forced"), pairs(
    [*list(DATA)[::4], "letter pairs"], METRICS, [{}, {"cells": 7}, {"codes": "int4"}], LEVEL),
    indirect=["forced"])
def test_the_same_answers(kind: str, metric: str, options: dict[str, Any], forced: str,
                          rng: np.random.Generator) -> None:
    rows = letter_pairs(rng, 700) if kind == "letter pairs" else rows_for(
        kind, rng, 700, 13, metric)
    queries = queries_for(rng, rows, metric)[:6]
    index = index_of(rows[:600], metric, **options).build()
    assert inside.store.of(index).codes is None or chosen(index) == forced
    index.add(rows[600:])
    index.remove(np.arange(0, 700, 9))
    alive = np.setdiff1d(np.arange(700), np.arange(0, 700, 9))
    mask = np.arange(len(alive)) % 2 == 0
    some = alive[mask]
    for isa in LEVELS:
        inside.store.use_level(index, isa)
        for k in (1, K, 90):
            for search, oracle in ((index.search_furthest, reference.furthest),
                                   (index.search_nearest, reference.nearest)):
                expected = oracle(queries, rows[alive], k, metric, ids=alive)
                masked = oracle(queries, rows[some], k, metric, ids=some)
                for _ in range(2):  # the second of a kind is answered by what is kept of the first
                    for i, query in enumerate(queries):
                        assert_same(search(query, k), reference.Found(
                            expected.scores[i], expected.ids[i]))
                        assert_same(search(query, k, allowed=mask), reference.Found(
                            masked.scores[i], masked.ids[i]))
                assert_same(search(queries[:3], k), reference.Found(
                    expected.scores[:3], expected.ids[:3]))
                assert_same(search(queries, k), expected)


def test_float32_serves_the_direction_that_it_was_chosen_for(rng: np.random.Generator) -> None:
    """Next to no row ties with the nearest ones, which codes find sooner."""
    rows, queries = letter_pairs(rng, N), letter_pairs(rng, 3)  # after 3 codes may be given up
    for nearest in (False, True):
        index = index_of(rows, "dot").build(nearest=nearest)
        assert (chosen(index) == "float32") == (not nearest)
        for search in (index.search_furthest, index.search_nearest):
            in_float32 = not nearest and search == index.search_furthest
            for query in queries:
                search(query, K)
                assert (index.stats()["last_search"]["code_products"] == 0) == in_float32


def test_the_other_level_after_queries_that_are_unlike(rng: np.random.Generator) -> None:
    """After two queries in a row that read too much in float32, pauses of 1, 3, 7, 7 by codes."""
    rows = letter_pairs(rng, N)
    index = index_of(rows, "dot").build()
    assert chosen(index) == "float32"
    unlike = -np.abs(rng.standard_normal((32, 100), dtype=np.float32))  # nothing ties
    first = [alone(index, query).code_products == 0 for query in unlike]
    tries = [i for i, in_float32 in enumerate(first) if in_float32]
    assert tries == [0, 1, 2, 4, 8, 16, 24]
    for query in letter_pairs(rng, 31):
        alone(index, query)
    assert all(alone(index, query).code_products == 0 for query in letter_pairs(rng, 40))


def test_few_queries_begin_with_it_and_batches_with_codes(rng: np.random.Generator) -> None:
    index, queries = index_of(letter_pairs(rng, N), "dot").build(), letter_pairs(rng, 64)
    for n in (1, 5, 6, 64):
        work = alone(index, queries[:n])
        assert (work.code_products == 0) == (n < 6)


def test_adding_rows_keeps_the_choice_and_a_build_makes_it_anew(rng: np.random.Generator) -> None:
    index = index_of(letter_pairs(rng, N), "dot").build()
    index.add(letter_pairs(rng, 1000))
    index.remove(np.arange(100))
    assert chosen(index) == "float32"
    assert alone(index, letter_pairs(rng, 1)[0]).code_products == 0
    index.remove(index.ids)
    index.add(rng.standard_normal((N, 100), dtype=np.float32))
    assert chosen(index.build()) == "whole codes"


def test_tables_know_what_single_exact_queries_cost(rng: np.random.Generator) -> None:
    """Where these read next to nothing in float32, no `recall=` makes them read more."""
    index = index_of(letter_pairs(rng, N), "dot").build()
    exact = [alone(index, query) for query in letter_pairs(rng, 20)]
    approximate = [alone(index, query, recall=0.95) for query in letter_pairs(rng, 20)]
    assert sum(work.bytes_read for work in approximate) < 2 * sum(
        work.bytes_read for work in exact)


@pytest.mark.parametrize("kind", KINDS)
def test_files_keep_the_choice(kind: str, rng: np.random.Generator, tmp_path: Path) -> None:
    index = built(kind, rng)
    index.save(tmp_path / "index.farann")
    again = farann.Index.load(tmp_path / "index.farann")
    assert chosen(again) == kind
    for query in KINDS[kind][2](rng, 5):
        assert alone(again, query) == alone(index, query)


@pytest.mark.parametrize("cost", [[-1.0], [np.inf], [np.nan], [], [1.0, 2.0]])
def test_files_with_other_costs_are_refused(cost: list[float], rng: np.random.Generator,
                                            tmp_path: Path) -> None:
    metadata, arrays = inside.files.sections_of(index_of(few_dimensions(rng, N)).build())
    inside.files.write_file(tmp_path / "other.farann", metadata,
                            arrays | {"codes.float32_below": np.array(cost)})
    with pytest.raises(farann.FormatError, match="float32_below"):
        farann.Index.load(tmp_path / "other.farann")
