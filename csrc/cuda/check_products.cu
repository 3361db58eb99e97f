// Whether the scores of one variant of the products agree with those of plain ones, each within its own bounds.
#include "grid_order.cuh"
#include "launch.cuh"
#include "layout.cuh"
#include "nearest_kernels.h"

namespace edgead::cuda {
namespace {

constexpr int check_threads = 256;

// What nearest_kernels.h says of an entry, as far as plain products know: they say of a row that its score is within
// their bounds, or that it is not the smallest of its group. Of groups of padding they know nothing.
__device__ bool agrees(const GroupScores& scores, const GroupScores& plain, std::int64_t rows, std::int64_t query,
                       int group) {
    const float2 entry = scores.minima[query * scores.count + group];
    const float off = scores.error.bound(scores.queries[query], scores.groups[group]);
    const int slot = static_cast<int>(bits_of(entry.x) & ((1u << slot_digits(scores.tiles)) - 1));
    bool good = true;
    int tile = 0;
    for (; tile < scores.tiles; ++tile) {
        const int plain_group = (group / tile_groups * scores.tiles + tile) * tile_groups + group % tile_groups;
        if (group_row(plain_group, 0) >= rows) break;
        const float2 known = plain.minima[query * plain.count + plain_group];
        const float both = off + plain.error.bound(plain.queries[query], plain.groups[plain_group]);
        const bool same = slot == tile * group_rows + static_cast<int>(bits_of(known.x) & (group_rows - 1));
        good = good && entry.x - both <= known.x && entry.y - both <= (same ? known.y : known.x);
        if (slot / group_rows == tile) good = good && entry.x + both >= (same ? known.x : known.y);
    }
    return good && (tile == 0 || slot / group_rows < tile);
}

__global__ void __launch_bounds__(check_threads)
    check_kernel(GroupScores scores, GroupScores plain, std::int64_t rows, std::int64_t queries, unsigned* differing) {
    wait_for_kernel_ahead();
    const std::int64_t number = static_cast<std::int64_t>(blockIdx.x) * check_threads + threadIdx.x;
    const std::int64_t query = number / scores.count;
    if (query >= queries) return;
    const float norm = scores.queries[query].norm, plain_norm = plain.queries[query].norm;
    // A query that is not finite is so for both; of one that is too far away, scores say nothing.
    const bool known = is_finite(norm) && is_finite(plain_norm);
    const bool good = known ? agrees(scores, plain, rows, query, static_cast<int>(number % scores.count))
                            : (norm != norm) == (plain_norm != plain_norm);
    if (!good) atomicAdd(differing, 1u);
}

}  // namespace

void count_differing(const GroupScores& scores, const GroupScores& plain, std::int64_t rows, std::int64_t queries,
                     unsigned* differing, cudaStream_t stream) {
    // Early where what reads the minima in a search begins early: that is tried, too.
    const std::int64_t blocks = (queries * scores.count + check_threads - 1) / check_threads;
    launch(check_kernel, {blocks, check_threads, stream, 0, scores.early}, scores, plain, rows, queries, differing);
}

}  // namespace edgead::cuda
