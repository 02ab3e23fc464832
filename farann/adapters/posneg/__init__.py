"""Rank by likes and dislikes: models with signs, one calibrated score, and the best by it.

`ranker` has the public class. The package imports the public package, `io` and `contract`;
`farann.adapters.tfrs` and `farann.adapters.keras_rs` import it.
"""

from farann.adapters.posneg.evaluation import Evaluation
from farann.adapters.posneg.factorization import Factorization
from farann.adapters.posneg.learning import ModelReport
from farann.adapters.posneg.models import LinearForm, SignedModel
from farann.adapters.posneg.ranker import FusionHits, FusionRanker, PosNegRanker

__all__ = ["Evaluation", "Factorization", "FusionHits", "FusionRanker", "LinearForm",
           "ModelReport", "PosNegRanker", "SignedModel"]
