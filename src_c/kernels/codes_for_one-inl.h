/* The kernels of codes for a query by itself. Included by codes-inl.h. */

/* Limits that the sums of a vector of rows must exceed, for one query. */
WORD i32v row_limits(const farann_coded_rows *rows, int64_t row, const farann_pass_thresholds *bars,
                     float limit) {
    if (!rows->squares) return i32_from_f32(f32_set1(limit));
    return i32_from_f32(f32_fma(f32_load(rows->squares + row), f32_set1(bars->square[0]),
                                f32_set1(limit)));
}

/* The sums of a panel's rows for one query, in TURNS sums that don't wait for each other. */
WORD void sum_panel(const int held, const farann_coded_rows *rows, int64_t row,
                    const uint32_t *queries, i32v *sums) {
    enum { GROUP_BYTES = FARANN_CODE_PANEL * FARANN_CODE_GROUP, TURNS = 4 };
    const int64_t groups = rows->groups, panel_bytes = bytes_of_panel(held, groups);
    const uint8_t *panel = rows->panels + row / FARANN_CODE_PANEL * panel_bytes, *low = panel;
    if (held == BOTH_NIBBLES) low = rows->low_nibbles + (panel - rows->panels);
    i32v sum[TURNS * PANEL_I32];
    int64_t g = 0;
    for (int i = 0; i < TURNS * PANEL_I32; i++) sum[i] = i32_set1(0);
    for (; g + TURNS <= groups; g += TURNS)
        for (int turn = 0; turn < TURNS; turn++) {
            add_group(1, 1, held, held != WHOLE && turn % 2, panel, low, panel_bytes,
                      queries + g + turn, sum + turn * PANEL_I32);
            if (held != WHOLE && turn % 2 == 0) continue;
            panel += GROUP_BYTES;
            low += FARANN_CODE_QUAD * FARANN_CODE_GROUP;
        }
    for (int turn = 0; turn < TURNS - 1 && g + turn < groups; turn++) {
        add_group(1, 1, held, held != WHOLE && turn % 2, panel, low, panel_bytes,
                  queries + g + turn, sum + turn * PANEL_I32);
        if (held != WHOLE && turn % 2 == 0) continue;
        panel += GROUP_BYTES;
        low += FARANN_CODE_QUAD * FARANN_CODE_GROUP;
    }
    for (int v = 0; v < PANEL_I32; v++)
        sums[v] = i32_add(i32_add(sum[v], sum[PANEL_I32 + v]),
                          i32_add(sum[2 * PANEL_I32 + v], sum[3 * PANEL_I32 + v]));
}

/*
 * A single query is bound by memory: panels are summed one by one, so that memory is read in order,
 * and in groups, so that rows that pass don't hold up the reading. Which panels and rows pass is
 * unpredictable, so there is no branch for each.
 */
WORD void scan_one(const int held, const farann_coded_rows *rows, int64_t n,
                   const farann_coded_tile *tile, farann_candidates *candidates) {
    /* AT_ONCE: panels summed before the rows that pass are appended */
    enum { AT_ONCE = 32, ALL_LANES = (1 << I32_LANES) - 1 };
    const farann_pass_thresholds *bars = tile->bars;
    const int bare = held == HIGH_NIBBLES && rows->low_nibbles;
    const int64_t end = (n + FARANN_CODE_PANEL - 1) / FARANN_CODE_PANEL;
    float limits[AT_ONCE];
    int32_t sums[AT_ONCE][FARANN_CODE_PANEL];
    uint32_t masks[AT_ONCE];
    int64_t panels[AT_ONCE];
    for (int64_t first = 0; first < end; first += AT_ONCE) {
        const int64_t count = end - first < AT_ONCE ? end - first : AT_ONCE;
        int64_t passing = 0;
        for (int64_t i = 0; i < count; i++) {
            limits[i] = rows->inv_scales[first + i] * bars->threshold[0] + bars->offset[0];
            if (held == HIGH_NIBBLES)
                limits[i] += rows->low_nibble_norm[first + i] * bars->low_nibble_norm[0];
        }
        for (int64_t i = 0; i < count; i++) {
            i32v sum[PANEL_I32];
            sum_panel(held, rows, (first + i) * FARANN_CODE_PANEL, tile->codes, sum);
            for (int v = 0; v < PANEL_I32; v++) i32_store(sums[i] + v * I32_LANES, sum[v]);
        }
        for (int64_t i = 0; i < count; i++) {
            const int64_t row = (first + i) * FARANN_CODE_PANEL;
            uint32_t mask = 0;
            for (int v = 0; v < PANEL_I32; v++)
                mask |= i32_greater(i32_load(sums[i] + v * I32_LANES),
                                    row_limits(rows, row + v * I32_LANES, bars, limits[i]))
                        << (v * I32_LANES);
            masks[passing] = mask;
            panels[passing] = i;
            passing += mask != 0;
        }
        for (int64_t i = 0; i < passing; i++) {
            const int64_t panel = first + panels[i];
            const f32v scale = scale_at(rows, panel * FARANN_CODE_PANEL);
            for (int v = 0; v < PANEL_I32; v++) {
                const int64_t row = panel * FARANN_CODE_PANEL + v * I32_LANES;
                const i32v sum = i32_load(sums[panels[i]] + v * I32_LANES);
                append_scores(candidates, masks[i] >> (v * I32_LANES) & ALL_LANES,
                              bare ? f32_from_i32(sum) : scores_of(rows, row, scale, bars, 0, sum),
                              row);
            }
        }
    }
}

KERNEL(void) NAME(score_codes_one_i8)(const farann_coded_rows *rows, int64_t n,
                                      const farann_coded_tile *query, float *scores) {
    for (int64_t row = 0; row < n; row += FARANN_CODE_PANEL) {
        i32v sum[PANEL_I32];
        sum_panel(WHOLE, rows, row, query->codes, sum);
        write_scores(1, 1, rows, row, query->bars, sum, scores, n);
    }
}

KERNEL(void) NAME(scan_codes_one_i8)(const farann_coded_rows *rows, int high_alone, int64_t n,
                                     const farann_coded_tile *tile, farann_candidates *candidates) {
    if (high_alone)
        scan_one(HIGH_NIBBLES, rows, n, tile, candidates);
    else if (rows->low_nibbles)
        scan_one(BOTH_NIBBLES, rows, n, tile, candidates);
    else
        scan_one(WHOLE, rows, n, tile, candidates);
}
