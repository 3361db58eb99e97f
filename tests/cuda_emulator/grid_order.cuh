// csrc/cuda/ptx/grid_order.cuh: until all threads of a block have waited, it can neither read nor write device memory.
#pragma once

#include <cuda_runtime.h>

namespace edgead::cuda {

inline void wait_for_kernel_ahead() { emulator::wait_for_grid(); }
inline void let_next_kernel_begin() {}

}  // namespace edgead::cuda
