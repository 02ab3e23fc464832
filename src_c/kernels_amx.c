#include "portable.h"

#if FARANN_HAS_AMX
#include "simd_amx.h"

#include "kernels-inl.h"
#endif
