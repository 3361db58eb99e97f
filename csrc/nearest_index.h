// Exact nearest rows of a memory bank.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "exhaustive.h"
#include "isa.h"
#include "panels.h"
#include "prescan.h"

namespace edgead {

// How a bank is pre-scanned in 8-bit codes: in the directions of a projection (rows, d), or as it stands for rows = 0.
struct PrescanPlan {
    const float* projection;
    std::size_t rows;
};

// The rows whose exact distance decides are found by a scan of 8-bit codes (coded_bank.h bounds what it may leave
// out), or by float32 products (panels.h bounds their error) where that leaves too many, and are measured in float64
// by differences: a result is the float64 distance rounded to float32, for any finite input.
class NearestIndex {
public:
    static constexpr int max_k = max_neighbours;
    static constexpr std::size_t max_dimension = std::size_t{1} << 20;  // keeps the error bound's d * 2^-24 small

    // `bank` (m, d), row by row, is read by every search and must outlive the index, unchanged.
    // No plan: no pre-scan, as where a level has no kernels for it.
    // Throws std::invalid_argument if it holds NaN or Inf, or if the plan's projection is not orthonormal.
    NearestIndex(const float* bank, std::size_t m, std::size_t d, Isa isa, const PrescanPlan* plan);

    std::size_t rows() const { return m_; }
    std::size_t dimension() const { return d_; }
    Isa isa() const { return isa_; }
    bool prescans() const { return prescan_ != nullptr; }

    // distance and index: (n, k), ascending by distance, then by row. 1 <= k <= min(max_k, m).
    // Returns n, or the first row of `features` that holds NaN or Inf; the results are then meaningless.
    // May be called from several threads at once.
    std::size_t search(const float* features, std::size_t n, int k, float* distance, std::int32_t* index) const;

private:
    struct Search;

    std::size_t m_, d_;
    Isa isa_;
    const NearestKernels& kernels_;
    Centring centring_;
    Exhaustive exhaustive_;
    std::unique_ptr<Prescan> prescan_;
};

const NearestKernels& nearest_kernels(Isa isa);
const ScanKernels* scan_kernels(Isa isa);  // nullptr where a level has none

}  // namespace edgead
