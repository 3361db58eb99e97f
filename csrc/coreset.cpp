#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <utility>

#include "coreset.h"
#include "greedy.h"
#include "nearest_index.h"
#include "panels.h"
#include "threads.h"

namespace edgead {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr float taken = -1;  // the bound of a row that is a centre

const CoresetKernels& coreset_kernels(Isa isa) {
    switch (isa) {
#if defined(__x86_64__)
        case Isa::avx512: return coreset_avx512;
        case Isa::avx2: return coreset_avx2;
#elif defined(__aarch64__)
        case Isa::neon: return coreset_neon;
#endif
        default: return coreset_baseline;
    }
}

// What every part of the selection works on.
struct State {
    const float* rows;
    std::size_t n, d;
    const CoresetKernels& kernels;
    const NearestKernels& products;
    const Centring& centring;
    Panels centres;
    std::vector<std::int64_t> picks;
    std::vector<float> bound;         // squared distance to the nearest of the centres that the row has met
    std::vector<std::uint32_t> seen;  // how many centres, from the first on, it has met

    State(const float* all, std::size_t n_, std::size_t d_, std::size_t count, Isa isa, const Centring& frame)
        : rows(all), n(n_), d(d_), kernels(coreset_kernels(isa)), products(nearest_kernels(isa)), centring(frame),
          centres(products, frame, d_, count), bound(n_), seen(n_, 1) {
        picks.reserve(count);
    }

    const float* row(std::size_t i) const { return rows + i * d; }
    float distance(std::size_t a, std::size_t b) const { return kernels.squared_distance(row(a), row(b), d); }

    void add_centre(std::size_t i) {
        picks.push_back(static_cast<std::int64_t>(i));
        centres.append(row(i));
        bound[i] = taken;
    }
};

// Lets one block of rows meet the centres that they have not met, by products with the error bound of panels.h: a
// distance is computed only where it may be smaller than the row's bound. A row leaves when its bound falls below the
// threshold.
class Meeting {
public:
    static constexpr std::size_t tiles_at_once = 8;

    void run(State& state, const std::size_t* block, std::size_t size, float threshold) {
        rows_.assign(block, block + size);
        std::size_t p = state.seen[rows_.front()] / state.products.panel_rows;
        load(state, threshold);
        while (p < state.centres.count() && !rows_.empty()) {
            const std::size_t last = std::min(state.centres.count(), p + panels_between_looks);
            for (; p < last; ++p)
                for (std::size_t t = 0; t < tiles_.size(); ++t) meet_panel(state, t, p, threshold);
            close_up(state, threshold);
        }
        for (std::size_t i : rows_)
            if (state.bound[i] >= threshold) state.seen[i] = static_cast<std::uint32_t>(state.picks.size());
    }

private:
    static constexpr std::size_t panels_between_looks = 4;

    void load(const State& state, float threshold) {
        const std::size_t width = state.products.tile_queries, floats = tiles_at_once * width * state.d;
        if (size_ < floats) {
            memory_ = allocate_floats(floats);
            size_ = floats;
        }
        std::fill_n(memory_.get(), floats, 0.0f);
        squared_norms_.resize(rows_.size());
        for (std::size_t i = 0; i < rows_.size(); ++i)
            squared_norms_[i] = state.centring.apply(state.row(rows_[i]), column(state, i), width);
        bind_tiles(state, threshold);
    }

    float* column(const State& state, std::size_t at) {
        const std::size_t width = state.products.tile_queries;
        return memory_.get() + at / width * width * state.d + at % width;
    }

    void bind_tiles(const State& state, float threshold) {
        const std::size_t width = state.products.tile_queries;
        const ScoreError error(state.d);
        tiles_.clear();
        for (std::size_t i = 0; i < (rows_.size() + width - 1) / width * width; ++i) {
            const int r = static_cast<int>(i % width);
            if (r == 0) tiles_.emplace_back(column(state, i), static_cast<int>(width), state.d);
            if (i >= rows_.size()) {
                tiles_.back().set_interest(r, -infinity);
                continue;
            }
            tiles_.back().set(r, std::sqrt(squared_norms_[i]), error);
            set_interest(state, i, threshold);
        }
    }

