"""Models with a sign, lined up by the ids of their items and users, and their linear form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farann._types import BoolArray, Float32Array, Float64Array, Int64Array
from farann.adapters.posneg.ids import Ids, of_rows, places, union
from farann.contract import checks
from farann.index import Index

_NAMES: dict[int | str, str] = {1: "positive", -1: "negative", "both": "signed"}
_BLOCK = 1 << 22  # float64 numbers made at a time where pairs are scored: 32 MiB
_WIDEST = 1e25  # spread of scores; of larger ones, or of their inverse, weights leave float32


class SignedModel:
    """One retrieval model: its item and user embeddings, and what it was trained on.

    Parameters
    ----------
    items : array_like (n_items, dim) or farann.Index
        Item embeddings, whose dot product or cosine with a user's is the model's score.
    users : array_like (n_users, dim)
        User embeddings. A user of zeros counts as one that the model lacks.
    sign : {1, -1, "both"}
        1 for a model of likes, -1 for one of dislikes, whose scores should be low, "both" for
        one trained on both kinds, which scores likes high and dislikes low.
    name : str, optional
        By default "positive", "negative" or "signed", by the sign.
    ids, user_ids : array_like of int or str, optional
        Of the rows of `items` and of `users`, by default 0, 1, 2, ...; an index brings its ids.
    metric : {"dot", "cosine"}
        What the model was trained for; an index brings its own.

    Raises
    ------
    ValueError, TypeError
        For wrong shapes, numbers that are not finite, zeros or an index that the metric doesn't
        allow, and ids that are repeated or not one a row.

    Examples
    --------
    >>> from farann.adapters.posneg import SignedModel
    >>> SignedModel(np.eye(3), np.ones((2, 3)), -1)
    <SignedModel 'negative': 3 items, 2 users, 3 dimensions, 'dot'>
    """

    def __init__(self, items: npt.ArrayLike | Index, users: npt.ArrayLike, sign: int | str = 1, *,
                 name: str | None = None, ids: npt.ArrayLike | None = None,
                 user_ids: npt.ArrayLike | None = None, metric: str = "dot") -> None:
        if not isinstance(sign, (int, str)) or isinstance(sign, bool) or sign not in _NAMES:
            raise ValueError(f"sign: expected 1, -1 or 'both', got {checks.shown(sign)}")
        if name is not None and not (isinstance(name, str) and name):
            raise TypeError(f"name: expected a string, got {checks.shown(name)}")
        if isinstance(items, Index):
            metric, ids = items.metric, items.ids
            items = items.reconstruct(ids)
        checks.to_choice("metric", metric, ("dot", "cosine"))
        rows = checks.to_vectors("items", items, None, normalized=metric == "cosine",
                                 single=False)
        if not len(rows):
            raise ValueError("items: expected at least one item, got none")
        self.sign, self.metric = sign, metric
        self.name = _NAMES[sign] if name is None else name
        self.items = directed(rows, metric)
        self.users = directed(checks.to_vectors("users", users, rows.shape[1], normalized=False,
                                                single=False), metric)
        self.ids = of_rows("ids", ids, len(rows))
        self.user_ids = of_rows("user_ids", user_ids, len(self.users))

    def __repr__(self) -> str:
        return (f"<SignedModel {self.name!r}: {len(self.items):,} items, {len(self.users):,} "
                f"users, {self.items.shape[1]} dimensions, {self.metric!r}>")


def directed(vectors: Float32Array, metric: str) -> Float32Array:
    """Vectors whose dot products are the similarities: of length 1, or 0, under "cosine"."""
    if metric == "dot":
        return vectors
    wide = vectors.astype(np.float64)
    norms = np.sqrt(np.einsum("id,id->i", wide, wide))[:, np.newaxis]
    return (wide / np.where(norms > 0, norms, 1.0)).astype(np.float32)


class Models(NamedTuple):
    """Models over the items and users of all of them, which are numbered in the order of ids."""

    names: tuple[str, ...]
    signs: tuple[int | str, ...]
    metrics: tuple[str, ...]
    dims: tuple[int, ...]
    rows: Float32Array  # (n_items, sum(dims) + m + 2), those of a `LinearForm`
    people: Float32Array  # (n_users, sum(dims) + m + 2): its coordinates
    means: Float64Array  # (m,): of scores of all pairs, which become 0
    spreads: Float64Array  # (m,): of scores among a user's items, which become 1
    ids: Ids  # ascending, as the next
    user_ids: Ids

    @classmethod
    def of(cls, models: Sequence[SignedModel], over: tuple[Ids, Ids] | None = None, *,
           only: bool = False) -> Models:
        """Check and line up models, over ids of items and of users beside theirs, or only those."""
        if not isinstance(models, Sequence) or not models:
            raise TypeError("models: expected a list of SignedModel, or a trainer that returns "
                            f"one, got {checks.shown(models)}")
        for model in models:
            if not isinstance(model, SignedModel):
                raise TypeError(f"models: expected SignedModel, got {checks.shown(model)}")
        names, signs, metrics, dims = zip(*((each.name, each.sign, each.metric,
                                             each.items.shape[1]) for each in models), strict=True)
        again = [name for name in names if names.count(name) > 1]
        if again:
            raise ValueError(f"models: expected each name once, got {again[0]!r} twice; name= "
                             "gives a model another")
        means, spreads = np.transpose([_mean_and_spread(model) for model in models])
        every = [(model.ids, model.user_ids) for model in ([] if only else models)]
        ids, user_ids = (union(f"models: {what}", several) for what, several in zip(
            ("ids", "user_ids"), zip(*([] if over is None else [over]), *every, strict=True),
            strict=True))
        return cls(names, signs, metrics, dims,
                   coordinates([_lined_up(each.items, each.ids, ids) for each in models], 0.0),
                   coordinates([_lined_up(each.users, each.user_ids, user_ids)
                                for each in models]), means, spreads, ids, user_ids)

    def knowing(self, record: Float64Array, popular: Float64Array) -> Models:
        """The models with the items' record and popularity, (n_items,)."""
        return self._replace(rows=np.column_stack([self.rows[:, :-2], record, popular]).astype(
            np.float32))

    @property
    def starts(self) -> Int64Array:
        """Where the coordinates of each model, of the record and of popularity start."""
        return np.cumsum([0, *(dim + 1 for dim in self.dims), 1])

    @property
    def there(self) -> BoolArray:
        """Which items some model has, (n_items,)."""
        return np.asarray(self.rows[:, self.starts[1:-1] - 1].any(axis=1))

    @property
    def directions(self) -> Float64Array:
        """1 or -1 for each model: whether its high scores speak for a like or against."""
        return np.array([-1.0 if sign == -1 else 1.0 for sign in self.signs])

    def scale(self, weights: Float64Array) -> Float64Array:
        """Factors of coordinates that weigh the models' scores, record and popularity, (m + 2,)."""
        m = len(self.dims)
        each = weights[:m] / self.spreads
        scales = np.append(np.repeat(each, np.add(self.dims, 1)), weights[m:])
        scales[self.starts[1 : m + 1] - 1] = -each * self.means
        return scales

    def features(self, items: Int64Array, query: Float32Array) -> Float64Array:
        """Models' scores, of mean 0 and spread 1, and record and popularity: of items (n,) or
        (n, k) and coordinates of n users; 0 where a model lacks either."""
        return self.products(items, query * self.scale(np.ones(len(self.dims) + 2)))

    def products(self, items: Int64Array, vectors: Float32Array | Float64Array) -> Float64Array:
        """Products of items (n,) or (n, k) with n vectors, summed over each model's coordinates."""
        dim, sums = vectors.shape[1], np.empty((*items.shape, len(self.dims) + 2))
        step = max(1, _BLOCK // max(1, dim * items[:1].size))
        for first in range(0, len(items), step):
            some = slice(first, first + step)
            rows = self.rows[items[some]].astype(np.float64)
            rows *= vectors[some].reshape(-1, *[1] * (items.ndim - 1), dim)
            np.add.reduceat(rows, self.starts, axis=-1, out=sums[some])
        return sums

    def form(self, weights: Float64Array, intercept: float = float("nan")) -> LinearForm:
        """Weights of the models' scores, of the record and of popularity as one product."""
        return LinearForm(self.names, self.metrics, self.dims, self.ids, self.rows,
                          self.scale(weights).astype(np.float32), intercept)

    def vectors_of(self, queries: Any) -> tuple[Float32Array, bool]:
        """Coordinates of checked query embeddings by each model, zeros for one that gives none,
        and whether it is one query."""
        if isinstance(queries, Mapping) and set(queries) <= set(self.names):
            queries = [queries.get(name) for name in self.names]
        listed = [] if isinstance(queries, Mapping) or not np.iterable(queries) else list(queries)
        if len(listed) != len(self.names):
            raise ValueError("queries: expected an array a model, those of "
                             f"{', '.join(self.names)}, got {checks.shown(queries)}")
        arrays = [None if each is None else checks.to_vectors(
            f"queries of {name!r}", each, dim, normalized=False, single=True)
            for name, dim, each in zip(self.names, self.dims, listed, strict=True)]
        # An empty list is no single query.
        shapes = {(len(rows), len(rows) == 1 and np.ndim(each) == 1)
                  for rows, each in zip(arrays, listed, strict=True) if rows is not None}
        if len(shapes) != 1:
            raise ValueError("queries: expected as many of each model, and of one model at least, "
                             f"got {', '.join(str(n) for n, _ in sorted(shapes)) or 'none'}")
        n, single = shapes.pop()
        return coordinates([np.zeros((n, dim), np.float32) if rows is None else
                            directed(rows, metric) for dim, rows, metric in
                            zip(self.dims, arrays, self.metrics, strict=True)]), single


def _mean_and_spread(model: SignedModel) -> tuple[float, float]:
    """Mean of all scores, and the root mean square, over users, of their standard deviation."""
    users, items = model.users[model.users.any(axis=1)].astype(np.float64), model.items
    if not len(users):
        return 0.0, 1.0
    middle = items.mean(axis=0, dtype=np.float64)
    centered = items - middle
    square = np.sum((users.T @ users) * (centered.T @ centered)) / (len(users) * len(items))
    spread = float(np.sqrt(square))
    if spread > _WIDEST:
        raise ValueError(f"models: {model.name!r} has scores whose spread is {spread:.0e}, "
                         f"expected {_WIDEST:.0e} at most; multiply its embeddings by a factor")
    # Scores that training shrank to nothing say nothing.
    return float(users.mean(axis=0) @ middle), spread if spread > 1 / _WIDEST else 1.0


def _lined_up(rows: Float32Array, ids: Ids, wanted: Ids) -> Float32Array:
    """Rows in the order of ascending ids, zeros where there is none."""
    at = places(wanted, ids)
    lined_up = np.zeros((len(wanted), rows.shape[1]), np.float32)
    lined_up[at[at >= 0]] = rows[at >= 0]
    return lined_up


class LinearForm(NamedTuple):
    """A ranker's score as one dot product, for an index, a layer or a server.

    The score of an item is ``vectors(queries) @ rows.T``.

    Attributes
    ----------
    names, metrics, dims : tuple
        Of the models, in the order in which query embeddings come.
    ids : int64 or object (n_items,)
        Ascending.
    rows : float32 (n_items, sum(dims) + n_models + 2)
        For each model the item's embedding, of length 1 under "cosine", and a 1; or zeros where
        the model lacks the item. Then the item's record of likes, and the logarithm of how
        often it was shown.
    scale : float32 (sum(dims) + n_models + 2,)
        What the query's coordinates are multiplied by, which are its embedding by each model and a
        1, and two 1s at the end: the weight of each model, and minus that times its mean score, so
        that an item that a model lacks counts as average there.
    intercept : float
        What makes log-odds of a like of a score, if that is one among shown items; else NaN.

    Examples
    --------
    >>> from farann.adapters.posneg import PosNegRanker
    >>> form = PosNegRanker(np.eye(3), np.eye(3), -np.eye(3), np.eye(3)).linear()
    >>> form.vectors([[[2.0, 0.0, 0.0]], [[0.0, 4.0, 0.0]]]) @ form.rows.T
    array([[1., 2., 0.]], dtype=float32)
    """

    names: tuple[str, ...]
    metrics: tuple[str, ...]
    dims: tuple[int, ...]
    ids: Ids
    rows: Float32Array
    scale: Float32Array
    intercept: float

    def vectors(self, queries: Sequence[npt.ArrayLike]) -> Float32Array:
        """Query vectors, float32 (n, sum(dims) + n_models + 2).

        Parameters
        ----------
        queries : sequence of array_like (n, dim)
            Embeddings by each model, in the order of `names`; zeros are those of somebody whom
            the model lacks.
        """
        return self.scale * coordinates([directed(np.asarray(each, np.float32), metric) for
                                         each, metric in zip(queries, self.metrics, strict=True)])


def coordinates(vectors: Sequence[Float32Array], last: float = 1.0) -> Float32Array:
    """Each model's vectors and a 1, or a 0 after zeros; and two columns of `last`."""
    parts = [np.column_stack([each, each.any(axis=1)]) for each in vectors]
    return np.hstack([*parts, np.full((len(parts[0]), 2), last)]).astype(np.float32)
