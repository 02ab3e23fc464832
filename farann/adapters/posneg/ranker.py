"""Rank items by any number of models of what people like, what they dislike, or both."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farann._types import BoolArray, Float32Array, Float64Array, Int64Array, Rng
from farann.adapters.posneg import evaluation, files, ids, regression
from farann.adapters.posneg.evaluation import THIS, Evaluation, Finding
from farann.adapters.posneg.factorization import Factorization
from farann.adapters.posneg.ids import Ids
from farann.adapters.posneg.models import LinearForm, Models, SignedModel, coordinates, laid_out
from farann.adapters.posneg.regression import Feedback, Learned, ModelReport, Pairs
from farann.contract import checks
from farann.index import Index
from farann.results import Result

Trainer = Callable[[Any, Any, BoolArray], Sequence[SignedModel]]
# Float64 numbers made at a time where scores are taken apart: 32 MiB.
_BLOCK = 1 << 22
_FOLDS = 5  # by default
_MOST_EXPOSURE = 1e9  # above it float32 can't distinguish log-odds of being shown


class FusionHits(Result):
    """Items of each user, and why they are there; without the first axis for a single user.

    Attributes
    ----------
    ids : int64 or object (n_users, k)
        -1, or None among strings, where there are fewer items.
    scores : float64 (n_users, k)
        What items are ordered by. NaN where there are fewer items.
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
    rows: Float32Array
    search: Index


