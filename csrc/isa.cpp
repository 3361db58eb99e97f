#include "isa.h"

#include <cstdlib>
#include <stdexcept>

namespace edgead {
namespace {

std::vector<Isa> detect() {
    std::vector<Isa> levels{Isa::baseline};
#if defined(__x86_64__)
    // The builtin reads cpuid and also XCR0: a level counts only if the operating system saves its registers.
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        levels.push_back(Isa::avx2);
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
            levels.push_back(Isa::avx512);
    }
#elif defined(__aarch64__)
    levels.push_back(Isa::neon);  // part of the architecture
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
        case Isa::avx2: return "avx2";
        case Isa::avx512: return "avx512";
    }
    return "";
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
