/*
 * Scores in float32: of rows packed as panels for a tile of queries, and of rows as they are for one.
 * Included by all-inl.h.
 */

/* Panels scored at once for a single query, so that their sums don't wait for each other. */
enum { ONE_PANELS = 4 };

/* 1 / |x| of each row of a panel if rows are `normalized`, else 1. */
WORD void panel_scales(const float *const *row, int64_t dim, int normalized, double *scale) {
    for (int r = 0; r < PANEL_ROWS; r += 4) {
        double squares[4] = {1.0, 1.0, 1.0, 1.0};
        if (normalized) sum_rows(SQUARES, 4, row + r, dim, NULL, squares, NULL);
        for (int i = 0; i < 4; i++) scale[r + i] = 1.0 / sqrt(squares[i]);
    }
}

/* Center and scale one coordinate of a panel's rows, in place. */
WORD void center_line(int normalized, float *line, double center, const double *scale) {
    if (normalized) {
        for (int r = 0; r < PANEL_ROWS; r += 8) {
            const f64x8 y = f64x8_mul(f64x8_from_f32(line + r), f64x8_load(scale + r));
            f64x8_store_f32(line + r, f64x8_sub(y, f64x8_set1(center)));
        }
        return;
    }
    for (int r = 0; r < PANEL_ROWS; r += F32_LANES)
        f32_store(line + r, f32_sub(f32_load(line + r), f32_set1((float)center)));
}

/* Columns j .. j + width of a panel's rows, centered, and their squares; width % 4 is 0. */
WORD void pack_centered(const float *const *row, int64_t j, int width, const double *center,
                        float *lines, f32v squares[PANEL_VECTORS]) {
    float centers[PACK_COLUMNS];
    for (int c = 0; c < width; c++) centers[c] = (float)center[j + c];
    for (int v = 0; v < PANEL_VECTORS; v++)
        for (int c = 0; c < width; c += 4) {
            f32v y[4];
            f32_load_columns(row + v * F32_LANES, j + c, y);
            for (int i = 0; i < 4; i++) {
                y[i] = f32_sub(y[i], f32_set1(centers[c + i]));
                squares[v] = f32_fma(y[i], y[i], squares[v]);
                f32_store(lines + (c + i) * PANEL_ROWS + v * F32_LANES, y[i]);
            }
        }
}

/* The same of any width, scaled, too, if rows are `normalized`. */
WORD void pack_scaled(int normalized, const float *const *row, int64_t j, int width,
                      const double *center, const double *scale, float *lines,
                      f32v squares[PANEL_VECTORS]) {
    transpose_rows(PANEL_ROWS, row, j, width, lines);
    for (int c = 0; c < width; c++)
        center_line(normalized, lines + c * PANEL_ROWS, center[j + c], scale);
    for (int c = 0; c < width; c++)
        for (int v = 0; v < PANEL_VECTORS; v++) {
            const f32v y = f32_load(lines + c * PANEL_ROWS + v * F32_LANES);
            squares[v] = f32_fma(y, y, squares[v]);
        }
}

KERNEL(double) NAME(pack_rows_f32)(const float *rows, const int64_t *positions, int64_t n,
                                   int64_t dim, const double *center, int normalized,
                                   float bias_sign, float *panels, float *bias) {
    double largest = 0.0;
    for (int64_t i = 0; i < n; i += PANEL_ROWS) {
        int count = n - i < PANEL_ROWS ? (int)(n - i) : PANEL_ROWS;
        float *panel = panels + i * dim;
        const float *row[PANEL_ROWS], *later[PANEL_ROWS];
        double scale[PANEL_ROWS];
        for (int r = 0; r < PANEL_ROWS; r++) {
            int64_t index = i + (r < count ? r : 0);
            int64_t next = index + PANEL_ROWS;
            if (positions && next >= n) next = n - 1;
            row[r] = rows + (positions ? positions[index] : index) * dim;
            later[r] = rows + (positions ? positions[next] : next) * dim;
        }
        f32v squares[PANEL_VECTORS];
        float norms[PANEL_ROWS];
        panel_scales(row, dim, normalized, scale);
        for (int v = 0; v < PANEL_VECTORS; v++) squares[v] = f32_set1(0.0f);
        for (int64_t j = 0; j < dim; j += PACK_COLUMNS) {
            const int width = dim - j < PACK_COLUMNS ? (int)(dim - j) : PACK_COLUMNS;
            /* A panel's rows are more streams than the processor prefetches by itself. */
            for (int r = 0; r < PANEL_ROWS; r++) FARANN_PREFETCH_FAR(later[r] + j);
            const int fours = normalized ? 0 : width / 4 * 4;
            float *lines = panel + j * PANEL_ROWS;
            if (fours) pack_centered(row, j, fours, center, lines, squares);
            if (fours < width)
                pack_scaled(normalized, row, j + fours, width - fours, center, scale,
                            lines + fours * PANEL_ROWS, squares);
        }
        for (int v = 0; v < PANEL_VECTORS; v++) f32_store(norms + v * F32_LANES, squares[v]);
        for (int r = 0; r < PANEL_ROWS; r++) {
            bias[i + r] = r >= count ? -INFINITY : bias_sign == 0.0f ? 0.0f : bias_sign * norms[r];
            if (r < count && !(norms[r] <= largest)) largest = norms[r];
        }
    }
    return largest;
}

