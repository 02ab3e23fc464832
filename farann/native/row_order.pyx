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


cdef void make_heap(const Bounded *rows, int64_t *heap, int64_t n) noexcept nogil:
    """Order n places of rows as a heap: the first place is that of the first row."""
    cdef int64_t at
    for at in range(n // 2 - 1, -1, -1):
        sift_down(rows, heap, n, at)


cdef void sift_down(const Bounded *rows, int64_t *heap, int64_t n, int64_t at) noexcept nogil:
    """Make a heap again, of which one place has a row that goes later than before."""
    cdef int64_t child, moved = heap[at]
    while 2 * at + 1 < n:
        child = 2 * at + 1
        if child + 1 < n and goes_before(&rows[heap[child + 1]], &rows[heap[child]]):
            child += 1
        if not goes_before(&rows[heap[child]], &rows[moved]):
            break
        heap[at] = heap[child]
        at = child
    heap[at] = moved


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
