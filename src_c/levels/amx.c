#include "portable.h"

#if FARANN_HAS_AMX
#define FARANN_AMX
#include "simd/avx512.h"

#include "kernels/all-inl.h"
#endif