KERNEL(void) NAME(pack_queries_f32)(const float *vectors, int64_t stride, const int64_t *members,
                                    int64_t count, int64_t dim, float *tile) {
    const float *row[TILE_QUERIES];
    for (int t = 0; t < TILE_QUERIES; t++) row[t] = vectors + members[t < count ? t : 0] * stride;
    for (int64_t j = 0; j < dim; j += PACK_COLUMNS) {
        const int width = dim - j < PACK_COLUMNS ? (int)(dim - j) : PACK_COLUMNS;
        transpose_rows(TILE_QUERIES, row, j, width, tile + j * TILE_QUERIES);
    }
}

/* Appends rows of a vector of scores. */
WORD void append_rows(farann_candidates *list, uint32_t mask, const float *scores, int64_t row) {
    int64_t count = list->count;
    for (; mask; mask &= mask - 1) {
        const int r = FARANN_COUNT_TRAILING_ZEROS(mask);
        list->scores[count] = scores[r];
        list->slots[count++] = row + r;
    }
    list->count = count;
}

/*
 * A panel's scores for the first queries of a tile: bias + <query, row>. How many is a constant
 * where this is used, so that their sums stay in registers.
 */
WORD void score_panel(const int n_queries, const float *panel, int64_t dim, const float *bias,
                      const float *query, f32v score[TILE_QUERIES][PANEL_VECTORS]) {
    for (int t = 0; t < n_queries; t++)
        for (int v = 0; v < PANEL_VECTORS; v++) score[t][v] = f32_load(bias + v * F32_LANES);
    for (int64_t j = 0; j < dim; j++) {
        f32v y[PANEL_VECTORS];
        for (int v = 0; v < PANEL_VECTORS; v++) y[v] = f32_load(panel + v * F32_LANES);
        for (int t = 0; t < n_queries; t++) {
            f32v a = f32_set1(query[t]);
            for (int v = 0; v < PANEL_VECTORS; v++) score[t][v] = f32_fma(a, y[v], score[t][v]);
        }
        panel += PANEL_ROWS;
        query += TILE_QUERIES;
    }
}

/* Queries up to which a kernel for part of a tile is used, in place of that for a whole tile. */
enum { HALF_TILE = (TILE_QUERIES + 2) / 2, QUARTER_TILE = (TILE_QUERIES + 2) / 4 };

WORD void scan_panels(const int n_queries, const float *FARANN_RESTRICT panels, int64_t n_rows,
                      int64_t dim, const float *FARANN_RESTRICT bias,
                      const float *FARANN_RESTRICT queries, const float *thresholds,
                      farann_candidates *candidates) {
    for (int64_t i = 0; i < n_rows; i += PANEL_ROWS) {
        f32v score[TILE_QUERIES][PANEL_VECTORS];
        score_panel(n_queries, panels + i * dim, dim, bias + i, queries, score);
        uint32_t mask[TILE_QUERIES], any = 0;
        for (int t = 0; t < n_queries; t++) {
            f32v threshold = f32_set1(thresholds[t]);
            mask[t] = 0;
            for (int v = 0; v < PANEL_VECTORS; v++)
                mask[t] |= f32_greater(score[t][v], threshold) << (v * F32_LANES);
            any |= mask[t];
        }
        if (!FARANN_UNLIKELY(any)) continue;
        float scores[TILE_QUERIES][PANEL_ROWS];
        for (int t = 0; t < n_queries; t++)
            for (int v = 0; v < PANEL_VECTORS; v++)
                f32_store(scores[t] + v * F32_LANES, score[t][v]);
        for (int t = 0; t < n_queries; t++) append_rows(&candidates[t], mask[t], scores[t], i);
    }
}

