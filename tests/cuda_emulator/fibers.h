// Runs the threads of a CUDA block as fibers of one host thread: the parts of the CUDA programming model in which
// threads meet. What a real GPU may do in any order is done here in an extreme one: a warp runs as far as it can before
// the next starts, from the first warp to the last in one block and from the last to the first in the next, so that a
// missing __syncthreads or wait is met by data that is not there yet or not there any more. Blocks are those of views.h.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "views.h"

namespace emulator {

constexpr unsigned warp_size = 32, stack_bytes = 128 * 1024;

[[noreturn]] inline void fail(const char* what) {
    std::fprintf(stderr, "CUDA emulator: %s (block %u, thread %u)\n", what, blockIdx.x, threadIdx.x);
    std::abort();
}

struct Copy {
    void* target;
    const void* source;
};

struct Fiber {
    ucontext_t start;
    jmp_buf place;
    bool started, done, at_barrier;
    std::vector<std::vector<Copy>> copies;  // groups of copy_async; the last is open
};

// Where the lanes of a warp meet for one operation.
struct Meeting {
    const char* operation;
    void* operands[warp_size];
    unsigned arrived, generation;
};

struct Block {
    std::vector<std::unique_ptr<Fiber>> fibers;
    std::vector<Meeting> meetings;
    std::vector<std::unique_ptr<char[]>> stacks;
    unsigned current = 0;
    unsigned long events = 0;
    bool late_copies = false;
    bool votes = false, voted = false;  // of the barrier that is ahead, and of the last one
    std::function<void()> kernel;
};

inline Block block;
inline jmp_buf scheduler;

// The first entry into a fiber is by setcontext; from then on setjmp and longjmp, which do not call the kernel.
__attribute__((noinline)) inline void resume(unsigned thread) {
    Fiber& fiber = *block.fibers[thread];
    block.current = thread;
    threadIdx.x = thread;
    if (_setjmp(scheduler) != 0) return;
    if (fiber.started) _longjmp(fiber.place, 1);
    fiber.started = true;
    setcontext(&fiber.start);
}

__attribute__((noinline)) inline void yield() {
    if (_setjmp(block.fibers[block.current]->place) == 0) _longjmp(scheduler, 1);
}

inline void run_fiber() {
    block.kernel();
    block.fibers[block.current]->done = true;
    ++block.events;
    _longjmp(scheduler, 1);
}

inline void prepare_fiber(unsigned thread) {
    Fiber& fiber = *block.fibers[thread];
    getcontext(&fiber.start);
    fiber.start.uc_stack.ss_sp = block.stacks[thread].get();
    fiber.start.uc_stack.ss_size = stack_bytes;
    fiber.start.uc_link = nullptr;
    makecontext(&fiber.start, run_fiber, 0);
    fiber.started = fiber.done = fiber.at_barrier = false;
    fiber.copies.assign(1, {});
}

// Runs a warp until each of its lanes is done or at the block's barrier, or none of them can go on.
inline void run_warp(unsigned warp) {
    for (unsigned long before = block.events - 1; before != block.events;) {
        before = block.events;
        for (unsigned thread = warp * warp_size; thread < (warp + 1) * warp_size; ++thread)
            if (!block.fibers[thread]->done && !block.fibers[thread]->at_barrier) resume(thread);
    }
}

inline void run_block(bool backwards) {
    const auto threads = static_cast<unsigned>(block.fibers.size()), warps = threads / warp_size;
    for (unsigned thread = 0; thread < threads; ++thread) prepare_fiber(thread);
    block.meetings.assign(warps, Meeting{});
    for (;;) {
        for (unsigned i = 0; i < warps; ++i) run_warp(backwards ? warps - 1 - i : i);
        unsigned done = 0, waiting = 0;
        for (auto& fiber : block.fibers) {
            done += fiber->done;
            waiting += fiber->at_barrier;
        }
        if (done == threads) return;
        if (waiting != threads) fail("not all threads come to the same barrier");
        for (auto& fiber : block.fibers) fiber->at_barrier = false;
        block.voted = std::exchange(block.votes, false);
    }
}

inline void run_grid(unsigned blocks, unsigned threads, std::function<void()> kernel) {
    static unsigned long launches = 0;  // one kernel at a time, as streams.h runs them
    if (threads % warp_size != 0) fail("a block must be whole warps");
    while (block.stacks.size() < threads) block.stacks.emplace_back(new char[stack_bytes]);
    block.fibers.resize(threads);
    for (auto& fiber : block.fibers)
        if (!fiber) fiber = std::make_unique<Fiber>();
    block.kernel = std::move(kernel);
    gridDim.x = blocks;
    blockDim.x = threads;
    ++launches;
    views.begin_grid();
    for (unsigned b = 0; b < blocks; ++b) {
        blockIdx.x = launches % 2 == 0 ? b : blocks - 1 - b;
        block.late_copies = (b + launches) / 2 % 2 == 0;
        views.begin_block();
        run_block((b + launches) % 2 == 0);
        views.end_block();
    }
    views.end_grid();
}

// The lanes of a warp hand in an operand each; the last to come does the work for all.
template <typename Operand, typename Work>
void meet(const char* operation, Operand& mine, Work work) {
    Meeting& meeting = block.meetings[block.current / warp_size];
    if (meeting.arrived == 0) meeting.operation = operation;
    if (std::strcmp(meeting.operation, operation) != 0) fail("lanes of a warp meet in different operations");
    meeting.operands[block.current % warp_size] = &mine;
    ++block.events;
    if (++meeting.arrived < warp_size) {
        for (const unsigned generation = meeting.generation; meeting.generation == generation;) yield();
        return;
    }
    Operand* all[warp_size];
    for (unsigned lane = 0; lane < warp_size; ++lane) all[lane] = static_cast<Operand*>(meeting.operands[lane]);
    work(all);
    meeting.arrived = 0;
    ++meeting.generation;
}

// Whether any thread of the block has voted.
inline bool barrier(bool vote = false) {
    block.votes = block.votes || vote;
    block.fibers[block.current]->at_barrier = true;
    ++block.events;
    yield();
    return block.voted;
}

}  // namespace emulator
