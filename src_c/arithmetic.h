/*
 * How the calling thread does arithmetic: MXCSR on x86-64, FPCR on AArch64. Libraries compiled with
 * -ffast-math make it take denormal numbers for zero, which changes answers.
 */
#ifndef FARANN_ARITHMETIC_H
#define FARANN_ARITHMETIC_H

#include <stdint.h>

/* Begin with the arithmetic of IEEE 754, rounding to nearest; returns the mode before. */
uint64_t farann_arithmetic_begin(void);

/* Restore the mode that farann_arithmetic_begin returned. */
void farann_arithmetic_end(uint64_t before);

/* For tests: flush denormal numbers to zero, or stop it. Returns the old state, -1: not known. */
int farann_flush_denormals(int on);

#endif
