// Pre-scan in 8-bit codes, AVX-512 F, BW, DQ, VL, VNNI: 64 products by one instruction.
#include <immintrin.h>

#include "scan.h"

namespace edgead {
namespace {

#include "simd_avx512.inc"

#include "codes_avx512.inc"

inline I dot4(I sum, I query, I bank) {
    return (I)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)query, (__m512i)bank);
}

#include "scan.inc"

}  // namespace

const ScanKernels scan_avx512vnni = {QUERIES, NR,     LANES,    128,     127, score_tile,
                                     highest, select, products, largest, encode};

}  // namespace edgead
