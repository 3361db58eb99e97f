// Projection of rows onto a few directions, computed by the nearest kernels' products.
#pragma once

#include <cstddef>

#include "nearest/packed_rows.h"

namespace edgead {

// y = U x for U (p, d) with nearly orthonormal rows, U U^T = I + E, |E| <= spread().
class Projection {
public:
    // No directions: the identity. The kernels must outlive this.
    // Throws std::invalid_argument if `directions` (p, d) are far from orthonormal.
    Projection(const NearestKernels& kernels, const Rows& directions);

    bool identity() const { return p_ == 0; }
    std::size_t dimension() const { return identity() ? d_ : p_; }
    double spread() const { return spread_; }

    // |computed - U x| <= off(|x|) for an exact centred row x that `apply` was given rounded to float32. With u =
    // 2^-24: x is off by u |x|; a product is summed in chains of `chain` multiply-adds, whose results are added up,
    // so that component i is off by at most g |U_i| |x|, g = gamma of (chain + d / chain + 1) (Higham). The last term
    // is for gradual underflow and for a caller that flushes denormals.
    double off(double norm) const;

    // x (n, d) -> y (n, dimension()), row by row.
    void apply(const Rows& x, float* y) const;

private:
    static constexpr std::size_t chain = 256;

    const NearestKernels& kernels_;
    std::size_t p_, d_;
    double spread_ = 0;
    AlignedFloats panels_;  // [panel][d][NR]
};

}  // namespace edgead
