#include "nearest/grouped.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <numeric>

#include "shared/threads.h"

namespace edgead {
// One search: blocks of queries, and spans of groups where there are too few queries for the threads; one task for
// each pair.
struct GroupedIndex::Search {
    const GroupedIndex& index;
    Rows features;
    float* distance;
    std::size_t width, blocks, spans;
    std::atomic<std::size_t> bad_row{features.count};
    PrescanGate gate{};

    std::size_t first_of(std::size_t block) const {
        const std::size_t tiles = (features.count + width - 1) / width;
        return std::min(features.count, tiles * block / blocks * width);
    }

    void run(std::size_t task) {
        static thread_local std::vector<Neighbour> best;
        const std::size_t block = task / spans, span = task % spans, groups = index.groups();
        const std::size_t first = first_of(block), count = first_of(block + 1) - first;
        const Rows queries{features[first], count, features.width};
        QuantizedFilter::Scratch& scratch = QuantizedFilter::scratch();
        if (index.filter_) index.filter_->load(scratch, queries, gate);
        for (std::size_t g = groups * span / spans; g < groups * (span + 1) / spans; ++g) {
            best.assign(count, Neighbour{});
            const std::size_t bad = search_group(scratch, queries, index.ranges_[g], {best.data(), 1});
            if (bad < count) return report(first + bad);
            for (std::size_t i = 0; i < count; ++i)
                distance[(first + i) * groups + g] = static_cast<float>(std::sqrt(best[i].squared));
        }
    }

    // Returns the number of queries, or the first one with NaN or Inf.
    std::size_t search_group(QuantizedFilter::Scratch& scratch, const Rows& queries, RowRange rows, NearestRows found) {
        if (!index.filter_) return index.gemm_.search(queries, 1, rows, found);
        static thread_local std::vector<std::size_t> left;
        left.clear();
        index.filter_->search(scratch, queries.count, 1, rows, found, gate, left);
        return index.gemm_.search_some(queries, left, 1, rows, found);
    }

    void report(std::size_t row) {
        std::size_t seen = bad_row.load();
        while (row < seen && !bad_row.compare_exchange_weak(seen, row)) {
        }
    }
};

std::size_t GroupedIndex::rows_of_panels(const Kernels& kernels) {
    const int columns = kernels.nearest.panel_rows;
    return static_cast<std::size_t>(kernels.scan ? std::lcm(columns, kernels.scan->panel_rows) : columns);
}

GroupedIndex::GroupedIndex(const Rows& bank, const std::vector<std::size_t>& sizes, const Kernels& kernels,
                           bool prescan)
    : bank_(bank), kernels_(kernels), centring_(Centring::of(bank, "memory_bank")),
      gemm_(kernels.nearest, centring_, bank) {
    std::size_t begin = 0;
    for (std::size_t size : sizes) {
        ranges_.push_back({begin, begin + size});
        begin += size;
    }
    if (prescan && kernels.scan && bank.width <= QuantizedFilter::max_dimension)
        filter_ = std::make_unique<QuantizedFilter>(kernels, centring_, bank, Rows{nullptr, 0, bank.width});
}

std::size_t GroupedIndex::search(const Rows& features, float* distance) const {
    const std::size_t n = features.count;
    if (n == 0) return 0;
    // Few blocks, so that the bank is read few times, but several for each thread, so that one held up costs little.
    const std::size_t width = filter_ ? filter_->tile_queries() : kernels_.nearest.tile_queries;
    const std::size_t threads = thread_count(), tiles = (n + width - 1) / width;
    const std::size_t blocks = std::min(tiles, 4 * threads);
    const std::size_t spans = std::min(groups(), blocks >= threads ? 1 : (threads + blocks - 1) / blocks);
    Search search{*this, features, distance, width, blocks, spans};
    parallel_for(static_cast<std::int64_t>(blocks * spans), [&](std::int64_t task) { search.run(task); });
    return search.bad_row.load();
}

}  // namespace edgead
