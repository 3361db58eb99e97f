// Starts kernels through the runtime's function instead of <<<>>>, and reports what it says.
#pragma once

#include <cuda_runtime.h>

#include "device.h"

namespace edgead::cuda {

struct Launch {
    std::int64_t blocks;
    int threads;
    cudaStream_t stream;
    std::size_t shared_bytes = 0;  // dynamic_shared.cuh
};

template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), const Launch& shape, Arguments&&... arguments) {
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(static_cast<unsigned>(shape.blocks));
    config.blockDim = dim3(static_cast<unsigned>(shape.threads));
    config.dynamicSmemBytes = shape.shared_bytes;
    config.stream = shape.stream;
    check(cudaLaunchKernelEx(&config, kernel, static_cast<Arguments&&>(arguments)...), "starting a kernel");
}

template <typename... Parameters>
void load(void (*kernel)(Parameters...)) {
    cudaFuncAttributes attributes;
    check(cudaFuncGetAttributes(&attributes, kernel), "loading a kernel");
}

// Also lets its blocks have so much shared memory, which is more than they may have without asking.
template <typename... Parameters>
void load(void (*kernel)(Parameters...), std::size_t shared_bytes) {
    load(kernel);
    const auto bytes = static_cast<int>(shared_bytes);
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), "asking for shared memory");
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, 100),
          "asking for shared memory");
}

}  // namespace edgead::cuda
