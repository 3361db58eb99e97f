// Pre-scan in 8-bit codes, AMX-INT8 over AVX-512 VNNI: 16 x 16 x 64 products by one instruction.
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

constexpr int TILE_ROWS = 16, TILE_BYTES = 64;  // a tile register
constexpr int TILE_STEPS = TILE_BYTES / 4;

struct alignas(64) TileConfiguration {
    std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
    std::uint16_t bytes[16] = {};
    std::uint8_t rows[16] = {};
};

void begin() {
    TileConfiguration configuration;
    for (int i = 0; i < 8; ++i) {
        configuration.bytes[i] = TILE_BYTES;
        configuration.rows[i] = TILE_ROWS;
    }
    _tile_loadconfig(&configuration);
}

// Tiles that are in use make every switch of threads dearer.
void end() { _tile_release(); }

// The products are exact in 32 bits, as those of dot4 are.
void score_tile_amx(const std::uint8_t* queries, const std::int8_t* panel, std::size_t steps, const ScanStart& start,
                    int shift, std::int16_t* scores, std::size_t stride) {
    alignas(64) std::int32_t sums[VECTORS][TILE_ROWS][LANES];
    for (int v = 0; v < VECTORS; ++v) {
        const V reach = mul(load(start.reach + v * LANES), set1(start.reach_scale));
        const V energy = mul(load(start.energy + v * LANES), set1(start.energy_scale));
        store(sums[v][0], sub(to_int(sub(reach, energy)), load(start.offset + v * LANES)));
    }
    // A stride of 0: every row of sums begins alike.
    _tile_loadd(0, sums[0][0], 0);
    _tile_loadd(1, sums[1][0], 0);
    for (std::size_t step = 0; step < steps; step += TILE_STEPS) {
        _tile_loadd(2, queries + 4 * step, static_cast<long>(4 * steps));
        _tile_loadd(3, panel + 4 * NR * step, 4 * NR);
        _tile_loadd(4, panel + 4 * NR * step + TILE_BYTES, 4 * NR);
        _tile_dpbusd(0, 2, 3);
        _tile_dpbusd(1, 2, 4);
    }
    _tile_stored(0, sums[0][0], TILE_BYTES);
    _tile_stored(1, sums[1][0], TILE_BYTES);
    for (int r = 0; r < TILE_ROWS; ++r) narrow(load(sums[0][r]), load(sums[1][r]), shift, scores + r * stride);
}

}  // namespace

const ScanKernels scan_amx = {TILE_ROWS,      NR,       LANES,   128,    127,        score_tile_amx, highest, select,
                              products,       largest,  encode,  48,     TILE_STEPS, true,           begin,   end};

}  // namespace edgead
