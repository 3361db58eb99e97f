// Exact nearest rows of a memory bank.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "isa/kernels.h"
#include "nearest/gemm_search.h"
#include "nearest/quantized_filter.h"

namespace edgead {

// The rows whose exact distance decides are found by a scan of 8-bit codes (quantized_bank.h bounds what it may leave
// out), or by float32 products (packed_rows.h bounds their error) where that leaves too many, and are measured in
// float64 by differences: a result is the float64 distance rounded to float32, for any finite input.
class NearestIndex {
public:
    static constexpr int max_k = max_neighbours;
    static constexpr std::size_t max_dimension = std::size_t{1} << 20;  // keeps the error bound's d * 2^-24 small

    // The bank is read by every search and must outlive the index, unchanged.
    // `projection`: the directions (p, d) of a pre-scan, none of them for all d dimensions; nullptr for no pre-scan, as
    // where a level has no kernels for it.
    // Throws std::invalid_argument if the bank holds NaN or Inf, or if the directions are not orthonormal.
    NearestIndex(const Rows& bank, const Kernels& kernels, const Rows* projection);

    std::size_t rows() const { return bank_.count; }
    std::size_t dimension() const { return bank_.width; }
    const char* level() const { return kernels_.level; }
    bool prescans() const { return filter_ != nullptr; }

    // distance and index: (n, k), ascending by distance, then by row. 1 <= k <= min(max_k, m).
    // Returns n, or the first of the n `features` that holds NaN or Inf; the results are then meaningless.
    // May be called from several threads at once.
    std::size_t search(const Rows& features, int k, float* distance, std::int32_t* index) const;

private:
    struct Search;

    Rows bank_;
    const Kernels& kernels_;
    Centring centring_;
    GemmSearch gemm_;
    std::unique_ptr<QuantizedFilter> filter_;
};

}  // namespace edgead
