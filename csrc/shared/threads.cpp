#include "shared/threads.h"

#if !defined(_WIN32)
#include <pthread.h>
#include <signal.h>
#endif
#if defined(__linux__)
#include <sched.h>
#endif

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace edgead {
namespace {

constexpr int max_threads = 256;

// Between our calls another engine runs its own threads on the same cores, so a worker looks for more work only for
// about 20 us (a few times the cost of waking it) before it sleeps.
constexpr int spin_rounds = 400;

void pause_briefly() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

struct Job {
    Task task;
    void* context;
    std::int64_t count;
    std::atomic<std::int64_t> next{0};
    std::atomic<int> helpers{0};  // workers inside; changed under the pool's mutex
    std::exception_ptr error{};   // guarded by the pool's mutex
};

class Pool {
public:
    void run(Job& job, int workers) {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            grow(workers);
            jobs_.push_back(&job);
            ready_.store(static_cast<int>(jobs_.size()), std::memory_order_relaxed);
            part_from_caller();
        }
        work_.notify_all();
        drain(job);
        for (int i = 0; i < spin_rounds && job.helpers.load(std::memory_order_acquire) > 0; ++i) pause_briefly();
        std::unique_lock<std::mutex> lock(mutex_);
        remove(job);
        done_.wait(lock, [&] { return job.helpers.load(std::memory_order_relaxed) == 0; });
        if (job.error) std::rethrow_exception(job.error);
    }

private:
    struct Worker {
#if defined(__linux__)
        pthread_t handle = pthread_self();
#endif
        int asleep_on = -1;  // the CPU, while it sleeps
    };

    // A worker wakes on the CPU that it fell asleep on. If the caller has moved there meanwhile, as it does between the
    // frames of a camera, the two share it for longer than a frame takes (the scheduler spreads threads only now and
    // then): the worker must keep off.
    void part_from_caller() {
#if defined(__linux__)
        const int here = sched_getcpu();
        for (Worker* worker : workers_) {
            cpu_set_t others;
            if (worker->asleep_on != here || sched_getaffinity(0, sizeof others, &others) != 0) continue;
            CPU_CLR(here, &others);
            if (CPU_COUNT(&others) > 0) pthread_setaffinity_np(worker->handle, sizeof others, &others);
        }
#endif
    }

    void grow(int workers) {
        wanted_ = workers;
        workers_.reserve(workers);
#if !defined(_WIN32)
        // Python's signal handlers belong to threads that Python knows: ours block every signal.
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
#endif
        try {
            for (; alive_ < wanted_; ++alive_) {
                std::thread worker([this] { work(); });
#if defined(__linux__)
                pthread_setname_np(worker.native_handle(), "edgead-kernel");  // whoever schedules them looks for it
#endif
                worker.detach();
            }
        } catch (const std::system_error&) {
            // The system refuses more threads: the ones we have, and the caller, do the job.
        }
#if !defined(_WIN32)
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
#endif
    }

    void work() {
        Worker self;
        std::unique_lock<std::mutex> lock(mutex_);
        workers_.push_back(&self);
        while (alive_ <= wanted_) {
            if (jobs_.empty()) {
                lock.unlock();
                for (int i = 0; i < spin_rounds && ready_.load(std::memory_order_relaxed) == 0; ++i) pause_briefly();
                lock.lock();
#if defined(__linux__)
                self.asleep_on = sched_getcpu();
#endif
                work_.wait(lock, [&] { return !jobs_.empty() || alive_ > wanted_; });
                self.asleep_on = -1;
                continue;
            }
            Job& job = *jobs_.front();
            job.helpers.fetch_add(1, std::memory_order_relaxed);
            lock.unlock();
            drain(job);
            lock.lock();
            remove(job);
            if (job.helpers.fetch_sub(1, std::memory_order_release) == 1) done_.notify_all();
        }
        workers_.erase(std::find(workers_.begin(), workers_.end(), &self));
        --alive_;
    }

    void drain(Job& job) {
        for (;;) {
            const std::int64_t i = job.next.fetch_add(1, std::memory_order_relaxed);
            if (i >= job.count) return;
            try {
                job.task(job.context, i);
            } catch (...) {
                std::lock_guard<std::mutex> lock(mutex_);
                if (!job.error) job.error = std::current_exception();
                job.next.store(job.count, std::memory_order_relaxed);
            }
        }
    }

    void remove(Job& job) {
        jobs_.erase(std::remove(jobs_.begin(), jobs_.end(), &job), jobs_.end());
        ready_.store(static_cast<int>(jobs_.size()), std::memory_order_relaxed);
    }

    std::mutex mutex_;
    std::condition_variable work_, done_;
    std::vector<Job*> jobs_;
    std::vector<Worker*> workers_;
    std::atomic<int> ready_{0};
    int wanted_ = 0;
    int alive_ = 0;
};

std::atomic<int> configured_count{0};
std::atomic<Pool*> current_pool{nullptr};

// Never destroyed: workers may outlive static destructors. A forked child has none of the workers and perhaps a locked
// mutex, so it forgets its parent's pool and makes its own when it needs one.
Pool& pool() {
#if !defined(_WIN32)
    static const int at_fork = pthread_atfork(nullptr, nullptr, [] { current_pool.store(nullptr); });
    (void)at_fork;
#endif
    Pool* found = current_pool.load();
    if (!found) {
        Pool* made = new Pool;
        if (current_pool.compare_exchange_strong(found, made)) return *made;
        delete made;
    }
    return *found;
}

int checked_count(long count, const std::string& origin) {
    if (count < 1 || count > max_threads)
        throw std::invalid_argument(origin + " must be a whole number from 1 to " + std::to_string(max_threads));
    return static_cast<int>(count);
}

int default_count() {
    if (const char* text = std::getenv("EDGEAD_THREADS"); text && *text) {
        char* end = nullptr;
        const long count = std::strtol(text, &end, 10);
        return checked_count(*end ? 0 : count, std::string("EDGEAD_THREADS is '") + text + "': it");
    }
#if defined(__linux__)
    cpu_set_t mask;
    if (sched_getaffinity(0, sizeof mask, &mask) == 0) return std::clamp(CPU_COUNT(&mask), 1, max_threads);
#endif
    return std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, max_threads);
}

}  // namespace

int thread_count() {
    int count = configured_count.load(std::memory_order_relaxed);
    if (count == 0) {
        int unset = 0;
        count = default_count();
        if (!configured_count.compare_exchange_strong(unset, count)) count = unset;
    }
    return count;
}

void set_thread_count(int count) { configured_count.store(checked_count(count, "the number of threads")); }

void run_tasks(std::int64_t count, Task task, void* context) {
    const int threads = thread_count();
    if (count <= 1 || threads == 1) {
        for (std::int64_t i = 0; i < count; ++i) task(context, i);
        return;
    }
    Job job{task, context, count};
    pool().run(job, threads - 1);
}

}  // namespace edgead