KERNEL(void) NAME(scan_panels_f32)(const float *panels, int64_t n_rows, int64_t dim,
                                   const float *bias, const float *queries, int64_t n_queries,
                                   const float *thresholds, farann_candidates *candidates) {
    if (n_queries <= QUARTER_TILE)
        scan_panels(QUARTER_TILE, panels, n_rows, dim, bias, queries, thresholds, candidates);
    else if (n_queries <= HALF_TILE)
        scan_panels(HALF_TILE, panels, n_rows, dim, bias, queries, thresholds, candidates);
    else
        scan_panels(TILE_QUERIES, panels, n_rows, dim, bias, queries, thresholds, candidates);
}

WORD void score_panels(const int n_computed, const float *FARANN_RESTRICT panels, int64_t n_rows,
                       int64_t dim, const float *FARANN_RESTRICT bias,
                       const float *FARANN_RESTRICT queries, int64_t n_queries,
                       float *FARANN_RESTRICT scores, int64_t stride) {
    for (int64_t i = 0; i < n_rows; i += PANEL_ROWS) {
        f32v score[TILE_QUERIES][PANEL_VECTORS];
        score_panel(n_computed, panels + i * dim, dim, bias + i, queries, score);
        for (int t = 0; t < n_computed && t < n_queries; t++)
            for (int v = 0; v < PANEL_VECTORS; v++)
                f32_store(scores + t * stride + i + v * F32_LANES, score[t][v]);
    }
}

KERNEL(void) NAME(score_panels_f32)(const float *panels, int64_t n_rows, int64_t dim,
                                    const float *bias, const float *queries, int64_t n_queries,
                                    float *scores, int64_t stride) {
    if (n_queries <= HALF_TILE)
        score_panels(HALF_TILE, panels, n_rows, dim, bias, queries, n_queries, scores, stride);
    else
        score_panels(TILE_QUERIES, panels, n_rows, dim, bias, queries, n_queries, scores, stride);
}

/* Raise the best of a panel's rows to a score less an offset. */
WORD void raise_best(const f32v *score, float offset, float *best) {
    for (int v = 0; v < PANEL_VECTORS; v++) {
        const f32v reached = f32_sub(score[v], f32_set1(offset));
        f32_store(best + v * F32_LANES, f32_max(reached, f32_load(best + v * F32_LANES)));
    }
}

/* The best of each of a panel's rows over a tile of queries. */
WORD void best_of_tile(const float *FARANN_RESTRICT panel, int64_t dim,
                       const float *FARANN_RESTRICT bias, const float *FARANN_RESTRICT query,
                       const float *offsets, float *best) {
    f32v score[TILE_QUERIES][PANEL_VECTORS];
    score_panel(TILE_QUERIES, panel, dim, bias, query, score);
    for (int t = 0; t < TILE_QUERIES; t++) raise_best(score[t], offsets[t], best);
}

/* Scores of some panels for one query of a tile. */
WORD void best_of_one(const int panels, const float *FARANN_RESTRICT panel, int64_t dim,
                      const float *FARANN_RESTRICT bias, const float *FARANN_RESTRICT query,
                      float offset, float *best) {
    f32v score[ONE_PANELS][PANEL_VECTORS];
    for (int p = 0; p < panels; p++)
        for (int v = 0; v < PANEL_VECTORS; v++)
            score[p][v] = f32_load(bias + p * PANEL_ROWS + v * F32_LANES);
    for (int64_t j = 0; j < dim; j++) {
        const f32v a = f32_set1(query[j * TILE_QUERIES]);
        for (int p = 0; p < panels; p++)
            for (int v = 0; v < PANEL_VECTORS; v++)
                score[p][v] = f32_fma(a,
                                      f32_load(panel + (p * dim + j) * PANEL_ROWS + v * F32_LANES),
                                      score[p][v]);
    }
    for (int p = 0; p < panels; p++) raise_best(score[p], offset, best + p * PANEL_ROWS);
}

KERNEL(void) NAME(best_scores_f32)(const float *panels, int64_t n_rows, int64_t dim,
                                   const float *bias, const float *queries, int64_t n_queries,
                                   const float *offsets, float *best) {
    int64_t i = 0;
    if (n_queries == 1) {
        for (; i + ONE_PANELS * PANEL_ROWS <= n_rows; i += ONE_PANELS * PANEL_ROWS)
            best_of_one(ONE_PANELS, panels + i * dim, dim, bias + i, queries, *offsets, best + i);
        for (; i < n_rows; i += PANEL_ROWS)
            best_of_one(1, panels + i * dim, dim, bias + i, queries, *offsets, best + i);
        return;
    }
    for (int64_t first = 0; first < n_queries; first += TILE_QUERIES)
        for (i = 0; i < n_rows; i += PANEL_ROWS)
            best_of_tile(panels + i * dim, dim, bias + i, queries + first * dim, offsets + first,
                         best + i);
}

