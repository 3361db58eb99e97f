// A libcuda.so.1 without a GPU: what edgead.runtime.cuda_libraries calls of the driver, on the host's memory.
//
// Copies wait in their stream until it is synchronised, so that a missing wait shows; a capture records them instead.
// What needs a context fails without one, addresses must be allocated, and emulator_live counts what was not released.
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace {

enum {  // of CUresult
    success = 0,
    invalid_value = 1,
    out_of_memory = 2,
    invalid_context = 201,
    not_found = 500,
    capture_unsupported = 900,
    capture_invalidated = 901,
};

using Address = unsigned long long;
using Work = std::vector<std::function<void()>>;
struct Stream {
    Work queue, recorded;
    bool capturing = false, spoilt = false;
};

int contexts, graphs, streams;
std::map<Address, size_t> device_memory, host_memory;
thread_local std::vector<void*> current;

bool inside(const std::map<Address, size_t>& memory, Address address, size_t bytes) {
    auto next = memory.upper_bound(address);
    if (next == memory.begin()) return false;
    --next;
    return address + bytes <= next->first + next->second;
}

int allocate(std::map<Address, size_t>& memory, Address* address, size_t bytes) {
    if (current.empty()) return invalid_context;
    if (bytes > size_t{1} << 40) return out_of_memory;
    char* block = new char[bytes];
    std::memset(block, 0x55, bytes);  // no zeros that somebody could rely on
    memory[*address = reinterpret_cast<Address>(block)] = bytes;
    return success;
}

int release(std::map<Address, size_t>& memory, Address address) {
    if (current.empty()) return invalid_context;
    if (!memory.erase(address)) return invalid_value;
    delete[] reinterpret_cast<char*>(address);
    return success;
}

void finish(Stream& stream) {
    for (auto& work : stream.queue) work();
    stream.queue.clear();
}

int copy(Address device, Address host, size_t bytes, Stream* stream, bool in) {
    if (current.empty()) return invalid_context;
    if (!inside(device_memory, device, bytes) || !inside(host_memory, host, bytes)) return invalid_value;
    auto* target = reinterpret_cast<void*>(in ? device : host);
    auto* source = reinterpret_cast<void*>(in ? host : device);
    (stream->capturing ? stream->recorded : stream->queue).push_back([=] { std::memcpy(target, source, bytes); });
    // Kernels run as soon as they are launched: what they read must have arrived by then, as in a stream's order.
    if (in && !stream->capturing) finish(*stream);
    return success;
}

}  // namespace

extern "C" {
int cuInit(unsigned) { return success; }
int cuDeviceGet(int* device, int ordinal) { return *device = ordinal, success; }
int cuDeviceGetName(char* name, int length, int) { return std::strncpy(name, "Emulated GPU", length), success; }
int cuDeviceGetAttribute(int* value, int attribute, int) { return *value = attribute == 75 ? 8 : 6, success; }
int cuDevicePrimaryCtxRetain(void** context, int) { return ++contexts, *context = &contexts, success; }
int cuDevicePrimaryCtxRelease(int) { return --contexts, success; }
int cuCtxPushCurrent(void* context) { return current.push_back(context), success; }
int cuCtxPopCurrent(void** context) {
    if (current.empty()) return invalid_context;
    *context = current.back();
    return current.pop_back(), success;
}
int cuMemAlloc(Address* address, size_t bytes) { return allocate(device_memory, address, bytes); }
int cuMemFree(Address address) { return release(device_memory, address); }
int cuMemHostAlloc(Address* address, size_t bytes, unsigned) { return allocate(host_memory, address, bytes); }
int cuMemFreeHost(Address address) { return release(host_memory, address); }
int cuStreamCreate(Stream** stream, unsigned) {
    if (current.empty()) return invalid_context;
    return ++streams, *stream = new Stream, success;
}
int cuStreamDestroy(Stream* stream) { return --streams, delete stream, success; }
int cuStreamSynchronize(Stream* stream) {
    if (stream->capturing) return stream->spoilt = true, capture_unsupported;
    return finish(*stream), success;
}
int cuMemcpyHtoDAsync(Address device, Address host, size_t bytes, Stream* stream) {
    return copy(device, host, bytes, stream, true);
}
int cuMemcpyDtoHAsync(Address host, Address device, size_t bytes, Stream* stream) {
    return copy(device, host, bytes, stream, false);
}
int cuStreamBeginCapture(Stream* stream, int) { return stream->capturing = true, stream->recorded.clear(), success; }
int cuStreamEndCapture(Stream* stream, Work** graph) {
    const bool spoilt = stream->spoilt;
    stream->capturing = stream->spoilt = false;
    *graph = spoilt ? nullptr : new Work(stream->recorded);
    return graphs += !spoilt, spoilt ? capture_invalidated : success;
}
int cuGraphInstantiateWithFlags(Work** launchable, Work* graph, Address) {
    return ++graphs, *launchable = new Work(*graph), success;
}
int cuGraphDestroy(Work* graph) { return --graphs, delete graph, success; }
int cuGraphExecDestroy(Work* launchable) { return --graphs, delete launchable, success; }
int cuGraphLaunch(Work* launchable, Stream* stream) {
    return stream->queue.insert(stream->queue.end(), launchable->begin(), launchable->end()), success;
}

int emulator_live() {
    return contexts + graphs + streams + static_cast<int>(device_memory.size() + host_memory.size() + current.size());
}

int cuGetProcAddress_v2(const char* name, void** function, int, Address, int*) {
#define ENTRY(f)                        \
    {                                   \
        #f, reinterpret_cast<void*>(&f) \
    }
    static const std::map<std::string, void*> known{
        ENTRY(cuInit),
        ENTRY(cuDeviceGet),
        ENTRY(cuDeviceGetName),
        ENTRY(cuDeviceGetAttribute),
        ENTRY(cuDevicePrimaryCtxRetain),
        ENTRY(cuDevicePrimaryCtxRelease),
        ENTRY(cuCtxPushCurrent),
        ENTRY(cuCtxPopCurrent),
        ENTRY(cuMemAlloc),
        ENTRY(cuMemFree),
        ENTRY(cuMemHostAlloc),
        ENTRY(cuMemFreeHost),
        ENTRY(cuStreamCreate),
        ENTRY(cuStreamDestroy),
        ENTRY(cuStreamSynchronize),
        ENTRY(cuMemcpyHtoDAsync),
        ENTRY(cuMemcpyDtoHAsync),
        ENTRY(cuStreamBeginCapture),
        ENTRY(cuStreamEndCapture),
        ENTRY(cuGraphInstantiateWithFlags),
        ENTRY(cuGraphDestroy),
        ENTRY(cuGraphExecDestroy),
        ENTRY(cuGraphLaunch),
    };
    const auto found = known.find(name);
    *function = found == known.end() ? nullptr : found->second;
    return *function ? success : not_found;
}
}
