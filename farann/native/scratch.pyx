"""Scratch memory of a search: taken piece by piece, given back as a whole."""

cimport cython
from libc.stdint cimport int64_t
from libc.stdlib cimport free

from farann.native.kernels cimport farann_alloc

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
        """The same, or NULL where there is none."""
        cdef void *memory = NULL
        if count <= MOST_BYTES // size and self.n_pieces < MOST_ALLOCATED:
            memory = farann_alloc(count * size + ALIGNMENT, zeroed)
        if memory == NULL:
            return NULL
        self.pieces[self.n_pieces] = memory
        self.n_pieces += 1
        return aligned(memory)
