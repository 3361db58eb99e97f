// Any CPU, by the vector extension of GCC and Clang: products and sums are rounded separately. Without a fast product
// of bytes, a scan of 8-bit codes would not pay, so there is none.
#include "isa/kernels.h"

namespace edgead {
namespace {

#include "isa/simd_baseline.inc"

#include "coreset/coreset_kernels.inc"
#include "nearest/distance_kernels.inc"
#include "resize/shrink_kernels.inc"
#include "smooth/smooth_kernels.inc"

}  // namespace

const Kernels kernels_baseline = {"baseline",      nearest::kernels, nullptr,
                                  smooth::kernels, coreset::kernels, shrink::kernels};

}  // namespace edgead
