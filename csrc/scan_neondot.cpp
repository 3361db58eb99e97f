// Pre-scan in 8-bit codes, NEON with the dot product of ARMv8.2: 16 products by one instruction.
#include <arm_neon.h>

#include "scan.h"

namespace edgead {
namespace {

#include "simd_neon.inc"

#include "codes_neon.inc"

inline I dot4(I sum, I query, I bank) {
    return vdotq_s32(sum, vreinterpretq_s8_s32(query), vreinterpretq_s8_s32(bank));
}

#include "scan.inc"

}  // namespace

const ScanKernels scan_neondot = {QUERIES, NR, LANES, 0, 127, score_tile, highest, select, products, largest, encode};

}  // namespace edgead
