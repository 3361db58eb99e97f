// csrc/cuda/ptx/dynamic_shared.cuh: memory of each block, of the size that the launch says.
#pragma once

#include <cuda_runtime.h>

namespace edgead::cuda {

inline uint4* dynamic_shared() { return reinterpret_cast<uint4*>(emulator::views.dynamic_shared()); }

}  // namespace edgead::cuda
