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

/*
 * 0: scalar only, 1: avx2, 2: avx512, 3: avx512vnni, 4: amx. The OS must save the registers, else
 * they can't be used.
 */
static int highest_level(void) {
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
    if (!has_bits(saved, zmm) || !has_bits(r[EBX], f_dq_bw_vl)) return 1;
    if (!has_bits(r[ECX], vnni)) return 2;
    return has_bits(r[EDX], amx_tile_int8) && has_bits(saved, tiles) && may_use_tiles() ? 4 : 3;
}
#else
static int highest_level(void) { return 0; }
#endif

static const char *const names[][6] = {{"scalar", NULL},
                                       {"scalar", "avx2", NULL},
                                       {"scalar", "avx2", "avx512", NULL},
                                       {"scalar", "avx2", "avx512", "avx512vnni", NULL},
                                       {"scalar", "avx2", "avx512", "avx512vnni", "amx", NULL}};

const char *const *farann_kernel_levels(void) { return names[highest_level()]; }

const farann_kernels *farann_kernels_by_name(const char *name) {
    int highest = highest_level();
    if (strcmp(name, "scalar") == 0) return &farann_kernels_scalar;
#if FARANN_X86_64
    if (highest >= 1 && strcmp(name, "avx2") == 0) return &farann_kernels_avx2;
    if (highest >= 2 && strcmp(name, "avx512") == 0) return &farann_kernels_avx512;
    if (highest >= 3 && strcmp(name, "avx512vnni") == 0) return &farann_kernels_avx512vnni;
#endif
#if FARANN_HAS_AMX
    if (highest >= 4 && strcmp(name, "amx") == 0) return &farann_kernels_amx;
#endif
    (void)highest;
    return NULL;
}
