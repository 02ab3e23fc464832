"""What an index was asked to be."""

from __future__ import annotations

from typing import NamedTuple

from farann.spec.metric_traits import MetricTraits


class IndexSpec(NamedTuple):
    """What an index was asked to be, as far as its rows are concerned."""

    metric: MetricTraits
    coded: bool
    seed: int
    cells: int | str | None = None
    bits: int = 8  # of a code
    vectors: bool = True  # whether coded rows stay as float32, too
