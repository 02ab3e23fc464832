/* Words of the scalar level: plain C that a compiler may vectorize for whatever CPU it targets. */
#ifndef FARANN_SIMD_SCALAR_H
#define FARANN_SIMD_SCALAR_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "portable.h"

#define FARANN_LEVEL scalar
#define FARANN_BASE scalar
#define FARANN_TARGET
#define FARANN_FOUR_LANES
#define FARANN_CONVERTS_ONE_BY_ONE
#define EACH_PART(...)                                                                     \
    PART(0, __VA_ARGS__) PART(1, __VA_ARGS__) PART(2, __VA_ARGS__) PART(3, __VA_ARGS__)    \
    PART(4, __VA_ARGS__) PART(5, __VA_ARGS__) PART(6, __VA_ARGS__) PART(7, __VA_ARGS__)
#define WORD static FARANN_INLINE

/* Vectors are arrays of 4 numbers. */
enum { F32_LANES = 4, F64_LANES = 1, PANEL_VECTORS = 2, TILE_QUERIES = 4 };
enum { KEY_VECTORS = 1, KEY_QUERIES = 2 };
enum { I32_LANES = 4, CODE_QUERIES = 2, CODE_PANELS = 1, LARGEST_CODE = 127 };

typedef struct {
    float lane[F32_LANES];
} f32v;

typedef struct {
    int32_t lane[I32_LANES];
} i32v;

typedef double f64v;

/* Words that every type of vector has, and those that compute a lane from the same lane of two. */
#define BASIC_WORDS(kind, vector, number, memory, lanes)                              \
    WORD vector kind##_load(const memory *p) {                                        \
        vector v;                                                                     \
        memcpy(v.lane, p, sizeof v.lane);                                             \
        return v;                                                                     \
    }                                                                                 \
    WORD void kind##_store(memory *p, vector v) { memcpy(p, v.lane, sizeof v.lane); } \
    WORD vector kind##_set1(number x) {                                               \
        vector v;                                                                     \
        for (int i = 0; i < lanes; i++) v.lane[i] = x;                                \
        return v;                                                                     \
    }                                                                                 \
    WORD uint32_t kind##_greater(vector a, vector b) {                                \
        uint32_t mask = 0;                                                            \
        for (int i = 0; i < lanes; i++) mask |= (uint32_t)(a.lane[i] > b.lane[i]) << i; \
        return mask;                                                                  \
    }
#define LANE_BY_LANE(word, vector, lanes, result)         \
    WORD vector word(vector a, vector b) {                                            \
        for (int i = 0; i < lanes; i++) a.lane[i] = result(a.lane[i], b.lane[i]);     \
        return a;                                                                     \
    }
#define SUM(x, y) (x) + (y)
#define DIFFERENCE(x, y) (x) - (y)
#define PRODUCT(x, y) (x) * (y)
#define QUOTIENT(x, y) (x) / (y)
#define LARGER(x, y) (x) > (y) ? (x) : (y) /* where either is NaN, that of b */
#define SMALLER(x, y) (x) < (y) ? (x) : (y)
#define BITS_OF_BOTH(x, y) (x) & (y)
#define BITS_OF_EITHER(x, y) (x) | (y)
#define WRAPPED_SUM(x, y) (int32_t)((uint32_t)(x) + (uint32_t)(y))
#define WRAPPED_DIFFERENCE(x, y) (int32_t)((uint32_t)(x) - (uint32_t)(y))

BASIC_WORDS(f32, f32v, float, float, F32_LANES)
LANE_BY_LANE(f32_add, f32v, F32_LANES, SUM)
LANE_BY_LANE(f32_sub, f32v, F32_LANES, DIFFERENCE)
LANE_BY_LANE(f32_mul, f32v, F32_LANES, PRODUCT)
LANE_BY_LANE(f32_div, f32v, F32_LANES, QUOTIENT)
LANE_BY_LANE(f32_max, f32v, F32_LANES, LARGER)
LANE_BY_LANE(f32_min, f32v, F32_LANES, SMALLER)

BASIC_WORDS(i32, i32v, int32_t, void, I32_LANES)
LANE_BY_LANE(i32_add, i32v, I32_LANES, WRAPPED_SUM)
LANE_BY_LANE(i32_sub, i32v, I32_LANES, WRAPPED_DIFFERENCE)
LANE_BY_LANE(i32_and, i32v, I32_LANES, BITS_OF_BOTH)
LANE_BY_LANE(i32_or, i32v, I32_LANES, BITS_OF_EITHER)

