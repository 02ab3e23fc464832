/* Canonical keys: row by row, and of whole panels for many queries. */
#include "core.h"

enum { MOST_QUERIES = 16 };

/* Rows of which some are equal, or of any size, or multiples, whose cosines are equal but for
   rounding; in order or not. */
static const float *some_rows(int metric, int64_t n, int64_t dim, int64_t **positions) {
    const int64_t all = n + number(0, 3);
    const int kind = (int)number(0, 2);
    float *rows = NEW(float, all *dim);
    for (int64_t i = 0; i < all * dim; i++)
        rows[i] = kind == 0 ? (float)number(-1, 1) : kind == 1 ? finite() : small();
    for (int64_t i = 3; kind == 2 && i < all; i++) {
        const float times = (float)number(1, 99);
        for (int64_t j = 0; j < dim; j++) rows[i * dim + j] = times * rows[i % 3 * dim + j];
    }
    for (int64_t i = 0; i < all; i++) /* cosine takes no zero vectors */
        if (metric == FARANN_COSINE && rows[i * dim] == 0.0f) rows[i * dim] = 1.0f;
    *positions = number(0, 1) ? NEW(int64_t, n) : NULL;
    for (int64_t i = 0; *positions && i < n; i++) (*positions)[i] = number(0, all - 1);
    return rows;
}

static const float *row_at(const float *rows, const int64_t *positions, int64_t i, int64_t dim) {
    return rows + (positions ? positions[i] : i) * dim;
}

void keys(void) {
    const int64_t n = number(1, 12), dim = number(1, 40);
    const int metric = (int)number(0, 2);
    int64_t *positions;
    const float *rows = some_rows(metric, n, dim, &positions);
    double *query = NEW(double, rounded(dim, 8));
    for (int64_t j = 0; j < dim; j++) query[j] = (double)finite();
    for (int level = 0; level < n_levels; level++) {
        double *got = NEW(double, n);
        levels[level]->keys_f64[metric](rows, positions, n, dim, query, got);
        for (int64_t i = 0; i < n; i++)
            CHECK(got[i] == key_of(metric, row_at(rows, positions, i, dim), dim, query));
    }
}

/* A bar at a key, as searches set it; or one that all pass, as before there are k answers. */
static farann_key_threshold bar_at(double least, double last_id, double near, int64_t room) {
    const double lost = fabs(least) * 0x1p-50;
    farann_key_threshold bar = {near, least, last_id, 0, 0, NULL, NULL};
    if (!(near < least - 2.0 * lost - 1e-200)) bar.near = least - 2.0 * lost - 1e-200;
    if (least == -INFINITY) bar.near = -INFINITY;
    bar.keys = NEW(double, room);
    bar.rows = NEW(int64_t, room);
    return bar;
}

/* What a bar should have let through of rows first .. end, whose keys times the sign are given. */
static void check_bar(const farann_key_threshold *bar, int metric, const double *signed_keys,
                      const double *ids, int64_t first, int64_t end, int64_t width) {
    int64_t next = 0, surely_near = 0, maybe_near = 0;
    for (int64_t i = first; i < end; i++) {
        const double key = signed_keys[i];
        if (!(key > bar->least || (key == bar->least && ids[i] <= bar->last_id))) continue;
        CHECK(next < bar->count && bar->rows[next] == i);
        CHECK(bar->keys[next++] == key);
    }
    CHECK(next == bar->count);
    /* What fills up the last panel, copies of its first row, is counted as well. */
    for (int64_t i = first; i < rounded(end, width); i++) {
        const double key = signed_keys[i < end ? i : end / width * width];
        const double off = metric == FARANN_COSINE ? fabs(bar->near) * 1e-15 : 0.0;
        surely_near += i < end && key > bar->near + off;
        maybe_near += bar->near == -INFINITY || key > bar->near - off;
    }
    CHECK(surely_near <= bar->n_near && bar->n_near <= maybe_near);
}

