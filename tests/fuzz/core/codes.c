/* Kernels of codes. */
#include "core.h"

enum { MOST_GROUPS = 12, MOST_ROWS = 112 };

/* Rows and queries in codes, and what kernels should make of them. */
static uint8_t bytes[MOST_ROWS * MOST_GROUPS * GROUP];
static int64_t groups, n_rows, start, n_scanned, coded_panel_bytes;
static farann_coded_rows coded;
static farann_pass_threshold bars[FARANN_MOST_TILE_QUERIES];
static farann_pass_thresholds all_bars;
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
    const farann_pass_threshold *bar = &bars[query];
    const double weight = (double)coded.inv_scales[coded.row_major ? row : row / PANEL];
    double limit = (double)bar->threshold * weight + (double)bar->offset;
    if (coded.squares) limit += (double)bar->square * (double)coded.squares[row];
    if (upper) limit += (double)bar->low_nibble_norm * (double)coded.low_nibble_norm[row / PANEL];
    return (double)sum > limit;
}

static float score_of(int64_t row, int query, int32_t sum) {
    const float square = coded.squares ? coded.squares[row] * all_bars.sign : 0.0f;
    return ((float)sum * bars[query].step + bars[query].origin + square) /
           coded.inv_scales[coded.row_major ? row : row / PANEL];
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

/* The rows from `start` on. */
static farann_coded_rows coded_from_start(void) {
    const int64_t panel = start / PANEL;
    farann_coded_rows rows = coded;
    rows.panels += panel * coded_panel_bytes;
    if (rows.low_nibbles) rows.low_nibbles += panel * coded_panel_bytes;
    if (rows.low_nibble_norm) rows.low_nibble_norm += panel;
    if (rows.squares) rows.squares += start;
    rows.inv_scales += panel;
    return rows;
}

/* Rows that pass for all queries of a chain are its last one's; or each query is by itself. */
static void check_chains(const farann_kernels *kernels, const farann_coded_rows *scanned, int upper,
                         const uint32_t *tile) {
    const int width = kernels->code_queries, count = (int)number(1, width), chains = byte() % 2;
    const farann_pass_threshold none = farann_pass_threshold_none();
    int32_t chain[FARANN_MOST_TILE_QUERIES + 1] = {0};
    farann_candidates lists[FARANN_MOST_TILE_QUERIES];
    farann_pass_thresholds few = all_bars;
    for (int t = 0; t < width; t++) {
        lists[t] = candidates(rounded(n_scanned, PANEL));
        if (t > 0 && t < count && chains && byte() % 2) chain[t] = -1;
        if (t >= count) farann_pass_thresholds_set(&few, t, &none);
    }
    const farann_coded_tile some = {tile, &few, chains ? chain : NULL, count};
    kernels->begin();
    kernels->scan_codes_i8(scanned, upper, n_scanned, &some, lists);
    kernels->end();
    for (int t = 0; t < width; t++) {
        int64_t next = 0;
        for (int64_t i = 0; i < rounded(n_scanned, PANEL); i++) {
            int q = t, all = t < count && !chain[t + 1];
            for (; all; q--) {
                all = passes(start + i, q, sum_of(start + i, q, upper), upper);
                if (!chain[q]) break;
            }
            if (!all) continue;
            CHECK(next < lists[t].count && lists[t].slots[next] == i);
            next++;
        }
        CHECK(next == lists[t].count);
    }
}

static void scan(const farann_kernels *kernels, int upper) {
    const int64_t room = rounded(n_scanned, PANEL);
    const farann_coded_rows scanned = coded_from_start();
    const int width = kernels->code_queries;
    uint32_t *tile = NEW(uint32_t, rounded(groups, kernels->tile_groups) * width);
    int64_t members[FARANN_MOST_TILE_QUERIES];
    farann_candidates lists[FARANN_MOST_TILE_QUERIES], one = candidates(room);
    farann_coded_tile many = {tile, &all_bars, NULL, width};
    farann_coded_tile single = {query_codes, &all_bars, NULL, 1};
    for (int t = 0; t < width; t++) members[t] = t, lists[t] = candidates(room);
    kernels->gather_codes(query_codes, members, width, groups, tile);
    kernels->begin();
    kernels->scan_codes_i8(&scanned, upper, n_scanned, &many, lists);
    if (!upper) {
        const int64_t n = start + room;
        float *scores = NEW(float, n *width);
        kernels->score_codes_i8(&coded, n, &many, scores);
        for (int64_t i = 0; i < n * width; i++)
            CHECK(scores[i] == score_of(i % n, (int)(i / n), sum_of(i % n, (int)(i / n), 0)));
    }
    kernels->end();
    for (int t = 0; t < width; t++) check_scan(&lists[t], t, upper, 0);
    check_chains(kernels, &scanned, upper, tile);
    kernels->scan_codes_one_i8(&scanned, upper, n_scanned, &single, &one);
    check_scan(&one, 0, upper, upper && coded.low_nibbles);
    if (!upper || !coded.low_nibbles) return;
    /* The lower halves as well: bars are those of whole codes then. */
    int64_t next = 0, kept = 0;
    farann_candidates before = candidates(one.count);
    memcpy(before.slots, one.slots, (size_t)one.count * sizeof *one.slots);
    before.count = one.count;
    kernels->rerank_codes_i8(&coded, start, &single, &one, 0);
    for (; next < before.count; next++) {
        const int64_t row = start + before.slots[next];
        const int32_t sum = sum_of(row, 0, 0);
        if (!passes(row, 0, sum, 0)) continue;
        CHECK(kept < one.count && one.slots[kept] == before.slots[next]);
        CHECK(one.scores[kept++] == score_of(row, 0, sum));
    }
    CHECK(kept == one.count);
}

void codes(void) {
    const int kind = (int)number(0, 3); /* whole panels, both halves, upper ones alone, rows */
    const int squared = (int)number(0, 1);
    const int64_t n_panels = number(1, MOST_ROWS / PANEL);
    groups = number(1, MOST_GROUPS);
    n_rows = n_panels * PANEL;
    start = number(0, n_panels - 1) * PANEL;
    n_scanned = number(1, n_rows - start);
    const int64_t row_bytes = groups * GROUP;
    const int64_t panel_bytes = (kind == 0 ? groups : (groups + 1) / 2) * GROUP * PANEL;
    coded_panel_bytes = panel_bytes;
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
    query_codes = NEW(uint32_t, FARANN_MOST_TILE_QUERIES *groups);
    for (int64_t j = 0; j < FARANN_MOST_TILE_QUERIES * row_bytes; j++)
        ((int8_t *)query_codes)[j] = (int8_t)number(-largest_code, largest_code);
    memset(&all_bars, 0, sizeof all_bars);
    all_bars.sign = (float)number(-1, 1);
    for (int t = 0; t < FARANN_MOST_TILE_QUERIES; t++) {
        bars[t] = farann_pass_threshold_none();
        if (byte() % 8 == 0) goto set;
        bars[t].threshold = 8.0f * (float)number(-6000, 6000);
        bars[t].square = (float)number(-9, 9);
        bars[t].low_nibble_norm = (float)number(-9, 0);
        bars[t].offset = (float)number(-6000, 6000);
        if (byte() % 8 == 0) bars[t].offset = (float)-0x1p30;
        bars[t].step = (float)number(1, 4);
        bars[t].origin = small();
    set:
        farann_pass_thresholds_set(&all_bars, t, &bars[t]);
    }
    farann_coded_rows rows = {packed, lower, NULL, weights, unknown, squares, groups};
    if (kind == 0) rows.low_nibble_norm = NULL;
    coded = rows;
    for (int level = 0; level < n_levels; level++) {
        const farann_kernels *kernels = levels[level];
        farann_coded_tile single = {query_codes, &all_bars, NULL, 1};
        if (kind == 3) { /* rows side by side, of any number */
            uint8_t *whole = NEW(uint8_t, n_rows *row_bytes);
            farann_candidates list = candidates(n_scanned);
            int64_t next = 0;
            memcpy(whole, bytes, (size_t)(n_rows * row_bytes));
            coded.row_major = whole, coded.panels = NULL, coded.low_nibble_norm = NULL;
            for (int64_t i = 0; i < n_scanned; i++) list.slots[i] = n_scanned - 1 - i;
            list.count = n_scanned;
            kernels->rerank_codes_i8(&coded, start, &single, &list, 0);
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
            const farann_coded_rows from_start = coded_from_start();
            kernels->join_codes_i8(&from_start, n, joined);
            farann_pack_codes(bytes + start * row_bytes, places, n, groups, 0, again, NULL);
            CHECK(same_bits(joined, again, (size_t)(n * row_bytes)));
        }
    }
}
