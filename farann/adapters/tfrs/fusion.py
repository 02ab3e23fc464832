"""Layers that rank by any number of retrieval models, in TensorFlow alone."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from farann.adapters.posneg import FusionRanker, PosNegRanker
from farann.adapters.tfrs import scoring
from farann.adapters.tfrs.indexed import IndexedTopK, State, to_ids, to_rows, variable
from farann.adapters.tfrs.top_k import Tensor, as_vectors, take_ids
from farann.contract import checks

_DIMS = "queries: expected embeddings of the dimensions of the models"


class BruteForceFusion(IndexedTopK):
    """The best candidates by a `FusionRanker` of any number of models, in TensorFlow alone.

    It takes raw query features, runs all query models and returns fused scores, larger for what is
    better, and identifiers. It can be exported and served like any model.

    Parameters
    ----------
    query_models : sequence of tf.keras.Model, optional
        For each model of the ranker, in the order of its `names`, what turns the layer's input
        into query embeddings. Without them the layer is called with tuples of embeddings.
    k : int
        How many candidates to retrieve, if a call doesn't say.
    name : str, optional
    id_dtype : str, optional
        Type of the identifiers; the first `index_ranker` tells it, so only ``load_weights`` into
        an empty layer needs it.

    Notes
    -----
    Answers are those of ``ranker.rank(..., seen=True)``: give what users have rated to
    ``query_with_exclusions``. Scores are computed in float32: candidates
    whose scores differ by less than its rounding may change places. Of equal scores the candidate
    that was indexed first comes first. Where scoring all candidates takes too long, call the
    ranker, which has an index.

    Examples
    --------
    >>> import tensorflow as tf
    >>> from farann.adapters.posneg import FusionRanker, SignedModel
    >>> from farann.adapters.tfrs import BruteForceFusion
    >>> rng = np.random.default_rng(0)
    >>> users, films = rng.standard_normal((2, 50, 4), dtype=np.float32)
    >>> who, what = rng.integers(0, 50, (2, 2000))
    >>> liked = (users[who] * films[what]).sum(axis=1) + rng.standard_normal(2000) > 0
    >>> ranker = FusionRanker([SignedModel(films, users), SignedModel(films, -users, -1)])
    >>> ranker = ranker.fit(who, what, liked)
    >>> layer = BruteForceFusion(k=3).index_ranker(ranker, among="shown")
    >>> scores, ids = layer((users[:2], -users[:2]))
    >>> bool((layer.probability(scores) > 0.8).numpy().all())
    True
    """

    _MODELS: tuple[str, ...] = ("query_models",)

    def __init__(self, query_models: Sequence[Any] | None = None, k: int = 10,
                 name: str | None = None, *, id_dtype: Any = None) -> None:
        super().__init__(None, k, "dot", name, id_dtype)
        self.query_models = None if query_models is None else list(query_models)
        self._scale = variable("scale", np.zeros(0, np.float32))
        self._dims = variable("dims", np.zeros(0, np.int32))
        self._cosine = variable("cosine", np.zeros(0, np.bool_))
        self._intercept = variable("intercept", np.float32(np.nan))
        self._compile()

    def index(self, candidates: Any, identifiers: Any = None) -> BruteForceFusion:
        """Refused: candidates come with a ranker, which calibrates the scores of its models."""
        raise NotImplementedError("BruteForceFusion takes rankers: call index_ranker")

    def index_ranker(self, ranker: FusionRanker, identifiers: Any = None, *, among: str = "all",
                     exposure: float | None = None) -> BruteForceFusion:
        """Replace the items and coefficients by those of a ranker.

        Parameters
        ----------
        ranker : FusionRanker
            Before its `fit` the score is the plain average of the models' scores, and an item that
            a model lacks counts 0 there. Later changes of the ranker don't matter.
        identifiers : tensor (n,), optional
            In the order of ``ranker.ids``, which are the default.
        among, exposure : optional
            As for `FusionRanker.rank`.

        Returns
        -------
        BruteForceFusion
            The layer itself.

        Raises
        ------
        ValueError, TypeError
            For another number of models than of query models, and as `BruteForceFurthest.index`.
            Nothing changes then.
        """
        if not isinstance(ranker, FusionRanker):
            raise TypeError(f"ranker: expected a FusionRanker, got {type(ranker).__name__}")
        form = ranker.linear(among, exposure)
        if self.query_models is not None and len(self.query_models) != len(form.names):
            raise ValueError(f"ranker: expected {len(self.query_models)} models, as there are query"
                             f" models, got {', '.join(form.names)}")
        ids = to_ids(form.ids if identifiers is None else identifiers, len(form.rows))
        self._take_id_dtype(ids.dtype)
        cosine = [metric == "cosine" for metric in form.metrics]
        self._store({"candidates": form.rows, "scale": form.scale, "dims": form.dims,
                     "cosine": cosine, "intercept": form.intercept}, ids)
        return self

    def probability(self, scores: Any) -> Tensor:
        """Chances that candidates with these scores are liked if they are shown, float32.

        Parameters
        ----------
        scores : tensor
            Of this layer. It must hold a fitted ranker's score ``among="shown"``, as log-odds of
            being shown are in others: all chances are NaN then, as they are where scores are.
        """
        return tf.sigmoid(tf.cast(scores, tf.float32) + self._intercept)

    def pair_scores(self, queries: Tensor, candidates: Tensor) -> Tensor:
        """Refused: the embedding of one model doesn't tell the fused score."""
        raise ValueError("true_candidate_ids: expected with a layer of several models, got None")

    def save(self, *args: Any, **options: Any) -> None:
        """Write the layer; query models that share layers are copied, as Keras keeps these once."""
        models, method = self.query_models, self.query_with_exclusions
        if models is not None and _share_layers(models):
            self.query_models = [models[0], *map(_copied, models[1:])]
            self._compile()  # the compiled functions refer to the old models
        try:
            super().save(*args, **options)
        finally:
            self.query_models = models
            setattr(self, "query_with_exclusions", method)

    def get_config(self) -> dict[str, Any]:
        """The configuration for `from_config`; candidates are weights, and not part of it."""
        config = super().get_config()
        del config["metric"]  # each model has its own
        return config

    def _state(self) -> dict[str, Any]:
        return {**super()._state(), "scale": self._scale, "dims": self._dims,
                "cosine": self._cosine, "intercept": self._intercept}

    def _embed(self, queries: Any, state: State) -> tuple[Tensor, bool]:
        """The vectors that `LinearForm.vectors` makes of the queries of all models."""
        if self.query_models is not None:
            queries = [model(queries) for model in self.query_models]
        elif not isinstance(queries, (tuple, list)):
            raise TypeError("queries: expected a tuple, embeddings by each model, as the layer has "
                            f"no query models; got {type(queries).__name__}")
        embedded, single = zip(*map(as_vectors, queries), strict=True)
        n = embedded[0].shape[:1]
        if len(set(single)) > 1 or not all(n.is_compatible_with(v.shape[:1]) for v in embedded):
            raise ValueError("queries: expected as many by each model, got embeddings of shapes "
                             f"{', '.join(str(each.shape) for each in embedded)}")
        with tf.control_dependencies([state["candidates"]]):
            dims = tf.stack([tf.shape(each)[1] for each in embedded])
            same = tf.debugging.assert_equal(state["dims"], dims, _DIMS)
        with tf.control_dependencies([same]):
            parts = []
            for m, each in enumerate(embedded):
                known = tf.reduce_any(each != 0.0, axis=1, keepdims=True)
                parts += [tf.where(state["cosine"][m], scoring.unit(each), each),
                          tf.cast(known, tf.float32)]
            parts.append(tf.ones([tf.shape(embedded[0])[0], 2]))
            return tf.concat(parts, axis=1) * state["scale"], single[0]

    def _retrieve(self, queries: Tensor, k: Any, state: State) -> tuple[Tensor, Tensor]:
        scores = tf.matmul(queries, state["candidates"], transpose_b=True)
        best, columns = scoring.best_of(scores, k)
        return best, take_ids(state["identifiers"], columns)


