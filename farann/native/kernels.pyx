"""C kernels by instruction-set level, checks of rows; cancellation and memory of tasks."""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from libc.stdlib cimport free
from libc.string cimport memset

from threading import get_ident

import numpy as np

METRICS = ("l2", "dot", "cosine")

cdef enum:
    MOST_APART = 16  # CPUs: among many one is found that rests
    CHECKED_AT_ONCE = 16777216  # coordinates checked between looks for signals
    WIDENED_AT_ONCE = 1048576  # coordinates converted to float32 at once, to check other row types


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


# How rows are kept; bits of bfloat16, which numpy doesn't have, are those of uint16.
cdef tuple ROW_TYPES = (np.dtype(np.float32), np.dtype(np.float16), np.dtype(np.uint16),
                        np.dtype(np.uint8), np.dtype(np.int8))


cdef farann_row_type row_type_of(object rows) except *:
    """The row type of an array; ValueError if it is no type of rows."""
    if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.dtype not in ROW_TYPES or not (
            rows.flags.c_contiguous and rows.flags.aligned):
        raise ValueError(f"rows must be a contiguous matrix of one of the types that rows are kept "
                         f"as, got {getattr(rows, 'dtype', type(rows).__name__)} "
                         f"{np.shape(rows)}")
    return <farann_row_type>(<int>ROW_TYPES.index(rows.dtype))