/* ---- rows as they are, row after row, for one query ---- */

/* Floats of a cache line, and the least distance, in floats, at which rows are prefetched: with half
   of it, or into L2, a query took 1.05 to 1.15 times as long (AMD EPYC, Zen 5). */
enum { LINE = 16, FAR_AHEAD = 2048 };

/* Sums for `normalized` rows, for centered rows, and for centered rows without |y|^2. */
enum row_sums { SUMS_AS_THEY_ARE, SUMS_CENTERED, SUMS_OF_PRODUCTS };

/* Add one vector of coordinates x of a row to <query_vector, y> and |y|^2; `normalized` rows have no
   center. */
WORD void score_step(const enum row_sums sums, f32v x, f32v center, f32v query_vector,
                     f32v *product, f32v *square) {
    const f32v y = sums == SUMS_AS_THEY_ARE ? x : f32_sub(x, center);
    *product = f32_fma(query_vector, y, *product);
    if (sums != SUMS_OF_PRODUCTS) *square = f32_fma(y, y, *square);
}

/*
 * The number of floats before the first aligned vector of a row. A vector across two cache lines
 * takes twice the time to load, which shows when the cache holds the rows.
 */
WORD int64_t lanes_to_a_line(const float *row) {
    const uintptr_t bytes = F32_LANES * sizeof *row;
    return (int64_t)((bytes - (uintptr_t)row % bytes) % bytes / sizeof *row);
}

/*
 * Sum four rows side by side, so that their sums don't wait for each other; short rows fill no
 * vector. The line `ahead` floats further on is prefetched: the processor prefetches too little of
 * four rows.
 */
WORD void score_four(const enum row_sums sums, const int are_short, const float *const *row,
                     int64_t head, int64_t dim, int64_t ahead, const float *center,
                     const float *query_vector, f32v *products, f32v *squares) {
    f32v product[4], square[4];
    /* Sums of tiny numbers take a hundred cycles where they are denormal; docs/how-it-works. */
    const f32v start = f32_set1(sums == SUMS_AS_THEY_ARE ? 0x1p-120f : 0.0f);
    int64_t j = 0;
    for (int r = 0; r < 4; r++) product[r] = square[r] = start;
    if (!are_short && head) {
        const f32v c = f32_load_first(center, head), w = f32_load_first(query_vector, head);
        for (int r = 0; r < 4; r++)
            score_step(sums, f32_load_first(row[r], head), c, w, &product[r], &square[r]);
        j = head;
    }
    for (; !are_short && j + F32_LANES <= dim; j += F32_LANES) {
        const f32v c = f32_load(center + j), w = f32_load(query_vector + j);
        for (int r = 0; r < 4; r++) {
            if ((j - head) % LINE == 0) FARANN_PREFETCH(row[r] + j + ahead);
            score_step(sums, f32_load(row[r] + j), c, w, &product[r], &square[r]);
        }
    }
    if (!are_short && head) {
        const f32v c = f32_load_first(center + j, dim - j);
        const f32v w = f32_load_first(query_vector + j, dim - j);
        for (int r = 0; r < 4; r++)
            score_step(sums, f32_load_first(row[r] + j, dim - j), c, w, &product[r], &square[r]);
    } else if (are_short || j < dim) {
        const f32v c = f32_load(center + j), w = f32_load(query_vector + j);
        for (int r = 0; r < 4; r++) {
            FARANN_PREFETCH(row[r] + j + ahead);
            score_step(sums, f32_load_first(row[r] + j, dim - j), c, w, &product[r], &square[r]);
        }
    }
    *products = f32_sums_of_four(product);
    *squares = f32_sums_of_four(square);
}

/* The smallest and the largest norm seen, by lane, and a sum that any NaN spoils. */
typedef struct {
    f32v smallest, largest, sum;
} norm_range;

WORD void write_norms(const norm_range *range, float *norms) {
    float smallest[F32_LANES], largest[F32_LANES], sum[F32_LANES];
    f32_store(smallest, range->smallest);
    f32_store(largest, range->largest);
    f32_store(sum, range->sum);
    norms[0] = INFINITY;
    norms[1] = 0.0f;
    for (int r = 0; r < F32_LANES; r++) {
        if (smallest[r] < norms[0]) norms[0] = smallest[r];
        if (largest[r] > norms[1]) norms[1] = largest[r];
    }
    for (int r = 0; r < F32_LANES; r++)
        if (sum[r] != sum[r]) norms[0] = norms[1] = sum[r];
}

