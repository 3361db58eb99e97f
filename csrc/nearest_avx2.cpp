// Nearest patches, AVX2 and FMA3: one rounding for each multiply-add.
#include <immintrin.h>

#include "nearest.h"

namespace edgead {
namespace {

#include "simd_avx2.inc"

#include "nearest.inc"

}  // namespace

const NearestKernels nearest_avx2 = {MR, NR, score_tile, squared_distance, centre};

}  // namespace edgead
