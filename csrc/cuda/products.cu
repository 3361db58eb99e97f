// Queries times bank on the tensor cores, reduced at once to the smallest score of every group of 16 rows, so that only
// a sixteenth of the distance matrix is written.
//
// float16 and not bfloat16: both run at the same rate, and three more binary digits make the residuals, on which the
// number of rows to measure depends, eight times smaller. Its smaller range does not matter, as each query has its own
// exponent, and the bank one for all its rows.
#include "launch.cuh"
#include "layout.cuh"
#include "nearest_kernels.h"
#include "tensor_core.cuh"

namespace edgead::cuda {
namespace {

// What a thread copies of a tile are four chunks, `rows_apart` rows from each other.
constexpr int rows_apart = product_threads / row_chunks;
static_assert(rows_apart % 8 == 0, "chunk_place of all four must differ by a constant");

// The first of them, where `source` is the tile's first row.
__device__ __forceinline__ const std::uint16_t* first_chunk(const std::uint16_t* source, std::int64_t depth) {
    return source + threadIdx.x / row_chunks * depth + threadIdx.x % row_chunks * chunk_halves;
}

// Fills one tile of shared memory.
__device__ __forceinline__ void load_tile(uint4* tile, const std::uint16_t* first, std::int64_t depth) {
    tile += chunk_place(static_cast<int>(threadIdx.x) / row_chunks, static_cast<int>(threadIdx.x) % row_chunks);
#pragma unroll
    for (int i = 0; i < tile_rows / rows_apart; ++i)
        copy_async(tile + i * rows_apart * row_chunks, first + i * rows_apart * depth);
}

// What a lane has of a warp's queries: two rows, lane / 4 and lane / 4 + 8, of each block of 16.
constexpr int blocks = warp_queries / 16, halves = 2, lane_queries = blocks * halves;
__device__ constexpr int lane_query(int lane, int r) { return r / halves * 16 + result_row(lane, r % halves * 2); }

struct Sums {
    float of[blocks][warp_rows / 8][4];
};

// Adds `steps` times 16 dimensions of two tiles to the products. Without a branch between the steps: the loads of the
// second are among the products of the first.
template <int steps>
__device__ __forceinline__ void multiply_tiles(Sums& sums, const uint4* queries, const uint4* bank, int first_query,
                                               int first_row) {
    const int lane = threadIdx.x % warp_lanes;
#pragma unroll
    for (int step = 0; step < steps; ++step) {
        std::uint32_t left[blocks][4];
#pragma unroll
        for (int i = 0; i < blocks; ++i)
            load_matrices(left[i],
                          queries + chunk_place(first_query + i * 16 + left_row(lane), step * 2 + left_chunk(lane)));
#pragma unroll
        for (int j = 0; j < warp_rows / 16; ++j) {
            std::uint32_t right[4];
            load_matrices(right,
                          bank + chunk_place(first_row + j * 16 + right_row(lane), step * 2 + right_chunk(lane)));
#pragma unroll
            for (int i = 0; i < blocks; ++i) {
                multiply_add(sums.of[i][2 * j], left[i], right[0], right[1]);
                multiply_add(sums.of[i][2 * j + 1], left[i], right[2], right[3]);
            }
        }
    }
}

// Sums start at -|b|^2 / 2, in the scale of the products, and become the score, negative. In that scale, 1 / weight,
// products of rows add up to 2^38 at most, and |b|^2 / 2 is at most 2^91 (d up to 2^20, exponents of rounding.cuh):
// rows of padding start below, and stay there.
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

// Scores, negative, of the lane's 16 rows for its query r, to the largest, with its slot, and the second largest.
// `mask` is ~15, which the compiler must not know: with two constants, one instruction for each sum becomes two.
__device__ __forceinline__ float2 two_largest(const Sums& sums, int r, std::uint32_t mask) {
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
    return most;
}

// Blocks with consecutive numbers take the same rows of the bank and all tiles of queries, so that the bank is read
// from memory once.
__global__ void __launch_bounds__(product_threads, 2)
    products_kernel(PreparedRows queries, PreparedRows bank, int d, int depth, float2* minima, int query_tiles,
                    std::int64_t groups) {
    static_assert(row_chunks == 4, "a tile takes two steps of two chunks");
    __shared__ uint4 places[stages][2][tile_chunks];
    const std::int64_t first_query = static_cast<std::int64_t>(blockIdx.x % query_tiles) * tile_rows;
    const std::int64_t first_row = static_cast<std::int64_t>(blockIdx.x / query_tiles) * tile_rows;
    const int lane = threadIdx.x % warp_lanes, warp = threadIdx.x / warp_lanes;
    const int warp_query = warp / warps_along_rows * warp_queries, warp_row = warp % warps_along_rows * warp_rows;
    const float* weights = queries.weight + first_query + warp_query;
    const std::uint16_t* left = first_chunk(queries.halves + first_query * depth, depth);
    const std::uint16_t* right = first_chunk(bank.halves + first_row * depth, depth);
    const auto fetch = [&](int tile) {
        if (tile * tile_depth < depth) {
            load_tile(places[tile % stages][0], left + tile * tile_depth, depth);
            load_tile(places[tile % stages][1], right + tile * tile_depth, depth);
        }
        commit_copies();
    };
    for (int tile = 0; tile < stages - 1; ++tile) fetch(tile);
    // While the first copies are under way.
    float weight[lane_queries];
#pragma unroll
    for (int r = 0; r < lane_queries; ++r) weight[r] = weights[lane_query(lane, r)] * bank.weight[0];
    Sums sums;
    start_sums(sums, weight, bank.half_norm + first_row + warp_row);
    const auto next = [&](int tile) -> const uint4(&)[2][tile_chunks] {
        wait_for_copies<stages - 2>();
        // Now this tile is there for all, and all have done with the one before, whose place the next copies take.
        __syncthreads();
        fetch(tile + stages - 1);
        return places[tile % stages];
    };
    int tile = 0;
    for (; tile * tile_depth + tile_depth / 2 < d; ++tile) {
        const uint4(&now)[2][tile_chunks] = next(tile);
        multiply_tiles<2>(sums, now[0], now[1], warp_query, warp_row);
    }
    if (tile * tile_depth < d) {
        const uint4(&now)[2][tile_chunks] = next(tile);
        multiply_tiles<1>(sums, now[0], now[1], warp_query, warp_row);
    }
    const std::uint32_t mask = ~15u | static_cast<unsigned>(d >> 31);
    minima += (first_query + warp_query) * groups + (first_row + warp_row) / group_rows + lane % warp_groups;
#pragma unroll
    for (int r = 0; r < lane_queries; ++r) {
        const float2 most = two_largest(sums, r, mask);
        // Scaled, the slot may be lost to underflow.
        const std::uint32_t least = (bits_of(-most.x * weight[r]) & ~15u) | (bits_of(most.x) & 15u);
        minima[lane_query(lane, r) * groups] = {float_of(least), -most.y * weight[r]};
    }
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
