"""What tasks share with their process."""

from libc.stdint cimport int64_t


cdef class CancelFlag:
    cdef int64_t raised


# For calls that nobody gives up.
cdef int64_t NEVER
