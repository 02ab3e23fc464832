"""Laws that hold for all rows and queries, and histories that equal a fresh index."""

from __future__ import annotations

import copy
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis.extra.numpy as hnp
import inside
import numpy as np
import pytest
import reference
from cases import (
    DATA,
    Float32,
    assert_exact,
    assert_same,
    assert_same_beyond,
    assert_same_bits,
    in_turn,
    index_of,
    queries_for,
    rows_for,
)
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from numpy.typing import NDArray
from reference import METRICS

import farann

SEEDS = st.integers(0, 2**32 - 1)
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


class Problem(NamedTuple):
    """Rows, queries for them and a metric."""

    rows: Float32
    queries: Float32
    metric: str

    def make_index(self, **options: Any) -> farann.Index:
        return index_of(self.rows, self.metric, **options)


@st.composite
def problems(draw: st.DrawFn, kinds: tuple[str, ...] = tuple(DATA)) -> Problem:
    """Rows of one kind with queries in many places."""
    metric = draw(st.sampled_from(METRICS))
    rng = np.random.default_rng(draw(SEEDS))
    kind = draw(st.sampled_from(kinds))
    rows = rows_for(kind, rng, draw(st.integers(1, 150)), draw(st.integers(1, 40)), metric)
    return Problem(rows, queries_for(rng, rows, metric), metric)


@st.composite
def any_floats(draw: st.DrawFn) -> Problem:
    """Rows and queries of any finite float32 at all, few enough to shrink well."""
    metric = draw(st.sampled_from(METRICS))
    dim = draw(st.integers(1, 20))
    shapes = st.tuples(st.integers(1, 12), st.just(dim))
    rows = draw(hnp.arrays(np.float32, shapes, elements=FLOATS))
    queries = draw(hnp.arrays(np.float32, shapes, elements=FLOATS))
    if metric == "cosine":
        rows[~rows.any(axis=1), 0] = 1
        queries[~queries.any(axis=1), 0] = 1
    return Problem(rows, queries, metric)


@st.composite
def grids(draw: st.DrawFn) -> tuple[Float32, Float32]:
    """Rows and queries of small integers, on which float32 arithmetic is exact."""
    dim = draw(st.integers(1, 24))
    grid = st.integers(-20, 20)
    rows = draw(hnp.arrays(np.int16, (draw(st.integers(1, 40)), dim), elements=grid))
    queries = draw(hnp.arrays(np.int16, (draw(st.integers(1, 5)), dim), elements=grid))
    return rows.astype(np.float32), queries.astype(np.float32)


# A cosine that float32 rounds to 0, where the row's key over its norm is none.
@example(Problem(np.array([[0.0, 1.0]], np.float32), np.array([[1e12, 5e-34]], np.float32),
                 "cosine"), 1)
@given(any_floats(), st.integers(1, 14))
def test_exact_on_any_floats(problem: Problem, k: int) -> None:
    assert_exact(problem.make_index(), problem.rows, problem.queries, (k,))


@given(problems(), st.integers(1, 200))
def test_exact_on_any_kind(problem: Problem, k: int) -> None:
    assert_exact(problem.make_index(), problem.rows, problem.queries, (k,))


@pytest.mark.few_rows_as_floats
@given(problems(), st.integers(1, 200))
def test_exact_on_any_kind_as_users_have_it(problem: Problem, k: int) -> None:
    """Batches on few rows in float32."""
    assert_exact(problem.make_index().build(), problem.rows, problem.queries, (k,))


@given(problems(), SEEDS)
def test_permuting_rows_with_their_ids_changes_nothing(problem: Problem, seed: int) -> None:
    rows, queries, metric = problem
    order = np.random.default_rng(seed).permutation(len(rows))
    permuted = index_of(rows[order], metric, order)
    plain = problem.make_index()
    assert_same(permuted.search_furthest(queries), plain.search_furthest(queries))
    assert_same(permuted.search_nearest(queries), plain.search_nearest(queries))


