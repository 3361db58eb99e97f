// Four instructions that CUDA C++ has no name for, of compute capability 8.0 and later (Orin, Ampere, Ada, Hopper,
// Blackwell). wgmma and tcgen05 are not used: each is faster on one of these and missing on the others.
//
// Found by include path, not next to the kernels, so that tests can replace this file by an emulation written from the
// PTX ISA and run the kernels on a machine without a GPU.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace edgead::cuda {

// d += a b for a (16, 16) and b (16, 8) of halves, d (16, 8) of float32, spread over the warp as layout.cuh says.
__device__ __forceinline__ void multiply_add(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                             std::uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Four 8 x 8 matrices of halves from shared memory: lane 8 i + r gives the address of row r of matrix i, and gets from
// each matrix the two halves 2 (lane % 4), + 1 of row lane / 4.
__device__ __forceinline__ void load_matrices(std::uint32_t (&matrix)[4], const uint4* row) {
    const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(matrix[0]), "=r"(matrix[1]), "=r"(matrix[2]), "=r"(matrix[3])
                 : "r"(address)
                 : "memory");
}

// 16 bytes from global to shared memory, behind the thread's back.
__device__ __forceinline__ void copy_async(uint4* target, const void* source) {
    const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(target));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(source) : "memory");
}

// Ends a group of copies, perhaps an empty one.
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until all but the last `pending` groups of this thread's copies are there.
template <int pending>
__device__ __forceinline__ void wait_for_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

}  // namespace edgead::cuda
