"""A fitted ranker's numbers for pairs of queries and items, and the k best of some items."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farann._types import BoolArray, Float32Array, Float64Array, Int64Array
from farann.adapters.posneg import naming
from farann.adapters.posneg.calibration import Calibration, Linear
from farann.adapters.posneg.fusion import Fusion, Parts
from farann.adapters.posneg.intercepts import Personal
from farann.adapters.posneg.naming import Ids, numbers_of
from farann.adapters.posneg.sides import Normaliser, Side
from farann.contract import checks
from farann.contract.strings import are_strings
from farann.store.ids import distinct


@dataclass(frozen=True)
class Model:
    """All that `fit` finds.

    Attributes
    ----------
    positive, negative : Calibration
    fusion : Fusion
    items : float64 (size,)
        Each item's own log-odds of a like; zeros if there are none.
    probability : Linear or None
        From fused scores to log-odds of a like.
    veto : float or None
        The greatest P(dislike) that is not dropped, where feedback says it.
    personal : Personal or None
        Users' own log-odds of a like.
    """

    positive: Calibration
    negative: Calibration
    fusion: Fusion
    items: Float64Array
    probability: Linear | None = None
    veto: float | None = None
    personal: Personal | None = None


class Pair(NamedTuple):
    """The two models' item embeddings, and how their scores are normalised per query."""

    positive: Side
    negative: Side
    normalize: str | None


class Scored(NamedTuple):
    """Items with their numbers, all (n_queries, m); the item is -1 where there is none."""

    items: Int64Array
    fused: Float64Array
    liked: Float64Array
    disliked: Float64Array
    similarity: Float64Array

    def map(self, function: Callable[[Any], Any]) -> Scored:
        """The same of all five."""
        return Scored(*map(function, self))

    def best(self, k: int) -> Scored:
        """The k best: by fused score, then positive similarity, then number of the item."""
        alike = np.where(np.isnan(self.similarity), -np.inf, self.similarity)
        order = np.lexsort((self.items, -alike, -self.fused))[:, :k]
        return self.map(lambda part: np.take_along_axis(part, order, axis=1)).padded(k)

    def padded(self, k: int) -> Scored:
        """With columns of nothing up to k of them."""
        extra = ((0, 0), (0, k - self.items.shape[1]))
        padded = self
        if extra[1][1] > 0:
            padded = Scored(np.pad(self.items, extra, constant_values=-1),
                            *(np.pad(part, extra, constant_values=-np.inf) for part in self[1:]))
        # What was dropped or padded has no number.
        return padded._replace(items=np.where(padded.fused > -np.inf, padded.items, -1))


class Scorer:
    """Numbers for a batch of queries.

    Parameters
    ----------
    pair : Pair
    model : Model
    positive_queries, negative_queries : float32 (n_queries, dim)
    veto : float or None
        Items whose P(dislike) is greater are dropped: their fused score is minus infinity.
    """

    def __init__(self, pair: Pair, model: Model, positive_queries: Float32Array,
                 negative_queries: Float32Array, veto: float | None = None) -> None:
        self.pair, self.model, self.veto = pair, model, veto
        self.queries = (positive_queries, negative_queries)
        self.normalisers = (Normaliser(pair.positive, positive_queries, pair.normalize),
                            Normaliser(pair.negative, negative_queries, pair.normalize))

    def __len__(self) -> int:
        return len(self.queries[0])

    def take(self, which: Int64Array | slice) -> Scorer:
        """The same for some of the queries."""
        taken = object.__new__(Scorer)
        taken.pair, taken.model, taken.veto = self.pair, self.model, self.veto
        taken.queries = (self.queries[0][which], self.queries[1][which])
        taken.normalisers = (self.normalisers[0].take(which), self.normalisers[1].take(which))
        return taken

    def __call__(self, items: Int64Array, listed: tuple[BoolArray, BoolArray] | None = None
                 ) -> Scored:
        """Numbers of some items, (n_queries, m); -1 stands for none.

        `listed` says which model lists the item; by default, which model has it.
        """
        similar = [side.similarity(queries, items)
                   for side, queries in zip(self.pair[:2], self.queries, strict=True)]
        return self._scored(items, similar, listed)

    def everything(self, only: Int64Array | None = None) -> Scored:
        """Numbers of all items, or only of some, which must be ascending."""
        similar = [side.similarity_to_all(queries)
                   for side, queries in zip(self.pair[:2], self.queries, strict=True)]
        items = np.arange(len(self.model.items))
        if only is not None:
            items, similar = only, [values[:, only] for values in similar]
        return self._scored(np.broadcast_to(items, (len(self), len(items))), similar, None)

    def log_odds(self, items: Int64Array, similar: list[Float64Array]
                 ) -> tuple[Float64Array, Float64Array]:
        """Calibrated log-odds of both models from their similarities."""
        own = self.model.items[items]
        liked = self.model.positive(self.normalisers[0](similar[0]), own)
        return liked, self.model.negative(self.normalisers[1](similar[1]), own)

    def _scored(self, items: Int64Array, similar: list[Float64Array],
                listed: tuple[BoolArray, BoolArray] | None) -> Scored:
        liked, disliked = self.log_odds(items, similar)
        if listed is None:
            positive, negative = (
                side.known[items] & ~side.lacks(queries)[:, np.newaxis]
                for side, queries in zip(self.pair[:2], self.queries, strict=True))
            listed = (positive, negative)
        parts = Parts(liked, disliked, *listed)
        fused = self.model.fusion(parts)
        good, bad = self.model.fusion.chances(parts)
        dropped = items < 0 if self.veto is None else (items < 0) | (bad > self.veto)
        return Scored(items, np.where(dropped, -np.inf, fused), good, bad, similar[0])


