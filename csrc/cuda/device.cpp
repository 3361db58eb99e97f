#include "device.h"

#include <stdexcept>

namespace edgead::cuda {
namespace {

const char* advice(cudaError_t status) {
    switch (status) {
        case cudaErrorMemoryAllocation:
            return "the device has too little free memory: free some, or use a smaller bank";
        case cudaErrorInsufficientDriver:
            return "no NVIDIA driver is loaded, or it is older than this module's CUDA: install or update the driver";
        case cudaErrorNoDevice: return "there is no CUDA device: use backend 'cpu'";
        case cudaErrorNoKernelImageForDevice:
        case cudaErrorInvalidDeviceFunction:
            return "this module has no code for this card: it needs compute capability 8.0 or later, and to be built "
                   "for it (CUDAARCHS=native)";
        case cudaErrorUnsupportedPtxVersion:
            return "the driver is older than this module's CUDA and cannot compile its code for this card: update the "
                   "driver, or build the module on this machine (CUDAARCHS=native)";
        case cudaErrorIllegalAddress:
        case cudaErrorMisalignedAddress:
            return "a pointer that was handed in is not device memory of the stated size: check it, and start again";
        case cudaErrorStreamCaptureUnsupported:
        case cudaErrorStreamCaptureInvalidated:
            return "memory cannot grow and nothing can be loaded while a graph is captured: call reserve() before";
        default: return "an earlier call on this device may be the cause: run with CUDA_LAUNCH_BLOCKING=1 to find it";
    }
}

}  // namespace

void check(cudaError_t status, const char* doing) {
    if (status == cudaSuccess) return;
    cudaGetLastError();  // an error that can be survived is not reported again by the next call
    throw std::runtime_error(std::string("CUDA: ") + doing + " failed with " + cudaGetErrorName(status) + " (" +
                             cudaGetErrorString(status) + "): " + advice(status));
}

int device_count() {
    int count = 0;
    return cudaGetDeviceCount(&count) == cudaSuccess ? count : (cudaGetLastError(), 0);
}

std::string device_problem() {
    int count = 0;
    const cudaError_t status = cudaGetDeviceCount(&count);
    if (status == cudaSuccess) return count > 0 ? "" : "no CUDA-capable device is detected";
    cudaGetLastError();
    return cudaGetErrorString(status);
}

std::string device_name(int device) {
    cudaDeviceProp properties;
    check(cudaGetDeviceProperties(&properties, device), "asking for the device");
    return std::string(properties.name) + " (compute capability " + std::to_string(properties.major) + "." +
           std::to_string(properties.minor) + ")";
}

int current_device() {
    int device = 0;
    check(cudaGetDevice(&device), "asking for the current device");
    return device;
}

OnDevice::OnDevice(int device) : before_(current_device()) { check(cudaSetDevice(device), "changing the device"); }
OnDevice::~OnDevice() { cudaSetDevice(before_); }

DeviceMemory::DeviceMemory(std::size_t bytes) { grow(bytes); }

DeviceMemory::~DeviceMemory() { cudaFree(data_); }

void DeviceMemory::grow(std::size_t bytes) {
    if (bytes <= bytes_) return;
    void* data = nullptr;
    check(cudaMalloc(&data, bytes), "allocating memory");
    cudaFree(data_);
    data_ = data;
    bytes_ = bytes;
}

Stream::Stream() { check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "creating a stream"); }
Stream::~Stream() { cudaStreamDestroy(stream_); }

void copy_in(void* device, const void* host, std::size_t bytes, cudaStream_t stream) {
    check(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream), "copying to the device");
}

void copy_out(void* host, const void* device, std::size_t bytes, cudaStream_t stream) {
    check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream), "copying from the device");
}

void wait(cudaStream_t stream) { check(cudaStreamSynchronize(stream), "waiting for the device"); }

WaitsAtEnd::~WaitsAtEnd() { cudaStreamSynchronize(stream_); }

Turns::Turns() { check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "creating an event"); }

Turns::~Turns() {
    cudaEventSynchronize(event_);  // an error of that work is reported by the next call
    cudaEventDestroy(event_);
}

void Turns::wait() { check(cudaEventSynchronize(event_), "waiting for the device"); }

Turns::Turn::Turn(Turns& turns, cudaStream_t stream) : lock_(turns.mutex_), event_(turns.event_), stream_(stream) {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    check(cudaStreamIsCapturing(stream, &status), "looking at the stream");
    captured_ = status != cudaStreamCaptureStatusNone;
    if (!captured_) check(cudaStreamWaitEvent(stream, event_, 0), "waiting in the stream");
}

Turns::Turn::~Turn() {
    if (!captured_) cudaEventRecord(event_, stream_);
}

}  // namespace edgead::cuda
