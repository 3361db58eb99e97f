// Queries times bank on the tensor cores, reduced on the way to the smallest score of every group of 16 rows: what is
// written is a sixteenth of the distance matrix.
//
// Halves and not bfloat16: they run at the same rate, and three more digits make the residuals, on which the number of
// rows to be measured depends, eight times smaller; the smaller range does not matter, as every query has its own
// exponent, and the bank one for all.
#include "launch.cuh"
#include "layout.cuh"
#include "nearest_kernels.h"
#include "tensor_core.cuh"

namespace edgead::cuda {
namespace {

// Fills one tile of shared memory: four chunks per thread.
__device__ __forceinline__ void load_tile(uint4* tile, const std::uint16_t* source, std::int64_t depth) {
    static_assert(tile_chunks % product_threads == 0, "");
#pragma unroll
    for (int i = 0; i < tile_chunks / product_threads; ++i) {
        const int number = static_cast<int>(threadIdx.x) + i * product_threads;
        const int row = number / row_chunks, chunk = number % row_chunks;
        copy_async(tile + chunk_place(row, chunk), source + row * depth + chunk * chunk_halves);
    }
}

struct Sums {
    float of[warp_queries / 16][warp_rows / 8][4];
};

// Adds `steps` times 16 dimensions of two tiles to the products. Without a branch between the steps: the loads of the
// second are among the products of the first.
template <int steps>
__device__ __forceinline__ void multiply_tiles(Sums& sums, const uint4* queries, const uint4* bank, int first_query,
                                               int first_row) {
    const int lane = threadIdx.x % warp_lanes;
#pragma unroll
    for (int step = 0; step < steps; ++step) {
        std::uint32_t left[warp_queries / 16][4];
#pragma unroll
        for (int i = 0; i < warp_queries / 16; ++i)
            load_matrices(left[i],
                          queries + chunk_place(first_query + i * 16 + left_row(lane), step * 2 + left_chunk(lane)));
#pragma unroll
        for (int j = 0; j < warp_rows / 16; ++j) {
            std::uint32_t right[4];
            load_matrices(right,
                          bank + chunk_place(first_row + j * 16 + right_row(lane), step * 2 + right_chunk(lane)));
#pragma unroll
            for (int i = 0; i < warp_queries / 16; ++i) {
                multiply_add(sums.of[i][2 * j], left[i], right[0], right[1]);
                multiply_add(sums.of[i][2 * j + 1], left[i], right[2], right[3]);
            }
        }
    }
}

// What a lane has of the queries: two rows, lane / 4 and lane / 4 + 8, of each product.
constexpr int halves = 2, lane_queries = warp_queries / 16 * halves;
__device__ constexpr int lane_query(int lane, int r) { return r / halves * 16 + result_row(lane, r % halves * 2); }

// Sums start at -|b|^2 / 2, in the scale of the products, and become the score, negative. In that scale, 1 / weight,
// products of rows add up to 2^38 at most, and |b|^2 / 2 is at most 2^91 (d up to 2^20, exponents of rounding.cuh): rows
// of padding start below, and stay there.
__device__ __forceinline__ void start_sums(Sums& sums, const float (&weight)[lane_queries], const float* half_norms) {
    const int lane = threadIdx.x % warp_lanes;
    float factor[lane_queries];
#pragma unroll
    for (int r = 0; r < lane_queries; ++r) factor[r] = float_of(0x7f000000u - bits_of(weight[r]));  // of a power of two
#pragma unroll
    for (int j = 0; j < warp_rows / 8; ++j)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
            const float half_norm = half_norms[j * 8 + result_column(lane, e)];
            const bool padding = half_norm == padding_half_norm;
#pragma unroll
            for (int r = 0; r < lane_queries; ++r)
                sums.of[r / halves][j][r % halves * 2 + e] =
                    fmaf(padding ? 0 : -half_norm, factor[r], padding ? -0x1p100f : 0);
        }
}

// Scores of the lane's 16 rows for each of its queries, to the smallest (with its slot) and the second smallest. `mask`
// is ~15, which the compiler must not know: with two constants, one instruction for each sum becomes two.
__device__ __forceinline__ void write_minima(const Sums& sums, const float (&weight)[lane_queries], std::uint32_t mask,
                                             float2* minima, std::int64_t groups) {
    const int lane = threadIdx.x % warp_lanes;
#pragma unroll
    for (int r = 0; r < lane_queries; ++r) {
        float2 most{float_of(0xff800000u), float_of(0xff800000u)};
#pragma unroll
        for (int j = 0; j < warp_rows / 8; ++j)
#pragma unroll
            for (int e = 0; e < 2; ++e) {
                const std::uint32_t sum = bits_of(sums.of[r / halves][j][r % halves * 2 + e]);
                const float marked = float_of((sum & mask) | static_cast<unsigned>(j * 2 + e));
                most.y = fmaxf(most.y, fminf(most.x, marked));
                most.x = fmaxf(most.x, marked);
            }
        // Scaled, the slot may be lost to underflow.
        const std::uint32_t least = (bits_of(-most.x * weight[r]) & ~15u) | (bits_of(most.x) & 15u);
        minima[lane_query(lane, r) * groups + lane % warp_groups] = {float_of(least), -most.y * weight[r]};
    }
}

// Blocks with consecutive numbers take the same rows of the bank and all tiles of queries, so that the bank is read
// from memory once.
__global__ void __launch_bounds__(product_threads, 2)
    products_kernel(PreparedRows queries, PreparedRows bank, int d, int depth, float2* minima, int query_tiles,
                    std::int64_t groups) {
    __shared__ uint4 tiles[stages][2][tile_chunks];
    const std::int64_t first_query = static_cast<std::int64_t>(blockIdx.x % query_tiles) * tile_rows;
    const std::int64_t first_row = static_cast<std::int64_t>(blockIdx.x / query_tiles) * tile_rows;
    const std::uint16_t* left = queries.halves + first_query * depth;
    const std::uint16_t* right = bank.halves + first_row * depth;
    const auto fetch = [&](int tile) {
        if (tile * tile_depth < depth) {
            load_tile(tiles[tile % stages][0], left + tile * tile_depth, depth);
            load_tile(tiles[tile % stages][1], right + tile * tile_depth, depth);
        }
        commit_copies();
    };
    const int warp = threadIdx.x / warp_lanes;
    const int warp_query = warp / warps_along_rows * warp_queries, warp_row = warp % warps_along_rows * warp_rows;
    for (int tile = 0; tile < stages - 1; ++tile) fetch(tile);
    float weight[lane_queries];
#pragma unroll
    for (int r = 0; r < lane_queries; ++r)
        weight[r] = queries.weight[first_query + warp_query + lane_query(threadIdx.x % warp_lanes, r)] * bank.weight[0];
    Sums sums;
    start_sums(sums, weight, bank.half_norm + first_row + warp_row);
    const auto next = [&](int tile) -> const uint4(&)[2][tile_chunks] {
        wait_for_copies<stages - 2>();
        // Now this tile is there for all, and all have done with the one before, whose place the next copies take.
        __syncthreads();
        fetch(tile + stages - 1);
        return tiles[tile % stages];
    };
    static_assert(tile_depth == 32, "");
    int tile = 0;
    for (; tile * tile_depth + 16 < d; ++tile) {
        const uint4(&now)[2][tile_chunks] = next(tile);
        multiply_tiles<2>(sums, now[0], now[1], warp_query, warp_row);
    }
    if (tile * tile_depth < d) {
        const uint4(&now)[2][tile_chunks] = next(tile);
        multiply_tiles<1>(sums, now[0], now[1], warp_query, warp_row);
    }
    write_minima(sums, weight, ~15u | static_cast<unsigned>(d >> 31),
                 minima + (first_query + warp_query) * groups + (first_row + warp_row) / group_rows, groups);
}

}  // namespace

void group_minima(const PreparedRows& queries, std::int64_t padded_queries, const PreparedRows& bank,
                  std::int64_t padded_bank, int d, float2* minima, cudaStream_t stream) {
    const int depth = (d + tile_depth - 1) / tile_depth * tile_depth;
    const auto query_tiles = static_cast<int>(padded_queries / tile_rows);
    launch(products_kernel, query_tiles * (padded_bank / tile_rows), product_threads, stream, queries, bank, d, depth,
           minima, query_tiles, padded_bank / group_rows);
}

void load_products_kernel() { load(products_kernel); }

}  // namespace edgead::cuda
