#include "nearest_index.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <vector>

#include "threads.h"

namespace edgead {
namespace {

// Queries that one task keeps beside a panel of the bank: half of a small L2 cache.
constexpr std::size_t block_bytes = 256 * 1024;

// Whole panels of every level, exhaustive and coded: 32, 16, 12 and 8 rows.
constexpr std::size_t panel_rows = 96;

void write_result(const Neighbour* best, int k, float* distance, std::int32_t* index) {
    for (int i = 0; i < k; ++i) {
        distance[i] = static_cast<float>(std::sqrt(best[i].squared));
        index[i] = best[i].row;
    }
}

}  // namespace

const NearestKernels& nearest_kernels(Isa isa) {
    switch (float_level(isa)) {
#if defined(__x86_64__)
        case Isa::avx512: return nearest_avx512;
        case Isa::avx2: return nearest_avx2;
#elif defined(__aarch64__)
        case Isa::neon: return nearest_neon;
#endif
        default: return nearest_baseline;
    }
}

const ScanKernels* scan_kernels(Isa isa) {
    switch (isa) {
#if defined(__x86_64__)
#if defined(EDGEAD_AMX)
        case Isa::amx: return &scan_amx;
#endif
        case Isa::avx512vnni: return &scan_avx512vnni;
        case Isa::avx512: return &scan_avx512;
        case Isa::avxvnni: return &scan_avxvnni;
        case Isa::avx2: return &scan_avx2;
#elif defined(__aarch64__)
        case Isa::neondot: return &scan_neondot;
        case Isa::neon: return &scan_neon;
#endif
        default: return nullptr;
    }
}

// One search: its queries in blocks, the bank in one or more ranges, one task for each pair.
struct NearestIndex::Search {
    const NearestIndex& index;
    const float* features;
    std::size_t n;
    int k;
    std::size_t width, blocks, range;  // queries of a tile, blocks of tiles, rows of a range
    std::vector<Neighbour> best{};
    std::atomic<std::size_t> bad_row{n};
    Luck luck{};

    std::size_t ranges() const { return (index.m_ + range - 1) / range; }
    std::size_t tiles() const { return (n + width - 1) / width; }
    std::size_t tasks() const { return blocks * ranges(); }
    std::size_t first_of(std::size_t block) const { return std::min(n, tiles() * block / blocks * width); }
    Neighbour* best_of(std::size_t query, std::size_t r) { return best.data() + (query * ranges() + r) * k; }

    void run(std::size_t task) {
        const std::size_t r = task % ranges(), block = task / ranges();
        const std::size_t first = first_of(block), last = first_of(block + 1);
        const RowRange rows{r * range, std::min(index.m_, (r + 1) * range)};
        if (!index.prescan_) {
            const std::size_t bad = index.exhaustive_.search(features + first * index.d_, last - first, k, rows,
                                                             best_of(first, r), ranges() * k);
            if (bad < last - first) report(first + bad);
            return;
        }
        static thread_local std::vector<std::size_t> left;
        left.clear();
        index.prescan_->search(features + first * index.d_, last - first, k, rows, luck, best_of(first, r),
                               ranges() * k, left);
        measure_all(left, first, r, rows);
    }

    // Queries that need not be side by side are copied together.
    void measure_all(const std::vector<std::size_t>& queries, std::size_t first, std::size_t r, RowRange rows) {
        if (queries.empty()) return;
        static thread_local std::vector<float> copy;
        static thread_local std::vector<Neighbour> found;
        copy.resize(queries.size() * index.d_);
        found.resize(queries.size() * k);
        for (std::size_t i = 0; i < queries.size(); ++i)
            std::copy_n(features + (first + queries[i]) * index.d_, index.d_, copy.data() + i * index.d_);
        const std::size_t bad = index.exhaustive_.search(copy.data(), queries.size(), k, rows, found.data(), k);
        if (bad < queries.size()) return report(first + queries[bad]);
        for (std::size_t i = 0; i < queries.size(); ++i)
            std::copy_n(found.data() + i * k, k, best_of(first + queries[i], r));
    }

    void report(std::size_t row) {
        std::size_t seen = bad_row.load();
        while (row < seen && !bad_row.compare_exchange_weak(seen, row)) {}
    }
};

NearestIndex::NearestIndex(const float* bank, std::size_t m, std::size_t d, Isa isa, const PrescanPlan* plan)
    : m_(m), d_(d), isa_(isa), kernels_(nearest_kernels(isa)), centring_(Centring::of(bank, m, d, "memory_bank")),
      exhaustive_(kernels_, centring_, bank, m, d) {
    const ScanKernels* scan = scan_kernels(isa);
    if (!plan || !scan || d > Prescan::max_dimension) return;
    prescan_ = std::make_unique<Prescan>(*scan, kernels_, centring_, bank, m, d, plan->projection, plan->rows);
}

std::size_t NearestIndex::search(const float* features, std::size_t n, int k, float* distance,
                                 std::int32_t* index) const {
    if (n == 0) return 0;
    const std::size_t width = prescan_ ? prescan_->tile_queries() : kernels_.tile_queries, threads = thread_count();
    // Several blocks of whole tiles for each thread, all of about one size, so that a thread that is held up costs
    // little, and small enough for the cache. With too few tiles for the threads, the bank is divided as well.
    const std::size_t tiles = (n + width - 1) / width, for_cache = n * d_ * sizeof(float) / block_bytes + 1;
    const std::size_t blocks = std::min(tiles, (for_cache + 4 * threads - 1) / (4 * threads) * (4 * threads));
    const std::size_t ranges = blocks >= threads ? 1 : (threads + blocks - 1) / blocks;
    const std::size_t range = ((m_ + ranges - 1) / ranges + panel_rows - 1) / panel_rows * panel_rows;

    Search search{*this, features, n, k, width, blocks, range};
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
