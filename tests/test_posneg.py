"""PosNegRanker.rank finds the k best of all items, by every way of searching."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import inside
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inside import FUSIONS, RANK_FUSIONS, SCORE_FUSIONS, Calibration, Linear, Model, Steps
from numpy.typing import NDArray
from posneg_oracle import assert_best, everything

import farann
from farann.adapters.posneg import PosNegHits, PosNegRanker

Array = NDArray[Any]
METRICS = ("dot", "cosine", "l2")


@pytest.fixture(autouse=True)
def go_down_the_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the threshold algorithm do its work on small data, not score everything."""
    monkeypatch.setattr(inside.retrieval, "_DENSE", 2.0)
    monkeypatch.setattr(inside.retrieval, "_DEPTH", 2)
    monkeypatch.setattr(inside.joint, "SPARE", 1)


class Case:
    """A ranker made of given numbers rather than fitted ones, and all that the oracle needs."""

    def __init__(self, seed: int, *, n: int = 60, dims: tuple[int, int] = (5, 3),
                 metric: str = "dot", curve: str = "line", grid: bool = False, holes: bool = False,
                 queries: int = 3, **options: Any) -> None:
        rng = np.random.default_rng(seed)
        self.metric = metric
        ids = np.sort(rng.choice(10 * n, n, replace=False))

        def numbers(count: int, dim: int) -> Array:
            if grid:  # exact in floating point, and full of ties
                values = rng.integers(-2, 3, (count, dim)).astype(np.float32)
                values[~values.any(axis=1), 0] = 1
                return values
            return rng.standard_normal((count, dim)).astype(np.float32)

        rows = [numbers(n, dim) for dim in dims]
        kept = [np.arange(n), np.arange(n)]
        if holes:
            kept = [np.flatnonzero(rng.random(n) < 0.7) for _ in dims]
            kept = [some if len(some) else np.array([0]) for some in kept]
        indexes = []
        for side, some in zip(rows, kept, strict=True):
            order = rng.permutation(some)
            index = farann.Index(metric=metric)
            index.add(side[order], ids[order])
            indexes.append(index)
        self.sides = [{int(ids[i]): side[i] for i in some}
                      for side, some in zip(rows, kept, strict=True)]
        self.queries = (numbers(queries, dims[0]), numbers(queries, dims[1]))
        self.ranker = PosNegRanker(*indexes, **options)
        known = set(self.ranker.ids.tolist())  # fewer than the rows where missing="drop"
        self.sides = [{i: row for i, row in side.items() if i in known} for side in self.sides]
        if inside.fusion_of(self.ranker).calibrated:
            own = np.round(rng.normal(0, 0.5, len(self.ranker.ids)) * 4) / 4
            calibrations: list[Calibration] = []
            for sign in (1.0, -1.0):
                chosen: Any = Linear(0.5 * rng.integers(1, 5), 0.5 * rng.integers(-2, 3))
                if curve == "steps":
                    knots = np.sort(rng.integers(-4, 5, 6).astype(np.float64))
                    chances = np.sort(np.repeat(rng.uniform(0.05, 0.95, 3), 2))
                    chosen = Steps(knots, chances)
                calibrations.append(Calibration(
                    chosen, item_weight=sign * 0.5 if curve != "none" else 0.0,
                    unknown=0.25 * float(rng.integers(-4, 5))))
            weight = inside.weight_of(self.ranker)
            weight = 0.5 if weight == "fit" else weight
            fusion = inside.fusion_of(self.ranker)._replace(weight=float(weight))
            inside.put_model(self.ranker, Model(calibrations[0], calibrations[1], fusion, own))

    def check(self, k: int, *, exact: bool = False, exclude: list[Array] | None = None,
              allowed: Array | None = None) -> PosNegHits:
        hits = self.ranker.rank(*self.queries, k, exclude=exclude, allowed=allowed)
        pool = None if allowed is None else set(np.asarray(allowed).tolist())
        for i in range(len(self.queries[0])):
            left_out = set() if exclude is None else set(np.asarray(exclude[i]).tolist())
            expected = everything(self.ranker, self.sides, self.metric,
                                  (self.queries[0][i], self.queries[1][i]), pool, left_out)
            assert_best(hits.scores[i], hits.ids[i], expected, exact=exact)
            parts = {item.id: item for item in expected}
            for id, p, n in zip(hits.ids[i].tolist(), hits.positive[i], hits.negative[i],
                                strict=True):
                if id >= 0:
                    assert p == pytest.approx(parts[id].positive, abs=1e-9)
                    assert n == pytest.approx(parts[id].negative, abs=1e-9)
                else:
                    assert np.isnan(p) and np.isnan(n)
        return hits


