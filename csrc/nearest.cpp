#include "nearest_index.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <vector>

#include "threads.h"

namespace edgead {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

// Queries that one task keeps beside a panel of the bank: half of a small L2 cache.
constexpr std::size_t block_bytes = 256 * 1024;

// Products stay finite and accurate up to this norm (the bank's rows are at most 1); a query farther out than that is
// measured against every row instead.
constexpr double largest_query_norm = 0x1p40;

struct Neighbour {
    double squared = infinity;
    std::int32_t row = std::numeric_limits<std::int32_t>::max();
    bool operator<(const Neighbour& other) const {
        return squared < other.squared || (squared == other.squared && row < other.row);
    }
};

// Keeps `best` (k of them) sorted.
template <typename T>
void insert_sorted(T* best, int k, T value) {
    if (!(value < best[k - 1])) return;
    int place = k - 1;
    for (; place > 0 && value < best[place - 1]; --place) best[place] = best[place - 1];
    best[place] = value;
}

// What one query still has to measure. A row stays a candidate while its score less the error is not above the k-th
// smallest of all scores plus error: k rows are certainly no farther than that, so no row above it is among the
// k nearest.
class Candidates {
public:
    void reset(int k) {
        k_ = k;
        std::fill_n(upper_, k, std::numeric_limits<float>::infinity());
        count_ = 0;
        overflow = false;
    }

    // Returns the new bound of interest: -infinity once the rows that may win are too many to list.
    double add(std::int32_t row, float score, float error) {
        const auto room = static_cast<float>(rounding_room);
        const float slack = (std::fabs(score) + error) * room;
        insert_sorted(upper_, k_, score + error + slack);
        if (count_ == capacity) prune();
        if (count_ == capacity) overflow = true;
        if (overflow) return -infinity;
        rows_[count_] = row;
        lower_[count_++] = score - error - slack;
        return upper_[k_ - 1];
    }

    template <typename Visit>
    void visit(Visit&& measure) {
        prune();
        for (int i = 0; i < count_; ++i) measure(rows_[i]);
    }

    bool overflow = false;

private:
    static constexpr int capacity = 128;

    void prune() {
        int kept = 0;
        for (int i = 0; i < count_; ++i)
            if (lower_[i] <= upper_[k_ - 1]) {
                rows_[kept] = rows_[i];
                lower_[kept++] = lower_[i];
            }
        count_ = kept;
    }

    int k_ = 0, count_ = 0;
    float upper_[NearestIndex::max_k];
    float lower_[capacity];
    std::int32_t rows_[capacity];
};

// Memory of one thread, kept between searches so that a frame allocates nothing.
struct Scratch {
    AlignedFloats data;
    std::size_t data_size = 0;
    std::vector<Tile> tiles;
    std::vector<Candidates> candidates;

    void prepare(std::size_t tiles_needed, int width, std::size_t d) {
        const std::size_t stride = (width * d + 15) / 16 * 16;
        if (data_size < tiles_needed * stride) {
            data = allocate_floats(tiles_needed * stride);
            data_size = tiles_needed * stride;
        }
        std::fill_n(data.get(), tiles_needed * stride, 0.0f);
        tiles.clear();
        for (std::size_t t = 0; t < tiles_needed; ++t) tiles.emplace_back(data.get() + t * stride, width, d);
        if (candidates.size() < tiles_needed * width) candidates.resize(tiles_needed * width);
    }
};

// One task: some queries against some panels. Results go to best[query * stride + 0..k).
struct Search {
    const NearestKernels& kernels;
    const Centring& centring;
    const Panels& panels;
    const float* bank;
    std::size_t d;
    int k;

    // Returns n, or the first query with NaN or Inf.
    std::size_t operator()(const float* queries, std::size_t n, std::size_t first_panel, std::size_t last_panel,
                           Neighbour* best, std::size_t stride) const {
        static thread_local Scratch scratch;
        const int width = kernels.tile_queries;
        scratch.prepare((n + width - 1) / width, width, d);
        const ScoreError error(d);
        const std::size_t bad = load_queries(scratch, queries, n, error);
        if (bad < n) return bad;
        for (std::size_t p = first_panel; p < last_panel; ++p)
            for (std::size_t t = 0; t < scratch.tiles.size(); ++t) {
                Tile& tile = scratch.tiles[t];
                tile.scan(kernels, panels, p, [&](int r, std::size_t row, float score) {
                    const float off = tile.error(r, panels.largest_norm(p));
                    tile.set_interest(r, scratch.candidates[t * width + r].add(static_cast<std::int32_t>(row), score, off));
                });
            }
        const std::size_t begin = first_panel * kernels.panel_rows;
        const std::size_t end = std::min(last_panel * kernels.panel_rows, panels.size());
        for (std::size_t i = 0; i < n; ++i)
            measure(queries + i * d, scratch.candidates[i], begin, end, best + i * stride);
        return n;
    }

