// Greedy coreset, AVX-512 F, BW, DQ, VL: one rounding for each multiply-add.
#include <immintrin.h>

#include "coreset.h"

namespace edgead {
namespace {

#include "simd_avx512.inc"

#include "coreset.inc"

}  // namespace

const CoresetKernels coreset_avx512 = {squared_distance};

}  // namespace edgead
