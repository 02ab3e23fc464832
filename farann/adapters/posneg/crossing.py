"""Train on folds, calibrate on what was held out, train on everything: one ranker of all feedback.

Predictions for what each fold's models have not seen are what stacking learns from (van der Laan,
Polley and Hubbard, "Super learner", 2007).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farann._types import Float32Array, Float64Array, Int64Array, Rng
from farann.adapters.posneg import feedback, naming, stacking
from farann.adapters.posneg.calibration import fit_calibration, sklearn_module
from farann.adapters.posneg.fusion_ranker import FusionRanker
from farann.adapters.posneg.options import item_prior_of, preference_of
from farann.adapters.posneg.sides import Side
from farann.adapters.posneg.signed import (
    Members,
    Observed,
    SignedModel,
    members_of,
    observe,
    queries_of,
)
from farann.adapters.posneg.stack import Labels
from farann.contract import checks
from farann.contract.strings import are_strings

# Of each kind of label, for a scale of a fold's own.
_ENOUGH = 100
Trained = Sequence[tuple[SignedModel, npt.ArrayLike]]


class CrossFitted(NamedTuple):
    """What `cross_fit` gives.

    Attributes
    ----------
    ranker : FusionRanker
        Of the models that were trained on all feedback.
    queries : list of float32 (n_users, dim)
        These models' embeddings of all users, for `ranker.rank`.
    held_out : int
        Labels that the calibrations and weights were learned from.
    """

    ranker: FusionRanker
    queries: list[Float32Array]
    held_out: int


def cross_fit(train: Callable[[Int64Array, Int64Array, npt.NDArray[np.bool_]], Trained],
              users: npt.ArrayLike, items: npt.ArrayLike, labels: npt.ArrayLike, *, cv: Any = 5,
              times: npt.ArrayLike | None = None, user_ids: npt.ArrayLike | None = None,
              sample_weight: npt.ArrayLike | None = None, prior: float | None = None,
              item_prior: float | None = 4.0, drop: bool = True, unseen: int = 4,
              exposure: float = 0.75, seed: int = 0, rng: Rng = None,
              threads: int | None = None) -> CrossFitted:
    """A ranker whose models are trained on all feedback, and calibrated on none of theirs.

    Parameters
    ----------
    train : callable
        Gets users, items and labels of some feedback, int64, int64 and bool (m,), and returns a
        list of pairs: a `SignedModel`, and its float (n_users, dim) embeddings of all users. It
        is called once with everything, and once for each fold.
    users : array_like of int or str (n,)
        Numbers of users from 0: rows of those embeddings.
    items : array_like of int or str (n,)
        Ids that some model has, once it is trained on everything.
    labels : array_like of bool or int (n,)
        1 for a like, 0 (or -1) for a dislike.
    cv : int or scikit-learn splitter
        So many folds at random, or what splits rows: ``TimeSeriesSplit`` with `times`, say.
    times : array_like (n,), optional
        When feedback came: rows are put in this order before they are split.
    user_ids : array_like of int or str (n_users,), optional
        Whose each row of the embeddings is, if `users` has ids other than the rows' numbers;
        `train` gets numbers in any case.
    sample_weight, prior, drop, unseen, exposure, seed, rng
        As in `FusionRanker.fit`.
    item_prior, threads
        As in `FusionRanker`.

    Returns
    -------
    CrossFitted

    Notes
    -----
    What the models of different folds say is put on one scale, by the calibration of each fold,
    before weights are learned within users.

    Raises
    ------
    ValueError, TypeError
        For wrong arguments, models that differ between folds, or folds with one kind of label.
    KeyError
        If no model has an item.

    Examples
    --------
    >>> from farann.adapters.posneg import SignedModel, cross_fit
    >>> rng = np.random.default_rng(0)
    >>> taste, charm = rng.standard_normal((2, 50, 3))
    >>> who, what = rng.integers(0, 50, (2, 4000))
    >>> liked = rng.random(4000) < 1 / (1 + np.exp(-(taste[who] * charm[what]).sum(axis=1)))
    >>> def train(users, items, liked):
    ...     rated = np.zeros((50, 50))
    ...     np.add.at(rated, (users, items), np.where(liked, 1.0, -1.0))
    ...     u, s, v = np.linalg.svd(rated)
    ...     return [(SignedModel(v[:4].T, "both"), u[:, :4] * s[:4])]
    >>> fitted = cross_fit(train, who, what, liked)
    >>> fitted.ranker.rank(fitted.queries, k=3).ids.shape, fitted.held_out
    ((50, 3), 4000)
    """
    item_prior, threads = item_prior_of(item_prior), checks.to_threads(threads)
    preference = preference_of(exposure)
    sampling = feedback.Sampling(checks.to_int("unseen", unseen, 0, feedback.MOST_UNSEEN),
                                 checks.to_seed(seed, rng))
    names = None if user_ids is None else naming.fresh("user_ids", user_ids)
    who = _numbers(users, names)
    order = _order(times, len(who))
    ids = naming.fresh("items", items, again=True)
    if len(ids) != len(who):
        raise ValueError(f"items: expected {len(who)} ids, one a label, got {len(ids)}")
    who, ids = who[order], ids[order]
    liked = feedback.likes_of(labels, len(who))[order]
    folds = _folds(cv, sampling.seed, len(who))
    members, queries = _trained(train(who, ids, liked), None, threads)
    weight = None if sample_weight is None else checks.to_numbers("sample_weight", sample_weight)
    if weight is not None and weight.shape == who.shape:
        weight = weight[order]
    if names is not None and len(names) != len(queries[0]):
        raise ValueError(f"user_ids: expected {len(queries[0])} ids, one for each row of the "
                         f"users' embeddings, got {len(names)}")
    given = feedback.checked(queries, members.ids, ids, liked, feedback.Users(who, None), weight,
                             prior)
    everything = feedback.pairs_of(given, len(members.ids))
    # Rows of no weight were left out, so folds are of what is left.
    place = np.full(len(who), -1)
    counts = np.ones(len(who), np.bool_)
    if weight is not None:
        counts = weight / weight.max() >= feedback.LEAST_WEIGHT
    place[counts] = np.arange(len(given.items))
    parts, unknown, of_unknown = [], [], []
    for train_rows, test_rows in folds:
        fold, asked = _trained(train(who[train_rows], ids[train_rows], liked[train_rows]), members,
                               threads)
        rows = place[test_rows]
        rows = rows[rows >= 0]
        parts.append((rows, observe(fold, asked, given.users[rows], given.items[rows])))
        pairs = feedback.unseen_pairs(given.take(rows), len(members.ids), everything, sampling)
        if pairs is not None:
            askers = given.users[rows][pairs.rows]
            unknown.append(stacking.Unseen(askers, pairs.items,
                                           observe(fold, asked, askers, pairs.items)))
            of_unknown.append(len(parts) - 1)
    held = given.take(np.concatenate([rows for rows, _ in parts]))
    scales = _scales(members, [given.take(rows) for rows, _ in parts],
                     [observed for _, observed in parts])
    blend = stacking.learn(
        members, _joined(scales, range(len(parts)), [observed for _, observed in parts]),
        Labels(held.users, held.items, held.liked, held.weight), item_prior,
        drop=bool(drop), personal=len(queries[0]),
        unseen=None if not unknown else stacking.Unseen(
            np.concatenate([one.askers for one in unknown]),
            np.concatenate([one.items for one in unknown]),
            _joined(scales, of_unknown, [one.observed for one in unknown])),
        preference=preference)
    assert blend.personal is not None
    blend = replace(blend, personal=blend.personal._replace(ids=names))
    ranker = FusionRanker.made_of(members, item_prior, threads, blend)
    return CrossFitted(ranker, queries, len(held.items))


def _numbers(users: Any, names: naming.Ids | None) -> Int64Array:
    if names is not None:
        return feedback.Users(users, names).rows(len(names))
    if are_strings(users):
        raise TypeError("users: expected numbers of rows of the users' embeddings, got strings; "
                        "user_ids= says whose each row is")
    return checks.to_ids("users", users)


def _order(times: npt.ArrayLike | None, n: int) -> Int64Array:
    if times is None:
        return np.arange(n)
    when = checks.to_array("times", times)
    if when.shape != (n,):
        raise ValueError(f"times: expected shape ({n},), one a label, got {when.shape}")
    if when.dtype.kind not in "biufM":
        raise TypeError(f"times: expected numbers or dates, got {checks.what_is(when)}")
    if (when != when).any():
        raise ValueError("times: expected numbers or dates, got one that is none")
    return np.argsort(when, kind="stable")


def _folds(cv: Any, seed: int, n: int) -> list[tuple[Int64Array, Int64Array]]:
    """Rows to train on and rows held out, for each fold."""
    if isinstance(cv, (int, np.integer)) and not isinstance(cv, bool):
        cv = sklearn_module("model_selection").KFold(checks.to_int("cv", cv, 2, max(2, n)),
                                                     shuffle=True, random_state=seed)
    if isinstance(cv, str) or not hasattr(cv, "split"):
        raise TypeError("cv: expected a number of folds or a scikit-learn splitter, got "
                        f"{checks.shown(cv)}")
    splits: Iterable[tuple[Any, Any]] = cv.split(np.zeros((n, 1)))
    folds = [(np.asarray(train, np.int64), np.asarray(test, np.int64)) for train, test in splits]
    if not any(len(test) for _, test in folds):
        raise ValueError("cv: expected folds with rows held out, got none")
    if any(np.isin(test, train).any() for train, test in folds):
        raise ValueError("cv: expected rows held out that the fold doesn't train on")
    return folds


def _trained(pairs: Trained, final: Members | None, threads: int | None
             ) -> tuple[Members, list[Float32Array]]:
    """Checked models with their users; with `final`, over the items of those."""
    models = [model for model, _ in pairs]
    members = members_of(models, threads)
    if final is not None:
        if members.signs != final.signs:
            raise ValueError("train: expected models of the same signs for each fold, "
                             f"{', '.join(map(str, final.signs))}, got "
                             + ", ".join(map(str, members.signs)))
        sides = []
        for model in models:
            known = naming.places(final.ids, model.ids) >= 0
            sides.append(Side(model.rows[known], np.searchsorted(final.ids, model.ids[known]),
                              len(final.ids), model.metric, threads))
        members = final._replace(sides=tuple(sides))
    asked, _ = queries_of(members, [users for _, users in pairs], [True] * len(pairs),
                          single=False)
    return members, [each for each in asked if each is not None]


class _Scales(NamedTuple):
    """How each fold's models are put on the scale of all folds, (n_folds, n_models) each.

    Attributes
    ----------
    factor, shift : float64
        Similarities are multiplied by the one and moved by the other.
    length : float64
        What is added to the logarithm of the lengths of items.
    """

    factor: Float64Array
    shift: Float64Array
    length: Float64Array


def _scales(members: Members, given: Sequence[feedback.Feedback], said: Sequence[Observed]
            ) -> _Scales:
    """Scales by Platt's calibration of each fold.

    Models that were trained apart may differ in size and zero. One user's feedback is in several
    folds, so what the models of different folds say of it must be comparable. Where a fold has
    little feedback, or a model doesn't order it, its scale is left alone.
    """
    slope, constant, length = (np.full((len(given), len(members.names)), np.nan) for _ in range(3))
    for fold, (part, observed) in enumerate(zip(given, said, strict=True)):
        for m, sign in enumerate(members.signs):
            known = ~np.isnan(observed.similar[:, m])
            target = (part.liked if sign != -1 else ~part.liked)[known]
            if known.any():
                length[fold, m] = observed.lengths[known, m].mean()
            if min(target.sum(), len(target) - target.sum()) < _ENOUGH:
                continue
            line = fit_calibration(members.names[m], "platt", observed.similar[known, m], target,
                                   part.weight[known]).linear
            if line is not None and line.slope > 0:
                slope[fold, m], constant[fold, m] = line
    counts = np.array([[len(part.items)] for part in given], np.float64)

    def common(values: Float64Array) -> Float64Array:
        times = np.where(np.isnan(values), 0.0, counts)
        total: Float64Array = (np.where(np.isnan(values), 0.0, values) * times).sum(axis=0)
        return np.where(times.any(axis=0), total / np.maximum(times.sum(axis=0), 1.0), np.nan)

    slopes, constants = common(slope), common(constant)
    factor, shift = slope / slopes, (constant - constants) / slopes
    return _Scales(np.where(np.isnan(factor), 1.0, factor), np.nan_to_num(shift),
                   np.nan_to_num(common(length) - length))


def _joined(scales: _Scales, folds: Iterable[int], parts: Sequence[Observed]) -> Observed:
    """Of all folds, on one scale."""
    return Observed(
        np.concatenate([part.similar * scales.factor[fold] + scales.shift[fold]
                        for fold, part in zip(folds, parts, strict=True)]),
        np.concatenate([part.lengths + scales.length[fold]
                        for fold, part in zip(folds, parts, strict=True)]))
