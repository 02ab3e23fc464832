/* Kernels in float32: small whole numbers, and the same rows found at every level. */
#include "core.h"

/* The best of all queries' scores less offsets, and of one alone. */
static void check_best(const farann_kernels *kernels, const float *packed, int64_t n, int64_t dim,
                       const float *bias, const float *tile, const float *offsets) {
    const int64_t width = kernels->tile_queries, rows = kernels->panel_rows;
    const int64_t alone = number(0, width - 1), count = number(2, width);
    float *some = NEW(float, rounded(n, rows)), *one = NEW(float, rounded(n, rows));
    float *filled = NEW(float, width);
    for (int64_t t = 0; t < width; t++) filled[t] = t < count ? offsets[t] : INFINITY;
    for (int64_t i = 0; i < n; i++) some[i] = one[i] = -INFINITY;
    kernels->best_scores_f32(packed, n, dim, bias, tile, count, filled, some);
    kernels->best_scores_f32(packed, n, dim, bias, tile + alone, 1, offsets + alone, one);
    for (int64_t i = 0; i < n; i++) {
        float best = -INFINITY;
        for (int64_t t = 0; t < width; t++) {
            float score = bias[i];
            for (int64_t j = 0; j < dim; j++)
                score += tile[j * width + t] * packed[i / rows * rows * dim + j * rows + i % rows];
            if (t < count) best = fmaxf(best, score - offsets[t]);
            if (t == alone) CHECK(one[i] == score - offsets[t]);
        }
        CHECK(some[i] == best);
    }
}

/* All scores of packed rows, and no scores of queries that weren't asked: they may have no room. */
static void check_scores(const farann_kernels *kernels, const float *packed, int64_t n, int64_t dim,
                         const float *bias, const float *tile) {
    const int64_t width = kernels->tile_queries, rows = kernels->panel_rows;
    const int64_t stride = rounded(n, rows);
    float *scores = NEW(float, width *stride);
    const int64_t count = number(1, width);
    for (int64_t i = 0; i < width * stride; i++) scores[i] = INFINITY;
    kernels->score_panels_f32(packed, n, dim, bias, tile, count, scores, stride);
    for (int64_t i = count * stride; i < width * stride; i++) CHECK(scores[i] == INFINITY);
    for (int64_t t = 0; t < count; t++)
        for (int64_t i = 0; i < n; i++) {
            float score = bias[i];
            for (int64_t j = 0; j < dim; j++)
                score += tile[j * width + t] * packed[i / rows * rows * dim + j * rows + i % rows];
            CHECK(scores[t * stride + i] == score);
        }
}

/* A tile of some of the queries, in any order; the empty places repeat the first. */
static void check_tile(const farann_kernels *kernels, const float *vectors, int64_t dim,
                       int64_t stride, int64_t n) {
    const int64_t width = kernels->tile_queries, count = number(1, width);
    int64_t *members = NEW(int64_t, width);
    float *tile = NEW(float, dim *width);
    for (int64_t t = 0; t < count; t++) members[t] = number(0, n - 1);
    kernels->pack_queries_f32(vectors, stride, members, count, dim, tile);
    for (int64_t t = 0; t < width; t++)
        for (int64_t j = 0; j < dim; j++)
            CHECK(tile[j * width + t] == vectors[members[t < count ? t : 0] * stride + j]);
}

void panels(void) {
    const int64_t n = number(1, 70), dim = number(1, 40);
    float *rows = NEW(float, n *dim), thresholds[64];
    double *center = NEW(double, dim);
    const float sign = (float)number(-1, 1);
    int n_queries = 0;
    for (int64_t i = 0; i < n * dim; i++) rows[i] = small();
    for (int64_t j = 0; j < dim; j++) center[j] = (double)small();
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
        double got = kernels->pack_rows_f32(rows, NULL, n, dim, center, 0, sign, packed, bias);
        const int count = (int)number(1, width);
        float *bars = NEW(float, width);
        for (int t = 0; t < width; t++) bars[t] = t < count ? thresholds[t] : INFINITY;
        kernels->scan_panels_f32(packed, n, dim, bias, tile, count, bars, lists);
        for (int t = 0; t < width; t++) {
            int64_t next = 0;
            for (int64_t i = 0; i < n; i++) {
                float score = 0.0f, squares = 0.0f;
                for (int64_t j = 0; j < dim; j++) {
                    float y = rows[i * dim + j] - (float)center[j];
                    score += tile[j * width + t] * y;
                    squares += y * y;
                }
                score += sign * squares;
                largest = fmax(largest, (double)squares);
                if (!(score > bars[t])) continue;
                CHECK(next < lists[t].count && lists[t].slots[next] == i);
                CHECK(lists[t].scores[next++] == score);
            }
            CHECK(next == lists[t].count);
        }
        CHECK(got == largest);
        check_best(kernels, packed, n, dim, bias, tile, thresholds);
        check_scores(kernels, packed, n, dim, bias, tile);
        check_tile(kernels, queries, dim, dim, n_queries);
    }
}