/* Two roundings where the vector levels have one; the slack of docs/how-it-works covers both. */
WORD f32v f32_fma(f32v a, f32v b, f32v c) {
    for (int i = 0; i < F32_LANES; i++) c.lane[i] += a.lane[i] * b.lane[i];
    return c;
}

/* Lane i is the sum over the lanes of v[i]. */
WORD f32v f32_sums_of_four(const f32v v[4]) {
    f32v sums;
    for (int i = 0; i < 4; i++)
        sums.lane[i] = (v[i].lane[0] + v[i].lane[2]) + (v[i].lane[1] + v[i].lane[3]);
    return sums;
}

WORD f32v f32_sqrt(f32v v) {
    for (int i = 0; i < F32_LANES; i++) v.lane[i] = sqrtf(v.lane[i]);
    return v;
}

/* Columns j .. j + 4 of F32_LANES rows. */
WORD void f32_load_columns(const float *const *row, int64_t j, f32v columns[4]) {
    for (int c = 0; c < 4; c++)
        for (int r = 0; r < F32_LANES; r++) columns[c].lane[r] = row[r][j + c];
}

/* The bits of a where the mask has ones, those of b elsewhere. */
WORD i32v i32_select(i32v mask, i32v a, i32v b) {
    for (int i = 0; i < I32_LANES; i++)
        b.lane[i] = (mask.lane[i] & a.lane[i]) | (~mask.lane[i] & b.lane[i]);
    return b;
}

WORD i32v i32_shift_left4(i32v v) {
    for (int i = 0; i < I32_LANES; i++) v.lane[i] = (int32_t)((uint32_t)v.lane[i] << 4);
    return v;
}

WORD i32v i32_shift_right4(i32v v) {
    for (int i = 0; i < I32_LANES; i++) v.lane[i] = (int32_t)((uint32_t)v.lane[i] >> 4);
    return v;
}

/* The nearest whole numbers; INT32_MIN for NaN and what doesn't fit. */
WORD i32v i32_from_f32(f32v v) {
    i32v whole;
    for (int i = 0; i < I32_LANES; i++)
        whole.lane[i] = v.lane[i] > -0x1p31f && v.lane[i] < 0x1p31f ? (int32_t)rintf(v.lane[i])
                                                                    : INT32_MIN;
    return whole;
}

WORD f32v f32_from_i32(i32v v) {
    f32v a;
    for (int i = 0; i < F32_LANES; i++) a.lane[i] = (float)v.lane[i];
    return a;
}

WORD int32_t i32_sum(i32v v) {
    uint32_t sum = 0;
    for (int i = 0; i < I32_LANES; i++) sum += (uint32_t)v.lane[i];
    return (int32_t)sum;
}

/* Adds to each lane the dot product of four unsigned bytes of c and four signed bytes of u. */
WORD i32v i32_dot4(i32v sum, i32v c, i32v u) {
    for (int i = 0; i < I32_LANES; i++) {
        uint8_t left[4];
        int8_t right[4];
        memcpy(left, &c.lane[i], 4);
        memcpy(right, &u.lane[i], 4);
        int32_t products = 0;
        for (int b = 0; b < 4; b++) products += (int32_t)left[b] * (int32_t)right[b];
        sum.lane[i] = (int32_t)((uint32_t)sum.lane[i] + (uint32_t)products);
    }
    return sum;
}

WORD f64v f64_load(const double *p) { return *p; }
WORD void f64_store(double *p, f64v v) { *p = v; }
WORD f64v f64_from_f32(const float *p) { return (double)*p; }
WORD void f64_store_f32(float *p, f64v v) { *p = (float)v; }
WORD f64v f64_set1(double x) { return x; }
WORD f64v f64_add(f64v a, f64v b) { return a + b; }
WORD f64v f64_sub(f64v a, f64v b) { return a - b; }
WORD f64v f64_mul(f64v a, f64v b) { return a * b; }
WORD f64v f64_div(f64v a, f64v b) { return a / b; }
WORD f64v f64_max(f64v a, f64v b) { return LARGER(a, b); }
WORD f64v f64_fma(f64v a, f64v b, f64v c) { return c + a * b; }
WORD f64v f64_round(f64v v) { return rint(v); }
WORD uint32_t f64_greater(f64v a, f64v b) { return a > b; }
WORD f64v f64_butterflies(f64v v) { return v; }
WORD double f64_sum(f64v v) { return v; }

#endif
