// The part of CUDA that edgead's kernels use, on the host: the runtime's functions work at once on ordinary memory, and
// kernels run on fibers.h. Meant to be slow and strict: device memory starts as NaN, and what CUDA leaves open is done
// in the order that does most harm.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <tuple>
#include <utility>

#include "fibers.h"

#define __host__
#define __device__
#define __global__
#define __forceinline__ inline
#define __shared__ static
#define __launch_bounds__(...)

struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};

using std::max;
using std::min;

inline int __popc(unsigned value) { return __builtin_popcount(value); }
inline int __ffs(int value) { return __builtin_ffs(value); }
inline void __syncthreads() { emulator::barrier(); }
inline void __threadfence() {}

template <typename T>
T atomicMin(T* place, T value) {
    return std::exchange(*place, std::min(*place, value));
}
template <typename T>
T atomicMax(T* place, T value) {
    return std::exchange(*place, std::max(*place, value));
}
template <typename T>
T atomicAdd(T* place, T value) {
    return std::exchange(*place, *place + value);
}

namespace emulator {

template <typename T, typename Source>
T shuffle(const char* operation, unsigned mask, T value, Source source) {
    if (mask != 0xffffffffu) fail("only whole warps are emulated");
    struct Operand {
        T in, out;
    } mine{value, value};
    meet(operation, mine, [&](Operand** lanes) {
        for (int lane = 0; lane < 32; ++lane) lanes[lane]->out = lanes[source(lane)]->in;
    });
    return mine.out;
}

}  // namespace emulator

template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int step) {
    return emulator::shuffle("shfl.xor", mask, value, [=](int lane) { return lane ^ step; });
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, int step) {
    return emulator::shuffle("shfl.up", mask, value, [=](int lane) { return lane < step ? lane : lane - step; });
}
template <typename T>
T __shfl_sync(unsigned mask, T value, int from) {
    return emulator::shuffle("shfl.idx", mask, value, [=](int) { return from; });
}
inline unsigned __ballot_sync(unsigned mask, bool vote) {
    if (mask != 0xffffffffu) emulator::fail("only whole warps are emulated");
    struct Operand {
        bool vote;
        unsigned out;
    } mine{vote, 0};
    emulator::meet("vote.ballot", mine, [](Operand** lanes) {
        unsigned votes = 0;
        for (int lane = 0; lane < 32; ++lane) votes |= static_cast<unsigned>(lanes[lane]->vote) << lane;
        for (int lane = 0; lane < 32; ++lane) lanes[lane]->out = votes;
    });
    return mine.out;
}

enum cudaError_t {
    cudaSuccess,
    cudaErrorMemoryAllocation,
    cudaErrorInsufficientDriver,
    cudaErrorNoDevice,
    cudaErrorNoKernelImageForDevice,
    cudaErrorInvalidDeviceFunction,
    cudaErrorIllegalAddress,
    cudaErrorMisalignedAddress,
    cudaErrorStreamCaptureUnsupported,
    cudaErrorStreamCaptureInvalidated,
};
enum cudaStreamCaptureStatus { cudaStreamCaptureStatusNone };
enum { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost };
constexpr unsigned cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2;
using cudaStream_t = struct CUstream_st*;
using cudaEvent_t = struct CUevent_st*;
struct cudaDeviceProp {
    char name[256];
    int major, minor;
};
struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    cudaStream_t stream = nullptr;
};

inline const char* cudaGetErrorName(cudaError_t) { return "cudaErrorMemoryAllocation"; }
inline const char* cudaGetErrorString(cudaError_t) { return "out of memory"; }
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
inline cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
inline cudaError_t cudaSetDevice(int) { return cudaSuccess; }
inline cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
    *properties = {"emulator", 8, 0};
    return cudaSuccess;
}
inline cudaError_t cudaMalloc(void** data, std::size_t bytes) {
    if (bytes > std::size_t{1} << 33) return cudaErrorMemoryAllocation;
    *data = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (*data) std::memset(*data, 0xff, bytes);
    return *data ? cudaSuccess : cudaErrorMemoryAllocation;
}
inline cudaError_t cudaFree(void* data) { return std::free(data), cudaSuccess; }
inline cudaError_t cudaMemcpyAsync(void* target, const void* source, std::size_t bytes, int, cudaStream_t) {
    return std::memcpy(target, source, bytes), cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void* target, int value, std::size_t bytes, cudaStream_t) {
    return std::memset(target, value, bytes), cudaSuccess;
}
inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) { return *stream = nullptr, cudaSuccess; }
inline cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
    return *status = cudaStreamCaptureStatusNone, cudaSuccess;
}
inline cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) { return *event = nullptr, cudaSuccess; }
inline cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
inline cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }

template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
    const std::tuple<Parameters...> parameters(std::forward<Arguments>(arguments)...);
    emulator::run_grid(config->gridDim.x, config->blockDim.x, [&] { std::apply(kernel, parameters); });
    return cudaSuccess;
}
