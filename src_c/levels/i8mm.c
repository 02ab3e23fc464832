#include "portable.h"

#if FARANN_HAS_ARM_DOT
#define FARANN_I8MM
#include "simd/neon.h"

#include "kernels/all-inl.h"
#endif
