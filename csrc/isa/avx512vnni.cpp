// AVX-512 F, BW, DQ, VL with VNNI: one rounding for each multiply-add; 64 products of bytes by one instruction.
#include <immintrin.h>

#include "isa/kernels.h"

namespace edgead {
namespace {

#include "isa/simd_avx512.inc"

#include "isa/codes_avx512.inc"

constexpr int QUERY_ZERO = 128, BANK_TOP = 127;

inline I dot4(I sum, I query, I bank) { return (I)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)query, (__m512i)bank); }

#include "isa/all_kernels.inc"

}  // namespace

const Kernels kernels_avx512vnni = {"avx512vnni",    nearest::kernels, &scan::kernels,
                                    smooth::kernels, coreset::kernels, shrink::kernels};

}  // namespace edgead
