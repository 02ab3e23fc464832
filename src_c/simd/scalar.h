/* Words of the scalar level: plain C that a compiler may vectorize for whatever CPU it targets. */
#ifndef FARANN_SIMD_SCALAR_H
#define FARANN_SIMD_SCALAR_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "portable.h"
#include "simd/compact.h"

#define FARANN_LEVEL scalar
#define FARANN_BASE scalar
#define FARANN_LEVEL_NAME "scalar"
#define FARANN_TARGET
#define WORD static FARANN_INLINE

/* Vectors are arrays of 4 numbers; FUSED 0: f64x8_add_exact rounds twice. */
enum { F32_LANES = 4, PANEL_VECTORS = 2, TILE_QUERIES = 4 };
enum { KEY_VECTORS = 1, KEY_QUERIES = 2, FUSED = 0 };

typedef struct {
    float lane[F32_LANES];
} f32v;

enum { I32_LANES = 4, CODE_QUERIES = 2, CODE_PANELS = 1, LARGEST_CODE = 127 };

typedef struct {
    int32_t lane[I32_LANES];
} i32v;

typedef struct {
    double lane[8];
} f64x8;

WORD f32v f32_load(const float *p) {
    f32v v;
    memcpy(v.lane, p, sizeof v.lane);
    return v;
}

/* The first `count` lanes; zeros behind them. */
WORD f32v f32_load_first(const float *p, int64_t count) {
    f32v v;
    for (int i = 0; i < F32_LANES; i++) v.lane[i] = i < count ? p[i] : 0.0f;
    return v;
}

/* A vector from F32_LANES values of a compact type. */
#define F32_FROM(name, type)                                                        \
    WORD f32v f32_from_##name(const type *p) {                                      \
        f32v v;                                                                     \
        for (int i = 0; i < F32_LANES; i++) v.lane[i] = float_from_##name(p[i]);    \
        return v;                                                                   \
    }

F32_FROM(u8, uint8_t)
F32_FROM(i8, int8_t)
F32_FROM(f16, uint16_t)
F32_FROM(bf16, uint16_t)

WORD void f32_store(float *p, f32v v) { memcpy(p, v.lane, sizeof v.lane); }

WORD f32v f32_set1(float x) {
    f32v v;
    for (int i = 0; i < F32_LANES; i++) v.lane[i] = x;
    return v;
}

/* Two roundings where the vector levels have one; the slack of docs/how-it-works covers both. */
WORD f32v f32_fma(f32v a, f32v b, f32v c) {
    for (int i = 0; i < F32_LANES; i++) c.lane[i] += a.lane[i] * b.lane[i];
    return c;
}

WORD f32v f32_mul(f32v a, f32v b) {
    for (int i = 0; i < F32_LANES; i++) a.lane[i] *= b.lane[i];
    return a;
}

WORD f32v f32_add(f32v a, f32v b) {
    for (int i = 0; i < F32_LANES; i++) a.lane[i] += b.lane[i];
    return a;
}

WORD f32v f32_sub(f32v a, f32v b) {
    for (int i = 0; i < F32_LANES; i++) a.lane[i] -= b.lane[i];
    return a;
}

/* Lane i is the sum over the lanes of v[i]. */
WORD f32v f32_sums_of_four(const f32v v[4]) {
    f32v sums;
    for (int i = 0; i < 4; i++)
        sums.lane[i] = (v[i].lane[0] + v[i].lane[2]) + (v[i].lane[1] + v[i].lane[3]);
    return sums;
}

/* The result of f32_sums_of_four for F32_LANES vectors, which are four here. */
WORD f32v f32_join_fours(const f32v v[F32_LANES / 4]) { return v[0]; }

WORD f32v f32_div(f32v a, f32v b) {
    for (int i = 0; i < F32_LANES; i++) a.lane[i] /= b.lane[i];
    return a;
}

