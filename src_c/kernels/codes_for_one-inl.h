/* The kernels of codes for a query by itself. Included by codes-inl.h. */

/* Limits that the sums of some panels must exceed for one query, but for squares of rows. */
WORD void limits_of_one(const int held, const farann_coded_rows *rows, int64_t first, int64_t n,
                        const farann_pass_thresholds *bars, float *limits) {
    for (int64_t i = 0; i < n; i += F32_LANES) {
        int64_t count = n - i < F32_LANES ? n - i : F32_LANES;
        f32v limit = f32_fma(f32_load_first(rows->inv_scales + first + i, count),
                             f32_set1(bars->threshold[0]), f32_set1(bars->offset[0]));
        if (held == HIGH_NIBBLES)
            limit = f32_fma(f32_load_first(rows->low_nibble_norm + first + i, count),
                            f32_set1(bars->low_nibble_norm[0]), limit);
        f32_store(limits + i, limit);
    }
}

/* Limits that the sums of a vector of rows must exceed, for one query. */
WORD i32v row_limits(const farann_coded_rows *rows, int64_t row, const farann_pass_thresholds *bars,
                     float limit) {
    if (!rows->squares) return i32_from_f32(f32_set1(limit));
    return i32_from_f32(f32_fma(f32_load(rows->squares + row), f32_set1(bars->square[0]),
                                f32_set1(limit)));
}

/* The sums of a panel's rows for one query, in TURNS sums that don't wait for each other. */
WORD void sum_panel(const int held, const uint8_t *panel, const uint8_t *low, int64_t groups,
                    const uint32_t *queries, int32_t *sums) {
    enum { GROUP_BYTES = FARANN_CODE_PANEL * FARANN_CODE_GROUP, TURNS = 4 };
    const int64_t panel_bytes = bytes_of_panel(held, groups);
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
        i32_store(sums + v * I32_LANES,
                  i32_add(i32_add(sum[v], sum[PANEL_I32 + v]),
                          i32_add(sum[2 * PANEL_I32 + v], sum[3 * PANEL_I32 + v])));
}

/*
 * Appends rows of a panel with their scores, or with their bare sums. The number that passes is
 * unpredictable, so there is no branch for each. There is room for whole vectors, as for all rows.
 */
WORD void append_panel(const int bare, farann_candidates *list, uint32_t mask, const int32_t *sums,
                       const farann_coded_rows *rows, int64_t row,
                       const farann_pass_thresholds *bars) {
    const uint32_t lanes = (uint32_t)(((uint64_t)1 << I32_LANES) - 1);
    const f32v inv_scale = f32_set1(rows->inv_scales[row / FARANN_CODE_PANEL]);
    int64_t count = list->count;
    for (int v = 0; v < PANEL_I32; v++) {
        f32v score = f32_from_i32(i32_load(sums + v * I32_LANES));
        if (!bare) {
            f32v square = f32_set1(0.0f);
            if (rows->squares)
                square =
                    f32_mul(f32_load(rows->squares + row + v * I32_LANES), f32_set1(bars->sign));
            score = f32_add(f32_mul(score, f32_set1(bars->step[0])), f32_set1(bars->origin[0]));
            score = f32_div(f32_add(score, square), inv_scale);
        }
        count += f32_compress(list->scores + count, list->slots + count,
                              (mask >> (v * I32_LANES)) & lanes, score, row + v * I32_LANES);
    }
    list->count = count;
}

/*
 * A single query is bound by memory: panels are summed one by one, so that memory is read in order,
 * and in groups, so that rows that pass don't hold up the reading.
 */
WORD void scan_one(const int held, const farann_coded_rows *rows, int64_t n,
                   const farann_coded_tile *tile, farann_candidates *candidates) {
    enum { AT_ONCE = 32 }; /* panels summed before the rows that pass are appended */
    float limits[AT_ONCE];
    int32_t sums[AT_ONCE * FARANN_CODE_PANEL];
    uint32_t masks[AT_ONCE];
    int64_t panels[AT_ONCE];
    const int64_t panel_bytes = bytes_of_panel(held, rows->groups);
    const int64_t end = (n + FARANN_CODE_PANEL - 1) / FARANN_CODE_PANEL;
    for (int64_t first = 0; first < end; first += AT_ONCE) {
        const int64_t count = end - first < AT_ONCE ? end - first : AT_ONCE;
        limits_of_one(held, rows, first, count, tile->bars, limits);
        for (int64_t i = 0; i < count; i++) {
            const int64_t at = (first + i) * panel_bytes;
            const uint8_t *panel = rows->panels + at;
            sum_panel(held, panel, held == BOTH_NIBBLES ? rows->low_nibbles + at : panel,
                      rows->groups, tile->codes, sums + i * FARANN_CODE_PANEL);
        }
        /* Which panels have rows that pass is unpredictable, so there is no branch. */
        int64_t passing = 0;
        for (int64_t i = 0; i < count; i++) {
            const int64_t row = (first + i) * FARANN_CODE_PANEL;
            uint32_t mask = 0;
            for (int v = 0; v < PANEL_I32; v++)
                mask |= i32_greater(i32_load(sums + i * FARANN_CODE_PANEL + v * I32_LANES),
                                    row_limits(rows, row + v * I32_LANES, tile->bars, limits[i]))
                        << (v * I32_LANES);
            masks[passing] = mask;
            panels[passing] = i;
            passing += mask != 0;
        }
        for (int64_t i = 0; i < passing; i++) {
            const int64_t row = (first + panels[i]) * FARANN_CODE_PANEL;
            append_panel(held == HIGH_NIBBLES && rows->low_nibbles, candidates, masks[i],
                         sums + panels[i] * FARANN_CODE_PANEL, rows, row, tile->bars);
        }
    }
}

KERNEL(void) NAME(score_codes_one_i8)(const farann_coded_rows *rows, int64_t n,
                                      const farann_coded_tile *query, float *scores) {
    const farann_pass_thresholds *bars = query->bars;
    const int64_t panel_bytes = bytes_of_panel(WHOLE, rows->groups);
    int32_t sums[FARANN_CODE_PANEL];
    for (int64_t row = 0; row < n; row += FARANN_CODE_PANEL) {
        const int64_t panel = row / FARANN_CODE_PANEL;
        const uint8_t *codes = rows->panels + panel * panel_bytes;
        const f32v scale = scale_at(rows, row);
        sum_panel(WHOLE, codes, codes, rows->groups, query->codes, sums);
        for (int v = 0; v < PANEL_I32; v++) {
            const int64_t at = row + v * I32_LANES;
            f32_store(scores + at,
                      scores_of(rows, at, scale, bars, 0, i32_load(sums + v * I32_LANES)));
        }
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
