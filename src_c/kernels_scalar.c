#include "simd_scalar.h"

#include "kernels-inl.h"
