// Nearest patches of golden parts within a window around each patch's own place.
#pragma once

#include <cstddef>
#include <cstdint>

#include "isa/kernels.h"
#include "shared/rows.h"

namespace edgead {

class WindowSearch {
public:
    // `parts`: grids of height * width rows, one after the other, which are read by every search.
    WindowSearch(const Rows& parts, std::size_t height, std::size_t width, std::size_t reach, const Kernels& kernels)
        : parts_(parts), height_(height), width_(width), reach_(reach), kernels_(kernels) {}

    // places: row and column on the grid of every feature, inside of it.
    // there[i]: distance of feature i to the nearest row of any part in the window around its place.
    // back[i]: of any part's row at that place to the nearest feature that has it in its window.
    // Precision: float64 distances by differences, rounded to float32. Features must be finite.
    void search(const Rows& features, const std::int32_t* places, float* there, float* back) const;

    std::size_t dimension() const { return parts_.width; }
    std::size_t height() const { return height_; }
    std::size_t width() const { return width_; }

private:
    template <typename Body>
    void each_in_window(const std::int32_t* place, Body&& body) const;

    Rows parts_;
    std::size_t height_, width_, reach_;
    const Kernels& kernels_;
};

}  // namespace edgead
