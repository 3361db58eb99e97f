// Greedy coreset, AVX2 and FMA3: one rounding for each multiply-add.
#include <immintrin.h>

#include "coreset.h"

namespace edgead {
namespace {

#include "simd_avx2.inc"

#include "coreset.inc"

}  // namespace

const CoresetKernels coreset_avx2 = {squared_distance};

}  // namespace edgead