    // The largest exact score at which a centre may be nearer than the bound. The distance that decides is at least
    // (1 - g) of the exact one, g = (d + 4) 2^-24 (coreset.h), less d underflows; the norm is off by three roundings.
    void set_interest(const State& state, std::size_t at, float threshold) {
        const float bound = state.bound[rows_[at]];
        const double terms = static_cast<double>(state.d), scale = state.centring.scale;
        const double reach = (bound + terms * 0x1p-149) / (1 - 1.01 * (terms + 4) * 0x1p-24);
        const double score = (reach * scale * scale - squared_norms_[at] * (1 - 4 * 0x1p-24)) / 2;
        const std::size_t width = state.products.tile_queries;
        tiles_[at / width].set_interest(static_cast<int>(at % width), bound < threshold ? -infinity : score);
    }

    void meet_panel(State& state, std::size_t t, std::size_t p, float threshold) {
        tiles_[t].scan(state.products, state.centres, p, [&](int r, std::size_t centre, float) {
            const std::size_t at = t * state.products.tile_queries + r, i = rows_[at];
            const float found = state.distance(i, static_cast<std::size_t>(state.picks[centre]));
            if (found >= state.bound[i]) return;
            state.bound[i] = found;
            // The rest of this panel goes unseen once the row has left.
            if (found < threshold) state.seen[i] = static_cast<std::uint32_t>(p * state.products.panel_rows);
            set_interest(state, at, threshold);
        });
    }

    // Moves what is left together when that saves a tile.
    void close_up(const State& state, float threshold) {
        const auto stays = [&](std::size_t i) { return state.bound[i] >= threshold; };
        const std::size_t width = state.products.tile_queries;
        const std::size_t left = std::count_if(rows_.begin(), rows_.end(), stays);
        if (left + width > tiles_.size() * width) return;
        std::size_t to = 0;
        for (std::size_t from = 0; from < rows_.size(); ++from) {
            if (!stays(rows_[from])) continue;
            if (to != from) {
                const float* source = column(state, from);
                float* target = column(state, to);
                for (std::size_t j = 0; j < state.d * width; j += width) target[j] = source[j];
                rows_[to] = rows_[from];
                squared_norms_[to] = squared_norms_[from];
            }
            ++to;
        }
        rows_.resize(to);
        squared_norms_.resize(to);
        bind_tiles(state, threshold);
    }

    AlignedFloats memory_;
    std::size_t size_ = 0;
    std::vector<std::size_t> rows_;
    std::vector<double> squared_norms_;
    std::vector<Tile> tiles_;
};

// The plain greedy updates every row after every pick. A row's distance to its nearest centre only falls, so a value
// that was not updated for a while is an upper bound, and a row is of no interest while its bound is below the
// distance of the next pick. So: choose a threshold just below the largest bound; bring the thousands of rows at or
// above it up to date; pick among them, updating only them, until the farthest is below the threshold; lower the
// threshold. Each row meets each centre about once at most, and most rows meet few.
class Greedy {
public:
    Greedy(State& state, const Progress& progress) : state_(state), progress_(progress) {}

    void run(std::size_t count, std::size_t first) {
        const std::size_t n = state_.n;
        state_.add_centre(first);
        parallel_for((n + rows_per_task - 1) / rows_per_task, [&](std::int64_t c) {
            for (std::size_t i = c * rows_per_task; i < std::min(n, (c + 1) * rows_per_task); ++i)
                if (i != first) state_.bound[i] = state_.distance(i, first);
        });
        while (state_.picks.size() < count) {
            const float threshold = next_threshold();
            refresh(threshold);
            pick_down_to(threshold, count);
        }
    }

private:
    static constexpr std::size_t rows_per_task = 4096;
    static constexpr std::size_t rows_per_round = 16384;  // that a round aims to have at or above its threshold
    static constexpr std::size_t serial_floats = 1 << 18;  // a pass over fewer is not worth waking a thread

    void tick() {
        const auto now = std::chrono::steady_clock::now();
        if (now - last_tick_ < std::chrono::milliseconds(200)) return;
        last_tick_ = now;
        progress_(static_cast<std::int64_t>(state_.picks.size()));
    }

