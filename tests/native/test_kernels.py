"""Every instruction-set level this CPU has, kernel by kernel, against the oracle."""

from __future__ import annotations

import re
from pathlib import Path

import inside
import numpy as np
import pytest
import reference
from cases import core_top
from inside import core

import farann

DIMS = [1, 7, 15, 16, 17, 31, 33, 64, 65, 97, 784]
LEVELS = inside.levels()


@pytest.mark.parametrize("metric", core.METRICS)
@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("isa", LEVELS)
def test_levels(isa: str, dim: int, metric: str, rng: np.random.Generator) -> None:
    rows = rng.standard_normal((333, dim), dtype=np.float32)
    queries = rng.standard_normal((37, dim), dtype=np.float32)
    for nearest, oracle in ((False, reference.furthest), (True, reference.nearest)):
        expected = oracle(queries, rows, 10, metric)
        for n_queries in (1, 37):  # canonical keys alone; packed panels
            scores, ids, _ = core_top(rows, queries[:n_queries], 10, metric, isa, nearest=nearest)
            np.testing.assert_array_equal(ids, expected.ids[:n_queries])
            np.testing.assert_array_equal(scores, expected.scores[:n_queries])


@pytest.mark.parametrize("metric", core.METRICS)
@pytest.mark.parametrize("isa", LEVELS)
def test_packed_scan_prunes(isa: str, metric: str, rng: np.random.Generator) -> None:
    """The rough scan leaves few rows to the exact one, else it would be of no use."""
    rows = rng.standard_normal((20_000, 24), dtype=np.float32)
    queries = rng.standard_normal((40, 24), dtype=np.float32)
    _, _, rescored = core_top(rows, queries, 10, metric, isa)
    assert 10 <= rescored / len(queries) < 20


@pytest.mark.parametrize("metric", core.METRICS)
@pytest.mark.parametrize("isa", LEVELS)
def test_any_center_gives_the_same_answers(isa: str, metric: str, rng: np.random.Generator) -> None:
    rows = rng.standard_normal((500, 19), dtype=np.float32)
    queries = rng.standard_normal((20, 19), dtype=np.float32)
    expected = reference.furthest(queries, rows, 10, metric)
    size = 1.0 if metric == "cosine" else 1e6
    for center in (rows.mean(axis=0), np.full(19, size / 19**0.5, np.float32)):
        scores, ids, _ = core_top(rows, queries, 10, metric, isa, center=center)
        np.testing.assert_array_equal(ids, expected.ids)
        np.testing.assert_array_equal(scores, expected.scores)


SOURCES = Path(__file__).parents[2] / "src_c"
from_sources = pytest.mark.skipif(not SOURCES.is_dir(), reason="there are no sources here")


def levels_in_source() -> dict[str, list[str]]:
    """All levels that the core is written for, by what each CPU of their kind has, in its order."""
    text = (SOURCES / "dispatch.c").read_text()
    listed = re.findall(r"\{&farann_kernels_(\w+), ([\w |]+)\}", text)
    assert listed[0] == ("scalar", "0") and len(dict(listed)) == len(listed)
    found: dict[str, list[str]] = {}
    for level, needs in listed[1:]:
        found.setdefault(needs.split(" | ")[0], ["scalar"]).append(level)
    return found


@from_sources
def test_levels_in_order() -> None:
    """Each level has costs, and its products of codes cost no more than those of a slower one."""
    by_kind, costs = levels_in_source(), inside.runtime.COSTS
    assert set(by_kind) == {"AVX2", "NEON"}
    for table in (costs, inside.runtime.SINGLE_COSTS):
        assert set(table) == {level for levels in by_kind.values() for level in levels}
        for levels in by_kind.values():
            products = [table[level].code_product for level in levels]
            assert products == sorted(products, reverse=True), levels
    assert set(inside.layout.FEWER_PER_ROOT) <= set(costs)
    # This CPU has some of one kind, in the same order.
    here = core.isa_levels()
    assert any([level for level in levels if level in here] == list(here)
               for levels in by_kind.values())


@from_sources
def test_each_level_has_a_source_of_its_name() -> None:
    levels = {level for levels in levels_in_source().values() for level in levels}
    assert levels == {path.stem for path in (SOURCES / "levels").glob("*.c")}


@from_sources
def test_the_page_of_installing_lists_all_levels() -> None:
    text = (SOURCES.parent / "docs" / "install.md").read_text()
    listed = text[text.index("`farann.isa_levels()` lists"):].partition("Import chooses")[0]
    named = re.findall(r"`(\w+)`", listed)
    assert named == [level for levels in levels_in_source().values() for level in levels]


def test_largest_codes_of_queries() -> None:
    """Sums of two products by codes of rows fit 16 bits, or are added in 32."""
    for level in inside.levels():
        assert inside.native.largest_code(level) in (63, 127)


@from_sources
def test_largest_codes_in_source() -> None:
    """The same of the levels that this CPU doesn't have."""
    words = "".join(path.read_text() for path in (SOURCES / "simd").glob("*.h"))
    assert set(re.findall(r"LARGEST_CODE = (\w+)", words)) == {"63", "127"}


def test_unknown_level() -> None:
    rows = np.ones((1, 2), np.float32)
    with pytest.raises(ValueError, match="isa: this CPU has scalar.*got 'mmx'"):
        core.Snapshot(rows, rows[:0], None, None, np.zeros(2), 0, "mmx")


@pytest.mark.parametrize("exponent", [-40, -70, -76, -80, -90, -100, -120])
@pytest.mark.parametrize("metric", core.METRICS)
@pytest.mark.parametrize("n_queries", [1, 20])
def test_squares_that_underflow(n_queries: int, metric: str, exponent: int,
                                rng: np.random.Generator) -> None:
    """Rows so small that |y|^2 vanishes in float32, apart by a few units in the last place."""
    base = rng.standard_normal((1, 16)).astype(np.float32) * np.ones((4000, 1), np.float32)
    units = rng.integers(-50, 51, base.shape, dtype=np.int32)
    rows = (base.view(np.int32) + units).view(np.float32)
    rows[::2] *= -1  # so that the center is near zero
    rows *= np.float32(2.0) ** exponent
    queries = rng.standard_normal((n_queries, 16), dtype=np.float32)
    expected = reference.furthest(queries, rows, 10, metric)
    for codes in ("float32", "int8"):
        index = farann.Index(metric=metric, codes=codes)
        index.add(rows)
        np.testing.assert_array_equal(index.search_furthest(queries, 10).ids, expected.ids)
