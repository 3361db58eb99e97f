// AVX-512 F, BW, DQ, VL: one rounding for each multiply-add; 64 products of bytes by three instructions.
#include <immintrin.h>

#include "isa/kernels.h"

namespace edgead {
namespace {

#include "isa/simd_avx512.inc"

#include "isa/codes_avx512.inc"

constexpr int QUERY_ZERO = 128, BANK_TOP = 64;

// The first instruction adds pairs of products in 16 bits, which hold two times 255 * 64.
inline I dot4(I sum, I query, I bank) {
    const __m512i pairs = _mm512_maddubs_epi16((__m512i)query, (__m512i)bank);
    return sum + (I)_mm512_madd_epi16(pairs, _mm512_set1_epi16(1));
}

#include "isa/all_kernels.inc"

}  // namespace

const Kernels kernels_avx512 = {"avx512",        nearest::kernels, &scan::kernels,
                                smooth::kernels, coreset::kernels, shrink::kernels};

}  // namespace edgead
