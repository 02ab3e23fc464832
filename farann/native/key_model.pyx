"""How the keys of all rows lie for a query: the third witness of answers."""

from libc.math cimport INFINITY, NAN, expf, fabsf, log, sqrt

import numpy as np

# Rows that count as expected beyond a key in any case, so that a logarithm is finite.
cdef double LEAST_BEYOND = 1e-3
# The normal distribution from x on is about exp(-BY_DISTANCE x - BY_SQUARE x^2) / 2.
cdef float BY_DISTANCE = 0.717, BY_SQUARE = 0.416


cdef class KeyModel:
    """The keys of all rows for a query: their mean, deviation, and how many lie beyond a key.

    A reduced key is <w, z> of z = (y, |y|^2 / unit) and w = (query vector, sign unit), without the
    last coordinate where keys have no squares. Line 0 of `axes` (1 + KEY_AXES, dim) is the mean of
    y, the others are principal axes of z. `terms` has for each line what the last coordinate adds,
    the variance of z along it, and the part of it within groups; of line 0 both are that along any
    other direction. `groups` are those of rows: how many, their deviation over the usual one, and
    their means along the first axes.

    With `n_rows` what is told is that of so many of these rows: of fewer the k-th is less far out.
    """

    def __init__(self, str isa, const float[:, ::1] axes, const double[:, ::1] terms,
                 const double[:, ::1] groups, int64_t n_rows=0):
        self.kernels = kernels_of(isa)
        if (axes.shape[0] != 1 + KEY_AXES or axes.shape[1] < 1
                or terms.shape[0] != 1 + KEY_AXES or terms.shape[1] != 3
                or groups.shape[0] > ROW_GROUPS or groups.shape[1] != 2 + GROUP_AXES):
            raise ValueError("axes, terms and groups must be those of the dimension")
        if not (np.isfinite(axes).all() and np.isfinite(terms).all() and np.isfinite(groups).all()):
            raise ValueError("axes, terms and groups must be finite")
        modelled = np.asarray(groups)[:, 0].sum()
        if not (modelled > 0.0 and n_rows >= 0):
            raise ValueError("there must be rows")
        self.axes, self.terms = axes, terms
        self.groups = of_groups = np.array(np.transpose(groups), np.float32, order="C")
        with np.errstate(all="ignore"):
            of_groups[1] = 1.0 / of_groups[1]
        self.zeros = np.zeros(padded(axes.shape[1]), np.float32)
        self.more = n_rows / modelled if n_rows else 1.0

    cdef void tell(self, const float *vector, double factor, double norm, double sign, double key,
                   float *found) noexcept nogil:
        """Write how far a reduced key is below the mean, in deviations of all keys of the query,
        and the logarithm of the number of rows expected beyond it; NaN where all keys are equal.

        The query vector is `factor` times a vector.
        """
        cdef float products[1 + KEY_AXES]
        cdef float x[ROW_GROUPS]
        cdef double along[1 + KEY_AXES]
        cdef double variance = 0.0, within = 0.0, across = norm * norm, beyond = 0.0, falls = 0.0
        cdef double square
        cdef float scale, far, part, tail, half = 0.5
        cdef const float *of_groups
        cdef int64_t dim = self.axes.shape[1], n = self.groups.shape[1], j, c
        self.kernels.score_rows_f32(&self.axes[0, 0], NULL, 1 + KEY_AXES, dim, &self.zeros[0],
                                    vector, False, 0.0, products, NULL)
        along[0] = factor * products[0]
        for j in range(1, 1 + KEY_AXES):
            along[j] = factor * products[j]
            across -= along[j] * along[j]
            along[j] += sign * self.terms[j, 0]
            square = along[j] * along[j]
            variance += self.terms[j, 1] * square
            within += self.terms[j, 2] * square
        across = max(across, 0.0)
        variance += self.terms[0, 1] * across
        within += self.terms[0, 2] * across
        key -= along[0] + sign * self.terms[0, 0]
        found[0] = found[1] = NAN
        if not (0.0 < variance < INFINITY and 0.0 < within and -INFINITY < key < INFINITY):
            return
        found[0] = <float>(-key / sqrt(variance))
        scale = <float>(1.0 / sqrt(within))
        for c in range(n):
            x[c] = scale * <float>key
        for j in range(GROUP_AXES):
            of_groups, part = &self.groups[2 + j, 0], scale * <float>along[1 + j]
            for c in range(n):
                x[c] -= of_groups[c] * part
        for c in range(n):
            far = fabsf(x[c]) * self.groups[1, c]
            tail = self.groups[0, c] * half * expf(-far * (BY_DISTANCE + BY_SQUARE * far))
            beyond += tail if x[c] > 0.0 else self.groups[0, c] - tail
            falls += tail * (BY_DISTANCE + 2 * BY_SQUARE * far) * self.groups[1, c]
        falls *= scale
        if self.more != 1.0 and falls > 0.0:  # by how much removed rows move the k-th key
            found[0] += <float>(log(self.more) * beyond / (falls * sqrt(variance)))
        found[1] = <float>log(self.more * beyond + LEAST_BEYOND)
