/* Which of many scores are large. Included by all-inl.h. */

KERNEL(void) NAME(select_f32)(const float *scores, int64_t n, float threshold,
                              farann_candidates *candidates) {
    const f32v limit = f32_set1(threshold);
    float *const kept = candidates->scores;
    int64_t *const numbers = candidates->slots;
    int64_t i = 0, count = candidates->count;
    for (; i + F32_LANES <= n; i += F32_LANES) {
        f32v score = f32_load(scores + i);
        uint32_t mask = f32_greater(score, limit);
        if (!mask) continue;
        /* There is room for whole vectors, as for all rows. */
        count += f32_compress(kept + count, numbers + count, mask, score, i);
    }
    for (; i < n; i++) {
        if (!(scores[i] > threshold)) continue;
        kept[count] = scores[i];
        numbers[count++] = i;
    }
    candidates->count = count;
}

KERNEL(void) NAME(lower_f32)(const float *scores, int64_t n, float offset, float *least) {
    const f32v off = f32_set1(offset);
    for (int64_t i = 0; i < n; i += F32_LANES) {
        const f32v above = f32_sub(f32_load(scores + i), off);
        f32_store(least + i, f32_min(above, f32_load(least + i)));
    }
}

KERNEL(void) NAME(lower_bounds_f32)(float *scores, int64_t n, float offset, float *recent,
                                    const float *least, float *tops) {
    const f32v off = f32_set1(offset), none = f32_set1(-INFINITY);
    for (int64_t i = 0; i < n; i += FARANN_SCORE_GROUPS) {
        f32v top = none;
        for (int64_t j = i; j < i + FARANN_SCORE_GROUPS; j += F32_LANES) {
            const f32v reached = f32_sub(f32_load(scores + j), off);
            const f32v bound = f32_min(reached, f32_load(recent + j));
            f32_store(recent + j, bound);
            f32_store(scores + j, none);
            top = f32_max(f32_min(bound, f32_load(least + j)), top);
        }
        float lanes[F32_LANES], largest = -INFINITY;
        f32_store(lanes, top);
        for (int j = 0; j < F32_LANES; j++) largest = lanes[j] > largest ? lanes[j] : largest;
        tops[i / FARANN_SCORE_GROUPS] = largest;
    }
}

KERNEL(int64_t) NAME(find_f32)(const float *scores, int64_t n, float threshold, int32_t *numbers) {
    const f32v limit = f32_set1(threshold);
    int64_t count = 0;
    for (int64_t i = 0; i < n; i += F32_LANES)
        count += i32_compress_numbers(numbers + count, f32_greater(f32_load(scores + i), limit),
                                      (int32_t)i);
    return count;
}

KERNEL(void) NAME(cap_scores_f32)(float *scores, const float *inv_norms, const float *sines,
                                  const float *cosines, int64_t n, float inv_scale, float scale,
                                  float offset) {
    const f32v one = f32_set1(1.0f), least = f32_set1(0.0f);
    for (int64_t i = 0; i < n; i += F32_LANES) {
        const f32v to_unit = f32_mul(f32_load(inv_norms + i), f32_set1(inv_scale));
        const f32v width = f32_load(cosines + i);
        f32v along = f32_mul(f32_sub(f32_load(scores + i), f32_set1(offset)), to_unit);
        along = f32_max(f32_min(along, width), f32_sub(least, one));
        const f32v across = f32_sqrt(f32_max(f32_sub(one, f32_mul(along, along)), least));
        const f32v best = f32_fma(along, width, f32_mul(across, f32_load(sines + i)));
        f32_store(scores + i, f32_fma(best, f32_set1(scale), f32_set1(offset)));
    }
}

KERNEL(void) NAME(largest_f32)(const float *scores, int64_t n, float *largest) {
    enum { VECTORS = FARANN_SCORE_GROUPS / F32_LANES };
    f32v most[VECTORS];
    int64_t i = 0;
    for (int v = 0; v < VECTORS; v++) most[v] = f32_set1(-INFINITY);
    for (; i + FARANN_SCORE_GROUPS <= n; i += FARANN_SCORE_GROUPS)
        for (int v = 0; v < VECTORS; v++)
            most[v] = f32_max(f32_load(scores + i + v * F32_LANES), most[v]);
    for (int v = 0; v < VECTORS; v++) {
        if (i + v * F32_LANES < n) most[v] = f32_max(f32_load(scores + i + v * F32_LANES), most[v]);
        f32_store(largest + v * F32_LANES, most[v]);
    }
}
