/* Words of the AVX2 + FMA level, and of AVX-VNNI with its dot products of bytes. */
#ifndef FARANN_SIMD_AVX2_H
#define FARANN_SIMD_AVX2_H

#include <immintrin.h>
#include <stdint.h>

#include "portable.h"

/*
 * Included for two levels. CPUs for clients since 2021, and servers of small cores, have AVX-VNNI and
 * no AVX-512. FARANN_EVEX_VNNI makes of it what CPUs with AVX-512 VNNI can run, for tests: the same
 * instruction in another encoding.
 */
#define FARANN_BASE avx2
#if defined(FARANN_AVX_VNNI)
#define FARANN_DERIVED
#define FARANN_LEVEL avxvnni
#if defined(FARANN_EVEX_VNNI)
#define FARANN_FEATURES "avx2,fma,f16c,avx512f,avx512vl,avx512vnni"
#define FARANN_VEX ""
#else
#define FARANN_FEATURES "avx2,fma,f16c,avxvnni"
#define FARANN_VEX "%{vex%} "
#endif
#else
#define FARANN_LEVEL avx2
#define FARANN_FEATURES "avx2,fma,f16c"
#endif
#define FARANN_TARGET FARANN_TARGET_OF(FARANN_FEATURES)
#define WORD static FARANN_TARGET FARANN_INLINE

/* 12 accumulators, 2 rows' vectors and a broadcast fill 15 of the 16 registers. */
enum { F32_LANES = 8, F64_LANES = 4, PANEL_VECTORS = 2, TILE_QUERIES = 6 };

/* For float64 keys, whose vectors take two registers each. */
enum { KEY_VECTORS = 1, KEY_QUERIES = 6 };

#if defined(FARANN_AVX_VNNI)
enum { I32_LANES = 8, CODE_QUERIES = 6, CODE_PANELS = 1, LARGEST_CODE = 127 };
#else
/* 7-bit queries: pairs of products then fit the 16 bits that maddubs sums them in. */
enum { I32_LANES = 8, CODE_QUERIES = 5, CODE_PANELS = 1, LARGEST_CODE = 63 };
#endif

#define FARANN_MM(operation) _mm256_##operation
#define FARANN_HALF(operation) _mm_##operation
#define EACH_PART(...) PART(0, __VA_ARGS__) PART(1, __VA_ARGS__)
typedef __m256 f32v;
typedef __m256i i32v;
typedef __m256d f64v;

/* Masks for the first 0..8 lanes, by where one starts to read. */
static const int32_t first_lanes[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};

/* The first `count` lanes; zeros behind them. */
WORD f32v f32_load_first(const float *p, int64_t count) {
    __m256i mask = _mm256_loadu_si256((const __m256i *)(first_lanes + 8 - count));
    return _mm256_maskload_ps(p, mask);
}

/* A vector from F32_LANES values of a compact type. */
WORD f32v f32_from_u8(const uint8_t *p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}
WORD f32v f32_from_i8(const int8_t *p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}
WORD f32v f32_from_f16(const uint16_t *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}
WORD f32v f32_from_bf16(const uint16_t *p) {
    return _mm256_castsi256_ps(
        _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)), 16));
}

/* Four floats from column j on of every fourth row. */
WORD f32v f32_load_fourth_rows(const float *const *row, int64_t j) {
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(row[0] + j)),
                                _mm_loadu_ps(row[4] + j), 1);
}

/* Each half of the lanes has the sums over its own of four vectors. */
WORD f32v f32_sums_of_four(const f32v v[4]) {
    return _mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));
}

/* Turn the results of f32_sums_of_four for F32_LANES vectors into their sums, one in each lane. */
WORD f32v f32_join_fours(const f32v v[F32_LANES / 4]) {
    return _mm256_add_ps(_mm256_permute2f128_ps(v[0], v[1], 0x20),
                         _mm256_permute2f128_ps(v[0], v[1], 0x31));
}

WORD uint32_t f32_greater(f32v a, f32v b) {
    return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ));
}

WORD i32v i32_load(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }
WORD i32v i32_load_first(const void *p, int64_t count) {
    __m256i mask = _mm256_loadu_si256((const __m256i *)(first_lanes + 8 - count));
    return _mm256_maskload_epi32((const int *)p, mask);
}
WORD void i32_store(void *p, i32v v) { _mm256_storeu_si256((__m256i *)p, v); }
/* Four lanes from each of two places. */
WORD i32v i32_load_quads(const uint8_t *p, int64_t stride) {
    __m256i v = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)p));
    return _mm256_inserti128_si256(v, _mm_loadu_si128((const __m128i *)(p + stride)), 1);
}

/* Lane i is p[i / 4 * 2 + second], or 0 from p[count] on. */
WORD i32v i32_repeat4(const uint32_t *p, int64_t count, int second) {
    const __m256i first = _mm256_setr_epi32(0, 0, 0, 0, 2, 2, 2, 2);
    __m256i v = i32_load_first(p, count);
    return _mm256_permutevar8x32_epi32(v, _mm256_add_epi32(first, _mm256_set1_epi32(second)));
}

WORD i32v i32_and(i32v a, i32v b) { return _mm256_and_si256(a, b); }
WORD i32v i32_or(i32v a, i32v b) { return _mm256_or_si256(a, b); }
/* The bits of a where the mask has ones, those of b elsewhere. */
WORD i32v i32_select(i32v mask, i32v a, i32v b) {
    return _mm256_or_si256(_mm256_and_si256(mask, a), _mm256_andnot_si256(mask, b));
}

WORD uint32_t i32_greater(i32v a, i32v b) {
    return (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(a, b)));
}

WORD int32_t i32_sum(i32v v) {
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    __m128i two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 1)));
}

/* Adds to each lane the dot product of four unsigned bytes of c and four signed bytes of u. */
#if defined(FARANN_AVX_VNNI) && defined(__GNUC__)
/* Not the intrinsic: with it GCC 12 spills the accumulators, at half the speed. */
WORD i32v i32_dot4(i32v sum, i32v c, i32v u) {
    __asm__(FARANN_VEX "vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(c), "x"(u));
    return sum;
}
#elif defined(FARANN_AVX_VNNI)
WORD i32v i32_dot4(i32v sum, i32v c, i32v u) { return _mm256_dpbusd_avx_epi32(sum, c, u); }
#else
WORD i32v i32_dot4(i32v sum, i32v c, i32v u) {
    __m256i pairs = _mm256_maddubs_epi16(c, u);
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
#endif

WORD uint32_t f64_greater(f64v a, f64v b) {
    return (uint32_t)_mm256_movemask_pd(_mm256_cmp_pd(a, b, _CMP_GT_OQ));
}

/* The Walsh-Hadamard transform of the lanes; signs are exact as factors. */
WORD f64v f64_butterflies(f64v v) {
    const __m256d by1 = _mm256_setr_pd(1, -1, 1, -1), by2 = _mm256_setr_pd(1, 1, -1, -1);
    v = _mm256_add_pd(_mm256_permute_pd(v, 0x5), _mm256_mul_pd(v, by1));
    return _mm256_add_pd(_mm256_permute4x64_pd(v, 0x4e), _mm256_mul_pd(v, by2));
}

WORD f64v f64_round(f64v v) {
    return _mm256_round_pd(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

WORD double f64_sum(f64v v) {
    __m128d two = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

#endif
