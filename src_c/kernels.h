/*
 * The kernels that every instruction set supplies, as one table of function pointers.
 * Kernels take blocks, allocate nothing and touch nothing but their arguments.
 */
#ifndef FARANN_KERNELS_H
#define FARANN_KERNELS_H

#include <stdint.h>

#include "candidates.h"

/* How a metric's float64 sum over coordinates becomes a key; see metric.h. */
typedef enum { FARANN_L2 = 0, FARANN_DOT = 1, FARANN_COSINE = 2 } farann_metric;

/*
 * Rows in 8-bit codes, as panels of FARANN_CODE_PANEL rows, [group][row][FARANN_CODE_GROUP], or,
 * for refine_codes_i8, row after row.
 */
typedef struct {
    const int8_t *codes;
    const int32_t *sums;    /* the sum of a row's codes; FARANN_NOT_CODED: it never passes */
    const int32_t *squares; /* |y|^2 in a unit that all queries know; NULL: not part of the score */
    int64_t groups;
} farann_coded_rows;

/* A tile of queries side by side, or a single one: an entry a query, `codes` per group. */
typedef struct {
    const uint32_t *codes;
    const float *steps;       /* worth of a unit of <u, c> */
    const int32_t *shifts;    /* units of squares, as a power of two, in one of <u, c> */
    const int32_t *thresholds;
    int32_t sign;             /* of squares: 0, or -1 to subtract them */
} farann_coded_tile;

/* Scores coded rows; see farann_kernels. */
typedef void farann_scan_codes(const farann_coded_rows *rows, int64_t start, int64_t n,
                               const farann_coded_tile *tile, farann_candidates *candidates);

typedef struct {
    const char *name;
    int panel_rows;   /* rows side by side in a packed panel */
    int tile_queries; /* queries side by side in a packed tile */
    int code_queries; /* the same for codes */
    int zero_point;   /* added to the codes of queries, which makes them unsigned */

    /*
     * Canonical keys of n rows (larger = further), the same bits at every level.
     * `rows` is (?, dim); row i is rows[positions[i]], or rows[i] where positions is NULL.
     * `query` is float64, padded with zeros to a multiple of 8. One function a metric.
     */
    void (*keys_f64[3])(const float *rows, const int64_t *positions, int64_t n, int64_t dim,
                        const double *query, double *keys);

    /*
     * Pack n rows as panels: y = x * r - centre, with r = 1 or, for `unit` rows, 1 / |x|.
     * A panel holds coordinate j of its panel_rows rows at [j * panel_rows]. bias[i] becomes
     * bias_sign * |y|^2 (-inf for the rows that fill up the last panel). Returns the largest
     * |y|^2, infinite where float32 can't hold a value.
     */
    double (*pack_rows_f32)(const float *rows, const int64_t *positions, int64_t n, int64_t dim,
                            const double *centre, int unit, float bias_sign, float *panels,
                            float *bias);

    /*
     * Score packed rows against one packed tile of queries: bias + <query, row>. Appends each
     * row whose score is greater than its query's threshold to that query's candidates (which
     * need room for n_rows more), as position `row`.
     */
    void (*scan_panels_f32)(const float *panels, int64_t n_rows, int64_t dim, const float *bias,
                            const float *queries, const float *thresholds,
                            farann_candidates *candidates);

    /*
     * Score rows as they lie, for one query. With y = x - centre, p = <weights, y> and n = |y|^2
     * the score is p + bias_sign * n, or for `unit` rows p / sqrt(n). Centre and weights are
     * padded with zeros to a multiple of FARANN_PADDING. norms[0] and norms[1] become the
     * smallest and the largest n, NaN if any is.
     */
    void (*score_rows_f32)(const float *rows, const int64_t *positions, int64_t n, int64_t dim,
                           const float *centre, const float *weights, int unit, float bias_sign,
                           float *scores, float *norms);

    /* Append the scores greater than a threshold, and their numbers, to the candidates. */
    void (*select_f32)(const float *scores, int64_t n, float threshold,
                       farann_candidates *candidates);

    /*
     * Score n coded rows from `start` on, the first of a panel, against a tile of code_queries
     * queries (or against one query): <u, c> + (squares >> shift), in whole numbers. Appends, as
     * position within these rows, each whose score is greater than the query's threshold.
     * Candidates need room for n rounded up to whole panels.
     */
    farann_scan_codes *scan_codes_i8;
    farann_scan_codes *scan_codes_one_i8;

    /*
     * Score the candidates from `from` on, whose slots are rows start + slot, by codes that lie
     * row after row, against one query, whose codes are signed here and have the given sum; keep
     * those above the threshold.
     */
    void (*refine_codes_i8)(const farann_coded_rows *rows, int64_t start,
                            const farann_coded_tile *query, int32_t sum_of_query,
                            farann_candidates *list, int64_t from);

    /* Rotate x (dim) in place: per round a change of signs (rounds x dim), then butterflies. */
    void (*rotate_f64)(double *x, int64_t dim, const double *signs, int rounds);

    /* <basis[i], x> of n basis vectors; `basis` is (n, dim), dim a multiple of 8. */
    void (*project_f64)(const double *basis, int64_t n, int64_t dim, const double *x,
                        double *products);

    /*
     * Write the whole numbers u nearest to a / unit, plus `shift`, as n bytes, n a multiple of 8.
     * sums: |unit * u|^2, |a - unit * u|^2, and the sum of u.
     */
    void (*quantize_f64)(const double *a, int64_t n, double unit, double shift, uint8_t *codes,
                         double *sums);
} farann_kernels;

/* Every level's vectors of float32 divide this. */
enum { FARANN_PADDING = 16 };

/* A panel of codes: so many rows, of which groups of so many coordinates lie side by side. */
enum { FARANN_CODE_PANEL = 16, FARANN_CODE_GROUP = 4 };

/*
 * Scores by codes lie within 2^29, thresholds are held within 3 * 2^28. The sum of a row that has
 * no codes, times any zero point, puts it below them all, and doesn't overflow.
 */
enum { FARANN_NOT_CODED = (1 << 24) - 1, FARANN_LOWEST_THRESHOLD = -(3 << 28) };

/* The table of a level by name, or NULL if there is no such level on this CPU. */
const farann_kernels *farann_kernels_by_name(const char *name);

/* Names of the levels this CPU has, slowest first, ended by NULL. */
const char *const *farann_kernel_levels(void);

#endif
