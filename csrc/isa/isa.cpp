#include "isa/isa.h"

#include <cstdlib>
#include <stdexcept>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace edgead {
namespace {

bool always() { return true; }

#if defined(__x86_64__)
// The builtin reads cpuid and also XCR0: a level counts only if the operating system saves its registers.
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

// Not every compiler that can compile for it has a name for it in __builtin_cpu_supports.
bool has_avxvnni() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    return has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}

bool has_avx512() {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

bool has_avx512vnni() { return has_avx512() && __builtin_cpu_supports("avx512vnni"); }
#elif defined(__aarch64__)
bool has_dot_product() {
#if defined(__linux__)
    constexpr unsigned long asimd_dot_product = 1ul << 20;  // HWCAP_ASIMDDP, which older headers do not name
    return getauxval(AT_HWCAP) & asimd_dot_product;
#else
    return true;  // every Apple CPU since 2018
#endif
}
#endif

// Ordered from plain to wide. A level with a dot product of bytes (dot, vnni) adds that to the one before it.
constexpr struct {
    const Kernels* kernels;
    bool (*runs_here)();
} levels[] = {
    {&kernels_baseline, always},
#if defined(__x86_64__)
    {&kernels_avx2, has_avx2},
    {&kernels_avxvnni, has_avxvnni},
    {&kernels_avx512, has_avx512},
    {&kernels_avx512vnni, has_avx512vnni},
#elif defined(__aarch64__)
    {&kernels_neon, always},  // part of the architecture
    {&kernels_neondot, has_dot_product},
#endif
};

const Kernels& find_by_name(const std::string& level, const std::string& origin) {
    std::string runnable;
    for (const Kernels* kernels : available_kernels()) {
        if (level == kernels->level) return *kernels;
        runnable += std::string(runnable.empty() ? "" : ", ") + kernels->level;
    }
    throw std::invalid_argument(origin + " '" + level + "' is not an instruction set level that this machine can run: "
                                "use one of " + runnable);
}

}  // namespace

const std::vector<const Kernels*>& available_kernels() {
    static const std::vector<const Kernels*> available = [] {
#if defined(__x86_64__)
        __builtin_cpu_init();
#endif
        std::vector<const Kernels*> found;
        for (const auto& level : levels)
            if (level.runs_here()) found.push_back(level.kernels);
        return found;
    }();
    return available;
}

const Kernels& find_kernels(const std::string& level) {
    return level.empty() ? chosen_kernels() : find_by_name(level, "isa");
}

const Kernels& chosen_kernels() {
    static const Kernels& chosen = []() -> const Kernels& {
        const char* forced = std::getenv("EDGEAD_ISA");
        return forced && *forced ? find_by_name(forced, "EDGEAD_ISA") : *available_kernels().back();
    }();
    return chosen;
}

}  // namespace edgead
