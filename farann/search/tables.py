"""The tables of ``recall=``, which say where searches stop, and depths of runs of added rows.

Both are measured, and measured again where rows have changed. Rows of a run that answer many
queries come first. Sample queries are answered exactly, and a run is scanned down to its last row
among these answers, but for the share that a recall may miss. Where the sample is too small,
runs are scanned whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from farann import _core
from farann._types import BoolArray, Float32Array, Float64Array, Int64Array, Progress, UInt8Array
from farann.contract.stop_rule import ALL_CODES, StopRule
from farann.layout.added_rows import Added
from farann.quantize.scalar import centered
from farann.results import Hits, merge
from farann.runtime import batches, paging
from farann.runtime.cost import COSTS, FEW_QUERIES, SINGLE_COSTS
from farann.runtime.pieces import Allowance, Pieces
from farann.runtime.progress import measuring, renamed
from farann.store.store import Answers, RuleByTable, Store
from farann.tuning import measure
from farann.tuning.guard import MODEL_ROWS, SAMPLE, guard_in_pieces, model_in_pieces
from farann.tuning.table import Measured, late_beyond, missing_at, with_margin

if TYPE_CHECKING:
    from farann.search.plan import Question
    from farann.tuning.guard import Guard, KeyArrays

_MOST_LIKE = 512  # sample queries like the tuned ones, at most
_DRAWN = 1024  # sample queries, at most, among which those like the tuned ones are found
_LEAST_LIKE = 128  # if fewer are like the tuned ones, none is used and runs are scanned whole
_MOST_ANSWERS = 2**18  # answers (queries x k) at most: for a large k fewer queries are used
_FEWEST_LIKE = 32  # queries at least, however large k is
_OF_ITS_OWN = 8.0  # answers; runs that may miss fewer share one depth
# Misses of the runs that share a depth, over the misses that a plan allows: half of what the plan
# holds back, see `missing_at`.
_SPARE_SHARE = 1 / 18
_LEAST_DEPTH = 1 / 64  # share of its rows that a run with a shared depth is scanned to, at least
_NEW = 8  # if over 1/8 of the rows are new, the sample is answered again
_GONE = 100  # or if over 1/100 of the answers were removed: rows that replace them may lie anywhere


def rule_by_table(question: Question, recall: float) -> RuleByTable | None:
    """The stop rule of a search for a recall, by its table; None where there is none."""
    store, k, isa = question.store, question.k, question.view.exact.isa
    measured = store.tunings.by_k.get(k)
    if measured is None or not _takes_table(store, recall) or lacks_table(store, k, recall):
        return None
    tuned, single = measured.tuning, len(question.queries) < FEW_QUERIES
    effort = with_margin(tuned, tuned.effort_for(recall, single=single), single=single)
    if effort == float("inf"):
        return measured, None
    rule, late = measure.rule_of(effort, deviations=bool(tuned.deviations)), tuned.late_at(effort)
    if tuned.extends and late is not None:
        rule = rule._replace(extends_beyond=late_beyond(*late[:2]))
    # Predicted thresholds and run depths hold only when every row may be found.
    if question.every_row:
        run_ends = None if store.asks_nearest else stops_for(
            store, k, missing_at(recall), isa, question.threads)
        rule = rule._replace(predicted_threshold=tuned.predicted_threshold_at(effort),
                             run_ends=run_ends)
    if late is not None and (guard := measured.guard) is not None:
        watch = guard.watch_for((k, recall, single, question.every_row), tuned.usual_at(effort),
                                late[2], tuned.cost_of(effort, single=single))
        rule = rule._replace(watch=watch, model=guard.model)
    return measured, rule


def _takes_table(store: Store, recall: float) -> bool:
    return recall < 1.0 and store.codes is not None and len(store) > 0 and (
        store.n_coded is None or store.partitions is not None)


def lacks_table(store: Store, k: int, recall: float) -> bool:
    """Whether a recall takes a table that wasn't measured, or no longer holds."""
    measured = store.tunings.by_k.get(k)
    return _takes_table(store, recall) and not (measured and measured.holds(store.mask))


