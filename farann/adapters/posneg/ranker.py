"""Rank items by any number of models of what people like, what they dislike, or both."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Callable, Sequence, Set
from typing import Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from farann._types import BoolArray, Float32Array, Float64Array, Int64Array, Rng
from farann.adapters.posneg import evaluation, files, ids, learning, logs
from farann.adapters.posneg.evaluation import Evaluation
from farann.adapters.posneg.factorization import Factorization
from farann.adapters.posneg.ids import Ids
from farann.adapters.posneg.learning import RECORD, THIS, Feedback, Fold, Learned, ModelReport
from farann.adapters.posneg.models import LinearForm, Models, SignedModel
from farann.contract import checks, names
from farann.extending import told
from farann.index import Index
from farann.results import Result

Trainer = Callable[[Any, Any, BoolArray], Sequence[SignedModel]]
_MOST_EXPOSURE = 1e9  # above it float32 can't distinguish log-odds of being shown


class FusionHits(Result):
    """Items of each user, and why they are there; without the first axis for a single user.

    Attributes
    ----------
    ids : int64 or object (n_users, k)
        -1, or None among strings, where there are fewer items.
    scores : float64 (n_users, k)
        What items are ordered by; NaN where there are fewer.
    probability : float64 (n_users, k)
        Of a like if the item is shown; users whom `fit` knew have a leaning of their own.
    parts : dict of float64 (n_users, k)
        What each model adds to the score, by its name, and under "items" what the item adds.
    """

    __slots__ = ("ids", "scores", "probability", "parts")

    def __init__(self, ids: Ids, scores: Float64Array, probability: Float64Array,
                 parts: dict[str, Float64Array]) -> None:
        self.ids, self.scores, self.probability, self.parts = ids, scores, probability, parts


class _State(NamedTuple):
    """The state after `fit`, swapped in by one assignment."""

    models: Models
    learned: Learned
    seen: Int64Array  # pairs that `fit` knew, as user * n_items + item, ascending
    search: Index

    def seen_by(self, users: Int64Array) -> list[Ids]:
        """Ids of the items that each user rated; -1 is a user of no model."""
        size = len(self.models.ids)
        first, last = (np.searchsorted(self.seen, (users + more) * size) for more in (0, 1))
        return [self.models.ids[self.seen[one:other] - user * size] for one, other, user
                in zip(first, last, users, strict=True)]


class FusionRanker(metaclass=names.Hinted):
    """Rank items near in models of likes and far in models of dislikes, by any number of models.

    `fit` learns by one logistic regression, with an intercept for each user, what the models'
    scores say about a like. The score is one dot product, so one index finds the best of all items
    exactly.

    Parameters
    ----------
    models : sequence of SignedModel, or callable, optional
        Models, which `fit` calibrates by feedback that they were not trained on; or a trainer,
        which `fit` calls on folds of the feedback: it gets ids of users and of items (n,) and
        likes, bool (n,), and returns a list of SignedModel. By default `Factorization()`.
    threads : int, optional
        For batches, as in `Index`.

    Notes
    -----
    Scores have unit spread among a user's items in every fold and at the end, no model counts
    against its sign, and what a model lacks counts as average. Among all items, "never shown" isn't
    "not disliked": the score is the log-odds of being shown plus `exposure` times those of a like,
    or it is that of one model, if that surely listed more held-out likes.
    Threads may share a ranker; `rank` sees what `fit` found before or after.

    Examples
    --------
    >>> from farann.adapters.posneg import FusionRanker
    >>> rng = np.random.default_rng(0)
    >>> taste, charm = rng.standard_normal((2, 60, 3))
    >>> users, items = rng.integers(0, 60, (2, 2000))
    >>> liked = rng.random(2000) < 1 / (1 + np.exp(-(taste[users] * charm[items]).sum(axis=1)))
    >>> ranker = FusionRanker().fit(users, items, liked)
    >>> ranker.names
    ('positive', 'fine', 'negative', 'logistic', 'graph')
    >>> hits = ranker.rank([0, 1], k=3)
    >>> hits.ids.shape, sorted(hits.parts)
    ((2, 3), ['fine', 'graph', 'items', 'logistic', 'negative', 'positive'])
    """

    def __init__(self, models: Sequence[SignedModel] | Trainer | None = None, *,
                 threads: int | None = None) -> None:
        self._threads = checks.to_threads(threads)
        source = Factorization() if models is None else models
        self._train: Trainer | None = source if callable(source) else None
        self._models = None if callable(source) else Models.of(source)
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
        """The fit of each model: its weight, its share in the score, its AUC alone."""
        models, learned = self._fitted()[:2]
        numbers = np.stack([learned.liking[:-2] + 0.0, learned.shares, learned.aucs]).tolist()
        return tuple(map(ModelReport, models.names, models.signs, *numbers))

    def __repr__(self) -> str:
        models = self._models if self._state is None else self._state.models
        what = repr(self._train) if models is None else (f"{len(models.ids):,} items, "
                                                         f"{', '.join(models.names)}")
        order = (THIS, THIS) if self._state is None else self._state.learned.order
        alone = "".join(f", {kind} items by {name!r}" for kind, name in
                        zip(("all", "shown"), order, strict=True) if name != THIS)
        return f"<FusionRanker: {what}, {'not ' if self._state is None else ''}fitted{alone}>"

    # ---- learning ----

    def fit(self, users: Any, items: Any = None, labels: Any = None, *, times: Any = None,
            cv: Any = None, sample_weight: npt.ArrayLike | None = None, shown: Any = None,
            seed: int = 0, rng: Rng = None, progress: Any = False) -> FusionRanker:
        """Learn what the models' scores say about a like.

        Parameters
        ----------
        users, items : array_like of int or str (n,)
            Who was shown what. In the place of `users` alone: a data frame, or dict of arrays,
            with columns user, item, label (or rating) and perhaps time; or a SciPy sparse matrix
            (n_users, n_items) of 1 for likes and -1 for dislikes.
        labels : array_like of bool or int (n,)
            1 for a like (or click), 0 or -1 for a dislike (or what was passed over).
        times : array_like of numbers or dates (n,), optional
            When. Folds are by time then: each user's later half is held out in parts.
        cv : int or list of pairs of array_like of int, optional
            With a trainer: the number of folds, by default 5; or for each fold the rows to train
            on and the rows held out. Weights are learned from held-out rows; then the trainer
            gets everything.
        sample_weight : array_like of float (n,), optional
            How much each label counts for the weights: one over the chance that it was shown,
            say, or the true over the sampled share of its kind.
        shown : pair of array_like (m,), optional
            Users and items that were shown beside these, such as those that given models were
            trained on: they aren't drawn as unseen, and `rank` leaves them out.
        seed, rng, progress
            For folds and unseen items; and a bar or a function, as in `Index`.

        Returns
        -------
        FusionRanker
            The ranker itself.

        Raises
        ------
        ValueError, TypeError, KeyError, RuntimeError
            For wrong shapes or labels, labels of one kind only, users or items that no given model
            has, a model whose sign turns out swapped, and a ranker from a file that can't hold
            what trains its models. The ranker keeps what it had found before.
        """
        if self._models and cv is not None:
            raise ValueError("cv: expected None for models that are trained already, got "
                             f"{checks.shown(cv)}; give the ranker what trains them")
        log = logs.read(users, items, labels, times)
        weight = logs.weights(sample_weight, len(log.liked))
        # A stream of its own: folds must not depend on draws that made the log with the same seed.
        random = np.random.default_rng([checks.to_seed(seed, rng), logs.FOLDS])
        splits = logs.folds(cv, log, weight, random, trained=self._train is not None)
        folds = []
        with told("fit", len(splits) + 1, progress) as done:
            final = self._models or self._trained(log, None)
            feedback = Feedback(ids.known("users", log.users, final.user_ids),
                                ids.known("items", log.items, final.ids), log.liked, weight)
            seen = np.unique(np.concatenate([feedback.users * len(final.ids) + feedback.items,
                                             _pairs(final, shown)]))
            done(1)
            for some, rest in splits:
                models = self._models or self._trained(log.take(some), final)
                folds.append(Fold.of(models, some, rest, feedback, seen, random))
                done(1)
        final = learning.knowing(final, feedback)
        # Signs of the trainer by default are right.
        learned = learning.judged_alone(final, folds, learning.learn(final, folds),
                                        check_signs=not isinstance(self._train, Factorization))
        order = learning.order_of_all(learned, folds, feedback, random)
        self._state = self._state_of(final, learned._replace(order=(order, THIS)), seen)
        return self

    def replace(self, models: Sequence[SignedModel]) -> FusionRanker:
        """Replace the models by ones trained anew, and keep the learned coefficients.

        Parameters
        ----------
        models : sequence of SignedModel
            Of the same names and signs, in the same order. Items and users may come and go.

        Returns
        -------
        FusionRanker
            A new one. A new item adds nothing of its own to the log-odds of a like, and the
            least there is to those of being shown.

        Raises
        ------
        ValueError, TypeError, RuntimeError
            For other names, signs or kinds of ids, and before `fit`.
        """
        (before, learned, seen, _), after = self._fitted(), Models.of(models)
        _check_alike(after, before)
        for name in ("ids", "user_ids"):
            ids.check_kind(f"models: {name}", getattr(after, name), getattr(before, name))
        user, item = (ids.places(new, old)[rows] for new, old, rows in zip(
            (after.user_ids, after.ids), (before.user_ids, before.ids),
            np.divmod(seen, len(before.ids)), strict=True))
        after = after.knowing(*(ids.by_id(before.ids, own, after.ids)
                                for own in before.rows[:, -2:].T))
        return self._made_of(after, learned._replace(
            users=ids.by_id(before.user_ids, learned.users, after.user_ids)),
            (user * len(after.ids) + item)[(user >= 0) & (item >= 0)])

    def by(self, all_items: str, shown: str | None = None) -> FusionRanker:
        """Make a ranker of the same models that ranks in another way, as `evaluate` may advise.

        Parameters
        ----------
        all_items, shown : str
            The way for all items, and for shown ones, by default the same: the name of a model,
            "items' record", or "this ranker" for the way of now.

        Returns
        -------
        FusionRanker
            A new one. Its chances are those of this ranker; an explicit `exposure` overrides a
            way that isn't this ranker's.

        Raises
        ------
        ValueError, RuntimeError
            For another name, and before `fit`.
        """
        models, learned, seen, _ = self._fitted()
        pair = all_items, all_items if shown is None else shown
        one, other = (
            now if checks.to_choice("by", name, (*models.names, RECORD, THIS)) == THIS else name
            for name, now in zip(pair, learned.order, strict=True))
        return self._made_of(models, learned._replace(order=(one, other)), seen)

    # ---- asking ----

    def rank(self, users: npt.ArrayLike | None = None, k: int = 10, *, queries: Any = None,
             among: str = "all", exposure: float | None = None, exclude: Any = None,
             allowed: Any = None, seen: bool = False) -> FusionHits:
        """Find the k best items that a user hasn't rated, exactly.

        Parameters
        ----------
        users : int, str, or array_like of these (n_users,), optional
            Those that no model has get the items' record, and a warning says so.
        k : int
            Beyond the number of items answers are padded.
        queries : sequence of array_like (n_users, dim) or (dim,), or dict by name, optional
            In the place of `users`: embeddings of people by each model. None, or zeros, stand for
            a model that doesn't know them.
        among : {"all", "shown"}
            Whether to choose from everything, or from what could be shown anyway, such as the
            candidates of an earlier stage: then exposure doesn't count.
        exposure : float, optional
            How much log-odds of a like count beside those of being shown, where all items are
            ranked: small numbers keep hits, large ones avoid dislikes. Without it 0.75 of the
            mixture, or the one model that `fit` found better.
        exclude, allowed : optional
            Ids to leave out per user, and the only ids (or a mask in the order of `ids`) that
            may be found, as in `Index.search_furthest`.
        seen : bool
            Whether items that `fit` knew the user to have rated may be found, too.

        Returns
        -------
        FusionHits
            Equal scores are ordered by id.

        Raises
        ------
        ValueError, TypeError, RuntimeError
            For wrong shapes or options, and before `fit`.
        """
        state, way, query, who, single = self._asked(users, queries, among, exposure)
        rated = ([state.models.ids[:0]] * len(query) if who is None or seen
                 else state.seen_by(who))
        hits = state.search.search_nearest(
            query * state.models.form(way).scale, k, exclude=_excluded(exclude, rated, single),
            allowed=allowed, threads=self._threads, return_keys=True)
        assert hits.keys is not None
        return _hits(state, way, query, who, _places(state.models.ids, hits.ids), hits.ids,
                     single, hits.keys)

    def score(self, users: npt.ArrayLike | None = None, items: npt.ArrayLike | None = None, *,
              queries: Any = None, among: str = "all", exposure: float | None = None
              ) -> FusionHits:
        """Score items of one's choice.

        Parameters
        ----------
        users, queries, among, exposure
            As in `rank`; the scores are the same.
        items : array_like of int or str (n_items,), optional
            By default all, in the order of `ids`.

        Returns
        -------
        FusionHits
            Of shape (n_users, n_items), in the order of `items`.

        Raises
        ------
        ValueError, TypeError, KeyError, RuntimeError
            As in `rank`, and for items that no model has.
        """
        state, way, query, who, single = self._asked(users, queries, among, exposure)
        every = state.models.ids
        at = np.arange(len(every)) if items is None else ids.known("items", items, every)
        at = np.broadcast_to(at, (len(query), len(at)))
        return _hits(state, way, query, who, at, every[at], single)

    def linear(self, among: str = "all", exposure: float | None = None) -> LinearForm:
        """Give the score, `among` and with `exposure` as in `rank`, as one dot product.

        Returns
        -------
        LinearForm
            Before `fit` the plain average of the models' scores, those of sign -1 times -1.
        """
        if (state := self._state) is not None:
            is_chance = among == "shown" and state.learned.order[1] == THIS
            return state.models.form(self._way(state, among, exposure),
                                     state.learned.intercept if is_chance else float("nan"))
        models = self._lined_up()
        average = models.directions * models.spreads / len(models.names)
        return models._replace(means=np.zeros(len(average))).form(np.append(average, [0.0, 0.0]))

    # ---- judging ----

    def evaluate(self, users: Any, items: Any = None, labels: Any = None, *, k: int = 10
                 ) -> Evaluation:
        """Compare this ranker with simpler ways, on feedback that nothing has seen, and diagnose.

        Parameters
        ----------
        users, items, labels
            Feedback as in `fit`; neither the models nor `fit` may have had it. Labels about users
            or items that no model has are left out and counted.
        k : int
            How long lists of all items are. What `fit` knew a user to have rated is not in them.

        Returns
        -------
        Evaluation
            Of each model alone, the items' record and this ranker, among all items and among
            those shown, with what is wrong with models or labels. ``str()`` makes a table,
            `advice` says which way to use, and ``ranker.by(*judged.best)`` uses it.

        Raises
        ------
        ValueError, TypeError, RuntimeError
            As in `fit`; if no model knows any of the users or items; and before `fit`.
        """
        k, state = checks.to_int("k", k, 1), self._fitted()
        models, learned = state.models, state.learned
        log = logs.read(users, items, labels)
        who = ids.known("users", log.users, models.user_ids, all_of_them=False)
        what = ids.known("items", log.items, models.ids, all_of_them=False)
        known = (who >= 0) & (what >= 0)
        if not known.any():
            raise ValueError("users: expected feedback of users and items that some model has, got "
                             f"none among {len(known):,} labels")
        who, what, liked = who[known], what[known], log.liked[known]
        features = models.features(what, models.people[who])
        scores, lists, people = {}, {}, np.unique(who)
        for name in (*models.names, RECORD, THIS):
            of_all, of_shown = (learned.way(models, one if name == THIS else name, among)
                                for one, among in zip(learned.order, ("all", "shown"), strict=True))
            scores[name] = features @ of_shown
            lists[name] = _places(models.ids, state.search.search_nearest(
                models.people[people] * models.form(of_all).scale, k,
                exclude=state.seen_by(people), threads=self._threads).ids)
        chances = _chance(features @ learned.liking + learned.users[who] + learned.intercept)
        seen = np.isin(who * len(models.ids) + what, state.seen).mean()
        return evaluation.evaluate(who, what, liked, scores, lists, chances, k, int(
            (~known).sum()), dict(zip(models.names, learned.aucs, strict=True)), float(seen))

    # ---- files ----

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a fitted ranker, with all models' rows, to a file that is replaced whole or not.

        Raises
        ------
        RuntimeError, OSError
            Before `fit`; and if the file can't be written.
        """
        state, train = self._fitted(), self._train
        files.write(path, state[:3], {"dim": train.dim, "seed": train.seed} if isinstance(
            train, Factorization) else train is not None)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, threads: int | None = None) -> FusionRanker:
        """Read a ranker from a file.

        Its `fit` trains again if the models were those of `Factorization`, and refuses if they
        were of another trainer, which a file can't hold.

        Raises
        ------
        FormatError
            If the file is no such ranker, is truncated or altered, or of a newer version.
        """
        (content, trainer), ranker = files.read(path), cls(threads=threads)
        ranker._train = (Factorization(**trainer) if isinstance(trainer, dict)
                         else _lost if trainer else None)
        return ranker._made_of(*content)

    # ---- shared by the above ----

    def _made_of(self, models: Models, learned: Learned, seen: Int64Array) -> FusionRanker:
        ranker = copy.copy(self)
        ranker._models = None if self._train else models
        ranker._state = self._state_of(models, learned, seen)
        return ranker

    def _state_of(self, models: Models, learned: Learned, seen: Int64Array) -> _State:
        search = Index(models.rows.shape[1], "dot", threads=self._threads)
        search.add(models.rows, models.ids, copy=False)
        return _State(models, learned, seen, search)

    def _trained(self, log: logs.Log, final: Models | None) -> Models:
        """Models of some feedback; with `final`, the same ones over its items and users."""
        assert self._train is not None
        trained = self._train(log.users, log.items, log.liked)
        if final is None:
            return Models.of(trained, (log.items, log.users))
        if isinstance(trained, Sequence):  # a model that all feedback has no room for is left out
            trained = [model for model in trained if getattr(model, "name", "") in final.names]
        models = Models.of(trained, (final.ids, final.user_ids), only=True)
        _check_alike(models, final)
        return models

    def _lined_up(self) -> Models:
        if (models := self._models if self._state is None else self._state.models) is None:
            raise RuntimeError("fit must be called first: no models were trained yet")
        return models

    def _fitted(self) -> _State:
        if self._state is None:
            raise RuntimeError("fit must be called first: nothing was learned yet")
        return self._state

    def _way(self, state: _State, among: str, exposure: float | None) -> Float64Array:
        checks.to_choice("among", among, ("all", "shown"))
        name = state.learned.order[among == "shown"]
        if exposure is not None:
            if among == "shown":
                raise ValueError("exposure: expected among='all', got among='shown'")
            name, exposure = THIS, checks.to_finite("exposure", exposure, 0, _MOST_EXPOSURE)
        return state.learned.way(state.models, name, among, exposure)

    def _asked(self, users: Any, queries: Any, among: str, exposure: float | None
               ) -> tuple[_State, Float64Array, Float32Array, Int64Array | None, bool]:
        """The state, weights of the way, coordinates of queries, numbers of users (-1: of no model)
        or None, and whether it is one."""
        state = self._fitted()
        way, models = self._way(state, among, exposure), state.models
        if (users is None) == (queries is None):
            raise TypeError("users: expected either users or queries=")
        if users is None:
            query, single = models.vectors_of(queries)
            return state, way, query, None, single
        single = isinstance(users, (str, int, np.integer))
        people = ids.checked("users", [users] if single else users)
        rows = ids.known("users", people, models.user_ids, all_of_them=False)
        if (new := rows < 0).any():
            warnings.warn(f"users: {int(new.sum()):,} of {len(new):,} are in no model, such as "
                          f"{people[new].tolist()[0]!r}, and get items by their record",
                          UserWarning, stacklevel=3)
        query = models.people[rows]
        query[new, :-2] = 0.0
        return state, way, query, rows, single


