"""How the keys of all rows lie for a query: the second witness of answers."""

from libc.math cimport INFINITY, NAN, sqrt

import numpy as np


cdef class KeyModel:
    """The keys of all rows for a query: their mean and their deviation.

    A reduced key is <w, z> of z = (y, |y|^2 / unit) and w = (query vector, sign unit), without the
    last coordinate where keys have no squares. Line 0 of `axes` (1 + KEY_AXES, dim) is the mean of
    y, the others are principal axes of z. `terms` has for each line what the last coordinate adds,
    and the variance of z along it; of line 0 this is that along any other direction.
    """

    def __init__(self, str isa, const float[:, ::1] axes, const double[:, ::1] terms):
        self.kernels = kernels_of(isa)
        if (axes.shape[0] != 1 + KEY_AXES or axes.shape[1] < 1
                or terms.shape[0] != 1 + KEY_AXES or terms.shape[1] != 2):
            raise ValueError("axes and terms must be those of the dimension")
        if not (np.isfinite(axes).all() and np.isfinite(terms).all()):
            raise ValueError("axes and terms must be finite")
        self.axes, self.terms = axes, terms
        self.zeros = np.zeros(padded(axes.shape[1]), np.float32)

    cdef float tell(self, const float *vector, double factor, double norm, double sign,
                    double key) noexcept nogil:
        """How far a reduced key is below the mean, in deviations of all keys of the query; NaN
        where all keys are equal.

        The query vector is `factor` times a vector.
        """
        cdef float products[1 + KEY_AXES]
        cdef double variance = 0.0, across = norm * norm, along
        cdef int64_t j
        self.kernels.score_rows_f32(&self.axes[0, 0], NULL, 1 + KEY_AXES, self.axes.shape[1],
                                    &self.zeros[0], vector, False, 0.0, products, NULL)
        for j in range(1, 1 + KEY_AXES):
            along = factor * products[j]
            across -= along * along
            along += sign * self.terms[j, 0]
            variance += self.terms[j, 1] * along * along
        variance += self.terms[0, 1] * max(across, 0.0)
        key -= factor * products[0] + sign * self.terms[0, 0]
        if not (0.0 < variance < INFINITY and -INFINITY < key < INFINITY):
            return NAN
        return <float>(-key / sqrt(variance))
