"""Scores and keys of rows that are there as codes alone."""

from libc.stdint cimport int8_t, int64_t, uint8_t

from farann.native.kernels cimport *

# Share of the code error that stays allowed for: more than rounding moves a key made of a score.
cdef double LEFT_OF_SLACK = 1e-6


cdef void take_as_true(farann_coded_query *coded, bint int4_alone) noexcept nogil:
    """Let a query take its rows' codes for the rows: there is no error to allow for.

    Where high nibbles only come first, the norm of the low ones stays.
    """
    coded.off *= LEFT_OF_SLACK
    coded.allowance = 0.0
    if int4_alone:
        coded.length = 0.0


cdef double rough_key(const farann_query *prepared, double sign, double score) noexcept nogil:
    """The key of which a rough score is the reduced one."""
    return sign * (score - prepared.key_offset) / prepared.key_scale


cdef double decoded_score(const farann_coded_rows *codes, int64_t dim, const double *query_vector,
                          double sign, int64_t position) noexcept nogil:
    """The rough score of the row at a position for weights that are query_vector, but not coded."""
    cdef int64_t pairs = code_pairs(codes.groups), panel, row, j, pair
    cdef int64_t panel_row
    cdef int shift
    cdef uint8_t top
    cdef double total = 0.0, low = 7.5
    panel, row = position // FARANN_CODE_PANEL, position % FARANN_CODE_PANEL
    cdef const uint8_t *high = codes.panels + (
        panel * FARANN_CODE_PANEL * pairs + row) * FARANN_CODE_GROUP
    cdef const uint8_t *lower = NULL
    if codes.low_nibbles != NULL:  # in quads of rows
        panel_row = panel * FARANN_CODE_PANEL + row // 4 * 4
        lower = codes.low_nibbles + (panel_row * pairs + row % 4) * FARANN_CODE_GROUP
    for j in range(dim):
        pair = j // (2 * FARANN_CODE_GROUP)
        shift = 4 * (j // FARANN_CODE_GROUP % 2)
        if lower != NULL:
            low = lower[pair * 4 * FARANN_CODE_GROUP + j % FARANN_CODE_GROUP] >> shift & 15
        top = high[pair * FARANN_CODE_PANEL * FARANN_CODE_GROUP + j % FARANN_CODE_GROUP]
        total += query_vector[j] * (16.0 * (top >> shift & 15) + low - 128.0)
    if codes.squares != NULL:
        total += sign * codes.squares[position]
    return total / codes.inv_scales[panel]


cdef double mean_score(const int8_t *mean, double unit, int64_t dim,
                       const double *query_vector) noexcept nogil:
    """What a mean adds to the rough scores of rows that are coded relative to it, likewise."""
    cdef int64_t j
    cdef double total = 0.0
    for j in range(dim):
        total += query_vector[j] * mean[j]
    return total * unit