    std::size_t load_queries(Scratch& scratch, const float* queries, std::size_t n, const ScoreError& error) const {
        const std::size_t width = kernels.tile_queries;
        for (std::size_t i = 0; i < scratch.tiles.size() * width; ++i) {
            Tile& tile = scratch.tiles[i / width];
            const int r = static_cast<int>(i % width);
            tile.set_interest(r, -infinity);
            if (i >= n) continue;
            const double norm = std::sqrt(centring.apply(queries + i * d, tile.column(r), width));
            if (!std::isfinite(norm)) return i;
            scratch.candidates[i].reset(k);
            if (norm <= largest_query_norm) {
                tile.set(r, norm, error);
                tile.set_interest(r, infinity);
            } else {
                for (std::size_t j = 0; j < d; ++j) tile.column(r)[j * width] = 0;
                scratch.candidates[i].overflow = true;
            }
        }
        return n;
    }

    void measure(const float* query, Candidates& candidates, std::size_t begin, std::size_t end, Neighbour* best) const {
        std::fill_n(best, k, Neighbour{});
        const auto take = [&](std::int32_t row) {
            insert_sorted(best, k, Neighbour{kernels.squared_distance(query, bank + row * d, d), row});
        };
        if (candidates.overflow)
            for (std::size_t row = begin; row < end; ++row) take(static_cast<std::int32_t>(row));
        else
            candidates.visit(take);
    }
};

void write_result(const Neighbour* best, int k, float* distance, std::int32_t* index) {
    for (int i = 0; i < k; ++i) {
        distance[i] = static_cast<float>(std::sqrt(best[i].squared));
        index[i] = best[i].row;
    }
}

}  // namespace

const NearestKernels& nearest_kernels(Isa isa) {
    switch (isa) {
#if defined(__x86_64__)
        case Isa::avx512: return nearest_avx512;
        case Isa::avx2: return nearest_avx2;
#elif defined(__aarch64__)
        case Isa::neon: return nearest_neon;
#endif
        default: return nearest_baseline;
    }
}

NearestIndex::NearestIndex(const float* bank, std::size_t m, std::size_t d, Isa isa)
    : bank_(bank), m_(m), d_(d), isa_(isa), kernels_(nearest_kernels(isa)),
      centring_(Centring::of(bank, m, d, "memory_bank")), panels_(kernels_, centring_, d, m) {
    panels_.fill(bank, m);
}

std::size_t NearestIndex::search(const float* features, std::size_t n, int k, float* distance,
                                 std::int32_t* index) const {
    if (n == 0) return 0;
    const std::size_t width = kernels_.tile_queries, tiles = (n + width - 1) / width;
    const std::size_t threads = thread_count();
    // Blocks of whole tiles: several per thread, so that a thread that is held up costs little, and small enough for
    // the cache. With too few tiles for the threads, the bank is divided as well.
    std::size_t block = std::max<std::size_t>(1, block_bytes / (width * d_ * sizeof(float)));
    block = std::min(block, (tiles + 4 * threads - 1) / (4 * threads));
    const std::size_t blocks = (tiles + block - 1) / block;
    const std::size_t segments = blocks >= threads ? 1 : std::min(panels_.count(), (threads + blocks - 1) / blocks);
    const std::size_t segment = (panels_.count() + segments - 1) / segments;

    std::vector<Neighbour> best(n * segments * k);
    std::atomic<std::size_t> bad_row{n};
    const Search task{kernels_, centring_, panels_, bank_, d_, k};
    parallel_for(static_cast<std::int64_t>(blocks * segments), [&](std::int64_t unit) {
        const std::size_t s = unit % segments, first = unit / segments * block * width;
        const std::size_t count = std::min(n - first, block * width);
        const std::size_t bad = task(features + first * d_, count, s * segment,
                                     std::min((s + 1) * segment, panels_.count()),
                                     best.data() + (first * segments + s) * k, segments * k);
        if (bad == count) return;
        std::size_t seen = bad_row.load();
        while (first + bad < seen && !bad_row.compare_exchange_weak(seen, first + bad)) {}
    });
    for (std::size_t i = 0; i < n; ++i) {
        Neighbour* row = best.data() + i * segments * k;
        if (segments > 1) std::partial_sort(row, row + k, row + segments * k);
        write_result(row, k, distance + i * k, index + i * k);
    }
    return bad_row.load();
}

}  // namespace edgead
