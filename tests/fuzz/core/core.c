/*
 * Coverage-guided fuzzing of the core, for libFuzzer: `make fuzz FUZZ=core`. The first byte of an input
 * chooses a part, and the others say what it does.
 */
#include "core.h"

enum { MOST_ARRAYS = 512 };

const farann_kernels *levels[FARANN_MOST_LEVELS];
int n_levels;
int largest_code = 127;

static void *arrays[MOST_ARRAYS];
static int n_arrays;

void *array(int64_t count, size_t size) {
    CHECK(n_arrays < MOST_ARRAYS);
    return arrays[n_arrays++] = calloc(count ? (size_t)count : 1, size);
}

static const uint8_t *at, *end;

uint32_t byte(void) { return at < end ? *at++ : 0; }

int64_t number(int64_t least, int64_t most) {
    uint32_t drawn = byte();
    if (most - least > 255) drawn |= byte() << 8;
    return least + (int64_t)drawn % (most - least + 1);
}

float small(void) { return (float)number(-8, 8); }

float finite(void) {
    uint32_t bits = byte();
    float value;
    if (bits < 200) return (float)(int32_t)bits - 100.0f;
    bits = bits << 24 | byte() << 16 | byte() << 8 | byte();
    memcpy(&value, &bits, sizeof value);
    return isfinite(value) ? value : 0x1p-140f;
}

float any(void) {
    uint32_t kind = byte() % 16;
    return kind == 0 ? NAN : kind == 1 ? INFINITY : kind == 2 ? -INFINITY : finite();
}

farann_candidates candidates(int64_t room) {
    farann_candidates list = {NEW(float, room), NEW(int64_t, room), 0};
    return list;
}

double in_lanes(const double *x, int64_t n) {
    double l[8] = {0.0};
    for (int64_t j = 0; j < n; j++) l[j % 8] += x[j];
    return ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]));
}

double key_of(int metric, const float *row, int64_t dim, const double *query) {
    double sum[8] = {0.0}, norm[8] = {0.0};
    for (int64_t j = 0; j < dim; j++) {
        const double x = (double)row[j], d = query[j] - x;
        sum[j % 8] += metric == FARANN_L2 ? d * d : query[j] * x;
        norm[j % 8] += x * x;
    }
    const double s = in_lanes(sum, 8), m = in_lanes(norm, 8);
    return metric == FARANN_L2 ? s : metric == FARANN_DOT ? -s : -(s / sqrt(m));
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    n_levels = farann_levels(levels);
    for (int level = 0; level < n_levels; level++)
        if (levels[level]->largest_code < largest_code) largest_code = levels[level]->largest_code;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static void (*const parts[])(void) = {keys,   keys_of_panels,   turns,     preparing, encoding,
                                          panels, rows_as_they_lie, selection, codes,     codes,
                                          best,   sorting,          widening,  grouped};
    at = data, end = data + size;
    parts[byte() % (sizeof parts / sizeof *parts)]();
    while (n_arrays) free(arrays[--n_arrays]);
    return 0;
}
