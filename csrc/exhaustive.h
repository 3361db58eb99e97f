// Nearest rows by float32 products of every query with every row: where a pre-scan would leave too much to measure.
#pragma once

#include <cstddef>

#include "neighbour.h"
#include "panels.h"

namespace edgead {

// Products stay finite and accurate up to this norm in the frame of Centring, where the bank's rows are at most 1; a
// query farther out than that is measured against every row.
constexpr double largest_query_norm = 0x1p40;

class Exhaustive {
public:
    // The kernels, the centring and the bank must outlive this.
    Exhaustive(const NearestKernels& kernels, const Centring& centring, const float* bank, std::size_t m,
               std::size_t d);

    // The k nearest rows of `range` (it begins with a panel) of query i go to best[i * stride + 0..k).
    // Returns n, or the first query with NaN or Inf.
    std::size_t search(const float* queries, std::size_t n, int k, RowRange range, Neighbour* best,
                       std::size_t stride) const;

private:
    class Candidates;
    struct Scratch;

    std::size_t load(Scratch& scratch, const float* queries, std::size_t n, int k) const;
    void measure(const float* query, Candidates& candidates, int k, RowRange range, Neighbour* best) const;

    const NearestKernels& kernels_;
    const Centring& centring_;
    const float* bank_;
    std::size_t d_;
    Panels panels_;
};

}  // namespace edgead
