"""Rank items by a model of what people like and a model of what they dislike.

Two retrieval models, trained apart, score on scales of their own. `PosNegRanker` calibrates
both on feedback that neither has seen, fuses them, and finds the k best of all items exactly.
The page on likes and dislikes in the documentation has the theory, and results on real data.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from farann._types import Float64Array
from farann.adapters.posneg import feedback, fitting, naming, retrieval
from farann.adapters.posneg.calibration import RAW, expit
from farann.adapters.posneg.hits import LinearLogit, PosNegHits, hits_of
from farann.adapters.posneg.intercepts import personal_chance
from farann.adapters.posneg.judging import JudgedPair
from farann.adapters.posneg.naming import Ids
from farann.adapters.posneg.options import check_options
from farann.adapters.posneg.scoring import Filters, Model, Scorer, paired, query_pair
from farann.adapters.posneg.sides import rows_of_both
from farann.adapters.posneg.stored import Stored
from farann.contract import checks
from farann.index import Index
from farann.runtime import pool

__all__ = ["LinearLogit", "PosNegHits", "PosNegRanker"]

# Queries answered at a time; ranks keep all similarities of each.
_QUERIES, _FEW_QUERIES = 4096, 64


class PosNegRanker(Stored, JudgedPair):
    """Nearest to what is liked and furthest from what is disliked, on one scale.

    Parameters
    ----------
    positive, negative : array_like (n, dim) or farann.Index
        Item embeddings of the model trained on likes and of that trained on dislikes; the
        dimensions may differ. Rows are copied, so later changes of an index don't matter.
    ids : array_like of int or str (n,), optional
        Ids of the rows of arrays, by default 0, 1, 2, ...; an index brings its own.
    metric : {"dot", "cosine", "l2"}
        What the models were trained for, if arrays are given; an index brings its own. The
        similarity is the dot product, the cosine, or minus the distance.
    calibration : {"platt", "isotonic", "temperature", "none"} or scikit-learn estimator
        How similarities become probabilities. An estimator is cloned, and fitted on one
        feature; its `predict_proba` is used if it has that, else its `predict`.
    fusion : {"logit", "convex", "product", "combsum", "combmnz", "rrf", "isr", "borda", "veto"}
        How two probabilities become one score; see Notes.
    weight : float or "fit", optional
        Of the positive model, 0 to 1; at 0.5 both count alike. "fit" lets `fit` choose it, which
        is the default for calibrated log-odds, the fusion "logit"; for others it is 0.5.
    normalize : {None, "minmax", "zmuv", "softmax", "rank"}
        Of each query's similarities over all items, before calibration: to 0..1, to mean 0
        and variance 1, to the log of their softmax, or to the share of items not above.
    item_prior : float or None
        Also learn from feedback which items are liked by everybody or by nobody: by each item's
        log-odds of a like, shrunk as if it had so much average feedback beside its own, and by
        how long its vectors are in both models (not under "cosine"). None leaves it out, and so
        does the calibration "none".
    missing : {"prior", "drop"}
        An item that one model lacks counts there as average feedback does, or is left out. By
        "prior" so counts a user whom a model under "cosine" lacks, whose query is zeros.
    veto : float, ("quantile", q) or ("lift", x), optional
        Drop items whose P(dislike) is above it, whatever the fusion: above a chance, above the
        chance that a share q of the feedback of `fit` is not above, or if the odds of a dislike
        are more than x times those of the feedback. For the fusion "veto" the default is
        ("lift", 1), and without calibration 0.5.
    rank_constant : float
        The constant of "rrf".
    threads : int, optional
        For batches, as in `Index`.

    Notes
    -----
    With p = P(like) by the positive model, n = P(dislike) by the negative, w the weight and
    r_p, r_n the ranks by these (the least disliked first), the fused scores are

    ========= =============================================================
    logit     w logit(p) - (1 - w) logit(n)
    convex    w p + (1 - w) (1 - n)
    product   p^(2w) (1 - n)^(2 (1 - w)), at w = 0.5 the plain product
    combsum   2 w p + 2 (1 - w) (1 - n)
    combmnz   combsum times the number of models that have the item
    rrf       2 w / (c + r_p) + 2 (1 - w) / (c + r_n)
    isr       2 w / r_p^2 + 2 (1 - w) / r_n^2, times the number as in combmnz
    borda     as rrf, with (N - r + 1) / N; half of the rest for what is missing
    veto      p; what is above the veto is dropped
    ========= =============================================================

    Where nothing is calibrated, similarities take the place of logits and probabilities.
    Equal scores are ordered by the positive similarity, then by id.

    A ranker may be used by any number of threads; `rank` sees what `fit` found before or
    after, never between.

    Examples
    --------
    >>> from farann.adapters.posneg import PosNegRanker
    >>> rng = np.random.default_rng(0)
    >>> items, users = rng.standard_normal((2, 200, 8), dtype=np.float32)
    >>> who, what = rng.integers(0, 200, (2, 3000))
    >>> liked = rng.random(3000) < 1 / (1 + np.exp(-(users[who] * items[what]).sum(axis=1)))
    >>> ranker = PosNegRanker(items, -items)
    >>> ranker = ranker.fit(users, users, what, liked, users=who)
    >>> hits = ranker.rank(users[:2], users[:2], k=3)
    >>> hits.ids.shape, bool((hits.positive > 0.9).all()), bool((hits.negative < 0.1).all())
    ((2, 3), True, True)
    """

    def __init__(self, positive: npt.ArrayLike | Index, negative: npt.ArrayLike | Index, *,
                 ids: npt.ArrayLike | None = None, metric: str = "dot",
                 calibration: Any = "platt", fusion: str = "logit",
                 weight: float | str | None = None, normalize: str | None = None,
                 item_prior: float | None = 4.0, missing: str = "prior",
                 veto: float | tuple[str, float] | None = None, rank_constant: float = 60.0,
                 threads: int | None = None) -> None:
        metric = checks.to_metric(metric)
        options = check_options(
            calibration=calibration, fusion=fusion, weight=weight, normalize=normalize,
            item_prior=item_prior, missing=missing, veto=veto, rank_constant=rank_constant)
        self._calibration, self._normalize, self._missing = calibration, normalize, missing
        self._weight, self._item_prior = options.weight, options.item_prior
        self._veto = options.veto
        self._threads = checks.to_threads(threads)
        sides = rows_of_both(positive, negative, ids, metric)
        self._ids, self._pair = paired(sides, missing, normalize, self._threads)
        if calibration == "none" and not all(side.known.all() for side in self._pair[:2]):
            raise ValueError("missing: without calibration nothing can stand for an item that one "
                             "model lacks; expected 'drop', got 'prior'")
        self._fusion = options.fusion
        self._lock = pool.fresh_lock(self)
        self._joint: tuple[Model, retrieval.Joint] | None = None
        self._model: Model | None = None
        if calibration == "none" and options.weight != "fit":
            self._model = Model(RAW, RAW, self._fusion, np.zeros(len(self._ids)))

    # ---- what it knows ----

    @property
    def ids(self) -> Ids:
        """Ids of all items in ascending order, which is that of boolean masks."""
        return self._ids.copy()

    @property
    def weight(self) -> float:
        """The positive model's weight, given or fitted."""
        return self._fitted().fusion.weight

    @property
    def item_log_odds(self) -> Float64Array:
        """What each item adds to its log-odds of a like, whoever asks, (len(ids),).

        In the order of `ids`; see `item_prior`.
        """
        return self._fitted().items.copy()

    @property
    def linear_logit(self) -> LinearLogit | None:
        """The fused score as a formula; None if it isn't linear in the similarities."""
        model = self._fitted()
        positive, negative = model.positive, model.negative
        if (model.fusion.name != "logit" or self._normalize is not None
                or positive.linear is None or negative.linear is None):
            return None
        return LinearLogit(model.fusion.weight,
                           *positive.linear, positive.item_weight, positive.unknown,
                           *negative.linear, negative.item_weight, negative.unknown)

    def __repr__(self) -> str:
        state = "fitted" if self._model is not None else "not fitted"
        return (f"<PosNegRanker: {len(self._ids):,} items, {self._fusion.name!r} of "
                f"{self._calibration!r}, {state}>")

    # ---- learning ----

    def fit(self, positive_queries: npt.ArrayLike, negative_queries: npt.ArrayLike,
            item_ids: npt.ArrayLike, labels: npt.ArrayLike, *,
            users: npt.ArrayLike | None = None, user_ids: npt.ArrayLike | None = None,
            sample_weight: npt.ArrayLike | None = None,
            prior: float | None = None) -> PosNegRanker:
        """Calibrate both models, and fit the weight if it is to be fitted.

        Parameters
        ----------
        positive_queries, negative_queries : array_like (n_queries, dim)
            Query embeddings of both models.
        item_ids : array_like of int or str (n,)
            What was shown. The models must not have been trained on this feedback.
        labels : array_like of bool or int (n,)
            1 for a like (or click), 0 or -1 for a dislike (or no click).
        users : array_like of int or str (n,), optional
            Which query belongs to each feedback; by default the first to the first, and so on.
            Numbers of queries, or some of `user_ids`.
            Feedback of one query, or of equal ones, counts as one user's: what makes some users
            like more than others is kept out of the weights.
        user_ids : array_like of int or str (n_queries,), optional
            Whose each query is, if users have ids other than the queries' numbers.
        sample_weight : array_like of float (n,), optional
            Of 0 or more: inverse propensities, say. Their scale doesn't matter.
        prior : float, optional
            The share of likes where the ranker will be used, between 0 and 1, if feedback was
            sampled to another share, as a balanced log is.

        Returns
        -------
        PosNegRanker
            The ranker itself.

        Raises
        ------
        ValueError, TypeError
            For wrong shapes or labels, numbers that are not finite, or feedback of one kind
            only. The ranker keeps what it had found before.
        KeyError
            If neither model has an item.
        ImportError
            Without scikit-learn.

        Warns
        -----
        UserWarning
            If a model's scores don't rise with what they should, and it doesn't help beside the
            other either (``fusion="logit"``); it is then left out of account.
        """
        queries = query_pair(self._pair, positive_queries, negative_queries, single=False,
                             zeros=self._zeros)
        asked = feedback.Users.of(users, user_ids, len(queries[0]))
        given = feedback.checked(queries, self._ids, item_ids, labels, asked, sample_weight,
                                 prior)
        if self._fusion.by_rank or self._normalize is not None:
            given = feedback.by_asker(given)
        settings = fitting.Settings(self._calibration, self._fusion, self._weight == "fit",
                                    self._item_prior, self._veto)
        model = fitting.fit(self._pair, settings, given)
        if model.personal is not None and asked is not None:
            model = dataclasses.replace(model, personal=model.personal._replace(ids=asked.ids))
        with self._lock:
            self._model, self._joint = model, None
        return self

    def replace(self, positive: npt.ArrayLike | Index, negative: npt.ArrayLike | Index, *,
                ids: npt.ArrayLike | None = None, metric: str | None = None) -> PosNegRanker:
        """A ranker of models trained anew, under what this one has learned.

        Calibrations and weights stay, and so does what each item adds to its log-odds: models
        that were trained on part of the log, so that the rest could calibrate them, may be
        trained again on all of it. Items may come and go; new ones add nothing.

        Parameters
        ----------
        positive, negative, ids, metric
            As in the constructor; the metric of this ranker's positive model by default.

        Returns
        -------
        PosNegRanker
            A new one; this one stays as it is.
        """
        model = self._fitted()
        metric = self._pair.positive.metric if metric is None else metric
        other = PosNegRanker(positive, negative, ids=ids, metric=metric, threads=self._threads,
                             **self._settings())
        other._model = dataclasses.replace(
            model, items=naming.by_id(self._ids, model.items, other._ids))
        return other

    # ---- asking ----

    def rank(self, positive_queries: npt.ArrayLike, negative_queries: npt.ArrayLike, k: int = 10,
             exclude: Any = None, allowed: Any = None, *,
             candidates: int | None = None) -> PosNegHits:
        """The k best items by the fused score, exactly.

        Parameters
        ----------
        positive_queries, negative_queries : array_like (n_queries, dim) or (dim,)
        k : int
            Beyond the number of items answers are padded, as in `Index.search_furthest`.
        exclude, allowed : optional
            Ids to leave out per query, and the only ids (or a mask in the order of `ids`) that
            may be found, as in `Index.search_furthest`.
        candidates : int, optional
            Don't look at all items but at so many of the most liked and of the least disliked
            ones, scored under both models. Cheaper for some fusions, and it misses items that
            are good under both models but first under neither.

        Returns
        -------
        PosNegHits
        """
        k = checks.to_int("k", k, 1)
        if candidates is not None:
            candidates = checks.to_int("candidates", candidates, k)
        model = self._fitted()
        queries = query_pair(self._pair, positive_queries, negative_queries, single=True,
                             zeros=self._zeros)
        checks.check_padding(k, len(queries[0]), len(self._ids))
        single = np.ndim(positive_queries) == 1
        filters = Filters.of(self._ids, exclude, allowed, len(queries[0]), single)
        found = retrieval.empty(len(queries[0]), k)
        step = _FEW_QUERIES if self._normalize == "rank" else _QUERIES
        for start in range(0, len(queries[0]), step):
            some = slice(start, start + step)
            scorer = Scorer(self._pair, model, queries[0][some], queries[1][some],
                            self._threshold(model))
            best = retrieval.best(scorer, k, filters.take(some), candidates, self._joint_of)
            retrieval.put(found, some, best)
        return hits_of(self._ids, found, single)

    def score(self, positive_queries: npt.ArrayLike, negative_queries: npt.ArrayLike,
              item_ids: npt.ArrayLike) -> PosNegHits:
        """Fused scores and both parts of given items.

        Parameters
        ----------
        positive_queries, negative_queries : array_like (n_queries, dim) or (dim,)
        item_ids : array_like of int or str (n_ids,)

        Returns
        -------
        PosNegHits
            Of shape (n_queries, n_ids), in the order of `item_ids`. Items above the veto have
            the score minus infinity.

        Raises
        ------
        KeyError
            If an item is unknown.
        """
        model = self._fitted()
        queries = query_pair(self._pair, positive_queries, negative_queries, single=True,
                             zeros=self._zeros)
        items = feedback.known_items(self._ids, item_ids)
        scorer = Scorer(self._pair, model, *queries, self._threshold(model))
        if model.fusion.by_rank or 4 * len(items) > len(self._ids):
            scored = scorer.everything().map(lambda part: part[:, items])
        else:
            scored = scorer(np.broadcast_to(items, (len(scorer), len(items))))
        return hits_of(self._ids, scored, np.ndim(positive_queries) == 1)

    def probability(self, scores: npt.ArrayLike, users: npt.ArrayLike | None = None
                    ) -> Float64Array:
        """Chances that items with these fused scores are liked; NaN stays NaN.

        Parameters
        ----------
        scores : array_like of float
            `scores` of `rank` or `score`, which were calibrated by `fit` for this.
        users : array_like of int or str (len(scores),), optional
            Numbers of queries of `fit`, or ids if it had `user_ids`, each of whom likes more or
            less than others; -1, None, or an id that `fit` didn't have, is somebody else.

        Returns
        -------
        float64, the same shape
        """
        model = self._fitted()
        if model.probability is None:
            raise RuntimeError("probability: fit must be called first")
        fused = checks.to_numbers("scores", scores)
        finite = np.where(np.isfinite(fused), fused, 0.0)
        chance = (expit(model.probability(finite)) if users is None else
                  personal_chance(model.personal, model.probability, finite, users))
        chance = np.where(np.isneginf(fused), 0.0, chance)  # dropped by the veto
        return np.where(np.isnan(fused), np.nan, chance)

    # ---- shared by the above ----

    @property
    def _zeros(self) -> bool:
        return self._missing == "prior" and self._fusion.calibrated

    def _threshold(self, model: Model) -> float | None:
        return model.veto if isinstance(self._veto, tuple) else self._veto

    def _fitted(self) -> Model:
        model = self._model
        if model is None:
            raise RuntimeError("fit must be called first: scores are not calibrated yet")
        return model

    def _joint_of(self, model: Model) -> retrieval.Joint:
        with self._lock:
            if self._joint is None or self._joint[0] is not model:
                self._joint = (model, retrieval.Joint(self._pair, model, self._threads))
            return self._joint[1]
