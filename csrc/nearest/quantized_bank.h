// Bank in 8-bit codes, and the proof of which rows a scan of them may exclude.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "isa/kernels.h"
#include "nearest/projection.h"
#include "shared/aligned.h"

namespace edgead {

// Everything is in the frame of Centring; q and b are exact rows there, |b| <= 1. With the projection U, y = U q and
// z = U b are known as codes times a step, y^ and z^, with |y - y^| <= q_off and |z - z^| <= b_off. What U does not
// see of a row, its part off the row space of U, has length n for q and e for b. Then
//   |q - b|^2 >= |y - z|^2 / (1 + spread) + (n - e)^2
// because the part in the row space is at least |y - z| / |U|, and the parts off it are at least | n - e | apart.
// A row with |q - b|^2 <= T therefore has |y - z|^2 <= (1 + spread) (T - (n - e)^2), and with off = q_off + b_off
//   |y^ - z^|^2 <= (|y - z| + off)^2 <= (1 + spread) T - (n - e)^2 + 2 off (1 + spread) sqrt(T) + off^2.
// Written out, such a row has
//   y^.z^ + n e - energy >= floor,   energy = (|z^|^2 + e^2) / 2,
//   floor = (|y^|^2 + n^2 - (1 + spread) T) / 2 - off (1 + spread) sqrt(T) - off^2 / 2:
// one product and one start for each pair, one number for each query. The product is exact, in integers. Lengths are
// rounded to the safe side: n and e up in n e, down in n^2 and e^2. Without a projection, U is the identity and
// n = e = spread = 0.
struct ProjectedCodes {
    ProjectedCodes(const ScanKernels& kernels, const Projection& projection, const Centring& centring,
                   const Rows& bank);

    std::size_t steps;
    double step = 1, off = 0;          // b_off of every row is at most off
    Aligned<std::int8_t> codes;        // [panel][steps][NR][4]
    std::vector<float> reach, energy;  // e, and energy, in the order of the panels' columns
    std::vector<std::int32_t> offset;  // query_zero * sum of codes
    double largest_reach = 0, largest_energy = 0, largest_length = 0;  // of e, of energy, of |z^| / step
};

// Part of x that a projection does not see: its squared length lies in [low, high]. The squared length of what it
// sees is known to 2^-13 of itself.
struct Unseen {
    double low, high;
    Unseen(const Projection& projection, double squared_norm, double squared_projected);
};

// A second look, only with a projection: the full rows in codes, with a step for each row, so that
//   |q - b| >= |q^ - b^| - |q - q^| - |b - b^|.
struct FullCodes {
    FullCodes(const ScanKernels& kernels, const Centring& centring, const Rows& bank);

    std::size_t length;          // d, rounded up to a multiple of 64
    Aligned<std::int8_t> codes;  // [m][length]
    struct Row {
        float step, squared, off;  // |b^|^2 and |b - b^|
        std::int32_t offset;
    };
    std::vector<Row> rows;
};

// All that a search of codes reads. The kernels (of a level that has scan kernels), the centring and the rows must
// outlive this. No directions: codes of all columns. Throws std::invalid_argument if directions are not orthonormal.
struct QuantizedBank {
    QuantizedBank(const Kernels& kernels, const Centring& frame, const Rows& bank, const Rows& directions);

    const ScanKernels& scan;
    const NearestKernels& nearest;
    const Centring& centring;
    Rows rows;
    Projection projection;
    ProjectedCodes projected;
    std::optional<FullCodes> full;  // only with directions
};

}  // namespace edgead
