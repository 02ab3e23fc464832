"""Groups of rows: searches within and outside them, against the oracle; histories and files."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import inside
import numpy as np
import pytest
import reference
from cases import assert_same, assert_same_beyond, queries_for, rows_for
from numpy.testing import assert_array_equal

import farann
from farann.cli import main

N, DIM, KINDS = 300, 9, ["gaussian", "duplicates", "all equal", "signed zeros", "mixed magnitudes"]


def labels_for(rng: np.random.Generator, n: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """A large group, small ones, groups of one row, a negative label."""
    labels = rng.integers(0, 7, n) * 1000 - 3
    labels[rng.random(n) < 0.4] = 2**62
    labels[:3] = [5, 6, -(2**63)]
    return labels


class Living:
    """An index with groups, and what it should hold."""

    def __init__(self, rng: np.random.Generator, kind: str, metric: str, **options: Any) -> None:
        self.rows = rows_for(kind, rng, N, DIM, metric)
        self.labels, self.ids = labels_for(rng, N), rng.permutation(2 * N)[:N].astype(np.int64)
        self.index, self.metric = farann.Index(metric=metric, **options), metric
        self.index.add(self.rows[:200], self.ids[:200], groups=self.labels[:200])

    def change(self) -> None:
        """Build, add rows behind what was built, remove some of all."""
        self.index.build()
        self.index.add(self.rows[200:], self.ids[200:], groups=self.labels[200:])
        gone = np.arange(5, N, 9)
        self.index.remove(self.ids[gone])
        self.rows, self.labels, self.ids = (
            np.delete(array, gone, axis=0) for array in (self.rows, self.labels, self.ids))

    def others(self, labels: Any, within: bool) -> list[list[int]]:
        """For each query the ids of rows in a group, or of all others."""
        return [self.ids[(self.labels == label) != within].tolist() for label in labels]

    def check(self, rng: np.random.Generator, queries: Any, k: int = 4) -> None:
        """Hold all searches for groups against the oracle."""
        n = len(queries)
        labels = rng.choice(self.labels, n)
        labels[:2] = [2**62, 123456]  # which there isn't
        out = rng.choice(self.ids, (n, 6))
        allowed = rng.permutation(self.ids)[: len(self.ids) * 2 // 3]
        common: dict[str, Any] = {"ids": self.ids, "metric": self.metric}
        asked: dict[str, Any]
        one: dict[str, Any]
        for word in ("groups", "outside_groups"):
            others = self.others(labels, word == "groups")
            asked = {word: labels}
            for search, oracle in ((self.index.search_furthest, reference.furthest),
                                   (self.index.search_nearest, reference.nearest)):
                right = oracle(queries, self.rows, 2 * k, exclude=others, **common)
                assert_same(search(queries, 2 * k, **asked), right)
                assert_same(search(queries, k, threads=2, **asked), right, k)
                alone = reference.Found(right.scores[3], right.ids[3])
                one = {word: labels[3]}
                assert_same(search(queries[3], k, **one), alone, k)
                one = {word: labels[3:4].tolist()}
                assert_same(search(queries[3], k, **one), alone, k)
                both = [[*left, *ids] for left, ids in zip(others, out.tolist(), strict=True)]
                right = oracle(queries, self.rows, k, exclude=both, allowed=allowed, **common)
                assert_same(search(queries, k, exclude=out, allowed=allowed, **asked),
                            right)
                right = oracle(queries, self.rows, k, exclude=[others[0]] * n, **common)
                one = {word: int(labels[0])}
                assert_same(search(queries, k, **one), right)
            scores = reference.furthest(queries, self.rows, 1, self.metric).scores
            radius = float(np.nanmedian(scores))
            beyond = reference.beyond(queries, self.rows, radius, exclude=others, **common)
            assert_same_beyond(self.index.search_beyond(queries, radius=radius, **asked), beyond)
            sets = [queries[i : i + 1 + i % 2] for i in range(n)]
            asked |= {"return_keys": True}
            found = self.index.search_furthest_from(sets, k, **asked)
            expected = self.index.search_furthest_from(sets, k, exclude=others, return_keys=True)
            assert_same(found, expected)
            assert_array_equal(found.keys, expected.keys)
            if self.metric != "l2":
                one = {word: labels[:3]}
                assert_same(self.index.search_mmr(queries[:3], k, **one),
                            self.index.search_mmr(queries[:3], k, exclude=others[:3]))


@pytest.mark.parametrize("metric", reference.METRICS)
@pytest.mark.parametrize("kind", KINDS)
def test_within_and_outside(kind: str, metric: str, rng: np.random.Generator) -> None:
    living = Living(rng, kind, metric)
    queries = queries_for(rng, living.rows, metric)
    living.change()
    with np.errstate(all="ignore"):
        living.check(rng, queries)
        living.index.build()
        living.check(rng, queries[:4])


def test_groups_live_as_rows_do(rng: np.random.Generator, tmp_path: Path) -> None:
    living = Living(rng, "gaussian", "l2")
    living.change()
    living.index.save(tmp_path / "index")
    same = [living.index, pickle.loads(pickle.dumps(living.index)), copy.copy(living.index),
            *(farann.Index.load(tmp_path / "index", mmap=mmap) for mmap in (False, True))]
    for index in same:
        order = np.argsort(index.ids)
        assert index.groups()[order].tolist() == living.labels[np.argsort(living.ids)].tolist()
        assert index.groups(living.ids[:5]).tolist() == living.labels[:5].tolist()
        living.index = index
        living.check(rng, living.rows[:4])
        assert len(index.add(living.rows[:0], groups=[])) == 0
    # A group without rows is forgotten by the next build, and may come back.
    gone = living.ids[living.labels == 2**62]
    index.remove(gone)
    assert not index.search_furthest(living.rows[:2], 3, groups=2**62).found.any()
    index.build()
    assert len(inside.store.groups_of(index)) < len(inside.store.groups_of(same[0]))
    index.add(living.rows[:1], [10**9], groups=[2**62])
    assert index.search_furthest(living.rows[:2], 3, groups=2**62).ids[:, 0].tolist() == [10**9] * 2


@pytest.mark.parametrize("options", [
    {"codes": "int8"}, {"codes": "int4", "cells": 8}, {"codes": "float32"},
    {"keep_vectors": False, "cells": 8}])
def test_words_and_approximate_searches(options: dict[str, Any], rng: np.random.Generator,
                                        tmp_path: Path) -> None:
    rows = rng.standard_normal((3000, 16)).astype(np.float32)
    kinds = np.array(["große", "", "small", "one\0"], object)[
        rng.choice(4, 3000, p=[0.9, 0.06, 0.03, 0.01])]
    index = farann.Index(metric="cosine", **options)
    names = [f"r{i}" for i in range(3000)]
    index.add(rows[:2500], names[:2500], groups=kinds[:2500].tolist())
    index.build()
    index.remove(names[100:200])
    index.add(rows[2500:], names[2500:], groups=kinds[2500:].tolist())
    index.build()
    index.save(tmp_path / "index")
    index = farann.Index.load(tmp_path / "index", mmap=True)
    assert index.groups("r7").tolist() == [kinds[7]]
    for k, limit in ((5, {"recall": 0.9}), (5, {"budget": 400})):
        asked = kinds[:40].tolist()
        within = index.search_furthest(rows[:40], k, groups=asked, **limit)
        outside = index.search_furthest(rows[:40], k, outside_groups=asked, **limit)
        for i, kind in enumerate(asked):
            ids = [int(name[1:]) for name in within.ids[i][within.found[i]]]
            assert kinds[ids].tolist() == [kind] * k
            ids = [int(name[1:]) for name in outside.ids[i][outside.found[i]]]
            assert kind not in kinds[ids].tolist() and len(ids) == k
            if kind != "große" and not options.get("cells"):
                # Small groups are searched exactly.
                right = reference.furthest(rows[i : i + 1], rows, k, "cosine",
                                           allowed=[j for j in range(3000) if kinds[j] == kind
                                                    and not 100 <= j < 200])
                assert [f"r{j}" for j in right.ids[0]] == within.ids[i].tolist()
    if options.get("keep_vectors", True):
        near = index.search_nearest(rows[:40], 3, outside_groups=asked, epsilon=0.1)
        assert near.found.all()


def test_what_is_refused(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((10, 3)).astype(np.float32)
    index = farann.Index()
    assert not index.search_furthest(np.empty((0, 3)), 1, groups="a").found.any()
    with pytest.raises(ValueError, match="groups: expected 10 labels"):
        index.add(rows, groups=[1])
    with pytest.raises(TypeError, match="groups: expected integer or string labels, got an array"):
        index.add(rows, groups=np.ones(10))
    with pytest.raises(TypeError, match="groups: expected strings alone"):
        index.add(rows, groups=["a"] * 9 + [1])
    assert len(index) == 0
    index.add(rows)
    with pytest.raises(ValueError, match="the index has rows without groups"):
        index.add(rows, groups=[1] * 10)
    with pytest.raises(ValueError, match="groups: the index has no groups"):
        index.search_furthest(rows, 1, groups=3)
    with pytest.raises(ValueError, match="groups: the index has none"):
        index.groups()
    index = farann.Index()
    index.add(rows, groups=range(10))
    with pytest.raises(ValueError, match="groups: expected a label for each row"):
        index.add(rows)
    with pytest.raises(TypeError, match="groups: expected integers, as the labels"):
        index.add(rows, groups=["a"] * 10)
    with pytest.raises(TypeError, match="outside_groups: expected integers"):
        index.search_nearest(rows, 1, outside_groups="a")
    with pytest.raises(ValueError, match="at most one of groups and outside_groups"):
        index.search_beyond(rows, radius=1.0, outside_groups=1, groups=1)
    with pytest.raises(ValueError, match="groups: expected a label, or one for each of 10 queries"):
        index.search_furthest(rows, 1, groups=[1, 2, 3])
    for asked in (rows[0], rows[:2]):  # a set has no order
        with pytest.raises(ValueError, match="a label, or one for each of . queries, got a set"):
            index.search_within(asked, radius=1.0, groups={1, 2})
    with pytest.raises(KeyError):
        index.groups([99])
    assert len(index) == 10


@pytest.mark.parametrize("name, change", [
    ("groups.numbers", lambda a: a[:-1]), ("groups.numbers", lambda a: a + 1),
    ("groups.numbers", lambda a: a - 1), ("groups.numbers", lambda a: a.astype(np.int64)),
    ("groups.numbers", None), ("groups.labels", None), ("groups.labels", lambda a: a * 0),
    ("groups.labels", lambda a: a[:-1]), ("groups.labels", lambda a: a.astype(np.float64))])
def test_damaged_groups_are_refused(name: str, change: Any, tmp_path: Path,
                                    rng: np.random.Generator) -> None:
    index = farann.Index()
    index.add(rng.standard_normal((20, 3)), groups=np.arange(20) % 3 * 7)
    index.save(tmp_path / "index")
    metadata, arrays = inside.files.read_file(tmp_path / "index")
    if change is None:
        del arrays[name]
    else:
        arrays[name] = change(arrays[name])
    inside.files.write_file(tmp_path / "index", metadata, arrays)
    for mmap in (False, True):
        with pytest.raises(farann.FormatError, match="group"):
            farann.Index.load(tmp_path / "index", mmap=mmap)


@pytest.mark.parametrize("strings", [True, False])
def test_command_line(strings: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                      rng: np.random.Generator) -> None:
    rows = rng.standard_normal((30, 4)).astype(np.float32)
    labels: list[Any] = [f"class {i % 3}" if strings else i % 3 - 1 for i in range(30)]
    names = {part: tmp_path / f"{part}.npy" for part in ("rows", "queries")}
    np.save(names["rows"], rows)
    np.save(names["queries"], rows[:5])
    for file, some in (("groups", labels), ("asked", labels[:5]), ("short", labels[:4])):
        (tmp_path / f"{file}.txt").write_text("\n".join(map(str, some)) + "\n")
    index, found = tmp_path / "index.farann", tmp_path / "found.npz"
    arguments = ["build", str(names["rows"]), "-o", str(index), "-q", "--groups"]
    assert main([*arguments, str(tmp_path / "short.txt")]) != 0
    assert "expected a label for each row (30)" in capsys.readouterr().err
    assert main([*arguments, str(tmp_path / "groups.txt")]) == 0
    assert farann.Index.load(index).groups().tolist() == labels
    right = np.array(labels, object)
    for word, inside_group in (("groups", True), ("outside_groups", False)):
        assert main(["search", str(index), str(names["queries"]), "-k", "4", "-o", str(found), "-q",
                     f"--{word.replace('_', '-')}", str(tmp_path / "asked.txt")]) == 0
        ids = np.load(found)["ids"]
        assert ((right[ids] == right[:5, None]) == inside_group).all()
    assert main(["search", str(index), str(names["queries"]), "--groups",
                 str(tmp_path / "groups.txt")]) != 0
    assert "expected a label for each query (5)" in capsys.readouterr().err


@pytest.mark.parametrize("metric", reference.METRICS)
def test_prepared_filters(metric: str, rng: np.random.Generator) -> None:
    """They hold labels: rows that are added later to a group belong to it."""
    living = Living(rng, "duplicates", metric)
    some, out = [2**62, 997, 123456], rng.choice(living.ids, 20, replace=False)
    kept = [(True, living.index.filter(groups=some, exclude=out)),
            (False, living.index.filter(outside_groups=some)),
            (True, living.index.filter(groups=2**62, allowed=living.ids[::2]))]
    assert repr(kept[1][1]) == "<farann.Filter: allowed all, excluded none, outside 3 groups>"
    queries = queries_for(rng, living.rows, metric)
    halves, n = living.ids[::2], 200
    for changed in (False, True):
        if changed:
            living.change()
            n = len(living.rows)
        rows, labels, ids = living.rows[:n], living.labels[:n], living.ids[:n]
        for number, (within, chosen) in enumerate(kept):
            marked = np.isin(labels, some if number < 2 else [2**62]) == within
            if number == 0:
                marked &= ~np.isin(ids, out)
            if number == 2:
                marked &= np.isin(ids, halves)
            for _ in range(2):  # the second takes what was looked up
                for search, oracle in ((living.index.search_furthest, reference.furthest),
                                       (living.index.search_nearest, reference.nearest)):
                    assert_same(search(queries, 4, allowed=chosen), oracle(
                        queries, rows[marked], 4, metric, ids=ids[marked]))


def test_prepared_filters_refuse() -> None:
    index = farann.Index()
    early = index.filter(groups="cat")
    index.add([[1.0], [2.0]])
    for call in (lambda: index.filter(groups="cat"),
                 lambda: index.search_furthest([0.0], 1, allowed=early)):
        with pytest.raises(ValueError, match="groups: the index has no groups"):
            call()
    named = farann.Index()
    named.add([[1.0], [2.0]], groups=["cat", "dog"])
    assert named.search_furthest([0.0], 1, allowed=named.filter(groups=[])).ids == [-1]
    assert named.search_furthest([0.0], 1, allowed=named.filter(outside_groups=[])).ids == [1]
    with pytest.raises(TypeError, match="outside_groups: expected strings"):
        named.filter(outside_groups=3)
    with pytest.raises(ValueError, match="at most one of groups and outside_groups"):
        named.filter(outside_groups="cat", groups="dog")
    with pytest.raises(ValueError, match="filter: expected exclude, allowed, groups or outside"):
        named.filter()
