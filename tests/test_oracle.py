"""`farann.verify`: answers of others against the float64 oracle, on hostile rows."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
from cases import DATA, float32, pairs, queries_for, rows_for

import farann

ROWS = [[0.0], [5.0], [3.0], [3.0], [3.0]]


def judged(rows: Any, queries: Any, ids: Any, metric: str, nearest: bool,
           left_out: list[set[int]]) -> tuple[list[Any], ...]:
    """What `verify` is to say of ids, none of which are padding: right, recall_at, missing."""
    right, missing, k = [], [], ids.shape[1]
    found, wanted = np.zeros(k), np.zeros(k)
    for query, answers, out in zip(queries, ids, left_out, strict=True):
        keys = reference.keys(query, rows, metric) * (-1 if nearest else 1)
        best = [at for at in np.lexsort((np.arange(len(rows)), -keys)) if at not in out][:k]
        mine = [at if 0 <= at < len(rows) and at not in out and at not in answers[:i] else None
                for i, at in enumerate(answers)]
        for j in range(1, k + 1):
            values = Counter(keys[best[:j]].tolist())
            common = values & Counter(keys[at] for at in mine[:j] if at is not None)
            found[j - 1] += common.total()
            wanted[j - 1] += values.total()
        left = Counter(keys[best].tolist())
        for at in mine:
            is_right = at is not None and left[keys[at]] > 0
            right.append(is_right)
            if is_right:
                left[keys[at]] -= 1
        missing.append([at for at in best if at not in mine][: left.total()])
    return right, (found / wanted).tolist(), missing


@pytest.mark.parametrize(("kind", "metric", "nearest", "filtered"),
                         pairs(DATA, reference.METRICS, [True, False], [False, True]))
def test_on_hostile_rows(kind: str, metric: str, nearest: bool, filtered: bool,
                         rng: np.random.Generator) -> None:
    rows = rows_for(kind, rng, 60, 9, metric)
    queries = queries_for(rng, rows, metric)
    n = len(queries)
    search = reference.nearest if nearest else reference.furthest
    ids = search(queries, rows, 12, metric).ids
    # Answers that are right, of other rows, unordered, repeated, and of no row.
    ids = np.where(rng.random(ids.shape) < 0.3, rng.integers(-2, 63, ids.shape), ids)
    ids = np.where(ids == -1, 0, ids)
    ids[::2] = rng.permuted(ids[::2], axis=1)
    left_out: list[set[int]] = [set()] * n
    given: dict[str, Any] = {}
    if filtered:
        allowed, exclude = np.arange(5, 50), rng.integers(0, 60, (n, 4))
        given = {"allowed": allowed, "exclude": exclude}
        left_out = [set(range(60)) - set(allowed) | set(some) for some in exclude.tolist()]
    said = farann.verify(rows, queries, ids, metric, nearest=nearest, **given)
    right, recall_at, missing = judged(rows, queries, ids, metric, nearest, left_out)
    assert said.right.ravel().tolist() == right
    assert said.recall_at.tolist() == recall_at and said.recall == recall_at[-1]
    assert [some.tolist() for some in said.missing] == missing
    assert said.recall_of_ids <= said.recall
    kinds = np.stack([said.right, said.duplicates, said.padding, said.out_of_range,
                      said.not_allowed]).sum(axis=0)
    assert kinds.max() == 1 and (said.out_of_range == ((ids < 0) | (ids > 59))).all()
    assert said.not_allowed.any() == filtered
    truth = farann.verify(rows, queries, said.best.ids, metric, nearest=nearest, **given)
    assert truth.recall == truth.recall_of_ids == 1.0 and truth.right.all()


def test_kinds_of_wrong_answers() -> None:
    said = farann.verify(ROWS, [[1.0], [4.0]], [[0, -1, 5, 0, 3], [1, -2, 4, 2, 0]],
                         exclude=[2], k=4)
    assert said.right.tolist() == [[True, False, False, False], [True, False, True, False]]
    assert said.padding.tolist() == [[False, True, False, False], [False] * 4]
    assert said.out_of_range.tolist() == [[False, False, True, False], [False, True, False, False]]
    assert said.duplicates.tolist() == [[False, False, False, True], [False] * 4]
    assert said.not_allowed.tolist() == [[False] * 4, [False, False, False, True]]
    assert [some.tolist() for some in said.missing] == [[3, 4, 1], [3, 0]]
    assert said.recall_at.tolist() == [1.0, 0.5, 0.5, 3 / 8]
    assert str(said) == (
        "Verification of 2 x 4 answers\n"
        "  recall 0.375, at 1 1, of ids 0.375\n"
        "  worse rows 0, duplicates 1, padding 1, out of range 2, not allowed 1\n"
        "  missing rows 5, in answers to 2 of 2 queries: 0, 1")


def test_padding_and_ids_of_no_row_exclude_nothing() -> None:
    said = farann.verify(ROWS, [[3.0], [3.0]], [[4], [4]], exclude=[[2, 9], [-1, 3]])
    assert said.right.all() and not said.not_allowed.any()


def test_ties_are_right_but_no_more_than_belong_there() -> None:
    # The best two of 1: row 0 at a distance of 1, and one of three at 2.
    for ids, right, missing in (([0, 4], [True, True], []), ([3, 4], [True, False], [0]),
                                ([4, 0], [True, True], []), ([1, 2], [False, True], [0])):
        said = farann.verify(ROWS, [1.0], ids)
        assert said.right.tolist() == [right] and said.missing[0].tolist() == missing, ids
    assert farann.verify(ROWS, [1.0], [0, 4]).recall_of_ids == 0.5


def test_fewer_rows_than_answers(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", float32(ROWS))
    rows = np.load(tmp_path / "rows.npy", mmap_mode="r")
    said = farann.verify(rows, [[1.0]], np.array([[1, 4, 2, 3, 0, -1, -1]], np.int32),
                         nearest=False)
    assert said.recall == 1.0 and said.padding.sum() == 2 and not said.missing[0].size
    assert said.right.tolist() == [[True] * 5 + [False] * 2]
    assert said.recall_at.tolist() == [1.0] * 7
    none = farann.verify(np.empty((0, 2)), np.ones((2, 2)), [[-1, 3], [0, 0]], "dot")
    assert np.isnan(none.recall) and none.padding.sum() == 1 and none.out_of_range.sum() == 3
    assert farann.verify(rows, np.empty((0, 1)), np.empty((0, 3), int)).right.shape == (0, 3)
    nobody = farann.verify(rows, [[1.0]], [[1, 0]], allowed=[])
    assert np.isnan(nobody.recall) and nobody.not_allowed.all()


@pytest.mark.parametrize(("given", "error", "text"), [
    ({"rows": [[np.nan]]}, ValueError, "rows: expected finite numbers, got NaN in row 0"),
    ({"queries": [[np.inf]]}, ValueError, "queries: expected finite numbers, got infinity"),
    ({"queries": [[1.0, 2.0]]}, ValueError, "queries: expected vectors of dimension 1, got 2"),
    ({"rows": [[0.0]], "metric": "cosine"}, ValueError, "rows: cosine needs vectors with a"),
    ({"metric": "l3"}, ValueError, "metric: expected one of 'l2', 'dot', 'cosine', got 'l3'"),
    ({"ids": [[0.5]]}, TypeError, "ids: expected integer ids, got an array of float64"),
    ({"ids": [["a"]]}, TypeError, "ids: expected integer ids, got strings"),
    ({"ids": [[0], [1]]}, ValueError, r"ids: expected answers to each query, shape \(1, k\), got "
                                      r"\(2, 1\)"),
    ({"ids": [[]]}, ValueError, r"ids: expected answers to each query, shape \(1, k\), got "),
    ({"ids": np.array([[2**64 - 1]], np.uint64)}, ValueError, "ids: .* that int64 can hold"),
    ({"k": 3}, ValueError, "k: expected at most 1, got 3"),
    ({"k": 0}, ValueError, "k: expected 1 or more, got 0"),
    ({"nearest": 1}, TypeError, "nearest: expected True or False, got 1"),
    ({"allowed": [0.5]}, TypeError, "allowed: "),
    ({"n_jobs": 2}, TypeError, "n_jobs"),
])
def test_errors(given: dict[str, Any], error: type[Exception], text: str) -> None:
    usual: dict[str, Any] = {"rows": ROWS, "queries": [[1.0]], "ids": [[0]]}
    with pytest.raises(error, match=text):
        farann.verify(**{**usual, **given})
