"""exclude and allowed, in every form and together, against the oracle."""

from __future__ import annotations

import gc
import itertools
import pickle
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import inside
import numpy as np
import pytest
import reference
from cases import Float32, assert_same, assert_same_beyond, index_of
from numpy.typing import NDArray
from reference import METRICS

import farann

NQ = 5
RADIUS = {"l2": 4.0, "dot": 0.0, "cosine": 0.0}
Lists = Sequence[Sequence[int]]


class Setting(NamedTuple):
    """An index with unsorted, large ids, some rows removed and some added after the build."""

    target: farann.Index
    rows: Float32
    ids: NDArray[np.int64]
    queries: Float32


@pytest.fixture(params=METRICS)
def setting(request: pytest.FixtureRequest, rng: np.random.Generator) -> Setting:
    metric = request.param
    rows = rng.integers(-2, 3, (220, 6)).astype(np.float32) + np.float32(0.25)
    ids = 2**62 + rng.permutation(10_000)[:220]
    index = index_of(rows[:150], metric, ids[:150]).build()
    index.add(rows[150:], ids[150:])
    gone = rng.permutation(220)[:30]
    index.remove(ids[gone])
    queries = rng.standard_normal((NQ, 6), dtype=np.float32)
    return Setting(index, np.delete(rows, gone, axis=0), np.delete(ids, gone), queries)


def check(
    setting: Setting,
    exclude: Any = None,
    allowed: Any = None,
    *,
    left_out: Sequence[Iterable[int]] | None = None,
    kept: Iterable[int] | None = None,
) -> None:
    """Hold all three searches with filters as given against the oracle with plain sets."""
    index, rows, ids, queries = setting
    filters: dict[str, Any] = {"exclude": exclude, "allowed": allowed}
    plain: dict[str, Any] = {"ids": ids, "exclude": left_out, "allowed": kept}
    metric = index.metric
    for k in (3, 250):
        expected = reference.furthest(queries, rows, k, metric, **plain)
        assert_same(index.search_furthest(queries, k, **filters), expected)
        assert_same(index.search_furthest(queries, k, threads=2, **filters), expected)
        expected = reference.nearest(queries, rows, k, metric, **plain)
        assert_same(index.search_nearest(queries, k, **filters), expected)
    past = reference.beyond(queries, rows, RADIUS[metric], metric, **plain)
    if exclude is allowed is None:
        assert 0 < len(past.ids) < NQ * len(rows)
    assert_same_beyond(index.search_beyond(queries, radius=RADIUS[metric], **filters), past)


def best(setting: Setting, k: int) -> NDArray[np.int64]:
    """Ids that would answer without a filter, so that leaving them out matters."""
    index, rows, ids, queries = setting
    return reference.furthest(queries, rows, k, index.metric, ids=ids).ids


PADDED: dict[str, Callable[[NDArray[np.int64]], Any]] = {
    "int64 array": lambda ids: ids,
    "list of lists": lambda ids: ids.tolist(),
    "ragged arrays": lambda ids: [row[row >= 0] for row in ids],
    "ragged lists": lambda ids: [[i for i in row if i >= 0] for row in ids.tolist()],
    "tuple of arrays": lambda ids: tuple(ids),
    "sets as lists": lambda ids: [sorted({*row}) for row in ids.tolist()],
    "Fortran order": np.asfortranarray,
    "strided": lambda ids: np.repeat(ids, 2, axis=1)[:, ::2],
    "repeated ids": lambda ids: np.tile(ids, (1, 3)),
    "big-endian": lambda ids: ids.astype(">i8"),
    "object array of arrays": lambda ids: _objects([row[row >= 0] for row in ids]),
}


def _objects(parts: list[NDArray[np.int64]]) -> NDArray[np.object_]:
    array = np.empty(len(parts), object)
    array[:] = parts
    return array


