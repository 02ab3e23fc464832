"""Rows by bounds on their keys: the largest first, of equal ones the smallest id."""

from libc.stdint cimport int64_t


cdef void put_first(Bounded *rows, int64_t n, int64_t m) noexcept nogil:
    """Bring the first m of n rows to the front, and the next one behind them; 0 <= m < n."""
    cdef int64_t low = 0, high = n - 1, i, j
    cdef Bounded middle
    while low < high:
        middle = rows[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while goes_before(&rows[i], &middle):
                i += 1
            while goes_before(&middle, &rows[j]):
                j -= 1
            if i <= j:
                rows[i], rows[j] = rows[j], rows[i]
                i += 1
                j -= 1
        if m <= j:
            high = j
        elif m >= i:
            low = i
        else:
            return


cdef double largest_but(double *values, int64_t n, int64_t m) noexcept nogil:
    """The largest of n values but for m of them, which are moved about; 0 <= m < n."""
    cdef int64_t low = 0, high = n - 1, i, j
    cdef double middle
    while low < high:
        middle = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] > middle:
                i += 1
            while middle > values[j]:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if m <= j:
            high = j
        elif m >= i:
            low = i
        else:
            break
    return values[m]
