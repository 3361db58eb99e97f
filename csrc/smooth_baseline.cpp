// Maps, any CPU: GCC and Clang vector extension, products and sums rounded separately.

#include "smooth.h"

namespace edgead {
namespace {

#include "simd_baseline.inc"

#include "smooth.inc"

}  // namespace

const SmoothKernels smooth_baseline = {LANES, ROWS, horizontal, vertical, blur};

}  // namespace edgead