cases = st.builds(
    lambda **arguments: arguments,
    seed=st.integers(0, 2**32 - 1), n=st.integers(1, 90),
    dims=st.tuples(st.integers(1, 9), st.integers(1, 9)), metric=st.sampled_from(METRICS),
    holes=st.booleans(), weight=st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0]),
    veto=st.sampled_from([None, None, 0.4]), missing=st.sampled_from(["prior", "drop"]),
)


def make(arguments: dict[str, Any], **more: Any) -> Case | None:
    try:
        return Case(**arguments, **more)
    except ValueError as error:
        assert "ids that the positive model has too" in str(error)  # all were dropped
        return None


@given(cases, st.integers(1, 100), st.sampled_from([None, "minmax", "zmuv", "softmax"]))
def test_log_odds_by_one_index_are_exact(arguments: dict[str, Any], k: int,
                                         normalize: str | None) -> None:
    case = make(arguments, normalize=normalize)
    if case is not None:
        model = inside.model_of(case.ranker)
        assert model is not None
        served = inside.retrieval.Joint.serves(inside.pair_of(case.ranker), model)
        assert served == (case.metric != "l2")
        case.check(k)


@given(cases, st.integers(1, 100), st.sampled_from(SCORE_FUSIONS),
       st.sampled_from(["line", "steps"]), st.sampled_from([None, None, "minmax", "rank"]))
def test_every_fusion_of_scores_is_exact(arguments: dict[str, Any], k: int, fusion: str,
                                         curve: str, normalize: str | None) -> None:
    case = make(arguments, fusion=fusion, curve=curve, normalize=normalize)
    if case is not None:
        case.check(k)


@given(cases, st.integers(1, 40), st.sampled_from(RANK_FUSIONS))
def test_every_fusion_of_ranks_is_exact(arguments: dict[str, Any], k: int, fusion: str) -> None:
    case = make(arguments | {"n": min(arguments["n"], 40)}, fusion=fusion)
    if case is not None:
        case.check(k)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["logit", "veto"]),
       st.sampled_from(["line", "steps"]), st.booleans(), st.integers(1, 60))
def test_ties_go_to_the_more_similar_then_to_the_smaller_id(
        seed: int, fusion: str, curve: str, holes: bool, k: int) -> None:
    # Small integers and binary fractions: no two numbers differ by rounding, so ties are real.
    case = Case(seed, dims=(2, 2), grid=True, fusion=fusion, curve=curve, holes=holes)
    case.check(k, exact=True)


