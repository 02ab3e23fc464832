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
    *sum = f64x8_add(*sum, f64x8_mul(q, x));
    if (what == PRODUCTS_AND_SQUARES) *squares = f64x8_add(*squares, f64x8_mul(x, x));
}

/*
 * One row at a time: memory is then read in order, which lets the hardware prefetch; several
 * rows side by side ran at a third of the bandwidth.
 */
WORD double sum_row(int what, const float *row, int64_t dim, const double *query,
                    double *squares) {
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

WORD void keys_of_rows(farann_metric metric, const float *rows, const int64_t *positions, int64_t n,
                       int64_t dim, const double *query, double *keys) {
    const int what = metric == FARANN_L2    ? SQUARED_DIFFERENCES
                     : metric == FARANN_DOT ? PRODUCTS
                                            : PRODUCTS_AND_SQUARES;
    int64_t i = 0;
    for (; positions && i + 4 <= n; i += 4) {
        const float *row[4];
        double sums[4], squares[4];
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

KERNEL(void) NAME(keys_dot_f64)(const float *rows, const int64_t *positions, int64_t n,
                                int64_t dim, const double *query, double *keys) {
    keys_of_rows(FARANN_DOT, rows, positions, n, dim, query, keys);
}

KERNEL(void) NAME(keys_cosine_f64)(const float *rows, const int64_t *positions, int64_t n,
                                   int64_t dim, const double *query, double *keys) {
    keys_of_rows(FARANN_COSINE, rows, positions, n, dim, query, keys);
}

/* ---- float32 block scoring ---- */

WORD double reciprocal_norm(const float *row, int64_t dim) {
    f64x8 squares = f64x8_zero();
    int64_t j = 0;
    for (; j + 8 <= dim; j += 8) {
        f64x8 x = f64x8_from_f32(row + j);
        squares = f64x8_add(squares, f64x8_mul(x, x));
    }
    if (j < dim) {
        f64x8 x = f64x8_from_f32_first(row + j, dim - j);
        squares = f64x8_add(squares, f64x8_mul(x, x));
    }
    return 1.0 / sqrt(f64x8_sum(squares));
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
            for (int v = 0; v < PANEL_VECTORS; v++) f32_store(scores[t] + v * F32_LANES, score[t][v]);
        for (int t = 0; t < TILE_QUERIES; t++) append_rows(&candidates[t], mask[t], scores[t], i);
    }
}

/* One vector of coordinates of one row into <weights, y> and |y|^2. */
WORD void score_step(f32v x, const float *centre, const float *weights, f32v *product,
                     f32v *norm) {
    f32v y = f32_sub(x, f32_load(centre));
    *product = f32_fma(f32_load(weights), y, *product);
    *norm = f32_fma(y, y, *norm);
}

WORD void score_row(const float *row, int64_t dim, const float *centre, const float *weights,
                    float *product, float *norm) {
    f32v p0 = f32_set1(0.0f), p1 = p0, n0 = p0, n1 = p0;
    int64_t j = 0;
    for (; j + 2 * F32_LANES <= dim; j += 2 * F32_LANES) {
        score_step(f32_load(row + j), centre + j, weights + j, &p0, &n0);
        score_step(f32_load(row + j + F32_LANES), centre + j + F32_LANES, weights + j + F32_LANES,
                   &p1, &n1);
    }
    if (j + F32_LANES <= dim) {
        score_step(f32_load(row + j), centre + j, weights + j, &p0, &n0);
        j += F32_LANES;
    }
    if (j < dim)
        score_step(f32_load_first(row + j, dim - j), centre + j, weights + j, &p1, &n1);
    f32_sums(f32_add(p0, p1), f32_add(n0, n1), product, norm);
}

KERNEL(void) NAME(score_rows_f32)(const float *rows, const int64_t *positions, int64_t n,
                                  int64_t dim, const float *centre, const float *weights, int unit,
                                  float bias_sign, float *scores, float *norms) {
    float smallest = INFINITY, largest = 0.0f;
    for (int64_t i = 0; i < n; i++) {
        float product, norm;
        score_row(rows + (positions ? positions[i] : i) * dim, dim, centre, weights, &product,
                  &norm);
        scores[i] = unit ? product / sqrtf(norm) : product + bias_sign * norm;
        /* Written so that a NaN, once there, stays. */
        if (!(norm >= smallest) && smallest == smallest) smallest = norm;
        if (!(norm <= largest) && largest == largest) largest = norm;
    }
    norms[0] = smallest;
    norms[1] = largest;
}

KERNEL(void) NAME(select_f32)(const float *scores, int64_t n, float threshold,
                              farann_candidates *candidates) {
    f32v limit = f32_set1(threshold);
    int64_t i = 0;
    for (; i + F32_LANES <= n; i += F32_LANES) {
        uint32_t mask = f32_greater(f32_load(scores + i), limit);
        if (FARANN_UNLIKELY(mask)) append_rows(candidates, mask, scores + i, i);
    }
    for (; i < n; i++)
        if (scores[i] > threshold) append_rows(candidates, 1, scores + i, i);
}

/* ---- 8-bit codes ---- */

/* Vectors of sums in a panel, and in a tile; the rows of a tile's panels fit a 32-bit mask. */
enum { PANEL_I32 = FARANN_CODE_PANEL / I32_LANES };
enum { MOST_VECTORS = CODE_PANELS * PANEL_I32, MOST_SUMS = CODE_QUERIES * MOST_VECTORS };

/* What panels hold, and of the last what is read; a constant at each call. */
enum { WHOLE, BOTH_HALVES, UPPER_HALVES };

/*
 * Of a panel and each query: what sums must be greater than, in whole numbers, or the part of it
 * that doesn't depend on a row's square.
 */
typedef union {
    int32_t whole[FARANN_BARS];
    float part[FARANN_BARS];
} farann_panel_limits;

WORD void set_limits(const int width, const int held, const int squared,
                     const farann_coded_rows *rows, int64_t panel, const farann_code_bars *bars,
                     farann_panel_limits *limits) {
    for (int lane = 0; lane < width; lane += F32_LANES) {
        f32v limit = f32_fma(f32_set1(rows->weights[panel]), f32_load(bars->threshold + lane),
                             f32_load(bars->offset + lane));
        if (held == UPPER_HALVES)
            limit = f32_fma(f32_set1(rows->unknown[panel]), f32_load(bars->unknown + lane), limit);
        if (squared)
            f32_store(limits->part + lane, limit);
        else
            i32_store(limits->whole + lane, i32_from_f32(limit));
    }
}

/* What the sums of a vector of rows must be greater than, for query t. */
WORD i32v row_limits(const int squared, const farann_coded_rows *rows, int64_t row,
                     const farann_code_bars *bars, const farann_panel_limits *limits, int t) {
    if (!squared) return i32_set1(limits->whole[t]);
    return i32_from_f32(f32_fma(f32_load(rows->squares + row), f32_set1(bars->square[t]),
                                f32_set1(limits->part[t])));
}

WORD void append_coded(farann_candidates *list, uint32_t mask, const int32_t *sums,
                       const farann_coded_rows *rows, int64_t first, const farann_code_bars *bars,
                       int t, int64_t row) {
    int64_t count = list->count;
    while (mask) {
        int r = FARANN_COUNT_TRAILING_ZEROS(mask);
        mask &= mask - 1;
        float square = rows->squares ? rows->squares[first + r] * bars->sign : 0.0f;
        list->scores[count] = ((float)sums[r] * bars->step[t] + bars->origin[t] + square) /
                              rows->weights[(first + r) / FARANN_CODE_PANEL];
        list->slots[count] = row + r;
        count++;
    }
    list->count = count;
}

/*
 * Appends the rows that pass, of some vectors of rows for each query. Seldom called, and apart from
 * the scan, which needs all registers.
 */
FARANN_NOINLINE KERNEL(void) NAME(collect_codes)(int width, int vectors,
                                                 const farann_coded_rows *rows, int64_t first,
                                                 int64_t row, const farann_panel_limits *limits,
                                                 const farann_code_bars *bars, const int32_t *sums,
                                                 farann_candidates *candidates) {
    for (int t = 0; t < width; t++, sums += vectors * I32_LANES) {
        uint32_t mask = 0;
        for (int v = 0; v < vectors; v++) {
            const farann_panel_limits *limit = limits + v / PANEL_I32;
            i32v least = rows->squares
                             ? row_limits(1, rows, first + v * I32_LANES, bars, limit, t)
                             : row_limits(0, rows, first + v * I32_LANES, bars, limit, t);
            mask |= i32_greater(i32_load(sums + v * I32_LANES), least) << (v * I32_LANES);
        }
        if (mask) append_coded(&candidates[t], mask, sums, rows, first, bars, t, row);
    }
}

/* The lower halves of the v-th vector of a panel's rows, from quads of rows that lie apart. */
WORD i32v load_lower(const uint8_t *lower, int v, int64_t panel_bytes) {
    const int64_t quad_bytes = panel_bytes / (FARANN_CODE_PANEL / FARANN_CODE_QUAD);
    return i32_load_quads(lower + v * (I32_LANES / FARANN_CODE_QUAD) * quad_bytes, quad_bytes);
}

/* Whole codes of the first or the second group of a pair. */
WORD i32v join_halves(const int second, i32v upper, i32v lower) {
    const i32v high_bits = i32_set1((int32_t)0xf0f0f0f0u);
    return second ? i32_select(high_bits, upper, i32_shift_right4(lower))
                  : i32_select(high_bits, i32_shift_left4(upper), lower);
}

/* Adds the products of one group of coordinates; of halves, the first or the second of a pair. */
WORD void add_group(const int width, const int panels, const int held, const int second,
                    const uint8_t *panel, const uint8_t *lower, int64_t panel_bytes,
                    const uint32_t *queries, i32v *sum) {
    const int vectors = panels * PANEL_I32;
    const i32v low_bits = i32_set1(0x0f0f0f0f);
    i32v c[MOST_VECTORS];
    for (int v = 0; v < vectors; v++) {
        int64_t at = (v / PANEL_I32) * panel_bytes;
        c[v] = i32_load(panel + at + (v % PANEL_I32) * 4 * I32_LANES);
        if (held == UPPER_HALVES)
            c[v] = i32_and(second ? i32_shift_right4(c[v]) : c[v], low_bits);
        if (held != BOTH_HALVES) continue;
        c[v] = join_halves(second, c[v], load_lower(lower + at, v % PANEL_I32, panel_bytes));
    }
    for (int t = 0; t < width; t++) {
        i32v u = i32_set1((int32_t)queries[t]);
        for (int v = 0; v < vectors; v++)
            sum[t * vectors + v] = i32_dot4(sum[t * vectors + v], c[v], u);
    }
}

/* Bytes from one panel to the next. */
WORD int64_t bytes_of_panel(const int held, int64_t groups) {
    return (held == WHOLE ? groups : (groups + 1) / 2) * FARANN_CODE_PANEL * FARANN_CODE_GROUP;
}

/* `width` queries against `panels` panels: constants at each call, so that sums are registers. */
WORD void scan_code_panels(const int width, const int panels, const int held, const int squared,
                           const farann_coded_rows *rows, int64_t start, int64_t row,
                           const farann_panel_limits *limits, const farann_coded_tile *tile,
                           farann_candidates *candidates) {
    enum { GROUP_BYTES = FARANN_CODE_PANEL * FARANN_CODE_GROUP };
    const int vectors = panels * PANEL_I32;
    const int64_t groups = rows->groups, panel_bytes = bytes_of_panel(held, groups);
    const int64_t first = start + row, at = first / FARANN_CODE_PANEL * panel_bytes;
    const uint8_t *panel = rows->panels + at, *lower = held == BOTH_HALVES ? rows->lower + at : panel;
    const uint32_t *queries = tile->codes;
    i32v sum[MOST_SUMS];
    for (int t = 0; t < width; t++)
        for (int v = 0; v < vectors; v++) sum[t * vectors + v] = i32_set1(0);
    if (held == WHOLE)
        for (int64_t g = 0; g < groups; g++) {
            add_group(width, panels, held, 0, panel, lower, panel_bytes, queries, sum);
            panel += GROUP_BYTES;
            queries += width;
        }
    else
        for (int64_t p = 0; p < groups / 2; p++) {
            add_group(width, panels, held, 0, panel, lower, panel_bytes, queries, sum);
            add_group(width, panels, held, 1, panel, lower, panel_bytes, queries + width, sum);
            panel += GROUP_BYTES;
            lower += FARANN_CODE_QUAD * FARANN_CODE_GROUP;
            queries += 2 * width;
        }
    if (held != WHOLE && groups % 2)
        add_group(width, panels, held, 0, panel, lower, panel_bytes, queries, sum);
    /* Whether any row passes is asked once, of the largest excess: nearly always none does. */
    i32v most = i32_set1(0);
    for (int t = 0; t < width; t++)
        for (int v = 0; v < vectors; v++)
            most = i32_max(most, i32_sub(sum[t * vectors + v],
                                         row_limits(squared, rows, first + v * I32_LANES, tile->bars,
                                                    limits + v / PANEL_I32, t)));
    if (!FARANN_UNLIKELY(i32_greater(most, i32_set1(0)))) return;
    int32_t sums[MOST_SUMS * I32_LANES];
    /* Two short loops, which compilers unroll: one long one would put all sums in memory. */
    for (int t = 0; t < width; t++)
        for (int v = 0; v < vectors; v++)
            i32_store(sums + (t * vectors + v) * I32_LANES, sum[t * vectors + v]);
    NAME(collect_codes)(width, vectors, rows, first, row, limits, tile->bars, sums, candidates);
}

/* The limits of some panels first: they would cost more one by one. */
WORD void scan_all_panels(const int width, const int panels, const int held, const int squared,
                          const farann_coded_rows *rows, int64_t start, int64_t n,
                          const farann_coded_tile *tile, farann_candidates *candidates) {
    enum { PANELS_AT_ONCE = 32 };
    farann_panel_limits limits[PANELS_AT_ONCE];
    const int64_t n_panels = (n + FARANN_CODE_PANEL - 1) / FARANN_CODE_PANEL;
    for (int64_t at = 0; at < n_panels; at += PANELS_AT_ONCE) {
        int64_t p = 0, count = n_panels - at < PANELS_AT_ONCE ? n_panels - at : PANELS_AT_ONCE;
        for (int64_t i = 0; i < count; i++)
            set_limits(width, held, squared, rows, start / FARANN_CODE_PANEL + at + i, tile->bars,
                       limits + i);
        for (; p + panels <= count; p += panels)
            scan_code_panels(width, panels, held, squared, rows, start,
                             (at + p) * FARANN_CODE_PANEL, limits + p, tile, candidates);
        for (; p < count; p++)
            scan_code_panels(width, 1, held, squared, rows, start, (at + p) * FARANN_CODE_PANEL,
                             limits + p, tile, candidates);
    }
}

/* A branch for a whole scan: one in its midst would put all sums in memory. */
WORD void scan_codes(const int width, const int panels, const int held,
                     const farann_coded_rows *rows, int64_t start, int64_t n,
                     const farann_coded_tile *tile, farann_candidates *candidates) {
    if (rows->squares)
        scan_all_panels(width, panels, held, 1, rows, start, n, tile, candidates);
    else
        scan_all_panels(width, panels, held, 0, rows, start, n, tile, candidates);
}

KERNEL(void) NAME(scan_codes_i8)(const farann_coded_rows *rows, int64_t start, int64_t n,
                                 const farann_coded_tile *tile, farann_candidates *candidates) {
    if (rows->lower)
        scan_codes(CODE_QUERIES, CODE_PANELS, BOTH_HALVES, rows, start, n, tile, candidates);
    else
        scan_codes(CODE_QUERIES, CODE_PANELS, WHOLE, rows, start, n, tile, candidates);
}

KERNEL(void) NAME(scan_upper_i4)(const farann_coded_rows *rows, int64_t start, int64_t n,
                                 const farann_coded_tile *tile, farann_candidates *candidates) {
    scan_codes(CODE_QUERIES, CODE_PANELS, UPPER_HALVES, rows, start, n, tile, candidates);
}

/* For one query one panel at a time, so that memory is read in order. */
KERNEL(void) NAME(scan_codes_one_i8)(const farann_coded_rows *rows, int64_t start, int64_t n,
                                     const farann_coded_tile *tile,
                                     farann_candidates *candidates) {
    if (rows->lower)
        scan_codes(1, 1, BOTH_HALVES, rows, start, n, tile, candidates);
    else
        scan_codes(1, 1, WHOLE, rows, start, n, tile, candidates);
}

KERNEL(void) NAME(scan_upper_one_i4)(const farann_coded_rows *rows, int64_t start, int64_t n,
                                     const farann_coded_tile *tile,
                                     farann_candidates *candidates) {
    scan_codes(1, 1, UPPER_HALVES, rows, start, n, tile, candidates);
}

/* <u, c + 128> of one row whose codes lie side by side. */
WORD int32_t dot_codes(const uint8_t *row, const uint32_t *query, int64_t groups) {
    i32v sum = i32_set1(0);
    int64_t g = 0;
    for (; g + I32_LANES <= groups; g += I32_LANES)
        sum = i32_dot4(sum, i32_load(row + g * FARANN_CODE_GROUP), i32_load(query + g));
    if (g < groups)
        sum = i32_dot4(sum, i32_load_first(row + g * FARANN_CODE_GROUP, groups - g),
                       i32_load_first(query + g, groups - g));
    return i32_sum(sum);
}

/* Where the lower halves of a row in a panel begin. */
WORD const uint8_t *lower_codes(const farann_coded_rows *rows, int64_t row) {
    const int64_t quad_bytes = (rows->groups + 1) / 2 * FARANN_CODE_QUAD * FARANN_CODE_GROUP;
    return rows->lower + row / FARANN_CODE_QUAD * quad_bytes +
           row % FARANN_CODE_QUAD * FARANN_CODE_GROUP;
}

/* The same of a row in a panel: its codes are put together first, some at a time. */
WORD int32_t dot_panel_codes(const farann_coded_rows *rows, int64_t row, const uint32_t *query) {
    enum { PAIRS_AT_ONCE = 32 };
    const int64_t groups = rows->groups, pairs = (groups + 1) / 2;
    const uint8_t *upper_row = rows->panels +
                               (row / FARANN_CODE_PANEL * pairs * FARANN_CODE_PANEL +
                                row % FARANN_CODE_PANEL) * FARANN_CODE_GROUP;
    const uint8_t *lower_row = lower_codes(rows, row);
    uint32_t sum = 0, codes[2 * PAIRS_AT_ONCE];
    for (int64_t p = 0; p < pairs; p += PAIRS_AT_ONCE) {
        int64_t count = pairs - p < PAIRS_AT_ONCE ? pairs - p : PAIRS_AT_ONCE;
        int64_t left = groups - 2 * p;
        for (int64_t i = 0; i < count; i++) {
            uint32_t upper, lower;
            memcpy(&upper, upper_row + (p + i) * FARANN_CODE_PANEL * FARANN_CODE_GROUP,
                   sizeof upper);
            memcpy(&lower, lower_row + (p + i) * FARANN_CODE_QUAD * FARANN_CODE_GROUP,
                   sizeof lower);
            codes[2 * i] = (upper << 4 & 0xf0f0f0f0u) | (lower & 0x0f0f0f0fu);
            codes[2 * i + 1] = (upper & 0xf0f0f0f0u) | (lower >> 4 & 0x0f0f0f0fu);
        }
        sum += (uint32_t)dot_codes((const uint8_t *)codes, query + 2 * p,
                                   left < 2 * count ? left : 2 * count);
    }
    return (int32_t)sum;
}

/* Ask for what refining a row will read; rows lie far apart. */
WORD void prefetch_codes(const farann_coded_rows *rows, int64_t row) {
    enum { MOST_BYTES = 256 };
    const int64_t row_bytes = rows->groups * FARANN_CODE_GROUP;
    const uint8_t *from = rows->whole ? rows->whole + row * row_bytes : lower_codes(rows, row);
    int64_t bytes = rows->whole ? row_bytes : 2 * row_bytes;
    /* The first lines; the rest follows by itself. */
    for (int64_t j = 0; j < bytes && j < MOST_BYTES; j += 64) FARANN_PREFETCH(from + j);
}

KERNEL(void) NAME(refine_codes_i8)(const farann_coded_rows *rows, int64_t start,
                                   const farann_coded_tile *query, farann_candidates *list,
                                   int64_t from) {
    enum { AHEAD = 8 };
    const farann_code_bars *bars = query->bars;
    const int64_t row_bytes = rows->groups * FARANN_CODE_GROUP;
    int64_t kept = from;
    for (int64_t i = from; i < list->count && i < from + AHEAD; i++)
        prefetch_codes(rows, start + list->slots[i]);
    for (int64_t i = from; i < list->count; i++) {
        int64_t row = start + list->slots[i];
        if (i + AHEAD < list->count) prefetch_codes(rows, start + list->slots[i + AHEAD]);
        double units, weight, square = rows->squares ? (double)rows->squares[row] : 0.0;
        if (rows->whole) {
            units = dot_codes(rows->whole + row * row_bytes, query->codes, rows->groups);
            weight = (double)rows->weights[row];
        } else {
            units = dot_panel_codes(rows, row, query->codes);
            weight = (double)rows->weights[row / FARANN_CODE_PANEL];
        }
        list->slots[kept] = list->slots[i];
        list->scores[kept] = (float)((units * (double)bars->step[0] + (double)bars->origin[0] +
                                      (double)bars->sign * square) / weight);
        kept += units > (double)bars->threshold[0] * weight + (double)bars->square[0] * square +
                            (double)bars->offset[0];
    }
    list->count = kept;
}

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

/* The Walsh-Hadamard transform of a power of two of coordinates, not scaled. */
WORD void hadamard(double *x, int64_t size) {
    int64_t half = 1;
    if (size >= 8) {
        for (int64_t i = 0; i < size; i += 8)
            f64x8_store(x + i, f64x8_butterflies(f64x8_load(x + i)));
        half = 8;
    }
    for (; half < size; half *= 2)
        for (int64_t i = 0; i < size; i += 2 * half) {
            double *FARANN_RESTRICT low = x + i, *FARANN_RESTRICT high = x + i + half;
            for (int64_t j = 0; j < half; j++) {
                double a = low[j], b = high[j];
                low[j] = a + b;
                high[j] = a - b;
            }
        }
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

WORD void project(int width, const double *basis, int64_t dim, const double *x,
                  double *products) {
    f64x8 sum[4];
    for (int i = 0; i < width; i++) sum[i] = f64x8_zero();
    for (int64_t j = 0; j < dim; j += 8)
        for (int i = 0; i < width; i++)
            sum[i] = f64x8_add(sum[i], f64x8_mul(f64x8_load(basis + i * dim + j), f64x8_load(x + j)));
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
    CODE_QUERIES,
    LARGEST_CODE,
    {NAME(keys_l2_f64), NAME(keys_dot_f64), NAME(keys_cosine_f64)},
    NAME(pack_rows_f32),
    NAME(scan_panels_f32),
    NAME(score_rows_f32),
    NAME(select_f32),
    NAME(scan_codes_i8),
    NAME(scan_codes_one_i8),
    NAME(scan_upper_i4),
    NAME(scan_upper_one_i4),
    NAME(refine_codes_i8),
    NAME(rotate_f64),
    NAME(project_f64),
    NAME(quantize_f64),
};
