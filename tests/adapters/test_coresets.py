"""Coresets and hard negatives for other libraries, beside those that are installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import farann
from farann.adapters.anomalib import KCenterGreedy
from farann.adapters.sentence_transformers import mine_hard_negatives

Rows = NDArray[np.float32]
# What torch, timm, anomalib and datasets say of themselves where they are installed.
OF_OTHERS = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning",
                                       "ignore::UserWarning")


# ---- anomalib ----

class Tensor:
    """The methods of torch.Tensor that the selection calls, where torch isn't installed."""

    def __init__(self, rows: NDArray[Any]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[Any]:
        return self.rows

    def __getitem__(self, places: list[int]) -> Tensor:
        return Tensor(self.rows[places])

    def detach(self) -> Tensor:
        return self

    cpu = detach

    def float(self) -> Tensor:
        return Tensor(self.rows.astype(np.float32))

    def flatten(self, start: int) -> Tensor:
        assert start == 1
        return Tensor(self.rows.reshape(len(self.rows), -1))


@pytest.mark.parametrize("torch", [False, True])
@pytest.mark.parametrize("shape", [(300, 8), (300, 1, 8), (300, 2, 2, 2)])
def test_coreset(shape: tuple[int, ...], torch: bool) -> None:
    rows = np.random.default_rng(0).standard_normal(shape)
    rows[100:] = rows[:200]  # copies
    make: Any = pytest.importorskip("torch").from_numpy if torch else Tensor
    sampler = KCenterGreedy(embedding=make(rows), sampling_ratio=0.1)
    flat = rows.reshape(300, -1).astype(np.float32)
    picks = sampler.select_coreset_idxs()
    assert picks == farann.select_diverse(flat, 30).ids.tolist()
    assert all(type(pick) is int for pick in picks)
    assert (np.asarray(sampler.sample_coreset()) == rows[picks]).all()
    assert sampler.coreset_size == 30
    with pytest.raises(ValueError, match=r"sampling_ratio: .* a row or more of 300, got 0\.003"):
        KCenterGreedy(make(rows), 0.003)


@OF_OTHERS
def test_coreset_covers_as_that_of_anomalib() -> None:
    """The same greedy rule from another first row, without the projection, which rows of three
    dimensions are spared."""
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("anomalib.models.components").KCenterGreedy
    rows = np.random.default_rng(0).standard_normal((500, 1, 6)).astype(np.float32)
    torch.manual_seed(0)
    expected = theirs(torch.from_numpy(rows), 0.1).select_coreset_idxs()
    index = farann.Index()
    index.add(rows[:, 0])
    assert expected[1:] == index.select_diverse(49, first=[expected[0]]).ids.tolist()


@OF_OTHERS
def test_coreset_inside_patchcore() -> None:
    torch = pytest.importorskip("torch")
    patchcore = pytest.importorskip("anomalib.models.image.patchcore.torch_model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patchcore, "KCenterGreedy", KCenterGreedy)
        model = patchcore.PatchcoreModel(layers=["layer1"], backbone="resnet18",
                                         pre_trained=False)
        model.train()
        model(torch.rand(2, 3, 64, 64))
        store = torch.vstack(model.embedding_store)
        model.subsample_embedding(sampling_ratio=0.05)
    assert (model.memory_bank == store[farann.select_diverse(
        store.detach().numpy(), int(len(store) * 0.05)).ids]).all()


# ---- scikit-activeml ----

def queries(metric: str = "l2", missing: Any = np.nan, **options: Any) -> Any:
    module = pytest.importorskip("farann.adapters.skactiveml", exc_type=ModuleNotFoundError)
    return module.FarthestPointQuery(metric, missing_label=missing, **options)


@pytest.mark.parametrize("labeled", [1, 7])
def test_queries_are_those_of_core_set(labeled: int) -> None:
    ours = queries()
    from skactiveml.pool import CoreSet

    X = np.random.default_rng(0).standard_normal((200, 5)).astype(np.float32)
    y = np.full(200, np.nan)
    y[50 : 50 + labeled] = 1
    for candidates in None, np.arange(0, 200, 2), np.array([3, 50, 51, 9]), X[:40] + 1, X[48:60]:
        k = 2 if candidates is not None and len(candidates) == 4 else 4  # without labels
        expected, values = CoreSet(random_state=0).query(X, y, candidates, k, True)
        picks, utilities = ours.query(X, y, candidates, batch_size=k, return_utilities=True)
        assert picks.tolist() == expected.tolist() == ours.query(X, y, candidates, k).tolist()
        np.testing.assert_allclose(utilities, values, rtol=1e-5, atol=1e-5)


def test_queries_without_labels_and_by_cosines() -> None:
    X = np.random.default_rng(0).standard_normal((50, 5))
    y = np.full(50, np.nan)
    for metric in "l2", "cosine":
        picks, utilities = queries(metric).query(X, y, batch_size=5, return_utilities=True)
        assert picks.tolist() == farann.select_diverse(X, 5, metric=metric).ids.tolist()
        assert (utilities[0] == 0).all() and utilities.shape == (5, 50)
        for i in range(1, 5):
            assert np.nanargmax(utilities[i]) == picks[i]
    y[3] = 0
    index = farann.Index(metric="cosine")
    index.add(X)
    assert queries("cosine").query(X, y, batch_size=3).tolist() == index.select_diverse(
        3, first=[3]).ids.tolist()
    assert queries("cosine", leave_out=0.3).query(X, y, batch_size=3).tolist() == (
        index.select_diverse(3, first=[3], leave_out=0.3).ids.tolist())


# ---- sentence-transformers ----

class Model:
    """The text "17" has row 17, as an anchor with some noise."""

    device = "cpu"

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def encode_document(self, texts: list[str], **options: Any) -> Rows:
        return self.rows[[int(text.strip("?")) for text in texts]]

    encode_query = encode_document

    def similarity(self, a: Any, b: Any) -> Any:
        import torch

        return torch.as_tensor(a) @ torch.as_tensor(b).T

    def similarity_pairwise(self, a: Any, b: Any) -> Any:
        import torch

        return (torch.as_tensor(a) * torch.as_tensor(b)).sum(1)


def case() -> tuple[dict[str, list[str]], Model, list[str]]:
    """Anchors with one to three positives, and rows of length 1 as theirs are."""
    rows = np.random.default_rng(0).standard_normal((400, 6)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    anchors = [f"{i % 40}?" for i in range(70)]
    positives = [str(100 + i * 7 % 90) for i in range(70)]
    return {"question": anchors, "answer": positives}, Model(rows), [
        str(i) for i in range(60, 400)]


ARGUMENTS: list[dict[str, Any]] = [
    {}, {"num_negatives": 1}, {"range_min": 5, "range_max": 12}, {"max_score": 0.8},
    {"absolute_margin": 0.05}, {"relative_margin": 0.1, "range_max": 300},
    {"absolute_margin": 0.0, "relative_margin": 0.0}, {"min_score": 0.7},
    {"min_score": -0.2, "max_score": 0.1, "range_max": 390, "num_negatives": 5},
    {"absolute_margin": 5.0}]


def triplets(columns: Any) -> list[tuple[str, ...]]:
    return sorted(zip(columns["question"], columns["answer"], columns["negative"], strict=True))


@pytest.mark.parametrize("number", range(len(ARGUMENTS)))
@pytest.mark.parametrize("whole", [False, True])
def test_hard_negatives(whole: bool, number: int) -> None:
    """By the rule, in the most obvious way."""
    (pairs, model, corpus), given = case(), ARGUMENTS[number]
    texts = list(dict.fromkeys([*(corpus if whole else []), *pairs["answer"]]))
    negatives, expected = given.get("num_negatives", 3), []
    for anchor in dict.fromkeys(pairs["question"]):
        own = list(dict.fromkeys(b for a, b in zip(*pairs.values(), strict=True) if a == anchor))
        score = {text: float(model.rows[int(text)].astype(np.float64)
                             @ model.rows[int(anchor[:-1])]) for text in texts}
        least = min(score[text] for text in own)
        limited = {"absolute_margin", "relative_margin", "max_score"} & given.keys()
        most = max(len({b for a, b in zip(*pairs.values(), strict=True) if a == one})
                   for one in pairs["question"])
        end = given.get("range_max", given.get("range_min", 0) + most
                        + negatives * (10 if limited else 1))
        window = sorted(texts, key=lambda text: -score[text])[:end + most]
        found = [text for text in window if text not in own
                 and score[text] <= given.get("max_score", np.inf)
                 and score[text] >= given.get("min_score", -np.inf)
                 and score[text] <= least - given.get("absolute_margin", -np.inf)
                 and score[text] <= least - abs(least) * given.get("relative_margin", -np.inf)]
        found = found[given.get("range_min", 0):end][:negatives]
        expected += [(anchor, text, other) for text in own for other in found]
    made = mine_hard_negatives(pairs, model, corpus=corpus if whole else None, **given)
    assert triplets(made) == sorted(expected)
    assert list(made) == ["question", "answer", "negative"]
    drawn = mine_hard_negatives(pairs, model, corpus=corpus if whole else None,
                                sampling_strategy="random", seed=3, **given)
    assert len(drawn["negative"]) == len(expected)


@OF_OTHERS
@pytest.mark.parametrize("number", range(len(ARGUMENTS)))
def test_hard_negatives_are_those_of_sentence_transformers(number: int) -> None:
    theirs = pytest.importorskip("sentence_transformers.util").mine_hard_negatives
    datasets = pytest.importorskip("datasets")
    pairs, model, corpus = case()
    dataset = datasets.Dataset.from_dict(pairs)
    given = ARGUMENTS[number]
    expected = theirs(dataset, model, corpus=corpus, verbose=False, **given)
    assert triplets(mine_hard_negatives(dataset, model, corpus=corpus, **given)) == triplets(
        {name: list(expected[name]) for name in expected.column_names})


def test_hard_negatives_refuse() -> None:
    pairs, model, _ = case()
    for given, message in [({"num_negatives": 0}, "num_negatives"), (
            {"range_min": 3, "range_max": 5}, "num_negatives: expected 1 to 2"), (
            {"range_min": -1, "range_max": 5}, "num_negatives"),
            ({"sampling_strategy": "best"}, "sampling_strategy: .* got 'best'")]:
        with pytest.raises(ValueError, match=message):
            mine_hard_negatives(pairs, model, **given)  # type: ignore[arg-type]
