/* All memory that the core takes, so that tests can let any piece of it fail. */
#ifndef FARANN_MEMORY_H
#define FARANN_MEMORY_H

#include <stddef.h>
#include <stdint.h>

/* As malloc (or with `zeroed` calloc) and realloc; `free` gives it back. */
void *farann_alloc(size_t bytes, int zeroed);
void *farann_realloc(void *memory, size_t bytes);

/*
 * For tests: let the n-th of the next allocations fail, in any thread, once; 0: count them only;
 * negative: neither. Returns how many were counted since the last call.
 */
int64_t farann_fail_allocation(int64_t n);

#endif