/* n >= F32_LANES rows, F32_LANES at once: adding up lanes costs the most for short rows. */
WORD void score_rows(const enum row_sums sums, const int are_short, const int scattered,
                     const float *rows, const int64_t *positions, int64_t n, int64_t dim,
                     const float *center, const float *query_vector, float bias_sign, float *scores,
                     float *norms) {
    /* AHEAD: scattered rows prefetched; FOURS: fours of rows a vector; LONG: floats of a row from
       which aligned loads pay. */
    enum { AHEAD = 8, FOURS = F32_LANES / 4, LONG = 128 };
    const int64_t ahead = scattered ? 0 : 16 * dim > FAR_AHEAD ? 16 * dim : FAR_AHEAD;
    const int aligned_alike = !scattered && dim % F32_LANES == 0 && dim >= LONG;
    const int64_t head = aligned_alike ? lanes_to_a_line(rows) : 0;
    const f32v zero = f32_set1(0.0f);
    norm_range range = {f32_set1(INFINITY), zero, zero};
    for (int64_t i = 0; scattered && i < n && i < AHEAD; i++)
        prefetch_row(rows + positions[i] * dim, dim);
    for (int64_t i = 0; i < n; i += F32_LANES) {
        f32v products[FOURS], squares[FOURS];
        /* The last ones: some of these are scored a second time. */
        if (i > n - F32_LANES) i = n - F32_LANES;
        for (int f = 0; f < FOURS; f++) {
            const int64_t first = i + 4 * f;
            const float *row[4];
            for (int r = 0; r < 4; r++) {
                row[r] = rows + (scattered ? positions[first + r] : first + r) * dim;
                if (scattered && first + r + AHEAD < n)
                    prefetch_row(rows + positions[first + r + AHEAD] * dim, dim);
            }
            score_four(sums, are_short, row, head, dim, ahead, center, query_vector, &products[f],
                       &squares[f]);
        }
        const f32v product = f32_join_fours(products);
        if (sums == SUMS_OF_PRODUCTS) {
            f32_store(scores + i, product);
            continue;
        }
        const f32v square = f32_join_fours(squares);
        f32_store(scores + i, sums == SUMS_AS_THEY_ARE
                                  ? f32_div(product, f32_sqrt(square))
                                  : f32_fma(f32_set1(bias_sign), square, product));
        range.smallest = f32_min(square, range.smallest);
        range.largest = f32_max(square, range.largest);
        range.sum = f32_add(range.sum, square);
    }
    if (sums != SUMS_OF_PRODUCTS) write_norms(&range, norms);
}

KERNEL(void) NAME(score_rows_f32)(const float *rows, const int64_t *positions, int64_t n,
                                  int64_t dim, const float *center, const float *query_vector,
                                  int normalized, float bias_sign, float *scores, float *norms) {
    const int64_t few = n < F32_LANES ? n : 0;
    int64_t repeated[F32_LANES];
    float all[F32_LANES], *to = scores;
    if (few) { /* then the last one again and again */
        for (int64_t i = 0; i < F32_LANES; i++) {
            const int64_t row = i < few ? i : few - 1;
            repeated[i] = positions ? positions[row] : row;
        }
        positions = repeated, n = F32_LANES, to = all;
    }
#define SCORE_THESE(sums, are_short, scattered)                                                      \
    score_rows(sums, are_short, scattered, rows, positions, n, dim, center, query_vector, bias_sign, \
               to, norms)
#define SCORE(sums, are_short)                                                                       \
    if (positions)                                                                                   \
        SCORE_THESE(sums, are_short, 1);                                                             \
    else                                                                                             \
        SCORE_THESE(sums, are_short, 0)
    if (normalized && dim <= F32_LANES) {
        SCORE(SUMS_AS_THEY_ARE, 1);
    } else if (normalized) {
        SCORE(SUMS_AS_THEY_ARE, 0);
    } else if (!norms) {
        SCORE(SUMS_OF_PRODUCTS, 0);
    } else if (dim <= F32_LANES) {
        SCORE(SUMS_CENTERED, 1);
    } else {
        SCORE(SUMS_CENTERED, 0);
    }
#undef SCORE
#undef SCORE_THESE
    if (few) memcpy(scores, all, (size_t)few * sizeof *all);
}
