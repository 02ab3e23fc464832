from farann.native.kernels cimport *

cdef enum:
    # Directions of a PCA filter, at most; the rounding error of their products grows with them.
    LARGEST_BASIS = 128


cdef class Projection:
    cdef double[:, ::1] directions  # with zeros up to a multiple of 8
    cdef int64_t n

    cdef double residual_norm(self, const farann_kernels *kernels, const double *vector,
                              double *along) noexcept nogil


cdef class Transform:
    cdef farann_transform record
    cdef double[:, ::1] signs
    cdef Projection axes
    cdef int64_t dim


cdef class Codes:
    cdef object arrays  # keeps the memory of codes alive
    cdef const int32_t[::1] slots
    cdef Transform transform
    cdef Projection pca_filter  # or None
    cdef const int64_t[::1] outliers
    # None, or the largest |z| (or norm of the rest) from each panel on; in runs: as given.
    cdef double[::1] max_norm
    cdef bint by_square  # it is the largest |x|^2, of rows without negative numbers
    cdef Projection mean_query_direction  # one direction, or None
    cdef double[::1] max_along  # the most along it, likewise
    cdef farann_coded_rows scanned, refined
    cdef farann_coded_rows hubs  # with a basis: the first rows, in panels of whole codes
    cdef uint8_t[:, ::1] hub_panels
    cdef float[::1] hub_weights
    cdef int64_t n_hubs
    cdef farann_code_bounds bounds, scan_bounds
    cdef double outside_noise  # three deviations of the part outside the axes, over its largest
    cdef bint has_pca_filter, int4_alone
    cdef readonly bint high_nibbles_first
    cdef public bint whole_codes_first  # for single exact queries; else by size
    cdef int64_t n_rows, n_positions, n_coded, dim, groups
    cdef int64_t row_bytes  # bytes of a row's scanned codes in panels
    cdef readonly int64_t n_filled  # positions up to the last that has a row
    cdef int64_t n_leading  # positions before the first that is empty
    cdef object places  # see `places_of`


cdef class Partitions:
    cdef const int64_t[::1] starts
    cdef object arrays  # keeps their memory alive
    cdef farann_coded_rows coded
    cdef farann_code_bounds bounds
    cdef const double[::1] deviations  # of keys in a cell, for a query vector of length 1
    cdef int64_t n_cells, n_padded
    cdef bint relative

    cdef int64_t begun(self, int64_t position) noexcept nogil
    cdef int64_t end_of_cell(self, int64_t position) noexcept nogil
    cdef double write_mean(self, int64_t position, int8_t *mean) noexcept nogil
