#include "nearest/nearest.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <vector>

#include "shared/threads.h"

namespace edgead {
namespace {

// Queries that one task keeps beside a panel of the bank: half of a small L2 cache.
constexpr std::size_t block_bytes = 256 * 1024;

// Whole panels of every level, of floats and of codes: 32, 16, 12 and 8 rows.
constexpr std::size_t panel_rows = 96;

void write_result(const Neighbour* best, int k, float* distance, std::int32_t* index) {
    for (int i = 0; i < k; ++i) {
        distance[i] = static_cast<float>(std::sqrt(best[i].squared));
        index[i] = best[i].row;
    }
}

}  // namespace

// One search: its queries in blocks, the bank in one or more ranges, one task for each pair.
struct NearestIndex::Search {
    const NearestIndex& index;
    Rows features;
    int k;
    std::size_t width, blocks, range;  // queries of a tile, blocks of tiles, rows of a range
    std::vector<Neighbour> best{};
    std::atomic<std::size_t> bad_row{features.count};
    PrescanGate gate{};

    std::size_t ranges() const { return (index.rows() + range - 1) / range; }
    std::size_t tiles() const { return (features.count + width - 1) / width; }
    std::size_t tasks() const { return blocks * ranges(); }
    std::size_t first_of(std::size_t block) const { return std::min(features.count, tiles() * block / blocks * width); }
    Neighbour* best_of(std::size_t query, std::size_t r) { return best.data() + (query * ranges() + r) * k; }

    void run(std::size_t task) {
        const std::size_t r = task % ranges(), block = task / ranges();
        const std::size_t first = first_of(block), count = first_of(block + 1) - first;
        const RowRange rows{r * range, std::min(index.rows(), (r + 1) * range)};
        const Rows queries{features[first], count, features.width};
        const NearestRows found{best_of(first, r), ranges() * k};
        const std::size_t bad =
            index.filter_ ? prescan(queries, rows, found) : index.gemm_.search(queries, k, rows, found);
        if (bad < count) report(first + bad);
    }

    // As GemmSearch::search, which gets what the pre-scan leaves.
    std::size_t prescan(const Rows& queries, RowRange rows, NearestRows found) {
        static thread_local std::vector<std::size_t> left;
        left.clear();
        QuantizedFilter::Scratch& scratch = QuantizedFilter::scratch();
        index.filter_->load(scratch, queries, gate);
        index.filter_->search(scratch, queries.count, k, rows, found, gate, left);
        return index.gemm_.search_some(queries, left, k, rows, found);
    }

    void report(std::size_t row) {
        std::size_t seen = bad_row.load();
        while (row < seen && !bad_row.compare_exchange_weak(seen, row)) {
        }
    }
};

NearestIndex::NearestIndex(const Rows& bank, const Kernels& kernels, const Rows* projection)
    : bank_(bank), kernels_(kernels), centring_(Centring::of(bank, "memory_bank")),
      gemm_(kernels.nearest, centring_, bank) {
    if (projection && kernels.scan && bank.width <= QuantizedFilter::max_dimension)
        filter_ = std::make_unique<QuantizedFilter>(kernels, centring_, bank, *projection);
}

std::size_t NearestIndex::search(const Rows& features, int k, float* distance, std::int32_t* index) const {
    const std::size_t n = features.count;
    if (n == 0) return 0;
    const std::size_t width = filter_ ? filter_->tile_queries() : kernels_.nearest.tile_queries;
    const std::size_t threads = thread_count();
    // Several blocks of whole tiles for each thread, all of about one size, so that a thread that is held up costs
    // little, and small enough for the cache. With too few tiles for the threads, the bank is divided as well.
    const std::size_t tiles = (n + width - 1) / width, for_cache = n * dimension() * sizeof(float) / block_bytes + 1;
    const std::size_t blocks = std::min(tiles, (for_cache + 4 * threads - 1) / (4 * threads) * (4 * threads));
    const std::size_t ranges = blocks >= threads ? 1 : (threads + blocks - 1) / blocks;
    const std::size_t range = ((rows() + ranges - 1) / ranges + panel_rows - 1) / panel_rows * panel_rows;

    Search search{*this, features, k, width, blocks, range};
    search.best.resize(n * search.ranges() * k);
    parallel_for(static_cast<std::int64_t>(search.tasks()), [&](std::int64_t task) { search.run(task); });
    for (std::size_t i = 0; i < n; ++i) {
        Neighbour* row = search.best_of(i, 0);
        if (search.ranges() > 1) std::partial_sort(row, row + k, row + search.ranges() * k);
        write_result(row, k, distance + i * k, index + i * k);
    }
    return search.bad_row.load();
}

}  // namespace edgead
