"""Under l2 the nearest rows have searches of their own: hostile rows, against the oracle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import inside
import numpy as np
import pytest
import reference
from approximate_cases import recall_of
from cases import (
    DATA,
    Float32,
    assert_same,
    assert_same_bits,
    in_turn,
    index_of,
    queries_for,
    rows_for,
)
from hypothesis import given
from hypothesis import strategies as st

import farann

K = 10


def assert_near(hits: farann.Hits, queries: Float32, rows: Float32, ids: Any,
                epsilon: float) -> None:
    """No row that was left out is nearer than the k-th found by more than epsilon, in float64."""
    position = {int(i): p for p, i in enumerate(ids)}
    for query, found in zip(queries, hits.ids, strict=True):
        scores = reference.scores_from_keys(query, reference.keys(query, rows, "l2"), "l2")
        at = np.array([position[int(i)] for i in found if i >= 0], np.intp)
        assert len(at) == min(len(found), len(rows)) == len(set(at.tolist()))
        left_out = np.delete(scores, at)
        if len(left_out) and len(at):
            assert left_out.min() * (1.0 + epsilon) * (1.0 + 1e-12) >= scores[at].max()


@given(st.sampled_from(sorted(DATA)), st.integers(0, 2**32 - 1),
       st.sampled_from([0.0, 1e-9, 0.001, 0.05, 0.5, 3.0, 1e6]), st.integers(1, 40),
       st.sampled_from([("int8", None), ("float32", None), ("int8", 5), ("int4", None)]),
       st.booleans())
def test_within_epsilon(kind: str, seed: int, epsilon: float, k: int,
                        made: tuple[str, int | None], changed: bool) -> None:
    rng = np.random.default_rng(seed)
    rows = rows_for(kind, rng, int(rng.integers(1, 300)), int(rng.integers(1, 30)), "l2")
    queries = queries_for(rng, rows, "l2")
    codes, cells = made
    index = index_of(rows[: len(rows) * 2 // 3 + 1], codes=codes, cells=cells)
    index.build(nearest=changed)
    index.add(rows[len(rows) * 2 // 3 + 1 :])
    ids = np.arange(len(rows))
    if changed:
        index.remove(ids[::5])
        ids = np.delete(ids, np.s_[::5])
    with np.errstate(over="ignore", invalid="ignore"):
        hits = index.search_nearest(queries, k, epsilon=epsilon)
        if epsilon == 0.0:
            assert_same(hits, reference.nearest(queries, rows[ids], k, "l2", ids=ids))
        assert_near(hits, queries, rows[ids], ids, epsilon)
        one = index.search_nearest(queries[0], k, epsilon=epsilon)
        assert_near(farann.Hits(one.ids[None], one.scores[None]), queries[:1], rows[ids], ids,
                    epsilon)


@pytest.mark.parametrize(("kind", "options"), in_turn(
    sorted(DATA), metrics=({}, {"cells": 12}, {"codes": "int4", "cells": 12})))
def test_hostile_rows(kind: str, options: dict[str, Any], rng: np.random.Generator) -> None:
    """What is found has exact scores; all is found where everything is looked at."""
    n, dim = 700, 13
    rows = rows_for(kind, rng, n, dim, "l2")
    queries = queries_for(rng, rows, "l2")
    with np.errstate(all="ignore"):
        everything = reference.nearest(queries, rows, n, "l2")
        index = index_of(rows[:600], **options).build(nearest=True)
        index.add(rows[600:])
        for level in inside.levels():
            inside.store.use_level(index, level)
            for limits in ({}, {"recall": 1.0}, {"budget": n}, {"recall": 0.9}, {"budget": 64}):
                hits = index.search_nearest(queries, K, **limits)
                for i, (scores, ids) in enumerate(zip(hits.scores, hits.ids, strict=True)):
                    place = np.argsort(everything.ids[i])[ids]
                    assert_same_bits(scores, everything.scores[i][place])
                    assert (np.diff(place) > 0).all()
                    if not limits or limits.get("recall") == 1.0 or (
                            limits.get("budget") == n and "cells" not in options):
                        assert place.tolist() == list(range(K))
            for _ in range(2):  # the second takes what is kept of the first
                one = index.search_nearest(queries[1], K)
                assert_same_bits(one.scores, everything.scores[1, :K])
                assert one.ids.tolist() == everything.ids[1, :K].tolist()


@pytest.mark.parametrize("options", ({}, {"cells": 20}, {"codes": "int4", "cells": 20}))
def test_without_vectors(options: dict[str, Any], rng: np.random.Generator,
                         tmp_path: Path) -> None:
    """Codes find about what the rows do; filters, files and added rows are as elsewhere."""
    middles = rng.standard_normal((40, 24))
    drawn = middles[rng.integers(0, 40, 4060)] + 0.6 * rng.standard_normal((4060, 24))
    rows, queries = drawn[:4000].astype(np.float32), drawn[4000:].astype(np.float32)
    index = index_of(rows[:3600], keep_vectors=False, **options).build(nearest=True)
    index.add(rows[3600:])
    index.remove(np.arange(0, 4000, 9))
    kept = np.delete(np.arange(4000), np.s_[0:4000:9])
    wanted = reference.nearest(queries, rows[kept], K, "l2", ids=kept)
    least = 0.7 if options.get("codes") == "int4" else 0.9
    index.save(tmp_path / "index")
    mapped = farann.Index.load(tmp_path / "index", mmap=True)
    for each in (index, mapped):
        for limits in ({"recall": 1.0}, {"recall": 0.9}, {"budget": 4000}):
            hits = each.search_nearest(queries, K, **limits)
            assert recall_of(hits.ids, wanted.ids) >= least - 0.05
            assert np.abs(hits.scores - wanted.scores).mean() < 0.2
            assert (np.diff(hits.scores, axis=1) >= 0).all()
    one = index.search_nearest(queries[3], K, recall=1.0)
    batch = index.search_nearest(queries, K, recall=1.0)
    assert np.allclose(one.scores, batch.scores[3], rtol=1e-5)
    assert len(np.intersect1d(one.ids, batch.ids[3])) >= K - 1
    out = batch.ids[:, :3]
    hits = index.search_nearest(queries, K, recall=1.0, exclude=out)
    assert (hits.ids[:, : K - 3] == batch.ids[:, 3:]).mean() > 0.9  # ties by rounding
    assert not (hits.ids[:, :, None] == out[:, None, :]).any()
    mask = rng.random(len(index)) < 0.5
    assert np.isin(index.search_nearest(queries, K, recall=0.9, allowed=mask).ids,
                   index.ids[mask]).all()


def test_filters_of_both_searches_are_kept_apart(rng: np.random.Generator) -> None:
    """What answers single queries under a prepared filter is for one of both alone."""
    rows = rng.standard_normal((900, 8), dtype=np.float32)
    labels = np.arange(900) % 3
    index = farann.Index()
    index.add(rows, groups=labels)
    index.build()
    some = index.filter(allowed=np.arange(0, 900, 2))
    for _ in range(3):
        for found, oracle in ((index.search_furthest(rows[5], 4, allowed=some), reference.furthest),
                              (index.search_nearest(rows[5], 4, allowed=some), reference.nearest)):
            wanted = oracle(rows[5:6], rows[::2], 4, "l2", ids=np.arange(0, 900, 2))
            assert_same(found, reference.Found(wanted.scores[0], wanted.ids[0]))
    hits = index.search_nearest(rows[:40], 3, recall=1.0, return_keys=True,
                                outside_groups=labels[:40])
    assert (labels[hits.ids] != labels[:40, None]).all()
    assert hits.keys is not None
    assert_same_bits(np.sqrt(-hits.keys).astype(np.float32), hits.scores)
