"""What a search says of itself: SearchStats and return_stats."""

from __future__ import annotations

from typing import Any

import inside
import numpy as np
import pytest
from cases import Float32, assert_same

import farann
from farann import SearchStats

N, DIM = 6005, 64  # the last panel is not full
SQUARE = 4  # bytes of each coded row, under l2


@pytest.fixture(scope="module")
def rows() -> Float32:
    """Rows near few dimensions, so that there is a first look; of one length: all are in reach."""
    rng = np.random.default_rng(5)
    near = rng.standard_normal((N, 4)) @ np.linalg.qr(rng.standard_normal((DIM, 4)))[0].T
    near *= DIM / np.linalg.norm(near, axis=1, keepdims=True)
    return np.asarray((near + 0.01 * rng.standard_normal((N, DIM))).astype(np.float32))


def index_over(rows: Float32, **options: Any) -> farann.Index:
    index = farann.Index(**options)
    index.add(rows)
    return index.build()


@pytest.fixture
def no_axes(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would do as well for so few dimensions."""
    monkeypatch.setattr(inside.settings, "most_rotated_rows", 0)


@pytest.fixture
def index(rows: Float32, no_axes: None) -> farann.Index:
    return index_over(rows)


@pytest.mark.parametrize("threads", [1, 2])
def test_shape(index: farann.Index, rows: Float32, threads: int) -> None:
    for queries, number in ((rows[:40], 40), (rows[:1], 1), (rows[0], 1), (rows[:0], 0)):
        hits = index.search_furthest(queries, 5, return_stats=True, threads=threads)
        stats = hits.stats
        assert isinstance(hits, farann.Hits) and isinstance(stats, SearchStats)
        assert stats.queries == number and all(type(count) is int for count in stats)
        without = index.search_furthest(queries, 5, return_stats=False, threads=threads)
        assert_same(without, hits)
        assert without.stats is None
        assert index.stats()["last_search"] == stats._asdict()
    assert stats == SearchStats(0, 0, 0, 0, 0)


def test_counts_of_a_first_look(
    index: farann.Index, rows: Float32, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So small an index is soon given up by codes at some levels.
    monkeypatch.setattr(inside.settings, "row_costs", lambda *_: (0.0,) * 6)
    directions = index.stats()["directions"]
    assert directions > 0
    for n in (1, 3, 50):
        stats = index.search_furthest(rows[:n], return_stats=True).stats
        assert stats.rows_scanned == N * n
        assert stats.rows_scanned > stats.rows_refined >= stats.rows_rescored >= 10 * n
        hubs = inside.settings.hub_rows * n
        assert stats.bytes_read == (
            hubs * (DIM + SQUARE) + (N * n - hubs) * (directions + 4 + SQUARE)
            + stats.rows_refined * DIM + stats.rows_rescored * 4 * DIM)


def test_counts_of_codes_without_a_first_look(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inside.settings, "choose_for_singles", lambda _, made, *__: made)
    rows = rng.standard_normal((N, DIM), dtype=np.float32)
    index = index_over(rows)
    assert index.stats()["directions"] == 0
    stats = index.search_furthest(rows[:50], return_stats=True).stats
    assert stats.rows_scanned == N * 50 and stats.rows_refined == 0
    assert N * 50 > stats.rows_rescored >= 10 * 50
    assert stats.bytes_read == N * 50 * (DIM + SQUARE) + 4 * stats.rows_rescored * DIM
    # One query reads upper halves, half of all the bytes, and the whole codes of what they leave.
    for some in (rows[:1], rows[:3]):
        stats = index.search_furthest(some, return_stats=True).stats
        assert stats.rows_scanned == N * len(some)
        assert stats.rows_scanned / 10 > stats.rows_refined >= stats.rows_rescored >= 10
        least = stats.rows_scanned * (DIM // 2 + SQUARE) + stats.rows_refined * DIM
        more = stats.bytes_read - least - 4 * stats.rows_rescored * DIM
        # First blocks, and those after one of which many passed, are of whole codes.
        assert more % (DIM // 2) == 0 and 0 < more // (DIM // 2) < stats.rows_scanned * 0.7


def test_counts_in_float32(rows: Float32) -> None:
    index = index_over(rows, codes="float32")
    for n in (1, 50):
        stats = index.search_furthest(rows[:n], return_stats=True).stats
        assert stats.rows_scanned == N * n and stats.rows_refined == 0
        assert N * n > stats.rows_rescored >= 10 * n
        assert stats.bytes_read == 4 * (N * n + stats.rows_rescored) * DIM


def test_counts_of_products(rng: np.random.Generator) -> None:
    """Every row scanned is a product for each coordinate, or more, as tiles have empty places."""
    rows = rng.standard_normal((N, DIM), dtype=np.float32)
    kinds: list[tuple[str, int | None, dict[str, Any]]] = [
        ("int8", None, {}), ("int8", 40, {"recall": 0.8}), ("float32", None, {})]
    for codes, cells, options in kinds:
        index = index_over(rows, codes=codes, cells=cells)
        stats = index.search_furthest(rows[:50], return_stats=True, **options).stats
        products, none = stats.code_products, stats.float_products
        if codes == "float32":
            products, none = none, products
        assert none == 0 and products >= stats.rows_scanned * DIM
        assert stats.rows_passed >= stats.rows_rescored > 0
        assert stats.blocks_scanned >= 50
        index.add(rows[:64])
        after = index.search_furthest(rows[:50], return_stats=True, **options).stats
        assert after.float_products >= stats.float_products + 50 * 64 * DIM


def test_a_query_by_itself_is_scanned_in_long_blocks(rng: np.random.Generator) -> None:
    """There are fewer blocks to wait for, and hardly more rows pass."""
    rows = rng.standard_normal((60_000, 16), dtype=np.float32)
    index = index_over(rows, metric="cosine")
    for query in rows[:12]:
        stats = index.search_furthest(query, return_stats=True).stats
        assert stats.rows_scanned == 60_000
        assert stats.blocks_scanned <= 40  # blocks of 1,024 rows would be more than 58
        assert stats.rows_passed <= 400


def test_counts_with_a_tail(rows: Float32) -> None:
    """Rows added since `build` are scanned in float32."""
    index = index_over(rows)
    before = index.search_furthest(rows[:9], return_stats=True).stats
    index.add(rows[:100])
    after = index.search_furthest(rows[:9], return_stats=True).stats
    assert after.rows_scanned == before.rows_scanned + 9 * 100


def test_counts_along_axes(rows: Float32) -> None:
    """Codes have as many coordinates as there are axes; float32 rows have all."""
    index = index_over(rows)
    assert index.stats()["axes"] == 4 and index.stats()["directions"] == 0
    stats = index.search_furthest(rows[:50], return_stats=True).stats
    assert stats.rows_scanned == N * 50 and stats.rows_refined == 0
    assert stats.bytes_read == N * 50 * (2 * 4 + SQUARE) + 4 * stats.rows_rescored * DIM


def test_counts_by_canonical_keys_alone(rows: Float32, no_axes: None) -> None:
    """Few rows, or a query that float32 can't hold: each row once, in float64."""
    few = index_over(rows[:50])
    stats = few.search_furthest(rows[:1], return_stats=True).stats
    assert stats == SearchStats(1, 50, 0, 50, 50 * 4 * DIM)
    stats = few.search_furthest(rows[:9], return_stats=True).stats  # share panels in float64
    assert stats.rows_scanned == 450 and stats.rows_rescored <= 450
    assert stats.rows_refined == stats.rows_passed == 0 and stats.bytes_read == 450 * 4 * DIM
    for codes in ("int8", "float32"):
        index = index_over(rows, codes=codes)
        for n in (1, 9):
            huge = np.full((n, DIM), 3e38, np.float32)
            stats = index.search_furthest(huge, return_stats=True).stats
            assert stats.rows_refined == stats.rows_passed == 0
            if n == 1:
                assert stats[:5] == (n, N * n, 0, N * n, N * n * 4 * DIM)
                assert stats.float_products == 0
            else:  # several share panels in float64, or leave out whole blocks
                assert 0 < stats.rows_scanned <= N * n and stats.rows_rescored <= N * n


def test_counts_of_threads_add_up(
    index: farann.Index, rows: Float32, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each task counts what it does; how a batch is cut changes nothing of what is scanned."""
    # At some levels a task may give codes up before the next one begins.
    monkeypatch.setattr(inside.settings, "row_costs", lambda *_: (0.0,) * 6)
    for threads in (1, 2, 3):
        stats = index.search_furthest(rows[:1300], threads=threads, return_stats=True).stats
        assert stats.queries == 1300 and stats.rows_scanned == N * 1300
        assert stats.rows_scanned >= stats.rows_refined >= stats.rows_rescored >= 13_000


def test_an_empty_index() -> None:
    hits = farann.Index(3).search_furthest(np.zeros((2, 3)), return_stats=True)
    assert hits.stats == SearchStats(2, 0, 0, 0, 0)
