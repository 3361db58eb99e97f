// Nearest patches, any CPU: GCC and Clang vector extension, products and sums rounded separately.

#include "nearest.h"

namespace edgead {
namespace {

#include "simd_baseline.inc"

#include "nearest.inc"

}  // namespace

const NearestKernels nearest_baseline = {MR, NR, score_tile, squared_distance, centre};

}  // namespace edgead
