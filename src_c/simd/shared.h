/* Words that levels write alike, over their other words. Included by kernels/all-inl.h. */
#ifndef FARANN_SIMD_SHARED_H
#define FARANN_SIMD_SHARED_H

#include <stdint.h>
#include <string.h>

#ifdef FARANN_MM /* the words of vectors of 256 and of 512 bits */
WORD f32v f32_load(const float *p) { return FARANN_MM(loadu_ps)(p); }
WORD void f32_store(float *p, f32v v) { FARANN_MM(storeu_ps)(p, v); }
WORD f32v f32_set1(float x) { return FARANN_MM(set1_ps)(x); }
WORD f32v f32_fma(f32v a, f32v b, f32v c) { return FARANN_MM(fmadd_ps)(a, b, c); }
WORD f32v f32_mul(f32v a, f32v b) { return FARANN_MM(mul_ps)(a, b); }
WORD f32v f32_add(f32v a, f32v b) { return FARANN_MM(add_ps)(a, b); }
WORD f32v f32_sub(f32v a, f32v b) { return FARANN_MM(sub_ps)(a, b); }
WORD f32v f32_div(f32v a, f32v b) { return FARANN_MM(div_ps)(a, b); }
WORD f32v f32_sqrt(f32v v) { return FARANN_MM(sqrt_ps)(v); }
/* Where either is NaN, that of b. */
WORD f32v f32_max(f32v a, f32v b) { return FARANN_MM(max_ps)(a, b); }
WORD f32v f32_min(f32v a, f32v b) { return FARANN_MM(min_ps)(a, b); }
WORD i32v i32_set1(int32_t x) { return FARANN_MM(set1_epi32)(x); }
WORD i32v i32_sub(i32v a, i32v b) { return FARANN_MM(sub_epi32)(a, b); }
WORD i32v i32_add(i32v a, i32v b) { return FARANN_MM(add_epi32)(a, b); }
WORD i32v i32_shift_left4(i32v v) { return FARANN_MM(slli_epi32)(v, 4); }
WORD i32v i32_shift_right4(i32v v) { return FARANN_MM(srli_epi32)(v, 4); }
/* The nearest whole numbers; INT32_MIN for NaN and what doesn't fit. */
WORD i32v i32_from_f32(f32v v) { return FARANN_MM(cvtps_epi32)(v); }
WORD f32v f32_from_i32(i32v v) { return FARANN_MM(cvtepi32_ps)(v); }

WORD f64v f64_load(const double *p) { return FARANN_MM(loadu_pd)(p); }
WORD void f64_store(double *p, f64v v) { FARANN_MM(storeu_pd)(p, v); }
WORD f64v f64_from_f32(const float *p) { return FARANN_MM(cvtps_pd)(FARANN_HALF(loadu_ps)(p)); }
WORD void f64_store_f32(float *p, f64v v) { FARANN_HALF(storeu_ps)(p, FARANN_MM(cvtpd_ps)(v)); }
WORD f64v f64_set1(double x) { return FARANN_MM(set1_pd)(x); }
WORD f64v f64_add(f64v a, f64v b) { return FARANN_MM(add_pd)(a, b); }
WORD f64v f64_sub(f64v a, f64v b) { return FARANN_MM(sub_pd)(a, b); }
WORD f64v f64_mul(f64v a, f64v b) { return FARANN_MM(mul_pd)(a, b); }
WORD f64v f64_div(f64v a, f64v b) { return FARANN_MM(div_pd)(a, b); }
WORD f64v f64_max(f64v a, f64v b) { return FARANN_MM(max_pd)(a, b); }
WORD f64v f64_fma(f64v a, f64v b, f64v c) { return FARANN_MM(fmadd_pd)(a, b, c); }

/* Four columns of four rows: out[c * stride + r] = rows[r][c]. */
WORD void f32_transpose4(const float *r0, const float *r1, const float *r2, const float *r3,
                         float *out, int stride) {
    __m128 a = _mm_loadu_ps(r0), b = _mm_loadu_ps(r1), c = _mm_loadu_ps(r2), d = _mm_loadu_ps(r3);
    _MM_TRANSPOSE4_PS(a, b, c, d);
    _mm_storeu_ps(out, a);
    _mm_storeu_ps(out + stride, b);
    _mm_storeu_ps(out + 2 * stride, c);
    _mm_storeu_ps(out + 3 * stride, d);
}

