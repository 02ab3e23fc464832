"""Metrics of rankings and probabilities, with confidence intervals over users.

Functions that judge answers take `ids` as searches return them, (n_queries, m) padded with -1,
and give one number a query, NaN where it isn't defined (a user without any relevant item, say).
`mean_interval` makes a mean with an interval of them.

>>> from farann import metrics
>>> ids, liked = [[4, 7, 1], [2, 3, -1]], [[1, 4], [9]]
>>> metrics.recall_at_k(ids, liked, k=2)
array([0.5, 0. ])
>>> mean, low, high = metrics.mean_interval(metrics.ndcg_at_k(ids, liked, k=3))
>>> round(mean, 3)
0.46
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farann._types import BoolArray, Float64Array, Int64Array, Rng
from farann.contract import checks

__all__ = ["Interval", "Reliability", "auc_by_user", "average_precision", "bootstrap_interval",
           "disliked_at_k", "expected_calibration_error", "mean_interval", "ndcg_at_k",
           "recall_at_k", "reciprocal_rank", "reliability"]

# Most bins, samples and users: more take gigabytes or hours, and improve nothing.
_MOST_BINS = _MOST_SAMPLES = 1 << 24
_MOST_USERS = 1 << 28


class Interval(NamedTuple):
    """An estimate with the ends of its confidence interval."""

    mean: float
    low: float
    high: float


class Reliability(NamedTuple):
    """Predicted and observed shares by bins; bins without predictions are left out.

    Attributes
    ----------
    predicted, observed : float64 (n_bins,)
        Mean prediction and share of ones in each bin.
    weight : float64 (n_bins,)
        Share of all predictions that fall in the bin.
    """

    predicted: Float64Array
    observed: Float64Array
    weight: Float64Array


# ---- rankings ----


def recall_at_k(ids: npt.ArrayLike, relevant: Any, k: int) -> Float64Array:
    """Share of the relevant items that are among the first k.

    Parameters
    ----------
    ids : array_like of int (n_queries, m)
        Found ids, best first, padded with -1; m of k or more, or fewer if no more were found.
    relevant : array_like of int (n_queries, r) padded with -1, or a sequence of arrays
    k : int

    Returns
    -------
    float64 (n_queries,)
    """
    hits, count, _ = _hits(ids, relevant, k)
    return _ratio(hits.sum(axis=1), count)


def ndcg_at_k(ids: npt.ArrayLike, relevant: Any, k: int) -> Float64Array:
    """Normalized discounted cumulative gain of the first k, for items relevant or not.

    Parameters and return value are those of `recall_at_k`. The gain of a relevant item at
    rank r is 1 / log2(r + 1), and the sum is divided by the largest possible one.
    """
    k = checks.to_int("k", k, 1)
    hits, count, _ = _hits(ids, relevant, k)
    most = max(hits.shape[1], int(count.max(initial=0)))  # relevant items, whatever k is
    discount = 1.0 / np.log2(np.arange(2, most + 2))
    best = np.concatenate([[0.0], np.cumsum(discount)])[np.minimum(count, k)]
    return _ratio(hits @ discount[: hits.shape[1]], best)


def reciprocal_rank(ids: npt.ArrayLike, relevant: Any, k: int | None = None) -> Float64Array:
    """One over the rank of the first relevant item, 0 if none was found; its mean is the MRR.

    Parameters and return value are those of `recall_at_k`; without k all ids count.
    """
    hits, count, _ = _hits(ids, relevant, k)
    first = (hits / np.arange(1, hits.shape[1] + 1)).max(axis=1, initial=0.0)
    return np.where(count > 0, first, np.nan)


def average_precision(ids: npt.ArrayLike, relevant: Any, k: int | None = None) -> Float64Array:
    """Mean of the precision at each relevant item's rank; its mean over queries is the MAP.

    Parameters and return value are those of `recall_at_k`; without k all ids count. Relevant
    items that were not found count as 0, up to k of them.
    """
    hits, count, _ = _hits(ids, relevant, k)
    precision = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    return _ratio((precision * hits).sum(axis=1), count if k is None else np.minimum(count, k))


def disliked_at_k(ids: npt.ArrayLike, disliked: Any, k: int) -> Float64Array:
    """Share of known dislikes among the first k, or among fewer if fewer were found.

    Parameters and return value are those of `recall_at_k`, with dislikes for relevant items; NaN
    where nothing was found or nothing is known to be disliked.
    """
    hits, count, listed = _hits(ids, disliked, k, "disliked")
    return np.where(count > 0, _ratio(hits.sum(axis=1), listed), np.nan)


def _hits(ids: npt.ArrayLike, relevant: Any, k: int | None,
          name: str = "relevant") -> tuple[BoolArray, Int64Array, Int64Array]:
    """Mask of the found ids that are relevant, (n_queries, m), and the numbers of relevant ids and
    of found ones, (n_queries,)."""
    listed = checks.to_array("ids", ids)
    if listed.ndim != 2 or (listed.size and listed.dtype.kind not in "iu"):
        raise ValueError(f"ids: expected ints of shape (n_queries, m), got {listed.dtype} "
                         f"{listed.shape}")
    listed = listed[:, : None if k is None else checks.to_int("k", k, 1)].astype(np.int64)
    known, offsets = checks.to_listed_ids(name, relevant, len(listed))
    hits, count = np.zeros(listed.shape, np.bool_), np.zeros(len(listed), np.int64)
    for i, (start, end) in enumerate(pairwise(offsets)):
        good = np.unique(known[start:end])
        good = good[good >= 0]
        hits[i], count[i] = np.isin(listed[i], good), len(good)
        real = listed[i][listed[i] >= 0]
        if len(np.unique(real)) < len(real):
            raise ValueError("ids: expected each id once a query")
    return hits, count, (listed >= 0).sum(axis=1)


def _ratio(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> Float64Array:
    """Quotients; NaN where there is nothing to divide by."""
    ratio = np.full(len(part), np.nan)
    np.divide(part, whole, out=ratio, where=whole > 0)
    return ratio


# ---- scores and probabilities ----


def auc_by_user(users: npt.ArrayLike, labels: npt.ArrayLike, scores: npt.ArrayLike) -> Float64Array:
    """Area under the ROC curve of each user's own feedback; equal scores count half.

    Parameters
    ----------
    users : array_like of int (n,)
    labels : array_like of bool (n,)
        Whether the item was liked.
    scores : array_like of float (n,)

    Returns
    -------
    float64 (n_users,)
        In the order of ``numpy.unique(users)``; NaN for users with likes or dislikes only.

    Examples
    --------
    >>> auc_by_user([5, 5, 5, 8], [1, 0, 1, 1], [0.9, 0.5, 0.2, 0.1])
    array([0.5, nan])
    """
    user, label, score = _columns(users=users, labels=labels, scores=scores)
    _, user = np.unique(user, return_inverse=True)
    label = label.astype(np.bool_)
    order = np.lexsort((score, user))
    user, label, score = user[order], label[order], score[order]
    n_users = int(user[-1]) + 1 if len(user) else 0
    # The mean rank of equal scores, counted within the user.
    new = (user[1:] != user[:-1]) | (score[1:] != score[:-1])
    run = np.cumsum(np.append(True, new))[: len(user)]
    rank = ((np.searchsorted(run, run) + np.searchsorted(run, run, "right") + 1) / 2.0
            - np.searchsorted(user, user))
    likes = np.bincount(user, weights=label, minlength=n_users)
    dislikes = np.bincount(user, minlength=n_users) - likes
    above = np.bincount(user, weights=rank * label, minlength=n_users) - likes * (likes + 1) / 2
    return _ratio(above, likes * dislikes)


def reliability(probabilities: npt.ArrayLike, labels: npt.ArrayLike, bins: int = 10,
                strategy: str = "uniform") -> Reliability:
    """Predicted and observed shares by bins of the prediction, as in reliability diagrams.

    Parameters
    ----------
    probabilities : array_like of float (n,)
        Between 0 and 1.
    labels : array_like of bool (n,)
    bins : int
    strategy : {"uniform", "quantile"}
        Bins of equal width, or of equally many predictions.
    """
    chance, label = _columns(probabilities=probabilities, labels=labels)
    if len(wrong := chance[(chance < 0) | (chance > 1)]):
        raise ValueError(f"probabilities: expected numbers between 0 and 1, got {wrong[0]}")
    checks.to_choice("strategy", strategy, ("uniform", "quantile"))
    steps = np.linspace(0.0, 1.0, checks.to_int("bins", bins, 1, _MOST_BINS) + 1)
    if strategy == "quantile" and len(chance):
        steps = np.quantile(chance, steps)
    at = np.searchsorted(steps[1:-1], chance, side="right")
    count = np.bincount(at, minlength=bins)
    used = count > 0
    predicted = np.bincount(at, weights=chance, minlength=bins)[used] / count[used]
    observed = np.bincount(at, weights=label, minlength=bins)[used] / count[used]
    return Reliability(predicted, observed, count[used] / max(1, len(chance)))


def expected_calibration_error(probabilities: npt.ArrayLike, labels: npt.ArrayLike,
                               bins: int = 10, strategy: str = "uniform") -> float:
    """Mean distance between predicted and observed shares, weighted by predictions in a bin.

    Parameters are those of `reliability`; see Guo et al., "On calibration of modern neural
    networks" (ICML 2017).

    Examples
    --------
    >>> round(expected_calibration_error([0.1, 0.1, 0.9, 0.9], [0, 0, 1, 0]), 3)
    0.25
    """
    predicted, observed, weight = reliability(probabilities, labels, bins, strategy)
    return float((weight * np.abs(predicted - observed)).sum()) if len(weight) else float("nan")


def _columns(**columns: npt.ArrayLike) -> list[npt.NDArray[Any]]:
    """Arrays of one dimension and one length, of finite numbers."""
    arrays = [checks.to_array(name, value) for name, value in columns.items()]
    for name, array in zip(columns, arrays, strict=True):
        if array.shape != (len(arrays[0].ravel()),):
            raise ValueError(f"{name}: expected shape ({arrays[0].size},), got {array.shape}")
        if array.size and array.dtype.kind not in "biuf":
            raise TypeError(f"{name}: expected numbers, got {checks.what_is(array)}")
        if np.isnan(array).any():
            raise ValueError(f"{name}: expected numbers, got NaN")
    return arrays


# ---- intervals ----


def mean_interval(values: npt.ArrayLike, *, confidence: float = 0.95, samples: int = 2000,
                  seed: int = 0, rng: Rng = None) -> Interval:
    """Mean of one number a user, with a percentile bootstrap interval over users.

    Parameters
    ----------
    values : array_like of float (n_users,)
        NaN is left out; without values all is NaN. For two methods on the same users take the
        differences: their interval is much narrower.
    confidence : float
    samples : int
        Bootstrap samples.
    seed : int
    rng : int or numpy.random.Generator, BitGenerator or SeedSequence, optional
        In place of `seed` (SPEC 7).

    Examples
    --------
    >>> mean_interval([0.5, 0.5, 0.5])
    Interval(mean=0.5, low=0.5, high=0.5)
    """
    array = checks.to_numbers("values", values)
    if array.ndim != 1:
        raise ValueError(f"values: expected shape (n_users,), got {array.shape}")
    if np.isinf(array).any():
        raise ValueError("values: expected finite numbers or NaN, got infinity")
    array = array[~np.isnan(array)]
    if not len(array):
        return Interval(float("nan"), float("nan"), float("nan"))
    return bootstrap_interval(lambda users: float(array[users].mean()), len(array),
                              confidence=confidence, samples=samples, seed=seed, rng=rng)


def bootstrap_interval(statistic: Callable[[Int64Array], float], n_users: int, *,
                       confidence: float = 0.95, samples: int = 2000, seed: int = 0,
                       rng: Rng = None) -> Interval:
    """Any statistic of users, with a percentile bootstrap interval over them.

    See Efron and Tibshirani, "An introduction to the bootstrap" (1993).

    Parameters
    ----------
    statistic : callable
        Gets numbers of users, int64 (n_users,), some of them several times.
    n_users : int
    confidence, samples, seed, rng
        As in `mean_interval`.
    """
    confidence = checks.to_float("confidence", confidence)
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: expected a number between 0 and 1, got {confidence:g}")
    if not callable(statistic):
        raise TypeError(f"statistic: expected a function, got {checks.shown(statistic)}")
    n_users = checks.to_int("n_users", n_users, 1, _MOST_USERS)
    samples = checks.to_int("samples", samples, 1, _MOST_SAMPLES)
    draw = np.random.default_rng(checks.to_seed(seed, rng))
    values = [statistic(draw.integers(0, n_users, n_users)) for _ in range(samples)]
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(statistic(np.arange(n_users))), float(low), float(high))
