/*
 * Coverage-guided fuzzing of the kernels, for libFuzzer: `make fuzz-core`. Every level of this CPU
 * is held against plain loops, or bit for bit against the scalar level. Arrays have no byte more
 * than kernels.h says, so that AddressSanitizer sees what is read or written beyond. Numbers that
 * are summed in float32 are small and whole: their sums are exact in any order.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "candidates.h"
#include "codes.h"
#include "kernels.h"

enum { MOST_LEVELS = 8, MOST_ARRAYS = 256, PANEL = FARANN_CODE_PANEL, GROUP = FARANN_CODE_GROUP };

static const farann_kernels *levels[MOST_LEVELS];
static int n_levels;
static int largest_code = 127; /* that all levels take */

#define CHECK(what)                                                                             \
    do {                                                                                        \
        if (!(what)) {                                                                          \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #what);            \
            abort();                                                                            \
        }                                                                                       \
    } while (0)

/* ---- arrays, freed after each case ---- */

static void *arrays[MOST_ARRAYS];
static int n_arrays;

static void *array(int64_t count, size_t size) {
    CHECK(n_arrays < MOST_ARRAYS);
    return arrays[n_arrays++] = calloc(count ? (size_t)count : 1, size);
}

#define NEW(type, count) ((type *)array((count), sizeof(type)))

/* ---- what the input says ---- */

static const uint8_t *at, *end;

static uint32_t byte(void) { return at < end ? *at++ : 0; }

/* From `least` to `most`. */
static int64_t number(int64_t least, int64_t most) {
    uint32_t drawn = byte();
    if (most - least > 255) drawn |= byte() << 8;
    return least + (int64_t)drawn % (most - least + 1);
}

/* A small whole number. */
static float small(void) { return (float)number(-8, 8); }

/* Any float32 that a vector may hold, often a small one. */
static float finite(void) {
    uint32_t bits = byte();
    float value;
    if (bits < 200) return (float)(int32_t)bits - 100.0f;
    bits = bits << 24 | byte() << 16 | byte() << 8 | byte();
    memcpy(&value, &bits, sizeof value);
    return isfinite(value) ? value : 0x1p-140f;
}

static float any(void) {
    uint32_t kind = byte() % 16;
    return kind == 0 ? NAN : kind == 1 ? INFINITY : kind == 2 ? -INFINITY : finite();
}

static int64_t rounded(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

static int same_bits(const void *a, const void *b, size_t size) { return memcmp(a, b, size) == 0; }

static farann_candidates candidates(int64_t room) {
    farann_candidates list = {NEW(float, room), NEW(int64_t, room), 0};
    return list;
}

/* ---- float64: the same bits at every level ---- */

static void keys(void) {
    const int64_t n = number(1, 12), dim = number(1, 40), all = n + number(0, 3);
    const int metric = (int)number(0, 2), apart = (int)number(0, 1);
    float *rows = NEW(float, all *dim);
    double *query = NEW(double, rounded(dim, 8)), *expected = NEW(double, n);
    int64_t *positions = apart ? NEW(int64_t, n) : NULL;
    for (int64_t i = 0; i < all * dim; i++) rows[i] = finite();
    for (int64_t i = 0; i < all; i++) /* cosine takes no zero vectors */
        if (metric == FARANN_COSINE && rows[i * dim] == 0.0f) rows[i * dim] = 1.0f;
    for (int64_t j = 0; j < dim; j++) query[j] = (double)finite();
    for (int64_t i = 0; apart && i < n; i++) positions[i] = number(0, all - 1);
    for (int64_t i = 0; i < n; i++) { /* the canonical order: eight lanes, one tree */
        const float *x = rows + (apart ? positions[i] : i) * dim;
        double sum[8] = {0.0}, norm[8] = {0.0};
        for (int64_t j = 0; j < dim; j++) {
            const double d = query[j] - (double)x[j];
            sum[j % 8] += metric == FARANN_L2 ? d * d : query[j] * (double)x[j];
            norm[j % 8] += (double)x[j] * (double)x[j];
        }
        double s = ((sum[0] + sum[4]) + (sum[2] + sum[6])) +
                   ((sum[1] + sum[5]) + (sum[3] + sum[7]));
        double m = ((norm[0] + norm[4]) + (norm[2] + norm[6])) +
                   ((norm[1] + norm[5]) + (norm[3] + norm[7]));
        expected[i] = metric == FARANN_L2 ? s : metric == FARANN_DOT ? -s : -(s / sqrt(m));
    }
    for (int level = 0; level < n_levels; level++) {
        double *got = NEW(double, n);
        levels[level]->keys_f64[metric](rows, positions, n, dim, query, got);
        for (int64_t i = 0; i < n; i++) CHECK(got[i] == expected[i]);
    }
}

static void turns(void) {
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

/* The canonical order of summation: eight lanes, one tree. */
static double in_lanes(const double *x, int64_t n) {
    double l[8] = {0.0};
    for (int64_t j = 0; j < n; j++) l[j % 8] += x[j];
    return ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]));
}

