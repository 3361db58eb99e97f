// The three kernels of a search, in order: rows to half precision, products to the smallest scores of groups of rows,
// and exact distances of rows that can still be among the nearest. All pointers are device pointers; no call waits.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "rounding.cuh"
#include "score_error.cuh"

namespace edgead::cuda {

// Rows as the tensor cores take them. `padded` is count rounded up to whole tiles; rows beyond count are zeros whose
// score is beyond that of all others. `depth` is d rounded up to whole tiles, filled with zeros.
struct PreparedRows {
    std::uint16_t* halves;  // (padded, depth)
    float* weight;          // (padded) 2^-e of the row; 1 of one that takes no part
    float* half_norm;       // (padded) |b|^2 / 2
    Extent* extent;         // (padded) norm infinite: too far for products; NaN: the row is not finite
};

// A float32 matrix on the device.
struct Rows {
    const float* data;
    std::int64_t count;
    int d;
};

constexpr float padding_half_norm = 0x1.fffffep127f;
constexpr int own_exponent = 127;  // stands for that of each row

// Every row is multiplied by 2^exponent. bad_row, where not null, is lowered to first_row + the first row that is not
// finite.
void prepare_rows(const Rows& rows, std::int64_t padded, int depth, const Frame& frame, int exponent,
                  const PreparedRows& prepared, unsigned* bad_row, unsigned first_row, cudaStream_t stream);

// The largest norm and residual of each group of rows (layout.cuh).
void group_extents(const Extent* rows, std::int64_t padded, Extent* groups, cudaStream_t stream);

// The smallest and the second smallest score of every group for every query: (padded queries, groups). The last
// slot_digits binary digits of the smallest are the row's slot in the group.
void group_minima(const PreparedRows& queries, std::int64_t padded_queries, const PreparedRows& bank,
                  std::int64_t padded_bank, int d, float2* minima, cudaStream_t stream);

// Where results go: (n, k), ascending by distance, then by row. Queries that are not finite get NaN and -1.
constexpr int most_neighbours = 16;
struct Neighbours {
    float* distance;
    std::int32_t* index;
    int k;
};

// What products know of the nearest rows of each query. Groups are those of layout.cuh. With S(q, b) as in
// score_error.cuh, and e = error.bound(query, group) of what `queries` and `groups` have:
//   x   of an entry is within e of the S of the row whose slot is in its last slot_digits binary digits, and no row of
//       the group has an S below x - e
//   y   no row of the group but the one in that slot has an S below y - e
// Rows of padding do not count; a group that has no other has an x beyond those of all others. A loose bound, or a y
// that is too small, costs rows that are measured, and time.
struct GroupScores {
    const float2* minima;   // (padded queries, count)
    const Extent* queries;  // (padded queries); norm infinite or NaN: see Products::prepare
    const Extent* groups;   // (count) not less than those of each row
    int count;
    ScoreError error;
};

void measure_candidates(const Rows& queries, const Rows& bank, const GroupScores& scores, const Neighbours& result,
                        cudaStream_t stream);

// Load what a first launch would, where others load as they prepare a bank: nothing can be loaded during a capture.
void load_products_kernel();
void load_measure_kernel();

}  // namespace edgead::cuda
