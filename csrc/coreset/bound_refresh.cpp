#include "coreset/bound_refresh.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace edgead {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr std::size_t panels_between_looks = 4;  // after which the rows that stay move together

}  // namespace

void BoundRefresh::run(CoresetState& state, const std::size_t* block, std::size_t size, float threshold) {
    rows_.assign(block, block + size);
    std::size_t p = state.seen[rows_.front()] / state.nearest.panel_rows;
    load(state, threshold);
    while (p < state.centres.panels() && !rows_.empty()) {
        const std::size_t last = std::min(state.centres.panels(), p + panels_between_looks);
        for (; p < last; ++p)
            for (std::size_t t = 0; t < tiles_.size(); ++t) meet_panel(state, t, p, threshold);
        close_up(state, threshold);
    }
    for (std::size_t i : rows_)
        if (state.bound[i] >= threshold) state.seen[i] = static_cast<std::uint32_t>(state.picks.size());
}

void BoundRefresh::load(const CoresetState& state, float threshold) {
    const std::size_t width = state.nearest.tile_queries, floats = tiles_at_once * width * state.rows.width;
    if (size_ < floats) {
        memory_ = allocate_floats(floats);
        size_ = floats;
    }
    std::fill_n(memory_.get(), floats, 0.0f);
    squared_norms_.resize(rows_.size());
    for (std::size_t i = 0; i < rows_.size(); ++i)
        squared_norms_[i] = state.centring.apply(state.rows[rows_[i]], column(state, i), width);
    bind_tiles(state, threshold);
}

float* BoundRefresh::column(const CoresetState& state, std::size_t at) {
    const std::size_t width = state.nearest.tile_queries;
    return memory_.get() + at / width * width * state.rows.width + at % width;
}

void BoundRefresh::bind_tiles(const CoresetState& state, float threshold) {
    const std::size_t width = state.nearest.tile_queries;
    const ScoreError error(state.rows.width);
    tiles_.clear();
    for (std::size_t i = 0; i < (rows_.size() + width - 1) / width * width; ++i) {
        const int r = static_cast<int>(i % width);
        if (r == 0) tiles_.emplace_back(column(state, i), static_cast<int>(width), state.rows.width);
        if (i >= rows_.size()) {
            tiles_.back().set_interest(r, -infinity);
            continue;
        }
        tiles_.back().set(r, std::sqrt(squared_norms_[i]), error);
        set_interest(state, i, threshold);
    }
}

// The largest exact score at which a centre may be nearer than the bound. The distance that decides is at least
// (1 - g) of the exact one, g = (d + 4) 2^-24 (coreset_kernels.h), less d underflows; the norm is off by three roundings.
void BoundRefresh::set_interest(const CoresetState& state, std::size_t at, float threshold) {
    const float bound = state.bound[rows_[at]];
    const double terms = static_cast<double>(state.rows.width), scale = state.centring.scale;
    const double reach = (bound + terms * 0x1p-149) / (1 - 1.01 * (terms + 4) * 0x1p-24);
    const double score = (reach * scale * scale - squared_norms_[at] * (1 - 4 * 0x1p-24)) / 2;
    const std::size_t width = state.nearest.tile_queries;
    tiles_[at / width].set_interest(static_cast<int>(at % width), bound < threshold ? -infinity : score);
}

void BoundRefresh::meet_panel(CoresetState& state, std::size_t t, std::size_t p, float threshold) {
    tiles_[t].scan(state.nearest, state.centres, p, [&](int r, std::size_t centre, float) {
        const std::size_t at = t * state.nearest.tile_queries + r, i = rows_[at];
        const float found = state.distance(i, static_cast<std::size_t>(state.picks[centre]));
        if (found >= state.bound[i]) return;
        state.bound[i] = found;
        // The rest of this panel goes unseen once the row has left.
        if (found < threshold) state.seen[i] = static_cast<std::uint32_t>(p * state.nearest.panel_rows);
        set_interest(state, at, threshold);
    });
}

// Moves what is left together when that saves a tile.
void BoundRefresh::close_up(const CoresetState& state, float threshold) {
    const auto stays = [&](std::size_t i) { return state.bound[i] >= threshold; };
    const std::size_t width = state.nearest.tile_queries;
    const std::size_t left = std::count_if(rows_.begin(), rows_.end(), stays);
    if (left + width > tiles_.size() * width) return;
    std::size_t to = 0;
    for (std::size_t from = 0; from < rows_.size(); ++from) {
        if (!stays(rows_[from])) continue;
        if (to != from) {
            const float* source = column(state, from);
            float* target = column(state, to);
            for (std::size_t j = 0; j < state.rows.width * width; j += width) target[j] = source[j];
            rows_[to] = rows_[from];
            squared_norms_[to] = squared_norms_[from];
        }
        ++to;
    }
    rows_.resize(to);
    squared_norms_.resize(to);
    bind_tiles(state, threshold);
}

}  // namespace edgead
