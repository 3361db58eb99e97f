// What a warp does with tiles of queries and of the bank in shared memory, for kernels that walk over them in their own
// order. Results are those of layout.cuh; a warp may have fewer queries than warp_queries.
#pragma once

#include "layout.cuh"
#include "nearest_kernels.h"
#include "tensor_core.cuh"

namespace edgead::cuda {

// What a thread copies of a tile are four chunks, `rows_apart` rows from each other.
constexpr int rows_apart = product_threads / row_chunks;
static_assert(rows_apart % 8 == 0, "chunk_place of all four must differ by a constant");

// The first of them, where `source` is the tile's first row, of halves or of codes.
template <typename Number>
__device__ __forceinline__ const Number* first_chunk(const Number* source, std::int64_t depth) {
    return source + threadIdx.x / row_chunks * depth + threadIdx.x % row_chunks * (chunk_bytes / sizeof(Number));
}

// Fills one tile of shared memory.
template <typename Number>
__device__ __forceinline__ void load_tile(uint4* tile, const Number* first, std::int64_t depth) {
    tile += chunk_place(static_cast<int>(threadIdx.x) / row_chunks, static_cast<int>(threadIdx.x) % row_chunks);
#pragma unroll
    for (int i = 0; i < tile_rows / rows_apart; ++i)
        copy_async(tile + i * rows_apart * row_chunks, first + i * rows_apart * depth);
}

// Of a warp with so many times 16 queries and warp_rows rows.
template <int blocks, typename Sum = float>
struct Sums {
    Sum of[blocks][warp_rows / 8][4];
};

// Adds `steps` times 16 dimensions, or 32 of codes, of two tiles to the products. Without a branch between the steps:
// the loads of the second are among the products of the first. The warp's blocks of 16 queries are `apart` from each
// other in the tile.
template <int steps, int apart, int blocks, typename Sum>
__device__ __forceinline__ void multiply_tiles(Sums<blocks, Sum>& sums, const uint4* queries, const uint4* bank,
                                               int first_query, int first_row) {
    const int lane = threadIdx.x % warp_lanes;
#pragma unroll
    for (int step = 0; step < steps; ++step) {
        std::uint32_t left[blocks][4];
#pragma unroll
        for (int i = 0; i < blocks; ++i)
            load_matrices(left[i],
                          queries + chunk_place(first_query + i * apart + left_row(lane), step * 2 + left_chunk(lane)));
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

// Products of one tile of queries with one of the bank, of `d` numbers a row in memory that has `depth`, added to what
// `start` makes of the sums while the first copies are under way.
template <typename Number, int blocks, typename Sum, typename Start>
__device__ __forceinline__ void multiply_rows(Sums<blocks, Sum>& sums, uint4 (&places)[stages][2][tile_chunks],
                                              const Number* queries, const Number* bank, int d, int depth,
                                              int first_query, int first_row, const Start& start) {
    static_assert(row_chunks == 4, "a tile takes two steps of two chunks");
    constexpr int numbers = row_chunks * chunk_bytes / sizeof(Number);
    queries = first_chunk(queries, depth);
    bank = first_chunk(bank, depth);
    const auto fetch = [&](int tile) {
        if (tile * numbers < depth) {
            load_tile(places[tile % stages][0], queries + tile * numbers, depth);
            load_tile(places[tile % stages][1], bank + tile * numbers, depth);
        }
        commit_copies();
    };
    for (int tile = 0; tile < stages - 1; ++tile) fetch(tile);
    start();
    const auto next = [&](int tile) -> const uint4(&)[2][tile_chunks] {
        wait_for_copies<stages - 2>();
        // Now this tile is there for all, and all have done with the one before, whose place the next copies take.
        __syncthreads();
        fetch(tile + stages - 1);
        return places[tile % stages];
    };
    int tile = 0;
    for (; tile * numbers + numbers / 2 < d; ++tile) {
        const uint4(&now)[2][tile_chunks] = next(tile);
        multiply_tiles<2, 16>(sums, now[0], now[1], first_query, first_row);
    }
    if (tile * numbers < d) {
        const uint4(&now)[2][tile_chunks] = next(tile);
        multiply_tiles<1, 16>(sums, now[0], now[1], first_query, first_row);
    }
}

// What a lane has of the queries: two rows, lane / 4 and lane / 4 + 8, of each product.
constexpr int halves = 2;
__device__ constexpr int lane_query(int lane, int r, int apart) {
    return r / halves * apart + result_row(lane, r % halves * 2);
}

// Sums start at -|b|^2 / 2, in the scale of the products, and become the score, negative. In that scale, 1 / weight,
// products of rows add up to 2^38 at most, and |b|^2 / 2 is at most 2^91 (d up to 2^20, exponents of rounding.cuh):
// rows of padding start below, and stay there.
template <int blocks>
__device__ __forceinline__ void start_sums(Sums<blocks>& sums, const float (&weight)[blocks * halves],
                                           const float* half_norms) {
    const int lane = threadIdx.x % warp_lanes;
    float factor[blocks * halves];
#pragma unroll
    for (int r = 0; r < blocks * halves; ++r)
        factor[r] = float_of(0x7f000000u - bits_of(weight[r]));  // of a power of two
#pragma unroll
    for (int j = 0; j < warp_rows / 8; ++j)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
            const float half_norm = half_norms[j * 8 + result_column(lane, e)];
            const bool padding = half_norm == padding_half_norm;
#pragma unroll
            for (int r = 0; r < blocks * halves; ++r)
                sums.of[r / halves][j][r % halves * 2 + e] =
                    fmaf(padding ? 0 : -half_norm, factor[r], padding ? -0x1p100f : 0);
        }
}

// Scores, negative, of the lane's 16 rows for its query r, to the largest, with its slot, and the second largest.
// `mask` is ~15, which the compiler must not know: with two constants, one instruction for each sum becomes two.
template <int blocks>
__device__ __forceinline__ float2 two_largest(const Sums<blocks>& sums, int r, std::uint32_t mask) {
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

// An entry of the minima. Scaled, the slot may be lost to underflow.
__device__ __forceinline__ float2 entry_of(float2 most, float weight, std::uint32_t slot_mask) {
    const std::uint32_t least = (bits_of(-most.x * weight) & ~slot_mask) | (bits_of(most.x) & slot_mask);
    return {float_of(least), -most.y * weight};
}

}  // namespace edgead::cuda
