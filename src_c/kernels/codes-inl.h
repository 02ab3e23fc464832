/*
 * The kernels of codes: scanning panels and scoring single rows again. Included by all-inl.h.
 */

/* Vectors of sums in a panel. */
enum { PANEL_I32 = FARANN_CODE_PANEL / I32_LANES };

/* The codes that a scan reads: whole, both nibbles, high nibbles alone; a constant at each call. */
enum { WHOLE, BOTH_NIBBLES, HIGH_NIBBLES };

/* Limits that the sums of a panel must exceed for a vector of queries, but for squares of rows. */
WORD f32v limits_at(const int held, const farann_coded_rows *rows, int64_t panel,
                    const farann_pass_thresholds *bars, int lane) {
    f32v limit = f32_fma(f32_set1(rows->inv_scales[panel]), f32_load(bars->threshold + lane),
                         f32_load(bars->offset + lane));
    if (held != HIGH_NIBBLES) return limit;
    return f32_fma(f32_set1(rows->low_nibble_norm[panel]), f32_load(bars->low_nibble_norm + lane),
                   limit);
}

/* The scale of a row's panel, so that scores take a product in place of a quotient. */
WORD f32v scale_at(const farann_coded_rows *rows, int64_t row) {
    return f32_set1(1.0f / rows->inv_scales[row / FARANN_CODE_PANEL]);
}

/* The scores of a vector of rows of that scale for query t, by their sums. */
WORD f32v scores_of(const farann_coded_rows *rows, int64_t row, f32v scale,
                    const farann_pass_thresholds *bars, int t, i32v sums) {
    f32v score = f32_fma(f32_from_i32(sums), f32_set1(bars->step[t]), f32_set1(bars->origin[t]));
    if (rows->squares) score = f32_fma(f32_load(rows->squares + row), f32_set1(bars->sign), score);
    return f32_mul(score, scale);
}

/* Write the scores of some panels for `width` queries, `stride` floats apart, by their sums. */
WORD void write_scores(const int width, const int panels, const farann_coded_rows *rows,
                       int64_t first, const farann_pass_thresholds *bars, const i32v *sum,
                       float *scores, int64_t stride) {
    const int vectors = panels * PANEL_I32;
    f32v scale[CODE_PANELS];
    for (int p = 0; p < panels; p++) scale[p] = scale_at(rows, first + p * FARANN_CODE_PANEL);
    for (int t = 0; t < width; t++)
        for (int v = 0; v < vectors; v++) {
            const int64_t row = first + v * I32_LANES;
            f32_store(scores + t * stride + row,
                      scores_of(rows, row, scale[v / PANEL_I32], bars, t, sum[t * vectors + v]));
        }
}

/* The low nibbles of the v-th vector of a panel's rows, from quads of rows that lie apart. */
WORD i32v load_low(const uint8_t *low, int v, int64_t panel_bytes) {
    const int64_t quad_bytes = panel_bytes / (FARANN_CODE_PANEL / FARANN_CODE_QUAD);
    return i32_load_quads(low + v * (I32_LANES / FARANN_CODE_QUAD) * quad_bytes, quad_bytes);
}

/* Whole codes of the first or the second group of a pair. */
WORD i32v join_nibbles(const int second, i32v high, i32v low) {
    const i32v high_bits = i32_set1((int32_t)0xf0f0f0f0u);
    return second ? i32_select(high_bits, high, i32_shift_right4(low))
                  : i32_select(high_bits, i32_shift_left4(high), low);
}

/*
 * The v-th vector of a panel's codes of one group; of nibbles, of the first or second of a pair.
 */
WORD i32v load_group(const int held, const int second, const uint8_t *panel, const uint8_t *low,
                     int v, int64_t panel_bytes) {
    i32v c = i32_load(panel + v * 4 * I32_LANES);
    if (held == HIGH_NIBBLES)
        return i32_and(second ? i32_shift_right4(c) : c, i32_set1(0x0f0f0f0f));
    return held == BOTH_NIBBLES ? join_nibbles(second, c, load_low(low, v, panel_bytes)) : c;
}

