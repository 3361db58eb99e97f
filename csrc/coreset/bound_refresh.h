// Working state of the greedy coreset selection, and the step that refreshes the bounds of rows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "isa/kernels.h"
#include "nearest/packed_rows.h"

namespace edgead {

// State shared by all parts of the selection.
struct CoresetState {
    Rows rows;
    const CoresetKernels& coreset;
    const NearestKernels& nearest;
    const Centring& centring;
    PackedRows centres;
    std::vector<std::int64_t> picks;
    std::vector<float> bound;         // squared distance to the nearest of the centres that the row has met
    std::vector<std::uint32_t> seen;  // how many centres, from the first on, it has met

    static constexpr float taken = -1;  // the bound of a row that is a centre

    CoresetState(const Rows& all, std::size_t count, const Kernels& kernels, const Centring& frame)
        : rows(all), coreset(kernels.coreset), nearest(kernels.nearest), centring(frame),
          centres(nearest, frame, all.width, count), bound(all.count), seen(all.count) {
        picks.reserve(count);
    }

    float distance(std::size_t a, std::size_t b) const {
        return coreset.squared_distance(rows[a], rows[b], rows.width);
    }

    void add_centre(std::size_t i) {
        picks.push_back(static_cast<std::int64_t>(i));
        centres.append(rows[i]);
        bound[i] = taken;
    }
};

// Brings the bounds of one block of rows up to date with the centres that they have not met, by products with the error
// bound of packed_rows.h: a distance is computed only where it may be smaller than the row's bound. A row leaves when
// its bound falls below the threshold. One thread uses one BoundRefresh, again and again.
class BoundRefresh {
public:
    static constexpr std::size_t tiles_at_once = 8;

    void run(CoresetState& state, const std::size_t* block, std::size_t size, float threshold);

private:
    void load(const CoresetState& state, float threshold);
    float* column(const CoresetState& state, std::size_t at);
    void bind_tiles(const CoresetState& state, float threshold);
    void set_interest(const CoresetState& state, std::size_t at, float threshold);
    void meet_panel(CoresetState& state, std::size_t t, std::size_t p, float threshold);
    void close_up(const CoresetState& state, float threshold);

    AlignedFloats memory_;
    std::size_t size_ = 0;
    std::vector<std::size_t> rows_;
    std::vector<double> squared_norms_;
    std::vector<Tile> tiles_;
};

}  // namespace edgead
