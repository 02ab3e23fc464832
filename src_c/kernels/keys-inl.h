/*
 * Exact keys, in float64: the same bits at every level. Included by all-inl.h.
 */

/* The terms summed over coordinates; a constant at each call, so the branches vanish. */
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
    enum { LINE = 16, MOST = 8 * LINE }; /* floats of a cache line, and of those prefetched */
    for (int64_t j = 0; j < dim && j < MOST; j += LINE) FARANN_PREFETCH(row + j);
}

WORD void keys_of_rows(farann_metric metric, const float *rows, const int64_t *positions, int64_t n,
                       int64_t dim, const double *query, double *keys) {
    const int what = metric == FARANN_L2    ? SQUARED_DIFFERENCES
                     : metric == FARANN_DOT ? PRODUCTS
                                            : PRODUCTS_AND_SQUARES;
    enum { AHEAD = 8 }; /* rows prefetched */
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
    for (; metric == FARANN_COSINE && !positions && i + 8 <= n; i += 8) {
        double sums[8], squares[8];
        for (int r = 0; r < 8; r++)
            sums[r] = sum_row(what, rows + (i + r) * dim, dim, query, &squares[r]);
        /* Roots and quotients of a vector at a time. */
        for (int r = 0; r < 8; r++) keys[i + r] = key_of(metric, sums[r], squares[r]);
    }
    for (; i < n; i++) {
        double squares;
        const float *row = rows + (positions ? positions[i] : i) * dim;
        double sum = sum_row(what, row, dim, query, &squares);
        keys[i] = key_of(metric, sum, squares);
    }
}

#define KEYS(verb_type, metric)                                                                     \
    KERNEL(void) NAME(verb_type)(const float *rows, const int64_t *positions, int64_t n,            \
                                 int64_t dim, const double *query, double *keys) {                  \
        keys_of_rows(metric, rows, positions, n, dim, query, keys);                                 \
    }
KEYS(keys_l2_f64, FARANN_L2)
KEYS(keys_dot_f64, FARANN_DOT)
KEYS(keys_cosine_f64, FARANN_COSINE)

/* |x|^2 of four rows as in exact keys; their sums don't wait for each other. */
WORD void squares_of_four(const float *const *row, int64_t dim, double *squares) {
    f64x8 sums[4];
    int64_t j = 0;
    for (int r = 0; r < 4; r++) sums[r] = f64x8_zero();
    for (; j + 8 <= dim; j += 8)
        for (int r = 0; r < 4; r++) {
            f64x8 x = f64x8_from_f32(row[r] + j);
            sums[r] = f64x8_add_exact(x, x, sums[r]);
        }
    for (int r = 0; r < 4; r++) {
        if (j < dim) {
            f64x8 x = f64x8_from_f32_first(row[r] + j, dim - j);
            sums[r] = f64x8_add_exact(x, x, sums[r]);
        }
        squares[r] = f64x8_sum(sums[r]);
    }
}

/*
 * Exact keys of many rows for many queries.
 *
 * Rows lie side by side in panels, so that a vector holds one lane of an exact key's sum for eight
 * rows. The lanes are summed one after another, and added up in the order of f64x8_sum. Of columns in
 * which no query of a tile is other than 0 products are 0, and change no sum.
 */

/* Columns j .. j + width of a panel's rows as float64, coordinate by coordinate. */
WORD void widen_columns(const float *const *row, int64_t j, int width, double *panel) {
    float lines[PACK_COLUMNS][KEY_ROWS];
    int c = 0;
    for (; c + 4 <= width; c += 4)
        for (int r = 0; r < KEY_ROWS; r += 4)
            f32_transpose4(row[r] + j + c, row[r + 1] + j + c, row[r + 2] + j + c,
                           row[r + 3] + j + c, lines[c] + r, KEY_ROWS);
    for (; c < width; c++)
        for (int r = 0; r < KEY_ROWS; r++) lines[c][r] = row[r][j + c];
    for (c = 0; c < width; c++)
        for (int r = 0; r < KEY_ROWS; r += 8)
            f64x8_store(panel + (j + c) * KEY_ROWS + r, f64x8_from_f32(lines[c] + r));
}