names.hint_at_methods(FusionRanker)


def PosNegRanker(positive: npt.ArrayLike | Index, positive_users: npt.ArrayLike,
                 negative: npt.ArrayLike | Index, negative_users: npt.ArrayLike, *,
                 ids: npt.ArrayLike | None = None, user_ids: npt.ArrayLike | None = None,
                 metric: str = "dot", threads: int | None = None) -> FusionRanker:
    """Make a ranker of a model of likes and a model of dislikes.

    Parameters
    ----------
    positive, positive_users, negative, negative_users : array_like (n, dim)
        Item and user embeddings of both models; items may be a `farann.Index`.
    ids, user_ids, metric, threads
        As for `SignedModel`, for both, and `FusionRanker`.

    Returns
    -------
    FusionRanker
        Of the models "positive" and "negative", not fitted. Fit it: the plain average of two such
        models listed fewer likes than the positive one alone on all sets that it was tried on.

    Examples
    --------
    >>> from farann.adapters.posneg import PosNegRanker
    >>> PosNegRanker(np.eye(3), np.eye(3), np.eye(3), np.eye(3))
    <FusionRanker: 3 items, positive, negative, not fitted>
    """
    options: dict[str, Any] = {"ids": ids, "user_ids": user_ids, "metric": metric}
    return FusionRanker([SignedModel(positive, positive_users, **options),
                         SignedModel(negative, negative_users, -1, **options)], threads=threads)


