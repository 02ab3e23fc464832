/*
 * Tiles of queries against panels of codes, with the sums in vector registers. Included by
 * codes-inl.h. The matrix unit's way is code_tiles_amx-inl.h.
 *
 * A tile of codes: an entry a query a group, queries side by side.
 */

/* See tile_groups and few_tiles of farann_kernels. */
enum { TILE_GROUPS = 1, FEW_TILES = 8 };
/* Queries up to which a scan takes half the time of a tile; 0: there is none. */
enum { HALF_CODE_TILE = CODE_QUERIES >= 5 ? CODE_QUERIES / 2 : 0 };
/* Vectors of sums a query and in a tile; the rows of a tile's panels fit a 32-bit mask. */
enum { MOST_VECTORS = CODE_PANELS * PANEL_I32, MOST_SUMS = CODE_QUERIES * MOST_VECTORS };

/* There is nothing to prepare. */
KERNEL(void) NAME(begin)(void) {}
KERNEL(void) NAME(end)(void) {}

KERNEL(void) NAME(gather_codes)(const uint32_t *codes, const int64_t *members, int64_t count,
                                int64_t groups, uint32_t *tile) {
    int64_t i = 0;
    for (; i + 4 <= count; i += 4) {
        const float *from[4];
        int64_t g = 0;
        for (int j = 0; j < 4; j++) from[j] = (const float *)(codes + members[i + j] * groups);
        /* Words are moved as they are, whatever they mean. */
        for (; g + 4 <= groups; g += 4)
            f32_transpose4(from[0] + g, from[1] + g, from[2] + g, from[3] + g,
                           (float *)tile + g * CODE_QUERIES + i, CODE_QUERIES);
        for (; g < groups; g++)
            for (int j = 0; j < 4; j++)
                tile[g * CODE_QUERIES + i + j] = codes[members[i + j] * groups + g];
    }
    for (; i < count; i++)
        for (int64_t g = 0; g < groups; g++)
            tile[g * CODE_QUERIES + i] = codes[members[i] * groups + g];
}

/*
 * Limits of a panel by query: where sums start, -1 minus the limit in whole numbers; or, if rows
 * have squares, the part of the limit that doesn't depend on these.
 */
typedef union {
    int32_t starts[FARANN_MOST_TILE_QUERIES];
    float part[FARANN_MOST_TILE_QUERIES];
} farann_panel_limits;

WORD void set_limits(const int held, const int squared, const farann_coded_rows *rows,
                     int64_t panel, const farann_pass_thresholds *bars,
                     farann_panel_limits *limits) {
    for (int lane = 0; lane < CODE_QUERIES; lane += F32_LANES) {
        f32v limit = limits_at(held, rows, panel, bars, lane);
        if (squared)
            f32_store(limits->part + lane, limit);
        else
            i32_store(limits->starts + lane, i32_sub(i32_set1(-1), i32_from_f32(limit)));
    }
}

/* Where the sums of a vector of rows begin, for query t: rows pass that end at 0 or above. */
WORD i32v row_starts(const int squared, const farann_coded_rows *rows, int64_t row,
                     const farann_pass_thresholds *bars, const farann_panel_limits *limits, int t) {
    if (!squared) return i32_set1(limits->starts[t]);
    f32v limit = f32_fma(f32_load(rows->squares + row), f32_set1(bars->square[t]),
                         f32_set1(limits->part[t]));
    return i32_sub(i32_set1(-1), i32_from_f32(limit));
}

/*
 * Append the rows that pass, of some vectors of rows for each query. Seldom called, and apart from
 * the scan, which needs all registers.
 */
FARANN_NOINLINE static KERNEL(void)
NAME(collect_codes)(int width, int vectors, const farann_coded_rows *rows, int64_t first,
                    const farann_panel_limits *limits, const farann_coded_tile *tile,
                    const int32_t *sums, farann_candidates *candidates) {
    const farann_pass_thresholds *bars = tile->bars;
    uint32_t before[MOST_VECTORS] = {0};
    for (int t = 0; t < width; t++)
        for (int v = 0; v < vectors; v++, sums += I32_LANES) {
            const int64_t row = first + v * I32_LANES;
            i32v sum = i32_load(sums);
            uint32_t mask = i32_greater(sum, i32_set1(-1));
            if (tile->chain && tile->chain[t]) mask &= before[v];
            before[v] = mask;
            if (!mask || (tile->chain && tile->chain[t + 1])) continue;
            sum = i32_sub(sum, row_starts(rows->squares != NULL, rows, row, bars,
                                          limits + v / PANEL_I32, t));
            append_scores(&candidates[t], mask,
                          scores_of(rows, row, scale_at(rows, row), bars, t, sum), row);
        }
}

/*
 * Adds the products of the first `width` queries of a tile with `panels` panels from row `first`
 * on: constants at each call, so that sums are registers.
 */
