/*
 * What the parts of this fuzzer share: the levels, arrays, and what the input says. Each part holds
 * every level of this CPU against plain loops, or bit for bit against the scalar level. Numbers that
 * are summed in float32 are small and whole: their sums are exact in any order.
 */
#ifndef FARANN_FUZZ_CORE_H
#define FARANN_FUZZ_CORE_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "select.h"
#include "quantize.h"
#include "kernels.h"

enum { PANEL = FARANN_CODE_PANEL, GROUP = FARANN_CODE_GROUP };

extern const farann_kernels *levels[FARANN_MOST_LEVELS];
extern int n_levels;
extern int largest_code; /* that all levels take */

#define CHECK(what)                                                                             \
    do {                                                                                        \
        if (!(what)) {                                                                          \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #what);            \
            abort();                                                                            \
        }                                                                                       \
    } while (0)

/* Arrays of zeros, freed after each case. They have no byte more than is said, so that
   AddressSanitizer sees what is read or written beyond. */
void *array(int64_t count, size_t size);

#define NEW(type, count) ((type *)array((count), sizeof(type)))

farann_candidates candidates(int64_t room);

/* The next byte of the input; zeros after its end. */
uint32_t byte(void);

/* From `least` to `most`. */
int64_t number(int64_t least, int64_t most);

/* A small whole number. */
float small(void);

/* Any float32 that a vector may hold, often a small one. */
float finite(void);

float any(void);

static inline int64_t rounded(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

static inline int same_bits(const void *a, const void *b, size_t size) {
    return memcmp(a, b, size) == 0;
}

/* The canonical order of summation: eight lanes, one tree. */
double in_lanes(const double *x, int64_t n);

/* The canonical key of a row, as keys_f64 has it. */
double key_of(int metric, const float *row, int64_t dim, const double *query);

/* A test for each kind of input. */
void keys(void);
void keys_of_panels(void);
void turns(void);
void preparing(void);
void encoding(void);
void panels(void);
void rows_as_they_lie(void);
void selection(void);
void codes(void);
void best(void);
void grouped(void);
void sorting(void);
void widening(void);

#endif
