/*
 * Memory, a clock, CPUs of threads, and the calling thread's mode of arithmetic (MXCSR on x86-64,
 * FPCR on AArch64). Libraries compiled with -ffast-math make it take denormal numbers for zero,
 * which changes answers.
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

/* A set of up to 1,024 CPUs, a bit each. */
enum { FARANN_CPU_WORDS = 16 };
typedef struct {
    uint64_t words[FARANN_CPU_WORDS];
} farann_cpus;

/* The CPU that the calling thread is on; -1: not known, as off Linux. */
int farann_cpu_here(void);

/*
 * The CPUs that a thread may use, by its number in the system; 0: the calling one. Returns how many
 * there are but for `except`; 0 if that isn't known.
 */
int farann_cpus_of(int64_t thread, int except, farann_cpus *cpus);

/* Have a thread use some CPUs. */
void farann_cpus_use(int64_t thread, const farann_cpus *cpus);

/* Begin with the arithmetic of IEEE 754, rounding to nearest; returns the mode before. */
uint64_t farann_arithmetic_begin(void);

/* Restore the mode that farann_arithmetic_begin returned. */
void farann_arithmetic_end(uint64_t before);

/* For tests: flush denormal numbers to zero, or stop it. Returns the old state, -1: not known. */
int farann_flush_denormals(int on);

#endif
