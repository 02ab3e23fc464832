"""What tasks share with their process; their own scratch memory."""

from libc.stdint cimport int64_t, uintptr_t


cdef class CancelFlag:
    cdef int64_t raised


# The flag of calls that can't be canceled.
cdef int64_t NEVER

# The mechanisms left out by `leave_out`, bits of `Mechanism`; 0 except in measurements.
cdef int64_t left_out

# In the order of `MECHANISMS`, a bit each.
cdef enum Mechanism:
    ASKING_AHEAD = 1
    BEST_FIRST = 1 << 1
    CEILINGS = 1 << 2
    CODE_NOISE = 1 << 3
    COST_JUDGE = 1 << 4
    EARLY_FILTERS = 1 << 5
    FIRST_IN_FLOAT32 = 1 << 6
    FIRST_ROWS = 1 << 7
    FUTILE_SEARCHES = 1 << 8
    HIGH_NIBBLES = 1 << 9
    INTEGER_KEYS = 1 << 10
    JOINED_NIBBLES = 1 << 11
    KEY_SCAN = 1 << 12
    LONGER_BLOCKS = 1 << 13
    MEMBER_ORDER = 1 << 14
    NIBBLE_JUDGE = 1 << 15
    NORM_PRUNING = 1 << 16
    PCA_FILTER_JUDGE = 1 << 17
    SELECTING = 1 << 18
    SHRINKING_BLOCKS = 1 << 19
    SINGLE_JUDGE = 1 << 20
    SINGLE_TILES = 1 << 21
    ZERO_COLUMNS = 1 << 22


cdef inline bint uses(Mechanism mechanism) noexcept nogil:
    """Whether searches have a mechanism: all of them, but for measurements."""
    return not left_out & mechanism


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
