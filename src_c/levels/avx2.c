#include "portable.h"

#if FARANN_X86_64
#include "simd/avx2.h"

#include "kernels/all-inl.h"
#endif
