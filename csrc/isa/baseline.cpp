// Any CPU, by GCC's and Clang's vector extension: products and sums are rounded separately. There is no product of
// bytes that would make a scan of 8-bit codes pay.
#include "isa/kernels.h"

namespace edgead {
namespace {

#include "isa/simd_baseline.inc"

#include "coreset/coreset_kernels.inc"
#include "nearest/nearest_kernels.inc"
#include "resize/shrink_kernels.inc"
#include "smooth/smooth_kernels.inc"

}  // namespace

const Kernels kernels_baseline = {
    .level = "baseline",
    .nearest = nearest::kernels,
    .scan = nullptr,
    .smooth = smooth::kernels,
    .coreset = coreset::kernels,
    .shrink = shrink::kernels,
};

}  // namespace edgead
