// Kernels of the nearest search's pre-scan of 8-bit codes that an ISA level provides.
#pragma once

#include <cstddef>
#include <cstdint>

namespace edgead {

// Where the sums of one panel start: round(reach * reach_scale - energy * energy_scale) - offset, for each of NR rows.
struct ScanStart {
    const float *reach, *energy;  // energy is infinite in an unused column, whose score is then the smallest there is
    const std::int32_t* offset;
    float reach_scale, energy_scale;
};

// Sums over the values that were encoded.
struct Encoded {
    float squared, squared_rest;  // of value^2, of (value - step * code)^2
    double squared_code;
};

// Room for the rounding of those sums, relative; and the smallest step, far below what float32 tells apart among rows
// of at most 1.
constexpr double encoded_room = 0x1p-13;
constexpr float smallest_step = 0x1p-60f;

constexpr std::size_t lines_of_block = 4;

// A code of a query is from -127 to 127 and is kept as the byte code + query_zero; a code of a bank row is from
// -bank_top to bank_top. With these limits no sum below saturates or wraps.
struct ScanKernels {
    int tile_queries;  // MR
    int panel_rows;    // NR, from 16 to 32
    int lanes;         // of a vector of 32-bit sums; see panel_column
    int query_zero, bank_top;

    // Scores of one tile of queries against one panel: (start + sum of query byte * bank code) >> shift, saturated to
    // 16 bits, for each row in its natural order.
    //   queries [steps][MR][4], panel [steps][NR][4] (64-byte aligned, columns in the order of panel_column)
    //   scores  [MR] rows of NR, `stride` apart
    void (*score_tile)(const std::uint8_t* queries, const std::int8_t* panel, std::size_t steps, const ScanStart& start,
                       int shift, std::int16_t* scores, std::size_t stride);

    // Of scores [count, a multiple of NR, at least NR], as lines of NR: the highest of each column, in blocks of
    // lines_of_block lines to tops [count / NR / lines_of_block, rounded up][NR], and in all of them to peaks [NR].
    void (*highest)(const std::int16_t* scores, std::size_t count, std::int16_t* tops, std::int16_t* peaks);

    // Writes the places of the scores at or above `threshold`, ascending, and returns their number. Stops once there
    // are `limit`; `places` has room for limit + NR. The `tops` are those of `highest`.
    std::size_t (*select)(const std::int16_t* scores, std::size_t count, const std::int16_t* tops,
                          std::int16_t threshold, std::int32_t* places, std::size_t limit);

    // products[i] = sum over j < length of query[j] * bank[rows[i] * length + j]; length is a multiple of 64.
    void (*products)(const std::uint8_t* query, const std::int8_t* bank, std::size_t length, const std::int32_t* rows,
                     std::size_t count, std::int32_t* products);

    float (*largest)(const float* values, std::size_t count);  // magnitude

    // codes[i] = round(values[i] / step) + zero for i < count, to the nearest; |values[i]| < 127.4 step, count <= 4096.
    // Precision: every sum is off by at most encoded_room of itself, `squared_code` by nothing.
    Encoded (*encode)(const float* values, std::size_t count, float step, int zero, std::uint8_t* codes);
};

// Column of a panel in which row `row` of it stands. Two vectors of sums are narrowed to one vector of scores by an
// instruction that works on 128 bits at a time; in this order the scores come out in the order of the rows.
constexpr int panel_column(int row, int lanes) {
    return row / (2 * lanes) * (2 * lanes) + row / 4 % 2 * lanes + row % (2 * lanes) / 8 * 4 + row % 4;
}

}  // namespace edgead
