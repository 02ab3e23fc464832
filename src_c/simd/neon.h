/* Words of the NEON levels: what every AArch64 CPU has, and its dot products of bytes. */
#ifndef FARANN_SIMD_NEON_H
#define FARANN_SIMD_NEON_H

#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

#include "portable.h"

/*
 * Included for three levels: neon; dotprod, with products of signed bytes (SDOT, from Armv8.2 on:
 * Neoverse N1, Cortex-A76, Apple M1); and i8mm, with those of unsigned and signed ones (USDOT, from
 * Armv8.6 on: Neoverse V1, N2, Apple M2).
 */
#define FARANN_BASE neon
#if defined(FARANN_I8MM)
#define FARANN_DERIVED
#define FARANN_LEVEL i8mm
#define FARANN_TARGET __attribute__((target("arch=armv8.2-a+dotprod+i8mm")))
#elif defined(FARANN_DOTPROD)
#define FARANN_DERIVED
#define FARANN_LEVEL dotprod
#define FARANN_TARGET __attribute__((target("arch=armv8.2-a+dotprod")))
#else
#define FARANN_LEVEL neon
#define FARANN_TARGET
#endif
#define WORD static FARANN_TARGET FARANN_INLINE

/* 24 accumulators, 4 rows' vectors and a broadcast fill 29 of the 32 registers. */
enum { F32_LANES = 4, F64_LANES = 2, PANEL_VECTORS = 4, TILE_QUERIES = 6 };

/* For float64 keys, whose vectors take four registers each. */
enum { KEY_VECTORS = 1, KEY_QUERIES = 6 };

/* Products of bytes take three more registers without SDOT. */
#ifdef FARANN_DERIVED
enum { I32_LANES = 4, CODE_QUERIES = 6, CODE_PANELS = 1, LARGEST_CODE = 127 };
#else
enum { I32_LANES = 4, CODE_QUERIES = 5, CODE_PANELS = 1, LARGEST_CODE = 127 };
#endif

#define FARANN_FOUR_LANES
#define EACH_PART(...) \
    PART(0, __VA_ARGS__) PART(1, __VA_ARGS__) PART(2, __VA_ARGS__) PART(3, __VA_ARGS__)
typedef float32x4_t f32v;
typedef int32x4_t i32v;
typedef float64x2_t f64v;

WORD f32v f32_load(const float *p) { return vld1q_f32(p); }

/* A vector from F32_LANES values of a compact type. */
WORD f32v f32_from_u8(const uint8_t *p) {
    uint32_t bytes;
    memcpy(&bytes, p, sizeof bytes);
    uint16x8_t wide = vmovl_u8(vcreate_u8(bytes));
    return vcvtq_f32_u32(vmovl_u16(vget_low_u16(wide)));
}
WORD f32v f32_from_i8(const int8_t *p) {
    uint32_t bytes;
    memcpy(&bytes, p, sizeof bytes);
    int16x8_t wide = vmovl_s8(vcreate_s8(bytes));
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide)));
}
WORD f32v f32_from_f16(const uint16_t *p) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
WORD f32v f32_from_bf16(const uint16_t *p) {
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
}

WORD void f32_store(float *p, f32v v) { vst1q_f32(p, v); }
WORD f32v f32_set1(float x) { return vdupq_n_f32(x); }
WORD f32v f32_fma(f32v a, f32v b, f32v c) { return vfmaq_f32(c, a, b); }

WORD f32v f32_mul(f32v a, f32v b) { return vmulq_f32(a, b); }
WORD f32v f32_add(f32v a, f32v b) { return vaddq_f32(a, b); }
WORD f32v f32_sub(f32v a, f32v b) { return vsubq_f32(a, b); }

/* Lane i is the sum over the lanes of v[i]. */
WORD f32v f32_sums_of_four(const f32v v[4]) {
    return vpaddq_f32(vpaddq_f32(v[0], v[1]), vpaddq_f32(v[2], v[3]));
}

WORD f32v f32_div(f32v a, f32v b) { return vdivq_f32(a, b); }
WORD f32v f32_sqrt(f32v v) { return vsqrtq_f32(v); }

/* Columns j .. j + 4 of F32_LANES rows. */
WORD void f32_load_columns(const float *const *row, int64_t j, f32v columns[4]) {
    const float32x4_t a = vld1q_f32(row[0] + j), b = vld1q_f32(row[1] + j);
    const float32x4_t c = vld1q_f32(row[2] + j), d = vld1q_f32(row[3] + j);
    const float32x4_t ac_low = vzip1q_f32(a, c), ac_high = vzip2q_f32(a, c);
    const float32x4_t bd_low = vzip1q_f32(b, d), bd_high = vzip2q_f32(b, d);
    columns[0] = vzip1q_f32(ac_low, bd_low);
    columns[1] = vzip2q_f32(ac_low, bd_low);
    columns[2] = vzip1q_f32(ac_high, bd_high);
    columns[3] = vzip2q_f32(ac_high, bd_high);
}

/* Where either is NaN, that of b. FMAX would give NaN. */
WORD f32v f32_max(f32v a, f32v b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
WORD f32v f32_min(f32v a, f32v b) { return vbslq_f32(vcltq_f32(a, b), a, b); }

/* NEON has no instruction for this: a bit of each lane, and their sum. */
WORD uint32_t mask_of(uint32x4_t lanes) {
    static const uint32_t bits[4] = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(lanes, vld1q_u32(bits)));
}

WORD uint32_t f32_greater(f32v a, f32v b) { return mask_of(vcgtq_f32(a, b)); }

