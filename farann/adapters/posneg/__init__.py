"""Rank by likes and dislikes: one index of likes, one of dislikes, and one calibrated score.

`ranker` has the public class. It imports the public package, `io`, `runtime` and `contract`;
`farann.adapters.tfrs` imports it.
"""

from farann.adapters.posneg.hits import LinearLogit, PosNegHits
from farann.adapters.posneg.ranker import PosNegRanker

__all__ = ["LinearLogit", "PosNegHits", "PosNegRanker"]
