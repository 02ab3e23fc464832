/*
 * Tiles of queries against panels of codes, with the sums in tiles of Intel's matrix unit (AMX).
 * Included by codes-inl.h, in place of code_tiles-inl.h. A panel's codes lie as the unit
 * wants its second factor to: a line has a group of each row.
 *
 * A tile of codes: [sixteen groups][query][..]. What a tile has beyond a panel's groups is zero, and
 * what is read beyond these counts for nothing.
 */

/* Groups that a line of the unit's tiles holds; see tile_groups and few_tiles of farann_kernels. */
enum { TILE_GROUPS = AMX_LINE / FARANN_CODE_GROUP, FEW_TILES = 1 };
/* Half a tile takes as long as a whole one. */
enum { HALF_CODE_TILE = 0 };

/* The shape of tiles is a thread's state: all are whole. */
KERNEL(void) NAME(begin)(void) { amx_begin(); }
KERNEL(void) NAME(end)(void) { amx_end(); }

/* The sums of a panel: query after query, a vector of rows each. */
typedef struct {
    _Alignas(AMX_LINE) int32_t of[CODE_QUERIES][FARANN_CODE_PANEL];
} farann_panel_sums;

KERNEL(void) NAME(gather_codes)(const uint32_t *codes, const int64_t *members, int64_t count,
                                int64_t groups, uint32_t *tile) {
    for (int64_t first = 0; first < groups; first += TILE_GROUPS) {
        const int64_t left = groups - first < TILE_GROUPS ? groups - first : TILE_GROUPS;
        for (int64_t i = 0; i < count; i++)
            i32_store(tile + i * TILE_GROUPS,
                      i32_load_first(codes + members[i] * groups + first, left));
        tile += CODE_QUERIES * TILE_GROUPS;
    }
}

/* Up to sixteen groups of a panel as whole lines, with zeros behind them. */
WORD void copy_groups(const int held, const uint8_t *panel, const uint8_t *low, int64_t panel_bytes,
                      int64_t groups, uint8_t *lines) {
    for (int64_t g = 0; g < TILE_GROUPS; g++) {
        i32v c = i32_set1(0);
        if (g < groups)
            c = g % 2 ? load_group(held, 1, panel, low, 0, panel_bytes)
                      : load_group(held, 0, panel, low, 0, panel_bytes);
        i32_store(lines + g * AMX_LINE, c);
        if (held != WHOLE && g % 2 == 0) continue;
        panel += AMX_LINE;
        low += FARANN_CODE_QUAD * FARANN_CODE_GROUP;
    }
}

/*
 * Multiply the queries with a panel, whose number is a constant at each call. Tiles 0 to 3 are sums
 * of panels, 4 the queries, 5 to 7 panels in turn.
 */
WORD void add_products(const int panel, const uint8_t *lines) {
#define ADD_PRODUCTS(sums, tile)  \
    do {                          \
        AMX_LOAD(tile, lines);    \
        AMX_DOT(sums, 4, tile);   \
    } while (0)
    if (panel == 0) ADD_PRODUCTS(0, 5);
    if (panel == 1) ADD_PRODUCTS(1, 6);
    if (panel == 2) ADD_PRODUCTS(2, 7);
    if (panel == 3) ADD_PRODUCTS(3, 5);
#undef ADD_PRODUCTS
}

/*
 * The sums of a tile of queries with up to four panels from row `first` on, behind which there are
 * `behind` more. What is read beyond a panel's groups is of these: nothing beyond the last.
 */
WORD void sum_code_panels(const int panels, const int held, int64_t behind,
                          const farann_coded_rows *rows, int64_t first, const uint32_t *queries,
                          farann_panel_sums *sums) {
    const int64_t groups = rows->groups, panel_bytes = bytes_of_panel(held, groups);
    const int64_t at = first / FARANN_CODE_PANEL * panel_bytes;
    const uint8_t *panel = rows->panels + at;
    const uint8_t *low = held == BOTH_NIBBLES ? rows->low_nibbles + at : panel;
    _Alignas(AMX_LINE) uint8_t lines[AMX_TILE];
    AMX_ZERO(0);
    if (panels > 1) {
        AMX_ZERO(1);
        AMX_ZERO(2);
        AMX_ZERO(3);
    }
    for (int64_t g = 0; g < groups; g += TILE_GROUPS) {
        const int64_t left = groups - g;
        AMX_LOAD(4, queries);
        for (int p = 0; p < panels; p++) {
            const uint8_t *from = panel + p * panel_bytes;
            if (held != WHOLE ||
                FARANN_UNLIKELY(left + (panels - 1 - p + behind) * groups < TILE_GROUPS)) {
                copy_groups(held, from, low + p * panel_bytes, panel_bytes, left, lines);
                from = lines;
            }
            add_products(p, from);
        }
        queries += CODE_QUERIES * TILE_GROUPS;
        panel += (held == WHOLE ? TILE_GROUPS : TILE_GROUPS / 2) * AMX_LINE;
        low += TILE_GROUPS / 2 * FARANN_CODE_QUAD * FARANN_CODE_GROUP;
    }
    AMX_STORE(0, sums[0].of);
    if (panels > 1) {
        AMX_STORE(1, sums[1].of);
        AMX_STORE(2, sums[2].of);
        AMX_STORE(3, sums[3].of);
    }
}

/* Limits that the sums of a panel must exceed, by query; or their part without rows' squares. */
typedef union {
    _Alignas(AMX_LINE) int32_t whole[CODE_QUERIES];
    float part[CODE_QUERIES];
} farann_panel_limits;

