"""The tables that say where searches with `recall=` stop: measured, and measured again."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from farann._types import Float32Array, Int64Array, Progress
from farann.contract.stop_rule import ALL_CODES, StopRule
from farann.runtime.progress import measuring, renamed
from farann.search import depths
from farann.search.question import Question
from farann.store.samples import base_alone, sample_queries
from farann.store.store import RuleByTable, Store
from farann.tuning import measure
from farann.tuning.guard import SAMPLE, Guard, make_guard
from farann.tuning.plans import Measured
from farann.tuning.table import late_beyond, missing_at, with_margin


def rule_by_table(question: Question, recall: float) -> RuleByTable | None:
    """The stop rule of a search for a recall, by its table; None where there can be none."""
    store, k, isa = question.store, question.k, question.view.exact.isa
    if recall == 1.0 or store.codes is None or not len(store) or (
            store.n_coded is not None and store.partitions is None):
        return None
    tuned = store.tunings.measured_once(k, lambda: _measured_again(store, k, isa),
                                        lambda: store.tunings.holds(k, store.alive,
                                                                    store.n_removed))
    guard, single = store.tunings.guards.get(k), len(question.queries) == 1
    effort = with_margin(tuned, tuned.effort_for(recall, single=single), single=single)
    if effort == float("inf"):
        return tuned, guard, None
    rule, usual = measure.rule_of(effort, deviations=bool(tuned.deviations)), tuned.late_at(effort)
    if tuned.extends and usual is not None:
        rule = rule._replace(extends_beyond=late_beyond(*usual[:2]))
    # Predicted thresholds and run depths hold only when every row may be found.
    if question.every_row:
        run_ends = None if store.asks_nearest else depths.stops_for(
            store, k, missing_at(recall), isa, question.threads)
        rule = rule._replace(predicted_threshold=tuned.predicted_threshold_at(effort),
                             usual_lateness=usual, run_ends=run_ends)
    return tuned, guard, rule


def rule_within(budget: int, store: Store) -> StopRule:
    """The rule of a search that scans at most `budget` rows."""
    if budget >= len(store) and (store.partitions is None or store.n_coded is not None):
        return ALL_CODES  # rows that were removed may have left gaps among the others
    if store.partitions is None:
        return StopRule(rows=budget)
    return StopRule(deviations=measure.MOST_DEVIATIONS,
                    budget=budget if budget <= store.n_slots else 0)


def measured(store: Store, k: int, isa: str, queries: Float32Array | None = None,
             recall: float = 0.95, slots: Int64Array | None = None,
             progress: Progress = False) -> Measured:
    """Measure a tuning table and its guard, by given queries or a sample.

    `slots`: those of the rows that serve as queries, which aren't answers to themselves."""
    query_sample = queries
    if query_sample is None:
        size = measure.sample_size(len(store), store.dim, k)
        query_sample, slots = sample_queries(store, size)
    # Beyond the rows there are nothing is found, and no answer needs room for it.
    base = base_alone(store)
    view = base.view(isa)
    tuned, ids = measure.measure(view.snapshot, query_sample, min(k, len(base)),
                                 with_partitions=store.partitions is not None,
                                 with_vectors=store.n_coded is None, target=recall,
                                 exact=view.exact, nearest=store.by_nearest,
                                 own_ids=None if slots is None else base.ids.ids_of(slots),
                                 progress=progress)
    answers = base.slots_of(ids[ids >= 0])
    # Searches that are always exact need no guard.
    exact = len(tuned.efforts) == 1 or store.codes is None
    guard = None if exact else _guard_for(store, queries, isa)
    return Measured(tuned._replace(k=k), guard, answers)


def retuned(old: Store, new: Store, isa: str, has_sample: bool, tuned_for: Iterable[int],
            nearest: bool = False, progress: Progress = False) -> Store:
    """A new store tuned for some k, and for all that an old one was tuned for.

    `has_sample`: a sample of queries was given for the new one. `nearest`: it is for the nearest
    rows.
    """
    if len(new) and (nearest or old.nearest_tunings.by_k):
        _retune(old.mirrored(isa), new.mirrored(isa), isa, has_sample, tuned_for if nearest else (),
                progress)
    _retune(old, new, isa, has_sample, () if nearest else tuned_for, progress)
    return new


def _retune(old: Store, new: Store, isa: str, has_sample: bool, tuned_for: Iterable[int],
            progress: Progress) -> None:
    # Searches may tune the old layout in the meantime.
    while len(new) and (k := min((set(tuned_for) | old.tunings.by_k.keys())
                                 - new.tunings.by_k.keys(), default=0)):
        sample = None if has_sample else old.tunings.queries.get(k)
        # Each of several measurements has a name, so that its progress begins anew.
        new.tunings.keep(k, measured(new, k, isa, sample,
                                     progress=renamed(progress, measuring(k))),
                         sample)


def _guard_for(store: Store, queries: Float32Array | None, isa: str) -> Guard:
    """A guard for a plan that is measured with these queries, or else with a sample."""
    scale_free, seed = store.spec.metric.scale_free, store.spec.seed
    if queries is not None:
        return make_guard(queries, scale_free, seed, isa)
    if store.tunings.usual is None:
        store.tunings.usual = make_guard(sample_queries(store, SAMPLE)[0], scale_free, seed, isa)
    return store.tunings.usual


def _measured_again(store: Store, k: int, isa: str) -> Measured:
    """Measure a table again for a search, by the old table's queries, if there was one."""
    before, guard = store.tunings.by_k.get(k), store.tunings.guards.get(k)
    if before is None or guard is None:
        return measured(store, k, isa)
    queries, slots = store.tunings.queries.get(k), None
    if queries is None and k not in store.tunings.answers:
        # From a file, which doesn't keep them.
        queries, slots = depths.sample_like(store, k, guard)
        if len(queries) == 0:
            return Measured(before, guard, np.empty(0, np.int64))
    return measured(store, k, isa, queries, before.target, slots)._replace(guard=guard)
