"""Cancellation, memory and floating-point mode of tasks."""

cimport cython
from libc.stdint cimport uint64_t
from libc.stdlib cimport free

from farann.native.kernels cimport (farann_alloc, farann_arithmetic_begin, farann_arithmetic_end,
                                    farann_fail_allocation, farann_flush_denormals, farann_load,
                                    farann_store)

cdef int64_t NEVER = 0
cdef int64_t left_out = 0

# Mechanisms that searches can do without, in the order of `Mechanism`.
MECHANISMS = ("asking-ahead", "best-first", "ceilings", "code-noise", "cost-judge",
              "early-filters", "first-in-float32", "first-rows", "high-nibbles", "integer-keys",
              "joined-nibbles", "key-scan", "long-blocks", "member-order", "nibble-judge", "norm-pruning",
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
    """For measurements: have all searches of the process do without some of `MECHANISMS`.

    Others are used again. Not while anything is searched.
    """
    global left_out
    cdef int64_t bits = 0
    for name in names:
        bits |= <int64_t>1 << <int>MECHANISMS.index(name)
    left_out = bits


def flush_denormals(bint on):
    """For tests: have this thread take denormal numbers for zero, as -ffast-math does, or not.

    Gives whether it did before; -1 where that isn't known.
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
