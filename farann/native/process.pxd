from libc.stdint cimport int64_t, uintptr_t


cdef class CancelFlag:
    cdef int64_t raised


# The flag of calls that can't be canceled.
cdef int64_t NEVER

# The mechanisms left out by `leave_out`, a bit each; 0 except in measurements.
cdef int64_t left_out

# In the order of `MECHANISMS`.
cdef enum Mechanism:
    ASKING_AHEAD, BEST_FIRST, CEILINGS, CODE_NOISE, COST_JUDGE, EARLY_FILTERS, FIRST_IN_FLOAT32
    FIRST_ROWS, HIGH_NIBBLES, INTEGER_KEYS, JOINED_NIBBLES, KEY_SCAN, LONGER_BLOCKS, MEMBER_ORDER
    NIBBLE_JUDGE, NORM_PRUNING, SELECTING, SHRINKING_BLOCKS, SINGLE_JUDGE, SINGLE_TILES, ZERO_COLUMNS


cdef inline bint uses(Mechanism mechanism) noexcept nogil:
    """Whether searches have a mechanism: all of them, but for measurements."""
    return not left_out >> <int>mechanism & 1


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
