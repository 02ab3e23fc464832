from farann.native.codes cimport Codes, Partitions
from farann.native.kernels cimport *

cdef enum:
    NOT_LOOKED_FOR = -2  # the value of a property of all rows that was not computed yet


cdef struct Segment:
    const uint8_t *rows  # of the type that the snapshot has
    int64_t first  # slot of its first row
    int64_t count
    const int64_t *positions  # the rows to search, within the segment; NULL: all


cdef class Snapshot:
    cdef Segment segments[2]
    cdef Segment uncoded
    cdef const int64_t[::1] uncoded_rows
    cdef const int64_t[:, ::1] runs
    cdef readonly str isa
    cdef const farann_kernels *kernels
    cdef farann_metric metric
    cdef farann_traits traits
    cdef readonly Codes codes
    cdef int64_t largest_integer, negative  # see `largest_whole_number`, `has_negative`
    cdef int64_t largest_square  # |x|^2 of rows of whole numbers, see `IntegerKeys.largest_sum`
    cdef readonly dict code_trials  # whether codes paid in earlier searches, by kind of search
    cdef readonly Codes added
    cdef readonly object in_file
    cdef Partitions partitions
    cdef readonly int64_t dim
    cdef readonly int64_t n_slots
    cdef bint vectors
    cdef double center_norm
    cdef const uint8_t[:, ::1] base, tail  # bytes of rows
    cdef double[::1] center         # padded with zeros
    cdef float[::1] row_major_center  # the same; zero for unit rows, not centered when unpacked
    cdef const int64_t[::1] ids
    cdef const int64_t *ids_by_slot
    cdef const uint8_t[::1] live
    cdef farann_row_type row_type
    cdef int64_t row_bytes

    cdef int64_t largest_whole_number(self) noexcept nogil
    cdef bint has_negative(self) noexcept nogil


cdef class Filter:
    cdef Snapshot snapshot
    cdef Segment segments[2]
    cdef const uint8_t *live
    cdef const uint8_t[::1] allowed
    cdef const int64_t[::1] excluded, offsets
    cdef const int32_t[::1] groups, left_out
    cdef int64_t[::1] positions
    cdef readonly int64_t n_rows
    cdef double share

    cdef Filter for_all(self)
    cdef check_queries(self, int64_t n)
    cdef bint is_open(self) noexcept nogil
    cdef bint is_mask_of(self, Filter other) noexcept
    cdef int64_t n_excluded(self, int64_t i) noexcept nogil
    cdef farann_filter of_query(self, int64_t i, uint32_t *places) noexcept nogil
