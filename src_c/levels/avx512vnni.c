#include "portable.h"

#if FARANN_X86_64
#define FARANN_VNNI
#include "simd/avx512.h"

#include "kernels/all-inl.h"
#endif
