// Greedy coreset, any CPU: GCC and Clang vector extension, products and sums rounded separately.

#include "coreset.h"

namespace edgead {
namespace {

#include "simd_baseline.inc"

#include "coreset.inc"

}  // namespace

const CoresetKernels coreset_baseline = {squared_distance};

}  // namespace edgead
