// Table of the kernels that an instruction set level provides; each level's is in isa/<level>.cpp.
#pragma once

#include "coreset/coreset_kernels.h"
#include "nearest/distance_kernels.h"
#include "nearest/scan_kernels.h"
#include "resize/shrink_kernels.h"
#include "smooth/smooth_kernels.h"

namespace edgead {

struct Kernels {
    const char* level;
    NearestKernels nearest;
    const ScanKernels* scan;  // nullptr where a level has none
    SmoothKernels smooth;
    CoresetKernels coreset;
    ShrinkKernels shrink;
};

// Those that exist; isa.h says which of them this machine can run.
extern const Kernels kernels_baseline, kernels_neon, kernels_neondot, kernels_avx2, kernels_avxvnni, kernels_avx512,
    kernels_avx512vnni;

}  // namespace edgead
