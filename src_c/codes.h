/*
 * 8-bit codes of rows and queries. Vectors are first rotated, which evens their coordinates out;
 * a row z is coded as s * c with one scale s for all rows, a query's weights a as t * u with one
 * t a query. docs/how-it-works bounds what that leaves out.
 */
#ifndef FARANN_CODES_H
#define FARANN_CODES_H

#include <stdint.h>

#include "metric.h"

enum {
    FARANN_ROTATION_ROUNDS = 3,
};

/* Rotate x (dim) in place: per round a change of signs (rounds x dim, +1 or -1), then butterflies. */
void farann_rotate(double *x, int64_t dim, const int8_t *signs);

/* The largest |coordinate| of each row, centred, scaled and rotated; `scratch` holds dim. */
void farann_code_extents(const float *rows, int64_t n, int64_t dim, const double *centre, int unit,
                         const int8_t *signs, double *scratch, double *extents);

/*
 * Code n rows from a multiple of FARANN_CODE_PANEL on. codes: panels of [group][row][4]; sums:
 * the sum of a row's codes; norms: |z|^2 (0 for `squares` == 0), NaN for rows that the codes
 * can't hold (an |coordinate| over 127 s) and for those that fill up the last panel. largest[0]
 * and largest[1] are raised to the largest |z - s c|^2 and |z|^2 of the coded rows.
 */
void farann_encode_rows(const float *rows, int64_t n, int64_t dim, const double *centre, int unit,
                        int squares, const int8_t *signs, double scale, double *scratch,
                        int8_t *codes, int32_t *sums, float *norms, double *largest);

/* Rows as coded: the scale, and the largest |z - s c| and |z|, rounded up. */
typedef struct {
    double scale;
    double residual;
    double norm;
} farann_code_bounds;

/*
 * Code a query that farann_query_prepare has seen: bytes u + zero_point, four to a group, go to
 * codes[0], codes[stride], ... (groups). Returns the slack of scores s t <u, c> + bias and sets
 * *step to s * t; a negative slack means that these codes can't be used.
 */
double farann_encode_query(farann_metric metric, double sign, const double *exact, int64_t dim,
                           const double *centre, const int8_t *signs,
                           const farann_code_bounds *rows, const farann_query *prepared,
                           int zero_point, double *scratch, uint32_t *codes, int64_t stride,
                           float *step);

#endif
