/*
 * Canonical keys of many rows for many queries, written once. Included by kernels-inl.h, in the
 * midst of each instruction set's kernels.
 *
 * Rows lie side by side in panels, so that a vector holds one lane of the canonical sum for eight
 * rows. The lanes are summed one after another, and added up in the order of f64x8_sum.
 */

enum { KEY_ROWS = KEY_VECTORS * 8 };

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
                                 int64_t dim, int unit, double *panels, double *norms) {
    for (int64_t i = 0; i < n; i += KEY_ROWS) {
        const float *row[KEY_ROWS];
        for (int r = 0; r < KEY_ROWS; r++) {
            int64_t index = i + r < n ? i + r : i;
            row[r] = rows + (positions ? positions[index] : index) * dim;
            norms[i + r] = unit ? sqrt(squares_of(row[r], dim)) : 1.0;
        }
        for (int64_t j = 0; j < dim; j += PACK_COLUMNS)
            widen_columns(row, j, dim - j < PACK_COLUMNS ? (int)(dim - j) : PACK_COLUMNS,
                          panels + i * dim);
    }
}

typedef f64x8 key_sums[KEY_QUERIES][KEY_VECTORS];

/* One lane of the sums of a panel's rows for a tile of queries. */
WORD void sum_lane(const int what, const double *panel, int64_t dim, const double *queries,
                   int64_t lane, key_sums sums) {
    f64x8 unused;
    for (int t = 0; t < KEY_QUERIES; t++)
        for (int v = 0; v < KEY_VECTORS; v++) sums[t][v] = f64x8_zero();
    for (int64_t j = lane; j < dim; j += 8) {
        f64x8 x[KEY_VECTORS];
        for (int v = 0; v < KEY_VECTORS; v++) x[v] = f64x8_load(panel + j * KEY_ROWS + v * 8);
        for (int t = 0; t < KEY_QUERIES; t++) {
            f64x8 q = f64x8_set1(queries[j * KEY_QUERIES + t]);
            for (int v = 0; v < KEY_VECTORS; v++) accumulate(what, x[v], q, &sums[t][v], &unused);
        }
    }
}

WORD void add_sums(key_sums to, key_sums from) {
    for (int t = 0; t < KEY_QUERIES; t++)
        for (int v = 0; v < KEY_VECTORS; v++) to[t][v] = f64x8_add(to[t][v], from[t][v]);
}

/* Two lanes, four apart. A lane without coordinates is 0, and adds nothing. */
WORD void sum_lane_pair(const int what, const double *panel, int64_t dim, const double *queries,
                        int64_t lane, key_sums sums) {
    key_sums other;
    sum_lane(what, panel, dim, queries, lane, sums);
    if (lane + 4 >= dim) return;
    sum_lane(what, panel, dim, queries, lane + 4, other);
    add_sums(sums, other);
}

/* The sums of sum_row, of a panel's rows for a tile of queries. */
WORD void sum_key_panel(const int what, const double *panel, int64_t dim, const double *queries,
                    key_sums sums) {
    key_sums odd, pair;
    sum_lane_pair(what, panel, dim, queries, 0, sums);
    if (dim > 2) {
        sum_lane_pair(what, panel, dim, queries, 2, pair);
        add_sums(sums, pair);
    }
    if (dim <= 1) return;
    sum_lane_pair(what, panel, dim, queries, 1, odd);
    if (dim > 3) {
        sum_lane_pair(what, panel, dim, queries, 3, pair);
        add_sums(odd, pair);
    }
    add_sums(sums, odd);
}

/* Eight rows whose keys may count: append those that do. */
WORD void append_keys(const int unit, f64x8 sums, const double *norms, const double *ids,
                      int64_t row, farann_key_bar *bar) {
    double keys[8];
    f64x8_store(keys, unit ? f64x8_div(sums, f64x8_load(norms)) : sums);
    for (int r = 0; r < 8; r++) {
        const int equal = keys[r] == bar->least && ids[r] <= bar->last_id;
        if (!(ids[r] < INFINITY && (equal || keys[r] > bar->least))) continue;
        bar->keys[bar->count] = keys[r];
        bar->rows[bar->count++] = row + r;
    }
}

/*
 * Quotients by norms are left to append_keys, as dividing takes longer than the sums: `just_below`
 * times the norm is less than any sum whose quotient reaches the bar.
 */
WORD void compare_keys(const int unit, f64x8 sums, const double *norms, const double *ids,
                       int64_t row, farann_key_bar *bar) {
    f64x8 near = f64x8_set1(bar->near), least = f64x8_set1(bar->just_below);
    if (unit) {
        f64x8 norm = f64x8_load(norms);
        near = f64x8_mul(near, norm);
        least = f64x8_mul(least, norm);
    }
    const uint32_t mask = f64x8_greater(sums, near);
    if (!mask) return;
    bar->n_near += FARANN_COUNT_ONES(mask);
    const uint32_t better = f64x8_greater(sums, least);
    const uint32_t later = f64x8_greater(f64x8_load(ids), f64x8_set1(bar->last_id));
    const uint32_t worse = f64x8_greater(least, sums);
    if (better | (~(worse | later) & 255u)) append_keys(unit, sums, norms, ids, row, bar);
}

WORD void scan_keys(farann_metric metric, const farann_key_panels *panels, int64_t first, int64_t n,
                    const double *queries, double sign, int count, farann_key_bar *bars) {
    const int what = metric == FARANN_L2 ? SQUARED_DIFFERENCES : PRODUCTS;
    const int unit = metric == FARANN_COSINE;
    const f64x8 times = f64x8_set1(metric == FARANN_L2 ? sign : -sign);
    for (int64_t i = first; i < first + n; i += KEY_ROWS) {
        key_sums sums;
        sum_key_panel(what, panels->rows + i * panels->dim, panels->dim, queries, sums);
        for (int t = 0; t < KEY_QUERIES; t++)
            for (int v = 0; v < KEY_VECTORS && t < count; v++)
                compare_keys(unit, f64x8_mul(sums[t][v], times), panels->norms + i + v * 8,
                             panels->ids + i + v * 8, i + v * 8, &bars[t]);
    }
}

KERNEL(void) NAME(scan_keys_l2_f64)(const farann_key_panels *panels, int64_t first, int64_t n,
                                    const double *queries, double sign, int count,
                                    farann_key_bar *bars) {
    scan_keys(FARANN_L2, panels, first, n, queries, sign, count, bars);
}

KERNEL(void) NAME(scan_keys_dot_f64)(const farann_key_panels *panels, int64_t first, int64_t n,
                                     const double *queries, double sign, int count,
                                     farann_key_bar *bars) {
    scan_keys(FARANN_DOT, panels, first, n, queries, sign, count, bars);
}

KERNEL(void) NAME(scan_keys_cosine_f64)(const farann_key_panels *panels, int64_t first, int64_t n,
                                        const double *queries, double sign, int count,
                                        farann_key_bar *bars) {
    scan_keys(FARANN_COSINE, panels, first, n, queries, sign, count, bars);
}
