// Queries times bank on the tensor cores, reduced on the way to the smallest score of every group of 16 rows: what is
// written is a sixteenth of the distance matrix.
//
// Halves and not bfloat16: they run at the same rate, and three more digits make the residuals, on which the number of
// rows to be measured depends, eight times smaller; the smaller range does not matter, as every query has its own
// exponent, and the bank one for all.
#include "launch.cuh"
#include "layout.cuh"
#include "nearest_kernels.h"
#include "product_tiles.cuh"

namespace edgead::cuda {
namespace {

constexpr int blocks = warp_queries / 16, lane_queries = blocks * halves;

// Blocks with consecutive numbers take the same rows of the bank and all tiles of queries, so that the bank is read
// from memory once.
__global__ void __launch_bounds__(product_threads, 2)
    products_kernel(PreparedRows queries, PreparedRows bank, int d, int depth, float2* minima, int query_tiles,
                    std::int64_t groups) {
    __shared__ uint4 places[stages][2][tile_chunks];
    const std::int64_t first_query = static_cast<std::int64_t>(blockIdx.x % query_tiles) * tile_rows;
    const std::int64_t first_row = static_cast<std::int64_t>(blockIdx.x / query_tiles) * tile_rows;
    const int lane = threadIdx.x % warp_lanes, warp = threadIdx.x / warp_lanes;
    const int warp_query = warp / warps_along_rows * warp_queries, warp_row = warp % warps_along_rows * warp_rows;
    const float* weights = queries.weight + first_query + warp_query;
    float weight[lane_queries];
    Sums<blocks> sums;
    multiply_rows(sums, places, queries.halves + first_query * depth, bank.halves + first_row * depth, d, depth,
                  warp_query, warp_row, [&] {
#pragma unroll
                      for (int r = 0; r < lane_queries; ++r)
                          weight[r] = weights[lane_query(lane, r, 16)] * bank.weight[0];
                      start_sums(sums, weight, bank.half_norm + first_row + warp_row);
                  });
    const std::uint32_t mask = ~15u | static_cast<unsigned>(d >> 31);
    minima += (first_query + warp_query) * groups + (first_row + warp_row) / group_rows + lane % warp_groups;
#pragma unroll
    for (int r = 0; r < lane_queries; ++r)
        minima[lane_query(lane, r, 16) * groups] = entry_of(two_largest(sums, r, mask), weight[r], 15);
}

}  // namespace

void group_minima(const PreparedRows& queries, std::int64_t padded_queries, const PreparedRows& bank,
                  std::int64_t padded_bank, int d, float2* minima, cudaStream_t stream) {
    const int depth = (d + tile_depth - 1) / tile_depth * tile_depth;
    const auto query_tiles = static_cast<int>(padded_queries / tile_rows);
    launch(products_kernel, {query_tiles * (padded_bank / tile_rows), product_threads, stream}, queries, bank, d, depth,
           minima, query_tiles, padded_bank / group_rows);
}

void load_products_kernel() { load(products_kernel); }

}  // namespace edgead::cuda
