"""No size of batch and no number of threads costs much more than another, by counted work."""

from __future__ import annotations

from typing import Any

import inside
import numpy as np
import pytest
from cases import Float32
from inside.runtime import FEW_QUERIES, cost_of

import farann

BATCHES = (1, 2, 3, 5, 6, 8, 10, 16, 32, 64, 256)
SINGLES = 64  # queries that are also asked one by one
N, K, LEVEL = 42_000, 10, "avx2"  # at one level the counts are the same everywhere

Floats = np.ndarray[Any, np.dtype[np.float64]]


def like_glove(rng: np.random.Generator, n: int) -> Floats:
    scale = 1 / np.sqrt(1 + np.arange(50))
    return rng.standard_normal((n, 50)) * scale + 0.3 * scale


def strong_axes(rng: np.random.Generator, n: int) -> Floats:
    centers = rng.standard_normal((60, 40))[rng.integers(60, size=n)]
    return ((centers + 0.7 * rng.standard_normal((n, 40))) / np.sqrt(1 + np.arange(40))
            * rng.lognormal(0, 0.4, (n, 1)))


def histograms(rng: np.random.Generator, n: int) -> Floats:
    some = rng.dirichlet(np.full(64, 0.1), 50)[rng.integers(50, size=n)]
    rows = np.clip(some + 0.02 * (some > 0.01) * rng.standard_normal(some.shape), 0, None)
    return np.asarray(rows / rows.sum(axis=1, keepdims=True))


def index_over(rows: Float32, metric: str) -> farann.Index:
    index = farann.Index(metric=metric, threads=1)
    index.add(rows)
    index.build()
    inside.store.use_level(index, LEVEL)
    return index


@pytest.mark.skipif(LEVEL not in inside.levels(), reason=f"this CPU has no {LEVEL}")
@pytest.mark.parametrize(("made", "metric"), [
    (like_glove, "cosine"), (strong_axes, "dot"), (histograms, "cosine")])
def test_no_cell_costs_much_more_than_its_neighbors(
    made: Any, metric: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = made(rng, N + max(BATCHES)).astype(np.float32)
    rows, queries = data[:N], data[N:]
    index = index_over(rows, metric)
    tasks: list[int] = []
    run_all = inside.runtime.run_all

    def noted(functions: Any, threads: int, *, long: bool = False, **options: Any) -> None:
        tasks.append(len(functions))
        run_all(functions, threads, long=long, **options)

    monkeypatch.setattr(inside.settings, "run_all", noted)
    most = 1.25 if made is histograms else 1.2  # without codes k more rows pass in each part
    for nearest, recall in ((False, None), (True, None), (False, 0.95)):
        if recall and made is not strong_axes:
            continue  # measuring a table takes a second
        if recall:
            index.tune(k=K)
        search = index.search_nearest if nearest else index.search_furthest

        def cost(queries: Float32, threads: int = 1, search: Any = search,
                 recall: float | None = recall, nearest: bool = nearest) -> float:
            """Nanoseconds for all queries, as the sum of all threads."""
            tasks.clear()
            failed = made is histograms and not nearest  # codes were given up already
            if failed:
                search(queries, K, threads=threads)
            for trials in inside.store.snapshot_of(index).code_trials.values():
                trials.note(failed)
            for watch in inside.tuning.watches_of(index):
                watch.forget()  # what it compares belongs to all that were asked
            work = search(queries, K, recall=recall, threads=threads, return_stats=True).stats
            of_task = len(queries)
            if len(tasks) == 1:  # parts of the queries; parts of the rows run behind the first one
                of_task //= tasks[0]
            one_by_one = recall is not None and not tasks
            return cost_of(work, rows.shape[1], LEVEL, single=of_task < FEW_QUERIES or one_by_one)

        alone = np.cumsum([cost(query[None]) for query in queries[:SINGLES]])
        for n in BATCHES:
            where = f"{'nearest' if nearest else 'furthest'}, {recall}, {n} queries"
            together, singles = cost(queries[:n]), alone[min(n, SINGLES) - 1]
            assert together <= 1.1 * singles * max(1.0, n / SINGLES), where
            for threads in (2, 8):
                of_threads = cost(queries[:n], threads)
                assert of_threads <= most * together, f"{where}, {threads} threads"


def test_packing_is_counted(rng: np.random.Generator) -> None:
    """Rows are packed once for a batch, in float32 or float64, and not for few queries."""
    rows = rng.standard_normal((5000, 16), dtype=np.float32)
    index = farann.Index(metric="l2", codes="float32", threads=1)
    index.add(rows)
    index.build()
    for n, packed in ((5, 0), (6, 5000), (100, 5000)):
        assert index.search_furthest(rows[:n], return_stats=True).stats.rows_packed == packed, n
    huge = np.full((9, 16), 3e38, np.float32)  # float32 can't hold their products
    assert index.search_furthest(huge, return_stats=True).stats.rows_packed >= 1000


def test_threads_share_packed_rows(rng: np.random.Generator) -> None:
    """Without codes, few queries are all searched by each thread, in rows of its own."""
    rows = rng.standard_normal((20_000, 128), dtype=np.float32)
    index = farann.Index(metric="dot", codes="float32", threads=2)
    index.add(rows)
    for n, times in ((24, 1), (300, 2)):
        did = index.search_furthest(rows[:n], K, return_stats=True).stats
        assert did.rows_packed == times * len(rows), n


def test_of_first_rows_the_best_pass(rng: np.random.Generator) -> None:
    """Without a threshold all of them would, and each takes as long as some rows to score."""
    rows = rng.standard_normal((200, 64), dtype=np.float32)
    index = farann.Index(metric="dot", codes="float32", threads=1)
    index.add(rows)
    queries = rng.standard_normal((30, 64), dtype=np.float32)
    for asked in (queries, queries[:1]):
        assert index.search_furthest(asked, K, return_stats=True).stats.rows_passed <= (
            2 * K * len(asked))


def test_few_rows_stay_packed(rng: np.random.Generator) -> None:
    """The next batch of the same size finds rows of one block where the last one put them."""
    rows = rng.standard_normal((200, 64), dtype=np.float32)
    index = farann.Index(metric="dot", codes="float32", threads=1)
    index.add(rows)
    queries = rng.standard_normal((30, 64), dtype=np.float32)
    packed = [index.search_furthest(queries, K, return_stats=True).stats.rows_packed
              for _ in range(4)]
    assert packed == [200, 200, 200, 0]
    index.add(100 * rows[3:4], ids=[7], replace=True)
    for _ in range(4):
        answer = index.search_furthest(queries, K)
        assert np.array_equal((answer.ids == 7).any(axis=1), queries @ rows[3] < 0)
