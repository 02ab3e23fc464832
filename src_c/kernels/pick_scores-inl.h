/* Selection of the largest of many scores. Included by all-inl.h. */

/* Numbers in the order of the floats they are made of, and back; NaNs are beyond infinities. */
WORD int32_t order_of(float value) {
    int32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits < 0 ? bits ^ INT32_MAX : bits;
}

WORD float of_order(int64_t order) {
    const int32_t bits = order < 0 ? (int32_t)order ^ INT32_MAX : (int32_t)order;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* The number of n scores, and of a last vector of them, that are greater than a limit. */
WORD int64_t count_greater(const float *scores, int64_t n, f32v last, float limit) {
    const f32v least = f32_set1(limit);
    int64_t count = FARANN_COUNT_ONES(f32_greater(last, least)), i = 0;
    for (; i + 2 * F32_LANES <= n; i += 2 * F32_LANES)
        count += FARANN_COUNT_ONES(f32_greater(f32_load(scores + i), least) << F32_LANES |
                                   f32_greater(f32_load(scores + i + F32_LANES), least));
    if (i < n) count += FARANN_COUNT_ONES(f32_greater(f32_load(scores + i), least));
    return count;
}

/* By halves of the numbers between the least and the largest, which move no score. */
KERNEL(float) NAME(kth_largest_f32)(const float *scores, int64_t n, int64_t k) {
    const int64_t whole = n / F32_LANES * F32_LANES;
    float lanes[F32_LANES];
    for (int j = 0; j < F32_LANES; j++) lanes[j] = whole + j < n ? scores[whole + j] : -INFINITY;
    const f32v last = f32_load(lanes);
    int32_t least = INT32_MAX, most = INT32_MIN;
    for (int64_t i = 0; i < n; i++) {
        const int32_t order = order_of(scores[i]);
        least = order < least ? order : least;
        most = order > most ? order : most;
    }
    if (least < order_of(-INFINITY)) least = order_of(-INFINITY); /* a NaN */
    /* If n >= k, at least k scores are greater than `low`, and fewer are greater than `high`. */
    int64_t low = (int64_t)least - 1, high = most;
    if (count_greater(scores, whole, last, -INFINITY) < k) return -INFINITY;
    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        const int64_t count = count_greater(scores, whole, last, of_order(middle));
        if (count < k) {
            high = middle;
            continue;
        }
        low = middle;
        if (count == k) break;
    }
    return of_order(low + 1);
}

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
