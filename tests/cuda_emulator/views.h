// What blocks of one kernel see of each other: as little as CUDA allows. Each block finds small memory as it was when
// the kernel began, whatever blocks before it have written, and its shared memory full of NaN. Atomic operations work
// on what is true of all blocks; one whose result nobody takes is done when its thread has a fence, and otherwise at the
// end of the kernel.
#pragma once

#include <cstring>
#include <functional>
#include <utility>
#include <vector>

#include "streams.h"

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
    dim3() = default;
    explicit dim3(unsigned x) : x(x) {}
};

inline dim3 threadIdx, blockIdx, blockDim, gridDim;

// Of all memory that is declared __shared__, by the linker.
extern char __start_emulated_shared[], __stop_emulated_shared[];

namespace emulator {

class Views {
public:
    void begin_grid() {
        views_.clear();
        for (const SmallMemory& memory : small_memory()) {
            const std::vector<char> content(memory.data, memory.data + memory.bytes);
            views_.push_back({memory.data, content, content});
        }
    }

    void begin_block() { std::memset(__start_emulated_shared, 0xff, __stop_emulated_shared - __start_emulated_shared); }

    void end_block() {
        for (View& view : views_) {
            merge(view);
            std::memcpy(view.data, view.before.data(), view.before.size());
        }
    }

    void end_grid() {
        for (const Late& late : late_) late.work();
        late_.clear();
        for (const View& view : views_) std::memcpy(view.data, view.all.data(), view.all.size());
    }

    // Where a number is kept that all blocks share.
    void* shared_by_all(void* place) {
        for (View& view : views_) {
            const std::ptrdiff_t offset = static_cast<char*>(place) - view.data;
            if (offset < 0 || offset >= static_cast<std::ptrdiff_t>(view.all.size())) continue;
            merge(view);
            return view.all.data() + offset;
        }
        return place;
    }

    void do_late(void* place, Work work) { late_.push_back({blockIdx.x, threadIdx.x, place, std::move(work)}); }

    // What this thread has left for later, of one place or of all.
    void catch_up(const void* place = nullptr) {
        std::vector<Late> others;
        for (Late& late : std::exchange(late_, {})) {
            if (late.block == blockIdx.x && late.thread == threadIdx.x && (!place || late.place == place))
                late.work();
            else
                others.push_back(std::move(late));
        }
        late_ = std::move(others);
    }

private:
    struct View {
        char* data;
        std::vector<char> before, all;
    };
    struct Late {
        unsigned block, thread;
        void* place;
        Work work;
    };

    static void merge(View& view) {
        for (std::size_t i = 0; i < view.before.size(); ++i)
            if (view.data[i] != view.before[i]) view.all[i] = view.data[i];
    }

    std::vector<View> views_;
    std::vector<Late> late_;
};

inline Views views;

inline void fence() { views.catch_up(); }

// One atomic operation; it is a reduction, without a result, where nobody takes the result.
template <typename T>
class Atomic {
public:
    Atomic(T* place, std::function<T(T)> change) : place_(place), change_(std::move(change)) {}
    Atomic(const Atomic&) = delete;
    ~Atomic() {
        if (!taken_) views.do_late(place_, [place = place_, change = change_] { apply(place, change); });
    }
    operator T() {
        taken_ = true;
        views.catch_up(place_);
        return apply(place_, change_);
    }

private:
    static T apply(T* place, const std::function<T(T)>& change) {
        T* shared = static_cast<T*>(views.shared_by_all(place));
        return std::exchange(*shared, change(*shared));
    }

    T* place_;
    std::function<T(T)> change_;
    bool taken_ = false;
};

}  // namespace emulator
