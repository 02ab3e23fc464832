/*
 * The kernels, written once. Each kernels_<isa>.c includes its simd_<isa>.h and then this file,
 * which gives the functions farann_<verb>_<type>_<isa> and the table farann_kernels_<isa>.
 */
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "kernels.h"

#define PASTE_(a, b, c) a##_##b##_##c
#define PASTE(a, b, c) PASTE_(a, b, c)
#define NAME(verb_type) PASTE(farann, verb_type, FARANN_LEVEL)
#define KERNEL(type) FARANN_TARGET static type

enum { PANEL_ROWS = PANEL_VECTORS * F32_LANES, PACK_COLUMNS = 16 };

/* ---- canonical float64 keys ---- */

/* What is summed over the coordinates; a constant at each call, so the branches vanish. */
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
    enum { LINE = 16, MOST = 8 * LINE };
    for (int64_t j = 0; j < dim && j < MOST; j += LINE) FARANN_PREFETCH(row + j);
}

WORD void keys_of_rows(farann_metric metric, const float *rows, const int64_t *positions, int64_t n,
                       int64_t dim, const double *query, double *keys) {
    const int what = metric == FARANN_L2    ? SQUARED_DIFFERENCES
                     : metric == FARANN_DOT ? PRODUCTS
                                            : PRODUCTS_AND_SQUARES;
    enum { AHEAD = 8 };
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

/* |x|^2 as in canonical keys. */
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

/* ---- float32 block scoring ---- */

WORD double reciprocal_norm(const float *row, int64_t dim) {
    return 1.0 / sqrt(squares_of(row, dim));
}

/* Columns j .. j + width of four rows, centred and scaled, into lanes lane .. lane + 3. */
WORD void pack_columns(const float *const *row, int64_t j, int width, const double *centre,
                       const double *scale, float *panel, int lane) {
    float line[4][PACK_COLUMNS];
    for (int r = 0; r < 4; r++)
        for (int c = 0; c < width; c++)
            line[r][c] = (float)((double)row[r][j + c] * scale[r] - centre[j + c]);
    float *out = panel + j * PANEL_ROWS + lane;
    int c = 0;
    for (; c + 4 <= width; c += 4)
        f32_transpose4(line[0] + c, line[1] + c, line[2] + c, line[3] + c, out + c * PANEL_ROWS,
                       PANEL_ROWS);
    for (; c < width; c++)
        for (int r = 0; r < 4; r++) out[c * PANEL_ROWS + r] = line[r][c];
}

/* bias_sign * |y|^2 of a panel's rows; the largest |y|^2 of its first `count`. */
WORD double panel_norms(const float *panel, int64_t dim, int count, float bias_sign, float *bias) {
    f32v squares[PANEL_VECTORS];
    float norms[PANEL_ROWS];
    double largest = 0.0;
    for (int v = 0; v < PANEL_VECTORS; v++) squares[v] = f32_set1(0.0f);
    for (int64_t j = 0; j < dim; j++)
        for (int v = 0; v < PANEL_VECTORS; v++) {
            f32v y = f32_load(panel + j * PANEL_ROWS + v * F32_LANES);
            squares[v] = f32_fma(y, y, squares[v]);
        }
    for (int v = 0; v < PANEL_VECTORS; v++) f32_store(norms + v * F32_LANES, squares[v]);
    for (int r = 0; r < PANEL_ROWS; r++) {
        bias[r] = r < count ? (bias_sign == 0.0f ? 0.0f : bias_sign * norms[r]) : -INFINITY;
        if (r < count && !(norms[r] <= largest)) largest = norms[r];
    }
    return largest;
}

KERNEL(double) NAME(pack_rows_f32)(const float *rows, const int64_t *positions, int64_t n,
                                   int64_t dim, const double *centre, int unit, float bias_sign,
                                   float *panels, float *bias) {
    double largest = 0.0;
    for (int64_t i = 0; i < n; i += PANEL_ROWS) {
        int count = n - i < PANEL_ROWS ? (int)(n - i) : PANEL_ROWS;
        float *panel = panels + i * dim;
        const float *row[PANEL_ROWS];
        double scale[PANEL_ROWS];
        for (int r = 0; r < PANEL_ROWS; r++) {
            int64_t index = i + (r < count ? r : 0);
            row[r] = rows + (positions ? positions[index] : index) * dim;
            scale[r] = unit ? reciprocal_norm(row[r], dim) : 1.0;
        }
        int64_t whole = dim - dim % PACK_COLUMNS;
        for (int r = 0; r < PANEL_ROWS; r += 4) {
            for (int64_t j = 0; j < whole; j += PACK_COLUMNS)
                pack_columns(row + r, j, PACK_COLUMNS, centre, scale + r, panel, r);
            if (whole < dim)
                pack_columns(row + r, whole, (int)(dim - whole), centre, scale + r, panel, r);
        }
        double norm = panel_norms(panel, dim, count, bias_sign, bias + i);
        if (!(norm <= largest)) largest = norm;
    }
    return largest;
}

/* Appends rows of a vector of scores. */
WORD void append_rows(farann_candidates *list, uint32_t mask, const float *scores, int64_t row) {
    int64_t count = list->count;
    while (mask) {
        int r = FARANN_COUNT_TRAILING_ZEROS(mask);
        mask &= mask - 1;
        list->scores[count] = scores[r];
        list->slots[count] = row + r;
        count++;
    }
    list->count = count;
}

KERNEL(void) NAME(scan_panels_f32)(const float *FARANN_RESTRICT panels, int64_t n_rows, int64_t dim,
                                   const float *FARANN_RESTRICT bias,
                                   const float *FARANN_RESTRICT queries, const float *thresholds,
                                   farann_candidates *candidates) {
    for (int64_t i = 0; i < n_rows; i += PANEL_ROWS) {
        const float *panel = panels + i * dim;
        const float *query = queries;
        f32v score[TILE_QUERIES][PANEL_VECTORS];
        for (int t = 0; t < TILE_QUERIES; t++)
            for (int v = 0; v < PANEL_VECTORS; v++)
                score[t][v] = f32_load(bias + i + v * F32_LANES);
        for (int64_t j = 0; j < dim; j++) {
            f32v y[PANEL_VECTORS];
            for (int v = 0; v < PANEL_VECTORS; v++) y[v] = f32_load(panel + v * F32_LANES);
            for (int t = 0; t < TILE_QUERIES; t++) {
                f32v a = f32_set1(query[t]);
                for (int v = 0; v < PANEL_VECTORS; v++) score[t][v] = f32_fma(a, y[v], score[t][v]);
            }
            panel += PANEL_ROWS;
            query += TILE_QUERIES;
        }
        uint32_t mask[TILE_QUERIES], any = 0;
        for (int t = 0; t < TILE_QUERIES; t++) {
            f32v threshold = f32_set1(thresholds[t]);
            mask[t] = 0;
            for (int v = 0; v < PANEL_VECTORS; v++)
                mask[t] |= f32_greater(score[t][v], threshold) << (v * F32_LANES);
            any |= mask[t];
        }
        if (!FARANN_UNLIKELY(any)) continue;
        float scores[TILE_QUERIES][PANEL_ROWS];
        for (int t = 0; t < TILE_QUERIES; t++)
            for (int v = 0; v < PANEL_VECTORS; v++)
                f32_store(scores[t] + v * F32_LANES, score[t][v]);
        for (int t = 0; t < TILE_QUERIES; t++) append_rows(&candidates[t], mask[t], scores[t], i);
    }
}

#include "kernels_rows-inl.h"

KERNEL(void) NAME(select_f32)(const float *scores, int64_t n, float threshold,
                              farann_candidates *candidates) {
    const f32v limit = f32_set1(threshold);
    float *const kept = candidates->scores;
    int64_t *const numbers = candidates->slots;
    int64_t i = 0, count = candidates->count;
    for (; i + F32_LANES <= n; i += F32_LANES) {
        f32v score = f32_load(scores + i);
        uint32_t mask = f32_greater(score, limit);
        if (!mask) continue;
        /* There is room for whole vectors, as for all rows. */
        count += f32_compress(kept + count, numbers + count, mask, score, i);
    }
    for (; i < n; i++) {
        if (!(scores[i] > threshold)) continue;
        kept[count] = scores[i];
        numbers[count++] = i;
    }
    candidates->count = count;
}

KERNEL(int64_t) NAME(find_f32)(const float *scores, int64_t n, float threshold, int32_t *numbers) {
    const f32v limit = f32_set1(threshold);
    int64_t count = 0;
    for (int64_t i = 0; i < n; i += F32_LANES)
        count += i32_compress_numbers(numbers + count, f32_greater(f32_load(scores + i), limit),
                                      (int32_t)i);
    return count;
}

KERNEL(void) NAME(cap_scores_f32)(float *scores, const float *inv_norms, const float *sines,
                                  const float *cosines, int64_t n, float inv_scale, float scale,
                                  float offset) {
    const f32v one = f32_set1(1.0f), least = f32_set1(0.0f);
    for (int64_t i = 0; i < n; i += F32_LANES) {
        const f32v to_unit = f32_mul(f32_load(inv_norms + i), f32_set1(inv_scale));
        const f32v width = f32_load(cosines + i);
        f32v along = f32_mul(f32_sub(f32_load(scores + i), f32_set1(offset)), to_unit);
        along = f32_max(f32_min(along, width), f32_sub(least, one));
        const f32v across = f32_sqrt(f32_max(f32_sub(one, f32_mul(along, along)), least));
        const f32v best = f32_fma(along, width, f32_mul(across, f32_load(sines + i)));
        f32_store(scores + i, f32_fma(best, f32_set1(scale), f32_set1(offset)));
    }
}

KERNEL(void) NAME(largest_f32)(const float *scores, int64_t n, float *largest) {
    enum { VECTORS = FARANN_SCORE_GROUPS / F32_LANES };
    f32v most[VECTORS];
    int64_t i = 0;
    for (int v = 0; v < VECTORS; v++) most[v] = f32_set1(-INFINITY);
    for (; i + FARANN_SCORE_GROUPS <= n; i += FARANN_SCORE_GROUPS)
        for (int v = 0; v < VECTORS; v++)
            most[v] = f32_max(f32_load(scores + i + v * F32_LANES), most[v]);
    for (int v = 0; v < VECTORS; v++) {
        if (i + v * F32_LANES < n) most[v] = f32_max(f32_load(scores + i + v * F32_LANES), most[v]);
        f32_store(largest + v * F32_LANES, most[v]);
    }
}

#include "kernels_keys-inl.h"

#include "kernels_codes-inl.h"

#include "kernels_queries-inl.h"

/* ---- queries as codes ---- */

KERNEL(void) NAME(quantize_f64)(const double *a, int64_t n, double unit, uint8_t *codes,
                                double *sums) {
    const f64x8 t = f64x8_set1(unit), inverse = f64x8_set1(1.0 / unit), zero = f64x8_set1(128.0);
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

/* ---- rotations ---- */

/*
 * Some stages of the transform, from that on whose halves are so long: of as many vectors as they
 * combine, which stay in registers. Before them, if wanted, those within a vector.
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

const farann_kernels NAME(kernels) = {
    FARANN_LEVEL_NAME,
    PANEL_ROWS,
    TILE_QUERIES,
    KEY_ROWS,
    KEY_QUERIES,
    CODE_QUERIES,
    CODE_PANELS * FARANN_CODE_PANEL,
    TILE_GROUPS,
    FEW_TILES,
    LARGEST_CODE,
    NAME(begin),
    NAME(end),
    {NAME(keys_l2_f64), NAME(keys_dot_f64), NAME(keys_cosine_f64)},
    NAME(pack_rows_f64),
    NAME(box_f32),
    {NAME(scan_keys_l2_f64), NAME(scan_keys_dot_f64), NAME(scan_keys_cosine_f64)},
    NAME(pack_rows_f32),
    NAME(scan_panels_f32),
    NAME(score_rows_f32),
    NAME(select_f32),
    NAME(find_f32),
    NAME(cap_scores_f32),
    NAME(largest_f32),
    NAME(gather_codes),
    NAME(scan_codes_i8),
    NAME(scan_codes_one_i8),
    NAME(scan_upper_i4),
    NAME(scan_upper_one_i4),
    NAME(score_codes_i8),
    NAME(score_codes_one_i8),
    NAME(join_codes_i8),
    NAME(refine_codes_i8),
    NAME(rotate_f64),
    NAME(project_f64),
    NAME(quantize_f64),
    NAME(widen_f32),
    NAME(weigh_f64),
    NAME(largest_f64),
};
