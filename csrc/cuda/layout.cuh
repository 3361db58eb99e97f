// Assignment of rows and results to threads in the product kernel: pure index arithmetic, testable on any machine.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace edgead::cuda {

// A block of 4 warps multiplies 128 queries with 128 rows of the bank, 32 dimensions at a time; a warp has 64 queries
// and 64 rows of it as 4 x 8 products of 16 x 16 with 16 x 8 halves. Smaller warps would read more of shared memory.
constexpr int warp_lanes = 32;
constexpr int tile_rows = 128, tile_depth = 32, stages = 3;
constexpr int warp_queries = 64, warp_rows = 64;
constexpr int warps_along_queries = tile_rows / warp_queries, warps_along_rows = tile_rows / warp_rows;
constexpr int product_threads = warps_along_queries * warps_along_rows * warp_lanes;

__host__ __device__ constexpr std::int64_t whole_tiles(std::int64_t rows) {
    return (rows + tile_rows - 1) / tile_rows * tile_rows;
}

// A tile in shared memory is [row][4] chunks of 8 halves (16 bytes).
constexpr int chunk_halves = 8, chunk_bytes = 16, row_chunks = tile_depth / chunk_halves,
              tile_chunks = tile_rows * row_chunks;

// Where a chunk is kept. The exclusive-or spreads the 8 rows that load_matrices reads at once over all 32 banks.
__host__ __device__ constexpr int chunk_place(int row, int chunk) {
    return row * row_chunks + (chunk ^ ((row >> 1) & (row_chunks - 1)));
}

// The 8 addresses of one matrix fall into the 8 different sixteenths of 128 bytes, for aligned rows.
constexpr bool spreads_over_banks() {
    for (int first = 0; first < tile_rows; first += 8)
        for (int chunk = 0; chunk < row_chunks; ++chunk) {
            unsigned seen = 0;
            for (int row = first; row < first + 8; ++row) seen |= 1u << (chunk_place(row, chunk) % 8);
            if (seen != 0xffu) return false;
        }
    return true;
}
static_assert(spreads_over_banks(), "load_matrices would wait for shared memory");

// Rows and chunks whose addresses a lane gives to load_matrices. Its four matrices become, for the left operand,
//   (rows 0..7, k 0..7), (rows 8..15, k 0..7), (rows 0..7, k 8..15), (rows 8..15, k 8..15)
// which are the registers of a 16 x 16 operand of mma.m16n8k16; for the right operand, kept as [row][k],
//   (rows 0..7, k 0..7), (rows 0..7, k 8..15), (rows 8..15, k 0..7), (rows 8..15, k 8..15)
// which are the registers of two 16 x 8 operands.
__host__ __device__ constexpr int left_row(int lane) { return lane % 16; }
__host__ __device__ constexpr int left_chunk(int lane) { return lane / 16; }
__host__ __device__ constexpr int right_row(int lane) { return lane % 8 + lane / 16 * 8; }
__host__ __device__ constexpr int right_chunk(int lane) { return lane / 8 % 2; }

// Register i of a 16 x 8 result is its element (result_row, result_column).
__host__ __device__ constexpr int result_row(int lane, int i) { return lane / 4 + i / 2 * 8; }
__host__ __device__ constexpr int result_column(int lane, int i) { return lane % 4 * 2 + i % 2; }

// The 16 results that a lane has for one query are those of a group of bank rows, whose smallest score the lane finds
// without asking others. A warp's 64 rows are 4 groups; slot 0..15 of a group is register slot % 2 of product slot / 2.
constexpr int group_rows = 16, slot_digits = 4, warp_groups = warp_rows / group_rows;
static_assert(1 << slot_digits == group_rows, "a slot is kept in so many digits");
__host__ __device__ constexpr int group_row(int group, int slot) {
    return group / warp_groups * warp_rows + slot / 2 * 8 + result_column(group % warp_groups, slot % 2);
}
__host__ __device__ constexpr int group_count(std::int64_t padded) { return static_cast<int>(padded / group_rows); }

}  // namespace edgead::cuda
