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


cdef void push_row(Bounded *heap, int64_t *n, const Bounded *row) noexcept nogil:
    """Add a row to a heap of n, whose first place is that of the first row."""
    cdef int64_t at = n[0], parent
    n[0] += 1
    while at > 0:
        parent = (at - 1) // 2
        if not goes_before(row, &heap[parent]):
            break
        heap[at] = heap[parent]
        at = parent
    heap[at] = row[0]


cdef void sift_down(Bounded *heap, int64_t n) noexcept nogil:
    """Make a heap again, of which the first place has a row that goes later than before."""
    cdef int64_t at = 0, child
    cdef Bounded moved
    if n == 0:
        return
    moved = heap[0]
    while 2 * at + 1 < n:
        child = 2 * at + 1
        if child + 1 < n and goes_before(&heap[child + 1], &heap[child]):
            child += 1
        if not goes_before(&heap[child], &moved):
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
