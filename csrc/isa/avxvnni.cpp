// AVX2 and FMA3 with AVX-VNNI: one rounding for each multiply-add; 32 products of bytes by one instruction.
#include <immintrin.h>

#include "isa/kernels.h"

namespace edgead {
namespace {

#include "isa/simd_avx2.inc"

#include "isa/codes_avx2.inc"

constexpr int QUERIES = 6;  // 12 sums, 2 bank vectors, 1 query of 16 registers
constexpr int QUERY_ZERO = 128, BANK_TOP = 127;

inline I dot4(I sum, I query, I bank) {
    return (I)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)query, (__m256i)bank);
}

#include "isa/all_kernels.inc"

}  // namespace

const Kernels kernels_avxvnni = {"avxvnni",       nearest::kernels, &scan::kernels,
                                 smooth::kernels, coreset::kernels, shrink::kernels};

}  // namespace edgead
