"""Estimate the cost of a search from its counted work, not from time, which varies with load."""

from __future__ import annotations

from typing import NamedTuple

from farann.results import SearchStats


class Costs(NamedTuple):
    """Nanoseconds of one thread for each piece of work of a search."""

    query: float  # to prepare one, and to sort its answer
    query_coordinate: float  # to rotate a query and to code it
    code_product: float
    float_product: float
    block: float  # to scan it for one query
    passed: float  # a row that goes through the lists of candidates
    refined: float  # a row whose codes are fetched from anywhere in memory
    exact_product: float  # of a row in float64, which is fetched likewise


# Fitted by non-negative least squares of relative errors to the CPU time of about 160 batches at
# each level ("scalar": 80), on a Xeon of 2.5 GHz (Cascade Lake): 13 indexes of 20,000 to 200,000
# rows in 32 to 784 dimensions, of all kinds of codes, exact and with four efforts, k = 10 and 100.
# Half of the costs relative to exact search are within 20 %. "amx" has those of "avx512vnni",
# but for products of codes, taken to cost .003, and rows that pass: 20 to 22 ns on a Xeon of 2 GHz
# (Sapphire Rapids). At "avx2" and above a row that passes took 34 to 44 ns on an AMD EPYC (Zen 4).
# Queries took 1/2 to 1/6 of that beside all other work on an AMD EPYC (Zen 5) at "avx512vnni" and
# "avxvnni": 330 batches of 256 on six real sets of 16 to 784 dimensions. "avx2" is as "avxvnni",
# but for products, timed on an AMD EPYC (Zen 3); a product of codes at "avx512" is taken to cost no
# more than that: it took 0.019 on the Xeon of 2.5 GHz. At "avx512vnni" it took 0.006 there, and
# 0.0027 on the EPYC (Zen 5), where a float32 product took 0.0085: 0.0035 is between both, and
# float32 stays the Xeon's.
COSTS = {
    "scalar": Costs(5000.0, 14.0, 0.62, 0.5, 40.0, 40.0, 390.0, 1.9),
    "avx2": Costs(1500.0, 8.0, 0.013, 0.026, 34.0, 43.0, 38.0, 0.2),
    "avx512": Costs(5400.0, 10.0, 0.013, 0.025, 34.0, 37.0, 51.0, 0.3),
    "avxvnni": Costs(1500.0, 8.0, 0.01, 0.028, 34.0, 43.0, 38.0, 0.2),
    "avx512vnni": Costs(1300.0, 2.0, 0.0035, 0.013, 35.0, 38.0, 30.0, 0.24),
    "amx": Costs(1300.0, 2.0, 0.003, 0.013, 35.0, 22.0, 30.0, 0.24),
    "neon": Costs(3700.0, 21.0, 0.09, 0.056, 34.0, 43.0, 38.0, 0.4),
    "dotprod": Costs(3700.0, 21.0, 0.032, 0.056, 34.0, 43.0, 38.0, 0.4),
    "i8mm": Costs(3700.0, 21.0, 0.016, 0.056, 34.0, 43.0, 38.0, 0.4),
}

# Costs of single queries, for which nothing is shared. Fitted likewise to 76 kinds of searches at
# each level, on a Xeon of 2 GHz (Sapphire Rapids): 11 indexes of 900 to 50,000 rows in 16 to 300
# dimensions, exact and with three efforts, k = 10 and 60. 80 % of the costs relative to exact
# search are 0.86 to 1.33 times the measured ones. "avxvnni" and ARM weren't timed.
SINGLE_COSTS = {
    "scalar": Costs(1200.0, 3.0, 0.4, 0.69, 10.0, 41.0, 135.0, 0.35),
    "avx2": Costs(1000.0, 3.0, 0.029, 0.11, 10.0, 39.0, 47.0, 0.02),
    "avx512": Costs(900.0, 3.0, 0.024, 0.093, 10.0, 41.0, 61.0, 0.02),
    "avxvnni": Costs(1000.0, 3.0, 0.022, 0.11, 10.0, 39.0, 47.0, 0.02),
    "avx512vnni": Costs(900.0, 3.0, 0.02, 0.091, 10.0, 41.0, 60.0, 0.02),
    "amx": Costs(900.0, 3.0, 0.02, 0.091, 10.0, 41.0, 60.0, 0.02),
    "neon": Costs(1000.0, 3.0, 0.09, 0.11, 10.0, 39.0, 47.0, 0.04),
    "dotprod": Costs(1000.0, 3.0, 0.04, 0.11, 10.0, 39.0, 47.0, 0.04),
    "i8mm": Costs(1000.0, 3.0, 0.029, 0.11, 10.0, 39.0, 47.0, 0.04),
}

