"""What is accepted in other words, what is refused with a hint, and what an index is told by."""

from __future__ import annotations

import abc
import copy
import inspect
import logging
import pickle
import pydoc
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import inside
import numpy as np
import pytest
from tqdm.auto import tqdm

import farann

ROWS = np.random.default_rng(0).standard_normal((3000, 8)).astype(np.float32)


def filled(**options: Any) -> farann.Index:
    index = farann.Index(**options)
    index.add(ROWS)
    return index


@pytest.mark.parametrize(("name", "metric"), [
    ("euclidean", "l2"), ("L2", "l2"), ("ip", "dot"), ("IP", "dot"), ("inner_product", "dot"),
    ("Inner Product", "dot"), ("cos", "cosine"), ("Cosine", "cosine"),
    ("cosine-similarity", "cosine")])
def test_other_names_of_metrics(name: str, metric: str) -> None:
    assert farann.Index(metric=name).metric == metric
    found = farann.search_furthest(ROWS[:50], ROWS[:3], 4, metric=name)
    assert (found.ids == farann.search_furthest(ROWS[:50], ROWS[:3], 4, metric=metric).ids).all()


@pytest.mark.parametrize(("options", "words"), [
    ({"metric": "cosin"}, "metric: .* did you mean 'cosine'"),
    ({"metric": "euclidian"}, "metric: .* did you mean 'euclidean'"),
    ({"metric": "Hamming"}, "metric: .* 'Hamming', which is the square of 'l2' between 0/1 rows"),
    ({"metric": "mahalanobis"}, "metric: .*, which is 'l2' of whitened rows: see Other metrics"),
    ({"codes": "int-8"}, "codes: .* did you mean 'int8'"),
    ({"dim": ROWS}, r"dim: expected an int, got a ndarray; rows go to add"),
    ({"dim": [[1.0]]}, r"dim: expected an int, got a list; rows go to add"),
    ({"dim": "cosine"}, r"dim: .* Index\(metric='cosine'\)")])
def test_hints(options: dict[str, Any], words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words):
        farann.Index(**options)


def test_an_index_by_its_ids() -> None:
    """Rows by ids, iteration over ids, the number of rows that a filter lets through."""
    index = farann.Index()
    assert [*index] == []
    index.add(ROWS[:40], [f"n{i}" for i in range(40)], groups=np.arange(40) % 3)
    assert [*index] == index.ids.tolist() and sorted(index)[0] == "n0"
    assert (index["n7"] == ROWS[7]).all() and (index[["n7", "n3"]] == ROWS[[7, 3]]).all()
    with pytest.raises(KeyError, match="n99"):
        index["n99"]
    some = index.filter(groups=[1, 2], exclude=["n1"])
    none = index.filter(allowed=["n1"], exclude=["n1"])
    assert len(some) == 25 and len(none) == 0 and none
    assert not index.search_furthest(ROWS[:2], 3, allowed=none).found.any()
    index.remove(["n2", "n3"])
    index.add(ROWS[:2], ["new", "newer"], groups=[0, 1])
    assert len(some) == 25 and (index.search_furthest(ROWS[0], 30, allowed=some).found.sum() == 25)
    with pytest.raises(ValueError, match="a Filter of this index"):
        filled().search_furthest(ROWS[:2], 3, allowed=none)
    with pytest.raises(TypeError, match=r"got an array of bool; make it 0 and 1 by .astype"):
        index.add(ROWS > 0.0)
    with pytest.raises(AttributeError, match="use Index, and its argument threads"):
        farann.set_num_threads(2)  # type: ignore[attr-defined]