static int same_number(double a, double b) { return a == b || (isnan(a) && isnan(b)); }

/* Queries in float64, their weights and what is summed of these; of any size, NaN and all. */
static void preparing(void) {
    const int64_t dim = number(1, 40), n = rounded(dim, 8);
    const int from_centre = (int)number(0, 1);
    const double factor = number(0, 1) ? 2.0 : -1.0, norm = fabs((double)finite()) + 1e-30;
    float *given = NEW(float, dim);
    double *exact = NEW(double, n), *centre = NEW(double, n), *weights = NEW(double, n);
    double *terms[3] = {NEW(double, n), NEW(double, n), NEW(double, n)}, *numbers = NEW(double, n);
    double most = 0.0;
    for (int64_t j = 0; j < dim; j++) {
        given[j] = any();
        exact[j] = (double)finite(), centre[j] = (double)finite() / 3.0;
    }
    for (int64_t j = 0; j < n; j++) {
        const double y = exact[j] - centre[j];
        weights[j] = from_centre ? y * factor : exact[j] * factor / norm;
        const double r = (double)(float)weights[j];
        terms[0][j] = y * y, terms[1][j] = exact[j] * centre[j], terms[2][j] = r * r;
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
        levels[level]->weigh_f64(exact, centre, n, from_centre, factor, norm, got, narrow, sums);
        for (int64_t j = 0; j < n; j++)
            CHECK(got[j] == weights[j] && narrow[j] == (float)weights[j]);
        for (int i = 0; i < 3; i++) CHECK(same_number(sums[i], in_lanes(terms[i], n)));
        CHECK(levels[level]->largest_f64(numbers, n) == most);
        CHECK(levels[level]->largest_f64(numbers, 0) == 0.0);
    }
}

