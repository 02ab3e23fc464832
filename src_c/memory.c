#include "memory.h"

#include <stdlib.h>

#include "portable.h"

static int64_t watched = 0, counted = 0, failing = 0;

static int must_fail(void) {
    if (!farann_load(&watched)) return 0;
    return farann_fetch_add(&counted, 1) + 1 == farann_load(&failing);
}

void *farann_alloc(size_t bytes, int zeroed) {
    if (must_fail()) return NULL;
    return zeroed ? calloc(1, bytes) : malloc(bytes);
}

void *farann_realloc(void *memory, size_t bytes) {
    return must_fail() ? NULL : realloc(memory, bytes);
}

int64_t farann_fail_allocation(int64_t n) {
    farann_store(&watched, 0);
    int64_t made = farann_load(&counted);
    farann_store(&counted, 0);
    farann_store(&failing, n);
    farann_store(&watched, n >= 0);
    return made;
}
