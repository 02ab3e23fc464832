/* Single numbers of compact types as float32. */
#ifndef FARANN_SIMD_COMPACT_H
#define FARANN_SIMD_COMPACT_H

#include <stdint.h>
#include <string.h>

#include "portable.h"

/* Without arithmetic on denormal numbers, which may be slow or flushed. */
static FARANN_INLINE float float_from_f16(uint16_t half) {
    uint32_t magnitude = half & 0x7fffu, bits;
    float value = (float)magnitude * 0x1p-24f;
    memcpy(&bits, &value, sizeof bits);
    if (magnitude >= 0x400u)
        bits = (magnitude << 13) + ((magnitude >= 0x7c00u ? 224u : 112u) << 23);
    bits |= (uint32_t)(half & 0x8000u) << 16;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static FARANN_INLINE float float_from_bf16(uint16_t half) {
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static FARANN_INLINE float float_from_u8(uint8_t x) { return (float)x; }
static FARANN_INLINE float float_from_i8(int8_t x) { return (float)x; }

#endif
