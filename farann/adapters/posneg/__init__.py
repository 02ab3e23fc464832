"""Rank by likes and dislikes: models with signs, one calibrated score, and the best by it.

`fusion_ranker` and `ranker` have the public classes. They import the public package, `io`,
`runtime` and `contract`; `farann.adapters.tfrs` imports them.
"""

from farann.adapters.posneg.blend import ModelReport
from farann.adapters.posneg.crossing import CrossFitted, cross_fit
from farann.adapters.posneg.diagnosis import Finding
from farann.adapters.posneg.evaluation import Evaluation
from farann.adapters.posneg.factorization import Factorization
from farann.adapters.posneg.fusion_ranker import FusionRanker
from farann.adapters.posneg.hits import FusionHits, LinearLogit, PosNegHits
from farann.adapters.posneg.ranker import PosNegRanker
from farann.adapters.posneg.signed import SignedModel

__all__ = ["CrossFitted", "Evaluation", "Factorization", "Finding", "FusionHits", "FusionRanker",
           "LinearLogit", "ModelReport", "PosNegHits", "PosNegRanker", "SignedModel", "cross_fit"]
