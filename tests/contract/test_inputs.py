"""Inputs at the edge: nothing at all, arrays that must not be touched, too much to hold."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
from cases import assert_same, assert_same_bits, index_of, snapshot
from numpy.typing import NDArray
from reference import METRICS

import farann

DIM = 4


class TestEmpty:
    """Nothing asked of something and something asked of nothing are no errors."""

    def test_no_queries(self, small_index: Callable[..., farann.Index]) -> None:
        index = small_index(dim=DIM)
        none = np.empty((0, DIM), np.float32)
        for search in (index.search_furthest, index.search_nearest):
            hits = search(none, 7)
            assert hits.ids.shape == hits.scores.shape == (0, 7)
            assert hits.ids.dtype == np.int64 and hits.scores.dtype == np.float32
            assert search(none, 7, exclude=[], allowed=[1]).ids.shape == (0, 7)
            assert search(none, exclude=np.empty((0, 3), np.int64)).ids.shape == (0, 10)
        past = index.search_beyond(none, radius=1.0)
        assert past.offsets.tolist() == [0] and past.ids.shape == past.scores.shape == (0,)
        assert index.score(none, [1, 2]).shape == (0, 2)
        assert farann.search_furthest(np.ones((3, DIM)), none, 2).ids.shape == (0, 2)

    @pytest.mark.parametrize("emptied", [False, True])
    @pytest.mark.parametrize("metric", ["l2", "dot", "cosine"])
    def test_empty_index(self, metric: str, emptied: bool) -> None:
        index = farann.Index(DIM, metric)
        if emptied:
            index.add(np.ones((5, DIM)))
            index.remove(range(5))
        assert len(index) == 0 and 0 not in index and index.ids.tolist() == []
        for built in (index, index.build()):
            hits = built.search_furthest(np.ones((2, DIM)), 3)
            assert hits.ids.tolist() == [[-1] * 3] * 2 and np.isnan(hits.scores).all()
            one = built.search_nearest(np.ones(DIM), 2, exclude=[4], allowed=[3])
            assert one.ids.tolist() == [-1, -1] and np.isnan(one.scores).all()
            assert built.search_furthest(np.ones(DIM), 2, allowed=np.empty(0, bool)).ids[0] == -1
            assert built.search_beyond(np.ones((2, DIM)), radius=-9.0).offsets.tolist() == [0, 0, 0]
            assert built.score(np.ones((2, DIM)), []).shape == (2, 0)
        assert index.reconstruct([]).shape == (0, DIM)
        assert index.add(np.ones((2, DIM))).tolist() == ([5, 6] if emptied else [0, 1])

    def test_no_rows(self, small_index: Callable[..., farann.Index]) -> None:
        index = small_index(dim=DIM)
        before = snapshot(index)
        none: list[Any] = [None, [], np.empty(0, np.int64)]
        for ids in none:
            given = index.add(np.empty((0, DIM)), ids)
            assert given.shape == (0,) and given.dtype == np.int64
        index.remove([])
        assert snapshot(index) == before
        hits = farann.search_furthest(np.empty((0, DIM)), np.ones(DIM), 2)
        assert hits.ids.tolist() == [-1, -1]


class TestInputs:
    """Arrays of the caller are read, never written, never kept."""

    def test_rows_changed_after_add(self, rng: np.random.Generator) -> None:
        rows = rng.standard_normal((40, DIM), dtype=np.float32)
        ids = np.arange(40) * 3
        kept_rows, kept_ids = rows.copy(), ids.copy()
        index = index_of(rows, ids=ids)
        rows[:] = np.nan
        ids[:] = 0
        assert np.array_equal(index.ids, kept_ids)
        assert_same_bits(index.reconstruct(kept_ids), kept_rows)
        assert np.isfinite(index.search_furthest(kept_rows[0], 40).scores).all()

    def test_what_comes_back_is_the_callers(self, small_index: Callable[..., farann.Index]) -> None:
        index = small_index(dim=DIM)
        before = snapshot(index)
        hits, beyond = (index.search_furthest(np.ones((2, DIM))),
                        index.search_beyond(np.ones(DIM), radius=0.0))
        for array in (
            index.ids,
            index.reconstruct([1, 2]),
            index.reconstruct(3),
            hits.ids, hits.scores, beyond.offsets, beyond.ids, beyond.scores,
            index.score(np.ones(DIM), [1]),
        ):
            if array.flags.writeable:
                array[...] = 1
            assert snapshot(index) == before

    def test_read_only_arrays(self, rng: np.random.Generator) -> None:
        rows = rng.standard_normal((40, DIM), dtype=np.float32)
        ids = rng.permutation(40)
        kept_rows, kept_ids = rows.copy(), ids.copy()
        rows.flags.writeable = ids.flags.writeable = False
        index = index_of(rows, ids=ids)
        index.search_furthest(rows)
        index.search_beyond(rows, radius=1.0)
        index.score(rows, ids)
        index.remove(ids[:3])
        assert np.array_equal(ids, kept_ids)
        assert_same_bits(rows, kept_rows)

    def test_one_row_known_by_its_number(self, rng: np.random.Generator) -> None:
        rows = rng.standard_normal((40, DIM), dtype=np.float32)
        index = index_of(rows)
        for number in (7, np.int64(7), np.uint8(7)):
            assert_same_bits(index.reconstruct(number), rows[7])
            assert number in index
        assert 40 not in index and -1 not in index and 2**70 not in index


class TestSeeds:
    """`rng=` is what SPEC 7 asks for, `seed=` the integer among it."""

    @staticmethod
    def saved(path: Path, **options: Any) -> bytes:
        index = farann.Index(DIM, **options)
        index.add(np.random.default_rng(0).standard_normal((40, DIM)))
        index.build().save(path)
        return path.read_bytes()

    def test_an_integer_is_the_seed(self, tmp_path: Path) -> None:
        by_seed, by_rng = (self.saved(tmp_path / name, **{name: 7}) for name in ("seed", "rng"))
        assert by_seed == by_rng != self.saved(tmp_path / "usual")
        assert self.saved(tmp_path / "usual", rng=None) == self.saved(tmp_path / "zero", seed=0)

    @pytest.mark.parametrize("make", [np.random.default_rng, np.random.PCG64,
                                      np.random.SeedSequence])
    def test_what_gives_a_seed(self, tmp_path: Path, make: Callable[[int], Any]) -> None:
        one, again, other = (self.saved(tmp_path / "index", rng=make(n)) for n in (5, 5, 6))
        assert one == again != other != self.saved(tmp_path / "index")

    def test_a_generator_goes_on(self) -> None:
        draw = np.random.default_rng(0)
        values = np.random.default_rng(1).random(30)
        first, second = (farann.metrics.mean_interval(values, rng=draw) for _ in range(2))
        again = farann.metrics.mean_interval(values, rng=np.random.default_rng(0))
        assert first == again != second and first.mean == second.mean

    @pytest.mark.parametrize(("options", "error", "said"), [
        ({"seed": 1, "rng": 2}, ValueError, "rng: expected one of seed and rng, got both"),
        ({"rng": -1}, ValueError, "rng: "),
        ({"rng": 2**128}, ValueError, "rng: "),
        ({"rng": 1.5}, TypeError, "rng: "),
        ({"rng": "7"}, TypeError, "rng: "),
        ({"rng": np.random.RandomState(0)}, TypeError, "write rng=np.random.default_rng"),
    ])
    def test_what_is_refused(self, options: dict[str, Any], error: type[Exception],
                             said: str) -> None:
        with pytest.raises(error, match=said):
            farann.Index(**options)
        with pytest.raises(error, match=said):
            farann.metrics.mean_interval([1.0, 2.0], **options)


class TestWithoutCopy:
    """Rows that stay where they are, because the caller says so."""

    @pytest.fixture
    def rows(self, rng: np.random.Generator) -> NDArray[np.float32]:
        return rng.standard_normal((6000, DIM), dtype=np.float32)

    @pytest.mark.parametrize("metric", METRICS)
    def test_the_same_index(
        self, metric: str, rows: NDArray[np.float32], rng: np.random.Generator, tmp_path: Path
    ) -> None:
        ids = rng.permutation(6000)
        files = []
        for copy in (True, False):
            index = farann.Index(metric=metric)
            assert np.array_equal(index.add(rows, ids, copy=copy), ids)
            assert len(index) == 6000 and index.stats()["built"] is False
            index.save(tmp_path / "waiting")
            index.build().save(tmp_path / "built")
            files += [[(tmp_path / name).read_bytes() for name in ("waiting", "built")]]
            index.add(rows[:9], np.arange(9_000, 9_009))
            index.remove(ids[:3000])
            live = np.r_[3000:6000, 0:9]
            all_ids = np.concatenate([ids[3000:], np.arange(9_000, 9_009)])
            expected = reference.furthest(rows[:5], rows[live], 10, metric, ids=all_ids)
            for asked in (index, index.build()):
                assert_same(asked.search_furthest(rows[:5]), expected)
        assert files[0] == files[1]

    def test_rows_stay_where_they_are(self, rows: NDArray[np.float32]) -> None:
        kept = rows.copy()
        index = farann.Index()
        index.add(rows, copy=False)
        index.build()
        rows[7] = 1.5
        assert index.reconstruct(7).tolist() == [1.5] * DIM
        rows[7] = kept[7]
        rows.flags.writeable = False
        index.search_furthest(rows[:3])
        index.add(kept[:1])
        index.remove(3)
        index.build()
        assert_same_bits(rows, kept)

    def test_what_cannot_stay_is_refused(self, rows: NDArray[np.float32]) -> None:
        index = farann.Index(DIM)
        before = snapshot(index)
        refused = {
            "float64 in C order": rows.astype(np.float64), ">f4 in C order": rows.astype(">f4"),
            "float32 not in C order": np.asfortranarray(rows), "float64": rows.tolist(),
        }
        for what, given in refused.items():
            with pytest.raises(ValueError, match=f"rows: .*copy=False.*got {what}"):
                index.add(given, copy=False)
        with pytest.raises(ValueError, match="ids: expected 6000 ids"):
            index.add(rows, [1], copy=False)
        rows[11, 2] = np.nan
        with pytest.raises(ValueError, match="got NaN in row 11"):
            index.add(rows, copy=False)
        assert snapshot(index) == before

    def test_only_the_first_rows(self, rows: NDArray[np.float32]) -> None:
        index = index_of(rows[:20])
        before = snapshot(index)
        with pytest.raises(ValueError, match="copy: only the first rows .* it has 20"):
            index.add(rows, copy=False)
        assert snapshot(index) == before


REFUSED_MEMORY = """
import farann
import sklearn.cluster  # what tune needs takes memory to load
from cases import snapshot

