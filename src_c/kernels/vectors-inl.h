/*
 * Single vectors: as float32 and float64, scaled, as codes, rotated, and their products with a basis.
 * Included by all-inl.h.
 */

/* Rows of a compact type as float32, which holds every value of these types. */
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

KERNEL(void) NAME(widen_f32)(const float *x, int64_t dim, double *wide) {
    int64_t j = 0;
    for (; j + 8 <= dim; j += 8) f64x8_store(wide + j, f64x8_from_f32(x + j));
    if (j < dim) f64x8_store(wide + j, f64x8_from_f32_first(x + j, dim - j));
}

KERNEL(void) NAME(scale_query_f64)(const double *exact, const double *center, int64_t n,
                                   int from_center, double factor, double norm,
                                   double *query_vector, float *query_vector_f32, double *sums) {
    const f64x8 times = f64x8_set1(factor), over = f64x8_set1(norm);
    const int divides = !from_center && norm != 1.0; /* which takes longer than all else */
    f64x8 distances = f64x8_zero(), products = distances, squares = distances;
    for (int64_t j = 0; j < n; j += 8) {
        f64x8 q = f64x8_load(exact + j), m = f64x8_load(center + j), y = f64x8_sub(q, m);
        f64x8 w = f64x8_mul(from_center ? y : q, times);
        if (divides) w = f64x8_div(w, over);
        f64x8_store(query_vector + j, w);
        f64x8_store_f32(query_vector_f32 + j, w);
        f64x8 r = f64x8_from_f32(query_vector_f32 + j);
        distances = f64x8_add(distances, f64x8_mul(y, y));
        products = f64x8_add(products, f64x8_mul(q, m));
        squares = f64x8_add(squares, f64x8_mul(r, r));
    }
    sums[0] = f64x8_sum(distances);
    sums[1] = f64x8_sum(products);
    sums[2] = f64x8_sum(squares);
}

KERNEL(double) NAME(largest_f64)(const double *x, int64_t n) {
    f64x8 largest = f64x8_zero();
    double lanes[8], found = 0.0;
    for (int64_t j = 0; j < n; j += 8) {
        f64x8 v = f64x8_load(x + j);
        largest = f64x8_max(f64x8_max(v, f64x8_sub(f64x8_zero(), v)), largest);
    }
    f64x8_store(lanes, largest);
    for (int i = 0; i < 8; i++) found = lanes[i] > found ? lanes[i] : found;
    return found;
}

KERNEL(void) NAME(quantize_f64)(const double *a, int64_t n, double step, uint8_t *codes,
                                double *sums) {
    const f64x8 t = f64x8_set1(step), inverse = f64x8_set1(1.0 / step), zero = f64x8_set1(128.0);
    f64x8 coded2 = f64x8_zero(), left2 = coded2, total = coded2;
    for (int64_t j = 0; j < n; j += 8) {
        f64x8 x = f64x8_load(a + j), u = f64x8_round(f64x8_mul(x, inverse));
        f64x8 coded = f64x8_mul(u, t), left = f64x8_sub(x, coded);
        coded2 = f64x8_add(coded2, f64x8_mul(coded, coded));
        left2 = f64x8_add(left2, f64x8_mul(left, left));
        total = f64x8_add(total, u);
        f64x8_store_bytes(codes + j, f64x8_add(u, zero));
    }
    sums[0] = f64x8_sum(coded2);
    sums[1] = f64x8_sum(left2);
    sums[2] = f64x8_sum(total);
}

/*
 * Compute `stages` stages of the transform, the first with halves of `half` numbers, on 2^stages
 * vectors that stay in registers. With `within` the stages inside each vector come first.
 */
WORD void hadamard_stages(const int stages, const int within, double *x, int64_t size,
                          int64_t half) {
    const int width = 1 << stages;
    f64x8 v[8];
    for (int64_t i = 0; i < size; i += width * half)
        for (int64_t j = i; j < i + half; j += 8) {
            for (int r = 0; r < width; r++) {
                v[r] = f64x8_load(x + j + r * half);
                if (within) v[r] = f64x8_butterflies(v[r]);
            }
            for (int step = 1; step < width; step *= 2)
                for (int r = 0; r < width; r++) {
                    if (r & step) continue;
                    f64x8 low = v[r], high = v[r + step];
                    v[r] = f64x8_add(low, high);
                    v[r + step] = f64x8_sub(low, high);
                }
            for (int r = 0; r < width; r++) f64x8_store(x + j + r * half, v[r]);
        }
}

/* The Walsh-Hadamard transform of a power of two of coordinates, not scaled. */
WORD void hadamard(double *x, int64_t size) {
    if (size < 8) {
        for (int64_t half = 1; half < size; half *= 2)
            for (int64_t i = 0; i < size; i += 2 * half)
                for (int64_t j = i; j < i + half; j++) {
                    double a = x[j], b = x[j + half];
                    x[j] = a + b;
                    x[j + half] = a - b;
                }
        return;
    }
    int64_t half = 8;
    if (size >= 64) {
        hadamard_stages(3, 1, x, size, half);
        half = 64;
    } else {
        hadamard_stages(0, 1, x, size, half);
    }
    for (; 8 * half <= size; half *= 8) hadamard_stages(3, 0, x, size, half);
    if (4 * half == size) hadamard_stages(2, 0, x, size, half);
    if (2 * half == size) hadamard_stages(1, 0, x, size, half);
}

KERNEL(void) NAME(rotate_f64)(double *x, int64_t dim, const double *signs, int rounds) {
    int64_t size = 1;
    while (2 * size <= dim) size *= 2;
    const double unit = 1.0 / sqrt((double)size);
    for (int round = 0; round < rounds; round++) {
        for (int64_t j = 0; j < size; j++) x[j] *= signs[round * dim + j] * unit;
        for (int64_t j = size; j < dim; j++) x[j] *= signs[round * dim + j];
        hadamard(x, size);
        if (size == dim) continue;
        /* Two transforms that overlap cover all coordinates. */
        for (int64_t j = dim - size; j < dim; j++) x[j] *= unit;
        hadamard(x + dim - size, size);
    }
}

WORD void project(int width, const double *basis, int64_t dim, const double *x, double *products) {
    f64x8 sum[4];
    for (int i = 0; i < width; i++) sum[i] = f64x8_zero();
    for (int64_t j = 0; j < dim; j += 8)
        for (int i = 0; i < width; i++)
            sum[i] =
                f64x8_add(sum[i], f64x8_mul(f64x8_load(basis + i * dim + j), f64x8_load(x + j)));
    for (int i = 0; i < width; i++) products[i] = f64x8_sum(sum[i]);
}

KERNEL(void) NAME(project_f64)(const double *basis, int64_t n, int64_t dim, const double *x,
                               double *products) {
    int64_t i = 0;
    for (; i + 4 <= n; i += 4) project(4, basis + i * dim, dim, x, products + i);
    for (; i < n; i++) project(1, basis + i * dim, dim, x, products + i);
}
