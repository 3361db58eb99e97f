// AVX-512 F, BW, DQ, VL with VNNI: one rounding for each multiply-add; 64 products of bytes by one instruction.
#include <immintrin.h>

#include "isa/kernels.h"

namespace edgead {
namespace {

#include "isa/simd_avx512.inc"

#include "isa/codes_avx512.inc"

constexpr int QUERY_ZERO = 128, BANK_TOP = 127;

inline I dot4(I sum, I query, I bank) { return (I)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)query, (__m512i)bank); }

#include "coreset/coreset_kernels.inc"
#include "nearest/nearest_kernels.inc"
#include "nearest/scan_kernels.inc"
#include "resize/shrink_kernels.inc"
#include "smooth/smooth_kernels.inc"

}  // namespace

const Kernels kernels_avx512vnni = {
    .level = "avx512vnni",
    .nearest = nearest::kernels,
    .scan = &scan::kernels,
    .smooth = smooth::kernels,
    .coreset = coreset::kernels,
    .shrink = shrink::kernels,
};

}  // namespace edgead
