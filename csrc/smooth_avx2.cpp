// Maps, AVX2 and FMA3: one rounding for each multiply-add.
#include <immintrin.h>

#include "smooth.h"

namespace edgead {
namespace {

#include "simd_avx2.inc"

#include "smooth.inc"

}  // namespace

const SmoothKernels smooth_avx2 = {LANES, ROWS, horizontal, vertical, blur};

}  // namespace edgead
