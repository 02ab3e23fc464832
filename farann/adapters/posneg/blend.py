"""Several models' log-odds as one number, the best items by it, and what it consists of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from farann._types import Float32Array, Float64Array, Int64Array
from farann.adapters.posneg import naming
from farann.adapters.posneg.calibration import Calibration, Linear, expit
from farann.adapters.posneg.intercepts import Personal
from farann.adapters.posneg.joint import JointIndex
from farann.adapters.posneg.scoring import Filters
from farann.adapters.posneg.signed import Members


class ModelReport(NamedTuple):
    """What `fit` made of one model.

    Attributes
    ----------
    name : str
    sign : 1, -1 or "both"
    weight : float
        Of its calibrated log-odds in the fused score; 0 if it was dropped.
    gain : float
        By how much the others' log-loss within users grows without it, on feedback that the
        weights were not learned from; in nats a label. NaN if that wasn't measured.
    error : float
        Standard error of the gain, over users.
    auc : float
        Mean over users of the area under the ROC curve of this model alone, in the direction of
        its sign.
    dropped : str
        Why it was dropped; empty if it wasn't.
    """

    name: str
    sign: int | str
    weight: float
    gain: float
    error: float
    auc: float
    dropped: str


@dataclass(frozen=True)
class About:
    """What is known of items whoever asks, and what it counts for.

    Attributes
    ----------
    record : float64 (size,)
        The items' own log-odds of a like.
    coefficients : float64 (1 + n_models,)
        Of the record and of the lengths in each model.
    centers : float64 (n_models,)
        What lengths are on average, in the feedback.
    """

    record: Float64Array
    coefficients: Float64Array
    centers: Float64Array

    def of(self, members: Members) -> Float64Array:
        """Sum over all of it for the items of some models, (size,)."""
        total: Float64Array = self.coefficients[0] * self.record
        for m, side in enumerate(members.sides):
            if self.coefficients[1 + m]:
                known = np.where(side.known, side.log_lengths() - self.centers[m], 0.0)
                total = total + self.coefficients[1 + m] * known
        return total


@dataclass(frozen=True)
class Exposure:
    """Log-odds of being shown, in the form of the fused score.

    Attributes
    ----------
    weights : float64 (n_models,)
        Of the models' log-odds of a like.
    items : float64 (size,)
    about : About
        What the items' part consists of; its record is the logarithm of how often they were
        shown.
    preference : float
        How much the fused score counts beside it, by default.
    """

    weights: Float64Array
    items: Float64Array
    about: About
    preference: float


@dataclass(frozen=True)
class Blend:
    """All that a `FusionRanker` finds.

    Attributes
    ----------
    lines : tuple of Calibration
        Of each model: log-odds of a like, or of a dislike for those of sign -1.
    weights : float64 (n_models,)
    items : float64 (size,)
        What each item adds to the fused score.
    about : About
    chance : Linear
        From fused scores to log-odds of a like.
    personal : Personal or None
    exposure : Exposure or None
    reports : tuple of ModelReport
    """

    lines: tuple[Calibration, ...]
    weights: Float64Array
    items: Float64Array
    about: About
    chance: Linear
    personal: Personal | None
    exposure: Exposure | None
    reports: tuple[ModelReport, ...]

    @property
    def kept(self) -> tuple[bool, ...]:
        """Which models count for a like."""
        return tuple(not report.dropped for report in self.reports)

    def needed(self, exposed: bool) -> tuple[bool, ...]:
        """Which models must be asked, if being shown counts or if it doesn't."""
        if not exposed or self.exposure is None:
            return self.kept
        return tuple(kept or weight != 0 for kept, weight in
                     zip(self.kept, self.exposure.weights.tolist(), strict=True))

    def over(self, before: Members, after: Members) -> Blend:
        """The same over models that were trained anew; items that are new have no record."""
        if before.signs != after.signs:
            raise ValueError(f"models: expected signs {', '.join(map(str, before.signs))}, got "
                             + ", ".join(map(str, after.signs)))
        naming.alike("models", [before.ids, after.ids])

        def moved(about: About, other: float) -> About:
            return replace(about, record=naming.by_id(before.ids, about.record, after.ids, other))

        about, exposure = moved(self.about, 0.0), self.exposure
        if exposure is not None:
            # What was never shown has the smallest record there may be.
            shown = moved(exposure.about, float(exposure.about.record.min()))
            exposure = replace(exposure, about=shown, items=shown.of(after))
        return replace(self, about=about, items=about.of(after), exposure=exposure)


class Found(NamedTuple):
    """Items with their fused scores, (n_queries, m); the item is -1 where there is none."""

    items: Int64Array
    fused: Float64Array

    def best(self, k: int) -> Found:
        """The k best; of equal ones those of smaller ids."""
        order = np.lexsort((self.items, -self.fused))[:, :k]
        items = np.take_along_axis(self.items, order, axis=1)
        fused = np.take_along_axis(self.fused, order, axis=1)
        extra = ((0, 0), (0, k - items.shape[1]))
        if extra[1][1] > 0:
            items = np.pad(items, extra, constant_values=-1)
            fused = np.pad(fused, extra, constant_values=-np.inf)
        return Found(np.where(fused > -np.inf, items, -1), fused)


