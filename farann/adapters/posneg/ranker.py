"""Rank items by any number of models of what people like, what they dislike, or both."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farann._types import BoolArray, Float32Array, Float64Array, Int64Array, Rng
from farann.adapters.posneg import evaluation, files, ids
from farann.adapters.posneg.evaluation import THIS, Evaluation, Finding, Method, Seen
from farann.adapters.posneg.factorization import Factorization
from farann.adapters.posneg.ids import Ids
from farann.adapters.posneg.models import (
    LinearForm,
    Models,
    SignedModel,
    coordinates,
    laid_out,
)
from farann.adapters.posneg.regression import (
    Feedback,
    Learned,
    ModelReport,
    Pairs,
    learn,
    unseen_pairs,
)
from farann.contract import checks
from farann.index import Index

Trainer = Callable[[Any, Any, BoolArray], Sequence[SignedModel]]
# Float64 numbers made at a time where answers are taken apart: 32 MiB.
_BLOCK = 1 << 22
_RAW, _RECORD = "average of raw scores", "items' record alone"


class FusionHits(NamedTuple):
    """Items of each user, and why they are there; of a single user without the first axis.

    Attributes
    ----------
    scores : float64 (n_users, k)
        What they are ordered by, largest first. NaN where there are fewer items.
    ids : int64 or object (n_users, k)
        The items' ids; -1, or None among strings, where there are fewer.
    probability : float64 (n_users, k)
        The chance that the user likes the item if it is shown. It counts what the user is like
        where `fit` knew them: some like nearly all that they see.
    parts : dict of float64 (n_users, k)
        What the score consists of: by the name of each model what that adds, and under "items"
        what the item itself adds. They sum to the score.
    """

    scores: Float64Array
    ids: Ids
    probability: Float64Array
    parts: dict[str, Float64Array]


class _State(NamedTuple):
    """What `fit` found, swapped in at once."""

    models: Models
    learned: Learned
    rows: Float32Array
    index: Index


class FusionRanker:
    """Rank items near in models of likes and far in models of dislikes, by any number of models.

    `fit` learns by one logistic regression, with an intercept for each user, what each model's
    score and each item's record say about a like. The log-odds are one dot product, so that one
    index finds the best of all items exactly.

    Parameters
    ----------
    models : sequence of SignedModel, or callable, optional
        Models, which `fit` calibrates by feedback that they were not trained on; or what trains
        models, which `fit` cross-fits: it gets ids of users and of items (n,) and whether they
        were liked, bool (n,), and returns a list of SignedModel. By default `Factorization()`.
    threads : int, optional
        For batches, as in `Index`.

    Notes
    -----
    The score among shown items is the sum over models of weight times (score - mean score), and
    the item's record, if that helps to tell held-out labels; log-odds of a like are that, a
    constant and the user's intercept. An item or a user that a model lacks counts as average
    there. On all items, "never shown" isn't "not disliked": `fit` also learns what tells shown
    items from others, and the score among all items is the log-odds of being shown plus
    `exposure` times those of a like. Equal scores are ordered by id.

    A ranker may be used by any number of threads; `rank` sees what `fit` found before or after,
    never between.

    Examples
    --------
    >>> from farann.adapters.posneg import FusionRanker
    >>> rng = np.random.default_rng(0)
    >>> taste, charm = rng.standard_normal((2, 60, 3))
    >>> users, items = rng.integers(0, 60, (2, 2000))
    >>> liked = rng.random(2000) < 1 / (1 + np.exp(-(taste[users] * charm[items]).sum(axis=1)))
    >>> ranker = FusionRanker().fit(users, items, liked)
    >>> ranker
    <FusionRanker: 60 items, positive, negative, logistic, regression, graph, fitted>
    >>> hits = ranker.rank([0, 1], k=3)
    >>> hits.ids.shape, sorted(hits.parts)
    ((2, 3), ['graph', 'items', 'logistic', 'negative', 'positive', 'regression'])
    """

    def __init__(self, models: Sequence[SignedModel] | Trainer | None = None, *,
                 threads: int | None = None) -> None:
        self._threads = checks.to_threads(threads)
        self._train: Trainer | None = None
        self._models: Models | None = None
        if models is None or (callable(models) and not isinstance(models, SignedModel)):
            self._train = Factorization() if models is None else models
        else:
            self._models = Models.of(models)
        self._state: _State | None = None

    # ---- what it knows ----

    @property
    def ids(self) -> Ids:
        """Ids of all items in ascending order, which is that of boolean masks."""
        return self._lined_up().ids.copy()

    @property
    def user_ids(self) -> Ids:
        """Ids of all users in ascending order."""
        return self._lined_up().user_ids.copy()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the models, in the order in which queries are given."""
        return self._lined_up().names

    @property
    def report(self) -> tuple[ModelReport, ...]:
        """What `fit` made of each model: its weight, its share in the score, its AUC alone."""
        return self._fitted().learned.reports

    @property
    def item_log_odds(self) -> Float64Array:
        """What each item adds to log-odds of a like, whoever asks, (len(ids),)."""
        return self._fitted().learned.items.copy()

    def __repr__(self) -> str:
        models = self._models if self._state is None else self._state.models
        if models is None:
            return f"<FusionRanker: {self._train!r}, not fitted>"
        return (f"<FusionRanker: {len(models.ids):,} items, {', '.join(models.names)}, "
                f"{'not ' if self._state is None else ''}fitted>")

    # ---- learning ----

    def fit(self, users: npt.ArrayLike, items: npt.ArrayLike, labels: npt.ArrayLike, *,
            cv: Any = None, sample_weight: npt.ArrayLike | None = None, unseen: int = 4,
            exposure: float = 0.75, seed: int = 0, rng: Rng = None) -> FusionRanker:
        """Learn what the models' scores say about a like.

        Parameters
        ----------
        users, items : array_like of int or str (n,)
            Who was shown what. A user may have been shown an item more than once.
        labels : array_like of bool or int (n,)
            1 for a like (or click), 0 or -1 for a dislike (or what was passed over).
        cv : int or list of (array_like of int, array_like of int), optional
            With a trainer: in how many folds it is trained, by default 5, or rows to train on and
            rows held out of each fold. Weights are learned from held-out rows; then it is trained
            on everything.
        sample_weight : array_like of float (n,), optional
            How much each label counts for the weights: one over the chance that it was shown,
            say, or the true over the sampled share of likes.
        unseen : int
            Items drawn for each label that its user wasn't shown, to learn what is shown. 0
            leaves exposure out.
        exposure : float
            How much log-odds of a like count beside log-odds of being shown, where all items are
            ranked. Small numbers keep hits, large ones avoid dislikes.
        seed : int
            For folds and for unseen items.
        rng : int or numpy.random.Generator, BitGenerator or SeedSequence, optional
            In the place of `seed` (SPEC 7).

        Returns
        -------
        FusionRanker
            The ranker itself.

        Raises
        ------
        ValueError, TypeError
            For wrong shapes or labels, feedback of one kind only, and a model whose sign turns
            out swapped. The ranker keeps what it had found before.
        KeyError
            If no model has a user or an item.

        Examples
        --------
        >>> from farann.adapters.posneg import FusionRanker, SignedModel
        >>> rng = np.random.default_rng(0)
        >>> films, people = rng.standard_normal((2, 100, 8))
        >>> who, what = rng.integers(0, 100, (2, 3000))
        >>> liked = rng.random(3000) < 1 / (1 + np.exp(-(people[who] * films[what]).sum(axis=1)))
        >>> ranker = FusionRanker([SignedModel(films, people)]).fit(who, what, liked)
        >>> ranker.report[0].name, round(ranker.report[0].auc, 1)
        ('positive', 0.9)
        """
        who, what = ids.checked("users", users), ids.checked("items", items)
        if len(who) != len(what):
            raise ValueError(f"items: expected {len(who)} ids, one for each of users, got "
                             f"{len(what)}")
        if not len(who):
            raise ValueError("users: expected feedback, got none")
        liked, weight = _likes(labels, len(who)), _weights(sample_weight, len(who))
        each = checks.to_int("unseen", unseen, 0, 1000)
        preference = _preference(exposure)
        random = np.random.default_rng(checks.to_seed(seed, rng))
        if self._train is None:
            assert self._models is not None
            if cv is not None:
                raise ValueError("cv: expected None for models that are trained already; give "
                                 "the ranker what trains them")
            folds = [(np.empty(0, np.int64), np.arange(len(who)))]
            final = self._models
        else:
            folds = _folds(cv, len(who), random)
            final = _trained(self._train, who, what, liked, None)
        at, item_at = (ids.known("users", who, final.user_ids),
                       ids.known("items", what, final.ids))
        similar, others, held, group = [], [], [], []
        for fold, (some, rest) in enumerate(folds):
            models = final
            if self._train is not None:
                models = _trained(self._train, who[some], what[some], liked[some], final)
            similar.append(models.similarities(at[rest], item_at[rest]))
            drawn = unseen_pairs(at[rest], item_at[rest], len(final.ids), (at, item_at), each,
                                 random)
            others.append(Pairs(*drawn, models.similarities(*drawn)))
            held.append(rest)
            group.append(fold * len(final.user_ids) + at[rest])
        rows = np.concatenate(held)
        feedback = Feedback(at[rows], item_at[rows], liked[rows],
                            weight[rows] / max(weight[rows].mean(), 1e-300),
                            np.concatenate(group))
        pairs = Pairs(*(np.concatenate(part) for part in zip(*others, strict=True)))
        learned = learn(final, feedback, np.vstack(similar), pairs if each else None, preference)
        self._state = self._state_of(final, learned)
        return self

    def replace(self, models: Sequence[SignedModel]) -> FusionRanker:
        """Put models that were trained anew under what this ranker has learned.

        Parameters
        ----------
        models : sequence of SignedModel
            Of the same names, signs and dimensions, in the same order. Items and users may come
            and go.

        Returns
        -------
        FusionRanker
            A new one; this one stays as it is. New items have no record and were never shown.

        Raises
        ------
        ValueError
            For models of other names, signs or dimensions.
        """
        state, after = self._fitted(), Models.of(models)
        _check_alike(after, state.models)
        before, learned = state.models, state.learned
        exposure = learned.exposure
        if exposure is not None:
            exposure = exposure._replace(items=ids.by_id(
                before.ids, exposure.items, after.ids, float(exposure.items.min())))
        learned = learned._replace(
            exposure=exposure,
            record=ids.by_id(before.ids, learned.record, after.ids, 0.0),
            items=ids.by_id(before.ids, learned.items, after.ids, 0.0),
            users=ids.by_id(before.user_ids, learned.users, after.user_ids, 0.0))
        return self._made_of(after, learned, self._threads)

    # ---- asking ----

    def rank(self, users: npt.ArrayLike | None = None, k: int = 10, *, queries: Any = None,
             among: str = "all", exposure: float | None = None, exclude: Any = None,
             allowed: Any = None) -> FusionHits:
        """Find the k best items, exactly.

        Parameters
        ----------
        users : int, str, or array_like of these (n_users,), optional
            Users of the models.
        k : int
            Beyond the number of items answers are padded, as in `Index.search_furthest`.
        queries : sequence of array_like (n_users, dim) or (dim,), or dict by name, optional
            In the place of `users`: embeddings of people by each model. None, or zeros, stand for
            a model that doesn't know them.
        among : {"all", "shown"}
            Whether to choose from everything, or from what could be shown anyway, as the
            candidates of an earlier stage: then exposure is left out of account.
        exposure : float, optional
            In the place of that of `fit`.
        exclude, allowed : optional
            Ids to leave out per user, and the only ids (or a mask in the order of `ids`) that
            may be found, as in `Index.search_furthest`.

        Returns
        -------
        FusionHits

        Raises
        ------
        ValueError, TypeError
            For wrong shapes or options.
        KeyError
            If no model has a user.
        RuntimeError
            Before `fit`.
        """
        state = self._fitted()
        form = self._form(state, among, exposure)
        query, rows, single = self._asked(state, users, queries)
        vectors = query * form.scale
        hits = state.index.search_nearest(vectors[0] if single else vectors, k, exclude=exclude,
                                          allowed=allowed, threads=self._threads,
                                          return_keys=True)
        found, scores = np.atleast_2d(hits.ids), np.atleast_2d(hits.keys)
        at = _places(state.models.ids, found)
        parts, chance = self._taken_apart(state, form, query, rows, at)
        scores = np.where(at < 0, np.nan, scores)
        return _hits(scores, found, chance, parts, single)

    def score(self, users: npt.ArrayLike | None = None, items: npt.ArrayLike | None = None, *,
              queries: Any = None, among: str = "all", exposure: float | None = None
              ) -> FusionHits:
        """Score items of one's choice.

        Parameters
        ----------
        users, queries, among, exposure
            As in `rank`; the scores are the same numbers.
        items : array_like of int or str (n_items,), optional
            By default all of them, in the order of `ids`.

        Returns
        -------
        FusionHits
            Of shape (n_users, n_items), in the order of `items`.

        Raises
        ------
        ValueError, TypeError, KeyError, RuntimeError
            As in `rank`, and KeyError if no model has an item.
        """
        state = self._fitted()
        form = self._form(state, among, exposure)
        query, rows, single = self._asked(state, users, queries)
        at = (np.arange(len(form.ids)) if items is None
              else ids.known("items", items, state.models.ids))
        parts, chance = self._taken_apart(state, form, query, rows, at)
        found = np.broadcast_to(form.ids[at], chance.shape)
        return _hits(sum(parts.values(), np.zeros(chance.shape)), found, chance, parts, single)

    def linear(self, among: str = "all", exposure: float | None = None) -> LinearForm:
        """The score as one dot product, for a layer, an index or a server.

        Parameters
        ----------
        among, exposure
            As in `rank`.

        Returns
        -------
        LinearForm
            Before `fit` the plain average of the models' scores, those of sign -1 times -1.
        """
        if self._state is not None:
            return self._form(self._state, among, exposure)
        models = self._lined_up()
        nothing = np.zeros(len(models.ids))
        weights = models.directions / len(models.names)
        return _form_of(models, laid_out(models.items, models.has, nothing, nothing), weights,
                        np.zeros(len(weights)), (0.0, 0.0), float("nan"))

    # ---- judging ----

    def evaluate(self, users: npt.ArrayLike, items: npt.ArrayLike, labels: npt.ArrayLike, *,
                 k: int = 10) -> Evaluation:
        """Compare this ranker with simpler ways, on feedback that nothing has seen.

        Parameters
        ----------
        users, items, labels
            Feedback as in `fit`: neither the models nor `fit` may have had it.
        k : int
            How much of a list counts. Users with more items than that are ranked.

        Returns
        -------
        Evaluation
            The rows are each model alone, the average of raw scores, the items' record, this
            ranker, and an oracle that knows the labels; ``str()`` makes a table of it, and
            `Evaluation.advice` says which to use.

        Raises
        ------
        ValueError, TypeError, KeyError, RuntimeError
            As from `fit`, and before it.
        """
        k, state = checks.to_int("k", k, 1), self._fitted()
        models, learned = state.models, state.learned
        who, what, liked = self._given(models, users, items, labels)
        similar = models.similarities(who, what)
        scores = np.where(np.isnan(similar), learned.centers, similar)
        said = models.directions * scores
        fused = (scores - learned.centers) @ learned.weights + learned.items[what]
        methods = [Method(f"{name} model alone", column)
                   for name, column in zip(models.names, said.T, strict=True)]
        methods += [Method(_RAW, said.mean(axis=1)), Method(_RECORD, learned.record[what]),
                    Method(THIS, fused, _chance(fused + learned.intercept + learned.users[who]))]
        return evaluation.evaluate(who, liked, methods, k)

    def diagnose(self, users: npt.ArrayLike, items: npt.ArrayLike, labels: npt.ArrayLike
                 ) -> list[Finding]:
        """Name what is wrong with models or labels, by feedback as in `fit`.

        Parameters
        ----------
        users, items, labels
            Given feedback other than that of `fit`, it also tells if models were trained on the
            latter. A ranker of models need not be fitted.

        Returns
        -------
        list of Finding
            Empty if nothing was found.

        Raises
        ------
        ValueError, TypeError, KeyError
            As from `fit`.
        """
        state, models = self._state, self._lined_up()
        who, what, liked = self._given(models, users, items, labels)
        similar, chance = models.similarities(who, what), None
        before = [float("nan")] * len(models.names)
        if state is not None:
            learned = state.learned
            before = [report.auc for report in learned.reports]
            scores = np.where(np.isnan(similar), learned.centers, similar) - learned.centers
            chance = _chance(scores @ learned.weights + learned.items[what] + learned.intercept
                             + learned.users[who])
        seen = [Seen(*each) for each in zip(models.names, (models.directions * similar).T, before,
                                            strict=True)]
        return evaluation.diagnose(who, liked, seen, chance)

    # ---- files ----

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the ranker, with all models' rows, to a file that is replaced whole or not.

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        RuntimeError
            Before `fit`.
        """
        state = self._fitted()
        files.write(path, state.models, state.learned)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, threads: int | None = None) -> FusionRanker:
        """Read a ranker from a file.

        Parameters
        ----------
        path : str or path-like
        threads : int, optional
            As for the class.

        Returns
        -------
        FusionRanker
            One of models: a file holds no trainer.

        Raises
        ------
        FormatError
            If the file is no such ranker, is truncated or altered, or of a newer version.
        """
        return cls._made_of(*files.read(path), checks.to_threads(threads))

    # ---- shared by the above ----

    @classmethod
    def _made_of(cls, models: Models, learned: Learned, threads: int | None) -> FusionRanker:
        ranker = cls.__new__(cls)
        ranker._train, ranker._models, ranker._threads = None, models, threads
        ranker._state = ranker._state_of(models, learned)
        return ranker

    def _state_of(self, models: Models, learned: Learned) -> _State:
        shown = np.zeros(len(models.ids)) if learned.exposure is None else learned.exposure.items
        rows = laid_out(models.items, models.has, learned.items, shown)
        ends = np.cumsum(models.dims)[:-1]
        # The rows hold them already, so what they were is not kept.
        models = models._replace(items=tuple(np.split(rows[:, : sum(models.dims)], ends, axis=1)))
        index = Index(rows.shape[1], "dot", threads=self._threads)
        index.add(rows, models.ids, copy=False)
        return _State(models, learned, rows, index)

    def _lined_up(self) -> Models:
        models = self._models if self._state is None else self._state.models
        if models is None:
            raise RuntimeError("fit must be called first: no models were trained yet")
        return models

    def _fitted(self) -> _State:
        if self._state is None:
            raise RuntimeError("fit must be called first: nothing was learned yet")
        return self._state

    def _form(self, state: _State, among: str, exposure: float | None) -> LinearForm:
        checks.to_choice("among", among, ("all", "shown"))
        learned = state.learned
        if exposure is not None and (among == "shown" or learned.exposure is None):
            raise ValueError("exposure: expected among='all' and a ranker whose fit had unseen "
                             f"of 1 or more, got among={among!r}")
        weights, tail, intercept = learned.weights, (1.0, 0.0), learned.intercept
        if among == "all" and learned.exposure is not None:
            much = learned.exposure.preference if exposure is None else _preference(exposure)
            weights = learned.exposure.weights + much * weights
            tail, intercept = (much, 1.0), float("nan")
        return _form_of(state.models, state.rows, weights, learned.centers, tail, intercept)

    def _asked(self, state: _State, users: Any, queries: Any
               ) -> tuple[Float32Array, Int64Array | None, bool]:
        """Coordinates of queries, numbers of users or None, and whether it is one alone."""
        if (users is None) == (queries is None):
            raise TypeError("users: expected users or queries=, got "
                            f"{'neither' if users is None else 'both'}")
        if users is None:
            parts, single = state.models.vectors_of(queries)
            return coordinates(parts), None, single
        single = isinstance(users, str) or np.ndim(users) == 0
        rows = ids.known("users", [users] if single else users, state.models.user_ids)
        return coordinates([each[rows] for each in state.models.users]), rows, single

    def _taken_apart(self, state: _State, form: LinearForm, query: Float32Array,
                     users: Int64Array | None, items: Int64Array
                     ) -> tuple[dict[str, Float64Array], Float64Array]:
        """What scores consist of, and chances of a like, (n, k) each; NaN where there is no item.

        Items are (n, k), or (k,) if they are the same for all.
        """
        liking = self._form(state, "shown", None)
        shape, (*ends, last) = (len(query), items.shape[-1]), np.cumsum([0, *form.dims]).tolist()
        parts = {name: np.empty(shape) for name in (*form.names, "items")}
        log_odds = np.full(shape, liking.intercept)
        if users is not None:
            log_odds += state.learned.users[users][:, np.newaxis]
        width = 1 if items.ndim == 1 else len(form.scale)
        step = max(1, _BLOCK // max(1, shape[1] * width))
        rows = form.rows[items].astype(np.float64) if items.ndim == 1 else None
        for start in range(0, shape[0], step):
            some = slice(start, start + step)
            of = form.rows[items[some]].astype(np.float64) if rows is None else rows
            asked = (query[some] * form.scale).astype(np.float64)
            for m, (name, first, end) in enumerate(zip(form.names, ends, [*ends[1:], last],
                                                       strict=True)):
                parts[name][some] = (_products(asked, of, slice(first, end))
                                     + _products(asked, of, slice(last + m, last + m + 1)))
            parts["items"][some] = _products(asked, of, slice(-2, None))
            log_odds[some] += _products((query[some] * liking.scale).astype(np.float64), of,
                                        slice(None))
        if items.ndim == 2:
            for each in (*parts.values(), log_odds):
                each[items < 0] = np.nan
        return parts, _chance(log_odds)

    def _given(self, models: Models, users: Any, items: Any, labels: Any
               ) -> tuple[Int64Array, Int64Array, BoolArray]:
        """Checked feedback in numbers of users and items."""
        who, what = (ids.known("users", users, models.user_ids),
                     ids.known("items", items, models.ids))
        if len(who) != len(what):
            raise ValueError(f"items: expected {len(who)} ids, one for each of users, got "
                             f"{len(what)}")
        if not len(who):
            raise ValueError("users: expected feedback, got none")
        return who, what, _likes(labels, len(who))


def PosNegRanker(positive: npt.ArrayLike | Index, positive_users: npt.ArrayLike,  # noqa: N802
                 negative: npt.ArrayLike | Index, negative_users: npt.ArrayLike, *,
                 ids: npt.ArrayLike | None = None, user_ids: npt.ArrayLike | None = None,
                 metric: str = "dot", threads: int | None = None) -> FusionRanker:
    """Make a ranker of a model of likes and a model of dislikes.

    Parameters
    ----------
    positive, positive_users : array_like (n_items, dim), (n_users, dim)
        Item and user embeddings of the model of likes; items may be a `farann.Index`.
    negative, negative_users : array_like (n_items, dim), (n_users, dim)
        The same of the model of dislikes; its dimension may be another.
    ids, user_ids : array_like of int or str, optional
        Ids of the rows of items and of users, by default 0, 1, 2, ...
    metric : {"dot", "cosine"}
        What both models were trained for.
    threads : int, optional
        For batches, as in `Index`.

    Returns
    -------
    FusionRanker
        Of the models "positive" and "negative"; `FusionRanker.fit` calibrates them.

    Raises
    ------
    ValueError, TypeError
        As from `SignedModel`.

    Examples
    --------
    >>> from farann.adapters.posneg import PosNegRanker
    >>> PosNegRanker(np.eye(3), np.eye(3), np.eye(3), np.eye(3))
    <FusionRanker: 3 items, positive, negative, not fitted>
    """
    return FusionRanker([
        SignedModel(items, users, sign, ids=ids, user_ids=user_ids, metric=metric)
        for items, users, sign in ((positive, positive_users, 1), (negative, negative_users, -1))
    ], threads=threads)


def cross_fit(train: Trainer, users: npt.ArrayLike, items: npt.ArrayLike, labels: npt.ArrayLike,
              *, threads: int | None = None, **options: Any) -> FusionRanker:
    """Train models on folds, learn from what was held out, and train them on everything.

    Parameters
    ----------
    train, threads
        As for `FusionRanker`.
    users, items, labels, **options
        As for `FusionRanker.fit`.

    Returns
    -------
    FusionRanker
        Fitted: ``FusionRanker(train).fit(users, items, labels)``.

    Raises
    ------
    ValueError, TypeError, KeyError
        As from `FusionRanker.fit`.

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
    ...     return [SignedModel(v[:4].T, u[:, :4] * s[:4], "both")]
    >>> cross_fit(train, who, what, liked, cv=3)
    <FusionRanker: 50 items, signed, fitted>
    """
    return FusionRanker(train, threads=threads).fit(users, items, labels, **options)


def _form_of(models: Models, rows: Float32Array, weights: Float64Array, centers: Float64Array,
             tail: tuple[float, float], intercept: float) -> LinearForm:
    scale = np.concatenate([np.repeat(weights, models.dims), -weights * centers, tail])
    return LinearForm(models.names, models.metrics, models.dims, models.ids, rows,
                      scale.astype(np.float32), intercept)


def _products(queries: Float64Array, rows: Float64Array, columns: slice) -> Float64Array:
    """Products of some columns, (n, k), with rows of each query, (n, k, dim), or the same ones."""
    if rows.ndim == 2:
        same: Float64Array = queries[:, columns] @ rows[:, columns].T
        return same
    return np.einsum("nd,nkd->nk", queries[:, columns], rows[:, :, columns])


def _places(every: Ids, found: Ids) -> Int64Array:
    """Numbers of found items, -1 where there is none."""
    nothing = np.equal(found, None) if found.dtype == object else found < 0
    flat = np.where(nothing, every[0], found).ravel()
    return np.where(nothing, -1, ids.places(every, flat).reshape(found.shape))


def _hits(scores: Float64Array, found: Ids, chance: Float64Array, parts: dict[str, Float64Array],
          single: bool) -> FusionHits:
    if single:
        return FusionHits(scores[0], found[0], chance[0],
                          {name: part[0] for name, part in parts.items()})
    return FusionHits(scores, found, chance, parts)


def _chance(log_odds: Float64Array) -> Float64Array:
    """Probabilities of log-odds, without overflow."""
    chance: Float64Array = np.exp(-np.logaddexp(0.0, -log_odds))
    return chance


def _likes(labels: npt.ArrayLike, n: int) -> BoolArray:
    """Labels of 1 for likes and 0, or -1, for dislikes; which are likes."""
    given = checks.to_array("labels", labels)
    if given.shape != (n,):
        raise ValueError(f"labels: expected shape ({n},), one for each of users, got "
                         f"{given.shape}")
    if given.dtype.kind not in "biuf":
        raise TypeError(f"labels: expected 0 and 1, got {checks.what_is(given)}")
    wrong = given[(given != 0) & (given != 1) & (given != -1)]
    if len(wrong):
        raise ValueError(f"labels: expected 0 and 1, got {wrong[0]}")
    if (given == -1).any() and (given == 0).any():
        raise ValueError("labels: expected 0 and 1, or -1 and 1, got all three: leave out what "
                         "was neither liked nor disliked")
    liked: BoolArray = np.asarray(given == 1)
    return liked


def _weights(given: npt.ArrayLike | None, n: int) -> Float64Array:
    if given is None:
        return np.ones(n)
    weight = checks.to_numbers("sample_weight", given)
    if weight.shape != (n,):
        raise ValueError(f"sample_weight: expected shape ({n},), one for each of users, got "
                         f"{weight.shape}")
    if not np.isfinite(weight).all() or (weight < 0).any() or not weight.any():
        raise ValueError("sample_weight: expected finite numbers of 0 or more, not all 0")
    return weight / weight.max()  # else sums overflow


def _preference(exposure: Any) -> float:
    number = checks.to_finite("exposure", exposure)
    if number < 0:
        raise ValueError(f"exposure: expected a number of 0 or more, got {number:g}")
    return number


def _folds(cv: Any, n: int, random: np.random.Generator) -> list[tuple[Int64Array, Int64Array]]:
    """Rows to train on and rows held out, for each fold."""
    if cv is None or isinstance(cv, (int, np.integer)):
        parts = np.array_split(random.permutation(n),
                               5 if cv is None else checks.to_int("cv", cv, 2, max(2, n)))
        return [(np.concatenate(parts[:i] + parts[i + 1 :]), part)
                for i, part in enumerate(parts) if len(part)]
    if isinstance(cv, str) or not isinstance(cv, Sequence):
        raise TypeError("cv: expected a number of folds, or a list of pairs of rows to train on "
                        f"and rows held out, got {checks.shown(cv)}; list(splitter.split(X)) "
                        "makes one of a scikit-learn splitter")
    folds = []
    for i, pair in enumerate(cv):
        if not isinstance(pair, Sequence) or len(pair) != 2:
            raise TypeError(f"cv[{i}]: expected rows to train on and rows held out, got "
                            f"{checks.shown(pair)}")
        some, rest = (checks.to_ids(f"cv[{i}]", rows, what="numbers of rows") for rows in pair)
        for rows in (some, rest):
            if not len(rows) or rows.min() < 0 or rows.max() >= n:
                raise ValueError(f"cv[{i}]: expected numbers of rows from 0 to {n - 1}, on both "
                                 f"sides, got {checks.shown(rows)}")
        if np.isin(rest, some).any():
            raise ValueError(f"cv[{i}]: expected rows held out that the fold doesn't train on, "
                             f"got row {rest[np.isin(rest, some)][0]} on both sides")
        folds.append((some, rest))
    if not folds:
        raise ValueError("cv: expected at least one fold, got none")
    return folds


def _trained(train: Trainer, users: Ids, items: Ids, liked: BoolArray, final: Models | None
             ) -> Models:
    """Models of some feedback; with `final`, the same ones over its items and users."""
    given = train(users, items, liked)
    if final is None:
        return Models.of(given, (items, users))
    models = Models.of([model for model in given if model.name in final.names]
                       if isinstance(given, Sequence) else given, (final.ids, final.user_ids),
                       only=True)
    _check_alike(models, final)
    return models


def _check_alike(models: Models, expected: Models) -> None:
    if (models.names, models.signs) != (expected.names, expected.signs):
        raise ValueError(
            "models: expected those of each fold, and those that replace others, to have the same "
            f"names and signs, {_listed(expected)}, got {_listed(models)}")


def _listed(models: Models) -> str:
    return ", ".join(f"{name!r} ({sign})" for name, sign in zip(models.names, models.signs,
                                                                strict=True))
