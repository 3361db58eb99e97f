// One axis of a smoothing operator, as Python builds it.
#pragma once

#include <cstdint>

namespace edgead {

// Output i is weights[i][0..taps) times inputs first[i]... Inputs beyond the last have weight 0.
struct BandMatrix {
    const std::int32_t* first;
    const float* weights;
    int outputs, taps, inputs;
};

}  // namespace edgead
