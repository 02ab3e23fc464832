"""Instruction-set levels of the C kernels, and checks of rows."""

from cpython.exc cimport PyErr_CheckSignals

METRICS = ("l2", "dot", "cosine")

cdef enum:
    # Coordinates that are checked before signals are looked for.
    CHECKED_AT_ONCE = 16777216


def isa_levels():
    """Names of the instruction-set levels that this CPU has, slowest first."""
    cdef const farann_kernels *levels[FARANN_MOST_LEVELS]
    cdef int n = farann_levels(levels)
    return tuple([levels[i].name.decode("ascii") for i in range(n)])


cdef const farann_kernels *kernels_of(str isa) except NULL:
    """The kernels of a level; ValueError if this CPU doesn't have it."""
    cdef const farann_kernels *kernels = farann_kernels_by_name(isa.encode("ascii"))
    if kernels == NULL:
        raise ValueError(f"isa: this CPU has {', '.join(isa_levels())}, got {isa!r}")
    return kernels


def largest_query_code(str isa):
    """Largest magnitude of a query's 8-bit codes: what the byte products of this level allow."""
    return kernels_of(isa).largest_code


def first_bad_row(const float[:, ::1] rows, bint unit):
    """Number of the first row with a NaN or infinity (with `unit`: or all zeros), or -1."""
    cdef int64_t bad = -1, n = rows.shape[0], dim = rows.shape[1], start = 0, count
    cdef uint64_t before
    if dim == 0:
        return -1
    while start < n and bad < 0:
        count = min(max(CHECKED_AT_ONCE // dim, 1), n - start)
        with nogil:
            before = farann_arithmetic_begin()
            bad = farann_first_bad_row(&rows[start, 0], count, dim, unit)
            farann_arithmetic_end(before)
        bad += start if bad >= 0 else 0
        start += count
        PyErr_CheckSignals()
    return bad
