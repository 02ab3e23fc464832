/* Which levels this CPU and its operating system have. */
#define _GNU_SOURCE /* syscall */
#include <stddef.h>
#include <string.h>

#include "kernels.h"
#include "portable.h"

/* What a level may need of the CPU and of its operating system. */
enum { AVX2 = 1, AVX512 = 2, VNNI = 4, TILES = 8 };

extern const farann_kernels farann_kernels_scalar;

#if FARANN_X86_64
extern const farann_kernels farann_kernels_avx2;
extern const farann_kernels farann_kernels_avx512;
extern const farann_kernels farann_kernels_avx512vnni;
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

enum { EBX = 1, ECX = 2, EDX = 3 };

/* Those that there are. The OS must save the registers, else they can't be used. */
static int features(void) {
    const uint64_t fma_osxsave_avx_f16c = 1u << 12 | 1u << 27 | 1u << 28 | 1u << 29;
    const uint64_t avx2 = 1u << 5, f_dq_bw_vl = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;
    const uint64_t vnni = 1u << 11, ymm = 0x6, zmm = 0xe6, tiles = 0x60000;
    const uint64_t amx_tile_int8 = 1u << 24 | 1u << 25;
    unsigned r[4];
    cpuid(0, 0, r);
    if (r[0] < 7) return 0;
    cpuid(1, 0, r);
    if (!has_bits(r[ECX], fma_osxsave_avx_f16c)) return 0;
    uint64_t saved = saved_registers();
    cpuid(7, 0, r);
    if (!has_bits(saved, ymm) || !has_bits(r[EBX], avx2)) return 0;
    if (!has_bits(saved, zmm) || !has_bits(r[EBX], f_dq_bw_vl)) return AVX2;
    if (!has_bits(r[ECX], vnni)) return AVX2 | AVX512;
    if (!has_bits(r[EDX], amx_tile_int8) || !has_bits(saved, tiles) || !may_use_tiles())
        return AVX2 | AVX512 | VNNI;
    return AVX2 | AVX512 | VNNI | TILES;
}
#else
static int features(void) { return 0; }
#endif

/* All levels, slowest first, and what each needs. */
static const struct {
    const farann_kernels *kernels;
    int needs;
} all[] = {
    {&farann_kernels_scalar, 0},
#if FARANN_X86_64
    {&farann_kernels_avx2, AVX2},
    {&farann_kernels_avx512, AVX2 | AVX512},
    {&farann_kernels_avx512vnni, AVX2 | AVX512 | VNNI},
#endif
#if FARANN_HAS_AMX
    {&farann_kernels_amx, AVX2 | AVX512 | VNNI | TILES},
#endif
};

enum { ALL = sizeof all / sizeof *all };
_Static_assert((int)ALL <= (int)FARANN_MOST_LEVELS, "FARANN_MOST_LEVELS is too small");

int farann_levels(const farann_kernels *found[FARANN_MOST_LEVELS]) {
    int n = 0, there = features();
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
