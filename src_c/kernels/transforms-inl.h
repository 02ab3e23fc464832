/* Rotations, and products with the vectors of a basis. Included by all-inl.h. */

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
