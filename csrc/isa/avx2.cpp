// AVX2 and FMA3: one rounding for each multiply-add; 32 products of bytes by three instructions.
#include <immintrin.h>

#include "isa/kernels.h"

namespace edgead {
namespace {

#include "isa/simd_avx2.inc"

#include "isa/codes_avx2.inc"

constexpr int QUERIES = 4;  // 8 sums, 2 bank vectors, 1 query, the ones and what is between of 16 registers
constexpr int QUERY_ZERO = 128, BANK_TOP = 64;

// The first instruction adds pairs of products in 16 bits, which hold two times 255 * 64.
inline I dot4(I sum, I query, I bank) {
    const __m256i pairs = _mm256_maddubs_epi16((__m256i)query, (__m256i)bank);
    return sum + (I)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

#include "isa/all_kernels.inc"

}  // namespace

const Kernels kernels_avx2 = {"avx2",          nearest::kernels, &scan::kernels,
                              smooth::kernels, coreset::kernels, shrink::kernels};

}  // namespace edgead
