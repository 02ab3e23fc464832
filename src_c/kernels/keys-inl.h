/*
 * Exact keys, in float64: the same bits at every level. Included by all-inl.h.
 */

/* The terms summed over coordinates; a constant at each call, so the branches vanish. */
enum { SQUARED_DIFFERENCES, PRODUCTS, PRODUCTS_AND_SQUARES, SQUARES };

WORD void accumulate(const int what, f64x8 x, f64x8 q, f64x8 *sum, f64x8 *squares) {
    if (what == SQUARED_DIFFERENCES) {
        f64x8 difference = f64x8_sub(q, x);
        *sum = f64x8_add(*sum, f64x8_mul(difference, difference));
        return;
    }
    *sum = f64x8_add_exact(q, x, *sum);
    if (what == PRODUCTS_AND_SQUARES) *squares = f64x8_add_exact(x, x, *squares);
}

/*
 * The sums of n rows: four that lie apart, so that neither sums nor memory wait for each other; or
 * one, as memory is then read in order: several rows side by side ran at a third of the bandwidth.
 */
WORD void sum_rows(const int what, const int n, const float *const *row, int64_t dim,
                   const double *query, double *sums, double *squares) {
    const int64_t whole = dim - dim % 8;
    f64x8 sum[4], norm[4], x;
    for (int r = 0; r < n; r++) sum[r] = norm[r] = f64x8_zero();
    for (int64_t j = 0; j < whole; j += 8)
        for (int r = 0; r < n; r++) {
            x = f64x8_from_f32(row[r] + j);
            accumulate(what, x, what == SQUARES ? x : f64x8_load(query + j), &sum[r], &norm[r]);
        }
    for (int r = 0; r < n; r++) {
        if (whole < dim) {
            x = f64x8_from_f32_first(row[r] + whole, dim - whole);
            accumulate(what, x, what == SQUARES ? x : f64x8_load(query + whole), &sum[r], &norm[r]);
        }
        if (what == PRODUCTS_AND_SQUARES) squares[r] = f64x8_sum(norm[r]);
        sums[r] = f64x8_sum(sum[r]);
    }
}

WORD double key_of(farann_metric metric, double sum, double squares) {
    if (metric == FARANN_L2) return sum;
    return metric == FARANN_DOT ? -sum : -(sum / sqrt(squares));
}