@given(grids(), st.integers(-(2**20), 2**20), st.integers(1, 45))
def test_moving_everything_leaves_l2_alone(
    grid: tuple[Float32, Float32], shift: int, k: int
) -> None:
    """Integers up to 2**20 + 20 are float32, so the differences stay the same to the bit."""
    rows, queries = grid
    plain = index_of(rows).search_furthest(queries, k)
    moved = index_of(rows + np.float32(shift))
    assert_same(moved.search_furthest(queries + np.float32(shift), k), plain)


@given(problems(("gaussian", "grid", "duplicates", "unit norm")), st.integers(-30, 30))
def test_scaling_by_a_power_of_two(problem: Problem, power: int) -> None:
    metric = problem.metric
    # No denormals, before or after: those lose bits.
    rows, queries = (
        x[(np.abs(x).max(axis=1) < 1e3) & (np.abs(x).max(axis=1) > 1e-6)] for x in problem[:2]
    )
    factor = np.float32(2.0) ** np.float32(power)
    plain = index_of(rows, metric).search_furthest(queries)
    scaled = index_of(rows * factor, metric).search_furthest(queries * factor)
    grown = {"l2": factor, "dot": factor * factor, "cosine": np.float32(1)}[metric]
    assert_same(scaled, reference.Found(plain.scores * grown, plain.ids))


@given(problems(), st.integers(-20, 20))
def test_longer_queries_rank_alike_in_dot_and_cosine(problem: Problem, power: int) -> None:
    rows, queries, _ = problem
    queries = queries[(np.abs(queries).max(axis=1) < 1e30) & (np.abs(queries).max(axis=1) > 1e-30)]
    longer = queries * np.float32(2.0) ** np.float32(power)
    for metric in ("dot", "cosine"):
        index = index_of(rows[rows.any(axis=1)], metric)
        plain = index.search_nearest(queries).ids
        exact = longer / np.float32(2.0) ** np.float32(power) == queries
        alike = exact.all(axis=1)  # denormal coordinates may have lost bits
        assert np.array_equal(index.search_nearest(longer).ids[alike], plain[alike])


@given(problems(), st.integers(1, 20))
def test_batch_is_one_by_one(problem: Problem, k: int) -> None:
    index = problem.make_index()
    for search in (index.search_furthest, index.search_nearest):
        singles = [search(query, k) for query in problem.queries]
        scores = np.stack([hits.scores for hits in singles])
        ids = np.stack([hits.ids for hits in singles])
        assert_same(search(problem.queries, k), reference.Found(scores, ids))
        backwards = reference.Found(scores[::-1], ids[::-1])
        assert_same(search(problem.queries[::-1], k), backwards)
        many = reference.Found(np.tile(scores, (12, 1)), np.tile(ids, (12, 1)))
        assert_same(search(np.tile(problem.queries, (12, 1)), k), many)


@pytest.mark.parametrize(("kind", "metric"), in_turn(DATA))
def test_threads_do_not_matter(kind: str, metric: str) -> None:
    """Enough work that it is shared out."""
    rng = np.random.default_rng(1)
    rows = rows_for(kind, rng, 5000, 33, metric)
    queries = np.tile(queries_for(rng, rows, metric), (8, 1))
    index = index_of(rows, metric, threads=1)
    for search in (index.search_furthest, index.search_nearest):
        alone = search(queries, 20)
        assert_same(search(queries, 20, threads=2), alone)
        assert_same(search(queries, 20, threads=5), alone)
    assert_same_beyond(index.search_beyond(queries, radius=1.0, threads=2),
                       index.search_beyond(queries, radius=1.0))
    ids = np.arange(0, 5000, 3)
    assert_same_bits(index.score(queries, ids, threads=2), index.score(queries, ids))


