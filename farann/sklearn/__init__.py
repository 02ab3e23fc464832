"""Furthest neighbors as scikit-learn's estimators.

They take what scikit-learn's nearest neighbors take, and do the same for the other end: pipelines,
`clone`, `set_output`, grid searches and pickling work as ever. Distances are such that the furthest
is the largest:

===========  ============================================================================
``"l2"``     the Euclidean distance
``"cosine"`` 1 - similarity, as in scikit-learn. A row of zeros has no direction: its
             similarity is 0 and its distance 1, to every row
``"dot"``    the negated dot product
===========  ============================================================================

Rows and queries are converted to float32; their order is then exact, and of equal distances the
smaller index comes first.

>>> from farann.sklearn import FurthestNeighbors
>>> X = [[0.0], [1.0], [2.0], [9.0]]
>>> furthest = FurthestNeighbors(n_neighbors=2).fit(X)
>>> furthest.kneighbors([[3.0]])
(array([[6., 3.]]), array([[3, 0]]))
>>> furthest.kneighbors(return_distance=False).tolist()  # of each row, without itself
[[3, 2], [3, 0], [3, 0], [0, 1]]
"""

from __future__ import annotations

from farann.sklearn.neighbors import FurthestNeighbors, FurthestNeighborsTransformer
from farann.sklearn.sampling import FarthestPointSampler

__all__ = ["FarthestPointSampler", "FurthestNeighbors", "FurthestNeighborsTransformer"]
