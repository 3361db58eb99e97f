// Pre-scan in 8-bit codes, AVX-512 F, BW, DQ, VL: 64 products by three instructions. The first adds pairs of products
// in 16 bits, which hold two times 255 * 64.
#include <immintrin.h>

#include "scan.h"

namespace edgead {
namespace {

#include "simd_avx512.inc"

#include "codes_avx512.inc"

inline I dot4(I sum, I query, I bank) {
    const __m512i pairs = _mm512_maddubs_epi16((__m512i)query, (__m512i)bank);
    return sum + (I)_mm512_madd_epi16(pairs, _mm512_set1_epi16(1));
}

#include "scan.inc"

}  // namespace

const ScanKernels scan_avx512 = {QUERIES, NR, LANES, 128, 64, score_tile, highest, select, products, largest, encode};

}  // namespace edgead
