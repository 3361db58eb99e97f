// AArch64 Advanced SIMD: one rounding for each multiply-add; 16 products of bytes by four instructions.
#include <arm_neon.h>

#include "isa/kernels.h"

namespace edgead {
namespace {

#include "isa/simd_neon.inc"

#include "isa/codes_neon.inc"

constexpr int QUERY_ZERO = 0, BANK_TOP = 127;

// Two products of 127 * 127 add up in 16 bits.
inline I dot4(I sum, I query, I bank) {
    const int8x16_t q = vreinterpretq_s8_s32(query), b = vreinterpretq_s8_s32(bank);
    const int16x8_t low = vmull_s8(vget_low_s8(q), vget_low_s8(b)), high = vmull_high_s8(q, b);
    return vpadalq_s16(sum, vpaddq_s16(low, high));
}

#include "isa/all_kernels.inc"

}  // namespace

const Kernels kernels_neon = {"neon",          nearest::kernels, &scan::kernels,
                              smooth::kernels, coreset::kernels, shrink::kernels};

}  // namespace edgead