index = farann.Index(16)
index.add(np.random.default_rng(0).standard_normal((100, 16), dtype=np.float32))
index.build()
before = snapshot(index)
{limit}
told = []
for call in ({calls}):
    try:
        call()
    except MemoryError:
        told.append(True)
    else:
        told.append(False)
    assert snapshot(index) == before
give(told=told, next_id=index.add(np.ones((1, 16))))
"""

ABSURD = """
    lambda: index.add(np.broadcast_to(np.float32(1), (2**50, 16))),
    lambda: index.add(np.broadcast_to(np.int8(1), (2**50, 16))),
    lambda: index.add(np.broadcast_to(np.float64(1), (2**50, 16))),
    lambda: index.search_furthest(np.broadcast_to(np.float32(1), (2**50, 16))),
    lambda: farann.search_furthest(np.broadcast_to(np.float32(1), (2**50, 16)), np.ones(16)),
"""

LIMIT = """
import resource
with open("/proc/self/statm") as statm:
    used = int(statm.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**27, used + 2**27))
"""


def test_absurd_sizes_are_memory_errors(run_python: Callable[..., Any]) -> None:
    """Broadcast views claim 64 PiB without having them; a time limit guards against a walk."""
    answer = run_python(REFUSED_MEMORY.format(limit="", calls=ABSURD), timeout=300)
    assert answer["told"].tolist() == [True] * 5
    assert answer["next_id"].tolist() == [100]


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_memory_that_cannot_be_had(run_python: Callable[..., Any]) -> None:
    """256 MB of rows where the process may take 128 MB more."""
    calls = "lambda: index.add(np.broadcast_to(np.float32(1), (2**22, 16))),"
    answer = run_python(REFUSED_MEMORY.format(limit=LIMIT, calls=calls), timeout=300)
    assert answer["told"].tolist() == [True]
    assert answer["next_id"].tolist() == [100]


ABSURD_K = """
    lambda: index.search_furthest(np.ones((2, 16)), k=10**9),
    lambda: index.search_nearest(np.ones(16), k=10**9),
    lambda: farann.search_furthest(np.ones((100, 16)), np.ones((2, 16)), 10**9),
    lambda: index.search_furthest(np.ones(16), k=10**9, recall=0.9),
    lambda: farann.Index(2**31 - 1),
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_a_large_k_takes_no_memory(run_python: Callable[..., Any]) -> None:
    """Where the process may take 128 MB more; what is legal has an answer of 12 MB."""
    code = REFUSED_MEMORY.format(limit=LIMIT, calls=ABSURD_K).replace("MemoryError", "ValueError")
    legal = """
index.tune(k=10**9)
padded = index.search_furthest(np.ones(16), k=10**6, recall=0.9)
give(told=told, found=(padded.ids >= 0).sum())
"""
    answer = run_python(code[: code.index("give(")] + legal, timeout=300)
    assert answer["told"].tolist() == [True] * 5
    assert 80 <= answer["found"] <= 100
