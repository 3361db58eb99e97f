// Launching of kernels by the runtime's function instead of <<<>>>, so that its errors are reported.
#pragma once

#include <cuda_runtime.h>

#include "device.h"

namespace edgead::cuda {

struct Launch {
    std::int64_t blocks;
    int threads;
    cudaStream_t stream;
};

template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), const Launch& shape, Arguments&&... arguments) {
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(static_cast<unsigned>(shape.blocks));
    config.blockDim = dim3(static_cast<unsigned>(shape.threads));
    config.stream = shape.stream;
    check(cudaLaunchKernelEx(&config, kernel, static_cast<Arguments&&>(arguments)...), "starting a kernel");
}

template <typename... Parameters>
void load(void (*kernel)(Parameters...)) {
    cudaFuncAttributes attributes;
    check(cudaFuncGetAttributes(&attributes, kernel), "loading a kernel");
}

}  // namespace edgead::cuda