/* Rows coded at every level, with a stretch and axes or without. */
static void encoding(void) {
    const int64_t n = number(1, 9), dim = number(1, 40), padded = rounded(dim, 8);
    const int64_t coded = number(0, 1) ? dim : number(1, dim);
    farann_turn turn = {NULL, NULL, 1.0, NULL, coded};
    double *signs = NEW(double, FARANN_ROTATION_ROUNDS *coded), *centre = NEW(double, dim);
    float *rows = NEW(float, n *dim), *weights = NEW(float, n);
    for (int64_t j = 0; j < FARANN_ROTATION_ROUNDS * coded; j++) signs[j] = byte() % 2 ? 1.0 : -1.0;
    turn.signs = signs;
    if (coded < dim) { /* axes that are coordinates */
        double *axes = NEW(double, coded *padded);
        for (int64_t i = 0; i < coded; i++) axes[i * padded + i] = 1.0;
        turn.axes = axes;
    }
    if (number(0, 1)) {
        double *stretch = NEW(double, padded);
        stretch[number(0, dim - 1)] = 2.0;
        turn.stretch = stretch;
        turn.shrink = 0.2;
    }
    for (int64_t j = 0; j < dim; j++) centre[j] = (double)finite();
    for (int64_t i = 0; i < n * dim; i++) rows[i] = finite();
    uint8_t *first = NULL;
    double *first_squares = NULL;
    for (int level = 0; level < n_levels; level++) {
        const int64_t row_bytes = rounded(coded, GROUP);
        double *scratch = NEW(double, 2 * padded), *extents = NEW(double, n);
        double *squares = NEW(double, n);
        uint8_t *codes = NEW(uint8_t, n *row_bytes);
        float *unknown = NEW(float, n);
        farann_code_extremes largest = {0};
        farann_code_extents(levels[level], rows, n, dim, centre, 0, &turn, scratch, extents);
        for (int64_t i = 0; i < n; i++)
            weights[i] = extents[i] > 1e-30 ? (float)(126.0 / extents[i]) : 0.0f;
        memset(scratch, 0, (size_t)(2 * padded) * sizeof *scratch);
        farann_encode_rows(levels[level], rows, n, dim, centre, 0, &turn, weights, scratch, codes,
                           squares, unknown, &largest);
        /* A code is off by a half at most, of so many coordinates. */
        CHECK(largest.residual <= 0.25 * (double)coded * (1.0 + 1e-9));
        if (level == 0) {
            first = codes, first_squares = squares;
            continue;
        }
        CHECK(same_bits(codes, first, (size_t)(n * row_bytes)));
        CHECK(same_bits(squares, first_squares, (size_t)n * sizeof *squares));
    }
}

/* ---- float32: small whole numbers, and the same rows found at every level ---- */

static void panels(void) {
    const int64_t n = number(1, 70), dim = number(1, 40);
    float *rows = NEW(float, n *dim), thresholds[64];
    double *centre = NEW(double, dim);
    const float sign = (float)number(-1, 1);
    int n_queries = 0;
    for (int64_t i = 0; i < n * dim; i++) rows[i] = small();
    for (int64_t j = 0; j < dim; j++) centre[j] = (double)small();
    for (int level = 0; level < n_levels; level++)
        if (levels[level]->tile_queries > n_queries) n_queries = levels[level]->tile_queries;
    CHECK(n_queries <= 64);
    float *queries = NEW(float, dim *n_queries);
    for (int64_t j = 0; j < dim * n_queries; j++) queries[j] = small();
    for (int t = 0; t < n_queries; t++) thresholds[t] = (float)number(-400, 400);
    for (int level = 0; level < n_levels; level++) {
        const farann_kernels *kernels = levels[level];
        const int64_t room = rounded(n, kernels->panel_rows), width = kernels->tile_queries;
        float *packed = NEW(float, room *dim), *bias = NEW(float, room);
        float *tile = NEW(float, dim *width);
        farann_candidates lists[64];
        double largest = 0.0;
        for (int64_t j = 0; j < dim; j++)
            memcpy(tile + j * width, queries + j * n_queries, (size_t)width * sizeof *tile);
        for (int t = 0; t < width; t++) lists[t] = candidates(n);
        double got = kernels->pack_rows_f32(rows, NULL, n, dim, centre, 0, sign, packed, bias);
        kernels->scan_panels_f32(packed, n, dim, bias, tile, thresholds, lists);
        for (int t = 0; t < width; t++) {
            int64_t next = 0;
            for (int64_t i = 0; i < n; i++) {
                float score = 0.0f, squares = 0.0f;
                for (int64_t j = 0; j < dim; j++) {
                    float y = rows[i * dim + j] - (float)centre[j];
                    score += tile[j * width + t] * y;
                    squares += y * y;
                }
                score += sign * squares;
                largest = fmax(largest, (double)squares);
                if (!(score > thresholds[t])) continue;
                CHECK(next < lists[t].count && lists[t].slots[next] == i);
                CHECK(lists[t].scores[next++] == score);
            }
            CHECK(next == lists[t].count);
        }
        CHECK(got == largest);
    }
}

