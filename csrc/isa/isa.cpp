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
// Asked of the CPU itself: __builtin_cpu_supports knows nothing where Zig's run-time library stands in for libgcc's.
struct Features {
    unsigned leaf1_ecx = 0, leaf7_ebx = 0, leaf7_ecx = 0, leaf7_1_eax = 0, xcr0 = 0;
};

const Features& features() {
    static const Features found = [] {
        Features f;
        unsigned a = 0, b = 0, c = 0, d = 0;
        if (__get_cpuid(1, &a, &b, &c, &d)) f.leaf1_ecx = c;
        if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) f.leaf7_ebx = b, f.leaf7_ecx = c;
        if (__get_cpuid_count(7, 1, &a, &b, &c, &d)) f.leaf7_1_eax = a;
        constexpr unsigned osxsave = 1u << 27;
        if (f.leaf1_ecx & osxsave) asm("xgetbv" : "=a"(f.xcr0), "=d"(d) : "c"(0));
        return f;
    }();
    return found;
}

constexpr bool all(unsigned word, unsigned bits) { return (word & bits) == bits; }

// A level counts only if the operating system saves its registers, which XCR0 says.
bool has_avx2() {
    constexpr unsigned xmm_ymm = 0x6, fma_avx = 1u << 12 | 1u << 28, avx2 = 1u << 5;
    const Features& f = features();
    return all(f.xcr0, xmm_ymm) && all(f.leaf1_ecx, fma_avx) && all(f.leaf7_ebx, avx2);
}

bool has_avxvnni() { return has_avx2() && all(features().leaf7_1_eax, 1u << 4); }

bool has_avx512() {
    constexpr unsigned opmask_zmm = 0xe0, f_dq_bw_vl = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;
    return has_avx2() && all(features().xcr0, opmask_zmm) && all(features().leaf7_ebx, f_dq_bw_vl);
}

bool has_avx512vnni() { return has_avx512() && all(features().leaf7_ecx, 1u << 11); }
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
    {&kernels_avx2, has_avx2},     {&kernels_avxvnni, has_avxvnni},
    {&kernels_avx512, has_avx512}, {&kernels_avx512vnni, has_avx512vnni},
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
    throw std::invalid_argument(origin + " '" + level +
                                "' is not an instruction set level that this machine can run: "
                                "use one of " +
                                runnable);
}

}  // namespace

const std::vector<const Kernels*>& available_kernels() {
    static const std::vector<const Kernels*> available = [] {
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