def _lost(*feedback: Any) -> NoReturn:
    """The trainer of a ranker whose file couldn't hold its own."""
    raise RuntimeError("fit: the file held the models, but not the function that trains them, and "
                       "they know this feedback; make FusionRanker(train) anew, or replace() them "
                       "by models trained elsewhere")


def _hits(state: _State, way: Float64Array, query: Float32Array, users: Int64Array | None,
          items: Int64Array, item_ids: Ids, single: bool, scores: Float64Array | None = None
          ) -> FusionHits:
    """Answers for numbers of items, (n, k), -1 where there is none."""
    models, learned = state.models, state.learned
    log_odds = models.features(items, query) @ learned.liking + learned.intercept
    if users is not None:
        log_odds += np.where(users < 0, 0.0, learned.users[users])[:, np.newaxis]
    log_odds[items < 0] = np.nan
    # Vectors of float32, as the index has them: both have the same scores then.
    added = models.products(items, query * models.form(way).scale)
    added[items < 0] = np.nan
    scores = added.sum(axis=-1) if scores is None else np.where(items < 0, np.nan, scores)
    at = 0 if single else slice(None)
    parts = {name: added[at, ..., i] for i, name in enumerate(models.names)}
    parts["items"] = added[at, ..., -2] + added[at, ..., -1]
    return FusionHits(item_ids[at], scores[at], _chance(log_odds)[at], parts)


