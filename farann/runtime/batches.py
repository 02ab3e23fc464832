"""Cut a batch of queries into tasks, run them on threads, gather the answers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from farann import _core
from farann._types import Float32Array, Float64Array, Int64Array
from farann.contract.stop_rule import ALL_ROWS, EXACT, StopRule, Witness
from farann.results import Hits, RangeHits, SearchStats, unchecked
from farann.runtime import cost, paging, pool
from farann.runtime.cost import COSTS, FOUND, LEAST_SHARED, RowCosts, least_shared_by_few, row_costs

_QUERIES_A_TASK = 1024  # queries of a task: enough to share packed rows, few enough for the caches
_QUERIES_OF_CELLS = 2048  # of an approximate task: with more, more queries probe the same partition
# Queries of one task where all rows together are small: the queries stay in the L2 cache.
_QUERIES_OF_FEW_ROWS = 256
_FEW_COORDINATES = 1 << 20  # up to which rows are small
# Coordinates of the queries of a task in float32: with more they leave the caches.
_MOST_FLOATS = 1 << 20
_TASK_BYTES = 1 << 28  # bytes of scratch memory of one task, at most
# Multiply-adds from which a batch is long: some tens of ms. It runs on other threads, so that the
# main thread can wait for Ctrl+C; that switch took 1 to 2 % of batches of 7 ms.
_LONG_WORK = 1 << 30
_SLOW_LONG_WORK = 1 << 27  # the same at "scalar"
_QUERIES_AT_ONCE = 4  # queries that vector instructions score in the time of one
_READING = 32  # multiply-adds that reading one coordinate of a row counts as
_KEY_WORK = 4  # multiply-adds that one of an exact key counts as
_FINDING = 256  # multiply-adds that one row of an answer counts as
_APPROXIMATE_SHARE = 32  # an approximate search scans about 1/32 of the rows
_LEAST_EXPECTED = 32  # an exact search is expected to need 1/32 of them at least
_SHARED_FOR = 6  # queries from which tasks are made to share packed rows, or parts of the rows
# Where few queries share rows, parts of the rows are searched for all of them, unless the last such
# batch did less than 1/4 of the work of all rows: then the first ones take most of it.
_LEAST_WORK_OF_PARTS = 1 / 4
_LEADING_SHARE = 64  # the first 1/64 of the rows is searched alone and gives the parts a threshold
_PARTS_A_THREAD = 1  # parts per thread: in each more rows pass; _TASK_BYTES limits them, too
_PART_ROWS = 1024  # rows; parts end at a multiple of it
# Multiply-adds of a query in a part, at least: each part prepares the query again.
_PART_WORK = 1 << 20
_FLOAT_PART_SHARE = 8  # of that 1/8 without codes: preparing includes no coding
# Exact keys that a part must save the time of: more rows pass in it. Of 10,000 rows in 1,536
# dimensions 135 did in two parts and those before, 43 without (AMD EPYC, Zen 3).
_PART_KEYS = 128
_FEW_A_THREAD = 8  # queries per thread up to which rows may be split; with more, queries are
_FEW_FLOATS_A_THREAD = 32  # the same without codes: each task packs its rows for its own queries
_FEWEST_OF_TASK = 8  # queries of a task, where rows can't be split: they fill tiles of codes
_MOST_KEPT = 1024  # k up to which a single query keeps its memory for the next one
_MOST_OF_BATCH = 4096  # results up to which a batch does
# Scratch bytes per query beside its k entries, roughly: candidates, query vector, float64 copy.
_QUERY_BYTES = 16_384

WorkShares: TypeAlias = dict[tuple[int, ...], float]


def top(snapshot: _core.Snapshot, chosen: _core.Filter, queries: Float32Array, k: int,
        nearest: bool, threads: int, rule: StopRule = EXACT, witness: Witness | None = None,
        collect: Callable[[int, int], _core.Collector] | None = None, float32_first: bool = False,
        merges: bool = True, work_shares: WorkShares | None = None, kind: tuple[bool, ...] = (),
        negates: bool = False, trials: _core.CodeTrials | None = None) -> tuple[Hits, SearchStats]:
    """The k best rows of each query, or what `collect` finds, and statistics.

    `collect` makes the collector of the queries start .. stop. What tells of each answer of an
    approximate search is written to the `witness`. `float32_first`: exact searches don't begin
    with codes. `merges`: collectors of parts of the rows can be merged. `work_shares`: which share
    of the multiply-adds of all rows the last search did, by its `kind` and its size. `negates`:
    queries are those of the caller times -1. `trials`: of codes, in place of those of the snapshot.
    """
    n, work = len(queries), chosen.n_rows * snapshot.dim
    scores, ids = np.empty((n, k), np.float32), np.empty((n, k), np.int64)
    did: list[tuple[int, ...]] = []
    approximate = rule is not EXACT and rule.approximate
    trials = trials or _trials_of(snapshot, n, k, nearest)
    collected = collect or (lambda start, stop: _core.Collector(k))

    def search(start: int, stop: int, flag: _core.CancelFlag | None = None) -> None:
        trial = by_codes and trials.begin()

        def made(trial: bool) -> _core.Task:
            return _core.Task(snapshot, chosen, queries, start, stop, collected(start, stop),
                              nearest, None if rule is EXACT else rule, flag=flag, costs=costs,
                              by_codes=trial, tells_late=witness is not None,
                              model=None if witness is None else witness.model, negates=negates)

        task, lost = _done(made, trial, snapshot.in_file)
        if trial:
            trials.note(lost)
        if witness is not None:
            task.witness_to(witness.told, start, witness.every)
        task.write_top(scores, ids, start)
        did.append(task.did())

    def pay(of_task: int) -> bool:
        return (snapshot.codes is not None and not approximate and not float32_first
                and cost.codes_pay(of_task, chosen.n_rows, snapshot.dim, snapshot.isa))

    of_kind = sized(kind, k, snapshot.n_slots // max(chosen.n_rows, 1), rule is EXACT)
    usual = None if work_shares is None else work_shares.get(of_kind)
    n_found, parts = min(k, chosen.n_rows), None
    query_bytes = _QUERY_BYTES + 72 * n_found
    pays = pay(n)
    tries = pays and not trials.pauses
    least = _least_shared(snapshot, n, approximate or tries, n_found)
    threads, by_rows, fewest = _shared(usual, n, work, threads, least)
    few = approximate and rule.rows != ALL_ROWS
    long = _is_long(n, _expected(work, snapshot, few, usual), k, snapshot.isa)
    by_codes, costs = False, RowCosts()
    if (threads > 1 and rule is EXACT and snapshot.added is None and merges and by_rows
            and (n_parts := _parts_of(n, n_found, work, query_bytes, threads, tries,
                                      snapshot)) > 1):
        trial = pays and trials.begin()
        parts = _in_parts(
            lambda flag, by_codes, by_norm: _core.Task(
                snapshot, chosen, queries, 0, n, collected(0, n), nearest, flag=flag,
                costs=row_costs(n, snapshot.dim, snapshot.isa), by_codes=by_codes, by_norm=by_norm,
                negates=negates),
            threads, n_parts, trials if trial else None, snapshot.in_file is not None,
            _is_long(n, work // _LEADING_SHARE, k, snapshot.isa), long)
    if parts is None and not approximate:
        # Each task packs rows for itself, so its own number of queries counts.
        of_task = n if n * work < least else max(-(-n // threads), min(n, fewest))
        by_codes = pays if of_task == n else pay(of_task)
        costs = row_costs(of_task, snapshot.dim, snapshot.isa)
    if parts is not None:
        _core.write_best(parts, scores, ids)
        did += [task.did() for task in parts]
    elif n == 1 and not long:
        search(0, 1)
    else:
        most = _QUERIES_OF_CELLS if approximate else _most_of_task(work, snapshot.dim, by_codes)
        _run(search, n, work, query_bytes, threads if n * work >= least else 1, long, most, fewest)
    stats = SearchStats(n, *map(sum, zip(*did, strict=True)))
    if work_shares is not None and n * work:
        work_shares[of_kind] = share_of(stats, work, snapshot.dim)
    return unchecked(ids, scores), stats


def _least_shared(snapshot: _core.Snapshot, n: int, by_codes: bool, k: int = 0) -> float:
    """Multiply-adds of n queries, which find k rows each, that threads share at least."""
    costs = COSTS[snapshot.isa]
    by_codes = by_codes and snapshot.codes is not None
    if n < _SHARED_FOR:
        return least_shared_by_few(by_codes)
    return max(LEAST_SHARED - n * k * FOUND, 0.0) / (
        costs.code_product if by_codes else costs.float_product)


def _most_of_task(work: int, dim: int, by_codes: bool) -> int:
    """Queries of an exact task, at most, where one does so many multiply-adds for all rows."""
    most = _QUERIES_A_TASK
    if work <= _FEW_COORDINATES:
        most = _QUERIES_OF_FEW_ROWS
    return most if by_codes else min(most, max(_MOST_FLOATS // dim, 1))


def _shared(usual: float | None, n: int, work: int, threads: int,
            least: float) -> tuple[int, bool, int]:
    """Threads, whether they may share the rows, and the fewest queries of a task; `usual`: share of
    `work` that a query took in the last batch; `least`: multiply-adds that threads share."""
    by_rows, fewest = (True, _FEWEST_OF_TASK) if n >= _SHARED_FOR else (n * work >= least, 1)
    if usual is None:
        return threads, by_rows, fewest
    by_rows = usual >= _LEAST_WORK_OF_PARTS and (
        by_rows or (n > 1 and work >= 2 * threads * _PART_WORK))
    return (1 if n * work * usual < least else threads), by_rows, max(fewest, _SHARED_FOR)


def _done(made: Callable[[bool], _core.Task], by_codes: bool,
          in_file: object) -> tuple[_core.Task, bool]:
    """A task that has run, and whether it gave codes up: rows in a file are read in order then, by
    a task that begins anew."""
    task = made(by_codes)
    if in_file is not None and by_codes:
        task.search_only(0, _in_blocks(task.n_in_line()))  # which stops where codes are given up
    if in_file is None or by_codes:
        task.run()
    else:
        with paging.in_order(in_file):
            task.run()
    if in_file is not None and task.gave_up:
        return _done(made, False, in_file)[0], True
    return task, task.lost


def _trials_of(snapshot: _core.Snapshot, n: int, k: int, nearest: bool) -> _core.CodeTrials:
    """Trials of codes, by direction, about k and size."""
    trials: _core.CodeTrials = snapshot.code_trials.setdefault(
        (k.bit_length(), n.bit_length(), nearest), _core.CodeTrials())
    return trials


def _parts_of(n: int, k: int, work: int, query_bytes: int, threads: int, by_codes: bool,
              snapshot: _core.Snapshot) -> int:
    """Parts of the rows for n queries of `work` multiply-adds each; below 2 don't split rows."""
    costs = COSTS[snapshot.isa]
    most, least, product = _FEW_A_THREAD, _PART_WORK, costs.code_product
    if not by_codes:
        most, least = _FEW_FLOATS_A_THREAD, _PART_WORK // _FLOAT_PART_SHARE
        product = costs.float_product
    if n >= _SHARED_FOR:
        least = max(least, int(_PART_KEYS * snapshot.dim * costs.exact_product / product))
    # In each part about k rows pass that wouldn't in all rows together.
    least = max(least, int(k * FOUND / product))
    if n > most * threads:
        return 0
    n_parts = min(threads * _PARTS_A_THREAD, work // max(least, 1),
                  _TASK_BYTES // (n * query_bytes))
    by_queries = min(threads, n // _FEWEST_OF_TASK)
    if n_parts < by_queries or (by_codes and n_parts == by_queries):
        return 0  # parts of the queries keep more threads busy, or as many, and find rows once
    return n_parts - n_parts % threads if n_parts > threads else n_parts


def _in_parts(make: Callable[[_core.CancelFlag, bool, bool], _core.Task], threads: int,
              n_parts: int, trials: _core.CodeTrials | None, in_file: bool, first_long: bool,
              long: bool, by_norm: bool = True) -> list[_core.Task] | None:
    """Tasks that have each searched a part of the rows, for few queries.

    The first rows are searched before the others, which thus have a good threshold from the start;
    `first_long`: whether that search is long. None if rows are in a file and codes, of which this
    is one of the `trials`, rule out too few of the first. They are read in the order of memory, by
    tasks that begin anew, where these find that neither codes nor norms serve.
    """
    done: list[_core.Task] = []

    def search(first: int, end: int, flag: _core.CancelFlag) -> None:
        task = make(flag, trials is not None, by_norm)
        if first == 0:
            end = _in_blocks(task.n_in_line() // _LEADING_SHARE)
        task.search_only(first, end, done[0] if first else None)
        task.run()
        done.append(task)

    pool.run_all([partial(search, 0, 0)], 1, long=first_long)
    if done[0].gave_up and in_file:
        if trials is not None:
            trials.note(True)
        return None
    if done[0].leaves and by_norm:
        if trials is not None:
            trials.note(True)
        return _in_parts(make, threads, n_parts, None, in_file, first_long, long, by_norm=False)
    in_line = done[0].n_in_line()
    first = _in_blocks(in_line // _LEADING_SHARE)
    bounds = [first + max(in_line - first, 0) * i // n_parts // _PART_ROWS * _PART_ROWS
              for i in range(n_parts)]
    bounds.append(_in_blocks(in_line))
    pool.run_all([partial(search, start, end) for start, end in pairwise(bounds) if start < end],
                 threads, long=long, apart=True)
    if trials is not None:
        trials.note(any(task.lost for task in done[1:]))
    return done


def _in_blocks(rows: int) -> int:
    """Round rows up to whole blocks; one more if they end at a block's end."""
    return (rows // _PART_ROWS + 1) * _PART_ROWS


def single(snapshot: _core.Snapshot, everything: _core.Filter, k: int, plan: object,
           rule: StopRule, guard: _core.Guard | None = None, *, nearest: bool = False,
           float32_below: float = 0.0, collect: Callable[[], _core.Collector] | None = None,
           within: _core.Filter | None = None, work_shares: WorkShares, kind: tuple[bool, ...],
           most: int = 1, negates: bool = False) -> _core.SingleSearch | None:
    """Prepare single queries, or batches of up to `most`, with the answers of `top`, whose
    collector `collect` makes; None if answers are large, or if a query, of rows `within`, takes so
    long that Ctrl+C must end it, or threads may share it."""
    asked = everything if within is None else within
    work, few = asked.n_rows * snapshot.dim, rule.approximate and rule.rows != ALL_ROWS
    share = snapshot.n_slots // max(asked.n_rows, 1)
    usual = work_shares.get(sized(kind, k, share, rule is EXACT))
    if k > _MOST_KEPT or _is_long(most, _expected(work, snapshot, few, usual), k, snapshot.isa):
        return None
    if most == 1 and snapshot.codes is None and work >= _least_shared(snapshot, 1, False):
        return None
    if most > 1:
        if most > _QUERIES_OF_FEW_ROWS or most * k > _MOST_OF_BATCH:
            return None
        pays = cost.codes_pay(most, everything.n_rows, snapshot.dim, snapshot.isa)
        float32_below = 0.0 if pays else float("inf")
    return _core.SingleSearch(snapshot, everything, k, plan,
                              row_costs(most, snapshot.dim, snapshot.isa), rule, guard=guard,
                              nearest=nearest, float32_below=float32_below, collect=collect,
                              most=most, negates=negates)


def in_range(snapshot: _core.Snapshot, chosen: _core.Filter, queries: Float32Array,
             radii: Float64Array, nearest: bool, threads: int,
             most: int = 0) -> tuple[RangeHits, SearchStats]:
    """All rows beyond the radius of each query, or with `nearest` within it, and statistics; `most`
    rows a query, or a block more, unless it is 0."""
    n = len(queries)
    tasks: dict[int, _core.Task] = {}

    def search(start: int, stop: int, flag: _core.CancelFlag) -> None:
        task = _core.Task(snapshot, chosen, queries, start, stop,
                          _core.RangeCollector(radii[start:stop], most), nearest, flag=flag,
                          costs=row_costs(stop - start, snapshot.dim, snapshot.isa))
        task.run()
        tasks[start] = task

    work = chosen.n_rows * snapshot.dim
    # No row is filtered out.
    long = _is_long(n, work, chosen.n_rows, snapshot.isa)
    least = _least_shared(snapshot, n, by_codes=True)
    _run(search, n, work, _QUERY_BYTES, threads if n * work >= least else 1, long)
    counts = [count for start in sorted(tasks) for count in tasks[start].counts()]
    offsets = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)
    scores = np.empty(offsets[-1], np.float32)
    ids = np.empty(offsets[-1], np.int64)
    for start, task in tasks.items():
        task.write_range(scores, ids, int(offsets[start]))
    did = [task.did() for task in tasks.values()]
    return (RangeHits(offsets, ids, scores),
            SearchStats(n, *map(sum, zip(*did, strict=True))) if did else SearchStats(n))


def score(snapshot: _core.Snapshot, queries: Float32Array, slots: Int64Array,
          threads: int) -> Float32Array:
    """Scores of given rows, (n_queries, n_slots)."""
    scores = np.empty((len(queries), len(slots)), np.float32)

    def work(start: int, stop: int, flag: _core.CancelFlag) -> None:
        _core.keys_of_slots(snapshot, queries[start:stop], slots, None, flag,
                            scores=scores[start:stop])

    _run_keys(work, snapshot, len(queries), len(slots), threads)
    return scores


def keys_of_found(snapshot: _core.Snapshot, queries: Float32Array, offsets: Int64Array,
                  slots: Int64Array, nearest: bool, threads: int) -> Float64Array:
    """Exact keys of hits, of query i slots[offsets[i]:offsets[i + 1]]."""
    keys = np.empty(len(slots))
    work = partial(_core.keys_of_found, snapshot, queries, offsets, slots, nearest, keys)
    n = len(queries)
    _run_keys(work, snapshot, n, -(-len(slots) // max(n, 1)), threads)
    return keys


def _run_keys(compute: Callable[[int, int, _core.CancelFlag], object], snapshot: _core.Snapshot,
              n: int, n_rows: int, threads: int) -> None:
    """Call compute(start, stop) for ranges that cover n queries, each of so many keys."""
    work = n_rows * snapshot.dim
    shared = n * work * _KEY_WORK >= _least_shared(snapshot, n, by_codes=False)
    # Keys are computed in float64, which is as slow as the scalar level.
    _run(compute, n, work, _QUERY_BYTES, threads if shared else 1, _is_long(n, work, 0, "scalar"))


def sized(kind: tuple[bool, ...], k: int, share: int = 1, exact: bool = True) -> tuple[int, ...]:
    """A kind of searches that find about k of about one row in `share`, all exactly or all not."""
    return *kind, k.bit_length(), share.bit_length(), exact


def share_of(did: SearchStats, work: int, dim: int) -> float:
    """The share of `work`, the multiply-adds of all rows, that queries did."""
    did_work = did.code_products + did.float_products + _KEY_WORK * did.rows_rescored * dim
    return min(did_work / max(did.queries * work, 1), 1.0)


def _expected(work: int, snapshot: _core.Snapshot, few: bool, usual: float | None) -> int:
    """Multiply-adds of a query, of `work` for all rows; `few`: it is to scan few of them; `usual`:
    the share that the last one did. This one may do more: up to 32 times as much ends soon."""
    if few:
        return work // _APPROXIMATE_SHARE
    return expected(work, None if snapshot.in_file is not None else usual)


def expected(work: int, usual: float | None) -> int:
    """Multiply-adds of an exact query of rows in memory, as `_expected`."""
    return work if usual is None else int(work * max(usual, 1 / _LEAST_EXPECTED))


def _is_long(n: int, work: int, k: int, isa: str) -> bool:
    """Whether n queries, each of `work` multiply-adds and k rows, take long."""
    slow = isa == "scalar"
    counted = (n if slow else n // _QUERIES_AT_ONCE) * work + _READING * work + _FINDING * n * k
    return counted >= (_SLOW_LONG_WORK if slow else _LONG_WORK)


def _run(search: Callable[[int, int, _core.CancelFlag], object], n: int, work: int,
         query_bytes: int, threads: int, long: bool, most: int = _QUERIES_A_TASK,
         fewest: int = 1) -> None:
    """Call search(start, stop) for ranges that cover n queries, each `work` multiply-adds."""
    largest = max(1, min(most, _TASK_BYTES // query_bytes))
    n_tasks = -(-n // largest)
    n_tasks = min(-(-n_tasks // threads) * threads, max(n // fewest, 1, n_tasks))
    if n_tasks == 1 and not long:
        search(0, n, _core.CancelFlag())
        return
    bounds = [n * i // n_tasks for i in range(n_tasks + 1)] if n else [0]
    tasks = [partial(search, start, stop) for start, stop in pairwise(bounds)]
    pool.run_all(tasks, threads, long=long, apart=True)
