// Greedy coreset, AArch64 Advanced SIMD: one rounding for each multiply-add.
#include <arm_neon.h>

#include "coreset.h"

namespace edgead {
namespace {

#include "simd_neon.inc"

#include "coreset.inc"

}  // namespace

const CoresetKernels coreset_neon = {squared_distance};

}  // namespace edgead
