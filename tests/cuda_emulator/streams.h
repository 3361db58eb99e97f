// Streams, events and memory of the emulated GPU. They live in the driver's library, so that what the runtime and what
// the driver put into a stream is in one order, as on a real machine.
//
// Nothing that is put into a stream is done before somebody waits for it, and then one piece of work of every other
// stream comes first: what is read without a wait, and what two streams use without an event between them, is wrong.
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

using cudaStream_t = struct CUstream_st*;
using cudaEvent_t = struct CUevent_st*;

namespace emulator {

enum Status {  // of CUresult and of cudaError_t, where these have the same meaning
    success = 0,
    invalid_value = 1,
    out_of_memory = 2,
    invalid_context = 201,
    no_image = 209,
    not_found = 500,
    capture_unsupported = 900,
    capture_invalidated = 901,
    capture_isolation = 905,
    captured_event = 907,
};

using Work = std::function<void()>;

int enqueue(cudaStream_t stream, Work work);
int copy(cudaStream_t stream, void* target, const void* source, std::size_t bytes, bool to_device);
int launch(cudaStream_t stream, const void* kernel, Work work);
int load(const void* kernel);  // as lazily as the real runtime: at the first launch, or when it is asked for
int synchronize(cudaStream_t stream);
int synchronize_device();
int capture_status(cudaStream_t stream);  // of cudaStreamCaptureStatus

int create_stream(cudaStream_t* stream);
int destroy_stream(cudaStream_t stream);
int create_event(cudaEvent_t* event);
int destroy_event(cudaEvent_t event);
int record(cudaEvent_t event, cudaStream_t stream);
int wait_event(cudaStream_t stream, cudaEvent_t event);
int synchronize(cudaEvent_t event);

int allocate(void** data, std::size_t bytes);
int release(void* data);
int capability();  // of the card: 86 for 8.6
void count_float64();

// Memory so small that it may be what blocks of one kernel exchange.
struct SmallMemory {
    char* data;
    std::size_t bytes;
};
std::vector<SmallMemory> small_memory();

}  // namespace emulator