/* Prefetch the first lines of a scattered row; the CPU prefetches the rest. */
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
        double sums[4], squares[4] = {1.0, 1.0, 1.0, 1.0};
        for (int64_t r = i + AHEAD; r < i + AHEAD + 4 && r < n; r++)
            prefetch_row(rows + positions[r] * dim, dim);
        for (int r = 0; r < 4; r++) row[r] = rows + positions[i + r] * dim;
        sum_rows(what, 4, row, dim, query, sums, squares);
        for (int r = 0; r < 4; r++) keys[i + r] = key_of(metric, sums[r], squares[r]);
    }
    for (; metric == FARANN_COSINE && !positions && i + 8 <= n; i += 8) {
        double sums[8], squares[8];
        for (int r = 0; r < 8; r++) {
            const float *row = rows + (i + r) * dim;
            sum_rows(what, 1, &row, dim, query, &sums[r], &squares[r]);
        }
        /* Roots and quotients of a vector at a time. */
        for (int r = 0; r < 8; r++) keys[i + r] = key_of(metric, sums[r], squares[r]);
    }
    for (; i < n; i++) {
        double sum, squares = 1.0;
        const float *row = rows + (positions ? positions[i] : i) * dim;
        sum_rows(what, 1, &row, dim, query, &sum, &squares);
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

/*
 * Exact keys of many rows for many queries.
 *
 * Rows lie side by side in panels, so that a vector holds one lane of an exact key's sum for eight
 * rows. The lanes are summed one after another, and added up in the order of f64x8_sum. Of columns in
 * which no query of a tile is other than 0 products are 0, and change no sum.
 */

/* Columns j .. j + width of n rows, coordinate by coordinate. */
WORD void transpose_rows(const int n, const float *const *row, int64_t j, int width, float *lines) {
    const int whole = width / 4 * 4;
    int r = 0;
    for (; r + F32_LANES <= n; r += F32_LANES)
        for (int c = 0; c < whole; c += 4) {
            f32v columns[4];
            f32_load_columns(row + r, j + c, columns);
            for (int i = 0; i < 4; i++) f32_store(lines + (c + i) * n + r, columns[i]);
        }
    for (; r + 4 <= n; r += 4)
        for (int c = 0; c < whole; c += 4)
            f32_transpose4(row[r] + j + c, row[r + 1] + j + c, row[r + 2] + j + c,
                           row[r + 3] + j + c, lines + c * n + r, n);
    for (; r < n; r++)
        for (int c = 0; c < whole; c++) lines[c * n + r] = row[r][j + c];
    for (int c = whole; c < width; c++)
        for (r = 0; r < n; r++) lines[c * n + r] = row[r][j + c];
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
            sum_rows(SQUARES, 4, row + r, dim, NULL, norms + i + r, NULL);
        for (int r = 0; normalized && r < KEY_ROWS; r++) norms[i + r] = sqrt(norms[i + r]);
        for (int64_t j = 0; j < dim; j += PACK_COLUMNS) {
            const int width = dim - j < PACK_COLUMNS ? (int)(dim - j) : PACK_COLUMNS;
            float lines[PACK_COLUMNS * KEY_ROWS];
            transpose_rows(KEY_ROWS, row, j, width, lines);
            for (int r = 0; r < width * KEY_ROWS; r += 8)
                f64x8_store(panels + i * dim + j * KEY_ROWS + r, f64x8_from_f32(lines + r));
        }
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

/* The sums of sum_rows, of a panel's rows for a tile of queries. Lanes without columns are 0. */
WORD void sum_key_panel(const int what, const farann_key_panels *panels, const double *panel,
                        const double *queries, key_sums sums[4]) {
    const int64_t *lanes = panels->lanes;
    int filled[4];
    for (int lane = 0; lane < 4; lane++) {
        key_sums other;
        sum_lane(what, panels, panel, queries, lane, sums[lane]);
        filled[lane] = lanes[lane + 1] > lanes[lane] || lanes[lane + 5] > lanes[lane + 4];
        if (lanes[lane + 5] == lanes[lane + 4]) continue;
        sum_lane(what, panels, panel, queries, lane + 4, other);
        add_sums(sums[lane], other);
    }
    if (filled[2]) add_sums(sums[0], sums[2]);
    if (filled[3]) add_sums(sums[1], sums[3]);
    if (filled[1] || filled[3]) add_sums(sums[0], sums[1]);
}

/* Append those of eight rows whose keys count. Among equal keys smaller ids do; most panels have no
   id that is small enough. */
WORD void append_keys(f64x8 keys, const double *ids, double first_id, int64_t row,
                      farann_key_threshold *bar) {
    const f64x8 least = f64x8_set1(bar->least);
    double key[8];
    uint32_t rows = f64x8_greater(keys, least);
    if (first_id <= bar->last_id) rows |= ~f64x8_greater(least, keys) & 255u;
    if (!rows) return;
    f64x8_store(key, keys);
    for (; rows; rows &= rows - 1) {
        const int r = FARANN_COUNT_TRAILING_ZEROS(rows);
        const int equal = key[r] == bar->least && ids[r] <= bar->last_id;
        if (ids[r] == INFINITY || !(equal || key[r] > bar->least)) continue;
        bar->keys[bar->count] = key[r];
        bar->rows[bar->count++] = row + r;
    }
}

WORD void scan_keys(farann_metric metric, const farann_key_panels *panels, int64_t first, int64_t n,
                    const double *queries, double sign, int count, farann_key_threshold *bars) {
    const int what = metric == FARANN_L2 ? SQUARED_DIFFERENCES : PRODUCTS;
    const f64x8 times = f64x8_set1(metric == FARANN_L2 ? sign : -sign);
    key_sums sums[4];
    for (int64_t i = first; i < first + n; i += KEY_ROWS) {
        sum_key_panel(what, panels, panels->rows + i * panels->dim, queries, sums);
        for (int t = 0; t < count; t++)
            for (int v = 0; v < KEY_VECTORS; v++) {
                const int64_t row = i + v * 8;
                f64x8 key = f64x8_mul(sums[0][t][v], times), near = f64x8_set1(bars[t].near);
                const f64x8 norms = f64x8_load(panels->norms + row);
                if (metric == FARANN_COSINE) near = f64x8_mul(near, norms);
                const uint32_t rows = f64x8_greater(key, near);
                if (!rows) continue;
                bars[t].n_near += FARANN_COUNT_ONES(rows);
                /* Dividing takes longer than the sums: few rows are near. */
                if (metric == FARANN_COSINE) key = f64x8_div(key, norms);
                append_keys(key, panels->ids + row, panels->first_ids[i / KEY_ROWS], row, &bars[t]);
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
