/* Which levels this CPU and its operating system have. */
#define _GNU_SOURCE /* syscall */
#include <stddef.h>
#include <string.h>

#include "kernels.h"
#include "portable.h"

extern const farann_kernels farann_kernels_scalar;

#if FARANN_X86_64
extern const farann_kernels farann_kernels_avx2;
extern const farann_kernels farann_kernels_avx512;
extern const farann_kernels farann_kernels_avx512vnni;
#if FARANN_HAS_AVX_VNNI
extern const farann_kernels farann_kernels_avxvnni;
#endif
#if FARANN_HAS_AMX
#include <sys/syscall.h>
#include <unistd.h>
extern const farann_kernels farann_kernels_amx;

/* Linux gives a process the tiles' registers, 8 kB a thread, when it asks; it may ask again. */
static int may_use_tiles(void) {
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}
#else
static int may_use_tiles(void) { return 0; }
#endif

#if defined(_MSC_VER)
#include <immintrin.h>
static void cpuid(int leaf, int subleaf, unsigned r[4]) { __cpuidex((int *)r, leaf, subleaf); }
static uint64_t saved_registers(void) { return _xgetbv(0); }
#else
#include <cpuid.h>
static void cpuid(int leaf, int subleaf, unsigned r[4]) {
    __cpuid_count(leaf, subleaf, r[0], r[1], r[2], r[3]);
}
static uint64_t saved_registers(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return ((uint64_t)high << 32) | low;
}
#endif

static int has_bits(uint64_t value, uint64_t bits) { return (value & bits) == bits; }

enum { EAX, EBX, ECX, EDX };

/*
 * 0: scalar only, 1: avx2, 2: avx512, 3: avx512vnni, 4: amx. The OS must save the registers, else
 * they can't be used.
 */
static int highest_level(void) {
    const uint64_t fma_osxsave_avx = 1u << 12 | 1u << 27 | 1u << 28;
    const uint64_t avx2 = 1u << 5, f_dq_bw_vl = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;
    const uint64_t vnni = 1u << 11, ymm = 0x6, zmm = 0xe6, tiles = 0x60000;
    const uint64_t amx_tile_int8 = 1u << 24 | 1u << 25;
    unsigned r[4];
    cpuid(0, 0, r);
    if (r[EAX] < 7) return 0;
    cpuid(1, 0, r);
    if (!has_bits(r[ECX], fma_osxsave_avx)) return 0;
    uint64_t saved = saved_registers();
    cpuid(7, 0, r);
    if (!has_bits(saved, ymm) || !has_bits(r[EBX], avx2)) return 0;
    if (!has_bits(saved, zmm) || !has_bits(r[EBX], f_dq_bw_vl)) return 1;
    if (!has_bits(r[ECX], vnni)) return 2;
    return has_bits(r[EDX], amx_tile_int8) && has_bits(saved, tiles) && may_use_tiles() ? 4 : 3;
}

/* avxvnni is between avx2 and avx512; CPUs with AVX-512 have it or not. */
static int has_avxvnni(int highest) {
    const uint64_t avxvnni = 1u << 4;
    unsigned r[4];
#if defined(FARANN_EVEX_VNNI)
    return highest >= 3; /* simd/avx2.h says what this is for */
#endif
    if (!FARANN_HAS_AVX_VNNI || highest < 1) return 0;
    cpuid(7, 0, r);
    if (r[EAX] < 1) return 0;
    cpuid(7, 1, r);
    return has_bits(r[EAX], avxvnni);
}

static const char *const names[][2][7] = {
    {{"scalar", NULL}, {"scalar", NULL}},
    {{"scalar", "avx2", NULL}, {"scalar", "avx2", "avxvnni", NULL}},
    {{"scalar", "avx2", "avx512", NULL}, {"scalar", "avx2", "avxvnni", "avx512", NULL}},
    {{"scalar", "avx2", "avx512", "avx512vnni", NULL},
     {"scalar", "avx2", "avxvnni", "avx512", "avx512vnni", NULL}},
    {{"scalar", "avx2", "avx512", "avx512vnni", "amx", NULL},
     {"scalar", "avx2", "avxvnni", "avx512", "avx512vnni", "amx", NULL}}};

const char *const *farann_kernel_levels(void) {
    const int highest = highest_level();
    return names[highest][has_avxvnni(highest)];
}

static const farann_kernels *const tables[] = {
    &farann_kernels_scalar,  &farann_kernels_avx2,
    &farann_kernels_avx512,  &farann_kernels_avx512vnni,
#if FARANN_HAS_AVX_VNNI
    &farann_kernels_avxvnni,
#endif
#if FARANN_HAS_AMX
    &farann_kernels_amx,
#endif
};

#elif FARANN_AARCH64
extern const farann_kernels farann_kernels_neon;
#if FARANN_HAS_ARM_DOT
extern const farann_kernels farann_kernels_dotprod;
extern const farann_kernels farann_kernels_i8mm;
#endif

/* 1: neon, which all have, 2: dotprod, 3: i8mm. */
#if FARANN_HAS_ARM_DOT && defined(__linux__)
#include <sys/auxv.h>
static int highest_level(void) {
    const unsigned long dotprod = 1ul << 20, i8mm = 1ul << 13; /* HWCAP_ASIMDDP, HWCAP2_I8MM */
    if (!(getauxval(AT_HWCAP) & dotprod)) return 1;
    return getauxval(AT_HWCAP2) & i8mm ? 3 : 2;
}
#elif FARANN_HAS_ARM_DOT && defined(__APPLE__)
#include <sys/sysctl.h>
static int has(const char *feature) {
    int value = 0;
    size_t size = sizeof value;
    return sysctlbyname(feature, &value, &size, NULL, 0) == 0 && value;
}
static int highest_level(void) {
    if (!has("hw.optional.arm.FEAT_DotProd")) return 1;
    return has("hw.optional.arm.FEAT_I8MM") ? 3 : 2;
}
#elif FARANN_HAS_ARM_DOT && defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
static int highest_level(void) {
    /* PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE and PF_ARM_V82_I8MM_INSTRUCTIONS_AVAILABLE; older
       systems answer that they don't have what they don't know. */
    enum { DOT_PRODUCTS = 43, I8MM = 66 };
    if (!IsProcessorFeaturePresent(DOT_PRODUCTS)) return 1;
    return IsProcessorFeaturePresent(I8MM) ? 3 : 2;
}
#else
static int highest_level(void) { return 1; }
#endif

static const char *const names[][5] = {{"scalar", NULL},
                                       {"scalar", "neon", NULL},
                                       {"scalar", "neon", "dotprod", NULL},
                                       {"scalar", "neon", "dotprod", "i8mm", NULL}};

const char *const *farann_kernel_levels(void) { return names[highest_level()]; }

static const farann_kernels *const tables[] = {
    &farann_kernels_scalar,
    &farann_kernels_neon,
#if FARANN_HAS_ARM_DOT
    &farann_kernels_dotprod,
    &farann_kernels_i8mm,
#endif
};

#else
static const char *const names[] = {"scalar", NULL};

const char *const *farann_kernel_levels(void) { return names; }

static const farann_kernels *const tables[] = {&farann_kernels_scalar};
#endif

const farann_kernels *farann_kernels_by_name(const char *name) {
    for (const char *const *level = farann_kernel_levels(); *level; level++)
        if (strcmp(*level, name) == 0)
            for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
                if (strcmp(tables[i]->name, name) == 0) return tables[i];
    return NULL;
}