def lend(store: Store, k: int, isa: str, n_queries: int = 1, share: float = 1.0) -> None:
    """After searches of a share of the rows that were exact because their table is missing, do as
    much work on measuring it.

    The amount doesn't depend on threads, so that the same calls always give the same answers."""
    costs, n, dim = (SINGLE_COSTS if n_queries == 1 else COSTS)[isa], len(store), store.dim
    passed = min(k, n) * (1.0 + math.log(max(n / k, 1.0)))  # the i-th with a chance of k in i
    supposed = (costs.query + (costs.query_coordinate + n * costs.code_product) * dim
                + passed * costs.passed)
    store.tunings.go_on(k, partial(measured_again, store, k, isa), supposed, n_queries, share)


def rule_within(budget: int, store: Store) -> StopRule:
    """The rule of a search that scans at most `budget` rows."""
    if budget >= len(store) and (store.partitions is None or store.n_coded is not None):
        return ALL_CODES  # rows that were removed may have left gaps among the others
    if store.partitions is None:
        return StopRule(rows=budget)
    return StopRule(deviations=measure.RANKED_BY, budget=budget if budget <= store.n_slots else 0)


def measured(store: Store, k: int, isa: str, queries: Float32Array | None = None,
             recall: float = 0.95, progress: Progress = False) -> Measured:
    """Measure a tuning table and its guard, by given queries or a sample, and keep them."""
    allowed = Allowance()
    table = allowed.completed(_in_pieces(store, k, isa, allowed, queries, recall,
                                         progress=progress))
    store.tunings.keep(table)
    return table


def measured_again(store: Store, k: int, isa: str, allowed: Allowance) -> Pieces[Measured]:
    """Measure a table for a search, by the queries of one that no longer holds, if there is one."""
    before = store.tunings.by_k.get(k)
    if before is None:
        return _in_pieces(store, k, isa, allowed)
    return _in_pieces(store, k, isa, allowed, before.queries, before.tuning.target, before)


def _in_pieces(store: Store, k: int, isa: str, allowed: Allowance,
               queries: Float32Array | None = None, recall: float = 0.95,
               before: Measured | None = None, progress: Progress = False) -> Pieces[Measured]:
    """Measure a tuning table and its guard, in pieces that hold no store.

    `before`: a table that no longer holds; its guard is kept."""
    sample, slots, guard = queries, None, store.tunings.usual_guard() if queries is None else None
    if before is not None and before.guard is not None:
        guard = before.guard
    if queries is None and guard is not None and before is not None and before.answers is None:
        # Loaded from a file, which keeps no answers.
        sample, slots = sample_like(store, k, guard)
        if len(sample) == 0:
            return before._replace(answers=np.empty(0, np.int64))
    elif sample is None:
        size = measure.sample_size(len(store), store.dim, k)
        size = min(size, measure.LEAST_QUERIES) if allowed.is_lent else size
        sample, slots = store.sample_queries(size)
    # k above the number of rows would only take memory for padding.
    base = store.base_alone()
    ids, live, has_codes = base.ids, base.mask, store.codes is not None
    view, metric, making = _by_high_nibbles(base).view(isa), store.spec.metric, None
    table = partial(
        measure.in_pieces, view.snapshot, sample, min(k, len(base)), allowed,
        with_partitions=store.partitions is not None, with_vectors=store.n_coded is None,
        target=recall, exact=view.exact, nearest=store.by_nearest,
        own_ids=None if slots is None else ids.ids_of(slots),  # a row isn't its own answer
        float32_first=store.float32_below() > 0.0, progress=progress)
    keys, model = (None, None) if guard is None else (guard.keys, guard.model)
    if guard is None:
        like = store.sample_queries(SAMPLE)[0] if queries is None else queries
        making = partial(guard_in_pieces, allowed, like, metric.scale_free, store.spec.seed, isa)
    modelling = _keys_in_pieces(base, allowed) if making and has_codes else None
    del store, base, view
    if modelling is not None:
        keys = yield from modelling
        model = _core.KeyModel(isa, keys.axes, keys.terms)
    tuned, answers = yield from table(model=model)
    if len(tuned.efforts) == 1 or not has_codes:
        guard = None  # searches are always exact
    elif making is not None:
        guard = yield from making(keys=keys)
    return Measured(tuned._replace(k=k), guard, ids.slots_of(answers[answers >= 0], live), queries,
                    queries is None if before is None else before.is_usual)


