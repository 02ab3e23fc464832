#include "quantize.h"

#include <math.h>
#include <string.h>

#include "portable.h"

/* Limit on squares in units of sums, so that 32 bits hold them beside sum and threshold. */
static const double LARGEST_SQUARE = 0x1p28;

/* An offset above all sums, negated below all; and a margin for rounding to whole numbers. */
static const double PASS_ALL = 0x1p30, ROUNDING = 2.0;

/* A code is 16 times its high nibble, plus the low one, of which 7.5 is the middle, less 128. */
static const double HIGH_STEP = 16.0, MIDDLE = 7.5, ZERO_POINT = 128.0;

/* Limits on units of queries: float32 holds them, and the largest sum of products times them. */
static const double SMALLEST_STEP = 1e-36, LARGEST_STEP = 1e29;

/* Share of |x|^2 for rounding, and directions not quite orthonormal; see docs/how-it-works. */
static const double REST_SHARE = 1e-9;

double farann_along(const farann_kernels *kernels, const double *directions, int64_t n, int64_t dim,
                    const double *x, double *along) {
    double squares, left;
    kernels->project_f64(x, 1, dim, x, &squares);
    kernels->project_f64(directions, n, dim, x, along);
    left = squares;
    for (int64_t i = 0; i < n; i++) left -= along[i] * along[i];
    return fmax(left, 0.0) + REST_SHARE * squares;
}

double farann_transform_vector(const farann_kernels *kernels, const farann_transform *turn,
                               int64_t dim, double *x, double *scratch) {
    const int64_t padded = (dim + 7) / 8 * 8;
    double outside = 0.0;
    if (turn->axes) {
        outside = farann_along(kernels, turn->axes, turn->coded, padded, x, scratch);
        for (int64_t j = 0; j < padded; j++) x[j] = j < turn->coded ? scratch[j] : 0.0;
    }
    kernels->rotate_f64(x, turn->coded, turn->signs, FARANN_ROTATION_ROUNDS);
    return outside;
}

/* Compute a row's padded coordinates z; return the square of the part outside the axes. */
static double turned_row(const farann_kernels *kernels, const float *row, int64_t dim,
                         const double *center, int normalized, const farann_transform *turn,
                         double *z) {
    double scale = 1.0;
    if (normalized) {
        double squares = 0.0;
        for (int64_t j = 0; j < dim; j++) squares += (double)row[j] * (double)row[j];
        scale = 1.0 / sqrt(squares);
    }
    for (int64_t j = 0; j < dim; j++) z[j] = (double)row[j] * scale - center[j];
    return farann_transform_vector(kernels, turn, dim, z, z + (dim + 7) / 8 * 8);
}

void farann_code_extents(const farann_kernels *kernels, const float *rows, int64_t n, int64_t dim,
                         const double *center, int normalized, const farann_transform *turn,
                         double *scratch, double *extents) {
    for (int64_t i = 0; i < n; i++) {
        const double outside =
            turned_row(kernels, rows + i * dim, dim, center, normalized, turn, scratch);
        extents[i] = fmax(kernels->largest_f64(scratch, (turn->coded + 7) / 8 * 8), sqrt(outside));
    }
}

/* The whole number nearest to x, from -127 to 127; NaN gives -127. What `rint` does, without a call
 * for each coordinate: numbers of this size have no places behind the point. */
static double nearest_code(double x) {
    const double no_places = 0x1.8p52;
    x = x > -127.0 ? x : -127.0;
    x = x < 127.0 ? x : 127.0;
    return (x + no_places) - no_places;
}

void farann_encode_rows(const farann_kernels *kernels, const float *rows, int64_t n, int64_t dim,
                        const double *center, int normalized, const farann_transform *turn,
                        const float *inv_scales, double *scratch, uint8_t *codes, double *squares,
                        float *low_nibble_norm, double *largest) {
    const int64_t row_bytes = (turn->coded + FARANN_CODE_GROUP - 1) / FARANN_CODE_GROUP *
                              FARANN_CODE_GROUP;
    for (int64_t i = 0; i < n; i++) {
        uint8_t *row = codes + i * row_bytes;
        const double w = (double)inv_scales[i];
        double z2 = 0.0, e2 = 0.0, l2 = 0.0;
        memset(row, (int)ZERO_POINT, (size_t)row_bytes);
        const double outside =
            turned_row(kernels, rows + i * dim, dim, center, normalized, turn, scratch);
        for (int64_t j = 0; j < turn->coded; j++) {
            const double c = nearest_code(scratch[j] * w), e = scratch[j] * w - c;
            row[j] = (uint8_t)(int)(c + ZERO_POINT);
            double l = (double)(row[j] & 15) - MIDDLE;
            z2 += scratch[j] * scratch[j];
            e2 += e * e;
            l2 += l * l;
        }
        squares[i] = z2 + outside;
        low_nibble_norm[i] = (float)(sqrt(l2) * (1.0 + 0x1p-23));
        if (!(w > 0.0)) continue;
        const double of_row[] = {e2, z2 * w * w, l2, z2 + outside, outside, outside * w * w};
        for (int k = 0; k < FARANN_EXTREMES; k++) largest[k] = fmax(largest[k], of_row[k]);
    }
}