def _pairs(models: Models, pair: Any) -> Int64Array:
    """Pairs of users and items as user * n_items + item, of those that models have."""
    if pair is None:
        return np.zeros(0, np.int64)
    if not isinstance(pair, Sequence) or len(pair) != 2:
        raise ValueError(f"shown: expected a pair, users and items, got {checks.shown(pair)}")
    user = ids.known("shown", pair[0], models.user_ids, all_of_them=False)
    item = ids.known("shown", pair[1], models.ids, all_of_them=False)
    if len(user) != len(item):
        raise ValueError(f"shown: expected users and items, as many of both, got {len(user)} and "
                         f"{len(item)}")
    return (user * len(models.ids) + item)[(user >= 0) & (item >= 0)]


def _places(every: Ids, some: Ids) -> Int64Array:
    """Numbers of found items, -1 where there is none."""
    nothing: BoolArray = np.asarray(some == (None if some.dtype == object else -1))
    return np.where(nothing, -1, ids.places(every, np.where(nothing, every[0], some)))


def _chance(log_odds: Float64Array) -> Float64Array:
    """Probabilities of log-odds, without overflow, or warnings for NaN."""
    return 0.5 + 0.5 * np.tanh(0.5 * log_odds)


def _excluded(exclude: Any, rated: list[Ids], single: bool) -> list[Any]:
    """Ids to leave out for each user: rated ones, and those that were given."""
    if checks.is_nothing(exclude):
        return rated
    lists = ([exclude] * len(rated) if single or checks.is_flat(_readable(exclude))
             else checks.to_lists("exclude", exclude, len(rated)))
    return [[*seen, *(() if checks.is_nothing(more) else _readable(more))]
            for seen, more in zip(rated, lists, strict=True)]


def _readable(value: Any) -> Any:
    """Ids that have an end: a range may have none that memory holds."""
    if isinstance(value, list | tuple | Set) or hasattr(value, "__array__"):
        return value
    raise TypeError(f"exclude: expected ids, or ids for each user, got {checks.shown(value)}")


def _check_alike(models: Models, expected: Models) -> None:
    if (models.names, models.signs) != (expected.names, expected.signs):
        raise ValueError(
            "models: expected those of each fold, and those that replace others, to have the same "
            f"names and signs, {expected.names} and {expected.signs}, got {models.names} and "
            f"{models.signs}")