def test_exclude_for_a_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    import inside

    index, queries = filled(), ROWS[:9]
    out = index.search_furthest(queries, 5).ids[:, :2].ravel()
    right = index.search_furthest(queries, 5, exclude=[out] * 9)
    allowed = np.setdiff1d(np.arange(0, 3000, 2), out)
    for ids in (out, out.tolist(), set(out.tolist()), frozenset(out.tolist()),
                dict.fromkeys(out.tolist()).keys(), np.append(out, [-1, 10**9])):
        for most in (1 << 20, 0):  # listed for each query, or taken from what is allowed
            monkeypatch.setattr(inside.settings, "most_listed", most)
            found = index.search_furthest(queries, 5, exclude=ids)
            assert (found.ids == right.ids).all() and (found.scores == right.scores).all()
            even = index.search_furthest(queries, 5, exclude=ids, allowed=np.arange(0, 3000, 2))
            assert (even.ids == index.search_furthest(queries, 5, allowed=allowed).ids).all()
    own = [set(ids.tolist()) for ids in right.ids]
    assert (index.search_furthest(queries, 5, exclude=own).ids
            == index.search_furthest(queries, 5, exclude=right.ids).ids).all()
    assert (index.search_furthest(queries, 5, exclude=set()).ids
            == index.search_furthest(queries, 5).ids).all()
    assert index.reconstruct({7}).shape == (1, 8) and index.reconstruct(set()).shape == (0, 8)


def test_threads_of_all_cpus() -> None:
    usual = farann.Index().threads
    index = filled(threads=-1)
    assert index.threads == usual == farann.Index(threads=None).threads
    right = index.search_furthest(ROWS[:50])
    assert (filled(threads=1).search_furthest(ROWS[:50], threads=-1).ids == right.ids).all()
    for threads in (-2, 0):
        with pytest.raises(ValueError, match="threads: expected 1 or more"):
            farann.Index(threads=threads)


def test_an_index_is_true_and_has_no_other_attributes() -> None:
    index = farann.Index()
    assert index and len(index) == 0
    with pytest.raises(AttributeError, match="thread"):
        index.thread = 2  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="search_farthest") as caught:
        index.search_farthest  # type: ignore[attr-defined]  # noqa: B018
    assert (caught.value.name, caught.value.obj) == ("search_farthest", index)


def test_closing(tmp_path: Path) -> None:
    path = tmp_path / "index.farann"
    filled().build().save(path)
    with farann.Index.load(path, mmap=True) as index:
        right = filled().search_furthest(ROWS[:2]).ids
        assert (index.search_furthest(ROWS[:2]).ids == right).all() and not index.closed
    assert index.closed and repr(index) == "<farann.Index: closed>"
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert str(path) not in maps.read_text()
    for use in (lambda: len(index), lambda: index.add(ROWS), lambda: index.search_furthest(ROWS[0]),
                lambda: index.build(), lambda: index.save(path), lambda: 3 in index,
                index.__enter__, index.stats):
        with pytest.raises(ValueError, match="the index is closed"):
            use()
    index.close()


def test_progress_is_told() -> None:
    told: list[tuple[str, int, int]] = []
    index = filled().build(progress=lambda *step: told.append(step))
    assert told and all(type(step[0]) is str and 0 <= step[1] <= step[2] for step in told)
    for what in {step[0] for step in told}:
        mine = [step for step in told if step[0] == what]
        assert [step[1] for step in mine] == sorted(step[1] for step in mine)
        assert mine[-1][1] == mine[-1][2]
    index.add(ROWS[:10])
    right = index.search_furthest(ROWS[:5]).ids

    def fails(what: str, done: int, total: int) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        index.build(progress=fails)
    assert index.stats()["added"] == 10 and (index.search_furthest(ROWS[:5]).ids == right).all()
    with pytest.raises(TypeError, match="progress: expected"):
        index.build(progress="bar")  # type: ignore[arg-type]


