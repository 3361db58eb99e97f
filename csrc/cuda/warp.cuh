// Sums and extremes over the 32 lanes of a warp. In a butterfly, both lanes of a pair add the same two numbers, so
// every lane ends with the same result to the last digit.
#pragma once

#include <cuda_runtime.h>

namespace edgead::cuda {

constexpr unsigned all_lanes = 0xffffffffu;

template <typename T>
__device__ T warp_sum(T value) {
    for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(all_lanes, value, step);
    return value;
}

__device__ inline float warp_max(float value) {
    for (int step = 16; step > 0; step /= 2) value = fmaxf(value, __shfl_xor_sync(all_lanes, value, step));
    return value;
}

__device__ inline float warp_min(float value) { return -warp_max(-value); }

}  // namespace edgead::cuda