class Filters(NamedTuple):
    """What may be found, in item numbers.

    Attributes
    ----------
    allowed : bool (size,) or None
    excluded : list of int64 arrays or None
        For each query.
    """

    allowed: BoolArray | None
    excluded: list[Int64Array] | None

    @classmethod
    def of(cls, ids: Ids, exclude: Any, allowed: Any, n_queries: int,
           single: bool) -> Filters:
        """Check `exclude` and `allowed` and look their ids up among the sorted `ids`."""
        mask = excluded = None
        if allowed is not None:
            if not are_strings(allowed):  # else sets would not do
                allowed = checks.to_array("allowed", allowed)
            if getattr(allowed, "dtype", None) == np.bool_:
                mask = checks.to_mask("allowed", allowed, len(ids)).copy()
            else:
                mask = np.zeros(len(ids), np.bool_)
                mask[numbers_of(ids, naming.asked("allowed", allowed, ids, padding=True))] = True
        if exclude is not None:
            excluded = [numbers_of(ids, one) for one in
                        naming.listed("exclude", exclude, n_queries, single, ids)]
        return cls(mask, excluded)

    def take(self, which: Int64Array | slice) -> Filters:
        """The same for some of the queries."""
        if self.excluded is None:
            return self
        chosen = np.arange(len(self.excluded))[which]
        return Filters(self.allowed, [self.excluded[i] for i in chosen])

    def search(self, items: Int64Array | None = None) -> dict[str, Any]:
        """Arguments for a search in an index that holds some items, in this order, or all."""
        mask = self.allowed if self.allowed is None or items is None else self.allowed[items]
        return {"allowed": mask, "exclude": self.excluded}

    def candidates(self, query: int, size: int) -> Int64Array:
        """All items that one query may find, ascending."""
        left = np.ones(size, np.bool_) if self.allowed is None else self.allowed.copy()
        if self.excluded is not None:
            left[self.excluded[query]] = False
        return np.flatnonzero(left)


def paired(sides: list[tuple[Float32Array, Ids, str]], missing: str,
           normalize: str | None, threads: int | None) -> tuple[Ids, Pair]:
    """All ids, and both models over their places."""
    (_, left, _), (_, right, _) = sides
    naming.alike("negative", [left, right])
    ids: Ids = distinct(np.concatenate([left, right]))
    if missing == "drop":
        ids = ids[(naming.places(left, ids) >= 0) & (naming.places(right, ids) >= 0)]
        if not len(ids):
            raise ValueError("negative: expected ids that the positive model has too, got none")
    made = []
    for rows, numbers, metric in sides:
        kept = naming.places(ids, numbers) >= 0
        made.append(Side(rows[kept], np.searchsorted(ids, numbers[kept]), len(ids), metric,
                         threads))
    return ids, Pair(made[0], made[1], normalize)


def query_pair(pair: Pair, positive: npt.ArrayLike, negative: npt.ArrayLike, *,
               single: bool, zeros: bool = False) -> tuple[Float32Array, Float32Array]:
    """Checked queries of both models, as many of each.

    With `zeros`, zero vectors are users whom a model under "cosine" doesn't know.
    """
    found = []
    for name, given, side in (("positive_queries", positive, pair.positive),
                              ("negative_queries", negative, pair.negative)):
        found.append(checks.to_vectors(name, given, side.dim,
                                       normalized=side.metric == "cosine" and not zeros,
                                       single=single))
    if len(found[0]) != len(found[1]) or (single and np.ndim(positive) != np.ndim(negative)):
        raise ValueError(f"negative_queries: expected as many as positive_queries, "
                         f"{np.shape(positive)[:-1]}, got {np.shape(negative)[:-1]}")
    return found[0], found[1]
