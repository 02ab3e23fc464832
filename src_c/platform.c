/* Functions of a file of their own: compilers don't move arithmetic across calls of these. */
#ifdef _WIN32
#include <windows.h>
#else
#ifdef __linux__
#define _GNU_SOURCE /* CPUs of threads */
#include <sched.h>
#else
#define _POSIX_C_SOURCE 200112L
#endif
#include <time.h>
#endif

#include <stdlib.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "platform.h"
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

void farann_give_back_memory(void) {
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

int64_t farann_fail_allocation(int64_t n) {
    farann_store(&watched, 0);
    int64_t made = farann_load(&counted);
    farann_store(&counted, 0);
    farann_store(&failing, n);
    farann_store(&watched, n >= 0);
    return made;
}

double farann_seconds(void) {
#ifdef _WIN32
    LARGE_INTEGER ticks, a_second;
    QueryPerformanceCounter(&ticks);
    QueryPerformanceFrequency(&a_second);
    return (double)ticks.QuadPart / (double)a_second.QuadPart;
#else
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
#endif
}

int farann_cpu_here(void) {
#ifdef __linux__
    return sched_getcpu();
#else
    return -1;
#endif
}

int farann_cpus_of(int64_t thread, int except, farann_cpus *cpus) {
    *cpus = (farann_cpus){{0}};
    int n = 0;
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity((pid_t)thread, sizeof set, &set)) return 0;
    for (int cpu = 0; cpu < 64 * FARANN_CPU_WORDS; cpu++) {
        if (cpu == except || !CPU_ISSET(cpu, &set)) continue;
        cpus->words[cpu / 64] |= (uint64_t)1 << cpu % 64;
        n++;
    }
#else
    (void)thread, (void)except;
#endif
    return n;
}

void farann_cpus_use(int64_t thread, const farann_cpus *cpus) {
#ifdef __linux__
    cpu_set_t set;
    CPU_ZERO(&set);
    for (int cpu = 0; cpu < 64 * FARANN_CPU_WORDS; cpu++)
        if (cpus->words[cpu / 64] >> cpu % 64 & 1) CPU_SET(cpu, &set);
    (void)sched_setaffinity((pid_t)thread, sizeof set, &set);
#else
    (void)thread, (void)cpus;
#endif
}

#if FARANN_X86_64
#include <xmmintrin.h>
/* Exceptions are masked; the lowest bits only note which there were. */
static const uint64_t DEFAULT = 0x1f80, NOTES = 0x3f, FLUSH = 0x8040;
static uint64_t control(void) { return _mm_getcsr(); }
static void set_control(uint64_t value) { _mm_setcsr((unsigned)value); }
#elif defined(__aarch64__) || defined(_M_ARM64)
static const uint64_t DEFAULT = 0, NOTES = 0, FLUSH = 1u << 24;
#if defined(_MSC_VER) && !defined(__clang__)
static uint64_t control(void) { return (uint64_t)_ReadStatusReg(ARM64_FPCR); }
static void set_control(uint64_t value) { _WriteStatusReg(ARM64_FPCR, (int64_t)value); }
#else
static uint64_t control(void) {
    uint64_t value;
    __asm__ volatile("mrs %0, fpcr" : "=r"(value));
    return value;
}
static void set_control(uint64_t value) { __asm__ volatile("msr fpcr, %0" : : "r"(value)); }
#endif
#else /* a CPU whose control register isn't known */
static const uint64_t DEFAULT = 0, NOTES = 0, FLUSH = 0;
static uint64_t control(void) { return DEFAULT; }
static void set_control(uint64_t value) { (void)value; }
#endif

uint64_t farann_arithmetic_begin(void) {
    const uint64_t before = control();
    /* Writing takes longer than reading. */
    if ((before & ~NOTES) != DEFAULT) set_control(DEFAULT);
    return before;
}

void farann_arithmetic_end(uint64_t before) {
    if ((before & ~NOTES) != DEFAULT) set_control(before);
}

int farann_flush_denormals(int on) {
    const uint64_t before = control();
    set_control(on ? before | FLUSH : before & ~FLUSH);
    return FLUSH ? (before & FLUSH) != 0 : -1;
}