class BruteForcePosNeg(BruteForceFusion):
    """The best candidates by a model of likes and a model of dislikes, in TensorFlow alone.

    `BruteForceFusion` of two models, which can be filled without a ranker.

    Parameters
    ----------
    positive_query_model, negative_query_model : tf.keras.Model, optional
        Turn what the layer is called with into query embeddings of the model trained on likes and
        of that trained on dislikes. Without them the layer is called with pairs of embeddings.
    metric : {"dot", "cosine"}
        What both models were trained for; a ranker brings its own.
    k, name, id_dtype
        As for `BruteForceFusion`.

    Notes
    -----
    After `index` the score is half the positive product less half the negative one, an average of
    numbers on two scales, which lists fewer likes than the positive model alone on all sets of
    ratings that it was tried on. `index_ranker` takes
    the scores of a fitted `PosNegRanker`, which has learned what those of the models mean.

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

    _MODELS = ("positive_query_model", "negative_query_model")
    _n_models = 2

    def __init__(self, positive_query_model: Any = None, negative_query_model: Any = None,
                 k: int = 10, name: str | None = None, *, metric: str = "dot",
                 id_dtype: Any = None) -> None:
        if (positive_query_model is None) != (negative_query_model is None):
            raise ValueError("positive_query_model, negative_query_model: expected both, or none "
                             "for calls with pairs of embeddings, got one")
        both = None if positive_query_model is None else (positive_query_model,
                                                          negative_query_model)
        super().__init__(both, k, name, id_dtype=id_dtype)
        self._metric = checks.to_choice("metric", metric, ("dot", "cosine"))

    @property
    def positive_query_model(self) -> Any:
        """The query model of likes."""
        return None if self.query_models is None else self.query_models[0]

    @property
    def negative_query_model(self) -> Any:
        """The query model of dislikes."""
        return None if self.query_models is None else self.query_models[1]

    def index(self, candidates: Any, identifiers: Any = None) -> BruteForcePosNeg:
        """Replace the candidates of both models.

        What a ranker has learned is gone then: for new items under an old calibration there is
        `FusionRanker.replace`.

        Parameters
        ----------
        candidates : pair of tensors (n, dim)
            Embeddings of the same candidates by the positive and by the negative model: real
            numbers of any type, kept as float32. The dimensions may differ.
        identifiers : tensor (n,), optional
            Strings or numbers, of the same type in every call; by default 0 to n - 1, int32.

        Returns
        -------
        BruteForcePosNeg
            The layer itself.

        Raises
        ------
        ValueError, TypeError
            As other layers do, and for what is no pair of as many. Nothing changes then.
        """
        if not isinstance(candidates, (tuple, list)) or len(candidates) != 2:
            raise TypeError("candidates: expected a pair, the embeddings by the positive and by "
                            f"the negative model, got {type(candidates).__name__}")
        positive, negative = (
            to_rows(name, rows, self._metric) for name, rows in zip(
                ("positive_candidates", "negative_candidates"), candidates, strict=True))
        if len(positive) != len(negative):
            raise ValueError("candidates: expected as many rows by both models, got "
                             f"{len(positive)} and {len(negative)}")
        nobody = [np.zeros((0, rows.shape[1])) for rows in (positive, negative)]
        ranker = PosNegRanker(positive, nobody[0], negative, nobody[1], metric=self._metric)
        self.index_ranker(ranker, to_ids(identifiers, len(positive)))
        return self

    def get_config(self) -> dict[str, Any]:
        """The configuration of all layers, and the metric."""
        return {**super().get_config(), "metric": self._metric}


def _share_layers(models: Sequence[Any]) -> bool:
    """Whether models have layers in common."""
    parts = [id(part) for model in models for part in {*model.submodules, model}]
    return len(set(parts)) < len(parts)


def _copied(model: Any) -> Any:
    """A model that answers the same and shares nothing."""
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/model.keras")
        return tf.keras.models.load_model(f"{folder}/model.keras", compile=False, safe_mode=False)


for _layer in (BruteForceFusion, BruteForcePosNeg):
    tf.keras.utils.register_keras_serializable(package="farann")(_layer)