WORD void sum_code_panels(const int width, const int panels, const int held,
                          const farann_coded_rows *rows, int64_t first, const uint32_t *queries,
                          i32v *sum) {
    enum { GROUP_BYTES = FARANN_CODE_PANEL * FARANN_CODE_GROUP, STEP = CODE_QUERIES };
    const int64_t groups = rows->groups, panel_bytes = bytes_of_panel(held, groups);
    const int64_t at = first / FARANN_CODE_PANEL * panel_bytes;
    const uint8_t *panel = rows->panels + at;
    const uint8_t *low = held == BOTH_NIBBLES ? rows->low_nibbles + at : panel;
    if (held == WHOLE)
        for (int64_t g = 0; g < groups; g++) {
            add_group(width, panels, held, 0, panel, low, panel_bytes, queries, sum);
            panel += GROUP_BYTES;
            queries += STEP;
        }
    else
        for (int64_t p = 0; p < groups / 2; p++) {
            add_group(width, panels, held, 0, panel, low, panel_bytes, queries, sum);
            add_group(width, panels, held, 1, panel, low, panel_bytes, queries + STEP, sum);
            panel += GROUP_BYTES;
            low += FARANN_CODE_QUAD * FARANN_CODE_GROUP;
            queries += 2 * STEP;
        }
    if (held != WHOLE && groups % 2)
        add_group(width, panels, held, 0, panel, low, panel_bytes, queries, sum);
}

/*
 * Signs of the rows of a few vectors, lane by lane: one is clear only if a row passes for a query,
 * or for all queries of a chain.
 */
WORD i32v signs_of(const int width, const int vectors, const int32_t *chain, const i32v *sum) {
    i32v signs = i32_set1(-1);
    if (!chain) {
        for (int t = 0; t < width; t++)
            for (int v = 0; v < vectors; v++) signs = i32_and(signs, sum[t * vectors + v]);
        return signs;
    }
    for (int v = 0; v < vectors; v++) {
        i32v chained = i32_set1(0);
        for (int t = 0; t < width; t++) {
            chained = i32_or(sum[t * vectors + v], i32_and(i32_set1(chain[t]), chained));
            signs = i32_and(signs, i32_or(i32_set1(chain[t + 1]), chained));
        }
    }
    return signs;
}

/* Scan some panels for a tile of queries. */
WORD void scan_code_panels(const int width, const int panels, const int held, const int squared,
                           const farann_coded_rows *rows, int64_t row,
                           const farann_panel_limits *limits, const farann_coded_tile *tile,
                           farann_candidates *candidates) {
    const int vectors = panels * PANEL_I32;
    i32v sum[MOST_SUMS];
    for (int t = 0; t < width; t++)
        for (int v = 0; v < vectors; v++)
            sum[t * vectors + v] = row_starts(squared, rows, row + v * I32_LANES, tile->bars,
                                              limits + v / PANEL_I32, t);
    sum_code_panels(width, panels, held, rows, row, tile->codes, sum);
    /* One test of all signs for whether any row passes: nearly always none does. */
    const i32v signs = signs_of(width, vectors, tile->chain, sum);
    if (!FARANN_UNLIKELY(i32_greater(signs, i32_set1(-1)))) return;
    int32_t sums[MOST_SUMS * I32_LANES];
    /* Two short loops, which compilers unroll: one long one would put all sums in memory. */
    for (int t = 0; t < width; t++)
        for (int v = 0; v < vectors; v++)
            i32_store(sums + (t * vectors + v) * I32_LANES, sum[t * vectors + v]);
    NAME(collect_codes)(width, vectors, rows, row, limits, tile, sums, candidates);
}

/* The limits of some panels first: they would cost more one by one. */
WORD void scan_all_panels(const int width, const int held, const int squared,
                          const farann_coded_rows *rows, int64_t n, const farann_coded_tile *tile,
                          farann_candidates *candidates) {
    enum { PANELS_AT_ONCE = 32 }; /* panels whose limits are computed together */
    farann_panel_limits limits[PANELS_AT_ONCE];
    const int64_t n_panels = (n + FARANN_CODE_PANEL - 1) / FARANN_CODE_PANEL;
    for (int64_t at = 0; at < n_panels; at += PANELS_AT_ONCE) {
        int64_t p = 0, count = n_panels - at < PANELS_AT_ONCE ? n_panels - at : PANELS_AT_ONCE;
        for (int64_t i = 0; i < count; i++)
            set_limits(held, squared, rows, at + i, tile->bars, limits + i);
        for (; p + CODE_PANELS <= count; p += CODE_PANELS) {
            scan_code_panels(width, CODE_PANELS, held, squared, rows, (at + p) * FARANN_CODE_PANEL,
                             limits + p, tile, candidates);
        }
        for (; p < count; p++)
            scan_code_panels(width, 1, held, squared, rows, (at + p) * FARANN_CODE_PANEL,
                             limits + p, tile, candidates);
    }
}

/* Score panels, which `behind` more follow, for a tile of queries, `stride` floats apart. */
WORD void score_code_panels(const int panels, const int held, int64_t behind,
                            const farann_coded_rows *rows, int64_t row,
                            const farann_coded_tile *tile, float *scores, int64_t stride) {
    const int vectors = panels * PANEL_I32;
    (void)behind; /* nothing is read beyond a panel */
    i32v sum[MOST_SUMS];
    for (int t = 0; t < CODE_QUERIES; t++)
        for (int v = 0; v < vectors; v++) sum[t * vectors + v] = i32_set1(0);
    sum_code_panels(CODE_QUERIES, panels, held, rows, row, tile->codes, sum);
    write_scores(CODE_QUERIES, panels, rows, row, tile->bars, sum, scores, stride);
}
