// Greedy k-centre selection of a coreset.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "isa/kernels.h"
#include "shared/rows.h"

namespace edgead {

// Called in the caller's thread with the number of picks so far, a few times a second; may throw to stop.
using Progress = std::function<void(std::int64_t done)>;

// The picks of the plain greedy: start with row `first`, then always take the row that is farthest from all rows
// taken (the lowest row wins a tie). Distances are CoresetKernels::squared_distance, so the picks depend on the ISA
// only where two rows are equally far up to its rounding.
// Throws std::invalid_argument if a feature is NaN or Inf. 1 <= count <= the number of features, first < that.
std::vector<std::int64_t> greedy_coreset(Rows features, std::size_t count, std::size_t first, const Kernels& kernels,
                                         const Progress& progress);

// Up to `count` further picks of the plain greedy where rows were taken before: `nearest` has the nearest of these for
// each row, itself where it is one, or -1 where it may not be taken. Fewer where no more may be taken.
// Throws as greedy_coreset does. `nearest` has a row, or -1, for each of the features.
std::vector<std::int64_t> extend_coreset(Rows features, const std::int64_t* nearest, std::size_t count,
                                         const Kernels& kernels, const Progress& progress);

// Distance by which greedy_coreset ranks: from `row` to every row, squared. For tests.
void coreset_distances(const Rows& features, std::size_t row, const Kernels& kernels, float* squared);

}  // namespace edgead