@given(cases, st.data())
def test_filters(arguments: dict[str, Any], data: st.DataObject) -> None:
    fusion = data.draw(st.sampled_from(FUSIONS))
    case = make(arguments | {"n": min(arguments["n"], 40)}, fusion=fusion)
    if case is None:
        return
    some = st.lists(st.sampled_from(case.ranker.ids.tolist()), unique=True)
    exclude = [np.array([*data.draw(some), 10**9], np.int64) for _ in range(3)]
    allowed = data.draw(st.one_of(st.none(), some.map(lambda ids: np.array(ids, np.int64))))
    hits = case.check(7, exclude=exclude, allowed=allowed)
    if allowed is not None:
        mask = np.isin(case.ranker.ids, allowed)
        again = case.ranker.rank(*case.queries, 7, exclude=exclude, allowed=mask)
        for one, other in zip(hits, again, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("fusion", ["logit", "convex"])
def test_searches_look_at_few_items(fusion: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On larger data the k best come from a few candidates, and are those of all scores."""
    monkeypatch.setattr(inside.retrieval, "_DENSE", 0.25)
    case = Case(3, n=4000, dims=(4, 4), fusion=fusion, queries=5)
    scored: list[int] = []
    scorer: Any = vars(inside.retrieval)["Scorer"]
    original = scorer.__call__

    def counted(self: Any, items: Array, *rest: Any) -> Any:
        scored.append(items.size)
        return original(self, items, *rest)

    monkeypatch.setattr(scorer, "__call__", counted)
    monkeypatch.setattr(scorer, "everything", None)
    case.check(10)
    assert 0 < sum(scored) < 5 * 4000 * 0.6


def test_the_threshold_gives_up_where_lists_disagree() -> None:
    """Every item that is liked is disliked as well: no list end settles it, all are scored."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((300, 4), dtype=np.float32)
    ranker = PosNegRanker(rows, rows, calibration="none", fusion="convex")
    queries = rng.standard_normal((2, 4), dtype=np.float32)
    hits = ranker.rank(queries, queries, 300)
    assert (np.sort(hits.ids, axis=1) == np.arange(300)).all()
    np.testing.assert_allclose(hits.scores, 0.5)


def test_candidates_are_the_union_scored_under_both() -> None:
    case = Case(5, n=200)
    ranker, queries = case.ranker, case.queries
    hits = ranker.rank(*queries, 5, candidates=12)
    near = inside.pair_of(ranker).positive.index.search_nearest(queries[0], 12).ids
    far = inside.pair_of(ranker).negative.index.search_furthest(queries[1], 12).ids
    for i in range(3):
        union = set(ranker.ids[near[i]].tolist()) | set(ranker.ids[far[i]].tolist())
        expected = everything(ranker, case.sides, "dot", (queries[0][i], queries[1][i]), union)
        assert hits.ids[i].tolist() == [item.id for item in expected[:5]]
        assert hits.scores[i] == pytest.approx([item.fused for item in expected[:5]])
    # With all items as candidates nothing can be missed.
    for fusion in FUSIONS:
        case = Case(6, n=40, fusion=fusion)
        for one, other in zip(case.ranker.rank(*case.queries, 9, candidates=40),
                              case.ranker.rank(*case.queries, 9), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12)


def test_candidates_miss_what_is_second_under_both() -> None:
    """What the documentation says: the best compromise is first under neither model."""
    positive = np.array([[3.0], [2.0], [-3.0]], np.float32)
    negative = np.array([[3.0], [-2.0], [-3.0]], np.float32)
    ranker = PosNegRanker(positive, negative, calibration="none")
    one = np.ones(1, np.float32)
    assert ranker.rank(one, one, 1).ids.tolist() == [1]
    assert ranker.rank(one, one, 1, candidates=1).ids.tolist() == [0]


def test_combmnz_counts_lists_among_candidates() -> None:
    positive = np.array([[0.9], [0.8], [0.1]], np.float32)
    negative = np.array([[0.9], [0.2], [0.1]], np.float32)
    one = np.ones(1, np.float32)
    ranker = PosNegRanker(positive, negative, calibration="none", fusion="combmnz")
    hits = ranker.rank(one, one, 3, candidates=3)
    assert hits.scores == pytest.approx([2 * 1.6, 2 * 1.0, 2 * 1.0])
    ranker = PosNegRanker(positive[:2], farann_index(negative[1:], [1, 2]), fusion="combmnz",
                          calibration="none", missing="drop")
    assert ranker.rank(one, one, 2).ids.tolist() == [1, -1]


def farann_index(rows: Array, ids: list[int], metric: str = "dot") -> farann.Index:
    index = farann.Index(metric=metric)
    index.add(rows, ids)
    return index


def test_equal_rows_tie_exactly_wherever_they_stand(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((97, 33), dtype=np.float32)
    rows[1:] = rows[0]
    queries = rng.standard_normal((4, 33), dtype=np.float32)
    for fusion, metric in itertools.product(("logit", "convex"), METRICS):
        ranker = PosNegRanker(rows, rows, metric=metric, calibration="none", fusion=fusion)
        assert (ranker.rank(queries, queries[::-1], 9).ids == np.arange(9)).all()
        pair = inside.pair_of(ranker)
        every = pair.positive.similarity_to_all(queries)
        some = pair.positive.similarity(queries, np.tile(np.arange(97), (4, 1)))
        np.testing.assert_array_equal(every, some)
        assert (every == every[:, :1]).all()


def test_score_agrees_with_rank() -> None:
    for fusion in FUSIONS:
        case = Case(8, n=30, fusion=fusion, holes=True, veto=0.5 if fusion == "veto" else None)
        hits = case.ranker.rank(*case.queries, 30)
        scored = case.ranker.score(*case.queries, case.ranker.ids)
        for i, ids in enumerate(hits.ids):
            at = np.searchsorted(case.ranker.ids, ids[ids >= 0])
            for part in ("scores", "positive", "negative"):
                np.testing.assert_array_equal(getattr(hits, part)[i, : len(at)],
                                              getattr(scored, part)[i, at])
        if fusion == "veto":
            assert np.isneginf(scored.scores[scored.negative > 0.5]).all()


def test_a_single_query_gives_vectors() -> None:
    case = Case(9)
    hits = case.ranker.rank(case.queries[0][0], case.queries[1][0], 4, exclude=[1, 2])
    assert [part.shape for part in hits] == [(4,)] * 4
    batch = case.ranker.rank(case.queries[0][:1], case.queries[1][:1], 4, exclude=[[1, 2]])
    np.testing.assert_array_equal(hits.ids, batch.ids[0])
    assert case.ranker.score(case.queries[0][0], case.queries[1][0],
                             case.ranker.ids[:3]).scores.shape == (3,)


def test_batches_are_cut_and_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside.posneg_ranker, "_QUERIES", 3)
    monkeypatch.setattr(inside.posneg_ranker, "_FEW_QUERIES", 2)
    monkeypatch.setattr(inside.retrieval, "_PAIRS", 10)
    rankers: list[dict[str, Any]] = [
        {}, {"fusion": "convex"}, {"normalize": "rank"}, {"fusion": "borda"}]
    for options in rankers:
        case = Case(12, n=40, queries=8, **options)
        exclude = [case.ranker.ids[i::9] for i in range(8)]
        case.check(6, exclude=exclude)
        some = case.ranker.rank(*case.queries, 6, exclude=exclude, candidates=10)
        alone = [case.ranker.rank(p, n, 6, exclude=one, candidates=10)
                 for p, n, one in zip(*case.queries, exclude, strict=True)]
        np.testing.assert_array_equal(some.ids, [one.ids for one in alone])


def test_no_queries_and_more_than_there_is() -> None:
    case = Case(10, n=5)
    hits = case.ranker.rank(case.queries[0][:0], case.queries[1][:0], 3)
    assert hits.ids.shape == (0, 3)
    hits = case.check(8)
    assert (hits.ids[:, 5:] == -1).all()


def test_linear_logit_is_the_fused_score() -> None:
    case = Case(11, holes=True, weight=0.3)
    line = case.ranker.linear_logit
    assert line is not None
    own = dict(zip(case.ranker.ids.tolist(), case.ranker.item_log_odds.tolist(), strict=True))
    hits = case.ranker.rank(*case.queries, 60)
    for i, id in itertools.product(range(3), case.ranker.ids.tolist()):
        parts = []
        for side, rows in enumerate(case.sides):
            slope, intercept, item, unknown = line[1 + 4 * side : 5 + 4 * side]
            base = (slope * float(case.queries[side][i].astype(float) @ rows[id]) + intercept
                    if id in rows else unknown)
            parts.append(base + item * own[id])
        fused = line.weight * parts[0] - (1 - line.weight) * parts[1]
        assert hits.scores[i][hits.ids[i] == id] == pytest.approx([fused])
    assert Case(11, fusion="convex").ranker.linear_logit is None
    assert Case(11, curve="steps").ranker.linear_logit is None


def test_rows_are_copied() -> None:
    rows = np.eye(3, dtype=np.float32)
    index = farann_index(rows, [0, 1, 2])
    ranker = PosNegRanker(index, rows, calibration="none")
    before = ranker.rank(rows, rows, 3)
    index.remove([1])
    for one, other in zip(before, ranker.rank(rows, rows, 3), strict=True):
        np.testing.assert_array_equal(one, other)


# ---- files, copies, threads ----


def rankers() -> Iterator[Case]:
    yield Case(20, holes=True, weight=0.7)
    yield Case(21, curve="steps", fusion="product", veto=0.6, normalize="minmax")
    yield Case(22, fusion="rrf", rank_constant=10.0, metric="l2")
    yield Case(23, calibration="none", normalize="zmuv", item_prior=None)


COPIES: dict[str, Callable[[PosNegRanker, Path], PosNegRanker]] = {
    "file": lambda ranker, folder: saved(ranker, folder / "one.farann"),
    "pickle": lambda ranker, folder: pickle.loads(pickle.dumps(ranker)),
    "copy": lambda ranker, folder: copy.deepcopy(ranker),
}


def saved(ranker: PosNegRanker, path: Path) -> PosNegRanker:
    ranker.save(path)
    return PosNegRanker.load(path)


@pytest.mark.parametrize("way", COPIES)
def test_copies_give_the_same_bits(way: str, tmp_path: Path) -> None:
    for case in rankers():
        again = COPIES[way](case.ranker, tmp_path)
        assert repr(again) == repr(case.ranker)
        for one, other in zip(case.ranker.rank(*case.queries, 20),
                              again.rank(*case.queries, 20), strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_file_is_the_same_each_time_and_holds_what_was_not_fitted(tmp_path: Path) -> None:
    ranker = PosNegRanker(np.eye(3), np.eye(3), weight="fit", normalize="softmax")
    ranker.save(tmp_path / "a")
    again = PosNegRanker.load(tmp_path / "a")
    with pytest.raises(RuntimeError, match="fit must be called first"):
        again.rank(np.eye(3), np.eye(3))
    again.save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_damaged_and_foreign_files(tmp_path: Path) -> None:
    path = tmp_path / "ranker"
    Case(24, curve="steps", n=8).ranker.save(path)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for at in rng.integers(0, len(content), 60):
        altered = bytearray(content)
        altered[at] ^= 0x40
        path.write_bytes(altered)
        try:
            PosNegRanker.load(path)
        except farann.FormatError:
            continue
        raise AssertionError(f"byte {at} was altered unseen")
    farann_index(np.eye(2, dtype=np.float32), [0, 1]).save(path)
    with pytest.raises(farann.FormatError, match="no PosNegRanker"):
        PosNegRanker.load(path)
    with pytest.raises(FileNotFoundError):
        PosNegRanker.load(tmp_path / "nothing")


@pytest.mark.parametrize("change", [
    {"fusion": "sum"}, {"weight": 7}, {"calibration": "magic"}, {"item_prior": -1},
    {"positive_metric": "l1"}, {"fitted": {}}, {"fitted": 3}, {"kind": "index"},
])
def test_files_that_no_ranker_wrote(change: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "ranker"
    Case(25, n=8).ranker.save(path)
    metadata, arrays = inside.read_file(path)
    inside.write_file(path, metadata | change, arrays)
    with pytest.raises(farann.FormatError, match=str(path)):
        PosNegRanker.load(path)


def test_threads_see_one_fit_or_the_other() -> None:
    case = Case(30, n=300)
    ranker, first = case.ranker, inside.model_of(case.ranker)
    assert first is not None
    second = Model(first.negative, first.positive, first.fusion, -first.items)
    answers = []
    for model in (first, second):
        inside.put_model(ranker, model)
        answers.append(ranker.rank(*case.queries, 5).scores.tolist())
    assert answers[0] != answers[1]

    def switch(turn: int) -> list[list[float]]:
        if turn % 5 == 0:
            inside.put_model(ranker, (first, second)[turn // 5 % 2])
        found: list[list[float]] = ranker.rank(*case.queries, 5).scores.tolist()
        return found

    with ThreadPoolExecutor(4) as pool:
        assert all(scores in answers for scores in pool.map(switch, range(80)))