/* Lay the nibbles of one row's pair of groups into a panel. */
static void pack_groups(const uint8_t *codes, int64_t left, uint8_t *panel, uint8_t *low) {
    uint32_t first, second = 0, high_bits, low_bits;
    memcpy(&first, codes, sizeof first);
    if (left > 1) memcpy(&second, codes + sizeof first, sizeof second);
    high_bits = (first >> 4 & 0x0f0f0f0fu) | (second & 0xf0f0f0f0u);
    low_bits = (first & 0x0f0f0f0fu) | (second << 4 & 0xf0f0f0f0u);
    memcpy(panel, &high_bits, sizeof high_bits);
    if (low) memcpy(low, &low_bits, sizeof low_bits);
}

void farann_pack_codes(const uint8_t *rows, const int64_t *places, int64_t n, int64_t groups,
                       int nibbles, uint8_t *panels, uint8_t *low) {
    const int64_t step = nibbles ? 2 : 1, parts = (groups + step - 1) / step;
    const int64_t whole = nibbles ? 0 : parts;
    for (int64_t i = 0; i < n; i++) {
        const int64_t place = places[i];
        if (place < 0) continue;
        const uint8_t *row = rows + i * groups * FARANN_CODE_GROUP;
        const int64_t in_panel = place / FARANN_CODE_PANEL * parts * FARANN_CODE_PANEL +
                                 place % FARANN_CODE_PANEL;
        const int64_t in_quad = place / FARANN_CODE_QUAD * parts * FARANN_CODE_QUAD +
                                place % FARANN_CODE_QUAD;
        for (int64_t p = 0; p < whole; p++)
            memcpy(panels + (in_panel + p * FARANN_CODE_PANEL) * FARANN_CODE_GROUP,
                   row + p * FARANN_CODE_GROUP, FARANN_CODE_GROUP);
        for (int64_t p = whole; p < parts; p++)
            pack_groups(row + p * step * FARANN_CODE_GROUP, groups - p * step,
                        panels + (in_panel + p * FARANN_CODE_PANEL) * FARANN_CODE_GROUP,
                        !low ? NULL : low + (in_quad + p * FARANN_CODE_QUAD) * FARANN_CODE_GROUP);
    }
}

/* The step t, large enough for all codes of the query, and for squares, to fit. */
static double step_of_query(const farann_code_bounds *rows, double largest, double rest, int most) {
    double t = fmax(largest, rest * rows->rest_unit / FARANN_CODE_GROUP) / most;
    t = fmax(t, rows->largest_square / LARGEST_SQUARE);
    return t > 0.0 ? t : 1.0 / rows->scale;
}

/* Write `amount` units to the last group, shared out over its four equal coordinates. */
static uint32_t group_of_rest(double amount, int most) {
    uint32_t group = 0;
    for (int i = 0; i < FARANN_CODE_GROUP; i++) {
        double part = fmin(amount, (double)most);
        group |= (uint32_t)(int)part << (8 * i);
        amount -= part;
    }
    return group;
}

/* Bounds the sum of the roundings of rows and of a query; as noise, it is hardly ever exceeded. */
static double together(double of_rows, double of_query, double noise) {
    return noise < 1.0 ? noise * sqrt(of_rows * of_rows + of_query * of_query) : of_rows + of_query;
}