_FLOAT32_BYTES = 4  # that a product reads, and by codes 1
_BYTE = 0.07  # ns to read a byte of rows where few queries share it, at 14 GB a second
# ns to wait for a row at a random place in memory. Measured on a busy Xeon of 2 GHz (Sapphire
# Rapids): 40,000 rows of 150,000 x 64 took 140 ns each to pass and to get keys.
_ROW_ANYWHERE = 60.0
# ns to read a row in the order of codes, which is not that of memory, beside packing it. Measured
# on an AMD EPYC (Zen 3), 100,000 x 64.
_ROW_IN_ORDER = 22.0
# ns of a batch's products, and of finding its rows, below which a second thread costs more than it
# saves. Measured on an AMD EPYC (Zen 3) at "avx2", and on a Xeon (Sapphire Rapids) at "amx".
LEAST_SHARED = 4.4e5
LEAST_SHARED_BY_FEW = 1 << 25  # the same for few queries, which wait for memory: bytes
# ns that a row of a long answer takes, with those that passed in vain: of 36,000 and 100,000 rows
# k = 100 took 170 each, k = 1,000 about 115, rounded down. Measured at "avx512vnni" on an AMD EPYC
# (Zen 5).
FOUND = 100.0
FEW_QUERIES = 6  # queries below which a batch costs what single queries do: it waits for memory
# Bytes that a row at a random place in memory counts as, where a single query waits for memory.
# Measured on an AMD EPYC (Zen 5), ten sets: 12 to 35 us a megabyte, 20 to 60 ns a row.
_ROW_AT_RANDOM = 2000

# A batch on few rows is scanned in float32: to code its queries would take longer than codes save,
# and codes let more rows pass. Round numbers, guided by timings of batches of 6 to 256 on 100 to
# 3,200 rows of 8 to 1,536 dimensions on an AMD EPYC (Zen 5) at "avx2" and above: wrong choices took
# at most 1.3 times as long at "avx512vnni" and "avxvnni", 1.5 at "avx512", 1.75 at "avx2".
_CODED_QUERY = 900.0  # ns to rotate and code a query, beside its coordinates
_MORE_PASS = 1 / 30  # rows that pass by codes and wouldn't in float32, for each coordinate
_FLOAT_ROW = 1.2  # ns to scan a float32 row, beside its products
PACKED_COORDINATE = 0.5  # ns to pack a coordinate of a float32 row, for all queries together

# ns to test whether a query is like the sample, beside its float32 products. Round numbers, guided
# by timings in 2 to 784 dimensions on a busy AMD EPYC (Zen 4) at "avx512vnni" alone.
_GUARDED_QUERY = 100.0  # in a batch
_GUARDED_SINGLE = 150.0  # as a single query


def guard_cost(width: int, points: int, isa: str, *, single: bool = False) -> float:
    """Nanoseconds to compare `width` sums of a query's coordinates with `points` of a sample; for a
    single query those of the axes alone, as it is mostly near one of the first points."""
    if single:
        return _GUARDED_SINGLE + width * width * SINGLE_COSTS[isa].float_product
    return _GUARDED_QUERY + 2.0 * width * (width + points) * COSTS[isa].float_product


def codes_pay(n_queries: int, n_rows: int, dim: int, isa: str) -> bool:
    """Whether scanning n_rows by codes is faster than in float32, with the coding of queries."""
    costs = COSTS[isa]
    saved = costs.float_product - costs.code_product + PACKED_COORDINATE / max(n_queries, 1)
    if n_queries < FEW_QUERIES or costs.float_product <= costs.code_product:
        return True
    extra = costs.query_coordinate + _MORE_PASS * (costs.passed + costs.exact_product * dim)
    return n_rows * (_FLOAT_ROW + dim * saved) >= _CODED_QUERY + extra * dim


class RowCosts(NamedTuple):
    """Costs of a row for a query; the unit is what codes save of its product in float32."""

    passed: float = 0.0
    refined: float = 0.0
    rescored: float = 0.0
    packed: float = 0.0  # to read a row in float32, for all queries together
    alone: float = 0.0  # the same for a query that shares rows with none
    in_order: float = 0.0  # what both take longer in the order of codes than in that of memory


def row_costs(n_queries: int, dim: int, isa: str) -> RowCosts:
    """The costs by which searches of that many queries choose between codes and float32."""
    costs = COSTS[isa]
    saved, waits, packed, alone = 3.0 * _BYTE, _ROW_ANYWHERE, 0.0, 0.0
    if n_queries >= FEW_QUERIES:  # codes lie in panels, float32 rows are packed for each task
        saved, waits = costs.float_product - costs.code_product, 0.0
        packed = PACKED_COORDINATE
        alone = SINGLE_COSTS[isa].float_product - costs.float_product
    if saved <= 0.0:  # products of codes are no faster at the scalar level
        return RowCosts()
    saved *= dim
    return RowCosts(costs.passed / saved, costs.refined / saved,
                    (waits + costs.exact_product * dim) / saved, packed * dim / saved,
                    alone * dim / saved, _ROW_IN_ORDER / saved)


def least_shared_by_few(codes: bool) -> float:
    """Multiply-adds of few queries below which a second thread costs more than it saves."""
    return LEAST_SHARED_BY_FEW / (1 if codes else _FLOAT32_BYTES)


def bytes_waited_for(work: SearchStats) -> float:
    """Bytes that single queries have read, those of rows at random places counted for more."""
    return work.bytes_read + _ROW_AT_RANDOM * (work.rows_refined + work.rows_rescored)


def cost_of(work: SearchStats, dim: int, isa: str, *, single: bool = False) -> float:
    """Nanoseconds that a batch, or with `single` its queries one by one, takes on one thread."""
    costs = (SINGLE_COSTS if single else COSTS)[isa]
    return (work.queries * (costs.query + costs.query_coordinate * dim)
            + work.code_products * costs.code_product
            + work.float_products * costs.float_product
            + work.blocks_scanned * costs.block
            + work.rows_passed * costs.passed
            + work.rows_packed * PACKED_COORDINATE * dim
            + work.rows_refined * costs.refined
            + work.rows_rescored * costs.exact_product * dim)
