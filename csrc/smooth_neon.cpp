// Maps, AArch64 Advanced SIMD: one rounding for each multiply-add.
#include <arm_neon.h>

#include "smooth.h"

namespace edgead {
namespace {

#include "simd_neon.inc"

#include "smooth.inc"

}  // namespace

const SmoothKernels smooth_neon = {LANES, ROWS, horizontal, vertical, blur};

}  // namespace edgead
