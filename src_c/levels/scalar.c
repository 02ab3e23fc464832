#include "simd/scalar.h"

#include "kernels/all-inl.h"
