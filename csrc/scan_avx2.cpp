// Pre-scan in 8-bit codes, AVX2: 32 products by three instructions. The first adds pairs of products in 16 bits, which
// hold two times 255 * 64.
#include <immintrin.h>

#include "scan.h"

namespace edgead {
namespace {

#include "simd_avx2.inc"

#include "codes_avx2.inc"

constexpr int QUERIES = 4;  // 8 sums, 2 bank vectors, 1 query, the ones and what is between of 16 registers

inline I dot4(I sum, I query, I bank) {
    const __m256i pairs = _mm256_maddubs_epi16((__m256i)query, (__m256i)bank);
    return sum + (I)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

#include "scan.inc"

}  // namespace

const ScanKernels scan_avx2 = {QUERIES, NR, LANES, 128, 64, score_tile, highest, select, products, largest, encode};

}  // namespace edgead