class FusionRanker:
    """Rank items near in models of likes and far in models of dislikes, by any number of models.

    `fit` learns by one logistic regression, with an intercept for each user, what the models'
    scores say about a like. The log-odds are one dot product, so one index finds the best of all
    items exactly.

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
    The score among shown items is the sum over models of weight times (score - mean score), plus
    what the item's record of likes and the lengths of its vectors say, where that helps to order
    the items of held-out users. An item or a user that a model lacks counts as average there.
    Among all items, "never shown" isn't "not disliked": `fit` also learns, from items that users
    weren't shown, the log-odds of being shown, and the score is these plus `exposure` times those
    of a like. Threads may share a ranker; `rank` sees what `fit` found before or after.

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
        given = Factorization() if models is None else models
        self._train: Trainer | None = given if callable(given) else None
        self._models = None if callable(given) else Models.of(given)
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
        return self._fitted().learned.reports

    def __repr__(self) -> str:
        models = self._models if self._state is None else self._state.models
        what = repr(self._train) if models is None else (f"{len(models.ids):,} items, "
                                                         f"{', '.join(models.names)}")
        return f"<FusionRanker: {what}, {'not ' if self._state is None else ''}fitted>"

    # ---- learning ----

    def fit(self, users: npt.ArrayLike, items: npt.ArrayLike, labels: npt.ArrayLike, *,
            cv: Any = None, sample_weight: npt.ArrayLike | None = None, unseen: int = 4,
            exposure: float = 0.75, seed: int = 0, rng: Rng = None) -> FusionRanker:
        """Learn what the models' scores say about a like.

        Parameters
        ----------
        users, items : array_like of int or str (n,)
            Who was shown what.
        labels : array_like of bool or int (n,)
            1 for a like (or click), 0 or -1 for a dislike (or what was passed over).
        cv : int or list of pairs of array_like of int, optional
            With a trainer: the number of folds, by default 5; or for each fold the rows to train
            on and the rows held out. Weights are learned from held-out rows; then the trainer
            gets everything.
        sample_weight : array_like of float (n,), optional
            How much each label counts for the weights: one over the chance that it was shown,
            say, or the true over the sampled share of its kind.
        unseen : int
            Items drawn for each label that its user wasn't shown, to learn what is shown. 0
            leaves exposure out.
        exposure : float
            How much log-odds of a like count beside those of being shown, where all items are
            ranked. Small numbers keep hits, large ones avoid dislikes.
        seed, rng
            For folds and unseen items, as in `Index`.

        Returns
        -------
        FusionRanker
            The ranker itself.

        Raises
        ------
        ValueError, TypeError, KeyError
            For wrong shapes or labels, labels of one kind only, users or items that no model has,
            and a model whose sign turns out swapped. The ranker keeps what it had found before.

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
        if self._models and cv is not None:
            raise ValueError("cv: expected None for models that are trained already, got "
                             f"{checks.shown(cv)}; give the ranker what trains them")
        who, what = ids.checked("users", users), ids.checked("items", items)
        liked = _likes(labels, who, what)
        weight = _weights(sample_weight, len(who))
        each, preference = checks.to_int("unseen", unseen, 0, 1000), _preference(exposure)
        # A stream of its own: folds must not depend on draws that made the log with the same seed.
        random = np.random.default_rng([checks.to_seed(seed, rng), _FOLDS])
        folds = _folds(cv, len(who), random)
        final = self._models or self._trained(who, what, liked, None)
        at, item_at = ids.known("users", who, final.user_ids), ids.known("items", what, final.ids)
        size = len(final.ids)
        shown = np.unique(at * size + item_at)
        said, others, records, lengths = [], [], [], []
        for some, rest in folds:
            models = self._models or self._trained(who[some], what[some], liked[some], final)
            said.append(models.similarities(at[rest], item_at[rest]))
            drawn = regression.unseen_pairs(at[rest], shown, each, random, size)
            others.append(Pairs(*drawn, models.similarities(*drawn)))
            lengths.append(models.log_lengths()[item_at[rest]])
            records.append(regression.item_record(item_at[some], size, liked[some],
                                                  weight[some])[item_at[rest]])
        rows = np.concatenate([rest for _, rest in folds])
        group = at[rows]
        if self._train is not None:  # each fold has models of its own
            fold = np.repeat(np.arange(len(folds)), list(map(len, said)))
            group = group + len(final.user_ids) * fold
        mean = max(float(weight[rows].mean()), 1e-300)
        feedback = Feedback(at[rows], item_at[rows], liked[rows], weight[rows] / mean, group,
                            np.vstack(said), np.concatenate(records), np.vstack(lengths))
        pairs = Pairs(*(np.concatenate(part) for part in zip(*others, strict=True)))
        record = regression.item_record(item_at, size, liked, weight)
        learned = regression.learn(final, feedback, record, pairs, preference)
        self._state = self._state_of(final, learned)
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
        """
        (before, learned, _, _), after = self._fitted(), Models.of(models)
        _check_alike(after, before)
        if learned.exposure is not None:
            shown = learned.exposure.items
            learned = learned._replace(exposure=learned.exposure._replace(
                items=ids.by_id(before.ids, shown, after.ids, float(shown.min()))))
        return self._made_of(after, learned._replace(
            record=ids.by_id(before.ids, learned.record, after.ids, 0.0),
            items=ids.by_id(before.ids, learned.items, after.ids, 0.0),
            users=ids.by_id(before.user_ids, learned.users, after.user_ids, 0.0)), self._threads)

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
            Beyond the number of items answers are padded.
        queries : sequence of array_like (n_users, dim) or (dim,), or dict by name, optional
            In the place of `users`: embeddings of people by each model. None, or zeros, stand for
            a model that doesn't know them.
        among : {"all", "shown"}
            Whether to choose from everything, or from what could be shown anyway, such as the
            candidates of an earlier stage: then exposure doesn't count.
        exposure : float, optional
            In the place of that of `fit`.
        exclude, allowed : optional
            Ids to leave out per user, and the only ids (or a mask in the order of `ids`) that
            may be found, as in `Index.search_furthest`.

        Returns
        -------
        FusionHits
            Equal scores are ordered by id.

        Raises
        ------
        ValueError, TypeError, KeyError, RuntimeError
            For wrong shapes or options, users that no model has, and before `fit`.
        """
        state = self._fitted()
        form = self._form(state, among, exposure)
        query, who, single = self._asked(state, users, queries)
        out = [exclude] if single and exclude is not None else exclude
        found = state.search.search_nearest(query * form.scale, k, exclude=out, allowed=allowed,
                                            threads=self._threads, return_keys=True)
        at = _places(state.models.ids, found.ids)
        assert found.keys is not None
        return self._hits(state, form, query, who, at, found.ids, single,
                          np.where(at < 0, np.nan, found.keys))

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
        state = self._fitted()
        form = self._form(state, among, exposure)
        query, who, single = self._asked(state, users, queries)
        at = np.arange(len(form.ids)) if items is None else ids.known("items", items, form.ids)
        at = np.broadcast_to(at, (len(query), len(at)))
        return self._hits(state, form, query, who, at, form.ids[at], single)

    def linear(self, among: str = "all", exposure: float | None = None) -> LinearForm:
        """Give the score, `among` and with `exposure` as in `rank`, as one dot product.

        Returns
        -------
        LinearForm
            Before `fit` the plain average of the models' scores, those of sign -1 times -1.
        """
        if self._state is not None:
            return self._form(self._state, among, exposure)
        models = self._lined_up()
        nothing, m = np.zeros(len(models.ids)), len(models.names)
        return _form_of(models, laid_out(models.items, models.has, nothing, nothing),
                        models.directions / m, np.zeros(m), (0.0, 0.0), float("nan"))

    # ---- judging ----

    def evaluate(self, users: npt.ArrayLike, items: npt.ArrayLike, labels: npt.ArrayLike, *,
                 k: int = 10) -> Evaluation:
        """Compare this ranker with simpler ways, on feedback that nothing has seen.

        Parameters
        ----------
        users, items, labels
            Feedback as in `fit`, of users and items that some model has; neither the models nor
            `fit` may have had it.
        k : int
            How much of a list counts. Users with more items than that are ranked.

        Returns
        -------
        Evaluation
            Of each model alone, their average, the items' record, this ranker, and an oracle that
            knows the labels; ``str()`` makes a table, and `advice` says which to use.
        """
        k, (models, learned, _, _) = checks.to_int("k", k, 1), self._fitted()
        who, what, liked, similar = self._observed(models, users, items, labels)
        said = models.directions * np.where(np.isnan(similar), learned.centers, similar)
        log_odds = learned.log_odds(similar, who, what)
        ways = {f"{name} model alone": column for name, column in zip(models.names, said.T,
                                                                      strict=True)}
        ways |= {"average of raw scores": said.mean(axis=1),
                 "items' record alone": learned.record[what], THIS: log_odds}
        return evaluation.evaluate(who, liked, ways, _chance(log_odds), k)

    def diagnose(self, users: npt.ArrayLike, items: npt.ArrayLike, labels: npt.ArrayLike
                 ) -> list[Finding]:
        """Name what is wrong with models or labels, by feedback as in `evaluate`.

        A ranker of models need not be fitted. If it is, it is also found out if models were
        trained on the feedback of `fit`.

        Returns
        -------
        list of Finding
            Empty if nothing was found.
        """
        state, models = self._state, self._lined_up()
        who, what, liked, similar = self._observed(models, users, items, labels)
        chances: Float64Array | None = None
        before: dict[str, float] = {}
        if state is not None:
            chances = _chance(state.learned.log_odds(similar, who, what))
            before = {report.name: report.auc for report in state.learned.reports}
        said = dict(zip(models.names, (models.directions * similar).T, strict=True))
        return evaluation.diagnose(who, liked, said, before, chances)

    # ---- files ----

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a fitted ranker, with all models' rows, to a file that is replaced whole or not."""
        files.write(path, *self._fitted()[:2])

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, threads: int | None = None) -> FusionRanker:
        """Read a ranker from a file: one of models, as a file holds no trainer.

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
        search = Index(rows.shape[1], "dot", threads=self._threads)
        search.add(rows, models.ids, copy=False)
        return _State(models, learned, rows, search)

    def _trained(self, users: Ids, items: Ids, liked: BoolArray, final: Models | None) -> Models:
        """Models of some feedback; with `final`, the same ones over its items and users."""
        assert self._train is not None
        given = self._train(users, items, liked)
        if final is None:
            return Models.of(given, (items, users))
        if isinstance(given, Sequence):  # a model that all feedback has no room for is left out
            given = [model for model in given if getattr(model, "name", "") in final.names]
        models = Models.of(given, (final.ids, final.user_ids), only=True)
        _check_alike(models, final)
        return models

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
            raise TypeError("users: expected either users or queries=")
        if users is None:
            parts, single = state.models.vectors_of(queries)
            return coordinates(parts), None, single
        single = isinstance(users, (str, int, np.integer))
        rows = ids.known("users", [users] if single else users, state.models.user_ids)
        return coordinates([each[rows] for each in state.models.users]), rows, single

    def _hits(self, state: _State, form: LinearForm, query: Float32Array,
              users: Int64Array | None, items: Int64Array, found: Ids, single: bool,
              scores: Float64Array | None = None) -> FusionHits:
        """Answers for numbers of items, (n, k), -1 where there is none."""
        liking = self._form(state, "shown", None)
        starts = np.cumsum([0, *(dim + 1 for dim in form.dims)])
        parts = np.empty((*items.shape, len(starts)))
        log_odds = np.full(items.shape, liking.intercept)
        if users is not None:
            log_odds += state.learned.users[users][:, np.newaxis]
        step = max(1, _BLOCK // max(1, items.shape[1] * len(form.scale)))
        for start in range(0, len(items), step):
            some = slice(start, start + step)
            rows = form.rows[items[some]].astype(np.float64)
            log_odds[some] += np.einsum("nkd,nd->nk", rows, query[some] * liking.scale)
            rows *= (query[some] * form.scale)[:, np.newaxis]
            np.add.reduceat(rows, starts, axis=2, out=parts[some])
        parts[items < 0], log_odds[items < 0] = np.nan, np.nan
        at, scores = 0 if single else slice(None), parts.sum(axis=2) if scores is None else scores
        return FusionHits(found[at], scores[at], _chance(log_odds)[at], {
            name: parts[at, ..., i] for i, name in enumerate((*form.names, "items"))})

    def _observed(self, models: Models, users: Any, items: Any, labels: Any
                  ) -> tuple[Int64Array, Int64Array, BoolArray, Float64Array]:
        """Checked feedback in numbers of users and items, and scores by each model."""
        who = ids.known("users", users, models.user_ids)
        what = ids.known("items", items, models.ids)
        liked = _likes(labels, who, what)
        return who, what, liked, models.similarities(who, what)


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
        Of the models "positive" and "negative", not fitted.

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


def _form_of(models: Models, rows: Float32Array, weights: Float64Array, centers: Float64Array,
             tail: tuple[float, float], intercept: float) -> LinearForm:
    scale = [np.append(np.full(dim, weight), -weight * center)
             for dim, weight, center in zip(models.dims, weights, centers, strict=True)]
    return LinearForm(models.names, models.metrics, models.dims, models.ids, rows,
                      np.concatenate([*scale, tail]).astype(np.float32), intercept)


def _places(every: Ids, found: Ids) -> Int64Array:
    """Numbers of found items, -1 where there is none."""
    nothing: BoolArray = np.asarray(found == (None if found.dtype == object else -1))
    flat = np.where(nothing, every[0], found).ravel()
    return np.where(nothing, -1, ids.places(every, flat).reshape(found.shape))


def _chance(log_odds: Float64Array) -> Float64Array:
    """Probabilities of log-odds, without overflow, or warnings for NaN."""
    return 0.5 + 0.5 * np.tanh(0.5 * log_odds)


def _likes(labels: npt.ArrayLike, users: Ids, items: Ids) -> BoolArray:
    """Labels of 1 for likes and 0, or -1, for dislikes; which are likes."""
    given, n = checks.to_array("labels", labels), len(users)
    if not n or len(items) != n or given.shape != (n,):
        raise ValueError("users: expected as many as items and labels, one or more, got "
                         f"{n} for {len(items)} items and labels of shape {given.shape}")
    if given.dtype.kind not in "biuf":
        raise TypeError(f"labels: expected 0 and 1, got {checks.what_is(given)}")
    kinds = set(np.unique(given).tolist())
    if not kinds <= {0, 1} and not kinds <= {-1, 1}:
        raise ValueError("labels: expected 0 and 1, or -1 and 1, got "
                         f"{', '.join(f'{kind:g}' for kind in sorted(kinds)[:5])}; leave out what "
                         "was neither liked nor disliked")
    return np.asarray(given == 1, np.bool_)


def _weights(given: npt.ArrayLike | None, n: int) -> Float64Array:
    if given is None:
        return np.ones(n)
    weight = checks.to_numbers("sample_weight", given)
    if weight.shape != (n,) or not np.isfinite(weight).all() or (weight < 0).any() \
            or not weight.any():
        raise ValueError(f"sample_weight: expected {n} finite numbers of 0 or more, not all 0, got "
                         f"{checks.shown(weight)}")
    scaled: Float64Array = weight / weight.max()  # else sums overflow
    return scaled


def _preference(exposure: Any) -> float:
    number = checks.to_finite("exposure", exposure)
    if not 0 <= number <= _MOST_EXPOSURE:
        raise ValueError(f"exposure: expected a number from 0 to {_MOST_EXPOSURE:g}, got "
                         f"{number:g}")
    return number


def _folds(cv: Any, n: int, random: np.random.Generator) -> list[tuple[Int64Array, Int64Array]]:
    """Rows to train on and rows held out, for each fold."""
    if cv is None or isinstance(cv, (int, np.integer)):
        count = _FOLDS if cv is None else checks.to_int("cv", cv, 2, max(2, n))
        fold = random.permutation(n) % count
        return [(np.flatnonzero(fold != one), np.flatnonzero(fold == one))
                for one in range(min(count, n))]
    if not isinstance(cv, (list, tuple)) or not cv or any(
            not isinstance(pair, Sequence) or len(pair) != 2 for pair in cv):
        raise TypeError("cv: expected a number of folds, or a list of pairs of rows to train on "
                        f"and rows held out, got {checks.shown(cv)}; list(splitter.split(X)) "
                        "makes one of a scikit-learn splitter")
    folds = []
    for i, pair in enumerate(cv):
        some, rest = (checks.to_ids(f"cv[{i}]", rows, what="numbers of rows") for rows in pair)
        if not len(some) or not len(rest) or np.isin(rest, some).any() \
                or min(some.min(), rest.min()) < 0 or max(some.max(), rest.max()) >= n:
            raise ValueError(f"cv[{i}]: expected numbers of rows from 0 to {n - 1} to train on, "
                             f"and others that are held out, got {checks.shown(pair)}")
        folds.append((some, rest))
    return folds


def _check_alike(models: Models, expected: Models) -> None:
    if (models.names, models.signs) != (expected.names, expected.signs):
        raise ValueError(
            "models: expected those of each fold, and those that replace others, to have the same "
            f"names and signs, {expected.names} and {expected.signs}, got {models.names} and "
            f"{models.signs}")