def _keys_in_pieces(store: Store, allowed: Allowance) -> Pieces[KeyArrays] | None:
    """Pieces of a model of the keys of all rows; None without vectors."""
    n, metric = len(store.base), store.spec.metric
    if store.n_coded is not None or store.n_left_of_base == 0:
        return None
    some = np.linspace(0, n - 1, min(n, MODEL_ROWS)).astype(np.int64)
    rows = centered(paging.taken(store.base, some), store.center, metric.normalized)
    return model_in_pieces(allowed, rows, metric.adds_squared_norm, store.spec.seed)


def _by_high_nibbles(store: Store) -> Store:
    """The store with high nibbles first for single exact queries, as `SINGLE_COSTS` expect."""
    if store.codes is None or not store.codes.whole_codes_first:
        return store
    return store.changed(**{
        name: layout._replace(codes=replace(layout.codes, whole_codes_first=False))
        for name, layout in (("layout", store.layout), ("exact", store.exact)) if layout})


def retuned(old: Store, new: Store, isa: str, has_sample: bool, tuned_for: Iterable[int],
            nearest: bool = False, progress: Progress = False) -> Store:
    """Tune a new store for some k, with `nearest` of nearest rows, and for those of the old one."""
    turns = [(old, new, () if nearest else tuned_for)]
    if len(new) and (nearest or old.nearest_tunings.by_k):
        turns.insert(0, (old.mirrored(isa), new.mirrored(isa), tuned_for if nearest else ()))
    for before, after, wanted in turns:
        # Searches may tune the old layout in the meantime.
        while len(after) and (k := min((set(wanted) | before.tunings.by_k.keys())
                                       - after.tunings.by_k.keys(), default=0)):
            was = None if has_sample else before.tunings.by_k.get(k)
            # Each of several measurements has a name, so that its progress begins anew.
            measured(after, k, isa, None if was is None else was.queries,
                     progress=renamed(progress, measuring(k)))
    return new


# ---- depths of runs ----


def stops_for(store: Store, k: int, missing: float, isa: str, threads: int) -> Int64Array | None:
    """The position that the scan of each run stops before; None: runs are scanned whole.

    `missing` is the share of the answers in runs that may be missed."""
    added, table = store.added, store.tunings.by_k.get(k)
    if added is None or not added.runs or table is None or table.guard is None:
        return None
    answers = store.run_answers[k] = _answers_now(
        store, k, table.guard, isa, threads, store.run_answers.get(k))
    return stops_of(answers, added, store.mask, missing)


def _answers_now(store: Store, k: int, guard: Guard, isa: str, threads: int,
                 before: Answers | None) -> Answers:
    """Answers to sample queries that a guard lets pass; no answers if these are too few.

    `before`: the answers in an older store with the same layout. Rows added since are merged into
    them, unless too much has changed.
    """
    assert store.added is not None
    made_of = guard, store.added.runs, store.n_slots
    if before is None or before.guard is not guard:
        queries = sample_like(store, k, guard)[0]
    else:
        queries, slots = before.queries, before.hits.ids
        gone = 0 if store.mask is None else np.count_nonzero(store.mask[slots[slots >= 0]] == 0)
        n_new = store.n_slots - before.n_slots
        if n_new * _NEW <= store.n_slots and gone * _GONE <= slots.size:
            if before.runs is store.added.runs:
                return before
            rows = store.tail[-n_new:]
            new = _core.Snapshot(rows, rows[:0], None,
                                 None if store.mask is None else store.mask[-n_new:],
                                 store.center, store.spec.metric.number, isa)
            hits = _best(store, new, _core.Filter(new), queries, k, threads)
            hits.ids[hits.ids >= 0] += before.n_slots
            return Answers(*made_of, queries, merge([before.hits, hits], k))
    view = store.view(isa)
    hits = _best(store, view.exact, view.everything, queries, k, threads)
    hits.ids[hits.found] = store.slots_of(hits.ids[hits.found])
    return Answers(*made_of, queries, hits)


