"""What others do for rows like some vectors and unlike others, in numpy over all rows.

`average_vector` and `best_score` follow the formulas of Qdrant's documentation of recommendations.
Rows and vectors have length 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

K = 10


def best(scores: Floats, k: int = K) -> Ids:
    """The positions of the k largest scores, in order."""
    some = np.argpartition(scores, -k)[-k:]
    return some[np.argsort(-scores[some])]


def average_vector(rows: Floats, like: Floats, dislikes: Floats) -> Ids:
    """The nearest rows to the mean like, twice, less the mean dislike."""
    return best(rows @ (like + like - dislikes.mean(axis=0)))


def best_score(rows: Floats, like: Floats, dislikes: Floats) -> Ids:
    """The similarity to the like, or minus the square of that to a dislike where that is larger."""
    scores = rows @ np.vstack([like, dislikes]).T
    unlike = scores[:, 1:].max(axis=1)
    return best(np.where(scores[:, 0] > unlike, scores[:, 0], -unlike * unlike))


def unit(vectors: Floats) -> Floats:
    """Vectors of length 1."""
    units: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return units
