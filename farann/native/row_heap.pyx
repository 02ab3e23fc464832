"""A heap of rows by bounds on their keys: the largest first, of equal ones the smallest id."""

from libc.stdint cimport int64_t

cdef enum:
    CHILDREN = 4  # of a node: they share a line of the cache


cdef void make_heap(Bounded *heap, int64_t n, const int64_t *ids) noexcept nogil:
    cdef int64_t at = (n - 2) // CHILDREN if n > 1 else -1
    while at >= 0:
        sift_down(heap, n, at, ids)
        at -= 1


cdef void sift_down(Bounded *heap, int64_t n, int64_t at, const int64_t *ids) noexcept nogil:
    """Move the entry at a place down to where it belongs."""
    cdef Bounded entry = heap[at]
    cdef int64_t child, best, last
    while True:
        child = CHILDREN * at + 1
        if child >= n:
            break
        best, last = child, min(child + CHILDREN, n)
        child += 1
        while child < last:
            if goes_before(&heap[child], &heap[best], ids):
                best = child
            child += 1
        if not goes_before(&heap[best], &entry, ids):
            break
        heap[at] = heap[best]
        at = best
    heap[at] = entry


cdef void push(Bounded *heap, int64_t *n, Bounded entry, const int64_t *ids) noexcept nogil:
    cdef int64_t at = n[0], parent
    n[0] += 1
    while at > 0:
        parent = (at - 1) // CHILDREN
        if not goes_before(&entry, &heap[parent], ids):
            break
        heap[at] = heap[parent]
        at = parent
    heap[at] = entry


cdef Bounded pop(Bounded *heap, int64_t *n, const int64_t *ids) noexcept nogil:
    """Take the first entry out."""
    cdef Bounded first = heap[0]
    n[0] -= 1
    if n[0] > 0:
        heap[0] = heap[n[0]]
        sift_down(heap, n[0], 0, ids)
    return first