/* Columns j .. j + 4 of F32_LANES rows. */
WORD void f32_load_columns(const float *const *row, int64_t j, f32v columns[4]) {
    const f32v a = f32_load_fourth_rows(row, j), b = f32_load_fourth_rows(row + 1, j);
    const f32v c = f32_load_fourth_rows(row + 2, j), d = f32_load_fourth_rows(row + 3, j);
    const f32v ab_low = FARANN_MM(unpacklo_ps)(a, b), ab_high = FARANN_MM(unpackhi_ps)(a, b);
    const f32v cd_low = FARANN_MM(unpacklo_ps)(c, d), cd_high = FARANN_MM(unpackhi_ps)(c, d);
    columns[0] = FARANN_MM(shuffle_ps)(ab_low, cd_low, 0x44);
    columns[1] = FARANN_MM(shuffle_ps)(ab_low, cd_low, 0xee);
    columns[2] = FARANN_MM(shuffle_ps)(ab_high, cd_high, 0x44);
    columns[3] = FARANN_MM(shuffle_ps)(ab_high, cd_high, 0xee);
}
#endif

#ifdef FARANN_FOUR_LANES
/* The first `count` lanes; zeros behind them. */
WORD f32v f32_load_first(const float *p, int64_t count) {
    float lanes[4];
    for (int i = 0; i < 4; i++) lanes[i] = i < count ? p[i] : 0.0f;
    return f32_load(lanes);
}
WORD i32v i32_load_first(const void *p, int64_t count) {
    int32_t lanes[4] = {0, 0, 0, 0};
    memcpy(lanes, p, (size_t)count * sizeof lanes[0]);
    return i32_load(lanes);
}

/* Four columns of four rows: out[c * stride + r] = rows[r][c]. */
WORD void f32_transpose4(const float *r0, const float *r1, const float *r2, const float *r3,
                         float *out, int stride) {
    const float *const row[4] = {r0, r1, r2, r3};
    f32v columns[4];
    f32_load_columns(row, 0, columns);
    for (int c = 0; c < 4; c++) f32_store(out + c * stride, columns[c]);
}

/* The result of f32_sums_of_four for F32_LANES vectors, which are four here. */
WORD f32v f32_join_fours(const f32v v[F32_LANES / 4]) { return v[0]; }

/* Four lanes from each of I32_LANES / 4 places: here one vector. */
WORD i32v i32_load_quads(const uint8_t *p, int64_t stride) {
    (void)stride;
    return i32_load(p);
}

/* Lane i is p[i / 4 * 2 + second], or 0 from p[count] on. */
WORD i32v i32_repeat4(const uint32_t *p, int64_t count, int second) {
    return i32_set1(second < count ? (int32_t)p[second] : 0);
}
#endif

#ifndef FARANN_COMPRESSES
/* Write the lanes of a mask, and `first` plus their numbers; return how many. */
WORD int f32_compress(float *lanes, int64_t *numbers, uint32_t mask, f32v v, int64_t first) {
    float all[F32_LANES];
    int count = 0;
    f32_store(all, v);
    for (; mask; mask &= mask - 1, count++) {
        int i = FARANN_COUNT_TRAILING_ZEROS(mask);
        lanes[count] = all[i];
        numbers[count] = first + i;
    }
    return count;
}
#endif

#ifndef FARANN_REPEATS
/* The same as i32_dot4 with four bytes for all lanes. */
WORD i32v i32_dot4_all(i32v sum, i32v c, const uint32_t *u) {
    return i32_dot4(sum, c, i32_set1((int32_t)*u));
}
#endif

/*
 * Eight numbers of float64, in as many vectors as they take. EACH_PART does something for each of
 * these, i, a constant: GCC would keep vectors that a loop counts in memory.
 */
enum { F64_PARTS = 8 / F64_LANES };
typedef struct {
    f64v part[F64_PARTS];
} f64x8;
#define PART(number, ...)      \
    {                          \
        enum { i = number };   \
        __VA_ARGS__;           \
    }

WORD f64x8 f64x8_load(const double *p) {
    f64x8 v;
    EACH_PART(v.part[i] = f64_load(p + i * F64_LANES))
    return v;
}

WORD f64x8 f64x8_from_f32(const float *p) {
    f64x8 v;
    EACH_PART(v.part[i] = f64_from_f32(p + i * F64_LANES))
    return v;
}

/* The first `count` lanes; zeros behind them. */
WORD f64x8 f64x8_from_f32_first(const float *p, int64_t count) {
#ifdef FARANN_CONVERTS_ONE_BY_ONE
    f64x8 v;
    EACH_PART(v.part[i] = i < count ? (double)p[i] : 0.0)
    return v;
#else
    float lanes[F32_LANES > 8 ? F32_LANES : 8];
    for (int i = 0; i < 8; i += F32_LANES) f32_store(lanes + i, f32_load_first(p + i, count - i));
    return f64x8_from_f32(lanes);
#endif
}