WORD f32v f32_sqrt(f32v v) {
    for (int i = 0; i < F32_LANES; i++) v.lane[i] = sqrtf(v.lane[i]);
    return v;
}

/* Four columns of four rows: out[c * stride + r] = rows[r][c]. */
WORD void f32_transpose4(const float *r0, const float *r1, const float *r2, const float *r3,
                         float *out, int stride) {
    for (int c = 0; c < 4; c++) {
        out[c * stride] = r0[c];
        out[c * stride + 1] = r1[c];
        out[c * stride + 2] = r2[c];
        out[c * stride + 3] = r3[c];
    }
}

/* Where either is NaN, that of b. */
WORD f32v f32_max(f32v a, f32v b) {
    for (int i = 0; i < F32_LANES; i++) b.lane[i] = a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i];
    return b;
}

WORD f32v f32_min(f32v a, f32v b) {
    for (int i = 0; i < F32_LANES; i++) b.lane[i] = a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i];
    return b;
}

WORD uint32_t f32_greater(f32v a, f32v b) {
    uint32_t mask = 0;
    for (int i = 0; i < F32_LANES; i++) mask |= (uint32_t)(a.lane[i] > b.lane[i]) << i;
    return mask;
}

/* `first` plus the numbers of a mask's lanes; gives how many. A whole vector may be written. */
WORD int i32_compress_numbers(int32_t *numbers, uint32_t mask, int32_t first) {
    int count = 0;
    for (int i = 0; i < F32_LANES; i++)
        if (mask >> i & 1) numbers[count++] = first + i;
    return count;
}

/* The lanes of a mask, and `first` plus their numbers; gives how many. */
WORD int f32_compress(float *lanes, int64_t *numbers, uint32_t mask, f32v v, int64_t first) {
    int count = 0;
    for (int i = 0; i < F32_LANES; i++) {
        if (!(mask >> i & 1)) continue;
        lanes[count] = v.lane[i];
        numbers[count++] = first + i;
    }
    return count;
}

WORD i32v i32_load(const void *p) {
    i32v v;
    memcpy(v.lane, p, sizeof v.lane);
    return v;
}

WORD i32v i32_load_first(const void *p, int64_t count) {
    i32v v = {{0}};
    memcpy(v.lane, p, (size_t)count * sizeof v.lane[0]);
    return v;
}

WORD void i32_store(void *p, i32v v) { memcpy(p, v.lane, sizeof v.lane); }

/* Four lanes from each of I32_LANES / 4 places: here one vector. */
WORD i32v i32_load_quads(const uint8_t *p, int64_t stride) {
    (void)stride;
    return i32_load(p);
}

WORD i32v i32_set1(int32_t x) {
    i32v v;
    for (int i = 0; i < I32_LANES; i++) v.lane[i] = x;
    return v;
}

/* Lane i is p[i / 4 * 2 + second], or 0 from p[count] on. */
WORD i32v i32_repeat4(const uint32_t *p, int64_t count, int second) {
    return i32_set1(second < count ? (int32_t)p[second] : 0);
}

WORD i32v i32_sub(i32v a, i32v b) {
    for (int i = 0; i < I32_LANES; i++)
        a.lane[i] = (int32_t)((uint32_t)a.lane[i] - (uint32_t)b.lane[i]);
    return a;
}

WORD i32v i32_add(i32v a, i32v b) {
    for (int i = 0; i < I32_LANES; i++)
        a.lane[i] = (int32_t)((uint32_t)a.lane[i] + (uint32_t)b.lane[i]);
    return a;
}

