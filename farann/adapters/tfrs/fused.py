"""Layers that rank by two retrieval models: what was indexed, calibration, scores in TensorFlow."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from farann.adapters.id_arrays import IdArray
from farann.adapters.posneg import LinearLogit, PosNegRanker
from farann.adapters.posneg.linear import NO_PROBABILITY, UNCALIBRATED, LinearRanker, taken_apart
from farann.adapters.tfrs import scoring
from farann.adapters.tfrs.fused_state import (
    copied,
    lined_up,
    numbers_of,
    parts_of,
    share_layers,
    state_of,
)
from farann.adapters.tfrs.indexed import (
    IndexedTopK,
    check_dataset,
    collected,
    to_ids,
    variable,
)
from farann.adapters.tfrs.top_k import NOT_INDEXED, Tensor, as_vectors, furthest, take_ids

_SIDES = ("positive_candidates", "negative_candidates")
_DIMS = "queries: expected embeddings of the dimensions of the positive and negative candidates"
NEEDS_CALIBRATION = (
    "calibrate must be called first: without calibration nothing can stand for a candidate that "
    "one model lacks. missing='drop' leaves such candidates out")
# Feedback whose queries are embedded at a time.
_BATCH = 4096


class FusedTopK(IndexedTopK):
    """Base of the layers that fuse a model of likes and a model of dislikes.

    Candidates are kept side by side: a row holds both embeddings, zeros where a model lacks the
    candidate. Embedded queries are laid out alike.
    """

    _MODELS = ("positive_query_model", "negative_query_model")

    def __init__(self, positive_query_model: Any, negative_query_model: Any, k: int, metric: str,
                 missing: str, name: str | None, id_dtype: Any, *native: Any) -> None:
        if (positive_query_model is None) != (negative_query_model is None):
            raise ValueError("positive_query_model, negative_query_model: expected both, or none "
                             "for calls with pairs of embeddings, got one")
        if metric not in ("dot", "cosine"):
            raise ValueError(f"metric: expected 'dot' or 'cosine', got {metric!r}")
        if missing not in ("prior", "drop"):
            raise ValueError(f"missing: expected 'prior' or 'drop', got {missing!r}")
        super().__init__(None, k, metric, name, id_dtype, *native)
        self.positive_query_model = positive_query_model
        self.negative_query_model = negative_query_model
        self._missing = missing
        nothing = LinearRanker(
            np.zeros((0, 0), np.float32), np.zeros((0, 0), np.float32), np.zeros((0, 2), np.bool_),
            np.zeros(0), UNCALIBRATED, NO_PROBABILITY, metric)
        others = state_of(nothing)
        self._dims = variable("dims", others["dims"])
        self._known = variable("known", others["known"])
        self._item_log_odds = variable("item_log_odds", others["item_log_odds"])
        self._line = variable("line", others["line"])

    def index(self, candidates: Any, identifiers: Any = None) -> FusedTopK:
        """Take the candidates of both models, in the place of those there were.

        A calibration that there is stays, as long as the models are the same; calibrate again
        when they were trained again.

        Parameters
        ----------
        candidates : pair of tensors (n, dim)
            Embeddings by the positive and by the negative model: real numbers of any type, kept
            as float32. The dimensions may differ.
        identifiers : tensor (n,), or a tuple of two, optional
            Strings or numbers, of the same type in every call, each once; by default 0 to n - 1,
            int32. With two, one for each model, a candidate may be missing from either, and the
            numbers of rows may differ.

        Returns
        -------
        FusedTopK
            The layer itself.

        Raises
        ------
        ValueError, TypeError
            As other layers do, and for what is no pair, identifiers that come twice, or no
            candidate in common where ``missing="drop"``. Nothing changes then.
        """
        if not isinstance(candidates, (tuple, list)) or len(candidates) != 2:
            raise TypeError("candidates: expected a pair, the embeddings by the positive and by "
                            f"the negative model, got {type(candidates).__name__}")
        rows = [self._to_rows(name, given) for name, given in zip(_SIDES, candidates, strict=True)]
        pair = identifiers if isinstance(identifiers, tuple) else (identifiers, identifiers)
        if len(pair) != 2:
            raise ValueError("identifiers: expected a tensor or a pair of tensors, got "
                             f"{len(pair)}")
        ids = [to_ids(given, len(one)) for given, one in zip(pair, rows, strict=True)]
        if ids[0].dtype != ids[1].dtype:
            raise ValueError("identifiers: expected the same type for both models, got "
                             f"{ids[0].dtype.name} and {ids[1].dtype.name}")
        every, places = lined_up([one.numpy() for one in ids])
        sides = [np.zeros((len(every), one.shape[1]), np.float32) for one in rows]
        known = np.zeros((len(every), 2), np.bool_)
        for column, (side, one, at) in enumerate(zip(sides, rows, places, strict=True)):
            side[at], known[at, column] = one, True
        kept = known.all(axis=1) if self._missing == "drop" else np.ones(len(every), np.bool_)
        if not kept.any():
            raise ValueError("identifiers: expected some that both models have, got none")
        every = every[kept]
        self._take_id_dtype(ids[0].dtype)
        old = self._parts()
        self._take(old._replace(positive=sides[0][kept], negative=sides[1][kept],
                                known=known[kept], items=self._log_odds_of(every, old)),
                   tf.constant(every, ids[0].dtype))
        return self

    def index_from_dataset(self, candidates: tf.data.Dataset,
                           negative_candidates: tf.data.Dataset | None = None) -> FusedTopK:
        """Take the candidates of one dataset or of two, in the place of those there were.

        Parameters
        ----------
        candidates : tf.data.Dataset
            Batches of (identifiers, positive embeddings, negative embeddings); with a second
            dataset, of (identifiers, positive embeddings).
        negative_candidates : tf.data.Dataset, optional
            Batches of (identifiers, negative embeddings), in any order and of other candidates,
            too.

        Returns
        -------
        FusedTopK
            The layer itself.
        """
        if negative_candidates is None:
            expected = ("candidates: expected a dataset of batches of (identifiers, positive "
                        "embeddings, negative embeddings), or two datasets of (identifiers, "
                        "embeddings)")
            if not isinstance(candidates, tf.data.Dataset):
                raise TypeError(f"{expected}, got {type(candidates).__name__}")
            spec = candidates.element_spec
            if not isinstance(spec, tuple) or len(spec) != 3:
                raise ValueError(f"{expected}, got elements {spec}")
            for side in (1, 2):
                check_dataset(candidates.map(lambda *parts, side=side: (parts[0], parts[side])))
            identifiers, positive, negative = collected(candidates)
            return self.index((positive, negative), identifiers)
        both = (candidates, negative_candidates)
        for name, dataset in zip(_SIDES, both, strict=True):
            if not check_dataset(dataset):
                raise ValueError(f"{name}: expected batches of (identifiers, embeddings), got "
                                 f"{dataset.element_spec}")
        (positive_ids, positive), (negative_ids, negative) = map(collected, both)
        return self.index((positive, negative), (positive_ids, negative_ids))

    def index_ranker(self, ranker: PosNegRanker, identifiers: Any = None) -> FusedTopK:
        """Take the items of a fitted ranker, and all that it knows, in the place of what there was.

        Parameters
        ----------
        ranker : PosNegRanker
            With the fusion "logit" and a calibration that is linear, of two models with the
            layer's metric. Later changes of the ranker don't matter.
        identifiers : tensor (n,), optional
            In the order of ``ranker.ids``, which are the default, int64. What one model lacks
            was for the ranker to drop or to keep, whatever the layer's `missing`.

        Returns
        -------
        FusedTopK
            The layer itself.

        Raises
        ------
        ValueError
            If the ranker's score is not linear, is of another metric, or not fitted.
        """
        parts = taken_apart(ranker)
        if parts.metric != self._metric:
            raise ValueError(f"ranker: expected one of metric {self._metric!r}, as the layer is, "
                             f"got {parts.metric!r}")
        ids = to_ids(ranker.ids if identifiers is None else identifiers, len(parts.items))
        lined_up([ids.numpy()])
        self._take_id_dtype(ids.dtype)
        self._take(parts, ids)
        return self

    def to_ranker(self) -> PosNegRanker:
        """A ranker with the same candidates and calibration.

        It says what the layer leaves out: P(like) and P(dislike) of each answer, scores of items
        of one's choice. Its ids are the numbers of the candidates in the order of `identifiers`.
        """
        parts = self._parts()
        if not len(parts.items):
            raise ValueError(NOT_INDEXED)
        if not parts.calibrated and not parts.known.all():
            raise ValueError(NEEDS_CALIBRATION)
        return parts.ranker()

    @property
    def identifiers(self) -> Tensor:
        """Identifiers of the candidates, (n,)."""
        return self._identifiers.read_value()

    # ---- calibration ----

    def calibrate(self, queries: Any, item_ids: Any, labels: npt.ArrayLike, *,
                  users: npt.ArrayLike | None = None, sample_weight: npt.ArrayLike | None = None,
                  prior: float | None = None, calibration: Any = "platt",
                  weight: float | str = "fit", item_prior: float | None = 4.0) -> FusedTopK:
        """Learn from feedback what both models' scores mean, as `PosNegRanker.fit` does.

        Parameters
        ----------
        queries : tensor (n_queries, ...), or a tuple or dict of such
            What the query models take, one for each feedback.
        item_ids : tensor (n,)
            What was shown: identifiers of candidates. The models must not have been trained on
            this feedback.
        labels : array_like of bool or int (n,)
            1 for a like (or click), 0 for a dislike (or no click).
        users : array_like of int (n,), optional
            Which of the queries belongs to each feedback, if there are fewer queries.
        sample_weight, prior : optional
            As for `PosNegRanker.fit`.
        calibration, weight, item_prior : optional
            As for `PosNegRanker`; the calibration has to be linear: "platt", "temperature" or a
            scikit-learn LogisticRegression.

        Returns
        -------
        FusedTopK
            The layer itself.

        Raises
        ------
        ValueError, TypeError
            As from `PosNegRanker.fit`, before `index`, and for a calibration that isn't linear.
            The layer stays as it was then.
        KeyError
            If an item is no candidate.
        """
        parts = self._parts()
        if not len(parts.items):
            raise ValueError(NOT_INDEXED)
        identifiers = self._identifiers.numpy()
        positive, negative = self._embed_all(queries)
        ranker = parts.unfitted(calibration=calibration, weight=weight, item_prior=item_prior)
        ranker.fit(positive, negative, numbers_of(identifiers, item_ids), labels, users=users,
                   sample_weight=sample_weight, prior=prior)
        if ranker.linear_logit is None:
            raise ValueError("calibration: expected one that is linear, 'platt', 'temperature' or "
                             f"a LogisticRegression, got {calibration!r}")
        self._take(taken_apart(ranker), tf.constant(identifiers, self._identifiers.dtype))
        return self

    def probability(self, scores: Any) -> Tensor:
        """Chances that candidates with these scores are liked, float32; NaN stays NaN.

        Parameters
        ----------
        scores : tensor
            Of this layer, after `calibrate`; without it all chances are NaN.
        """
        slope, intercept = self._line[-2], self._line[-1]
        return tf.cast(tf.sigmoid(slope * tf.cast(scores, tf.float64) + intercept), tf.float32)

    # ---- the rest of what a layer is ----

    def pair_scores(self, queries: Tensor, candidates: Tensor) -> Tensor:
        """Refused: the embedding of one model doesn't tell the fused score."""
        raise ValueError("true_candidate_ids: expected with a layer of two models, got None")

    def save(self, *args: Any, **options: Any) -> None:
        """Write the layer as Keras does; query models that share layers become two of their own."""
        shared = self.negative_query_model
        if shared is None or not share_layers(self.positive_query_model, shared):
            super().save(*args, **options)
            return
        self.negative_query_model = copied(shared)
        try:
            super().save(*args, **options)
        finally:
            self.negative_query_model = shared

    def get_config(self) -> dict[str, Any]:
        """As for all layers, and what happens to candidates that one model lacks."""
        return {**super().get_config(), "missing": self._missing}

    def _state(self) -> dict[str, Any]:
        return {**super()._state(), "dims": self._dims, "known": self._known,
                "item_log_odds": self._item_log_odds, "line": self._line}

    def _parts(self) -> LinearRanker:
        return parts_of({name: value.numpy() for name, value in self._state().items()},
                        self._metric)

    def _take(self, parts: LinearRanker, identifiers: Tensor) -> None:
        self._store(state_of(parts), identifiers)

    def _log_odds_of(self, identifiers: IdArray, old: LinearRanker) -> npt.NDArray[np.float64]:
        """The items' own log-odds under new identifiers; who is new is average."""
        if not old.items.any():
            return np.zeros(len(identifiers))
        known = dict(zip(self._identifiers.numpy().tolist(), old.items.tolist(), strict=True))
        return np.array([known.get(one, 0.0) for one in identifiers.tolist()])

    # ---- retrieving ----

    def _embed(self, queries: Any) -> tuple[Tensor, bool]:
        (positive, single), (negative, other) = self._embed_both(queries)
        if single != other or not positive.shape[:1].is_compatible_with(negative.shape[:1]):
            raise ValueError("queries: expected as many by both models, got embeddings of shapes "
                             f"{positive.shape} and {negative.shape}")
        with tf.control_dependencies(self._checks(tf.stack([tf.shape(positive)[1],
                                                            tf.shape(negative)[1]]))):
            return tf.concat([positive, negative], axis=1), single

    def _embed_both(self, queries: Any) -> list[tuple[Tensor, bool]]:
        if self.positive_query_model is not None:
            queries = (self.positive_query_model(queries), self.negative_query_model(queries))
        elif not isinstance(queries, (tuple, list)) or len(queries) != 2:
            raise TypeError("queries: expected a pair, embeddings by the positive and by the "
                            "negative model, as the layer has no query models; got "
                            f"{type(queries).__name__}")
        return [as_vectors(part) for part in queries]

    def _embed_all(self, queries: Any) -> list[npt.NDArray[np.float32]]:
        """Embeddings of many queries by both models."""
        queries = (tf.nest.map_structure(tf.convert_to_tensor, queries)
                   if isinstance(queries, (tuple, dict)) else tf.convert_to_tensor(queries))
        n = len(tf.nest.flatten(queries)[0])
        parts = []
        for start in range(0, max(n, 1), _BATCH):
            few = tf.nest.map_structure(lambda part, at=start: part[at : at + _BATCH], queries)
            parts.append([vectors.numpy() for vectors, _ in self._embed_both(few)])
        return [np.concatenate(side) for side in zip(*parts, strict=True)]

    def _checks(self, dims: Tensor) -> list[Any]:
        """Refuse queries that can't be answered; in graphs the operations that will."""
        line, n = self._line.read_value(), tf.shape(self._known)[0]
        expected = tf.cast(self._dims.read_value(), tf.int32)
        unknown = tf.math.is_nan(line[LinearLogit._fields.index("positive_unknown")])
        checks: list[tuple[Tensor, str, list[Tensor]]] = [
            (n > 0, NOT_INDEXED, []),
            ((n == 0) | tf.reduce_all(expected == dims), _DIMS, [expected, dims]),
            (~unknown | tf.reduce_all(self._known), NEEDS_CALIBRATION, []),
        ]
        if not tf.executing_eagerly():
            return [tf.debugging.Assert(holds, [message, *numbers])
                    for holds, message, numbers in checks]
        for holds, message, numbers in checks:
            if not holds:
                told = ", got ".join(str(number.numpy().tolist()) for number in numbers)
                raise ValueError(f"{message}{', ' if told else ''}{told}")
        return []

    def _retrieve_by_product(self, queries: Tensor, rows: Tensor,
                             k: Any) -> tuple[Tensor, Tensor]:
        """The best by one product with rows that are laid out for it."""
        size = len(LinearLogit._fields)
        line = LinearLogit(*tf.unstack(self._line[:size], size))
        weights = (line.weight, 1.0 - line.weight)
        slopes = tf.stack([weights[0] * line.positive_slope, -weights[1] * line.negative_slope])
        vectors = self._laid_out(queries) * tf.cast(tf.repeat(slopes, self._dims), tf.float32)
        positive, negative = self._known[:, 0], self._known[:, 1]
        own = weights[0] * line.positive_item - weights[1] * line.negative_item
        offsets = (
            weights[0] * tf.where(positive, line.positive_intercept, line.positive_unknown)
            - weights[1] * tf.where(negative, line.negative_intercept, line.negative_unknown)
            + own * self._item_log_odds)
        scores = tf.matmul(vectors, rows, transpose_b=True) + tf.cast(offsets, tf.float32)
        best, columns = furthest(scores, k)
        return best, take_ids(self._identifiers, columns)

    def _laid_out(self, vectors: Tensor) -> Tensor:
        """Vectors of both models whose product is that of the metric."""
        if self._metric == "dot":
            return vectors
        dim = self._dims[0]
        return tf.concat([scoring.unit(vectors[:, :dim]), scoring.unit(vectors[:, dim:])], axis=1)


