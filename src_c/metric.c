#include "metric.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* Unit roundoffs of float32 and float64. */
static const double U32 = 0x1p-24, U64 = 0x1p-53;

/* Limit on scores and their parts: float32 holds them with room to spare, up to 3.4e38. */
static const double LARGEST_FLOAT32_SCORE = 1e37;

/* Least |x|^2 that loses less by underflow than by rounding. */
static const double SMALLEST_SQUARES = 1e-25;

/* Limit on the relative error of a float32 |y|^2; it limits the dimension to 16,761. */
static const double LARGEST_NORM_ERROR = 1e-3;

farann_traits farann_traits_of(farann_metric metric) {
    return (farann_traits){
        .normalized = metric == FARANN_COSINE,
        .squared = metric == FARANN_L2,
        .sums = metric == FARANN_COSINE ? FARANN_DOT : metric,
    };
}

void farann_query_prepare(const farann_kernels *kernels, farann_metric metric, double sign,
                          const float *query, int64_t dim, const double *center, double center_norm,
                          double *exact, double *query_vector, float *query_vector_f32,
                          farann_query *prepared) {
    const int64_t padded_dim = (dim + 7) / 8 * 8;
    double norm = 1.0, sums[3];
    if (query) kernels->widen_f32(query, dim, exact);
    if (metric == FARANN_COSINE) {
        /* The order of summation of exact keys, too. */
        kernels->project_f64(exact, 1, padded_dim, exact, &norm);
        norm = sqrt(norm);
        if (norm == 0.0) norm = 1.0; /* of a member of a set that bounds no rows */
    }
    kernels->scale_query_f64(exact, center, padded_dim, metric == FARANN_L2,
                             metric == FARANN_L2 ? -2.0 * sign : -sign, norm, query_vector,
                             query_vector_f32, sums);
    const double distance2 = sums[0], dot_center = sums[1];
    double a = sqrt(sums[2]);

    /*
     * Rounding of y, a and |y|^2, of the sums themselves, and underflow; in float64 of what
     * doesn't shrink with |y|. docs/how-it-works says which errors these terms pay for, too.
     */
    double terms = (double)dim + 16.0;
    double gamma = terms * U32 * 1.01;
    double gamma64 = terms * U64 * 2.0;
    double underflow = terms * 0x1p-125;
    double *slack = prepared->slack;
    prepared->lost_squares = underflow;
    slack[0] = underflow;
    slack[1] = gamma * a;
    slack[2] = 0.0;
    prepared->key_scale = 1.0;
    if (metric == FARANN_L2) {
        prepared->key_offset = -sign * distance2;
        slack[0] += gamma64 * distance2;
        slack[2] = 2.0 * gamma; /* |y|^2 is summed, then summed upon */
    } else if (metric == FARANN_DOT) {
        prepared->key_offset = sign * dot_center;
        slack[0] += gamma64 * a * center_norm * 2.0;
    } else {
        prepared->key_scale = 1.0 / norm;
        prepared->key_offset = sign * dot_center / norm;
        slack[0] += gamma64 * 8.0; /* unit vectors: |center| <= 1 */
    }
    /* Lanes of row-major sums are short, and added up in pairs. */
    double lane_terms = (double)((dim + kernels->lanes - 1) / kernels->lanes);
    prepared->row_share = fmin(1.0, 1.001 * (lane_terms + 24.0) / terms);
    prepared->unit_slack = a * U32 * 1.01 * (1.6 * (lane_terms + 7.0) + 8.0);
    prepared->vector_norm = a;
    prepared->query_norm = norm;
    /* farann_query_slack counts on norms that are right within this. */
    if (!(terms * U32 < LARGEST_NORM_ERROR)) prepared->vector_norm = INFINITY;
}

/* slack[1] and slack[2] times `share`. */
static double slack_of_share(const farann_query *query, double squares, double share) {
    double largest = sqrt(squares + query->lost_squares) * (1.0 + LARGEST_NORM_ERROR);
    if (!(query->vector_norm * largest + largest * largest < LARGEST_FLOAT32_SCORE)) return -1.0;
    if (!(query->vector_norm < LARGEST_FLOAT32_SCORE)) return -1.0;
    return query->slack[0] + largest * share * (query->slack[1] + largest * query->slack[2]);
}

double farann_query_slack(const farann_query *query, double squares) {
    return slack_of_share(query, squares, 1.0);
}

double farann_query_slack_row_major(const farann_query *query, int normalized, double smallest,
                                    double largest) {
    if (!normalized) return slack_of_share(query, largest, query->row_share);
    /* p / sqrt(n), less a constant, is right to 1.5 gamma where n is far from the ends. */
    if (!(smallest > SMALLEST_SQUARES && largest < LARGEST_FLOAT32_SCORE)) return -1.0;
    if (farann_query_slack(query, 1.0) < 0.0) return -1.0;
    return query->unit_slack;
}

