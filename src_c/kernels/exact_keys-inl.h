/*
 * Exact keys, in float64, row by row: the same bits at every level. Included by all-inl.h.
 */

/* The terms summed over coordinates; a constant at each call, so the branches vanish. */
enum { SQUARED_DIFFERENCES, PRODUCTS, PRODUCTS_AND_SQUARES };

WORD void accumulate(int what, f64x8 x, f64x8 q, f64x8 *sum, f64x8 *squares) {
    if (what == SQUARED_DIFFERENCES) {
        f64x8 difference = f64x8_sub(q, x);
        *sum = f64x8_add(*sum, f64x8_mul(difference, difference));
        return;
    }
    *sum = f64x8_add_exact(q, x, *sum);
    if (what == PRODUCTS_AND_SQUARES) *squares = f64x8_add_exact(x, x, *squares);
}

/*
 * One row at a time: memory is then read in order, which lets the hardware prefetch; several
 * rows side by side ran at a third of the bandwidth.
 */
WORD double sum_row(int what, const float *row, int64_t dim, const double *query, double *squares) {
    f64x8 sum = f64x8_zero(), norm = f64x8_zero();
    int64_t whole = dim - dim % 8;
    for (int64_t j = 0; j < whole; j += 8)
        accumulate(what, f64x8_from_f32(row + j), f64x8_load(query + j), &sum, &norm);
    if (whole < dim)
        accumulate(what, f64x8_from_f32_first(row + whole, dim - whole), f64x8_load(query + whole),
                   &sum, &norm);
    *squares = what == PRODUCTS_AND_SQUARES ? f64x8_sum(norm) : 0.0;
    return f64x8_sum(sum);
}

/*
 * Four rows that lie apart: their sums don't wait for each other, nor does their memory. Each
 * row's order of summation is that of sum_row.
 */
WORD void sum_rows(int what, const float *const *row, int64_t dim, const double *query,
                   double *sums, double *squares) {
    f64x8 sum[4], norm[4];
    int64_t whole = dim - dim % 8;
    for (int r = 0; r < 4; r++) sum[r] = norm[r] = f64x8_zero();
    for (int64_t j = 0; j < whole; j += 8)
        for (int r = 0; r < 4; r++)
            accumulate(what, f64x8_from_f32(row[r] + j), f64x8_load(query + j), &sum[r], &norm[r]);
    for (int r = 0; r < 4; r++) {
        if (whole < dim)
            accumulate(what, f64x8_from_f32_first(row[r] + whole, dim - whole),
                       f64x8_load(query + whole), &sum[r], &norm[r]);
        squares[r] = what == PRODUCTS_AND_SQUARES ? f64x8_sum(norm[r]) : 0.0;
        sums[r] = f64x8_sum(sum[r]);
    }
}

WORD double key_of(farann_metric metric, double sum, double squares) {
    if (metric == FARANN_L2) return sum;
    return metric == FARANN_DOT ? -sum : -(sum / sqrt(squares));
}

/* Ask for the first lines of a row that lies anywhere; the rest follows by itself. */
WORD void prefetch_row(const float *row, int64_t dim) {
    enum { LINE = 16, MOST = 8 * LINE }; /* floats of a cache line, and of those prefetched */
    for (int64_t j = 0; j < dim && j < MOST; j += LINE) FARANN_PREFETCH(row + j);
}

WORD void keys_of_rows(farann_metric metric, const float *rows, const int64_t *positions, int64_t n,
                       int64_t dim, const double *query, double *keys) {
    const int what = metric == FARANN_L2    ? SQUARED_DIFFERENCES
                     : metric == FARANN_DOT ? PRODUCTS
                                            : PRODUCTS_AND_SQUARES;
    enum { AHEAD = 8 }; /* rows prefetched */
    int64_t i = 0;
    for (; positions && i < n && i < AHEAD; i++) prefetch_row(rows + positions[i] * dim, dim);
    for (i = 0; positions && i + 4 <= n; i += 4) {
        const float *row[4];
        double sums[4], squares[4];
        for (int64_t r = i + AHEAD; r < i + AHEAD + 4 && r < n; r++)
            prefetch_row(rows + positions[r] * dim, dim);
        for (int r = 0; r < 4; r++) row[r] = rows + positions[i + r] * dim;
        sum_rows(what, row, dim, query, sums, squares);
        for (int r = 0; r < 4; r++) keys[i + r] = key_of(metric, sums[r], squares[r]);
    }
    for (; metric == FARANN_COSINE && !positions && i + 8 <= n; i += 8) {
        double sums[8], squares[8];
        for (int r = 0; r < 8; r++)
            sums[r] = sum_row(what, rows + (i + r) * dim, dim, query, &squares[r]);
        /* Roots and quotients of a vector at a time. */
        for (int r = 0; r < 8; r++) keys[i + r] = key_of(metric, sums[r], squares[r]);
    }
    for (; i < n; i++) {
        double squares;
        const float *row = rows + (positions ? positions[i] : i) * dim;
        double sum = sum_row(what, row, dim, query, &squares);
        keys[i] = key_of(metric, sum, squares);
    }
}

KERNEL(void) NAME(keys_l2_f64)(const float *rows, const int64_t *positions, int64_t n, int64_t dim,
                               const double *query, double *keys) {
    keys_of_rows(FARANN_L2, rows, positions, n, dim, query, keys);
}

KERNEL(void) NAME(keys_dot_f64)(const float *rows, const int64_t *positions, int64_t n, int64_t dim,
                                const double *query, double *keys) {
    keys_of_rows(FARANN_DOT, rows, positions, n, dim, query, keys);
}

KERNEL(void) NAME(keys_cosine_f64)(const float *rows, const int64_t *positions, int64_t n,
                                   int64_t dim, const double *query, double *keys) {
    keys_of_rows(FARANN_COSINE, rows, positions, n, dim, query, keys);
}

/* |x|^2 as in exact keys. */
WORD double squares_of(const float *row, int64_t dim) {
    f64x8 squares = f64x8_zero();
    int64_t j = 0;
    for (; j + 8 <= dim; j += 8) {
        f64x8 x = f64x8_from_f32(row + j);
        squares = f64x8_add_exact(x, x, squares);
    }
    if (j < dim) {
        f64x8 x = f64x8_from_f32_first(row + j, dim - j);
        squares = f64x8_add_exact(x, x, squares);
    }
    return f64x8_sum(squares);
}

/* The same of four rows, whose sums don't wait for each other. */
WORD void squares_of_four(const float *const *row, int64_t dim, double *squares) {
    f64x8 sums[4];
    int64_t j = 0;
    for (int r = 0; r < 4; r++) sums[r] = f64x8_zero();
    for (; j + 8 <= dim; j += 8)
        for (int r = 0; r < 4; r++) {
            f64x8 x = f64x8_from_f32(row[r] + j);
            sums[r] = f64x8_add_exact(x, x, sums[r]);
        }
    for (int r = 0; r < 4; r++) {
        if (j < dim) {
            f64x8 x = f64x8_from_f32_first(row[r] + j, dim - j);
            sums[r] = f64x8_add_exact(x, x, sums[r]);
        }
        squares[r] = f64x8_sum(sums[r]);
    }
}