@given(problems(), st.data())
def test_beyond_equals_the_filtered_oracle(problem: Problem, data: st.DataObject) -> None:
    rows, queries, metric = problem
    exact = reference.scores_from_keys(
        queries[0], reference.keys(queries[0], rows, metric), metric
    )
    radius = data.draw(st.sampled_from(exact.tolist()) | st.floats(allow_nan=False))
    index = problem.make_index()
    expected = reference.beyond(queries, rows, radius, metric)
    assert_same_beyond(index.search_beyond(queries, radius=radius), expected)


def through_file(index: farann.Index, path: Path, **options: Any) -> farann.Index:
    index.save(path)
    return farann.Index.load(path, **options)


COPIES: dict[str, Callable[[farann.Index, Path], farann.Index]] = {
    "load": through_file,
    "mmap": lambda index, path: through_file(index, path, mmap=True),
    "pickle": lambda index, path: pickle.loads(pickle.dumps(index)),
    "old pickle": lambda index, path: pickle.loads(pickle.dumps(index, protocol=2)),
    "deepcopy": lambda index, path: copy.deepcopy(index),
}


@pytest.mark.parametrize("way", COPIES)
@given(problems(), SEEDS)
def test_round_trips(way: str, problem: Problem, seed: int) -> None:
    rows, queries, metric = problem
    ids = np.random.default_rng(seed).permutation(10_000)[: len(rows)]
    index = index_of(rows, metric, ids)
    with tempfile.TemporaryDirectory() as folder:
        again = COPIES[way](index, Path(folder) / "index.farann")
        assert_same(again.search_furthest(queries), index.search_furthest(queries))
        assert (again.dim, again.metric, len(again)) == (index.dim, metric, len(rows))
        assert np.array_equal(again.ids, index.ids)
        assert_same_bits(again.reconstruct(ids), rows)
        # Windows can't remove a folder with a mapped file in it.
        del again


