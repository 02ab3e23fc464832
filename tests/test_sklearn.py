"""The estimators of `farann.sklearn`: scikit-learn's own checks, answers against plain numpy."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import farann
from farann.sklearn import (
    FarthestPointSampler,
    FarthestPointTransformer,
    FurthestNeighbors,
    FurthestNeighborsTransformer,
)

METRICS = ("l2", "dot", "cosine")
rng = np.random.default_rng(0)
X = rng.integers(-2, 3, (60, 3)).astype(np.float64)
X[[4, 17, 59]] = 0.0  # and others are zero by chance, and many are equal
Q = np.vstack([rng.integers(-2, 3, (9, 3)), np.zeros((1, 3))])


def distances_of(queries: npt.NDArray[Any], metric: str) -> npt.NDArray[np.float64]:
    if metric == "l2":
        return np.asarray(np.sqrt(((queries[:, None] - X[None]) ** 2).sum(axis=2)))
    products = queries @ X.T
    if metric == "dot":
        return np.asarray(-products)
    norms = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(X, axis=1)
    cosines = np.divide(products, norms, out=np.zeros_like(products), where=norms > 0)
    return np.asarray(1.0 - cosines)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", [FurthestNeighbors, FurthestNeighborsTransformer,
                                  FarthestPointSampler, FarthestPointTransformer])
def test_checks_of_scikit_learn(kind: Any, metric: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = check_estimator(kind(metric=metric), on_fail=None)
    failed = [(one["check_name"], one["exception"]) for one in done if one["status"] == "failed"]
    assert not failed and sum(one["status"] == "passed" for one in done) >= 40


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("own", [True, False])
def test_against_numpy(metric: str, own: bool) -> None:
    right = distances_of(X if own else Q, metric)
    there = np.ones(right.shape, np.bool_)
    if own:
        np.fill_diagonal(there, False)
    made = FurthestNeighbors(metric=metric).fit(X)
    given = None if own else Q
    for k in (1, 7, 59):
        far, ids = made.kneighbors(given, k)
        for i, one in enumerate(right):
            # Equal distances by index; rounding keeps what is equal equal.
            order = np.lexsort((np.arange(60), -np.round(one, 9)))
            order = order[there[i][order]][:k]
            np.testing.assert_allclose(far[i], one[order], atol=1e-6)
            np.testing.assert_allclose(far[i], one[ids[i]], atol=1e-6)
            assert len(set(ids[i])) == k and (not own or i not in ids[i])
            if metric != "cosine":  # whose products of irrational numbers are equal by chance
                assert ids[i].tolist() == order.tolist()
    for radius in (-1.0, 0.9, 1.1, 2.5):
        far, ids = made.radius_neighbors(given, radius)
        for i, one in enumerate(right):
            assert sorted(ids[i]) == np.flatnonzero((one > radius) & there[i]).tolist()
            np.testing.assert_allclose(far[i], one[ids[i]], atol=1e-6)
            assert (np.diff(far[i]) <= 1e-6).all()


def test_rows_of_zeros_under_cosine() -> None:
    rows = np.array([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    made = FurthestNeighbors(metric="cosine").fit(rows)
    far, ids = made.kneighbors([[1.0, 0.0], [0.0, 0.0]], 5)
    assert ids.tolist() == [[2, 0, 3, 4, 1], [0, 1, 2, 3, 4]]
    assert far.tolist() == [[2, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
    assert made.kneighbors(n_neighbors=2, return_distance=False)[0].tolist() == [1, 2]
    nothing = FurthestNeighbors(metric="cosine").fit(rows[[0, 3]])
    assert nothing.kneighbors(rows[:2], 2)[1].tolist() == [[0, 1], [0, 1]]
    assert [len(one) for one in made.radius_neighbors(rows[:1], 1.0)[1]] == [0]
    directed = FurthestNeighbors(metric="cosine").fit(rows[[1, 2, 4]])
    for one in (made, directed):  # whether or not there are rows of zeros
        for zero in (0.0, 1e-60):  # which float32 doesn't tell from 0
            far, ids = one.kneighbors([[1.0, 0.0], [zero, 0.0]], 3)
            assert ids[1].tolist() == [0, 1, 2] and far[1].tolist() == [1, 1, 1]
            far, ids = one.radius_neighbors([[1.0, 0.0], [zero, 0.0]], 0.9)
            assert ids[1].tolist() == list(range(one.n_samples_fit_)) and set(far[1]) == {1.0}
            assert one.radius_neighbors([[zero, 0.0]], 1.0)[1][0].tolist() == []


def test_graphs_and_pipelines() -> None:
    made = FurthestNeighborsTransformer(n_neighbors=3)
    graph = make_pipeline(StandardScaler(), made).fit_transform(X)
    assert graph.shape == (60, 60) and graph.nnz == 180
    ones = FurthestNeighbors(n_neighbors=3).fit(X).kneighbors_graph()
    assert set(ones.data) == {1.0} and not ones.diagonal().any()
    with pytest.raises(ValueError, match="mode: expected one of"):
        made.kneighbors_graph(X, mode="distances")
    within = FurthestNeighbors(radius=4.0).fit(X)
    distances = np.sqrt(((X[:, None] - X) ** 2).sum(axis=2))
    far = np.where(distances > 4.0, distances, 0.0)
    assert 0 < np.count_nonzero(far) < far.size
    np.testing.assert_allclose(within.radius_neighbors_graph(mode="distance").toarray(), far,
                               rtol=1e-6)
    assert (within.radius_neighbors_graph(X).toarray() == (far > 0)).all()
    assert within.radius_neighbors_graph(X, 1e9).nnz == 0
    dense = clone(made).set_params(sparse_output=False, mode="connectivity").fit(X)
    assert (dense.transform(Q).sum(axis=1) == 3).all()
    names = dense.get_feature_names_out()
    assert len(names) == 60 and names[7] == "furthestneighborstransformer7"
    pytest.importorskip("pandas", reason="needs pandas")
    frame = dense.set_output(transform="pandas").transform(Q)
    assert frame.columns.tolist() == names.tolist()


def test_kept_and_refused() -> None:
    made = FurthestNeighbors(n_neighbors=4, metric="euclidean", recall=1.0, n_jobs=-1).fit(X)
    right = made.kneighbors(Q)
    again = pickle.loads(pickle.dumps(made))
    assert (again.kneighbors(Q)[1] == right[1]).all() and again.index_.metric == "l2"
    assert clone(made).get_params() == made.get_params()
    refused: list[tuple[Any, type[Exception]]] = [(0, ValueError), (61, ValueError),
                                                  (2.5, TypeError)]
    for bad, error in refused:
        with pytest.raises(error, match="n_neighbors"):
            made.kneighbors(Q, bad)
    with pytest.raises(ValueError, match="n_samples_fit - 1"):
        made.kneighbors(n_neighbors=60)
    with pytest.raises(TypeError, match="radius"):
        made.radius_neighbors(Q, "far")  # type: ignore[arg-type]
    with pytest.raises(NotFittedError):
        FurthestNeighbors().kneighbors(Q)
    with pytest.raises(ValueError, match="metric: expected"):
        FurthestNeighbors(metric="manhattan").fit(X)


@pytest.mark.parametrize("metric", METRICS)
def test_sampling(metric: str) -> None:
    start = 1
    made = FarthestPointTransformer(n_samples=12, metric=metric, start=start).fit(X)
    assert made.sample_indices_[0] == start and made.radii_[0] == np.inf
    assert len(set(made.sample_indices_)) == 12
    # Rows of zeros are at distance 1 from all, but are chosen last.
    rows = np.flatnonzero(X.any(axis=1)) if metric == "cosine" else np.arange(60)
    far = distances_of(X, metric)
    chosen = [start]
    for i, radius in zip(made.sample_indices_[1:], made.radii_[1:], strict=True):
        least = far[np.ix_(np.array(chosen), rows)].min(axis=0)
        least[np.isin(rows, chosen)] = -np.inf
        np.testing.assert_allclose([radius, far[chosen, i].min()], least.max(), atol=1e-6)
        chosen.append(int(i))
    np.testing.assert_allclose(made.transform(Q), distances_of(Q, metric)[:, chosen], atol=1e-6)
    sampler = FarthestPointSampler(n_samples=12, metric=metric, start=start)
    kept, labels = sampler.fit_resample(X, np.arange(60) // 2)
    assert labels.tolist() == [i // 2 for i in chosen] and (kept == X[chosen]).all()
    every = FarthestPointTransformer(n_samples=99, metric=metric).fit(X)
    assert sorted(every.sample_indices_) == list(range(60))
    assert pickle.loads(pickle.dumps(every)).transform(Q).shape == (10, 60)
    assert every.get_feature_names_out()[3] == "farthestpointtransformer3"


def test_the_loneliest_are_left_out_of_samples() -> None:
    index = farann.Index(metric="cosine")
    there = np.flatnonzero(X.any(axis=1))
    index.add(X[there], there)
    chosen = FarthestPointSampler(n_samples=99, metric="cosine", leave_out=0.3).fit(X)
    assert chosen.sample_indices_.tolist() == index.select_diverse(99, leave_out=0.3).ids.tolist()
    nothing = clone(chosen).set_params(n_samples=2).fit(np.zeros((4, 3)))
    assert nothing.sample_indices_.tolist() == [0, 1]


def test_samples_are_of_the_types_that_came() -> None:
    pandas = pytest.importorskip("pandas", reason="needs pandas")
    polars = pytest.importorskip("polars", reason="needs polars")
    labels = np.arange(60) % 3
    sampler = FarthestPointSampler(n_samples=9).fit(X)
    chosen = sampler.sample_indices_
    frame, names = pandas.DataFrame(X, columns=["a", "b", "c"]), pandas.Series(labels, name="kind")
    rows, kinds = sampler.fit_resample(frame, names)
    pandas.testing.assert_frame_equal(rows, frame.iloc[chosen])
    pandas.testing.assert_series_equal(kinds, names.iloc[chosen])
    rows, kinds = sampler.fit_resample(polars.DataFrame(X), polars.Series(labels))
    assert rows.equals(polars.DataFrame(X[chosen]))
    assert kinds.to_list() == labels[chosen].tolist()
    rows, kinds = sampler.fit_resample(csr_matrix(X, dtype=np.float32), labels.astype(np.int8))
    assert (rows.toarray() == X[chosen]).all() and rows.dtype == np.float32
    assert kinds.dtype == np.int8
    assert sum(sampler.sampling_strategy_.values()) == 9
    made = FarthestPointTransformer(n_samples=9).fit(csr_matrix(X))
    assert (made.transform(csr_matrix(Q)) == made.transform(Q)).all()


def test_sampling_refuses() -> None:
    for labels, words in ((np.ones(60), "y: expected two classes or more, got .*1.0.* alone"),
                          (np.linspace(0, 1, 60), "Unknown label type"),
                          (np.ones((60, 2), int), "one class a row"),
                          (np.arange(59) // 2, "inconsistent numbers of samples")):
        sampler = FarthestPointSampler()
        with pytest.raises(ValueError, match=words):
            sampler.fit_resample(X, labels)
        assert not hasattr(sampler, "sample_indices_")
    for options, words in (({"n_samples": 0}, "n_samples: expected 1"),
                           ({"start": 60}, "start: expected at most 59"),
                           ({"leave_out": 1.0}, "leave_out: expected a share"),
                           ({"start": 4, "metric": "cosine"}, "start: cosine needs")):
        with pytest.raises(ValueError, match=words):
            FarthestPointSampler(**options).fit(X)


@pytest.mark.parametrize("kind", ["random", "ties", "sparse"])
def test_near_miss_is_that_of_imbalanced_learn(kind: str) -> None:
    pytest.importorskip("imblearn", reason="needs imbalanced-learn")
    from imblearn.pipeline import make_pipeline as of_imblearn
    from imblearn.under_sampling import NearMiss
    from imblearn.utils.estimator_checks import estimator_checks_generator
    from scipy.sparse import csr_matrix

    from farann.adapters.imblearn import NearMiss2

    rng = np.random.default_rng(5)
    for n, minority, classes, k in ((300, 40, 2, 3), (200, 30, 3, 7), (50, 2, 4, 3)):
        rows: Any = rng.integers(0, 4, (n, 3)) if kind == "ties" else rng.standard_normal(
            (n, 5), dtype=np.float32)
        rows = csr_matrix(rows) if kind == "sparse" else rows.astype(np.float64)
        y = np.append(np.zeros(minority), 1 + np.arange(n - minority) % (classes - 1))
        for strategy in ("auto", {1: 35} if minority == 40 else "all"):
            ours = NearMiss2(n_neighbors=k, sampling_strategy=strategy)
            theirs = NearMiss(version=2, n_neighbors=k, sampling_strategy=strategy)
            (a, b), (c, d) = ours.fit_resample(rows, y), theirs.fit_resample(rows, y)
            kept = ours.sample_indices_
            assert type(a) is type(c) and (b == d).all() and (y[kept] == b).all()
            assert abs(a - rows[kept]).max() == 0.0
            assert sorted(kept) == sorted(theirs.sample_indices_)  # rounding may order equal means
    if kind == "random":
        checked = [check(estimator) for estimator, check in estimator_checks_generator(NearMiss2())]
        assert len(checked) >= 14
        assert of_imblearn(NearMiss2(n_jobs=2), LogisticRegression()).fit(X, X[:, 0] > 0.5)


def test_checks_and_pipelines_of_imbalanced_learn() -> None:
    checks = pytest.importorskip("imblearn.utils.estimator_checks", reason="needs imbalanced-learn")
    from imblearn.pipeline import make_pipeline as of_imblearn

    n_checks = 0
    for metric in METRICS:
        for estimator, check in checks.estimator_checks_generator(
                FarthestPointSampler(metric=metric)):
            check(estimator)
            n_checks += 1
    assert n_checks >= 45
    sampler, model = FarthestPointSampler(n_samples=30), LogisticRegression()
    y = X[:, 0] > 0
    made = of_imblearn(StandardScaler(), sampler, model).fit(X, y)
    rows, labels = sampler.fit_resample(StandardScaler().fit_transform(X), y)
    expected = LogisticRegression().fit(rows, labels)
    assert (made[-1].coef_ == expected.coef_).all() and made.predict(X).shape == (60,)
    assert made[1].sampling_strategy_ == sampler.sampling_strategy_
