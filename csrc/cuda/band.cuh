// Device function that kernels call on a band.
#pragma once

#include <cuda_runtime.h>

#include "band.h"

namespace edgead::cuda {

__device__ inline int taps_inside(const Band& band, int output) {
    return min(band.taps, band.inputs - band.first[output]);
}

}  // namespace edgead::cuda
