// Exact step of a search: one block per query bounds the k-th smallest score, and its warps measure each row that the
// bound does not exclude. No list can overflow, as a row is measured as soon as it is found.
//
// That is about 1.05 rows per query at k = 1 for a network's features, and 11 at k = 9; most time goes into reading the
// groups' scores, which four warps share and read once. A query too far away for products, or rows that products cannot
// distinguish, cost a pass over the bank, which is slow but correct. Distances equal those of float64, mostly computed
// without it (double_single.cuh).
#include "double_single.cuh"
#include "launch.cuh"
#include "layout.cuh"
#include "nearest_kernels.h"
#include "warp.cuh"

namespace edgead::cuda {
namespace {

constexpr int measure_warps = 4, measure_threads = measure_warps * warp_lanes;
constexpr int few_kept = 3, most_kept = 5;  // groups of a thread, in registers
static_assert(most_kept * slot_digits <= 32, "slots of a thread's groups are kept in one number");
constexpr int no_row = 0x7fffffff;

// What the warps of a block tell each other about the bound.
struct Bounds {
    float2 least[measure_warps][warp_lanes];
    float reach;
};

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

// The scores of one query by groups of rows, of which a thread has every `measure_threads`-th, a chunk at a time.
template <int kept>
struct Scores {
    static constexpr int chunk = kept * measure_threads;  // of the block
    const float2* minima;
    const Extent* extents;
    int count;
    Extent query;
    ScoreError error;
    // Of the chunk that was read last.
    float2 least[kept] = {};
    float widest = 0;  // the largest error of a group

    // `upper` gathers the two smallest scores of a thread, each with its error.
    __device__ void read(int from, float2& upper) {
        const int begin = from + static_cast<int>(threadIdx.x);
        const float2* scores = minima + begin;
        const Extent* rows = extents + begin;
        widest = 0;
#pragma unroll
        for (int i = 0; i < kept; ++i) {
            least[i] = {float_of(0x7f800000u), float_of(0x7f800000u)};
            if (begin + i * measure_threads >= count) continue;
            least[i] = scores[i * measure_threads];
            const float off = error.bound(query, rows[i * measure_threads]);
            widest = fmaxf(widest, off);
            upper.y = fminf(upper.y, fmaxf(upper.x, least[i].x + off));
            upper.x = fminf(upper.x, least[i].x + off);
        }
    }

    // Of k different rows, no score is above the returned number: each group has a row whose score is at most its
    // smallest one plus the error, and threads have different groups. Two numbers of each lane lose little against all
    // of them. Backwards, so that the first chunk is there for `search`.
    __device__ float reach(int k, Bounds& bounds) {
        const int lane = threadIdx.x % warp_lanes, warp = threadIdx.x / warp_lanes;
        float2 two{float_of(0x7f800000u), float_of(0x7f800000u)};
        int from = (count - 1) / chunk * chunk;
        do {
            read(from, two);
            from -= chunk;
        } while (from >= 0);
        if (k == 1) two.x = warp_min(two.x);
        if (k > 1 || lane == 0) bounds.least[warp][lane] = two;
        __syncthreads();
        if (k == 1) {
            for (int other = 0; other < measure_warps; ++other) two.x = fminf(two.x, bounds.least[other][0].x);
            return two.x;
        }
        if (warp == 0) {
            for (int other = 1; other < measure_warps; ++other) {
                const float2 its = bounds.least[other][lane];
                two.y = fminf(fminf(two.y, its.y), fmaxf(two.x, its.x));
                two.x = fminf(two.x, its.x);
            }
            two.x = kth_smallest(two, k);
            if (lane == 0) bounds.reach = two.x;
        }
        __syncthreads();
        return bounds.reach;
    }
};

__device__ bool before(double a, double b) { return a < b; }
__device__ bool before(DoubleSingle a, DoubleSingle b) {
    return a.high < b.high || (a.high == b.high && a.low < b.low);
}

__device__ double shuffle_up(double value) { return __shfl_up_sync(all_lanes, value, 1); }
__device__ DoubleSingle shuffle_up(DoubleSingle value) {
    return {__shfl_up_sync(all_lanes, value.high, 1), __shfl_up_sync(all_lanes, value.low, 1)};
}

__device__ bool unclear(double, double, DoubleSingleError) { return false; }
__device__ bool unclear(DoubleSingle added, DoubleSingle other, DoubleSingleError error) {
    return !error.holds(added) || error.may_tie(other, added);
}

// Relative error at most (d / 32 + 8) 2^-53, as every term is positive.
__device__ void measure(const float* query, const float* row, int d, double& squared) {
    double sum = 0;
#pragma unroll 4
    for (int i = threadIdx.x % warp_lanes; i < d; i += warp_lanes) {
        const double difference = static_cast<double>(query[i]) - static_cast<double>(row[i]);
        sum = fma(difference, difference, sum);
    }
    squared = warp_sum(sum);
}

__device__ void measure(const float* query, const float* row, int d, DoubleSingle& squared) {
    DoubleSingle sum{0, 0};
#pragma unroll 4
    for (int i = threadIdx.x % warp_lanes; i < d; i += warp_lanes) sum.add_square(query[i], row[i]);
    for (int step = warp_lanes / 2; step > 0; step /= 2)
        sum.add({__shfl_xor_sync(all_lanes, sum.high, step), __shfl_xor_sync(all_lanes, sum.low, step)});
    squared = sum.normalised();
}

// What the warps of a block have found.
template <typename Number>
struct Lists {
    Number squared[measure_warps][most_neighbours];
    int row[measure_warps][most_neighbours];
};

// The nearest rows so far: lane i has the i-th.
template <typename Number>
struct Best {
    int k;
    DoubleSingleError error;
    Number squared{float_of(0x7f800000u)};
    int row = no_row;
    bool unsure = false;  // whether float64 may find others; of any lane

