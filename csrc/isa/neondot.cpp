// AArch64 Advanced SIMD with the dot product of ARMv8.2: one rounding for each multiply-add; 16 products of bytes by
// one instruction.
#include <arm_neon.h>

#include "isa/kernels.h"

namespace edgead {
namespace {

#include "isa/simd_neon.inc"

#include "isa/codes_neon.inc"

constexpr int QUERY_ZERO = 0, BANK_TOP = 127;

inline I dot4(I sum, I query, I bank) {
    return vdotq_s32(sum, vreinterpretq_s8_s32(query), vreinterpretq_s8_s32(bank));
}

#include "coreset/coreset_kernels.inc"
#include "nearest/nearest_kernels.inc"
#include "nearest/scan_kernels.inc"
#include "resize/shrink_kernels.inc"
#include "smooth/smooth_kernels.inc"

}  // namespace

const Kernels kernels_neondot = {
    .level = "neondot",
    .nearest = nearest::kernels,
    .scan = &scan::kernels,
    .smooth = smooth::kernels,
    .coreset = coreset::kernels,
    .shrink = shrink::kernels,
};

}  // namespace edgead
