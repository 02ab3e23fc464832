#include "codes.h"

#include <math.h>
#include <string.h>

/* Shifting a 32-bit number by more is undefined; squares, below 2^29, are long gone then. */
static const int LARGEST_SHIFT = 31;

static void turned_row(const farann_kernels *kernels, const float *row, int64_t dim,
                       const double *centre, int unit, const double *signs, double *z) {
    double scale = 1.0;
    if (unit) {
        double squares = 0.0;
        for (int64_t j = 0; j < dim; j++) squares += (double)row[j] * (double)row[j];
        scale = 1.0 / sqrt(squares);
    }
    for (int64_t j = 0; j < dim; j++) z[j] = (double)row[j] * scale - centre[j];
    kernels->rotate_f64(z, dim, signs, FARANN_ROTATION_ROUNDS);
}

static double largest_magnitude(const double *x, int64_t dim) {
    double largest = 0.0;
    for (int64_t j = 0; j < dim; j++) largest = fabs(x[j]) > largest ? fabs(x[j]) : largest;
    return largest;
}

void farann_code_extents(const farann_kernels *kernels, const float *rows, int64_t n, int64_t dim,
                         const double *centre, int unit, const double *signs, double *scratch,
                         double *extents) {
    for (int64_t i = 0; i < n; i++) {
        turned_row(kernels, rows + i * dim, dim, centre, unit, signs, scratch);
        extents[i] = largest_magnitude(scratch, dim);
    }
}

void farann_encode_rows(const farann_kernels *kernels, const float *rows, int64_t n, int64_t dim,
                        const double *centre, int unit, const double *signs, double scale,
                        double *scratch, int8_t *codes, int32_t *sums, double *squares,
                        double *largest) {
    const int64_t row_bytes = (dim + FARANN_CODE_GROUP - 1) / FARANN_CODE_GROUP * FARANN_CODE_GROUP;
    const double inverse = 1.0 / scale;
    for (int64_t i = 0; i < n; i++) {
        int8_t *row = codes + i * row_bytes;
        double z2 = 0.0, e2 = 0.0;
        int32_t sum = 0;
        memset(row, 0, (size_t)row_bytes);
        turned_row(kernels, rows + i * dim, dim, centre, unit, signs, scratch);
        for (int64_t j = 0; j < dim; j++) z2 += scratch[j] * scratch[j];
        squares[i] = z2;
        sums[i] = FARANN_NOT_CODED;
        if (!(largest_magnitude(scratch, dim) <= 127.0 * scale * (1.0 + 1e-12))) continue;
        for (int64_t j = 0; j < dim; j++) {
            double c = rint(fmin(127.0, fmax(-127.0, scratch[j] * inverse)));
            double e = scratch[j] - c * scale;
            e2 += e * e;
            sum += (int32_t)c;
            row[j] = (int8_t)c;
        }
        sums[i] = sum;
        largest[0] = e2 > largest[0] ? e2 : largest[0];
        largest[1] = z2 > largest[1] ? z2 : largest[1];
    }
}

void farann_pack_codes(const int8_t *rows, const int64_t *positions, int64_t n, int64_t groups,
                       int8_t *panels) {
    for (int64_t start = 0; start < n; start += FARANN_CODE_PANEL) {
        int8_t *panel = panels + start * groups * FARANN_CODE_GROUP;
        for (int64_t lane = 0; lane < FARANN_CODE_PANEL; lane++) {
            int64_t i = start + lane;
            int64_t row = i >= n ? -1 : positions ? positions[i] : i;
            for (int64_t g = 0; g < groups; g++) {
                int8_t *out = panel + (g * FARANN_CODE_PANEL + lane) * FARANN_CODE_GROUP;
                if (row < 0)
                    memset(out, 0, FARANN_CODE_GROUP);
                else
                    memcpy(out, rows + (row * groups + g) * FARANN_CODE_GROUP, FARANN_CODE_GROUP);
            }
        }
    }
}

