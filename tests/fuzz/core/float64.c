/* Kernels in float64: the same bits at every level. */
#include "core.h"

void turns(void) {
    const int64_t dim = number(1, 200), padded = rounded(dim, 8), n = number(1, 9);
    double *x = NEW(double, padded), *signs = NEW(double, FARANN_ROTATION_ROUNDS *dim);
    double *basis = NEW(double, n *padded), first_sums[3] = {0.0};
    uint8_t *first_codes = NULL;
    double *first_turned = NULL, *first_products = NULL, largest = 1e-30;
    for (int64_t j = 0; j < dim; j++) x[j] = (double)finite();
    for (int64_t j = 0; j < FARANN_ROTATION_ROUNDS * dim; j++) signs[j] = byte() % 2 ? 1.0 : -1.0;
    for (int64_t j = 0; j < n * padded; j++) basis[j] = j % padded < dim ? (double)small() : 0.0;
    for (int64_t j = 0; j < dim; j++) largest = fmax(largest, fabs(x[j]));
    for (int level = 0; level < n_levels; level++) {
        double *turned = NEW(double, dim), *products = NEW(double, n), sums[3];
        uint8_t *codes = NEW(uint8_t, padded);
        memcpy(turned, x, (size_t)dim * sizeof *x);
        levels[level]->rotate_f64(turned, dim, signs, FARANN_ROTATION_ROUNDS);
        levels[level]->project_f64(basis, n, padded, x, products);
        levels[level]->quantize_f64(x, padded, largest / largest_code, codes, sums);
        if (level == 0) {
            first_turned = turned, first_products = products, first_codes = codes;
            memcpy(first_sums, sums, sizeof sums);
            for (int64_t j = 0; j < padded; j++) CHECK(abs((int)codes[j] - 128) <= largest_code);
            continue;
        }
        CHECK(same_bits(turned, first_turned, (size_t)dim * sizeof *x));
        for (int64_t i = 0; i < n; i++) CHECK(products[i] == first_products[i]);
        CHECK(same_bits(codes, first_codes, (size_t)padded));
        for (int i = 0; i < 3; i++) CHECK(sums[i] == first_sums[i]);
    }
}

static int same_number(double a, double b) { return a == b || (isnan(a) && isnan(b)); }

/* Queries in float64, their weights and what is summed of these; of any size, NaN and all. */
void preparing(void) {
    const int64_t dim = number(1, 40), n = rounded(dim, 8);
    const int from_center = (int)number(0, 1);
    const double factor = number(0, 1) ? 2.0 : -1.0, norm = fabs((double)finite()) + 1e-30;
    float *given = NEW(float, dim);
    double *exact = NEW(double, n), *center = NEW(double, n), *weights = NEW(double, n);
    double *terms[3] = {NEW(double, n), NEW(double, n), NEW(double, n)}, *numbers = NEW(double, n);
    double most = 0.0;
    for (int64_t j = 0; j < dim; j++) {
        given[j] = any();
        exact[j] = (double)finite(), center[j] = (double)finite() / 3.0;
    }
    for (int64_t j = 0; j < n; j++) {
        const double y = exact[j] - center[j];
        weights[j] = from_center ? y * factor : exact[j] * factor / norm;
        const double r = (double)(float)weights[j];
        terms[0][j] = y * y, terms[1][j] = exact[j] * center[j], terms[2][j] = r * r;
        numbers[j] = (double)any() * (byte() % 2 ? 1e-150 : 1e150);
        if (fabs(numbers[j]) > most) most = fabs(numbers[j]);
    }
    for (int level = 0; level < n_levels; level++) {
        double *wide = NEW(double, n), *got = NEW(double, n), sums[3];
        float *narrow = NEW(float, n);
        for (int64_t j = 0; j < n; j++) wide[j] = 7.0; /* memory is not zero before */
        levels[level]->widen_f32(given, dim, wide);
        for (int64_t j = 0; j < n; j++)
            CHECK(same_number(wide[j], j < dim ? (double)given[j] : 0.0));
        levels[level]->scale_query_f64(exact, center, n, from_center, factor, norm, got, narrow,
                                       sums);
        for (int64_t j = 0; j < n; j++)
            CHECK(got[j] == weights[j] && narrow[j] == (float)weights[j]);
        for (int i = 0; i < 3; i++) CHECK(same_number(sums[i], in_lanes(terms[i], n)));
        CHECK(levels[level]->largest_f64(numbers, n) == most);
        CHECK(levels[level]->largest_f64(numbers, 0) == 0.0);
    }
}

/* Rows coded at every level, with axes or without. */
void encoding(void) {
    const int64_t n = number(1, 9), dim = number(1, 40), padded = rounded(dim, 8);
    const int64_t coded = number(0, 1) ? dim : number(1, dim);
    farann_transform turn = {NULL, NULL, coded};
    double *signs = NEW(double, FARANN_ROTATION_ROUNDS *coded), *center = NEW(double, dim);
    float *rows = NEW(float, n *dim), *weights = NEW(float, n);
    for (int64_t j = 0; j < FARANN_ROTATION_ROUNDS * coded; j++) signs[j] = byte() % 2 ? 1.0 : -1.0;
    turn.signs = signs;
    if (coded < dim) { /* axes that are coordinates */
        double *axes = NEW(double, coded *padded);
        for (int64_t i = 0; i < coded; i++) axes[i * padded + i] = 1.0;
        turn.axes = axes;
    }
    for (int64_t j = 0; j < dim; j++) center[j] = (double)finite();
    for (int64_t i = 0; i < n * dim; i++) rows[i] = finite();
    uint8_t *first = NULL;
    double *first_squares = NULL;
    for (int level = 0; level < n_levels; level++) {
        const int64_t row_bytes = rounded(coded, GROUP);
        double *scratch = NEW(double, 2 * padded), *extents = NEW(double, n);
        double *squares = NEW(double, n);
        uint8_t *codes = NEW(uint8_t, n *row_bytes);
        float *unknown = NEW(float, n);
        double largest[FARANN_EXTREMES] = {0.0};
        farann_code_extents(levels[level], rows, n, dim, center, 0, &turn, scratch, extents);
        for (int64_t i = 0; i < n; i++)
            weights[i] = extents[i] > 1e-30 ? (float)(126.0 / extents[i]) : 0.0f;
        memset(scratch, 0, (size_t)(2 * padded) * sizeof *scratch);
        farann_encode_rows(levels[level], rows, n, dim, center, 0, &turn, weights, scratch, codes,
                           squares, unknown, largest);
        /* A code is off by a half at most, of so many coordinates. */
        CHECK(largest[0] <= 0.25 * (double)coded * (1.0 + 1e-9));
        if (level == 0) {
            first = codes, first_squares = squares;
            continue;
        }
        CHECK(same_bits(codes, first, (size_t)(n * row_bytes)));
        CHECK(same_bits(squares, first_squares, (size_t)n * sizeof *squares));
    }
}