def _best(store: Store, snapshot: _core.Snapshot, everything: _core.Filter,
          queries: Float32Array, k: int, threads: int) -> Hits:
    """The rows furthest from queries, with their scores as keys."""
    hits, _ = batches.top(snapshot, everything, queries, k, False, threads)
    sign = 1.0 if store.spec.metric.larger_is_further else -1.0
    hits.keys = np.where(hits.found, sign * hits.scores.astype(np.float64), -np.inf)
    return hits


def sample_like(store: Store, k: int, guard: Guard) -> tuple[Float32Array, Int64Array | None]:
    """Queries like those that the plan for k was measured with, and slots as `sample_queries`
    gives them."""
    table = store.tunings.by_k.get(k)
    queries, slots = (store.sample_queries(_DRAWN) if table is None or table.queries is None
                      else (table.queries, None))
    some = np.arange(0, len(queries), max(1, len(queries) // _DRAWN))
    queries = np.ascontiguousarray(queries[some])
    marks = np.zeros(len(queries), np.uint8)
    guard.tests.find(queries, 0, len(queries), marks)
    like = np.flatnonzero(marks == 0)
    most = max(min(_MOST_LIKE, _MOST_ANSWERS // k), _FEWEST_LIKE)
    like = like[:: -(-len(like) // most)] if len(like) >= min(_LEAST_LIKE, most) else like[:0]
    return queries[like], None if slots is None else slots[some][like]


def stops_of(answers: Answers, added: Added, live: UInt8Array | None,
             missing: float) -> Int64Array | None:
    """The position to stop each run's scan before, to miss a share `missing` of its answers.

    None: runs are scanned whole. Runs with few answers each have a common depth, and may miss a
    small share of all answers, of runs and base."""
    if len(answers.queries) == 0:
        return None
    assert added.codes is not None and added.codes.slots is not None
    queries, slots = np.nonzero(answers.hits.found)[0], answers.hits.ids[answers.hits.found]
    if live is not None:
        queries, slots = queries[live[slots] > 0], slots[live[slots] > 0]
    # The run of each slot, -1 for none, and the share of the run to scan to reach the slot.
    run_of, share = np.full(answers.n_slots, -1), np.zeros(answers.n_slots)
    for i, run in enumerate(added.runs):
        in_order = added.codes.slots[run.start : run.stop]
        run_of[in_order], share[in_order] = i, np.arange(1, run.n + 1) / run.n
    of_runs, depths = run_of[slots], share[slots]
    few = missing * np.bincount(of_runs + 1, minlength=len(added.runs) + 1) < _OF_ITS_OWN
    few[0] = False  # answers in no run
    spare = _SPARE_SHARE * missing * len(slots)

    def depth_of(mine: BoolArray, least: float, usual: float) -> float:
        usual = max(usual, missing * np.count_nonzero(mine))
        return max(_depth(depths[mine], queries[mine], usual), least) if usual >= 1.0 else 1.0

    common = depth_of(few[of_runs + 1], _LEAST_DEPTH, spare)
    shares = [common if few[i + 1] else depth_of(of_runs == i, 0.0, 0.0)
              for i in range(len(added.runs))]
    return np.array([min(run.start + _core.code_rows(int(np.ceil(part * run.n))), run.stop)
                     for run, part in zip(added.runs, shares, strict=True)], np.int64)


def _depth(depths: Float64Array, queries: Int64Array, usual: float) -> float:
    """The share of a run to scan so that about `usual` of its answers are missed.

    One standard deviation fewer are missed, as the sample is small: the square root of the sum over
    queries of the square of the number of answers that the query misses."""
    squares = 0
    missed: dict[int, int] = {}
    order = np.argsort(-depths, kind="stable")
    for allowed, query in enumerate(queries[order].tolist()):
        missed[query] = missed.get(query, 0) + 1
        squares += 2 * missed[query] - 1
        if allowed + 1 + squares**0.5 > usual:
            return float(depths[order[allowed]])
    return 0.0
