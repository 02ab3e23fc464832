/* Words of the AVX-512 level (F, BW, DQ, VL: every server CPU since Skylake-SP and Zen 4). */
#ifndef FARANN_SIMD_AVX512_H
#define FARANN_SIMD_AVX512_H

#include <immintrin.h>
#include <stdint.h>

#include "portable.h"

/* Included for three levels: avx512, avx512vnni with its 8-bit dot products, and amx, with the matrix
   unit (Sapphire Rapids on). */
#define FARANN_BASE avx512
#ifdef FARANN_AMX
#define FARANN_VNNI
#define FARANN_DERIVED
#define FARANN_LEVEL amx
#define FARANN_FEATURES "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,amx-tile,amx-int8"
#elif defined(FARANN_VNNI)
#define FARANN_DERIVED
#define FARANN_LEVEL avx512vnni
#define FARANN_FEATURES "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"
#else
#define FARANN_LEVEL avx512
#define FARANN_FEATURES "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl"
#endif
#define FARANN_TARGET FARANN_TARGET_OF(FARANN_FEATURES)
#define WORD static FARANN_TARGET FARANN_INLINE

/* 28 accumulators, 2 rows' vectors and a broadcast fill 31 of the 32 registers. */
enum { F32_LANES = 16, F64_LANES = 8, PANEL_VECTORS = 2, TILE_QUERIES = 14 };

/* For float64 keys: 24 accumulators, 4 rows' vectors and a broadcast. */
enum { KEY_VECTORS = 4, KEY_QUERIES = 6 };

#ifdef FARANN_AMX
enum { I32_LANES = 16, CODE_QUERIES = 16, CODE_PANELS = 4 };
#else
enum { I32_LANES = 16, CODE_QUERIES = 12, CODE_PANELS = 2 };
#endif
#ifdef FARANN_VNNI
enum { LARGEST_CODE = 127 };
#else
/* 7-bit queries: pairs of products then fit the 16 bits that maddubs sums them in. */
enum { LARGEST_CODE = 63 };
#endif

#define FARANN_MM(operation) _mm512_##operation
#define FARANN_HALF(operation) _mm256_##operation
#define EACH_PART(...) PART(0, __VA_ARGS__)
#define FARANN_COMPRESSES
typedef __m512 f32v;
typedef __m512i i32v;
typedef __m512d f64v;

/* The first `count` lanes; zeros behind them. */
WORD f32v f32_load_first(const float *p, int64_t count) {
    return _mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1u), p);
}

/* A vector from F32_LANES values of a compact type. */
WORD f32v f32_from_u8(const uint8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
WORD f32v f32_from_i8(const int8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
WORD f32v f32_from_f16(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
WORD f32v f32_from_bf16(const uint16_t *p) {
    return _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16));
}

/* Four floats from column j on of every fourth row. */
WORD f32v f32_load_fourth_rows(const float *const *row, int64_t j) {
    __m512 v = _mm512_castps128_ps512(_mm_loadu_ps(row[0] + j));
    v = _mm512_insertf32x4(v, _mm_loadu_ps(row[4] + j), 1);
    v = _mm512_insertf32x4(v, _mm_loadu_ps(row[8] + j), 2);
    return _mm512_insertf32x4(v, _mm_loadu_ps(row[12] + j), 3);
}

/* Each quarter of the lanes has the sums over its own of four vectors. */
WORD f32v f32_sums_of_four(const f32v v[4]) {
    __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1]));
    __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(v[2], v[3]), _mm512_unpackhi_ps(v[2], v[3]));
    return _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
}

/* Turn the results of f32_sums_of_four for F32_LANES vectors into their sums, one in each lane. */
WORD f32v f32_join_fours(const f32v v[F32_LANES / 4]) {
    __m512 ab = _mm512_add_ps(_mm512_shuffle_f32x4(v[0], v[1], 0x88),
                              _mm512_shuffle_f32x4(v[0], v[1], 0xdd));
    __m512 cd = _mm512_add_ps(_mm512_shuffle_f32x4(v[2], v[3], 0x88),
                              _mm512_shuffle_f32x4(v[2], v[3], 0xdd));
    return _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
}

WORD uint32_t f32_greater(f32v a, f32v b) { return (uint32_t)_mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }

/* Write the lanes of a mask, and `first` plus their numbers; return how many. Writes whole vectors.
   */
WORD int f32_compress(float *lanes, int64_t *numbers, uint32_t mask, f32v v, int64_t first) {
    const __m512i all = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i from = _mm512_set1_epi64(first);
    const __m512i kept = _mm512_maskz_compress_epi32((__mmask16)mask, all);
    __m512i low = _mm512_cvtepu32_epi64(_mm512_castsi512_si256(kept));
    __m512i high = _mm512_cvtepu32_epi64(_mm512_extracti32x8_epi32(kept, 1));
    _mm512_storeu_ps(lanes, _mm512_maskz_compress_ps((__mmask16)mask, v));
    _mm512_storeu_si512(numbers, _mm512_add_epi64(low, from));
    _mm512_storeu_si512(numbers + 8, _mm512_add_epi64(high, from));
    return FARANN_COUNT_ONES(mask);
}

WORD i32v i32_load(const void *p) { return _mm512_loadu_si512(p); }
WORD i32v i32_load_first(const void *p, int64_t count) {
    return _mm512_maskz_loadu_epi32((__mmask16)((1u << count) - 1u), p);
}
WORD void i32_store(void *p, i32v v) { _mm512_storeu_si512(p, v); }
/* Four lanes from each of I32_LANES / 4 places, `stride` bytes apart. */
WORD i32v i32_load_quads(const uint8_t *p, int64_t stride) {
    __m512i v = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)p));
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)(p + stride)), 1);
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)(p + 2 * stride)), 2);
    return _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)(p + 3 * stride)), 3);
}

