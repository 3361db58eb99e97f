// The part of CUDA that edgead's kernels use, on the host: the runtime's functions put work into streams.h, and kernels
// run on fibers.h. Meant to be slow and strict: memory starts as NaN, shared memory for every block, and what CUDA
// leaves open is done in the order that does most harm.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>

#include "fibers.h"
#include "streams.h"
#include "views.h"

#define __host__
#define __device__
#define __global__
#define __forceinline__ inline
#define __shared__ static __attribute__((section("emulated_shared")))
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
inline int __syncthreads_or(int vote) { return emulator::barrier(vote != 0); }
inline void __threadfence() { emulator::fence(); }

template <typename T>
auto atomicMin(T* place, T value) {
    return emulator::Atomic<T>(place, [value](T old) { return std::min(old, value); });
}
template <typename T>
auto atomicMax(T* place, T value) {
    return emulator::Atomic<T>(place, [value](T old) { return std::max(old, value); });
}
template <typename T>
auto atomicAdd(T* place, T value) {
    return emulator::Atomic<T>(place, [value](T old) { return old + value; });
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
    if (std::is_same<T, double>::value) emulator::count_float64();
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
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInvalidConfiguration = 9,
    cudaErrorInsufficientDriver = 35,
    cudaErrorInvalidDeviceFunction = 98,
    cudaErrorNoDevice = 100,
    cudaErrorNoKernelImageForDevice = 209,
    cudaErrorUnsupportedPtxVersion = 222,
    cudaErrorIllegalAddress = 700,
    cudaErrorMisalignedAddress = 716,
    cudaErrorStreamCaptureUnsupported = 900,
    cudaErrorStreamCaptureInvalidated = 901,
    cudaErrorStreamCaptureIsolation = 905,
    cudaErrorCapturedEvent = 907,
};
enum cudaStreamCaptureStatus { cudaStreamCaptureStatusNone, cudaStreamCaptureStatusActive };
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2 };
constexpr unsigned cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2;
struct cudaDeviceProp {
    char name[256];
    int major, minor;
};
struct cudaFuncAttributes {
    int ptxVersion, binaryVersion;
};
struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    cudaStream_t stream = nullptr;
};

inline const char* cudaGetErrorName(cudaError_t status) {
    switch (status) {
        case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
        case cudaErrorNoKernelImageForDevice: return "cudaErrorNoKernelImageForDevice";
        case cudaErrorUnsupportedPtxVersion: return "cudaErrorUnsupportedPtxVersion";
        case cudaErrorIllegalAddress: return "cudaErrorIllegalAddress";
        case cudaErrorStreamCaptureUnsupported: return "cudaErrorStreamCaptureUnsupported";
        case cudaErrorStreamCaptureInvalidated: return "cudaErrorStreamCaptureInvalidated";
        default: return "another error";
    }
}
inline const char* cudaGetErrorString(cudaError_t status) {
    switch (status) {
        case cudaErrorMemoryAllocation: return "out of memory";
        case cudaErrorNoKernelImageForDevice: return "no kernel image is available for execution on the device";
        case cudaErrorUnsupportedPtxVersion: return "the provided PTX was compiled with an unsupported toolchain.";
        default: return "emulated";
    }
}
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
inline cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
inline cudaError_t cudaSetDevice(int) { return cudaSuccess; }
inline cudaError_t cudaDeviceSynchronize() { return cudaError_t(emulator::synchronize_device()); }
inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
    *properties = {"emulator", emulator::capability() / 10, emulator::capability() % 10};
    return cudaSuccess;
}
inline cudaError_t cudaMalloc(void** data, std::size_t bytes) { return cudaError_t(emulator::allocate(data, bytes)); }
inline cudaError_t cudaFree(void* data) { return cudaError_t(emulator::release(data)); }
inline cudaError_t cudaMemcpyAsync(void* target, const void* source, std::size_t bytes, cudaMemcpyKind kind,
                                   cudaStream_t stream) {
    return cudaError_t(emulator::copy(stream, target, source, bytes, kind == cudaMemcpyHostToDevice));
}
inline cudaError_t cudaMemsetAsync(void* target, int value, std::size_t bytes, cudaStream_t stream) {
    return cudaError_t(emulator::enqueue(stream, [=] { std::memset(target, value, bytes); }));
}
inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
    return cudaError_t(emulator::create_stream(stream));
}
inline cudaError_t cudaStreamDestroy(cudaStream_t stream) { return cudaError_t(emulator::destroy_stream(stream)); }
inline cudaError_t cudaStreamSynchronize(cudaStream_t stream) { return cudaError_t(emulator::synchronize(stream)); }
inline cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
    return *status = cudaStreamCaptureStatus(emulator::capture_status(stream)), cudaSuccess;
}
inline cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    return cudaError_t(emulator::wait_event(stream, event));
}
inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
    return cudaError_t(emulator::create_event(event));
}
inline cudaError_t cudaEventDestroy(cudaEvent_t event) { return cudaError_t(emulator::destroy_event(event)); }
inline cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    return cudaError_t(emulator::record(event, stream));
}
inline cudaError_t cudaEventSynchronize(cudaEvent_t event) { return cudaError_t(emulator::synchronize(event)); }

template <typename... Parameters>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, void (*kernel)(Parameters...)) {
    *attributes = {emulator::capability(), emulator::capability()};
    return cudaError_t(emulator::load(reinterpret_cast<const void*>(kernel)));
}

template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
    const unsigned blocks = config->gridDim.x, threads = config->blockDim.x;
    if (blocks == 0 || threads == 0 || threads > 1024) return cudaErrorInvalidConfiguration;
    const std::tuple<Parameters...> parameters(std::forward<Arguments>(arguments)...);
    const auto run = [=] { emulator::run_grid(blocks, threads, [=] { std::apply(kernel, parameters); }); };
    return cudaError_t(emulator::launch(config->stream, reinterpret_cast<const void*>(kernel), run));
}
