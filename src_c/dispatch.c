/* The instruction-set levels of this CPU and its operating system. */
#define _GNU_SOURCE /* syscall */
#include <stddef.h>
#include <string.h>

#include "kernels.h"
#include "portable.h"

/* Features of the CPU and its operating system that a level may need, a bit each. */
enum { AVX2 = 1, AVX512 = 2, VNNI = 4, TILES = 8, VEX_VNNI = 16 };
enum { NEON = 1, DOT_PRODUCTS = 2, MIXED_PRODUCTS = 4 };

/* Not all of these are compiled in. */
extern const farann_kernels farann_kernels_scalar, farann_kernels_avx2, farann_kernels_avx512,
    farann_kernels_avxvnni, farann_kernels_avx512vnni, farann_kernels_amx, farann_kernels_neon,
    farann_kernels_dotprod, farann_kernels_i8mm;

#if FARANN_X86_64
#if FARANN_HAS_AMX
#include <sys/syscall.h>
#include <unistd.h>

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

/* The features that can be used: the OS must save their registers. */
static int features(void) {
    const uint64_t fma_osxsave_avx_f16c = 1u << 12 | 1u << 27 | 1u << 28 | 1u << 29;
    const uint64_t avx2 = 1u << 5, f_dq_bw_vl = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;
    const uint64_t vnni = 1u << 11, vex_vnni = 1u << 4, amx_tile_int8 = 1u << 24 | 1u << 25;
    const uint64_t ymm = 0x6, zmm = 0xe6, tiles = 0x60000;
    unsigned r[4], more[4] = {0};
    cpuid(0, 0, r);
    if (r[EAX] < 7) return 0;
    cpuid(1, 0, r);
    if (!has_bits(r[ECX], fma_osxsave_avx_f16c)) return 0;
    const uint64_t saved = saved_registers();
    cpuid(7, 0, r);
    if (r[EAX] >= 1) cpuid(7, 1, more);
    if (!has_bits(saved, ymm) || !has_bits(r[EBX], avx2)) return 0;
    int found = AVX2 | (has_bits(more[EAX], vex_vnni) ? VEX_VNNI : 0);
    if (!has_bits(saved, zmm) || !has_bits(r[EBX], f_dq_bw_vl)) return found;
    found |= AVX512;
    if (!has_bits(r[ECX], vnni)) return found;
#if defined(FARANN_EVEX_VNNI) /* simd/avx2.h says what this is for */
    found |= VEX_VNNI;
#endif
    if (!has_bits(r[EDX], amx_tile_int8) || !has_bits(saved, tiles) || !may_use_tiles())
        return found | VNNI;
    return found | VNNI | TILES;
}
#elif FARANN_AARCH64
/* The features beside NEON, which is always there, as each system reports them. */
#if FARANN_HAS_ARM_DOT && defined(__linux__)
#include <sys/auxv.h>
static int features(void) {
    const unsigned long asimddp = 1ul << 20, i8mm = 1ul << 13; /* HWCAP_ASIMDDP, HWCAP2_I8MM */
    return NEON | (getauxval(AT_HWCAP) & asimddp ? DOT_PRODUCTS : 0) |
           (getauxval(AT_HWCAP2) & i8mm ? MIXED_PRODUCTS : 0);
}
#elif FARANN_HAS_ARM_DOT && defined(__APPLE__)
#include <sys/sysctl.h>
static int has(const char *feature) {
    int value = 0;
    size_t size = sizeof value;
    return sysctlbyname(feature, &value, &size, NULL, 0) == 0 && value;
}
static int features(void) {
    return NEON | (has("hw.optional.arm.FEAT_DotProd") ? DOT_PRODUCTS : 0) |
           (has("hw.optional.arm.FEAT_I8MM") ? MIXED_PRODUCTS : 0);
}
#elif FARANN_HAS_ARM_DOT && defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
static int features(void) {
    /* PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE and PF_ARM_V82_I8MM_INSTRUCTIONS_AVAILABLE; older
       systems, which don't know them, answer no. */
    enum { DP = 43, I8MM = 66 };
    return NEON | (IsProcessorFeaturePresent(DP) ? DOT_PRODUCTS : 0) |
           (IsProcessorFeaturePresent(I8MM) ? MIXED_PRODUCTS : 0);
}
#else
static int features(void) { return NEON; }
#endif
#else
static int features(void) { return 0; }
#endif

/* All levels and the features they need, from the slowest products of codes to the fastest. */
static const struct {
    const farann_kernels *kernels;
    int needs;
} all[] = {
    {&farann_kernels_scalar, 0},
#if FARANN_X86_64
    {&farann_kernels_avx2, AVX2},
    {&farann_kernels_avx512, AVX2 | AVX512},
#if FARANN_HAS_AVX_VNNI
    {&farann_kernels_avxvnni, AVX2 | VEX_VNNI},
#endif
    {&farann_kernels_avx512vnni, AVX2 | AVX512 | VNNI},
#elif FARANN_AARCH64
    {&farann_kernels_neon, NEON},
#endif
#if FARANN_HAS_ARM_DOT
    {&farann_kernels_dotprod, NEON | DOT_PRODUCTS},
    {&farann_kernels_i8mm, NEON | DOT_PRODUCTS | MIXED_PRODUCTS},
#endif
#if FARANN_HAS_AMX
    {&farann_kernels_amx, AVX2 | AVX512 | VNNI | TILES},
#endif
};

enum { ALL = sizeof all / sizeof *all };
_Static_assert((int)ALL <= (int)FARANN_MOST_LEVELS, "FARANN_MOST_LEVELS is too small");

int farann_levels(const farann_kernels *found[FARANN_MOST_LEVELS]) {
    /* Kept: in virtual machines CPUID takes 20 microseconds, longer than a search in few rows. */
    static int64_t known = -1;
    int n = 0, there = (int)farann_load(&known);
    if (there < 0) farann_store(&known, there = features());
    for (int i = 0; i < ALL; i++)
        if ((all[i].needs & ~there) == 0) found[n++] = all[i].kernels;
    return n;
}

const farann_kernels *farann_kernels_by_name(const char *name) {
    const farann_kernels *found[FARANN_MOST_LEVELS];
    for (int i = farann_levels(found); i > 0; i--)
        if (strcmp(name, found[i - 1]->name) == 0) return found[i - 1];
    return NULL;
}
