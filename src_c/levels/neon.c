#include "portable.h"

#if FARANN_AARCH64
#include "simd/neon.h"

#include "kernels/all-inl.h"
#endif
