#include "isa.h"

#include <cstdlib>
#include <stdexcept>

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace edgead {
namespace {

#if defined(__x86_64__)
// Not every compiler that can compile for it has a name for it in __builtin_cpu_supports.
bool has_avxvnni() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}

// Linux keeps the registers of a process that has asked for it; a kernel that cannot, or does not know them, refuses.
bool has_amx() {
#if defined(EDGEAD_AMX) && defined(__linux__)
    constexpr int request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    unsigned a = 0, b = 0, c = 0, d = 0;
    const bool tiles_of_bytes = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 24 & 1) && (d >> 25 & 1);
    return tiles_of_bytes && syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
#else
    return false;
#endif
}
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

std::vector<Isa> detect() {
    std::vector<Isa> levels{Isa::baseline};
#if defined(__x86_64__)
    // The builtin reads cpuid and also XCR0: a level counts only if the operating system saves its registers.
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        levels.push_back(Isa::avx2);
        if (has_avxvnni()) levels.push_back(Isa::avxvnni);
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
            levels.push_back(Isa::avx512);
            if (__builtin_cpu_supports("avx512vnni")) {
                levels.push_back(Isa::avx512vnni);
                if (has_amx()) levels.push_back(Isa::amx);
            }
        }
    }
#elif defined(__aarch64__)
    levels.push_back(Isa::neon);  // part of the architecture
    if (has_dot_product()) levels.push_back(Isa::neondot);
#endif
    return levels;
}

Isa find_by_name(const std::string& name, const std::string& origin) {
    std::string runnable;
    for (Isa isa : available_isas()) {
        if (name == isa_name(isa)) return isa;
        runnable += std::string(runnable.empty() ? "" : ", ") + isa_name(isa);
    }
    throw std::invalid_argument(origin + " '" + name + "' is not an instruction set level that this machine can run: "
                                "use one of " + runnable);
}

}  // namespace

const char* isa_name(Isa isa) {
    switch (isa) {
        case Isa::baseline: return "baseline";
        case Isa::neon: return "neon";
        case Isa::neondot: return "neondot";
        case Isa::avx2: return "avx2";
        case Isa::avxvnni: return "avxvnni";
        case Isa::avx512: return "avx512";
        case Isa::avx512vnni: return "avx512vnni";
        case Isa::amx: return "amx";
    }
    return "";
}

Isa float_level(Isa isa) {
    switch (isa) {
        case Isa::neondot: return Isa::neon;
        case Isa::avxvnni: return Isa::avx2;
        case Isa::avx512vnni:
        case Isa::amx: return Isa::avx512;
        default: return isa;
    }
}

const std::vector<Isa>& available_isas() {
    static const std::vector<Isa> levels = detect();
    return levels;
}

Isa find_isa(const std::string& name) { return name.empty() ? chosen_isa() : find_by_name(name, "isa"); }

Isa chosen_isa() {
    static const Isa chosen = [] {
        const char* forced = std::getenv("EDGEAD_ISA");
        return forced && *forced ? find_by_name(forced, "EDGEAD_ISA") : available_isas().back();
    }();
    return chosen;
}

}  // namespace edgead