    // A row that falls off the list is known to be farther than the k on it, and so than all that come before these.
    __device__ void insert(Number new_squared, int new_row) {
        const int lane = threadIdx.x % warp_lanes;
        unsure = unsure || (lane < k && unclear(new_squared, squared, error));
        const bool stays = before(squared, new_squared) || (!before(new_squared, squared) && row < new_row);
        const int place = __popc(__ballot_sync(all_lanes, stays));  // sorted: the first lanes stay
        const Number squared_above = shuffle_up(squared);
        const int row_above = __shfl_up_sync(all_lanes, row, 1);
        if (lane > place) squared = squared_above, row = row_above;
        if (lane == place) squared = new_squared, row = new_row;
    }

    // Brings the lists of all warps together in warp 0.
    __device__ void merge(Lists<Number>& lists) {
        const int lane = threadIdx.x % warp_lanes, warp = threadIdx.x / warp_lanes;
        if (lane < k) lists.squared[warp][lane] = squared, lists.row[warp][lane] = row;
        __syncthreads();
        if (warp != 0) return;
#pragma unroll 1
        for (int other = 1; other < measure_warps; ++other)
            for (int i = 0; i < k && lists.row[other][i] != no_row; ++i)
                insert(lists.squared[other][i], lists.row[other][i]);
    }
};

// Measures what can be among the nearest; the outcome is that of warp 0. The first chunk of scores has been read.
template <int kept, typename Number>
__device__ void search(Scores<kept>& scores, float reach, const float* query, const Rows& bank, Best<Number>& best,
                       Lists<Number>& lists) {
    const int lane = threadIdx.x % warp_lanes;
    for (int from = 0; from < scores.count;) {
        // What is not there is beyond the largest float.
        const float bound = fminf(reach + scores.widest, 0x1.fffffep127f);
        unsigned some = 0, several = 0, slots = 0;  // by group
#pragma unroll
        for (int i = 0; i < kept; ++i) {
            some |= static_cast<unsigned>(scores.least[i].x <= bound) << i;
            several |= static_cast<unsigned>(scores.least[i].y <= bound) << i;
            slots |= (bits_of(scores.least[i].x) & (group_rows - 1)) << slot_digits * i;
        }
        for (unsigned left = __ballot_sync(all_lanes, some != 0); left != 0; left &= left - 1) {
            const int owner = __ffs(static_cast<int>(left)) - 1;
            const unsigned whole = __shfl_sync(all_lanes, several, owner), only = __shfl_sync(all_lanes, slots, owner);
            for (unsigned found = __shfl_sync(all_lanes, some, owner); found != 0; found &= found - 1) {
                const int i = __ffs(static_cast<int>(found)) - 1;
                const int group = from + i * measure_threads + static_cast<int>(threadIdx.x) - lane + owner;
                const bool every = (whole >> i & 1u) != 0;
                const int slot = static_cast<int>(only >> slot_digits * i & (group_rows - 1));
                for (int s = every ? 0 : slot; s <= (every ? group_rows - 1 : slot); ++s) {
                    const int row = group_row(group, s);
                    if (row >= bank.count) continue;
                    Number squared;
                    measure(query, bank.data + static_cast<std::int64_t>(row) * bank.d, bank.d, squared);
                    best.insert(squared, row);
                }
            }
        }
        from += scores.chunk;
        float2 unused{0, 0};
        if (from < scores.count) scores.read(from, unused);
    }
    best.merge(lists);
}

template <int kept>
__global__ void __launch_bounds__(measure_threads, 7)
    measure_kernel(Rows queries, Rows bank, GroupScores of_groups, DoubleSingleError error, Neighbours result) {
    __shared__ Bounds bounds;
    __shared__ Lists<DoubleSingle> lists;
    __shared__ Lists<double> exact_lists;
    const std::int64_t number = blockIdx.x, place = number * result.k + threadIdx.x;
    const bool mine = static_cast<int>(threadIdx.x) < result.k;
    const Extent extent = of_groups.queries[number];
    if (extent.norm != extent.norm) {
        if (mine) result.distance[place] = float_of(0x7fc00000u), result.index[place] = -1;
        return;
    }
    const float* query = queries.data + number * queries.d;
    Scores<kept> scores{of_groups.minima + number * of_groups.count, of_groups.groups, of_groups.count, extent,
                        of_groups.error};
    float reach = scores.reach(result.k, bounds);
    if (!is_finite(extent.norm)) reach = 0x1.fffffep127f;  // no score says anything
    Best<DoubleSingle> best{result.k, error};
    search(scores, reach, query, bank, best, lists);
    float distance = 0;
    if (mine && !best.unsure) distance = error.root(best.squared, best.unsure);
    int row = best.row;
    if (__syncthreads_or(best.unsure)) {
        float2 unused{0, 0};
        scores.read(0, unused);
        Best<double> exact{result.k, error};
        search(scores, reach, query, bank, exact, exact_lists);
        distance = static_cast<float>(sqrt(exact.squared));
        row = exact.row;
    }
    if (mine) result.distance[place] = distance, result.index[place] = row;
}

}  // namespace

void measure_candidates(const Rows& queries, const Rows& bank, const GroupScores& scores, const Neighbours& result,
                        cudaStream_t stream) {
    const auto kernel =
        scores.count <= few_kept * measure_threads ? measure_kernel<few_kept> : measure_kernel<most_kept>;
    launch(kernel, {queries.count, measure_threads, stream}, queries, bank, scores, DoubleSingleError(bank.d), result);
}

void load_measure_kernel() {
    load(measure_kernel<few_kept>);
    load(measure_kernel<most_kept>);
}

}  // namespace edgead::cuda
