// Nearest rows by float32 products of every query with every row, used when the pre-scan would leave too many rows.
#pragma once

#include <cstddef>
#include <vector>

#include "nearest/neighbour.h"
#include "nearest/packed_rows.h"

namespace edgead {

// Products stay finite and accurate up to this norm in the frame of Centring, where the bank's rows are at most 1; a
// query farther out than that is measured against every row.
constexpr double largest_query_norm = 0x1p40;

class GemmSearch {
public:
    // The kernels, the centring and the bank must outlive this.
    GemmSearch(const NearestKernels& kernels, const Centring& centring, const Rows& bank);

    // The k nearest rows of `range` (it begins with a panel) of each query.
    // Returns the number of queries, or the first one with NaN or Inf.
    std::size_t search(const Rows& queries, int k, RowRange range, NearestRows found) const;

    // The same of some of the queries, by their numbers, which need not be side by side: they are copied together.
    // Returns the number of queries, or the first one of `some` with NaN or Inf.
    std::size_t search_some(const Rows& queries, const std::vector<std::size_t>& some, int k, RowRange range,
                            NearestRows found) const;

private:
    class Candidates;
    struct Scratch;

    std::size_t load(Scratch& scratch, const Rows& queries, int k) const;
    void measure(const float* query, Candidates& candidates, int k, RowRange range, Neighbour* best) const;

    const NearestKernels& kernels_;
    const Centring& centring_;
    Rows bank_;
    PackedRows packed_;
};

}  // namespace edgead
