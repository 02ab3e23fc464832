"""Two-tower models of what is liked, of what is disliked, and of both, from one log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from farann._types import Float32Array
from farann.adapters.posneg import FusionRanker, SignedModel
from farann.adapters.posneg.signed import SIGNS
from farann.adapters.tfrs.mixed_negatives import MixedNegatives, id_of
from farann.adapters.tfrs.posneg import BruteForcePosNeg, PosNeg
from farann.adapters.tfrs.retrieval_task import OPERATIONS, RetrievalTask, is_liked
from farann.adapters.tfrs.top_k import Tensor
from farann.adapters.training import logistic_losses
from farann.contract import checks

# Rows embedded at a time.
_BATCH = 4096


class SignedTowers(tfrs.Model):
    """One two-tower retrieval model, trained on a log of likes and dislikes (clicks and passes).

    Batches are tuples (query features, candidate features, labels) or the same with weights of
    the rows: a row is what was shown to whom, and whether it was liked.

    Parameters
    ----------
    query_model, candidate_model : tf.keras.Model
        From features to embeddings of one dimension; they may share layers.
    sign : {1, -1, "both"}
        1 for a model of likes: its softmax puts a liked candidate above those of the batch. -1 for
        the same of dislikes. "both" for one of logistic loss, whose score is log-odds of a like
        but for a constant.
    negatives : MixedNegatives, optional
        Further candidates, and how often each is drawn. It also says which feature is the id.
    explicit : float
        How much a row of the other label counts, by the "not to recommend" loss; 0 leaves such
        rows to be negatives of others.
    temperature : float
        Scores are divided by it.
    name : str, optional

    Notes
    -----
    Losses of a batch are averaged over its rows. See `RetrievalTask` for what they are.
    """

    def __init__(self, query_model: Any, candidate_model: Any, sign: int | str = 1, *,
                 negatives: MixedNegatives | None = None, explicit: float = 1.0,
                 temperature: float = 1.0, name: str | None = None) -> None:
        super().__init__(name=name)
        if isinstance(sign, bool) or not any(sign == one for one in SIGNS):
            raise ValueError(f"sign: expected 1, -1 or 'both', got {checks.shown(sign)}")
        self.query_model, self.candidate_model, self.sign = query_model, candidate_model, sign
        self._negatives = negatives
        self._temperature = checks.to_positive("temperature", temperature)
        self.task = RetrievalTask(temperature=temperature, dislike_weight=explicit,
                                  reduction="mean")
        if sign == "both":
            self._intercept = tf.Variable(0.0, name="intercept")

    def compute_loss(self, inputs: Any, training: bool = False) -> Tensor:
        """Loss of a batch, (query features, candidate features, labels[, weights])."""
        queries, candidates, labels, weights = _parts_of(inputs)
        liked, asked = is_liked(labels), self.query_model(queries, training=training)
        if self.sign == "both":
            return self._logistic_loss(asked, candidates, liked, weights, training)
        ids = log_q = None
        if self._negatives is not None:
            candidates, ids, log_q = self._negatives(candidates)
        return self.task(asked, self.candidate_model(candidates, training=training), weights,
                         candidate_ids=ids, log_q=log_q,
                         labels=liked if self.sign == 1 else ~liked)

    def _logistic_loss(self, asked: Tensor, candidates: Any, liked: Tensor, weights: Any,
                       training: bool) -> Tensor:
        shown = self.candidate_model(candidates, training=training)
        scores = tf.cast(tf.reduce_sum(asked * shown, axis=1), tf.float32) / self._temperature
        losses = logistic_losses(OPERATIONS, scores + self._intercept, liked)
        if weights is not None:
            losses *= tf.reshape(tf.cast(weights, tf.float32), [-1])
        return tf.reduce_mean(losses)

    def embed_queries(self, queries: Any) -> Float32Array:
        """Embeddings of query features, (n, dim)."""
        return _embedded(self.query_model, queries)

    def embed_candidates(self, candidates: Any) -> Float32Array:
        """Embeddings of candidate features, (n, dim)."""
        return _embedded(self.candidate_model, candidates)


class PosNegTowers(tfrs.Model):
    """Two-tower models of likes, of dislikes and, if wanted, of both, trained together.

    Their losses are added, so that towers may share layers. `fit` takes batches as `SignedTowers`
    does. To train the models apart, compile and fit each by itself; towers that share layers
    would change each other's then.

    Parameters
    ----------
    *towers : SignedTowers
        With different signs; 1 and -1 are needed for `to_layer`.
    name : str, optional

    Examples
    --------
    >>> import tensorflow as tf
    >>> from farann.adapters.tfrs import PosNegTowers, SignedTowers
    >>> def tower():
    ...     return tf.keras.Sequential([tf.keras.layers.Embedding(20, 4)])
    >>> model = PosNegTowers(SignedTowers(tower(), tower(), 1), SignedTowers(tower(), tower(), -1))
    >>> model.compile(optimizer=tf.keras.optimizers.legacy.Adam(0.1))
    >>> who, what = np.random.default_rng(0).integers(0, 20, (2, 500))
    >>> log = tf.data.Dataset.from_tensor_slices((who, what, (who + what) % 2 == 0))
    >>> _ = model.fit(log.batch(50), epochs=8, verbose=0)
    >>> layer = model.to_layer(np.arange(20), k=5)
    >>> layer(tf.constant([3]))[1].numpy() % 2
    array([[1, 1, 1, 1, 1]])
    """

    def __init__(self, *towers: SignedTowers, name: str | None = None) -> None:
        super().__init__(name=name)
        for each in towers:
            if not isinstance(each, SignedTowers):
                raise TypeError(f"towers: expected SignedTowers, got {checks.shown(each)}")
        signs = [each.sign for each in towers]
        if not towers or len(set(signs)) < len(signs):
            raise ValueError(f"towers: expected one or more of different signs, got {signs}")
        self.towers = list(towers)

    def compute_loss(self, inputs: Any, training: bool = False) -> Tensor:
        """The sum of the models' losses."""
        return tf.add_n([each.compute_loss(inputs, training) for each in self.towers])

    def of_sign(self, sign: int | str) -> SignedTowers:
        """The model of a sign.

        Raises
        ------
        ValueError
            If there is none.
        """
        for each in self.towers:
            if each.sign == sign:
                return each
        raise ValueError(f"towers: expected a model of sign {sign!r}, got those of "
                         f"{[each.sign for each in self.towers]}")

    def embed_queries(self, queries: Any) -> list[Float32Array]:
        """Embeddings of query features by each model, as a `FusionRanker` takes them."""
        return [each.embed_queries(queries) for each in self.towers]

    def to_layer(self, catalogue: Any, id: str | None = None, k: int = 10, *,
                 exact: bool = False) -> PosNeg | BruteForcePosNeg:
        """A layer that ranks by the models of likes and of dislikes; calibrate it next.

        Parameters
        ----------
        catalogue : array (n_items,) or dict of arrays (n_items, ...)
            Features of the candidates.
        id : str, optional
            Which of the features is the id, if there are several.
        k : int
            How many candidates to retrieve, if a call doesn't say.
        exact : bool
            Give a `BruteForcePosNeg`, to be exported, rather than a `PosNeg`.
        """
        both = self.of_sign(1), self.of_sign(-1)
        layer = (BruteForcePosNeg if exact else PosNeg)(
            both[0].query_model, both[1].query_model, k)
        return layer.index(tuple(each.embed_candidates(catalogue) for each in both),
                           id_of(catalogue, id))

    def to_ranker(self, catalogue: Any, **options: Any) -> FusionRanker:
        """A `FusionRanker` of all models; fit it next. Its ids are numbers of the catalogue's rows.

        Parameters
        ----------
        catalogue : array (n_items,) or dict of arrays (n_items, ...)
        **options
            Of `FusionRanker`.
        """
        return FusionRanker([SignedModel(each.embed_candidates(catalogue), each.sign)
                             for each in self.towers], **options)


def _parts_of(inputs: Any) -> tuple[Any, Any, Any, Any]:
    if not isinstance(inputs, (tuple, list)) or len(inputs) not in (3, 4):
        what = (f"{len(inputs)} parts" if isinstance(inputs, (tuple, list))
                else type(inputs).__name__)
        raise ValueError("inputs: expected batches of (query features, candidate features, labels)"
                         f" or the same with weights, got {what}")
    queries, candidates, labels, *weights = inputs
    return queries, candidates, labels, weights[0] if weights else None


def _embedded(model: Any, features: Any) -> Float32Array:
    """Embeddings of features in batches."""
    if isinstance(features, Mapping):
        features = {key: tf.convert_to_tensor(each) for key, each in features.items()}
    else:
        features = tf.convert_to_tensor(features)
    n = len(tf.nest.flatten(features)[0])
    return np.concatenate([
        np.asarray(model(tf.nest.map_structure(lambda each, at=at: each[at : at + _BATCH],
                                               features), training=False), np.float32)
        for at in range(0, max(n, 1), _BATCH)])