/* The worth t of a unit of u, large enough for all codes of the query to fit; also its shift. */
static double unit_of_query(const farann_code_bounds *rows, double largest, double rest, int most,
                            int32_t *shift) {
    double t = fmax(largest, rest * rows->rest_unit / rows->scale / FARANN_CODE_GROUP) / most;
    *shift = 0;
    if (rows->square_unit > 0.0) {
        /* Squares are shifted by whole bits, so t is their unit times a power of two. */
        int exponent;
        (void)frexp(t * (rows->scale / rows->square_unit), &exponent);
        if (exponent < 0) exponent = 0;
        *shift = exponent < LARGEST_SHIFT ? exponent : LARGEST_SHIFT;
        return ldexp(rows->square_unit / rows->scale, exponent);
    }
    return t > 0.0 ? t : 1.0 / rows->scale;
}

/* Write `amount` units to the last group, shared out over its four equal coordinates. */
static uint32_t group_of_rest(double amount, int most, int zero_point) {
    uint32_t group = 0;
    for (int i = 0; i < FARANN_CODE_GROUP; i++) {
        double part = fmin(amount, (double)most);
        group |= (uint32_t)((int)part + zero_point) << (8 * i);
        amount -= part;
    }
    return group;
}

void farann_code_query(const farann_kernels *kernels, const double *a, double rest,
                       const farann_code_bounds *rows, double reach, const farann_query *prepared,
                       int zero_point, uint8_t *bytes, uint32_t *codes, int64_t stride,
                       farann_coded_query *coded) {
    const int64_t dim = rows->dim, groups = (dim + FARANN_CODE_GROUP - 1) / FARANN_CODE_GROUP;
    const int most = kernels->zero_point - 1;
    const double largest = largest_magnitude(a, dim);
    double t = unit_of_query(rows, largest, rest, most, &coded->shift);
    double sums[3];
    coded->step = rows->scale * t;
    coded->slack = farann_query_slack(prepared, reach * reach);
    /* The last comparison fails only with bounds from a file that lies. */
    if (coded->slack < 0.0 || !(coded->step > 1e-30 && coded->step < 1e30) ||
        !(largest < t * kernels->zero_point)) {
        coded->slack = -1.0;
        return;
    }
    /* The kernel wants bytes without a sign; for signed ones the top bit is turned afterwards. */
    kernels->quantize_f64(a, (dim + 7) / 8 * 8, t, zero_point ? (double)zero_point : 128.0, bytes,
                          sums);
    for (int64_t g = 0; g < groups; g++) {
        memcpy(codes + g * stride, bytes + g * FARANN_CODE_GROUP, FARANN_CODE_GROUP);
        if (!zero_point) codes[g * stride] ^= 0x80808080u;
    }
    if (rows->rest_unit > 0.0)
        codes[groups * stride] = group_of_rest(
            fmin(ceil(rest * rows->rest_unit / coded->step), (double)(FARANN_CODE_GROUP * most)),
            most, zero_point);
    coded->sum = (int32_t)sums[2];
    /* <a, z> = <t u, s c> + <t u, e> + <f, z>; then what float32 rounds, and the turns. */
    double within = sqrt(sums[0]), left = sqrt(sums[1]);
    coded->slack += (within * rows->residual + left * rows->norm) * (1.0 + 1e-9);
    coded->slack += 0x1p-22 * (within * (rows->norm + rows->residual) + reach * reach);
    coded->slack += 0x1p-36 * prepared->weight_norm * reach;
    if (rows->square_unit > 0.0) coded->slack += 2.0 * coded->step;
}

int32_t farann_code_threshold(const farann_coded_query *coded, double floor) {
    double units = floor / coded->step;
    units -= fabs(units) * 1e-12;
    if (!(units > (double)FARANN_LOWEST_THRESHOLD + 1.0)) return FARANN_LOWEST_THRESHOLD;
    if (!(units < -(double)FARANN_LOWEST_THRESHOLD)) return -FARANN_LOWEST_THRESHOLD;
    return (int32_t)ceil(units) - 1;
}