def widened(rows, str isa=None):
    """Rows as float32; those that are float32 aren't copied."""
    cdef farann_row_type type
    cdef const farann_kernels *kernels
    cdef int64_t n, dim, start = 0, count
    cdef const uint8_t[:, ::1] bytes_of_rows
    cdef float[:, ::1] wide
    if rows.dtype == np.float32:
        return rows
    rows = np.ascontiguousarray(rows)
    type, n, dim = row_type_of(rows), rows.shape[0], rows.shape[1]
    levels = isa_levels()  # all widen to the same bits
    kernels = kernels_of(isa or levels[len(levels) - 1])
    result = np.empty((n, dim), np.float32)
    if n == 0 or dim == 0:
        return result
    bytes_of_rows, wide = rows.view(np.uint8), result
    while start < n:
        count = min(max(CHECKED_AT_ONCE // dim, 1), n - start)
        with nogil:
            kernels.widen_rows(type, &bytes_of_rows[start, 0], NULL, count, dim, &wide[start, 0])
        start += count
        PyErr_CheckSignals()
    return result


def largest_query_code(str isa):
    """Largest magnitude of a query's 8-bit codes: what the byte products of this level allow."""
    return kernels_of(isa).largest_code


def first_bad_row(rows, bint unit):
    """Number of the first row with a NaN or infinity (with `unit`: or all zeros), or -1."""
    cdef farann_row_type type = row_type_of(rows)
    cdef int64_t bad = -1, start = 0, n = rows.shape[0], dim = rows.shape[1], count, step
    cdef const float[:, ::1] wide
    cdef uint64_t before
    if dim == 0 or (not unit and (type == FARANN_UINT8 or type == FARANN_INT8)):
        return -1
    step = max((CHECKED_AT_ONCE if type == FARANN_FLOAT32 else WIDENED_AT_ONCE) // dim, 1)
    while start < n and bad < 0:
        wide = widened(rows[start:start + step])
        count = wide.shape[0]
        with nogil:
            before = farann_arithmetic_begin()
            bad = farann_first_bad_row(&wide[0, 0], count, dim, unit)
            farann_arithmetic_end(before)
        bad += start if bad >= 0 else 0
        start += count
        PyErr_CheckSignals()
    return bad


# ---- cancellation, arithmetic, memory ----

cdef int64_t NEVER = 0
cdef int64_t left_out = 0

# Mechanisms that searches can do without, in the order of `Mechanism`.
MECHANISMS = ("best-first", "ceilings", "code-noise", "cost-judge", "early-filters",
              "first-in-float32", "first-rows", "high-nibbles", "integer-keys", "joined-nibbles",
              "key-scan", "long-blocks", "member-order", "nibble-judge", "norm-pruning",
              "selecting", "shrinking-blocks", "single-judge", "single-tiles", "zero-columns")


class Cancelled(Exception):
    """A task was left unfinished, as its batch was given up."""


cdef class CancelFlag:
    """Tells all tasks of a batch, in all threads, to stop."""

    def cancel(self):
        farann_store(&self.raised, 1)

    def is_cancelled(self):
        return farann_load(&self.raised) > 0

    def cancel_at(self, int64_t look):
        """For tests: stop them when they look for this the n-th time, from 1 on.

        Gives how many looks were left of those that were to be made before.
        """
        cdef int64_t left = -farann_load(&self.raised)
        farann_store(&self.raised, -look)
        return max(left, 0)


cdef class Apart:
    """While a thread has entered it, that one stays on its CPU, and those of a pool, by their native
    ids, keep off it; on Linux, with up to MOST_APART CPUs, and no fewer than threads.

    A virtual CPU that rests seems to be busy (Linux's `available_idle_cpu`): a thread is woken on
    the CPU of the one that wakes it. For milliseconds both share that, and the other rests.

    Nothing is done for a second caller meanwhile, nor before all threads of the pool have started,
    as one that starts has the CPUs of the one that starts it.
    """

    def __init__(self, list threads, int64_t size):
        self.threads, self.size = threads, size

    def __enter__(self):
        cdef int here
        cdef farann_cpus own, one
        with cython.critical_section(self):
            if self.owner is not None or len(self.threads) < self.size:
                return
            here = farann_cpu_here()
            if here < 0 or not self.size < farann_cpus_of(0, -1, &own) <= MOST_APART:
                return
            self.owner, self.n_held = get_ident(), 0
            for thread in self.threads[:self.size]:
                if farann_cpus_of(thread, here, &one):
                    self.hold(thread, &one)
            memset(&one, 0, sizeof(one))
            one.words[here // 64] = <uint64_t>1 << here % 64
            self.hold(0, &one)

    cdef void hold(self, int64_t thread, const farann_cpus *cpus):
        """Have a thread use some CPUs until the end."""
        farann_cpus_of(thread, -1, &self.before[self.n_held])
        self.held[self.n_held] = thread
        self.n_held += 1
        farann_cpus_use(thread, cpus)

    def __exit__(self, *error):
        cdef int64_t i
        with cython.critical_section(self):
            if self.owner == get_ident():
                for i in range(self.n_held):
                    farann_cpus_use(self.held[i], &self.before[i])
                self.owner = None


def give_back_memory():
    """Give memory that was freed back to the system, of which glibc keeps tens of megabytes."""
    with nogil:
        farann_give_back_memory()


def fail_allocation(int64_t n):
    """For tests: let the n-th of the next allocations of the core fail, once.

    0: only count them, -1: neither. Gives how many there were since the last call, as far as they
    were counted.
    """
    return farann_fail_allocation(n)


def begin_arithmetic():
    """Switch this thread to IEEE 754 arithmetic; return the mode to give to `end_arithmetic`."""
    return farann_arithmetic_begin()


def end_arithmetic(uint64_t before):
    """Restore the mode that `begin_arithmetic` returned."""
    farann_arithmetic_end(before)


def leave_out(*names):
    """For measurements: switch some of `MECHANISMS` off in all searches of the process.

    The others are switched on. It must not be called during a search.
    """
    global left_out
    cdef int64_t bits = 0
    for name in names:
        bits |= <int64_t>1 << <int>MECHANISMS.index(name)
    left_out = bits


def flush_denormals(bint on):
    """For tests: treat denormal numbers as zero in this thread, as -ffast-math does, or not.

    Returns whether it did before; -1 if that isn't known.
    """
    return farann_flush_denormals(on)


# Bytes of one piece, at most, so that sizes don't overflow.
cdef int64_t MOST_BYTES = 1 << 46


@cython.freelist(8)
cdef class Scratch:
    """Pieces of memory that live as long as their search."""

    def __dealloc__(self):
        cdef int i
        for i in range(self.n_pieces):
            free(self.pieces[i])

    cdef void *allocate(self, int64_t count, int64_t size, bint zeroed=True) except NULL:
        """A piece for `count` elements of a size; MemoryError if there is none."""
        cdef void *memory = self.allocated(count, size, zeroed)
        if memory == NULL:
            raise MemoryError(f"a search needs {count * size:,} bytes of scratch memory")
        return memory

    cdef void *allocated(self, int64_t count, int64_t size, bint zeroed) noexcept nogil:
        """A piece for `count` elements of a size, or NULL if there is no memory."""
        cdef void *memory = NULL
        if count <= MOST_BYTES // size and self.n_pieces < MOST_ALLOCATED:
            memory = farann_alloc(count * size + ALIGNMENT, zeroed)
        if memory == NULL:
            return NULL
        self.pieces[self.n_pieces] = memory
        self.n_pieces += 1
        return aligned(memory)
