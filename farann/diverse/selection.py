"""What a selection returns."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy.typing as npt

from farann._types import Float32Array


class Selection(NamedTuple):
    """Rows that were chosen one after the other, each as far as can be from those before.

    Attributes
    ----------
    ids : int64 (n,)
        The rows' ids, in the order in which they were chosen.
    scores : float32 (n,)
        For each its distance to the nearest row that was chosen before, which never rises; under
        dot and cosine the largest dot product or cosine, which never falls. The first of all has
        infinity, or minus infinity.
    """

    ids: npt.NDArray[Any]
    scores: Float32Array