WORD f64x8 f64x8_set1(double x) {
    f64x8 v;
    EACH_PART(v.part[i] = f64_set1(x))
    return v;
}

WORD void f64x8_store(double *p, f64x8 v){EACH_PART(f64_store(p + i * F64_LANES, v.part[i]))}
/* Rounded. */
WORD void f64x8_store_f32(float *p, f64x8 v){EACH_PART(f64_store_f32(p + i * F64_LANES, v.part[i]))}

#define OF_EACH_PART(word)                                             \
    WORD f64x8 f64x8_##word(f64x8 a, f64x8 b) {                        \
        EACH_PART(a.part[i] = f64_##word(a.part[i], b.part[i]))        \
        return a;                                                      \
    }
OF_EACH_PART(add) OF_EACH_PART(sub) OF_EACH_PART(mul) OF_EACH_PART(div)
    OF_EACH_PART(max) /* where either is NaN, that of b */

    /* c + a * b where a * b is exact, so that it makes no difference what is rounded. */
    WORD f64x8 f64x8_add_exact(f64x8 a, f64x8 b, f64x8 c) {
    EACH_PART(c.part[i] = f64_fma(a.part[i], b.part[i], c.part[i]))
    return c;
}

WORD f64x8 f64x8_round(f64x8 v) {
    EACH_PART(v.part[i] = f64_round(v.part[i]))
    return v;
}

WORD uint32_t f64x8_greater(f64x8 a, f64x8 b) {
    uint32_t mask = 0;
    EACH_PART(mask |= f64_greater(a.part[i], b.part[i]) << (i * F64_LANES))
    return mask;
}

/* Whole numbers from 0 to 255 as bytes. */
WORD void f64x8_store_bytes(uint8_t *p, f64x8 v) {
    double lanes[8];
    int32_t whole[8];
    f64x8_store(lanes, v);
    for (int i = 0; i < 8; i++) whole[i] = (int32_t)lanes[i]; /* compilers use vectors for both */
    for (int i = 0; i < 8; i++) p[i] = (uint8_t)whole[i];
}

/* The Walsh-Hadamard transform of the eight lanes. */
WORD f64x8 f64x8_butterflies(f64x8 v) {
    EACH_PART(v.part[i] = f64_butterflies(v.part[i]))
    for (int half = 1; half < F64_PARTS; half *= 2)
        for (int i = 0; i < F64_PARTS; i++) {
            if (i & half) continue;
            const f64v low = v.part[i], high = v.part[i + half];
            v.part[i] = f64_add(low, high);
            v.part[i + half] = f64_sub(low, high);
        }
    return v;
}

WORD double f64x8_sum(f64x8 v) {
    for (int half = F64_PARTS / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) v.part[i] = f64_add(v.part[i], v.part[i + half]);
    return f64_sum(v.part[0]);
}

WORD f64x8 f64x8_zero(void) { return f64x8_set1(0.0); }

/* Single numbers of compact types as float32: no arithmetic on denormal numbers, which may be slow
   or flushed. */
WORD float float_from_f16(uint16_t half) {
    uint32_t magnitude = half & 0x7fffu, bits;
    float value = (float)magnitude * 0x1p-24f;
    memcpy(&bits, &value, sizeof bits);
    if (magnitude >= 0x400u)
        bits = (magnitude << 13) + ((magnitude >= 0x7c00u ? 224u : 112u) << 23);
    bits |= (uint32_t)(half & 0x8000u) << 16;
    memcpy(&value, &bits, sizeof value);
    return value;
}

WORD float float_from_bf16(uint16_t half) {
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

WORD float float_from_u8(uint8_t x) { return (float)x; }
WORD float float_from_i8(int8_t x) { return (float)x; }

#ifdef FARANN_CONVERTS_ONE_BY_ONE
/* A vector from F32_LANES values of a compact type. */
#define F32_FROM(name, type)                                                     \
    WORD f32v f32_from_##name(const type *p) {                                   \
        f32v v;                                                                  \
        for (int i = 0; i < F32_LANES; i++) v.lane[i] = float_from_##name(p[i]); \
        return v;                                                                \
    }
F32_FROM(u8, uint8_t)
F32_FROM(i8, int8_t)
F32_FROM(f16, uint16_t)
F32_FROM(bf16, uint16_t)
#endif

#endif
