/*
 * 8-bit codes of rows and queries. Vectors are first turned, which evens their coordinates out; a
 * row z is coded as s * c with one scale s for all rows, a query's weights a as t * u with one t
 * a query. docs/how-it-works bounds what that leaves out.
 */
#ifndef FARANN_CODES_H
#define FARANN_CODES_H

#include <stdint.h>

#include "metric.h"

enum {
    FARANN_ROTATION_ROUNDS = 3,
};

/* The largest |coordinate| of each row, centred, scaled and rotated; `scratch` holds dim. */
void farann_code_extents(const farann_kernels *kernels, const float *rows, int64_t n, int64_t dim,
                         const double *centre, int unit, const double *signs, double *scratch,
                         double *extents);

/*
 * Code n rows, one after the other, padded with zeros to whole groups. sums: the sum of a row's
 * codes; squares: |z|^2. Rows that the codes can't hold (an |coordinate| over 127 s) have the sum
 * FARANN_NOT_CODED. largest[0] and largest[1] are raised to the largest |z - s c|^2 and |z|^2 of
 * the coded rows.
 */
void farann_encode_rows(const farann_kernels *kernels, const float *rows, int64_t n, int64_t dim,
                        const double *centre, int unit, const double *signs, double scale,
                        double *scratch, int8_t *codes, int32_t *sums, double *squares,
                        double *largest);

/*
 * Lay codes out as panels: position i holds row positions[i], or row i where positions is NULL;
 * nothing where it is negative. Writes n positions rounded up to whole panels, zeros in the rest.
 */
void farann_pack_codes(const int8_t *rows, const int64_t *positions, int64_t n, int64_t groups,
                       int8_t *panels);

/*
 * How rows are coded: the scale, and the largest |z - s c| and |z|, rounded up. With `rest_unit`
 * the last group holds, four times, how long a row is outside the space of its codes, in these
 * units and rounded up. `square_unit` is the unit of squares, 0 where there are none.
 */
typedef struct {
    double scale;
    double residual;
    double norm;
    double rest_unit;
    double square_unit;
    int64_t dim; /* coordinates that are coded */
} farann_code_bounds;

/* A query as coded: the worth of a unit, the shift of squares, and the slack of scores. */
typedef struct {
    double step;
    int32_t shift;
    int32_t sum; /* of u */
    double slack; /* negative: these codes can't be used */
} farann_coded_query;

/*
 * Code a query's weights a, turned as the rows were, with zeros up to a multiple of 8; `rest` is
 * its length outside the space of the codes, `reach` bounds |y| of all rows. Bytes u + zero_point,
 * four to a group, go to codes[0], codes[stride], ...; `bytes` is scratch for dim rounded up to a
 * multiple of 8; with a zero_point of 0 the bytes are signed. A score by codes, times step, is the
 * reduced key within slack; with a rest_unit
 * it is not less than it by more than slack.
 */
void farann_code_query(const farann_kernels *kernels, const double *a, double rest,
                       const farann_code_bounds *rows, double reach, const farann_query *prepared,
                       int zero_point, uint8_t *bytes, uint32_t *codes, int64_t stride,
                       farann_coded_query *coded);

/* The whole number that a score must be greater than, if its step times it is to reach `floor`. */
int32_t farann_code_threshold(const farann_coded_query *coded, double floor);

#endif
