"""A ranker whose fused score is linear in both similarities, as arrays, and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from farann._types import BoolArray, Float32Array, Float64Array
from farann.adapters.posneg import LinearLogit, PosNegRanker
from farann.adapters.posneg.calibration import Calibration, Linear
from farann.adapters.posneg.fusion import Fusion
from farann.adapters.posneg.naming import Ids
from farann.adapters.posneg.ranker_file import Content
from farann.adapters.posneg.scoring import Model


class LinearRanker(NamedTuple):
    """All that such a ranker knows.

    Attributes
    ----------
    positive, negative : float32 (n, dim)
        Item embeddings; zeros where the model lacks the item.
    known : bool (n, 2)
        Which items the positive and the negative model have.
    items : float64 (n,)
        The items' own log-odds.
    line : LinearLogit
        Its `positive_unknown` is NaN if nothing was calibrated.
    probability : Linear
        From fused scores to log-odds of a like; NaN if nothing was calibrated.
    metric : {"dot", "cosine"}
    """

    positive: Float32Array
    negative: Float32Array
    known: BoolArray
    items: Float64Array
    line: LinearLogit
    probability: Linear
    metric: str

    @property
    def calibrated(self) -> bool:
        """Whether both models' similarities are made log-odds."""
        return not np.isnan(self.line.positive_unknown)

    def ranker(self) -> PosNegRanker:
        """The ranker; its ids are numbers of rows."""
        line = self.line

        def model(fusion: Fusion, ids: Ids) -> Model:
            unknown = ((line.positive_unknown, line.negative_unknown) if self.calibrated
                       else (0.0, 0.0))  # stands for nothing: there both models have every item
            return Model(
                Calibration(Linear(line.positive_slope, line.positive_intercept),
                            line.positive_item, unknown[0]),
                Calibration(Linear(line.negative_slope, line.negative_intercept),
                            line.negative_item, unknown[1]),
                fusion, self.items,
                None if np.isnan(self.probability.slope) else self.probability)

        return self._with({"calibration": "platt" if self.calibrated else "none",
                           "weight": line.weight}, model)

    def unfitted(self, **settings: Any) -> PosNegRanker:
        """A ranker of the same items that knows nothing else."""
        return self._with(settings, lambda fusion, ids: None)

    def _with(self, settings: dict[str, Any],
              model: Callable[[Fusion, Ids], Model | None]) -> PosNegRanker:
        sides = [(rows[known], np.flatnonzero(known), self.metric)
                 for rows, known in zip((self.positive, self.negative), self.known.T, strict=True)]
        return PosNegRanker._made_of(Content(settings, sides, model))


# What two models say if nothing else is known: half of one similarity less half of the other.
UNCALIBRATED = LinearLogit(0.5, 1.0, 0.0, 0.0, np.nan, 1.0, 0.0, 0.0, np.nan)
NO_PROBABILITY = Linear(np.nan, np.nan)


def taken_apart(ranker: PosNegRanker) -> LinearRanker:
    """A ranker as arrays, in the order of its ids.

    Raises
    ------
    ValueError
        If its fused score is not linear in dot products or cosines.
    """
    line, pair, model = ranker.linear_logit, ranker._pair, ranker._fitted()
    metrics = {side.metric for side in pair[:2]}
    if line is None or ranker._veto is not None or metrics not in ({"dot"}, {"cosine"}):
        raise ValueError(
            "ranker: expected the fusion 'logit' of calibrations that are linear ('platt', "
            "'temperature', a LogisticRegression), without normalize and veto, of two models of "
            f"metric 'dot' or of two of 'cosine', got {ranker!r} of "
            + " and ".join(sorted(metrics)))
    rows = []
    for side in pair[:2]:
        rows.append(np.zeros((len(model.items), side.dim), np.float32))
        rows[-1][side.items] = side.rows
    if not model.fusion.calibrated:
        line = line._replace(positive_unknown=np.nan, negative_unknown=np.nan)
    return LinearRanker(
        rows[0], rows[1], np.column_stack([side.known for side in pair[:2]]), model.items.copy(),
        line, NO_PROBABILITY if model.probability is None else model.probability, metrics.pop())