WORD i32v i32_and(i32v a, i32v b) {
    for (int i = 0; i < I32_LANES; i++) a.lane[i] &= b.lane[i];
    return a;
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

WORD uint32_t i32_greater(i32v a, i32v b) {
    uint32_t mask = 0;
    for (int i = 0; i < I32_LANES; i++) mask |= (uint32_t)(a.lane[i] > b.lane[i]) << i;
    return mask;
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

/* The same with four bytes for all lanes. */
WORD i32v i32_dot4_all(i32v sum, i32v c, const uint32_t *u) {
    return i32_dot4(sum, c, i32_set1((int32_t)*u));
}

WORD f64x8 f64x8_zero(void) {
    f64x8 v;
    for (int i = 0; i < 8; i++) v.lane[i] = 0.0;
    return v;
}

WORD f64x8 f64x8_load(const double *p) {
    f64x8 v;
    memcpy(v.lane, p, sizeof v.lane);
    return v;
}

WORD void f64x8_store(double *p, f64x8 v) { memcpy(p, v.lane, sizeof v.lane); }

WORD f64x8 f64x8_from_f32(const float *p) {
    f64x8 v;
    for (int i = 0; i < 8; i++) v.lane[i] = (double)p[i];
    return v;
}

WORD f64x8 f64x8_from_f32_first(const float *p, int64_t count) {
    f64x8 v;
    for (int i = 0; i < 8; i++) v.lane[i] = i < count ? (double)p[i] : 0.0;
    return v;
}

WORD f64x8 f64x8_add(f64x8 a, f64x8 b) {
    for (int i = 0; i < 8; i++) a.lane[i] += b.lane[i];
    return a;
}

WORD f64x8 f64x8_sub(f64x8 a, f64x8 b) {
    for (int i = 0; i < 8; i++) a.lane[i] -= b.lane[i];
    return a;
}

WORD f64x8 f64x8_mul(f64x8 a, f64x8 b) {
    for (int i = 0; i < 8; i++) a.lane[i] *= b.lane[i];
    return a;
}

WORD f64x8 f64x8_div(f64x8 a, f64x8 b) {
    for (int i = 0; i < 8; i++) a.lane[i] /= b.lane[i];
    return a;
}

/* c + a * b where a * b is exact, so that it makes no difference what is rounded. */
WORD f64x8 f64x8_add_exact(f64x8 a, f64x8 b, f64x8 c) {
    for (int i = 0; i < 8; i++) c.lane[i] += a.lane[i] * b.lane[i];
    return c;
}

WORD uint32_t f64x8_greater(f64x8 a, f64x8 b) {
    uint32_t mask = 0;
    for (int i = 0; i < 8; i++) mask |= (uint32_t)(a.lane[i] > b.lane[i]) << i;
    return mask;
}

/* Where either is NaN, that of b. */
WORD f64x8 f64x8_max(f64x8 a, f64x8 b) {
    for (int i = 0; i < 8; i++) a.lane[i] = a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i];
    return a;
}

/* Rounded. */
WORD void f64x8_store_f32(float *p, f64x8 v) {
    for (int i = 0; i < 8; i++) p[i] = (float)v.lane[i];
}

/* The Walsh-Hadamard transform of the eight lanes. */
WORD f64x8 f64x8_butterflies(f64x8 v) {
    for (int half = 1; half < 8; half *= 2)
        for (int i = 0; i < 8; i += 2 * half)
            for (int j = i; j < i + half; j++) {
                double a = v.lane[j], b = v.lane[j + half];
                v.lane[j] = a + b;
                v.lane[j + half] = a - b;
            }
    return v;
}

WORD f64x8 f64x8_set1(double x) {
    f64x8 v;
    for (int i = 0; i < 8; i++) v.lane[i] = x;
    return v;
}

WORD f64x8 f64x8_round(f64x8 v) {
    for (int i = 0; i < 8; i++) v.lane[i] = rint(v.lane[i]);
    return v;
}

/* Whole numbers from 0 to 255 as bytes. */
WORD void f64x8_store_bytes(uint8_t *p, f64x8 v) {
    for (int i = 0; i < 8; i++) p[i] = (uint8_t)v.lane[i];
}

WORD double f64x8_sum(f64x8 v) {
    const double *l = v.lane;
    return ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]));
}

#endif
