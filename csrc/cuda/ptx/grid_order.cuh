// Kernels that begin before the one ahead of them in the stream has ended, on cards since Hopper: its last blocks run
// beside the first of the next. Elsewhere, and where a launch does not ask for it (launch.cuh), nothing of this does
// anything.
#pragma once

#include <cuda_runtime.h>

namespace edgead::cuda {

// Waits until the kernel ahead has ended and what it wrote is there: before the first access to memory, by all threads.
__device__ __forceinline__ void wait_for_kernel_ahead() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Lets the next kernel begin as soon as all blocks of this one have come here. After wait_for_kernel_ahead(), so that
// the next one finds what was written before that, too.
__device__ __forceinline__ void let_next_kernel_begin() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

}  // namespace edgead::cuda
