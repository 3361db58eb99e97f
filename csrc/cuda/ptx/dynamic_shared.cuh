// Shared memory whose size a launch says.
#pragma once

#include <cuda_runtime.h>

namespace edgead::cuda {

__device__ __forceinline__ uint4* dynamic_shared() {
    extern __shared__ uint4 dynamic_shared_memory[];
    return dynamic_shared_memory;
}

}  // namespace edgead::cuda
