// The greedy coreset's working state, and the step that brings rows up to date.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "coreset.h"
#include "isa.h"
#include "nearest_index.h"
#include "panels.h"

namespace edgead {

const CoresetKernels& coreset_kernels(Isa isa);

// What every part of the selection works on.
struct CoresetState {
    const float* rows;
    std::size_t n, d;
    const CoresetKernels& kernels;
    const NearestKernels& products;
    const Centring& centring;
    Panels centres;
    std::vector<std::int64_t> picks;
    std::vector<float> bound;         // squared distance to the nearest of the centres that the row has met
    std::vector<std::uint32_t> seen;  // how many centres, from the first on, it has met

    static constexpr float taken = -1;  // the bound of a row that is a centre

    CoresetState(const float* all, std::size_t n_, std::size_t d_, std::size_t count, Isa isa, const Centring& frame)
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
// threshold. One thread uses one Meeting, again and again.
class Meeting {
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
