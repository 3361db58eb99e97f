// Kernels of the greedy coreset that each ISA level provides.
#pragma once

#include <cstddef>

namespace edgead {

struct CoresetKernels {
    // Sum of (a - b)^2 in float32, always in the same order: the one distance that decides a pick.
    // Precision: relative error at most (d + 4) 2^-24, as every term is positive.
    float (*squared_distance)(const float* a, const float* b, std::size_t d);
};

}  // namespace edgead
