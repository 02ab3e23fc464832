"""The outcomes benchmark, on rows, texts and ratings that are made here."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_bench_posneg import tiny

from bench import __main__ as command
from bench.outcomes import (
    chunks,
    contrast,
    coreset,
    data,
    duplicates,
    hard,
    mmr,
    opposites,
    outliers,
    picture,
    run,
)
from bench.outcomes.data import Antonyms, Labeled, Pairs, Set, Tree
from bench.outcomes.record import Record, Use, Values, counts, records


def clusters(count: int = 200, kinds: int = 4) -> Labeled:
    """Rows around as many centers as there are kinds."""
    random = np.random.default_rng(0)
    labels = random.integers(0, kinds, count)
    rows = 3 * random.standard_normal((kinds, 8))[labels] + random.standard_normal((count, 8))
    return Labeled(rows.astype(np.float32), labels)


def tree() -> Tree:
    """Two topics, 1 and 2, below 0: 1 has the parts 3, 4 and 5, each with as many rows."""
    random = np.random.default_rng(1)
    leaves = np.repeat([3, 4, 5, 2], 30)
    paths = np.array([[0, 1, leaf] if leaf > 2 else [0, 2, -1] for leaf in leaves])
    unit = np.eye(8, dtype=np.float32)
    centers = unit[[1, 1, 1, 2]] + 0.5 * unit[[3, 4, 5, 6]]
    rows = np.repeat(centers, 30, axis=0) + 0.1 * random.standard_normal((120, 8))
    names = unit[[1, 3, 2]]
    return Tree(rows.astype(np.float32), paths, np.array([1, 3, 2]), names)


def means(values: Values) -> dict[str, float]:
    return {way: float(np.nanmean(each)) for way, each in values.items()}


def made(values: Sequence[float], rival: Sequence[float], **more: object) -> list[Record]:
    """Records of a use with a way of farann and one of today."""
    use = Use("Title", "measure", "ours", ("rival",), lambda _, __: {}, 1, ("digits",), **more)  # type: ignore[arg-type]
    return records("use", use, "digits", "BSD", {"ours": values, "rival": rival, "x": rival})


def test_a_gain_is_over_the_best_of_todays_ways() -> None:
    ours, rival, other = made([3.0, 4.0], [1.0, 2.0])
    assert (ours.whose, rival.whose, other.whose) == ("ours", "today", "other")
    assert (ours.mean, ours.gain, ours.gain_low, ours.verdict) == (3.5, 2.0, 2.0, "better")
    assert made([3.0, 4.0], [1.0, 2.0], fewer=True)[0].verdict == "worse"
    assert made([1.0, 3.0], [2.0, 2.0])[0].verdict == "same"
    use = Use("", "", "ours", ("low", "high"), lambda _, __: {}, 1, ("digits",))
    found = records("use", use, "digits", "", {"ours": [2.0], "low": [1.0], "high": [3.0]})
    assert {one.rival for one in found} == {"high"}


def test_ways_that_are_missing_or_uneven_are_refused() -> None:
    use = Use("", "", "ours", ("rival",), lambda _, __: {}, 1, ("digits",))
    with pytest.raises(ValueError, match="expected rival among the ways"):
        records("use", use, "digits", "", {"ours": [1.0]})
    with pytest.raises(ValueError, match="as many repeats"):
        made([1.0, 2.0], [1.0])


def test_each_use_reports_on_three_sets_that_chose_nothing() -> None:
    for use in run.USES.values():
        assert len(set(use.sets) - set(use.chose)) >= 3, use.title
        assert set(use.chose) < set(use.sets) <= data.SETS.keys() or not use.chose
    chose, reports = made([2.0], [1.0], chose=("digits",))[0], made([2.0], [1.0])[0]
    assert (chose.role, reports.role) == ("chose", "reports")
    assert counts([chose, reports]) == {"better": 1, "same": 0, "worse": 0}


def test_questions_about_topics_and_after_feedback() -> None:
    asked = list(contrast.by_topic(tree()))
    assert len(asked) == 1  # topic 1 without its part 3
    assert asked[0].right.tolist() == list(range(30, 90))
    values = means(contrast.values(tree(), 5))
    assert values["weight 0.3"] > values["likes alone"]
    found = clusters()
    for one, _ in zip(contrast.by_feedback(found), range(5), strict=False):
        label = found.labels[one.shown[-1]]
        wrong = (found.labels[one.shown[:-1]] != label).sum()
        assert len(one.dislikes) == wrong > 0
        assert len(one.likes) == 11 - wrong
        assert (found.labels[one.right] == label).all()
        assert not set(one.right) & set(one.shown)


def test_topics_without_their_opposite() -> None:
    opposed = tree()._replace(opposite=[(1, 2)])
    (asked,) = contrast.by_topic(opposed)
    assert asked.right.tolist() == list(range(30))  # topic 3, not 2
    assert (asked.dislikes == opposed.names[2]).all()


def test_the_rule_for_the_weight() -> None:
    def gained(**by_weight: float) -> Values:
        return {"likes alone": [0.5, 0.7], **{
            f"weight {weight:g}": [0.5 + by_weight.get(f"w{10 * weight:.0f}", 0.0),
                                   0.7 + by_weight.get(f"w{10 * weight:.0f}", 0.0)]
            for weight in contrast.WEIGHTS}}

    some, more = gained(w1=0.1, w2=0.2, w3=0.4, w5=0.2), gained(w1=0.1, w2=0.2, w3=-0.1, w5=0.1)
    assert contrast.gains(some)[0.3] == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert contrast.chosen({"a": some}, {}) == 0.3
    assert contrast.chosen({"a": some, "b": more}, {"c": gained()}) == 0.2  # 0.3 loses on one
    assert contrast.chosen({"a": some, "b": more}, {"c": gained(w2=-0.1)}) is None
    assert contrast.chosen({"a": gained(**dict.fromkeys(("w1", "w2", "w3", "w5", "w10"), -1.0))},
                           {}) is None


def test_a_second_answer_of_a_part_counts_half() -> None:
    assert mmr.gain([7]) == 1.0
    assert mmr.gain([-1, 7]) == pytest.approx(1 / np.log2(3))
    assert mmr.gain([7, 7]) == pytest.approx(1 + 0.5 / np.log2(3))
    assert mmr.most(np.array([7, 7, 8, -1])) == pytest.approx(mmr.gain([7, 8, 7]))
    asked = list(mmr.of_topics(tree()))
    assert len(asked) == 1
    assert np.unique(asked[0][1]).tolist() == [-1, 3, 4, 5]
    values = means(mmr.values(tree(), 3))
    assert max(values.values()) <= 1.0
    assert values["all, 0.5"] != values["nearest"]
    query, parts = next(mmr.between(clusters()))
    assert query.shape == (8,)
    assert len(np.unique(parts)) == 3


def test_sets_to_label(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coreset, "ROUNDS", 1)
    found = clusters()
    picks = coreset.picked(found.rows, 10, seed=0)
    assert all(len(np.unique(each)) == len(each) <= 10 for each in picks.values())
    lonely = found.rows[:20] * 50.0
    all_rows = np.concatenate([found.rows, lonely])
    assert (coreset.picked(all_rows, 5, 0)["leave out 0"] >= 200).any()
    assert (coreset.picked(all_rows, 5, 0)["leave out 0.2"] < 200).all()
    values = coreset.at_once(10, found, 2)
    assert min(means(values).values()) > 0.5
    batches = coreset.in_batches(clusters(400), 1)
    assert all(0.5 < each[0] <= 1.0 for each in batches.values())


def test_chunks_overlap_and_repeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "man1").mkdir()
    for name, first in (("git-one", "alpha"), ("git-two", "beta")):
        page = (".SH \"NAME\"\n" + f"{first} " * 30 + "\n.SH \"OPTIONS\"\n.PP\n"
                + "\n.PP\n".join(r"\fBword\fR\-" + f"{i} word " * 30 for i in range(3)))
        with gzip.open(tmp_path / "man1" / f"{name}.1.gz", "wt") as file:
            file.write(page)
    monkeypatch.setattr(data, "unpack_debian", lambda package, folder, what: folder)
    monkeypatch.setattr(data, "embedded", lambda texts: np.array(
        [[text.count(word) for word in ("alpha", "beta", "0", "1", "2", "options", "word")]
         for text in texts], np.float32) + 0.01)
    sections = data.git_manual(tmp_path)
    assert [title for title, _ in sections] == [
        "git-one name", "git-one options", "git-two name", "git-two options"]
    assert sections[1][1].split()[0] == "word-0"
    found = data.Passages(**data.passages(sections))
    assert found.blocks.tolist() == [[0, 0], [1, 2], [2, 3], [4, 4], [1, 2], [2, 3]]
    assert [row[row >= 0].tolist() for row in found.answers] == [[1, 2, 3], [1, 2, 3]]
    monkeypatch.setattr(chunks, "K", 3)
    values = means(chunks.values("different", found, 2))
    assert values["none within 0.95"] > values["nearest"] >= 2
    assert means(chunks.values("answers", found, 2))["nearest"] == 1.0


def test_outliers_are_rows_of_other_labels() -> None:
    values, of_one = (means(outliers.values(of_one, clusters(), 4)) for of_one in (False, True))
    assert values["tenth neighbor"] > 0.5
    assert of_one.keys() == values.keys() and of_one != values
    assert values.keys() == {"tenth neighbor", "furthest row", "from the mean", "LOF",
                             "Isolation Forest"}


def test_edited_copies_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(2)
    text = "One two three four, five six seven eight nine!"
    copies = {duplicates.edited(text, random) for _ in range(20)}
    assert len(copies) > 10
    assert all(copy != " ".join(duplicates.plain(text)) for copy in copies)
    words = [f"w{i}" for i in range(300)]
    texts = [" ".join(random.choice(words, 12)) for _ in range(200)]
    vectors = random.standard_normal((200, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    monkeypatch.setattr(data, "embedded", lambda copies: vectors[: len(copies)])
    values = duplicates.values(Labeled(vectors, np.zeros(200, np.int64), np.array(texts)), 40)
    assert {len(each) for each in values.values()} == {40}
    assert means(values)["words (tf-idf)"] > 0.9 > means(values)["pairs_within"]


def test_wrong_answers_to_train_with() -> None:
    random = np.random.default_rng(3)
    answers = random.standard_normal((60, 8)).astype(np.float32)
    answers /= np.linalg.norm(answers, axis=1, keepdims=True)
    turned = answers @ np.linalg.qr(random.standard_normal((8, 8)))[0].astype(np.float32)
    for way in hard.WAYS:
        wrong = hard.negatives(way, answers, answers)
        assert (wrong != np.arange(60)[:, None]).all()
        assert wrong.shape == (60, 5)
    nearest, furthest = (hard.negatives(way, answers, answers) for way in ("nearest", "furthest"))
    products = answers @ answers.T
    assert (products[0, nearest[0]] > products[0, furthest[0]]).all()
    late = products[np.arange(60), hard.negatives("nearest, margin", answers, answers)[:, 0]]
    assert (late <= 0.95).all()
    values = means(hard.of_negatives(Pairs(turned, answers), 2))
    assert values["random"] > values["untrained"]


def test_rows_of_a_label_to_train_with() -> None:
    found = clusters()
    rows = contrast.unit(found.rows)
    chosen = {way: hard.positives(way, rows, found.labels) for way in hard.POSITIVE_WAYS}
    for way, ids in chosen.items():
        assert (found.labels[ids] == found.labels[:, None]).all(), way
    near, far = (np.einsum("ij,ikj->ik", rows, rows[chosen[way]]).mean()
                 for way in ("nearest", "furthest"))
    assert near > far + 0.1
    noisy = found.rows.copy()
    noisy[:, 4:] = 20 * np.random.default_rng(5).standard_normal((len(noisy), 4))
    values = means(hard.of_positives(Labeled(noisy, found.labels), 2))
    assert values["random"] > values["untrained"] + 0.1


def test_furthest_answers() -> None:
    random = np.random.default_rng(4)
    words = random.standard_normal((60, 8)).astype(np.float32)
    words[1::2] = -words[::2]
    pairs = np.arange(60).reshape(-1, 2)
    assert means(opposites.values(Antonyms(words, pairs), 30))["furthest"] == 1.0
    people = means(opposites.values(tiny(), 40))
    assert people["furthest"] > people["random"] > people["nearest"]
    assert means(opposites.values(clusters(), 20))["furthest"] > 0.9


def test_a_run_its_page_and_its_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                        capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(data.SETS, "digits", Set("Digits", "BSD", clusters))
    monkeypatch.setitem(run.USES, "outliers", replace(outliers.SCATTERED, repeats=2))
    data.load.cache_clear()
    out = tmp_path / "outcomes.jsonl"
    asked = ["outcomes", "--use", "outliers", "--only", "dig*", "--out", str(out)]
    monkeypatch.setattr("sys.argv", ["bench", *asked, "--quick"])
    assert command.main() == 0
    assert "**Outliers of all kinds, 2 %**, Digits (BSD, reports): average precision, 1" in (
        capsys.readouterr().out)
    assert not list(run.read(out))  # quick runs aren't reported
    monkeypatch.setattr("sys.argv", ["bench", *asked])
    assert command.main() == 0
    found = list(run.read(out))
    assert (found[0].way, found[0].role) == ("tenth neighbor", "reports")
    with monkeypatch.context() as other:  # chosen on since
        other.setitem(run.USES, "outliers", replace(outliers.SCATTERED, chose=("digits",)))
        assert {one.role for one in run.read(out)} == {"chose"}
    assert json.loads(out.read_text().splitlines()[0])["kind"] == "run"
    (tmp_path / "docs" / "_static").mkdir(parents=True)
    page = tmp_path / "docs" / "outcomes.md"
    page.write_text(f"before\n{run.START}\nold\n{run.END}\nafter\n")
    run.update(tmp_path, found)
    text = page.read_text()
    assert "old" not in text
    assert text.startswith("before") and text.endswith("after\n")
    assert "| Digits | BSD |" in text
    drawn = picture.picture(found, {"outliers": outliers.SCATTERED.title})
    assert drawn == (tmp_path / "docs" / "_static" / "outcomes.svg").read_text()
    assert drawn.count("<circle") == 1
    data.load.cache_clear()
    monkeypatch.setattr("sys.argv", ["bench", "outcomes", "--use", "none"])
    assert command.main() == 2
    assert "--use: expected some of opposites" in capsys.readouterr().err


def test_texts_are_kept_in_the_cache(tmp_path: Path) -> None:
    made_ = []

    def make(folder: Path) -> data.Arrays:
        made_.append(folder)
        return {"rows": np.arange(3)}

    for _ in range(2):
        assert data.kept("some", make, tmp_path)["rows"].tolist() == [0, 1, 2]
    assert len(made_) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["outcomes-some.npz"]


def test_paths_through_a_hierarchy() -> None:
    def one(above: str) -> data.Synset:
        return data.Synset("05", ["word"], above, [], "a gloss", "")

    meanings = {"00000001": one(""), "00000002": one("00000001"), "00000003": one("00000002")}
    assert data.paths_of(meanings, ["00000003", "00000001"]).tolist() == [[1, 2, 3], [1, -1, -1]]
    meanings["00000001"] = one("00000003")  # a circle ends
    assert data.paths_of(meanings, ["00000003"]).tolist() == [[1, 2, 3]]


def test_the_page_has_what_was_measured() -> None:
    docs = Path(__file__).parents[2] / "docs"
    table = run.page(run.read(docs / "outcomes.jsonl"))
    assert f"{run.START}\n{table}\n{run.END}" in (docs / "outcomes.md").read_text("utf-8")
