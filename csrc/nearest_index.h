// Exact nearest rows of a memory bank.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "isa.h"
#include "panels.h"

namespace edgead {

// The rows whose exact distance decides are found by float32 products (panels.h bounds their error) and measured in
// float64 by differences: a result is the float64 distance rounded to float32, for any finite input.
class NearestIndex {
public:
    static constexpr int max_k = 16;
    static constexpr std::size_t max_dimension = std::size_t{1} << 20;  // keeps the error bound's d * 2^-24 small

    // `bank` (m, d), row by row, is read by every search and must outlive the index, unchanged.
    // Throws std::invalid_argument if it holds NaN or Inf.
    NearestIndex(const float* bank, std::size_t m, std::size_t d, Isa isa);

    std::size_t rows() const { return m_; }
    std::size_t dimension() const { return d_; }
    Isa isa() const { return isa_; }

    // distance and index: (n, k), ascending by distance, then by row. 1 <= k <= min(max_k, m).
    // Returns n, or the first row of `features` that holds NaN or Inf; the results are then meaningless.
    // May be called from several threads at once.
    std::size_t search(const float* features, std::size_t n, int k, float* distance, std::int32_t* index) const;

private:
    const float* bank_;
    std::size_t m_, d_;
    Isa isa_;
    const NearestKernels& kernels_;
    Centring centring_;
    Panels panels_;
};

const NearestKernels& nearest_kernels(Isa isa);

}  // namespace edgead
