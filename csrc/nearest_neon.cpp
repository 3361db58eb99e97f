// Nearest patches, AArch64 Advanced SIMD: one rounding for each multiply-add.
#include <arm_neon.h>

#include "nearest.h"

namespace edgead {
namespace {

#include "simd_neon.inc"

#include "nearest.inc"

}  // namespace

const NearestKernels nearest_neon = {MR, NR, score_tile, squared_distance, centre};

}  // namespace edgead
