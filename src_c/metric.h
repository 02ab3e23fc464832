/*
 * Everything that depends on the metric for one query: how exact keys, rough float32 scores and the
 * scores that the caller sees relate. The search loop asks for traits, never for the metric.
 */
#ifndef FARANN_METRIC_H
#define FARANN_METRIC_H

#include <stdint.h>

#include "kernels.h"

typedef struct {
    int normalized;     /* keys are divided by |x| */
    int squared;        /* keys are squared distances */
    farann_metric sums; /* the metric whose keys are what these are before a division */
} farann_traits;

farann_traits farann_traits_of(farann_metric metric);

/*
 * With s = +1 (furthest) or -1 (nearest), the rough score of a packed row approximates the
 *     reduced key = s * key * key_scale + key_offset
 * within slack[0] + slack[1] * Y + slack[2] * Y^2, where Y is the largest |y| of its block.
 * docs/how-it-works derives these terms.
 */
typedef struct {
    double key_scale;
    double key_offset;
    double slack[3];
    double row_share;    /* of slack[1] and slack[2], for row-major rows */
    double unit_slack;   /* of row-major rows that are normalized */
    double lost_squares; /* underflow error of a |y|^2 summed in float32, at most */
    double vector_norm;  /* |a|, of the query vector in float32 */
    double query_norm;   /* |q| summed in the order of exact keys; 1 but for cosine */
} farann_query;

/*
 * Write the query as float64 to `exact`, where it must be already if `query` is NULL. Write what
 * rows are multiplied by, s times -2 (q - m), -q or -q / |q|, to `query_vector`, and rounded to
 * `query_vector_f32`. These and the center are padded with zeros to a multiple of 8; `center_norm`
 * is |center|.
 */
void farann_query_prepare(const farann_kernels *kernels, farann_metric metric, double sign,
                          const float *query, int64_t dim, const double *center, double center_norm,
                          double *exact, double *query_vector, float *query_vector_f32,
                          farann_query *prepared);

/*
 * The slack for a block with |y|^2 <= squares, or a negative number if float32 can't hold the
 * scores; such blocks are scored by exact keys alone.
 */
double farann_query_slack(const farann_query *query, double squares);

/*
 * The same for row-major rows, whose |y|^2 span smallest .. largest; for `normalized` rows y
 * is the row itself.
 */
double farann_query_slack_row_major(const farann_query *query, int normalized, double smallest,
                                    double largest);

/*
 * The reduced key above which a row is more than `epsilon` further than one with the reduced key
 * `threshold`, or for s = -1 nearer: by that share of its distance (l2), or in dot product or
 * cosine.
 */
double farann_key_within(farann_metric metric, double sign, double threshold, double epsilon,
                         const farann_query *query);

/* The score that a caller sees, of an exact key. */
double farann_score(farann_metric metric, double key, double query_norm);

/*
 * With s = +1, what s times the exact key of a row beyond `radius` exceeds; with s = -1, what that
 * of a row within it reaches. Lowered by a little so that rounding can't lose a row;
 * farann_is_beyond then decides.
 */
double farann_key_at(farann_metric metric, double sign, double radius, double query_norm);
int farann_is_beyond(farann_metric metric, double score, double radius);

/* The most that n numbers of a type are, if all are whole and none is above 4,096, or -1. */
int64_t farann_largest_integer(const void *numbers, farann_row_type type, int64_t n);

/* The norm of the negative part of a vector, which has zeros up to a multiple of 8. */
double farann_negative_norm(const double *vector, int64_t padded_dim);

/* Whether any of n numbers of a type is below 0: 0 or 1. */
int64_t farann_has_negative(const void *numbers, farann_row_type type, int64_t n);

/*
 * Exact keys of n rows, from <query, row> and |row|^2, whole numbers; under l2 from |row|^2 -
 * 2 <query, row> alone, and |query|^2.
 */
void farann_keys_of_integers(farann_metric metric, const float *products, const float *squares,
                             int64_t n, double of_query, double *keys);

/* The first of n rows with a NaN or infinity, or with `normalized` a zero vector, or -1. */
int64_t farann_first_bad_row(const float *rows, int64_t n, int64_t dim, int normalized);

#endif
