"""Scratch memory of a search."""

from libc.stdint cimport int64_t, uintptr_t

cdef enum:
    ALIGNMENT = 64  # bytes: a cache line, and the widest vector
    MOST_ALLOCATED = 64  # pieces of memory that a search may have


cdef inline void *aligned(void *memory) noexcept nogil:
    cdef uintptr_t address = <uintptr_t>memory
    return <void *>((address + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT)


cdef class Scratch:
    cdef void *pieces[MOST_ALLOCATED]
    cdef int n_pieces
    cdef bint failed  # whether an allocation for answers failed

    cdef void *allocate(self, int64_t count, int64_t size, bint zeroed=*) except NULL
    cdef void *allocated(self, int64_t count, int64_t size, bint zeroed) noexcept nogil