KERNEL(void) NAME(pack_rows_f64)(const float *rows, const int64_t *positions, int64_t n,
                                 int64_t dim, int normalized, double *panels, double *norms) {
    for (int64_t i = 0; i < n; i += KEY_ROWS) {
        const float *row[KEY_ROWS];
        for (int r = 0; r < KEY_ROWS; r++) {
            int64_t index = i + r < n ? i + r : i;
            row[r] = rows + (positions ? positions[index] : index) * dim;
            norms[i + r] = 1.0;
        }
        for (int r = 0; normalized && r < KEY_ROWS; r += 4)
            squares_of_four(row + r, dim, norms + i + r);
        for (int r = 0; normalized && r < KEY_ROWS; r++) norms[i + r] = sqrt(norms[i + r]);
        for (int64_t j = 0; j < dim; j += PACK_COLUMNS)
            widen_columns(row, j, dim - j < PACK_COLUMNS ? (int)(dim - j) : PACK_COLUMNS,
                          panels + i * dim);
    }
}

typedef f64x8 key_sums[KEY_QUERIES][KEY_VECTORS];

/* One lane of the sums of a panel's rows for a tile of queries, of the columns that count. */
WORD void sum_lane(const int what, const farann_key_panels *panels, const double *panel,
                   const double *queries, int lane, key_sums sums) {
    f64x8 unused;
    for (int t = 0; t < KEY_QUERIES; t++)
        for (int v = 0; v < KEY_VECTORS; v++) sums[t][v] = f64x8_zero();
    for (int64_t c = panels->lanes[lane]; c < panels->lanes[lane + 1]; c++) {
        const double *column = panel + panels->columns[c] * KEY_ROWS;
        f64x8 x[KEY_VECTORS];
        for (int v = 0; v < KEY_VECTORS; v++) x[v] = f64x8_load(column + v * 8);
        for (int t = 0; t < KEY_QUERIES; t++) {
            f64x8 q = f64x8_set1(queries[c * KEY_QUERIES + t]);
            for (int v = 0; v < KEY_VECTORS; v++) accumulate(what, x[v], q, &sums[t][v], &unused);
        }
    }
}

WORD void add_sums(key_sums to, key_sums from) {
    for (int t = 0; t < KEY_QUERIES; t++)
        for (int v = 0; v < KEY_VECTORS; v++) to[t][v] = f64x8_add(to[t][v], from[t][v]);
}

/* A lane without columns is 0, and adds nothing. */
WORD int lane_is_empty(const farann_key_panels *panels, int lane) {
    return panels->lanes[lane] == panels->lanes[lane + 1];
}

/* Two lanes, four apart. */
WORD void sum_lane_pair(const int what, const farann_key_panels *panels, const double *panel,
                        const double *queries, int lane, key_sums sums) {
    key_sums other;
    sum_lane(what, panels, panel, queries, lane, sums);
    if (lane_is_empty(panels, lane + 4)) return;
    sum_lane(what, panels, panel, queries, lane + 4, other);
    add_sums(sums, other);
}

/* Four lanes, two apart. */
WORD void sum_lane_pairs(const int what, const farann_key_panels *panels, const double *panel,
                         const double *queries, int lane, key_sums sums) {
    key_sums other;
    sum_lane_pair(what, panels, panel, queries, lane, sums);
    if (lane_is_empty(panels, lane + 2) && lane_is_empty(panels, lane + 6)) return;
    sum_lane_pair(what, panels, panel, queries, lane + 2, other);
    add_sums(sums, other);
}

/* The sums of sum_row, of a panel's rows for a tile of queries. */
WORD void sum_key_panel(const int what, const farann_key_panels *panels, const double *panel,
                        const double *queries, key_sums sums) {
    key_sums odd;
    sum_lane_pairs(what, panels, panel, queries, 0, sums);
    if (panels->lanes[8] == 1 && !lane_is_empty(panels, 0)) return;
    sum_lane_pairs(what, panels, panel, queries, 1, odd);
    add_sums(sums, odd);
}

/* Eight rows whose keys may count: append those that do. */
WORD void append_keys(const int normalized, f64x8 sums, const double *norms, const double *ids,
                      int64_t row, farann_key_threshold *bar) {
    double keys[8];
    f64x8_store(keys, normalized ? f64x8_div(sums, f64x8_load(norms)) : sums);
    for (int r = 0; r < 8; r++) {
        const int equal = keys[r] == bar->least && ids[r] <= bar->last_id;
        if (!(ids[r] < INFINITY && (equal || keys[r] > bar->least))) continue;
        bar->keys[bar->count] = keys[r];
        bar->rows[bar->count++] = row + r;
    }
}

