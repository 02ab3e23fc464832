/*
 * How the calling thread does arithmetic: MXCSR on x86-64, FPCR on AArch64. Libraries compiled with
 * -ffast-math make it take denormal numbers for zero, which changes answers.
 */
#ifndef FARANN_ARITHMETIC_H
#define FARANN_ARITHMETIC_H

#include <stdint.h>

/* Begin with the arithmetic of IEEE 754, rounding to nearest; returns what there was before. */
uint64_t farann_arithmetic_begin(void);

/* Go back to what there was. */
void farann_arithmetic_end(uint64_t before);

/* For tests: take denormal numbers for zero, or stop it. Returns what was so, -1: not known. */
int farann_flush_denormals(int on);

#endif