/* Rows in order or at positions, centred or as they are; sometimes a NaN is among them. */
static void rows_as_they_lie(void) {
    const int64_t n = number(1, 70), dim = number(1, 40), padded = rounded(dim, FARANN_PADDING);
    float *rows = NEW(float, n *dim), *centre = NEW(float, padded), *weights = NEW(float, padded);
    int64_t *positions = NEW(int64_t, n);
    const int unit = (int)number(0, 1), any_order = (int)number(0, 1);
    const float sign = (float)number(-1, 1);
    for (int64_t i = 0; i < n * dim; i++) rows[i] = small();
    for (int64_t j = 0; j < dim; j++) centre[j] = unit ? 0.0f : small(), weights[j] = small();
    for (int64_t i = 0; i < n; i++) {
        positions[i] = any_order ? number(0, n - 1) : i;
        rows[i * dim] = 1.0f; /* unit rows have a direction */
    }
    if (number(0, 9) == 0) rows[number(0, n * dim - 1)] = NAN;
    for (int level = 0; level < n_levels; level++) {
        float *scores = NEW(float, n), norms[2], smallest = INFINITY, largest = 0.0f;
        int any_nan = 0;
        levels[level]->score_rows_f32(rows, any_order ? positions : NULL, n, dim, centre, weights,
                                      unit, sign, scores, norms);
        for (int64_t i = 0; i < n; i++) {
            float product = 0.0f, squares = 0.0f;
            for (int64_t j = 0; j < dim; j++) {
                float y = rows[positions[i] * dim + j] - centre[j];
                product += weights[j] * y;
                squares += y * y;
            }
            float score = unit ? product / sqrtf(squares) : product + sign * squares;
            any_nan |= squares != squares;
            /* Sums of unit rows begin with next to nothing: see kernels.h. */
            CHECK(scores[i] == score || (scores[i] != scores[i] && score != score) ||
                  (unit && fabsf(scores[i] - score) < 0x1p-100f));
            smallest = fminf(smallest, squares), largest = fmaxf(largest, squares);
        }
        CHECK(any_nan ? norms[0] != norms[0] && norms[1] != norms[1]
                      : norms[0] == smallest && norms[1] == largest);
    }
}

static void selection(void) {
    const int64_t n = number(0, 200), padded = rounded(n, FARANN_PADDING);
    const int64_t before = number(0, 5);
    float *scores = NEW(float, padded);
    const float threshold = any();
    for (int64_t i = 0; i < padded; i++) scores[i] = any();
    for (int level = 0; level < n_levels; level++) {
        farann_candidates list = candidates(before + n);
        int32_t *numbers = NEW(int32_t, padded);
        float largest[FARANN_SCORE_GROUPS], expected[FARANN_SCORE_GROUPS];
        int64_t next = before, found = 0;
        list.count = before;
        levels[level]->select_f32(scores, n, threshold, &list);
        for (int64_t i = 0; i < n; i++) {
            if (!(scores[i] > threshold)) continue;
            CHECK(next < list.count && list.slots[next] == i && list.scores[next] == scores[i]);
            next++;
        }
        CHECK(next == list.count);
        next = levels[level]->find_f32(scores, padded, threshold, numbers);
        for (int64_t i = 0; i < padded; i++)
            if (scores[i] > threshold) CHECK(found < next && numbers[found++] == i);
        CHECK(found == next);
        levels[level]->largest_f32(scores, padded, largest);
        for (int g = 0; g < FARANN_SCORE_GROUPS; g++) expected[g] = -INFINITY;
        for (int64_t i = 0; i < padded; i++)
            if (scores[i] > expected[i % FARANN_SCORE_GROUPS])
                expected[i % FARANN_SCORE_GROUPS] = scores[i];
        for (int g = 0; g < FARANN_SCORE_GROUPS; g++) CHECK(largest[g] == expected[g]);
    }
}

/* ---- codes ---- */

enum { MOST_GROUPS = 12, MOST_ROWS = 112 };

