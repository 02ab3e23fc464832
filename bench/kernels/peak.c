/*
 * What a core can do at most: loops of nothing but arithmetic on registers. Compiled once a level,
 * with -DLEVEL=<isa>; each function does n rounds and says how many operations that was (a multiply
 * and an add are two), or 0 where the CPU has no such instruction.
 */
#include <stdint.h>

#define STRING_(x) #x
#define STRING(x) STRING_(x)
#define HEADER_(level) STRING(simd/level.h)
#define HEADER(level) HEADER_(level)
#include HEADER(LEVEL)

enum { CHAINS = 12, AGAIN = 32 };

/* The compiler must think that x may have changed. */
#define HIDE(x) __asm__ volatile("" : "+m"(x))

FARANN_TARGET double fma_operations(int64_t n, float *out) {
    f32v a = f32_set1(1.0f), b = f32_set1(1e-9f), c[CHAINS];
    for (int i = 0; i < CHAINS; i++) c[i] = f32_set1((float)i);
    for (int64_t round = 0; round < n; round++) {
        HIDE(a); /* or the product would leave the loop */
        for (int again = 0; again < AGAIN; again++)
            for (int i = 0; i < CHAINS; i++) c[i] = f32_fma(a, b, c[i]);
    }
    for (int i = 1; i < CHAINS; i++) c[0] = f32_add(c[0], c[i]);
    f32_store(out, c[0]);
    return 2.0 * AGAIN * CHAINS * F32_LANES * (double)n;
}

FARANN_TARGET double fma_operations_f64(int64_t n, double *out) {
    enum { FEWER = F32_LANES * 3 / 4 }; /* eight numbers fill a register, two or four */
    f64x8 a = f64x8_set1(1.0), b = f64x8_set1(1e-9), c[FEWER];
    for (int i = 0; i < FEWER; i++) c[i] = f64x8_set1((double)i);
    for (int64_t round = 0; round < n; round++) {
        HIDE(a);
        for (int again = 0; again < AGAIN; again++)
            for (int i = 0; i < FEWER; i++) c[i] = f64x8_add_exact(a, b, c[i]);
    }
    for (int i = 1; i < FEWER; i++) c[0] = f64x8_add(c[0], c[i]);
    f64x8_store(out, c[0]);
    return 2.0 * AGAIN * FEWER * 8 * (double)n;
}

#if defined(FARANN_AMX)
FARANN_TARGET double dot_operations(int64_t n, int32_t *out) {
    static uint8_t zeros[AMX_TILE];
    amx_begin();
    AMX_LOAD(4, zeros);
    AMX_LOAD(5, zeros);
    for (int64_t round = 0; round < n; round++) {
        AMX_DOT(0, 4, 5);
        AMX_DOT(1, 4, 5);
        AMX_DOT(2, 4, 5);
        AMX_DOT(3, 4, 5);
    }
    amx_end();
    *out = 0;
    return 2.0 * 4 * AMX_LINES * AMX_LINES * AMX_LINE * (double)n;
}
#elif defined(VNNI)
__attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni"))) double
dot_operations(int64_t n, int32_t *out) {
    __m512i a = _mm512_set1_epi8(1);
    /* Variables, not an array: the compiler would keep that in memory. */
#define EACH(do) do(0) do(1) do(2) do(3) do(4) do(5) do(6) do(7) do(8) do(9) do(10) do(11)
#define START(i) __m512i c##i = _mm512_set1_epi32(i);
#define ROUND(i) __asm__ volatile("vpdpbusd %1, %1, %0" : "+v"(c##i) : "v"(a));
#define SUM(i) a = _mm512_add_epi32(a, c##i);
    EACH(START)
    for (int64_t round = 0; round < n; round++) {
        EACH(ROUND)
    }
    EACH(SUM)
    _mm512_storeu_si512(out, a);
    return 2.0 * CHAINS * 64.0 * (double)n;
}
#elif defined(MADDUBS)
__attribute__((target("avx2"))) double dot_operations(int64_t n, int32_t *out) {
    __m256i a = _mm256_set1_epi8(1), ones = _mm256_set1_epi16(1), c[CHAINS];
    for (int i = 0; i < CHAINS; i++) c[i] = _mm256_set1_epi32(i);
    for (int64_t round = 0; round < n; round++) {
        HIDE(a);
        for (int again = 0; again < AGAIN; again++)
            for (int i = 0; i < CHAINS; i++)
                c[i] = _mm256_add_epi32(c[i], _mm256_madd_epi16(_mm256_maddubs_epi16(a, a), ones));
    }
    for (int i = 1; i < CHAINS; i++) c[0] = _mm256_add_epi32(c[0], c[i]);
    _mm256_storeu_si256((__m256i *)out, c[0]);
    return 2.0 * AGAIN * CHAINS * 32.0 * (double)n;
}
#else
double dot_operations(int64_t n, int32_t *out) {
    (void)n;
    (void)out;
    return 0.0;
}
#endif
