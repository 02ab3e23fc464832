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
# Float64 numbers made at a time where pairs are scored: 32 MiB.
_BLOCK = 1 << 22


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
    """Vectors whose dot products are the similarities: of length 1 under "cosine".

    Zeros stay zeros.
    """
    if metric == "dot":
        return vectors
    wide = vectors.astype(np.float64)
    norms = np.sqrt(np.einsum("id,id->i", wide, wide))[:, np.newaxis]
    return (wide / np.where(norms > 0, norms, 1.0)).astype(np.float32)


class Way(NamedTuple):
    """A way of ranking, linear in scores of unit spread."""

    weights: Float64Array  # (n_models,)
    constants: Float64Array  # (n_models,): added for the items that a model has
    tail: tuple[float, float]  # of the items' record, and of their popularity
    stranger: tuple[float, float]  # the same for users whom no model has


class Models(NamedTuple):
    """Models over the items and users of all of them, which are numbered in the order of ids."""

    names: tuple[str, ...]
    signs: tuple[int | str, ...]
    metrics: tuple[str, ...]
    items: tuple[Float32Array, ...]  # (n_items, dim) each; zeros where a model lacks the item
    users: tuple[Float32Array, ...]  # (n_users, dim) each
    has: BoolArray  # (n_items, n_models): which model has which item
    spreads: Float64Array  # (n_models,): of scores among a user's items, which become 1
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
        names = tuple(model.name for model in models)
        again = [name for name in names if names.count(name) > 1]
        if again:
            raise ValueError(f"models: expected each name once, got {again[0]!r} twice; name= "
                             "gives a model another")
        every = [[model.ids for model in models], [model.user_ids for model in models]]
        if over is not None:
            every = [[more] if only else [more, *own] for own, more in zip(every, over,
                                                                          strict=True)]
        ids, user_ids = (union(f"models: {what}", several)
                         for what, several in zip(("ids", "user_ids"), every, strict=True))
        items = [lined_up(model.items, model.ids, ids) for model in models]
        return cls(names, tuple(model.sign for model in models),
                   tuple(model.metric for model in models), tuple(rows for rows, _ in items),
                   tuple(lined_up(model.users, model.user_ids, user_ids)[0] for model in models),
                   np.column_stack([has for _, has in items]),
                   np.array([_spread(model.items, model.users) for model in models]), ids, user_ids)

    @property
    def directions(self) -> Float64Array:
        """1 or -1 for each model: whether its high scores speak for a like or against."""
        return np.array([-1.0 if sign == -1 else 1.0 for sign in self.signs])

    @property
    def dims(self) -> tuple[int, ...]:
        """Dimension of each model."""
        return tuple(rows.shape[1] for rows in self.items)

    def similarities(self, users: Int64Array, items: Int64Array) -> Float64Array:
        """Scores of pairs of users and items by each model, of unit spread, (n, n_models).

        NaN where a model lacks the item or the user.
        """
        found = np.empty((len(items), len(self.names)))
        for m, (of_users, of_items) in enumerate(zip(self.users, self.items, strict=True)):
            knows: BoolArray = np.asarray(of_users.any(axis=1))
            for start in range(0, len(items), step := max(1, _BLOCK // of_items.shape[1])):
                who, what = users[start : start + step], items[start : start + step]
                similar = np.einsum("id,id->i", of_users[who], of_items[what], dtype=np.float64)
                found[start : start + step, m] = np.where(
                    knows[who] & self.has[what, m], similar / self.spreads[m], np.nan)
        return found

    def bounds(self) -> Float64Array:
        """What no score of unit spread exceeds, for each model."""
        return np.array([_longest(items) * _longest(users) for items, users in zip(
            self.items, self.users, strict=True)]) / self.spreads

    def form(self, way: Way, rows: Float32Array, intercept: float = float("nan")) -> LinearForm:
        """A way of ranking as one product with `laid_out` rows."""
        scale = [np.append(np.full(dim, weight), constant) for dim, weight, constant in zip(
            self.dims, way.weights / self.spreads, way.constants, strict=True)]
        return LinearForm(self.names, self.metrics, self.dims, self.ids, rows, np.concatenate(
            [*scale, way.tail]).astype(np.float32), intercept)

    def vectors_of(self, queries: Any) -> tuple[list[Float32Array], bool]:
        """Checked query embeddings of each model, (n, dim), and whether it is one query.

        Zeros stand in for a model that gives none.
        """
        if isinstance(queries, Mapping) and set(queries) <= set(self.names):
            queries = [queries.get(name) for name in self.names]
        listed = [] if isinstance(queries, Mapping) or not np.iterable(queries) else list(queries)
        if len(listed) != len(self.names):
            raise ValueError("queries: expected an array a model, those of "
                             f"{', '.join(self.names)}, got {checks.shown(queries)}")
        given = [None if each is None else checks.to_vectors(
            f"queries of {name!r}", each, dim, normalized=False, single=True)
            for name, dim, each in zip(self.names, self.dims, listed, strict=True)]
        # An empty list is no single query.
        shapes = {(len(rows), len(rows) == 1 and np.ndim(each) == 1)
                  for rows, each in zip(given, listed, strict=True) if rows is not None}
        if len(shapes) != 1:
            raise ValueError("queries: expected as many of each model, and of one model at least, "
                             f"got {', '.join(str(n) for n, _ in sorted(shapes)) or 'none'}")
        n, single = shapes.pop()
        return [np.zeros((n, dim), np.float32) if rows is None else directed(rows, metric)
                for dim, rows, metric in zip(self.dims, given, self.metrics, strict=True)], single


def _spread(items: Float32Array, users: Float32Array) -> float:
    """Root mean square, over users, of the standard deviation of a user's scores."""
    people, centered = users[users.any(axis=1)].astype(np.float64), items - items.mean(
        axis=0, dtype=np.float64)
    squares = np.sum((people.T @ people) * (centered.T @ centered)) / max(
        1, len(people) * len(centered))
    return float(np.sqrt(squares)) if squares > 0 else 1.0


def _longest(rows: Float32Array) -> float:
    return float(np.sqrt(np.einsum("id,id->i", rows, rows, dtype=np.float64).max(initial=0.0)))


def lined_up(rows: Float32Array, ids: Ids, wanted: Ids) -> tuple[Float32Array, BoolArray]:
    """Rows in the order of ascending ids, zeros where there is none; and where there is one."""
    at = places(wanted, ids)
    found, has = np.zeros((len(wanted), rows.shape[1]), np.float32), np.zeros(len(wanted), np.bool_)
    found[at[at >= 0]], has[at[at >= 0]] = rows[at >= 0], True
    return found, has


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
        that an item that a model lacks counts as average there; or a large number if one model
        ranks alone, so that such an item comes last.
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


def coordinates(queries: Sequence[Float32Array]) -> Float32Array:
    """The factors of the scale of a `LinearForm`: each query and a 1 by each model, and two 1s.

    A query of zeros has a 0 in the place of the 1.
    """
    parts = [np.column_stack([each, each.any(axis=1)]) for each in queries]
    return np.hstack([*parts, np.ones((len(parts[0]), 2))]).astype(np.float32)


def laid_out(models: Models, record: Float64Array, popular: Float64Array) -> Float32Array:
    """The rows of a `LinearForm`."""
    parts = [np.column_stack([rows, column]) for rows, column in
             zip(models.items, models.has.T, strict=True)]
    return np.column_stack([*parts, record, popular]).astype(np.float32)
