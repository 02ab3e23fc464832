#include "portable.h"

#if FARANN_X86_64
#include "simd_avx2.h"

#include "kernels-inl.h"
#endif
