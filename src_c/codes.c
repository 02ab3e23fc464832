#include "codes.h"

#include <math.h>
#include <string.h>

#include "portable.h"

/* Orthogonal butterflies over a power of two of coordinates. */
static void hadamard(double *FARANN_RESTRICT x, int64_t size) {
    for (int64_t half = 1; half < size; half *= 2)
        for (int64_t i = 0; i < size; i += 2 * half)
            for (int64_t j = i; j < i + half; j++) {
                double a = x[j], b = x[j + half];
                x[j] = a + b;
                x[j + half] = a - b;
            }
    double unit = 1.0 / sqrt((double)size);
    for (int64_t j = 0; j < size; j++) x[j] *= unit;
}

void farann_rotate(double *x, int64_t dim, const int8_t *signs) {
    int64_t size = 1;
    while (2 * size <= dim) size *= 2;
    for (int round = 0; round < FARANN_ROTATION_ROUNDS; round++) {
        for (int64_t j = 0; j < dim; j++) x[j] *= (double)signs[round * dim + j];
        hadamard(x, size);
        if (size < dim) hadamard(x + dim - size, size);
    }
}

static void rotated_row(const float *row, int64_t dim, const double *centre, int unit,
                        const int8_t *signs, double *z) {
    double scale = 1.0;
    if (unit) {
        double squares = 0.0;
        for (int64_t j = 0; j < dim; j++) squares += (double)row[j] * (double)row[j];
        scale = 1.0 / sqrt(squares);
    }
    for (int64_t j = 0; j < dim; j++) z[j] = (double)row[j] * scale - centre[j];
    farann_rotate(z, dim, signs);
}

static double largest_magnitude(const double *x, int64_t dim) {
    double largest = 0.0;
    for (int64_t j = 0; j < dim; j++) largest = fabs(x[j]) > largest ? fabs(x[j]) : largest;
    return largest;
}

void farann_code_extents(const float *rows, int64_t n, int64_t dim, const double *centre, int unit,
                         const int8_t *signs, double *scratch, double *extents) {
    for (int64_t i = 0; i < n; i++) {
        rotated_row(rows + i * dim, dim, centre, unit, signs, scratch);
        extents[i] = largest_magnitude(scratch, dim);
    }
}

void farann_encode_rows(const float *rows, int64_t n, int64_t dim, const double *centre, int unit,
                        int squares, const int8_t *signs, double scale, double *scratch,
                        int8_t *codes, int32_t *sums, float *norms, double *largest) {
    const int64_t groups = (dim + FARANN_CODE_GROUP - 1) / FARANN_CODE_GROUP;
    const double inverse = 1.0 / scale;
    for (int64_t i = 0; i < n; i++) {
        int64_t lane = i % FARANN_CODE_PANEL;
        int8_t *panel = codes + (i - lane) * groups * FARANN_CODE_GROUP;
        double z2 = 0.0, e2 = 0.0;
        int32_t sum = 0;
        rotated_row(rows + i * dim, dim, centre, unit, signs, scratch);
        if (!(largest_magnitude(scratch, dim) <= 127.0 * scale * (1.0 + 1e-12))) {
            norms[i] = NAN;
            continue;
        }
        for (int64_t j = 0; j < dim; j++) {
            double c = rint(fmin(127.0, fmax(-127.0, scratch[j] * inverse)));
            double e = scratch[j] - c * scale;
            z2 += scratch[j] * scratch[j];
            e2 += e * e;
            sum += (int32_t)c;
            panel[((j / FARANN_CODE_GROUP) * FARANN_CODE_PANEL + lane) * FARANN_CODE_GROUP +
                  j % FARANN_CODE_GROUP] = (int8_t)c;
        }
        sums[i] = sum;
        norms[i] = squares ? (float)z2 : 0.0f;
        largest[0] = e2 > largest[0] ? e2 : largest[0];
        largest[1] = z2 > largest[1] ? z2 : largest[1];
    }
    for (int64_t i = n; i % FARANN_CODE_PANEL != 0; i++) norms[i] = NAN;
}

double farann_encode_query(farann_metric metric, double sign, const double *exact, int64_t dim,
                           const double *centre, const int8_t *signs,
                           const farann_code_bounds *rows, const farann_query *prepared,
                           int zero_point, double *scratch, uint32_t *codes, int64_t stride,
                           float *step) {
    const int64_t groups = (dim + FARANN_CODE_GROUP - 1) / FARANN_CODE_GROUP;
    for (int64_t j = 0; j < dim; j++)
        scratch[j] = farann_query_weight(metric, sign, exact[j], centre[j], prepared->query_norm);
    farann_rotate(scratch, dim, signs);

    double largest = largest_magnitude(scratch, dim);
    double t = largest > 0.0 ? largest / (double)(zero_point - 1) : 1.0 / rows->scale;
    double coded2 = 0.0, left2 = 0.0;
    for (int64_t g = 0; g < groups; g++) {
        uint32_t group = 0;
        for (int i = 0; i < FARANN_CODE_GROUP; i++) {
            int64_t j = g * FARANN_CODE_GROUP + i;
            double u = j < dim ? rint(scratch[j] / t) : 0.0;
            double left = j < dim ? scratch[j] - u * t : 0.0;
            coded2 += u * t * u * t;
            left2 += left * left;
            group |= (uint32_t)((int)u + zero_point) << (8 * i);
        }
        codes[g * stride] = group;
    }
    *step = (float)(rows->scale * t);
    double slack = farann_query_slack(prepared, rows->norm * rows->norm);
    if (slack < 0.0 || !(*step > 1e-30f && *step < 1e30f)) return -1.0;
    /* <a, z> = <t u, s c> + <t u, e> + <f, z>; then what float32 rounds, and the rotations. */
    double coded = sqrt(coded2), left = sqrt(left2);
    slack += (coded * rows->residual + left * rows->norm) * (1.0 + 1e-9);
    slack += 0x1p-22 * (coded * (rows->norm + rows->residual) + rows->norm * rows->norm);
    slack += 0x1p-40 * prepared->weight_norm * rows->norm;
    return slack;
}
