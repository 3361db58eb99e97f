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

#include "isa/all_kernels.inc"

}  // namespace

const Kernels kernels_neondot = {"neondot",       nearest::kernels, &scan::kernels,
                                 smooth::kernels, coreset::kernels, shrink::kernels};

}  // namespace edgead