    float next_threshold() const {
        constexpr int bins = 4096;
        const float largest = *std::max_element(state_.bound.begin(), state_.bound.end());
        if (!(largest > 0)) return largest;
        std::vector<std::size_t> histogram(bins + 1);
        const float to_bin = bins / largest;
        for (float value : state_.bound)
            if (value >= 0) ++histogram[std::min(bins, static_cast<int>(value * to_bin))];
        std::size_t rows = 0;
        int bin = bins;
        while (bin > 0 && rows + histogram[bin] < rows_per_round) rows += histogram[bin--];
        return std::min(largest, static_cast<float>(bin) / to_bin);
    }

    // Brings every row whose bound reaches the threshold up to date, or below the threshold.
    void refresh(float threshold) {
        std::vector<std::size_t> stale;
        for (std::size_t i = 0; i < state_.n; ++i)
            if (state_.bound[i] >= threshold && state_.seen[i] < state_.picks.size()) stale.push_back(i);
        // Rows of one task should have about the same centres to meet.
        std::stable_sort(stale.begin(), stale.end(), [&](auto a, auto b) { return state_.seen[a] < state_.seen[b]; });
        const std::size_t block = Meeting::tiles_at_once * state_.products.tile_queries;
        const std::size_t blocks = (stale.size() + block - 1) / block;
        for (std::size_t group = 0; group < blocks; group += 64) {
            parallel_for(std::min<std::size_t>(64, blocks - group), [&](std::int64_t b) {
                static thread_local Meeting meeting;
                const std::size_t begin = (group + b) * block;
                meeting.run(state_, stale.data() + begin, std::min(stale.size() - begin, block), threshold);
            });
            tick();
        }
    }

    void pick_down_to(float threshold, std::size_t count) {
        std::vector<float>& bound = state_.bound;
        std::vector<std::size_t> active;  // ascending, all up to date
        for (std::size_t i = 0; i < state_.n; ++i)
            if (bound[i] >= threshold) active.push_back(i);
        while (!active.empty() && state_.picks.size() < count) {
            // The first of the largest: the lowest row wins a tie.
            const std::size_t centre = *std::max_element(active.begin(), active.end(),
                                                         [&](auto a, auto b) { return bound[a] < bound[b]; });
            state_.add_centre(centre);
            update(active, centre);
            const auto seen = static_cast<std::uint32_t>(state_.picks.size());
            for (std::size_t i : active) state_.seen[i] = seen;
            active.erase(std::remove_if(active.begin(), active.end(), [&](auto i) { return bound[i] < threshold; }),
                         active.end());
            tick();
        }
    }

    void update(const std::vector<std::size_t>& active, std::size_t centre) {
        const std::size_t parts = std::clamp<std::size_t>(active.size() * state_.d / serial_floats, 1, thread_count());
        const std::size_t part = (active.size() + parts - 1) / parts;
        parallel_for(parts, [&](std::int64_t c) {
            for (std::size_t j = c * part; j < std::min(active.size(), (c + 1) * part); ++j)
                state_.bound[active[j]] = std::min(state_.bound[active[j]], state_.distance(active[j], centre));
        });
    }

    State& state_;
    const Progress& progress_;
    std::chrono::steady_clock::time_point last_tick_ = std::chrono::steady_clock::now();
};

// Squares of differences neither overflow nor lose accuracy in float32 for rows of this magnitude.
bool in_range(const Centring& centring) { return centring.scale > 0x1p-60 && centring.scale < 0x1p30; }

}  // namespace

std::vector<std::int64_t> greedy_coreset(const float* features, std::size_t n, std::size_t d, std::size_t count,
                                         std::size_t first, Isa isa, const Progress& progress) {
    Centring centring = Centring::of(features, n, d, "features");
    std::vector<float> scaled;
    if (!in_range(centring)) {
        scaled.resize(n * d);
        for (std::size_t i = 0; i < n * d; ++i) scaled[i] = static_cast<float>(features[i] * centring.scale);
        features = scaled.data();
        centring = Centring::of(features, n, d, "features");
    }
    State state(features, n, d, count, isa, centring);
    Greedy(state, progress).run(count, first);
    return state.picks;
}

void coreset_distances(const float* features, std::size_t n, std::size_t d, std::size_t row, Isa isa, float* squared) {
    const CoresetKernels& kernels = coreset_kernels(isa);
    for (std::size_t i = 0; i < n; ++i)
        squared[i] = kernels.squared_distance(features + i * d, features + row * d, d);
}

}  // namespace edgead