def test_logging(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level(logging.DEBUG, "farann")
    index = filled().build()
    index.tune(k=3)
    index.save(tmp_path / "index.farann")
    farann.Index.load(tmp_path / "index.farann", mmap=True)
    said = [record.getMessage() for record in caplog.records if record.name == "farann"]
    for words in ("built an index of 3000 rows", "tuned for k=3", "saved <farann.Index", "mapped"):
        assert any(words in one for one in said), words


def test_modules_come_when_they_are_asked_for() -> None:
    code = """
import sys
import farann
late = ("tqdm", "sklearn", "scipy", "pandas", "pyarrow", "farann.vectors", "farann.metrics")
assert not [name for name in late if name in sys.modules]
assert farann.metrics.recall_at_k([[1]], [[1]], k=1).tolist() == [1.0]
assert farann.vectors.open_vectors and "vectors" in dir(farann)
index = farann.Index()
index.add([[1.0], [2.0]])
index.build()
assert "tqdm" not in sys.modules and "sklearn" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
    with pytest.raises(AttributeError, match="metrix"):
        farann.metrix  # type: ignore[attr-defined]  # noqa: B018


def test_one_bar_for_a_whole_build(capsys: pytest.CaptureFixture[str],
                                   monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps come in one order, each is told from its beginning to its end; a bar has them all."""
    rows = np.random.default_rng(5).standard_normal((25_000, 8), dtype=np.float32)
    index = farann.Index(cells="auto", threads=2)
    index.add(rows)
    told: list[tuple[str, int, int]] = []
    index.build(tune=[3], progress=lambda *step: told.append(step))
    steps = list(dict.fromkeys(step[0] for step in told))
    known = list(inside.runtime.build_steps([3]))
    assert steps == [step for step in known if step in steps] and len(steps) >= 9
    assert {"finding partitions", "coding rows", "measuring recall, k=3"} <= set(steps)
    for what in steps:
        mine = [step for step in told if step[0] == what]
        assert mine[0][1] == 0 and mine[-1][1] == mine[-1][2]

    shares = {"one": 1.0, "never": 1.0, "two": 2.0}
    seen: list[float] = []
    update = tqdm.update

    def noted(bar: Any, n: float) -> None:
        update(bar, n)
        seen.append(round(bar.n, 4))

    with monkeypatch.context() as patch, inside.runtime.shown(True, shares) as teller:
        patch.setattr(tqdm, "update", noted)
        assert callable(teller)
        for step in (("one", 0, 2), ("one", 1, 2), ("two", 0, 4), ("two", 3, 4)):
            teller(*step)
        patch.undo()
    assert seen == [0.0, 0.125, round(1 / 3, 4), round(2.5 / 3, 4)]
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and shown.endswith("\n") and "done: 100%" in shown
    assert all(f"{step}: " in shown for step in ("one", "two"))
    assert not capsys.readouterr().err
    index.tune(k=3, progress=True)
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and "measuring recall: " in shown


@pytest.mark.parametrize(("method", "given", "words"), [
    ("search_furthest", {"top_k": 5}, "search_furthest() got an unexpected keyword 'top_k': use k"),
    ("search_furthest", {"within": 1}, "unexpected keyword 'within': use groups"),
    ("search_nearest", {"outside": 1}, "unexpected keyword 'outside': use outside_groups"),
    ("search_beyond", {"radius": 1.0, "filter": []}, "unexpected keyword 'filter': use allowed"),
    ("search_furthest_from", {"recal": 0.9}, "unexpected keyword 'recal': use recall"),
    ("search_mmr", {"lambda_mult": 0.7}, "use diversity, which is 1 - lambda_mult"),
    ("search_nearest", {"group_by": "brand"}, "use per_group"),
    ("add", {"group_by": "brand"}, "use groups"),
    ("search_furthest", {"nprobe": 8}, "use recall, the share of the true rows to find"),
    ("search_furthest", {"return_scores": True}, "expected one of queries, k, ids, recall, "),
    ("add", {"embeddings": 1}, "add() got an unexpected keyword 'embeddings': use rows"),
    ("search_nearest", {"radius": 1.0}, "keyword 'radius': use Index.search_within with radius="),
    ("search_furthest", {"threshold": 1.0}, "use Index.search_beyond with radius="),
    ("search_beyond", {"radius": 1.0, "top_k": 5}, "use Index.search_furthest with k="),
    ("search_within", {"k": 5}, "use Index.search_nearest with k="),
    ("search_mmr", {"of_no_kind": 0.7}, "expected one of queries, k, ids, scores, scale, ")])
def test_unknown_keywords(method: str, given: dict[str, Any], words: str) -> None:
    with pytest.raises(TypeError, match=re.escape(words)):
        getattr(filled(), method)(ROWS[:3], **given)


@pytest.mark.parametrize(("call", "words"), [
    (lambda index: index.search_within(ROWS[0], 0.5), "takes queries without a name; name others: "
     "radius=, ids="),
    (lambda index: index.search_mmr(ROWS[0], 5, 10), "takes queries and k without a name"),
    (lambda index: index.select_diverse(ROWS, 5), "takes k without a name; name others: start="),
    (lambda index: index.diameter(5), "diameter() takes nothing without a name; name others: "),
    (lambda index: index.tune(10), "queries: expected shape (dim,) or (n, dim), got (); is it "
     "k=10, or ids=10?"),
    (lambda index: index.search_nearest(7), "is it k=7, or ids=7?"),
    (lambda index: index.add([1.0, 2.0]), "rows: expected shape (n, dim), got (2,); write [...]"),
    (lambda index: index.build(tune=10), "tune: expected several k, such as (10,), got 10")])
def test_arguments_without_a_name(call: Any, words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(words)):
        call(filled())


def test_unknown_keywords_of_filters() -> None:
    with pytest.raises(TypeError, match=r"filter\(\) got .* 'within': use groups"):
        filled().filter(within="cat")  # type: ignore[call-arg]


@pytest.mark.parametrize("metric", ["l2", "dot", "cosine"])
@pytest.mark.parametrize("name", ["search_furthest", "search_nearest", "search_mmr"])
def test_questions_without_an_index(name: str, metric: str) -> None:
    if name == "search_mmr" and metric == "l2":
        with pytest.raises(ValueError, match="metric='dot' or 'cosine'"):
            farann.search_mmr(ROWS, ROWS[:2], 3, metric=metric)
        return
    with pytest.raises(TypeError, match="unexpected keyword 'groups': use row_groups"):
        getattr(farann, name)(ROWS, ROWS[:2], 3, metric=metric, groups=[1] * len(ROWS))
    rows, index = ROWS[:200].copy(), farann.Index(metric=metric)
    rows[100:150] = rows[:50]  # ties
    index.add(rows)
    one_off, of_index = getattr(farann, name), getattr(index, name)
    each: list[dict[str, Any]] = [
        {}, {"exclude": [[i, i + 100] for i in range(9)]}, {"allowed": np.arange(0, 200, 3)},
        {"allowed": np.arange(200) % 7 > 2, "exclude": [1, 2, 3], "threads": 2}]
    for queries, some in ((rows[:9], each), (rows[5], [{}, {"exclude": [5]}])):
        for given in some:
            for k in (1, 6, 201):
                hits, right = one_off(rows, queries, k, metric=metric, **given), of_index(
                    queries, k, **given)
                assert np.array_equal(hits.ids, right.ids)
                assert np.array_equal(hits.scores, right.scores, equal_nan=True)
    if name != "search_mmr":
        keys = one_off(rows, rows[:3], 4, metric=metric, return_keys=True).keys
        assert np.array_equal(keys, of_index(rows[:3], 4, return_keys=True).keys)
    stats = one_off(rows, rows[:3], 4, metric=metric, return_stats=True).stats
    assert stats.queries == 3 and stats.rows_scanned >= 200
    assert one_off(np.empty((0, 8)), rows[:2], 1, metric="dot").ids.tolist() == [[-1], [-1]]
    with pytest.raises(TypeError, match=rf"{name}\(\) got .* 'n_neighbors': use k"):
        one_off(rows, rows[:1], n_neighbors=3)


@pytest.mark.parametrize("metric", ["l2", "dot", "cosine"])
def test_selections_without_an_index(metric: str) -> None:
    rows, worth = ROWS[:200].copy(), np.arange(200) % 13
    rows[100:150] = rows[:50]  # ties
    labels = [f"g{i % 7}" for i in range(200)]
    index = farann.Index(metric=metric)
    index.add(rows, groups=labels)
    for given in ({"k": 9}, {"k": 20, "per_group": 2}, {"radius": index.select_spaced(worth, 30
                  ).radius, "allowed": np.arange(200) % 3 > 0, "return_dropped": True}):
        one_off = farann.select_spaced(rows, worth, metric=metric, row_groups=labels, **given)
        right = index.select_spaced(worth, **given)
        assert repr(one_off) == repr(right) and len(right.ids) > 2
        assert (farann.select_diverse(rows, 9, metric, row_groups=labels, per_group=1).ids
                == index.select_diverse(9, per_group=1).ids).all()
    radius: Any = index.select_spaced(worth, 30).radius
    pairs = index.pairs_within(radius, exclude=[3])
    found = farann.pairs_within(rows, radius, metric, exclude=[3])
    assert len(pairs.ids) > 40 and (found.ids == pairs.ids).all()
    assert (found.scores == pairs.scores).all()
    if metric != "l2":
        scored = [dict(zip(range(40), worth[i : i + 40].tolist(), strict=True)) for i in (0, 5)]
        assert repr(farann.search_mmr(rows, k=7, metric=metric, scores=scored, scale="ranks")) == (
            repr(index.search_mmr(k=7, scores=scored, scale="ranks")))
    with pytest.raises(TypeError, match=r"search_mmr\(\) missing .* 'metric'"):
        farann.search_mmr(rows, rows[:2])  # type: ignore[call-arg]


@pytest.mark.parametrize("keep_vectors", [True, False])
@pytest.mark.parametrize("built", [True, False])
def test_copies_are_independent(built: bool, keep_vectors: bool) -> None:
    """Of each other's changes, also of those in the room behind their rows and labels."""
    index = farann.Index(metric="cosine", threads=2, keep_vectors=keep_vectors)
    index.add(ROWS[:900], [f"n{i}" for i in range(900)], groups=np.arange(900) % 3)
    index.remove(["n5"])
    if built:
        index.build()
    index.add(ROWS[900:910], [f"n{i}" for i in range(900, 910)], groups=[7] * 10)
    budget: dict[str, Any] = {} if keep_vectors else {"budget": 2000}
    before = index.search_furthest(ROWS[:20], 9, **budget)
    for other in (index.copy(), copy.copy(index)):
        mine, others = (copy.deepcopy(other) for _ in range(2))
        assert type(other) is farann.Index and other.threads == 2
        assert repr(other.search_furthest(ROWS[:20], 9, **budget)) == repr(before)
        for changed, rows, label in ((index, ROWS[910:950], 8), (other, ROWS[950:990], 9)):
            changed.add(rows, [f"m{i}" for i in range(40)], groups=[label] * 40)
            changed.remove(["n7", "n901"])
            changed.build()
        for one, rows, label in ((index, ROWS[910:950], 8), (other, ROWS[950:990], 9)):
            assert len(one) == 947 and set(one.groups(["m0", "m39"])) == {label}
            if keep_vectors:
                assert (one[[f"m{i}" for i in range(40)]] == rows).all()
        assert len(mine) == len(others) == 909 and "n7" in mine
        index.remove([f"m{i}" for i in range(40)])
        index.add(ROWS[[7, 901]], ["n7", "n901"], groups=[1, 7])
    assert len(farann.Index().copy()) == 0 and farann.Index(3).copy().dim == 3


def test_a_folder_hides_no_hint() -> None:
    filled().search_furthest(ROWS[:2], 3)
    with pytest.raises(TypeError, match="use search_furthest, or search_nearest"):
        farann.search(ROWS[0], 3)  # type: ignore[operator]


def test_help_shows_what_there_is() -> None:
    for owner in (farann.Index, farann):
        for name in dir(owner):
            if inspect.isfunction(found := getattr(owner, name)):
                kinds = {one.kind for one in inspect.signature(found).parameters.values()}
                assert not kinds & {inspect.Parameter.VAR_KEYWORD}, name


@pytest.mark.parametrize(("name", "ours"), [
    ("search", "search_furthest, or search_nearest"), ("query", "search_furthest, or"),
    ("knn", "search_nearest"), ("fit", "add"), ("ntotal", "len(index)"), ("d", "dim"),
    ("range_search", "search_beyond, or search_within"), ("farthest", "search_furthest"),
    ("recommend", "search_contrast"), ("upsert", "add, with replace=True"), ("load_index", "load"),
    ("get_current_count", "len(index)"), ("set_ef", "search_furthest, with recall="),
    ("rerank", "search_mmr, with scores="), ("deduplicate", "pairs_within")])
def test_names_of_other_libraries(name: str, ours: str) -> None:
    index = filled()
    for owner in (index, farann.Index):
        with pytest.raises(AttributeError, match=re.escape(f"no attribute {name!r}: use {ours}")):
            getattr(owner, name)
    assert name not in dir(index) and not hasattr(index, name)
    assert name not in dir(farann.Index) and "\n |  " + name + "\n" not in pydoc.plain(
        pydoc.render_doc(farann.Index))
    with pytest.raises(AttributeError, match="^'Index' object has no attribute 'of_no_kind'"):
        index.of_no_kind  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize(("name", "ours"), [
    ("Indx", ": use Index"), ("search_within", ": use Index.search_within"),
    ("diameter", ": use Index.diameter"), ("read_index", ": use Index.load"),
    ("FurthestNeighbors", ": use sklearn.FurthestNeighbors"),
    ("search_nearst", ": use search_nearest"),
    ("knn", ": use search_nearest"), ("IndexFlatL2", ": use Index, and its method add"),
    ("of_no_kind", ""), ("__of_no_kind__", "")])
def test_names_that_the_package_has_not(name: str, ours: str) -> None:
    with pytest.raises(AttributeError, match=f"^module 'farann' has no attribute '{name}'{ours}$"):
        getattr(farann, name)


@pytest.mark.parametrize(("name", "ours"), [
    ("distances", "scores"), ("labels", "ids"), ("indices", "ids"), ("to_df", "to_pandas")])
def test_names_that_results_have_not(name: str, ours: str) -> None:
    hits = filled().search_furthest(ROWS[:3])
    with pytest.raises(AttributeError, match=f"^Hits has no attribute '{name}': use {ours}$"):
        getattr(hits, name)
    with pytest.raises(AttributeError, match="^Hits has no attribute 'of_no_kind'$"):
        hits.of_no_kind  # noqa: B018
    with pytest.raises(AttributeError, match="^Pairs has no attribute 'clusters': use components$"):
        filled().pairs_within(0.1).clusters  # noqa: B018
    assert not hasattr(hits, "__array_interface__") and copy.copy(hits).ids is hits.ids
    assert np.array_equal(pickle.loads(pickle.dumps(hits)).ids, hits.ids)
    with pytest.raises(TypeError, match=r"^Hits doesn't unpack: read hits\.ids and hits\.scores$"):
        hits[0]


@pytest.mark.parametrize(("method", "given", "words"), [
    ("search_furthest", ["b"], "queries: expected real numbers, got strings; ids of rows go to"),
    ("search_nearest", np.array(["a", "b"], object), "got strings; ids of rows go to ids="),
    ("search_furthest_from", [["a", "b"]], "sets[0]: expected real numbers, got strings; ids of"),
    ("search_contrast", "b", "likes: expected real numbers, got strings; ids of rows go to like"),
    ("add", ["b"], "rows: expected real numbers, got strings")])
def test_ids_in_the_place_of_vectors(method: str, given: Any, words: str) -> None:
    index = farann.Index(metric="cosine")
    index.add(ROWS[:3], ["a", "b", "c"])
    with pytest.raises(TypeError, match=re.escape(words)):
        getattr(index, method)(given)


def test_several_groups_for_all_queries() -> None:
    index = farann.Index()
    index.add(ROWS[:9], groups=np.arange(9) % 3)
    with pytest.raises(ValueError, match=r"3 queries, got 2; .* allowed=index\.filter\(groups="):
        index.search_furthest(ROWS[:3], groups=[0, 1])
    for name in ("float64", "uint16"):
        with pytest.raises(ValueError, match=rf"dtype: expected one of .*, got '{name}'$"):
            farann.Index(dtype=name)


def test_abstract_classes_may_inherit() -> None:
    class Kind(farann.Index, abc.ABC):
        pass

    assert Kind().add(ROWS[:2]).tolist() == [0, 1]


def test_unknown_options() -> None:
    for given, words in (({"metric_type": "IP"}, "use metric"), ({"threds": 2}, "use threads"),
                         ({"of_no_kind": 1}, "expected one of dim, metric, dtype")):
        with pytest.raises(TypeError, match=rf"^Index\(\) got an unexpected keyword .*: {words}"):
            farann.Index(**given)


@pytest.mark.parametrize("metric", ["l2", "dot", "cosine"])
@pytest.mark.parametrize("named", [False, True])
def test_each_search_tells_what_it_did(metric: str, named: bool) -> None:
    index = farann.Index(metric=metric, threads=1)
    index.add(ROWS[:900], [f"r{i}" for i in range(900)] if named else None,
              groups=np.arange(900) % 3)
    index.build()
    radius = float(index.search_furthest(ROWS[0], 30).scores[-1])
    near = float(index.search_nearest(ROWS[0], 30).scores[-1])
    for name, given in (("search_furthest", {}), ("search_nearest", {}),
                        ("search_nearest", {"recall": 0.9}), ("search_nearest", {"beyond": near}),
                        ("search_beyond", {"radius": radius}), ("search_within", {"radius": near}),
                        ("search_mmr", {}), ("search_mmr", {"candidates": 20})):
        if name == "search_mmr" and metric == "l2":
            continue
        search: Any = getattr(index, name)
        for queries in (ROWS[0], ROWS[:1], ROWS[:40], ROWS[0], ROWS[:0]):
            for filters in ({}, {"groups": 1}, {"groups": np.arange(len(queries)) % 4}):
                if np.ndim(queries) == 1 and np.ndim(filters.get("groups", 0)):
                    continue
                without = search(queries, **given, **filters)
                hits = search(queries, **given, **filters, return_stats=True)
                assert without.stats is None and np.array_equal(hits.ids, without.ids)
                assert isinstance(hits.stats, farann.SearchStats)
                assert hits.stats.queries == len(np.atleast_2d(queries))
                if len(queries):
                    assert hits.stats.rows_scanned > 0
                    assert hits.stats == farann.SearchStats(**index.stats()["last_search"])
                    assert name != "search_mmr" or hits.stats.rows_rescored > 10 * len(hits.ids)
    empty = farann.Index(metric=metric)
    for name, radii in (("search_nearest", {}), ("search_beyond", {"radius": 1.0}),
                        *[("search_mmr", {})] * (metric != "l2")):
        stats = getattr(empty, name)(ROWS[:2], **radii, return_stats=True).stats
        assert stats == farann.SearchStats(2)
