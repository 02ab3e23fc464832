"""Rank items by any number of models of what people like, what they dislike, or both.

The page on likes and dislikes in the documentation has the theory, and results on real data.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy.typing as npt

from farann._types import Float32Array, Float64Array, Int64Array, Rng
from farann.adapters.posneg import feedback, fusion_file, stacking
from farann.adapters.posneg.blend import (
    Blend,
    Blended,
    Found,
    ModelReport,
    in_batches,
    index_of,
)
from farann.adapters.posneg.calibration import expit
from farann.adapters.posneg.hits import FusionHits, fusion_hits
from farann.adapters.posneg.intercepts import personal_chance
from farann.adapters.posneg.joint import JointIndex
from farann.adapters.posneg.judging import JudgedFusion
from farann.adapters.posneg.naming import Ids
from farann.adapters.posneg.options import item_prior_of, preference_of
from farann.adapters.posneg.scoring import Filters
from farann.adapters.posneg.signed import (
    Members,
    SignedModel,
    members_of,
    observe,
    queries_of,
)
from farann.adapters.posneg.stack import Labels
from farann.contract import checks
from farann.runtime import pool

# Queries answered at a time.
_QUERIES = 4096
Queries = Sequence[npt.ArrayLike | None] | Mapping[str, npt.ArrayLike]


class FusionRanker(JudgedFusion):
    """Nearest to what is liked and furthest from what is disliked, by any number of models.

    Each model's dot products or cosines are calibrated to log-odds of a like; their weighted
    sum, with what is known of each item, is one dot product, so all items are searched exactly
    by one index. `fit` learns the weights, and leaves models out that don't help.

    Parameters
    ----------
    models : sequence of SignedModel
        Rows are copied, so later changes of an index don't matter. An item that a model lacks
        counts there as average feedback does, and so does under "cosine" a user whose query is
        zeros.
    item_prior : float or None
        Also learn from feedback which items are liked by everybody or by nobody, as in
        `PosNegRanker`. None leaves it out.
    threads : int, optional
        For batches, as in `Index`.

    Notes
    -----
    The fused score is the sum over models of weight times log-odds of a like, and what the item
    adds. Equal scores are ordered by id. On all items, "not shown" isn't "not disliked": `fit`
    also learns what tells shown items from others, and `rank` adds the log-odds of being shown,
    unless it is told that all items to choose from could be shown (``among="shown"``).

    A ranker may be used by any number of threads; `rank` sees what `fit` found before or
    after, never between.

    Examples
    --------
    >>> from farann.adapters.posneg import FusionRanker, SignedModel
    >>> rng = np.random.default_rng(0)
    >>> items, users = rng.standard_normal((2, 200, 8), dtype=np.float32)
    >>> more_items, more_users = rng.standard_normal((2, 200, 4), dtype=np.float32)
    >>> who, what = rng.integers(0, 200, (2, 6000))
    >>> like = (users[who] * items[what]).sum(axis=1)
    >>> dislike = (more_users[who] * more_items[what]).sum(axis=1)
    >>> liked = rng.random(6000) < 1 / (1 + np.exp(dislike - like))
    >>> ranker = FusionRanker([SignedModel(items, 1), SignedModel(more_items, -1)])
    >>> ranker.fit([users, more_users], what, liked, users=who)
    <FusionRanker: 200 items, positive, negative, fitted>
    >>> hits = ranker.rank([users[:2], more_users[:2]], k=3)
    >>> hits.ids.shape, sorted(hits.chances)
    ((2, 3), ['negative', 'positive'])
    """

    def __init__(self, models: Sequence[SignedModel], *, item_prior: float | None = 4.0,
                 threads: int | None = None) -> None:
        self._threads = checks.to_threads(threads)
        self._item_prior = item_prior_of(item_prior)
        self._members = members_of(models, self._threads)
        self._lock = pool.fresh_lock(self)
        self._blend: Blend | None = None
        self._joint: tuple[Blend, JointIndex] | None = None

    # ---- what it knows ----

    @property
    def ids(self) -> Ids:
        """Ids of all items in ascending order, which is that of boolean masks."""
        return self._members.ids.copy()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the models, in the order in which queries are given."""
        return self._members.names

    @property
    def report(self) -> tuple[ModelReport, ...]:
        """What `fit` made of each model: weight, gain, and why it was dropped if it was."""
        return self._fitted().reports

    @property
    def item_log_odds(self) -> Float64Array:
        """What each item adds to its log-odds of a like, whoever asks, (len(ids),)."""
        return self._fitted().items.copy()

    @property
    def user_log_odds(self) -> Float64Array | None:
        """What each user of `fit` adds to log-odds of a like in `probability`, (n_queries,).

        None if `fit` wasn't told whose feedback it got.
        """
        personal = self._fitted().personal
        return None if personal is None else personal.own.copy()

    def __repr__(self) -> str:
        state = "not fitted"
        if self._blend is not None:
            dropped = [each.name for each in self._blend.reports if each.dropped]
            state = "fitted" + (f" without {', '.join(dropped)}" if dropped else "")
        return (f"<FusionRanker: {len(self._members.ids):,} items, "
                f"{', '.join(self._members.names)}, {state}>")

    # ---- learning ----

    def fit(self, queries: Queries, item_ids: npt.ArrayLike, labels: npt.ArrayLike, *,
            users: npt.ArrayLike | None = None, user_ids: npt.ArrayLike | None = None,
            sample_weight: npt.ArrayLike | None = None, prior: float | None = None,
            drop: bool = True, unseen: int = 4, exposure: float = 0.75, exclude: Any = None,
            seed: int = 0, rng: Rng = None) -> FusionRanker:
        """Calibrate all models, learn their weights, and leave out those that don't help.

        Parameters
        ----------
        queries : sequence of array_like (n_queries, dim), or dict by name
            Query embeddings of each model.
        item_ids, labels, users, user_ids, sample_weight, prior
            Feedback that no model was trained on, as in `PosNegRanker.fit`.
        drop : bool
            Leave models out without which feedback is told as well: by the log-loss within users
            of feedback that the weights were not learned from, in five parts.
        unseen : int
            To learn what is shown, take so many items for each feedback that its user wasn't
            shown. 0 leaves exposure out.
        exposure : float
            How much log-odds of a like count beside log-odds of being shown, where `rank` looks
            at all items. Small numbers keep hits, large ones avoid dislikes; by default hits stay
            within 2 % of those of a model of likes on the sets of the documentation.
        exclude : optional
            Ids that each query's user had seen before this feedback, as in `rank`: they are not
            taken as unseen.
        seed, rng
            For the choice of unseen items, as in `Index`.

        Returns
        -------
        FusionRanker
            The ranker itself; its `report` says what became of each model.

        Raises
        ------
        ValueError, TypeError
            For wrong shapes or labels, numbers that are not finite, or feedback of one kind
            only. The ranker keeps what it had found before.
        KeyError
            If no model has an item.
        ImportError
            Without scikit-learn.

        Warns
        -----
        UserWarning
            If a model is left out.
        """
        members = self._members
        asked, _ = queries_of(members, queries, [True] * len(members.sides), single=False)
        every = [each for each in asked if each is not None]
        n_queries = len(every[0])
        wanted = feedback.Sampling(checks.to_int("unseen", unseen, 0, feedback.MOST_UNSEEN),
                                   checks.to_seed(seed, rng))
        preference = preference_of(exposure)
        whose = feedback.Users.of(users, user_ids, n_queries)
        given = feedback.checked(every, members.ids, item_ids, labels, whose, sample_weight,
                                 prior)
        seen = None if exclude is None else Filters.of(
            members.ids, exclude, None, n_queries, False).excluded
        askers = feedback.askers(given)
        unknown = feedback.unseen_pairs(
            given, len(members.ids), feedback.pairs_of(given, len(members.ids), seen), wanted)
        blend = stacking.learn(
            members, observe(members, asked, given.users, given.items),
            Labels(askers, given.items, given.liked, given.weight), self._item_prior,
            drop=bool(drop), personal=n_queries if given.by_user else None,
            unseen=None if unknown is None else stacking.Unseen(
                askers[unknown.rows], unknown.items,
                observe(members, asked, given.users[unknown.rows], unknown.items)),
            preference=preference)
        if blend.personal is not None and whose is not None:
            blend = replace(blend, personal=blend.personal._replace(ids=whose.ids))
        with self._lock:
            self._blend, self._joint = blend, None
        return self

    def replace(self, models: Sequence[SignedModel]) -> FusionRanker:
        """A ranker of the same models trained anew, under what this one has learned.

        Calibrations, weights and the items' record stay: models that were trained on part of
        the log to be calibrated by the rest may be trained again on all of it.

        Parameters
        ----------
        models : sequence of SignedModel
            As many, of the same signs, in the same order. Items may come and go.

        Returns
        -------
        FusionRanker
            A new one; this one stays as it is.
        """
        members = members_of(models, self._threads)
        blend = self._fitted().over(self._members, members)
        return FusionRanker.made_of(members, self._item_prior, self._threads, blend)

    # ---- asking ----

    def rank(self, queries: Queries, k: int = 10, exclude: Any = None, allowed: Any = None, *,
             among: str = "all", exposure: float | None = None) -> FusionHits:
        """The k best items, exactly.

        Parameters
        ----------
        queries : sequence of array_like (n_queries, dim) or (dim,), or dict by name
            Of each model. Models that were dropped may have None, or be missing from a dict,
            unless they tell what is shown and that counts.
        k : int
            Beyond the number of items answers are padded, as in `Index.search_furthest`.
        exclude, allowed : optional
            Ids to leave out per query, and the only ids (or a mask in the order of `ids`) that
            may be found, as in `Index.search_furthest`.
        among : {"all", "shown"}
            Whether the items to choose from are everything, or what could be shown anyway, as
            the candidates of an earlier stage: then exposure is left out of account.
        exposure : float, optional
            In the place of that of `fit`.

        Returns
        -------
        FusionHits
        """
        k = checks.to_int("k", k, 1)
        blend, preference, (asked, single) = self._asked(queries, among, exposure)
        n_queries = len(next(each for each in asked if each is not None))
        checks.check_padding(k, n_queries, len(self._members.ids))
        filters = Filters.of(self._members.ids, exclude, allowed, n_queries, single)
        blended = Blended(self._members, blend, asked, preference)
        found = in_batches(blended, k, filters, _QUERIES, lambda: self._index_of(blend))
        return self._hits(blend, asked, found, single)

    def score(self, queries: Queries, item_ids: npt.ArrayLike, *, among: str = "shown",
              exposure: float | None = None) -> FusionHits:
        """Scores of given items, (n_queries, n_ids), in the order of `item_ids`.

        Parameters
        ----------
        queries, among, exposure
            As in `rank`; by default these are items that are shown anyway.
        item_ids : array_like of int or str (n_ids,)

        Returns
        -------
        FusionHits

        Raises
        ------
        KeyError
            If an item is unknown.
        """
        blend, preference, (asked, single) = self._asked(queries, among, exposure)
        items = feedback.known_items(self._members.ids, item_ids)
        blended = Blended(self._members, blend, asked, preference)
        return self._hits(blend, asked, blended(items), single, items)

    def probability(self, log_odds: npt.ArrayLike, users: npt.ArrayLike | None = None
                    ) -> Float64Array:
        """Chances that items are liked if they are shown; NaN stays NaN.

        Parameters
        ----------
        log_odds : array_like of float
            As `rank` and `score` give them.
        users : array_like of int or str (len(log_odds),), optional
            Whose own log-odds count, as in `PosNegRanker.probability`.

        Returns
        -------
        float64, the same shape
        """
        blend = self._fitted()
        given = checks.to_numbers("log_odds", log_odds)
        if users is None:
            return expit(blend.chance(given))
        return personal_chance(blend.personal, blend.chance, given, users)

    # ---- files ----

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the ranker, with all models' rows, to a file that is replaced whole or not."""
        fusion_file.write(path, self._members, self._item_prior, self._blend)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, threads: int | None = None) -> FusionRanker:
        """Read a ranker from a file.

        Raises
        ------
        FormatError
            If the file is no such ranker, is truncated or altered, or of a newer version.
        """
        threads = checks.to_threads(threads)
        members, item_prior, blend = fusion_file.read(path, threads)
        return cls.made_of(members, item_prior, threads, blend)

    @classmethod
    def made_of(cls, members: Members, item_prior: float | None, threads: int | None,
                blend: Blend | None) -> FusionRanker:
        """A ranker of checked parts; for `cross_fit`, `load` and `replace`."""
        ranker = object.__new__(cls)
        ranker._threads, ranker._item_prior, ranker._members = threads, item_prior, members
        ranker._lock = pool.fresh_lock(ranker)
        ranker._blend, ranker._joint = blend, None
        return ranker

    def __getstate__(self) -> dict[str, Any]:
        sides = [(side.rows, side.items, side.metric) for side in self._members.sides]
        return {"members": self._members._replace(sides=()), "sides": sides,
                "item_prior": self._item_prior, "threads": self._threads, "blend": self._blend}

    def __setstate__(self, state: dict[str, Any]) -> None:
        members = fusion_file.members_again(state["members"], state["sides"], state["threads"])
        again = FusionRanker.made_of(members, state["item_prior"], state["threads"],
                                     state["blend"])
        self.__dict__.update(vars(again))
        self._lock = pool.fresh_lock(self)

    # ---- shared by the above ----

    def _fitted(self) -> Blend:
        blend = self._blend
        if blend is None:
            raise RuntimeError("fit must be called first: scores are not calibrated yet")
        return blend

    def _asked(self, queries: Any, among: str, exposure: float | None
               ) -> tuple[Blend, float | None, tuple[list[Float32Array | None], bool]]:
        """What was learned, how much it counts beside exposure, and checked queries."""
        blend = self._fitted()
        preference = self._preference(blend, among, exposure)
        return blend, preference, queries_of(
            self._members, queries, blend.needed(preference is not None), single=True)

    def _preference(self, blend: Blend, among: str, exposure: float | None) -> float | None:
        checks.to_choice("among", among, ("all", "shown"))
        if exposure is not None and (among == "shown" or blend.exposure is None):
            raise ValueError("exposure: expected among='all' and a ranker whose fit had unseen "
                             f"of 1 or more, got among={among!r}")
        if among == "shown" or blend.exposure is None:
            return None
        return blend.exposure.preference if exposure is None else preference_of(exposure)

    def _hits(self, blend: Blend, asked: list[Float32Array | None], found: Found,
              single: bool, same: Int64Array | None = None) -> FusionHits:
        return fusion_hits(Blended(self._members, blend, asked, None), found, single, same)

    def _index_of(self, blend: Blend) -> JointIndex:
        with self._lock:
            if self._joint is None or self._joint[0] is not blend:
                self._joint = (blend, index_of(self._members, blend, self._threads))
            return self._joint[1]
