"""Scores and keys of rows that are there as codes alone."""

from libc.stdint cimport int8_t, int64_t

from farann.native.kernels cimport farann_coded_query, farann_coded_rows, farann_query


cdef void take_as_true(farann_coded_query *coded, bint int4_alone) noexcept nogil
cdef double rough_key(const farann_query *prepared, double sign, double score) noexcept nogil
cdef double decoded_score(const farann_coded_rows *codes, int64_t dim, const double *query_vector,
                          double sign, int64_t position) noexcept nogil
cdef double mean_score(const int8_t *mean, double unit, int64_t dim,
                       const double *query_vector) noexcept nogil
