// Exact nearest distances to each of several groups of rows, such as the patches of one image each.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "isa/kernels.h"
#include "nearest/gemm_search.h"
#include "nearest/quantized_filter.h"

namespace edgead {

// A search of one joint bank, in which the ways of NearestIndex serve group after group: queries are brought into codes
// once for all groups, and a group's rows stay in the cache while many queries meet them.
class GroupedIndex {
public:
    // What the rows of every group are a multiple of: each begins with a panel of both searches. A group is filled up
    // with any of its rows, which changes no minimum.
    static std::size_t rows_of_panels(const Kernels& kernels);

    // `sizes`: the rows of each group, in the order of the bank; they add up to its rows. The bank is read by every
    // search and must outlive the index, unchanged. Throws std::invalid_argument if it holds NaN or Inf.
    GroupedIndex(const Rows& bank, const std::vector<std::size_t>& sizes, const Kernels& kernels, bool prescan);

    std::size_t groups() const { return ranges_.size(); }
    std::size_t dimension() const { return bank_.width; }

    // distance: (n, groups), the float64 distances rounded to float32, for any finite input.
    // Returns n, or the first of the n `features` that holds NaN or Inf; the results are then meaningless.
    // May be called from several threads at once.
    std::size_t search(const Rows& features, float* distance) const;

private:
    struct Search;

    Rows bank_;
    const Kernels& kernels_;
    std::vector<RowRange> ranges_;
    Centring centring_;
    GemmSearch gemm_;
    std::unique_ptr<QuantizedFilter> filter_;
};

}  // namespace edgead