/* Rows and queries in codes, and what kernels should make of them. */
static uint8_t bytes[MOST_ROWS * MOST_GROUPS * GROUP];
static int64_t groups, n_rows, start, n_scanned;
static farann_coded_rows coded;
static farann_code_bar bars[FARANN_BARS];
static farann_code_bars all_bars;
static uint32_t *query_codes;

static int32_t sum_of(int64_t row, int query, int upper) {
    const int8_t *u = (const int8_t *)(query_codes + query * groups);
    int32_t sum = 0;
    for (int64_t j = 0; j < groups * GROUP; j++) {
        int c = bytes[row * groups * GROUP + j];
        sum += u[j] * (upper ? c >> 4 : c);
    }
    return sum;
}

static int passes(int64_t row, int query, int32_t sum, int upper) {
    const farann_code_bar *bar = &bars[query];
    const double weight = (double)coded.weights[coded.whole ? row : row / PANEL];
    double limit = (double)bar->threshold * weight + (double)bar->offset;
    if (coded.squares) limit += (double)bar->square * (double)coded.squares[row];
    if (upper) limit += (double)bar->unknown * (double)coded.unknown[row / PANEL];
    return (double)sum > limit;
}

static float score_of(int64_t row, int query, int32_t sum) {
    const float square = coded.squares ? coded.squares[row] * all_bars.sign : 0.0f;
    return ((float)sum * bars[query].step + bars[query].origin + square) /
           coded.weights[coded.whole ? row : row / PANEL];
}

static void check_scan(const farann_candidates *list, int query, int upper, int bare) {
    int64_t next = 0;
    for (int64_t i = 0; i < rounded(n_scanned, PANEL); i++) {
        const int32_t sum = sum_of(start + i, query, upper);
        if (!passes(start + i, query, sum, upper)) continue;
        CHECK(next < list->count && list->slots[next] == i);
        CHECK(list->scores[next] == (bare ? (float)sum : score_of(start + i, query, sum)));
        next++;
    }
    CHECK(next == list->count);
}

static void scan(const farann_kernels *kernels, int upper) {
    const int64_t room = rounded(n_scanned, PANEL);
    const int width = kernels->code_queries;
    uint32_t *tile = NEW(uint32_t, rounded(groups, kernels->tile_groups) * width);
    int64_t members[FARANN_BARS];
    farann_candidates lists[FARANN_BARS], one = candidates(room);
    farann_ahead ahead = farann_ahead_of(&coded, 0, NULL, 0, 0, 1);
    farann_coded_tile many = {tile, &all_bars, byte() % 2 ? &ahead : NULL};
    farann_coded_tile single = {query_codes, &all_bars, NULL};
    for (int t = 0; t < width; t++) members[t] = t, lists[t] = candidates(room);
    kernels->gather_codes(query_codes, members, width, groups, tile);
    kernels->begin();
    (upper ? kernels->scan_upper_i4 : kernels->scan_codes_i8)(&coded, start, n_scanned, &many,
                                                              lists);
    if (!upper) {
        const int64_t n = start + room;
        float *scores = NEW(float, n *width);
        kernels->score_codes_i8(&coded, n, &many, scores);
        for (int64_t i = 0; i < n * width; i++)
            CHECK(scores[i] == score_of(i % n, (int)(i / n), sum_of(i % n, (int)(i / n), 0)));
    }
    kernels->end();
    for (int t = 0; t < width; t++) check_scan(&lists[t], t, upper, 0);
    (upper ? kernels->scan_upper_one_i4 : kernels->scan_codes_one_i8)(&coded, start, n_scanned,
                                                                      &single, &one);
    check_scan(&one, 0, upper, upper && coded.lower);
    if (!upper || !coded.lower) return;
    /* The lower halves as well: bars are those of whole codes then. */
    int64_t next = 0, kept = 0;
    farann_candidates before = candidates(one.count);
    memcpy(before.slots, one.slots, (size_t)one.count * sizeof *one.slots);
    before.count = one.count;
    kernels->refine_codes_i8(&coded, start, &single, &one, 0);
    for (; next < before.count; next++) {
        const int64_t row = start + before.slots[next];
        const int32_t sum = sum_of(row, 0, 0);
        if (!passes(row, 0, sum, 0)) continue;
        CHECK(kept < one.count && one.slots[kept] == before.slots[next]);
        CHECK(one.scores[kept++] == score_of(row, 0, sum));
    }
    CHECK(kept == one.count);
}

