// Maps, AVX-512 F, BW, DQ, VL: one rounding for each multiply-add.
#include <immintrin.h>

#include "smooth.h"

namespace edgead {
namespace {

#include "simd_avx512.inc"

#include "smooth.inc"

}  // namespace

const SmoothKernels smooth_avx512 = {LANES, ROWS, horizontal, vertical, blur};

}  // namespace edgead
