/* Rows of compact types as float32: the same number at every level, whatever comes. */
#include "core.h"

static float value_of(farann_row_type type, const uint8_t *at) {
    uint16_t half;
    memcpy(&half, at, type < FARANN_UINT8 ? sizeof half : 1);
    if (type == FARANN_UINT8) return (float)*at;
    if (type == FARANN_INT8) return (float)(*at < 128 ? *at : *at - 256);
    const int bits = type == FARANN_FLOAT16 ? 10 : 7, most = type == FARANN_FLOAT16 ? 31 : 255;
    const int exponent = half >> bits & most, fraction = half & ((1 << bits) - 1);
    double value =
        ldexp(fraction + (exponent ? 1 << bits : 0), (exponent ? exponent : 1) - most / 2 - bits);
    if (exponent == most) value = fraction ? NAN : INFINITY;
    return (float)(half >> 15 ? -value : value);
}

void widening(void) {
    const farann_row_type type = (farann_row_type)number(FARANN_FLOAT16, FARANN_INT8);
    const int64_t size = farann_row_type_bytes(type), n = number(1, 9), dim = number(1, 70);
    const int64_t asked = number(1, 12);
    uint8_t *rows = NEW(uint8_t, n * dim * size);
    int64_t *positions = NEW(int64_t, asked);
    for (int64_t i = 0; i < n * dim * size; i++) rows[i] = (uint8_t)byte();
    for (int64_t i = 0; i < asked; i++) positions[i] = number(0, n - 1);
    for (int level = 0; level < n_levels; level++) {
        float *all = NEW(float, n *dim), *some = NEW(float, asked *dim);
        levels[level]->widen_rows(type, rows, NULL, n, dim, all);
        levels[level]->widen_rows(type, rows, positions, asked, dim, some);
        for (int64_t i = 0; i < n * dim; i++) {
            const float value = value_of(type, rows + i * size);
            CHECK(isnan(value) ? isnan(all[i]) : same_bits(&all[i], &value, sizeof value));
        }
        for (int64_t i = 0; i < asked * dim; i++) {
            const float value = all[positions[i / dim] * dim + i % dim];
            CHECK(isnan(value) ? isnan(some[i]) : same_bits(&some[i], &value, sizeof value));
        }
    }
}