/* Lane i is p[i / 4 * 2 + second], or 0 from p[count] on. */
WORD i32v i32_repeat4(const uint32_t *p, int64_t count, int second) {
    const __m512i first = _mm512_setr_epi32(0, 0, 0, 0, 2, 2, 2, 2, 4, 4, 4, 4, 6, 6, 6, 6);
    __m512i v = _mm512_maskz_loadu_epi32((__mmask16)((1u << count) - 1u), p);
    return _mm512_permutexvar_epi32(_mm512_add_epi32(first, _mm512_set1_epi32(second)), v);
}

WORD i32v i32_and(i32v a, i32v b) { return _mm512_and_si512(a, b); }
WORD i32v i32_or(i32v a, i32v b) { return _mm512_or_si512(a, b); }
/* The bits of a where the mask has ones, those of b elsewhere. */
WORD i32v i32_select(i32v mask, i32v a, i32v b) {
    return _mm512_ternarylogic_epi32(mask, a, b, 0xca);
}

WORD uint32_t i32_greater(i32v a, i32v b) { return (uint32_t)_mm512_cmpgt_epi32_mask(a, b); }
WORD int32_t i32_sum(i32v v) { return _mm512_reduce_add_epi32(v); }

/* Adds to each lane the dot product of four unsigned bytes of c and four signed bytes of u. */
WORD i32v i32_dot4(i32v sum, i32v c, i32v u) {
#if !defined(FARANN_VNNI)
    __m512i pairs = _mm512_maddubs_epi16(c, u);
    return _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
#elif defined(__GNUC__)
    /* Not the intrinsic: with it GCC 12 spills the accumulators, at less than half the speed. */
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(c), "v"(u));
    return sum;
#else
    return _mm512_dpbusd_epi32(sum, c, u);
#endif
}

/* i32_dot4 with four bytes for all lanes. */
#if defined(FARANN_VNNI) && defined(__GNUC__)
#define FARANN_REPEATS
WORD i32v i32_dot4_all(i32v sum, i32v c, const uint32_t *u) {
    /* The product itself reads and repeats them: one instruction less, where each is for one row. */
    __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(c), "m"(*u));
    return sum;
}
#endif

WORD uint32_t f64_greater(f64v a, f64v b) { return (uint32_t)_mm512_cmp_pd_mask(a, b, _CMP_GT_OQ); }

/* The Walsh-Hadamard transform of the lanes; signs are exact as factors. */
WORD f64v f64_butterflies(f64v v) {
    const __m512d by1 = _mm512_setr_pd(1, -1, 1, -1, 1, -1, 1, -1);
    const __m512d by2 = _mm512_setr_pd(1, 1, -1, -1, 1, 1, -1, -1);
    const __m512d by4 = _mm512_setr_pd(1, 1, 1, 1, -1, -1, -1, -1);
    v = _mm512_add_pd(_mm512_permute_pd(v, 0x55), _mm512_mul_pd(v, by1));
    v = _mm512_add_pd(_mm512_permutex_pd(v, 0x4e), _mm512_mul_pd(v, by2));
    return _mm512_add_pd(_mm512_shuffle_f64x2(v, v, 0x4e), _mm512_mul_pd(v, by4));
}

WORD f64v f64_round(f64v v) {
    return _mm512_roundscale_pd(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

WORD double f64_sum(f64v v) {
    __m256d four = _mm256_add_pd(_mm512_castpd512_pd256(v), _mm512_extractf64x4_pd(v, 1));
    __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

#ifdef FARANN_AMX
/*
 * The unit has 8 tiles of 16 lines of 64 bytes. It is driven by assembly, as compilers don't know
 * that the intrinsics read and write memory.
 */
enum { AMX_TILES = 8, AMX_LINES = 16, AMX_LINE = 64, AMX_TILE = AMX_LINES * AMX_LINE };

#define AMX_ZERO(tile) __asm__ volatile("tilezero %%tmm" #tile ::: "memory")
#define AMX_LOAD(tile, from)                                 \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #tile ::"r"(from), \
                     "r"((int64_t)AMX_LINE)                  \
                     : "memory")
#define AMX_STORE(tile, to)                                  \
    __asm__ volatile("tilestored %%tmm" #tile ", (%0,%1,1)" ::"r"(to), \
                     "r"((int64_t)AMX_LINE)                  \
                     : "memory")
/* sums[i][j] += <line i of a, column j of b>, by fours: signed bytes of a, unsigned ones of b. */
#define AMX_DOT(sums, a, b) \
    __asm__ volatile("tdpbsud %%tmm" #b ", %%tmm" #a ", %%tmm" #sums ::: "memory")

/* Make all tiles of this thread whole ones. */
WORD void amx_begin(void) {
    enum { PALETTE = 1, BYTES_AT = 16, LINES_AT = 48 }; /* of the operand of LDTILECFG */
    _Alignas(AMX_LINE) uint8_t shapes[AMX_LINE] = {PALETTE};
    for (int i = 0; i < AMX_TILES; i++) {
        shapes[BYTES_AT + 2 * i] = AMX_LINE;
        shapes[LINES_AT + i] = AMX_LINES;
    }
    __asm__ volatile("ldtilecfg (%0)" ::"r"(shapes) : "memory");
}

WORD void amx_end(void) { __asm__ volatile("tilerelease" ::: "memory"); }
#endif

#endif
