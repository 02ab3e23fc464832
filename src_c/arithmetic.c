#include "arithmetic.h"

#include "portable.h"

/* Functions of a file of their own: compilers don't move arithmetic across calls of these. */

#if FARANN_X86_64
#include <xmmintrin.h>
#define HAS_CONTROL 1
/* Exceptions are masked; the lowest bits only note which there were. */
static const uint64_t DEFAULT = 0x1f80, NOTES = 0x3f, FLUSH = 0x8040;
static uint64_t control(void) { return _mm_getcsr(); }
static void set_control(uint64_t value) { _mm_setcsr((unsigned)value); }
#elif defined(__aarch64__) || defined(_M_ARM64)
#define HAS_CONTROL 1
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
#else
#define HAS_CONTROL 0
#endif

#if HAS_CONTROL
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
    return (before & FLUSH) != 0;
}
#else
uint64_t farann_arithmetic_begin(void) { return 0; }
void farann_arithmetic_end(uint64_t before) { (void)before; }
int farann_flush_denormals(int on) { return (void)on, -1; }
#endif