/*
 * Which rows of a panel may have a key above the bar, or one that equals it. Quotients are not
 * computed, as dividing takes longer than the sums: a row whose quotient is rounded to more than
 * `least` has a sum that is more than `least` times its norm by half a step, `beyond`, times that.
 */
WORD uint32_t rows_above(const int normalized, const f64x8 *sums, const double *norms,
                         const farann_key_threshold *bar) {
    const f64x8 least = f64x8_set1(bar->least), negated = f64x8_set1(-bar->least);
    const f64x8 below = f64x8_set1(bar->just_below), beyond = f64x8_set1(bar->beyond);
    uint32_t rows = 0;
    for (int v = 0; v < KEY_VECTORS; v++) {
        f64x8 sum = sums[v], limit = least;
        if (normalized && FUSED) {
            sum = f64x8_add_exact(negated, f64x8_load(norms + v * 8), sum);
            limit = f64x8_mul(beyond, f64x8_load(norms + v * 8));
        } else if (normalized) {
            limit = f64x8_mul(below, f64x8_load(norms + v * 8));
        }
        rows |= f64x8_greater(sum, limit) << v * 8;
    }
    return rows;
}

WORD uint32_t rows_not_below(const int normalized, const f64x8 *sums, const double *norms,
                             const farann_key_threshold *bar) {
    uint32_t rows = 0;
    for (int v = 0; v < KEY_VECTORS; v++) {
        f64x8 below = f64x8_set1(bar->just_below);
        if (normalized) below = f64x8_mul(below, f64x8_load(norms + v * 8));
        rows |= (~f64x8_greater(below, sums[v]) & 255u) << v * 8;
    }
    return rows;
}

/* A panel's rows for one query. */
WORD void compare_keys(const int normalized, const f64x8 *sums, const double *norms,
                       const double *ids, double first_id, int64_t row, farann_key_threshold *bar) {
    const f64x8 near = f64x8_set1(bar->near);
    uint32_t rows = 0;
    for (int v = 0; v < KEY_VECTORS; v++)
        rows |=
            f64x8_greater(sums[v], normalized ? f64x8_mul(near, f64x8_load(norms + v * 8)) : near)
            << v * 8;
    if (!rows) return;
    bar->n_near += FARANN_COUNT_ONES(rows);
    rows = rows_above(normalized, sums, norms, bar);
    /* Among equal keys smaller ids count; most panels have none that is small enough. */
    if (first_id <= bar->last_id) rows |= rows_not_below(normalized, sums, norms, bar);
    if (!rows) return;
    for (int v = 0; v < KEY_VECTORS; v++)
        if (rows >> v * 8 & 255u)
            append_keys(normalized, sums[v], norms + v * 8, ids + v * 8, row + v * 8, bar);
}

WORD void scan_keys(farann_metric metric, const farann_key_panels *panels, int64_t first, int64_t n,
                    const double *queries, double sign, int count, farann_key_threshold *bars) {
    const int what = metric == FARANN_L2 ? SQUARED_DIFFERENCES : PRODUCTS;
    const int normalized = metric == FARANN_COSINE;
    const f64x8 times = f64x8_set1(metric == FARANN_L2 ? sign : -sign);
    for (int64_t i = first; i < first + n; i += KEY_ROWS) {
        key_sums sums;
        sum_key_panel(what, panels, panels->rows + i * panels->dim, queries, sums);
        for (int t = 0; t < count; t++) {
            f64x8 keys[KEY_VECTORS];
            for (int v = 0; v < KEY_VECTORS; v++) keys[v] = f64x8_mul(sums[t][v], times);
            compare_keys(normalized, keys, panels->norms + i, panels->ids + i,
                         panels->first_ids[i / KEY_ROWS], i, &bars[t]);
        }
    }
}

#define SCAN_KEYS(verb_type, metric)                                                                \
    KERNEL(void) NAME(verb_type)(const farann_key_panels *panels, int64_t first, int64_t n,         \
                                 const double *queries, double sign, int count,                     \
                                 farann_key_threshold *bars) {                                      \
        scan_keys(metric, panels, first, n, queries, sign, count, bars);                            \
    }
SCAN_KEYS(scan_keys_l2_f64, FARANN_L2)
SCAN_KEYS(scan_keys_dot_f64, FARANN_DOT)
SCAN_KEYS(scan_keys_cosine_f64, FARANN_COSINE)