static void codes(void) {
    const int kind = (int)number(0, 3); /* whole panels, both halves, upper ones alone, rows */
    const int squared = (int)number(0, 1);
    const int64_t n_panels = number(1, MOST_ROWS / PANEL);
    groups = number(1, MOST_GROUPS);
    n_rows = n_panels * PANEL;
    start = number(0, n_panels - 1) * PANEL;
    n_scanned = number(1, n_rows - start);
    const int64_t row_bytes = groups * GROUP;
    const int64_t panel_bytes = (kind == 0 ? groups : (groups + 1) / 2) * GROUP * PANEL;
    const int64_t n_weights = kind == 3 ? n_rows : n_panels;
    uint8_t *packed = NEW(uint8_t, n_panels *panel_bytes);
    uint8_t *lower = kind == 1 ? NEW(uint8_t, n_panels *panel_bytes) : NULL;
    float *weights = NEW(float, n_weights), *unknown = NEW(float, n_panels);
    float *squares = squared ? NEW(float, n_rows) : NULL;
    int64_t *places = NEW(int64_t, n_rows);
    for (int64_t i = 0; i < n_rows; i++) places[i] = i;
    for (int64_t i = 0; i < n_rows * row_bytes; i++)
        bytes[i] = kind == 2 ? (uint8_t)(byte() << 4) : (uint8_t)byte();
    for (int64_t i = 0; i < n_weights; i++) weights[i] = ldexpf(1.0f, (int)number(-3, 3));
    for (int64_t i = 0; i < n_panels; i++) unknown[i] = (float)number(0, 50);
    for (int64_t i = 0; squared && i < n_rows; i++) squares[i] = (float)number(0, 900);
    farann_pack_codes(bytes, places, n_rows, groups, kind != 0, packed, lower);
    query_codes = NEW(uint32_t, FARANN_BARS *groups);
    for (int64_t j = 0; j < FARANN_BARS * row_bytes; j++)
        ((int8_t *)query_codes)[j] = (int8_t)number(-largest_code, largest_code);
    memset(&all_bars, 0, sizeof all_bars);
    all_bars.sign = (float)number(-1, 1);
    for (int t = 0; t < FARANN_BARS; t++) {
        bars[t] = farann_code_bar_none();
        if (byte() % 8 == 0) goto set;
        bars[t].threshold = 8.0f * (float)number(-6000, 6000);
        bars[t].square = (float)number(-9, 9);
        bars[t].unknown = (float)number(-9, 0);
        bars[t].offset = (float)number(-6000, 6000);
        if (byte() % 8 == 0) bars[t].offset = (float)-0x1p30;
        bars[t].step = (float)number(1, 4);
        bars[t].origin = small();
    set:
        farann_code_bars_set(&all_bars, t, &bars[t]);
    }
    farann_coded_rows rows = {packed, lower, NULL, weights, unknown, squares, groups};
    if (kind == 0) rows.unknown = NULL;
    coded = rows;
    for (int level = 0; level < n_levels; level++) {
        const farann_kernels *kernels = levels[level];
        farann_coded_tile single = {query_codes, &all_bars, NULL};
        if (kind == 3) { /* rows side by side, of any number */
            uint8_t *whole = NEW(uint8_t, n_rows *row_bytes);
            farann_candidates list = candidates(n_scanned);
            int64_t next = 0;
            memcpy(whole, bytes, (size_t)(n_rows * row_bytes));
            coded.whole = whole, coded.panels = NULL, coded.unknown = NULL;
            for (int64_t i = 0; i < n_scanned; i++) list.slots[i] = n_scanned - 1 - i;
            list.count = n_scanned;
            kernels->refine_codes_i8(&coded, start, &single, &list, 0);
            for (int64_t i = n_scanned - 1; i >= 0; i--) {
                const int32_t sum = sum_of(start + i, 0, 0);
                if (!passes(start + i, 0, sum, 0)) continue;
                CHECK(next < list.count && list.slots[next] == i);
                CHECK(list.scores[next++] == score_of(start + i, 0, sum));
            }
            CHECK(next == list.count);
            continue;
        }
        if (kind != 2) scan(kernels, 0);
        if (kind != 0) scan(kernels, 1);
        if (kind == 0) {
            float *scores = NEW(float, n_rows);
            kernels->score_codes_one_i8(&coded, n_rows, &single, scores);
            for (int64_t i = 0; i < n_rows; i++)
                CHECK(scores[i] == score_of(i, 0, sum_of(i, 0, 0)));
        }
        if (kind == 1) {
            const int64_t n = rounded(n_scanned, PANEL);
            uint8_t *joined = NEW(uint8_t, n *row_bytes), *again = NEW(uint8_t, n *row_bytes);
            kernels->join_codes_i8(&coded, start, n, joined);
            farann_pack_codes(bytes + start * row_bytes, places, n, groups, 0, again, NULL);
            CHECK(same_bits(joined, again, (size_t)(n * row_bytes)));
        }
    }
}

