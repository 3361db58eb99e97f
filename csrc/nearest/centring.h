// Centred and scaled frame in which distances are bounded, and the rounding error of a row stored there as float32.
#pragma once

#include <cstddef>
#include <vector>

#include "shared/rows.h"

namespace edgead {

// The frame in which products are formed: x -> (x - mean) * scale. Moving both sides of a distance changes nothing, and
// a smaller norm cancels less; a power of two as the scale keeps the norms of the rows at most 1, so that no square
// overflows, whatever the input.
struct Centring {
    std::vector<double> mean;
    double scale = 1;

    // Frame of `rows`. Throws std::invalid_argument, naming the row, if one holds NaN or Inf; `name` is what the
    // message calls the rows.
    static Centring of(const Rows& rows, const char* name);

    // Writes the centred row to target[0], target[stride], ... and returns its squared norm.
    double apply(const float* row, float* target, std::size_t stride) const;
};

// Each sum of a few floats that takes part in a comparison is off by at most a few 2^-24 of its terms' magnitudes;
// moving every term by this fraction of its magnitude keeps the comparison on the safe side.
constexpr double rounding_room = 0x1p-20;

// |x' - x| of a centred row x of d numbers and length `norm` and what float32 holds of it. The last term is for gradual
// underflow, for a caller that flushes denormals, and for what ScanKernels::encode then loses: the square of a rest
// below 2^-63 is flushed.
inline double float_rounding(double norm, std::size_t d) {
    return 1.01 * 0x1p-24 * norm + static_cast<double>(d) * 0x1p-62 * (1 + norm);
}

}  // namespace edgead
