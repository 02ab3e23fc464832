#include "portable.h"

#if FARANN_X86_64
#define FARANN_VNNI
#include "simd_avx512.h"

#include "kernels-inl.h"
#endif
