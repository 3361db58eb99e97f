// A libcuda.so.1 without a GPU: streams.h, and what edgead.runtime.device calls of the driver, on the host's memory.
//
// What needs a context fails without one, addresses must be allocated, and who uses released memory is killed. A
// capture answers as a real one does: a call that cannot be captured is refused with 900, and from then on everything
// in that stream with 901. emulator_live counts what was not released, emulator_count what happened; emulator_set makes
// it another machine.
#include "streams.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>

using namespace emulator;

struct CUevent_st {
    std::shared_ptr<bool> done = std::make_shared<bool>(true);
    bool captured = false;
};

struct CUstream_st {
    struct Task {
        std::shared_ptr<bool> after;  // of an event; null: at once
        Work work;
    };
    std::deque<Task> queue;
    std::vector<Work> recorded;
    bool capturing = false, spoilt = false, destroyed = false;
    std::thread::id captor;
};

namespace {

using Address = unsigned long long;
using Memory = std::map<Address, std::size_t>;
using Graph = std::vector<Work>;
using Stream = CUstream_st;

std::recursive_mutex all;
int contexts, graphs, live_streams;
Memory device_memory, host_memory;
Memory mapped_memory;              // host memory, where the card sees it: at other addresses
std::map<void*, void*> mapped_at;  // those, by the addresses of the host
std::vector<std::unique_ptr<Stream>> streams;
Stream default_stream;
std::set<const void*> loaded;
int float64_operands;
int failed;  // of what is done, reported by the next wait
std::map<std::string, int> counts;
thread_local std::vector<void*> current;

std::map<std::string, int> settings{
    {"capability", 86},   // of the card
    {"allocations", -1},  // until one finds too little memory
    {"integrated", 0},    // 1: host and card have one memory
    {"maps", 1},          // 0: the card has no addresses for memory of the host
    {"modules", 0},       // what loading a kernel fails with
    {"copies", -1},       // from the device to the host, until one fails
    {"graphs", 0},        // what instantiating one fails with
    {"kernels", 0},       // what waiting for one fails with
};

bool inside(const Memory& memory, const void* place, std::size_t bytes) {
    const auto address = reinterpret_cast<Address>(place);
    auto next = memory.upper_bound(address);
    if (next == memory.begin()) return false;
    --next;
    return address + bytes <= next->first + next->second;
}

bool on_device(const void* place, std::size_t bytes) {
    return inside(device_memory, place, bytes) || inside(mapped_memory, place, bytes);
}

// The capture mode is that of a thread: others may allocate, release and load meanwhile.
int refuse_in_a_capture_of_this_thread() {
    int status = success;
    for (auto& stream : streams)
        if (stream->capturing && stream->captor == std::this_thread::get_id())
            stream->spoilt = true, status = capture_unsupported;
    return status;
}

int allocate_in(Memory& memory, void** data, std::size_t bytes, int file = -1) {
    if (const int refused = refuse_in_a_capture_of_this_thread()) return refused;
    if (bytes > std::size_t{1} << 33) return out_of_memory;
    if (settings["allocations"] >= 0 && settings["allocations"]-- == 0) return out_of_memory;
    ++counts["allocations"];
    const int flags = file < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
    *data = mmap(nullptr, std::max<std::size_t>(bytes, 1), PROT_READ | PROT_WRITE, flags, file, 0);
    if (*data == MAP_FAILED) return out_of_memory;
    std::memset(*data, 0xff, bytes);  // NaN: no zeros that somebody could rely on
    memory[reinterpret_cast<Address>(*data)] = bytes;
    return success;
}

// The same pages at two addresses: who takes the host's for the card's, or the other way round, is noticed.
int allocate_mapped(void** data, std::size_t bytes) {
    const int file = memfd_create("mapped", 0);
    if (file < 0 || ftruncate(file, static_cast<off_t>(std::max<std::size_t>(bytes, 1)))) return out_of_memory;
    void* there = nullptr;
    int status = allocate_in(host_memory, data, bytes, file);
    if (!status) status = allocate_in(mapped_memory, &there, bytes, file);
    if (!status) mapped_at[*data] = there;
    close(file);
    return status;
}

// Waits for nothing. The addresses are not used again.
int release_in(Memory& memory, void* data) {
    if (!data) return success;
    if (const int refused = refuse_in_a_capture_of_this_thread()) return refused;
    const auto found = memory.find(reinterpret_cast<Address>(data));
    if (found == memory.end()) return invalid_value;
    mmap(data, std::max<std::size_t>(found->second, 1), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    memory.erase(found);
    return success;
}

Stream& of(Stream* stream) { return stream ? *stream : default_stream; }

bool step(Stream& stream) {
    if (stream.queue.empty() || (stream.queue.front().after && !*stream.queue.front().after)) return false;
    const CUstream_st::Task task = std::move(stream.queue.front());
    stream.queue.pop_front();
    if (task.work) task.work();
    return true;
}

// One piece of work of each other stream before one of this.
template <typename Done>
void run_until(Stream& wanted, Done done) {
    while (!done()) {
        bool moved = &wanted != &default_stream && step(default_stream);
        for (auto& stream : streams)
            if (stream.get() != &wanted) moved |= step(*stream);
        if (!done()) moved |= step(wanted);
        if (moved) continue;
        std::fputs("CUDA emulator: streams wait for each other\n", stderr);
        std::abort();
    }
}

int put(Stream& stream, CUstream_st::Task task) {
    if (stream.spoilt) return capture_invalidated;
    if (stream.capturing) {
        if (task.after) return stream.spoilt = true, capture_isolation;
        stream.recorded.push_back(std::move(task.work));
    } else {
        stream.queue.push_back(std::move(task));
    }
    return success;
}

}  // namespace

namespace emulator {

using Lock = std::lock_guard<std::recursive_mutex>;

int enqueue(Stream* stream, Work work) {
    const Lock lock(all);
    return put(of(stream), {nullptr, std::move(work)});
}

int copy(Stream* stream, void* target, const void* source, std::size_t bytes, bool to_device) {
    const Lock lock(all);
    if (!on_device(to_device ? target : source, bytes)) return invalid_value;
    if (!to_device && settings["copies"] >= 0 && settings["copies"]-- == 0) return invalid_value;
    return enqueue(stream, [=] {
        ++counts[to_device ? "copies in" : "copies out"];
        std::memcpy(target, source, bytes);
    });
}

int load(const void* kernel) {
    const Lock lock(all);
    if (loaded.count(kernel)) return success;
    if (const int refused = refuse_in_a_capture_of_this_thread()) return refused;
    if (settings["modules"]) return settings["modules"];
    if (capability() < 80) return no_image;
    loaded.insert(kernel);
    return success;
}

int launch(Stream* stream, const void* kernel, Work work) {
    const Lock lock(all);
    if (of(stream).spoilt) return capture_invalidated;
    if (const int failed = load(kernel)) return failed;
    return enqueue(stream, [=] {
        work();
        if (settings["kernels"]) failed = settings["kernels"];
    });
}

int synchronize(Stream* stream) {
    const Lock lock(all);
    if (of(stream).capturing) return of(stream).spoilt = true, capture_unsupported;
    ++counts["waits"];
    run_until(of(stream), [&] { return of(stream).queue.empty(); });
    return std::exchange(failed, success);
}

int synchronize_device() {
    const Lock lock(all);
    int status = success;
    for (auto& stream : streams)
        if (stream->capturing) stream->spoilt = true, status = capture_unsupported;
    if (status) return status;
    synchronize(static_cast<Stream*>(nullptr));
    for (auto& stream : streams) synchronize(stream.get());
    return success;
}

int capture_status(Stream* stream) {
    const Lock lock(all);
    return !of(stream).capturing ? 0 : of(stream).spoilt ? 2 : 1;
}

int create_stream(Stream** stream) {
    const Lock lock(all);
    ++live_streams;
    *stream = streams.emplace_back(new Stream).get();
    return success;
}

int destroy_stream(Stream* stream) {  // what is in it is still done, some day
    const Lock lock(all);
    stream->destroyed = true;
    for (auto found = streams.begin(); found != streams.end();)
        found = (*found)->destroyed && (*found)->queue.empty() ? streams.erase(found) : found + 1;
    --live_streams;
    return success;
}

int create_event(cudaEvent_t* event) { return *event = new CUevent_st, success; }
int destroy_event(cudaEvent_t event) { return delete event, success; }

int record(cudaEvent_t event, Stream* stream) {
    const Lock lock(all);
    event->captured = of(stream).capturing;
    event->done = std::make_shared<bool>(false);
    return enqueue(stream, [done = event->done] { *done = true; });
}

int wait_event(Stream* stream, cudaEvent_t event) {
    const Lock lock(all);
    if (event->captured && !of(stream).capturing) return captured_event;
    return put(of(stream), {event->done, {}});
}

int synchronize(cudaEvent_t event) {
    const Lock lock(all);
    if (event->captured) return captured_event;
    run_until(default_stream, [&] { return *event->done; });
    return success;
}

int allocate(void** data, std::size_t bytes) {
    const Lock lock(all);
    return allocate_in(device_memory, data, bytes);
}

int release(void* data) {
    const Lock lock(all);
    return release_in(device_memory, data);
}

int capability() { return settings["capability"]; }
void count_float64() { ++float64_operands; }

std::vector<SmallMemory> small_memory() {
    std::vector<SmallMemory> small;
    for (const auto& [address, bytes] : device_memory)
        if (bytes <= 1024) small.push_back({reinterpret_cast<char*>(address), bytes});
    return small;
}

}  // namespace emulator

extern "C" {
int cuInit(unsigned) { return success; }
int cuDriverGetVersion(int* version) { return *version = 13000, success; }
int cuDeviceGet(int* device, int ordinal) { return *device = ordinal, success; }
int cuDeviceGetName(char* name, int length, int) { return std::strncpy(name, "Emulated GPU", length), success; }
int cuDeviceGetAttribute(int* value, int attribute, int) {
    switch (attribute) {
        case 18: return *value = settings["integrated"], success;
        case 19: return *value = settings["maps"], success;
        case 75: return *value = capability() / 10, success;
        default: return *value = capability() % 10, success;
    }
}
int cuDevicePrimaryCtxRetain(void** context, int) { return ++contexts, *context = &contexts, success; }
int cuDevicePrimaryCtxRelease(int) { return --contexts, success; }
int cuCtxPushCurrent(void* context) {
    if (contexts == 0) return invalid_context;
    return current.push_back(context), success;
}
int cuCtxPopCurrent(void** context) {
    if (current.empty()) return invalid_context;
    *context = current.back();
    return current.pop_back(), success;
}
int cuCtxSynchronize() { return synchronize_device(); }
int cuMemAlloc(void** address, std::size_t bytes) {
    return current.empty() ? static_cast<int>(invalid_context) : allocate(address, bytes);
}
int cuMemFree(void* address) { return current.empty() ? static_cast<int>(invalid_context) : release(address); }
int cuMemHostAlloc(void** address, std::size_t bytes, unsigned flags) {
    const Lock lock(all);
    if (current.empty()) return invalid_context;
    return flags & 2 ? allocate_mapped(address, bytes) : allocate_in(host_memory, address, bytes);
}
int cuMemHostGetDevicePointer(void** there, void* address, unsigned) {
    const Lock lock(all);
    const auto found = mapped_at.find(address);
    if (found == mapped_at.end() || !settings["maps"]) return invalid_value;
    return *there = found->second, success;
}
int cuMemFreeHost(void* address) {
    const Lock lock(all);
    if (current.empty()) return invalid_context;
    const auto there = mapped_at.find(address);
    if (there != mapped_at.end()) {
        if (const int status = release_in(mapped_memory, there->second)) return status;
        mapped_at.erase(there);
    }
    return release_in(host_memory, address);
}
int cuStreamCreate(Stream** stream, unsigned) {
    return current.empty() ? static_cast<int>(invalid_context) : create_stream(stream);
}
int cuStreamDestroy(Stream* stream) { return destroy_stream(stream); }
int cuStreamSynchronize(Stream* stream) { return synchronize(stream); }
int cuMemcpyHtoDAsync(void* device, const void* host, std::size_t bytes, Stream* stream) {
    if (current.empty()) return invalid_context;
    return inside(host_memory, host, bytes) ? copy(stream, device, host, bytes, true) : static_cast<int>(invalid_value);
}
int cuMemcpyDtoHAsync(void* host, const void* device, std::size_t bytes, Stream* stream) {
    if (current.empty()) return invalid_context;
    return inside(host_memory, host, bytes) ? copy(stream, host, device, bytes, false)
                                            : static_cast<int>(invalid_value);
}
int cuStreamIsCapturing(Stream* stream, int* status) { return *status = capture_status(stream), success; }
int cuStreamBeginCapture(Stream* stream, int) {
    const Lock lock(all);
    stream->captor = std::this_thread::get_id();
    return stream->capturing = true, stream->recorded.clear(), success;
}
int cuStreamEndCapture(Stream* stream, Graph** graph) {
    const Lock lock(all);
    const bool spoilt = stream->spoilt;
    stream->capturing = stream->spoilt = false;
    *graph = spoilt ? nullptr : new Graph(stream->recorded);
    return graphs += !spoilt, spoilt ? capture_invalidated : success;
}
int cuGraphInstantiateWithFlags(Graph** launchable, Graph* graph, Address) {
    if (settings["graphs"]) return settings["graphs"];
    return ++graphs, *launchable = new Graph(*graph), success;
}
int cuGraphDestroy(Graph* graph) { return --graphs, delete graph, success; }
int cuGraphExecDestroy(Graph* launchable) { return --graphs, delete launchable, success; }
int cuGraphLaunch(Graph* launchable, Stream* stream) {
    const Lock lock(all);
    ++counts["graphs launched"];
    for (const Work& work : *launchable)
        if (const int status = enqueue(stream, work)) return status;
    return success;
}

int emulator_live() {
    return contexts + graphs + live_streams +
           static_cast<int>(device_memory.size() + host_memory.size() + mapped_memory.size() + current.size());
}

// How much work nobody has waited for.
int emulator_pending() {
    const Lock lock(all);
    std::size_t count = default_stream.queue.size();
    for (auto& stream : streams) count += stream->queue.size();
    return static_cast<int>(count);
}

// How often something happened since this was asked last.
int emulator_count(const char* name) {
    const Lock lock(all);
    return std::exchange(counts[name], 0);
}

// Puts a function of the host into a stream, as a network is that somebody else computes.
int emulator_call(Stream* stream, void (*function)()) { return enqueue(stream, function); }

// Sums of float64 over the lanes of a warp, so far: five steps of 32 lanes each.
int emulator_float64_sums() { return float64_operands / 160; }

void emulator_set(const char* name, int value) {
    const Lock lock(all);
    loaded.clear();
    settings[name] = value;
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
        ENTRY(cuCtxSynchronize),
        ENTRY(cuMemAlloc),
        ENTRY(cuMemFree),
        ENTRY(cuMemHostAlloc),
        ENTRY(cuMemHostGetDevicePointer),
        ENTRY(cuMemFreeHost),
        ENTRY(cuStreamCreate),
        ENTRY(cuStreamDestroy),
        ENTRY(cuStreamSynchronize),
        ENTRY(cuMemcpyHtoDAsync),
        ENTRY(cuMemcpyDtoHAsync),
        ENTRY(cuStreamIsCapturing),
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