@pytest.mark.few_rows_as_floats
def test_batches_on_few_rows_as_users_have_them(setting: Setting,
                                                rng: np.random.Generator) -> None:
    """These are scanned in float32, where other tests have codes at any size."""
    index, rows, ids, _ = setting
    queries = rng.standard_normal((100, 6), dtype=np.float32)
    left_out = reference.furthest(queries, rows, 8, index.metric, ids=ids).ids
    kept = rng.permutation(ids)[:150]
    for exclude, allowed in ((left_out, None), (None, kept), (left_out, kept)):
        plain: dict[str, Any] = {"ids": ids, "allowed": allowed,
                                 "exclude": None if exclude is None else exclude.tolist()}
        for k in (3, 70, 250):
            expected = reference.furthest(queries, rows, k, index.metric, **plain)
            hits = index.search_furthest(queries, k, exclude=exclude, allowed=allowed,
                                         return_stats=True)
            stats = hits.stats
            assert_same(hits, expected)
            assert (stats.code_products > 0) == (index.isa == "scalar")
            expected = reference.nearest(queries, rows, k, index.metric, **plain)
            hits = index.search_nearest(queries, k, exclude=exclude, allowed=allowed)
            assert_same(hits, expected)


@pytest.mark.parametrize("form", PADDED)
def test_exclude_in_every_form(form: str, setting: Setting) -> None:
    ids = best(setting, 8)
    for query in range(NQ):
        ids[query, query + 2 :] = -1
    check(setting, exclude=PADDED[form](ids), left_out=ids.tolist())


def test_exclude_of_one_query(setting: Setting) -> None:
    index, rows, ids, queries = setting
    left_out = best(setting, 6)[0]
    expected = reference.furthest(
        queries[:1], rows, 5, index.metric, ids=ids, exclude=[left_out.tolist()]
    )
    expected = reference.Found(expected.scores[0], expected.ids[0])
    for form in (left_out, left_out.tolist(), tuple(left_out), [*left_out.tolist(), -1, 5]):
        assert_same(index.search_furthest(queries[0], 5, exclude=form), expected)
    nothing = index.search_furthest(queries[0], 5)
    for empty in ([], (), np.empty(0, np.int64), [-1], [-1, -1]):
        assert_same(index.search_furthest(queries[0], 5, exclude=empty), nothing)