def nothing_found(n_queries: int, k: int) -> Found:
    """Answers without items."""
    return Found(np.full((n_queries, k), -1, np.int64), np.full((n_queries, k), -np.inf))


def _put(found: Found, queries: Int64Array, best: Found) -> None:
    for place, value in zip(found, best, strict=True):
        place[queries] = value


class Blended:
    """Fused scores of a batch of queries.

    Parameters
    ----------
    members : Members
    blend : Blend
    queries : sequence of float32 (n_queries, dim) or None
        None for models that don't count.
    preference : float or None
        How much the fused score counts beside exposure; None leaves exposure out.
    """

    def __init__(self, members: Members, blend: Blend, queries: Sequence[Float32Array | None],
                 preference: float | None) -> None:
        self.members, self.blend, self.queries = members, blend, queries
        self.preference = preference
        weights, items = blend.weights, blend.items
        if preference is not None and blend.exposure is not None:
            weights = preference * weights + blend.exposure.weights
            items = preference * items + blend.exposure.items
        self._weights, self._items = weights * members.directions, items
        self._used = [m for m, weight in enumerate(self._weights.tolist())
                      if weight and queries[m] is not None]
        self._n = len(next(each for each in queries if each is not None))

    def __len__(self) -> int:
        return self._n

    def take(self, which: Int64Array | slice) -> Blended:
        """The same for some of the queries."""
        return Blended(self.members, self.blend,
                       [None if each is None else each[which] for each in self.queries],
                       self.preference)

    def log_odds(self, m: int, items: Int64Array) -> Float64Array:
        """Calibrated log-odds by one model: of a like, or of a dislike if its sign is -1.

        Items are (n_queries, m), for each query its own, or (m,), the same for all.
        """
        asked, line, side = self.queries[m], self.blend.lines[m], self.members.sides[m]
        each = np.broadcast_to(items, (len(self), items.shape[-1]))
        if asked is None:
            return np.full(each.shape, line.unknown)
        if items.ndim == 1 and 4 * len(items) > len(self._items):
            similar = side.similarity_to_all(asked)[:, items]
        else:
            similar = side.similarity(asked, each)
        return line(similar, np.zeros(1))

    def __call__(self, items: Int64Array) -> Found:
        """Fused scores of items as in `log_odds`; -1 stands for none."""
        each = np.broadcast_to(items, (len(self), items.shape[-1]))
        fused: Float64Array = self._items[each]
        for m in self._used:
            fused = fused + self._weights[m] * self.log_odds(m, items)
        return Found(each, np.where(each < 0, -np.inf, fused))

    def search(self, index: JointIndex, k: int, filters: Filters) -> Found:
        """The k best of all items."""
        columns, constants, unknown = [], [], []
        # In the order of the index, in which are all models that may count.
        for m in np.flatnonzero(self.blend.needed(True)).tolist():
            side, line, asked = self.members.sides[m], self.blend.lines[m], self.queries[m]
            if m not in self._used:
                columns.append(np.zeros((len(self), side.dim)))
                unknown.append(np.zeros(len(self)))
                continue
            assert line.linear is not None and asked is not None
            weight = self._weights[m]
            slope, constant = weight * line.linear.slope, weight * line.linear.intercept
            columns.append(slope * side.unit_queries(asked))
            constants.append(np.where(side.lacks(asked), weight * line.unknown, constant))
            unknown.append(weight * line.unknown - constants[-1])
        n, exposed = len(self), self.blend.exposure is not None and self.preference is not None
        own = 1.0 if not exposed or self.preference is None else self.preference
        extra = np.column_stack([np.full(n, own), np.full(n, float(exposed)), *unknown])
        constant_parts = np.column_stack(constants) if constants else np.zeros((n, 1))
        return index.search(
            nothing_found(n, k), index.vectors(columns, extra), constant_parts, k, filters,
            lambda active, items: self.take(active)(items).best(k), _put)


def index_of(members: Members, blend: Blend, threads: int | None) -> JointIndex:
    """Items with all that both kinds of scores need."""
    used = [side for side, needed in zip(members.sides, blend.needed(True), strict=True) if needed]
    shown = np.zeros(len(blend.items)) if blend.exposure is None else blend.exposure.items
    extra = np.column_stack([blend.items, shown, *(~side.known for side in used)])
    return JointIndex(used, extra, threads)


def in_batches(blended: Blended, k: int, filters: Filters, step: int,
               index: Callable[[], JointIndex]) -> Found:
    """The k best of all items, so many queries at a time."""
    found = nothing_found(len(blended), k)
    for start in range(0, len(blended), step):
        some = np.arange(start, min(start + step, len(blended)))
        _put(found, some, blended.take(some).search(index(), k, filters.take(some)))
    return found


def chances_of(blended: Blended, items: Int64Array) -> dict[str, Float64Array]:
    """P(like) of items by each model that counts, or P(dislike); NaN where there is no item."""
    found: dict[str, Any] = {}
    for name, m in zip(blended.members.names, range(len(blended.members.names)), strict=True):
        if blended.blend.kept[m]:
            found[name] = np.where(items < 0, np.nan, expit(blended.log_odds(m, items)))
    return found
