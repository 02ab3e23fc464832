"""Exact merging of the results of parts: sorted lists of rows, and sums of rows.

The mean of rows has the same bits in whatever order they are added. A sum is int64 (DIGITS, dim)
in fixed point: a unit of digit i is 2**(8 i - 150), which makes digit 0 reach the smallest float32
and digit 31 the largest. Each digit takes 2**31 rows before it overflows. Sums of parts are added
as integers are.
"""

from libc.math cimport ldexp
from libc.stdint cimport int64_t, uint32_t

import numpy as np

cdef enum:
    DIGITS = 32
    DIGIT_BITS = 8
    UNIT = -150  # log2 of the unit of digit 0
    # Coordinates of directions are cut off after 2**-62: 32 bits in units of that, the rest in
    # units of 2**-30.
    DIRECTION_BITS = 62
    LOW_DIGIT = 11
    HIGH_DIGIT = 15


def merge_sorted(const double[::1] keys, const int64_t[::1] ids, const int64_t[:, ::1] starts,
                 const int64_t[:, ::1] stops, const int64_t[::1] offsets, int64_t[::1] places):
    """Write where the best rows of some lists are, larger keys first and then smaller ids.

    List p of query i is at starts[i, p] .. stops[i, p] of `keys` and `ids`, best first. What is
    written for the query is places[offsets[i]] .. places[offsets[i + 1]], -1 where there are fewer
    rows.
    """
    cdef int64_t i, p, j, left, best, n = starts.shape[0], n_lists = starts.shape[1], unsorted
    cdef int64_t[::1] at = np.empty(n_lists, np.int64), end = np.empty(n_lists, np.int64)
    for i in range(n):
        if not 0 <= offsets[i] <= offsets[i + 1] <= places.shape[0]:
            raise ValueError("offsets must ascend to the number of places")
        for p in range(n_lists):
            if not 0 <= starts[i, p] <= stops[i, p] <= keys.shape[0] or (
                    keys.shape[0] != ids.shape[0]):
                raise ValueError("lists must be in the arrays")
    with nogil:
        unsorted = first_unsorted(keys, starts, stops)
    if unsorted >= 0:
        raise ValueError(f"parts[{unsorted}]: expected rows in the order of their keys, as "
                         "searches give them")
    with nogil:
        for i in range(n):
            left = 0
            for p in range(n_lists):
                if starts[i, p] < stops[i, p]:
                    at[left], end[left] = starts[i, p], stops[i, p]
                    left += 1
            for j in range(offsets[i], offsets[i + 1]):
                places[j] = -1
                if left == 0:
                    continue
                best = 0
                for p in range(1, left):
                    if keys[at[p]] > keys[at[best]] or (
                            keys[at[p]] == keys[at[best]] and ids[at[p]] < ids[at[best]]):
                        best = p
                places[j] = at[best]
                at[best] += 1
                if at[best] == end[best]:
                    left -= 1
                    at[best], end[best] = at[left], end[left]


cdef int64_t first_unsorted(const double[::1] keys, const int64_t[:, ::1] starts,
                            const int64_t[:, ::1] stops) noexcept nogil:
    """The number of the first list that is not sorted by its keys; -1: all are."""
    cdef int64_t i, p, j
    for i in range(starts.shape[0]):
        for p in range(starts.shape[1]):
            for j in range(starts[i, p] + 1, stops[i, p]):
                if not keys[j] <= keys[j - 1]:
                    return p
    return -1


def empty_sum(int64_t dim):
    """The sum of no rows."""
    return np.zeros((DIGITS, dim), np.int64)


def add_rows_exactly(const uint32_t[:, ::1] rows, int64_t[:, ::1] sums):
    """Add rows of float32, given by their bits, to a sum."""
    cdef int64_t i, j, n = rows.shape[0], dim = rows.shape[1], value, sign
    cdef uint32_t bits, exponent
    _check(sums, dim)
    with nogil:
        for i in range(n):
            for j in range(dim):
                bits = rows[i, j]
                exponent = (bits >> 23) & 255
                # Exponent 0 is that of denormal numbers, in the unit of exponent 1.
                value = (bits & 0x7fffff) | (<uint32_t>(exponent != 0) << 23)
                exponent += exponent == 0
                sign = -<int64_t>(bits >> 31)
                sums[exponent >> 3, j] += ((value << (exponent & 7)) ^ sign) - sign


def add_directions_exactly(const double[:, ::1] rows, int64_t[:, ::1] sums):
    """Add unit vectors to a sum."""
    cdef int64_t i, j, n = rows.shape[0], dim = rows.shape[1], value
    cdef double units = ldexp(1.0, DIRECTION_BITS)
    _check(sums, dim)
    with nogil:
        for i in range(n):
            for j in range(dim):
                value = <int64_t>(rows[i, j] * units)
                sums[LOW_DIGIT, j] += value & <int64_t>0xffffffff
                sums[HIGH_DIGIT, j] += value >> 32


def mean_of_sum(int64_t[:, ::1] sums, int64_t n):
    """The mean as float32, of a sum of n rows, whose digits it carries."""
    cdef int64_t i, j, carry, dim = sums.shape[1]
    cdef double total
    _check(sums, dim)
    mean = np.empty(dim, np.float32)
    cdef float[::1] means = mean
    for j in range(dim):
        # Digits from -128 to 127: the leading one is larger than all below it together, so that
        # nothing cancels in float64.
        for i in range(DIGITS - 1):
            carry = (sums[i, j] + (1 << (DIGIT_BITS - 1))) >> DIGIT_BITS
            sums[i, j] -= carry * (1 << DIGIT_BITS)
            sums[i + 1, j] += carry
        total = 0.0
        for i in range(DIGITS - 1, -1, -1):
            total = total * (1 << DIGIT_BITS) + sums[i, j]
        means[j] = <float>(ldexp(total, UNIT) / n)
    return mean


cdef _check(const int64_t[:, :] sums, int64_t dim):
    if sums.shape[0] != DIGITS or sums.shape[1] != dim:
        raise ValueError("a sum must be of the rows' dimension")
