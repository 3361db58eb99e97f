// Pre-scan in 8-bit codes, AVX2 with AVX-VNNI: 32 products by one instruction.
#include <immintrin.h>

#include "scan.h"

namespace edgead {
namespace {

#include "simd_avx2.inc"

#include "codes_avx2.inc"

constexpr int QUERIES = 6;  // 12 sums, 2 bank vectors, 1 query of 16 registers

inline I dot4(I sum, I query, I bank) {
    return (I)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)query, (__m256i)bank);
}

#include "scan.inc"

}  // namespace

const ScanKernels scan_avxvnni = {QUERIES, NR, LANES, 128, 127, score_tile, highest, select, products, largest, encode};

}  // namespace edgead
