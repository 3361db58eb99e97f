// A narrow band of weights on the device: one axis of smoothing, or of resizing.
#pragma once

#include <cstdint>

#include "../shared/band_matrix.h"
#include "device.h"

namespace edgead::cuda {

// A BandMatrix on the device. Neighbouring threads have neighbouring outputs: where they differ in the column, weights
// are (taps, outputs), where in the row, (outputs, taps).
struct Band {
    const std::int32_t* first;
    const float* weights;
    int outputs, taps, inputs;
};

class BandMemory {
public:
    BandMemory(const BandMatrix& band, bool transposed);
    const Band& get() const { return band_; }

private:
    DeviceMemory memory_;
    Band band_;
};

}  // namespace edgead::cuda
