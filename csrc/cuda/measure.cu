// The exact part of a search: one warp per query bounds the k-th smallest score, and measures in float64 every row that
// the bound leaves. There is no list that could overflow: a row is measured as soon as it is found.
//
// float64 is slow on the GPUs of the edge (1/32 to 1/64 of float32), which is why it touches only these rows: for a
// network's features about 1.05 per query at k = 1, and 11 at k = 9. A query that is too far away for products, or rows
// that products cannot tell apart, cost a pass over the bank: slow, and right.
#include "launch.cuh"
#include "layout.cuh"
#include "nearest_kernels.h"
#include "warp.cuh"

namespace edgead::cuda {
namespace {

constexpr int measure_threads = 128, queries_per_block = measure_threads / warp_lanes;

// The k-th smallest of the 64 numbers of a warp, for k up to 32; infinity stands for none.
__device__ float kth_smallest(float2 mine, int k) {
    int below_first = 0, below_second = 0;
    for (int lane = 0; lane < warp_lanes; ++lane) {
        const float first = __shfl_sync(all_lanes, mine.x, lane), second = __shfl_sync(all_lanes, mine.y, lane);
        below_first += (first <= mine.x) + (second <= mine.x);
        below_second += (first <= mine.y) + (second <= mine.y);
    }
    const float infinity = float_of(0x7f800000u);
    return warp_min(fminf(below_first >= k ? mine.x : infinity, below_second >= k ? mine.y : infinity));
}

// Of k different rows, no score is above the returned number: each group has a row whose score is at most its smallest
// one plus the error, and lanes have different groups. Two numbers of each lane lose little against all of them.
__device__ float reach(const float2* minima, const Extent* groups, int group_count, Extent query, ScoreError error,
                       int k) {
    float2 least{float_of(0x7f800000u), float_of(0x7f800000u)};
#pragma unroll 4
    for (int group = threadIdx.x % warp_lanes; group < group_count; group += warp_lanes) {
        const float upper = minima[group].x + error.bound(query, groups[group]);
        least.y = fminf(least.y, fmaxf(least.x, upper));
        least.x = fminf(least.x, upper);
    }
    return kth_smallest(least, k);
}

// The nearest rows so far: lane i has the i-th, so that k up to 32 is possible.
struct Best {
    double squared;
    int row;

    __device__ void insert(double new_squared, int new_row) {
        const int lane = threadIdx.x % warp_lanes;
        const bool before = squared < new_squared || (squared == new_squared && row < new_row);
        const int place = __popc(__ballot_sync(all_lanes, before));  // sorted: the first lanes are before
        const double squared_above = __shfl_up_sync(all_lanes, squared, 1);
        const int row_above = __shfl_up_sync(all_lanes, row, 1);
        if (lane > place) squared = squared_above, row = row_above;
        if (lane == place) squared = new_squared, row = new_row;
    }
};

// Relative error at most (d / 32 + 8) 2^-53, as every term is positive.
__device__ double squared_distance(const float* query, const float* row, int d) {
    double sum = 0;
#pragma unroll 4
    for (int i = threadIdx.x % warp_lanes; i < d; i += warp_lanes) {
        const double difference = static_cast<double>(query[i]) - static_cast<double>(row[i]);
        sum = fma(difference, difference, sum);
    }
    return warp_sum(sum);
}

__global__ void __launch_bounds__(measure_threads, 8)
    measure_kernel(Rows queries, const Extent* query_extents, Rows bank, const Extent* groups, int group_count,
                   const float2* minima, ScoreError error, Neighbours result) {
    const int lane = threadIdx.x % warp_lanes;
    const std::int64_t number = static_cast<std::int64_t>(blockIdx.x) * queries_per_block + threadIdx.x / warp_lanes;
    if (number >= queries.count) return;
    const float* query = queries.data + number * queries.d;
    const Extent extent = query_extents[number];
    const bool usable = extent.norm == extent.norm, all = !is_finite(extent.norm);
    minima += number * group_count;
    Best best{static_cast<double>(float_of(0x7f800000u)), 0x7fffffff};
    const float bound = all ? float_of(0x7f800000u) : reach(minima, groups, group_count, extent, error, result.k);
    for (int first = 0; usable && first < group_count; first += warp_lanes) {
        const int mine = first + lane;
        bool some = false, several = false;
        int slot = 0;
        if (mine < group_count) {
            const float2 least = minima[mine];
            const float off = error.bound(extent, groups[mine]);
            some = all || least.x - off <= bound;
            several = all || least.y - off <= bound;
            slot = static_cast<int>(bits_of(least.x) & 15u);
        }
        const unsigned found = __ballot_sync(all_lanes, some), whole = __ballot_sync(all_lanes, several);
        for (unsigned left = found; left != 0; left &= left - 1) {
            const int owner = __ffs(static_cast<int>(left)) - 1;
            const bool every = (whole >> owner & 1u) != 0;
            const int only = __shfl_sync(all_lanes, slot, owner);
            for (int s = every ? 0 : only; s <= (every ? group_rows - 1 : only); ++s) {
                const int row = group_row(first + owner, s);
                const float* source = bank.data + static_cast<std::int64_t>(row) * bank.d;
                if (row < bank.count) best.insert(squared_distance(query, source, bank.d), row);
            }
        }
    }
    if (lane >= result.k) return;
    const std::int64_t place = number * result.k + lane;
    result.distance[place] = usable ? static_cast<float>(sqrt(best.squared)) : float_of(0x7fc00000u);
    result.index[place] = usable ? best.row : -1;
}

}  // namespace

void measure_candidates(const Rows& queries, const Extent* query_extents, const Rows& bank, const Extent* groups,
                        int group_count, const float2* minima, const Neighbours& result, cudaStream_t stream) {
    launch(measure_kernel, (queries.count + queries_per_block - 1) / queries_per_block, measure_threads, stream,
           queries, query_extents, bank, groups, group_count, minima, ScoreError(bank.d), result);
}

void load_measure_kernel() { load(measure_kernel); }

}  // namespace edgead::cuda
