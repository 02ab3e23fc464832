/*
 * Rows of a compact type as float32, which holds every value of these types. Included by all-inl.h.
 */

#define WIDEN(name, type)                                                                          \
    WORD void widen_##name(const type *x, int64_t n, float *wide) {                                \
        int64_t j = 0;                                                                             \
        for (; j + F32_LANES <= n; j += F32_LANES) f32_store(wide + j, f32_from_##name(x + j));    \
        for (; j < n; j++) wide[j] = float_from_##name(x[j]);                                      \
    }

WIDEN(f16, uint16_t)
WIDEN(bf16, uint16_t)
WIDEN(u8, uint8_t)
WIDEN(i8, int8_t)

WORD void widen_run(farann_row_type type, const uint8_t *x, int64_t n, float *wide) {
    switch (type) {
    case FARANN_FLOAT16: widen_f16((const uint16_t *)x, n, wide); break;
    case FARANN_BFLOAT16: widen_bf16((const uint16_t *)x, n, wide); break;
    case FARANN_UINT8: widen_u8(x, n, wide); break;
    case FARANN_INT8: widen_i8((const int8_t *)x, n, wide); break;
    default: memcpy(wide, x, (size_t)n * sizeof *wide);
    }
}

KERNEL(void) NAME(widen_rows)(farann_row_type type, const void *rows, const int64_t *positions,
                              int64_t n, int64_t dim, float *wide) {
    const int64_t row_bytes = dim * farann_row_type_bytes(type);
    if (!positions) {
        widen_run(type, (const uint8_t *)rows, n * dim, wide);
        return;
    }
    for (int64_t i = 0; i < n; i++)
        widen_run(type, (const uint8_t *)rows + positions[i] * row_bytes, dim, wide + i * dim);
}
