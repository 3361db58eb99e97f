// Codes of queries times codes of the bank, reduced on the way to the smallest score of every group of 16 rows: the
// kernel of products.cu with bytes for halves, twice as many to a tile, and whole numbers for the sums.
#include "codes.h"
#include "launch.cuh"
#include "product_tiles.cuh"

namespace edgead::cuda {
namespace {

// Sums start at magic less |b|^2 / 2 in the unit of the products: a float whose bits, read as a whole number, count
// that unit. They end between whole_magic - 2^22 - 2^25 and whole_magic + 2^25, and sixteen times that is a slot away
// from the next: a 32-bit number but for whole_magic's leading digits, which fall off all of them alike.
constexpr float magic = 12582912;  // 1.5 2^23
constexpr int whole_magic = 0x4b400000, padding_start = whole_magic - 40'000'000;
constexpr int left_of_magic = static_cast<int>(static_cast<unsigned>(whole_magic) << 4) >> 4;
static_assert(127 * 127 * most_turned < 1 << 25, "");
static_assert(most_start + 127 * 127 * most_turned < 40'000'000, "padding is beyond all other rows of its group");
static_assert(left_of_magic - 40'000'000LL >= -(1LL << 27) && left_of_magic + (1LL << 25) < 1LL << 27, "");

constexpr int blocks = warp_queries / 16, lane_queries = blocks * halves;

// `inverse`: of the unit of a lane's sums, for each of its queries.
__device__ __forceinline__ void start_sums(Sums<blocks, int>& sums, const float (&inverse)[lane_queries],
                                           const float* half_norms) {
    const int lane = threadIdx.x % warp_lanes;
#pragma unroll
    for (int j = 0; j < warp_rows / 8; ++j)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
            const float half_norm = half_norms[j * 8 + result_column(lane, e)];
            const bool padding = half_norm == padding_half_norm;
            const float least = padding ? 0 : -half_norm, start = padding ? float_of(padding_start) : magic;
#pragma unroll
            for (int r = 0; r < lane_queries; ++r)
                sums.of[r / halves][j][r % halves * 2 + e] = static_cast<int>(bits_of(fmaf(least, inverse[r], start)));
        }
}

// What a sum, with the slot behind it, is as a score.
__device__ __forceinline__ float score_of(int marked, float unit) {
    return -static_cast<float>((marked >> 4) - left_of_magic) * unit;
}

__device__ __forceinline__ void write_minima(const Sums<blocks, int>& sums, const float (&unit)[lane_queries],
                                             float2* minima, std::int64_t groups) {
    const int lane = threadIdx.x % warp_lanes;
#pragma unroll
    for (int r = 0; r < lane_queries; ++r) {
        constexpr int none = -0x7fffffff - 1;
        int most = none, second = none;
#pragma unroll
        for (int j = 0; j < warp_rows / 8; ++j)
#pragma unroll
            for (int e = 0; e < 2; ++e) {
                const auto sum = static_cast<unsigned>(sums.of[r / halves][j][r % halves * 2 + e]);
                const int marked = static_cast<int>(sum * 16 + static_cast<unsigned>(j * 2 + e));
                second = max(second, min(most, marked));
                most = max(most, marked);
            }
        const std::uint32_t least = (bits_of(score_of(most, unit[r])) & ~15u) | (static_cast<unsigned>(most) & 15u);
        minima[lane_query(lane, r, 16) * groups + lane % warp_groups] = {float_of(least), score_of(second, unit[r])};
    }
}

__global__ void __launch_bounds__(product_threads, 2)
    code_products_kernel(CodedRows queries, CodedRows bank, const Step* group_steps, int d, int depth, float2* minima,
                         int query_tiles, std::int64_t groups) {
    __shared__ uint4 places[stages][2][tile_chunks];
    const std::int64_t first_query = static_cast<std::int64_t>(blockIdx.x % query_tiles) * tile_rows;
    const std::int64_t first_row = static_cast<std::int64_t>(blockIdx.x / query_tiles) * tile_rows;
    const int lane = threadIdx.x % warp_lanes, warp = threadIdx.x / warp_lanes;
    const int warp_query = warp / warps_along_rows * warp_queries, warp_row = warp % warps_along_rows * warp_rows;
    const std::int64_t first_group = (first_row + warp_row) / group_rows;
    const Step* of_queries = queries.step + first_query + warp_query;
    Step of_group;
    Sums<blocks, int> sums;
    multiply_rows(sums, places, queries.codes + first_query * depth, bank.codes + first_row * depth, d, depth,
                  warp_query, warp_row, [&] {
                      of_group = group_steps[first_group + lane % warp_groups];
                      float inverse[lane_queries];
#pragma unroll
                      for (int r = 0; r < lane_queries; ++r)
                          inverse[r] = of_queries[lane_query(lane, r, 16)].inverse * of_group.inverse;
                      start_sums(sums, inverse, bank.half_norm + first_row + warp_row);
                  });
    float unit[lane_queries];
#pragma unroll
    for (int r = 0; r < lane_queries; ++r) unit[r] = of_queries[lane_query(lane, r, 16)].size * of_group.size;
    write_minima(sums, unit, minima + (first_query + warp_query) * groups + first_group, groups);
}

}  // namespace

void code_minima(const CodedRows& queries, std::int64_t padded_queries, const CodedRows& bank, std::int64_t padded_bank,
                 const Step* steps, int d, float2* minima, cudaStream_t stream) {
    const int depth = (d + tile_codes - 1) / tile_codes * tile_codes;
    const auto query_tiles = static_cast<int>(padded_queries / tile_rows);
    launch(code_products_kernel, {query_tiles * (padded_bank / tile_rows), product_threads, stream}, queries, bank,
           steps, d, depth, minima, query_tiles, padded_bank / group_rows);
}

void load_code_products() { load(code_products_kernel); }

}  // namespace edgead::cuda
