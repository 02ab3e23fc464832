"""Search of either end for peers that find the largest inner products or nearest by L2.

The reductions are stated in `Reduction`. They are done here once, in float64 with
one rounding to float32 at the end, so that no peer pays for a clumsy version of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
METRICS = ("l2", "dot", "cosine")
_CHUNK = 65536


def _rounded_up(dim: int, multiple: int) -> int:
    return -(-dim // multiple) * multiple


class Reduction:
    """Rows and queries whose largest inner products are the furthest pairs, or the nearest.

    ========  ======================================  =================
    metric    a row becomes                           a query becomes
    ========  ======================================  =================
    dot       x                                       -q
    cosine    x / |x|                                 -q / |q|
    l2        [x - m, (|x - m|^2 - c) / s]            [-2 (q - m), s]
    ========  ======================================  =================

    Here m is the mean row, c the mean of |x - m|^2, and s = std(|x - m|^2) / std(x - m),
    which keeps the extra coordinate in the range of the others, as quantizers like it. For the
    nearest, q isn't negated, and under l2 nothing changes: peers then search by L2.

    Parameters
    ----------
    rows : ndarray of shape (n, dim)
        Not modified.
    metric : {"l2", "dot", "cosine"}
    multiple : int
        The dimension is padded with zeros to a multiple of this. faiss drops to scalar code
        when the dimension isn't a multiple of 16 (32 for product quantizers).
    nearest : bool

    Attributes
    ----------
    rows : ndarray of shape (n, padded), float32, C-contiguous
    dim : int
        The padded dimension.
    by_l2 : bool
        Whether pairs of least distance are wanted, not those of largest inner products.

    Examples
    --------
    >>> import numpy as np
    >>> rows = np.array([[0.0, 0.0], [3.0, 4.0], [1.0, 0.0]])
    >>> reduction = Reduction(rows, "l2")
    >>> np.argmax(reduction.queries(np.zeros((1, 2))) @ reduction.rows.T, axis=1)
    array([1])
    """

    def __init__(self, rows: NDArray[np.floating], metric: str, multiple: int = 1,
                 nearest: bool = False) -> None:
        if metric not in METRICS:
            raise ValueError(f"metric must be one of {METRICS}, got {metric!r}")
        count, dim = rows.shape
        self.metric = metric
        self._sign = 1.0 if nearest else -1.0
        self._dim = dim
        self.by_l2 = nearest and metric == "l2"
        self.dim = _rounded_up(dim + (metric == "l2" and not nearest), multiple)
        self.rows: Floats = np.zeros((count, self.dim), dtype=np.float32)
        if metric == "l2" and not nearest:
            self._reduce_l2(rows)
        else:
            for at in range(0, count, _CHUNK):
                block = rows[at : at + _CHUNK]
                self.rows[at : at + _CHUNK, :dim] = _unit(block) if metric == "cosine" else block

    def _reduce_l2(self, rows: NDArray[np.floating]) -> None:
        count, dim = rows.shape
        self._mean = rows.mean(axis=0, dtype=np.float64)
        squares = np.empty(count, dtype=np.float64)
        for at in range(0, count, _CHUNK):
            centered = rows[at : at + _CHUNK].astype(np.float64) - self._mean
            self.rows[at : at + _CHUNK, :dim] = centered
            squares[at : at + _CHUNK] = np.einsum("ij,ij->i", centered, centered)
        spread = float(np.sqrt(squares.mean() / dim))
        self._scale = float(squares.std()) / spread if spread > 0 else 0.0
        if self._scale > 0:
            self.rows[:, dim] = (squares - squares.mean()) / self._scale

    def queries(self, queries: NDArray[np.floating]) -> Floats:
        """Turn queries of shape (nq, dim) into float32 queries of shape (nq, padded)."""
        reduced = np.zeros((len(queries), self.dim), dtype=np.float32)
        if self.by_l2:
            reduced[:, : self._dim] = queries
        elif self.metric == "l2":
            reduced[:, : self._dim] = -2.0 * (queries - self._mean)
            reduced[:, self._dim] = self._scale
        elif self.metric == "cosine":
            reduced[:, : self._dim] = self._sign * _unit(queries)
        else:
            reduced[:, : self._dim] = self._sign * queries
        return reduced


def _unit(rows: NDArray[np.floating]) -> NDArray[np.float64]:
    wide = rows.astype(np.float64)
    unit: NDArray[np.float64] = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return unit
