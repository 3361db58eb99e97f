// Nearest patches, AVX-512 F, BW, DQ, VL: one rounding for each multiply-add.
#include <immintrin.h>

#include "nearest.h"

namespace edgead {
namespace {

#include "simd_avx512.inc"

#include "nearest.inc"

}  // namespace

const NearestKernels nearest_avx512 = {MR, NR, score_tile, squared_distance, centre};

}  // namespace edgead