/* Adds the products of one group of coordinates; of nibbles, the first or the second of a pair. */
WORD void add_group(const int width, const int panels, const int held, const int second,
                    const uint8_t *panel, const uint8_t *low, int64_t panel_bytes,
                    const uint32_t *queries, i32v *sum) {
    const int vectors = panels * PANEL_I32;
    i32v c[CODE_PANELS * PANEL_I32];
    for (int v = 0; v < vectors; v++) {
        int64_t at = (v / PANEL_I32) * panel_bytes;
        c[v] = load_group(held, second, panel + at, low + at, v % PANEL_I32, panel_bytes);
    }
    if (width == 1) {
        for (int v = 0; v < vectors; v++) sum[v] = i32_dot4_all(sum[v], c[v], queries);
        return;
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

#ifdef FARANN_AMX
#include "kernels/code_tiles_amx-inl.h"
#else
#include "kernels/code_tiles-inl.h"
#endif

WORD void score_codes(const int held, const farann_coded_rows *rows, int64_t n,
                      const farann_coded_tile *tile, float *scores) {
    enum { STEP = CODE_PANELS * FARANN_CODE_PANEL };
    int64_t row = 0;
    for (; row + STEP <= n; row += STEP)
        score_code_panels(CODE_PANELS, held, (n - row - STEP) / FARANN_CODE_PANEL, rows, row, tile,
                          scores, n);
    for (; row < n; row += FARANN_CODE_PANEL)
        score_code_panels(1, held, (n - row) / FARANN_CODE_PANEL - 1, rows, row, tile, scores, n);
}

KERNEL(void) NAME(score_codes_i8)(const farann_coded_rows *rows, int64_t n,
                                  const farann_coded_tile *tile, float *scores) {
    if (rows->low_nibbles)
        score_codes(BOTH_NIBBLES, rows, n, tile, scores);
    else
        score_codes(WHOLE, rows, n, tile, scores);
}

/* A branch for a whole scan: one in its midst would put all sums in memory. */
WORD void scan_codes(const int width, const int held, const farann_coded_rows *rows, int64_t n,
                     const farann_coded_tile *tile, farann_candidates *candidates) {
    if (rows->squares)
        scan_all_panels(width, held, 1, rows, n, tile, candidates);
    else
        scan_all_panels(width, held, 0, rows, n, tile, candidates);
}

WORD void scan_held_codes(const int width, const farann_coded_rows *rows, int high_alone, int64_t n,
                          const farann_coded_tile *tile, farann_candidates *candidates) {
    if (high_alone)
        scan_codes(width, HIGH_NIBBLES, rows, n, tile, candidates);
    else if (rows->low_nibbles)
        scan_codes(width, BOTH_NIBBLES, rows, n, tile, candidates);
    else
        scan_codes(width, WHOLE, rows, n, tile, candidates);
}

/* Apart: in one function with the others GCC puts some of their sums in memory. */
FARANN_NOINLINE static KERNEL(void) NAME(scan_high)(const farann_coded_rows *rows, int64_t n,
                                                    const farann_coded_tile *tile,
                                                    farann_candidates *candidates) {
    scan_codes(CODE_QUERIES, HIGH_NIBBLES, rows, n, tile, candidates);
}

FARANN_NOINLINE static KERNEL(void) NAME(scan_half)(const farann_coded_rows *rows, int high_alone,
                                                    int64_t n, const farann_coded_tile *tile,
                                                    farann_candidates *candidates) {
    scan_held_codes(HALF_CODE_TILE, rows, high_alone, n, tile, candidates);
}

KERNEL(void) NAME(scan_codes_i8)(const farann_coded_rows *rows, int high_alone, int64_t n,
                                 const farann_coded_tile *tile, farann_candidates *candidates) {
    if (HALF_CODE_TILE && tile->count <= HALF_CODE_TILE)
        NAME(scan_half)(rows, high_alone, n, tile, candidates);
    else if (high_alone)
        NAME(scan_high)(rows, n, tile, candidates);
    else
        scan_held_codes(CODE_QUERIES, rows, 0, n, tile, candidates);
}

#include "kernels/codes_for_one-inl.h"

KERNEL(void) NAME(join_codes_i8)(const farann_coded_rows *rows, int64_t n, uint8_t *panels) {
    enum { GROUP_BYTES = FARANN_CODE_PANEL * FARANN_CODE_GROUP };
    const int64_t groups = rows->groups, panel_bytes = bytes_of_panel(BOTH_NIBBLES, groups);
    for (int64_t at = 0; at < n / FARANN_CODE_PANEL * panel_bytes; at += panel_bytes) {
        const uint8_t *high = rows->panels + at, *low = rows->low_nibbles + at;
        for (int64_t g = 0; g < groups; g++, panels += GROUP_BYTES) {
            for (int v = 0; v < PANEL_I32; v++)
                i32_store((int32_t *)panels + v * I32_LANES,
                          g % 2 ? load_group(BOTH_NIBBLES, 1, high, low, v, panel_bytes)
                                : load_group(BOTH_NIBBLES, 0, high, low, v, panel_bytes));
            if (g % 2 == 0) continue;
            high += GROUP_BYTES;
            low += FARANN_CODE_QUAD * FARANN_CODE_GROUP;
        }
    }
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

/* Where the low nibbles of a row's quad begin. */
WORD const uint8_t *low_quad(const farann_coded_rows *rows, int64_t row) {
    const int64_t quad_bytes = (rows->groups + 1) / 2 * FARANN_CODE_QUAD * FARANN_CODE_GROUP;
    return rows->low_nibbles + row / FARANN_CODE_QUAD * quad_bytes;
}

/* <u, l> of one row's low nibbles l: those of its quad lie side by side, and take part. */
WORD int32_t dot_low(const farann_coded_rows *rows, int64_t row, const uint32_t *query) {
    enum { PAIRS = I32_LANES / FARANN_CODE_QUAD };
    const uint8_t *quad = low_quad(rows, row);
    const int64_t groups = rows->groups, pairs = (groups + 1) / 2;
    const i32v low_bits = i32_set1(0x0f0f0f0f);
    i32v first = i32_set1(0), second = first;
    int32_t sums[I32_LANES], total = 0;
    for (int64_t p = 0; p < pairs; p += PAIRS) {
        int64_t left = groups - 2 * p < 2 * PAIRS ? groups - 2 * p : 2 * PAIRS;
        const uint8_t *from = quad + p * FARANN_CODE_QUAD * FARANN_CODE_GROUP;
        i32v l = left == 2 * PAIRS ? i32_load(from)
                                   : i32_load_first(from, (left + 1) / 2 * FARANN_CODE_QUAD);
        first = i32_dot4(first, i32_and(l, low_bits), i32_repeat4(query + 2 * p, left, 0));
        second = i32_dot4(second, i32_and(i32_shift_right4(l), low_bits),
                          i32_repeat4(query + 2 * p, left, 1));
    }
    i32_store(sums, i32_add(first, second));
    for (int64_t i = row % FARANN_CODE_QUAD; i < I32_LANES; i += FARANN_CODE_QUAD) total += sums[i];
    return total;
}

/* Prefetch the codes that refining a row will read; rows lie far apart. */
WORD void prefetch_codes(const farann_coded_rows *rows, int64_t row) {
    enum { MOST_BYTES = 256 }; /* 4 cache lines */
    const int64_t row_bytes = rows->groups * FARANN_CODE_GROUP;
    const uint8_t *from = rows->row_major ? rows->row_major + row * row_bytes : low_quad(rows, row);
    int64_t bytes = rows->row_major ? row_bytes : 2 * row_bytes;
    /* The first lines; the CPU prefetches the rest. */
    for (int64_t j = 0; j < bytes && j < MOST_BYTES; j += 64) FARANN_PREFETCH(from + j);
}

KERNEL(void) NAME(rerank_codes_i8)(const farann_coded_rows *rows, int64_t start,
                                   const farann_coded_tile *query, farann_candidates *list,
                                   int64_t from) {
    enum { AHEAD = 8 }; /* candidates whose codes are prefetched */
    const farann_pass_thresholds *bars = query->bars;
    const int64_t row_bytes = rows->groups * FARANN_CODE_GROUP;
    int64_t kept = from;
    for (int64_t i = from; i < list->count && i < from + AHEAD; i++)
        prefetch_codes(rows, start + list->slots[i]);
    for (int64_t i = from; i < list->count; i++) {
        int64_t row = start + list->slots[i];
        if (i + AHEAD < list->count) prefetch_codes(rows, start + list->slots[i + AHEAD]);
        double units, inv_scale, square = rows->squares ? (double)rows->squares[row] : 0.0;
        if (rows->row_major) {
            units = dot_codes(rows->row_major + row * row_bytes, query->codes, rows->groups);
            inv_scale = (double)rows->inv_scales[row];
        } else {
            units = (double)list->scores[i] * 16.0 + dot_low(rows, row, query->codes);
            inv_scale = (double)rows->inv_scales[row / FARANN_CODE_PANEL];
        }
        list->slots[kept] = list->slots[i];
        list->scores[kept] = (float)((units * (double)bars->step[0] + (double)bars->origin[0] +
                                      (double)bars->sign * square) /
                                     inv_scale);
        kept += units > (double)bars->threshold[0] * inv_scale + (double)bars->square[0] * square +
                            (double)bars->offset[0];
    }
    list->count = kept;
}
