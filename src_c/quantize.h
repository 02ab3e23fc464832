/*
 * 8-bit codes of rows and queries. Vectors are first rotated, which evens their coordinates out;
 * they may lose what is outside some axes. A row z is coded as c / w with an inverse scale w of its
 * own, a query vector a as t * u with one step t a query. docs/how-it-works bounds the error.
 */
#ifndef FARANN_QUANTIZE_H
#define FARANN_QUANTIZE_H

#include <stdint.h>

#include "metric.h"

enum {
    FARANN_ROTATION_ROUNDS = 3, /* rounds of sign flips and butterflies */
    FARANN_EXTREMES = 6,        /* numbers that rows raise when they are coded */
    FARANN_SPAN = 16,           /* largest inverse scale of codes over the smallest, at most */
};

/*
 * The transform of rows and query vectors before coding: a projection on the axes, then a rotation.
 */
typedef struct {
    const double *signs; /* FARANN_ROTATION_ROUNDS x coded */
    const double *axes;  /* coded x dim, orthonormal, each with zeros up to a multiple of 8; NULL:
                            all is kept */
    int64_t coded;       /* coordinates */
} farann_transform;

/*
 * Compute the components of x along n orthonormal directions; return the square of the rest,
 * rounded up. All have zeros up to dim, a multiple of 8.
 */
double farann_along(const farann_kernels *kernels, const double *directions, int64_t n, int64_t dim,
                    const double *x, double *along);

/*
 * Replace x (dim) by its coordinates along the axes, and rotate these; there is room up to a
 * multiple of 8, and zeros in it, and as much in `scratch`. Returns the square of the rest of x,
 * rounded up.
 */
double farann_transform_vector(const farann_kernels *kernels, const farann_transform *turn,
                               int64_t dim, double *x, double *scratch);

/*
 * The largest |coordinate| of each row, centered, scaled and rotated, or how long it is outside the
 * axes, if that is more; `scratch` holds twice dim up to a multiple of 8, all zeros.
 */
void farann_code_extents(const farann_kernels *kernels, const float *rows, int64_t n, int64_t dim,
                         const double *center, int normalized, const farann_transform *turn,
                         double *scratch, double *extents);

/*
 * Code n rows, one after the other, as bytes c + 128, padded with zeros c to whole groups; each by
 * its inverse scale, which must take no coordinate beyond 127; 0: the row doesn't count. squares:
 * |z|^2, with what is outside the axes; low_nibble_norm: |l - 7.5|, rounded up, of the lower bits l
 * of c + 128. `largest` is raised to |e|^2 with e = w z - c, |w z|^2, |l - 7.5|^2, |z|^2, and outside
 * the axes |z'|^2 and |w z'|^2. `scratch` as above.
 */
void farann_encode_rows(const farann_kernels *kernels, const float *rows, int64_t n, int64_t dim,
                        const double *center, int normalized, const farann_transform *turn,
                        const float *inv_scales, double *scratch, uint8_t *codes, double *squares,
                        float *low_nibble_norm, double *largest);

/*
 * Lay the codes of n rows out in panels: row i at position places[i], nowhere where that is
 * negative. With `nibbles` the high nibbles of the codes, and the low ones, if these are wanted,
 * to `low`.
 */
void farann_pack_codes(const uint8_t *rows, const int64_t *places, int64_t n, int64_t groups,
                       int nibbles, uint8_t *panels, uint8_t *low);

/*
 * Bounds for all coded rows, rounded up; |e|, |w z| and |l - 7.5| of farann_encode_rows first. With
 * `rest_unit` the last group holds, four times, how long a row is outside the space of its codes,
 * times its inverse scale, in these units and rounded up.
 */
typedef struct {
    double residual, length, low_nibble_norm;
    double norm;    /* |z|, with what is outside the axes */
    double outside; /* what is outside them, and the same times the inverse scale */
    double outside_length;
    double scale;             /* one over the smallest inverse scale */
    double largest_threshold; /* 2^29 over the largest one, so that 32 bits hold the product */
    double largest_square;    /* |z|^2 times that of its row; 0 where scores have no squares */
    double rest_unit;
    int64_t dim;  /* coordinates that are coded */
    double noise; /* share of the roundings in the bound, where they are taken as noise; else 1 */
} farann_code_bounds;

/* A query as coded. */
typedef struct {
    double step;      /* t; negative: these codes can't be used */
    double inv_step;  /* 1 / t */
    double sum;       /* of u */
    double allowance; /* error of <u, c>, at most, as rows and queries were rounded */
    double length;    /* |u|: times low_nibble_norm of a row where only high nibbles are read */
    double slack;     /* the other errors of a score, at most, in units of the key */
    double off;       /* error bound of scores: their largest distance from the reduced key */
} farann_coded_query;

/*
 * Code a query vector a, turned as the rows were, with zeros up to a multiple of 8; `rest` is its
 * length outside the space of the codes, `reach` bounds |y| of all rows. Bytes u go to `codes`,
 * four to a group; `bytes` is scratch for dim rounded up to a multiple of 8. `high_alone`: scores
 * are those of the high nibbles of codes.
 */
void farann_code_query(const farann_kernels *kernels, const double *a, double rest,
                       const farann_code_bounds *rows, double reach, const farann_query *prepared,
                       int high_alone, uint8_t *bytes, uint32_t *codes, farann_coded_query *coded);

/*
 * The pass threshold of rows: those with a reduced key of `floor` or more pass, however their codes
 * were rounded. `sign` is that of |y|^2 in the key; `high_alone`: for scans of the high nibbles of
 * codes. A query without codes lets no row pass.
 */
farann_pass_threshold farann_pass_threshold_at(const farann_coded_query *coded,
                                               const farann_code_bounds *rows, double floor,
                                               double sign, int high_alone);

/* <u, c> of a query's groups, side by side, and as many of codes c. */
int32_t farann_code_product(const uint32_t *codes, const int8_t *c, int64_t groups);

/* The pass threshold that no row passes. */
farann_pass_threshold farann_pass_threshold_none(void);

/* Set the pass threshold of a tile's query i. */
void farann_pass_thresholds_set(farann_pass_thresholds *bars, int64_t i,
                                const farann_pass_threshold *bar);

#endif
