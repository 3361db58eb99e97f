// A small thread pool. The caller always works too, so a job never waits for a free worker, several Python
// threads may start jobs at once, and a job may start another.
#pragma once

#include <cstdint>
#include <type_traits>

namespace edgead {

// Threads that one job may use, the caller included: the value set, else EDGEAD_THREADS, else the number of CPUs
// in the affinity mask. Throws std::invalid_argument if EDGEAD_THREADS is not a number from 1 to 256.
int thread_count();

// Sets the count for the whole process. Throws std::invalid_argument outside 1 to 256.
void set_thread_count(int count);

using Task = void (*)(void* context, std::int64_t index);
void run_tasks(std::int64_t count, Task task, void* context);

// Calls body(i) once for every i in [0, count), in any order, and returns when all are done. The first exception
// that a body throws is rethrown here, after the tasks already begun have ended.
template <typename Body>
void parallel_for(std::int64_t count, Body&& body) {
    run_tasks(
        count, [](void* context, std::int64_t i) { (*static_cast<std::remove_reference_t<Body>*>(context))(i); },
        &body);
}

}  // namespace edgead
