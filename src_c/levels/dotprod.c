#include "portable.h"

#if FARANN_HAS_ARM_DOT
#define FARANN_DOTPROD
#include "simd/neon.h"

#include "kernels/all-inl.h"
#endif
