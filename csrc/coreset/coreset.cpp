#include "coreset/coreset.h"

#include <algorithm>
#include <chrono>

#include "coreset/bound_refresh.h"
#include "shared/threads.h"

namespace edgead {
namespace {

// The plain greedy updates every row after every pick. A row's distance to its nearest centre only falls, so a value
// that was not updated for a while is an upper bound, and a row is of no interest while its bound is below the
// distance of the next pick. So: choose a threshold just below the largest bound; bring the thousands of rows at or
// above it up to date; pick among them, updating only them, until the farthest is below the threshold; lower the
// threshold. Each row meets each centre about once at most, and most rows meet few.
class Greedy {
public:
    Greedy(CoresetState& state, const Progress& progress) : state_(state), progress_(progress) {}

    void run(std::size_t count, std::size_t first) {
        const std::size_t n = state_.rows.count;
        state_.add_centre(first);
        std::fill(state_.seen.begin(), state_.seen.end(), 1);
        each_row([&](std::size_t i) {
            if (i != first) state_.bound[i] = state_.distance(i, first);
        });
        pick(count, std::clamp<std::size_t>(n / 8, 64, 16384));
    }

    // The rows that were taken before are no centres: each row has met them all.
    void extend(std::size_t count, const std::int64_t* nearest) {
        each_row([&](std::size_t i) {
            const bool free = nearest[i] >= 0 && static_cast<std::size_t>(nearest[i]) != i;
            state_.bound[i] = free ? state_.distance(i, nearest[i]) : CoresetState::taken;
        });
        pick(count, 512);  // what is left is nearly as far everywhere: few rows leave with a pick
    }

private:
    static constexpr std::size_t rows_per_task = 4096;
    static constexpr std::size_t serial_floats = 1 << 18;  // a pass over fewer is not worth waking a thread

    template <class Function>
    void each_row(const Function& visit) {
        const std::size_t n = state_.rows.count;
        parallel_for((n + rows_per_task - 1) / rows_per_task, [&](std::int64_t c) {
            for (std::size_t i = c * rows_per_task; i < std::min(n, (c + 1) * rows_per_task); ++i) visit(i);
        });
    }

    void pick(std::size_t count, std::size_t rows_per_round) {
        while (state_.picks.size() < count) {
            const float threshold = next_threshold(rows_per_round);
            if (threshold == CoresetState::taken) return;
            refresh(threshold);
            pick_down_to(threshold, count);
        }
    }

    void tick() {
        const auto now = std::chrono::steady_clock::now();
        if (now - last_tick_ < std::chrono::milliseconds(200)) return;
        last_tick_ = now;
        progress_(static_cast<std::int64_t>(state_.picks.size()));
    }

    // A value with a fair number of bounds at or above it, at most the largest. Any value gives the same picks: too
    // few rows make rounds whose passes over all rows cost more than the picks, too many make picks dear.
    float next_threshold(std::size_t rows_per_round) const {
        constexpr int bins = 4096;
        const float largest = *std::max_element(state_.bound.begin(), state_.bound.end());
        if (!(largest > 0)) return largest;
        std::vector<std::size_t> histogram(bins + 1);
        const double to_bin = bins / static_cast<double>(largest);
        for (float value : state_.bound)
            if (value >= 0) ++histogram[std::min(bins, static_cast<int>(value * to_bin))];
        std::size_t rows = 0;
        int bin = bins;
        while (bin > 0 && rows + histogram[bin] < rows_per_round) rows += histogram[bin--];
        return std::min(largest, static_cast<float>(bin / to_bin));
    }

    // Brings every row whose bound reaches the threshold up to date, or below the threshold.
    void refresh(float threshold) {
        std::vector<std::size_t> stale;
        for (std::size_t i = 0; i < state_.rows.count; ++i)
            if (state_.bound[i] >= threshold && state_.seen[i] < state_.picks.size()) stale.push_back(i);
        // Rows of one task should have about the same centres to meet.
        std::stable_sort(stale.begin(), stale.end(), [&](auto a, auto b) { return state_.seen[a] < state_.seen[b]; });
        const std::size_t block = BoundRefresh::tiles_at_once * state_.nearest.tile_queries;
        const std::size_t blocks = (stale.size() + block - 1) / block;
        for (std::size_t group = 0; group < blocks; group += 64) {
            parallel_for(std::min<std::size_t>(64, blocks - group), [&](std::int64_t b) {
                static thread_local BoundRefresh block_refresh;
                const std::size_t begin = (group + b) * block;
                block_refresh.run(state_, stale.data() + begin, std::min(stale.size() - begin, block), threshold);
            });
            tick();
        }
    }

    void pick_down_to(float threshold, std::size_t count) {
        std::vector<float>& bound = state_.bound;
        std::vector<std::size_t> active;  // ascending, all up to date
        for (std::size_t i = 0; i < bound.size(); ++i)
            if (bound[i] >= threshold) active.push_back(i);
        while (!active.empty() && state_.picks.size() < count) {
            // The first of the largest: the lowest row wins a tie.
            const std::size_t centre =
                *std::max_element(active.begin(), active.end(), [&](auto a, auto b) { return bound[a] < bound[b]; });
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
        const std::size_t parts =
            std::clamp<std::size_t>(active.size() * state_.rows.width / serial_floats, 1, thread_count());
        const std::size_t part = (active.size() + parts - 1) / parts;
        parallel_for(parts, [&](std::int64_t c) {
            for (std::size_t j = c * part; j < std::min(active.size(), (c + 1) * part); ++j)
                state_.bound[active[j]] = std::min(state_.bound[active[j]], state_.distance(active[j], centre));
        });
    }

    CoresetState& state_;
    const Progress& progress_;
    std::chrono::steady_clock::time_point last_tick_ = std::chrono::steady_clock::now();
};

// Squares of differences neither overflow nor lose accuracy in float32 for rows of this magnitude.
bool in_range(const Centring& centring) { return centring.scale > 0x1p-60 && centring.scale < 0x1p30; }

template <class Choose>
std::vector<std::int64_t> choose_rows(Rows features, std::size_t count, const Kernels& kernels,
                                      const Progress& progress, const Choose& choose) {
    Centring centring = Centring::of(features, "features");
    std::vector<float> scaled;
    if (!in_range(centring)) {
        scaled.resize(features.count * features.width);
        for (std::size_t i = 0; i < scaled.size(); ++i)
            scaled[i] = static_cast<float>(features.data[i] * centring.scale);
        features.data = scaled.data();
        centring = Centring::of(features, "features");
    }
    CoresetState state(features, count, kernels, centring);
    Greedy greedy(state, progress);
    choose(greedy);
    return state.picks;
}

}  // namespace

std::vector<std::int64_t> greedy_coreset(Rows features, std::size_t count, std::size_t first, const Kernels& kernels,
                                         const Progress& progress) {
    return choose_rows(features, count, kernels, progress, [&](Greedy& greedy) { greedy.run(count, first); });
}

std::vector<std::int64_t> extend_coreset(Rows features, const std::int64_t* nearest, std::size_t count,
                                         const Kernels& kernels, const Progress& progress) {
    return choose_rows(features, count, kernels, progress, [&](Greedy& greedy) { greedy.extend(count, nearest); });
}

void coreset_distances(const Rows& features, std::size_t row, const Kernels& kernels, float* squared) {
    for (std::size_t i = 0; i < features.count; ++i)
        squared[i] = kernels.coreset.squared_distance(features[i], features[row], features.width);
}

}  // namespace edgead
