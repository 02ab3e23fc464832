"""Models with a sign, over the items of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farann._types import Float32Array, Float64Array, Int64Array
from farann.adapters.posneg import naming
from farann.adapters.posneg.naming import Ids
from farann.adapters.posneg.sides import Side, rows_of
from farann.contract import checks
from farann.index import Index
from farann.store.ids import distinct

SIGNS = (1, -1, "both")
_NAMES = {1: "positive", -1: "negative", "both": "signed"}
# Feedback looked at together.
_FEEDBACK = 1 << 16


class SignedModel:
    """One retrieval model of a `FusionRanker`: its item embeddings, and what it was trained on.

    Parameters
    ----------
    items : array_like (n, dim) or farann.Index
        Item embeddings, under "dot" or "cosine".
    sign : {1, -1, "both"}
        1 for a model of likes, -1 for one of dislikes, whose scores should be low, "both" for
        one trained on both kinds, that scores likes high and dislikes low.
    name : str, optional
        By default "positive", "negative" or "signed", by the sign.
    ids : array_like of int or str (n,), optional
        Ids of the rows of an array, by default 0, 1, 2, ...; an index brings its own.
    metric : {"dot", "cosine"}
        What the model was trained for, if an array is given; an index brings its own.

    Examples
    --------
    >>> from farann.adapters.posneg import SignedModel
    >>> SignedModel(np.eye(3), -1)
    <SignedModel 'negative': 3 items of 3 dimensions, 'dot'>
    """

    def __init__(self, items: npt.ArrayLike | Index, sign: int | str = 1, *,
                 name: str | None = None, ids: npt.ArrayLike | None = None,
                 metric: str = "dot") -> None:
        if isinstance(sign, bool) or not any(sign == one for one in SIGNS):
            raise ValueError(f"sign: expected 1, -1 or 'both', got {checks.shown(sign)}")
        if name is not None and not (isinstance(name, str) and name):
            raise TypeError(f"name: expected a string, got {checks.shown(name)}")
        checks.to_choice("metric", metric, ("dot", "cosine"))
        self.sign = sign
        self.name = _NAMES[sign] if name is None else name
        self.rows, self.ids, self.metric = rows_of("items", items, ids, metric)
        if self.metric not in ("dot", "cosine"):
            raise ValueError("items: expected an index under 'dot' or 'cosine', got one under "
                             f"{self.metric!r}: its scores have no linear form")
        self.numbered = ids is None and not isinstance(items, Index)

    @property
    def direction(self) -> float:
        """1 if high scores speak for a like, -1 if against."""
        return -1.0 if self.sign == -1 else 1.0

    def __repr__(self) -> str:
        return (f"<SignedModel {self.name!r}: {len(self.rows):,} items of {self.rows.shape[1]} "
                f"dimensions, {self.metric!r}>")


class Members(NamedTuple):
    """The models of a ranker over the items of all of them, numbered in the order of ids."""

    names: tuple[str, ...]
    signs: tuple[int | str, ...]
    sides: tuple[Side, ...]
    ids: Ids

    @property
    def directions(self) -> Float64Array:
        """1 or -1 for each model."""
        return np.array([-1.0 if sign == -1 else 1.0 for sign in self.signs])


def members_of(models: Sequence[SignedModel], threads: int | None) -> Members:
    """Check models that belong together."""
    if isinstance(models, SignedModel) or not isinstance(models, Sequence) or not models:
        raise TypeError(f"models: expected a list of SignedModel, got {checks.shown(models)}")
    for model in models:
        if not isinstance(model, SignedModel):
            raise TypeError(f"models: expected SignedModel, got {checks.shown(model)}")
    numbered = {len(model.ids) for model in models if model.numbered}
    if len(numbered) > 1:
        raise ValueError("models: expected ids= for arrays of different lengths, got rows "
                         + ", ".join(f"{n:,}" for n in sorted(numbered)) + " without: which row "
                         "is which item can't be known")
    given = [model.name for model in models]
    again = [name for name in given if given.count(name) > 1]
    if any(name not in _NAMES.values() for name in again):
        raise ValueError(f"models: expected each name once, got {again[0]!r} twice")
    names = _numbered(given)
    naming.alike("models", [model.ids for model in models])
    ids: Ids = distinct(np.concatenate([model.ids for model in models]))
    sides = tuple(Side(model.rows, np.searchsorted(ids, model.ids), len(ids), model.metric,
                       threads) for model in models)
    return Members(tuple(names), tuple(model.sign for model in models), sides, ids)


def _numbered(names: list[str]) -> list[str]:
    """Names with numbers from 1 where there are several of one."""
    return [f"{name} {1 + names[:i].count(name)}" if names.count(name) > 1 else name
            for i, name in enumerate(names)]


def queries_of(members: Members, given: Any, needed: Sequence[bool], *,
               single: bool) -> tuple[list[Float32Array | None], bool]:
    """Checked queries of each model, as many of each, and whether it is one vector each.

    Those of models that aren't needed may be left out, or None.
    """
    if isinstance(given, Mapping):
        unknown = [name for name in given if name not in members.names]
        if unknown:
            raise ValueError(f"queries: expected names of {', '.join(members.names)}, "
                             f"got {checks.shown(unknown[0])}")
        listed = [given.get(name) for name in members.names]
    elif isinstance(given, (str, bytes)) or not hasattr(given, "__len__") \
            or len(given) != len(members.names):
        what = len(given) if hasattr(given, "__len__") else checks.shown(given)
        raise ValueError(f"queries: expected one array a model, {', '.join(members.names)}, "
                         f"got {what}")
    else:
        listed = list(given)
    found: list[Float32Array | None] = []
    for name, side, each, must in zip(members.names, members.sides, listed, needed, strict=True):
        if each is None and must:
            raise ValueError(f"queries: expected those of the model {name!r}, got none")
        found.append(None if each is None else checks.to_vectors(
            f"queries of {name!r}", each, side.dim, normalized=False, single=single))
    shapes = {np.shape(each)[:-1] for each in listed if each is not None}
    if not shapes:
        raise ValueError("queries: expected those of at least one model, got none")
    if len(shapes) > 1:
        raise ValueError("queries: expected as many of each model, got "
                         + ", ".join(str(shape) for shape in sorted(shapes)))
    return found, shapes.pop() == ()


class Observed(NamedTuple):
    """What models say of pairs of users and items.

    Attributes
    ----------
    similar : float64 (n, n_models)
        NaN where a model lacks the item or the user.
    lengths : float64 (n, n_models)
        Logarithms of the lengths of the items' vectors; 0 where it lacks the item.
    """

    similar: Float64Array
    lengths: Float64Array


def observe(members: Members, queries: Sequence[Float32Array | None], users: Int64Array,
            items: Int64Array) -> Observed:
    """What models say of pairs of rows of queries and numbers of items."""
    similar = np.full((len(items), len(members.sides)), np.nan)
    lengths = np.zeros_like(similar)
    for m, (side, asked) in enumerate(zip(members.sides, queries, strict=True)):
        lengths[:, m] = side.log_lengths()[items]
        if asked is None:
            continue
        for start in range(0, len(items), _FEEDBACK):
            some = slice(start, start + _FEEDBACK)
            similar[some, m] = side.similarity(asked[users[some]],
                                               items[some, np.newaxis])[:, 0]
    return Observed(similar, lengths)