/* Rows in order or at positions, centered or as they are; sometimes a NaN is among them. */
void rows_as_they_lie(void) {
    const int64_t n = number(1, 70), dim = number(1, 40), padded = rounded(dim, FARANN_PADDING);
    float *rows = NEW(float, n *dim), *center = NEW(float, padded), *weights = NEW(float, padded);
    int64_t *positions = NEW(int64_t, n);
    const int unit = (int)number(0, 1), any_order = (int)number(0, 1);
    const float sign = (float)number(-1, 1);
    for (int64_t i = 0; i < n * dim; i++) rows[i] = small();
    for (int64_t j = 0; j < dim; j++) center[j] = unit ? 0.0f : small(), weights[j] = small();
    for (int64_t i = 0; i < n; i++) {
        positions[i] = any_order ? number(0, n - 1) : i;
        rows[i * dim] = 1.0f; /* unit rows have a direction */
    }
    if (number(0, 9) == 0) rows[number(0, n * dim - 1)] = NAN;
    for (int level = 0; level < n_levels; level++) {
        float *scores = NEW(float, n), norms[2], smallest = INFINITY, largest = 0.0f;
        int any_nan = 0;
        levels[level]->score_rows_f32(rows, any_order ? positions : NULL, n, dim, center, weights,
                                      unit, sign, scores, norms);
        if (!unit && sign == 0.0f) { /* without squares scores are the same */
            float *alone = NEW(float, n);
            levels[level]->score_rows_f32(rows, any_order ? positions : NULL, n, dim, center,
                                          weights, 0, 0.0f, alone, NULL);
            for (int64_t i = 0; i < n; i++)
                CHECK(alone[i] == scores[i] || (alone[i] != alone[i] && scores[i] != scores[i]));
        }
        for (int64_t i = 0; i < n; i++) {
            float product = 0.0f, squares = 0.0f;
            for (int64_t j = 0; j < dim; j++) {
                float y = rows[positions[i] * dim + j] - center[j];
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

/* At least k scores reach it and at most k are greater; -inf where there are fewer than k. */
static void check_kth(const farann_kernels *kernels, const float *scores, int64_t n) {
    const int64_t k = number(1, n + 2);
    const float kth = kernels->kth_largest_f32(scores, n, k);
    int64_t reached = 0, greater = 0;
    for (int64_t i = 0; i < n; i++) {
        reached += scores[i] >= kth && scores[i] > -INFINITY;
        greater += scores[i] > kth;
    }
    CHECK(kth == -INFINITY ? reached < k : reached >= k && greater <= k);
}

void selection(void) {
    const int64_t n = number(0, 200), padded = rounded(n, FARANN_PADDING);
    const int64_t before = number(0, 5);
    float *scores = NEW(float, padded);
    const float threshold = any();
    for (int64_t i = 0; i < padded; i++) scores[i] = any();
    for (int level = 0; level < n_levels; level++) {
        farann_candidates list = candidates(before + n);
        float largest[FARANN_SCORE_GROUPS], expected[FARANN_SCORE_GROUPS];
        int64_t next = before;
        list.count = before;
        levels[level]->select_f32(scores, n, threshold, &list);
        for (int64_t i = 0; i < n; i++) {
            if (!(scores[i] > threshold)) continue;
            CHECK(next < list.count && list.slots[next] == i && list.scores[next] == scores[i]);
            next++;
        }
        CHECK(next == list.count);
        levels[level]->largest_f32(scores, padded, largest);
        for (int g = 0; g < FARANN_SCORE_GROUPS; g++) expected[g] = -INFINITY;
        for (int64_t i = 0; i < padded; i++)
            if (scores[i] > expected[i % FARANN_SCORE_GROUPS])
                expected[i % FARANN_SCORE_GROUPS] = scores[i];
        for (int g = 0; g < FARANN_SCORE_GROUPS; g++) CHECK(largest[g] == expected[g]);
        check_kth(levels[level], scores, n);
    }
}
