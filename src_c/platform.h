/*
 * Memory, a clock, CPUs of threads, and the calling thread's mode of arithmetic (MXCSR on x86-64, FPCR on AArch64).
 * Libraries compiled with -ffast-math make it take denormal numbers for zero, which changes
 * answers.
 */
#ifndef FARANN_PLATFORM_H
#define FARANN_PLATFORM_H

#include <stddef.h>
#include <stdint.h>

/* The core's allocator, as malloc (or with `zeroed` calloc) and realloc; `free` gives it back. */
void *farann_alloc(size_t bytes, int zeroed);
void *farann_realloc(void *memory, size_t bytes);

/* Give memory that was freed back to the system, of which glibc keeps tens of megabytes. */
void farann_give_back_memory(void);

/*
 * For tests: let the n-th of the next allocations fail, in any thread, once; 0: count them only;
 * negative: neither. Returns how many were counted since the last call.
 */
int64_t farann_fail_allocation(int64_t n);

/* Seconds since some moment, by a monotonic clock. */
double farann_seconds(void);

/* Sets of CPUs, of up to 1,024: all that a thread may use, the one it is on, and the others. */
enum { FARANN_CPU_WORDS = 16 };
typedef struct {
    uint64_t all[FARANN_CPU_WORDS], here[FARANN_CPU_WORDS], others[FARANN_CPU_WORDS];
} farann_cpus;

/* Those of the calling thread. Returns how many it may use; 0: not known, as off Linux. */
int farann_cpus_of_this(farann_cpus *cpus);

/* Have a thread, by its number in the system, or with 0 the calling one, use some CPUs. */
void farann_cpus_use(int64_t thread, const uint64_t *cpus);

/* Begin with the arithmetic of IEEE 754, rounding to nearest; returns the mode before. */
uint64_t farann_arithmetic_begin(void);

/* Restore the mode that farann_arithmetic_begin returned. */
void farann_arithmetic_end(uint64_t before);

/* For tests: flush denormal numbers to zero, or stop it. Returns the old state, -1: not known. */
int farann_flush_denormals(int on);

#endif
