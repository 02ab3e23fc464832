"""Nearest to what is liked and furthest from what is disliked: two query models, one list."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from farann._types import Float32Array, Float64Array, Int64Array
from farann.adapters.posneg import PosNegRanker
from farann.adapters.tfrs.fused import NEEDS_CALIBRATION, FusedTopK
from farann.adapters.tfrs.fused_state import parts_of
from farann.adapters.tfrs.indexed import State
from farann.adapters.tfrs.native import NativeTopK
from farann.adapters.tfrs.top_k import Tensor


class BruteForcePosNeg(FusedTopK):
    """The best candidates of a model of likes and a model of dislikes, in TensorFlow alone.

    It takes raw query features, runs both query models and returns fused scores, larger for what
    is better, and identifiers. Every candidate is scored under both models. It can be exported
    and served like any model; `PosNeg` is faster where farann is there, and exact in float64.

    Parameters
    ----------
    positive_query_model, negative_query_model : tf.keras.Model, optional
        Turn what the layer is called with into query embeddings of the model trained on likes and
        of that trained on dislikes. Without them the layer is called with pairs of embeddings.
    k : int
        How many candidates to retrieve, if a call doesn't say.
    name : str, optional
    metric : {"dot", "cosine"}
        What both models were trained for.
    missing : {"prior", "drop"}
        A candidate that one model lacks counts there as average feedback does, or is left out.
    id_dtype : str, optional
        Type of the identifiers; the first `index` tells it, so only ``load_weights`` into an empty
        layer needs it.

    Notes
    -----
    The fused score is that of `PosNegRanker`: with w the weight, w logit P(like) - (1 - w) logit
    P(dislike), and `calibrate` learns how the models' scores become probabilities. **Before
    that**, the score is half the positive product less half the negative one, an average of
    numbers on two scales: right only if the models happen to score alike. A candidate that one
    model lacks is an error then.

    Scores are computed in float32: candidates whose scores differ by less than its rounding may
    change places. Of equal scores the candidate that was indexed first comes first.

    Examples
    --------
    >>> import tensorflow as tf
    >>> from farann.adapters.tfrs import BruteForcePosNeg
    >>> like = tf.keras.Sequential([tf.keras.layers.Lambda(lambda x: x)])
    >>> dislike = tf.keras.Sequential([tf.keras.layers.Lambda(lambda x: -x)])
    >>> layer = BruteForcePosNeg(like, dislike, k=2)
    >>> films = ["a", "b", "c"], [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [[0.0, 1.0]] * 3
    >>> layer = layer.index_from_dataset(tf.data.Dataset.from_tensor_slices(films).batch(2))
    >>> scores, ids = layer(tf.constant([[2.0, 1.0]]))
    >>> scores.numpy(), ids.numpy()
    (array([[2. , 1.5]], dtype=float32), array([[b'c', b'a']], dtype=object))
    """

    def __init__(self, positive_query_model: Any = None, negative_query_model: Any = None,
                 k: int = 10, name: str | None = None, *, metric: str = "dot",
                 missing: str = "prior", id_dtype: Any = None) -> None:
        super().__init__(positive_query_model, negative_query_model, k, metric, missing, name,
                         id_dtype)
        # As an attribute it is exported with the layer, and holds on to a layer without a name.
        setattr(self, "query_with_exclusions", tf.function(super().query_with_exclusions))

    def _store(self, state: State, identifiers: Tensor) -> None:
        self._dims.assign(state["dims"])  # which the layout goes by
        super()._store({**state, "candidates": self._laid_out(tf.constant(state["candidates"]))},
                       identifiers)

    def _retrieve(self, queries: Tensor, k: Any) -> tuple[Tensor, Tensor]:
        return self._retrieve_by_product(queries, self._indexed(), k)


class PosNeg(FusedTopK, NativeTopK):
    """The best candidates of a model of likes and a model of dislikes, by a `PosNegRanker`.

    Exact over all candidates: the k best fused scores in float64. It takes raw query features and
    runs both query models; eagerly, in ``tf.function``, ``fit`` and ``predict``, and is kept by
    ``save`` and ``save_weights``. For a serving process without Python, export what `to_exact`
    gives.

    Parameters
    ----------
    positive_query_model, negative_query_model, k, name, metric, missing, id_dtype
        As for `BruteForcePosNeg`.

    Notes
    -----
    What the scores are, and what they are without `calibrate`, is said at `BruteForcePosNeg`. The
    index is made by the first call after `index`, `calibrate` or loading.

    Examples
    --------
    >>> import tensorflow as tf
    >>> from farann.adapters.tfrs import PosNeg
    >>> rng = np.random.default_rng(0)
    >>> users, films = rng.standard_normal((2, 50, 4), dtype=np.float32)
    >>> like, dislike = (tf.keras.Sequential([tf.keras.layers.Embedding(50, 4)]) for _ in range(2))
    >>> for model, weights in ((like, users), (dislike, -users)):
    ...     _ = model(tf.constant([0])), model.set_weights([weights])
    >>> layer = PosNeg(like, dislike, k=3).index((films, films))
    >>> who, what = rng.integers(0, 50, (2, 2000))
    >>> liked = (users[who] * films[what]).sum(axis=1) + rng.standard_normal(2000) > 0
    >>> layer = layer.calibrate(who, what, liked)
    >>> scores, ids = layer(tf.constant([7, 21]))
    >>> bool((layer.probability(scores) > 0.8).numpy().all())
    True
    """

    _CANT_BE_EXPORTED = (
        "a PosNeg layer can't be exported: its index is no part of a TensorFlow graph. Export "
        "layer.to_exact(), which retrieves the same in TensorFlow alone, or keep the layer itself "
        "with save and tf.keras.models.load_model")
    _MADE_AT_ONCE = False  # calibrate would make it again, and may have to come first

    def __init__(self, positive_query_model: Any = None, negative_query_model: Any = None,
                 k: int = 10, name: str | None = None, *, metric: str = "dot",
                 missing: str = "prior", id_dtype: Any = None) -> None:
        super().__init__(positive_query_model, negative_query_model, k, metric, missing, name,
                         id_dtype, _PosNegSearch(metric))

    def to_exact(self, name: str | None = None) -> BruteForcePosNeg:
        """The same candidates, calibration and query models as a layer of TensorFlow alone.

        Parameters
        ----------
        name : str, optional

        Returns
        -------
        BruteForcePosNeg
            It can be exported and served anywhere.
        """
        exact = BruteForcePosNeg(
            self.positive_query_model, self.negative_query_model, self._k, name,
            metric=self._metric, missing=self._missing, id_dtype=self._identifiers.dtype)
        exact._take(self._parts(), self.identifiers)
        return exact

    def _retrieve_without(self, queries: Tensor, k: Any) -> tuple[Tensor, Tensor]:
        return self._retrieve_by_product(queries, self._laid_out(self._indexed()), k)


class _PosNegSearch:
    """Search by a ranker, whose queries stand side by side."""

    def __init__(self, metric: str) -> None:
        self.metric = metric

    def make(self, state: State) -> tuple[PosNegRanker, int]:
        parts = parts_of(state, self.metric)
        if not parts.calibrated and not parts.known.all():
            raise ValueError(NEEDS_CALIBRATION)
        return parts.ranker(), parts.positive.shape[1]

    def search(self, made: tuple[PosNegRanker, int], queries: Float32Array,
               k: int) -> tuple[Float64Array, Int64Array]:
        ranker, dim = made
        hits = ranker.rank(queries[:, :dim], queries[:, dim:], k)
        return hits.scores, hits.ids


for _layer in (BruteForcePosNeg, PosNeg):
    tf.keras.utils.register_keras_serializable(package="farann")(_layer)