/* ---- selection apart from scoring ---- */

static int better(const void *a, const void *b) {
    const farann_entry *x = a, *y = b;
    if (x->key != y->key) return x->key > y->key ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static void best(void) {
    const int64_t n = number(1, 120), k = number(1, n), n_slots = number(n, 240);
    farann_candidates list = candidates(n);
    farann_entry *entries = NEW(farann_entry, n), *heap = NEW(farann_entry, k);
    farann_best_scores noted = {NEW(float, k), k, 0};
    farann_topk top = {heap, k, 0};
    uint8_t *alive = number(0, 1) ? NEW(uint8_t, n_slots) : NULL;
    int64_t *excluded = NEW(int64_t, 2), n_kept = 0, n_entries = 0;
    double *row_keys = NEW(double, n);
    const double margin = (double)number(0, 9);
    const int64_t never = 0;
    for (int64_t i = 0; alive && i < n_slots; i++) alive[i] = byte() % 4 != 0;
    excluded[0] = number(0, n_slots - 1);
    excluded[1] = excluded[0] + 1;
    farann_filter filter = {alive, NULL, {0}, NULL, 0};
    farann_id_set_fill(&filter.excluded, excluded, 2, NEW(uint32_t, farann_id_set_room(2)));
    const farann_block block = {0, NULL, NULL, NULL, n_slots};
    for (int64_t i = 0; i < n; i++) {
        const int allowed = i != excluded[0] && i != excluded[1] && (!alive || alive[i]);
        CHECK(farann_filter_allows(&filter, i) == allowed);
        row_keys[i] = (double)small();
        list.scores[i] = (float)row_keys[i];
        list.slots[i] = i;
        farann_entry entry = {row_keys[i], i};
        if (allowed) entries[n_entries++] = entry;
    }
    /* The heap holds the k best, equal keys by smaller id. */
    farann_topk_push_block(&top, row_keys, n, 1.0, &block, &filter);
    farann_entries_sort(heap, top.count, &never);
    qsort(entries, (size_t)n_entries, sizeof *entries, better);
    CHECK(top.count == (k < n_entries ? k : n_entries));
    for (int64_t i = 0; i < top.count; i++)
        CHECK(heap[i].key == entries[i].key && heap[i].id == entries[i].id);
    /* What is admitted has all that could be among these, and nothing that is filtered out. */
    list.count = n;
    farann_candidates_admit(&list, 0, &block, &filter, &noted, margin);
    CHECK(noted.count == top.count);
    for (int64_t i = 0; i < noted.count; i++) CHECK((double)noted.scores[i] == entries[i].key);
    for (int64_t i = 0; i < list.count; i++) CHECK(farann_filter_allows(&filter, list.slots[i]));
    if (top.count == 0) return;
    for (int64_t i = 0; i < list.count; i++)
        n_kept += (double)list.scores[i] >= entries[top.count - 1].key;
    for (int64_t i = 0; i < n_entries; i++) n_kept -= entries[i].key >= entries[top.count - 1].key;
    CHECK(n_kept == 0);
    if (list.count < top.count) return;
    CHECK(farann_candidates_keep_best(&list, top.count, margin) == entries[top.count - 1].key);
    const double middle = entries[0].key;
    const int64_t first = farann_candidates_split(&list, entries[top.count - 1].key, middle);
    for (int64_t i = 0; i < list.count; i++) {
        CHECK(((double)list.scores[i] >= middle) == (i >= first));
        CHECK((double)list.scores[i] >= entries[top.count - 1].key);
        CHECK((double)list.scores[i] == row_keys[list.slots[i]]);
    }
}

/* A key of one kind, by a random number: what buckets are good for, and what they aren't. */
static double key_like(int kind, uint32_t random) {
    const double even = (double)random;
    switch (kind) {
    case 0: return even;
    case 1: return (double)(random % 5); /* ties */
    case 2: return 1.5;                  /* all equal */
    case 3: return random % 9 ? even : random % 2 ? INFINITY : -INFINITY;
    case 4: return (random % 2 ? 1.7e308 : -1.7e308) / (1.0 + even); /* too far apart */
    case 5: return (double)(random % 2000) * 0x1p-1074;              /* hardly apart */
    case 6: return random % 100 ? even * 1e-12 : 1e30 * even;        /* nearly all in one bucket */
    case 7: return 1.0 + (double)(random % 4096) * 0x1p-52;
    case 8: return (double)(random % 2048) * 0.7 - 400.0; /* about one a bucket */
    default: return random % 7 ? even : NAN;
    }
}

/* Sorting by pivots, and by buckets, against qsort. */
static void sorting(void) {
    const int kind = (int)number(0, 9);
    const int64_t n = number(0, 1) ? number(505, 520) : number(0, 3000);
    const int64_t given_up = number(0, 15) == 0;
    farann_entry *entries = NEW(farann_entry, n), *expected = NEW(farann_entry, n);
    farann_entry *plain = NEW(farann_entry, n), *scratch = NEW(farann_entry, n);
    uint8_t *seen = NEW(uint8_t, 1 << 16);
    uint32_t random = byte() | byte() << 8;
    for (int64_t i = 0; i < n; i++) {
        random = random * 1664525u + 1013904223u;
        entries[i].key = key_like(kind, random >> 8);
        entries[i].id = i * 40503 % 65536; /* no two are the same */
        expected[i] = plain[i] = entries[i];
    }
    farann_entries_sort(plain, n, &given_up);
    farann_many_entries_sort(entries, n, scratch, &given_up);
    qsort(expected, (size_t)n, sizeof *expected, better);
    for (int64_t i = 0; i < n; i++) {
        CHECK(!seen[entries[i].id]); /* whatever happens, none is lost */
        seen[entries[i].id] = 1;
        if (given_up || kind == 9) continue; /* in any order */
        CHECK(plain[i].key == expected[i].key && plain[i].id == expected[i].id);
        CHECK(entries[i].key == expected[i].key && entries[i].id == expected[i].id);
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    for (const char *const *name = farann_kernel_levels(); *name; name++) {
        levels[n_levels] = farann_kernels_by_name(*name);
        if (levels[n_levels]->largest_code < largest_code)
            largest_code = levels[n_levels]->largest_code;
        n_levels++;
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static void (*const parts[])(void) = {
        keys,      turns, preparing, encoding, panels, rows_as_they_lie,
        selection, codes, codes,     best,     sorting};
    at = data, end = data + size;
    parts[byte() % (sizeof parts / sizeof *parts)]();
    while (n_arrays) free(arrays[--n_arrays]);
    return 0;
}
