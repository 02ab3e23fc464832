/* Words of the AMX level: those of AVX-512 with VNNI, and the matrix unit's (Sapphire Rapids on). */
#ifndef FARANN_SIMD_AMX_H
#define FARANN_SIMD_AMX_H

#define FARANN_VNNI
#define FARANN_AMX
#include "simd/avx512.h"

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
