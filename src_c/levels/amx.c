#include "portable.h"

#if FARANN_HAS_AMX
#include "simd/amx.h"

#include "kernels/all-inl.h"
#endif
