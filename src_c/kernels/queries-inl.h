/* Preparing queries: in float64, as what rows are multiplied by, as codes. Included by all-inl.h. */

KERNEL(void) NAME(widen_f32)(const float *x, int64_t dim, double *wide) {
    int64_t j = 0;
    for (; j + 8 <= dim; j += 8) f64x8_store(wide + j, f64x8_from_f32(x + j));
    if (j < dim) f64x8_store(wide + j, f64x8_from_f32_first(x + j, dim - j));
}

WORD void scale_query(const int from_centre, const double *exact, const double *centre, int64_t n,
                      double factor, double norm, double *query_vector, float *query_vector_f32,
                      double *sums) {
    const f64x8 times = f64x8_set1(factor), over = f64x8_set1(norm);
    f64x8 distances = f64x8_zero(), products = distances, squares = distances;
    for (int64_t j = 0; j < n; j += 8) {
        f64x8 q = f64x8_load(exact + j), m = f64x8_load(centre + j), y = f64x8_sub(q, m);
        f64x8 w = from_centre ? f64x8_mul(y, times) : f64x8_div(f64x8_mul(q, times), over);
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

KERNEL(void) NAME(scale_query_f64)(const double *exact, const double *centre, int64_t n,
                                   int from_centre, double factor, double norm,
                                   double *query_vector, float *query_vector_f32, double *sums) {
    if (from_centre)
        scale_query(1, exact, centre, n, factor, norm, query_vector, query_vector_f32, sums);
    else
        scale_query(0, exact, centre, n, factor, norm, query_vector, query_vector_f32, sums);
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
