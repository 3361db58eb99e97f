// Rows seen in a few directions, computed by the nearest kernel's products.
#pragma once

#include <cstddef>

#include "nearest.h"
#include "panels.h"

namespace edgead {

// y = U x for U (p, d) with nearly orthonormal rows, U U^T = I + E, |E| <= spread().
class Projection {
public:
    // p = 0: the identity. The kernels must outlive this.
    // Throws std::invalid_argument if `rows` (p, d) are far from orthonormal.
    Projection(const NearestKernels& kernels, const float* rows, std::size_t p, std::size_t d);

    bool identity() const { return p_ == 0; }
    std::size_t dimension() const { return identity() ? d_ : p_; }
    double spread() const { return spread_; }

    // |computed - U x| <= off(|x|) for an exact centred row x that `apply` was given rounded to float32. With u =
    // 2^-24: x is off by u |x|; a product is summed in chains of `chain` multiply-adds, whose results are added up,
    // so that component i is off by at most g |U_i| |x|, g = gamma of (chain + d / chain + 1) (Higham). The last term
    // is for gradual underflow and for a caller that flushes denormals.
    double off(double norm) const;

    // x (count, d), row by row -> y (count, dimension()).
    void apply(const float* x, std::size_t count, float* y) const;

private:
    static constexpr std::size_t chain = 256;

    const NearestKernels& kernels_;
    std::size_t p_, d_;
    double spread_ = 0;
    AlignedFloats panels_;  // [panel][d][NR]
};

}  // namespace edgead
