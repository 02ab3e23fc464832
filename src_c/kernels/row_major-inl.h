/* Scores of rows as they are, row after row, for one query. Included by all-inl.h. */

/* Floats of a cache line, and the least distance, in floats, at which rows are prefetched. */
enum { LINE = 16, FAR_AHEAD = 1024 };

/* Sums for `normalized` rows, for centered rows, and for centered rows without |y|^2. */
enum row_sums { SUMS_AS_THEY_ARE, SUMS_CENTRED, SUMS_OF_PRODUCTS };

/* Add one vector of coordinates x of a row to <query_vector, y> and |y|^2; `normalized` rows have no
   centre. */
WORD void score_step(const enum row_sums sums, f32v x, f32v centre, f32v query_vector,
                     f32v *product, f32v *square) {
    const f32v y = sums == SUMS_AS_THEY_ARE ? x : f32_sub(x, centre);
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
                     int64_t head, int64_t dim, int64_t ahead, const float *centre,
                     const float *query_vector, f32v *products, f32v *squares) {
    f32v product[4], square[4];
    /* Sums of tiny numbers take a hundred cycles where they are denormal; docs/how-it-works. */
    const f32v start = f32_set1(sums == SUMS_AS_THEY_ARE ? 0x1p-120f : 0.0f);
    int64_t j = 0;
    for (int r = 0; r < 4; r++) product[r] = square[r] = start;
    if (!are_short && head) {
        const f32v c = f32_load_first(centre, head), w = f32_load_first(query_vector, head);
        for (int r = 0; r < 4; r++)
            score_step(sums, f32_load_first(row[r], head), c, w, &product[r], &square[r]);
        j = head;
    }
    for (; !are_short && j + F32_LANES <= dim; j += F32_LANES) {
        const f32v c = f32_load(centre + j), w = f32_load(query_vector + j);
        for (int r = 0; r < 4; r++) {
            if ((j - head) % LINE == 0) FARANN_PREFETCH_FAR(row[r] + j + ahead);
            score_step(sums, f32_load(row[r] + j), c, w, &product[r], &square[r]);
        }
    }
    if (!are_short && head) {
        const f32v c = f32_load_first(centre + j, dim - j);
        const f32v w = f32_load_first(query_vector + j, dim - j);
        for (int r = 0; r < 4; r++)
            score_step(sums, f32_load_first(row[r] + j, dim - j), c, w, &product[r], &square[r]);
    } else if (are_short || j < dim) {
        const f32v c = f32_load(centre + j), w = f32_load(query_vector + j);
        for (int r = 0; r < 4; r++) {
            FARANN_PREFETCH_FAR(row[r] + j + ahead);
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
                     const float *centre, const float *query_vector, float bias_sign, float *scores,
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
            score_four(sums, are_short, row, head, dim, ahead, centre, query_vector, &products[f],
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
                                  int64_t dim, const float *centre, const float *query_vector,
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
    score_rows(sums, are_short, scattered, rows, positions, n, dim, centre, query_vector, bias_sign, \
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
        SCORE(SUMS_CENTRED, 1);
    } else {
        SCORE(SUMS_CENTRED, 0);
    }
#undef SCORE
#undef SCORE_THESE
    if (few) memcpy(scores, all, (size_t)few * sizeof *all);
}