/* The columns in which a query is other than 0, lane by lane, and the numbers of queries there. */
static void fill_tile(int metric, const double *queries, int64_t dim, int64_t width,
                      farann_key_panels *packed, double *tile) {
    int64_t filled = 0;
    for (int lane = 0; lane < 8; lane++) {
        packed->lanes[lane] = filled;
        for (int64_t j = lane; j < dim; j += 8) {
            int counts = metric == FARANN_L2;
            for (int64_t t = 0; t < width; t++) {
                tile[filled * width + t] = queries[t * dim + j];
                counts |= queries[t * dim + j] != 0.0;
            }
            packed->columns[filled] = j;
            filled += counts;
        }
    }
    packed->lanes[8] = filled;
}

/* Keys of packed rows, which are divided by norms only where the sums are near enough. */
void keys_of_panels(void) {
    const int64_t n = number(1, 70), dim = number(1, 40);
    const int metric = (int)number(0, 2), whole = (int)number(0, 1), in_order = (int)number(0, 1);
    const double sign = number(0, 1) ? 1.0 : -1.0;
    int64_t *positions;
    const float *rows = some_rows(metric, n, dim, &positions);
    double *queries = NEW(double, MOST_QUERIES *dim), *ids = NEW(double, n);
    double *all_keys = NEW(double, MOST_QUERIES *n);
    for (int64_t j = 0; j < MOST_QUERIES * dim; j++)
        queries[j] = whole ? (double)small() : (double)finite();
    for (int64_t j = 0; j < dim; j++) /* columns of zeros count where differences are squared */
        if (number(0, 3) == 0)
            for (int64_t t = 0; t < MOST_QUERIES; t++) queries[t * dim + j] = 0.0;
    for (int64_t i = 0; i < n; i++) ids[i] = in_order ? (double)i : (double)number(0, 99);
    for (int64_t i = 0; i < MOST_QUERIES * n; i++)
        all_keys[i] =
            sign * key_of(metric, row_at(rows, positions, i % n, dim), dim, queries + i / n * dim);
    const int64_t last = number(0, n - 1), drawn = number(0, 99), start = number(0, n - 1);
    const int64_t length = number(1, n);
    const double near = number(0, 2) ? -INFINITY : all_keys[number(0, n - 1)];
    const int all_pass = number(0, 7) == 0;
    for (int level = 0; level < n_levels; level++) {
        const farann_kernels *kernels = levels[level];
        const int64_t width = kernels->key_queries, step = kernels->key_rows;
        const int64_t room = rounded(n, step), first = start / step * step;
        const int64_t end = rounded(first + length, step), stop = end < n ? end : n;
        const int count = (int)(1 + drawn % width);
        farann_key_panels packed = {NEW(double, room *dim),
                                    NEW(double, room),
                                    NEW(double, room),
                                    NEW(double, room / step),
                                    dim,
                                    NEW(int64_t, dim),
                                    {0}};
        farann_key_threshold bars[MOST_QUERIES];
        double *tile = NEW(double, width *dim);
        CHECK(width <= MOST_QUERIES);
        for (int64_t i = 0; i < room; i++) {
            double *smallest = &packed.first_ids[i / step];
            packed.ids[i] = i < n ? ids[i] : INFINITY;
            if (i % step == 0 || packed.ids[i] < *smallest) *smallest = packed.ids[i];
        }
        fill_tile(metric, queries, dim, width, &packed, tile);
        for (int t = 0; t < count; t++)
            bars[t] = bar_at(all_pass ? -INFINITY : all_keys[t * n + last], ids[last], near,
                             stop - first);
        kernels->pack_rows_f64(rows, positions, n, dim, metric == FARANN_COSINE, packed.rows,
                               packed.norms);
        kernels->scan_keys_f64[metric](&packed, first, stop - first, tile, sign, count, bars);
        for (int t = 0; t < count; t++)
            check_bar(&bars[t], metric, all_keys + t * n, ids, first, stop, step);
    }
}
