"""Sorted lists of rows with exact keys, merged."""

from libc.stdint cimport int64_t
from libc.stdlib cimport free

from farann.native.kernels cimport farann_alloc


cdef struct Head:
    # The first row that is left of a list, where it is and where the list ends.
    double key
    int64_t id
    int64_t place
    int64_t stop


def merge_sorted(const double[::1] keys, const int64_t[::1] ids, const int64_t[:, ::1] starts,
                 const int64_t[:, ::1] stops, const int64_t[::1] offsets, int64_t[::1] places):
    """Write where the best rows of some lists are, larger keys first and then smaller ids.

    List p of query i is at starts[i, p] .. stops[i, p] of `keys` and `ids`, best first. What is
    written for the query is places[offsets[i]] .. places[offsets[i + 1]], -1 where there are fewer
    rows.
    """
    cdef int64_t i, p, j, left, n = starts.shape[0], n_lists = starts.shape[1], unsorted
    cdef Head *heads
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
    heads = <Head *>farann_alloc((n_lists + 1) * sizeof(Head), False)
    if heads == NULL:
        raise MemoryError(f"no memory for {n_lists:,} lists")
    with nogil:
        for i in range(n):
            left = 0
            for p in range(n_lists):
                if starts[i, p] < stops[i, p]:
                    heads[left] = Head(keys[starts[i, p]], ids[starts[i, p]], starts[i, p],
                                       stops[i, p])
                    left += 1
            for j in range(offsets[i], offsets[i + 1]):
                places[j] = -1
                if left:
                    p = best_of(heads, left)
                    places[j] = heads[p].place
                    heads[p].place += 1
                    if heads[p].place < heads[p].stop:
                        heads[p].key, heads[p].id = keys[heads[p].place], ids[heads[p].place]
                    else:
                        left -= 1
                        heads[p] = heads[left]
    free(heads)


cdef int64_t first_unsorted(const double[::1] keys, const int64_t[:, ::1] starts,
                            const int64_t[:, ::1] stops) noexcept nogil:
    """The number of a list that isn't in the order of its keys; -1: all are."""
    cdef int64_t i, p, j
    for i in range(starts.shape[0]):
        for p in range(starts.shape[1]):
            for j in range(starts[i, p] + 1, stops[i, p]):
                if not keys[j] <= keys[j - 1]:
                    return p
    return -1


cdef int64_t best_of(const Head *heads, int64_t n) noexcept nogil:
    """Which of n rows is best, n > 0."""
    cdef int64_t p, best = 0
    for p in range(1, n):
        if heads[p].key > heads[best].key or (
                heads[p].key == heads[best].key and heads[p].id < heads[best].id):
            best = p
    return best
