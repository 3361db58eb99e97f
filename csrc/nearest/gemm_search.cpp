#include "nearest/gemm_search.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace edgead {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

}  // namespace

// What one query still has to measure. A row stays a candidate while its score less the error is not above the k-th
// smallest of all scores plus error: k rows are certainly no farther than that, so no row above it is among the
// k nearest.
class GemmSearch::Candidates {
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
    float upper_[max_neighbours];
    float lower_[capacity];
    std::int32_t rows_[capacity];
};

// Memory of one thread, kept between searches so that a frame allocates nothing.
struct GemmSearch::Scratch {
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

GemmSearch::GemmSearch(const NearestKernels& kernels, const Centring& centring, const Rows& bank)
    : kernels_(kernels), centring_(centring), bank_(bank), packed_(kernels, centring, bank.width, bank.count) {
    packed_.fill(bank);
}

std::size_t GemmSearch::search(const Rows& queries, int k, RowRange range, NearestRows found) const {
    static thread_local Scratch scratch;
    const std::size_t n = queries.count, width = kernels_.tile_queries, columns = kernels_.panel_rows;
    scratch.prepare((n + width - 1) / width, kernels_.tile_queries, bank_.width);
    const std::size_t bad = load(scratch, queries, k);
    if (bad < n) return bad;
    for (std::size_t p = range.begin / columns; p < (range.end + columns - 1) / columns; ++p)
        for (std::size_t t = 0; t < scratch.tiles.size(); ++t) {
            Tile& tile = scratch.tiles[t];
            tile.scan(kernels_, packed_, p, [&](int r, std::size_t row, float score) {
                const float off = tile.error(r, packed_.largest_norm(p));
                tile.set_interest(r, scratch.candidates[t * width + r].add(static_cast<std::int32_t>(row), score, off));
            });
        }
    for (std::size_t i = 0; i < n; ++i) measure(queries[i], scratch.candidates[i], k, range, found.of(i));
    return n;
}

std::size_t GemmSearch::search_some(const Rows& queries, const std::vector<std::size_t>& some, int k, RowRange range,
                                    NearestRows found) const {
    if (some.empty()) return queries.count;
    static thread_local std::vector<float> copy;
    static thread_local std::vector<Neighbour> rows;
    const std::size_t d = queries.width;
    copy.resize(some.size() * d);
    rows.resize(some.size() * k);
    for (std::size_t i = 0; i < some.size(); ++i) std::copy_n(queries[some[i]], d, copy.data() + i * d);
    const NearestRows target{rows.data(), static_cast<std::size_t>(k)};
    const std::size_t bad = search({copy.data(), some.size(), d}, k, range, target);
    if (bad < some.size()) return some[bad];
    for (std::size_t i = 0; i < some.size(); ++i) std::copy_n(target.of(i), k, found.of(some[i]));
    return queries.count;
}

std::size_t GemmSearch::load(Scratch& scratch, const Rows& queries, int k) const {
    const ScoreError error(bank_.width);
    const std::size_t n = queries.count, width = kernels_.tile_queries;
    for (std::size_t i = 0; i < scratch.tiles.size() * width; ++i) {
        Tile& tile = scratch.tiles[i / width];
        const int r = static_cast<int>(i % width);
        tile.set_interest(r, -infinity);
        if (i >= n) continue;
        const double norm = std::sqrt(centring_.apply(queries[i], tile.column(r), width));
        if (!std::isfinite(norm)) return i;
        scratch.candidates[i].reset(k);
        if (norm <= largest_query_norm) {
            tile.set(r, norm, error);
            tile.set_interest(r, infinity);
        } else {
            for (std::size_t j = 0; j < bank_.width; ++j) tile.column(r)[j * width] = 0;
            scratch.candidates[i].overflow = true;
        }
    }
    return n;
}

void GemmSearch::measure(const float* query, Candidates& candidates, int k, RowRange range, Neighbour* best) const {
    std::fill_n(best, k, Neighbour{});
    const auto take = [&](std::int32_t row) {
        insert_sorted(best, k, Neighbour{kernels_.squared_distance(query, bank_[row], bank_.width), row});
    };
    if (candidates.overflow)
        for (std::size_t row = range.begin; row < range.end; ++row) take(static_cast<std::int32_t>(row));
    else
        candidates.visit(take);
}

}  // namespace edgead