double farann_key_within(farann_metric metric, double sign, double threshold, double epsilon,
                         const farann_query *query) {
    if (threshold == -INFINITY) return threshold;
    /* The offset has cancelled digits of the threshold; the guarantee is about keys. */
    double lost = 0x1p-50 * (fabs(threshold) + fabs(query->key_offset));
    double more = epsilon;
    if (metric == FARANN_L2) {
        more *= (sign * (threshold - query->key_offset) - lost) * (2.0 + epsilon);
        /* d^2 - (d / (1 + epsilon))^2, where (d (1 + epsilon))^2 - d^2 is it for the furthest. */
        if (sign < 0.0) more /= (1.0 + epsilon) * (1.0 + epsilon);
    }
    more -= lost;
    return more > 0.0 ? threshold + more : threshold;
}

double farann_score(farann_metric metric, double key, double query_norm) {
    if (metric == FARANN_L2) return sqrt(key);
    if (metric == FARANN_DOT) return -key;
    return fmin(1.0, fmax(-1.0, -key / query_norm));
}

double farann_key_at(farann_metric metric, double sign, double radius, double query_norm) {
    double key;
    if (metric == FARANN_L2)
        key = radius < 0.0 ? -1.0 : radius * radius;
    else
        key = -radius * (metric == FARANN_COSINE ? query_norm : 1.0);
    return sign * key - fabs(key) * 1e-12 - DBL_MIN;
}

int farann_is_beyond(farann_metric metric, double score, double radius) {
    return metric == FARANN_L2 ? score > radius : score < radius;
}

int64_t farann_largest_integer(const void *of, farann_row_type type, int64_t n) {
    enum { AT_ONCE = 1024 }; /* numbers read between checks for one that is not an integer */
    const float limit = 4096.0f, *numbers = of;
    if (type == FARANN_UINT8 || type == FARANN_INT8) return 255;
    if (type != FARANN_FLOAT32) return -1;
    float largest = 0.0f;
    for (int64_t i = 0; i < n; i += AT_ONCE) {
        const int64_t end = n - i < AT_ONCE ? n : i + AT_ONCE;
        int32_t others = 0;
        for (int64_t j = i; j < end; j++) {
            const float size = fabsf(numbers[j]);
            const float whole = (float)(int32_t)(size <= limit ? size : 0.0f);
            others |= !(whole == size); /* a NaN, too */
            largest = whole > largest ? whole : largest;
        }
        if (others) return -1;
    }
    return (int64_t)largest;
}

/* The sign bit of float16 and bfloat16; bits above this are numbers below 0, so not -0. */
enum { SIGN_16 = 0x8000 };

/* Numbers read between checks for one below 0. */
enum { LOOKS = 4096 };

static int any_below(const void *numbers, farann_row_type type, int64_t first, int64_t end) {
    int any = 0;
    if (type == FARANN_FLOAT32)
        for (int64_t i = first; i < end; i++) any |= ((const float *)numbers)[i] < 0.0f;
    else if (type == FARANN_INT8)
        for (int64_t i = first; i < end; i++) any |= ((const int8_t *)numbers)[i] < 0;
    else if (type != FARANN_UINT8)
        for (int64_t i = first; i < end; i++) any |= ((const uint16_t *)numbers)[i] > SIGN_16;
    return any;
}

int64_t farann_has_negative(const void *numbers, farann_row_type type, int64_t n) {
    for (int64_t i = 0; i < n; i += LOOKS)
        if (any_below(numbers, type, i, n - i < LOOKS ? n : i + LOOKS)) return 1;
    return 0;
}

double farann_negative_norm(const double *vector, int64_t padded_dim) {
    double squares[4] = {0.0};
    for (int64_t j = 0; j < padded_dim; j += 4)
        for (int l = 0; l < 4; l++) {
            const double twice = vector[j + l] - fabs(vector[j + l]); /* the negative part */
            squares[l] += twice * twice;
        }
    return 0.5 * sqrt((squares[0] + squares[1]) + (squares[2] + squares[3]));
}

void farann_keys_of_integers(farann_metric metric, const float *products, const float *squares,
                             int64_t n, double of_query, double *keys) {
    if (metric == FARANN_L2)
        for (int64_t i = 0; i < n; i++) keys[i] = of_query + (double)products[i];
    else if (metric == FARANN_DOT)
        for (int64_t i = 0; i < n; i++) keys[i] = -(double)products[i];
    else
        for (int64_t i = 0; i < n; i++) keys[i] = -((double)products[i] / sqrt((double)squares[i]));
}

int64_t farann_first_bad_row(const float *rows, int64_t n, int64_t dim, int normalized) {
    const uint32_t exponent = 0x7f800000u, magnitude = 0x7fffffffu;
    for (int64_t i = 0; i < n; i++) {
        const float *row = rows + i * dim;
        uint32_t not_finite = 0, any = 0;
        for (int64_t j = 0; j < dim; j++) {
            uint32_t bits;
            memcpy(&bits, row + j, sizeof bits);
            not_finite |= (bits & exponent) == exponent;
            any |= bits & magnitude;
        }
        if (not_finite || (normalized && !any)) return i;
    }
    return -1;
}