WORD i32v i32_load(const void *p) { return vreinterpretq_s32_u8(vld1q_u8((const uint8_t *)p)); }

WORD void i32_store(void *p, i32v v) { vst1q_u8((uint8_t *)p, vreinterpretq_u8_s32(v)); }

WORD i32v i32_set1(int32_t x) { return vdupq_n_s32(x); }

WORD i32v i32_sub(i32v a, i32v b) { return vsubq_s32(a, b); }
WORD i32v i32_add(i32v a, i32v b) { return vaddq_s32(a, b); }
WORD i32v i32_and(i32v a, i32v b) { return vandq_s32(a, b); }
WORD i32v i32_or(i32v a, i32v b) { return vorrq_s32(a, b); }
/* The bits of a where the mask has ones, those of b elsewhere. */
WORD i32v i32_select(i32v mask, i32v a, i32v b) {
    return vbslq_s32(vreinterpretq_u32_s32(mask), a, b);
}
WORD i32v i32_shift_left4(i32v v) { return vshlq_n_s32(v, 4); }
WORD i32v i32_shift_right4(i32v v) {
    return vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_s32(v), 4));
}

/* The nearest whole numbers; INT32_MIN for NaN and what doesn't fit, where FCVTNS saturates. */
WORD i32v i32_from_f32(f32v v) {
    const uint32x4_t fits = vcltq_f32(vabsq_f32(v), vdupq_n_f32(0x1p31f));
    return vbslq_s32(fits, vcvtnq_s32_f32(v), vdupq_n_s32(INT32_MIN));
}

WORD f32v f32_from_i32(i32v v) { return vcvtq_f32_s32(v); }
WORD uint32_t i32_greater(i32v a, i32v b) { return mask_of(vcgtq_s32(a, b)); }
WORD int32_t i32_sum(i32v v) { return vaddvq_s32(v); }

#if !defined(FARANN_I8MM)
/*
 * Without USDOT both factors are signed: c is 128 more than c - 128, which differs in its highest
 * bit alone. So 128 times the sum of u is added, once for all c that a u is multiplied with.
 */
WORD int8x16_t less_128(i32v c) {
    return vreinterpretq_s8_u8(veorq_u8(vreinterpretq_u8_s32(c), vdupq_n_u8(128)));
}
#endif

/* Adds to each lane the dot product of four unsigned bytes of c and four signed bytes of u. */
#if defined(FARANN_I8MM)
WORD i32v i32_dot4(i32v sum, i32v c, i32v u) {
    return vusdotq_s32(sum, vreinterpretq_u8_s32(c), vreinterpretq_s8_s32(u));
}
#elif defined(FARANN_DOTPROD)
WORD i32v i32_dot4(i32v sum, i32v c, i32v u) {
    const int8x16_t s = vreinterpretq_s8_s32(u), half = vdupq_n_s8(64);
    const int32x4_t more = vdotq_s32(vdotq_s32(vdupq_n_s32(0), half, s), half, s);
    return vdotq_s32(vaddq_s32(sum, more), less_128(c), s);
}
#else
/* No pair of products is beyond 2 * 128 * 127, which 16 bits hold. */
WORD i32v i32_dot4(i32v sum, i32v c, i32v u) {
    const int8x16_t s = vreinterpretq_s8_s32(u), d = less_128(c);
    const int32x4_t more = vshlq_n_s32(vpaddlq_s16(vpaddlq_s8(s)), 7);
    const int16x8_t first = vmull_s8(vget_low_s8(d), vget_low_s8(s));
    const int16x8_t second = vmull_s8(vget_high_s8(d), vget_high_s8(s));
    return vpadalq_s16(vaddq_s32(sum, more), vpaddq_s16(first, second));
}
#endif

WORD f64v f64_load(const double *p) { return vld1q_f64(p); }
WORD void f64_store(double *p, f64v v) { vst1q_f64(p, v); }
WORD f64v f64_from_f32(const float *p) { return vcvt_f64_f32(vld1_f32(p)); }
WORD void f64_store_f32(float *p, f64v v) { vst1_f32(p, vcvt_f32_f64(v)); }
WORD f64v f64_set1(double x) { return vdupq_n_f64(x); }
WORD f64v f64_add(f64v a, f64v b) { return vaddq_f64(a, b); }
WORD f64v f64_sub(f64v a, f64v b) { return vsubq_f64(a, b); }
WORD f64v f64_mul(f64v a, f64v b) { return vmulq_f64(a, b); }
WORD f64v f64_div(f64v a, f64v b) { return vdivq_f64(a, b); }
WORD f64v f64_max(f64v a, f64v b) { return vbslq_f64(vcgtq_f64(a, b), a, b); }
WORD f64v f64_fma(f64v a, f64v b, f64v c) { return vfmaq_f64(c, a, b); }
WORD f64v f64_round(f64v v) { return vrndnq_f64(v); }
WORD uint32_t f64_greater(f64v a, f64v b) {
    return mask_of(vcombine_u32(vmovn_u64(vcgtq_f64(a, b)), vdup_n_u32(0)));
}
/* The Walsh-Hadamard transform of the lanes; signs are exact as factors. */
WORD f64v f64_butterflies(f64v v) {
    const float64x2_t by1 = vcombine_f64(vdup_n_f64(1.0), vdup_n_f64(-1.0));
    return vaddq_f64(vextq_f64(v, v, 1), vmulq_f64(v, by1));
}
WORD double f64_sum(f64v v) { return vaddvq_f64(v); }

#endif
