#include "portable.h"

#if FARANN_HAS_AVX_VNNI
#define FARANN_AVX_VNNI
#include "simd/avx2.h"

#include "kernels/all-inl.h"
#endif
