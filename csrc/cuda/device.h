// CUDA runtime for the rest of this module: errors that say what to do, memory that frees itself, and ordering between
// streams.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>

namespace edgead::cuda {

// Throws std::runtime_error if `status` is an error; `doing` completes "... failed".
void check(cudaError_t status, const char* doing);

int device_count();                   // 0 where there is no driver
std::string device_problem();         // why there is none; empty if there is one
std::string device_name(int device);  // with its compute capability

// Makes a device the calling thread's current one for a while.
class OnDevice {
public:
    explicit OnDevice(int device);
    ~OnDevice();
    OnDevice(const OnDevice&) = delete;
    OnDevice& operator=(const OnDevice&) = delete;

private:
    int before_ = 0;
};

int current_device();

// Bytes on the current device. Growing and going away wait for nothing, as waiting for a whole device stops what others
// do there and spoils what they capture: nothing that is in a stream may still use the memory.
class DeviceMemory {
public:
    explicit DeviceMemory(std::size_t bytes = 0);
    ~DeviceMemory();
    DeviceMemory(const DeviceMemory&) = delete;
    DeviceMemory& operator=(const DeviceMemory&) = delete;

    // At least `bytes`; the contents are lost if that is more than before.
    void grow(std::size_t bytes);

    std::size_t bytes() const { return bytes_; }
    void* data() const { return data_; }
    template <typename T>
    T* as() const {
        return static_cast<T*>(data_);
    }

private:
    void* data_ = nullptr;
    std::size_t bytes_ = 0;
};

class Stream {
public:
    Stream();
    ~Stream();
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;
    cudaStream_t get() const { return stream_; }

private:
    cudaStream_t stream_ = nullptr;
};

// Copies that are ordered in a stream; `wait` stops the caller.
void copy_in(void* device, const void* host, std::size_t bytes, cudaStream_t stream);
void copy_out(void* host, const void* device, std::size_t bytes, cudaStream_t stream);
void wait(cudaStream_t stream);

// Waits for a stream at the end of a scope, also where an error leaves it: copies that are in it use the host's memory.
class WaitsAtEnd {
public:
    explicit WaitsAtEnd(cudaStream_t stream) : stream_(stream) {}
    ~WaitsAtEnd();
    WaitsAtEnd(const WaitsAtEnd&) = delete;
    WaitsAtEnd& operator=(const WaitsAtEnd&) = delete;

private:
    cudaStream_t stream_;
};

// Work memory that one stream uses at a time: each turn waits, on the device and not on the host, for the turn before.
// A stream that is being captured into a graph takes its turn without: the graph must not run beside other turns.
class Turns {
public:
    Turns();
    ~Turns();  // waits
    Turns(const Turns&) = delete;
    Turns& operator=(const Turns&) = delete;

    // Waits, on the host, for the newest turn.
    void wait();

    class Turn {
    public:
        Turn(Turns& turns, cudaStream_t stream);
        ~Turn();
        Turn(const Turn&) = delete;
        Turn& operator=(const Turn&) = delete;

    private:
        std::lock_guard<std::mutex> lock_;
        cudaEvent_t event_;
        cudaStream_t stream_;
        bool captured_;
    };

private:
    std::mutex mutex_;
    cudaEvent_t event_ = nullptr;
};

}  // namespace edgead::cuda