/* The panels of a scan that are in progress. */
typedef struct {
    farann_panel_sums sums[CODE_PANELS];
    /* Which rows pass, a mask a query. */
    _Alignas(AMX_LINE) uint16_t passes[CODE_PANELS][CODE_QUERIES];
    int64_t panels;
    int64_t row; /* the first */
    const farann_panel_limits *limits;
} farann_step;

/* See which rows pass. */
WORD void judge_step(const int squared, const farann_coded_rows *rows,
                     const farann_pass_thresholds *bars, farann_step *step) {
    for (int64_t p = 0; p < step->panels; p++) {
        const farann_panel_limits *limits = step->limits + p;
        const int64_t first = step->row + p * FARANN_CODE_PANEL;
        const f32v squares = squared ? f32_load(rows->squares + first) : f32_set1(0.0f);
        for (int t = 0; t < CODE_QUERIES; t++) {
            i32v limit = squared ? i32_from_f32(f32_fma(squares, f32_set1(bars->square[t]),
                                                        f32_set1(limits->part[t])))
                                 : i32_set1(limits->whole[t]);
            __mmask16 mask = _mm512_cmplt_epi32_mask(limit, i32_load(step->sums[p].of[t]));
            /* To memory: compilers would gather masks in other registers. */
            __asm__("kmovw %1, %0" : "=m"(step->passes[p][t]) : "k"(mask));
        }
    }
}

/* Leave the rows that pass for all queries of a chain to its last one. */
WORD void join_chains(const int32_t *chain, farann_step *step) {
    for (int64_t p = 0; p < step->panels; p++)
        for (int t = 1; t < CODE_QUERIES; t++)
            if (chain[t]) {
                step->passes[p][t] &= step->passes[p][t - 1];
                step->passes[p][t - 1] = 0;
            }
}

/* Append the rows that pass, with one branch for all queries, not one for each. */
WORD void append_step(const farann_coded_rows *rows, const farann_coded_tile *tile,
                      farann_step *step, farann_candidates *candidates) {
    enum { MASKS = AMX_LINE / 2 }; /* 16-bit masks of rows that a vector holds */
    if (tile->chain) join_chains(tile->chain, step);
    for (int64_t p = 0; p < step->panels; p += MASKS / CODE_QUERIES) {
        uint32_t some =
            _mm512_test_epi16_mask(i32_load(step->passes[p]), i32_load(step->passes[p]));
        if (step->panels - p < MASKS / CODE_QUERIES) some &= (1u << CODE_QUERIES) - 1u;
        for (; some; some &= some - 1) {
            const int i = FARANN_COUNT_TRAILING_ZEROS(some), t = i % CODE_QUERIES;
            const int64_t at = p + i / CODE_QUERIES;
            const int64_t row = step->row + at * FARANN_CODE_PANEL;
            append_scores(&candidates[t], step->passes[at][t],
                          scores_of(rows, row, scale_at(rows, row), tile->bars, t,
                                    i32_load(step->sums[at].of[t])),
                          row);
        }
    }
}

/*
 * Scan panels for a tile of queries. The unit and reads of masks from memory have long latencies:
 * panels are judged while the next ones are computed, and rows are appended while those are judged.
 */
WORD void scan_all_panels(const int width, const int held, const int squared,
                          const farann_coded_rows *rows, int64_t n, const farann_coded_tile *tile,
                          farann_candidates *candidates) {
    (void)width;
    /* Panels whose limits are computed together; steps that are summed, judged or appended. */
    enum { PANELS_AT_ONCE = 64, TURNS = 3 };
    const int64_t n_panels = (n + FARANN_CODE_PANEL - 1) / FARANN_CODE_PANEL;
    farann_panel_limits limits[PANELS_AT_ONCE];
    farann_step steps[TURNS];
    for (int64_t from = 0; from < n_panels; from += PANELS_AT_ONCE) {
        const int64_t end = n_panels - from < PANELS_AT_ONCE ? n_panels : from + PANELS_AT_ONCE;
        for (int64_t at = from; at < end; at++) {
            f32v limit = limits_at(held, rows, at, tile->bars, 0);
            if (squared)
                f32_store(limits[at - from].part, limit);
            else
                i32_store(limits[at - from].whole, i32_from_f32(limit));
        }
        farann_step *now = steps, *before = steps + 1, *last = steps + 2;
        int64_t at = from;
        before->panels = last->panels = 0;
        do {
            now->row = at * FARANN_CODE_PANEL;
            now->limits = limits + (at - from);
            now->panels = at + CODE_PANELS <= end ? CODE_PANELS : at < end;
            if (now->panels > 1)
                sum_code_panels(CODE_PANELS, held, n_panels - at - CODE_PANELS, rows, now->row,
                                tile->codes, now->sums);
            else if (now->panels)
                sum_code_panels(1, held, n_panels - at - 1, rows, now->row, tile->codes, now->sums);
            at += now->panels;
            judge_step(squared, rows, tile->bars, before);
            append_step(rows, tile, last, candidates);
            farann_step *next = last;
            last = before;
            before = now;
            now = next;
        } while (before->panels || last->panels);
    }
}

/* Score panels, which `behind` more follow, for a tile of queries, `stride` floats apart. */
WORD void score_code_panels(const int panels, const int held, int64_t behind,
                            const farann_coded_rows *rows, int64_t row,
                            const farann_coded_tile *tile, float *scores, int64_t stride) {
    farann_panel_sums sums[CODE_PANELS];
    sum_code_panels(panels, held, behind, rows, row, tile->codes, sums);
    for (int p = 0; p < panels; p++)
        write_scores(CODE_QUERIES, 1, rows, row + p * FARANN_CODE_PANEL, tile->bars,
                     (const i32v *)sums[p].of, scores, stride);
}