class History(RuleBasedStateMachine):
    """Any sequence of add, remove, build and reload answers as a fresh index would."""

    @initialize(metric=st.sampled_from(METRICS), dim=st.integers(1, 20))
    def start(self, metric: str, dim: int) -> None:
        self.index = farann.Index(metric=metric)
        self.metric, self.dim = metric, dim
        self.ids = np.empty(0, np.int64)
        self.rows = np.empty((0, dim), np.float32)
        self.next_id = 0

    @rule(n=st.integers(0, 40), kind=st.sampled_from(tuple(DATA)), seed=SEEDS, own=st.booleans())
    def add(self, n: int, kind: str, seed: int, own: bool) -> None:
        rng = np.random.default_rng(seed)
        rows = rows_for(kind, rng, n, self.dim, self.metric) if n else self.rows[:0]
        free = np.setdiff1d(np.arange(400), self.ids)
        if own and n <= len(free):
            ids = rng.permutation(free)[:n]
            given_ids = self.index.add(rows, ids)
        else:
            ids = np.arange(self.next_id, self.next_id + n)
            given_ids = self.index.add(rows)
        assert given_ids.dtype == np.int64 and np.array_equal(given_ids, ids)
        self.rows = np.vstack([self.rows, rows])
        self.ids = np.concatenate([self.ids, ids])
        self.next_id = max(self.next_id, int(ids.max(initial=-1)) + 1)

    @precondition(lambda self: len(self.ids) > 0)
    @rule(seed=SEEDS, share=st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    def remove(self, seed: int, share: float) -> None:
        rng = np.random.default_rng(seed)
        gone = rng.permutation(len(self.ids))[: int(np.ceil(share * len(self.ids)))]
        self.index.remove(self.ids[gone])
        self.rows = np.delete(self.rows, gone, axis=0)
        self.ids = np.delete(self.ids, gone)

    @precondition(lambda self: self.index.dim is not None)
    @rule()
    def build(self) -> None:
        self.index.build()

    @rule()
    def reload(self) -> None:
        self.index = pickle.loads(pickle.dumps(self.index))

    @precondition(lambda self: self.index.dim is not None)
    @rule(seed=SEEDS, k=st.integers(1, 60), n_left_out=st.integers(0, 9), filtered=st.booleans())
    def search(self, seed: int, k: int, n_left_out: int, filtered: bool) -> None:
        rng = np.random.default_rng(seed)
        rows = self.rows if len(self.rows) else rng.standard_normal((1, self.dim)).astype("f4")
        queries = queries_for(rng, rows, self.metric)
        exclude = rng.integers(-1, 400, (len(queries), n_left_out))
        allowed = rng.permutation(self.ids)[: len(self.ids) // 2] if filtered else None
        for search, oracle in (
            (self.index.search_furthest, reference.furthest),
            (self.index.search_nearest, reference.nearest),
        ):
            got = search(queries, k, exclude=exclude, allowed=allowed)
            expected = oracle(
                queries,
                self.rows,
                k,
                self.metric,
                ids=self.ids,
                exclude=exclude.tolist(),
                allowed=None if allowed is None else allowed.tolist(),
            )
            assert_same(got, expected)

    @invariant()
    def holds_the_rows_in_order(self) -> None:
        assert len(self.index) == len(self.ids)
        assert np.array_equal(self.index.ids, self.ids)
        if len(self.ids):
            assert_same_bits(self.index.reconstruct(self.ids), self.rows)


TestHistory = History.TestCase


LEVELS = """
import farann
from cases import DATA, index_of, queries_for, rows_for
from reference import METRICS

parts = []
for seed, dim in enumerate([1, 7, 16, 31, 33, 64, 65, 97, 131, 784]):
    for kind in DATA:
        for metric in METRICS:
            rng = np.random.default_rng([seed, dim])
            rows = rows_for(kind, rng, int(rng.choice([1, 15, 33, 200, 1100])), dim, metric)
            queries = np.tile(queries_for(rng, rows, metric), (2, 1))
            index = index_of(rows, metric)
            hits = [index.search_furthest(queries, 12), index.search_nearest(queries[0], 40),
                    index.search_beyond(queries[:3], radius=0.5)]
            parts += [part.ravel() for hit in hits for part in (hit.scores, hit.ids)]
            parts.append(index.score(queries, index.ids[:5]).ravel())
give(isa=index.isa, scores=np.concatenate([p for p in parts if p.dtype == np.float32]),
     ids=np.concatenate([p for p in parts if p.dtype == np.int64]))
"""


@pytest.fixture(scope="module")
def scalar_answers(run_python: Callable[..., Any]) -> dict[str, NDArray[Any]]:
    return dict(run_python(LEVELS, isa="scalar"))


@pytest.mark.parametrize("level", [level for level in inside.levels() if level != "scalar"])
def test_every_level_equals_scalar_to_the_bit(
    level: str, scalar_answers: dict[str, NDArray[Any]], run_python: Callable[..., Any]
) -> None:
    answers = run_python(LEVELS, isa=level)
    assert (str(answers["isa"]), str(scalar_answers["isa"])) == (level, "scalar")
    assert np.array_equal(answers["ids"], scalar_answers["ids"])
    assert_same_bits(answers["scores"], scalar_answers["scores"])


def test_a_level_this_cpu_lacks_is_named_with_those_it_has(
    run_python: Callable[..., Any],
) -> None:
    code = """
try:
    import farann
    farann.Index(3)
except ValueError as error:
    give(message=str(error))
else:
    give(message="no error")
"""
    message = str(run_python(code, isa="mmx")["message"])
    assert "FARANN_ISA" in message and "mmx" in message
    assert all(level in message for level in inside.levels())


def test_levels_start_with_scalar() -> None:
    levels = farann.isa_levels()
    assert isinstance(levels, tuple) and levels[0] == "scalar"
    assert farann.Index(3).isa in levels
