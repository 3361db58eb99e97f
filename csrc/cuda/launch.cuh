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
    bool early = false;            // before the kernel ahead has ended, for which it waits itself (grid_order.cuh)
};

template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), const Launch& shape, Arguments&&... arguments) {
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(static_cast<unsigned>(shape.blocks));
    config.blockDim = dim3(static_cast<unsigned>(shape.threads));
    config.dynamicSmemBytes = shape.shared_bytes;
    config.stream = shape.stream;
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    config.attrs = &attribute;
    config.numAttrs = shape.early;
    check(cudaLaunchKernelEx(&config, kernel, static_cast<Arguments&&>(arguments)...), "starting a kernel");
}

template <typename... Parameters>
void load(void (*kernel)(Parameters...)) {
    cudaFuncAttributes attributes;
    check(cudaFuncGetAttributes(&attributes, kernel), "loading a kernel");
}

// Whether a kernel can begin early: the card can, the kernel has the instructions, which it has not if the driver
// compiled code for an older card, and so can be said in a capture.
template <typename... Parameters>
bool begins_early(void (*kernel)(Parameters...), const Card& card) {
    cudaFuncAttributes attributes;
    check(cudaFuncGetAttributes(&attributes, kernel), "loading a kernel");
    int driver = 0;
    check(cudaDriverGetVersion(&driver), "asking for the driver");
    return card.capability >= 90 && attributes.ptxVersion >= 90 && CUDART_VERSION >= 12030 && driver >= 12030;
}

// Also lets its blocks have so much shared memory, which is more than they may have without asking. It is the kernel's,
// on this device, until the next call: the same for all who launch it.
template <typename... Parameters>
void load(void (*kernel)(Parameters...), std::size_t shared_bytes) {
    load(kernel);
    const auto bytes = static_cast<int>(shared_bytes);
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), "asking for shared memory");
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, 100),
          "asking for shared memory");
}

}  // namespace edgead::cuda
