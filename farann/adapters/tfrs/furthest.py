"""Furthest retrieval by a farann index inside a layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from farann._types import Float32Array, Int64Array
from farann.adapters.index_options import index_options, search_options
from farann.adapters.tfrs import scoring
from farann.adapters.tfrs.brute_force import BruteForceFurthest
from farann.adapters.tfrs.indexed import State
from farann.adapters.tfrs.native import NativeTopK
from farann.adapters.tfrs.top_k import Tensor, furthest, take_ids
from farann.index import Index


class Furthest(NativeTopK):
    """Furthest candidates by a `farann.Index`: exact and fast, or approximate and faster.

    It runs eagerly, in ``tf.function``, ``fit`` and ``predict``, and is kept by ``save`` (a folder
    or a ``.keras`` file) and ``save_weights``; programs that load it need farann. For a serving
    process without Python, export what `to_exact` gives.

    Parameters
    ----------
    query_model : tf.keras.Model, optional
        Turns what the layer is called with into query embeddings; without it the layer expects
        embeddings.
    k : int
        How many candidates to retrieve, if a call doesn't say.
    metric : {"dot", "cosine", "l2"}
        Furthest means the smallest dot product, as two-tower models need it, the smallest cosine
        or the largest distance.
    recall, epsilon : float, optional
        Passed on to `farann.Index.search_furthest`: answers are approximate then. Give one of
        them at most.
    cells : int, optional
        Passed on to `farann.Index`.
    codes : str
        Passed on to `farann.Index`.
    name : str, optional
    id_dtype : str, optional
        Type of the identifiers; the first `index` tells it, so only ``load_weights`` into an empty
        layer needs it.

    Notes
    -----
    Candidates are kept twice: in a variable, which is what Keras saves, and in the index, which is
    made from it when it is first needed after loading. On the way through ``predict`` or another
    compiled function errors come as ``tf.errors.OpError`` with the same text.

    Examples
    --------
    >>> import tensorflow as tf
    >>> from farann.adapters.tfrs import Furthest
    >>> layer = Furthest(k=2)
    >>> layer = layer.index([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], ["a", "b", "c"])
    >>> scores, ids = layer.query_with_exclusions(tf.constant([[2.0, 1.0]]), [["c"]])
    >>> scores.numpy(), ids.numpy()
    (array([[-1., -2.]], dtype=float32), array([[b'b', b'a']], dtype=object))
    """

    _CANT_BE_EXPORTED = (
        "a Furthest layer can't be exported: its index is no part of a TensorFlow graph. Export "
        "layer.to_exact(), which retrieves the same in TensorFlow alone, or keep the layer itself "
        "with save and tf.keras.models.load_model")

    def __init__(self, query_model: Any = None, k: int = 10, metric: str = "dot",
                 recall: float | None = None, epsilon: float | None = None, cells: Any = None,
                 codes: str = "int8", name: str | None = None, *, id_dtype: Any = None) -> None:
        how = _FurthestSearch(metric, index_options(cells, codes), search_options(recall, epsilon))
        super().__init__(query_model, k, metric, name, id_dtype, how)
        self._how = how

    def __call__(self, queries: Any, k: int | None = None, **options: Any) -> Any:
        """The k furthest candidates of each query; see `call`."""
        # Keras's own way to `call` takes ten times as long as a search among few candidates. It has
        # to be gone the first time, to be ready for saving, and for graphs and query models.
        if (options or not self.built or self.query_model is not None
                or not isinstance(queries, (np.ndarray, tf.Tensor))
                or not tf.executing_eagerly()):
            return super().__call__(queries, k=k, **options)
        return self._retrieve(queries, self._checked_k(k))

    def is_exact(self) -> bool:
        """Whether answers are exact: unless `recall` or `epsilon` was given."""
        return not self._how.search_options

    def to_exact(self, name: str | None = None) -> BruteForceFurthest:
        """The same candidates and query model as a layer of TensorFlow alone.

        Parameters
        ----------
        name : str, optional

        Returns
        -------
        BruteForceFurthest
            It can be exported and served anywhere.
        """
        exact = BruteForceFurthest(self.query_model, self._k, name, metric=self._metric)
        return exact.index(self._candidates, self._identifiers)

    def get_config(self) -> dict[str, Any]:
        """As for all furthest layers, and what is passed on to the index."""
        how = self._how
        return {**super().get_config(), **how.index_options, **how.search_options}

    def _retrieve_without(self, queries: Tensor, k: Any) -> tuple[Tensor, Tensor]:
        prepared = scoring.prepare(self._metric, self._indexed())
        best, rows = furthest(scoring.keys(self._metric, queries, prepared), k)
        return (scoring.scores(self._metric, best, queries, prepared),
                take_ids(self._identifiers, rows))


class _FurthestSearch:
    """Search in an index of the candidates."""

    def __init__(self, metric: str, index_options: dict[str, Any],
                 search_options: dict[str, Any]) -> None:
        self.metric = metric
        self.index_options, self.search_options = index_options, search_options
        self._empty()  # refuses bad options

    def _empty(self) -> Index:
        return Index(metric=self.metric, **self.index_options)

    def make(self, state: State) -> Index:
        index = self._empty()
        index.add(state["candidates"])
        return index.build()

    def search(self, made: Index, queries: Float32Array,
               k: int) -> tuple[Float32Array, Int64Array]:
        scores, rows = made.search_furthest(queries, k, **self.search_options)
        return scores if self.metric == "l2" else -scores, rows


tf.keras.utils.register_keras_serializable(package="farann")(Furthest)