void farann_code_query(const farann_kernels *kernels, const double *a, double rest,
                       const farann_code_bounds *rows, double reach, const farann_query *prepared,
                       int high_alone, uint8_t *bytes, uint32_t *codes, farann_coded_query *coded) {
    const int64_t dim = rows->dim, groups = (dim + FARANN_CODE_GROUP - 1) / FARANN_CODE_GROUP;
    const int most = kernels->largest_code;
    const double largest = kernels->largest_f64(a, (dim + 7) / 8 * 8);
    const double t = step_of_query(rows, largest, rest, most);
    double sums[3];
    coded->step = -1.0;
    coded->slack = farann_query_slack(prepared, reach * reach);
    /* The last comparison fails only with bounds from a file that lies. */
    if (coded->slack < 0.0 || !(t > SMALLEST_STEP && t < LARGEST_STEP) ||
        !(t * rows->scale > 1e-30 && t * rows->scale < 1e30) || !(largest < t * (most + 1)))
        return;
    kernels->quantize_f64(a, (dim + 7) / 8 * 8, t, bytes, sums);
    for (int64_t g = 0; g < groups; g++) {
        memcpy(codes + g, bytes + g * FARANN_CODE_GROUP, FARANN_CODE_GROUP);
        codes[g] ^= 0x80808080u;
    }
    coded->sum = sums[2];
    if (rows->rest_unit > 0.0) {
        double amount = fmin(ceil(rest * rows->rest_unit / t), (double)(FARANN_CODE_GROUP * most));
        codes[groups] = group_of_rest(amount, most);
        coded->sum += amount;
    }
    /* w <a, z> = t <u, c> + t <u, e> + <f, w z> + what is outside the axes; then what float32
     * rounds, and the turns. */
    const double within = sqrt(sums[0]), left = sqrt(sums[1]);
    const double rounding = 0x1p-21 * ZERO_POINT * fabs(coded->sum);
    /* This share is not small: it covers its own float32 rounding. */
    const double outside = rest * rows->outside_length * (1.0 + 0x1p-20);
    const double codes_off = rows->residual + (high_alone ? rows->low_nibble_norm : 0.0);
    const double rounded = together(within * rows->residual, left * rows->length, rows->noise);
    coded->allowance = (rounded + outside) / t + rounding;
    coded->length = rows->noise * within / t;
    coded->off = coded->slack +
                 together(within * codes_off * rows->scale, left * rows->norm, rows->noise) +
                 rounding * t * rows->scale + rest * rows->outside;
    if (coded->allowance + coded->length * rows->low_nibble_norm < LARGEST_SQUARE) coded->step = t;
    coded->inv_step = 1.0 / t;
}

farann_pass_threshold farann_pass_threshold_none(void) {
    farann_pass_threshold bar = {0};
    bar.offset = (float)PASS_ALL;
    return bar;
}

farann_pass_threshold farann_pass_threshold_at(const farann_coded_query *coded,
                                               const farann_code_bounds *rows, double floor,
                                               double sign, int high_alone) {
    farann_pass_threshold bar = farann_pass_threshold_none();
    if (coded->step < 0.0) return bar;
    const double t = coded->step, width = high_alone ? HIGH_STEP : 1.0;
    const double units = coded->inv_step * (high_alone ? 1.0 / HIGH_STEP : 1.0);
    const double center = coded->sum * (high_alone ? MIDDLE - ZERO_POINT : -ZERO_POINT);
    const double most = rows->largest_threshold * units * t;
    const int squared = rows->largest_square > 0.0;
    double threshold = (floor - coded->slack) * units;
    bar.step = (float)(t * width);
    bar.origin = (float)(center * t);
    if (!(threshold > -most)) {
        bar.offset = (float)-PASS_ALL;
        return bar;
    }
    if (threshold > most) threshold = most;
    bar.threshold = (float)threshold;
    bar.square = squared ? (float)(-sign * units) : 0.0f;
    bar.low_nibble_norm = high_alone ? (float)(-coded->length * (units * t)) : 0.0f;
    bar.offset = (float)(-(coded->allowance + center) * (units * t) - ROUNDING);
    return bar;
}

int32_t farann_code_product(const uint32_t *codes, const int8_t *c, int64_t groups) {
    const int8_t *u = (const int8_t *)codes;
    int32_t sum = 0;
    for (int64_t j = 0; j < groups * FARANN_CODE_GROUP; j++) sum += (int32_t)u[j] * c[j];
    return sum;
}

void farann_pass_thresholds_set(farann_pass_thresholds *bars, int64_t i,
                                const farann_pass_threshold *bar) {
    bars->threshold[i] = bar->threshold;
    bars->square[i] = bar->square;
    bars->low_nibble_norm[i] = bar->low_nibble_norm;
    bars->offset[i] = bar->offset;
    bars->step[i] = bar->step;
    bars->origin[i] = bar->origin;
}