def test_small_id_dtypes_are_accepted(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((100, 4), dtype=np.float32)
    index = index_of(rows)
    expected = reference.furthest(
        rows[:2], rows, 9, "l2", exclude=[[1, 5], [7, 9]], allowed=range(50)
    )
    for dtype in (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.uint64):
        exclude, allowed = np.array([[1, 5], [7, 9]], dtype), np.arange(50).astype(dtype)
        assert_same(index.search_furthest(rows[:2], 9, exclude=exclude, allowed=allowed), expected)


def test_some_queries_exclude_nothing(setting: Setting) -> None:
    ids = best(setting, 4).tolist()
    ids[1] = ids[3] = []
    check(setting, exclude=ids, left_out=ids)
    nothing: Lists = [[]] * NQ
    check(setting, exclude=nothing, left_out=nothing)
    check(setting, exclude=np.empty((NQ, 0), np.int64), left_out=nothing)
    check(setting, exclude=np.full((NQ, 3), -1), left_out=nothing)


def test_unknown_and_removed_ids_are_ignored(setting: Setting) -> None:
    unknown = [0, 7, 2**63 - 1, 2**62 + 10_001, -1, -5]
    check(setting, exclude=[unknown] * NQ, left_out=[[]] * NQ)
    ids = best(setting, 3)
    mixed = [row + unknown for row in ids.tolist()]
    check(setting, exclude=mixed, left_out=ids.tolist())
    setting.target.remove(ids[0])
    stay = ~np.isin(setting.ids, ids[0])
    after = setting._replace(rows=setting.rows[stay], ids=setting.ids[stay])
    check(after, exclude=[ids[0]] * NQ, left_out=[[]] * NQ)


def test_excluding_everything(setting: Setting) -> None:
    everything = [setting.ids] * NQ
    hits = setting.target.search_furthest(setting.queries, 3, exclude=everything)
    assert (hits.ids == -1).all() and np.isnan(hits.scores).all()
    assert hits.ids.shape == (NQ, 3)
    past = setting.target.search_beyond(setting.queries, radius=-1e9, exclude=everything)
    assert past.offsets.tolist() == [0] * (NQ + 1) and past.ids.size == past.scores.size == 0
    one = setting.target.search_nearest(setting.queries[0], 2, exclude=setting.ids)
    assert one.ids.tolist() == [-1, -1]
    only_first: Lists = [setting.ids.tolist(), *[[]] * (NQ - 1)]
    check(setting, exclude=only_first, left_out=only_first)


@pytest.mark.parametrize("share", [0.01, 0.3, 1.0])
def test_allowed_ids_and_mask_are_alike(
    share: float, setting: Setting, rng: np.random.Generator
) -> None:
    ids = setting.target.ids
    mask = rng.random(len(ids)) < share
    mask[rng.integers(len(ids))] = True
    kept = ids[mask].tolist()
    shuffled = rng.permutation(ids[mask])
    for form in (shuffled, shuffled.tolist(), tuple(kept), np.repeat(shuffled, 2)[::2], mask):
        check(setting, allowed=form, kept=kept)
    check(setting, allowed=[*kept, *kept], kept=kept)
    check(setting, allowed=mask.tolist(), kept=kept)
    check(setting, allowed=np.repeat(mask, 2)[::2], kept=kept)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_a_mask_of_integers_is_refused(dtype: Any) -> None:
    """It would be the ids 0 and 1."""
    index = farann.Index()
    index.add(np.eye(4, dtype=np.float32))
    for single, mask in itertools.product((True, False), ([0, 1, 1, 0], [1] * 4, [0] * 4)):
        queries = np.ones(4) if single else np.ones((3, 4))
        with pytest.raises(ValueError, match="allowed: expected ids or a boolean mask, got 4"):
            index.search_furthest(queries, 2, allowed=np.array(mask, dtype))
    with pytest.raises(ValueError, match="allowed: expected ids or a boolean mask"):
        index.filter(allowed=np.ones(4, dtype))
    assert index.search_furthest(np.ones(4), 2, allowed=np.array([1, 0], dtype)).ids.max() == 1


def test_nothing_allowed(setting: Setting) -> None:
    mask = np.zeros(len(setting.target), bool)
    forms: list[Any] = [[], (), np.empty(0, np.int64), mask]
    for empty in forms:
        check(setting, allowed=empty, kept=[])


def test_allowed_ids_that_are_not_in_the_index_are_ignored(setting: Setting) -> None:
    kept = setting.ids[:40].tolist()
    check(setting, allowed=[3, *kept, 2**63 - 1], kept=kept)
    check(setting, allowed=[3, 4], kept=[])
    setting.target.remove(kept[:10])
    after = setting._replace(rows=setting.rows[10:], ids=setting.ids[10:])
    check(after, allowed=kept, kept=kept[10:])


def test_both_filters_together(setting: Setting, rng: np.random.Generator) -> None:
    kept = rng.permutation(setting.ids)[:90]
    left_out = best(setting, 30)
    check(
        setting,
        exclude=left_out,
        allowed=kept,
        left_out=left_out.tolist(),
        kept=kept.tolist(),
    )
    mask = np.isin(setting.target.ids, kept)
    check(
        setting,
        exclude=[*left_out],
        allowed=mask,
        left_out=left_out.tolist(),
        kept=kept.tolist(),
    )


def test_filters_do_not_stick(setting: Setting) -> None:
    check(setting, exclude=[setting.ids] * NQ, allowed=[], left_out=[[]] * NQ, kept=[])
    check(setting)


def test_the_mask_follows_the_order_of_ids(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((60, 3), dtype=np.float32)
    ids = rng.permutation(60)
    index = index_of(rows, ids=ids)
    index.remove(ids[10:20])
    live = np.concatenate([ids[:10], ids[20:]])
    assert np.array_equal(index.ids, live)
    assert np.array_equal(index.build().ids, live)
    hits = index.search_furthest(rows[0], 60, allowed=np.arange(50) < 10)
    assert set(hits.ids.tolist()) == {*ids[:10].tolist(), -1}


def test_large_filters(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((20_000, 8), dtype=np.float32)
    index = index_of(rows)
    queries = rows[:20]
    left_out = rng.integers(0, 20_000, (20, 3000))
    mask = rng.random(20_000) < 0.5
    expected = reference.furthest(
        queries, rows, 20, "l2", exclude=left_out.tolist(), allowed=np.flatnonzero(mask).tolist()
    )
    got = index.search_furthest(queries, 20, exclude=left_out, allowed=mask)
    assert_same(got, expected)


def test_arguments_are_left_as_they_were(setting: Setting, rng: np.random.Generator) -> None:
    exclude = best(setting, 5)
    allowed = rng.permutation(setting.ids)[:50]
    mask = rng.random(len(setting.ids)) < 0.5
    arrays: tuple[NDArray[Any], ...] = (exclude, allowed, mask, setting.queries)
    before = [array.copy() for array in arrays]
    for array in arrays:
        array.flags.writeable = False
    setting.target.search_furthest(setting.queries, exclude=exclude, allowed=allowed)
    setting.target.search_nearest(setting.queries, exclude=exclude, allowed=mask)
    for array, copy in zip(arrays, before, strict=True):
        assert np.array_equal(array, copy)


# ---- prepared filters ----


def test_prepared_filters_in_every_form(setting: Setting, rng: np.random.Generator) -> None:
    index = setting.target
    kept = rng.permutation(setting.ids)[:90]
    mask = np.isin(index.ids, kept)
    left_out = best(setting, 8)
    for allowed in (kept, kept.tolist(), [*kept, *kept, 3], mask, mask.tolist()):
        check(setting, allowed=index.filter(allowed=allowed), kept=kept.tolist())
    some = index.filter(allowed=kept)
    check(setting, exclude=left_out, allowed=some, left_out=left_out.tolist(), kept=kept.tolist())
    gone = left_out[0]
    rest = np.setdiff1d(kept, gone).tolist()
    check(setting, allowed=index.filter(allowed=kept, exclude=gone), kept=rest)
    check(setting, allowed=index.filter(allowed=mask, exclude=[*gone, 5, -1]), kept=rest)
    without = index.filter(exclude=gone)
    check(setting, allowed=without, left_out=[gone.tolist()] * NQ)
    check(setting, allowed=without, exclude=left_out,
          left_out=[[*gone.tolist(), *row] for row in left_out.tolist()])
    check(setting, allowed=index.filter(allowed=[]), kept=[])
    check(setting, allowed=index.filter(exclude=[]))


def test_prepared_filters_live_through_changes(setting: Setting, rng: np.random.Generator) -> None:
    """They find what the same ids find: rows that come later, too, and ids that come back."""
    index, rows, ids, _ = setting
    filters = {"kept": index.filter(allowed=ids[::2]),
               "mask": index.filter(allowed=np.arange(len(ids)) % 2 == 0),
               "rest": index.filter(exclude=ids[::3])}

    def check_all(now: Setting) -> None:
        for name in ("kept", "mask"):
            check(now, allowed=filters[name], kept=ids[::2].tolist())
        check(now, allowed=filters["rest"], left_out=[ids[::3].tolist()] * NQ)

    check_all(setting)
    index.remove(ids[:40])
    rows, live = rows[40:], ids[40:]
    check_all(setting._replace(rows=rows, ids=live))
    new = rng.integers(-2, 3, (30, 6)).astype(np.float32) + np.float32(0.5)
    back = np.concatenate([ids[:20], 7 + np.arange(10)])  # some are new, some were removed
    index.add(new, back)
    now = setting._replace(rows=np.concatenate([rows, new]), ids=np.concatenate([live, back]))
    check_all(now)
    index.build()
    check_all(now)


def test_filters_of_an_empty_index() -> None:
    index = farann.Index(dim=2)
    filters = [index.filter(allowed=[0, 1]), index.filter(exclude=[0]),
               index.filter(allowed=np.empty(0, bool))]
    for some in filters:
        assert index.search_furthest([0.0, 0.0], 2, allowed=some).ids.tolist() == [-1, -1]
    index.add([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]])
    found = [index.search_furthest([0.0, 0.0], 2, allowed=some).ids.tolist() for some in filters]
    assert found == [[1, 0], [2, 1], [-1, -1]]


def test_a_filter_belongs_to_its_index(setting: Setting) -> None:
    some = setting.target.filter(allowed=setting.ids[:5])
    assert "5 ids" in repr(some)
    for other in (index_of(setting.rows), pickle.loads(pickle.dumps(setting.target))):
        with pytest.raises(ValueError, match=r"^allowed: .* of this index"):
            other.search_furthest(setting.queries, allowed=some)
    with pytest.raises(ValueError, match=r"^allowed: .* of this index"):
        farann.Index().search_furthest([1.0], allowed=some)
    with pytest.raises(TypeError, match=r"index\.filter"):
        pickle.dumps(some)
    with pytest.raises(ValueError, match=r"^filter: .*none of them"):
        setting.target.filter()
    for name, bad in (("allowed", [1.5]), ("allowed", np.ones(3, bool)), ("exclude", [[1]]),
                      ("exclude", np.ones(len(setting.ids), bool))):
        given: dict[str, Any] = {name: bad}
        with pytest.raises((TypeError, ValueError), match=f"^{name}: "):
            setting.target.filter(**given)


# ---- what they cost, counted ----


def test_prepared_filters_are_looked_up_once_a_store(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    times: list[int] = []
    marked = inside.store.IdMap.marked

    def counted(*of: Any) -> Any:
        times.append(1)
        return marked(*of)

    monkeypatch.setattr(inside.store.IdMap, "marked", counted)
    index = setting.target
    some = index.filter(allowed=setting.ids[::2])
    for _ in range(3):
        index.search_furthest(setting.queries, allowed=some)
        index.search_furthest(setting.queries[0], allowed=some)
    assert len(times) == 1
    index.remove(setting.ids[:1])
    for _ in range(3):
        index.search_furthest(setting.queries, allowed=some)
    assert len(times) == 2


def test_masks_and_many_ids_are_never_sorted(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = index_of(rng.standard_normal((3000, 8), dtype=np.float32)).build()
    mask = rng.random(3000) < 0.5

    def never(*of: Any) -> Any:
        raise AssertionError("not needed")

    expected = index.search_furthest(np.ones(8), allowed=mask)
    monkeypatch.setattr(inside.settings, "distinct", never)
    monkeypatch.setattr(np, "sort", never)
    monkeypatch.setattr(inside.store.Store, "live_slots", never)
    assert_same(index.search_furthest(np.ones(8), allowed=rng.permutation(np.flatnonzero(mask))),
                expected)
    monkeypatch.setattr(inside.store.Store, "slots_of", never)
    monkeypatch.setattr(inside.store.IdMap, "marked", never)
    assert_same(index.search_furthest(np.ones(8), allowed=mask), expected)


def test_what_is_read_depends_on_the_number_of_queries(rng: np.random.Generator) -> None:
    """To fetch a tenth of the rows costs more than to scan all codes, but not for many queries."""
    n = 20_000
    rows = rng.standard_normal((n, 32), dtype=np.float32)
    index = index_of(rows).build()
    if index.isa == "scalar":
        pytest.skip("at this level codes cost as much as float32")
    mask = np.arange(n) % 4 == 0
    for few in (mask, np.flatnonzero(mask), index.filter(allowed=mask)):
        one = index.search_furthest(rows[0], allowed=few, return_stats=True).stats
        many = index.search_furthest(rows[:500], allowed=few, return_stats=True).stats
        assert one.code_products > 0 and one.float_products == 0
        assert many.code_products == 0 and many.rows_scanned == 500 * n // 4
    # With a large k many rows pass by their codes, most of which aren't allowed.
    deep = index.search_furthest(rows[0], 200, allowed=index.filter(allowed=mask),
                                 return_stats=True).stats
    assert deep.code_products == 0 and deep.rows_scanned == n // 4
    best = index.search_furthest(rows[:500], 1, allowed=mask, return_stats=True).stats
    assert best.code_products == 0
    # A list that is used once doesn't pay for its making.
    fewer = np.arange(n) % 16 == 0
    once, again = (index.search_furthest(rows[0], allowed=allowed, return_stats=True).stats
                   for allowed in (fewer, index.filter(allowed=fewer)))
    assert once.code_products > 0 and again.code_products == 0
    third = index.search_furthest(rows[:500], budget=n, allowed=np.arange(n) % 3 == 0,
                                  return_stats=True).stats
    assert third.code_products > 0  # approximate searches go by codes
    all_rows = index.search_furthest(rows[:500], allowed=mask | True, return_stats=True).stats
    assert all_rows.float_products == 0
    a_few = index.search_furthest(rows[0], allowed=np.arange(100), return_stats=True).stats
    assert a_few.rows_scanned == 100


def test_rows_that_are_not_allowed_are_not_refined(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((20_000, 256), dtype=np.float32)
    index = index_of(rows).build()
    if index.isa == "scalar":
        pytest.skip("at this level the rows are listed")
    draws = rng.random(len(rows))
    every, few, half, most = (
        sum(index.search_furthest(row, allowed=allowed, return_stats=True).stats.rows_refined
            for row in rows[:20]) for allowed in (None, draws < 0.3, draws < 0.5, draws < 0.9))
    assert 0 < few < every and half < every
    assert most <= 1.3 * every  # here filters wait until other codes are read


@pytest.mark.parametrize("kind", ["implicit", "ascending", "shuffled", "sparse", "sparse order"])
def test_ids_are_marked_as_they_are_found(kind: str, rng: np.random.Generator) -> None:
    ids = {"implicit": np.arange(500), "ascending": np.arange(0, 1500, 3),
           "shuffled": rng.permutation(700)[:500], "sparse": 2**40 * rng.permutation(500),
           "sparse order": 2**40 * np.arange(500)}[kind]
    ids_by_slot = inside.store.IdMap().grown(ids[:300]).grown(ids[300:])
    for asked in (ids[::2], rng.permutation(ids)[:400], ids[:0], np.tile(ids[::7], 3),
                  np.concatenate([ids[::3], ids + 2, [-1, -2**63, 2**63 - 1]])):
        assert np.array_equal(ids_by_slot.marked(asked), np.isin(ids, asked))
    assert inside.store.IdMap().marked(ids).shape == (0,)


def test_excluding_many_equal_ids(rng: np.random.Generator) -> None:
    """A list of one id has one place in the set, as padding has none."""
    rows = rng.standard_normal((300, 4), dtype=np.float32)
    index = index_of(rows)
    first = index.search_furthest(rows[:2], 3)
    exclude = np.repeat(first.ids[:, :1], 300_000, axis=1)
    exclude[:, ::2] = -1
    assert_same(index.search_furthest(rows[:2], 2, exclude=exclude),
                farann.Hits(first.ids[:, 1:], first.scores[:, 1:]))


def test_offsets_that_lie_are_refused(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((100, 4), dtype=np.float32)
    store = inside.store.of(index_of(rows).build())
    assert store is not None
    view = store.view(inside.levels()[0])
    ids = np.arange(5)
    for offsets in ([], [0], [1, 5], [0, 6], [0, 7, 5], [0, -1, 5]):
        with pytest.raises(ValueError, match="offsets"):
            view.everything.excluding(ids, np.array(offsets, np.int64))
    chosen = view.everything.excluding(ids, np.array([0, 2, 5]))
    with pytest.raises(ValueError, match="offsets"):
        inside.native.task_of(view.snapshot, rows, 2, chosen=chosen, stop=3)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6])
def test_prepared_filters_answer_single_queries_alike(share: float, rng: np.random.Generator,
                                                      ) -> None:
    """One after another, while the index changes, and under another filter or none in between."""
    rows = rng.integers(-2, 3, (6000, 40)).astype(np.float32) + np.float32(0.5)
    queries = rows[rng.permutation(6000)[:3]]
    index = index_of(rows[:5000], "dot", threads=1).build()
    ids = np.flatnonzero(rng.random(6000) < share)
    some, others = index.filter(allowed=ids), index.filter(exclude=ids)

    def check_all(n: int, gone: Sequence[int] = ()) -> None:
        for chosen, kept in ((some, np.isin(np.arange(n), ids)),
                             (others, ~np.isin(np.arange(n), ids)), (None, np.full(n, True))):
            left = np.setdiff1d(np.flatnonzero(kept), gone)
            plain = index_of(rows[left], "dot", left, codes="float32")
            for k in (1, 7, 7, len(left) + 2):
                for query in queries:
                    assert_same(index.search_furthest(query, k, allowed=chosen),
                                plain.search_furthest(query, k))

    check_all(5000)
    index.add(rows[5000:])
    check_all(6000)
    index.remove(np.arange(0, 6000, 7))
    check_all(6000, range(0, 6000, 7))
    index.build()
    check_all(6000, range(0, 6000, 7))


@pytest.mark.parametrize("metric", METRICS)
def test_masks_of_single_queries_use_what_is_kept(
        metric: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with another mask, and some with none: the same answers and work as prepared, and no
    search is put together anew."""
    rows = rng.integers(-2, 3, (6000, 40)).astype(np.float32) + np.float32(0.5)
    queries = rows[rng.permutation(6000)[:6]]
    index = index_of(rows[:5000], metric, threads=1).build()
    if index.isa == "scalar":
        pytest.skip("at this level the rows are listed")
    made: list[object] = []

    def counted(task: Any, begin: Any, *arguments: Any, **options: Any) -> None:
        made.append(arguments)
        begin(*arguments, **options)

    def check_all(n: int, masks: bool) -> None:
        index.search_furthest(queries[0], 7)
        made.clear()
        for i, query in enumerate(queries):
            mask = rng.random(n) < (0.3, 0.6, 1.0)[i % 3]
            for allowed in (mask, np.flatnonzero(mask)) if masks else (index.ids[mask],):
                hits = index.search_furthest(query, 7, allowed=allowed, return_stats=True)
                stats = hits.stats
                assert not made
                kept = index.search_furthest(query, 7, allowed=index.filter(allowed=allowed),
                                             return_stats=True)
                assert_same(hits, kept)
                assert stats == kept.stats
                made.clear()

    with inside.native.watched(__init__=counted):
        check_all(5000, True)
        index.add(rows[5000:])
        check_all(6000, True)
        index.remove(np.arange(0, 6000, 7))
        check_all(len(index), False)


def test_masks_that_no_query_can_have_are_refused_as_ever(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((3000, 16), dtype=np.float32)
    index = index_of(rows, threads=1).build()
    index.search_furthest(rows[0])
    for mask in (np.ones(2999, bool), np.ones((1, 3000), bool), np.ones(0, bool)):
        with pytest.raises(ValueError, match="allowed"):
            index.search_furthest(rows[0], allowed=mask)
    with pytest.raises(ValueError, match="queries"):
        index.search_furthest(np.full(16, np.nan, np.float32), allowed=np.ones(3000, bool))
    every = index.search_furthest(rows[0], allowed=np.ones(6000, bool)[::2])
    assert_same(every, index.search_furthest(rows[0]))


def test_what_prepared_filters_keep_goes_with_the_rows(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((3000, 16), dtype=np.float32)
    index = index_of(rows, threads=1).build()
    some = index.filter(allowed=np.arange(0, 3000, 2))
    for query in rows[:3]:
        index.search_furthest(query, 5, allowed=some)
    store = weakref.ref(inside.store.of(index))
    index.add(rows)
    gc.collect()
    assert store() is None
    assert index.search_furthest(rows[0], 5, allowed=some).ids.max() < 3000
