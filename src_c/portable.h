/* Names that differ between compilers. */
#ifndef FARANN_PORTABLE_H
#define FARANN_PORTABLE_H

#if defined(__GNUC__) || defined(__clang__)
#define FARANN_TARGET_OF(features) __attribute__((target(features)))
#define FARANN_INLINE inline __attribute__((always_inline))
#define FARANN_NOINLINE __attribute__((noinline))
#define FARANN_RESTRICT restrict
#define FARANN_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define FARANN_COUNT_TRAILING_ZEROS(x) ((int)__builtin_ctz(x))
#define FARANN_COUNT_ONES(x) __builtin_popcount(x)
#define FARANN_PREFETCH(p) __builtin_prefetch(p)
#define FARANN_PREFETCH_FAR(p) __builtin_prefetch(p, 0, 2)
#elif defined(_MSC_VER)
#if _MSC_VER < 1939
#error "farann needs MSVC 19.39 (Visual Studio 2022 17.9) or later, which has __typeof__"
#endif
#include <intrin.h>
#define FARANN_TARGET_OF(features) /* MSVC compiles all intrinsics everywhere */
#define FARANN_INLINE __forceinline
#define FARANN_NOINLINE __declspec(noinline)
#define FARANN_RESTRICT __restrict
#define FARANN_UNLIKELY(x) (x)
static __forceinline int farann_ctz_msvc(unsigned long x) {
    unsigned long index;
    _BitScanForward(&index, x);
    return (int)index;
}
#define FARANN_COUNT_TRAILING_ZEROS(x) farann_ctz_msvc(x)
#define FARANN_COUNT_ONES(x) ((int)__popcnt(x))
#define FARANN_PREFETCH(p) ((void)(p))
#define FARANN_PREFETCH_FAR(p) ((void)(p))
#else
#error "farann knows GCC, clang and MSVC"
#endif

/* Numbers that threads share, each by itself: no order with other memory is needed. */
#include <stdint.h>
#if defined(_MSC_VER) && !defined(__clang__)
static FARANN_INLINE int64_t farann_load(const int64_t *number) {
    return *(const volatile int64_t *)number;
}
static FARANN_INLINE void farann_store(int64_t *number, int64_t value) {
    *(volatile int64_t *)number = value;
}
static FARANN_INLINE int64_t farann_fetch_add(int64_t *number, int64_t value) {
    return _InterlockedExchangeAdd64(number, value);
}
#else
static FARANN_INLINE int64_t farann_load(const int64_t *number) {
    return __atomic_load_n(number, __ATOMIC_RELAXED);
}
static FARANN_INLINE void farann_store(int64_t *number, int64_t value) {
    __atomic_store_n(number, value, __ATOMIC_RELAXED);
}
static FARANN_INLINE int64_t farann_fetch_add(int64_t *number, int64_t value) {
    return __atomic_fetch_add(number, value, __ATOMIC_RELAXED);
}
#endif

/* Whether a flag is up. For tests: a flag of -n goes up when it is read for the n-th time. */
static FARANN_INLINE int farann_is_up(const int64_t *flag) {
    const int64_t value = farann_load(flag);
    if (value >= 0) return value != 0;
    if (farann_fetch_add((int64_t *)flag, 1) != -1) return 0;
    farann_store((int64_t *)flag, 1);
    return 1;
}

#include <float.h>
#if defined(FLT_EVAL_METHOD) && FLT_EVAL_METHOD != 0
#error "farann needs float and double arithmetic without extra precision (no x87)"
#endif

#if defined(__x86_64__) || defined(_M_X64)
#define FARANN_X86_64 1
#else
#define FARANN_X86_64 0
#endif

#if (defined(__aarch64__) && !defined(__AARCH64EB__)) || defined(_M_ARM64)
#define FARANN_AARCH64 1
#else
#define FARANN_AARCH64 0
#endif

/* Compilers that compile a function for an instruction set that it names: AVX-VNNI ... */
#if FARANN_X86_64 && ((defined(__clang__) && __clang_major__ >= 12) ||                \
                      (!defined(__clang__) && defined(__GNUC__) && __GNUC__ >= 11) || \
                      (!defined(__clang__) && defined(_MSC_VER)))
#define FARANN_HAS_AVX_VNNI 1
#else
#define FARANN_HAS_AVX_VNNI 0
#endif

/* ... and NEON's products of bytes. */
#if FARANN_AARCH64 && ((defined(__clang__) && __clang_major__ >= 16) || \
                       (!defined(__clang__) && defined(__GNUC__) && __GNUC__ >= 10))
#define FARANN_HAS_ARM_DOT 1
#else
#define FARANN_HAS_ARM_DOT 0
#endif

/* Compilers that know the matrix unit, and a system that has to be asked for it. */
#if FARANN_X86_64 && defined(__linux__) && \
    ((defined(__clang__) && __clang_major__ >= 12) || (!defined(__clang__) && __GNUC__ >= 11))
#define FARANN_HAS_AMX 1
#else
#define FARANN_HAS_AMX 0
#endif

#endif
