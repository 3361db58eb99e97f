// Queries in 8-bit codes, with the quantities that the bound of quantized_bank.h needs of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "nearest/quantized_bank.h"

namespace edgead {

struct QuantizedQuery {
    const float* feature;
    bool unfit;                               // for codes: not finite, or too far out
    bool left;                                // unfit, or with too many rows to measure
    double norm;                              // |q|
    double off;                               // q_off
    double wide;                              // |y^|^2 + n^2, rounded down
    double limit;                             // k rows are at most this far away, squared, in the units of the features
    float full_step, full_squared, full_off;  // of the second look
};

// What the queries of one tile share.
struct QuantizedTile {
    double product;  // query step * bank step
    double range;    // of the sums: none is farther from zero, and none of the starts
    float reach_scale, energy_scale;
    int shift;
};

// Of one thread, kept between searches so that a frame allocates nothing.
struct QuantizedQueries {
    void load(const QuantizedBank& bank, const Rows& features);

    std::vector<QuantizedQuery> queries;
    std::vector<QuantizedTile> tiles;
    std::vector<std::uint8_t> codes;       // [tile][steps][MR][4]
    std::vector<std::uint8_t> full_codes;  // [query][length]

private:
    void load_tile(const QuantizedBank& bank, std::size_t t, std::size_t n);
    void load_full(const QuantizedBank& bank, std::size_t i);

    std::vector<float> x_, y_;             // centred, and as the projection sees them
    std::vector<std::uint8_t> row_codes_;  // of one query
};

}  // namespace edgead
